"""A page to play with: a trained generator in one HTML file, which opens from the disk and needs no network.

python look.py                      pretrained.pt -> look.html
python look.py runs/full            a run: its newest snapshot and up to five earlier ones -> runs/full/look.html

The page computes its pictures itself.  This script puts into look-template.html the forward pass in JavaScript,
look-generator.js, and the weights.  A generator of 64x64 pixels and width 64 takes 3.6 MB a snapshot.
"""

import base64
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common import Parser, html_file, run_script
from files import atomic_write
from snapshots import PRETRAINED, find_snapshot, latents, list_snapshots, load_generator

PARTS = "look-template.html", "look-generator.js"


def array(tensor, kind="float32"):
    """A tensor -> {"float32": its numbers in base64}, or {"int8": ...}, which the page makes a typed array again."""
    return {kind: base64.b64encode(tensor.numpy().astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()}


def block(layers, int8):
    """A generator's block -> its convolution's weight (out, in, k, k), and a scale and a bias for each output channel.

    The first block's weight becomes (out, 4, 4, in), for z a matrix.  Scale and bias are batch norm in evaluation:
    it multiplies each channel by a constant and adds another.  int8: the weights of each output channel are rounded
    to 255 steps, a quarter of the size.  For 64 dogs of pretrained.pt this moved the pixels by 0.5 of 255 in the mean,
    and in 3 % of the attention maps' rows another place was the most looked at.
    """
    conv, norm = (layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)))
    weight = conv.weight.permute(1, 2, 3, 0) if isinstance(conv, nn.ConvTranspose2d) else conv.weight
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - scale * norm.running_mean
    if int8:
        step = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / 127
        weight, scale = (weight / step[:, None, None, None]).round(), scale * step
    return {"weight": array(weight, "int8" if int8 else "float32"), "scale": array(scale), "bias": array(bias)}


@torch.no_grad()
def pack(generator, step, int8=True):
    """A generator in evaluation mode -> what the page needs of it, for json.dumps, named as in model.py.

    Only the blocks are worth rounding to int8: the layers with attention and to_rgb have 0.2 % of the weights.
    """
    rgb = generator.to_rgb
    return {
        "step": step,
        "blocks": {r: block(layers, int8) for r, layers in generator.blocks.items()},
        "attention": {
            r: {name: array(getattr(layer, name).weight) for name in ("query", "key", "value")}
            | {"gamma": layer.gamma.item()}
            for r, layer in generator.attention.items()
        },
        "to_rgb": {"weight": array(rgb.weight), "scale": array(torch.ones(3)), "bias": array(rgb.bias)},
    }


def page(snapshots):
    """The packed snapshots of a training, the oldest first -> the page's HTML."""
    # z of the first 64 dogs comes along, so that they are those of `python sample.py`: JavaScript can't draw torch's.
    data = json.dumps({"z": array(latents(0, 64)), "snapshots": snapshots})
    template, generator = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in PARTS)
    return template.replace("GENERATOR", generator).replace("DATA", data)


def over_training(steps, count=6):
    """Up to `count` of the sorted steps, first and last included, each about the same multiple of the one before.

    Pictures change most at the start: of 30,000 steps this takes 500, 1,000, 2,500, 5,000, 15,000 and 30,000.
    """
    wanted = np.geomspace(max(1, steps[0]), steps[-1], count)
    return sorted({min(steps, key=lambda step: abs(step - want)) for want in wanted})


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, nargs="?", default=PRETRAINED, metavar="RUN", help="a run folder, or a snapshot (.pt)")
    add("--out", type=html_file, help="the page to write; default: look.html in the run folder, or here")
    args = parser.parse_args()
    paths, folder = [find_snapshot(args.run)], Path()
    if args.run.suffix != ".pt":
        folder = args.run
        snapshots = list_snapshots(folder)
        paths = [snapshots[step] for step in over_training(sorted(snapshots))]
    text = page([pack(*load_generator(path)) for path in paths])
    out = args.out or folder / "look.html"
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}: {len(text) / 1e6:.1f} MB, open it in a browser")


if __name__ == "__main__":
    run_script(main)
