"""The photos: fetched from bad servers, cropped from bad files, found in odd folders, read whatever their format."""

import errno
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import data
import files
from common import UserError
from snapshots import image_grid

ROOT = Path(data.__file__).resolve().parent
CONTENT = np.random.default_rng(0).bytes(150_000)
BOX = (20, 40, 84, 104)  # as large as a crop, so nothing is resized and every pixel can be compared


def noise(width=160, height=120, seed=1):
    """A photo in which any change of place or value shows."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_box(box):
    return "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>".format(*box)


def make_dog(root, name, image, boxes=(BOX,), size=None, kind="PNG", **options):
    """Write a photo (a PNG named .jpg, unless told otherwise) and its annotation in Stanford's layout."""
    photo, annotation = root / "Images" / name, (root / "Annotation" / name).with_suffix("")
    photo.parent.mkdir(parents=True, exist_ok=True)
    annotation.parent.mkdir(parents=True, exist_ok=True)
    image.save(photo, kind, **options)
    text = "<size><width>{}</width><height>{}</height></size>".format(*(size or image.size))
    for box in boxes:
        text += f"<object><name>Toy</name>{make_box(box)}</object>"
    annotation.write_text(f"<annotation>{text}</annotation>")
    return photo, annotation


def main(*arguments):
    with mock.patch.object(sys, "argv", ["data.py", *map(str, arguments)]):
        data.main()


def crops(out):
    return {path.stem: data.read_image(path) for path in sorted(out.iterdir())}


def crop(root):
    main("--source", root, "--out", root / "out")
    return crops(root / "out")


def crop_one(root, image, box=BOX, **options):
    make_dog(root, "n01-Toy/n01_1.jpg", image, [box], **options)
    (found,) = crop(root).values()
    return found


# Cropping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(30, 20, 31, 21), (11, 7, 48, 98), (50, 3, 160, 6), (5, 5, 155, 115)])
def test_a_box_of_one_colour_comes_out_in_exactly_that_colour(tmp_path, box):
    photo = Image.new("RGB", (160, 120), (0, 255, 9))
    photo.paste((201, 30, 77), box)
    assert (crop_one(tmp_path, photo, box) == (201, 30, 77)).all()


def test_a_ramp_keeps_its_mean_and_its_direction(tmp_path):
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (90, 200, 3))
    found = crop_one(tmp_path, Image.fromarray(np.ascontiguousarray(ramp)), (20, 10, 180, 80)).astype(float)
    assert found.mean() == pytest.approx((20 + 179) / 2, abs=0.5)  # half a level: rounding
    assert (np.diff(found, axis=1) > 0).all() and (np.diff(found, axis=0) == 0).all()


def test_every_box_becomes_a_crop_numbered_as_in_the_annotation_and_ends_where_the_photo_does(tmp_path, capsys):
    boxes = [(80, 30, 144, 94), (50, 10, 50, 90), (96, 56, 300, 5000), (60, 10, 50, 90), (-9, -1, 64, 64)]
    shown = {0: boxes[0], 2: (96, 56, 160, 120), 4: (0, 0, 64, 64)}
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise(), boxes)
    found = crop(tmp_path)
    assert list(found) == [f"n01_1_{index}" for index in shown]
    assert all((found[f"n01_1_{index}"] == np.asarray(noise().crop(box))).all() for index, box in shown.items())
    assert "skipped in all 2 x a box is empty" in capsys.readouterr().out


@pytest.mark.parametrize("drawn", [(320, 240), (80, 60), (53, 40), (107, 79), (161, 121), (0, 0), (None, None)])
def test_a_box_drawn_on_the_photo_at_another_size_is_scaled_to_it(tmp_path, drawn):
    x, y = drawn[0] / 160 if drawn[0] else 1, drawn[1] / 120 if drawn[1] else 1
    scaled = [edge * by for edge, by in zip(BOX, (x, y, x, y), strict=True)]
    _, annotation = make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise(), [scaled], drawn)
    if drawn[0] is None:
        annotation.write_text(annotation.read_text().replace("size>", "unsaid>"))
    assert (crop(tmp_path)["n01_1_0"] == np.asarray(noise().crop(BOX))).all()


