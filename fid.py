"""The Frechet Inception Distance (section 3.4): how far apart are two sets of pictures?

    python fid.py real/ fake/                        FID of two folders of pictures
    python fid.py --save-stats real/ real.npz        keep a folder's statistics; either side above may be an .npz
    python fid.py real/ real/ --distort shuffle=4    does FID see that the second folder's pictures are jigsaws?
    python fid.py real/ real/ --distort all          a table over all distortions and strengths
    python fid.py real/ fake/ --breeds               mode collapse and memorising as figures
    torchrun --nproc-per-node 2 fid.py real/ fake/   the work shared out, the same number

The last line printed is "FID: 12.3456".  The weights of the Inception network are pytorch-fid's, fetched once (91 MB);
--weights random needs no download, but its distance is not FID, and the output says so.  Unless --no-cache is given, a
folder's statistics are kept beside it: 34 MB in real.fid.npz.
"""

import datetime
import functools
import hashlib
import os
import sys
import time
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import PIL
import scipy.ndimage
import torch
import torch.distributed as dist
from scipy.linalg.lapack import dpstrf
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

import data
from data import (
    Parser,
    Progress,
    UserError,
    any_process,
    join_processes,
    list_images,
    number,
    rank_and_world,
    read_checkpoint,
    read_image,
    replacing,
    run,
)

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # what the file's begins with
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
UNTRAINED = "untrained-Inception distance (not FID)"
FEW = 2048  # with no more pictures than features a covariance is singular


# Inception v3 (Szegedy et al. 2015) as the FID of 2017 used it ------------------------------------------------
#
# Each Mixed block looks at its input in several ways, from 1x1 to 7x7, and stacks what they see.  The names are
# those of the entries in the file of weights.  Three habits of the network of 2015, which these weights are from,
# differ from later ones: average pools leave the padding out of the average, the last block pools the maximum, and
# there are 1008 classes.


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)

    def fold(self):
        """Batch norm with fixed statistics only scales and shifts: the convolution can do that by itself."""
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()


def average_pool(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class InceptionA(nn.Module):
    """(B, inputs, 35, 35) -> (B, 224 + pool, 35, 35)."""

    def __init__(self, inputs, pool):
        super().__init__()
        self.branch1x1 = Conv(inputs, 64, 1)
        self.branch5x5_1 = Conv(inputs, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inputs, pool, 1)

    def forward(self, x):
        one = self.branch1x1(x)
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([one, five, three, self.branch_pool(average_pool(x))], 1)


class InceptionB(nn.Module):
    """Halves the map: (B, 288, 35, 35) -> (B, 768, 17, 17)."""

    def __init__(self):
        super().__init__()
        self.branch3x3 = Conv(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(288, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x):
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    """(B, 768, 17, 17) -> (B, 768, 17, 17); a 7x7 view costs two convolutions of 7: 1x7 and 7x1."""

    def __init__(self, inner):
        super().__init__()
        wide, tall = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, inner, 1)
        self.branch7x7_2 = Conv(inner, inner, **wide)
        self.branch7x7_3 = Conv(inner, 192, **tall)
        self.branch7x7dbl_1 = Conv(768, inner, 1)
        self.branch7x7dbl_2 = Conv(inner, inner, **tall)
        self.branch7x7dbl_3 = Conv(inner, inner, **wide)
        self.branch7x7dbl_4 = Conv(inner, inner, **tall)
        self.branch7x7dbl_5 = Conv(inner, 192, **wide)
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x):
        one = self.branch1x1(x)
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([one, seven, twice, self.branch_pool(average_pool(x))], 1)


class InceptionD(nn.Module):
    """Halves the map: (B, 768, 17, 17) -> (B, 1280, 8, 8)."""

    def __init__(self):
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x):
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    """(B, inputs, 8, 8) -> (B, 2048, 8, 8)."""

    def __init__(self, inputs, pool):
        super().__init__()
        wide, tall = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = Conv(inputs, 320, 1)
        self.branch3x3_1 = Conv(inputs, 384, 1)
        self.branch3x3_2a = Conv(384, 384, **wide)
        self.branch3x3_2b = Conv(384, 384, **tall)
        self.branch3x3dbl_1 = Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, **wide)
        self.branch3x3dbl_3b = Conv(384, 384, **tall)
        self.branch_pool = Conv(inputs, 192, 1)
        self.pool = pool

    def forward(self, x):
        three = self.branch3x3_1(x)
        three = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        twice = [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *three, *twice, self.branch_pool(self.pool(x))], 1)


