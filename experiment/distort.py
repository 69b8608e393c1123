"""Does a distance see how pictures are spoiled?  A changed copy of a folder (section 3.1, figure 3).

    python -m experiment.distort shuffle=4 datasets/dogs64-test jigsaws/       each picture a jigsaw of 4x4 pieces
    python -m experiment.distort all datasets/dogs64-test distorted/ --count 1000
    python -m experiment.evaluate datasets/dogs64-test distorted/*             a table, against the same crops

`all` writes a folder for each distortion and strength: distorted/blur-0.5, distorted/blur-1, ..., distorted/mirror.
The copies are PNG files of the same names.
"""

import os
import zlib
from pathlib import Path

import numpy as np
import scipy.ndimage
from PIL import Image

from common import Parser, Progress, UserError, number, run_script
from data import list_images, read_image
from files import new_folder

# Each takes a picture (H, W, 3) of floats in [0, 1], its amount, and a numpy random generator.  The first five
# spoil what is there; the others, but for `quadrants`, keep every pixel and move it to another place.


def blur(picture, sigma, random):
    return scipy.ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")


def noise(picture, sigma, random):
    return picture + random.normal(0, sigma, picture.shape)


def salt_and_pepper(picture, share, random):
    chance = random.random(picture.shape[:2])
    return np.where((chance < share)[..., None], (chance < share / 2)[..., None], picture)


def rectangles(picture, side, random):
    picture = picture.copy()
    height, width, _ = picture.shape
    h, w = round(side * height), round(side * width)
    for _ in range(5):
        y, x = random.integers(height - h + 1), random.integers(width - w + 1)
        picture[y : y + h, x : x + w] = 0
    return picture


def colour(picture, shift, random):
    return picture + shift * np.array([1, 0, -1])


def tiles(picture, k, name):
    """Where the KxK tiles of a picture are, row by row; what k leaves over at the right and the bottom is in none."""
    height, width, _ = picture.shape
    h, w = height // k, width // k
    if not h or not w:
        raise UserError(f"{name}={k}: {width}x{height} pixels can't be cut into {k}x{k} pieces, take fewer")
    return [np.s_[y * h : (y + 1) * h, x * w : (x + 1) * w] for y in range(k) for x in range(k)]


def shuffle(picture, k, random):
    changed, places = picture.copy(), tiles(picture, k, "shuffle")
    for place, source in zip(places, random.permutation(k * k), strict=True):
        changed[place] = picture[places[source]]
    return changed


def mirror_tiles(picture, k, random):
    """Every other tile, as on a chessboard: if all were mirrored, those above each other would fit without a seam."""
    changed = picture.copy()
    for index, place in enumerate(tiles(picture, k, "mirror-tiles")):
        if sum(divmod(index, k)) % 2:
            changed[place] = picture[place][:, ::-1]
    return changed


def quadrants(picture, others, random):
    """`others`: three pictures of the same shape, which give all but the upper left quadrant."""
    changed = picture.copy()
    for place, other in zip(tiles(picture, 2, "quadrants")[1:], others, strict=True):
        changed[place] = other[place]
    return changed


