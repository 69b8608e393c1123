"""Self-attention for feature maps: section 2.2 of the article, nothing else.

A convolution sees a small window.  Attention lets every position of a feature map look at every other one in a single
step, so that a hind leg can know where the head is:

    1. three 1x1 convolutions turn the map x into queries, keys and values,
    2. query . key, through a softmax over the keys, says how much each position looks at each other,
    3. that N x N map mixes the values,
    4. gamma, learned and 0 at the start, adds the mixture to x.

There are N = height * width positions.  After Zhang et al. 2019 (arXiv:1805.08318), who mix narrower values and widen
them by a fourth convolution; the article has these three.
"""

import torch
from torch import nn
from torch.nn import functional as F

MAP_ENTRIES = 2**22  # of attention maps made at a time: larger ones leave a CPU's cache


def attention_map(query, key):
    """How much each position looks at each other: (B, N, d) and (B, N, d) -> (B, N, N), each row >= 0 with sum 1.

    Unlike a transformer's, the scores are not divided by sqrt(d): the article and the original SAGAN don't.
    """
    return torch.softmax(query @ key.transpose(1, 2), dim=-1)  # (B, N, N): each row sums to 1


def attend(query, key, value):
    """Mix the values (B, N, C) by the attention map of queries and keys (B, N, d) -> (B, N, C)."""
    return attention_map(query, key) @ value  # (B, N, C): what each position gets to see


def attend_fast(query, key, value):
    """`attend` up to rounding: on CUDA by torch's kernel, which keeps no map, on a CPU a few pictures at a time.

    That kernel has no second derivative: train.r1_penalty asks for the formula.  On mps it was wrong up to torch 2.11.
    """
    if query.device.type != "cuda":
        count = max(1, MAP_ENTRIES // query.shape[1] ** 2) if query.device.type == "cpu" else len(query)  # pictures
        parts = zip(query.split(count), key.split(count), value.split(count), strict=True)
        return torch.cat([attend(*part) for part in parts])
    query, key, value = (x[:, None] for x in (query, key, value))  # it wants heads: one
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0]


class SelfAttention(nn.Module):
    """x + gamma * attention(x) over the positions of a feature map; starts as the identity.

    x: (B, C, H, W), any float dtype -> the same shape.  The convolutions have no bias, as in SAGAN's formulas.
    """

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.key = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query = positions(self.query(x))  # (B, N, C/8)
        key = positions(self.key(x))  # (B, N, C/8)
        value = positions(self.value(x))  # (B, N, C)
        mixed = attend_fast(query, key, value)  # (B, N, C)
        return x + self.gamma * mixed.transpose(1, 2).reshape(x.shape)

    @torch.no_grad()
    def map_of(self, x):
        """The map itself, for pictures: x (B, C, H, W) -> (B, N, N), row i says where position i looks."""
        return attention_map(positions(self.query(x)), positions(self.key(x)))


def positions(x):
    """(B, C, H, W) -> (B, N, C): one row a position, N = H * W, row by row from the top left."""
    return x.flatten(2).transpose(1, 2)