def resize(images):
    """(B, 3, H, W) -> (B, 3, 299, 299), bilinear and not antialiased, as the numbers of everybody were made."""
    return F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)


class Inception(nn.Module):
    """The features that FID compares.  `fc` of the features are the 1008 logits.

    `weights` tells what the features depend on: "random" or the file's sha256, shortened, and " bf16" behind if they
    are less exact.  Features of different `weights` can't be compared.
    """

    weights, precision = None, torch.float32

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = InceptionA(192, pool=32)
        self.Mixed_5c = InceptionA(256, pool=64)
        self.Mixed_5d = InceptionA(288, pool=64)
        self.Mixed_6a = InceptionB()
        self.Mixed_6b = InceptionC(128)
        self.Mixed_6c = InceptionC(160)
        self.Mixed_6d = InceptionC(160)
        self.Mixed_6e = InceptionC(192)
        self.Mixed_7a = InceptionD()
        self.Mixed_7b = InceptionE(1280, average_pool)
        self.Mixed_7c = InceptionE(2048, lambda x: F.max_pool2d(x, 3, stride=1, padding=1))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images):
        """Pictures (B, 3, H, W) of any size, floats in [0, 1] -> features (B, 2048), float32; without gradients."""
        # On a processor few at a time are faster: more of their maps stay in its cache.
        parts = images.split(8) if images.device.type == "cpu" else [images]
        return torch.cat([self.features(part) for part in parts])

    @torch.no_grad()
    def features(self, images):
        x = 2 * resize(images) - 1  # (B, 3, 299, 299) in [-1, 1]
        # TF32 keeps 10 bits of a float32's 23: faster on CUDA, but not everybody's numbers any more.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with exact, torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
            x = F.max_pool2d(x, 3, stride=2)  # (B, 64, 73, 73)
            x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (B, 192, 71, 71)
            x = F.max_pool2d(x, 3, stride=2)  # (B, 192, 35, 35)
            x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
            x = self.Mixed_6a(x)  # (B, 768, 17, 17)
            x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))  # (B, 768, 17, 17)
            x = self.Mixed_7a(x)  # (B, 1280, 8, 8)
            x = self.Mixed_7c(self.Mixed_7b(x))  # (B, 2048, 8, 8)
        return x.float().mean((2, 3))  # (B, 2048)


