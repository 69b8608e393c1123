"""Pictures from a small trained run: the same whatever is asked for beside them, and mistakes by name."""

import doctest
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor, ImageFont

import sample
import snapshots
from common import UserError
from data import load_folder, read_image
from files import load_checkpoint
from model import Generator
from snapshots import generate, image_grid
from tools.export import export


@pytest.fixture(scope="module")
def run_folder(ten_steps, tmp_path_factory):
    return shutil.copytree(ten_steps, tmp_path_factory.mktemp("sample") / "run")


@pytest.fixture
def generator(run_folder):
    generator = snapshots.load_generator(snapshots.find_snapshot(run_folder))[0]
    generator.attention["16"].gamma.data.fill_(0.5)
    return generator


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs sample.py with arguments -> what it printed."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["sample.py", *map(str, arguments), "--device=cpu"])
        sample.main()
        return capsys.readouterr().out

    return command


# Snapshots ----------------------------------------------------------------------------------------------------


def test_the_newest_snapshot_is_taken_unless_told_otherwise(run_folder, tmp_path):
    assert snapshots.find_snapshot(run_folder).name == "000010.pt"
    assert snapshots.find_snapshot(run_folder, 4).name == "000004.pt"
    assert snapshots.find_snapshot(tmp_path / "some.pt") == tmp_path / "some.pt"
    with pytest.raises(UserError, match=r"no snapshot of step 7; there are 4, 8, 10"):
        snapshots.find_snapshot(run_folder, 7)
    with pytest.raises(UserError, match=f"{tmp_path}: no snapshots there"):
        snapshots.find_snapshot(tmp_path)
    for place, words in (tmp_path / "nope", "no such run"), (run_folder / "log.csv", "a file, not a run"):
        with pytest.raises(UserError, match=f"{place}: {words}"):
            snapshots.find_snapshot(place)
    with pytest.raises(UserError, match="--step"):
        snapshots.find_snapshot(tmp_path / "some.pt", 3)


def test_a_snapshot_is_the_averaged_generator_ready_for_pictures(run_folder):
    generator, step = snapshots.load_generator(run_folder / "snapshots/000010.pt")
    averaged = load_checkpoint(run_folder / "checkpoint.pt")["generator_ema"]
    assert (step, generator.training) == (10, False)
    assert all(torch.equal(weight, averaged[name]) for name, weight in generator.named_parameters())


def test_files_that_hold_no_generator_are_named(run_folder, tmp_path):
    path, snapshot = tmp_path / "some.pt", load_checkpoint(run_folder / "snapshots/000010.pt")
    options = snapshot["config"]["options"]
    other_width = snapshot | {"config": {"options": options | {"width": 8}, "size": 32}}
    other_size = snapshot | {"config": {"options": options, "size": 48}}
    for content in ({}, {"config": None}, other_width, other_size, snapshot | {"generator_ema": {}}):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"some\.pt: no generator"):
            snapshots.load_generator(path)


def test_a_checkpoint_is_no_snapshot(run_folder, command):
    with pytest.raises(UserError, match=f"{run_folder}/checkpoint.pt: a checkpoint.*{run_folder}/snapshots"):
        command(run_folder / "checkpoint.pt")


def test_an_exported_generator_is_half_as_large_and_makes_the_same_pictures(run_folder, tmp_path):
    source, small = snapshots.find_snapshot(run_folder), tmp_path / "small.pt"
    export(source, small)
    snapshot = load_checkpoint(small)
    assert {v.dtype for v in snapshot["generator_ema"].values() if v.is_floating_point()} == {torch.float16}
    assert not any(isinstance(value, str) for value in snapshot["config"]["options"].values())  # no paths
    z = snapshots.latents(0, 64)
    (whole, _), (half, step) = snapshots.load_generator(source), snapshots.load_generator(small)
    assert step == 10 and next(half.parameters()).dtype == torch.float32
    whole, half = generate(whole, z).int(), generate(half, z).int()
    assert whole.float().std() > 1 and (whole - half).abs().max() <= 1  # grey levels


# Pictures -----------------------------------------------------------------------------------------------------


def test_written_pictures_are_those_of_the_seeds_z_whatever_the_count(generator, tmp_path):
    wanted = generate(generator, snapshots.latents(1, 70))
    for name, count in (("a", 70), ("b", 9)):
        sample.write_pictures(generator, 1, count, tmp_path / name)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [f"{i:05d}.png" for i in range(count)]
        assert torch.equal(load_folder(tmp_path / name), wanted[:count])


