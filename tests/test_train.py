"""The losses, the randomness, one step, and whole small runs: stopped, resumed, broken."""

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

import data
import fid
import sample
import train
from model import generate

ROOT = Path(train.__file__).resolve().parent
COLUMNS = ["step", "d_loss", "g_loss", "d_real", "d_fake", "gamma_g", "gamma_d", "images_per_s", "fid"]
SMALL = [
    "--width=4",
    "--batch=4",
    "--z-dim=8",
    "--attn-at=16",
    "--device=cpu",
    "--precision=fp32",
    "--log-every=5",
    "--save-every=5",
]


@pytest.fixture(scope="module")
def ten_steps(photos, tmp_path_factory):
    return run(photos, tmp_path_factory.mktemp("ten") / "run", 10)


def run(photos, out, steps, *more):
    return train.train(
        train.parse_options([*SMALL, "--data", f"{photos}", "--out", f"{out}", "--steps", f"{steps}", *more])
    )


def resume(out, steps, *more):
    return train.train(train.parse_options(["--resume", str(out), "--steps", str(steps), *more]))


def rows(out):
    with open(out / "log.csv", newline="") as file:
        return [{**row, "images_per_s": ""} for row in csv.DictReader(file)]


def assert_same_run(one, other):
    """Bit-identical checkpoints and log rows; the log's length and its speeds differ from run to run."""
    checkpoints = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (one, other)]
    for checkpoint in checkpoints:
        assert {"generator", "discriminator", "average", "optimizer_g", "optimizer_d"} < checkpoint.keys()
        del checkpoint["log_bytes"], checkpoint["config"]
    torch.testing.assert_close(*checkpoints, rtol=0, atol=0)
    assert rows(one) == rows(other)


def step_of_small_networks(steps=1, **changes):
    """Train on constant photos -> the networks before, after, and the figures of each step."""
    options = train.parse_options(SMALL)
    for name, value in changes.items():
        setattr(options, name, value)
    networks = train.make_networks(32, options)
    before = deepcopy(networks[:2])
    figures = []
    for step in range(steps):
        z_d, z_g, _ = train.noise_of_step(0, step, 4, 8)
        shifts = train.shifts_of_step(0, step, 4, 4)
        real = torch.full((4, 3, 32, 32), 0.5)
        figures.append(train.train_step(*networks, real, z_d, z_g, shifts, torch.float32))
    return before, networks[:2], torch.stack(figures)


def same_weights(one, other):
    return [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]


# Losses


def test_losses_are_cross_entropies_on_labels():
    real, fake = torch.randn(2, 9, dtype=torch.float64) * 5
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    expected = binary_cross_entropy_with_logits(real, ones) + binary_cross_entropy_with_logits(fake, zeros)
    torch.testing.assert_close(train.discriminator_loss(real, fake), expected, rtol=1e-12, atol=0)
    expected = binary_cross_entropy_with_logits(fake, ones)
    torch.testing.assert_close(train.generator_loss(fake), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("logit", "d_loss", "d_slopes", "g_loss", "g_slope"),
    [(1e4, 1e4, (0, 1), 0, 0), (-1e4, 1e4, (-1, 0), 1e4, -1), (0, 2 * math.log(2), (-0.5, 0.5), math.log(2), -0.5)],
)
def test_losses_and_gradients_are_right_at_extreme_logits(logit, d_loss, d_slopes, g_loss, g_slope):
    real, fake = (torch.tensor([float(logit)], requires_grad=True) for _ in range(2))
    loss = train.discriminator_loss(real, fake)
    assert loss.item() == pytest.approx(d_loss, rel=1e-6)
    assert torch.autograd.grad(loss, (real, fake)) == d_slopes
    loss = train.generator_loss(fake)
    assert loss.item() == pytest.approx(g_loss, rel=1e-6)
    assert torch.autograd.grad(loss, fake) == (g_slope,)


# Randomness


