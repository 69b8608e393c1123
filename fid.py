"""The Frechet Inception Distance (section 3.4): how far apart are two sets of pictures?

    python fid.py real/ fake/                        FID of two folders of pictures, sub-folders included
    python fid.py real/ fake/ --kid                  KID before it: what a few hundred pictures are enough for
    python fid.py --save-stats real/ real.npz        keep a folder's statistics (34 MB), which pytorch-fid reads, too
    python fid.py real.npz fake/                     either side may be such a file
    torchrun --nproc-per-node 2 fid.py real/ fake/   the pictures shared out, the same numbers

The last line printed is "FID: 12.3456", pytorch-fid's number for folders of more than 2,048 pictures.  Its weights for
the Inception network (91 MB) are fetched once, to where torch.hub keeps such files.
"""

import hashlib
import sys
import time
from collections import OrderedDict, namedtuple
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from scipy.linalg.lapack import dpstrf
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common import Parser, Progress, UserError, atomic_write, load_checkpoint, run_script
from data import list_images, read_image
from parallel import init_processes, rank, world_size

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # the first digits of the file's
FEATURES = 2048
Moments = namedtuple("Moments", "mu sigma count")  # float64 arrays (2048,) and (2048, 2048), and an int


# Inception-v3 (Szegedy et al. 2015).
# The weights are those of the network of 2015, which differs from today's: average pools leave the padding out of the
# average, the last block pools the maximum, and there are 1008 classes.

average_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
max_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve = partial(F.max_pool2d, kernel_size=3, stride=2)


