"""Kill a training again and again, and see whether it ends as the one that nobody killed.

    python tools/torture.py            50 kills
    python tools/torture.py 500

A small run, which writes a row of its log after every step and saves after every fourth, is killed with SIGKILL at
random moments, in its training or its start, and resumed until it is done.  Then its weights, its log (but for the
speed) and its files must be, to the bit, those of a run that nobody killed.
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

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
OPTIONS = ["--width=4", "--batch=4", "--steps=80", "--log-every=1", "--sample-every=4"]
OPTIONS += ["--device=cpu", "--precision=fp32"]


def live(data, out, seconds=None, from_start=False):
    """Begin or resume a run, kill it so long after its first row (or its start) -> whether it was killed."""
    how = "--resume" if (out / "config.json").exists() else "--out"
    command = [sys.executable, TRAIN, how, out, "--data", data, *OPTIONS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes) as process:
        lines = []
        if seconds is not None and not from_start:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("step"):
                    break
        try:
            output = "".join(lines) + process.communicate(timeout=600 if seconds is None else seconds)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            assert seconds is not None, f"{out}: no end after ten minutes"
            return True
    assert process.returncode == 0, output
    return False


def contents(out):
    """{file: what is in it}, without what may differ: speeds, the log's length for them, where the run lies."""
    found = {}
    for path in (path for path in out.rglob("*") if path.is_file() and path.name[0] != "."):
        content = None
        if path.suffix == ".png":
            content = torch.from_numpy(np.array(Image.open(path)))
        elif path.suffix == ".pt":
            content = torch.load(path, weights_only=True)
            content = {key: value for key, value in content.items() if key != "config"}
        elif path.suffix == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                content = [row | {"images_per_s": None} for row in csv.DictReader(file)]
        found[str(path.relative_to(out))] = content
    return found


def assert_same(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys(), f"files of one run alone: {sorted(one.keys() ^ other.keys())}"
    for name in one:
        if name.endswith(".csv"):
            assert one[name] == other[name], f"{name}: other rows"
        else:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, msg=lambda m, name=name: f"{name}: {m}")


def torture(folder, kills):
    """AssertionError if one of the killed runs ends otherwise than the first."""
    rng, photos, spared = random.Random(0), folder / "photos", folder / "spared"
    photos.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(photos / f"{index:02d}.png")
    live(photos, spared)
    killed = runs = 0
    while killed < kills:
        out, alive = folder / f"killed-{runs}", True
        while alive:
            from_start = rng.random() < 0.2
            seconds = rng.uniform(0, 4 if from_start else 1) if killed < kills else None
            alive = live(photos, out, seconds, from_start)
            killed += alive
        assert_same(spared, out)
        runs += 1
        print(f"{killed} kills; {runs} runs ended as the one that nobody killed", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torture(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 50)
