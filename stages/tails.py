"""A film's end cut off without decoding it: packets in the order of decoding, and an edit list that ends in time.

A frame may rest on one that is shown after it. Where the cut falls between
the two, that one is kept, and the edit list ends before it: players decode it
and do not show it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from stages.clip import Filter, Picture, PictureFacts, Source
from stages.errors import FfmpegError


def whole_of(picture: Picture) -> Source | None:
    """The source of which `picture` is the beginning, if nothing but its end was cut off; none for any other."""
    stream, cuts = picture.stream, 0
    while isinstance(stream, Filter) and stream.name in ("setpts", "trim"):
        given = dict(stream.options)
        if given not in ({"expr": "PTS-STARTPTS"}, {"end_frame": given.get("end_frame")}):
            return None
        (stream,) = stream.inputs
        cuts += 1
    return stream if cuts and isinstance(stream, Source) else None


def ends_clean(facts: PictureFacts, frames: int) -> bool:
    """Whether the first `frames` rest on nothing that is shown after them, as far as is known."""
    return bool(int(facts.ends or "0", 16) >> frames & 1)


def end_picture(film: Path, length: Fraction) -> None:
    """Make the picture of an MP4 end after `length` seconds, in place: its edit list, and the lengths in its heads.

    ISO/IEC 14496-12, 8.2.2 (mvhd), 8.3.2 (tkhd) and 8.6.6 (elst), of version 0
    and with one edit, as ffmpeg writes them for less than a day. Raises
    FfmpegError if there is no such edit list: nothing can be hidden without one.
    """
    with film.open("r+b") as file:
        begin, end = _index(film, file.seek(0, 2))
        file.seek(begin)
        index = bytearray(file.read(end - begin))
        _shorten(index, length)
        file.seek(begin)
        file.write(index)


def _index(film: Path, size: int) -> tuple[int, int]:
    """Where the content of the box `moov` begins and ends."""
    with film.open("rb") as file:
        at = 0
        while at < size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            head = 8
            if length == 1:
                (length,), head = struct.unpack(">Q", file.read(8)), 16
            if kind == b"moov":
                return at + head, at + length
            at += length or size
    raise FfmpegError("the film has no index (moov) to end it in")


def _shorten(index: bytearray, length: Fraction) -> None:
    (head,) = (at for kind, at, _ in _boxes(index, 0, len(index)) if kind == b"mvhd")
    (clock,) = struct.unpack_from(">I", index, head + 12)
    ticks, longest = round(length * clock), 0
    for kind, begin, end in _boxes(index, 0, len(index)):
        if kind != b"trak":
            continue
        (track,) = (at for inner, at, _ in _boxes(index, begin, end) if inner == b"tkhd")
        if _is_picture(index, begin, end):
            edits = _edits(index, begin, end)
            if index[edits] or struct.unpack_from(">I", index, edits + 4) != (1,):
                raise FfmpegError("the film's edit list is not of one edit")
            struct.pack_into(">I", index, edits + 8, ticks)
            struct.pack_into(">I", index, track + 20, ticks)
        longest = max(longest, *struct.unpack_from(">I", index, track + 20))
    struct.pack_into(">I", index, head + 16, longest)


def _is_picture(index: bytearray, begin: int, end: int) -> bool:
    (media,) = (span for kind, *span in _boxes(index, begin, end) if kind == b"mdia")
    (handler,) = (at for kind, at, _ in _boxes(index, *media) if kind == b"hdlr")
    return index[handler + 8 : handler + 12] == b"vide"


def _edits(index: bytearray, begin: int, end: int) -> int:
    """Where the content of the edit list begins."""
    for kind, *span in _boxes(index, begin, end):
        if kind == b"edts":
            return next(at for inner, at, _ in _boxes(index, *span) if inner == b"elst")
    raise FfmpegError("the film has no edit list to end it in")


def _boxes(data: bytearray, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a part of the index: the kind of each, and where its content begins and ends."""
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        yield kind, begin + 8, begin + size
        begin += size
