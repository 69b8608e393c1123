"""What breaks long runs: kills, damaged checkpoints, full disks, bad input.  README lists the promises."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import fuzz
import pytest
import torch
import torture

import data

ROOT = Path(data.__file__).resolve().parent


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The small world of fuzz.py: photos, and a run of two steps."""
    folder = tmp_path_factory.mktemp("world")
    with contextlib.chdir(folder):
        fuzz.make_world()
    return folder


def resume(folder, steps, **more):
    command = [sys.executable, ROOT / "train.py", "--resume", "run", "--steps", str(steps)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, **more)


def test_a_killed_run_ends_as_the_one_that_was_left_alone(tmp_path):
    torture.torture(tmp_path, kills=3)


def test_bad_options_and_broken_files_are_refused_in_one_line_and_change_nothing():
    assert fuzz.fuzz(cases=60) == []


@pytest.mark.parametrize("share", range(10))
def test_a_checkpoint_cut_short_is_refused(world, tmp_path, share):
    content = (world / "run/checkpoint.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) * share // 10])
    with pytest.raises(data.UserError, match=r"cut\.pt: can't be read"):
        data.read_checkpoint(tmp_path / "cut.pt")


def test_no_flipped_bit_in_a_checkpoint_goes_unnoticed(world, tmp_path):
    content, path = (world / "run/checkpoint.pt").read_bytes(), tmp_path / "flipped.pt"
    sound = data.read_checkpoint(world / "run/checkpoint.pt")
    refused = 0
    for at in range(0, len(content), len(content) // 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            found = data.read_checkpoint(path)
        except data.UserError:
            refused += 1
            continue
        assert found.pop("config") == sound["config"]  # it was in what fills the space between the parts
        torch.testing.assert_close(found, {key: sound[key] for key in found}, rtol=0, atol=0)
    assert refused > 60


@pytest.mark.parametrize("kind", ["tmpfs", "limit"])
def test_a_full_disk_is_named_and_the_last_good_checkpoint_kept(world, tmp_path, kind):
    folder = tmp_path / "disk"
    folder.mkdir()
    size = (world / "run/checkpoint.pt").stat().st_size
    if kind == "tmpfs":
        room = f"size={size * 3}"  # for the world, but not for a second checkpoint beside the first
        if subprocess.run(["mount", "-t", "tmpfs", "-o", room, "none", str(folder)], capture_output=True).returncode:
            pytest.skip("may not mount a disk here")
        limit = None
    else:

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    try:
        for name in ("photos", "run"):
            shutil.copytree(world / name, folder / name)
        if kind == "tmpfs":
            (folder / "filler").write_bytes(bytes(max(shutil.disk_usage(folder).free - size // 2, 0)))
        result = resume(folder, 5, preexec_fn=limit)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert "disk" in result.stderr and "kept" in result.stderr
        assert data.read_checkpoint(folder / "run/checkpoint.pt")["step"] == 2
        assert not list(folder.rglob("*.part"))
        (folder / "filler").unlink(missing_ok=True)
        assert kind == "tmpfs" or resume(folder, 5).returncode == 0
    finally:
        if kind == "tmpfs":
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_named(world, tmp_path):
    shutil.copytree(world, tmp_path / "world")
    (tmp_path / "world/run").chmod(0o500)
    result = resume(tmp_path / "world", 5)
    assert result.returncode == 2 and "run" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32"])
def test_entities_are_refused_in_any_encoding(tmp_path, encoding):
    """A billion laughs, and one that would read a file."""
    for bomb in (fuzz.XML_BOMB, fuzz.EXTERNAL):
        (tmp_path / "note").write_text(bomb, encoding=encoding)
        with pytest.raises(ValueError, match=r"entities|can't be read"):
            data.read_boxes(tmp_path / "note")
