"""Stub, to be replaced."""

import json
import os
import signal
import sys
import threading
from contextlib import contextmanager

import torch
import torch.distributed as dist

from common import UserError

MILESTONES = {500, 1000, 2500, 5000, 10000, 15000, 20000, 24000, 30000}
SCHEDULE = {"lr_g", "lr_d", "r1", "ema"}
CHANGEABLE = {"resume", "out", "data", "device", "steps", "minutes", "inception", "real_stats"}
CHANGEABLE |= {"log_every", "sample_every", "fid_every"}


def init_processes(device):
    """Join the other processes if torchrun started this one -> this one's device: cuda becomes cuda:1, ...

    Only rank 0 goes on writing to stdout.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    if device == "cuda":
        if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            raise UserError(f"torchrun: {torch.cuda.device_count()} GPUs here, --nproc-per-node asks for more")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return device


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    return dist.get_world_size() if dist.is_initialized() else 1


def max_over_ranks(value):
    """The largest of all processes' values (a whole number, or a flag); all of them ask together."""
    value = torch.tensor(int(value))
    if dist.is_initialized():
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value.item()


def variant(options):
    """The article's name for a choice of attention, which names the run folder too."""
    gen, disc = not options.no_gen_attn, not options.no_disc_attn
    return {(1, 1): "full", (0, 1): "no-gen-attn", (1, 0): "no-disc-attn", (0, 0): "no-attn"}[gen, disc]


def read_config(folder):
    """The config.json of a run: options, size, photos, ...  Raises UserError if the folder holds no run."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["options"] | {}  # a TypeError if it is no table
        return {key: config[key] for key in ("options", "size", "photos", "photos_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no run to read there ({error})") from None


@contextmanager
def stop_signal():
    """Gives a list that Ctrl-C or SIGTERM fills, so that a loop can end where nothing is lost.  Twice: at once."""
    caught = []

    def note(signum, _):
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)
        os.write(2, b"\nsaving and stopping; once more: stop at once\n")  # print() may be at work already

    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {signum: signal.signal(signum, note) for signum in signals}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
