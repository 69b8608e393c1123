"""Pictures from a small trained run: the same whatever the batch, and honest about what they show."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
import sample
import train
from model import generate

ROOT = Path(sample.__file__).resolve().parent
SMALL = [
    "--width=4",
    "--batch=4",
    "--z-dim=8",
    "--attn-at=16",
    "--modulate",
    "--steps=3",
    "--sample-every=1",
    "--device=cpu",
    "--precision=fp32",
]


def trained(root, *more):
    folder = root / "photos"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return train.train(train.parse_options([*SMALL, "--data", str(folder), "--out", str(root / "run"), *more]))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def generator(run_folder):
    return sample.load_generator(sample.find_snapshot(run_folder))[0]


def pictures_in(folder):
    assert all(path.suffix == ".png" for path in folder.iterdir())
    return [data.read_image(path) for path in sorted(folder.iterdir())]


def command(*arguments):
    line = [sys.executable, ROOT / "sample.py", *arguments, "--device", "cpu"]
    return subprocess.run(line, capture_output=True, text=True)


# Snapshots


def test_snapshots_are_found_by_step(run_folder, tmp_path):
    assert sample.find_snapshot(run_folder) == run_folder / "snapshots/000003.pt"
    assert sample.find_snapshot(run_folder, 2) == run_folder / "snapshots/000002.pt"
    assert sample.find_snapshot(Path("some.pt")) == Path("some.pt")
    with pytest.raises(data.UserError, match="no snapshot of step 7; there are 1, 2, 3"):
        sample.find_snapshot(run_folder, 7)
    with pytest.raises(data.UserError, match="no snapshots there"):
        sample.find_snapshot(tmp_path)


def test_a_snapshot_holds_the_average_and_the_trained_weights(run_folder):
    checkpoint = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    for raw, name in ((False, "average"), (True, "generator")):
        generator, step = sample.load_generator(run_folder / "snapshots/000003.pt", raw=raw)
        assert (step, generator.training) == (3, False)
        torch.testing.assert_close(dict(generator.state_dict()), dict(checkpoint[name]), rtol=0, atol=0)
    assert not torch.equal(checkpoint["average"]["to_rgb.bias"], checkpoint["generator"]["to_rgb.bias"])


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_snapshot_is_not_run(tmp_path):
    torch.save({"step": 1, "config": RunsCode(tmp_path / "touched")}, tmp_path / "bad.pt")
    with pytest.raises(data.UserError, match=r"bad\.pt: can't be read"):
        sample.load_generator(tmp_path / "bad.pt")
    assert not (tmp_path / "touched").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)  # it would have been, so the file is a real trap
    assert (tmp_path / "touched").exists()


def test_files_that_hold_no_generator_are_named(run_folder, tmp_path):
    path = tmp_path / "some.pt"
    good = (run_folder / "snapshots/000003.pt").read_bytes()
    for content in (None, b"", b"nonsense", good[: len(good) // 2], good[:-20]):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(data.UserError, match=r"some\.pt: can't be read"):
            sample.load_generator(path)
    snapshot = torch.load(run_folder / "snapshots/000003.pt", weights_only=True)
    other = snapshot | {"config": {"options": snapshot["config"]["options"] | {"width": 8}, "size": 32}}
    for content in ({}, {"config": {"options": {}}}, other, snapshot | {"average": {}}):
        torch.save(content, path)
        with pytest.raises(data.UserError, match=r"some\.pt: no generator"):
            sample.load_generator(path)


# Pictures


def test_pictures_depend_on_the_seed_alone(generator, tmp_path):
    for name, seed, count, batch in (("a", 1, 20, 64), ("b", 1, 20, 5), ("c", 1, 10, 64), ("d", 2, 10, 64)):
        sample.write_pictures(generator, seed, count, tmp_path / name, batch)
    a, b, c, d = (np.stack(pictures_in(tmp_path / name)) for name in "abcd")
    assert (a.shape, c.shape) == ((20, 32, 32, 3), (10, 32, 32, 3))
    assert np.array_equal(a, b)
    assert np.array_equal(a[:10], c)
    assert not np.array_equal(c, d)
    expected = generate(generator, sample.latents(1, 20, 8))[:20].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(a, expected)


def test_the_first_latents_are_the_same_whatever_the_count():
    assert sample.latents(0, 64, 8).shape == (64, 8)
    assert sample.latents(0, 65, 8).shape == (128, 8)
    assert torch.equal(sample.latents(0, 1000, 8)[:64], sample.latents(0, 1, 8))


def test_a_folder_with_pictures_is_refused(generator, tmp_path):
    (tmp_path / "old.png").write_bytes(b"old")
    with pytest.raises(data.UserError, match="isn't empty"):
        sample.write_pictures(generator, 0, 3, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]


def test_interpolation_begins_and_ends_at_its_latents(generator):
    rows = sample.interpolation(generator, 5, rows=3, columns=6).unflatten(0, (3, 6))
    ends = generate(generator, sample.latents(5, 6, 8)[:6]).unflatten(0, (3, 2))
    assert torch.equal(rows[:, 0], ends[:, 0])
    assert torch.equal(rows[:, -1], ends[:, 1])
    assert not torch.equal(rows[:, 2], rows[:, 0])


# Attention


def test_attention_maps_are_rows_of_probabilities(generator):
    z = torch.randn(3, 8)
    pictures, maps = sample.attention_maps(generator, z)
    assert torch.equal(pictures, generate(generator, z))
    assert list(maps) == ["16"]
    assert maps["16"].shape == (3, 256, 256)
    torch.testing.assert_close(maps["16"].sum(dim=2), torch.ones(3, 256))
    assert not any(layer._forward_pre_hooks for layer in generator.attention.values())


def test_telling_points_look_at_different_things():
    attention = torch.eye(3)[[0, 0, 0, 1] + [0] * 6 + [2] + [0] * 5]  # 4x4 positions, three kinds of rows
    points = sample.telling_points(attention, 3)
    assert points[0] == 10
    assert sorted(int(attention[point].argmax()) for point in points) == [0, 1, 2]


def test_attention_sheet_has_a_row_for_each_dog(generator):
    sheet = sample.attention_sheet(generator, 0, dogs=2, scale=2)
    assert sheet.size == (6 * (64 + 4) + 4, 2 * (64 + 4) + 4)
    assert len(np.unique(np.asarray(sheet))) > 10


# The command


def test_command_writes_a_grid_and_prints_its_path(run_folder, tmp_path):
    result = command(run_folder)
    grid = run_folder / "grid-000003.png"
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, str(grid), "")
    expected = (run_folder / "samples/000003.png").with_name("000003.png")
    assert data.read_image(grid).shape == data.read_image(expected).shape
    result = command(run_folder, "--raw", "--out", tmp_path / "raw.png")
    assert result.returncode == 0
    assert not np.array_equal(data.read_image(tmp_path / "raw.png"), data.read_image(grid))


def test_attention_of_a_generator_without_any_is_refused(tmp_path):
    out = trained(tmp_path, "--no-gen-attn")
    result = command(out, "--attention")
    assert result.returncode == 2
    assert result.stderr == "sample.py: this generator was trained without attention: there is nothing to show\n"
    assert not list(out.glob("*.png"))


# The small generator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--count=3"], ["--attention"], ["--raw"], ["--out=nothing"]])
def test_export_refuses_what_it_would_ignore(run_folder, tmp_path, monkeypatch, more):
    small = tmp_path / "small.pt"
    monkeypatch.setattr(sys, "argv", ["sample.py", str(run_folder), "--export", str(small), *more])
    with pytest.raises(data.UserError, match="--export"):
        sample.main()
    assert not small.exists()


def disturbed_checkpoint(run_folder, out):
    """The run's checkpoint as in the midst of a run: batch norm's statistics are those of the trained weights."""
    saved = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    for name in saved["average"]:
        if "running" in name:
            saved["average"][name] = torch.full_like(saved["average"][name], 3.0)
    torch.save(saved, out)
    return out


@pytest.mark.parametrize("of", ["snapshot", "checkpoint"])
def test_an_exported_generator_is_small_and_makes_the_same_pictures(run_folder, tmp_path, of):
    small, source = tmp_path / "small.pt", sample.find_snapshot(run_folder)
    if of == "checkpoint":
        source = disturbed_checkpoint(run_folder, tmp_path / "checkpoint.pt")
    generator, _ = sample.load_generator(source)
    sample.export(source, small)
    assert small.stat().st_size < 0.4 * source.stat().st_size
    with pytest.raises(data.UserError, match="is there already"):
        sample.export(source, source)
    with pytest.raises(data.UserError, match=r"small.pt holds no trained weights .* leave --raw out"):
        sample.load_generator(small, raw=True)
    z = sample.latents(0, 64, generator.z_dim)
    pictures, exported = generate(generator, z).int(), generate(sample.load_generator(small)[0], z).int()
    assert pictures.float().std() > 1 and (pictures - exported).abs().float().mean() < 0.5  # grey levels


def test_without_a_run_the_small_generator_that_comes_along_is_shown(tmp_path):
    assert sample.PRETRAINED.stat().st_size < 4e6
    for option, name in (((), "grid"), (("--attention",), "attention"), (("--interpolate",), "interpolation")):
        done = subprocess.run(
            [sys.executable, ROOT / "sample.py", *option, "--device", "cpu"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (path,) = tmp_path.glob(f"{name}-*.png")
        assert np.asarray(Image.open(path)).std() > 20


def test_a_checkpoint_gives_the_same_dogs_as_the_snapshot_of_its_step(run_folder, tmp_path):
    checkpoint, step = sample.load_generator(run_folder / "checkpoint.pt")
    snapshot, _ = sample.load_generator(sample.find_snapshot(run_folder))
    z = sample.latents(0, 8, 8)[:8]
    disturbed, _ = sample.load_generator(disturbed_checkpoint(run_folder, tmp_path / "disturbed.pt"))
    assert step == 3
    difference = generate(snapshot, z).float() - generate(disturbed, z).float()
    assert difference.abs().mean() < 1  # of 255; the statistics are of other z
    assert torch.equal(generate(checkpoint, z), generate(disturbed, z))
