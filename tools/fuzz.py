"""Throw bad options and broken files at the commands: does each say in one line what is wrong?

    python tools/fuzz.py               ten minutes of it, other cases every time
    python tools/fuzz.py 60            an hour
    python tools/fuzz.py --case 123    one case again, with all that it prints

Each case spoils one thing of a small world (photos, a run, statistics, a copy of the dogs): an option's value, a
file, a link, a name or the permissions; and it starts a command with a random encoding.  Good is exit status 0 with
whole files, or 2 with one line that begins with the script's name and no file changed, or 130.  What is harmless must
end with 0, as a log that a spreadsheet saved, and what would give a wrong number with 2, as negative variances.
"""

import argparse
import csv
import ctypes
import io
import json
import os
import random
import re
import resource
import runpy
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from contextlib import chdir
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["http_proxy"] = os.environ["https_proxy"] = "http://127.0.0.1:9"  # nothing is fetched

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import sample  # noqa: F401  (each case is a fork of this process: it needs no time to import torch)
import train
from run import COLUMNS
from tests.golden import recipe

ROOT = Path(train.__file__).parent
MEMORY = 8 * 2**30  # bytes of address space for a case, so that none takes the machine's
SMALL = "--width 4 --batch 4 --log-every 1 --sample-every 1 --device cpu --precision fp32"
COMMANDS = [
    *2 * [f"train.py --data photos --out new --steps 2 {SMALL}"],
    *3 * ["train.py --resume run --steps 3"],
    "sample.py run --device cpu",
    "sample.py run/snapshots/000002.pt --device cpu --out grid.png",
    "sample.py run --device cpu --count 3 --out pictures",
    "sample.py run --device cpu --attention",
    "sample.py run --device cpu --interpolate --step 1",
    "sample.py run --device cpu --gamma",
    *["look.py run --out page.html"] * (ROOT / "look.py").exists(),
    "tools/export.py run/snapshots/000002.pt small.pt",
    *2 * ["fid.py stats.npz other.npz --device cpu"],
    "fid.py stats.npz run --count 10 --weights weights.pth --device cpu",
    "fid.py photos stats.npz --weights weights.pth --device cpu",
    "fid.py photos more --kid --weights weights.pth --device cpu",
    "fid.py --save-stats photos new.npz --weights weights.pth --device cpu",
    *2 * ["data.py --source dogs --out crops"],
    "data.py --source dogs --out crops --split --size 32",
    *2 * ["data.py --pictures photos --out crops"],
    *2 * ["experiment/report.py run --out page.html"],
    "experiment/report.py run twin --out page.html",
    "experiment/registered.py full-0",
    "experiment/distort.py blur=1 photos blurred",
    "experiment/distort.py all photos distorted --count 2",
]
VALUES = ["-1", "0", "1e308", "nan", "inf", "-inf", "1.5", "99999999999999999999", "0x10", "1_0", " 2", "", "x", "é"]
VALUES += ["a\nb", ".", "..", "/", "/dev/null", "--", "nix", "run", "photos", "photos/0.png"]
VALUES += ["[]", "cuda:9", "n" * 300]
NAMES = [b"\xff\xfe", b".hidden", b" ", b'it\'s "1"', b"a\nb", "é😀".encode(), b"-x", b"%s{}", b"n" * 248, b"$(x)&;"]
ENCODINGS = ["utf-8", "utf-8", "ascii", "latin-1", "cp1252", "shift_jis"]
BOMB = '<!DOCTYPE a [<!ENTITY b0 "dog">' + "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 10))
BOMB += "]><annotation><size><width>&b9;</width></size></annotation>"
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><name>&x;</name></annotation>'


# The world ----------------------------------------------------------------------------------------------------


