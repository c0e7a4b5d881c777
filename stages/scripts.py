"""What is to be said, line by line: from a recipe, a Markdown file or an SRT file, and where its sentences end."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from stages.clip import Frames, Time, parse_time
from stages.errors import InputError
from stages.subtitles import read_srt


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script. What is left out counts as it does for the whole script.

    It starts `at` a moment, else when the line before it has ended, and should
    have ended `until` another, else before the next line that has a moment.
    `voice` may name others, which stand in for it; else it is the `speaker`'s.
    `take` 2 is another try at this line alone.
    """

    text: str
    speaker: str = ""
    voice: tuple[str, ...] | str = ()
    language: str = ""
    speed: float = 0.0
    at: Time | None = None
    until: Time | None = None
    take: int = 1

    @classmethod
    def parse(cls, text: str) -> Line:
        """A line that is its text alone."""
        return cls(text)

    @property
    def start(self) -> Fraction | None:
        """`at` in seconds, None where it is left open."""
        return _moment(self.at)

    @property
    def end(self) -> Fraction | None:
        """`until` in seconds, None where it is left open."""
        return _moment(self.until)


def read_script(file: Path, speakers: Collection[str] = ()) -> tuple[Line, ...]:
    """The lines of a script in Markdown (`.md`, `.txt`) or SubRip (`.srt`).

    Of Markdown, each paragraph and each item of a list is a line:

        # Launch film                            a heading is not spoken
        ## 0:05 The product                      its time is that of the line below it
        **Anna:** Now in *three* colours.        a speaker, in bold
        [0:09] **Ben:** And a fourth is coming.  a time of its own
        [0:12-0:15] Order today.                 a time to start and one to have ended by
        <!-- louder? -->                         is not spoken

    Of SubRip, each cue is a line and its times are the line's. There, and where
    it is not bold, `Anna:` is a speaker if `speakers` has that name.
    Raises InputError naming the file and the line where it is not understood.
    """
    if file.suffix.lower() == ".srt":
        cues = ((replace(_labelled(cue.text, speakers), at=cue.start, until=cue.end), cue) for cue in read_srt(file))
        lines = tuple(line for line, _ in cues)
    elif file.suffix.lower() in (".md", ".markdown", ".txt"):
        lines = tuple(_paragraphs(file, speakers))
    else:
        raise InputError(f"{file.name}: should be a .md or an .srt file", "script")
    if not lines:
        raise InputError(f"{file.name}: there is nothing to speak in it", "script")
    return lines


ABBREVIATIONS = frozenset(
    """
    dr mr mrs ms prof st mt sr jr vs etc approx dept est fig inc ltd no nos vol co corp gen col sgt capt rev hon
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun e.g i.e a.m p.m u.s u.k
    bzw z.b d.h ca nr
    """.split()  # noqa: SIM905 -- a list of sixty quoted words is unreadable
)
"""Words whose full stop ends no sentence, without it."""

STOPS = re.compile(r"[.!?…]+[\"'”’)\]]*$|[。！？]$")


def sentences(text: str) -> list[str]:
    """The sentences of `text`: joined with spaces they are the text again, its white space aside.

    One ends with its mark where the next begins with a capital, a digit, a quotation mark or a sign of another
    script; at `Dr.`, `J.` and their like it goes on. What has no letter stays with what stands before it.
    """
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        begun: list[str] = []
        words = re.sub(r"([。！？])(?=\S)", r"\1 ", paragraph).split()
        for number, word in enumerate(words):
            begun.append(word)
            after = words[number + 1] if number + 1 < len(words) else ""
            if not after or _ends(word, after):
                found.append(" ".join(begun))
                begun = []
    joined: list[str] = []
    for sentence in found:
        if joined and not (_is_spoken(sentence) and _is_spoken(joined[-1])):
            joined[-1] += f" {sentence}"
        else:
            joined.append(sentence)
    return joined