@pytest.mark.parametrize("drawn", [(120, 160), (60, 80), (160, 160), (80, 64), (1600, 1240)])
def test_a_photo_that_has_another_shape_than_its_annotation_tells_is_skipped(tmp_path, capsys, drawn):
    photo, _ = make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise(), size=drawn)
    make_dog(tmp_path, "n01-Toy/n01_2.jpg", noise())
    assert list(crop(tmp_path)) == ["n01_2_0"]
    assert f"skipped {photo}: the annotation's <size> has another shape" in capsys.readouterr().out


def test_of_all_boxes_only_those_of_dogs_count(tmp_path):
    _, annotation = make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise(), [])
    head, person, whole = (make_box(box) for box in ((50, 50, 60, 60), (0, 0, 30, 90), BOX))
    dog = f"<object><part><name>head</name>{head}</part><name>dog</name>{whole}<part>{head}</part></object>"
    things = f"<object><name>person</name>{person}</object>{dog}<object><name>sofa</name>{person}</object>"
    annotation.with_name("n01_1.xml").write_text(f"<annotation>{things}{dog}</annotation>")  # as VOC names the file
    annotation.unlink()
    found = crop(tmp_path)
    assert list(found) == ["n01_1_0", "n01_1_1"]
    assert all((picture == np.asarray(noise().crop(BOX))).all() for picture in found.values())


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "rgb"),
    [("P", 5, "PNG", (3, 5, 8)), ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)), ("L", 7, "PNG", (7, 7, 7))],
)
def test_a_photo_of_any_mode_is_read_and_cropped_in_its_colours(tmp_path, mode, colour, kind, rgb):
    photo = Image.new(mode, (160, 120), colour)
    if mode == "P":
        photo.putpalette([0] * 15 + [3, 5, 8])
    assert (crop_one(tmp_path, photo, kind=kind) == rgb).all()
    assert (data.read_image(tmp_path / "Images/n01-Toy/n01_1.jpg") == rgb).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_what_is_transparent_is_cropped_on_white_and_read_as_pytorch_fid_does(tmp_path, mode):
    """The middle half of a grey picture can be seen, of the rest only what lies under it, black."""
    grey = Image.new("L", (64, 64))
    grey.paste(90, (16, 0, 48, 64))
    seen = grey.point(lambda value: 255 * (value > 0))
    if mode in ("RGBA", "LA", "PA"):
        picture, options = grey.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[mode]), {}
        picture.putalpha(seen)
    else:  # one colour, black, stands for what is transparent
        picture, options = grey.convert(mode), {"transparency": (0, 0, 0) if mode == "RGB" else 0}
    (tmp_path / "pets").mkdir()
    path = tmp_path / f"pets/1.{'tif' if mode == 'PA' else 'png'}"
    picture.save(path, **options)
    with Image.open(path) as found:
        assert found.mode == mode
    main("--pictures", tmp_path / "pets", "--out", tmp_path / "out")
    columns = crops(tmp_path / "out")["1"][:, [0, 20, 63]]
    assert (columns == [[[255] * 3, [90] * 3, [255] * 3]]).all()
    assert (data.read_image(path)[:, [0, 20, 63]] == [[[0] * 3, [90] * 3, [0] * 3]]).all()


@pytest.mark.parametrize("options", [{}, {"transparency": (1, 2, 3)}])
def test_a_crop_file_carries_no_colour_profile_and_no_transparency(tmp_path, options):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    crop_one(tmp_path, noise(), icc_profile=profile, **options)
    with Image.open(tmp_path / "out/n01_1_0.png") as found:
        assert found.mode == "RGB" and found.info == {}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_photo_stored_on_its_side_gives_the_upright_crop(tmp_path, mode):
    upright, exif = noise().convert(mode), Image.Exif()
    photo, exif[0x0112] = upright.transpose(Image.Transpose.ROTATE_90), 6
    found = crop_one(tmp_path, photo, (40, 76, 104, 140), exif=exif)  # BOX, turned like the photo
    assert (found == np.asarray(upright.crop(BOX).convert("RGB"))).all()


