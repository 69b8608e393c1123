"""The Stanford Dogs: fetched from bad servers, cropped from bad photos; reading and tiling pictures."""

import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import xml.etree.ElementTree as ElementTree
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, JpegImagePlugin

import data

ROOT = Path(data.__file__).resolve().parent
CONTENT = np.random.default_rng(0).bytes(150_000)
BOX = (20, 40, 84, 104)  # as large as a crop, so nothing is resized and every pixel can be compared


def noise(width=160, height=120):
    """A photo in which any change of place or value shows."""
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_dog(root, name, image, boxes=(BOX,), size=None, kind="PNG", **options):
    """Write a photo (a PNG named .jpg, unless told otherwise) and its annotation in Stanford's layout."""
    photo, annotation = root / f"Images/n01-Toy/{name}.jpg", root / f"Annotation/n01-Toy/{name}"
    photo.parent.mkdir(parents=True, exist_ok=True)
    annotation.parent.mkdir(parents=True, exist_ok=True)
    image.save(photo, kind, **options)
    text = "<size><width>{}</width><height>{}</height></size>".format(*(size or image.size))
    for box in boxes:
        text += "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>".format(*box)
    annotation.write_text(f"<annotation>{text}</annotation>")
    return photo, annotation


def crops(out):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))}


def crop_one(tmp_path, image, box=BOX, square=False, **options):
    make_dog(tmp_path, "n01_1", image, [box], **options)
    made, _, skipped = data.crop_dogs(tmp_path, tmp_path / "out", square=square)
    assert (made, skipped) == (1, {})
    return crops(tmp_path / "out")["n01_1_0"]


# Cropping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(30, 20, 31, 21), (11, 7, 48, 98), (50, 3, 160, 6), (5, 5, 155, 115)])
def test_a_box_of_one_colour_comes_out_in_exactly_that_colour(tmp_path, box):
    photo = Image.new("RGB", (160, 120), (0, 255, 9))
    photo.paste((201, 30, 77), box)
    assert (crop_one(tmp_path, photo, box) == (201, 30, 77)).all()


def test_a_ramp_keeps_its_mean_and_its_direction(tmp_path):
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (90, 200, 3))
    crop = crop_one(tmp_path, Image.fromarray(np.ascontiguousarray(ramp)), (20, 10, 180, 80)).astype(float)
    assert crop.mean() == pytest.approx((20 + 179) / 2, abs=0.5)  # half a level: rounding
    assert (np.diff(crop, axis=1) > 0).all() and (np.diff(crop, axis=0) == 0).all()


def test_every_box_of_every_photo_becomes_a_crop_numbered_in_the_order_of_the_annotation(tmp_path):
    boxes = [(80, 30, 144, 94), (0, 0, 64, 64), (5, 50, 69, 114)]
    make_dog(tmp_path, "n01_1", noise(), boxes)
    make_dog(tmp_path, "n01_2", noise())
    assert data.crop_dogs(tmp_path, tmp_path / "out") == (4, 0, {})
    found = crops(tmp_path / "out")
    assert list(found) == ["n01_1_0", "n01_1_1", "n01_1_2", "n01_2_0"]
    assert all((found[f"n01_1_{i}"] == np.asarray(noise().crop(box))).all() for i, box in enumerate(boxes))


def test_a_square_is_grown_about_the_centre_and_holds_the_box():
    for left, top, width, height in np.random.default_rng(2).integers(1, 300, (200, 4)):
        box = np.array([left, top, left + width, top + height]) + 1000
        grown = data.clip_box(box, 3000, 3000, square=True)
        assert grown[0] + grown[2] == box[0] + box[2] and grown[1] + grown[3] == box[1] + box[3]
        assert max(width, height) <= max(grown[2] - grown[0], grown[3] - grown[1])
        # On whole pixels, an odd difference can't be made up on both sides alike.
        assert abs((grown[2] - grown[0]) - (grown[3] - grown[1])) == (width - height) % 2


