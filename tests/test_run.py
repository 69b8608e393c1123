"""Whole small runs: what they write, how they are stopped and go on, and what is refused."""

import csv
import itertools
import json
import math
import os
import resource
import shlex
import signal
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import noise, write
from PIL import Image
from torch import nn

import run
import snapshots
import train
from common import UserError
from config import code_version, read_config
from data import load_folder
from files import load_checkpoint
from model import Z_DIM
from snapshots import generate, image_grid

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
        elif name.name == "log.csv":
            found[name] = [{**row, "images_per_s": ""} for row in rows(out)]
        elif name.name == "config.json":
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            del found[name]["code"]  # somebody may commit while the tests run
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


def fixed_z():
    """That of the grids of a run with seed 0."""
    return torch.randn(1024, Z_DIM, generator=train.random_generator(0, 2))


# Runs ---------------------------------------------------------------------------------------------------------


def test_a_run_folder_holds_what_the_docstring_says(ten_steps, photos):
    names = {str(path.relative_to(ten_steps)) for path in ten_steps.rglob("*") if path.is_file()}
    pairs = {f"samples/{step:06d}.png" for step in (4, 8, 10)} | {f"snapshots/{step:06d}.pt" for step in (4, 8, 10)}
    assert names - {".lock"} == {"config.json", "log.csv", "checkpoint.pt"} | pairs
    found = rows(ten_steps)
    assert list(found[0]) == run.COLUMNS
    assert [row["step"] for row in found] == ["2", "4", "6", "8", "10"]
    assert all(math.isfinite(float(row[name])) for row in found for name in list(row)[:8])
    config = read_config(ten_steps)
    assert (config["size"], config["photos"], config["options"]["data"]) == (32, 20, str(photos))
    assert config["options"]["attn_at"] == [16]  # half the pictures' size


def test_attention_is_at_most_at_32_unless_asked_for(begin, tmp_path):
    """At 64x64 the maps that R1 keeps would take 48 GB with a batch of 64."""
    data = write(tmp_path / "photos", noise(0, 2, 128, 128))
    out = begin(tmp_path / "run", f"--data={data}", "--steps=1", "--width=2", "--batch=2")
    assert read_config(out)["options"]["attn_at"] == [32]


def test_with_spectral_norm_a_snapshot_is_normalised_by_the_averaged_weights(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=8", "--spectral-norm", "--sample-every=2")
    generator, _ = snapshots.load_generator(out / "snapshots/000008.pt")
    for conv in (module for module in generator.modules() if isinstance(module, nn.Conv2d)):
        norm = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), ord=2).item()
        assert norm == pytest.approx(1, rel=0.05)


def test_rows_are_means_of_the_steps_since_the_last(begin, tmp_path, monkeypatch):
    true_step, figures = train.train_step, []
    monkeypatch.setattr(train, "train_step", lambda *given: figures.append(true_step(*given)) or figures[-1])
    out = begin(tmp_path / "run", "--steps=5")
    for row, part in zip(rows(out), (figures[:2], figures[2:4], figures[4:]), strict=True):
        for name in ("d_loss", "g_loss", "d_real", "d_fake"):
            assert float(row[name]) == pytest.approx(np.mean([step[name] for step in part]), abs=1e-5)


def test_a_step_gets_what_was_drawn_for_it_and_now_and_then_the_penalty(photos, begin, tmp_path, monkeypatch):
    true_step, given = train.train_step, []
    monkeypatch.setattr(train, "train_step", lambda *each: given.append(each) or true_step(*each))
    begin(tmp_path / "run", f"--steps={2 * train.R1_EVERY}", "--r1=0.3")
    weights = [weight for *_, weight in given]
    assert np.mean(weights) == pytest.approx(0.3 / 2) and np.count_nonzero(weights) == 2  # half of R1 on average
    for step, (_, pictures, batch, _) in enumerate(given):
        assert torch.equal(pictures, load_folder(photos))
        assert all(map(torch.equal, batch, train.draw_batch(0, step, 4, 20, 4)))  # an eighth of 32 pixels


def test_a_snapshot_makes_the_very_grid_of_its_step(ten_steps):
    generator, step = snapshots.load_generator(ten_steps / "snapshots/000008.pt")
    grid = np.asarray(image_grid(generate(generator, fixed_z()[:64])))
    assert step == 8
    assert np.array_equal(grid, np.asarray(Image.open(ten_steps / "samples/000008.png")))


