"""Pictures from a trained generator.

python sample.py                                        dogs of the generator that comes along, pretrained.pt
python sample.py runs/full                              an 8x8 grid -> runs/full/grid-030000.png
python sample.py runs/full --count 5000 --out fake/     5,000 PNG files, for FID tools
python sample.py runs/full --attention                  where points of a dog look (figure 2)
python sample.py runs/full --gamma                      the same dogs with attention turned down, and up
python sample.py runs/full --interpolate                from one dog to another, eight pictures a row
python sample.py runs/full --step 5000                  any of these from an earlier snapshot

A seed gives the same z to every generator.  The sheets in runs/full/samples/ show other z, those of the training.
"""

import math
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch.nn import functional as F

from common import Parser, Progress, UserError, number, run_script
from files import atomic_write, new_folder
from model import to_uint8
from snapshots import PRETRAINED, find_snapshot, generate, image_grid, latents, load_generator

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # of a picture, by the ending of its name
COLOURS = ["red", "lime", "cyan", "yellow", "violet"]  # of the query points


def write_pictures(generator, seed, count, out):
    """Write `count` PNG files to the new folder `out`, which has its name when they are all there."""
    progress, done = Progress(), 0
    with new_folder(out) as folder:
        for z in latents(seed, count).split(64):
            for picture in generate(generator, z).permute(0, 2, 3, 1).cpu().numpy():
                Image.fromarray(picture).save(folder / f"{done:05d}.png")
                done += 1
            progress(f"{out}: {done:,} of {count:,} pictures", last=done == count)


def interpolation(generator, seed, rows=8, columns=8):
    """Each row goes from one z to another along an arc, where normal z live, not straight -> uint8 pictures."""
    a, b = latents(seed, 2 * rows).view(rows, 2, 1, -1).unbind(1)  # (rows, 1, Z_DIM) each
    angle = F.cosine_similarity(a, b, dim=-1).acos()[..., None]
    t = torch.linspace(0, 1, columns)[None, :, None]
    z = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)  # (rows, columns, Z_DIM)
    return generate(generator, z.flatten(0, 1))


@torch.no_grad()
def attention_maps(generator, z):
    """Pictures for z (N, Z_DIM), uint8, and the map of each attention layer, {"32": (N, H*W, H*W)}; on the CPU."""
    pictures, maps = generator.eval()(z.to(next(generator.parameters()).device), return_maps=True)
    return to_uint8(pictures).cpu(), {r: attention.cpu() for r, attention in maps.items()}


