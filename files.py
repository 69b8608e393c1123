"""Files and folders that are whole or not there, whatever stops the program."""

import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from common import UserError
from parallel import any_rank

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def atomic_write(path):
    """A hidden temporary path beside `path` to write to, renamed to `path` when the block ends well.

    Whoever looks sees the old file or the whole new one.  Raises UserError if it can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part") if path.name else path
    if not path.name or path.is_dir():
        raise UserError(f"{path}: a folder; name a file to write")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and str(error.filename or temporary) == str(temporary):
            raise UserError(f"{path}: can't be written ({error.strerror}); what was there is kept") from error
        raise


def save_checkpoint(path, content):
    """torch.save to a file that is whole or not there.  Raises UserError if it can't be written."""
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise UserError(f"{path}: can't be written, is the disk full? What was there is kept") from error
        with open(temporary, "r+b") as file, suppress(OSError):  # some mounts can't
            os.fsync(file.fileno())  # or a power cut could leave an empty file


def load_checkpoint(path):
    """The dictionary in a .pt file, on the CPU; no code in it is run.  Raises UserError if it can't be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True) | {}  # a TypeError if it isn't a dictionary
    except Exception as error:  # a broken file makes torch raise nearly anything
        raise UserError(f"{path}: can't be read as a checkpoint ({type(error).__name__})") from None


@contextmanager
def lock(folder):
    """Inside the block no other process that asks gets in.  Raises UserError if one is inside."""
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        except BlockingIOError:
            raise UserError(f"{folder}: another process is at work there") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def new_folder(folder):
    """A hidden folder to be filled, which becomes `folder` when the block ends well; an empty `folder` may be there.

    Raises UserError if `folder` isn't empty or can't be written, or if another process is at work on it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; delete it to make it anew, or choose another name")
    part = folder.parent / f".{folder.name}.part"
    try:
        with suppress(FileNotFoundError):
            folder.rmdir()  # now and not at the end, because some, as a mounted one, can't be replaced
        part.mkdir(parents=True, exist_ok=True)
        with lock(part), ExitStack() as stack:
            stack.callback(shutil.rmtree, part, ignore_errors=True)
            shutil.rmtree(part / "new", ignore_errors=True)  # a killed run's
            (part / "new").mkdir()
            yield part / "new"
            os.rename(part / "new", folder)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.filename or folder}: {error.strerror or error})") from error


def fetch_once(url, path, hash_prefix):
    """Fetch `url` to `path`, unless it is there, once on each machine; the processes of a torchrun call it together.

    `hash_prefix`: the first digits of the file's sha256.  Raises UserError if there is no such file to be had.
    """
    failure = None
    if os.environ.get("LOCAL_RANK", "0") == "0" and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, path, hash_prefix=hash_prefix)  # whole and right, or not at all
        except Exception as error:  # no network, a full disk, another file: each has several kinds
            failure = error
    if any_rank(failure) and not path.exists():  # here all processes wait for the file
        reason = failure or "by another process"
        raise UserError(f"{url} can't be fetched ({reason}): put it at {path} by other means, or name it (--weights)")
