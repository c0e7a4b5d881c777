"""Files that carry content credentials: what kind each is, and where its credentials lie if it cannot hold them."""

from __future__ import annotations

import contextlib
import mimetypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stages.errors import InputError
from stages.files import attempt

MAGIC = (
    (4, b"ftyp", "video/mp4"),
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/avi"),
    (8, b"WEBP", "image/webp"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
)

WITHOUT = frozenset({"video/webm", "video/x-matroska", "audio/ogg", "video/ogg"})
"""What has no place for a manifest: C2PA 2.4 defines none for Matroska, WebM and Ogg (section 'Embedding manifests
into various file formats'), and the reader refuses them. GIF has one."""

MOST = 32_000_000
"""The largest manifest store that is fetched or carried, in bytes; nobody else's reader unpacks more of a compressed
one."""

NAMES = frozenset({".webm", ".mkv", ".mka", ".mk3d", ".ogg", ".oga", ".ogv", ".opus"})
"""How such files are called."""


@contextlib.contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """`file` to read. Raises InputError if it cannot be."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    with stream:
        yield stream


def mime_of(file: Path) -> str:
    """What kind of file it is, by its first bytes, since names lie; else by its name."""
    with opened(file) as stream:
        known = sniffed(stream)
    return known or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def sniffed(stream: BinaryIO) -> str:
    """What the first bytes say; nothing if they say nothing that is known."""
    stream.seek(0)
    head = stream.read(16)
    stream.seek(0)
    return next((mime for at, magic, mime in MAGIC if head[at : at + len(magic)] == magic), "")


def sidecar_of(file: Path) -> Path:
    """Where the credentials of a file lie that cannot hold them: `film.c2pa` beside `film.webm`."""
    return file.with_suffix(".c2pa")


@contextlib.contextmanager
def attempt_both(target: Path) -> Iterator[Path]:
    """As `files.attempt`, for a film and, if the block makes one, the sidecar of its part file.

    The sidecar is there before the film, so that whoever finds a new film finds
    its credentials. If the block makes none, a film that would need one loses
    the one of its forerunner, which would call it tampered with.
    """
    with attempt(target) as part:
        beside = sidecar_of(part)
        try:
            yield part
            if beside.is_file():
                beside.replace(sidecar_of(target))
            elif is_apart(part):
                sidecar_of(target).unlink(missing_ok=True)
        finally:
            beside.unlink(missing_ok=True)


def is_apart(file: Path) -> bool:
    """Whether it is of a kind whose credentials lie beside it. Raises InputError if it cannot be read."""
    return mime_of(file) in WITHOUT


def is_named_apart(file: Path) -> bool:
    """The same by its name alone, of one that need not exist."""
    return file.suffix.lower() in NAMES


def sidecar_in_use(file: Path) -> Path | None:
    """The sidecar of a file, if it is of a kind that needs one and has one. Raises InputError as `is_apart`."""
    beside = sidecar_of(file)
    return beside if beside.is_file() and is_apart(file) else None


def holds_manifest(stream: BinaryIO) -> bool:
    """Whether the bytes of a manifest are anywhere in it, readable or not."""
    try:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"jumb") >= 0 and content.find(b"c2pa") >= 0
    except ValueError:  # an empty file
        return False


COMPRESSED = bytes.fromhex("6332636d00110010800000aa00389b71")
"""What a compressed manifest begins with (the UUID of the box `c2cm`; C2PA 2.3, 'Compressed boxes')."""


def compressed_in(stream: BinaryIO) -> int:
    """How many compressed manifests are in it."""
    stream.seek(0)
    count, tail = 0, b""
    while block := stream.read(1 << 20):
        count += (tail + block).count(COMPRESSED)
        tail = block[1 - len(COMPRESSED) :]
    stream.seek(0)
    return count
