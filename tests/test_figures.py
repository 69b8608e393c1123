"""The figures show what the code computes, and a drawing is a whole SVG file."""

import math
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import snapshots
from common import UserError
from snapshots import generate, image_grid
from tools import figures


def words(drawing):
    return [element.text for element in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs figures.py with arguments, into a folder of its own."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "experiment").mkdir()

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["figures.py", *map(str, arguments), f"--root={tmp_path}"])
        figures.main()
        return tmp_path

    return command


@pytest.mark.parametrize("draw", figures.DRAWINGS.values())
def test_a_drawing_is_sound_and_everything_in_it_has_a_style_and_lies_inside(draw):
    drawing, light = ElementTree.fromstring(draw()), figures.STYLE.partition("@media")[0]
    width, height = (float(drawing.get(side)) for side in ("width", "height"))
    for element in drawing.iter():
        assert all(re.search(rf"\.{kind}\b", light) for kind in element.get("class", "").split())
        for side, end in (("x", width), ("y", height), ("cx", width), ("cy", height)):
            assert 0 <= float(element.get(side, 0)) <= end


def test_the_drawings_of_the_page_are_those_of_today():
    for path, draw in figures.DRAWINGS.items():
        assert words((figures.ROOT / path).read_text(encoding="utf-8")) == words(draw())
    drawings = {f"docs/{path.name}" for path in (figures.ROOT / "docs").glob("*.svg")}
    assert drawings == set(figures.DRAWINGS)


def test_the_drawn_attention_is_what_one_computes_by_hand():
    share = math.exp(3) / (math.exp(3) + 3)  # the head's; the other three share the rest
    brown = share * 10 + (1 - share) / 3 * (2 + 1)
    shown = words(figures.draw_attention())
    assert {f"{share:.3f}", f"{brown:.2f}"} <= set(shown)
    assert f"y = x + gamma · sum = 1 + 0.5 · {brown:.2f} = {1 + 0.5 * brown:.1f}" in shown


def test_the_drawn_distances_are_those_that_stand_below_them():
    shown = words(figures.draw_fid())
    told = [float(text.split()[1]) for text in shown if text.startswith("distance")]
    assert told == [2**2, 2 * (1 - 0.5) ** 2, 2 * (1 - 0) ** 2] == [4, 0.5, 2]


def test_the_slopes_of_both_losses_at_a_new_g_are_those_of_softplus():
    shown = [float(text.split()[1]) for text in words(figures.draw_losses()) if text.startswith("slope")]
    sigmoid = 1 / (1 + math.exp(4))
    assert shown == [round(sigmoid - 1, 2), round(-sigmoid, 2)]


def test_each_turn_of_the_printed_step_helps_one_and_hurts_the_other(capsys):
    threads = torch.get_num_threads()
    figures.print_step(steps=20, count=16)
    assert torch.get_num_threads() == threads  # or what is trained next in this process would round otherwise
    rows = [[float(cell) for cell in re.findall(r"\d\.\d+", row)] for row in capsys.readouterr().out.splitlines()[2:]]
    d_losses, g_losses = zip(*(row[2:] for row in rows), strict=True)  # before, after the turn of D, of G
    assert d_losses[1] < d_losses[0] and d_losses[1] < d_losses[2]
    assert g_losses[1] > g_losses[0] and g_losses[1] > g_losses[2]


def test_all_figures_that_need_no_run_are_written(command):
    root = command()
    assert {f"docs/{path.name}" for path in (root / "docs").iterdir()} == {*figures.PICTURES, *figures.DRAWINGS}
    generator, _ = snapshots.load_generator(snapshots.PRETRAINED)
    grid = image_grid(generate(generator, snapshots.latents(0, 64)))
    assert np.array_equal(np.array(Image.open(root / "docs/grid.png")), np.array(grid))


def test_every_picture_of_the_pages_is_there_and_the_help_tells_where_it_comes_from():
    told = {*figures.DRAWINGS, *figures.PICTURES, *re.findall(r"\w+/[a-z-]+\.\w+", figures.__doc__)}
    for folder in ("", "docs/", "experiment/"):
        for page in figures.ROOT.glob(f"{folder}*.md"):
            for link in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text(encoding="utf-8")):
                assert folder + link in told and (page.parent / link).exists()
    assert {sheet for sheet, *_ in figures.SHEETS.values()} < told


def test_every_table_of_the_pages_has_rows_as_wide_as_its_head():
    for page in (page for folder in (".", "docs", "experiment") for page in (figures.ROOT / folder).glob("*.md")):
        text = page.read_text(encoding="utf-8")
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert len(tables) == len(re.findall(r"^\|(?: --- \|)+$", text, re.MULTILINE))
        for table in tables:
            head, rule, *rows = table.splitlines()
            assert rows and set(rule) == set("|- ") and {row.count("|") for row in (head, *rows)} == {rule.count("|")}


def test_a_sheet_has_the_first_dogs_of_the_runs_samples(command, ten_steps, monkeypatch):
    monkeypatch.setitem(figures.SHEETS, "strip", ("docs/strip.png", (4,), (2, 3), 2))
    sheet = np.array(Image.open(command("strip", ten_steps) / "docs/strip.png"))
    for place, step in enumerate((4, 10)):
        dogs = np.array(Image.open(ten_steps / f"samples/{step:06d}.png"))[: 3 * 34 + 2, : 2 * 34 + 2]
        left = 8 + place * (dogs.shape[1] + 8)
        assert np.array_equal(sheet[-8 - len(dogs) : -8, left : left + dogs.shape[1]], dogs)
    assert (command("variants", ten_steps, ten_steps) / "experiment/variants.jpg").exists()


def test_curves_of_a_run_are_a_whole_drawing(command, ten_steps):
    assert "Loss of D" in words((command("curves", ten_steps) / "experiment/curves.svg").read_text(encoding="utf-8"))


def test_a_folder_without_a_run_is_left_out_of_the_curves(command, ten_steps, capsys):
    command("curves", ten_steps, ten_steps / "samples")
    assert f"left out: {ten_steps / 'samples'}: no run" in capsys.readouterr().out
    with pytest.raises(UserError, match="none of these"):
        command("curves", ten_steps / "samples")


def test_figures_of_runs_ask_for_runs(command):
    with pytest.raises(UserError, match="name the run folders"):
        command("strip")