def fetch_weights():
    """The path of pytorch-fid's weights in torch.hub's cache, fetched and checked if they aren't there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {URL} (91 MB)", flush=True)
        try:
            torch.hub.download_url_to_file(URL, path, hash_prefix=SHA256)
        except (OSError, RuntimeError) as error:  # no network; another file
            raise UserError(
                f"no Inception weights: {URL} (91 MB) can't be fetched ({error}); get it by other means and put it "
                f"at {path} or name it with --weights; --weights random needs none, but isn't FID"
            ) from None
    return path


def load_inception(weights=None, device="cpu", precision="fp32"):
    """The network, ready for use.  `weights`: a file, None for the usual ones, "random" for a fixed untrained network.

    Raises UserError when the weights can't be got or are another network's, naming the entry.
    """
    with torch.device("cpu" if weights == "random" else "meta"):  # meta: no time for weights that are replaced
        inception = Inception().eval()
    if weights == "random":
        initialise(inception)
        inception.weights = "random"
    else:
        path = fetch_weights() if weights is None else Path(weights)
        found, wanted = read_checkpoint(path), inception.state_dict()
        faults = [f"{name} is missing" for name in wanted if name not in found]
        faults += [f"{name} doesn't belong" for name in found if name not in wanted]
        for name in wanted.keys() & found.keys():
            value, shape = found[name], tuple(wanted[name].shape)
            if not isinstance(value, torch.Tensor) or value.shape != shape:
                faults.append(f"{name} isn't a tensor of shape {shape}")
            elif not value.isfinite().all():
                faults.append(f"{name} isn't finite")
        if faults:
            more = f", and {len(faults) - 1} more" if faults[1:] else ""
            raise UserError(f"{path}: not the Inception network of FID: {min(faults)}{more}")
        inception.load_state_dict(found, assign=True)
        with open(path, "rb") as file:
            inception.weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        if not inception.weights.startswith(SHA256):
            if weights is None:
                raise UserError(f"{path} isn't the usual file (sha256 {SHA256}...): delete it to fetch it anew")
            warn(f"these are not the weights that everybody uses (sha256 {SHA256}...): distances differ from others'")
    if precision != "fp32":
        inception.weights += f" {precision}"
        inception.precision = PRECISIONS[precision]
    for part in inception.modules():
        if isinstance(part, Conv):
            part.fold()
    return inception.to(device, torch.float32, memory_format=torch.channels_last)


def initialise(inception):
    """Random filters, the same everywhere, of zero mean and variance 3 / fan-in.

    A filter without a mean drops what all the maps, none of them negative after a ReLU, have in common; otherwise
    fifty layers make the features of any two pictures nearly parallel.  3 instead of He's 2 makes up for the loss.
    """
    random = torch.Generator().manual_seed(0)
    for part in inception.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, generator=random)
            part.weight.data -= part.weight.data.mean((1, 2, 3), keepdim=True)
            part.weight.data *= 1.5**0.5


# Statistics ---------------------------------------------------------------------------------------------------


class Statistics:
    """Count, mean and covariance of features that come in pieces; the sums are float64, 34 MB whatever the count.

    Sums of squares about the mean so far (Chan et al. 1979), not about 0: no digits are lost where all are alike.
    """

    def __init__(self, width=2048, device="cpu"):
        self.count = 0
        self.mu = torch.zeros(width, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    @property
    def sigma(self):
        """The covariance (width, width), divided by count - 1 as np.cov does."""
        return self.scatter / (self.count - 1)

    def add(self, features):
        """Take in features (B, width)."""
        features = features.to(self.mu)  # float64
        mu = features.mean(0)
        centred = features - mu
        self.merge(len(features), mu, centred.T @ centred)

    def merge(self, count, mu, scatter):
        """Become the statistics of the union with another set: of its pictures too."""
        gap, total = mu - self.mu, self.count + count
        self.scatter += scatter + torch.outer(gap, gap) * (self.count * count / total)
        self.mu += gap * (count / total)
        self.count = total

    def all_reduce(self):
        """Become the statistics of all processes' pictures, on each of them."""
        count = torch.tensor(self.count, device=self.mu.device)
        mu = self.mu * self.count
        dist.all_reduce(count)
        dist.all_reduce(mu)
        mu /= count
        gap = self.mu - mu
        self.scatter += torch.outer(gap, gap) * self.count
        dist.all_reduce(self.scatter)
        self.count, self.mu = count.item(), mu


# The distance -------------------------------------------------------------------------------------------------
#
# Either set's features are taken for a Gaussian; then, in the article's formula with m as means and C as covariances,
#
#     FID = |mu1 - mu2|^2 + tr(sigma1) + tr(sigma2) - 2 tr((sigma1 sigma2)^(1/2)).
#
# The product isn't symmetric.  sqrtm of it is slow, and inexact or complex where it is singular: always, with no more
# pictures than features.  But take factors sigma1 = A A^T and sigma2 = B B^T: the product A A^T B B^T has the nonzero
# eigenvalues of M M^T with M = A^T B, symmetric and never negative.  The trace of the root is the sum of their roots,
# the nuclear norm of M.  A and B come from Cholesky with pivoting, where the largest variance left is always next: it
# stops where only rounding is left, so they have a column for each direction that varies, and no more.  The columns
# shrink on the way; so squaring M for eigvalsh, faster than singular values, costs no accuracy that features would
# show (at the very worst, where the sets vary in directions at right angles, some 1e-7 of the traces).


