"""How written text is read aloud: what a writer marks up, draws or abbreviates, in words that a voice can say."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from stages.clip import Word


@dataclass(frozen=True, slots=True)
class Reading:
    """A word as written, markup aside, and the words it is said in; nothing for what is only seen."""

    written: str
    said: str


def readings(text: str, language: str = "en") -> tuple[Reading, ...]:
    """`text` word by word, each with how it is said.

    In every language markup and emoji are left out. In English `3 kg`, `20%`, `1080p`, `10-12`, `24/7`, `1.25x`,
    `20 €`, `'90s`, `No. 1`, `CO2`, addresses and the signs `&`, `+`, `@`, `#1` are said in words; other languages'
    voices have their own rules.
    Amounts of money, times, dates and plain numbers are left to the voice, which knows them.
    """
    english = language.lower().replace("_", "-").split("-")[0] == "en"
    words = _unmarked(text).split()
    found: list[Reading] = []
    for number, word in enumerate(words):
        said = _without_pictures(word)
        if english:
            said = _in_words(said, *(words[at] if 0 <= at < len(words) else "" for at in (number - 1, number + 1)))
        found.append(Reading(word, said.strip()))
    return tuple(found)


def said(readings: Sequence[Reading]) -> str:
    """What a voice is given to say."""
    return " ".join(reading.said for reading in readings if reading.said)


def as_written(words: Sequence[Word], readings: Sequence[Reading]) -> tuple[Word, ...]:
    """Spoken words as they were written: `one`, `to`, `two` is `1-2`, from the first's start to the last's end.

    What makes no sound stays with the word before it, else with the one after.
    """
    ends = {count: place for place, count in enumerate(accumulate(len(word.text.split()) for word in words), 1)}
    found: list[Word] = []
    waiting: list[str] = []
    heard = passed = 0
    for reading in readings:
        waiting.append(reading.written)
        heard += len(reading.said.split())
        if (place := ends.get(heard, 0)) > passed:
            found.append(Word(" ".join(waiting), words[passed].start, words[place - 1].end))
            waiting, passed = [], place
        elif found and ends.get(heard) == passed:  # it makes no sound
            found[-1] = replace(found[-1], text=f"{found[-1].text} {reading.written}")
            waiting = []
    return tuple(found)


# ---------------------------------------------------------------- what is only seen

MARKUP: tuple[tuple[str, str], ...] = (
    (r"!?\[([^\]\n]+)\]\([^)\s]+\)", r"\1"),  # [text](address)
    (r"</?[A-Za-z][^<>\n]{0,80}>", ""),  # <i>
    (r"\{\\[^{}\n]{1,80}\}", ""),  # {\an8}
    (r"(?<![\w*])(\*{1,3})(?=\S)([^*\n]+?)(?<=\S)\1(?![\w*])", r"\2"),
    (r"(?<![\w_])(_{1,3})(?=\S)([^_\n]+?)(?<=\S)\1(?![\w_])", r"\2"),
    (r"~~(?=\S)([^~\n]+?)(?<=\S)~~", r"\1"),
    (r"`([^`\n]+)`", r"\1"),
)
"""Markdown's, SRT's and ASS's, in the order in which they are taken away."""


def _unmarked(text: str) -> str:
    for pattern, bare in MARKUP:
        text = re.sub(pattern, bare, text)
    return text


def _without_pictures(word: str) -> str:
    """Without emoji and the signs that join and colour them; a word of those alone is nothing."""
    return "".join(sign for sign in word if not _is_picture(sign))


def _is_picture(sign: str) -> bool:
    if sign in "\u200d\ufe0e\ufe0f\u20e3" or 0x1F1E6 <= ord(sign) <= 0x1F1FF or 0x1F3FB <= ord(sign) <= 0x1F3FF:
        return True
    return unicodedata.category(sign) == "So" and sign not in "°№℃℉©®™"


# ---------------------------------------------------------------- what is said in words

