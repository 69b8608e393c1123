"""The Stanford Dogs, cropped to their boxes (sections 3.2 and 3.3), and reading and showing pictures.

    python data.py                    fetch 20,580 photos (815 MB) and crop every dog -> datasets/dogs64/
    python data.py --source DIR       the same from a copy that you have (Images/ and Annotation/ in DIR)
    python data.py --toy 2048         drawn dogs instead, nothing to fetch -> datasets/toy64/
    python data.py --split            the dogs of every fifth photo apart -> datasets/dogs64-train/, dogs64-test/

Each annotated dog becomes one 64x64 PNG, <breed's wnid>_<photo>_<box>.png, in one flat folder.  Running it
again does only what is missing; crops.json beside the pictures tells what was skipped and why.
"""

import argparse
import errno
import gc
import hashlib
import http.client
import json
import math
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageOps, UnidentifiedImageError

URL = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
ARCHIVES = [  # name, bytes, sha256, the folder inside
    ("images.tar", 793_579_520, "a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58", "Images"),
    ("annotation.tar", 21_852_160, "662ed36f707be6b195c2fda392d8e153e83af28cedc8e2134a649f198def30fd", "Annotation"),
]
LAYOUTS = [("Images", "Annotation"), ("images/Images", "annotations/Annotation")]  # Stanford's, a mirror's
EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


# What all scripts share: how they fail, report and write ------------------------------------------------------


class UserError(Exception):
    """Something that the user can mend.  `run` prints its one line and exits with status 2."""


def run(main):
    """Run a script's main(): no traceback for a user's mistake, a full disk or Ctrl-C."""
    try:
        main()
        any_process()  # none leaves while another still needs it
    except (UserError, OSError, torch.OutOfMemoryError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, torch.OutOfMemoryError):
            message = f"out of memory on the device: take a smaller --batch or, in training, --width ({message})"
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"the disk is full; what was saved before is kept ({message})"
        if sys.stdout.isatty():
            print()  # below the progress line
        if dist.is_initialized() or os.environ.get("LOCAL_RANK", "0") == "0":  # before they join, all say the same
            print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # what torch raises on a CPU
            text = "out of memory: take a smaller --batch or, in training, --width"
        elif isinstance(error, dist.DistError) or "gloo" in str(error):
            text = "a connection broke, mostly as another process has ended; start again, a training with --resume"
        else:
            raise
        print(f"{Path(sys.argv[0]).name}: {text} ({' '.join(str(error).split())})", file=sys.stderr)
        sys.exit(2)
    if dist.is_initialized():
        gc.collect()  # what holds on to the group in a cycle would end it too late, with an abort
        dist.destroy_process_group()


class Parser(argparse.ArgumentParser):
    """Options with the script's docstring above them and each default behind; a mistake is one line."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False)

    def add_seed_and_device(self):
        self.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="where all random numbers start")
        self.add_device()

    def add_device(self):
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self.add_argument("--device", type=device, default=best, help="cuda, cuda:1, mps or cpu")

    def error(self, message):
        raise UserError(f"{message} (--help tells more)")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):  # no "(default: None)"
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def number(kind, low, high=math.inf):
    """A type for an option: `kind` (int or float) from `low` to `high`, both included, always finite."""

    def check(text):
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    check.__name__ = kind.__name__  # argparse says "invalid int value"
    return check


def has_device(name):
    """Whether this machine has the device: "cuda:1", "mps", ..."""
    try:
        torch.empty(0, device=name)
    except Exception:  # torch raises many kinds here
        return False
    return True


def device(name):
    """A type for an option: the name of a device that this machine has."""
    if not has_device(name):
        raise argparse.ArgumentTypeError(f"no device {name} here")
    return name


def join_processes(device):
    """Join the other processes if torchrun started this one -> the device of this one: cuda becomes cuda:1, ...

    Only the first process goes on writing to stdout.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    if device.startswith("cuda"):
        local_rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device != "cuda" or int(os.environ["LOCAL_WORLD_SIZE"]) > count:
            raise UserError(
                f"--device {device}: torchrun gives each process a GPU of its own, here 1 to {count} of them"
            )
        torch.cuda.set_device(local_rank)
        device = f"cuda:{local_rank}"
    elif device != "cpu":
        raise UserError(f"--device {device}: torchrun needs cuda or cpu")
    # Gradients go from GPU to GPU; what the processes agree on otherwise never waits for one.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return device