def test_batch_norms_statistics_in_a_snapshot_are_those_of_the_averaged_weights(ten_steps):
    generator, _ = snapshots.load_generator(ten_steps / "snapshots/000008.pt")
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
        patch.setattr(run.Run, "write_row", mortal(run.Run.write_row))
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
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # a minute between any two

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
    resume(out, "--steps=3")
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 3
    before = (out / "config.json").read_bytes()
    with pytest.raises(UserError, match="done 3 steps"):
        resume(out, "--steps=2")  # would forget how far the run was to go
    assert (out / "config.json").read_bytes() == before


@pytest.mark.parametrize("how", ["beyond", "windows", "spreadsheet", "broken"])
def test_a_log_that_was_touched_is_cut_by_step_and_the_run_goes_on(how, begin, ten_steps, tmp_path):
    out = begin(tmp_path / "run", "--steps=4")
    path = out / "log.csv"
    text = path.read_text(encoding="utf-8")
    if how == "beyond":  # rows from after the checkpoint, the last half written
        path.write_text(text + "6,1,1,1,1,0,0,9\n" * 20 + "8,1,1", encoding="utf-8")
    if how == "windows":
        path.write_bytes("\ufeff".encode() + text.replace("\n", "\r\n").encode())
    if how == "spreadsheet":  # quotes, and no zeros at the end
        path.write_text('"step"' + text[4:].replace("0,", ","), encoding="utf-8")
    if how == "broken":  # lines put in, a row twice and in another order, and bytes that are no text
        header, two, four = text.splitlines()
        bad = ["notes", two.replace(",", ",inf", 1), "3,x,1,1,1,0,0,9", four, two]
        path.write_bytes("\n".join([header, *bad]).encode() + b"\n\xff\xfe\n")
    resume(out, "--steps=10")
    if how == "spreadsheet":  # what it did to the numbers stays
        assert [row["step"] for row in rows(out)] == ["2", "4", "6", "8", "10"]
    else:
        assert_same(out, ten_steps)


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


def test_a_second_signal_stops_at_once_and_gives_the_signals_back(begin, tmp_path, monkeypatch):
    before = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(*given):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "run")
    assert [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)] == before


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
            figures["d_loss"] *= math.nan
        if len(calls) == 8 and what == "weight":
            next(given[0].discriminator.parameters()).data[0] = math.inf
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


# Mistakes -----------------------------------------------------------------------------------------------------


