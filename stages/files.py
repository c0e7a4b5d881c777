"""Files that appear whole or not at all, and the two folders that state lives in."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stages.errors import WriteError

PROJECT_MARKS = (".pipeline", "pyproject.toml")


@contextlib.contextmanager
def attempt(target: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A part file beside `target` that becomes `target` if the block ends well, and vanishes if not.

    It survives a power cut if it is to be `lasting`; what is easily made again need not.

    Its name is unique to this attempt: an orphaned writer and its successor
    that shared one part file left a corrupt film which a packet probe passed.
    Raises WriteError where the folder cannot be written.
    """
    part = target.with_name(f"{part_name()}{target.suffix}")
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            yield part
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # not about this file: its maker reads others, too
            raise WriteError(f"{target}: the disk is full") from None
        with told(target):
            if lasting:
                sync(part)
            part.replace(target)
            if lasting:
                sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


PART = ".af-"
"""How the name of a part file begins; the machine and the process that write it come next."""

FORGOTTEN = 86_400.0
"""Seconds after which what another machine left half-made, and nobody touched since, is cleared away."""


@cache
def machine() -> str:
    """This machine, or container, among those that share a folder: processes are counted anew in each."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def part_name() -> str:
    """A name of its own for something half-made by this process."""
    return f"{PART}{machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(folder: Path) -> None:
    """Remove the part files and folders of processes that are gone.

    Of another machine it cannot be known which run: what it has not touched for a day is gone.
    """
    for part in folder.glob(f"{PART}*"):
        with contextlib.suppress(OSError):  # in a folder that many share it may be another's
            if _is_abandoned(part):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


def _is_abandoned(part: Path) -> bool:
    made_by = re.match(rf"{re.escape(PART)}([0-9a-f]{{8}})-(\d+)-", part.name)
    if not made_by:
        return False  # not ours
    if made_by[1] == machine() and Path("/proc/self").exists():
        return not is_running(made_by[2])
    touched = [entry.stat().st_mtime for entry in (part, *(part.iterdir() if part.is_dir() else ()))]
    return bool(max(touched) < now_in(part.parent) - FORGOTTEN)


def now_in(folder: Path) -> float:
    """Seconds since 1970, by the clock that stamps what is written in `folder`. By our own, if it were set a day
    ahead, all that others are making would seem forgotten."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def is_running(process: str) -> bool:
    """Whether there is such a process, by its number. One that ended and that nobody has buried yet, as may
    be for long in a container, has no command line any more."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


@contextlib.contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` of a name of its own, gone when the block ends; what the killed left there goes, too."""
    with told(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{part_name()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`, once nobody else does; the system frees it when the process ends, however it ends."""
    with told(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+b")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def told(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EACCES: "this user may not write there",
            errno.EPERM: "this user may not write there",
            errno.EROFS: "the file system is read-only",
            errno.ENOTDIR: "a part of its path is a file, not a folder",
            errno.EEXIST: "a part of its path is a file, not a folder",
            errno.ENAMETOOLONG: "its name is too long",
            errno.EISDIR: "is a folder",
        }
        reason = reasons.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise WriteError(f"{target}: {reason}") from None


def sync(path: Path) -> None:
    """Make what was written to a file or folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def touch(file: Path) -> None:
    """Note that a file of a cache is used, to the hour: what nobody uses is freed one day."""
    with contextlib.suppress(OSError):
        if time.time() - file.stat().st_mtime > 3600:
            os.utime(file)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FICLONE = 0x40049409  # linux/fs.h


def copy_whole(source: Path, target: Path) -> None:
    """Copy `source` to `target`, by reflink where the file system can; never a hard link."""
    with attempt(target) as part, source.open("rb") as read, part.open("wb") as write:
        try:
            fcntl.ioctl(write.fileno(), FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, 1 << 20)


def project_folder(start: Path) -> Path:
    """The nearest of `start` and its parents that holds `.pipeline/` or `pyproject.toml`, else `start`."""
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            return folder
    return start


def state_folder(start: Path) -> Path:
    """The `.pipeline/` of the project that `start` lies in."""
    return project_folder(start.absolute()) / ".pipeline"


def home() -> Path:
    """Where paid originals and the ledger live: `AFTERFRAME_HOME`, else the user's data folder."""
    if named := os.environ.get("AFTERFRAME_HOME"):
        return Path(named)
    import platformdirs  # noqa: PLC0415 -- only where the variable is not set

    return Path(platformdirs.user_data_dir("afterframe"))
