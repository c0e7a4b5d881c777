"""Is a file what a platform asks for? Every number of it, held against a preset."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import presets
from stages.clip import SAMPLE_RATE, PictureFacts, Size, SoundFacts, printed_seconds, seconds
from stages.encoding import Row, delivery_preset, encoding_of
from stages.filetypes import HEAD, filetype_of
from stages.media import clip_from, mp4_layout, probe
from stages.mixing import Measured, measure

LOUDNESS_TOLERANCE = 0.5
"""LU: what EBU R 128 (2014) allowed to programmes whose level cannot be set exactly, where a preset does not say."""

AUDIO_MARGIN = 1.1
"""An AAC encoder's rate is an average that it may pass by some per cent."""


def conform(file: Path | str, preset: str) -> tuple[Row, ...]:
    """Each number of `file` against what `preset` wants; all is well if every row is `fine`.

    The sound is decoded to measure it, of the picture only headers and packets
    are read. Raises InputError for an unknown preset, and for a file that
    holds no video.
    """
    file, sheet = Path(file), delivery_preset(preset)
    picture, sound = probe(file, pictures=not encoding_of(sheet).is_film)
    heard = clip_from(file, None, sound).sound
    return (*_rows(file, sheet, picture, sound), *(_loudness_rows(sheet, measure(heard)) if heard else ()))


def off(file: Path, preset: str) -> tuple[str, ...]:
    """What is off about `file` for `preset`, a sentence each, its loudness aside: that is a step's to say."""
    sheet = delivery_preset(preset)
    rows = _rows(file, sheet, *probe(file, pictures=not encoding_of(sheet).is_film))
    return tuple(f"{sheet.place(row.key)} {row}" for row in rows if not row.fine)


def _rows(file: Path, sheet: presets.Sheet, picture: PictureFacts | None, sound: SoundFacts | None) -> tuple[Row, ...]:
    if picture is None:
        return (Row("picture", "none", "one", False),)
    return (
        *_file_rows(file, sheet),
        *encoding_of(sheet).rows(picture),
        *_frame_rows(sheet, picture),
        *_sound_rows(sheet, picture, sound),
    )


def _file_rows(file: Path, sheet: presets.Sheet) -> Iterator[Row]:
    layout, size = mp4_layout(file), file.stat().st_size
    container, wanted = _container(file, layout.brand), sheet.get("container", "mp4")
    yield Row("container", container, wanted, container == wanted)
    if encoding_of(sheet).boxed:
        yield Row("moov_first", _yes(layout.moov_first), "yes", layout.moov_first)
        free, found = sheet["edit_lists"] == "allow", layout.edit_lists
        yield Row("edit_lists", _yes(found), "either" if free else "no", free or not found)
    if most := sheet.get("size_max"):
        yield Row("size_max", f"{size} bytes", f"at most {most}", size <= most)


def _container(file: Path, brand: str) -> str:
    if brand:
        return "mov" if brand == "qt  " else "mp4"
    with file.open("rb") as stream:
        head = stream.read(HEAD)
        doctype = stream.read(2 * HEAD)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head + doctype else "mkv"
    known = filetype_of(head)
    return known.suffix[1:] if known else "gif" if head[:4] == b"GIF8" else "neither MP4, MOV nor WebM"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _frame_rows(sheet: presets.Sheet, picture: PictureFacts) -> Iterator[Row]:
    if exact := sheet.get("frame"):
        yield Row("frame", str(picture.size), exact, picture.size == Size.parse(exact))
    if largest := sheet.get("max_frame"):
        limit = Size.parse(largest)
        long, short = max(limit.width, limit.height), min(limit.width, limit.height)
        sides = picture.size.width, picture.size.height
        yield Row("max_frame", str(picture.size), f"within {largest}", max(sides) <= long and min(sides) <= short)
    if "still" in sheet.values:
        yield Row("still", f"{picture.frames} frames", "1 frame", picture.frames == 1)
        return
    slow, fast = Fraction(str(sheet["rate_min"])), Fraction(str(sheet["rate_max"]))
    if encoding_of(sheet).merges:
        slow = Fraction(0)
    wanted = f"{float(slow):g} to {float(fast):g}"
    yield Row("rate_max", f"{float(picture.rate):g} frames a second", wanted, slow <= picture.rate <= fast)
    length, limits = picture.frames / picture.rate, [sheet.get(key) for key in ("length_min", "length_max")]
    least, most = (seconds(text, Fraction(1)) if text else None for text in limits)
    wanted = " to ".join(text or "any" for text in limits) if any(limits) else "any"
    fine = (least is None or least <= length) and (most is None or length <= most)
    yield Row("length_max", f"{printed_seconds(length)} s", wanted, fine)


def _sound_rows(sheet: presets.Sheet, picture: PictureFacts, sound: SoundFacts | None) -> Iterator[Row]:
    codec = sheet.get("audio", "aac")
    if sound is None:
        yield Row("audio", "none", codec if codec == "none" else f"{codec} or none", True)
        return
    profile = ("LC",) if codec == "aac" else ("", sound.profile)
    found = f"{sound.codec} {sound.profile}".strip()
    yield Row("audio", found, f"{codec} {profile[0]}".strip(), sound.codec == codec and sound.profile in profile)
    yield Row("sample_rate", f"{sound.sample_rate} Hz", f"{SAMPLE_RATE} Hz", sound.sample_rate == SAMPLE_RATE)
    yield Row("channels", str(sound.channels), "1 or 2", sound.channels <= 2)
    if most := sheet.get("audio_rate"):
        fine = sound.bit_rate <= most * AUDIO_MARGIN
        yield Row("audio_rate", f"{sound.bit_rate} bit/s", f"about {most} at most", fine)
    apart = abs(Fraction(sound.samples, sound.sample_rate) - picture.frames / picture.rate)
    found = f"{printed_seconds(apart)} s longer or shorter than the picture"
    yield Row("sound_length", found, "at most a frame", apart <= 1 / picture.rate)


def _loudness_rows(sheet: presets.Sheet, heard: Measured) -> Iterator[Row]:
    if "loudness" not in sheet.values:
        return
    target, ceiling = float(sheet["loudness"]), float(sheet["true_peak"])
    within = float(sheet.get("loudness_tolerance", LOUDNESS_TOLERANCE))
    wanted = f"{target:g} LUFS, {within:g} LU more or less"
    fine = heard.silent or abs(heard.loudness - target) <= within + 0.05  # it is measured to 0.1
    yield Row("loudness", "silent" if heard.silent else f"{heard.loudness:g} LUFS", wanted, fine)
    yield Row("true_peak", f"{heard.true_peak:g} dBTP", f"at most {ceiling:g}", heard.true_peak <= ceiling)