def factor(sigma):
    """Pivoted Cholesky: a covariance (d, d) -> A (d, rank) with sigma = A A^T."""
    lower, pivots, rank, _ = dpstrf(sigma, lower=1)
    a = np.empty((len(sigma), rank))
    a[pivots - 1] = np.tril(lower)[:, :rank]
    return a


def frechet_distance(mu1, sigma1, mu2, sigma2):
    """The squared Frechet distance of two Gaussians: means (d,) and covariances (d, d), arrays or CPU tensors.

    Raises UserError where they aren't finite.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(array, dtype=np.float64) for array in (mu1, sigma1, mu2, sigma2))
    if not all(np.isfinite(array).all() for array in (mu1, sigma1, mu2, sigma2)):
        raise UserError("features that aren't finite have no distance")
    if np.array_equal(mu1, mu2) and np.array_equal(sigma1, sigma2):
        return 0.0  # without the last digit's rounding
    product = factor(sigma1).T @ factor(sigma2)  # (rank1, rank2)
    square = product @ product.T if product.shape[0] < product.shape[1] else product.T @ product
    root = torch.linalg.eigvalsh(torch.from_numpy(square)).clamp(min=0).sqrt().sum().item()
    return max(0.0, float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * root))


# Distortions (section 3.1) ------------------------------------------------------------------------------------
#
# Each takes a picture (H, W, 3) of floats in [0, 1], its amount, and a numpy random generator.  The first five
# spoil what is there; the last four keep every pixel and move it to another place.


def blur(picture, sigma, random):
    return scipy.ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")


def noise(picture, sigma, random):
    return picture + random.normal(0, sigma, picture.shape)


def salt_and_pepper(picture, share, random):
    chance = random.random(picture.shape[:2])
    return np.where((chance < share)[..., None], (chance < share / 2)[..., None], picture)


def rectangles(picture, side, random):
    picture = picture.copy()
    height, width, _ = picture.shape
    h, w = round(side * height), round(side * width)
    for _ in range(5):
        y, x = random.integers(height - h + 1), random.integers(width - w + 1)
        picture[y : y + h, x : x + w] = 0
    return picture


def colour(picture, shift, random):
    return picture + shift * np.array([1, 0, -1])


def shuffle(picture, k, random):
    height, width, _ = picture.shape
    h, w = height // k, width // k
    if not h or not w:
        raise UserError(f"--distort shuffle={k}: {width}x{height} pixels can't be cut into {k}x{k}")
    picture = picture.copy()  # with what is left over at the right and the bottom, if k doesn't divide the sides
    tiles = [picture[y * h : (y + 1) * h, x * w : (x + 1) * w].copy() for y in range(k) for x in range(k)]
    for place, source in enumerate(random.permutation(k * k)):
        y, x = divmod(place, k)
        picture[y * h : (y + 1) * h, x * w : (x + 1) * w] = tiles[source]
    return picture


def swap(picture, _, random):
    middle = picture.shape[1] // 2
    return np.concatenate([picture[:, middle:], picture[:, :middle]], axis=1)


def flip(picture, _, random):
    return picture[::-1]


def mirror(picture, _, random):
    return picture[:, ::-1]


DISTORTIONS = {  # name: function, the type of its amount, the strengths of the table, what the amount is
    "blur": (blur, number(float, 0, 1000), (0.5, 1, 2), "gaussian, standard deviation in pixels"),
    "noise": (noise, number(float, 0, 1000), (0.05, 0.1, 0.2), "gaussian, standard deviation, white being 1"),
    "salt-and-pepper": (salt_and_pepper, number(float, 0, 1), (0.01, 0.05, 0.2), "share of pixels"),
    "rectangles": (rectangles, number(float, 0, 1), (0.1, 0.2, 0.4), "five black ones, side as a share"),
    "colour": (colour, number(float, -1, 1), (0.05, 0.1, 0.2), "added to red, taken from blue"),
    "shuffle": (shuffle, number(int, 1, 1000), (2, 4, 8), "KxK jigsaw"),
    "swap": (swap, None, (None,), "left and right halves"),
    "flip": (flip, None, (None,), "upside down"),
    "mirror": (mirror, None, (None,), "left to right"),
}


def parse_distortion(text):
    """A type for an option: "shuffle=4" -> ("shuffle", 4); without an amount the table's middle strength."""
    if text == "all":
        return text
    name, has_amount, amount = text.partition("=")
    if name not in DISTORTIONS:
        raise UserError(f"--distort {text}: not one of all, {', '.join(DISTORTIONS)}")
    _, kind, strengths, meaning = DISTORTIONS[name]
    if not has_amount:
        return name, strengths[len(strengths) // 2]
    if kind is None:
        raise UserError(f"--distort {text}: {name} ({meaning}) has no amount")
    try:
        return name, kind(amount)
    except Exception as error:
        raise UserError(f"--distort {text}: {error}") from None


def distortion_text(name, amount):
    return name if amount is None else f"{name}={amount:g}"


# From files to statistics -------------------------------------------------------------------------------------


def read_picture(job, distortion, seed):
    """(place in the list, path) -> (3, H, W), uint8 or, distorted, floats in [0, 1]."""
    place, path = job
    picture = read_image(path)
    if distortion:
        name, amount = distortion
        random = np.random.default_rng([seed, place])  # so a picture's noise doesn't depend on who reads it
        picture = DISTORTIONS[name][0](picture / 255, amount, random).clip(0, 1).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def to_batch(pictures, device):
    """Pictures (3, H, W), uint8 or floats in [0, 1] -> one batch of floats; resized first if the sizes differ."""
    scale = 255 if pictures[0].dtype == torch.uint8 else 1
    if len({picture.shape for picture in pictures}) == 1:
        return torch.stack(pictures).to(device).float() / scale
    return torch.cat([resize(picture[None].to(device).float() / scale) for picture in pictures])


def features_of(folder, paths, inception, batch=50, distortion=None, seed=0):
    """Features of picture files, a batch at a time: yields (B, 2048) on the network's device.

    Under torchrun those of this process's share.  Threads read the next batch while the network sees one.
    """
    device, (rank, world) = next(inception.parameters()).device, rank_and_world()
    jobs = list(enumerate(paths))[rank::world]
    read = functools.partial(read_picture, distortion=distortion, seed=seed)
    name = f"{folder} {distortion_text(*distortion)}" if distortion else f"{folder}"
    done, start, progress = 0, time.monotonic(), Progress(file=sys.stderr)
    with ThreadPool(max(1, os.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))) as pool:
        pending = pool.map_async(read, jobs[:batch])
        for begin in range(0, len(jobs), batch):
            pictures = pending.get()
            pending = pool.map_async(read, jobs[begin + batch : begin + 2 * batch])
            yield inception(to_batch(pictures, device))
            done += len(pictures)
            speed = done / (time.monotonic() - start)
            left = datetime.timedelta(seconds=round((len(jobs) - done) / speed))
            seen = min(done * world, len(paths))
            text = f"{name}: {seen:,} of {len(paths):,} pictures, {speed * world:.1f} a second, {left} left"
            if rank == 0:
                progress(text, last=done == len(jobs))