@pytest.mark.parametrize(
    ("box", "square", "shown"),
    [
        ((20, 46, 84, 78), True, (20, 30, 84, 94)),
        ((40, 30, 64, 94), True, (20, 30, 84, 94)),
        ((96, 56, 300, 5000), False, (96, 56, 160, 120)),
        ((-9, -1, 64, 64), False, (0, 0, 64, 64)),
        ((0, 28, 40, 92), True, (0, 28, 52, 92)),
    ],
)
def test_square_shows_what_lies_beside_the_box_and_only_the_photo_is_shown(tmp_path, box, square, shown):
    expected = noise().crop(shown).resize((64, 64), Image.Resampling.BICUBIC)
    assert (crop_one(tmp_path, noise(), box, square=square) == np.asarray(expected)).all()


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("box", [(50, 10, 50, 90), (60, 10, 50, 90), (-40, 10, -2, 110), (30, 120, 90, 130)])
def test_a_box_with_nothing_of_the_photo_in_it_is_named_and_not_cropped(tmp_path, box, square):
    make_dog(tmp_path, "n01_1", noise(), [box, BOX])
    made, _, skipped = data.crop_dogs(tmp_path, tmp_path / "out", square=square)
    assert made == 1 and list(skipped) == ["n01_1_0"] and list(crops(tmp_path / "out")) == ["n01_1_1"]


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "rgb"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 90, "JPEG", (90, 90, 90)),
        ("LA", (90, 255), "PNG", (90, 90, 90)),
        ("P", 5, "PNG", (3, 5, 8)),
        ("RGBA", (1, 2, 3, 255), "PNG", (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), "JPEG", (0, 0, 0)),
        ("I;16", 200 * 256 + 17, "PNG", (200, 200, 200)),
    ],
)
def test_a_photo_of_any_mode_comes_out_in_its_rgb_colours(tmp_path, mode, colour, kind, rgb):
    photo = Image.new(mode, (160, 120), colour)
    if mode == "P":
        photo.putpalette([0] * 15 + [3, 5, 8])
    assert (crop_one(tmp_path, photo, kind=kind) == rgb).all()