def rank_and_world():
    """Which process this is, from 0 on, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def any_process(*flags):
    """Which of the flags, True or False, are true in any process: all go on in the same way.  They meet here."""
    if not dist.is_initialized():
        return flags
    votes = torch.tensor([*flags, False], dtype=torch.int32)  # never empty: nobody would wait for that
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return votes.bool().tolist()[:-1]


class Progress:
    """A line about long work: rewritten in place on a terminal, printed every few seconds elsewhere."""

    def __init__(self, every=10.0, file=None):
        self.file = file or sys.stdout
        self.every, self.terminal, self.next = every, self.file.isatty(), 0.0

    def __call__(self, text, last=False):
        now = time.monotonic()
        if self.terminal:
            print(f"\r{text}\x1b[K", end="\n" if last else "", file=self.file, flush=True)
        elif last or now >= self.next:
            print(text, file=self.file, flush=True)
            self.next = now + self.every


@contextmanager
def replacing(path, sync=False):
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    Whoever looks sees the old file or the whole new one.  `sync`: wait until it is on the disk first.
    Raises UserError if its folder is missing.
    """
    temporary = Path(f"{path}.part")
    if not temporary.parent.is_dir():
        raise UserError(f"{path}: there is no folder {temporary.parent}")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path, value, sync=False):
    with replacing(path, sync) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def write_checkpoint(path, content, sync=False):
    """torch.save to a whole new file.  Raises UserError if it can't be written; the one before is then kept."""
    with replacing(path, sync) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise UserError(f"{path}: can't be written, is the disk full? What was there is kept") from error


