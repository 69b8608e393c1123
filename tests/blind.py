"""Judge pictures without knowing which run made them.

    python tests/blind.py runs/toy/*-[0-9] --count 24 --out blind

Pictures of all runs, from the same z, are shuffled into sheets of 64, twice as large: blind/0.png, ...  When you have
noted what you see, blind/key.csv tells whose each was: sheet, row and column (from 1), run, step.
"""

import csv
import random
import sys
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import Parser, UserError, number, run, tile
from model import generate
from sample import find_snapshot, load_generator


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="runs of train.py: their newest snapshots")
    parser.add_argument("--count", type=number(int, 1), default=24, help="pictures of each run")
    parser.add_argument("--seed", type=number(int, 0), default=7, help="which z, and which order")
    parser.add_argument("--out", type=Path, default=Path("blind"), help="a new folder")
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f"{args.out} is there already: choose another --out")
    pictures = []
    for place in args.runs:
        generator, step = load_generator(find_snapshot(place))
        z = torch.randn(args.count, generator.z_dim, generator=torch.Generator().manual_seed(args.seed))
        pictures += [(place, step, picture) for picture in generate(generator, z)]
    random.Random(args.seed).shuffle(pictures)
    args.out.mkdir(parents=True)
    with open(args.out / "key.csv", "w", newline="") as file:
        key = csv.writer(file)
        key.writerow(["sheet", "row", "column", "run", "step"])
        key.writerows((i // 64, i % 64 // 8 + 1, i % 8 + 1, *of) for i, (*of, _) in enumerate(pictures))
    for index in range(0, len(pictures), 64):
        sheet = tile(torch.stack([picture for *_, picture in pictures[index : index + 64]]))
        size = 2 * sheet.width, 2 * sheet.height
        sheet.resize(size, Image.Resampling.BICUBIC).save(args.out / f"{index // 64}.png")
        print(args.out / f"{index // 64}.png")


if __name__ == "__main__":
    run(main)