def link_nowhere(photo, note):
    photo.unlink()
    photo.symlink_to("nowhere")


FAULTS = {  # what is broken, and which of the two files is to blame
    "truncated": ("photo", lambda photo, note: os.truncate(photo, photo.stat().st_size // 2)),
    "no picture": ("photo", lambda photo, note: photo.write_bytes(b"<html>404</html>")),
    "absurdly large": ("photo", lambda photo, note: Image.new("1", (12_000, 10_000)).save(photo, "PNG")),
    "16 bits": ("photo", lambda photo, note: Image.new("I;16", (160, 120), 9999).save(photo, "PNG")),
    "dangling link": ("photo", link_nowhere),
    "no annotation": ("annotation", lambda photo, note: note.unlink()),
    "a folder": ("annotation", lambda photo, note: (note.unlink(), note.mkdir())),
    "no box": ("annotation", lambda photo, note: note.write_text("<annotation/>")),
    "no XML": ("annotation", lambda photo, note: note.write_text("<annotation>")),
    "no number": ("annotation", lambda photo, note: note.write_text(note.read_text().replace("20<", "nan<"))),
    "no edge": ("annotation", lambda photo, note: note.write_text(note.read_text().replace("xmin", "x"))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_photo_is_named_with_its_reason_and_the_others_are_cropped(tmp_path, capsys, fault):
    photo, annotation = make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    make_dog(tmp_path, "n01-Toy/n01_2.jpg", noise())
    blame, spoil = FAULTS[fault]
    spoil(photo, annotation)
    assert list(crop(tmp_path)) == ["n01_2_0"]
    (reason,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"skipped {photo}: "))
    assert ("annotation" in reason) == (blame == "annotation") and "Errno" not in reason
    assert reason.count(photo.name) == 1  # so that equal reasons of many photos are counted as one
    (tmp_path / "Images/n01-Toy/n01_2.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 2 photos"):
        main("--source", tmp_path, "--out", tmp_path / "none")
    assert not list(tmp_path.glob("*none*"))


def test_equal_names_in_several_breeds_and_formats_are_kept_apart(tmp_path):
    names = ["beagle/001.jpg", "beagle/001.png", "pug/001.jpg", "pug/002.jpg", "spitz/001.JPG", "spitz/n/001.png"]
    for seed, name in enumerate(names):
        make_dog(tmp_path, name, noise(seed=seed))
    expected = sorted(noise(seed=seed).crop(BOX).tobytes() for seed in range(len(names)))
    found = crop(tmp_path)
    assert sorted(picture.tobytes() for picture in found.values()) == expected
    assert list(found) == [f"0000{number}-{Path(name).stem}_0" for number, name in enumerate(names)]


def test_split_keeps_all_dogs_of_every_fifth_photo_apart(tmp_path):
    for number in range(10, 21):
        make_dog(tmp_path, f"n01-Toy/n01_{number}.jpg", noise(), [BOX, (0, 0, 9, 9)])
    main("--source", tmp_path, "--out", tmp_path / "o", "--split")
    photos = {name: [stem.rsplit("_", 1)[0] for stem in crops(tmp_path / name)] for name in ("o-train", "o-test")}
    assert photos["o-test"] == ["n01_14", "n01_14", "n01_19", "n01_19"]
    assert len(photos["o-train"]) == 18 and not set(photos["o-train"]) & set(photos["o-test"])
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "o").exists()


def test_without_options_the_dogs_are_fetched_and_cropped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "fetch", lambda folder: make_dog(folder, "n01-Toy/n01_1.jpg", noise()))
    main()
    assert list(crops(Path("datasets/dogs64"))) == ["n01_1_0"]


def test_own_pictures_of_any_size_give_their_middle_squares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("pets/cats/1.png", "pets/dogs/1.png", "pets/tiny.gif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    noise(100, 64).save("pets/cats/1.png")
    noise(64, 101).transpose(Image.Transpose.ROTATE_90).save("pets/dogs/1.png", exif=exif)  # stored on its side
    Image.new("RGB", (1, 3), "blue").save("pets/tiny.gif")
    main("--pictures", "pets")
    found = crops(Path("datasets/pets64"))
    assert sorted(found) == ["00000-1", "00001-1", "00002-tiny"]
    assert (found["00000-1"] == np.asarray(noise(100, 64).crop((18, 0, 82, 64)))).all()
    assert (found["00001-1"] == np.asarray(noise(64, 101).crop((0, 18, 64, 82)))).all()
    assert (found["00002-tiny"] == (0, 0, 255)).all()


# A folder has its name when it is complete --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder with a file", "link to nothing"])
def test_what_is_there_is_left_alone(tmp_path, kind):
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    out = tmp_path / "out"
    if kind == "link to nothing":
        out.symlink_to("nowhere")
    else:
        mine = out if kind == "file" else out / "mine"
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
    said = "out: can't be made" if kind == "link to nothing" else "out: is there already; delete it"
    with mock.patch.object(data, "crop_photos", side_effect=AssertionError), pytest.raises(UserError, match=said):
        crop(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Annotation", "Images", "out"]
    assert out.is_symlink() or mine.read_text() == "mine"


def test_an_empty_folder_is_filled_unless_somebody_else_fills_it_meanwhile(tmp_path):
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    (tmp_path / "out").mkdir()
    assert list(crop(tmp_path)) == ["n01_1_0"]
    (tmp_path / "late").mkdir()
    with pytest.raises(UserError, match="late: can't be made"), files.new_folder(tmp_path / "late") as new:
        (new / "ours").touch()
        (tmp_path / "late").mkdir()
        (tmp_path / "late/theirs").touch()
    assert [path.name for path in tmp_path.glob("*late*/*")] == ["theirs"]


def test_a_full_disk_ends_the_run_by_name_and_nothing_has_the_final_name(tmp_path, monkeypatch):
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    monkeypatch.setattr(Image.Image, "save", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UserError, match=r"/out: can't be made .*No space left"):
        crop(tmp_path)
    assert not list(tmp_path.glob("*out*"))


def test_a_killed_run_leaves_no_folder_of_that_name_and_the_next_one_begins_again(tmp_path):
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    killed = (
        "import os, sys, data; from PIL import Image; Image.Image.save = lambda *_, **__: os._exit(9); data.main()"
    )
    command = [sys.executable, "-c", killed, "--source", tmp_path, "--out", tmp_path / "out"]
    assert subprocess.run(command, cwd=ROOT).returncode == 9
    assert (tmp_path / ".out.part").is_dir() and not (tmp_path / "out").exists()
    (tmp_path / ".out.part/new/n01_1_7.png").write_bytes(b"of other boxes")
    assert list(crop(tmp_path)) == ["n01_1_0"] and not (tmp_path / ".out.part").exists()


def test_two_croppings_into_one_folder_do_not_meet(tmp_path):
    make_dog(tmp_path, "n01-Toy/n01_1.jpg", noise())
    with files.new_folder(tmp_path / "out") as part:
        (part / "half.png").touch()
        with pytest.raises(UserError, match="another process"):
            crop(tmp_path)
        assert (part / "half.png").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["half.png"]


@pytest.mark.parametrize("mistake", [("--source", "no"), ("--pictures", "no"), ("--toy", "5", "--source", "no")])
def test_a_mistake_is_one_line_with_exit_status_2_and_leaves_no_file(tmp_path, mistake):
    command = [sys.executable, ROOT / "data.py", *mistake]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("data.py: ") and ("no: no" in result.stderr or "--source" in result.stderr)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


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
            self.send_response(200 if server.ignores_range else 206)
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


def test_a_download_goes_on_where_the_connection_was_cut(server, tmp_path):
    server.at_most = 60_000
    data.download(server.url + "a.tar", tmp_path / "a.tar", len(CONTENT))
    assert server.ranges == ["bytes=0-", "bytes=60000-", "bytes=120000-"]
    assert (tmp_path / "a.tar").read_bytes() == CONTENT and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ignores_range", [False, True])
def test_a_later_run_goes_on_or_starts_over_if_the_server_ignores_range(server, tmp_path, ignores_range):
    server.ignores_range = ignores_range
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    data.download(server.url + "a.tar", tmp_path / "a.tar", len(CONTENT))
    assert server.ranges == ["bytes=1000-"] and (tmp_path / "a.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("why", ["cut", "refused", "another file"])
def test_what_cannot_be_fetched_ends_the_run_and_keeps_what_came(server, tmp_path, why):
    server.at_most, server.refuses = 0 if why == "cut" else len(CONTENT), why == "refused"
    server.files["a.tar"] = b"<html>moved</html>" if why == "another file" else CONTENT
    server.ignores_range = why == "another file"
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    reason = {"cut": "run this again to go on at 1,000", "refused": "403", "another file": "150,000 bytes but another"}
    with pytest.raises(UserError, match=reason[why]):
        data.download(server.url + "a.tar", tmp_path / "a.tar", len(CONTENT))
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:1000]


def test_a_file_that_cannot_be_written_is_named_beside_its_url(server, tmp_path):
    (tmp_path / "a.tar.part").mkdir()
    with pytest.raises(UserError, match=r"http.*a\.tar can't be fetched to .*a\.tar \(Is a directory\)"):
        data.download(server.url + "a.tar", tmp_path / "a.tar", len(CONTENT))


def make_tar(name, content):
    """Bytes of a tar of one file."""
    file, member = io.BytesIO(), tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content.encode()))
    return file.getvalue()


def test_both_archives_are_fetched_checked_and_unpacked_once(server, tmp_path):
    layout = {"images": "Images", "annotations": "Annotation"}
    server.files = {f"{name}.tar": make_tar(f"{inside}/n01-Toy/n01_1", name) for name, inside in layout.items()}
    archives = [(name, len(tar), hashlib.sha256(tar).hexdigest(), name[:-4]) for name, tar in server.files.items()]
    for _ in range(2):
        data.fetch(tmp_path, server.url, archives)
        assert server.ranges == ["bytes=0-"] * 2  # one request for each in the first run, none in the second
    photos, annotations = data.find_dogs(tmp_path)
    assert [(folder / "n01-Toy/n01_1").read_text() for folder in (photos, annotations)] == list(layout)


def test_an_archive_brought_by_hand_is_used_if_it_is_the_right_one(server, tmp_path):
    tar = make_tar("Images/a", "b")
    archives = [("a.tar", len(tar), hashlib.sha256(tar).hexdigest(), "images")]
    (tmp_path / "a.tar").write_bytes(tar[::-1])
    with pytest.raises(UserError, match=r"a\.tar.*delete"):
        data.fetch(tmp_path, server.url, archives)
    (tmp_path / "a.tar").write_bytes(tar)
    data.fetch(tmp_path, server.url, archives)
    assert (tmp_path / "images/Images/a").read_text() == "b" and server.ranges == []


# Finding, reading and showing ---------------------------------------------------------------------------------


def fill(folder, *names, size=(8, 8)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(*size).save(folder / name)


def names(folder):
    return [path.relative_to(folder).as_posix() for path in data.list_images(folder)]


def test_the_sheets_of_a_run_are_not_taken_for_photos(tmp_path):
    run = tmp_path / "runs/full"
    for folder in (run / "samples", run / "pictures-000500", run / "snapshots"):
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "a.png")
    (run / "config.json").touch()
    with pytest.raises(UserError, match="full: a run"):
        data.list_images(tmp_path / "runs")
    assert len(data.list_images(run / "pictures-000500")) == 1  # which sample.py --count wrote


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    fill(tmp_path, "elsewhere/1.png", "elsewhere/2.png", "mixed/c/1.png", "mixed/c/deep/2.png")
    (tmp_path / "mixed/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mixed/c/deep/up").symlink_to(tmp_path / "mixed")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "mixed")
    assert names(tmp_path / "mixed") == ["a/1.png", "a/2.png", "c/1.png", "c/deep/2.png"]


