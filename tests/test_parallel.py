"""Several processes under torchrun make one run: the same steps, one writer, one end."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import parallel
import run
import train
from common import UserError
from files import load_checkpoint

ROOT = Path(train.__file__).resolve().parent
# What each process has after two steps: gradients and networks, and its figures.
# Batch norm takes each process's part of a batch for itself; in evaluation mode it doesn't, and all must be the same.
STEPS = """
import sys
import torch
import parallel, train
from common import run_script
from test_train import small_gan, some_batch, some_photos

def main():
    out, mode, *options = sys.argv[1:]
    parallel.init_processes("cpu")
    gan = small_gan(*options)
    for network in gan[:2]:
        network.train(mode == "train")
        for layer in network.attention.values():
            torch.nn.init.constant_(layer.gamma, 0.5)
    batch = parallel.my_share(some_batch())
    assert len(batch.index) == 4 // parallel.world_size()  # or all would do all the work
    for r1_weight in (0.2, 0):
        scalars = train.train_step(gan, some_photos(), batch, r1_weight)
    found = {"scalars": torch.stack(list(scalars.values()))}
    if parallel.world_size() > 1:
        torch.distributed.all_reduce(found["scalars"])
    for name, network in zip("gd", gan):
        found[f"{name}_gradients"] = {name: p.grad for name, p in network.named_parameters()}
        found[f"{name}_weights"] = {name: p.detach() for name, p in network.named_parameters()}
    torch.save(found, f"{out}-{parallel.rank()}.pt")

run_script(main)
"""


@contextmanager
def start(processes, script, *arguments):
    """A script under torchrun, or in one process without; ended after four minutes, or with the block."""
    how = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *how, str(script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    timer = threading.Timer(240, process.terminate)  # which torchrun passes on
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.terminate()
        process.communicate(timeout=60)


def output_of(*arguments):
    with start(*arguments) as process:
        output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    return output


def workers_of(process):
    """The process numbers of torchrun's workers, from its children's command lines."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until_it_trains(process):
    """Waits for the first row of progress -> what was printed before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step"):
            return "".join(lines)
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_two_processes_step_as_one(mode, tmp_path):
    script = tmp_path / "steps.py"
    script.write_text(STEPS, encoding="utf-8")
    options = ["--spectral-norm"] if mode == "train" else []
    output_of(2, script, tmp_path / "two", mode, *options)
    first, second = (load_checkpoint(tmp_path / f"two-{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # weights that nobody sends
    if mode == "eval":
        output_of(1, script, tmp_path / "one", mode, *options)
        one = load_checkpoint(tmp_path / "one-0.pt")
        assert sum(gradient.abs().sum() for gradient in one["g_gradients"].values()) > 0.1
        torch.testing.assert_close(first.pop("scalars") / 2, one.pop("scalars"), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(first, one, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_one_and_two_processes_go_on_with_a_run_and_a_signal_to_one_stops_both(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=4")
    with start(2, "train.py", "--resume", out, "--steps=100000") as process:
        until_it_trains(process)
        os.kill(workers_of(process)[1], signal.SIGTERM)  # only the second: they must agree
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and output.count("steps done") == 1, output  # one process speaks
    step = load_checkpoint(out / "checkpoint.pt")["step"]
    train.train(train.parse_options([f"--resume={out}", f"--steps={step + 2}"]))
    steps = [line.split(",")[0] for line in (out / "log.csv").read_text(encoding="utf-8").splitlines()]
    assert steps == ["step", *map(str, range(2, step + 3, 2))]


def test_a_batch_that_cannot_be_dealt_out_evenly_is_refused(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "world_size", lambda: 3)
    with pytest.raises(UserError, match=r"--batch 4 .* 3 processes"):
        begin(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_batch_is_the_same_after_its_one_copy_to_the_device(batch):
    drawn = train.draw_batch(0, 5, batch, 20, 4.0)
    found = parallel.to_device(drawn, "cpu")
    assert type(found) is train.Batch
    for ours, wanted in zip(found, drawn, strict=True):
        assert ours.dtype == wanted.dtype and torch.equal(ours, wanted)
