"""The drawn dogs: always the same for a seed, boxes that hold the dogs, and drawing that ends when it is asked to."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data
from experiment import toy
from experiment.toy import draw_photo, draw_toys

ROOT = Path(data.__file__).resolve().parent


def test_a_photo_depends_on_its_number_and_the_seed_alone():
    pictures = [draw_photo(seed, index)[0].tobytes() for seed, index in ((0, 5), (0, 5), (1, 5), (0, 13))]
    assert pictures[0] == pictures[1] and len(set(pictures)) == 3


def test_each_box_holds_its_dog_and_no_more_than_three_pixels_around(monkeypatch):
    drawn, paste = [], Image.Image.paste

    def record(photo, image, place=None, mask=None):
        if mask is image:  # a dog, and not its shadow
            alpha = np.asarray(image)[..., 3] > 100
            (top, *_, bottom), (left, *_, right) = (alpha.any(axis).nonzero()[0] for axis in (1, 0))
            drawn.append(np.add([left, top, right + 1, bottom + 1], [*place, *place]))
        paste(photo, image, place, mask)

    monkeypatch.setattr(Image.Image, "paste", record)
    for index in range(16):
        boxes = draw_photo(0, index)[2]
        spare = (np.array(boxes) - drawn[-len(boxes) :]) * (-1, -1, 1, 1)
        assert (spare >= 0).all() and (spare <= 3).all()


def test_toys_become_crops_named_by_breed_in_a_folder_named_by_count_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in (["16"], ["2", "--seed", "1"]):
        monkeypatch.setattr(sys, "argv", ["data.py", "--size", "32", "--toy", *options])
        data.main()
    crops = data.list_images("datasets/toy32-16")
    assert {path.name.split("_")[0] for path in crops} == {f"n{number:08d}" for number in range(1, 9)}
    assert data.load_folder("datasets/toy32-16").shape == (len(crops), 3, 32, 32) and len(crops) >= 16
    assert data.list_images("datasets/toy32-2-seed1")


def test_the_toys_of_the_readme_have_the_short_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(toy, "draw_toys", lambda root, count, seed: draw_toys(root, 8, seed))  # 2,048 take a minute
    monkeypatch.setattr(sys, "argv", ["data.py", "--toy", "2048", "--size", "32"])
    data.main()
    assert data.list_images("datasets/toy32")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_data_py_ends_at_once_when_it_is_asked_to(tmp_path, signum, status):
    command = [sys.executable, ROOT / "data.py", "--toy", "100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        try:
            assert "photos drawn" in process.stdout.readline()
            process.send_signal(signum)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == status and not errors.strip()
    assert {path.suffix for path in (tmp_path / "datasets").iterdir()} <= {".part"}  # nothing has its final name
