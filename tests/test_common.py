"""What every script rests on: options, one line for a mistake, files that are whole, locks."""

import argparse
import errno
import fcntl
import io
import os
import sys
from pathlib import Path

import pytest
import torch

import common
import data
import fid
import files
import look
import sample
import train
from common import Parser, Progress, UserError, number, run_script
from experiment import evaluate, report
from files import atomic_write, load_checkpoint, lock, save_checkpoint


def fail(error):
    raise error


@pytest.fixture
def as_script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/dogs.py"])


# Errors and options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no\nsuch thing"), "no such thing"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a\nb.png"), "a b.png: No such file"),
        (
            torch.OutOfMemoryError("tried to\nallocate"),
            "not enough memory: give train.py a smaller --batch, or free some",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_scripts_name_and_status_2(error, line, as_script, capsys):
    with pytest.raises(SystemExit) as exit:
        run_script(lambda: fail(error))
    told = capsys.readouterr()
    assert (exit.value.code, told.out, told.err) == (2, "", f"dogs.py: {line}\n")


def test_a_cpu_without_enough_memory_is_told_in_one_line(as_script, capsys):
    with pytest.raises(SystemExit) as exit:
        run_script(lambda: torch.empty(2**55))
    told = capsys.readouterr().err
    assert exit.value.code == 2 and "--batch" in told and told.count("\n") == 1


@pytest.mark.parametrize(("joined", "told"), [(False, False), (True, True)])
def test_under_torchrun_a_wrong_option_is_told_once_and_a_broken_file_by_whoever_reads_it(
    joined, told, as_script, monkeypatch, capsys
):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(common.dist, "is_initialized", lambda: joined)
    with pytest.raises(SystemExit):
        run_script(lambda: fail(UserError("broken.jpg: can't be read")))
    assert ("broken.jpg" in capsys.readouterr().err) is told


class NotebookStream(io.StringIO):
    """As Jupyter's: it can't be reconfigured."""


@pytest.mark.parametrize("stream", [None, NotebookStream()])
def test_a_script_works_in_a_notebook_and_where_its_output_was_closed(stream, as_script, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)

    def main():
        print("a dog")
        Progress()("one of one", last=True)

    run_script(main)
    assert stream is None or stream.getvalue() == "a dog\none of one\n"


def test_of_an_endless_mistake_the_beginning_is_told(as_script, capsys):
    with pytest.raises(SystemExit):
        run_script(lambda: fail(UserError("checkpoint.pt doesn't fit: " + "weight, " * 1000)))
    told = capsys.readouterr().err
    assert told.startswith("dogs.py: checkpoint.pt doesn't fit: weight,") and len(told) < 600


def test_ctrl_c_is_silent_with_status_130_and_a_bug_keeps_its_traceback(as_script, capsys):
    with pytest.raises(SystemExit) as exit:
        run_script(lambda: fail(KeyboardInterrupt()))
    assert (exit.value.code, capsys.readouterr().err) == (130, "")
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: fail(ZeroDivisionError()))


def test_names_that_the_terminal_cannot_show_are_escaped(as_script, monkeypatch):
    name, streams = os.fsdecode(b"h\xc3\xbcndchen-\xff"), [io.BytesIO(), io.BytesIO()]
    for stream, at in zip(streams, ("stdout", "stderr"), strict=True):
        monkeypatch.setattr(sys, at, io.TextIOWrapper(stream, encoding="ascii"))

    def main():
        print(name)
        raise UserError(name)

    with pytest.raises(SystemExit):
        run_script(main)
    sys.stdout.flush(), sys.stderr.flush()
    assert all(b"ndchen-\\udcff" in stream.getvalue() for stream in streams)


@pytest.mark.parametrize(
    ("kind", "low", "high", "good", "bad"),
    [
        (int, 1, float("inf"), ["1", "99"], ["0", "-3"]),
        (float, 0, 1, ["0", "0.5", "1"], ["1.01", "-0.1", "nan"]),
        (float, 0, float("inf"), ["0", "1e9"], ["inf", "nan", "-1"]),
    ],
)
def test_numbers_lie_in_their_range_and_are_finite(kind, low, high, good, bad):
    check = number(kind, low, high)
    assert [check(text) for text in good] == [kind(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            check(text)


@pytest.mark.parametrize("bad", [["--steps=x"], ["--steps=0"], ["--st=3"], ["--nonsense"], ["--device=cuda:99"]])
def test_a_bad_option_is_a_users_mistake(bad):
    parser = Parser("Dogs.")
    parser.add_argument("--steps", type=number(int, 1))
    parser.add_seed_and_device()
    with pytest.raises(UserError, match=bad[0].partition("=")[0]):
        parser.parse_args(bad)


@pytest.mark.parametrize("module", [data, evaluate, fid, report, sample, train])
def test_help_is_the_docstring_and_each_default_even_0(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dogs.py", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        (train.parse_options if module is train else module.main)()
    told = capsys.readouterr().out
    assert module.__doc__.strip() in told and ("(default: 0)" in told) == ("--seed" in told)
    assert "(default: False)" not in told and "(default: None)" not in told


# Files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_half_written_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.name.startswith(".")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("path", "said"), [(".", "a folder"), ("/", "a folder"), ("none/file", "no folder none")])
def test_where_no_file_can_be_written_is_named(path, said):
    with pytest.raises(UserError, match=said), atomic_write(Path(path)):
        pass


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError, match=rf"{path}: can't be written \(No space"), atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"step": 1, "config": RunsCode(tmp_path / "touched")}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=r"bad\.pt: can't be read"):
        load_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "touched").exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)  # it would have been, so the file is a real trap
    assert (tmp_path / "touched").exists()


def test_a_checkpoint_that_is_cut_short_or_none_is_refused_by_name(tmp_path):
    sound, path = {"weights": torch.arange(1000.0), "step": 3}, tmp_path / "some.pt"
    save_checkpoint(path, sound)
    content = path.read_bytes()
    cut = [content[: len(content) * tenths // 10] for tenths in range(10)]
    for bad in (None, b"nonsense", *cut):
        path.unlink() if bad is None else path.write_bytes(bad)
        with pytest.raises(UserError, match=r"some\.pt: can't be read"):
            load_checkpoint(path)
    for other in ([1], torch.ones(2)):
        torch.save(other, path)
        with pytest.raises(UserError, match=r"some\.pt: can't be read"):
            load_checkpoint(path)


# Locks ------------------------------------------------------------------------------------------------------


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    with lock(tmp_path), pytest.raises(UserError, match=str(tmp_path)), lock(tmp_path):
        pass
    with lock(tmp_path):
        pass


@pytest.mark.parametrize("script", [look, report])
def test_a_page_is_never_written_over_a_picture(script, tmp_path, monkeypatch):
    photo = tmp_path / "dog.png"
    photo.write_bytes(b"a dog")
    monkeypatch.setattr(sys, "argv", [script.__name__, "runs/full", "--out", str(photo)])
    with pytest.raises(UserError, match=r"dog.png doesn't end in .html"):
        script.main()
    assert photo.read_bytes() == b"a dog"


def test_where_nothing_can_be_locked_the_work_is_done_without(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda *_: fail(OSError(errno.ENOLCK, "No locks")))  # some network file systems
        with lock(tmp_path):
            pass
    monkeypatch.setattr(files, "fcntl", None)  # Windows
    with lock(tmp_path):
        pass