def test_pictures_cut_short_leave_no_folder_that_could_be_measured(generator, tmp_path, monkeypatch):
    pictures = iter([generate(generator, snapshots.latents(0, 2))])
    monkeypatch.setattr(sample, "generate", lambda *_: next(pictures))
    with pytest.raises(StopIteration):
        sample.write_pictures(generator, 0, 70, tmp_path / "fake")
    assert not (tmp_path / "fake").exists()


def test_interpolation_goes_from_the_picture_of_one_z_to_that_of_another_along_an_arc(generator, monkeypatch):
    seen = []
    monkeypatch.setattr(sample, "generate", lambda generator, z: seen.append(z) or generate(generator, z))
    rows = sample.interpolation(generator, 5, rows=3, columns=6).unflatten(0, (3, 6))
    ends = generate(generator, snapshots.latents(5, 6)).unflatten(0, (3, 2))
    assert (rows[:, [0, -1]].int() - ends.int()).abs().max() <= 1  # z is rounded otherwise at the ends
    assert not torch.equal(rows[:, 2], rows[:, 0])
    lengths = seen[0].norm(dim=1).view(3, 6)  # on a straight line they would be a third less in the middle
    assert (lengths > 0.95 * lengths[:, [0, -1]].amin(dim=1, keepdim=True)).all()


# Attention ----------------------------------------------------------------------------------------------------


def test_attention_maps_are_those_that_made_the_pictures(generator):
    z, seen, layer = snapshots.latents(0, 3), [], generator.attention["16"]
    layer.register_forward_hook(lambda layer, given, returned: seen.append((given[0], returned[0])))
    pictures, maps = sample.attention_maps(generator, z)
    assert torch.equal(pictures, generate(generator, z))
    assert list(maps) == ["16"] and maps["16"].shape == (3, 256, 256)
    (x, y), value = seen[0], layer.value(seen[0][0]).flatten(2)  # (3, C, 256)
    torch.testing.assert_close(x + layer.gamma * (value @ maps["16"].mT).view(x.shape), y)
    torch.testing.assert_close(maps["16"].sum(dim=2), torch.ones(3, 256))


def test_query_points_look_at_different_things():
    attention = torch.eye(3)[[0, 0, 0, 1] + [0] * 6 + [2] + [0] * 5]  # 4x4 positions, three kinds of rows
    points = sample.query_points(attention, 3)
    assert points[0] == 10
    assert sorted(int(attention[point].argmax()) for point in points) == [0, 1, 2]


def test_a_row_shows_the_points_and_the_heat_where_the_map_has_it(monkeypatch):
    points = [0x88, 0xC8, 0xC9, 0xCA, 0xFF]  # row and column
    monkeypatch.setattr(sample, "query_points", lambda attention, count: points)
    corner = torch.zeros(256, 256)
    corner[:, 15] = 1  # all look at the top right
    picture, *panels = map(np.array, sample.attention_row(torch.zeros(3, 32, 32, dtype=torch.uint8), corner))
    for panel, point, colour in zip(panels, points, sample.COLOURS, strict=True):
        y, x = (12 * place for place in divmod(point, 16))  # 192 pixels for 16 cells
        assert tuple(panel[0, -1]) == tuple(picture[y, x]) == ImageColor.getrgb(colour)
        assert (picture[y - 1, x] == 255).all() and (panel[y - 1, x] == 255).all()  # framed in both
        panel[y - 2 : y + 14, x - 2 : x + 14] = 50
        assert (panel[:, :96] == 50).all() and (panel[96:] == 50).all()  # of a black picture


def test_every_layer_with_attention_has_its_rows(monkeypatch):
    shown = []
    monkeypatch.setattr(sample, "labelled", lambda panels, columns: shown.append([label for label, _ in panels]))
    sample.attention_sheet(Generator(32, 4, (8, 16)).eval(), 0, dogs=2)
    rows = [shown[0][i : i + 6] for i in range(0, 24, 6)]
    assert [row[0] for row in rows] == ["5 of 8x8 points", "", "5 of 16x16 points", ""]
    assert rows[0][1:] == rows[2][1:] == [f"{colour} looks at" for colour in sample.COLOURS]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_labels_of_attention_fit_over_their_pictures(size, monkeypatch):
    labelled, font = sample.labelled, ImageFont.load_default(22)
    sheets = []
    monkeypatch.setattr(sample, "labelled", lambda panels, columns: sheets.append(panels) or labelled(panels, columns))
    sample.attention_sheet(Generator(size, 2, (16,)).eval(), 0, dogs=1)
    assert all(font.getlength(label) <= image.width for label, image in sheets[0])


