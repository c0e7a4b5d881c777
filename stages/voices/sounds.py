"""A spoken line as a WAV file that holds its words: how what was bought over the network is kept.

Where each word sounds stands in the chunks that RIFF has for that, `cue ` and
in `LIST adtl` a `ltxt` (how long) and a `labl` (the word, in UTF-8); editors of
sound show them (Multimedia Programming Interface and Data Specifications 1.0,
"Cue-Points Chunk" and "Associated Data Chunk"). Whoever knows only samples reads those.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from stages.clip import Word
from stages.errors import FfmpegError, ProviderRefused
from stages.ffmpeg import run_ffmpeg
from stages.files import fresh_folder, home

QUIET = 0.01
"""Part of the loudest sample under which there is silence: 40 dB below it, as for the voice `heart`."""

BREATH = Fraction(1, 100), Fraction(4, 100)
"""Seconds that are left before and after what is heard, so that no consonant is clipped."""


# ---------------------------------------------------------------- writing


def wav_of(pcm: bytes, rate: int, words: Sequence[Word] = (), comment: str = "") -> bytes:
    """Signed 16-bit little-endian mono as a WAV file, with its words and a comment where there are any."""
    parts = [_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)), _chunk(b"data", pcm)]
    if words:
        spans = [(round(word.start * rate), round((word.end - word.start) * rate)) for word in words]
        points = (struct.pack("<II4sIII", n, at, b"data", 0, 0, at) for n, (at, _) in enumerate(spans))
        parts.append(_chunk(b"cue ", struct.pack("<I", len(words)) + b"".join(points)))
        lengths = (
            _chunk(b"ltxt", struct.pack("<II4sHHHH", n, length, b"word", 0, 0, 0, 0))
            for n, (_, length) in enumerate(spans)
        )
        labels = (_chunk(b"labl", struct.pack("<I", n) + w.text.encode() + b"\0") for n, w in enumerate(words))
        parts.append(_chunk(b"LIST", b"adtl" + b"".join((*lengths, *labels))))
    if comment:
        parts.append(_chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode() + b"\0")))
    return _chunk(b"RIFF", b"WAVE" + b"".join(parts))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


# ---------------------------------------------------------------- reading


def chunks(data: bytes, start: int = 12) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file by name. One that says it is longer than the file has what there is: a WAV that is
    sent while it is made gives 0 or 4294967295 as the length of its samples (OpenAI's does)."""
    while start + 8 <= len(data):
        name, length = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        end = len(data) if name == b"data" and not length else min(start + 8 + length, len(data))
        yield name, data[start + 8 : end]
        start = end + (end - start) % 2


def pcm_of(wav: bytes) -> tuple[bytes, int] | None:
    """The samples of a 16-bit mono WAV and their rate; None if it is anything else."""
    rate = 0
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        return None
    for name, content in chunks(wav):
        if name == b"fmt ":
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
            if (code, channels, bits) != (1, 1, 16):
                return None
        if name == b"data" and rate:
            return content[: len(content) // 2 * 2], rate
    return None


def words_of(wav: bytes) -> tuple[Word, ...]:
    """The words that `wav_of` wrote, in order; none if there are none."""
    rate, starts, lengths, texts = 0, dict[int, int](), dict[int, int](), dict[int, str]()
    for name, content in chunks(wav):
        if name == b"fmt ":
            rate = struct.unpack_from("<I", content, 4)[0]
        elif name == b"cue ":
            for at in range(4, len(content) - 23, 24):
                number, _, _, _, _, sample = struct.unpack_from("<II4sIII", content, at)
                starts[number] = sample
        elif name == b"LIST" and content[:4] == b"adtl":
            for kind, told in chunks(content, 4):
                number = struct.unpack_from("<I", told)[0]
                if kind == b"ltxt":
                    lengths[number] = struct.unpack_from("<I", told, 4)[0]
                elif kind == b"labl":
                    texts[number] = told[4:].rstrip(b"\0").decode(errors="replace")
    whole = [number for number in sorted(starts) if number in lengths and number in texts]
    return tuple(
        Word(texts[n], Fraction(starts[n], rate), Fraction(starts[n] + lengths[n], rate)) for n in whole if rate
    )


def sound_in(file: Path) -> tuple[bytes, int, tuple[Word, ...]]:
    """Samples (signed 16-bit, mono), their rate, and the words in a file of sound, of whatever kind.

    Raises ProviderRefused with `lost` if there is no sound in it.
    """
    content = file.read_bytes()
    found = pcm_of(content)
    if found:
        return *found, words_of(content)
    try:
        with fresh_folder(home()) as folder:
            target = folder / "decoded.wav"
            run_ffmpeg(["-i", str(file.resolve()), "-vn", "-ac", "1", "-c:a", "pcm_s16le", str(target.resolve())])
            found = pcm_of(target.read_bytes())
    except FfmpegError as error:
        raise ProviderRefused(f"what was bought holds no sound ({error}); it is kept in {file}", "lost") from None
    assert found  # ffmpeg was asked for that
    return *found, ()


# ---------------------------------------------------------------- silence


def voiced(pcm: bytes, rate: int) -> tuple[int, int]:
    """The first sample that is heard and the one after the last, with a breath around; 0, 0 where all is silent."""
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    loud = max(max(samples, default=0), -min(samples, default=0)) * QUIET
    if loud < 1:
        return 0, 0
    first = next(at for at, sample in enumerate(samples) if abs(sample) > loud)
    last = next(at for at in range(len(samples) - 1, -1, -1) if abs(samples[at]) > loud)
    before, after = (int(seconds * rate) for seconds in BREATH)
    return max(0, first - before), min(len(samples), last + 1 + after)
