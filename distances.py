"""The two distances between sets of features that fid.py prints: FID (section 3.4) and KID.

FID is Frechet's: it compares the means and the covariances.  With few pictures it comes out too high.  KID, the kernel
one (Binkowski et al. 2018), compares all pairs.  Of few pictures it is right on average, and only less certain.
"""

from collections import namedtuple

import numpy as np
import torch
import torch.distributed as dist
from scipy.linalg.lapack import dpstrf

from common import UserError
from parallel import world_size

Moments = namedtuple("Moments", "mu sigma count")  # float64 arrays (width,) and (width, width), and an int


def collect(batches, width):
    """Moments of features that come as batches (B, width), from any device, of all processes together.

    float64 sums: 34 MB, however many pictures there are.  sigma is divided by count - 1, as np.cov does.
    """
    sums = [torch.zeros(shape, dtype=torch.float64) for shape in ((), (width,), (width, width))]
    for features in batches:
        features = (features.cpu() if features.device.type == "mps" else features).double()  # mps has no float64
        count, total, products = sums = [x.to(features.device) for x in sums]
        count += len(features)
        total += features.sum(0)
        products.addmm_(features.T, features)
    count, total, products = (x.cpu() for x in sums)
    if dist.is_initialized():
        for x in (count, total, products):
            dist.all_reduce(x)
    mean = total / count
    return Moments(mean.numpy(), ((products - count * mean.outer(mean)) / (count - 1)).numpy(), int(count))


def factor(sigma, name="sigma"):
    """Covariance (d, d) -> A (d, rank) with sigma = A A^T.  Raises UserError where it has negative variances."""
    # Cholesky that stops where only rounding is left: of 200 pictures an FID takes 0.35 s, by eigh alone 1.6 s.
    lower, pivots, columns, _ = dpstrf(sigma, lower=1)
    a = np.empty((len(sigma), columns))
    a[pivots - 1] = np.tril(lower)[:, :columns]
    if np.abs(sigma - a @ a.T).max() > 1e-10 * (1 + np.abs(sigma).max()):  # 1: of equal pictures rounding is all
        values, vectors = np.linalg.eigh(sigma)
        # An .npz may hold float32, which rounds by 1e-7: eigenvalues move by less than 1e-6 of the largest.
        if values[0] < -1e-6 * values[-1]:
            raise UserError(f"{name}: no covariance, because it has negative variances")
        sound = values > -2 * values[0]  # because rounding reaches about as far above 0 as below
        a = vectors[:, sound] * np.sqrt(values[sound])
    return a


def frechet_distance(mu1, sigma1, mu2, sigma2):
    """The squared Frechet distance of two Gaussians: means (d,) and covariances (d, d) -> float.

    |mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), the article's formula; its text swaps two names:
    m and m_w are the means in it, C and C_w the covariances.  Raises UserError where they aren't finite.

    The root of a product that isn't symmetric is slow, and inexact or complex where it is singular: always, with no
    more pictures than features.  But with sigma1 = A A^T and sigma2 = B B^T the product A A^T B B^T has the nonzero
    eigenvalues of (A^T B)(A^T B)^T: the trace of the root is the sum of the singular values of A^T B.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(array, dtype=np.float64) for array in (mu1, sigma1, mu2, sigma2))
    if not all(np.isfinite(array).all() for array in (mu1, sigma1, mu2, sigma2)):
        raise UserError("FID of statistics that aren't finite: are the weights sound?")
    if np.array_equal(mu1, mu2) and np.array_equal(sigma1, sigma2):
        return 0.0  # without the last digit's rounding
    root = torch.linalg.svdvals(torch.from_numpy(factor(sigma1).T @ factor(sigma2))).sum().item()
    return max(0.0, float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * root))


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
    """The kernel (x.y / d + 1)^3 of features (N, d), (M, d): the sums of rows (N,), of columns (M,), of all squares.

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