def test_a_crop_file_carries_no_colour_profile_and_no_transparency(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    crop_one(tmp_path, noise(), icc_profile=profile, transparency=(1, 2, 3))
    with Image.open(tmp_path / "out/n01_1_0.png") as crop:
        assert crop.mode == "RGB" and crop.info == {}


# How the camera stored an upright picture, by the EXIF standard's numbers
TURN = Image.Transpose
STORED = [None, TURN.FLIP_LEFT_RIGHT, TURN.ROTATE_180, TURN.FLIP_TOP_BOTTOM]
STORED += [TURN.TRANSPOSE, TURN.ROTATE_90, TURN.TRANSVERSE, TURN.ROTATE_270]
CASES = [(n, "as stored") for n in range(1, 9)] + [(n, "as shown") for n in range(5, 9)]


@pytest.mark.parametrize(("orientation", "drawn"), CASES)
def test_a_turned_photo_gives_the_upright_crop(tmp_path, orientation, drawn):
    mask = Image.new("L", (160, 120))
    mask.paste(255, BOX)
    photo, turn = noise(), STORED[orientation - 1]
    if turn is not None:
        photo, mask = photo.transpose(turn), mask.transpose(turn)
    box, size = (mask.getbbox(), photo.size) if drawn == "as stored" else (BOX, (160, 120))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (crop_one(tmp_path, photo, box, size=size, exif=exif) == np.asarray(noise().crop(BOX))).all()


def test_a_large_jpeg_is_decoded_at_reduced_size_and_its_crop_looks_the_same(tmp_path, monkeypatch):
    decoded, load_end = [], JpegImagePlugin.JpegImageFile.load_end
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load_end", lambda im: [load_end(im), decoded.append(im.size)])
    box = (101, 53, 1302, 951)
    crop = crop_one(tmp_path, noise(60, 45).resize((1603, 1201)), box, kind="JPEG", quality=90)
    assert decoded == [(401, 301)]
    with Image.open(tmp_path / "Images/n01-Toy/n01_1.jpg") as photo:
        full = photo.convert("RGB").crop(box).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(crop.astype(float) - np.asarray(full)).mean() < 0.4  # of 255 grey levels


@pytest.mark.parametrize("side", [400, 387, 805, 1553])
def test_a_white_jpeg_of_any_size_is_white_up_to_its_edges(tmp_path, side):
    photo = Image.new("RGB", (side, side), "white")
    assert (crop_one(tmp_path, photo, (0, 0, side, side), kind="JPEG") == 255).all()


FAULTS = {
    "truncated": lambda photo, note: os.truncate(photo, photo.stat().st_size // 2),
    "empty": lambda photo, note: photo.write_bytes(b""),
    "no picture": lambda photo, note: photo.write_bytes(b"<html>404</html>"),
    "absurdly large": lambda photo, note: Image.new("1", (12_000, 10_000)).save(photo, "PNG"),
    "a bomb": lambda photo, note: Image.new("1", (20_000, 20_000)).save(photo, "PNG"),
    "no annotation": lambda photo, note: note.unlink(),
    "no box": lambda photo, note: note.write_text("<annotation/>"),
    "no XML": lambda photo, note: note.write_text("<annotation>"),
    "no number": lambda photo, note: note.write_text(note.read_text().replace("20<", "nan<")),
    "entities": lambda photo, note: note.write_text(
        '<!DOCTYPE annotation [<!ENTITY n "20">]>' + note.read_text().replace("20<", "&n;<")
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_photo_is_named_with_a_reason_and_the_others_are_cropped(tmp_path, fault):
    FAULTS[fault](*make_dog(tmp_path, "n01_1", noise()))
    make_dog(tmp_path, "n01_2", noise())
    made, _, skipped = data.crop_dogs(tmp_path, tmp_path / "out")
    assert made == 1 and list(crops(tmp_path / "out")) == ["n01_2_0"]
    assert list(skipped) == ["n01_1"] and skipped["n01_1"]
    note = json.loads((tmp_path / "out/crops.json").read_text())
    assert (note["crops"], note["skipped"], note["size"], note["square"]) == (1, skipped, 64, False)


def test_a_full_disk_ends_the_run_instead_of_skipping_every_photo(tmp_path, monkeypatch):
    def save(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    make_dog(tmp_path, "n01_1", noise())
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises((OSError, data.UserError), match="No space left"):
        data.crop_dogs(tmp_path, tmp_path / "out")


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    out = tmp_path / "out"
    make_dog(tmp_path, "n01_1", noise(), [BOX, (0, 0, 9, 9)])
    make_dog(tmp_path, "n01_2", noise())
    data.crop_dogs(tmp_path, out)
    first = crops(out)
    for path in out.glob("*.png"):
        os.utime(path, (1000, 1000))
    assert data.crop_dogs(tmp_path, out) == (0, 3, {})
    (out / "n01_1_1.png").unlink()
    assert data.crop_dogs(tmp_path, out) == (1, 2, {})
    assert [path.name for path in out.glob("*.png") if path.stat().st_mtime != 1000] == ["n01_1_1.png"]
    assert all((picture == first[name]).all() for name, picture in crops(out).items())
    assert json.loads((out / "crops.json").read_text())["crops"] == 3


def test_a_run_killed_while_it_writes_leaves_no_half_written_crop(tmp_path):
    make_dog(tmp_path, "n01_1", noise())
    killed = """if True:
        import os, signal, sys, pathlib, data
        from PIL import Image
        def save(image, path, *args):
            pathlib.Path(path).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        Image.Image.save = save
        data.crop_dogs(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1], "out"))"""
    result = subprocess.run([sys.executable, "-c", killed, tmp_path], cwd=ROOT)
    left = list((tmp_path / "out").glob("n01*"))
    assert result.returncode == -signal.SIGKILL and [path.read_bytes() for path in left] == [b"half"]
    assert crops(tmp_path / "out") == {}
    with pytest.raises(data.UserError, match="no pictures"):
        data.list_images(tmp_path / "out")
    (tmp_path / "out/n01_9_0.png.part").write_bytes(b"half")  # of a photo that is gone
    assert data.crop_dogs(tmp_path, tmp_path / "out") == (1, 0, {})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crops.json", "n01_1_0.png"]


@pytest.mark.parametrize("change", ["size", "square", "part", "source", "broken"])
def test_a_folder_of_crops_made_otherwise_is_refused_in_one_short_line_and_left_alone(tmp_path, change):
    out, source = tmp_path / "out", tmp_path / "one"
    options = {"size": {"size": 32}, "square": {"square": True}, "part": {"part": "train"}}
    for folder in ("one", "two"):
        _, annotation = make_dog(tmp_path / folder, "n01_1", noise())
        annotation.unlink()
    data.crop_dogs(source, out)
    if change == "broken":
        (out / "crops.json").write_text('{"size')
    before = (out / "crops.json").read_bytes()
    with pytest.raises(data.UserError) as error:
        data.crop_dogs(tmp_path / "two" if change == "source" else source, out, **options.get(change, {}))
    assert (out / "crops.json").read_bytes() == before
    assert str(out) in str(error.value) and "n01_1" not in str(error.value)  # there may be thousands of skipped photos


def test_split_keeps_all_dogs_of_every_fifth_photo_apart(tmp_path, monkeypatch):
    for number in range(10, 21):
        make_dog(tmp_path, f"n01_{number}", noise(), [BOX, (0, 0, 9, 9)])
    monkeypatch.setattr(sys, "argv", ["data.py", "--source", str(tmp_path), "--out", str(tmp_path / "o"), "--split"])
    data.main()
    photos = {name: [crop.rsplit("_", 1)[0] for crop in crops(tmp_path / name)] for name in ("o-train", "o-test")}
    assert photos["o-test"] == ["n01_14", "n01_14", "n01_19", "n01_19"]
    assert len(photos["o-train"]) == 18 and not set(photos["o-train"]) & set(photos["o-test"])
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("layout", ["Images Annotation", "images/Images annotations/Annotation"])
def test_photos_and_annotations_are_found_in_the_usual_layouts(tmp_path, layout):
    photos, annotations = (tmp_path / name for name in layout.split())
    photos.mkdir(parents=True)
    with pytest.raises(data.UserError, match="Annotation"):
        data.find_dogs(tmp_path)
    annotations.mkdir(parents=True)
    assert data.find_dogs(tmp_path) == (photos, annotations)


def test_the_summary_tells_what_was_cropped_and_skipped_and_why(tmp_path, monkeypatch, capsys):
    make_dog(tmp_path, "n01_1", noise())
    make_dog(tmp_path, "n01_2", noise())[1].unlink()
    monkeypatch.setattr(sys, "argv", ["data.py", "--source", str(tmp_path), "--out", str(tmp_path / "out")])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    data.main()
    *_, skipped, summary = capsys.readouterr().out.splitlines()  # the progress line has ended before
    assert skipped == "skipped n01_2: no annotation"
    assert summary.endswith("1 dogs cropped, 0 there before, 1 skipped; 1 x no annotation")


def test_crops_of_real_photos_are_what_a_full_decode_gives(tmp_path):
    source = Path(os.environ.get("DOGS") or ROOT.parent / "shared/dogs")
    if not (source / "Images").is_dir():
        pytest.skip("no copy of the Stanford Dogs: set DOGS to the folder that holds Images/ and Annotation/")
    differences = []
    for kind in ("Images", "Annotation"):
        (tmp_path / kind).mkdir()
        for breed in sorted((source / kind).iterdir())[:3]:
            (tmp_path / kind / breed.name).symlink_to(breed.resolve())
    data.crop_dogs(tmp_path, tmp_path / "out")
    found = crops(tmp_path / "out")
    for path in sorted((tmp_path / "Images").glob("*/*")):
        annotation = ElementTree.parse(tmp_path / "Annotation" / path.parent.name / path.stem)
        for index, box in enumerate(annotation.iter("bndbox")):
            edges = [int(box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax")]
            full = Image.open(path).convert("RGB").crop(edges).resize((64, 64), Image.Resampling.BICUBIC)
            differences.append(np.abs(found.pop(f"{path.stem}_{index}").astype(float) - np.asarray(full)).mean())
    assert differences and not found and np.mean(differences) < 0.5


# Fetching -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A server of `files` that notes each request's Range and can refuse, cut replies short or ignore Range."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted, content = self.headers.get("Range"), server.files[self.path[1:]]
            server.ranges.append(wanted)
            if server.refuses:
                return self.send_error(403)
            start = int(wanted[len("bytes=") : -1]) if wanted and not server.ignores_range else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + server.at_most])

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.ranges, server.at_most = {"a.tar": CONTENT}, [], len(CONTENT)
        server.refuses = server.ignores_range = False
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def download(server, path):
    data.download(server.url + "a.tar", path, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_download_goes_on_where_the_connection_was_cut(server, tmp_path):
    server.at_most = 60_000
    download(server, tmp_path / "a.tar")
    assert server.ranges == [None, "bytes=60000-", "bytes=120000-"]
    assert (tmp_path / "a.tar").read_bytes() == CONTENT and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ignores_range", [False, True])
def test_a_later_run_goes_on_or_starts_over_if_the_server_ignores_range(server, tmp_path, ignores_range):
    server.ignores_range = ignores_range
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    download(server, tmp_path / "a.tar")
    assert server.ranges == ["bytes=1000-"] and (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_connection_lost_for_good_ends_the_run_and_keeps_what_came(server, tmp_path):
    server.at_most = 0
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    with pytest.raises(data.UserError, match="run this again"):
        download(server, tmp_path / "a.tar")
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:1000]


def test_a_refusal_tells_what_to_do_by_hand(server, tmp_path):
    server.refuses = True
    with pytest.raises(data.UserError) as error:
        download(server, tmp_path / "a.tar")
    for part in ("403", server.url + "a.tar", "150,000 bytes", str(tmp_path / "a.tar")):
        assert part in str(error.value)


@pytest.mark.parametrize("wrong", [b"<html>moved</html>", CONTENT + b"0", bytes(len(CONTENT))])
def test_a_wrong_file_is_refused_and_not_kept(server, tmp_path, wrong):
    server.files["a.tar"] = wrong
    with pytest.raises(data.UserError, match="150,000"):
        download(server, tmp_path / "a.tar")
    assert list(tmp_path.iterdir()) == []


def test_after_a_wrong_beginning_the_next_run_starts_afresh(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(bytes(1000))
    with pytest.raises(data.UserError, match="sha256"):
        download(server, tmp_path / "a.tar")
    download(server, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def make_tar(*members):
    """Bytes of a tar of (name, content); content that starts with -> is a symbolic link's target."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, content[2:]
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return file.getvalue()


def test_both_archives_are_fetched_checked_and_unpacked_once(server, tmp_path):
    server.files = {f"{name}.tar": make_tar((f"{name}/n01-Toy/n01_1", name)) for name in ("Images", "Annotation")}
    archives = [(name, len(tar), hashlib.sha256(tar).hexdigest(), name[:-4]) for name, tar in server.files.items()]
    for _ in range(2):
        data.fetch(tmp_path, server.url, archives)
        assert server.ranges == [None, None]  # one request for each in the first run, none in the second
    assert data.find_dogs(tmp_path) == (tmp_path / "Images", tmp_path / "Annotation")
    assert [(tmp_path / name / "n01-Toy/n01_1").read_text() for _, _, _, name in archives] == ["Images", "Annotation"]


def test_an_archive_brought_by_hand_is_used_if_it_is_the_right_one(server, tmp_path):
    tar = make_tar(("Images/a", "b"))
    archives = [("a.tar", len(tar), hashlib.sha256(tar).hexdigest(), "Images")]
    (tmp_path / "a.tar").write_bytes(tar[::-1])
    with pytest.raises(data.UserError, match=r"a\.tar.*delete"):
        data.fetch(tmp_path, server.url, archives)
    (tmp_path / "a.tar").write_bytes(tar)
    data.fetch(tmp_path, server.url, archives)
    assert (tmp_path / "Images/a").read_text() == "b" and server.ranges == []


@pytest.mark.parametrize("way", ["parent", "absolute", "link"])
def test_no_member_of_an_archive_lands_outside_the_target(tmp_path, way):
    folder = tmp_path / "datasets"
    folder.mkdir()
    members = {
        "parent": [("../../evil", "")],
        "absolute": [(str(tmp_path / "evil"), "")],
        "link": [("Images/link", f"->{tmp_path}"), ("Images/link/evil", "")],
    }
    (folder / "a.tar").write_bytes(make_tar(("Images/a", "b"), *members[way]))
    with contextlib.suppress(data.UserError):
        data.unpack(folder / "a.tar", folder, "Images")
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert set(left) <= {"datasets", "datasets/a.tar", "datasets/Images", "datasets/Images/a"}


def test_a_device_in_an_archive_is_refused(tmp_path):
    member = tarfile.TarInfo("Images/device")
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member)
    with pytest.raises(data.UserError, match="device"):
        data.unpack(tmp_path / "a.tar", tmp_path, "Images")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("tar", [make_tar(("Images/a", "b" * 5000))[:3000], make_tar(("Else/a", "b")), b"no tar"])
def test_a_broken_archive_is_unpacked_whole_or_not_at_all(tmp_path, tar):
    (tmp_path / "a.tar").write_bytes(tar)
    with pytest.raises(data.UserError, match=r"a\.tar"):
        data.unpack(tmp_path / "a.tar", tmp_path, "Images")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


# Reading and showing ------------------------------------------------------------------------------------------


def test_a_folder_is_read_sorted_by_path_as_uint8_channels_first(tmp_path):
    tmp_path = tmp_path / ".cache/photos"  # hidden itself, but asked for
    for name in ("c", "a", "b/d", ".ipynb_checkpoints/x", "b/.y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (ord(name[-1]), 1, 2)).save(tmp_path / f"{name}.png")
    (tmp_path / "crops.json").write_text("{}")
    noise(5, 4).save(tmp_path / "e.png")
    pictures = data.read_folder(tmp_path)
    assert pictures.dtype == torch.uint8 and pictures.shape == (4, 3, 4, 5)
    assert [chr(picture[0, 0, 0]) for picture in pictures[:3]] == ["a", "d", "c"]
    assert (pictures[3].permute(1, 2, 0).numpy() == np.asarray(noise(5, 4))).all()


def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(data.UserError, match="none: no such folder"):
        data.list_images(tmp_path / "none")
    with pytest.raises(data.UserError, match="no pictures"):
        data.list_images(tmp_path)
    noise(8, 8).save(tmp_path / "a.png")
    noise(8, 9).save(tmp_path / "b.png")
    with pytest.raises(data.UserError, match=r"b\.png.*8x9.*8x8"):
        data.read_folder(tmp_path)
    os.truncate(tmp_path / "b.png", 60)
    with pytest.raises(data.UserError, match=r"b\.png"):
        data.read_folder(tmp_path)


def test_tiles_stand_row_by_row_with_white_between_and_where_none_is_left():
    pictures = torch.randint(0, 255, (5, 3, 6, 4), dtype=torch.uint8)
    sheet = torch.from_numpy(np.array(data.tile(pictures, columns=3, gap=2))).permute(2, 0, 1)
    assert sheet.shape == (3, 2 + 2 * (6 + 2), 2 + 3 * (4 + 2))
    for index, picture in enumerate(pictures):
        y, x = 2 + index // 3 * 8, 2 + index % 3 * 6
        assert (sheet[:, y : y + 6, x : x + 4] == picture).all()
        sheet[:, y : y + 6, x : x + 4] = 255
    assert (sheet == 255).all()


# What all scripts share ---------------------------------------------------------------------------------------


def test_a_number_is_within_its_bounds_and_never_nan():
    check = data.number(float, 0, 2.5)
    assert (check("0"), check("2.5")) == (0, 2.5)
    for text in ("nan", "-0.001", "2.501", "inf", "-inf"):
        with pytest.raises(ArgumentTypeError, match=text):
            check(text)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    data.write_json(path, {"old": 1})
    with pytest.raises(KeyboardInterrupt), data.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"old": 1} and len(list(tmp_path.iterdir())) == 1
    with data.replacing(path, sync=True) as temporary:
        temporary.write_text("new")
        assert json.loads(path.read_text()) == {"old": 1}
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_mistake_is_one_line_that_names_it_with_exit_status_2_and_no_traceback(tmp_path):
    for mistake in (["--source", "missing"], ["--size", "65"]):
        command = [sys.executable, ROOT / "data.py", *mistake]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith("data.py: ") and mistake[-1] in result.stderr
    assert list(tmp_path.iterdir()) == []