def test_a_folder_that_cannot_be_opened_is_refused_by_name(tmp_path, monkeypatch):
    fill(tmp_path / "pets", "open/1.png", "closed/2.png")
    iterdir = Path.iterdir

    def deny(path):
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", deny)  # nothing is closed to root
    with pytest.raises(UserError, match="closed: Permission denied"):
        main("--pictures", tmp_path / "pets", "--out", tmp_path / "out")


def test_every_still_picture_counts_and_other_files_are_told(tmp_path, capsys):
    shown = ["1.jfif", "2.JPG", "3.gif", "4.ppm", "5.tif", "6.bmp", "7.jpeg", "d.png/8.webp"]
    fill(tmp_path, *shown, ".ipynb_checkpoints/x.png", ".hidden.png")
    for name in ("a.txt", "b.HEIC", "noending", ".DS_Store"):
        (tmp_path / name).touch()
    assert names(tmp_path) == shown
    assert "3 files left out (.heic, .txt, no ending); convert any photos to JPEG" in capsys.readouterr().err
    assert data.load_folder(tmp_path).shape == (8, 3, 8, 8)
    for missing, said in (("none", "no such folder"), ("1.jfif", "a file"), ("d.png/empty", "no pictures")):
        (tmp_path / "d.png/empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=said):
            data.list_images(tmp_path / missing)


@pytest.mark.parametrize("kind", ["F", "I", "I;16", "pages", "animation", "truncated", "missing"])
def test_a_picture_that_can_be_misread_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "odd.tif"
    if kind in ("pages", "animation"):
        options = {"save_all": True, "append_images": [noise(seed=2)]}
        noise().save(path, "TIFF" if kind == "pages" else "WEBP", **options)
    elif kind == "truncated":
        noise().save(path)
        os.truncate(path, 2000)
    elif kind != "missing":
        Image.new(kind, (8, 8)).save(path)
    with pytest.raises(UserError, match=r"odd\.tif: can't be read as a picture \((?!.*Errno)"):
        data.read_image(path)


def test_a_folder_is_read_sorted_by_path_as_uint8_channels_first(tmp_path):
    for name in ("c", "a", "b/d"):
        fill(tmp_path / ".cache", f"{name}.png", size=(5, 5))  # hidden itself, but asked for
        Image.new("RGB", (5, 5), (ord(name[-1]), 1, 2)).save(tmp_path / f".cache/{name}.png")
    noise(5, 5).save(tmp_path / ".cache/e.png")
    pictures = data.load_folder(tmp_path / ".cache")
    assert pictures.dtype == torch.uint8 and pictures.shape == (4, 3, 5, 5)
    assert [chr(picture[0, 0, 0]) for picture in pictures[:3]] == ["a", "d", "c"]
    assert (pictures[3].permute(1, 2, 0).numpy() == np.asarray(noise(5, 5))).all()
    noise(6, 5).save(tmp_path / ".cache/odd.png")
    with pytest.raises(UserError, match=r"odd\.png: 6x5, not square or not 5x5"):
        data.load_folder(tmp_path / ".cache")


def test_a_grid_is_filled_row_by_row_with_white_between_and_where_none_is_left():
    pictures = torch.randint(0, 255, (5, 3, 6, 4), dtype=torch.uint8)
    grid = torch.from_numpy(np.array(image_grid(pictures, columns=3, gap=2))).permute(2, 0, 1)
    assert grid.shape == (3, 2 + 2 * (6 + 2), 2 + 3 * (4 + 2))
    for index, picture in enumerate(pictures):
        y, x = 2 + index // 3 * 8, 2 + index % 3 * 6
        assert (grid[:, y : y + 6, x : x + 4] == picture).all()
        grid[:, y : y + 6, x : x + 4] = 255
    assert (grid == 255).all()
