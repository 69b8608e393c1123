"""The photos (sections 3.2 and 3.3): Stanford Dogs cropped to their boxes, or your own; reading and showing pictures.

    python data.py                    fetch 20,580 photos (815 MB), crop every dog -> datasets/dogs64/
    python data.py --source DIR       the same from a copy that you have: Images/ and Annotation/ in DIR
    python data.py --pictures DIR     your own pictures of any sizes: the middle square of each -> datasets/<DIR>64/
    python data.py --toy 2048         toy dogs, nothing to fetch -> datasets/toy64/
    python data.py --split            every fifth photo apart -> datasets/dogs64-train/, datasets/dogs64-test/

Each annotated dog becomes a 64x64 PNG, <breed's wnid>_<photo>_<box>.png, all in one flat folder.
"""

import hashlib
import http.client
import os
import shutil
import signal
import sys
import tarfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import ExitStack, contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from common import Parser, Progress, UserError, lock, number, run_script

URL = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
ARCHIVES = [  # name, bytes, sha256, the folder to unpack it in
    ("images.tar", 793_579_520, "a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58", "images"),
    ("annotation.tar", 21_852_160, "662ed36f707be6b195c2fda392d8e153e83af28cedc8e2134a649f198def30fd", "annotations"),
]
LAYOUTS = [("Images", "Annotation"), ("images/Images", "annotations/Annotation")]


@contextmanager
def new_folder(folder):
    """A hidden empty folder beside `folder`, to be filled; it is renamed to `folder` when the block ends well.

    What a killed run left in it is deleted.  Raises UserError if `folder` exists or another process is at work on it.
    """
    if folder.exists():
        raise UserError(f"{folder}: is there already; delete it to make it anew, or choose another --out")
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    with lock(part):
        try:
            for left in part.iterdir():
                if left.name != ".lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield part
            os.rename(part, folder)
            (folder / ".lock").unlink(missing_ok=True)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def download(url, path, size):
    """Fetch `url` to `path`, going on where an earlier try stopped.  Raises UserError if that doesn't get it all."""
    part, progress, before, reason = Path(f"{path}.part"), Progress(), -1, "the connection ended early"
    part.touch()
    while before < (have := part.stat().st_size) < size:  # as long as every try brings more, another is worth it
        before = have
        request = Request(url, headers={"Range": f"bytes={have}-"})
        try:
            with urlopen(request, timeout=60) as reply:
                start = have if reply.status == 206 else 0  # a server may ignore Range and send everything
                if start + int(reply.headers.get("Content-Length", size - start)) != size:
                    raise UserError(f"{url}: not the expected {size:,} bytes but another file; try again later")
                with open(part, "ab" if start else "wb") as file:
                    while file.tell() < size and (chunk := reply.read(1 << 18)):
                        file.write(chunk)
                        progress(f"{path.name}: {file.tell() / 1e6:,.0f} of {size / 1e6:,.0f} MB", file.tell() >= size)
        except (OSError, http.client.HTTPException) as error:
            reason = error
    if have < size:
        by_hand = f"get its {size:,} bytes by other means, put them at {path}"
        raise UserError(f"{url}: {reason}; run this again to go on at {have:,} bytes, or {by_hand} and run this again")
    os.replace(part, path)


def fetch(folder, url=URL, archives=ARCHIVES):
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
    wanted = " or ".join(f"{photos}/ with {annotations}/" for photos, annotations in LAYOUTS)
    raise UserError(f"{source}: no Stanford Dogs there (looked for {wanted})")