def make_world(outside):
    """In the current folder, small files of every kind that the commands read; the large one is a link to outside."""
    rng = np.random.default_rng(0)

    def draw(path, *size):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)

    for index in range(4):
        draw(Path(f"photos/{index}.png"), 32, 32)
        draw(Path(f"photos/sub/{index}.jpg"), 32, 32)
        draw(Path(f"more/{index}.png"), 40, 30)
    Path("dogs/Annotation/n1-dog").mkdir(parents=True)
    for index in range(10):  # so that each part of a split has two
        draw(Path(f"dogs/Images/n1-dog/n1_{index}.jpg"), 40, 50)
        box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
        box = f"<object><name>dog</name>{box}</object>"
        size = "<size><width>50</width><height>40</height></size>"
        text = f"<annotation>{size}<object><name>dog</name>{box}</object></annotation>"
        Path(f"dogs/Annotation/n1-dog/n1_{index}").write_text(text)
    for name in ("stats", "other"):
        sigma = np.zeros((2048, 2048))  # of 10 pictures, which leaves zeros for float32 to round below zero
        sigma[:64, :64] = np.cov(rng.random((64, 10)))
        np.savez_compressed(f"{name}.npz", mu=rng.random(2048), sigma=sigma, count=10)
    names = recipe.read_names(ROOT / "tests/golden/inception_names.txt")
    torch.save(recipe.synthetic_state_dict(0, names), outside / "weights.pth")
    Path("weights.pth").symlink_to(outside / "weights.pth")
    status, output = start(f"train.py --data photos --out run --steps 2 {SMALL}".split(), random.Random(0))
    assert status == 0, output
    Path("run/metrics.csv").write_text("step,count,distance,fingerprint\n1,4,250.1,x\n2,4,200.2,x\n")
    Path("run/fid.csv").write_text("step,count,fid,fingerprint\n1,4,300.25,x\n2,4,250.5,x\n")
    for name in ("twin", "full-0"):
        shutil.copytree("run", name)


def without_privilege():
    """Let file permissions hold for root, too (Linux): this process gives up CAP_DAC_OVERRIDE and _READ_SEARCH."""
    if os.geteuid() == 0:
        header, sets, libc = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(), ctypes.CDLL(None)
        libc.capget(header, sets)
        sets[0] &= ~0b110  # of what is effective now
        libc.capset(header, sets)


def start(arguments, rng, limit=60):
    """Run a script in a fork of this process -> its exit status, negative if a signal ended it, and its output."""
    encoding, in_c_locale = rng.choice(ENCODINGS), rng.random() < 0.05
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            file.seek(0)
            return status, file.read().decode("utf-8", "replace")
        status = 1
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            without_privilege()
            signal.alarm(limit)  # it ends the process
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if in_c_locale:
                more = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
                command = [sys.executable, "-m", arguments[0].removesuffix(".py").replace("/", "."), *arguments[1:]]
                os.execve(sys.executable, command, os.environ | more | {"PYTHONPATH": str(ROOT)})
            sys.argv = arguments
            sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding)
            sys.stderr = io.TextIOWrapper(sys.stderr.buffer, encoding, "backslashreplace", line_buffering=True)
            runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
            status = 0
        except SystemExit as error:
            status = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)


# Spoiling it --------------------------------------------------------------------------------------------------


class Malice:
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


def spoil_entry(table, wrong, rng):
    """An entry of a table, or of a table in it, goes or gets one of the wrong values."""
    key = rng.choice(list(table))
    while isinstance(table[key], dict) and table[key] and rng.random() < 0.6:
        table = table[key]
        key = rng.choice(list(table))
    if rng.random() < 0.3:
        del table[key]
    else:
        table[key] = rng.choice(wrong)
    return f"entry {key}"


def strange_checkpoint(path, content, rng):
    """A well-formed .pt file with a part missing, of another type or shape, or not finite."""
    content = torch.load(io.BytesIO(content), weights_only=True)
    wrong = [None, 7, "x", [], {}, torch.zeros(3), float("nan"), torch.tensor(torch.inf), {"step": {}}, -1, 10**30]
    what = spoil_entry(content, wrong, rng)
    torch.save(content, path)
    return what


