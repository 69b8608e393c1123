"""The yardstick of docs/recipe.md and the sheets of docs/: what other figures and pictures rest on."""

import sys

import numpy as np
import pytest
import side_by_side
import torch
import yardstick
from PIL import Image

import data


def test_the_kernel_distance_of_two_points_is_that_of_the_formula():
    a, b = torch.tensor([3.0, 0.0, 0.0, 1.0]).double(), torch.tensor([0.0, 2.0, 0.0, 1.0]).double()
    # k(x, y) = (x.y / 4 + 1)^3: k(a, a) = 3.5^3, k(b, b) = 2.25^3, k(a, b) = 1.25^3
    expected = 1000 * (3.5**3 + 2.25**3 - 2 * 1.25**3)
    assert yardstick.kernel_distance(a.expand(5, 4), b.expand(7, 4)).item() == pytest.approx(expected)


def test_the_kernel_distance_of_draws_from_one_distribution_is_zero_on_average():
    draw = torch.Generator().manual_seed(0)
    distances = [
        yardstick.kernel_distance(*torch.randn(2, 10, 8, generator=draw, dtype=torch.float64)) for _ in range(2000)
    ]
    mean, error = torch.stack(distances).mean(), torch.stack(distances).std() / 2000**0.5
    assert abs(mean) < 4 * error  # with the diagonal of the kernels it is 20 errors and more above


def test_a_point_is_covered_if_a_real_one_has_its_third_neighbour_farther_away():
    others = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])  # radii 3, 2, 2, 3, 99
    points = torch.tensor([[-2.9], [5.9], [-3.1], [0.5]])
    assert yardstick.covered(points, others) == 0.75  # 5.9 by the 3 and by the 100
    assert yardstick.covered(points, others[:4]) == 0.75
    assert yardstick.covered(torch.tensor([[6.5], [-3.5]]), others[:4]) == 0
    assert yardstick.covered(others, others) == 1


def test_sheets_stand_side_by_side_and_short_ones_are_refused(tmp_path, monkeypatch):
    for name, grey in (("a", 50), ("b", 150)):
        data.tile(torch.full((16, 3, 64, 64), grey, dtype=torch.uint8)).save(tmp_path / f"{name}.png")
    sheets, out = [str(tmp_path / "a.png"), str(tmp_path / "b.png")], tmp_path / "out.png"
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", str(out), *sheets, "--keep", "3", "2"])
    side_by_side.main()
    picture = np.asarray(Image.open(out))
    assert picture.shape == (2 * 66 + 2, 2 * (3 * 66 + 2) + 10, 3)
    assert picture[30, 30, 0] == 50 and picture[30, 3 * 66 + 2 + 10 + 30, 0] == 150
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", str(out), *sheets])
    with pytest.raises(data.UserError, match=r"a.png: no sheet of 8 x 8"):
        side_by_side.main()


def test_photos_can_count_mirrored_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for index, photo in enumerate(pixels):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    pictures = yardstick.read_photos(tmp_path, mirror=True)
    assert len(pictures) == 12 and torch.equal(pictures[0::2], pictures[1::2].flip(3))
    assert torch.equal(pictures[0::2], yardstick.read_photos(tmp_path, mirror=False))
    assert torch.equal(yardstick.load_pictures(tmp_path, 12, mirror=True), pictures)
