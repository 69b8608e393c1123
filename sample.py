"""Pictures from a trained generator.

    python sample.py                                        dogs of the small generator that comes along
    python sample.py runs/full                              an 8x8 grid -> runs/full/grid-030000.png
    python sample.py runs/full --count 5000 --out fake/     5,000 PNG files, for FID tools
    python sample.py runs/full --attention                  where points of a dog look (figure 2)
    python sample.py runs/full --interpolate                from one dog to another, in eight steps
    python sample.py runs/full --step 5000                  any of these from an earlier snapshot
    python sample.py runs/full --export small.pt            the averaged generator alone, in half precision

RUN is a run folder or a snapshot (.pt).  The averaged generator is used, or with --raw the trained weights
themselves, as in the article.
"""

import math
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from data import (
    Parser,
    Progress,
    UserError,
    any_process,
    join_processes,
    number,
    rank_and_world,
    read_checkpoint,
    replacing,
    run,
    tile,
    write_checkpoint,
)
from model import Generator, generate, refresh_batch_norm

PRETRAINED = Path(__file__).with_name("pretrained.pt")  # README tells how it was trained
COLOURS = [(255, 64, 64), (64, 224, 64), (80, 144, 255), (255, 208, 0), (240, 96, 255)]  # of the query points


def find_snapshot(place, step=None):
    """The snapshot of a step, or the newest, in a run folder, or its checkpoint; a .pt file is its own.

    Raises UserError if there is none.
    """
    if place.suffix == ".pt":
        if step is not None:
            raise UserError(f"{place} is one snapshot: --step goes with a run folder")
        return place
    snapshots = {int(path.stem): path for path in (place / "snapshots").glob("*.pt") if path.stem.isdigit()}
    if not snapshots and step is None and (place / "checkpoint.pt").exists():
        return place / "checkpoint.pt"
    if not snapshots:
        raise UserError(f"{place}: no snapshots there (train.py writes one at step 500, 1000, ... and at the last)")
    if step is not None and step not in snapshots:
        raise UserError(f"{place}: no snapshot of step {step}; there are {', '.join(map(str, sorted(snapshots)))}")
    return snapshots[max(snapshots) if step is None else step]