def read_checkpoint(path):
    """The dictionary in a .pt file, on the CPU; no code in it is run.  Raises UserError if it can't be read."""
    try:
        if zipfile.is_zipfile(path):  # as all are but very old ones; torch doesn't look at the checksums inside
            with zipfile.ZipFile(path) as file:
                if damaged := file.testzip():
                    raise ValueError(f"{damaged} in it is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content | {}  # a TypeError if it isn't a dictionary
    except Exception as error:  # a broken file makes torch raise nearly anything
        raise UserError(f"{path}: can't be read as a checkpoint ({type(error).__name__})") from None


# Fetching -----------------------------------------------------------------------------------------------------


def download(url, path, size, sha256):
    """Fetch `url` to `path`, going on where an earlier try stopped, and check its size and sha256.

    Raises UserError when the server refuses, the connection is lost for good, or it is another file.
    """
    path, part = Path(path), Path(f"{path}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    by_hand = f"or get {url} ({size:,} bytes) by other means, put it at {path} and run this again"
    progress, have = Progress(), part.stat().st_size if part.exists() else 0
    while have < size:
        try:
            request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
            with urllib.request.urlopen(request, timeout=60) as response:
                # A server may ignore Range and send everything; then the old part is of no use.
                start = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
                length = response.headers.get("Content-Length")
                if length and start + int(length) != size:
                    raise UserError(f"{url} has {start + int(length):,} bytes, not {size:,}: another file; {by_hand}")
                with open(part, "ab" if start else "wb") as file:
                    while file.tell() < size and (chunk := response.read(1 << 18)):
                        file.write(chunk)
                        progress(f"{path.name}: {file.tell() / 1e6:,.0f} of {size / 1e6:,.0f} MB", file.tell() >= size)
        except urllib.error.HTTPError as error:
            raise UserError(f"{url}: the server says {error.code} {error.reason}; try later, {by_hand}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = f"{error or type(error).__name__}"
        else:
            reason = "the connection ended early"
        before, have = have, part.stat().st_size if part.exists() else 0
        if have <= before:  # as long as every try brings more, it's worth another
            raise UserError(f"{url}: {reason}; run this again to go on at {have:,} bytes, {by_hand}")
    check_archive(part, size, sha256, f"deleted; run this again, {by_hand}", delete=True)
    os.replace(part, path)


def check_archive(path, size, sha256, advice, delete=False):
    """Raise UserError if the file isn't the one that everybody has."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, found) != (size, sha256):
        if delete:
            path.unlink()
        raise UserError(f"{path}: not the expected {size:,} bytes with sha256 {sha256[:12]}..., {advice}")


def unpack(archive, folder, name):
    """Unpack the tar file's folder `name` to folder/name, whole or not at all.

    tarfile's data filter refuses members that would land outside, links out and device files.
    """
    target = folder / f"{name}.part"
    shutil.rmtree(target, ignore_errors=True)
    progress = Progress()
    try:
        with tarfile.open(archive) as tar:
            for count, member in enumerate(tar):
                tar.extract(member, target, filter="data")
                progress(f"{archive.name}: {count:,} files unpacked")
        progress(f"{archive.name}: unpacked", last=True)
        os.replace(target / name, folder / name)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise UserError(f"{archive}: can't be unpacked ({error})") from None
    finally:
        shutil.rmtree(target, ignore_errors=True)


def fetch(folder, url=URL, archives=ARCHIVES):
    """Stanford's two archives, fetched, checked and unpacked in `folder`; what is there already is kept."""
    for name, size, sha256, inside in archives:
        if not (folder / inside).is_dir():
            if (folder / name).exists():  # brought by hand, or unpacking was cut off
                check_archive(folder / name, size, sha256, "so it isn't Stanford's: delete it and run this again")
            else:
                download(url + name, folder / name, size, sha256)
            unpack(folder / name, folder, inside)


# Cropping (section 3.3) ---------------------------------------------------------------------------------------


def find_dogs(source):
    """The folders (photos, annotations) of a copy of the Stanford Dogs, in one of the usual layouts."""
    for photos, annotations in LAYOUTS:
        if (source / photos).is_dir() and (source / annotations).is_dir():
            return source / photos, source / annotations
    wanted = " or ".join(f"{photos}/ with {annotations}/" for photos, annotations in LAYOUTS)
    raise UserError(f"{source}: no Stanford Dogs there (looked for {wanted})")


def read_boxes(annotation):
    """An annotation file -> ((width, height) of the photo, [(left, top, right, bottom)] in its pixels).

    Raises ValueError with the reason when the file is not a sound annotation.
    """
    text = annotation.read_bytes().decode("utf-8", "replace")  # in any other encoding, what follows could be hidden
    if "<!ENTITY" in text:  # no real annotation has any; entities can be made to eat all memory
        raise ValueError("the annotation declares XML entities")
    try:
        root = ElementTree.fromstring(text)
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
        edges = ("xmin", "ymin", "xmax", "ymax")
        boxes = [tuple(int(float(box.findtext(edge))) for edge in edges) for box in root.iter("bndbox")]
    except (ElementTree.ParseError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the annotation can't be read ({error})") from None
    return (width, height), boxes


def to_rgb(image):
    """Any Pillow image -> RGB; 16-bit grey is scaled to 8 bits, which Pillow's own convert() would clip."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def clip_box(box, width, height, square):
    """The part of a box inside the photo; with `square` it's first grown to one, as far as the photo goes."""
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    if square and left < right and top < bottom:
        grow = (right - left) - (bottom - top)
        left, right = left + min(grow, 0) // 2, right - min(grow, 0) // 2
        top, bottom = top - max(grow, 0) // 2, bottom + max(grow, 0) // 2
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def crop_photo(photo, boxes, annotated_size, size, square):
    """Boxes of one photo -> as many RGB crops of size x size; None for a box with nothing of the photo in it.

    Raises what Pillow raises for a photo that it can't read, ValueError for an absurdly large one.
    """
    with Image.open(photo) as image:
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are too many")
        # A camera may store a photo on its side and note so.  The annotated size tells which way round the
        # boxes were drawn: as stored (then each crop is turned upright in the end) or as shown.
        as_stored = annotated_size == image.size
        if not as_stored:
            ImageOps.exif_transpose(image, in_place=True)
        width, height = image.size
        boxes = [clip_box(box, width, height, square) for box in boxes]
        narrowest = min((right - left for left, _, right, _ in boxes if right > left), default=width)
        lowest = min((bottom - top for _, top, _, bottom in boxes if bottom > top), default=height)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, for less work.  As long as three decoded pixels
        # stay for each one of the crop, this changes the crop by 0.3 grey levels on average: nobody sees it.
        image.draft(None, (3 * size * width // narrowest, 3 * size * height // lowest))
        scale = round(width / image.width)  # 1, 2, 4 or 8; the decoded size is rounded up
        crops = []
        for left, top, right, bottom in boxes:
            if left >= right or top >= bottom:
                crops.append(None)
                continue
            left, top, right, bottom = left / scale, top / scale, right / scale, bottom / scale
            x, y = math.floor(left), math.floor(top)
            # Cut before resizing: the filter must not mix in what lies outside the box.
            crop = to_rgb(image.crop((x, y, math.ceil(right), math.ceil(bottom))))
            box = (left - x, top - y, right - x, bottom - y)
            crop = crop.resize((size, size), Image.Resampling.BICUBIC, box=box)  # antialiased
            crops.append(ImageOps.exif_transpose(crop) if as_stored else crop)
        return crops


def crop_missing(photo, annotations, out, size, square):
    """Write those crops of a photo that `out` lacks -> (crops made, crops found, {name: why skipped})."""
    annotation = annotations / photo.parent.name / photo.stem
    if not annotation.exists():
        return 0, 0, {photo.stem: "no annotation"}
    try:
        annotated_size, boxes = read_boxes(annotation)
        targets = [out / f"{photo.stem}_{number}.png" for number in range(len(boxes))]
        todo = [number for number, target in enumerate(targets) if not target.exists()]
        crops = crop_photo(photo, [boxes[number] for number in todo], annotated_size, size, square) if todo else []
    except UnidentifiedImageError:
        return 0, 0, {photo.stem: "not a picture"}
    except Exception as error:  # whatever else a broken file makes Pillow raise: name it and go on
        return 0, 0, {photo.stem: f"{error or type(error).__name__}"}
    skipped = {} if boxes else {photo.stem: "no box in the annotation"}
    for number, image in zip(todo, crops, strict=True):
        if image is None:
            skipped[targets[number].stem] = "the box is empty or outside the photo"
        else:
            with replacing(targets[number]) as temporary:
                image.info = {}  # without the photo's colour profile
                image.save(temporary, "PNG")
    return len(crops) - crops.count(None), len(boxes) - len(todo), skipped


def crop_dogs(source, out, size=64, square=False, part="all"):
    """Crop every annotated dog under `source` to a PNG in `out`; what is there already stays.

    `part`: "all" photos, "test" for every fifth, sorted by breed and name, or "train" for the others.
    Returns (crops made, crops found there, {name: why it was skipped}), also written to out/crops.json.
    Raises UserError when `source` holds no dogs, or `out` holds crops made in another way.
    """
    photos, annotations = find_dogs(source)
    made_of = {"source": str(source.resolve()), "size": size, "square": square, "part": part}
    note = out / "crops.json"
    if note.exists():
        try:
            before = json.loads(note.read_text())
            before = {key: before[key] for key in made_of}
        except (ValueError, KeyError, TypeError):
            before = "crops.json can't be read"
        if before != made_of:
            raise UserError(f"{out} holds crops made otherwise ({before}): choose another --out or delete it")
    files = sorted(path for path in photos.glob("*/*") if path.suffix.lower() in EXTENSIONS)
    if len(files) < (1 if part == "all" else 5):
        raise UserError(f"{photos}: {len(files)} photos in its folders, too few for what is asked")
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, made_of)
    for left_over in out.glob("n*.png.part"):  # of a run that was killed
        left_over.unlink()

    if part != "all":
        files = [path for index, path in enumerate(files) if (index % 5 == 4) == (part == "test")]
    crop = partial(crop_missing, annotations=annotations, out=out, size=size, square=square)
    made, found, skipped, progress = 0, 0, {}, Progress()
    # Decoding, resizing and compressing happen in C, outside of Python's lock: threads keep all cores busy.
    with ThreadPool() as pool:
        for count, (new, old, faults) in enumerate(pool.imap_unordered(crop, files, chunksize=16), 1):
            made, found = made + new, found + old
            skipped.update(faults)
            text = f"{count:,} of {len(files):,} photos: {made:,} dogs cropped, {len(skipped):,} skipped"
            progress(text, last=count == len(files))
    skipped = dict(sorted(skipped.items()))
    write_json(note, made_of | {"crops": made + found, "skipped": skipped})
    return made, found, skipped


# Reading and showing pictures ---------------------------------------------------------------------------------


def list_images(folder):
    """The pictures in a folder and its sub-folders, sorted by path.  Raises UserError if none.

    Hidden ones, and those in hidden sub-folders (.ipynb_checkpoints/), don't count.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    paths = sorted(path for path in paths if not any(n.startswith(".") for n in path.relative_to(folder).parts))
    if not paths:
        raise UserError(f"{folder}: no pictures in it (looked for {' '.join(sorted(EXTENSIONS))})")
    return paths


def read_image(path):
    """A picture file -> uint8 array (height, width, 3), RGB.  Raises UserError naming the file."""
    try:
        with Image.open(path) as image:
            return np.array(to_rgb(image))
    except Exception as error:  # a broken file can make Pillow raise nearly anything
        raise UserError(f"{path}: can't be read as a picture ({error or type(error).__name__})") from None


def read_folder(folder):
    """All pictures of a folder, which must have one size -> uint8 tensor (N, 3, height, width), sorted by path."""
    paths = list_images(folder)
    height, width, _ = read_image(paths[0]).shape
    pictures = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)

    def read(index):
        picture = read_image(paths[index])
        if picture.shape != (height, width, 3):
            raise UserError(f"{paths[index]}: {picture.shape[1]}x{picture.shape[0]}, others are {width}x{height}")
        pictures[index] = torch.from_numpy(picture).permute(2, 0, 1)

    with ThreadPool() as pool:
        for _ in pool.imap_unordered(read, range(len(paths)), chunksize=64):
            pass
    return pictures


def tile(pictures, columns=8, gap=2):
    """uint8 (N, 3, H, W) -> one Pillow image, row by row, on white."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.full((3, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for index, picture in enumerate(pictures.cpu()):
        y, x = (index // columns) * (height + gap) + gap, (index % columns) * (width + gap) + gap
        sheet[:, y : y + height, x : x + width] = picture
    return Image.fromarray(sheet.permute(1, 2, 0).numpy())


def main():
    parser = Parser(__doc__)
    parser.add_argument("--source", type=Path, metavar="DIR", help="a copy of the data set, instead of fetching it")
    parser.add_argument("--toy", type=number(int, 1, 10**7), metavar="N", help="draw so many photos instead")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="which toy dogs are drawn")
    parser.add_argument("--size", type=int, choices=(32, 64, 128), default=64, help="pixels of a crop's side")
    parser.add_argument("--square", action="store_true", help="grow boxes to squares first, as far as photos go")
    parser.add_argument("--split", action="store_true", help="keep the dogs of every fifth photo apart, for testing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: datasets/dogs64, toy64, dogs64-square, ...")
    args = parser.parse_args()
    if args.source and args.toy:
        parser.error("--source and --toy: take one")
    if args.toy:
        from toy import draw_toys  # needed here alone, so that fid.py and the others do without the file

        kind, source = "toy", Path(f"datasets/toy-photos{args.seed or ''}")
        print(f"drawing {args.toy:,} photos of toy dogs in {source}", flush=True)
        draw_toys(source, args.toy, args.seed)
    else:
        kind, source = "dogs", args.source or Path("datasets/stanford-dogs")
        if not args.source:
            fetch(source)
    kind += f"{args.size}{'-square' if args.square else ''}{f'-seed{args.seed}' if args.toy and args.seed else ''}"
    out = args.out or Path("datasets") / kind
    for part in ("train", "test") if args.split else ("all",):
        folder = Path(f"{out}-{part}") if args.split else out
        made, found, skipped = crop_dogs(source, folder, args.size, args.square, part)
        for name, reason in list(skipped.items())[:20]:
            print(f"skipped {name}: {reason}")
        if len(skipped) > 20:
            print(f"... and {len(skipped) - 20:,} more, named in {folder / 'crops.json'}")
        print(f"{folder}: {made:,} dogs cropped, {found:,} there before, {len(skipped):,} skipped", end="")
        print("".join(f"; {count:,} x {reason}" for reason, count in Counter(skipped.values()).most_common(3)))


if __name__ == "__main__":
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # crop_photo names such files itself
    run(main)
