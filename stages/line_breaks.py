"""Where a caption's lines may break, and how long they may be: at spaces, and in Chinese and Japanese between signs."""

from __future__ import annotations

import re
from itertools import accumulate
from unicodedata import east_asian_width

LINE_LENGTH = 42
"""Characters a line; two lines a cue (BBC and Netflix style guides; 42 fill the line at 44 px of 1280)."""

WIDE_LENGTH, KANA_LENGTH = 2 * 16, 2 * 13
"""The same for full-width signs, which count as two, and where some of them are Japanese (Netflix Timed Text Style
Guides: Traditional Chinese, 1; Japanese, I: 13 full-width characters, half-width ones count half; 2026-11-27)."""

KANJI = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3007"
HIRAGANA, KATAKANA = r"\u3041-\u309a\u309f", r"\u30a1-\u30fa\u30fc\u30ff\u31f0-\u31ff\uff66-\uff9d"

WIDE = KANJI + HIRAGANA + KATAKANA + r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3\uff01-\uff5e"
"""With hangul and full-width letters: signs whose lines are shorter. Emoji are as wide, and stand among any."""

OPENING = "（〔［｛〈《「『【〘〖〝｟｢￥＄￡"
CLOSING = "、。，．・：；？！゛゜ヽヾゝゞ々〻ー）〕］｝〉》」』】〙〗〟｠゠〜～｡｣､･ﾞﾟ％℃‰°…‥—–’”!%),.:;?]}"
SMALL = "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ"
"""What may not end a line, and what may not begin one (ISO/IEC 29500-1, 17.3.1.16, and JIS X 4051's small kana)."""

UNIT = re.compile(
    rf"[{OPENING}“‘(\[{{]*(?:[{KATAKANA}]+|[{KANJI}{HIRAGANA}]|[^\s{OPENING}{KANJI}{HIRAGANA}{KATAKANA}]+)"
    rf"[{re.escape(CLOSING)}{SMALL}]*\s*|\S\s*"
)

CLAUSE, PHRASE, WORD = 0, 4, 16
"""What a break costs, in half-width signs off the middle: after a space or punctuation, after hiragana, elsewhere."""


def units(text: str) -> list[str]:
    """The pieces of `text` that no line break parts, each with the white space after it: words, and of Chinese and
    Japanese single signs or a run of katakana, with the punctuation that belongs to them."""
    return UNIT.findall(text)


def width(text: str) -> int:
    """In half-width signs."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def room(text: str) -> int:
    """How long a line of such a text may be, in half-width signs."""
    if re.search(f"[{HIRAGANA}{KATAKANA}]", text):
        return KANA_LENGTH
    return WIDE_LENGTH if re.search(f"[{WIDE}]", text) else LINE_LENGTH


def cost(before: str, after: str) -> int:
    """What it costs to part these two: between hiragana and what is not, a Japanese phrase often ends."""
    if before[-1:].isspace() or not before[-1:].isalnum():
        return CLAUSE
    return PHRASE if re.search(f"[{HIRAGANA}]$", before) and not re.match(f"[{HIRAGANA}]", after) else WORD


def wrapped(text: str, most: int = 0) -> str:
    """`text` in lines of at most `most` half-width signs, else of what its script takes; two of about equal length
    where two are needed. A unit that is longer has a line of its own."""
    most, pieces, whole = most or room(text), units(text), width(text)
    if whole <= most:
        return text
    *firsts, _ = accumulate(pieces)
    halves = [(first.rstrip(), text[len(first) :], number) for number, first in enumerate(firsts)]
    fitting = [half for half in halves if max(width(half[0]), width(half[1])) <= most]
    if not fitting:
        return _greedy(pieces, most)
    first, second, _ = min(
        fitting, key=lambda half: abs(2 * width(half[0]) - whole) + cost(pieces[half[2]], pieces[half[2] + 1])
    )
    return f"{first}\n{second}"


def _greedy(pieces: list[str], most: int) -> str:
    lines = [""]
    for piece in pieces:
        if lines[-1] and width(lines[-1] + piece.rstrip()) > most:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def fitted(text: str, most: int) -> str:
    """Lines of full-width signs that are longer than `most` half-width ones, broken anew: nothing else breaks them.

    Lines of other scripts are left, for they are broken where they are drawn.
    """
    if all(width(line) <= min(most, room(line)) or room(line) == LINE_LENGTH for line in text.split("\n")):
        return text
    flowing = re.sub(r"(?<=[^\x00-\u2fff])\n(?=[^\x00-\u2fff])", "", text).replace("\n", " ")
    return wrapped(flowing, min(most, room(flowing)))