def load_generator(path, device="cpu", raw=False):
    """A snapshot file -> (Generator in evaluation mode, step).  Raises UserError if it doesn't hold one."""
    snapshot = read_checkpoint(path)
    if raw and "generator" not in snapshot:
        raise UserError(f"{path} holds no trained weights but their moving average: leave --raw out")
    try:
        options, size = snapshot["config"]["options"], snapshot["config"]["size"]
        at = () if options["no_gen_attn"] else options["attn_at"]
        modulate = options.get("modulate", False)  # pretrained.pt is older than that option
        generator = Generator(size, options["width"], options["z_dim"], at, options["attn_pool"], modulate)
        generator.load_state_dict(snapshot["generator" if raw else "average"])
        if "optimizer_g" in snapshot and not raw:  # a checkpoint: its statistics are those of the trained weights
            refresh_batch_norm(generator, latents(0, 1024, generator.z_dim))
        return generator.to(device, memory_format=torch.channels_last).eval(), int(snapshot["step"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: no generator of this program in it ({error})") from None


def export(path, out):
    """Write the averaged generator of a snapshot to `out`, as half-precision numbers: a quarter of the size.

    Raises UserError if `out` is there already: it may be what a run needs to go on.
    """
    if out.exists():
        raise UserError(f"{out} is there already: choose another name")
    generator, step = load_generator(path)
    half = {k: v.half() if v.is_floating_point() else v for k, v in generator.state_dict().items()}
    write_checkpoint(out, {"average": half, "step": step, "config": read_checkpoint(path)["config"]})
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def latents(seed, count, z_dim):
    """z (at least `count`, z_dim): the first of them are the same whatever the count.

    Rounded up to whole batches, since a batch of another size may differ in the last bit of a float.
    """
    return torch.randn(-(-count // 64) * 64, z_dim, generator=torch.Generator().manual_seed(seed))


def write_pictures(generator, seed, count, out, batch=64):
    """Write `count` PNG files to the folder `out`, under torchrun this process's share of them.

    Raises UserError if there are pictures in it already.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} isn't empty: choose another --out, or old pictures would be counted with the new")
    any_process()  # under torchrun: all have looked at the folder before one writes to it
    out.mkdir(parents=True, exist_ok=True)
    z, progress, (rank, world) = latents(seed, count, generator.z_dim), Progress(), rank_and_world()

    def write(index, picture):
        with replacing(out / f"{index:05d}.png") as temporary:
            Image.fromarray(picture).save(temporary, "PNG")

    with ThreadPool() as pool:
        for start in range(rank * batch, count, world * batch):
            pictures = generate(generator, z[start : start + batch], batch).permute(0, 2, 3, 1).cpu().numpy()
            pool.starmap(write, list(enumerate(pictures, start))[: count - start])
            done = min(start + world * batch, count)
            progress(f"{out}: {done:,} of {count:,} pictures", last=done == count)


def interpolation(generator, seed, rows=8, columns=8):
    """Each row goes from one z to another along an arc, where normal z live, not straight -> uint8 pictures."""
    ends = latents(seed, 2 * rows, generator.z_dim)[: 2 * rows].view(rows, 2, 1, -1)
    a, b = ends[:, 0], ends[:, 1]  # (rows, 1, z_dim)
    angle = F.cosine_similarity(a, b, dim=-1).clamp(-0.999, 0.999).acos()[..., None]  # never 0: it's divided by
    t = torch.linspace(0, 1, columns)[None, :, None]
    z = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)  # (rows, columns, z_dim)
    return generate(generator, z.flatten(0, 1))


@torch.no_grad()
def attention_maps(generator, z):
    """Pictures for z (N, z_dim) and the map of each attention layer: uint8 pictures, {"32": (N, H*W, M)}."""
    seen = {}  # what each layer was given
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: seen.update({layer: inputs[0]}))
        for layer in generator.attention.values()
    ]
    pictures = generate(generator, z, batch=len(z))
    for hook in hooks:
        hook.remove()
    return pictures, {r: layer.map_of(seen[layer]).cpu() for r, layer in generator.attention.items()}


def telling_points(attention, count):
    """Positions that look at different things: from the middle on, always the one whose row of the map (N, M)
    is farthest from all rows chosen."""
    side = math.isqrt(len(attention))
    chosen = [side * (side // 2) + side // 2]
    nearest = torch.full((len(attention),), math.inf)
    while len(chosen) < count:
        distance = (attention - attention[chosen[-1]]).abs().sum(dim=1)
        nearest = torch.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return chosen


def attention_sheet(generator, seed, dogs=6, scale=3):
    """Figure 2: in each row a generated dog with coloured points, then for each point where it looks.

    Raises UserError for a generator without attention.
    """
    if not generator.attention:
        raise UserError("this generator was trained without attention: there is nothing to show")
    pictures, maps = attention_maps(generator, latents(seed, dogs, generator.z_dim)[:dogs])
    side, pixels = max(map(int, maps)), pictures.shape[-1] * scale  # the finest layer's map
    attention = maps[str(side)]
    tiles = []
    for picture, rows in zip(pictures.cpu(), attention, strict=True):
        picture = F.interpolate(picture[None].float(), size=(pixels, pixels), mode="bicubic").clamp(0, 255)[0]
        marked = Image.fromarray(picture.byte().permute(1, 2, 0).numpy())
        draw, overlays = ImageDraw.Draw(marked), []
        for point, colour in zip(telling_points(rows, len(COLOURS)), COLOURS, strict=True):
            y, x = ((place + 0.5) * pixels / side for place in divmod(point, side))
            draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour, outline="white", width=2)
            heat = rows[point].view(1, 1, math.isqrt(rows.shape[1]), -1) / rows[point].max()
            # The root, so that weak attention is seen too: maps are often a few bright points on near-black.
            heat = F.interpolate(heat.sqrt(), size=(pixels, pixels), mode="bilinear")[0]  # (1, pixels, pixels)
            grey = picture.mean(dim=0, keepdim=True) * 0.4 + 50
            overlays.append(grey + heat * (torch.tensor(colour)[:, None, None] - grey))
        tiles += [torch.from_numpy(np.array(marked)).permute(2, 0, 1), *overlays]
    return tile(torch.stack([t.byte() for t in tiles]), columns=1 + len(COLOURS), gap=4)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, nargs="?", default=PRETRAINED, metavar="RUN",
        help="a run folder of train.py, or a snapshot file")  # fmt: skip
    add("--step", type=number(int, 0), help="the snapshot of this step; default: the newest")
    add("--raw", action="store_true", help="the trained weights instead of their moving average")
    add("--count", type=number(int, 1, 10**6), metavar="N", help="write N single pictures")
    add("--attention", action="store_true", help="draw where points of generated dogs look")
    add("--interpolate", action="store_true", help="draw the way from one dog to another")
    add("--export", type=Path, metavar="FILE", help="write the averaged generator to a small snapshot file")
    add("--batch", type=number(int, 1, 10**5), default=64, help="pictures at a time, with --count")
    add("--out", type=Path, help="the picture, or with --count the folder, to write; default: in the run folder")
    parser.add_seed_and_device()
    args = parser.parse_args()
    if bool(args.count) + args.attention + args.interpolate + bool(args.export) > 1:
        parser.error("--count, --attention, --interpolate, --export: take one")
    if args.export and (args.raw or args.out):
        parser.error("--export FILE writes the averaged generator to FILE: leave --raw and --out out")
    snapshot = find_snapshot(args.run, args.step)
    device = join_processes(args.device)
    if not args.count and rank_and_world()[0] > 0:
        return  # one picture is no work to share
    if args.export:
        export(snapshot, args.export)
        return
    generator, step = load_generator(snapshot, device, args.raw)
    folder = Path() if args.run.suffix == ".pt" else args.run
    if args.count:
        write_pictures(generator, args.seed, args.count, args.out or folder / f"pictures-{step:06d}", args.batch)
        return
    if args.attention:
        name, sheet = "attention", attention_sheet(generator, args.seed)
    elif args.interpolate:
        name, sheet = "interpolation", tile(interpolation(generator, args.seed))
    else:
        name, sheet = "grid", tile(generate(generator, latents(args.seed, 64, generator.z_dim)))
    out = args.out or folder / f"{name}{'-raw' * args.raw}-{step:06d}.png"
    with replacing(out) as temporary:
        sheet.save(temporary, "PNG")
    print(out)


if __name__ == "__main__":
    run(main)