def _ends(word: str, after: str) -> bool:
    if not STOPS.search(word):
        return False
    bare = re.sub(r"^\W+", "", word).lower().rstrip(".\"'”’)")
    if word.endswith(".") and (bare in ABBREVIATIONS or re.fullmatch(r"[^\W\d_](\.[^\W\d_])*", bare)):
        return False
    first = after.lstrip("\"'“‘«(*_[¿¡")[:1]
    return not first.islower()


def _is_spoken(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


# ---------------------------------------------------------------- Markdown

CLOCK = r"\d+(?::\d\d){1,2}(?:[.,]\d+)?|\d+(?:\.\d+)?\s*(?:s|ms|min)"
TIMES = re.compile(rf"\[\s*({CLOCK})\s*(?:(?:-|–|-->)\s*({CLOCK})\s*)?\]\s*")
BOLD = re.compile(r"(?:\*\*|__)\s*([^*_:]{1,40}?)\s*(?::\s*(?:\*\*|__)|(?:\*\*|__)\s*:)\s*")
PLAIN = re.compile(r"\s*([^:\n]{1,40}?)\s*:\s+")


def _paragraphs(file: Path, speakers: Collection[str]) -> Iterator[Line]:
    at: Fraction | None = None
    for number, block in _blocks(file):
        where = f"{file.name}:{number}"
        if block.startswith(("```", "~~~", "|", "    ")):
            raise InputError(f"{where}: a table or a block of code cannot be spoken: put it into <!-- -->", "script")
        if heading := re.match(r"#{1,6}\s+(.*)", block):
            timed = re.match(rf"\[?({CLOCK})\]?(?:\s|$)", heading[1])
            at = _moment(timed[1]) if timed else at
            continue
        if re.fullmatch(r"([-*_]\s*){3,}", block):
            continue
        line = _line(block, speakers, at)
        if not line.text:
            raise InputError(f"{where}: there is no text", "script")
        yield line
        at = None


def _blocks(file: Path) -> Iterator[tuple[int, str]]:
    """Paragraphs, headings and items with the number of the line that each begins at; comments are gone."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name}: cannot be read as UTF-8 text ({error})", "script") from None
    text = re.sub(r"<!--.*?-->", lambda match: "\n" * match[0].count("\n"), text.replace("\r", ""), flags=re.DOTALL)
    begun: list[str] = []
    first = 0
    for number, row in enumerate([*text.split("\n"), ""], 1):
        item = re.match(r"\s*(?:[-*+]|\d+[.)])\s+(?![-*_\s]*$)|\s*>\s?", row)
        single = row.startswith("#")
        timed = TIMES.match(row) or BOLD.match(row)
        if begun and (not row.strip() or item or single or timed):
            yield first, " ".join(begun)
            begun = []
        if single:
            yield number, row.strip()
        elif row.strip():
            first = number if not begun else first
            begun.append(row[item.end() :].strip() if item else row.rstrip() if not begun else row.strip())


def _line(text: str, speakers: Collection[str], at: Fraction | None) -> Line:
    text, until = text.strip(), None
    if times := TIMES.match(text):
        at, until = _moment(times[1]), _moment(times[2])
        text = text[times.end() :]
    line = _labelled(text, speakers)
    if (times := TIMES.match(line.text)) and at is None:
        at, until = _moment(times[1]), _moment(times[2])
        line = replace(line, text=line.text[times.end() :])
    return replace(line, at=at, until=until)


def _labelled(text: str, speakers: Collection[str]) -> Line:
    known = {name.casefold(): name for name in speakers}
    if label := BOLD.match(text):
        return Line(text[label.end() :].strip(), known.get(label[1].casefold(), label[1]))
    label = PLAIN.match(text)
    if label and label[1].casefold() in known:
        return Line(text[label.end() :].strip(), known[label[1].casefold()])
    return Line(text.strip())


def _moment(time: Time | None) -> Fraction | None:
    parsed = parse_time(time) if isinstance(time, str) else time
    if isinstance(parsed, Frames):
        raise InputError(f"{parsed.count}f: a script has no frames: give seconds, such as 1.5s")
    return None if parsed is None else Fraction(parsed)
