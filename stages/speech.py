"""The job that speaks: a line of text becomes a sound that knows its words."""

from __future__ import annotations

import json
import wave
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from stages import plugins
from stages.clip import SAMPLE_RATE, Action, Clip, Sound, SoundFacts, Source, Word
from stages.errors import InputError
from stages.files import attempt
from stages.stage import job
from stages.voices import Speech, SpeechRequest, Voice, share

SOUND, WORDS = "speech.wav", "words.json"

PACE = 17
"""Characters a second at speed 1, to estimate what is not yet spoken; a digit or a sign counts as five, as
`$9` is two words. On 25 lines of advertising, `heart` came within 26 % of it, on half of them within 9 %."""


def promise_speech(text: str, *, voice: str = "heart", language: str = "en", speed: float = 1.0, **_: Any) -> Clip:
    """The clip that `speak` will make, its length and words estimated from the characters.

    Raises InputError as `speak` does, but before anything is made.
    """
    request = SpeechRequest(text, voice, language, float(speed))
    speaker = voice_named(voice)
    speaker.check(request)
    length = _characters(text) / PACE / Fraction(speed)
    words = share(text.split(), Fraction(0), length)
    source = Source(Path(SOUND), _facts(SAMPLE_RATE, ceil(length * SAMPLE_RATE)), promised=True)
    return _clip(source, words, request, f"{speaker.version} {speaker.name}")


@job(promise_speech)
def speak(text: str, *, voice: str = "heart", language: str = "en", speed: float = 1.0, folder: Path) -> Clip:
    """Speak `text` and write `speech.wav` and `words.json` into `folder`.

    The sound is mono at the voice's own rate, with no silence at its ends;
    when each word sounds rides on it. `language` is a tag such as `en` or
    `fr-CH`. `speed` 1 is the voice's own pace, 1.25 a quarter faster, coarsely.

    Raises InputError for what the voice cannot speak, naming one that can,
    and ProviderUnavailable if the voice broke down: another try may do.
    """
    request = SpeechRequest(text, voice, language, float(speed))
    speech = voice_named(voice).speak(request)
    _write_sound(speech, folder / SOUND)
    _write_words(request, speech, folder / WORDS)
    return read_speech(folder)


def read_speech(folder: Path) -> Clip:
    """The clip that `speak` made in `folder`. Raises InputError if there is none."""
    try:
        said = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        with wave.open(str(folder / SOUND), "rb") as file:
            facts = _facts(file.getframerate(), file.getnframes())
    except (OSError, ValueError, EOFError, wave.Error) as error:
        raise InputError(f"{folder}: holds no speech ({error})") from None
    rate = said["sample_rate"]
    words = tuple(Word(w["text"], Fraction(w["start"], rate), Fraction(w["end"], rate)) for w in said["words"])
    request = SpeechRequest(said["text"], said["voice"], said["language"], said["speed"])
    return _clip(Source((folder / SOUND).absolute(), facts), words, request, said["agent"])


def voice_named(name: str) -> Voice:
    """The voice called `name`. Raises InputError if there is none."""
    voice: Voice = plugins.find("pipeline.voices", name)
    return voice


def _characters(text: str) -> Fraction:
    words = text.split()
    signs = sum(letter.isdigit() or letter in "$€£¥%°/@#&+=" for word in words for letter in word)
    return Fraction(sum(map(len, words)) + len(words) - 1 + 4 * signs)


def _clip(source: Source, words: tuple[Word, ...], request: SpeechRequest, agent: str) -> Clip:
    asked = tuple((name, str(getattr(request, name))) for name in ("text", "voice", "language", "speed"))
    action = Action("speak", asked, agent, source.path, ai=voice_named(request.voice).trained)
    assert isinstance(source.facts, SoundFacts)  # both callers made it
    samples = round(Fraction(source.facts.samples * SAMPLE_RATE, source.facts.sample_rate))
    return Clip(sound=Sound(source, samples, words), history=(action,))


def _facts(rate: int, samples: int) -> SoundFacts:
    return SoundFacts("pcm_s16le", "", rate, 1, "mono", samples, bit_rate=16 * rate)


def _write_sound(speech: Speech, target: Path) -> None:
    with attempt(target) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.sample_rate)
        file.writeframes(speech.pcm)


def _write_words(request: SpeechRequest, speech: Speech, target: Path) -> None:
    """Times are samples at `sample_rate`: exact, and whole numbers."""
    rate = speech.sample_rate
    words = [{"text": w.text, "start": int(w.start * rate), "end": int(w.end * rate)} for w in speech.words]
    said = {
        "text": request.text,
        "voice": request.voice,
        "language": request.language,
        "speed": request.speed,
        "agent": speech.agent,
        "timing": speech.timing,
        "sample_rate": rate,
        "words": words,
    }
    with attempt(target) as part:
        part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