def read_boxes(annotation):
    """An annotation file -> [(left, top, right, bottom)] in pixels.  Raises ValueError if it is not a sound one."""
    try:
        root = ElementTree.parse(annotation)
        edges = ("xmin", "ymin", "xmax", "ymax")
        boxes = [[int(float(box.findtext(edge))) for edge in edges] for box in root.iter("bndbox")]
    except (ElementTree.ParseError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the annotation can't be read ({error})") from None
    if not boxes:
        raise ValueError("no box in the annotation")
    return boxes


def crop_photo(photo, size, annotation=None):
    """The boxes of one photo, or its middle square -> RGB crops of size x size, None for a box outside the photo.

    Raises ValueError, or what Pillow raises, for a photo or an annotation that can't be read.
    """
    boxes, crops = read_boxes(annotation) if annotation else [], []
    with open_picture(photo) as image:
        width, height = image.size
        corner, side = (np.array(image.size) - min(image.size)) // 2, min(image.size)
        boxes = np.clip(boxes or [[*corner, *(corner + side)]], 0, (width, height, width, height))
        for left, top, right, bottom in boxes.tolist():
            if left >= right or top >= bottom:
                crops.append(None)
                continue
            # Cut before resizing: the filter must not mix in what lies outside the box.
            crop = image.crop((left, top, right, bottom)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            crops.append(ImageOps.exif_transpose(crop))  # a camera may store a photo on its side, and boxes lie there
        return crops


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
            note = annotations / file.relative_to(photos).with_suffix("") if annotations else None
            crops = crop_photo(file, size, note)
        except Exception as error:  # a broken file makes Pillow raise nearly anything: name it and go on
            reasons = {FileNotFoundError: "no annotation", UnidentifiedImageError: "not a picture"}
            return [(file, reasons.get(type(error)) or str(error) or type(error).__name__)]
        for box, image in enumerate(crops):
            if image:
                image.info = {}  # without the photo's colour profile
                name = f"{index:05d}-{file.stem}" if numbered else file.stem
                image.save(part / (f"{name}_{box}.png" if annotations else f"{name}.png"))
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

    A picture's name ends as one of Pillow's formats; hidden files and folders don't count, others are told on stderr.
    Raises UserError if there is no picture or a sub-folder can't be opened.
    """

    def refuse(error):
        raise UserError(f"{error.filename}: can't be opened ({error.strerror})")

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'a file, not a folder of pictures' if folder.exists() else 'no such folder'}")
    undecoded = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow leaves these to other programs
    endings = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN.keys() - undecoded}
    files, visited = [], {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        below = {os.path.realpath(f"{root}/{name}"): name for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for real, name in below.items() if real not in visited]  # links can lead in circles
        visited |= below.keys()
        files += [Path(root, name) for name in names if name[0] != "."]
    paths = sorted(file for file in files if file.suffix.lower() in endings)
    others = [file.suffix.lower() or "no ending" for file in files if file.suffix.lower() not in endings]
    left_out = f"{len(others):,} other files left out ({', '.join(sorted(set(others))[:9])})"
    if not paths:
        raise UserError(f"{folder}: no pictures in it{f', {left_out}' if others else ''}")
    if others:
        print(f"{folder}: {left_out}", file=sys.stderr)
    return paths


def open_picture(path):
    """A file -> Pillow image with 8 bits a channel.  Raises ValueError if it isn't plain what it shows."""
    image = Image.open(path)
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):  # these hold previews, layers
        raise ValueError("an animation or several pages, not one still picture")
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)  # Pillow's own convert() would clip them
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    white = 65535 if deep else 1 if image.mode == "F" else 255
    if not (values.min() >= 0 and values.max() <= white):
        raise ValueError(f"grey from {values.min():g} to {values.max():g}, not from 0 to {white}: save it with 8 bits")
    plain = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    plain.info["exif"] = image.getexif().tobytes()  # it may tell that the picture is on its side
    return plain


def read_image(path):
    """A picture file -> uint8 array (H, W, 3), RGB.  Raises UserError naming the file."""
    try:
        with open_picture(path) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        raise UserError(f"{path}: can't be read as a picture ({error or type(error).__name__})") from None


def load_folder(folder):
    """All pictures of a folder, which must be square and of one size -> uint8 tensor (N, 3, S, S), sorted by path."""
    paths = list_images(folder)
    size, width, _ = read_image(paths[0]).shape
    if size != width:
        raise UserError(f"{folder}: the pictures are not square; python data.py --pictures makes them so")
    pictures = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    with ThreadPool() as pool:
        for index, picture in enumerate(pool.imap(read_image, paths, chunksize=64)):
            h, w, _ = picture.shape
            if (h, w) != (size, size):
                raise UserError(f"{paths[index]}: {w}x{h}, others are {size}x{size}; see data.py --pictures")
            pictures[index] = torch.from_numpy(picture).permute(2, 0, 1)
    return pictures


def image_grid(pictures, columns=8, gap=2):
    """uint8 (N, 3, H, W) -> one Pillow image, row by row, on white."""
    count, _, height, width = pictures.shape
    height, width = height + gap, width + gap
    grid = Image.new("RGB", (columns * width + gap, -(-count // columns) * height + gap), "white")
    for index, picture in enumerate(pictures.permute(0, 2, 3, 1).cpu().numpy()):
        grid.paste(Image.fromarray(picture), (index % columns * width + gap, index // columns * height + gap))
    return grid


def main():
    parser = Parser(__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--source", type=Path, metavar="DIR", help="a copy of the data set, instead of fetching it")
    source.add_argument("--pictures", type=Path, metavar="DIR", help="your own pictures instead")
    source.add_argument("--toy", type=number(int, 1, 10**7), metavar="N", help="draw so many photos of dogs instead")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="which toy dogs are drawn")
    parser.add_argument("--size", type=int, choices=(32, 64, 128), default=64, help="pixels of a crop's side")
    parser.add_argument("--split", action="store_true", help="keep every fifth photo apart, for testing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: datasets/dogs64, datasets/toy64, ...")
    args = parser.parse_args()
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # a photo too large for memory is skipped
    seed = f"-seed{args.seed}" if args.toy and args.seed else ""
    name = "toy" if args.toy else args.pictures.resolve().name if args.pictures else "dogs"
    out = args.out or Path(f"datasets/{name}{args.size}{seed}")
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
    for signum in (signal.SIGINT, signal.SIGTERM):  # end at once, whatever the threads do: what has its name is whole
        signal.signal(signum, lambda *_: (os.write(2, b"\ndata.py: stopped\n"), os._exit(130)))
    run_script(main)