def collect(batches, inception):
    """Statistics of features that come as batches (B, 2048) -> a dict as in an .npz file.

    Under torchrun every process calls this with its share, and all get the statistics of the union.
    """
    device = next(inception.parameters()).device
    total = Statistics(device="cpu" if device.type == "mps" else device)  # there is no float64 on mps
    for features in batches:
        total.add(features)
    if dist.is_initialized():
        total.all_reduce()
    if total.count < 2:
        raise UserError("FID needs at least 2 pictures on either side, better 10,000 or more")
    mu, sigma = total.mu.cpu().numpy(), total.sigma.cpu().numpy()
    return {"mu": mu, "sigma": sigma, "count": total.count, "weights": inception.weights}


def folder_statistics(folder, inception, batch=50, cache=True, distortion=None, seed=0, keep=None):
    """Statistics of a folder's pictures as a dict of mu, sigma, count and weights, like that of an .npz file.

    They are kept in FOLDER.fid.npz and used again as long as the network, the programs and the files are the same.
    `keep`: a list that takes the features, too.  Under torchrun every process calls this.
    """
    paths = list_images(folder)
    if len(paths) < 2:
        raise UserError(f"{folder}: one picture has no covariance; FID needs at least 2, better 10,000 or more")
    cache_file = Path(f"{Path(folder).resolve()}.fid.npz")
    key = hashlib.sha256(f"{inception.weights} {PIL.__version__} {torch.__version__}".encode())
    for program in (__file__, data.__file__):
        key.update(Path(program).read_bytes())
    for path in paths:
        status = path.stat()
        key.update(os.fsencode(path.relative_to(folder)) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    key = key.hexdigest()

    cache = cache and not distortion
    cached = read_cache(cache_file, key) if cache and keep is None else None
    if cached:
        return cached
    batches = features_of(folder, paths, inception, batch, distortion, seed)
    if keep is not None:
        keep.extend(batches)
        batches = keep
    result = collect(batches, inception)
    if cache and rank_and_world()[0] == 0:
        try:
            write_statistics(cache_file, result | {"key": key})
            print(f"statistics kept in {cache_file} (34 MB)")
        except UserError as error:
            warn(error)  # the distance is what was asked for
    return result


def read_cache(path, key):
    """The statistics in a cache file if they were made under this key; under torchrun all processes agree."""
    try:
        with np.load(path) as file:
            fresh = str(file["key"]) == key
        cached = read_statistics(path) if fresh else None
    except Exception:  # none there, or broken: then it's made anew
        cached = None
    (missing,) = any_process(cached is None)
    return None if missing else cached


def write_statistics(path, statistics):
    """An .npz as pytorch-fid reads it: mu (2048) and sigma (2048, 2048); and the count, and whose weights.

    Raises UserError if it can't be written.
    """
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **statistics)
    except OSError as error:
        raise UserError(f"{path}: statistics can't be written ({error.strerror})") from None


