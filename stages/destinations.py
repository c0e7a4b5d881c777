"""Where a delivery goes: a file of this machine, or an object in a bucket, as `s3://bucket/films/$name.mp4`.

Both are paths, so that name and suffix are found alike: that of an object is
`s3:/bucket/films/name.mp4`, and relative, which no other delivery's is. What is
delivered to a bucket says its SHA-256, so that it is not sent there twice.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from stages.depot import SCHEMES, Depot, depot_at
from stages.errors import InputError
from stages.files import copy_whole, sha256

KINDS = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".srt": "application/x-subrip",
}
"""Media types that Python's table does not know everywhere."""


def destination(text: str) -> Path | None:
    """The path of an object in a bucket; None if `text` is that of a file. Raises InputError if it names no object."""
    scheme, colon, rest = text.partition("://")
    if not colon and not text.startswith(tuple(f"{each}:" for each in SCHEMES)):  # s3:/bucket is one slash short
        return None
    parts = [part for part in rest.split("/") if part]
    if scheme not in SCHEMES or len(parts) < (3 if scheme == "az" else 2):
        raise InputError(f"{text}: should be a file, s3://BUCKET/NAME, gs://BUCKET/NAME or az://ACCOUNT/CONTAINER/NAME")
    return Path(f"{scheme}:", *parts)


def address_of(file: Path) -> str:
    """`s3://bucket/films/name.mp4`; empty for a file of this machine."""
    first = file.parts[0].removesuffix(":") if file.parts else ""
    return f"{first}://{'/'.join(file.parts[1:])}" if first in SCHEMES and not file.is_absolute() else ""


def told(file: Path, project: Path) -> str:
    """How people call it: its address, or its path within the project if it lies there."""
    return address_of(file) or (str(file.relative_to(project)) if file.is_relative_to(project) else str(file))


def bucket_of(file: Path) -> tuple[Depot, str]:
    """The bucket that an object goes to, and its name there. Raises InputError if that cannot be opened."""
    scheme, rest = file.parts[0].removesuffix(":"), file.parts[1:]
    whole = 2 if scheme == "az" else 1
    return depot_at(f"{scheme}://{'/'.join(rest[:whole])}"), "/".join(rest[whole:])


def lies(file: Path) -> str | None:
    """The SHA-256 of what lies there, empty if an object does not say; None if nothing does.

    Raises OSError if it cannot be read; WriteError and InputError as a bucket does.
    """
    if not address_of(file):
        return sha256(file) if file.is_file() else None
    bucket, name = bucket_of(file)
    return bucket.told(name)


def deliver_to(source: Path, target: Path, digest: str) -> None:
    """Copy `source`, whose SHA-256 is `digest`, to its place, whole. Raises WriteError, and InputError as a bucket
    does."""
    if not address_of(target):
        copy_whole(source, target)
        return
    bucket, name = bucket_of(target)
    kind = KINDS.get(target.suffix) or mimetypes.guess_type(target.name)[0] or "application/octet-stream"
    bucket.put(source, name, digest, kind=kind)


def take_away(file: Path) -> None:
    """Remove what lies there, if anything does. Raises as a bucket does, and OSError."""
    if not address_of(file):
        file.unlink(missing_ok=True)
        return
    bucket, name = bucket_of(file)
    bucket.remove([name])
