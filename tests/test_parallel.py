"""Several processes under torchrun make one run: the same steps, one writer, no hang when one dies."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--width=4", "--batch=4", "--z-dim=8", "--attn-at=16", "--device=cpu", "--precision=fp32"]
# A few steps in the mode that argument 3 names.  In training mode each process has statistics of its own for batch
# norm on a CPU, so that only in evaluation mode the gradients are those of one process.
STEPS = """
import sys
import torch
import train
from data import join_processes, run
from train import in_parallel, make_networks, noise_of_step, own_share, shifts_of_step, train_step

def main():
    join_processes("cpu")
    torch.set_num_threads(1)
    (out, steps, mode), options = sys.argv[1:4], train.parse_options(sys.argv[4:])
    generator, discriminator, *optimizers = make_networks(32, options)
    generator.train(mode == "train"), discriminator.train(mode == "train")
    both = in_parallel(generator), in_parallel(discriminator)
    real = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z_d, z_g, _ = noise_of_step(0, 0, 4, 8)
    own = own_share(real), own_share(z_d), own_share(z_g), own_share(shifts_of_step(0, 0, 4, 4), dim=1)
    assert len(own[0]) == 4 // train.rank_and_world()[1]  # or all would do all the work, with the same gradients
    for _ in range(int(steps)):
        figures = train_step(*both, *optimizers, *own, torch.float32)
    gradients = {f"{n}.{name}": p.grad for n in (0, 1) for name, p in (generator, discriminator)[n].named_parameters()}
    states = [{k: v for k, v in n.state_dict().items() if "running" not in k} for n in (generator, discriminator)]
    found = {"gradients": gradients, "states": states, "figures": figures}
    torch.save(found, f"{out}-{train.rank_and_world()[0]}.pt")


run(main)
"""


@contextmanager
def start(processes, script, *arguments):
    """A script under torchrun, or in one process without; ended after four minutes, or with the block."""
    how = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *how, str(script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
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


@pytest.mark.parametrize("more", [[], ["--modulate"]])
def test_the_gradients_of_two_processes_are_those_of_one(tmp_path, more):
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    for processes in (1, 2):
        output_of(processes, script, tmp_path / f"{processes}", 1, "eval", *SMALL, *more)
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0"))
    assert sum(float(gradient.abs().sum()) for gradient in one["gradients"].values()) > 1
    for key in ("gradients", "figures"):
        torch.testing.assert_close(two[key], one[key], rtol=1e-5, atol=1e-5)


def test_all_processes_have_the_same_networks_after_some_steps(tmp_path):
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    output_of(2, script, tmp_path / "two", 3, "train", *SMALL)
    first, second = (torch.load(tmp_path / f"two-{rank}.pt", weights_only=True)["states"] for rank in (0, 1))
    assert any("parametrizations.weight.0._u" in name for name in first[0])  # spectral norm's, which nobody sends
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_machines_that_see_other_checkpoints_are_refused(photos, tmp_path):
    common = ["--data", photos, *SMALL, "--log-every=1"]
    for rank, steps in ((0, 1), (1, 2)):  # what two machines may have under the same name if they don't share a disk
        output_of(1, "train.py", "--out", tmp_path / f"run-{rank}", f"--steps={steps}", *common)
    script = tmp_path / "other_disk.py"
    script.write_text(
        "import os, sys, train\nfrom data import run\nsys.argv[2] += os.environ['RANK']\n"
        "run(lambda: train.train(train.parse_options()))\n"
    )
    fid = ["--fid-every=100", "--fid-samples=4", "--weights=random"]  # nothing for the one that is done: no hang
    with start(2, script, "--resume", tmp_path / "run-", "--steps=2", *fid) as process:
        output = process.communicate(timeout=240)[0]
    assert process.returncode != 0 and "not all processes see the same checkpoint" in output, output
    assert (tmp_path / "run-0/log.csv").read_text().count("\n") == 2


def test_two_processes_make_one_run_that_one_or_two_can_go_on_with(photos, tmp_path):
    out = tmp_path / "run"
    common = ["--save-every=5", "--log-every=5"]
    told = output_of(2, "train.py", "--out", out, "--data", photos, "--steps=10", *SMALL, *common)
    assert told.count("10 steps done") == 1  # one process speaks
    output_of(1, "train.py", "--resume", out, "--steps=15")
    output_of(2, "train.py", "--resume", out, "--steps=20")
    steps = [line.split(",")[0] for line in (out / "log.csv").read_text().splitlines()]
    assert steps == ["step", "5", "10", "15", "20"]
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 20
    assert {name.split(".")[0] for name in checkpoint["generator"]} == {"blocks", "to_rgb", "attention"}
    output_of(2, "sample.py", out, "--count=130", "--batch=64", "--out", tmp_path / "two")
    output_of(1, "sample.py", out, "--count=130", "--batch=64", "--out", tmp_path / "one")
    names = [path.name for path in sorted((tmp_path / "one").iterdir())]
    assert names == [path.name for path in sorted((tmp_path / "two").iterdir())] and len(names) == 130
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_processes_wait_for_each_other(tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        """
import torch
from pathlib import Path
from data import any_process, join_processes, rank_and_world, run

def main():
    join_processes("cpu")
    if rank_and_world()[0] == 0:
        for _ in range(50):  # some work, so that the other would be first
            torch.rand(1000, 1000) @ torch.rand(1000, 1000)
        Path("first").touch()
    any_process()
    assert Path("first").exists()

run(main)
""".replace('"first"', repr(str(tmp_path / "first")))
    )
    output_of(2, script)


def test_a_batch_that_can_t_be_split_evenly_is_refused(photos, tmp_path):
    with start(2, "train.py", "--out", tmp_path / "run", "--data", photos, *SMALL, "--batch=5") as process:
        output = process.communicate(timeout=240)[0]
    assert process.returncode != 0 and "--batch 5 can't be dealt out to 2 processes" in output
    assert not (tmp_path / "run").exists()


def workers_of(process):
    """The process numbers of torchrun's workers, from its children's command lines."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_ends_the_job_with_a_message_and_it_resumes(photos, tmp_path):
    out = tmp_path / "run"
    arguments = ["--out", out, "--data", photos, "--steps=100000", "--save-every=1", "--log-every=1", *SMALL]
    with start(2, "train.py", *arguments) as process:
        for line in process.stdout:
            if line.startswith("step"):
                break
        while not (out / "checkpoint.pt").exists():
            assert process.poll() is None
        os.kill(workers_of(process)[1], signal.SIGKILL)
        output = process.communicate(timeout=120)[0]  # raises if it hangs
    assert process.returncode != 0
    assert re.search(r"train\.py: .*another process has ended.*--resume", output), output
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert step >= 1
    output_of(2, "train.py", "--resume", out, f"--steps={step + 5}")


def test_a_signal_to_one_process_stops_all_at_the_same_step(photos, tmp_path):
    out = tmp_path / "run"
    with start(2, "train.py", "--out", out, "--data", photos, "--steps=100000", "--log-every=1", *SMALL) as process:
        for line in process.stdout:
            if line.startswith("step"):
                break
        os.kill(workers_of(process)[1], signal.SIGTERM)  # only the second: they must agree
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and output.count("go on with") == 1, output
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] >= 1
