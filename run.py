"""A run: its folder, when something is written, when it stops, and how it goes on.

A run folder holds config.json, log.csv, samples/ (sheets of the same 64 z), snapshots/ (averaged generators) and
checkpoint.pt.  A run that is killed anywhere and resumed gives the same bits as one that was never stopped (on CUDA
nearly the same, because some sums are taken there in any order).  Three things make that so.  Everything random in a
step comes from the seed and the step's number, so that no random state has to be kept.  The row of the log and the
samples are written first, and the checkpoint last.  And a resumed run cuts off what the log has beyond its checkpoint,
and writes those samples again.
"""

import csv
import datetime
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress

import torch
import torch.distributed as dist
from torch.nn.utils import get_total_norm

from common import Progress, UserError
from config import is_of, kept_config, list_changes, make_config
from files import atomic_write, load_checkpoint, lock, save_checkpoint
from parallel import any_rank, rank, world_size
from snapshots import generate, image_grid, list_snapshots

MILESTONES = {500, 1000, 2500, 5000, 10000, 15000, 20000, 24000, 30000}  # section 4 looks at all but 1000
COLUMNS = ["step", "d_loss", "g_loss", "d_real", "d_fake", "gamma_g", "gamma_d", "images_per_s"]


class Run:
    """Counts the steps of a training, and writes what they give.  `gan`: the train.GAN to train, load and save."""

    def __init__(self, options, photos, gan):
        self.options, self.path, self.gan = options, options.out, gan
        self.parts = {name: part for name, part in gan._asdict().items() if hasattr(part, "state_dict")}
        self.config = make_config(options, photos)
        if options.batch % world_size():
            raise UserError(f"--batch {options.batch} can't be dealt out to {world_size()} processes evenly")
        print(f"{options.data}: {len(photos):,} pictures of {photos.shape[-1]}x{photos.shape[-1]}")
        self.done, self.signals, self.stopping, self.progress = 0, [], False, Progress()
        self.seconds = float("inf") if options.minutes is None else 60 * options.minutes
        self.sums, self.summed = torch.zeros(4, device=next(gan.generator.parameters()).device), 0

    def __enter__(self):
        """Lock the folder, load the checkpoint and catch signals: from here on the folder changes."""
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if rank() == 0:
                stack.enter_context(lock(self.path))
            self.load()
            if threading.current_thread() is threading.main_thread():
                for signum in (signal.SIGINT, signal.SIGTERM):
                    stack.callback(signal.signal, signum, signal.signal(signum, self.note_signal))
            self.stack = stack.pop_all()
        self.begin = self.last_row = self.last_save = time.monotonic()
        self.first = self.done
        return self

    def __exit__(self, *error):
        self.stack.close()

    def note_signal(self, signum, _):
        """The first Ctrl-C or SIGTERM ends the run at the next row, so that nothing is lost; the second at once."""
        if self.signals:
            raise KeyboardInterrupt
        self.signals.append(signum)
        # Not print(), which may be at work already.
        os.write(2, b"\nsaving and stopping at the next row of the log; once more: stop at once\n")

    def load(self):
        """Put the checkpoint, if there is one, into the networks and optimisers, and cut the log back to it."""
        path, options, config = self.path / "checkpoint.pt", self.options, self.config
        snapshots = list_snapshots(self.path)
        before = kept_config(self.path) if options.resume else config
        if before["photos_sha256"] != config["photos_sha256"]:
            raise UserError(f"{options.data} doesn't hold the pictures that {self.path} began with: see --data")
        if path.exists():
            checkpoint = load_checkpoint(path)
            try:
                for name, part in self.parts.items():
                    part.load_state_dict(checkpoint[name])
                self.done = int(checkpoint["step"])
                config["changes"] = before["changes"] + list_changes(before, config, self.done)
                other_code = config["code"]["sha256"] != before["code"]["sha256"]
            except Exception as error:  # torch raises many kinds here
                raise UserError(f"{path} doesn't fit this run ({error})") from None
            if snapshots and not is_of(snapshots[min(snapshots)], config):
                raise UserError(f"{path}: of another run than the snapshots beside it; put back the one of this run")
            if options.steps < self.done:
                raise UserError(f"{self.path} has done {self.done:,} steps: --steps must be as many, or more")
            if other_code and rank() == 0:
                print(f"warning: {self.path} was begun with other code; now it is a mixture", file=sys.stderr)
            self.gan.optimizer_g.param_groups[0]["lr"] = options.lr_g  # the checkpoint's may be another
            self.gan.optimizer_d.param_groups[0]["lr"] = options.lr_d
        elif len(snapshots) > 1:  # one: killed before its first checkpoint
            raise UserError(f"{path} is gone, so the run can't go on; begin another in another folder (--out)")
        if rank() == 0:
            with atomic_write(self.path / "config.json") as temporary:
                temporary.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            for name in ("samples", "snapshots"):
                (self.path / name).mkdir(exist_ok=True)
            self.cut_log()
            if path.exists() and config != before:
                self.save()  # so that a change is kept, even if this run is killed soon

    def cut_log(self):
        """Keep the sound rows of log.csv up to the checkpoint, whatever another program did to the file."""
        path, rows = self.path / "log.csv", {}
        text = path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else ""
        for row in csv.reader(text.splitlines()):
            with suppress(ValueError):  # a cell that is no number
                sound = all(math.isfinite(float(value)) for cell in row for value in cell.split())
                if sound and len(row) == len(COLUMNS) and int(row[0]) <= self.done:
                    rows[int(row[0])] = row
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(rows[step] for step in sorted(rows))])

    def steps(self):
        """Yields the number of each step to do, from 0 on; ends when all are done, or after a stop."""
        for step in range(self.done, self.options.steps):
            self.done = step + 1
            yield step
            if self.stopping:
                break
        options, target = self.options, f"--steps {2 * self.done}"
        if self.done < options.steps:
            target = f"--minutes {options.minutes:g}" if options.minutes else ""
        command = f"python train.py --resume {shlex.quote(self.path.as_posix())} {target}".strip()
        print(f"{self.path}: {self.done:,} steps done; see {self.path / 'samples'}; go on: {command}")

    def add(self, scalars):
        """Sum up the scalars of a step, without waiting for the device."""
        self.sums += torch.stack([scalars[name] for name in COLUMNS[1:5]])
        self.summed += 1

    def row_due(self):
        return self.done % self.options.log_every == 0 or self.samples_due()

    def samples_due(self):
        every = self.options.sample_every
        scheduled = self.done in MILESTONES or (every and self.done % every == 0) or self.done == self.options.steps
        return bool(scheduled or self.stopping)

    def write_row(self):
        """The means since the last row -> log.csv and the terminal.  Raises UserError for what is not finite."""
        options, gan = self.options, self.gan
        if dist.is_initialized():
            dist.all_reduce(self.sums)
        norm = get_total_norm([*gan.generator.parameters(), *gan.discriminator.parameters()])
        if not (self.sums.sum() + norm).isfinite():
            raise UserError(f"step {self.done}: a loss or weight is not finite; try lower --lr-g, --lr-d or --r1")
        now = time.monotonic()  # after what waits for the device
        if rank() == 0:
            means = [f"{mean:.5f}" for mean in (self.sums / self.summed / world_size()).tolist()]
            gammas = [" ".join(f"{a.gamma.item():.5f}" for a in n.attention.values()) for n in gan[:2]]
            rate = f"{self.summed * options.batch / (now - self.last_row):.1f}"
            with open(self.path / "log.csv", "a", encoding="utf-8", newline="") as log:
                log.write(",".join([str(self.done), *means, *gammas, rate]) + "\n")
            text = f"step {self.done:,} of {options.steps:,}  d_loss {means[0][:-2]}  g_loss {means[1][:-2]}"
            left = (options.steps - self.done) * (now - self.begin) / (self.done - self.first)
            left = datetime.timedelta(seconds=round(max(0, min(left, self.begin + self.seconds - now))))
            self.progress(f"{text}  {rate} images/s  {left} left", last=self.stopping or self.done == options.steps)
        self.sums.zero_()
        self.summed, self.last_row = 0, now

    def check_stop(self):
        """Whether this step is the last: after Ctrl-C, SIGTERM or --minutes in any of the processes."""
        self.stopping = any_rank(self.signals or time.monotonic() > self.begin + self.seconds)

    def write_samples(self, z):
        """A sheet of pictures of z, and a snapshot of the averaged generator, which draws them."""
        if rank() == 0:
            with atomic_write(self.path / "samples" / f"{self.done:06d}.png") as temporary:
                image_grid(generate(self.gan.generator_ema, z)).save(temporary, "PNG")
            snapshot = {"generator_ema": self.gan.generator_ema.state_dict(), "step": self.done, "config": self.config}
            save_checkpoint(self.path / "snapshots" / f"{self.done:06d}.pt", snapshot)

    def save_if_due(self):
        """At a row, if a minute has passed or samples were written."""
        if self.row_due() and (self.samples_due() or time.monotonic() - self.last_save > 60) and rank() == 0:
            self.save()

    def save(self):
        state = {name: part.state_dict() for name, part in self.parts.items()}
        save_checkpoint(self.path / "checkpoint.pt", state | {"step": self.done, "config": self.config})
        self.last_save = self.last_row = time.monotonic()  # so that no speed counts the time that this took
