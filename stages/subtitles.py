"""Cues: from a file or from spoken words, to SRT, WebVTT, or ASS laid out for the delivered frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from stages.clip import Captions, Cue, Frames, Size, Word, parse_time
from stages.errors import InputError

LINE_LENGTH = 42
"""Characters a line; two lines a cue (BBC and Netflix style guides; 42 fill the line at 44 px of 1280)."""

PAUSE = Fraction(7, 10)
"""A silence this long ends a cue."""


# ---------------------------------------------------------------- cues


def cues_from(words: Sequence[Word]) -> tuple[Cue, ...]:
    """Spoken words as cues of at most two lines, broken at pauses and at the ends of sentences."""
    groups: list[list[Word]] = []
    for word in words:
        group = groups[-1] if groups else None
        if (
            group is None
            or word.start - group[-1].end >= PAUSE
            or len(text := " ".join(w.text for w in [*group, word])) > 2 * LINE_LENGTH - 8
            or wrapped(text).count("\n") > 1
            or group[-1].text.endswith((".", "!", "?"))
        ):
            groups.append([word])
        else:
            group.append(word)
    return tuple(Cue(wrapped(" ".join(w.text for w in g)), g[0].start, g[-1].end) for g in groups)


def wrapped(text: str) -> str:
    """`text` in lines of at most 42 characters, two of about equal length where two are needed."""
    if len(text) <= LINE_LENGTH:
        return text
    breaks = [match.start() for match in re.finditer(" ", text)]
    if not breaks or len(text) > 2 * LINE_LENGTH:
        return _greedy(text)
    middle = min(breaks, key=lambda at: abs(2 * at - len(text)))
    if max(middle, len(text) - middle - 1) > LINE_LENGTH:
        return _greedy(text)
    return text[:middle] + "\n" + text[middle + 1 :]


def _greedy(text: str) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > LINE_LENGTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def shifted(captions: Captions | None, start: Fraction, length: Fraction) -> Captions | None:
    """The captions of the part of a clip that starts at `start` and lasts `length`."""
    if captions is None:
        return None
    cues = tuple(
        replace(cue, start=max(Fraction(0), cue.start - start), end=min(length, cue.end - start))
        for cue in captions.cues
        if cue.end > start and cue.start < start + length
    )
    return replace(captions, cues=cues)


# ---------------------------------------------------------------- files


def read_srt(file: Path) -> tuple[Cue, ...]:
    """The cues of a SubRip file, by time. Raises InputError naming the file and the cue."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 captions ({error})") from None
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", text.replace("\r", "")) if block.strip()]
    cues = [_read_cue(file, number, block) for number, block in enumerate(blocks, 1)]
    if not cues:
        raise InputError(f"{file}: holds no captions")
    return tuple(sorted(cues, key=lambda cue: cue.start))


def _read_cue(file: Path, number: int, lines: Sequence[str]) -> Cue:
    at = next((index for index, line in enumerate(lines) if "-->" in line), None)
    if at is None:
        raise InputError(f"{file}: caption {number} has no line with its times (00:00:01,000 --> 00:00:02,500)")
    try:
        start, end = (_moment(part.split()[0]) for part in lines[at].split("-->"))
    except (InputError, IndexError, ValueError):
        raise InputError(f"{file}: caption {number}: '{lines[at]}' is not a pair of times") from None
    if end <= start:
        raise InputError(f"{file}: caption {number} ends at {float(end):g} s, before it starts at {float(start):g} s")
    return Cue("\n".join(line.strip() for line in lines[at + 1 :] if line.strip()), start, end)


def _moment(text: str) -> Fraction:
    time = parse_time(text)
    if isinstance(time, Frames):
        raise InputError("a caption's times are seconds")
    return time


def srt(cues: Iterable[Cue]) -> str:
    """The cues as a SubRip file."""
    return "\n".join(
        f"{n}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_plain(cue.text)}\n"
        for n, cue in enumerate(cues, 1)
    )


def vtt(cues: Iterable[Cue]) -> str:
    """The cues as a WebVTT file."""
    escaped = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
    return "WEBVTT\n\n" + "\n".join(
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_plain(cue.text).translate(escaped)}\n" for cue in cues
    )


def _plain(text: str) -> str:
    return re.sub(r"\n\s*\n", "\n", text.strip()).replace("-->", "→")


def _clock(time: Fraction, point: str) -> str:
    whole, thousandths = divmod(round(time * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


# ---------------------------------------------------------------- the ASS that is burnt

FONT = "Inter-SemiBold"
"""In stages/fonts; always passed, never looked for on the machine."""

SAFE_MARGIN = Fraction(5, 100)
"""Title-safe: 5 % from each edge (EBU R 95); portrait frames keep 18 % from the lower edge, where apps draw."""


def styled(cues: Sequence[Cue], frame: Size) -> str:
    """The cues as ASS for this frame: one style, white on a soft dark edge, inside the safe area."""
    portrait = frame.height > frame.width
    size = round(frame.width / 16 if portrait else frame.height / 16)
    across = round(frame.width * SAFE_MARGIN)
    below = round(frame.height * (Fraction(18, 100) if portrait else SAFE_MARGIN))
    outline = max(1, round(size / 14))
    lines = [
        "[Script Info]",
        "ScriptType: v4.00+",
        f"PlayResX: {frame.width}",
        f"PlayResY: {frame.height}",
        "ScaledBorderAndShadow: yes",
        "WrapStyle: 0",
        "YCbCr Matrix: TV.709",
        "",
        "[V4+ Styles]",
        "Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, Bold, BorderStyle, Outline,"
        " Shadow, Alignment, MarginL, MarginR, MarginV, Encoding",
        # By its PostScript name: libass matches nothing else of a CFF font, and falls back in silence.
        f"Style: line,{FONT},{size},&H00FFFFFF,&H30000000,&H80000000,0,1,{outline},{max(1, outline // 2)},2,"
        f"{across},{across},{below},1",
        "",
        "[Events]",
        "Format: Layer, Start, End, Style, Text",
    ]
    lines += [f"Dialogue: 0,{_ass_clock(c.start)},{_ass_clock(c.end)},line,{_ass_text(c.text)}" for c in cues]
    return "\n".join(lines) + "\n"


def _ass_clock(time: Fraction) -> str:
    whole, hundredths = divmod(round(time * 100), 100)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{hundredths:02}"


def _ass_text(text: str) -> str:
    # libass reads {…} as commands and \N, \n, \h as breaks: a zero-width joiner disarms a backslash.
    return text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}").replace("\n", "\\N")