def branches(kind, c=192, pool=average_pool):
    """What goes on in a block: branches side by side, whose results are concatenated.

    A branch is a list of layers, one after the other: a pool, or a convolution as (name in the file of weights, output
    channels, kernel = 1, stride = 1).  c: channels that blocks differ in.  Beginnings in common are computed once.
    """
    return {
        "A": [[("branch1x1", 64)],
              [("branch5x5_1", 48), ("branch5x5_2", 64, 5)],
              [("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
              [pool, ("branch_pool", c)]],
        "B": [[("branch3x3", 384, 3, 2)],
              [("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)],
              [halve]],
        "C": [[("branch1x1", 192)],  # 7x7 as 1x7 and 7x1: 14 weights instead of 49
              [("branch7x7_1", c), ("branch7x7_2", c, (1, 7)), ("branch7x7_3", 192, (7, 1))],
              [("branch7x7dbl_1", c), ("branch7x7dbl_2", c, (7, 1)), ("branch7x7dbl_3", c, (1, 7)),
               ("branch7x7dbl_4", c, (7, 1)), ("branch7x7dbl_5", 192, (1, 7))],
              [pool, ("branch_pool", 192)]],
        "D": [[("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2)],
              [("branch7x7x3_1", 192), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
               ("branch7x7x3_4", 192, 3, 2)],
              [halve]],
        "E": [[("branch1x1", 320)],
              [("branch3x3_1", 384), ("branch3x3_2a", 384, (1, 3))],
              [("branch3x3_1", 384), ("branch3x3_2b", 384, (3, 1))],
              [("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, 3), ("branch3x3dbl_3a", 384, (1, 3))],
              [("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, 3), ("branch3x3dbl_3b", 384, (3, 1))],
              [pool, ("branch_pool", 192)]],
    }[kind]  # fmt: skip


def convolution(inputs, outputs, kernel=1, stride=1, padding="same"):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding if stride == 1 else "valid", bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU(inplace=True)))


class Block(nn.Module):
    """(B, inputs, H, W) -> what the branches give, concatenated along the channels."""

    def __init__(self, inputs, *table):
        super().__init__()
        self.branches = branches(*table)
        for branch in self.branches:
            channels = inputs
            for name, outputs, *shape in (layer for layer in branch if not callable(layer)):
                self.add_module(name, convolution(channels, outputs, *shape))
                channels = outputs

    def forward(self, x):
        outputs, computed = [], {}
        for branch in self.branches:
            y = x
            for layer in branch:
                if callable(layer):
                    y = layer(y)
                elif layer[0] in computed:
                    y = computed[layer[0]]
                else:
                    y = computed[layer[0]] = self.get_submodule(layer[0])(y)
            outputs.append(y)
        return torch.cat(outputs, 1)


def resize(images):
    """(B, 3, H, W) -> (B, 3, 299, 299), bilinear and not antialiased, as in pytorch-fid."""
    return F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)


class Inception(nn.Sequential):
    """The network whose features FID compares; `load_inception` gives it with its weights."""

    def __init__(self):
        layers = OrderedDict(  # from images (B, 3, 299, 299) in [-1, 1]
            Conv2d_1a_3x3=convolution(3, 32, 3, stride=2),  # (B, 32, 149, 149)
            Conv2d_2a_3x3=convolution(32, 32, 3, padding="valid"),  # (B, 32, 147, 147)
            Conv2d_2b_3x3=convolution(32, 64, 3),  # (B, 64, 147, 147)
            maxpool1=nn.MaxPool2d(3, stride=2),  # (B, 64, 73, 73)
            Conv2d_3b_1x1=convolution(64, 80),  # (B, 80, 73, 73)
            Conv2d_4a_3x3=convolution(80, 192, 3, padding="valid"),  # (B, 192, 71, 71)
            maxpool2=nn.MaxPool2d(3, stride=2),  # (B, 192, 35, 35)
            Mixed_5b=Block(192, "A", 32),  # (B, 256, 35, 35)
            Mixed_5c=Block(256, "A", 64),  # (B, 288, 35, 35)
            Mixed_5d=Block(288, "A", 64),  # (B, 288, 35, 35)
            Mixed_6a=Block(288, "B"),  # (B, 768, 17, 17)
            Mixed_6b=Block(768, "C", 128),  # (B, 768, 17, 17), and so the next three
            Mixed_6c=Block(768, "C", 160),
            Mixed_6d=Block(768, "C", 160),
            Mixed_6e=Block(768, "C", 192),
            Mixed_7a=Block(768, "D"),  # (B, 1280, 8, 8)
            Mixed_7b=Block(1280, "E"),  # (B, 2048, 8, 8)
            Mixed_7c=Block(2048, "E", 192, max_pool),  # (B, 2048, 8, 8); its mean over 8x8 are the features
            fc=nn.Linear(FEATURES, 1008),  # from the features to the classes: in the file, and not used here
        )
        super().__init__(layers)

    @torch.no_grad()
    def forward(self, images):
        """Floats in [0, 1], (B, 3, H, W) or a list of (3, H, W) of any sizes -> features (B, 2048), float32."""
        device, features = self.fc.weight.device, []
        # 16 is fastest on a CPU: more leave its cache, with fewer a single thread gets a slow 1x1 convolution.
        step = 16 if device.type == "cpu" else len(images)
        # TF32 keeps 10 bits of float32's 23, autocast 7: not pytorch-fid's numbers any more.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch.autocast(device.type, enabled=False):
            for start in range(0, len(images), step):
                x = 2 * torch.cat([resize(image[None].to(device)) for image in images[start : start + step]]) - 1
                for layer in list(self)[:-1]:
                    x = layer(x)
                features.append(x.mean((2, 3)))
        return torch.cat(features)


def load_inception(weights=None, device="cpu"):
    """The Inception network on a device.  `weights`: a file; None: pytorch-fid's, fetched once to torch.hub's cache.

    Raises UserError when there are none, or when they are another network's, naming an entry.
    """
    path = Path(weights or f"{torch.hub.get_dir()}/checkpoints/{URL.rpartition('/')[2]}")
    if not weights and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, path, hash_prefix=SHA256)  # whole and right, or not at all
        except Exception as error:  # no network, a full disk, another file: each has several kinds
            advice = f"get {URL} (91 MB), put it at {path} or name it: --weights (train.py: --inception)"
            raise UserError(f"Inception's weights can't be fetched ({error}): {advice}") from None
    state = load_checkpoint(path)
    with torch.device("meta"):  # no time for weights that are replaced
        inception = Inception().eval()
    try:
        inception.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:  # it names the entries
        raise UserError(f"{path}: not the weights of FID's Inception: {str(error)[:300]} ...") from None
    if rank() == 0 and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(SHA256):
        print(f"warning: {path} isn't the usual file ({SHA256}...): numbers differ from others'", file=sys.stderr)
    for part in inception.modules():
        if hasattr(part, "bn"):  # batch norm with fixed statistics scales and shifts: weights can do that at once
            part.conv, part.bn = fuse_conv_bn_eval(part.conv, part.bn), nn.Identity()
    return inception.to(device, torch.float32, memory_format=torch.channels_last)


def collect(batches, width=FEATURES):
    """Moments of features that come as batches (B, width), from any device, of all processes together.

    float64 sums: 34 MB, however many pictures there are.  sigma is divided by count - 1, as np.cov does.
    """
    count, mean = torch.tensor(0), torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    for features in batches:
        features = features.cpu().double()  # in this order: mps has no float64
        count += len(features)
        mean += features.sum(0)
        products.addmm_(features.T, features)
    if dist.is_initialized():
        for total in (count, mean, products):
            dist.all_reduce(total)
    if count < 2:
        raise UserError("one picture has no covariance: FID needs 2 or more a side, better 10,000")
    mean /= count
    return Moments(mean.numpy(), ((products - count * mean.outer(mean)) / (count - 1)).numpy(), count.item())


def factor(sigma):
    """Covariance (d, d) -> A (d, rank) with sigma = A A^T: Cholesky that stops where only rounding is left.

    Raises UserError where more is left: negative variances, which would give a distance that is too small.
    """
    lower, pivots, columns, _ = dpstrf(sigma, lower=1)
    a = np.empty((len(sigma), columns))
    a[pivots - 1] = np.tril(lower)[:, :columns]
    if abs(np.trace(sigma) - np.sum(a**2)) > 1e-6 * (1 + np.sum(a**2)):  # 1: pictures all alike leave rounding only
        raise UserError("FID of a matrix that is no covariance: it has negative variances")
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
    """Unbiased estimate of the squared maximum mean discrepancy from features (N, d), (M, d), float64."""
    xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    # A picture's likeness to itself doesn't count: that would be the bias.
    return sum((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy)) - 2 * xy.mean()


def kernel_distance(real, fake, seed=0):
    """The Kernel Inception Distance (Binkowski et al. 2018) of features (N, d), (M, d) -> (mean, standard error).

    Unbiased: with few pictures FID comes out too high, KID only less certain.  The features are dealt at random into
    10 blocks (more where a block would have over 1,000); the spread of the blocks' estimates tells how certain.
    """
    fewest, most = sorted((len(real), len(fake)))
    if fewest < 4:
        raise UserError(f"--kid needs 4 or more pictures a side, here {len(real)} and {len(fake)}")
    blocks = min(max(10, -(-most // 1000)), fewest // 2)  # two pictures or more in each
    generator = torch.Generator().manual_seed(seed)
    sides = [x[torch.randperm(len(x), generator=generator)].tensor_split(blocks) for x in (real, fake)]
    estimates = torch.stack([squared_mmd(x.double(), y.double()) for x, y in zip(*sides, strict=True)])
    return estimates.mean().item(), estimates.std().item() / blocks**0.5


def read_picture(path):
    """A picture file -> (3, H, W), floats in [0, 1]; a large one at 299x299, or a batch of them would fill memory."""
    picture = torch.from_numpy(read_image(path)).permute(2, 0, 1).float() / 255
    return picture if picture[0].numel() <= 299**2 else resize(picture[None])[0]


def picture_features(folder, paths, inception, batch=48):
    """Features of a folder's pictures, a batch at a time: yields (B, 2048), on the CPU.

    Under torchrun those of this process's share.  Threads read the next batch while the network sees this one.
    """
    share = np.array_split(paths, world_size())[rank()]
    progress, start, done = Progress(file=sys.stderr), time.monotonic(), 0
    with ThreadPool() as pool:
        ahead = pool.map_async(read_picture, share[:batch])
        while done < len(share):
            pictures = ahead.get()
            ahead = pool.map_async(read_picture, share[done + batch : done + 2 * batch])
            yield inception(pictures).cpu()
            done += len(pictures)
            if rank() == 0:
                speed = done / (time.monotonic() - start)
                progress(f"{folder}: {done:,} of {len(share):,} pictures, {speed:.1f} a second", done == len(share))


def folder_statistics(folder, inception, batch=48):
    """Moments of a folder's pictures.  Under torchrun every process calls this, and gets those of the whole."""
    return collect(picture_features(folder, list_images(folder), inception, batch))


def gather(batches):
    """The features of all processes' batches in the order of the files: (N, 2048), in each of them."""
    shares = [torch.cat([torch.empty(0, FEATURES), *batches])]
    if dist.is_initialized():
        features, shares = shares[0], [None] * dist.get_world_size()
        dist.all_gather_object(shares, features)
    return torch.cat(shares)


def read_statistics(path):
    """Moments from an .npz; the count is None if it doesn't tell.  Raises UserError if it isn't one."""
    try:
        with np.load(path) as file:
            mu, sigma = (np.asarray(file[name], dtype=np.float64) for name in ("mu", "sigma"))
            count = int(file["count"]) if "count" in file else None
    except Exception as error:  # numpy raises nearly anything
        raise UserError(f"{path}: can't be read as statistics, an .npz with mu and sigma ({error})") from None
    shapes = mu.shape == (FEATURES,) and sigma.shape == (FEATURES, FEATURES)
    if not (shapes and np.isfinite(sigma).all() and np.allclose(sigma, sigma.T, atol=1e-6)):
        raise UserError(f"{path}: mu {mu.shape} and sigma {sigma.shape} aren't mean and covariance of 2048 features")
    return Moments(mu, sigma, count)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("real", type=Path, help="a folder of pictures of any sizes, or an .npz of statistics")
    add("fake", type=Path, help="the same; with --save-stats, the .npz to write")
    add("--save-stats", action="store_true", help="write the first folder's statistics to the second, and stop")
    add("--kid", action="store_true", help="print KID and its standard error, too; takes two folders")
    add("--weights", metavar="FILE", help="Inception's; default: pytorch-fid's, fetched once (91 MB)")
    parser.add_seed_and_device()
    options = parser.parse_args()
    real, fake = options.real, options.fake
    sides = [real] if options.save_stats else [real, fake]

    # What is wrong is told before weights are fetched and the network is at work.
    moments, folders = {}, {}
    for side in sides:
        if side.suffix.lower() == ".npz" and not side.is_dir():
            moments[side] = read_statistics(side)
        else:
            folders[side] = list_images(side)
    if options.save_stats and (fake.suffix.lower() != ".npz" or fake.exists() or not fake.parent.is_dir()):
        raise UserError(f"--save-stats {fake}: give a new .npz (it may not exist) in a folder that is there")
    if options.kid and (options.save_stats or moments):
        raise UserError("--kid compares the pictures of two folders; an .npz holds none")
    device = init_processes(options.device)
    inception = load_inception(options.weights, device) if folders else None

    features = {}
    for side, paths in folders.items():
        batches = picture_features(side, paths, inception)
        if options.kid:
            batches = list(batches)  # 8 kB a picture
            features[side] = gather(batches)
        moments[side] = collect(batches)
    for side in sides:
        print(f"{side}: {moments[side].count or 'an unknown number of'} pictures")
    if options.save_stats:
        if rank() == 0:
            with atomic_write(fake) as temporary, open(temporary, "wb") as file:
                np.savez(file, **moments[real]._asdict())  # mu and sigma, as pytorch-fid reads them, and count
        return
    if any(side.count and side.count <= FEATURES for side in moments.values()) and rank() == 0:
        print("warning: with so few pictures FID is too high: compare equal counts, or use --kid", file=sys.stderr)
    if options.kid:
        print("KID: {:.6f} +- {:.6f}".format(*kernel_distance(features[real], features[fake], options.seed)))
    print(f"FID: {frechet_distance(*moments[real][:2], *moments[fake][:2]):.4f}")


if __name__ == "__main__":
    run_script(main)
