"""Twenty photos of noise and a tiny training, which several test files share."""

import numpy as np
import pytest
from PIL import Image

import train


def noise(seed, count, height=8, width=8):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write(folder, pictures):
    """uint8 (N, H, W, 3) -> a folder of PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write(tmp_path_factory.mktemp("photos") / "noise", noise(0, 20, 32, 32))


@pytest.fixture(scope="session")
def begin(photos):
    """A function that trains small networks: begin(out, *options) -> out.  Rows every 2 steps, samples every 4."""
    small = ["--width=4", "--batch=4", "--device=cpu", "--precision=fp32", "--log-every=2", "--sample-every=4"]

    def begin(out, *options):
        return train.train(train.parse_options([f"--data={photos}", f"--out={out}", *small, "--steps=10", *options]))

    return begin


@pytest.fixture(scope="session")
def ten_steps(begin, tmp_path_factory):
    """The folder of a run of ten steps, for looking at only."""
    return begin(tmp_path_factory.mktemp("ten") / "run")
