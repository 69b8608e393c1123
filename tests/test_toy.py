"""The drawn dogs: always the same for a seed, boxes that hold the dogs, and drawing that ends when it is asked to."""

import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data
from experiment.toy import BREEDS, draw_dog, draw_photo, draw_toys

ROOT = Path(data.__file__).resolve().parent


def test_a_photo_depends_on_its_number_and_the_seed_alone():
    pictures = [draw_photo(seed, index)[0].tobytes() for seed, index in ((0, 5), (0, 5), (1, 5), (0, 13))]
    assert pictures[0] == pictures[1] and len(set(pictures)) == 3


@pytest.mark.parametrize("breed", BREEDS, ids=lambda breed: breed.name)
def test_a_dog_fills_its_cutout_and_wears_its_breeds_coat(breed):
    dog = np.asarray(draw_dog(breed, np.random.default_rng(0))).astype(float)
    solid = dog[..., 3] > 100
    assert solid.any(0).all() and solid.any(1).all()  # no empty row or column, so the box is tight
    coat = np.abs(dog[..., :3] - breed.coat).max(-1) < 60  # the light changes it a little
    assert (coat & solid).sum() > 0.15 * solid.sum()


def test_toys_are_laid_out_and_annotated_as_the_stanford_dogs_are(tmp_path):
    draw_toys(tmp_path, 24)
    photos, annotations = data.find_dogs(tmp_path)
    files = data.list_images(photos)
    assert len(files) == 24 and len({file.parent.name for file in files}) == len(BREEDS)
    for file in files:
        annotation = annotations / file.parent.name / file.stem
        boxes, note = data.read_boxes(annotation), ElementTree.parse(annotation)
        with Image.open(file) as photo:
            size = photo.size
        assert size == tuple(int(note.findtext(f"size/{side}")) for side in ("width", "height"))
        assert len(boxes) in (1, 2)
        assert all(0 <= left < right <= size[0] and 0 <= top < bottom <= size[1] for left, top, right, bottom in boxes)
        assert note.findtext("object/name") in file.parent.name


def test_toys_become_crops_named_by_breed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["data.py", "--toy", "16", "--size", "32"])
    data.main()
    crops = data.list_images("datasets/toy32")
    assert {path.name.split("_")[0] for path in crops} == {f"n{number:08d}" for number in range(1, 9)}
    assert data.load_folder("datasets/toy32").shape == (len(crops), 3, 32, 32) and len(crops) >= 16


@pytest.mark.parametrize("asked", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)])
def test_drawing_ends_at_once_however_it_is_asked_and_leaves_no_process(tmp_path, asked):
    command = [sys.executable, ROOT / "data.py", "--toy", "100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        try:
            assert "photos drawn" in process.stdout.readline()
            for signum in asked:
                process.send_signal(signum)
            _, errors = process.communicate(timeout=30)  # until every process that holds the pipes has ended
        finally:
            process.kill()
    assert process.returncode == 130 and errors.strip() == "data.py: stopped"
    assert {path.suffix for path in (tmp_path / "datasets").iterdir()} == {".part"}
