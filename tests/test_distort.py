"""What experiment/distort.py does to where the pieces of a picture are."""

import sys

import numpy as np
import pytest
from PIL import Image

from common import UserError
from experiment import distort


def dogs(folder, count):
    """A folder of pictures (8, 8, 3), all of one colour of their own: 20, 40, ..."""
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (8, 8), (20 * (index + 1),) * 3).save(folder / f"{index:03d}.png")
    return folder


def command(monkeypatch, *arguments):
    """{name: pixels (8, 8)} of what the command writes."""
    monkeypatch.setattr(sys, "argv", ["distort.py", *map(str, arguments)])
    distort.main()
    return {path.name: np.array(Image.open(path))[..., 0] for path in arguments[2].rglob("*.png")}


def test_mirrored_tiles_stay_in_their_places_and_have_the_jigsaw_s_seams():
    smooth = np.add.outer(np.arange(12.0), np.arange(16.0))[..., None] * np.ones(3)
    changed = distort.mirror_tiles(smooth, 4, None)
    assert (changed != smooth).any()
    for y in range(0, 12, 3):
        for x in range(0, 16, 4):
            before, after = smooth[y : y + 3, x : x + 4], changed[y : y + 3, x : x + 4]
            assert (after == before[:, :: -1 if (y // 3 + x // 4) % 2 else 1]).all()
    down, across = (abs(np.diff(changed[..., 0], axis=axis)) for axis in (0, 1))  # 1 where nothing is cut
    assert down[2::3].mean() > 1.5 and across[:, 3::4].mean() > 1.5
    assert (np.delete(down, np.s_[2::3], axis=0) == 1).all() and (np.delete(across, np.s_[3::4], axis=1) == 1).all()


def test_quadrants_are_of_four_different_pictures_by_the_seed(tmp_path, monkeypatch):
    folder = dogs(tmp_path / "in", 6)
    drawn = command(monkeypatch, "quadrants", folder, tmp_path / "out")
    assert len(drawn) == 6
    for index, picture in enumerate(drawn[name] for name in sorted(drawn)):
        corners = picture[::7, ::7]
        assert corners[0, 0] == 20 * (index + 1) and len(set(corners.ravel())) == 4
        assert (picture == corners.repeat(4, axis=0).repeat(4, axis=1)).all()
    again = command(monkeypatch, "quadrants", folder, tmp_path / "again")
    other = command(monkeypatch, "quadrants", folder, tmp_path / "other", "--seed", 1)
    assert all((again[name] == drawn[name]).all() for name in drawn)
    assert any((other[name] != drawn[name]).any() for name in drawn)
    some = command(monkeypatch, "quadrants", folder, tmp_path / "some", "--count", 2)
    assert all((some[name] == drawn[name]).all() for name in some)


def test_a_quadrant_keeps_its_place():
    ramp = np.arange(64.0).reshape(8, 8, 1) * np.ones(3)
    changed = distort.quadrants(ramp, [ramp + 100, ramp + 200, ramp + 300], None)
    assert (np.unique(changed - ramp) == [0, 100, 200, 300]).all()
    assert ((changed - ramp)[[0, 0, 7, 7], [0, 7, 0, 7], 0] == [0, 100, 200, 300]).all()


def test_three_pictures_have_no_quadrants_of_four(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="four"):
        command(monkeypatch, "quadrants", dogs(tmp_path / "in", 3), tmp_path / "out")
    assert not (tmp_path / "out").exists()