def edited_config(path, content, rng):
    """A JSON file that somebody edited by hand."""
    content = json.loads(content)
    what = spoil_entry(content, [None, 7, "x", [], {}, float("nan"), -1, 10**30, True, [1], "é", 0.5, "8"], rng)
    path.write_text(json.dumps(content), encoding=rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return what


def edited_table(path, content, rng):
    """A .csv file that another program saved: its steps and figures are there, or some are not."""
    header, *rows = csv.reader(content.decode().splitlines())
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    word = rng.choice(["", "x", "nan", "inf", "-1", "1e999", "1,5", "é", "9" * 30])
    ways = {
        "harmless: Windows's line ends": lambda: {"lineterminator": "\r\n"},
        "harmless: a BOM": lambda: {"encoding": "utf-8-sig"},
        "harmless: quoted": lambda: {"quoting": csv.QUOTE_ALL},
        "harmless: fewer digits": lambda: row.__setitem__(1, row[1].rstrip("0")[:6]),
        "harmless: an empty line": lambda: rows.insert(rng.randrange(3), []),
        "harmless: half a row": lambda: rows.append(row[: len(row) // 2]),
        "harmless: a line of text": lambda: rows.insert(rng.randrange(3), ["look at this"]),
        "another delimiter": lambda: {"delimiter": rng.choice(";\t")},
        "another encoding": lambda: {"encoding": "utf-16"},
        "a row twice": lambda: rows.append(list(row)),
        "another order": lambda: rows.reverse(),
        "no header": header.clear,
        "a column fewer": lambda: [one.pop(column) for one in (header, *rows)],
        f"{header[column]} is {word}": lambda: row.__setitem__(column, word),
    }
    way = rng.choice(list(ways))
    changed = ways[way]()
    how = {"lineterminator": "\n", **(changed if isinstance(changed, dict) else {})}
    with open(path, "w", encoding=how.pop("encoding", "utf-8"), newline="") as file:
        csv.writer(file, **how).writerows([header, *rows])
    return way


def strange_statistics(path, content, rng):
    """An .npz of another type, of other shapes, or of no covariance."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    at, name = rng.randrange(64), rng.choice(["mu", "sigma"])
    ways = {
        "harmless: float32": lambda: arrays.update({name: arrays[name].astype("f4") for name in ("mu", "sigma")}),
        "harmless: no count": lambda: arrays.pop("count"),
        "must be refused: not finite": lambda: arrays[name].__setitem__(at, rng.choice([np.nan, np.inf])),
        "must be refused: a negative variance": lambda: arrays["sigma"].__setitem__((at, at), -5),
        "must be refused: not symmetric": lambda: arrays["sigma"].__setitem__((at, 64 + at), 1),
        "must be refused: an entry fewer": lambda: arrays.pop(name),
        "must be refused: another shape": lambda: arrays.update({name: arrays[name][:-1]}),
        "must be refused: objects": lambda: arrays.update({name: arrays[name].astype(object)}),
        "float16": lambda: arrays.update({name: arrays[name].astype("f2")}),
        "a strange count": lambda: arrays.update(count=rng.choice([-1, 0, "x", [1, 2], np.nan, 10**18])),
    }
    way = rng.choice(list(ways))
    ways[way]()
    np.savez_compressed(path, **arrays)
    return way


def strange_annotation(path, content, rng):
    """An annotation with other numbers, things or parts; whatever it holds, the other photos must be cropped."""
    numbers = ["0", "-5", "1", "20", "25", "40", "100", "5.5", "1e9", "1e999", "nan", "", "x"]
    text = content.decode()
    for _ in range(rng.randrange(1, 5)):
        tag = rng.choice(["width", "height", "xmin", "ymin", "xmax", "ymax"])
        text = re.sub(f"<{tag}>[^<]*", f"<{tag}>{rng.choice(numbers)}", text)
    box = re.search("<bndbox>.*</bndbox>", text)[0]
    ways = {
        "other numbers": text,
        "no size": re.sub("<size>.*</size>", "", text),
        "no box": text.replace(box, ""),
        "another thing": text.replace(">dog<", f">{rng.choice(['person', '', 'é', 'n' * 999])}<"),
        "a part": text.replace(box, f"{box}<part><name>head</name>{box}</part>"),
        "many boxes": text.replace(box, 100 * box),
    }
    way = rng.choice(list(ways))
    path.write_text(ways[way], encoding="utf-8")
    return f"harmless: {way}: {ways[way][:400]}"


STRANGE = {".pt": strange_checkpoint, ".json": edited_config, ".csv": edited_table, ".npz": strange_statistics}
STRANGE[""] = strange_annotation


def spoil_option(arguments, used, rng):
    """One option, given or new, or one argument gets a bad value."""
    options = re.findall(r'"(--[a-z-]+)"', (ROOT / arguments[0]).read_text(encoding="utf-8"))
    options, value = sorted({"--seed", "--device", *options} - {"--toy"}), rng.choice(VALUES)
    option = rng.choice(options)
    if option == "--steps" and value[0] == "9":  # sound, but long
        value = "-5"
    if rng.random() < 0.2:
        arguments[rng.randrange(1, len(arguments))] = value
    else:
        arguments += [option[:-1] if rng.random() < 0.1 else option, value]  # no abbreviations


def spoil_file(arguments, used, rng):
    """One file that the command reads gets other content."""
    files = sorted(path for name in used for path in [Path(name), *Path(name).rglob("[!.]*")] if path.is_file())
    if not files:
        return
    path = rng.choice(files)
    content, other = path.read_bytes(), rng.choice(files).read_bytes()
    at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    path.unlink()
    ways = {
        "gone": lambda: None,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(content[:at]),
        "flipped bit": lambda: path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]),
        "noise": lambda: path.write_bytes(rng.randbytes(rng.randrange(2000))),
        "zeros": lambda: path.write_bytes(content[:at] + bytes(100) + content[at + 100 :]),
        "another file": lambda: path.write_bytes(other),
        "a folder": path.mkdir,
        "code": lambda: torch.save(rng.choice([Malice(), {"generator_ema": Malice()}]), path),
        "wide": lambda: path.write_bytes(wide_png(1_000_000, 3)),
        "a decompression bomb": lambda: path.write_bytes(wide_png(30_000, 30_000)),
        "an XML bomb": lambda: path.write_text(BOMB, encoding=rng.choice(["utf-8", "utf-16"])),
        "an XML entity": lambda: path.write_text(EXTERNAL, encoding="utf-8"),
    }
    if path.suffix in STRANGE and rng.random() < 0.5:
        return f"{path}: {STRANGE[path.suffix](path, content, rng)}"
    way = rng.choice(list(ways))
    ways[way]()
    return f"{path}: {way}, at byte {at}"


def spoil_link(arguments, used, rng):
    """A new entry, or one in the place of another, is a link: to a folder, in circles or to nothing."""
    entries = sorted(path for name in used for path in [Path(name), *Path(name).rglob("*")])
    path = rng.choice([path for path in entries if path.name != "log.csv"])  # which is appended to, wherever it leads
    if path.is_dir() and rng.random() < 0.7:
        path /= rng.choice(["a", "z", "z.png", "000009.pt"])
    elif path.is_dir():
        path.rename("moved")
    else:
        path.unlink()
    target = rng.choice([path.parent, path, Path(), *entries, Path("moved"), Path("nix"), Path("/dev/null")])
    path.symlink_to(target.absolute())
    return f"{path} -> {target}"


def spoil_name(arguments, used, rng):
    """A file or folder, named on the command line or in a folder that is, gets a strange name."""
    name = rng.choice(NAMES)
    places = [i for i, argument in enumerate(arguments) if argument in used or argument in OUTPUTS]
    if rng.random() < 0.5:
        old = Path(arguments[rng.choice(places)])
        new = os.fsdecode(name) + old.suffix
        arguments[:] = [new + a.removeprefix(str(old)) if Path(a).parts[:1] == old.parts else a for a in arguments]
        if not old.exists():
            return
    else:
        old = rng.choice(sorted(path for name in used for path in Path(name).rglob("*")) or [Path(sorted(used)[0])])
        new = old.with_name(os.fsdecode(name) + old.suffix)
    os.rename(old, new)
    return f"{old} -> {os.fsencode(new)}"


def spoil_mode(arguments, used, rng):
    """Something can't be read, entered or written to."""
    places = [Path(), *(path for name in used for path in [Path(name), *Path(name).rglob("*")])]
    path, mode = rng.choice(sorted(places)), rng.choice([0, 0o444, 0o555, 0o222])
    path.chmod(mode)
    return f"{path}: mode {mode:o}"


OUTPUTS = {"new", "grid.png", "pictures", "small.pt", "new.npz", "crops", "page.html", "blurred", "distorted"}
WAYS = {spoil_option: 0.3, spoil_file: 0.35, spoil_link: 0.12, spoil_name: 0.13, spoil_mode: 0.1}


# Judging what comes of it -------------------------------------------------------------------------------------


def entries_of(folder):
    """All that is in a folder, to see what changed."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path] = status.st_mode, None if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return {path: entry for path, entry in found.items() if path.name != ".lock"}


def is_whole(path):
    """Whether a file can be read as what its name says."""
    try:
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".npz":
            np.load(path)["sigma"]
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.name == "log.csv":
            header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
            steps = [int(row[0]) for row in rows]
            numbers = [float(number) for row in rows for cell in row for number in cell.split()]
            assert header == COLUMNS and steps == sorted(set(steps)) and np.isfinite(numbers).all()
            assert all(len(row) == len(header) for row in rows)
        return path.suffix != ".part" and (path.suffix != ".html" or path.read_bytes().endswith(b"</html>\n"))
    except Exception:
        return False


def fault_of(script, what, status, output, changed):
    """What is wrong with how a case ended, or None.  `what` was spoiled, `changed` are paths of entries."""
    told = [line for line in output.splitlines() if line.startswith(f"{script}: ") and "warning" not in line]
    if Path("pwned").exists():
        return "code in a file was run"
    if status == -signal.SIGALRM:
        slow = "of 5,000 pictures" in output  # those that a run without --count draws take longer
        return None if slow else "a hang: still at work after a minute"
    if status not in (0, 2, 130) or "Traceback" in output:
        return f"status {status}, {output[-2000:]}"
    if "not enough memory" in output:
        return f"it took more than {MEMORY >> 30} GiB"
    strict = script == "registered.py"  # takes no table that is half broken, as all others do
    if ("harmless" in what and status and not strict) or ("must be refused" in what and status == 0):
        return f"status {status}, {output[-2000:]}"
    if status == 2 and (len(told) != 1 or len(told[0]) > 1000):
        return f"not one line: {output[-2000:]}"
    # A training may begin before it finds that it can't go on; a resume cuts off what it wrote.
    late = (
        script == "train.py"
        and status == 2
        and any(word in told[0] for word in ("finite", "Permission denied", "can't be written"))
    )
    begun = {Path("run/config.json")} if script == "train.py" else set()  # before the log is opened
    if status == 2 and {*changed} - begun and not late:
        return f"refused ({told[0]}), but these changed: {', '.join(map(str, changed[:4]))}"
    if broken := [path for path in changed if path.is_file() and not is_whole(path)]:
        return f"half-written: {', '.join(map(str, broken[:4]))}"


def attempt(case, world):
    """One case in a fresh copy of the world -> (what was tried, its fault or None, status, output)."""
    rng = random.Random(case)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(world, ".", symlinks=True, dirs_exist_ok=True)
        arguments = rng.choice(COMMANDS).split()
        used = {Path(argument).parts[0] for argument in arguments[1:] if Path(argument).exists()}
        way = rng.choices(list(WAYS), list(WAYS.values()))[0]
        what = way(arguments, used, rng) or "see the options"
        if way is spoil_file and "twin" in used:
            what = f"harmless to the other run: {what}"
        before = entries_of(Path())
        status, output = start(arguments, rng)
        Path().chmod(0o755)
        after = entries_of(Path())
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        fault = fault_of(Path(arguments[0]).name, what, status, output, changed)
        return f"{arguments} [{what}]", fault, status, output


def fuzz(minutes, case=None):
    """Cases until the time is over, or that one -> how many faults there were."""
    statuses, faults, end, number = Counter(), 0, time.monotonic() + minutes * 60, random.randrange(10**6)
    with tempfile.TemporaryDirectory() as outside, tempfile.TemporaryDirectory() as world:
        with chdir(world):
            make_world(Path(outside))
        while time.monotonic() < end:
            tried, fault, status, output = attempt(number if case is None else case, world)
            statuses[status] += 1
            if case is not None:
                print(f"{tried}\n{output}status {status}; {fault or 'as it should be'}")
                return bool(fault)
            if fault:
                faults += 1
                print(f"{tried}\n    {fault}\n    again: python tools/fuzz.py --case {number}", flush=True)
            number += 1
    print(f"{statuses.total()} cases: {statuses[2]} refused, {statuses[0]} harmless, {faults} faults")
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    sys.exit(bool(fuzz(options.minutes, options.case)))
