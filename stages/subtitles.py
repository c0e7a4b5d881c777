"""Cues: from a file or from spoken words, to SRT, WebVTT, or ASS laid out for the delivered frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from html import unescape
from itertools import accumulate, chain, pairwise
from math import floor
from pathlib import Path
from typing import TypeVar
from unicodedata import bidirectional

from stages.clip import Captions, CaptionStyle, Corner, Cue, Frames, Margins, Overlay, Size, Word, parse_time
from stages.errors import InputError
from stages.line_breaks import LINE_LENGTH, cost, fitted, room, units, width, wrapped

PAUSE = Fraction(7, 10)
"""A silence this long ends a cue."""


# ---------------------------------------------------------------- cues


def cues_from(words: Sequence[Word]) -> tuple[Cue, ...]:
    """Spoken words as cues of at most two lines, broken at pauses and at the ends of sentences.

    Chinese and Japanese, which have no spaces, are broken within what is one word to who spoke it.
    """
    groups: list[list[Word]] = []
    for word in chain.from_iterable(map(_pieces, words)):
        group = groups[-1] if groups else None
        if group is None or word.start - group[-1].end >= PAUSE or _ends(group[-1].text):
            groups.append([word])
        elif width(text := _text([*group, word])) > 2 * room(text) - 8 or wrapped(text).count("\n") > 1:
            at = _last_break([*group, word])
            groups[-1:] = [group[:at], [*group[at:], word]]
        else:
            group.append(word)
    return tuple(
        Cue(wrapped(_text(group)), group[0].start, group[-1].end, tuple(replace(w, text=w.text.strip()) for w in group))
        for group in groups
    )


def _pieces(word: Word) -> list[Word]:
    """What may stand in lines of its own, with the space after it; a word of letters is whole."""
    parts = units(word.text)
    if room(word.text) == LINE_LENGTH or len(parts) < 2:
        return [replace(word, text=word.text + " ")]
    parts[-1] += " "
    return _spread(parts, word.start, word.end)


def _spread(texts: Sequence[str], start: Fraction, end: Fraction) -> list[Word]:
    """`texts` from `start` to `end` without a gap, each as long as its part of the characters."""
    whole = max(1, sum(map(len, texts)))
    edges = [start + (end - start) * Fraction(count, whole) for count in accumulate(map(len, texts), initial=0)]
    return [Word(text, *span) for text, span in zip(texts, pairwise(edges), strict=True)]


def _text(group: Sequence[Word]) -> str:
    return "".join(word.text for word in group).rstrip()


def _ends(text: str) -> bool:
    return text.strip().rstrip("」』）").endswith((".", "!", "?", "。", "！", "？", "｡"))


def _last_break(group: Sequence[Word]) -> int:
    """Where a cue that the last of `group` does not fit into is best cut, in its second half: late, at a clause."""
    places = range(len(group) // 2 or 1, len(group))
    return min(places, key=lambda at: (cost(group[at - 1].text, group[at].text), -at))


Shown = TypeVar("Shown", Cue, Overlay)


Move = Callable[[Fraction, Fraction], tuple[Fraction, Fraction]]
"""From where something starts and ends to where it will."""


def moved(one: Shown, move: Move) -> Shown:
    """`one`, and the words in it, at the times that `move` says."""
    start, end = move(one.start, one.end)
    if isinstance(one, Cue):
        return replace(one, start=start, end=end, words=tuple(Word(w.text, *move(w.start, w.end)) for w in one.words))
    return replace(one, start=start, end=end)


def shown(them: Iterable[Shown], start: Fraction, length: Fraction) -> tuple[Shown, ...]:
    """Those that show in the part of a clip that starts at `start` and lasts `length`, on its clock."""

    def inside(begin: Fraction, end: Fraction) -> tuple[Fraction, Fraction]:
        return min(max(Fraction(0), begin - start), length), min(max(Fraction(0), end - start), length)

    return tuple(moved(one, inside) for one in them if one.end > start and one.start < start + length)


def shifted(captions: Captions | None, start: Fraction, length: Fraction) -> Captions | None:
    """The captions of the part of a clip that starts at `start` and lasts `length`."""
    return captions and replace(captions, cues=shown(captions.cues, start, length))


# ---------------------------------------------------------------- files


def read_srt(file: Path) -> tuple[Cue, ...]:
    """The cues of a SubRip file, by time. Raises InputError naming the file and the cue."""
    return _cues_in(file, _text_of(file))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 captions ({error})") from None


def _cues_in(file: Path, text: str) -> tuple[Cue, ...]:
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", text.replace("\r", "")) if block.strip()]
    if _is_vtt(text):
        aside = ("NOTE", "STYLE", "REGION")
        blocks = [block for block in blocks[1:] if not block[0].startswith(aside)]
    cues = [_read_cue(file, number, block) for number, block in enumerate(blocks, 1)]
    if not cues:
        raise InputError(f"{file}: holds no captions")
    return tuple(sorted(cues, key=lambda cue: cue.start))


def read_cues(file: Path) -> tuple[Cue, ...]:
    """The cues of a SubRip or WebVTT file, by time. Raises InputError naming the file and the cue."""
    cues = _cues_in(file, text := _text_of(file))
    if not _is_vtt(text):
        return cues
    # What WebVTT marks up (<b>, <v Ann>, <00:01.000>) is read as the text that it marks.
    return tuple(replace(cue, text=unescape(re.sub(r"<[^>]*>", "", cue.text))) for cue in cues)


def _is_vtt(text: str) -> bool:
    return re.match(r"WEBVTT(\s|$)", text) is not None


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

TITLE_SAFE = Margins.parse("5% 5% 5% 5%")
"""EBU R 95."""
UPRIGHT_SAFE = replace(TITLE_SAFE, bottom=Fraction(18, 100))
"""In portrait frames apps draw over the lower edge, where no preset says how far."""

ALIGNMENTS = {
    "bottom-left": 1, "bottom": 2, "bottom-right": 3, "center": 5, "top-left": 7, "top": 8, "top-right": 9,
}  # fmt: skip
"""ASS counts places as a number pad does."""


def edges(frame: Size, safe: Margins | None) -> tuple[int, int, int, int]:
    """The margins of the safe area in pixels: top, right, bottom and left."""
    margins = safe or (UPRIGHT_SAFE if frame.height > frame.width else TITLE_SAFE)
    height, width = frame.height, frame.width
    return (
        round(margins.top * height), round(margins.right * width),
        round(margins.bottom * height), round(margins.left * width),
    )  # fmt: skip


def styled(
    cues: Sequence[Cue], frame: Size, overlays: Sequence[Overlay] = (), safe: Margins | None = None,
    style: CaptionStyle = "clean", font: str = FONT,
) -> str:  # fmt: skip
    """The cues, and the texts among `overlays`, as ASS for this frame: white on a soft dark edge, inside the
    safe area.

    `clean` shows a cue as it is. `bold-word` makes the word that is being said heavy and yellow; `karaoke` fills
    the words with yellow while they are said, and leaves them so. Where a cue's words have no times of their own,
    they share its time by their length. `font` is the cues', as libass asks for it.
    """
    size = round(min(frame.width, frame.height) / 16)
    texts = [one for one in overlays if one.text]
    styles = (
        [_style("line", size, frame, safe, "bottom", font=font, both_ways=any(_is_leftward(cue.text) for cue in cues))]
        if cues or not texts
        else []
    )
    styles += [_style_of(one, f"text{number}", frame, safe) for number, one in enumerate(texts)]
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
        *styles,
        "",
        "[Events]",
        "Format: Layer, Start, End, Style, Text",
    ]
    # What stays comes first: libass moves a later text out of the way of an earlier one.
    lines += [_dialogue(one.start, one.end, f"text{number}", one.text) for number, one in enumerate(texts)]
    _, right, _, left = edges(frame, safe)
    most = 2 * (frame.width - right - left) // size  # no font's signs are wider than its lines are high
    lines += [line for cue in cues for line in _lines(replace(cue, text=fitted(cue.text, most)), style)]
    return "\n".join(lines) + "\n"


def _style_of(overlay: Overlay, name: str, frame: Size, safe: Margins | None) -> str:
    short = min(frame.width, frame.height)
    size = max(6, round(overlay.size * short))
    return _style(name, size, frame, safe, overlay.corner, round(overlay.margin * short), overlay.boxed)


def _style(
    name: str, size: int, frame: Size, safe: Margins | None, corner: Corner, margin: int = 0, boxed: bool = False,
    font: str = FONT, both_ways: bool = False,
) -> str:  # fmt: skip
    # By its PostScript name: libass matches nothing else of a CFF font, and falls back in silence.
    top, right, bottom, left = (edge + margin for edge in edges(frame, safe))
    if boxed:
        around = max(2, round(size / 4))
        top, right, bottom, left = (edge + around for edge in (top, right, bottom, left))
        look = f"&H00FFFFFF,&H50000000,&H50000000,0,3,{around},0"
    else:
        outline = max(1, round(size / 14))
        look = f"&H00FFFFFF,&H30000000,&H80000000,0,1,{outline},{max(1, outline // 2)}"
    upright = top if corner.startswith("top") else bottom
    # libass lays every line out from left to right, Hebrew too, unless the encoding is -1.
    encoding = -1 if both_ways else 1
    return f"Style: {name},{font},{size},{look},{ALIGNMENTS[corner]},{left},{right},{upright},{encoding}"


def _is_leftward(text: str) -> bool:
    return any(bidirectional(character) in ("R", "AL") for character in text)


HIGHLIGHT = "&H00D7FF&"
"""Gold, as ASS writes it: blue, green, red."""


def _lines(cue: Cue, style: CaptionStyle) -> Iterator[str]:
    """The events that show a cue."""
    words = timed(cue) if style != "clean" else ()
    if not words:
        yield _dialogue(cue.start, cue.end, "line", cue.text)
    elif style == "karaoke":
        # Each word is counted from the one before it, in hundredths: from the moments, so that nothing adds up.
        moments = [cue.start, *(word.start for word in words[1:]), cue.end]
        ticks = [round((moment - cue.start) * 100) for moment in moments]
        filled = (
            f"{{\\{_fill(word.text)}{end - start}}}{_ass_text(word.text)}"
            for word, (start, end) in zip(words, pairwise(ticks), strict=True)
        )
        yield _event(cue.start, cue.end, "line", f"{{\\1c{HIGHLIGHT}\\2c&HFFFFFF&}}{''.join(filled)}")
    else:
        moments = [cue.start, *(word.start for word in words[1:]), cue.end]
        for said, (start, end) in enumerate(pairwise(moments)):
            # By weight: `\\b1` asks for 700, which a SemiBold passes for.
            parts = [
                f"{{\\b900\\1c{HIGHLIGHT}}}{_ass_text(word.text)}{{\\r}}" if number == said else _ass_text(word.text)
                for number, word in enumerate(words)
            ]
            if start < end:
                yield _event(start, end, "line", "".join(parts))


def _fill(word: str) -> str:
    # libass fills every word from left to right: of a Hebrew one the end would be filled first. It changes at once.
    return "k" if _is_leftward(word) else "kf"


def timed(cue: Cue) -> tuple[Word, ...]:
    """The words of a cue, each with the white space behind it, in order and inside the cue's time.

    Of Chinese and Japanese a word is what no line break parts; what was spoken as one shares its time.
    """
    texts = units(cue.text)
    said = [part for word in cue.words for part in _spread(units(word.text), word.start, word.end)]
    starts = [min(max(word.start, cue.start), cue.end) for word in said]
    if len(starts) != len(texts) or starts != sorted(starts):
        starts = [word.start for word in _spread(texts, cue.start, cue.end)]
    return tuple(Word(*word) for word in zip(texts, starts, [*starts[1:], cue.end], strict=True)) if texts else ()


def _dialogue(start: Fraction, end: Fraction, style: str, text: str) -> str:
    return _event(start, end, style, _ass_text(text))


def _event(start: Fraction, end: Fraction, style: str, text: str) -> str:
    return f"Dialogue: 0,{_ass_clock(start)},{_ass_clock(end)},{style},{text}"


def _ass_clock(time: Fraction) -> str:
    # Rounded down: a frame that begins with it would else be a hundredth too early, and not have it.
    whole, hundredths = divmod(floor(time * 100), 100)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{hundredths:02}"


def _ass_text(text: str) -> str:
    # libass reads {…} as commands and \N, \n, \h as breaks: a zero-width joiner disarms a backslash.
    return text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}").replace("\n", "\\N")