@pytest.mark.parametrize("batch", [3, 10, 25])
def test_each_epoch_shows_each_photo_once(batch):
    order = torch.cat([train.photos_of_step(1, step, batch, 10) for step in range(10)])
    epochs = order[: len(order) // 10 * 10].view(-1, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10).expand(len(epochs), 10))
    assert len(epochs.unique(dim=0)) == len(epochs)
    other = torch.cat([train.photos_of_step(2, step, batch, 10) for step in range(10)])
    assert not torch.equal(order, other)


def test_noise_depends_on_seed_and_step_alone():
    first = train.noise_of_step(3, 7, 4, 5)
    torch.randn(11), np.random.default_rng().normal(), train.photos_of_step(3, 7, 4, 10)
    for ours, again in zip(first, train.noise_of_step(3, 7, 4, 5), strict=True):
        assert torch.equal(ours, again)
    draws = [*first[:2], train.noise_of_step(3, 8, 4, 5)[0], train.noise_of_step(4, 7, 4, 5)[0]]
    assert len(torch.stack(draws).unique(dim=0)) == 4
    assert [tuple(t.shape) for t in first] == [(4, 5), (4, 5), (4,)]


# FID in a run


def test_fid_in_a_run_is_that_of_its_snapshots_and_changes_nothing_else(photos, ten_steps, tmp_path, capsys):
    fid_options = ["--fid-every=4", "--fid-samples=12", "--weights=random", "--sample-every=8"]
    out = run(photos, tmp_path / "run", 10, *fid_options)
    lines, warnings = capsys.readouterr()
    count = len(data.list_images(photos))
    assert f"{photos}: {count} pictures\nsamples: 12 pictures\n" in lines and f"{count} and 12 pictures" in warnings
    one, other = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (ten_steps, out))
    for name in ("generator", "discriminator", "average", "optimizer_g", "optimizer_d"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    with open(out / "log.csv", newline="") as file:
        distances = {int(row["step"]): row["fid"] for row in csv.DictReader(file)}
    assert list(distances) == [4, 5, 8, 10] and distances[5] == ""

    inception, z = fid.load_inception("random"), torch.randn(12, 8, generator=train.random_generator(0, 4))
    real = fid.collect([inception(data.read_folder(photos).float() / 255)], inception)
    for step in (8, 10):
        generator = sample.load_generator(out / f"snapshots/{step:06d}.pt")[0]
        fake = fid.collect([inception(generate(generator, z).float() / 255)], inception)
        assert float(distances[step]) == pytest.approx(fid.distance(real, fake), rel=1e-3)
        assert f"untrained-Inception distance (not FID) {distances[step]}" in lines
    assert len(set(distances.values())) == 4
    short = run(photos, tmp_path / "short", 4, *fid_options)  # has a sheet of step 4: no difference to the distance
    assert rows(short)[-1]["fid"] == distances[4]


def test_a_run_that_is_killed_while_it_measures_fid_loses_nothing(photos, tmp_path, monkeypatch):
    fid_options = ["--fid-every=4", "--fid-samples=12", "--weights=random", "--save-every=1000"]
    whole, out = run(photos, tmp_path / "whole", 6, *fid_options), tmp_path / "killed"
    distance, killed = fid.distance, [True, False, True]  # at step 4; again at 4, then at 6

    def distance_or_kill(*statistics):
        if killed and killed.pop(0):
            raise KeyboardInterrupt
        return distance(*statistics)

    monkeypatch.setattr(fid, "distance", distance_or_kill)
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, 6, *fid_options)
    with pytest.raises(KeyboardInterrupt):
        resume(out, 6)
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 6 and len(rows(out)) == 2
    resume(out, 6)
    assert_same_run(out, whole)


def test_a_run_that_was_killed_between_its_last_checkpoint_and_its_sheet_makes_up_for_it(photos, tmp_path):
    out = run(photos, tmp_path / "run", 10)
    sheet, snapshot = out / "samples/000010.png", out / "snapshots/000010.pt"
    pixels, before = sheet.read_bytes(), torch.load(snapshot, weights_only=True)
    sheet.unlink(), snapshot.unlink()
    resume(out, 10)
    after = torch.load(snapshot, weights_only=True)
    assert sheet.read_bytes() == pixels and after["step"] == 10
    torch.testing.assert_close(after["average"], before["average"], rtol=0, atol=0)


def test_a_run_whose_weights_for_fid_are_missing_leaves_nothing(photos, tmp_path):
    with pytest.raises(data.UserError, match="nowhere"):
        run(photos, tmp_path / "run", 10, "--fid-every=5", "--weights=nowhere.pt")
    assert not (tmp_path / "run").exists()


def test_a_run_begun_without_fid_can_be_resumed_with_it(photos, tmp_path):
    out = run(photos, tmp_path / "run", 5)
    resume(out, 10, "--fid-every=10", "--fid-samples=12", "--weights=random")
    assert [bool(row["fid"]) for row in rows(out)] == [False, True]
    with pytest.raises(data.UserError, match="--fid-samples 12"):
        resume(out, 15, "--fid-samples=13")


# One step


