"""How fast is it here?  A markdown table, in under three minutes on two idle CPU cores.

    python -m tools.bench
    python -m tools.bench --device cuda --rounds 20

Ways of doing the same take turns, and the median of each counts: ratios hold, speeds are this machine's.
"""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import distances
import fid
import train
from attention import attend, attend_fast
from common import Parser, number, run_script
from config import has_bfloat16
from data import list_images
from inception import FEATURES, Inception, load_inception
from parallel import to_device


def medians(ways, rounds, device="cpu"):
    """{name: function} -> {name: median seconds}; a b c a b c ..., after one turn of each that doesn't count."""
    seconds = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_rows(what, seconds, unit, count=None):
    """Rows of the table; `count`: how many are done in these seconds, None: the seconds themselves are the figure."""
    first = next(iter(seconds.values()))
    for name, each in seconds.items():
        print(
            f"| {what} | {name} | {count / each if count else each:,.1f} {unit} | {first / each:.2f} x |", flush=True
        )


def training(device, *arguments):
    """A function that does one turn of train.py's loop, of the given number: all but the log and the files.

    Its photos are 1,000 of noise, 64x64; as in a training, one step in eight has R1, that of number 0 the first.
    """
    options = train.parse_options(["--data=.", "--out=none", f"--device={device}", *arguments])
    gan = train.make_gan(64, options, device)
    photos = torch.randint(256, (1000, 3, 64, 64), dtype=torch.uint8).to(device)

    def turn(step):
        batch = train.draw_batch(options.seed, step, options.batch, len(photos), options.translation * 64)
        r1_weight = options.r1 / 2 * train.R1_EVERY if step % train.R1_EVERY == 0 else 0
        figures = train.train_step(gan, photos, to_device(batch, device), r1_weight)
        train.update_ema(gan, step, options.ema)
        return figures

    return turn


def bench_training(device, rounds):
    precisions = ["fp32", "bf16"] if has_bfloat16(device) else ["fp32"]
    for width, batch, side in ((32, 16, 16), (64, 32, 32)):  # the Makefile's size, and train.py's at half its batch
        size, ways = [f"--width={width}", f"--batch={batch}", f"--attn-at={side}"], {}
        for precision in precisions:
            for name, more in ((precision, ()), (f"{precision}, no attention", ("--no-gen-attn", "--no-disc-attn"))):
                turn = training(device, f"--precision={precision}", *size, *more)
                ways |= {(name, step): lambda turn=turn, step=step: turn(step) for step in (0, 1)}
        found = medians(ways, rounds, device)
        seconds = {name: (found[name, 0] + 7 * found[name, 1]) / 8 for name, _ in found}
        print_rows(f"training, width {width}, batch {batch}, attention at {side}x{side}", seconds, "images/s", batch)


def fused(query, key, value):
    """Torch's own attention; it wants heads, one here."""
    return F.scaled_dot_product_attention(*(x[:, None] for x in (query, key, value)), scale=1.0)[:, 0]


def bench_attention(device, rounds):
    for side, channels in ((16, 128), (32, 64)):  # as in the networks of width 64
        widths = (channels // 8, channels // 8, channels)
        inputs = [torch.randn(64, side**2, width, device=device, requires_grad=True) for width in widths]
        ways = {"the formula": attend, "attend_fast": attend_fast, "torch's scaled_dot_product_attention": fused}
        ways = {
            name: lambda way=way, inputs=inputs: torch.autograd.grad(way(*inputs).square().sum(), inputs)
            for name, way in ways.items()
        }
        what = f"attention and its gradient, {side}x{side}, {channels} channels"
        print_rows(what, medians(ways, rounds, device), "maps/s", 64)


def bench_fid(device, rounds, folder):
    plain = Inception().eval()
    torch.save(plain.state_dict(), folder / "weights.pt")
    plain.to(device)
    with redirect_stderr(io.StringIO()):  # these aren't the usual weights
        ours = load_inception(folder / "weights.pt", device)
    (folder / "pictures").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"pictures/{index}.png")
    images = torch.rand(32, 3, 64, 64)
    ways = {"as the file has it": lambda: plain(images), "folded, channels last": lambda: ours(images)}
    print_rows("Inception, 64x64 pictures", medians(ways, rounds, device), "pictures/s", 32)

    def one_by_one():
        pictures = (plain(fid.read_picture(path)[None]) for path in list_images(folder / "pictures"))
        distances.collect(pictures, FEATURES)

    def by_fid():
        paths = list_images(folder / "pictures")
        with redirect_stderr(io.StringIO()):
            distances.collect(fid.features_of(fid.read_batches(paths), ours, "pictures", len(paths)), FEATURES)

    found = medians({"one by one": one_by_one, "by fid.py": by_fid}, (rounds + 1) // 2, device)
    print_rows("PNG files to statistics", found, "pictures/s", 64)


def bench_start(rounds):
    commands = {"import torch": ["-c", "import torch"], "python train.py --help": [train.__file__, "--help"]}
    ways = {
        name: lambda rest=rest: subprocess.run([sys.executable, *rest], check=True, stdout=subprocess.DEVNULL)
        for name, rest in commands.items()
    }
    print_rows("start", medians(ways, rounds), "s")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=number(int, 1), default=3, help="turns of each, after the first")
    parser.add_seed_and_device()
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    name = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    print(f"torch {torch.__version__}, {name}, {torch.get_num_threads()} CPU threads\n")
    print("| what | how | speed | to the first |\n| --- | --- | --- | --- |")
    bench_training(options.device, options.rounds)
    bench_attention(options.device, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        bench_fid(options.device, options.rounds, Path(folder))
    bench_start(options.rounds)


if __name__ == "__main__":
    run_script(main)
