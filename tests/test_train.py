"""The losses (eq. 1-3), the randomness, one step, and whole small runs: stopped, resumed, broken."""

import csv
import fcntl
import itertools
import json
import math
import os
import resource
import shlex
import signal
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_attention import attend_elsewhere
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import fid
import sample
import train
from common import UserError, load_checkpoint
from data import image_grid, load_folder
from model import Z_DIM, generate, to_float

ROOT = Path(train.__file__).resolve().parent


def resume(out, *options):
    return train.train(train.parse_options([f"--resume={out}", *options]))


def rows(out):
    with open(out / "log.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(out):
    """What a run leaves, by file name, without what may differ: speeds (and so the log's length), paths, --steps."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out)
        if path.suffix == ".pt":
            found[name] = load_checkpoint(path)
            assert found[name].pop("config")["size"] == 32
            found[name].pop("log_bytes", None)
        elif name.name == "log.csv":
            found[name] = [{**row, "images_per_s": ""} for row in rows(out)]
        elif name.name == "config.json":
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            for option in ("resume", "out", "steps", "minutes"):
                del found[name]["options"][option]
        else:
            found[name] = path.read_bytes()
    return found


def assert_same(out, whole, more=()):
    """To the bit; `more`: files that are in `out` alone."""
    found, wanted = contents(out), contents(whole)
    assert found.keys() - wanted.keys() == {Path(name) for name in more} and not wanted.keys() - found.keys()
    for name, value in wanted.items():
        if name.suffix == ".pt":
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        else:
            assert found[name] == value, name


def changed(before, after):
    return any(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))


def small_networks(*more):
    options = train.parse_options([f"--data={ROOT}", "--out=none", "--width=4", "--attn-at=16", *more])
    return train.make_networks(32, options, "cpu")


def some_batch(batch=4):
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(batch, 3, 32, 32, generator=draw) * 2 - 1
    return real, *torch.randn(2, batch, Z_DIM, generator=draw), torch.randint(-4, 5, (batch, 3, 2), generator=draw)


def moved(x, shift, most=4):
    """translate(), by padding and cutting."""
    padded, side = F.pad(x, (most,) * 4, mode="reflect"), x.shape[-1]
    places = (most - shift).tolist()
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, places, strict=True)])


# The losses ---------------------------------------------------------------------------------------------------


def test_losses_are_the_negated_equations_2_and_3():
    real, fake = torch.randn(2, 9, dtype=torch.float64) * 5
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    eq_2 = d_real.log().mean() + (1 - d_fake).log().mean()
    torch.testing.assert_close(train.discriminator_loss(real, fake), -eq_2, rtol=1e-9, atol=0)
    torch.testing.assert_close(train.generator_loss(fake), -d_fake.log().mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("logit", "d_loss", "d_slopes", "g_loss", "g_slope"),
    [(1e3, 1e3, (0, 1), 0, 0), (-1e3, 1e3, (-1, 0), 1e3, -1), (0, 2 * math.log(2), (-0.5, 0.5), math.log(2), -0.5)],
)
def test_losses_and_gradients_are_right_at_extreme_logits(logit, d_loss, d_slopes, g_loss, g_slope):
    real, fake = (torch.tensor([float(logit)], requires_grad=True) for _ in range(2))
    loss = train.discriminator_loss(real, fake)
    assert loss.item() == pytest.approx(d_loss, rel=1e-6)
    assert torch.autograd.grad(loss, (real, fake)) == d_slopes
    loss = train.generator_loss(fake)
    assert loss.item() == pytest.approx(g_loss, rel=1e-6)
    assert torch.autograd.grad(loss, fake) == (g_slope,)


def test_the_penalty_of_a_linear_discriminator_is_its_weights_square():
    w = torch.randn(3 * 8 * 8, requires_grad=True)
    penalty = train.r1_penalty(lambda x: x.flatten(1) @ w + 7, torch.randn(5, 3, 8, 8))
    torch.testing.assert_close(penalty, w.square().sum())
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], 2 * w)


def test_the_penalty_has_a_gradient_through_torchs_attention_kernel(monkeypatch):
    w = torch.ones(3, requires_grad=True)

    def discriminator(x):
        tokens = x.flatten(2).transpose(1, 2).contiguous()  # (B, N, 3), as the fast kernel wants it
        return (attend_elsewhere(tokens, tokens, tokens) @ w).square().sum(dim=1)

    train.r1_penalty(discriminator, torch.rand(2, 3, 4, 4)).backward()
    assert w.grad.all()
    monkeypatch.setattr(train, "sdpa_kernel", lambda _: nullcontext())  # so that torch takes the fastest
    with pytest.raises(RuntimeError, match="derivative"):
        train.r1_penalty(discriminator, torch.rand(2, 3, 4, 4)).backward()


# Randomness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [3, 10, 25])
def test_each_epoch_shows_each_photo_once_in_an_order_of_its_own(batch):
    order = torch.cat([train.draw_step(1, step, batch, 10)[2] for step in range(10)])
    epochs = order[: len(order) // 10 * 10].view(-1, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10).expand(len(epochs), 10))
    assert len(epochs.unique(dim=0)) == len(epochs)


def test_what_a_step_draws_depends_on_seed_and_step_alone():
    first = train.draw_step(3, 7, 4, 100)
    torch.randn(11), np.random.default_rng().normal(), train.draw_step(3, 8, 4, 100)
    assert all(map(torch.equal, first, train.draw_step(3, 7, 4, 100)))
    assert [tuple(x.shape) for x in first] == [(4, Z_DIM), (4, Z_DIM), (4,), (4,), (4, 3, 2)]
    for others in (train.draw_step(3, 8, 4, 100), train.draw_step(4, 7, 4, 100)):
        assert not any(map(torch.equal, first[:3], others[:3]))
    assert not torch.equal(first[0], first[1])
    mirror, shifts = train.draw_step(0, 0, 1000, 10)[3:]
    assert 0.4 < mirror.float().mean() < 0.6
    assert -1 <= shifts.min() < -0.99 and 0.99 < shifts.max() < 1


# One step -----------------------------------------------------------------------------------------------------


def test_a_translation_moves_each_picture_and_mirrors_it_at_the_edge():
    pictures, _, _, shifts = some_batch(64)
    assert torch.equal(train.translate(pictures, shifts[:, 0]), moved(pictures, shifts[:, 0]))


def test_a_translations_gradient_is_the_same_every_time_on_many_threads():
    """Or a resumed run would not be the run that was never stopped."""
    pictures, _, _, shifts = some_batch(64)
    mix, threads = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1)), torch.get_num_threads()
    torch.set_num_threads(15)
    try:
        x = pictures.requires_grad_()
        first, *others = (torch.autograd.grad((train.translate(x, shifts[:, 0]) * mix).sum(), x)[0] for _ in range(20))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("r1_weight", [0, 0.2])
def test_a_step_is_d_down_its_loss_and_then_g_down_its_own(r1_weight):
    real, z_d, z_g, shifts = some_batch()
    starts = [small_networks()[:2] for _ in range(3)]  # alike; for the step, to be moved by hand, and left alone
    networks, (generator, discriminator, optimizer_g, optimizer_d), _ = (
        [*pair, *(torch.optim.SGD(network.parameters(), 0.1) for network in pair)] for pair in starts
    )
    figures = train.train_step(*networks, real, z_d, z_g, shifts, r1_weight, nullcontext())

    fake, real = moved(generator(z_d).detach(), shifts[:, 1]), moved(real, shifts[:, 0])
    d_loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()
    photos = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(photos).sum(), photos, create_graph=True)
    (d_loss + r1_weight * slope.square().sum() / 4).backward()
    own = [p.grad.clone() for p in discriminator.parameters()]
    optimizer_d.step()
    optimizer_g.zero_grad()
    g_loss = F.softplus(-discriminator(moved(generator(z_g), shifts[:, 2]))).mean()
    g_loss.backward()
    optimizer_g.step()

    torch.testing.assert_close(figures[:2], torch.stack([d_loss, g_loss]).detach())
    torch.testing.assert_close([p.grad for p in networks[1].parameters()], own)  # G's turn spends nothing on them
    for ours, by_hand, start in zip(*starts, strict=True):
        assert changed(start, ours)
        torch.testing.assert_close(dict(ours.named_parameters()), dict(by_hand.named_parameters()))


@pytest.mark.parametrize("r1", [0, 0.2])
def test_a_step_normalises_in_float32_by_one_power_iteration_a_turn(r1):
    networks = small_networks("--spectral-norm")
    calls = {}
    for network in networks[:2]:
        for module in filter(parametrize.is_parametrized, network.modules()):
            module.parametrizations.weight[0].register_forward_hook(
                lambda norm, given, output: calls.setdefault(norm, []).append(
                    (norm.training, torch.is_autocast_enabled("cpu"))
                )
            )
    autocast = torch.autocast("cpu", torch.bfloat16)
    figures = train.train_step(*networks, *some_batch(), r1, autocast)
    assert figures.isfinite().all() and len(calls) == sum(
        isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for network in networks[:2] for module in network.modules()
    )
    for norm, passes in calls.items():  # only in training mode is it a power iteration: in D's turn and in G's
        penalty = [(False, False)] if r1 and norm in set(networks[1].modules()) else []
        assert passes == [(True, False), *penalty, (True, False)]


def test_the_average_follows_by_its_decay_and_at_first_faster():
    generator, start = small_networks()[0], small_networks("--seed=1")[0].requires_grad_(False)
    generator(torch.randn(4, Z_DIM))  # so that batch norm's statistics differ, too
    for step, decay, kept in ((10**18, 1.0, 1), (0, 0.999, 1 / 10), (90, 0.999, 91 / 100), (10**6, 0.999, 0.999)):
        ema = deepcopy(start)
        train.update_ema(ema, generator, step, decay)
        for ours, old, new in zip(*(network.parameters() for network in (ema, start, generator)), strict=True):
            torch.testing.assert_close(ours, kept * old + (1 - kept) * new)
        assert all(map(torch.equal, ema.buffers(), generator.buffers()))


def fixed_z():
    """That of the grids of a run with seed 0."""
    return torch.randn(1024, Z_DIM, generator=train.random_generator(0, 2))


# Runs ---------------------------------------------------------------------------------------------------------


def test_a_run_folder_holds_what_the_docstring_says(ten_steps, photos):
    names = {str(path.relative_to(ten_steps)) for path in ten_steps.rglob("*") if path.is_file()}
    pairs = {f"samples/{step:06d}.png" for step in (4, 8, 10)} | {f"snapshots/{step:06d}.pt" for step in (4, 8, 10)}
    assert names - {".lock"} == {"config.json", "log.csv", "checkpoint.pt"} | pairs
    found = rows(ten_steps)
    assert list(found[0]) == train.COLUMNS
    assert [row["step"] for row in found] == ["2", "4", "6", "8", "10"]
    assert all(math.isfinite(float(row[name])) for row in found for name in list(row)[:8])
    config = train.read_config(ten_steps)
    assert (config["size"], config["photos"], config["options"]["data"]) == (32, 20, str(photos))
    assert config["options"]["attn_at"] == [16]  # half the pictures' size


def test_rows_are_means_of_the_steps_since_the_last(begin, tmp_path, monkeypatch):
    true_step, figures = train.train_step, []
    monkeypatch.setattr(train, "train_step", lambda *given: figures.append(true_step(*given)) or figures[-1])
    out = begin(tmp_path / "run", "--steps=5")
    means = [torch.stack(part)[:, :4].mean(0) for part in (figures[:2], figures[2:4], figures[4:])]
    for row, mean in zip(rows(out), means, strict=True):
        found = torch.tensor([float(row[name]) for name in ("d_loss", "g_loss", "d_real", "d_fake")])
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-5)


def test_a_step_gets_what_was_drawn_for_it_and_now_and_then_the_penalty(photos, begin, tmp_path, monkeypatch):
    true_step, given = train.train_step, []
    monkeypatch.setattr(train, "train_step", lambda *each: given.append(each) or true_step(*each))
    begin(tmp_path / "run", f"--steps={2 * train.R1_EVERY}", "--r1=0.3")
    weights, pictures = [each[8] for each in given], load_folder(photos)
    assert np.mean(weights) == pytest.approx(0.3 / 2) and np.count_nonzero(weights) == 2  # half of R1 on average
    for step, found in enumerate(given):
        z_d, z_g, index, mirror, shifts = train.draw_step(0, step, 4, 20)
        real = [photo.flip(2) if turned else photo for photo, turned in zip(pictures[index], mirror, strict=True)]
        wanted = to_float(torch.stack(real)), z_d, z_g, (4 * shifts).round().long()  # an eighth of 32 pixels
        assert all(map(torch.equal, found[4:8], wanted))


def test_a_snapshot_makes_the_very_grid_of_its_step(ten_steps):
    generator, step = sample.load_generator(ten_steps / "snapshots/000008.pt")
    grid = np.asarray(image_grid(generate(generator, fixed_z()[:64])))
    assert step == 8
    assert np.array_equal(grid, np.asarray(Image.open(ten_steps / "samples/000008.png")))


def test_batch_norms_statistics_in_a_snapshot_are_those_of_the_averaged_weights(ten_steps):
    generator, _ = sample.load_generator(ten_steps / "snapshots/000008.pt")
    norms, means = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)], {}
    stored = [norm.running_mean.clone() for norm in norms]
    for norm in norms:
        norm.register_forward_pre_hook(
            lambda norm, given: means.setdefault(norm, []).append(given[0].detach().mean(dim=(0, 2, 3)))
        )
    with torch.no_grad():
        for z in fixed_z().split(64):
            generator.train()(z)
    for norm, mean in zip(norms, stored, strict=True):
        torch.testing.assert_close(mean, torch.stack(means[norm]).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_samples_come_when_asked_for_whatever_the_rows_of_the_log(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=7", "--sample-every=3", "--log-every=5")
    assert [path.stem for path in sorted((out / "samples").iterdir())] == ["000003", "000006", "000007"]


def test_one_seed_makes_one_run_and_another_seed_another(begin, ten_steps, tmp_path):
    assert_same(begin(tmp_path / "again"), ten_steps)
    other = begin(tmp_path / "other", "--seed=1", "--steps=2")
    assert rows(other)[0]["d_loss"] != rows(ten_steps)[0]["d_loss"]


@pytest.mark.parametrize("more", ["--precision=bf16", "--no-gen-attn", "--no-disc-attn", "--r1=0"])
def test_a_variant_trains_and_goes_on_exactly(more, begin, tmp_path):
    options = [more, "--spectral-norm", "--attn-at", "8", "16"]
    whole = begin(tmp_path / "whole", "--steps=4", *options)
    assert all(math.isfinite(float(rows(whole)[-1][name])) for name in ("d_loss", "g_loss"))
    out = resume(begin(tmp_path / "run", "--steps=2", *options), "--steps=4")
    assert_same(out, whole, more=["samples/000002.png", "snapshots/000002.pt"])


# Stopped and resumed ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing that a script would catch."""


@pytest.mark.parametrize("moment", range(0, 26, 2))
def test_a_run_that_is_killed_anywhere_and_resumed_is_the_one_that_never_was(
    moment, begin, ten_steps, tmp_path, monkeypatch
):
    moments, out = itertools.count(), tmp_path / "run"

    def mortal(function):
        def may_die(*given, **named):
            if next(moments) == moment:
                raise Killed
            return function(*given, **named)

        return may_die

    with monkeypatch.context() as patch:  # before each step, each row, and each file that gets its name
        patch.setattr(train, "train_step", mortal(train.train_step))
        patch.setattr(train.RunFolder, "write_row", mortal(train.RunFolder.write_row))
        patch.setattr(os, "replace", mortal(os.replace))
        with pytest.raises(Killed):
            begin(out)
    if (out / "config.json").exists():
        resume(out)
    else:
        begin(out)
    assert_same(out, ten_steps)


def test_a_kill_loses_a_minute_and_the_steps_since_the_last_row(begin, tmp_path, monkeypatch):
    true_step, calls, clock = train.train_step, itertools.count(), itertools.count(step=61)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # a minute between any two

    def mortal(*given):
        if next(calls) == 7:
            raise Killed
        return true_step(*given)

    monkeypatch.setattr(train, "train_step", mortal)
    with pytest.raises(Killed):
        begin(tmp_path / "run", "--sample-every=100")
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 6


def test_a_run_that_has_done_its_steps_does_no_more(begin, tmp_path, monkeypatch):
    out = begin(tmp_path / "run", "--steps=3")
    monkeypatch.setattr(train, "train_step", None)
    for steps in (3, 2):
        resume(out, f"--steps={steps}")
        assert load_checkpoint(out / "checkpoint.pt")["step"] == 3


def test_what_follows_the_checkpoint_in_the_log_is_cut_off(begin, ten_steps, tmp_path):
    out = begin(tmp_path / "run", "--steps=4")
    with open(out / "log.csv", "a") as log:
        log.write("6,a row from after the checkpoint\n" * 20 + "8,half a r")
    assert_same(resume(out, "--steps=10"), ten_steps)


def test_a_run_stops_after_its_minutes_and_goes_on_without(begin, ten_steps, tmp_path):
    out = begin(tmp_path / "run", "--minutes=0")
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 2
    assert_same(resume(out), ten_steps, more=["samples/000002.png", "snapshots/000002.pt"])


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(name, begin, ten_steps, tmp_path, monkeypatch, capsys):
    true_step, calls = train.train_step, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(name)
        return true_step(*given)

    monkeypatch.setattr(train, "train_step", interrupted)
    out = begin(tmp_path / "my run")
    assert len(calls) == 6 and load_checkpoint(out / "checkpoint.pt")["step"] == 6
    assert f"--resume {shlex.quote(str(out))}" in capsys.readouterr().out
    assert_same(resume(out), ten_steps, more=["samples/000006.png", "snapshots/000006.pt"])


def test_a_run_in_a_thread_is_the_same(begin, ten_steps, tmp_path):
    with ThreadPool(1) as pool:
        assert_same(pool.apply(begin, [tmp_path / "run"]), ten_steps)


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_what_is_no_number_stops_the_run_before_it_gets_into_a_file(what, begin, tmp_path, monkeypatch):
    true_step, calls = train.train_step, []

    def broken(*given):
        calls.append(1)
        figures = true_step(*given)
        if len(calls) == 8 and what == "loss":
            figures[0] = math.nan
        if len(calls) == 8 and what == "weight":
            next(given[1].parameters()).data[0] = math.inf
        return figures

    monkeypatch.setattr(train, "train_step", broken)
    with pytest.raises(UserError, match=r"step 8\b.*--lr-g"):
        begin(tmp_path / "run")
    found = contents(tmp_path / "run")
    assert found[Path("checkpoint.pt")]["step"] == 4 and rows(tmp_path / "run")[-1]["step"] == "6"
    assert not [name for name in found if name.stem == "000008"]


def test_where_the_disk_is_full_the_last_checkpoint_is_kept(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=4")
    before, size = (out / "checkpoint.pt").read_bytes(), (out / "checkpoint.pt").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(UserError, match=r"checkpoint\.pt.*disk"):
            resume(out, "--steps=10")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "checkpoint.pt").read_bytes() == before and not list(out.rglob("*.part"))


def test_only_what_is_open_for_writing_is_synced(begin, tmp_path, monkeypatch):
    """As on Windows, where the rest is an error."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE))
    begin(tmp_path / "run", "--steps=1")
    assert synced and os.O_RDONLY not in synced


def test_a_locale_without_accents_and_a_name_that_is_no_utf_8_are_no_matter(photos, tmp_path):
    os.symlink(photos, tmp_path / "hündchen")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = os.fsdecode(b"caf\xc3\xa9-\xff")
    command = [sys.executable, str(ROOT / "train.py"), "--width=4", "--batch=4", "--device=cpu"]
    command += ["--data", "hündchen", "--out", out]
    done = subprocess.run([*command, "--steps=1"], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0 and b"1 steps done" in done.stdout, done.stderr
    assert rows(tmp_path / out)[-1]["step"] == "1"
    assert rows(resume(tmp_path / out, "--steps=2", f"--data={photos}"))[-1]["step"] == "2"


# FID in a run -------------------------------------------------------------------------------------------------


class Colours(nn.Module):
    """In Inception's place, which is slow: 2,048 features, of which the first three tell pictures apart."""

    def forward(self, images):
        return F.pad(100 * torch.stack([image.mean((1, 2)) for image in images]), (0, 2045))


def gaussian(features):
    features = features.double().numpy()
    return features.mean(0), np.cov(features, rowvar=False)


@pytest.mark.parametrize("given", ["folder", "statistics"])
def test_fid_in_a_run_is_that_of_its_snapshot_and_changes_nothing_else(
    given, photos, begin, ten_steps, tmp_path, monkeypatch
):
    colours, more = Colours(), []
    monkeypatch.setattr(fid, "load_inception", lambda weights, device: colours)
    real = colours([fid.read_picture(path) for path in sorted(photos.iterdir())])
    if given == "statistics":
        mu, sigma = gaussian(real)
        np.savez(tmp_path / "real.npz", mu=mu, sigma=sigma)
        more = [f"--real-stats={tmp_path / 'real.npz'}"]
        monkeypatch.setattr(fid, "folder_statistics", None)
    monkeypatch.setattr(train, "MILESTONES", {6})
    out = begin(tmp_path / "run", "--fid-every=8", *more)
    distances = {row["step"]: row["fid"] for row in rows(out)}
    assert [step for step, distance in distances.items() if distance] == ["6", "8"]
    generator, _ = sample.load_generator(out / "snapshots/000008.pt")
    z = torch.randn(5000, Z_DIM, generator=train.random_generator(0, 3))
    fake = colours(generate(generator, z).float() / 255)
    wanted = fid.frechet_distance(*gaussian(real[:, :3]), *gaussian(fake[:, :3]))
    assert float(distances["8"]) == pytest.approx(wanted, rel=1e-3)
    found, wanted = (contents(path)[Path("checkpoint.pt")] for path in (out, ten_steps))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_a_run_begun_without_fid_goes_on_with_it_and_with_other_weights_for_it(begin, tmp_path, monkeypatch):
    weights = []
    monkeypatch.setattr(train, "fid_meter", lambda options, _: weights.append(str(options.inception)) or (lambda _: 3))
    out = begin(tmp_path / "run", "--steps=2")
    resume(out, "--steps=4", "--fid-every=4", "--inception=here.pth")
    resume(out, "--steps=6", "--fid-every=6")
    resume(out, "--steps=8", "--fid-every=8", "--inception=there.pth")
    assert weights == ["here.pth", "here.pth", "there.pth"]
    assert [row["fid"] for row in rows(out)] == ["", "3.0000", "3.0000", "3.0000"]


@pytest.mark.parametrize("option", ["--inception", "--real-stats"])
def test_a_missing_file_for_fid_is_told_before_anything_is_written(option, begin, tmp_path, monkeypatch):
    if option == "--real-stats":
        monkeypatch.setattr(fid, "load_inception", lambda weights, device: Colours())
    with pytest.raises(UserError, match=r"nowhere\.npz"):
        begin(tmp_path / "run", "--fid-every=5", f"{option}=nowhere.npz")
    assert not (tmp_path / "run").exists()


# Mistakes -----------------------------------------------------------------------------------------------------


def test_missing_photos_are_refused_and_two_ways_are_told(begin, tmp_path):
    with pytest.raises(UserError, match=r"none.*`python data\.py`.*--data"):
        begin(tmp_path / "run", f"--data={tmp_path / 'none'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("size", "error"), [((48, 48), "--data"), ((32, 64), "not square"), ((64, 32), "not square")])
def test_photos_of_a_wrong_shape_are_refused(size, error, begin, tmp_path):
    (tmp_path / "photos").mkdir()
    for index in range(4):
        Image.new("RGB", size).save(tmp_path / f"photos/{index}.png")
    with pytest.raises(UserError, match=error):
        begin(tmp_path / "run", f"--data={tmp_path / 'photos'}", "--steps=1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resolution", ["64", "7"])
def test_attention_where_no_feature_map_is_is_refused(resolution, begin, tmp_path):
    with pytest.raises(UserError, match=f"--attn-at.*no attention at {resolution}x{resolution}"):
        begin(tmp_path / "run", "--attn-at", resolution)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_left_alone_and_one_with_hidden_files_only_is_empty(begin, ten_steps, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in ten_steps.rglob("*")}
    with pytest.raises(UserError, match=f"{ten_steps} isn't empty.*--resume"):
        begin(ten_steps)
    assert {path: path.stat().st_mtime_ns for path in ten_steps.rglob("*")} == before
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.DS_Store").touch()
    assert rows(begin(tmp_path / "run", "--steps=1"))


@pytest.mark.parametrize("option", ["--width=8", "--translation=0", "--seed=9", "--batch=5", "--no-gen-attn"])
def test_options_that_make_another_run_are_refused_on_resuming(option, ten_steps):
    name = option.partition("=")[0]
    with pytest.raises(UserError, match=f"begun with {name}.*leave {name} out"):
        train.parse_options([f"--resume={ten_steps}", option])


def test_rates_may_change_on_resuming_and_are_kept_from_then_on(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=2", "--ema=0")  # the average of the last step alone
    resume(out, "--steps=4", "--lr-g=0")
    resume(out, "--steps=6")
    two, four, six = (load_checkpoint(out / f"snapshots/{step:06d}.pt")["generator_ema"] for step in (2, 4, 6))
    weight = "to_rgb.weight"
    assert torch.equal(two[weight], four[weight]) and torch.equal(two[weight], six[weight])
    resume(out, "--steps=8", "--lr-g=0.01")
    assert not torch.equal(two[weight], load_checkpoint(out / "snapshots/000008.pt")["generator_ema"][weight])


def test_the_options_of_the_beginning_may_be_repeated_on_resuming(ten_steps):
    options = train.parse_options([f"--resume={ten_steps}", "--width=4", "--attn-at", "16", "--betas", "0", "0.99"])
    assert (options.width, options.batch, options.log_every, options.out) == (4, 4, 2, ten_steps)


@pytest.mark.parametrize("config", [None, "", "{}"])
def test_a_folder_whose_config_is_none_is_named(config, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=f"{tmp_path}: no run to read there"):
        train.parse_options([f"--resume={tmp_path}"])


def test_a_checkpoint_of_another_run_is_refused(begin, ten_steps, tmp_path):
    out = begin(tmp_path / "run", "--steps=1", "--width=2")
    (out / "checkpoint.pt").write_bytes((ten_steps / "checkpoint.pt").read_bytes())
    before = (out / "log.csv").read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt doesn't fit"):
        resume(out, "--steps=10")
    assert (out / "log.csv").read_bytes() == before


def test_a_log_that_lost_rows_is_refused(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=2")
    (out / "log.csv").write_bytes(b"")
    with pytest.raises(UserError, match="lost rows"):
        resume(out, "--steps=4")


def test_a_run_that_lost_its_checkpoint_keeps_its_log(begin, tmp_path):
    out = begin(tmp_path / "run")
    log = (out / "log.csv").read_bytes()
    (out / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        resume(out, "--steps=20")
    assert (out / "log.csv").read_bytes() == log


def test_a_run_of_another_version_is_refused_naming_its_options(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=2")
    config = json.loads((out / "config.json").read_text())
    config["options"]["shift"] = config["options"].pop("r1")  # one that is new, one that is gone
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="r1, shift"):
        resume(out, "--steps=4")


def test_a_run_is_not_resumed_on_other_photos(photos, begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=1")
    (tmp_path / "photos").mkdir()
    for path in photos.iterdir():  # as many, of the same size
        Image.eval(Image.open(path), lambda value: 255 - value).save(tmp_path / "photos" / path.name)
    with pytest.raises(UserError, match=f"{tmp_path / 'photos'}.*--data"):
        resume(out, "--steps=10", f"--data={tmp_path / 'photos'}")


def test_two_trainings_in_one_folder_do_not_mix(begin, ten_steps, tmp_path, monkeypatch):
    true_step, refused = train.train_step, []

    def joined(*given):
        if not refused:
            with pytest.raises(UserError, match="another process"):
                resume(tmp_path / "run", "--steps=20")
            refused.append(1)
        return true_step(*given)

    monkeypatch.setattr(train, "train_step", joined)
    out = begin(tmp_path / "run")
    assert refused
    assert_same(out, ten_steps)
    assert train.read_config(out)["options"]["steps"] == 10  # the other one wrote nothing


@pytest.mark.parametrize("name", ["full", "no-gen-attn", "no-disc-attn", "no-attn"])
def test_each_variant_has_a_folder_of_its_own(name, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {"full": [], "no-attn": ["--no-gen-attn", "--no-disc-attn"]}.get(name, [f"--{name}"])
    assert train.parse_options([f"--data={photos}", *flags]).out == Path("runs") / name


def test_a_network_of_twice_the_width_has_half_the_rates_unless_they_are_given(photos):
    narrow, wide = (train.parse_options([f"--data={photos}", f"--width={width}", "--lr-d=0"]) for width in (32, 64))
    assert narrow.lr_g == 2 * wide.lr_g == 8e-4  # what docs/recipe.md found at both
    assert narrow.lr_d == wide.lr_d == 0
