"""The photos (sections 3.2 and 3.3): Stanford Dogs cropped to their boxes, or your own; reading and showing pictures.
Each annotated dog becomes a 64x64 PNG, <breed's wnid>_<photo>_<box>.png, all in one flat folder.

    python data.py                    fetch 20,580 photos (815 MB), crop every dog -> datasets/dogs64/
    python data.py --source DIR       the same from a copy that you have: Images/ and Annotation/ in DIR
    python data.py --pictures DIR     your own pictures of any sizes: the middle square of each -> datasets/<DIR>64/
    python data.py --toy 2048         toy dogs, nothing to fetch -> datasets/toy64/
    python data.py --split            every fifth photo for testing -> datasets/dogs64-train/, datasets/dogs64-test/
"""

import hashlib
import http.client
import os
import sys
import tarfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import ExitStack
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from common import Parser, Progress, UserError, number, run_script
from files import lock, new_folder

ARCHIVES = [  # name, bytes, sha256, the folder to unpack it in
    ("images.tar", 793_579_520, "a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58", "images"),
    ("annotation.tar", 21_852_160, "662ed36f707be6b195c2fda392d8e153e83af28cedc8e2134a649f198def30fd", "annotations"),
]
LAYOUTS = [("Images", "Annotation"), ("images/Images", "annotations/Annotation")]
OTHER_THINGS = {"aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"}  # fmt: skip


def download(url, path, size):
    """Fetch `url` to `path`, going on where an earlier try stopped.  Raises UserError if that doesn't get it all."""
    part, progress, before, reason = Path(f"{path}.part"), Progress(), -1, "the connection ended early"
    part.touch()
    while before < (have := part.stat().st_size) < size:  # as long as every try brings more, another is worth it
        before = have
        try:
            with urlopen(Request(url, headers={"Range": f"bytes={have}-"}), timeout=60) as reply:
                start = have if reply.status == 206 else 0  # a server may ignore Range and send everything
                if start + int(reply.headers.get("Content-Length", size - start)) != size:
                    raise UserError(f"{url}: not the expected {size:,} bytes but another file; try again later")
                with open(part, "ab" if start else "wb") as file:
                    while file.tell() < size and (chunk := reply.read(1 << 18)):
                        file.write(chunk)
                        progress(f"{path.name}: {file.tell() / 1e6:,.0f} of {size / 1e6:,.0f} MB", file.tell() >= size)
        except (OSError, http.client.HTTPException) as error:
            reason = explain(error)
    if have < size:
        rest = f"run this again to go on at {have:,} bytes, or put its {size:,} bytes there by other means"
        raise UserError(f"{url} can't be fetched to {path} ({reason}); {rest}")
    os.replace(part, path)


