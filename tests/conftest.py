"""Twenty photos of noise and a tiny training, which several test files share."""

import numpy as np
import pytest
from PIL import Image

import train


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "noise"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


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
