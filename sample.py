"""Pictures from a trained generator.

python sample.py                                        dogs of the generator that comes along, pretrained.pt
python sample.py runs/full                              an 8x8 grid -> runs/full/grid-030000.png
python sample.py runs/full --count 5000 --out fake/     5,000 PNG files, for FID tools
python sample.py runs/full --attention                  where points of a dog look (figure 2)
python sample.py runs/full --interpolate                from one dog to another, eight pictures a row
python sample.py runs/full --step 5000                  any of these from an earlier snapshot
"""

import math
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from common import Parser, Progress, UserError, atomic_write, load_checkpoint, number, run_script
from data import image_grid, new_folder
from model import Z_DIM, Generator, build, generate, to_uint8

PRETRAINED = Path(__file__).with_name("pretrained.pt")
COLOURS = [(255, 64, 64), (64, 224, 64), (80, 144, 255), (255, 208, 0), (240, 96, 255)]  # of the query points


def find_snapshot(place, step=None):
    """The snapshot of a step, or the newest, in a run folder; a .pt file is its own.  Raises UserError if none."""
    if place.suffix == ".pt":
        if step is not None:
            raise UserError(f"{place} is one snapshot: --step goes with a run folder")
        return place
    snapshots = {int(path.stem): path for path in (place / "snapshots").glob("*.pt") if path.stem.isdigit()}
    if not snapshots:
        raise UserError(f"{place}: no snapshots there (train.py writes one at step 500, 1000, ... and when it stops)")
    if step is not None and step not in snapshots:
        raise UserError(f"{place}: no snapshot of step {step}; there are {', '.join(map(str, sorted(snapshots)))}")
    return snapshots[max(snapshots) if step is None else step]


def load_generator(path, device="cpu"):
    """A snapshot file -> (Generator in evaluation mode, step).  Raises UserError if it doesn't hold one."""
    snapshot = load_checkpoint(path)
    try:
        generator = build(Generator, snapshot["config"]["size"], snapshot["config"]["options"])
        generator.load_state_dict(snapshot["generator_ema"])
        return generator.to(device).eval(), int(snapshot["step"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: no generator of this program in it ({error})") from None


def latents(seed, count):
    """z (count, Z_DIM): the first of them are the same whatever the count."""
    return torch.randn(count, Z_DIM, generator=torch.Generator().manual_seed(seed))


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
    nearest = torch.full((len(attention),), math.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (attention - attention[chosen[-1]]).abs().sum(dim=1))
        chosen.append(int(nearest.argmax()))
    return chosen


def attention_grid(generator, seed, dogs=6, scale=3):
    """Figure 2: in each row a generated dog with coloured points, then each point again, and where it looks.

    Raises UserError for a generator without attention.
    """
    if not generator.attention:
        raise UserError("this generator was trained without attention: there is nothing to show")
    pictures, maps = attention_maps(generator, latents(seed, dogs))
    side = max(map(int, maps))  # the finest layer's map
    pixels, cell, tiles = pictures.shape[-1] * scale, pictures.shape[-1] * scale // side, []
    for picture, attention in zip(pictures.cpu(), maps[str(side)], strict=True):
        picture = F.interpolate(picture[None].float(), size=(pixels, pixels), mode="bicubic").clamp(0, 255)[0]
        grey, row = picture.mean(dim=0, keepdim=True) * 0.4 + 50, [picture]
        for point, colour in zip(query_points(attention, len(COLOURS)), torch.tensor(COLOURS), strict=True):
            colour = colour[:, None, None]
            heat = attention[point].view(1, 1, side, side) / attention[point].max()
            # The root, so that weak attention is seen too: maps are often a few bright points on near-black.
            heat = F.interpolate(heat.sqrt(), size=(pixels, pixels), mode="bilinear")[0]  # (1, pixels, pixels)
            row.append(grey + heat * (colour - grey))
            y, x = (place * cell for place in divmod(point, side))
            here = slice(y, y + cell), slice(x, x + cell)
            for panel, inside in (picture, colour), (row[-1], row[-1][:, *here].clone()):
                panel[:, max(0, y - 2) : y + cell + 2, max(0, x - 2) : x + cell + 2] = 255
                panel[:, *here] = inside
        tiles += row
    return image_grid(torch.stack(tiles).byte(), columns=1 + len(COLOURS), gap=4)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, nargs="?", default=PRETRAINED, metavar="RUN", help="a run folder, or a snapshot (.pt)")
    add("--step", type=number(int, 0), help="the snapshot of this step; default: the newest")
    add("--count", type=number(int, 1, 10**6), metavar="N", help="write N single pictures")
    add("--attention", action="store_true", help="draw where points of generated dogs look")
    add("--interpolate", action="store_true", help="draw the way from one dog to another")
    add("--out", type=Path, help="the PNG to write, or with --count the folder; default: in the run folder, or here")
    parser.add_seed_and_device()
    args = parser.parse_args()
    if bool(args.count) + args.attention + args.interpolate > 1:
        parser.error("--count, --attention, --interpolate: take one")
    generator, step = load_generator(find_snapshot(args.run, args.step), args.device)
    folder = Path() if args.run.suffix == ".pt" else args.run
    if args.count:
        write_pictures(generator, args.seed, args.count, args.out or folder / f"pictures-{step:06d}")
        return
    if args.attention:
        name, grid = "attention", attention_grid(generator, args.seed)
    elif args.interpolate:
        name, grid = "interpolation", image_grid(interpolation(generator, args.seed))
    else:
        name, grid = "grid", image_grid(generate(generator, latents(args.seed, 64)))
    out = args.out or folder / f"{name}-{step:06d}.png"
    with atomic_write(out) as temporary:
        grid.save(temporary, "PNG")
    print(out)


if __name__ == "__main__":
    run_script(main)
