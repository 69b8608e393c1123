"""Trained generators: the snapshots that a run keeps, and the pictures they draw."""

from pathlib import Path

import torch
from PIL import Image

from common import UserError
from files import load_checkpoint
from model import Z_DIM, Generator, build, to_uint8

PRETRAINED = Path(__file__).with_name("pretrained.pt")


def list_snapshots(run):
    """The snapshots of a run folder: {step: path}."""
    return {int(path.stem): path for path in (run / "snapshots").glob("*.pt") if path.stem.isdigit()}


def find_snapshot(place, step=None):
    """The snapshot of a step, or the newest, in a run folder; a .pt file is its own.  Raises UserError if none."""
    if place.suffix == ".pt":
        if step is not None:
            raise UserError(f"{place} is one snapshot: --step goes with a run folder")
        return place
    if not place.is_dir():
        raise UserError(f"{place}: {'a file, not a run folder' if place.exists() else 'no such run folder'}")
    snapshots = list_snapshots(place)
    if not snapshots:
        raise UserError(f"{place}: no snapshots there (train.py writes one at step 500, 1000, ... and when it stops)")
    if step is not None and step not in snapshots:
        raise UserError(f"{place}: no snapshot of step {step}; there are {', '.join(map(str, sorted(snapshots)))}")
    return snapshots[max(snapshots) if step is None else step]


def load_generator(path, device="cpu"):
    """A snapshot file -> (Generator in evaluation mode, step).  Raises UserError if it doesn't hold one."""
    snapshot = load_checkpoint(path)
    if "generator" in snapshot:  # its averaged generator has the trained one's batch-norm statistics
        raise UserError(f"{path}: a checkpoint, which is for going on; take one of {path.parent / 'snapshots'}")
    try:
        generator = build(Generator, snapshot["config"]["size"], snapshot["config"]["options"])
        generator.load_state_dict(snapshot["generator_ema"])
        return generator.to(device).eval(), int(snapshot["step"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: no generator of this program in it ({error})") from None


def latents(seed, count):
    """z (count, Z_DIM): the first of them are the same whatever the count."""
    return torch.randn(count, Z_DIM, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def generate(generator, z, batch=64):
    """Pictures for z (N, 128), in batches on the generator's device -> uint8 (N, 3, size, size) there.

    The generator is in evaluation mode meanwhile: a picture depends on its z alone, not on the others'.
    """
    device, training = next(generator.parameters()).device, generator.training
    generator.eval()
    pictures = torch.cat([to_uint8(generator(part.to(device))) for part in z.split(batch)])
    generator.train(training)
    return pictures


def image_grid(pictures, columns=8, gap=2):
    """uint8 (N, 3, H, W) -> one Pillow image, row by row, on white."""
    height, width = (side + gap for side in pictures.shape[2:])
    grid = Image.new("RGB", (columns * width + gap, -(-len(pictures) // columns) * height + gap), "white")
    for index, picture in enumerate(pictures.permute(0, 2, 3, 1).cpu().numpy()):
        grid.paste(Image.fromarray(picture), (index % columns * width + gap, index // columns * height + gap))
    return grid
