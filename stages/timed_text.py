"""Captions as a text track (`mov_text`, 3GPP TS 26.245): a small MP4 that ffmpeg copies into a film.

Written here, not encoded by ffmpeg: its decoders of SRT and WebVTT make ASS of each cue first, and what they
and its encoder of `mov_text` make of `{x}`, `{\\an8}` and `C:\\new` on the way differs from build to build.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from stages.clip import Captions, Cue, Size
from stages.errors import InputError

CLOCK = 1000
"""Ticks a second: captions are timed to the millisecond, as SRT and WebVTT have them."""

LONGEST = 0xFFFF
"""Bytes of UTF-8 that one sample holds: its length is written in two (3GPP TS 26.245, 5.17)."""

Sample = tuple[str, int, int]
"""A text, which is empty in a gap, and when it starts and ends in milliseconds."""


def samples(cues: Iterable[Cue]) -> tuple[Sample, ...]:
    """The cues as the samples of a text track, one after the other from 0 on, without a gap.

    A track shows one text at a time: where cues overlap, their lines stand together. From 0 on, since a track
    that starts later needs an edit list, which some platforms forbid.
    """
    said = [(cue.text.strip(), round(cue.start * CLOCK), round(cue.end * CLOCK)) for cue in cues if cue.text.strip()]
    edges = sorted({0, *(edge for _, *span in said for edge in span)})
    found: list[Sample] = []
    for start, end in pairwise(edges):
        text = "\n".join(text for text, begin, over in said if begin <= start < over)
        if found and found[-1][0] == text and not any(begin == start for _, begin, _ in said):
            found[-1] = (text, found[-1][1], end)
        else:
            found.append((text, start, end))
    return tuple(found)


def texts(captions: Captions | None) -> tuple[Cue, ...]:
    """What a text track of these captions shows, without its gaps; nothing where none is asked for."""
    if captions is None or not captions.soft:
        return ()
    shown = (sample for sample in samples(captions.cues) if sample[0])
    return tuple(Cue(text, Fraction(start, CLOCK), Fraction(end, CLOCK)) for text, start, end in shown)


def check_texts(cues: Iterable[Cue]) -> None:
    """Raise InputError if a text is too long for a sample."""
    for text, start, _ in samples(cues):
        if (length := len(text.encode())) > LONGEST:
            at = f"{float(Fraction(start, CLOCK)):g} s"
            raise InputError(f"the caption at {at} is {length} bytes long, and a text track takes {LONGEST}", "soft")


def text_track(cues: Sequence[Cue], frame: Size) -> bytes:
    """An MP4 with the cues as its only track, laid out for `frame` (ISO/IEC 14496-12; 3GPP TS 26.245). Pure."""
    shown = samples(cues)
    coded = [struct.pack(">H", len(text.encode())) + text.encode() for text, _, _ in shown]
    length = shown[-1][2] if shown else 0
    data = _box(b"mdat", *coded)
    kind = _box(b"ftyp", b"isom\0\0\2\0isom")
    # The samples come before the index, so that their places are known when it is written.
    places = list(accumulate((len(one) for one in coded), initial=len(kind) + 8))[: len(coded)]
    tables = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _entry()),
        _table(b"stts", [(1, end - start) for _, start, end in shown]),
        _table(b"stsc", [(1, 1, 1)]),
        _full(b"stsz", struct.pack(f">II{len(coded)}I", 0, len(coded), *map(len, coded))),
        _table(b"stco", [(place,) for place in places]),
    )
    here = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, CLOCK, length, UNDETERMINED, 0)),
        _full(b"hdlr", struct.pack(">I4s12x", 0, b"sbtl"), b"\0"),
        _box(b"minf", _full(b"nmhd"), here, tables),
    )
    sides = struct.pack(">II", frame.width << 16, frame.height << 16)
    head = _full(b"tkhd", struct.pack(">IIIII8xhhhH", 0, 0, 1, 0, length, 0, 0, 0, 0), MATRIX, sides, flags=3)
    film = _full(
        b"mvhd", struct.pack(">IIIIIHH8x", 0, 0, CLOCK, length, 0x10000, 0x100, 0), MATRIX, bytes(24), b"\0\0\0\2"
    )
    return kind + data + _box(b"moov", film, _box(b"trak", head, media))


UNDETERMINED = 0x55C4
"""`und` in three times five bits; the film that it is copied into says which language it is."""

MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""Neither turned nor moved."""


def _entry() -> bytes:
    """How the texts look: white, centred, at the lower edge, in the player's own sans-serif (TS 26.245, 5.16)."""
    look = struct.pack(">IbbI4H", 0, 1, -1, 0, 0, 0, 0, 0)
    style = struct.pack(">HHHBBI", 0, 0, 1, 0, 18, 0xFFFFFFFF)
    font = b"Sans-Serif"
    return _box(b"tx3g", bytes(6), b"\0\1", look, style, _box(b"ftab", struct.pack(">HHB", 1, 1, len(font)), font))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _table(kind: bytes, rows: Sequence[tuple[int, ...]]) -> bytes:
    return _full(kind, struct.pack(">I", len(rows)), *(struct.pack(f">{len(row)}I", *row) for row in rows))
