"""Self-attention for feature maps: section 2.2 of the article, nothing else.

A convolution sees a small window.  Attention lets every position of a feature map look at every other one in a single
step, so that a hind leg can know where the head is:

    1. three 1x1 convolutions turn the map x into queries, keys and values,
    2. query . key, through a softmax over the keys, says how much a position looks at every position,
    3. that N x N map mixes the values,
    4. the mixture, times gamma, is added to x.  gamma is learned and starts at 0, so that the network first learns
       without attention, and then how much of it to use.

There are N = height * width positions.  The softmax, and queries and keys with an eighth of the channels, are those
of Zhang et al. 2019 (arXiv:1805.08318).  Theirs also narrows the values and widens the mixture again; ours doesn't.
"""

import torch
from torch import nn
from torch.nn import functional as F


def attention_map(query, key):
    """How much each position looks at every one: (B, N, d) and (B, N, d) -> (B, N, N), each row >= 0 with sum 1.

    Unlike a transformer's, the scores are not divided by sqrt(d), because the article and the original SAGAN don't.
    """
    return torch.softmax(query @ key.transpose(1, 2), dim=-1)  # (B, N, N): each row sums to 1


def attend(query, key, value):
    """Mix the values (B, N, C) by the attention map of queries and keys (B, N, d) -> (B, N, C)."""
    return attention_map(query, key) @ value  # (B, N, C): what each position gets to see


class SelfAttention(nn.Module):
    """x + gamma * attention(x) over the positions of a feature map; starts as the identity, because gamma is 0.

    x: (B, C, H, W), any float dtype -> the same shape; with `return_map` also the map (B, N, N), whose row i says
    where position i looks.  The convolutions have no bias, as in SAGAN's formulas.
    """

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.key = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x, return_map=False):
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, N, C/8): a row for each position, from the top left
        key = self.key(x).flatten(2).transpose(1, 2)  # (B, N, C/8)
        value = self.value(x).flatten(2).transpose(1, 2)  # (B, N, C)
        mixed = attend_fast(query, key, value)  # (B, N, C): what attend gives, but faster
        y = x + self.gamma * mixed.transpose(1, 2).reshape(x.shape)
        return (y, attention_map(query, key)) if return_map else y


MAX_MAP_ENTRIES = 2**22  # numbers of the attention maps made at a time on a CPU, because more would leave its cache
# On newer GPUs torch tries cuDNN's kernel first.  That may refuse queries of 8 numbers beside values of 64.
torch.backends.cuda.enable_cudnn_sdp(False)
# R1 in train.py differentiates twice, which only torch's MATH backend can.  In bfloat16 it takes half of the memory.
torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def attend_fast(query, key, value):
    """The same as `attend` up to rounding, but faster.

    On CUDA torch's kernel never stores the N x N map, if x is channels-last and d a multiple of 8 (of 4 in float32).
    Elsewhere it is the formula, on a CPU for a few pictures at a time.  On mps torch's kernel was wrong before 2.12.
    """
    if query.device.type == "cuda":
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))  # torch's kernel wants heads: it is one here
        return F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
    chunk = max(1, MAX_MAP_ENTRIES // query.shape[1] ** 2) if query.device.type == "cpu" else len(query)
    parts = zip(query.split(chunk), key.split(chunk), value.split(chunk), strict=True)
    return torch.cat([attend(*part) for part in parts])