def read_statistics(path):
    """mu, sigma and what else an .npz tells.  Raises UserError when it doesn't hold the statistics of features."""
    try:
        with np.load(path) as file:
            statistics = {name: file[name] for name in ("mu", "sigma", "weights") if name in file}
            if "count" in file:
                statistics["count"] = int(file["count"])
        mu, sigma = (np.asarray(statistics[name], dtype=np.float64) for name in ("mu", "sigma"))
    except Exception as error:
        raise UserError(f"{path}: no statistics to read there, mu and sigma in an .npz ({error})") from None
    if mu.shape != (2048,) or sigma.shape != (2048, 2048):
        raise UserError(f"{path}: mu is {mu.shape} and sigma {sigma.shape}, not (2048,) and (2048, 2048)")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise UserError(f"{path}: mu or sigma holds values that aren't finite")
    if not np.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-5 * np.abs(sigma).max()) or (np.diag(sigma) < 0).any():
        raise UserError(f"{path}: sigma isn't a covariance: not symmetric, or with a negative variance")
    return statistics | {"mu": mu, "sigma": sigma}


# Breeds: mode collapse (section 4.1.3) and memorising ---------------------------------------------------------


def nearest(features, others, leave_out_self=False, chunk=1024):
    """(Cosine distance to, index of) the nearest of `others` for each row of `features`, or of the others of a set."""
    distances, indices = [], []
    features, others = F.normalize(features), F.normalize(others)
    for begin in range(0, len(features), chunk):
        distance = 1 - features[begin : begin + chunk] @ others.T
        if leave_out_self:
            rows = torch.arange(len(distance))
            distance[rows, rows + begin] = torch.inf
        found = distance.min(dim=1)
        distances.append(found.values)
        indices.append(found.indices)
    return torch.cat(distances).clamp(min=0), torch.cat(indices)


def effective_number(names):
    """The exponential of the entropy: n for n names that are equally frequent, 1 for one name only."""
    shares = np.array(list(Counter(names).values())) / len(names)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def breeds_of(paths):
    """The breed of each crop: what stands before the first _ in its name.  Raises UserError if names don't tell."""
    breeds = [path.name.split("_")[0] for path in paths]
    if len(set(breeds)) == len(breeds):
        raise UserError(
            f"--breeds: {paths[0]} and the others don't tell breeds: <breed>_....png is meant, as in data.py"
        )
    return breeds


