"""The job that speaks one text by one voice: a part of a script, whose job is `narration.speak`."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from datetime import date
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from stages.clip import SAMPLE_RATE, Action, Clip, Sound, SoundFacts, Source, Word
from stages.errors import InputError, ProviderUnavailable, Struck
from stages.files import attempt
from stages.hiring import Hired, offer_lines, voice_named
from stages.market import Market
from stages.reading import as_written, readings, said
from stages.stage import Offer, job
from stages.voices import Speech, SpeechRequest, Voice, expected_seconds, share
from stages.voices.levelling import levelled
from stages.voices.models import VoiceModel
from stages.voices.pacing import paced

SOUND, WORDS = "speech.wav", "words.json"


def promise_line(
    text: str,
    *,
    voice: str = "heart",
    language: str = "en",
    speed: float = 1.0,
    take: int = 1,
    model: VoiceModel | None = None,
    shop: Market | None = None,
    **_: Any,
) -> Clip:
    """The clip that `speak_line` will make, its length and words estimated from the characters.

    Raises InputError as `speak_line` does, but before anything is made.
    """
    request = _request(text, voice, language, speed, take)
    speaker = _speaker(voice, shop, model=model)
    speaker.check(request)
    length = expected_seconds(text) / Fraction(speed)
    words = share([reading.written for reading in readings(text, language)], Fraction(0), length)
    source = Source(Path(SOUND), _facts(SAMPLE_RATE, ceil(length * SAMPLE_RATE)), promised=True)
    return _clip(source, words, request, f"{speaker.version} {speaker.name}", speaker.trained)


def offer_line(
    text: str,
    *,
    voice: str = "heart",
    language: str = "en",
    speed: float = 1.0,
    take: int = 1,
    model: VoiceModel | None = None,
    shop: Market,
    **_: Any,
) -> Offer:
    """What it costs to have it spoken, and who gets the words. Nothing is sent."""
    return offer_lines(_speaker(voice, shop, model=model), [_request(text, voice, language, speed, take)], shop)


@job(promise_line, offer=offer_line, version=2)
def speak_line(
    text: str,
    *,
    voice: str = "heart",
    language: str = "en",
    speed: float = 1.0,
    take: int = 1,
    model: VoiceModel | None = None,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
) -> Clip:
    """Speak `text` by one `voice` and write `speech.wav` and `words.json` into `folder`.

    The sound is mono at the voice's own rate, as loud as every other, with no
    silence at its ends; when each word sounds rides on it. An installed voice
    keeps `speed` exactly, one over the network as its seller does. `model` is
    the file behind `voice: piper:FILE`, where that is known by its name alone.

    Raises InputError for what the voice cannot speak, naming one that can,
    and Struck if it broke down: another voice may do. What is bought raises
    as `draw` does, too.
    """
    request = _request(text, voice, language, speed, take)
    speaker = _speaker(voice, shop, folder, keys, model)
    try:
        speech = speaker.speak(request) if isinstance(speaker, Hired) else paced(speaker, request)
    except ProviderUnavailable as error:
        if isinstance(speaker, Hired) and speaker.may_come(request):
            raise
        seller = speaker.seller.name if isinstance(speaker, Hired) else voice
        raise Struck((shop or Market(date.today())).without(seller, error), error) from None
    folder.mkdir(parents=True, exist_ok=True)
    speech = replace(levelled(speech), words=as_written(speech.words, readings(text, language)))
    _write_sound(speech, folder / SOUND)
    _write_words(text, request, speech, speaker.trained, folder / WORDS)
    return read_speech(folder)


def _speaker(
    voice: str,
    shop: Market | None,
    folder: Path | None = None,
    keys: frozenset[str] = frozenset(),
    model: VoiceModel | None = None,
) -> Voice:
    """Raises InputError if there is none of that name, and if it broke down before."""
    if shop and voice in shop.struck:
        raise InputError(str(shop.struck[voice]), "voice") from shop.struck[voice]
    return voice_named(voice, shop, folder, keys, model)


def read_speech(folder: Path) -> Clip:
    """The clip that `speak_line` made in `folder`. Raises InputError if there is none."""
    try:
        kept = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        with wave.open(str(folder / SOUND), "rb") as file:
            facts = _facts(file.getframerate(), file.getnframes())
    except (OSError, ValueError, EOFError, wave.Error) as error:
        raise InputError(f"{folder}: holds no speech ({error})") from None
    rate = kept["sample_rate"]
    words = tuple(Word(w["text"], Fraction(w["start"], rate), Fraction(w["end"], rate)) for w in kept["words"])
    request = SpeechRequest(kept["text"], kept["voice"], kept["language"], kept["speed"])
    return _clip(Source((folder / SOUND).absolute(), facts), words, request, kept["agent"], kept.get("trained", True))


def _request(text: str, voice: str, language: str, speed: float, take: int) -> SpeechRequest:
    """What the voice is given to say, and what was written."""
    if take < 1:
        raise InputError(f"should be 1 or more, not {take}", "take")
    aloud = said(readings(text, language))
    return SpeechRequest(aloud, voice, language, float(speed), seed=take - 1, take=take, written=text)


def _clip(source: Source, words: tuple[Word, ...], request: SpeechRequest, agent: str, trained: bool) -> Clip:
    wanted = (("text", request.written or request.text), ("voice", request.voice))
    asked = (*wanted, ("language", request.language), ("speed", str(request.speed)))
    action = Action("speak", asked, agent, source.path, ai=trained)
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


def _write_words(text: str, request: SpeechRequest, speech: Speech, trained: bool, target: Path) -> None:
    """Times are samples at `sample_rate`: exact, and whole numbers."""
    rate = speech.sample_rate
    words = [{"text": w.text, "start": int(w.start * rate), "end": int(w.end * rate)} for w in speech.words]
    kept = {
        "text": text,
        "voice": request.voice,
        "language": request.language,
        "speed": request.speed,
        "agent": speech.agent,
        "timing": speech.timing,
        "trained": trained,
        "sample_rate": rate,
        "words": words,
    }
    with attempt(target) as part:
        part.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