def test_each_network_descends_without_touching_the_other():
    (_, d_before), (_, d_after), _ = step_of_small_networks(lr_d=0.0)
    assert all(same_weights(d_before, d_after))
    assert all(p.requires_grad for p in d_after.parameters())
    (g_before, d_before), (g_after, d_after), _ = step_of_small_networks(lr_g=0.0)
    assert all(same_weights(g_before, g_after))
    assert not any(same_weights(d_before.blocks, d_after.blocks))
    (g_before, _), (g_after, _), _ = step_of_small_networks()
    assert not any(same_weights(g_before.to_rgb, g_after.to_rgb))


def test_discriminator_learns_to_tell_constant_photos():
    _, _, figures = step_of_small_networks(steps=20, lr_g=0.0, lr_d=1e-2)
    assert figures[-5:, 0].mean() < figures[0, 0] / 2
    assert figures[-1, 2] > 0.5 > figures[-1, 3]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_shift_moves_pixels_and_gradients_by_whole_places_and_lets_grey_in(size):
    x = torch.randn(3, 3, size, size, requires_grad=True)
    pixels = torch.tensor([[0, 0], [5, -3], [-size // 8, size // 8]])
    expected = torch.zeros_like(x)
    expected[0] = x[0]
    expected[1, :, : size - 3, 5:] = x[1, :, 3:, : size - 5]
    expected[2, :, size // 8 :, : size - size // 8] = x[2, :, : size - size // 8, size // 8 :]
    moved = train.shift(x, pixels)
    assert torch.equal(moved, expected)
    weights = torch.randn_like(x)
    gradients = [torch.autograd.grad((weights * pictures).sum(), x)[0] for pictures in (moved, expected)]
    torch.testing.assert_close(*gradients)


def test_shifts_reach_as_far_as_told_and_differ_between_photos_fakes_and_turns():
    shifts = train.shifts_of_step(0, 0, 1000, 8)
    assert shifts.unique().tolist() == list(range(-8, 9))
    assert all((one != other).any() for one, other in zip(shifts, shifts.roll(1, 0), strict=True))
    assert not train.shifts_of_step(0, 0, 1000, 0).any()
    assert torch.equal(shifts, train.shifts_of_step(0, 0, 1000, 8))
    assert not torch.equal(shifts, train.shifts_of_step(0, 1, 1000, 8))


def test_the_discriminator_sees_photos_and_fakes_moved(monkeypatch):
    seen = []
    forward = train.Discriminator.forward

    def look(network, x):
        seen.append(x.detach().clone())
        return forward(network, x)

    monkeypatch.setattr(train.Discriminator, "forward", look)
    step_of_small_networks()
    moved, turn_of_g = seen
    shifts = train.shifts_of_step(0, 0, 4, 4)
    places = [(x[0] != 0).any(0).nonzero() for x in torch.cat([moved, turn_of_g])[:, None]]  # what isn't grey
    found = torch.stack([p.min(0).values + p.max(0).values - 31 for p in places]).flip(1)
    assert torch.equal(found, shifts.flatten(0, 1))


def test_average_follows_by_its_decay():
    options = train.parse_options(SMALL)
    generator = train.make_networks(32, options)[0]
    options.seed = 1
    average = train.make_networks(32, options)[0].requires_grad_(False)
    kept = deepcopy(average)
    train.update_average(average, generator, 10**18, 1.0)
    assert all(same_weights(average, kept))
    assert all(torch.equal(a, b) for a, b in zip(average.buffers(), generator.buffers(), strict=True))
    train.update_average(average, generator, 0, 0.999)  # at the first step (1 + 0) / (10 + 0) is kept
    for ours, old, new in zip(*(network.parameters() for network in (average, kept, generator)), strict=True):
        torch.testing.assert_close(ours, 0.1 * old + 0.9 * new)
    train.update_average(average, generator, 10**6, 0.0)
    assert all(same_weights(average, generator))


# Runs


def test_a_run_folder_holds_what_the_docstring_says(ten_steps):
    assert sorted(p.name for p in ten_steps.iterdir()) == [
        "checkpoint.pt", "config.json", "log.csv", "samples", "snapshots",
    ]  # fmt: skip
    assert (ten_steps / "log.csv").read_text().splitlines()[0].split(",") == COLUMNS
    assert [row["step"] for row in rows(ten_steps)] == ["5", "10"]
    assert all(math.isfinite(float(row[name])) for row in rows(ten_steps) for name in COLUMNS[:7])
    assert json.loads((ten_steps / "config.json").read_text())["size"] == 32
    assert (ten_steps / "samples/000010.png").exists()
    assert (ten_steps / "snapshots/000010.pt").exists()


def test_one_seed_makes_one_run_and_another_seed_another(photos, ten_steps, tmp_path):
    assert_same_run(run(photos, tmp_path / "again", 10), ten_steps)
    other = run(photos, tmp_path / "other", 10, "--seed", "1")
    assert rows(other) != rows(ten_steps)


def test_a_resumed_run_ends_like_an_uninterrupted_one(photos, ten_steps, tmp_path):
    out = run(photos, tmp_path / "run", 5)
    with open(out / "log.csv", "a") as log:
        log.write("6,a row from after the checkpoint\n" * 20)
    assert_same_run(resume(out, 10), ten_steps)


def test_a_run_stops_after_its_minutes_with_a_picture_and_goes_on(photos, ten_steps, tmp_path, monkeypatch):
    true_step, clock = train.train_step, [0.0]

    def half_a_minute(*arguments):
        clock[0] += 30
        return true_step(*arguments)

    monkeypatch.setattr(train, "train_step", half_a_minute)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    out = run(photos, tmp_path / "run", 10, "--minutes", "1.9")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 4
    assert (out / "samples" / "000004.png").exists() and (out / "snapshots" / "000004.pt").exists()
    assert_same_run(resume(out, 10), ten_steps)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_run_ends_the_same(name, photos, ten_steps, tmp_path, monkeypatch, capfd):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    true_step, calls = train.train_step, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(name)
        return true_step(*arguments)

    monkeypatch.setattr(train, "train_step", interrupted)
    out = run(photos, tmp_path / "run", 10)
    assert len(calls) == 7
    told = capfd.readouterr()
    assert f"python train.py --resume {out}" in told.out and told.err.count("stopping after this step") == 1
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 7
    assert sample.load_generator(sample.find_snapshot(out))[1] == 7 and (out / "samples" / "000007.png").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert_same_run(resume(out, 10), ten_steps)
    assert len(calls) == 10


def break_step(monkeypatch, bad):
    true_loss, calls = train.discriminator_loss, []

    def loss(real_logits, fake_logits):
        calls.append(1)
        return true_loss(real_logits, fake_logits) * (math.nan if len(calls) == bad else 1)

    monkeypatch.setattr(train, "discriminator_loss", loss)


@pytest.mark.parametrize(("bad", "log_every"), [(6, 5), (8, 5), (10, 5), (7, 20)])
def test_a_loss_that_is_no_number_is_named_by_its_step(bad, log_every, photos, tmp_path, monkeypatch):
    break_step(monkeypatch, bad)
    with pytest.raises(data.UserError, match=f"^step {bad}: d_loss is nan"):
        run(photos, tmp_path / "run", 20, f"--log-every={log_every}")
    checkpoint = data.read_checkpoint(tmp_path / "run/checkpoint.pt")
    assert checkpoint["step"] == 5
    assert all(value.isfinite().all() for value in checkpoint["generator"].values())


def test_a_run_that_fails_gives_the_signals_back(photos, tmp_path, monkeypatch):
    handlers = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    break_step(monkeypatch, 1)
    try:
        with pytest.raises(data.UserError, match=r"^step 1:"):
            run(photos, tmp_path / "run", 5)
        assert [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        for name, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(name, handler)


# Mistakes


def test_missing_photos_are_refused_with_both_ways_to_get_some(tmp_path):
    with pytest.raises(data.UserError, match=r"`python data\.py` .*`python data\.py --toy 2048`"):
        run(tmp_path / "none", tmp_path / "run", 5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resolution", ["32", "7"])
def test_attention_where_no_feature_map_is_is_refused(resolution, photos, tmp_path):
    with pytest.raises(data.UserError, match=f"no attention at {resolution}x{resolution}"):
        run(photos, tmp_path / "run", 5, "--attn-at", resolution)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_left_alone(photos, ten_steps):
    before = {path: path.stat().st_mtime_ns for path in ten_steps.rglob("*")}
    with pytest.raises(data.UserError, match="--resume"):
        run(photos, ten_steps, 10)
    assert {path: path.stat().st_mtime_ns for path in ten_steps.rglob("*")} == before


def test_options_that_make_another_run_are_refused_on_resuming(ten_steps, tmp_path):
    for option, value in [("--width", "8"), ("--lr-g", "0.5"), ("--seed", "9"), ("--batch", "5")]:
        with pytest.raises(data.UserError, match=f"begun with {option}.*leave {option} out"):
            train.parse_options(["--resume", str(ten_steps), option, value])
    assert train.parse_options(["--resume", str(ten_steps), "--width", "4"]).width == 4
    with pytest.raises(data.UserError, match="no run to read there"):
        train.parse_options(["--resume", str(tmp_path)])


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"options": []}', '{"options": {}, "size": 64}'])
def test_a_folder_whose_config_is_none_is_named(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(data.UserError, match=f"{tmp_path}: no run to read there"):
        train.parse_options(["--resume", str(tmp_path)])


def test_a_run_from_before_an_option_goes_on_without_it(photos, ten_steps, tmp_path):
    out = run(photos, tmp_path / "run", 5)
    config = json.loads((out / "config.json").read_text())
    del config["options"]["modulate"]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(data.UserError, match="begun with --modulate False"):
        resume(out, 10, "--modulate")
    assert_same_run(resume(out, 10), ten_steps)


def test_a_modulated_run_goes_on_modulated(photos, tmp_path):
    out = resume(run(photos, tmp_path / "one", 5, "--modulate"), 10)
    assert_same_run(out, run(photos, tmp_path / "two", 10, "--modulate"))


def test_photos_that_are_still_being_cropped_are_not_trained_on(photos, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(photos, half)
    data.write_json(half / "crops.json", {"source": "there", "size": 32, "square": False, "part": "all"})
    with pytest.raises(data.UserError, match="half: the cropping isn't done"):
        run(half, tmp_path / "run", 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["full", "no-gen-attn", "no-disc-attn", "no-attn"])
def test_each_variant_has_a_folder_of_its_own(name):
    flags = {"full": [], "no-attn": ["--no-gen-attn", "--no-disc-attn"]}.get(name, [f"--{name}"])
    assert train.parse_options(flags).out == Path("runs") / name


def test_a_mistake_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, ROOT / "train.py", "--data", "missing", "--out", "run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("train.py: missing: no pictures there")
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_real_dogs_train(tmp_path):
    source = Path(os.environ.get("DOGS") or ROOT.parent / "shared/dogs")
    if not (source / "Images").is_dir():
        pytest.skip("no copy of the Stanford Dogs: set DOGS to the folder that holds Images/ and Annotation/")
    breed = min(path.name for path in (source / "Images").iterdir())
    for kind in ("Images", "Annotation"):
        (tmp_path / "dogs" / kind).mkdir(parents=True)
        (tmp_path / "dogs" / kind / breed).symlink_to((source / kind / breed).resolve())
    made, _, skipped = data.crop_dogs(tmp_path / "dogs", tmp_path / "crops", 32)
    assert made > 0
    assert skipped == {}
    out = run(tmp_path / "crops", tmp_path / "run", 3, "--log-every", "1")
    assert [row["step"] for row in rows(out)] == ["1", "2", "3"]
    assert all(math.isfinite(float(row[name])) for row in rows(out) for name in COLUMNS[:7])


def test_a_run_is_not_resumed_on_other_photos(photos, tmp_path):
    out = run(photos, tmp_path / "run", 5)
    other = tmp_path / "photos"
    other.mkdir()
    for path in photos.iterdir():  # as many, of the same size
        Image.eval(Image.open(path), lambda value: 255 - value).save(other / path.name)
    with pytest.raises(data.UserError, match="doesn't hold the 20 pictures"):
        resume(out, 10, "--data", str(other))


def test_two_processes_do_not_train_in_one_folder(photos, tmp_path, monkeypatch):
    true_step, refused = train.train_step, []

    def joined(*arguments):
        with pytest.raises(data.UserError, match="another process is training there") as caught:
            resume(tmp_path / "run", 20)
        refused.append(caught)
        return true_step(*arguments)

    monkeypatch.setattr(train, "train_step", joined)
    out = run(photos, tmp_path / "run", 2)
    assert len(refused) == 2
    assert train.read_config(out)["options"]["steps"] == 2  # the other one wrote nothing
    monkeypatch.setattr(train, "train_step", true_step)
    resume(out, 3)
    assert [row["step"] for row in rows(out)][-1] == "3"


def test_where_nothing_can_be_locked_it_trains_without(photos, tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(train.fcntl, "flock", no_locks)  # some network file systems
    run(photos, tmp_path / "network", 1)
    monkeypatch.setattr(train, "fcntl", None)  # Windows
    assert [row["step"] for row in rows(run(photos, tmp_path / "windows", 1))] == ["1"]


def test_the_options_of_the_beginning_may_be_repeated(photos, tmp_path):
    options = ["--attn-at", "16", "8", "16", "--precision", "auto"]
    out = run(photos, tmp_path / "run", 1, *options)
    resume(out, 2, *options)
    with pytest.raises(data.UserError, match="--attn-at"):
        resume(out, 3, "--attn-at", "16")


def test_a_signal_during_the_sheet_of_samples_still_saves(photos, tmp_path, monkeypatch):
    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train, "refresh_batch_norm", interrupted)
    out = run(photos, tmp_path / "run", 10, "--sample-every", "3", "--save-every", "100")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 3
