"""Kill a training again and again, and see whether it ends as the one that was left alone.

    python tests/torture.py            50 kills (`make torture`)
    python tests/torture.py 500

A small run is killed with SIGKILL at random moments, mostly while it trains and writes (a row of the log after every
step, a checkpoint after every third, a sheet and a snapshot after every fourth), sometimes while it starts, and is
resumed until it's done.  Then its weights, its log (but for the speeds) and its files must be, to the bit, those of
a run that nobody killed.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ["--width=4", "--batch=4", "--z-dim=8", "--attn-at=16", "--device=cpu", "--steps=80"]
OPTIONS += ["--log-every=1", "--save-every=3", "--sample-every=4"]


def draw_photos(folder):
    """Twenty pictures of noise, 32x32: enough for a run that isn't looked at."""
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")


def start(data, out):
    """A process that begins the run, or goes on with it."""
    how = "--resume" if (out / "config.json").exists() else "--out"
    command = [sys.executable, ROOT / "train.py", how, out, "--data", data, *OPTIONS]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    more["env"] = os.environ | {"OMP_NUM_THREADS": "1"}  # quicker for such small networks
    return subprocess.Popen([str(part) for part in command], **more)


def live(data, out, dies_after=None, in_the_start=False):
    """Let the run live for so many seconds after its first step (or its start) -> whether it was killed."""
    with start(data, out) as process:
        lines = []
        while dies_after is not None and not in_the_start and (line := process.stdout.readline()):
            lines.append(line)
            if line.startswith("step"):
                break
        try:
            output = "".join(lines) + process.communicate(timeout=600 if dies_after is None else dies_after)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            assert dies_after is not None, f"{out}: no end after ten minutes"
            return True
    assert process.returncode == 0, output
    return False


def contents(out):
    """All that a run leaves, by file name: what may differ (speeds, where it lies, the log's length) left out."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.suffix == ".png":
            found[path.relative_to(out)] = np.asarray(Image.open(path))
        elif path.suffix == ".pt":
            found[path.relative_to(out)] = torch.load(path, weights_only=True)
            for key in ("config", "log_bytes"):
                found[path.relative_to(out)].pop(key, None)
        elif path.name == "log.csv":
            with open(path, newline="") as file:
                found[path.relative_to(out)] = [{**row, "images_per_s": ""} for row in csv.DictReader(file)]
        elif path.is_file():
            found[path.relative_to(out)] = path.name
    return found


def assert_same(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    for name in one:
        if name.suffix == ".pt":
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
        else:
            assert np.array_equal(one[name], other[name]), name


def torture(folder, kills, seed=0):
    """Kill runs in `folder` until there were so many kills; AssertionError if one ends otherwise than the first."""
    rng, data = random.Random(seed), folder / "photos"
    draw_photos(data)
    live(data, folder / "spared")
    done = runs = 0
    while done < kills:
        out, alive = folder / f"killed-{runs}", True
        while alive:
            in_the_start = rng.random() < 0.2
            seconds = rng.uniform(0, 4) if in_the_start else rng.uniform(0, 1)
            alive = live(data, out, seconds if done < kills else None, in_the_start)
            done += alive
        assert_same(folder / "spared", out)
        runs += 1
        print(f"{done} kills, {runs} runs ended as the one that was left alone", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torture(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 50)
