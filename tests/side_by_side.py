r"""Put sheets of samples side by side, as in docs/ and docs/ablation/.

    python tests/side_by_side.py both.jpg runs/full/samples/000500.png runs/no-attn/samples/000500.png
    python tests/side_by_side.py docs/ablation/real-005000.jpg --keep 4 4 --columns 4 \
        runs/real/{full,no-attn,no-gen-attn,no-disc-attn}-0/samples/005000.png \
        runs/real/{full,no-attn,no-gen-attn,no-disc-attn}-1/samples/005000.png

--keep takes so many pictures of each row, and so many rows, of each sheet: the first, so nothing is selected.
"""

import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import Parser, UserError, number, run

CELL, GAP = 66, 10  # pixels of a 64x64 picture with the line beside it; between two sheets


def main():
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("sheets", type=Path, nargs="+", help="sheets of 64x64 pictures, by train.py or sample.py")
    parser.add_argument("--keep", type=number(int, 1), nargs=2, default=(8, 8), metavar="N", help="of each sheet")
    parser.add_argument("--columns", type=number(int, 1), default=100, help="sheets beside each other")
    args = parser.parse_args()
    width, height = (CELL * count + 2 for count in args.keep)
    columns, rows = min(args.columns, len(args.sheets)), -(-len(args.sheets) // args.columns)
    size = columns * (width + GAP) - GAP, rows * (height + GAP) - GAP
    picture = Image.new("RGB", size, "white")
    for index, path in enumerate(args.sheets):
        row, column = divmod(index, args.columns)
        with Image.open(path) as sheet:
            if sheet.width != 8 * CELL + 2 or sheet.width < width or sheet.height < height:
                raise UserError(f"{path}: no sheet of {args.keep[0]} x {args.keep[1]} 64x64 pictures, eight a row")
            picture.paste(sheet.crop((0, 0, width, height)), (column * (width + GAP), row * (height + GAP)))
    picture.save(args.out, quality=85)


if __name__ == "__main__":
    run(main)
