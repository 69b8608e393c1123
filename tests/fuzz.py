"""Throw bad options and broken files at the five scripts, and see whether each says in one line what is wrong.

    python tests/fuzz.py               20 minutes of it
    python tests/fuzz.py 60 7          60 seconds, other cases

Each case spoils one option or one file of a small world (photos, a run, statistics, a copy of the dogs) and starts a
script on it.  Good is: exit status 0 (harmless after all), or exit status 2 with one line that begins with the
script's name, and not a file changed.
"""

import contextlib
import io
import os
import random
import re
import runpy
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SMALL = "--width 4 --batch 4 --z-dim 8 --attn-at 16 --device cpu --precision fp32 --save-every 1 --log-every 1"
COMMANDS = [
    f"train.py --data photos --out new --steps 1 {SMALL}",
    "train.py --resume run --steps 3",
    "sample.py run --device cpu",
    "sample.py run/checkpoint.pt --device cpu",
    "sample.py run --device cpu --count 3 --out pictures",
    "sample.py run --device cpu --attention",
    "sample.py run --device cpu --export small.pt",
    "report.py run --out page.html",
    "fid.py photos stats.npz --weights random --device cpu",
    "fid.py photos more --weights random --device cpu",
    "fid.py stats.npz other.npz",
    "fid.py photos more --device cpu --weights weights.pth",
    "data.py --source dogs --out crops",
    "data.py --source dogs --out crops --split --size 32",
]
VALUES = ["-1", "0", "1e308", "nan", "inf", "-inf", "1.5", "99999999999999999999", "0x10", "1_0", " 2", "", "x"]
VALUES += ["\u00e9", "a\nb", "..", "/dev/null", "--", "nix", "run", "photos", "photos/0_0.png", "[]", "cuda:9"]
LONG = {"--steps": 3}  # a sound larger number would only take long


def make_world():
    """Small files, in the current folder, of every kind that the scripts read."""
    rng = np.random.default_rng(0)
    for name in ("photos", "more"):
        Path(name).mkdir()
        for index in range(4):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{name}/{index % 2}_{index}.png")
    for part in ("Images", "Annotation"):
        Path("dogs", part, "n1-dog").mkdir(parents=True)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(f"dogs/Images/n1-dog/n1_{index}.jpg")
        box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
        size = "<size><width>50</width><height>40</height></size>"
        Path(f"dogs/Annotation/n1-dog/n1_{index}").write_text(f"<annotation>{size}{box}</annotation>")
    for name in ("stats", "other"):
        features = rng.normal(size=(5, 2048))
        sigma = np.cov(features, rowvar=False).astype(np.float32)
        np.savez(f"{name}.npz", mu=features.mean(0), sigma=sigma, count=5, weights="random 1")
    torch.save({"fc.weight": torch.zeros(3, 3)}, "weights.pth")
    status, _, errors = start(f"train.py --data photos --out run --steps 2 {SMALL}".split())
    assert status == 0, errors


class Hang(BaseException):
    """No Exception, which the scripts could take for a fault of the input."""


def start(arguments, limit=60):
    """Run a script in this process -> exit status, stdout, stderr.  Raises Hang if it takes too long."""

    def alarm(*_):
        raise Hang(f"still at work after {limit} seconds")

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, arguments
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(limit)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code or 0
    finally:
        signal.alarm(0)
        sys.argv = before
    return status, out.getvalue(), err.getvalue()


