"""What a font is called and which characters it has (the only fontTools)."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import InputError

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

SHIPPED = Path(__file__).parent / "fonts" / "Inter-SemiBold.otf"
"""Latin, Greek and Cyrillic; SIL Open Font License."""

FONTS_FOR = {
    **dict.fromkeys(
        ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"), "Noto Sans CJK (apt install fonts-noto-cjk)"
    ),
    **dict.fromkeys(("ARABIC", "HEBREW", "SYRIAC", "THAANA"), "DejaVu Sans (apt install fonts-dejavu-core)"),
    **dict.fromkeys(
        ("DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI", "LAO", "KHMER", "GEORGIAN", "ARMENIAN", "ETHIOPIC"),
        "a Noto Sans of that script (apt install fonts-noto-core)",
    ),
}
"""By the first word of a character's Unicode name: a font under an open licence that has it, and where it is from.
Noto's Arabic and Hebrew have no Latin letters; DejaVu has all three."""


@dataclass(frozen=True, slots=True)
class Face:
    """A font: the name by which libass finds it, and the characters that it has."""

    name: str
    characters: frozenset[int]


@functools.cache
def face(file: Path) -> Face:
    """The font in `file`, the first one of a collection. Raises InputError if it is none."""
    from fontTools.ttLib import TTFont, TTLibError  # noqa: PLC0415 -- heavy; loaded when a font is read

    try:
        with file.open("rb") as data, TTFont(data, fontNumber=0, lazy=True) as font:  # it would leave it open
            return Face(_name(font), frozenset(font.getBestCmap() or ()))
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file", "font") from None
    except (OSError, TTLibError, AssertionError, KeyError) as error:
        raise InputError(f"{file}: is no font that can be read (TTF, OTF, TTC): {error}", "font") from None


def _name(font: TTFont) -> str:
    # libass matches a CFF font by its PostScript name alone, and any other by its full name.
    names = font["name"]
    name = names.getDebugName(6 if "CFF " in font else 4) or names.getDebugName(1)
    if not name or set(name) & set(",{}\\\n"):
        raise InputError(f"the font is called '{name or ''}', which subtitles cannot ask for", "font")
    return str(name)


def undrawable(text: str, file: Path) -> str:
    """Why `text` cannot be drawn with the font in `file`, and which font can; empty where it can be."""
    has = face(file).characters
    lacks = [c for c in dict.fromkeys(text) if ord(c) not in has and unicodedata.category(c) not in ("Cc", "Cf", "Mn")]
    if not lacks:
        return ""
    script = unicodedata.name(lacks[0], "").split(" ")[0].split("-")[0]
    helps = FONTS_FOR.get(script, "a font of one colour that has it")
    said = " ".join(f"'{c}' (U+{ord(c):04X})" for c in lacks[:3]) + (" …" if len(lacks) > 3 else "")
    return f"the font {face(file).name} lacks {said}; give font: the file of {helps}"
