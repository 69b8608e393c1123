"""What every script needs: its errors, its options and its progress."""

import argparse
import math
import os
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

DEVICES = ["cpu"]  # that this machine has, the default last
if torch.backends.mps.is_available():
    DEVICES.insert(0, "mps")  # never tried, so only for --device mps
if torch.cuda.is_available():
    DEVICES += [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cuda"]


class UserError(Exception):
    """Something that the user can mend.  `run_script` prints its one line and exits with status 2."""


def run_script(main):
    """Run a script's main(): one line and status 2 for what the user can mend, 130 for Ctrl-C."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's can't be
            stream.reconfigure(errors="backslashreplace")  # file names may hold what a terminal can't show
    try:
        main()
        if dist.is_initialized():
            dist.barrier()  # none leaves while another still needs it
            dist.destroy_process_group()
    except KeyboardInterrupt:
        sys.exit(130)
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        line, memory = str(error), isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if isinstance(error, OSError) and error.strerror:
            line = f"{error.filename or 'the system'}: {error.strerror}"
        elif memory or "out of memory" in line or "can't allocate memory" in line:  # as mps and a CPU tell it
            line = "not enough memory: give train.py a smaller --batch, or free some"
        elif isinstance(error, RuntimeError):
            raise  # a fault of ours
        line = " ".join(line.split())[:500]  # torch names every weight that doesn't fit
        # Under torchrun all processes see a wrong option, and one tells it; a broken file only one of them sees.
        if dist.is_initialized() or not isinstance(error, UserError) or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
        sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Options with the script's docstring above them and each default behind; a mistake is one line."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False)

    def add_seed_and_device(self):
        self.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="where all random numbers start")
        self.add_argument("--device", type=device_name, default=DEVICES[-1], help="cuda, cuda:1, mps or cpu")

    def error(self, message):
        raise UserError(f"{message} (--help tells more)")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):  # no "(default: None)"
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def number(kind, low, high=math.inf):
    """A type for an option: `kind` (int or float) from `low` to `high`, both included, always finite."""

    def check(text):
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    check.__name__ = kind.__name__  # argparse says "invalid int value"
    return check


def device_name(name):
    """A type for an option: the name of a device that this machine has."""
    if name not in DEVICES:
        raise argparse.ArgumentTypeError(f"no device {name} here, but {', '.join(DEVICES)}")
    return name


def html_file(name):
    """A type for an option: the path of a page to write.  Another ending would be a slip, and might be a photo's."""
    if not name.lower().endswith(".html"):
        raise argparse.ArgumentTypeError(f"{name} doesn't end in .html")
    return Path(name)


class Progress:
    """A line about long work: rewritten in place on a terminal, printed every few seconds elsewhere."""

    def __init__(self, every=10.0, file=None):
        self.file, self.every, self.next = file or sys.stdout, every, 0.0

    def __call__(self, text, last=False):
        if self.file.isatty():
            text = text[: shutil.get_terminal_size().columns - 1]  # what wraps can't be rewritten
            print(f"\r{text}\x1b[K", end="\n" if last else "", file=self.file, flush=True)
        elif last or time.monotonic() >= self.next:
            print(text, file=self.file, flush=True)
            self.next = time.monotonic() + self.every
