"""The Kernel Inception Distance (Binkowski et al. 2018), which needs fewer pictures than FID.

With few pictures FID comes out too high; KID is right on average, and only less certain.
"""

import torch
import torch.distributed as dist

from parallel import world_size


def squared_mmd(x, y):
    """KID, the squared maximum mean discrepancy of features (N, d), (M, d), float64; N and M are 4 or more.

    Returns the unbiased estimate over all pairs, and its standard error: a tenth too large where the sets are alike,
    and a third with 4 pictures.
    """
    n, m = len(x), len(y)
    (xx, _, xx2), (yy, _, yy2), (xy, yx, xy2) = kernel_sums(x), kernel_sums(y), kernel_sums(x, y)
    estimate = xx.mean() / (n - 1) + yy.mean() / (m - 1) - 2 * xy.mean() / m
    # The jackknife: without picture i the estimate falls by 2 (within - across) / (n - 1), where these tell how much
    # more like its own set, and like the other set, the picture is than the mean picture is.
    within_x, within_y = (xx - xx.mean()) / (n - 2), (yy - yy.mean()) / (m - 2)
    across_x, across_y = (xy - xy.mean()) / m, (yx - yx.mean()) / n
    jackknife = 4 * ((within_x - across_x).var() / n + (within_y - across_y).var() / m)
    # It counts twice what comes from pairs of pictures rather than from single ones (Efron and Stein 1981), and where
    # the sets are alike that is all.  So this part, which the kernel without its rows' and columns' means gives, is
    # taken off once.
    pairs = 4 * (xy2 - xy.sum() ** 2 / (n * m) - m * across_x.square().sum() - n * across_y.square().sum())
    pairs /= n * m * (n - 1) * (m - 1)
    for k, sums, squares, within in ((n, xx, xx2, within_x), (m, yy, yy2, within_y)):
        rest = squares - sums.sum() ** 2 / (k * (k - 1)) - 2 * (k - 2) * within.square().sum()
        pairs += 2 * rest / (k * (k - 1) * k * (k - 3))
    return estimate.item(), max(jackknife - pairs, pairs).clamp(min=0).sqrt().item()


def kernel_sums(x, y=None):
    """The kernel (x.y / d + 1)^3 of features (N, d), (M, d): its rows' sums (N,), columns' (M,), and that of squares.

    Without y: of the pairs within x.  A picture's likeness to itself doesn't count, because that would be a bias.
    """
    rows, columns, squares = [], 0.0, 0.0
    for start in range(0, len(x), 1000):  # because the kernel of 10,000 pictures would take 800 MB at once
        kernel = (x[start : start + 1000] @ (x if y is None else y).T / x.shape[1] + 1) ** 3
        if y is None:
            kernel.diagonal(start).zero_()
        rows.append(kernel.sum(1))
        columns += kernel.sum(0)
        squares += kernel.square().sum()
    return torch.cat(rows), columns, squares


def gather(batches):
    """Batches of features (B, d) -> all processes' features (N, d), float64, because KID compares all pairs."""
    shares = [batches]
    if dist.is_initialized():
        shares = [None] * world_size()
        dist.all_gather_object(shares, batches)
    return torch.cat([features for share in shares for features in share]).double()
