"""What a voice is: `speak(request) -> Speech`. One file a voice; found by name under `pipeline.voices`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Literal, Protocol, TypeAlias

from stages.clip import Word
from stages.errors import InputError
from stages.languages import other_language

Timing: TypeAlias = Literal["exact", "proportional"]
"""Where word times come from: the engine itself, or the words' shares of the characters."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A line to be spoken. `language` is a BCP 47 tag; `speed` 1 is the voice's own pace; `take` 2 is another try.

    `written` is what the author wrote, where `text` is how that is read aloud.
    """

    text: str
    voice: str = "heart"
    language: str = "en"
    speed: float = 1.0
    seed: int = 0
    take: int = 1
    written: str = ""


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken line: signed 16-bit little-endian mono, without silence at either end.

    `words` are as written, punctuation included: joined with spaces they are
    the text again. `agent` names the software, its version and the voice.
    """

    pcm: bytes
    sample_rate: int
    words: tuple[Word, ...]
    timing: Timing
    agent: str

    @property
    def samples(self) -> int:
        """Their number, at `sample_rate`."""
        return len(self.pcm) // 2

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return Fraction(self.samples, self.sample_rate)


class Voice(Protocol):
    """Somebody who can speak. `version` names the software that a result depends on: `hibari-tts 0.2.1`.

    A voice has the name that recipes give (`heart`) and the languages that it
    speaks as lower-case BCP 47 tags (`en-us`). `trained`: a trained model
    speaks, which is then said in the film's credentials.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]: ...

    @property
    def trained(self) -> bool: ...

    def check(self, request: SpeechRequest) -> None:
        """Raise InputError where it cannot speak this, without loading or calling anything: the plan asks."""

    def speak(self, request: SpeechRequest) -> Speech:
        """Speak it. Raises InputError as `check` does, ProviderUnavailable if another try may do."""


PACE = 17
"""Characters a second at speed 1, to estimate what is not yet spoken; a digit or a sign counts as five, as
`$9` is two words. On 25 lines of advertising, `heart` came within 26 % of it, on half of them within 9 %."""


def expected_seconds(text: str) -> Fraction:
    """About how long `text` takes at speed 1."""
    words = text.split()
    signs = sum(letter.isdigit() or letter in "$€£¥%°/@#&+=" for word in words for letter in word)
    return Fraction(sum(map(len, words)) + max(len(words) - 1, 0) + 4 * signs, PACE)


def share(texts: Sequence[str], start: Fraction, end: Fraction) -> tuple[Word, ...]:
    """`texts` laid from `start` to `end` seconds, each as long as its part of the characters.

    The gap after a word counts as one character and belongs to no word.
    """
    units = sum(len(text) + 1 for text in texts) - 1
    words, passed = [], 0
    for text in texts:
        begin = start + (end - start) * Fraction(passed, units)
        words.append(Word(text, begin, start + (end - start) * Fraction(passed + len(text), units)))
        passed += len(text) + 1
    return tuple(words)


# ---------------------------------------------------------------- what a voice lacks, and who has it

ESPEAK_LANGUAGES = """
    af am an ar as az ba be bg bn bpy bs ca chr cmn cs cv cy da de el en en-gb en-us eo es es-419 et
    eu fa fi fo fr fr-be fr-ch ga gd gn gu hak haw he hi hr ht hu hy hyw ia id io is it ja jbo ka
    kaa kk kl kn ko kok ku ky la lb lfn lt ltg lv mi mk ml mr ms mt my nb nci ne nl nog om or pa pap
    pl pt pt-br qu quc ro ru sd shn si sjn sk sl smj sq sr sv sw ta te th ti tk tn tr tt ug uk ur uz
    vi xex yue
""".split()  # noqa: SIM905 -- a list of a hundred quoted codes is unreadable
"""Source: espeak-ng-data/lang in espeakng-loader 0.2.4, checked 2026-11-22."""

ESPEAK_NAMES = {"zh": "cmn", "no": "nb", "nn": "nb", "iw": "he", "in": "id", "zh-hk": "yue"}
"""Other names of the same languages."""

SCRIPTS = {
    "HIRAGANA": ("Japanese", "ja"),
    "KATAKANA": ("Japanese", "ja"),
    "CJK": ("Chinese", "cmn"),
    "HANGUL": ("Korean", "ko"),
    "CYRILLIC": ("Cyrillic", "ru"),
    "GREEK": ("Greek", "el"),
    "ARABIC": ("Arabic", "ar"),
    "HEBREW": ("Hebrew", "he"),
    "DEVANAGARI": ("Devanagari", "hi"),
    "BENGALI": ("Bengali", "bn"),
    "TAMIL": ("Tamil", "ta"),
    "TELUGU": ("Telugu", "te"),
    "THAI": ("Thai", "th"),
    "ARMENIAN": ("Armenian", "hy"),
    "GEORGIAN": ("Georgian", "ka"),
    "ETHIOPIC": ("Ethiopic", "am"),
}
"""The first word of a letter's Unicode name: what people call the script, and a language written in it."""

READABLE = (
    "LATIN",
    "MICRO SIGN",
    "OHM SIGN",
    "KELVIN SIGN",
    "ANGSTROM SIGN",
    "FEMININE ORD",
    "MASCULINE ORD",
)


def check_language(voice: Voice, language: str) -> None:
    """Raise InputError where `voice` does not speak `language`, naming one that does."""
    if language.lower().replace("_", "-") not in voice.languages:
        spoken, other = ", ".join(voice.languages), _elsewhere(espeak_language(language))
        raise InputError(f"voice {voice.name} speaks {spoken}, not '{language}'{other}")


def check_latin(voice: Voice, text: str) -> None:
    """Raise InputError where an English voice would skip or garble letters or words, naming one that has them.

    A lone Greek letter passes: it is read by its name, as in `β-carotene`.
    """
    for foreign, letters in groupby(text, key=_is_foreign):
        run = "".join(letters)
        if foreign and not (len(run) == 1 and _script(run) == "GREEK"):
            script, language = _language_of(run)
            raise InputError(f"voice {voice.name} cannot read '{run}' ({script}){_elsewhere(language)}")
    if found := other_language(text):
        name, language = found
        raise InputError(f"voice {voice.name} speaks English, and this is {name}{_elsewhere(language)}")


def espeak_language(language: str) -> str:
    """What espeak-ng calls the BCP 47 tag `language`, or nothing if it lacks it."""
    tag = language.lower().replace("_", "-")
    names = [ESPEAK_NAMES.get(name, name) for name in (tag, tag.split("-")[0])]
    return next((name for name in names if name in ESPEAK_LANGUAGES), "")


def _language_of(run: str) -> tuple[str, str]:
    scripts = [_script(letter) for letter in run]
    kana = [script for script in scripts if script in ("HIRAGANA", "KATAKANA")]  # Japanese has Chinese signs too
    return SCRIPTS.get((kana or scripts)[0], ("letters of another script", ""))


def _script(letter: str) -> str:
    return re.split("[ -]", unicodedata.name(letter, ""))[0]


def _is_foreign(letter: str) -> bool:
    is_letter = unicodedata.category(letter) in ("Lu", "Ll", "Lt", "Lo")
    return is_letter and not unicodedata.name(letter, "").startswith(READABLE)


def _elsewhere(language: str) -> str:
    if not language:
        return ""
    return f"; use voice: espeak with language: {language} (pip install 'afterframe[espeak]')"