UNITS: dict[str, tuple[str, str]] = {
    "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "km": ("kilometre", "kilometres"), "m": ("metre", "metres"), "cm": ("centimetre", "centimetres"),
    "mm": ("millimetre", "millimetres"), "µm": ("micrometre", "micrometres"),
    "m²": ("square metre", "square metres"), "km²": ("square kilometre", "square kilometres"),
    "cm²": ("square centimetre", "square centimetres"), "m³": ("cubic metre", "cubic metres"),
    "l": ("litre", "litres"), "L": ("litre", "litres"), "ml": ("millilitre", "millilitres"),
    "mL": ("millilitre", "millilitres"), "oz": ("ounce", "ounces"), "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"), "ft": ("foot", "feet"), "mi": ("mile", "miles"), "yd": ("yard", "yards"),
    "km/h": ("kilometre an hour", "kilometres an hour"), "mph": ("mile an hour", "miles an hour"),
    "m/s": ("metre a second", "metres a second"), "fps": ("frame a second", "frames a second"),
    "s": ("second", "seconds"), "ms": ("millisecond", "milliseconds"), "min": ("minute", "minutes"),
    "h": ("hour", "hours"), "hr": ("hour", "hours"), "hrs": ("hour", "hours"),
    "kB": ("kilobyte", "kilobytes"), "KB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"), "Mbps": ("megabit a second", "megabits a second"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"), "V": ("volt", "volts"), "mAh": ("milliampere hour",) * 2,
    "dB": ("decibel", "decibels"), "K": ("K", "K"), "px": ("pixel", "pixels"), "MP": ("megapixel", "megapixels"),
    "%": ("percent", "percent"), "‰": ("per mille", "per mille"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"), "x": ("times", "times"), "×": ("times", "times"),
}  # fmt: skip
"""Symbols of the SI (BIPM, The International System of Units, 9th edition) and those of English shops."""

NUMBER = r"\d[\d,]*(?:\.\d+)?"
EDGES = re.compile(r"^([\"'“‘(\[]*)(.*?)([\"'”’)\].,;:!?…]*)$", re.DOTALL)
UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
DOMAIN = re.compile(r"(?:https?://)?((?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,24})(:\d+)?((?:/\S*)?)")
TOPS = "com org net io ai app dev co uk de fr eu us ca au tv me info shop store studio video film art gov edu".split()  # noqa: SIM905 -- as in the other lists
CURRENCIES = frozenset("€£$¥")
SIGNS = {"&": "and", "+": "plus", "=": "equals", "@": "at", "→": "to", "/": "or", "|": "", "*": "", "#": "", "×": "by"}


SAID = {"CO2": "C O 2", "CO₂": "C O 2", "H2O": "H 2 O", "B2B": "B 2 B", "B2C": "B 2 C", "№": "number"}
"""What a voice would read as a word."""

DECADES = {
    "2": "twenties", "3": "thirties", "4": "forties", "5": "fifties",
    "6": "sixties", "7": "seventies", "8": "eighties", "9": "nineties",
}  # fmt: skip


def _in_words(word: str, before: str, after: str) -> str:
    """An English word as it is said, its punctuation kept, for the voice pauses at it."""
    edges = EDGES.match(word)
    if not edges:
        return word
    opening, bare, closing = edges.groups()
    if word in ("No.", "Nos.") and after[:1].isdigit():
        return "Number" if word == "No." else "Numbers"
    if opening[-1:] in ("'", "’", "‘") and re.fullmatch(r"[2-9]0s", bare):  # '90s, and not 90 seconds
        return f"{opening[:-1]}{DECADES[bare[0]]}{closing}"
    if after[:1] in CURRENCIES and re.fullmatch(NUMBER, word) and not after[1:].isalnum():
        return after[0] + word
    if bare in SIGNS:
        return f"{opening}{SIGNS[bare]}{closing}" if SIGNS[bare] else closing if before else ""
    for rule in RULES:
        if (found := rule(bare, before)) is not None:
            return f"{opening}{found}{closing}"
    return word


def _address(bare: str, _: str) -> str | None:
    if re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", bare):
        name, _, host = bare.partition("@")
        return f"{_spelled(name)} at {_spelled(host)}"
    found = DOMAIN.fullmatch(bare)
    if not found or not ("://" in bare or found[3] or found[1].rsplit(".", 1)[1].lower() in TOPS):
        return None
    path = re.split(r"[?#]", found[3])[0].strip("/")  # nobody reads what follows to anyone, nor the www before
    host = re.sub(r"^www\.(?=.*\.)", "", found[1], flags=re.IGNORECASE)
    return " ".join(filter(None, (_spelled(host), "slash " + _spelled(path) if path else "")))


def _spelled(text: str) -> str:
    signs = {".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", "+": " plus "}
    return " ".join("".join(signs.get(sign, sign) for sign in text).split())


def _unit_alone(bare: str, before: str) -> str | None:
    """`kg` after a number."""
    count = re.fullmatch(rf"[(~≈<>]*({NUMBER}(?:[-–]{NUMBER})?)", before)
    if not count or bare not in UNITS or bare == "x":
        return None
    return UNITS[bare][count[1] != "1"]


def _measure(bare: str, _: str) -> str | None:
    """`20%`, `3kg`, `10-12cm`, `1080p`, `4K`, `1.25x`, `-5°C`."""
    if found := re.fullmatch(r"(\d{3,4})([pi])(\d{2,3})?", bare):
        rate = f" {found[3]}" if found[3] else ""
        tens = {"1080": "ten eighty", "720": "seven twenty", "480": "four eighty", "2160": "twenty one sixty"}
        return f"{tens.get(found[1], found[1])} {found[2]}{rate}"
    if re.fullmatch(r"[12]\d\d0s", bare):  # the 1990s
        return None
    found = re.fullmatch(rf"([-−+~≈]?)({NUMBER})(?:[-–]({NUMBER}))?\s*({UNIT})", bare)
    if not found:
        return None
    sign, first, last, unit = found.groups()
    lead = {"-": "minus ", "−": "minus ", "+": "plus ", "~": "about ", "≈": "about "}.get(sign, "")
    count = f"{first} to {last}" if last else first
    return f"{lead}{count} {UNITS[unit][count != '1']}"


def _amount(bare: str, before: str) -> str | None:
    """`20€`, and the `€` of `20 €`, which was said before; `1.5M`."""
    if bare in CURRENCIES and re.fullmatch(NUMBER, before):
        return ""
    if found := re.fullmatch(rf"({NUMBER})([€£$¥])", bare):
        return found[2] + found[1]
    found = re.fullmatch(rf"({NUMBER})M", bare)
    return f"{found[1]} million" if found else None


def _span(bare: str, _: str) -> str | None:
    """`10-12`, `$10–12`, `1920x1080`, `9:16`, `24/7`, `50/50`."""
    if found := re.fullmatch(rf"([$€£]?)({NUMBER})[-–]\1?({NUMBER})", bare):
        few = float(found[2].replace(",", "")) < float(found[3].replace(",", ""))
        few = few and not re.fullmatch(r"\d{3}-\d{4}", bare)  # 555-1234 is a telephone's
        return f"{found[1]}{found[2]} to {found[1]}{found[3]}" if few and not found[2].startswith("0") else None
    if found := re.fullmatch(r"(\d+)[x×](\d+)", bare):
        return f"{found[1]} by {found[2]}"
    if found := re.fullmatch(r"(\d+)/\1", bare):
        return f"{found[1]} {found[1]}"
    return "twenty four seven" if bare == "24/7" else None


def _signed(bare: str, _: str) -> str | None:
    if bare in SAID:
        return SAID[bare]
    if found := re.fullmatch(r"#(\d+)", bare):
        return f"number {found[1]}"
    if found := re.fullmatch(r"[#@](\w+)", bare):
        return ("hashtag " if bare[0] == "#" else "at ") + found[1].replace("_", " ")
    if found := re.fullmatch(rf"([~≈<>])({NUMBER})", bare):
        return {"~": "about", "≈": "about", "<": "less than", ">": "more than"}[found[1]] + f" {found[2]}"
    if bare == "w/":
        return "with"
    return None


RULES: tuple[Callable[[str, str], str | None], ...] = (_address, _unit_alone, _amount, _measure, _span, _signed)
"""Tried in this order: the first that knows a word says it."""