def fetch(folder, url="http://vision.stanford.edu/aditya86/ImageNetDogs/", archives=ARCHIVES):
    """Stanford's two archives, fetched, checked and unpacked in `folder`; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        for name, size, sha256, target in archives:
            if (folder / target).is_dir():
                continue
            archive = folder / name
            if not archive.exists():
                download(url + name, archive, size)
            with open(archive, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if (archive.stat().st_size, found) != (size, sha256):
                raise UserError(f"{archive}: not Stanford's {size:,} bytes with sha256 {sha256}; delete it, run again")
            print(f"unpacking {archive}", flush=True)
            with new_folder(folder / target) as part, tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")  # refuses what would land outside, links out and devices


def find_dogs(source):
    """The folders (photos, annotations) of a copy of the Stanford Dogs, in one of the usual layouts."""
    for photos, annotations in LAYOUTS:
        if (source / photos).is_dir() and (source / annotations).is_dir():
            return source / photos, source / annotations
    raise UserError(f"{source}: no Stanford Dogs there (looked for the folders Images and Annotation)")


def explain(error):
    """What is wrong with a file, in words that leave its name to the caller."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture that Pillow can read"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def read_boxes(path, width, height):
    """The dogs in `path`, its ending taken off or .xml, for a photo of width x height -> [[left, top, right, bottom]].

    Boxes that were drawn on the photo at another <size> are scaled.  The box of a <part>, as a head, doesn't count,
    nor that of a thing that Pascal VOC names beside dogs.  Raises ValueError if there is no box to be trusted.
    """
    sides = {"width": width, "height": height}
    try:
        root = ElementTree.parse(path.with_suffix("" if path.with_suffix("").exists() else ".xml")).getroot()
        w, h = (int(float(root.findtext(f"size/{name}") or 0)) or side for name, side in sides.items())  # 0: not known
        scales = {"xmin": width / w, "ymin": height / h, "xmax": width / w, "ymax": height / h}
        dogs = [thing for thing in root.iter("object") if thing.findtext("name") not in OTHER_THINGS]
        boxes = [box for dog in dogs for box in dog.findall("bndbox")]
        boxes = [[round(float(box.findtext(edge)) * scales[edge]) for edge in scales] for box in boxes]
    except (OSError, ElementTree.ParseError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the annotation can't be read ({explain(error)})") from None
    # Sizes are rounded: the shapes are the same if one pixel more or less in each of the four numbers makes them so.
    if abs(width * h - height * w) > width + height + w + h:
        raise ValueError("the annotation's <size> has another shape than the photo")
    if not boxes:
        raise ValueError("no dog in the annotation")
    return boxes


def cut(image, box, size):
    """The box of an image -> RGB, size x size, upright, white where it was transparent; None if nothing is in it."""
    left, top, right, bottom = np.clip(box, 0, image.size * 2).tolist()
    if left >= right or top >= bottom:
        return None
    crop = ImageOps.exif_transpose(image.crop((left, top, right, bottom)))  # a camera may store a photo on its side
    if crop.has_transparency_data:
        crop = Image.alpha_composite(Image.new("RGBA", crop.size, "white"), crop.convert("RGBA"))
    # Cut before resizing: the filter must not mix in what lies outside the box.
    return crop.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def crop_photos(photos, annotations, parts, size):
    """Crop every photo in a folder; print what was skipped and why.  Raises UserError if nothing is left.

    annotations: the folder with the boxes, laid out as `photos` is; None: the middle square of each photo is taken.
    parts: the folder for the PNGs, or two: then every fifth photo, sorted by path, goes to the second.
    """
    files = list_images(photos)
    numbered = len({file.stem.casefold() for file in files}) < len(files)  # equal names; Macs tell no A from a

    def crop(index):
        file, part = files[index], parts[-1 if index % 5 == 4 else 0]
        try:
            with open_picture(file) as image:
                middle = [(side + sign * min(image.size)) // 2 for sign in (-1, 1) for side in image.size]
                boxes = read_boxes(annotations / file.relative_to(photos), *image.size) if annotations else [middle]
                crops = [cut(image, box, size) for box in boxes]
        except Exception as error:  # a broken file makes Pillow raise nearly anything: name it and go on
            return [(file, explain(error))]
        for box, image in enumerate(crops):
            if image:
                name = (f"{index:05d}-" if numbered else "") + file.stem + (f"_{box}" if annotations else "")
                image.save(part / f"{name}.png", icc_profile=None)
        return [(file, "a box is empty or outside the photo")] * crops.count(None)

    skipped, progress = [], Progress()
    # Decoding, resizing and compressing happen in C, outside of Python's lock: threads keep all cores busy.
    with ThreadPool() as pool:
        for done, faults in enumerate(pool.imap(crop, range(len(files)), chunksize=16), 1):
            skipped += faults
            progress(f"{done:,} of {len(files):,} photos cropped, {len(skipped):,} skipped", last=done == len(files))
    for file, reason in skipped[:20]:
        print(f"skipped {file}: {reason}")
    for reason, times in Counter(reason for _, reason in skipped).most_common(9):
        print(f"skipped in all {times:,} x {reason}")
    if not all(any(part.glob("*.png")) for part in parts):
        raise UserError(f"{photos}: none of its {len(files):,} photos can be cropped, or too few for --split")


def list_images(folder):
    """The picture files in a folder and its sub-folders, linked ones too, each folder once -> sorted paths.

    Hidden files and folders don't count; files with other endings than pictures have are told on stderr.
    Raises UserError if there is no picture or if a run is in it, OSError if a sub-folder can't be opened.
    """
    endings = {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: {'a file, not a folder' if Path(folder).exists() else 'no such folder'}")
    files, folders, visited = [], [Path(folder)], set()
    for here in folders:
        if (real := os.path.realpath(here)) not in visited:  # links can lead in circles
            visited.add(real)
            if (here / "config.json").exists() and (here / "snapshots").is_dir():
                raise UserError(f"{here}: a run, whose sheets don't count as pictures; name it alone, or leave it out")
            for path in sorted(path for path in here.iterdir() if path.name[0] != "."):
                (folders if path.is_dir() else files).append(path)
    paths = sorted(file for file in files if file.suffix.lower() in endings)
    others = sorted({file.suffix.lower() or "no ending" for file in files} - endings)
    left_out = f"{len(files) - len(paths):,} files left out ({', '.join(others[:9])}); convert any photos to JPEG"
    if not paths:
        raise UserError(f"{folder}: no pictures in it{f', {left_out}' if others else ''}")
    if others:
        print(f"{folder}: {left_out}", file=sys.stderr)
    return paths


def open_picture(path):
    """A file -> Pillow image with 8 bits a channel.  Raises ValueError if it isn't plain what it shows."""
    image = Image.open(path)
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's, with previews
        raise ValueError("an animation or several pages, not one still picture")
    if image.mode.startswith(("I", "F")):  # Pillow's own convert() would clip them
        raise ValueError("grey of more than 8 bits; save it with 8")
    return image


def read_image(path):
    """A picture file -> uint8 (H, W, 3), RGB; alpha is dropped, as in pytorch-fid.  Raises UserError with its name."""
    try:
        with open_picture(path) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        raise UserError(f"{path}: can't be read as a picture ({explain(error)})") from None


def load_folder(folder):
    """All pictures of a folder, which must be square and of one size -> uint8 tensor (N, 3, S, S), sorted by path."""
    paths = list_images(folder)
    size = len(read_image(paths[0]))
    pictures = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    with ThreadPool() as pool:
        for index, picture in enumerate(pool.imap(read_image, paths, chunksize=64)):
            h, w, _ = picture.shape
            if not h == w == size:
                raise UserError(f"{paths[index]}: {w}x{h}, not square or not {size}x{size}; see data.py --pictures")
            pictures[index] = torch.from_numpy(picture).permute(2, 0, 1)
    return pictures


def main():
    parser = Parser(__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--source", type=Path, metavar="DIR", help="a copy of the data set, instead of fetching it")
    source.add_argument("--pictures", type=Path, metavar="DIR", help="your own pictures instead")
    source.add_argument("--toy", type=number(int, 1, 10**7), metavar="N", help="draw so many toy dogs instead")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="which toy dogs are drawn")
    parser.add_argument("--size", type=int, choices=(32, 64, 128), default=64, help="pixels of a crop's side")
    parser.add_argument("--split", action="store_true", help="keep every fifth photo for testing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: datasets/dogs64, datasets/toy64, ...")
    args = parser.parse_args()
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # a photo too large for memory is skipped
    count = f"-{args.toy}" if args.toy and args.toy != 2048 else ""  # the README's toys have the short name
    seed = f"-seed{args.seed}" if args.toy and args.seed else ""
    name = "toy" if args.toy else args.pictures.resolve().name if args.pictures else "dogs"
    out = args.out or Path(f"datasets/{name}{args.size}{count}{seed}")
    folders = [Path(f"{out}-{part}") for part in ("train", "test")] if args.split else [out]
    with ExitStack() as stack:
        parts = [stack.enter_context(new_folder(folder)) for folder in folders]
        source = args.source or Path("datasets/stanford-dogs")
        if args.toy:
            from experiment.toy import draw_toys  # needed here alone

            source = Path(f"datasets/toy-photos-{args.toy}{seed}")
            if not source.exists():
                with new_folder(source) as drawn:
                    draw_toys(drawn, args.toy, args.seed)
        elif not args.source and not args.pictures:
            fetch(source)
        photos, annotations = (args.pictures, None) if args.pictures else find_dogs(source)
        crop_photos(photos, annotations, parts, args.size)
    for folder in folders:
        print(f"{folder}: {len(os.listdir(folder)):,} pictures of {args.size}x{args.size}")


if __name__ == "__main__":
    run_script(main)