class Bomb:
    """What a malicious checkpoint holds: unpickling it would write a file."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def wide_png(width, height):
    """A sound PNG of one colour, however large: compressed it is small."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"\0" * min((width + 1) * height, 10**8), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def spoil(path, rng):
    """Do one bad thing to a file, or beside it -> what it was."""
    content = path.read_bytes()
    at = rng.randrange(len(content)) if content else 0
    flipped = bytes([byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1]])
    others = sorted(other for other in Path().rglob("*") if other.is_file())
    names = [b"/a\nb.png", b"/\xff\xfe.png", b"/ .png"]
    ways = {
        "cut": lambda: path.write_bytes(content[: len(content) * rng.randrange(10) // 10]),
        "a flipped bit": lambda: path.write_bytes(content[:at] + flipped + content[at + 1 :]),
        "noise": lambda: path.write_bytes(rng.randbytes(rng.randrange(2000))),
        "zeros in it": lambda: path.write_bytes(content[:at] + bytes(100) + content[at + 100 :]),
        "a folder": lambda: (path.unlink(), path.mkdir()),
        "a loop": lambda: (path.unlink(), path.symlink_to(path)),
        "gone": path.unlink,
        "a dangling link": lambda: (path.unlink(), path.symlink_to("nix")),
        "another file": lambda: path.write_bytes(rng.choice(others).read_bytes()),
        "a pickle that runs code": lambda: torch.save(rng.choice([Bomb(), {"generator": Bomb()}]), path),
        "a strange checkpoint": lambda: strange_checkpoint(path, rng),
        "a wide picture": lambda: path.write_bytes(wide_png(1_000_000, 3)),
        "a decompression bomb": lambda: path.write_bytes(wide_png(30_000, 30_000)),
        "an XML bomb": lambda: path.write_text(XML_BOMB, encoding=rng.choice(["utf-8", "utf-16"])),
        "an external entity": lambda: path.write_text(EXTERNAL),
        "a strange name": lambda: shutil.copy(path, os.fsencode(path.parent) + rng.choice(names)),
    }
    name = rng.choice(list(ways))
    ways[name]()
    return f"{path}: {name} (at byte {at})"


XML_BOMB = '<!DOCTYPE a [<!ENTITY b0 "dog">' + "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 10))
XML_BOMB += "]><annotation><size><width>&b9;</width></size></annotation>"
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><name>&x;</name></annotation>'


def strange_checkpoint(path, rng):
    """A well-formed .pt file with a part missing, renamed, of another type or shape, or not finite."""
    content = torch.load("run/checkpoint.pt", weights_only=True)
    key = rng.choice(list(content))
    wrong = [None, 7, "x", [], {}, torch.zeros(3), float("nan"), float("inf"), {"step": {}}, -1]
    if rng.random() < 0.3:
        del content[key]
    elif rng.random() < 0.5 and isinstance(content[key], dict) and content[key]:
        inner = rng.choice(list(content[key]))
        content[key][inner] = rng.choice(wrong)
    else:
        content[key] = rng.choice(wrong)
    torch.save(content, path)


def picture_of(folder):
    """All that is in a folder, to see whether it changed; kept statistics may be new."""
    found = {}
    for path in folder.rglob("*"):
        if not path.name.endswith(".fid.npz"):
            status = path.lstat()
            found[path] = (status.st_mode, None if path.is_dir() else (status.st_size, status.st_mtime_ns))
    return found


def spoil_option(arguments, rng):
    """One option of a script, given or new, with a bad value."""
    options = {"--seed", "--device", *re.findall(r'"(--[a-z-]+)"', (ROOT / arguments[0]).read_text())}
    option, value = rng.choice(sorted(options)), rng.choice(VALUES)
    if option in LONG and value == "99999999999999999999":
        value = "-5"
    if rng.random() < 0.1:
        option = option[:-1]  # no abbreviations
    return [*arguments, option, value], f"{option} {value!r}"


def attempt(rng, world):
    """One case in a fresh copy of the world -> (name, what went wrong or None, exit status)."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copytree(world, ".", dirs_exist_ok=True)
        arguments = rng.choice(COMMANDS).split()
        if rng.random() < 0.4:
            arguments, what = spoil_option(arguments, rng)
        else:
            used = {argument.split("/")[0] for argument in arguments if not argument.startswith("--")}
            files = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] in used]
            what = spoil(rng.choice(sorted(files)), rng)
        name, before = f"{' '.join(arguments)}   [{what}]", picture_of(Path())
        try:
            status, _, errors = start(arguments)
        except (Exception, Hang) as error:
            return name, f"{type(error).__name__}: {error}", None
        told = [
            line for line in errors.splitlines() if line.startswith(f"{arguments[0]}: ") and "warning: " not in line
        ]
        if Path("pwned").exists():
            return name, "code in a file was run", status
        if status not in (0, 2):
            return name, f"exit status {status}: {errors}", status
        if status == 2 and (len(told) != 1 or len(told[0]) > 600 or "Traceback" in errors):
            return name, f"not one line: {errors}", status
        if status == 2 and before != (after := picture_of(Path())):
            return name, f"changed: {sorted(map(str, before.items() ^ after.items()))[:4]} ({told[0]})", status
        return name, None, status


def fuzz(seconds=None, cases=None, seed=0):
    """Cases until the time is over or there were so many -> what went wrong: [(case, fault)]."""
    faults, statuses, end = [], Counter(), time.monotonic() + (seconds or 1e9)
    with tempfile.TemporaryDirectory() as world, contextlib.chdir(world):
        make_world()
        number = 0
        while time.monotonic() < end and number != cases:
            name, fault, status = attempt(random.Random(f"{seed} {number}"), world)
            statuses[status] += 1
            if fault:
                faults.append((name, fault))
                print(f"case {number}: {name}\n    {fault}", flush=True)
            number += 1
    print(f"{number} cases: {statuses[2]} refused, {statuses[0]} harmless, {len(faults)} faults", flush=True)
    return faults


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(bool(fuzz(float(sys.argv[1]) if len(sys.argv) > 1 else 1200, seed=int([*sys.argv, 0, 0][2]))))