def breeds_covered(features, real, breeds):
    """The breed of the real crop nearest to each of the pictures, and three cells of a table: how many breeds there
    are among them, their effective number, and the mean distance.  Real crops themselves look for the nearest other.
    """
    away, index = nearest(features, real, leave_out_self=features is real)
    found = [breeds[i] for i in index.tolist()]
    covered = f"{len(set(found))} of {len(set(breeds))}"
    return found, covered, f"{effective_number(found):.1f}", f"{away.mean():.4f}"


def print_breeds(real, fake, breeds, untrained):
    """The table of --breeds: features of real crops (N, 2048) and fakes (M, 2048), and the breeds of the crops."""
    print("Each picture counts for the breed of the nearest real crop (cosine distance of the features).")
    print("Fewer pictures find fewer breeds: compare equal counts.")
    if untrained:
        print("The features are those of an untrained Inception network.")
    print("|  | breeds covered | effective number of breeds | mean distance to the nearest real crop |")
    print("| --- | --- | --- | --- |")
    for name, features in (("fakes", fake), ("real crops", real)):
        found, *row = breeds_covered(features, real, breeds)
        print(f"| {name} | {' | '.join(row)} |")
    own = sum(a == b for a, b in zip(found, breeds, strict=True)) / len(breeds)
    print(f"({100 * own:.1f} % of the real crops are nearest to one of their own breed, each against the others)")


def gather(batches, count):
    """The features of all processes' shares, (count, 2048) on the CPU, in the order of the files."""
    features = torch.cat([torch.empty(0, 2048), *(batch.cpu() for batch in batches)])
    rank, world = rank_and_world()
    if world > 1:
        shares = [None] * world
        dist.all_gather_object(shares, features)
        features = torch.empty(count, 2048)
        for rank, share in enumerate(shares):
            features[rank::world] = share
    return features


# The command --------------------------------------------------------------------------------------------------


def is_npz(path):
    return path.suffix == ".npz" and not path.is_dir()


def warn(text):
    if rank_and_world()[0] == 0:
        print(f"warning: {text}", file=sys.stderr)


def print_counts(named):
    """A line on stdout for each side, {name: statistics}, and a warning on stderr if they have few pictures."""
    counts = []
    for name, side in named:
        counts.append(f"{side['count']:,}" if "count" in side else "an unknown number of")
        print(f"{name}: {counts[-1]} pictures")
    if any(side.get("count", FEW + 1) <= FEW for _, side in named):
        warn(
            f"{' and '.join(counts)} pictures: the fewer there are, and up to {FEW:,} above all, the higher the "
            "distance comes out; compare only distances of equal counts"
        )


def distance_name(kinds):
    """What a distance may be called, from {a side: the weights it was seen with}.  Raises UserError if they differ."""
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{side} with {kind}" for side, kind in kinds.items())
        raise UserError(f"features of different networks can't be compared ({told}; see --weights, --precision)")
    return UNTRAINED if any(kind.startswith("random") for kind in kinds.values()) else "FID"


def distance(a, b):
    return frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"])


def distortion_table(real, fake, statistics_of, name):
    """Print the distance for each distortion and strength, each row as soon as it's known."""
    reference, plain = statistics_of(real), statistics_of(fake)
    print_counts([(real, reference), (fake, plain)])
    print(f"| {fake} changed by | {name} to {real} |\n| --- | ---: |\n| nothing | {distance(reference, plain):.4f} |")
    for kind, (_, _, strengths, _) in DISTORTIONS.items():
        for amount in strengths:
            changed = statistics_of(fake, (kind, amount))
            print(f"| {distortion_text(kind, amount)} | {distance(reference, changed):.4f} |", flush=True)