def test_a_labelled_sheet_has_every_image_in_its_place_and_ink_only_above_labelled_ones():
    images = [Image.new("RGB", (40, 10), colour) for colour in ("red", "lime", "blue", "cyan")]
    sheet = np.array(sample.labelled(list(zip(["a", "b", "", ""], images, strict=True)), columns=2, gap=4, size=12))
    assert sheet.shape == (16 + 2 * 14 + 4, 2 * 44 + 4, 3)
    for image, (y, x) in zip(images, ((20, 4), (20, 48), (34, 4), (34, 48)), strict=True):
        assert np.array_equal(sheet[y : y + 10, x : x + 40], np.array(image))
    assert sheet[4:20, 4:44].min() < 128 and sheet[4:20, 48:88].min() < 128 and sheet[30:34].min() == 255


def test_rows_of_a_gamma_sheet_are_the_same_dogs_at_parts_of_every_gamma_which_stays(monkeypatch):
    generator = Generator(32, 4, (8, 16)).eval()
    for layer, gamma in zip(generator.attention.values(), (0.5, -3), strict=True):
        layer.gamma.data.fill_(gamma)
    seen = []
    monkeypatch.setattr(sample, "labelled", lambda rows, columns: seen.extend(rows))
    sample.gamma_sheet(generator, 3, [0, 0.5, 1], dogs=4)
    assert [layer.gamma.item() for layer in generator.attention.values()] == [0.5, -3]
    assert [label for label, _ in seen] == [f"{percent} of the learned gamma" for percent in ("0%", "50%", "100%")]
    for (_, row), gammas in zip(seen, ((0, 0), (0.25, -1.5), (0.5, -3)), strict=True):
        for layer, gamma in zip(generator.attention.values(), gammas, strict=True):
            layer.gamma.data.fill_(gamma)
        wanted = image_grid(generate(generator, snapshots.latents(3, 4)), columns=4)
        assert np.array_equal(np.array(row), np.array(wanted.resize(row.size, Image.Resampling.BICUBIC)))


# The command --------------------------------------------------------------------------------------------------


def test_the_command_writes_a_grid_and_prints_its_path(run_folder, command, tmp_path):
    for more, name, step in ((), "grid-000010.png", 10), (("--step=4",), "grid-000004.png", 4):
        assert command(run_folder, *more) == f"{run_folder / name}\n"
        generator, _ = snapshots.load_generator(snapshots.find_snapshot(run_folder, step))
        wanted = image_grid(generate(generator, snapshots.latents(0, 64)))
        assert np.array_equal(read_image(run_folder / name), np.asarray(wanted))
    command(run_folder, "--out", tmp_path / "mine.png", "--seed=1")
    assert not np.array_equal(read_image(tmp_path / "mine.png"), read_image(run_folder / "grid-000010.png"))


def test_the_command_writes_so_many_pictures(run_folder, command, tmp_path):
    command(run_folder, "--count=70")
    assert len(load_folder(run_folder / "pictures-000010")) == 70


def test_a_picture_is_what_the_ending_of_its_name_says_or_refused(run_folder, command, tmp_path):
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG")):
        command(run_folder, "--out", tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
    before = sorted(tmp_path.iterdir())
    for name in ("a.txt", "a", "fake"):
        with pytest.raises(UserError, match=rf"{name}: .* must end in \.png"):
            command(run_folder, "--out", tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("more", [["--count=3", "--attention"], ["--interpolate", "--gamma"]])
def test_two_things_at_once_are_refused(more, run_folder, command):
    with pytest.raises(UserError, match="not allowed with"):
        command(run_folder, *more)


def test_attention_of_a_generator_without_any_is_refused(begin, command, tmp_path):
    out = begin(tmp_path / "run", "--steps=1", "--no-gen-attn")
    for option in "--attention", "--gamma":
        with pytest.raises(UserError, match="without attention"):
            command(out, option)
    assert not list(out.glob("*.png"))


def test_without_a_run_the_generator_that_comes_along_is_shown(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert snapshots.PRETRAINED.stat().st_size < 8e6
    for options, name in ([], "grid"), (["--attention"], "attention"), (["--interpolate"], "interpolation"):
        path = Path(command(*options).strip())
        assert path.name.startswith(name) and np.asarray(Image.open(path)).std() > 20


def test_the_ten_lines_of_the_readme_give_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the last one writes a picture
    text = snapshots.PRETRAINED.with_name("README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(>>> .*?)```", text, re.DOTALL)[1]
    test = doctest.DocTestParser().get_doctest(lines, {}, "README.md", None, 0)
    assert not doctest.DocTestRunner().run(test).failed and (tmp_path / "dog.png").exists()