def test_missing_photos_are_refused_and_two_ways_are_told(begin, tmp_path):
    with pytest.raises(UserError, match=r"none.*`python data\.py`.*--data"):
        begin(tmp_path / "run", f"--data={tmp_path / 'none'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("size", "error"), [((48, 48), "--size"), ((32, 64), "not square"), ((64, 32), "not square")])
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


@pytest.mark.parametrize("option", ["--width=8", "--betas=0 0", "--seed=9", "--batch=5", "--no-gen-attn"])
def test_options_that_make_another_run_are_refused_on_resuming(option, ten_steps):
    name = option.partition("=")[0]
    with pytest.raises(UserError, match=f"begun with {name}.*leave {name} out"):
        train.parse_options([f"--resume={ten_steps}", *option.replace("=", " ").split()])


def test_rates_may_change_on_resuming_and_are_kept_from_then_on(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=2", "--ema=0")  # the average of the last step alone
    resume(out, "--steps=4", "--lr-g=0")
    resume(out, "--steps=6")
    two, four, six = (load_checkpoint(out / f"snapshots/{step:06d}.pt")["generator_ema"] for step in (2, 4, 6))
    weight = "to_rgb.weight"
    assert torch.equal(two[weight], four[weight]) and torch.equal(two[weight], six[weight])
    resume(out, "--steps=8", "--lr-g=0.01", "--translation=0")
    assert not torch.equal(two[weight], load_checkpoint(out / "snapshots/000008.pt")["generator_ema"][weight])
    changes = [f"step 2: lr_g {0.0256 / 4} -> 0.0", "step 6: lr_g 0.0 -> 0.01", "step 6: translation 0.125 -> 0.0"]
    assert read_config(out)["changes"] == changes


def test_a_change_is_kept_even_if_the_run_is_killed_before_its_first_save(begin, tmp_path, monkeypatch):
    out = begin(tmp_path / "run", "--steps=2")
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(train, "train_step", None)
        resume(out, "--steps=4", "--lr-g=0.5")
    assert train.parse_options([f"--resume={out}"]).lr_g == 0.5


def test_what_somebody_wrote_into_config_json_makes_no_other_run_of_it(begin, ten_steps, tmp_path):
    out = begin(tmp_path / "run", "--steps=4")
    config = json.loads((out / "config.json").read_text())
    config["options"] |= {"batch": 8, "seed": 1, "lr_g": [1]}
    (out / "config.json").write_text(json.dumps(config))
    assert_same(resume(out, "--steps=10"), ten_steps)


def test_a_run_tells_its_code_and_is_warned_when_it_goes_on_with_another(begin, tmp_path, monkeypatch, capsys):
    out = begin(tmp_path / "run", "--steps=2")
    config = read_config(out)
    assert config["torch"] == torch.__version__ and config["device"] == "cpu"
    assert config["code"] == code_version() and len(config["code"]["sha256"]) == 12
    monkeypatch.setattr("config.code_version", lambda: config["code"] | {"sha256": "another"})
    capsys.readouterr()
    resume(out, "--steps=4")
    assert "other code" in capsys.readouterr().err
    assert read_config(out)["changes"] == [f"step 2: code {config['code']['sha256']} -> another"]
    resume(out, "--steps=6")
    assert "other code" not in capsys.readouterr().err


def test_the_options_of_the_beginning_may_be_repeated_on_resuming(ten_steps):
    options = train.parse_options([f"--resume={ten_steps}", "--width=4", "--attn-at", "16", "--betas", "0", "0.99"])
    assert (options.width, options.batch, options.log_every, options.out) == (4, 4, 2, ten_steps)


@pytest.mark.parametrize("config", [None, "", "{}"])
def test_a_folder_whose_config_is_none_is_named(config, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=f"{tmp_path}: no run to read there"):
        train.parse_options([f"--resume={tmp_path}"])


@pytest.mark.parametrize("broken", ["cut off", "no part", "no options", "no code", "of another network"])
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_log_is_left_alone(broken, begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=1")
    path, log = out / "checkpoint.pt", (out / "log.csv").read_bytes()
    checkpoint = load_checkpoint(path)
    if broken == "no part":
        del checkpoint["optimizer_d"]
    if broken == "no options":
        checkpoint["config"]["options"] = None
    if broken == "no code":
        del checkpoint["config"]["code"]
    if broken == "of another network":
        checkpoint["config"]["options"]["width"] = 2
    torch.save(checkpoint, path)
    if broken == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"checkpoint\.pt(: can't be read|: no checkpoint| doesn't fit)"):
        resume(out, "--steps=10")
    assert (out / "log.csv").read_bytes() == log


def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_lost(begin, tmp_path):
    mine, other = begin(tmp_path / "mine"), begin(tmp_path / "other", "--seed=1")
    (mine / "checkpoint.pt").write_bytes((other / "checkpoint.pt").read_bytes())
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"checkpoint.pt: of another run"):
        resume(mine, "--steps=12")
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before
    for snapshot in (mine / "snapshots").iterdir():  # these tell nothing
        snapshot.write_bytes(b"broken")
    resume(mine, "--steps=12")


def test_a_run_that_lost_its_checkpoint_keeps_its_log(begin, tmp_path):
    out = begin(tmp_path / "run")
    log = (out / "log.csv").read_bytes()
    (out / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        resume(out, "--steps=20")
    assert (out / "log.csv").read_bytes() == log


def test_a_run_of_another_version_is_refused_naming_its_options(begin, tmp_path):
    out = begin(tmp_path / "run", "--steps=2")
    checkpoint = load_checkpoint(out / "checkpoint.pt")
    options = checkpoint["config"]["options"]
    options["shift"] = options.pop("r1")  # one that is new, one that is gone
    torch.save(checkpoint, out / "checkpoint.pt")
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
    assert read_config(out)["options"]["steps"] == 10  # the other one wrote nothing


@pytest.mark.parametrize("name", ["full", "no-gen-attn", "no-disc-attn", "no-attn"])
def test_each_variant_has_a_folder_of_its_own(name, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {"full": [], "no-attn": ["--no-gen-attn", "--no-disc-attn"]}.get(name, [f"--{name}"])
    assert train.parse_options([f"--data={photos}", *flags]).out == Path("runs") / name


def test_a_network_of_twice_the_width_has_half_the_rates_unless_they_are_given(photos):
    narrow, wide = (train.parse_options([f"--data={photos}", f"--width={width}", "--lr-d=0"]) for width in (32, 64))
    assert narrow.lr_g == 2 * wide.lr_g == 8e-4  # what docs/recipe.md found at both
    assert narrow.lr_d == wide.lr_d == 0