def query_points(attention, count):
    """Positions that look at different things: from the middle on, always the one whose row of the map (N, N) differs
    most from the rows of all that were chosen."""
    side = math.isqrt(len(attention))
    chosen = [side * (side // 2) + side // 2]
    while len(chosen) < count:
        differences = [(attention - attention[point]).abs().sum(dim=1) for point in chosen]
        chosen.append(int(torch.stack(differences).amin(dim=0).argmax()))
    return chosen


def labelled(panels, columns, gap=8, size=22):
    """[(label, image)], the images of one size -> one image, row by row on white; "" leaves a label out."""
    width, height, font = *(side + gap for side in panels[0][1].size), ImageFont.load_default(size)
    heads = [(size + gap) * any(label for label, _ in panels[i : i + columns]) for i in range(0, len(panels), columns)]
    sheet = Image.new("RGB", (columns * width + gap, len(heads) * height + sum(heads) + gap), "white")
    for place, (label, image) in enumerate(panels):
        row, column = divmod(place, columns)
        x, y = column * width + gap, row * height + sum(heads[:row]) + gap
        ImageDraw.Draw(sheet).text((x, y), label, "black", font)
        sheet.paste(image, (x, y + heads[row]))
    return sheet


def attention_row(picture, attention):
    """A picture (3, H, W) with coloured points, then where each of them looks by the map (N, N) -> Pillow images.

    The square root of the map is drawn, because most maps are a few bright points and would look black elsewhere.
    """
    picture = Image.fromarray(picture.permute(1, 2, 0).numpy())
    picture = ImageOps.scale(picture, max(2, 192 // picture.width))  # as wide as the labels above need
    row, grey = [picture], picture.convert("L").point(lambda value: 0.4 * value + 50).convert("RGB")
    side = math.isqrt(len(attention))
    cell = picture.width // side
    for point, colour in zip(query_points(attention, len(COLOURS)), COLOURS, strict=True):
        heat = (attention[point] / attention[point].max()).sqrt().mul(255).byte().view(side, side)
        heat = Image.fromarray(heat.numpy()).resize(grey.size, Image.Resampling.BILINEAR)
        row.append(Image.composite(Image.new("RGB", grey.size, colour), grey, heat))
        y, x = (cell * place for place in divmod(point, side))
        box = x - 2, y - 2, x + cell + 1, y + cell + 1
        ImageDraw.Draw(picture).rectangle(box, colour, "white", width=2)
        ImageDraw.Draw(row[-1]).rectangle(box, None, "white", width=2)
    return row


def attention_sheet(generator, seed, dogs=4):
    """Figure 2: a row for each dog, and so for each layer with attention."""
    pictures, maps = attention_maps(generator, latents(seed, dogs))
    panels = []
    for r, layer in maps.items():
        labels = [f"5 of {r}x{r} points", *(f"{colour} looks at" for colour in COLOURS)]  # above the first dog
        images = [image for dog in zip(pictures, layer, strict=True) for image in attention_row(*dog)]
        panels += zip_longest(labels, images, fillvalue="")
    return labelled(panels, columns=1 + len(COLOURS))


def gamma_sheet(generator, seed, factors=(1.5, 1, 0.75, 0.5, 0.25, 0), dogs=6):
    """The same dogs in every row, with the gammas of all layers at these factors of what was learned."""
    rows = []
    for factor in factors:
        scaled = deepcopy(generator)
        for layer in scaled.attention.values():
            layer.gamma.data *= factor
        row = ImageOps.scale(image_grid(generate(scaled, latents(seed, dogs)), columns=dogs), 2)
        rows.append((f"{factor:.0%} of the learned gamma", row))
    return labelled(rows, columns=1)


def save_picture(image, path):
    """Write a Pillow image to a file whose name says the format.  Raises UserError if it says none of FORMATS."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: a picture's name must end in {', '.join(FORMATS)}; a folder goes with --count")
    with atomic_write(path) as temporary:
        image.save(temporary, FORMATS[path.suffix.lower()], quality=90)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, nargs="?", default=PRETRAINED, metavar="RUN", help="a run folder, or a snapshot (.pt)")
    add("--step", type=number(int, 0), help="the snapshot of this step; default: the newest")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", type=number(int, 1, 10**6), metavar="N", help="write N single pictures")
    what.add_argument("--attention", action="store_true", help="draw where points of generated dogs look")
    what.add_argument("--gamma", action="store_true", help="draw the same dogs with other gammas")
    what.add_argument("--interpolate", action="store_true", help="draw the way from one dog to another")
    add("--out", type=Path, help="the .png or .jpg, with --count the folder; default: in the run folder, or here")
    parser.add_seed_and_device()
    args = parser.parse_args()
    generator, step = load_generator(find_snapshot(args.run, args.step), args.device)
    folder = Path() if args.run.suffix == ".pt" else args.run
    if (args.attention or args.gamma) and not generator.attention:
        raise UserError(f"{args.run}: this generator was trained without attention, so there is nothing to show")
    if args.count:
        write_pictures(generator, args.seed, args.count, args.out or folder / f"pictures-{step:06d}")
        return
    if args.attention:
        name, picture = "attention", attention_sheet(generator, args.seed)
    elif args.gamma:
        name, picture = "gamma", gamma_sheet(generator, args.seed)
    elif args.interpolate:
        name, picture = "interpolation", image_grid(interpolation(generator, args.seed))
    else:
        name, picture = "grid", image_grid(generate(generator, latents(args.seed, 64)))
    out = args.out or folder / f"{name}-{step:06d}.png"
    save_picture(picture, out)
    print(out)


if __name__ == "__main__":
    run_script(main)
