"""Self-attention for feature maps: section 2.2 of the article, nothing else.

A convolution sees a small window.  Attention lets every position of a feature map look at every
other one in a single step, so that a hind leg can know where the head is:

    1. three 1x1 convolutions turn the map x into queries, keys and values,
    2. query . key, through a softmax over the keys, says how much each position looks at each other,
    3. that N x N map mixes the values,
    4. gamma, learned and 0 at the start, adds the mixture to x.

There are N = height * width positions.  `attention_by_hand` is the formula; `attend` computes the same
numbers faster; `SelfAttention` is the layer.  After Zhang et al. 2019, arXiv:1805.08318, who mix narrower values and
widen them by a fourth convolution; the article has these three.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def attention_map(query, key):
    """Who looks where: (B, N, d) queries and (B, M, d) keys -> (B, N, M), each row >= 0 with sum 1."""
    return torch.softmax(query @ key.transpose(1, 2), dim=-1)


def attention_by_hand(query, key, value):
    """Mix values (B, M, C) by the attention map of (B, N, d) queries and (B, M, d) keys -> (B, N, C).

    Unlike a transformer's, the scores are not divided by sqrt(d): the article and the original SAGAN don't.
    Autograd keeps the whole map for the backward pass: at 32x32 that is a million numbers an image.
    """
    return attention_map(query, key) @ value


class BlockAttention(torch.autograd.Function):
    """`attention_by_hand` without ever holding the map: the idea of FlashAttention (Dao et al. 2022).

    Moving a big map through memory costs more than computing it.  So it's made block by block, each small
    enough for the processor's cache, used at once and dropped; the backward pass makes every block again.
    A block is some rows of the map of some images.  Rows, because the softmax needs a whole row and
    no more, so each block is final.
    """

    BLOCK = 2**20  # numbers in a block, roughly: 2 MB in bfloat16, 4 MB in float32
    ROWS = 256  # rows of one map in a block, at the most

    @staticmethod
    def blocks(query, key):
        rows = min(query.shape[1], BlockAttention.ROWS)
        images = max(2, BlockAttention.BLOCK // (rows * key.shape[1]))
        for image in range(0, query.shape[0], images):
            for row in range(0, query.shape[1], rows):
                yield slice(image, image + images), slice(row, row + rows)

    @staticmethod
    def forward(ctx, query, key, value):
        output = value.new_empty(*query.shape[:2], value.shape[2])  # (B, N, C)
        for b, r in BlockAttention.blocks(query, key):
            output[b, r] = attention_map(query[b, r], key[b]) @ value[b]
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        """With P = softmax(S), S = Q K', O = P V and the gradient dO of O:

            dV = P' dO,   dP = dO V',   dS = P * (dP - sum_j P dP),   dQ = dS K,   dK = dS' Q

        and sum_j P_ij dP_ij = sum_c dO_ic O_ic, which needs no map at all.
        """
        query, key, value, output = ctx.saved_tensors
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        row_sum = (grad * output).sum(dim=2, keepdim=True)  # (B, N, 1)
        for b, r in BlockAttention.blocks(query, key):
            p = attention_map(query[b, r], key[b])  # (b, r, M)
            d_value[b] += p.transpose(1, 2) @ grad[b, r]
            d_scores = (grad[b, r] @ value[b].transpose(1, 2)).sub_(row_sum[b, r]).mul_(p)
            d_query[b, r] = d_scores @ key[b]
            d_key[b] += d_scores.transpose(1, 2) @ query[b, r]
        return d_query, d_key, d_value


def attend(query, key, value):
    """The numbers of `attention_by_hand` (with d <= C) without the whole map in memory; same arguments."""
    if not query.is_cuda:  # torch's kernel for CPUs is slower in bfloat16, about as fast in float32: make bench
        return BlockAttention.apply(query, key, value)
    # Torch's for CUDA wants one width for all three (zeros don't change q . k) and heads: one.
    widen = (0, value.shape[2] - query.shape[2])
    query, key, value = (x[:, None] for x in (F.pad(query, widen), F.pad(key, widen), value))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0]


class SelfAttention(nn.Module):
    """x + gamma * attention(x) over the positions of a feature map; starts as the identity.

    x: (B, C, H, W), any float dtype -> the same shape.  `pool` lets positions look only at 2x2 maxima of keys
    and values, as the original SAGAN code does: a quarter of the work, and maps of N x N/4.
    The convolutions have no bias.  On the keys it would do nothing: it adds the same to a whole row before softmax.
    """

    def __init__(self, channels, pool=False):
        super().__init__()
        narrow = max(1, channels // 8)
        self.query = spectral_norm(nn.Conv2d(channels, narrow, 1, bias=False))
        self.key = spectral_norm(nn.Conv2d(channels, narrow, 1, bias=False))
        self.value = spectral_norm(nn.Conv2d(channels, channels, 1, bias=False))
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query = positions(self.query(x))  # (B, N, C/8)
        key = positions(self.pool(self.key(x)))  # (B, M, C/8), M = N or N/4
        value = positions(self.pool(self.value(x)))  # (B, M, C)
        mixed = attend(query, key, value)  # (B, N, C)
        return x + self.gamma * mixed.transpose(1, 2).reshape(x.shape)

    @torch.no_grad()
    def map_of(self, x):
        """The map itself, for pictures: x (B, C, H, W) -> (B, N, M), row i says where position i looks."""
        return attention_map(positions(self.query(x)), positions(self.pool(self.key(x))))


def positions(x):
    """(B, C, H, W) -> (B, N, C): one row a position, N = H * W, row by row from the top left."""
    return x.flatten(2).transpose(1, 2)