def swap(picture, _, random):
    return np.roll(picture, picture.shape[1] // 2, axis=1)


def flip(picture, _, random):
    return picture[::-1]


def mirror(picture, _, random):
    return picture[:, ::-1]


DISTORTIONS = {  # name: function, the type of its amount, the strengths of `all`, what the amount is
    "blur": (blur, number(float, 0, 1000), (0.5, 1, 2), "gaussian, standard deviation in pixels"),
    "noise": (noise, number(float, 0, 1000), (0.05, 0.1, 0.2), "gaussian, standard deviation, white being 1"),
    "salt-and-pepper": (salt_and_pepper, number(float, 0, 1), (0.01, 0.05, 0.2), "share of pixels"),
    "rectangles": (rectangles, number(float, 0, 1), (0.1, 0.2, 0.4), "five black ones, side as a share"),
    "colour": (colour, number(float, -1, 1), (0.05, 0.1, 0.2), "added to red, taken from blue, white being 1"),
    "shuffle": (shuffle, number(int, 1, 1000), (2, 4, 8), "KxK jigsaw"),
    "mirror-tiles": (mirror_tiles, number(int, 1, 1000), (2, 4, 8), "its seams, with every piece in its place"),
    "quadrants": (quadrants, None, (None,), "of four different pictures, each in its place"),
    "swap": (swap, None, (None,), "left and right halves"),
    "flip": (flip, None, (None,), "upside down"),
    "mirror": (mirror, None, (None,), "left to right"),
}


def parse_distortions(text):
    """A type for an option: "blur=1" -> [("blur", 1.0)]; "blur": its middle strength; "all": all of all strengths."""
    if text == "all":
        return [(name, amount) for name, (_, _, strengths, _) in DISTORTIONS.items() for amount in strengths]
    name, has_amount, amount = text.partition("=")
    if name not in DISTORTIONS:
        raise UserError(f"{text}: not one of all, {', '.join(DISTORTIONS)}")
    _, kind, strengths, meaning = DISTORTIONS[name]
    if not has_amount:
        return [(name, strengths[len(strengths) // 2])]
    if kind is None:
        raise UserError(f"{text}: {name} ({meaning}) has no amount")
    try:
        return [(name, kind(amount))]
    except Exception as error:
        raise UserError(f"{text}: {error}") from None


def distort(picture, name, amount, seed):
    """A picture (H, W, 3), uint8 -> the same, changed by one of the functions above."""
    changed = DISTORTIONS[name][0](picture / 255, amount, np.random.default_rng(seed))
    return np.rint(changed.clip(0, 1) * 255).astype(np.uint8)


def choose_others(paths, index, shape, seed):
    """Three other pictures than paths[index], in floats and of its shape (H, W, 3)."""
    if len(paths) < 4:
        raise UserError("quadrants: takes a folder of four pictures or more")
    further = np.random.default_rng(seed).choice(np.arange(1, len(paths)), 3, replace=False)
    images = (Image.fromarray(read_image(paths[(index + steps) % len(paths)])) for steps in further)
    return [np.array(image.resize(shape[1::-1])) / 255 for image in images]


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    known = [f"{n}: {meaning} {strengths if kind else ''}" for n, (_, kind, strengths, meaning) in DISTORTIONS.items()]
    add("distortions", type=parse_distortions, metavar="NAME[=AMOUNT]",
        help=f"all, or one, without an amount by the middle one: {'; '.join(known)}")  # fmt: skip
    add("folder", type=Path, metavar="IN", help="a folder of pictures, sub-folders included")
    add("out", type=Path, metavar="OUT", help="the folder to write")
    add("--count", type=number(int, 1), help="so many of the pictures, evenly over the folder; default: all")
    add("--seed", type=number(int, 0, 2**32 - 1), default=0, help="where all random numbers start")
    options = parser.parse_args()
    paths, progress = list_images(options.folder), Progress()
    chosen = np.linspace(0, len(paths) - 1, min(options.count or len(paths), len(paths))).astype(int)
    with new_folder(options.out) as new:
        folders = dict.fromkeys(options.distortions, new)
        if len(folders) > 1:
            folders = {(n, amount): new / (n if amount is None else f"{n}-{amount:g}") for n, amount in folders}
        for done, index in enumerate(chosen, 1):
            name, picture = paths[index].relative_to(options.folder), read_image(paths[index])
            seed = [options.seed, zlib.crc32(os.fsencode(name))]  # a picture's noise doesn't depend on the others
            for (distortion, amount), folder in folders.items():
                if distortion == "quadrants":
                    amount = choose_others(paths, index, picture.shape, seed)
                out = folder / (name if name.suffix == ".png" else f"{name}.png")
                out.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(distort(picture, distortion, amount, seed)).save(out, "PNG")
            progress(f"{options.out}: {done:,} of {len(chosen):,} pictures", last=done == len(chosen))


if __name__ == "__main__":
    run_script(main)