def parse_options():
    distortions = "; ".join(f"{name}: {meaning}" for name, (*_, meaning) in DISTORTIONS.items())
    parser = Parser(__doc__)
    add = parser.add_argument
    add("real", type=Path, help="a folder of pictures, sub-folders included, or statistics (.npz)")
    add("fake", type=Path, help="the same; with --save-stats, the .npz to write")
    add("--save-stats", action="store_true", help="write the first folder's statistics to the second")
    add("--weights", metavar="FILE", help="Inception's; default: fetched once, 91 MB; random: an untrained network")
    add("--distort", type=parse_distortion, metavar="NAME[=AMOUNT]",
        help=f"change the second folder's pictures; all for a table, or {distortions}")  # fmt: skip
    add("--breeds", action="store_true", help="how many breeds fakes are nearest to; real crops are <breed>_....png")
    add("--no-cache", action="store_true", help="neither use nor write the statistics in FOLDER.fid.npz")
    add("--batch", type=number(int, 1, 10**5), default=50, help="pictures per pass of the network")
    add("--precision", choices=PRECISIONS, default="fp32", help="bf16: faster; FID moves by up to a percent or so")
    parser.add_seed_and_device()
    options = parser.parse_args()
    real, fake = options.real, options.fake
    if options.save_stats and (options.distort or options.breeds):
        parser.error("--save-stats goes without --distort and --breeds")
    if options.save_stats and (is_npz(real) or fake.suffix != ".npz"):
        parser.error("--save-stats takes a folder and the name of an .npz to write")
    if options.save_stats and fake.exists():
        raise UserError(f"{fake} is there already: choose another name or delete it")
    if options.save_stats and not fake.parent.is_dir():
        raise UserError(f"{fake.parent}: no such folder")
    if options.breeds and (is_npz(real) or is_npz(fake) or options.distort):
        parser.error("--breeds takes two folders, and no --distort")
    if options.distort and is_npz(fake):
        parser.error(f"--distort changes pictures, and {fake} is not a folder of them")
    return options


def main():
    options = parse_options()
    real, fake = options.real, options.fake
    sides = [real] if options.save_stats else [real, fake]
    folders = [path for path in sides if not is_npz(path)]
    # What is wrong with names and files is told before 91 MB are fetched and the network is at work.
    pictures = {folder: list_images(folder) for folder in folders}
    given = {path: read_statistics(path) for path in sides if is_npz(path)}
    breeds = breeds_of(pictures[real]) if options.breeds else None
    kinds = {path: str(side["weights"]) for path, side in given.items() if "weights" in side}
    untrained = options.weights == "random" if folders else any(kind.startswith("random") for kind in kinds.values())
    for path in given.keys() - kinds.keys() if untrained or options.precision != "fp32" else ():
        kinds[path] = "trained ones in float32, probably"  # pytorch-fid's files don't tell
    if folders:
        for path, kind in kinds.items():
            if kind.startswith("random") != untrained:
                raise UserError(f"{path} was made with weights {kind}: use the same --weights for all")

    options.device = join_processes(options.device)
    inception = load_inception(options.weights, options.device, options.precision) if folders else None
    if inception and untrained:
        print("Inception has random weights: the distances below are not FID")
    name = distance_name(kinds | dict.fromkeys(folders, inception and inception.weights))

    def statistics_of(path, distortion=None, keep=None):
        if path in given:
            return given[path]
        return folder_statistics(path, inception, options.batch, not options.no_cache, distortion, options.seed, keep)

    if options.save_stats:
        statistics = statistics_of(real)
        if rank_and_world()[0] == 0:
            write_statistics(fake, statistics)
        print(f"{fake}: statistics of {statistics['count']:,} pictures")
    elif options.distort == "all":
        distortion_table(real, fake, statistics_of, name)
    else:
        kept = ([], []) if options.breeds else (None, None)
        a, b = statistics_of(real, keep=kept[0]), statistics_of(fake, options.distort, kept[1])
        if options.breeds:
            print_breeds(gather(kept[0], a["count"]), gather(kept[1], b["count"]), breeds, untrained)
        changed = f"{fake} changed by {distortion_text(*options.distort)}" if options.distort else fake
        print_counts([(real, a), (changed, b)])
        print(f"{name}: {distance(a, b):.4f}")


if __name__ == "__main__":
    run(main)
