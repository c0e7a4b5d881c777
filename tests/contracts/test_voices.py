"""What every voice promises. A voice of another package is tested once it is installed."""

from __future__ import annotations

import array
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest

from stages import plugins
from stages.errors import InputError
from stages.voices import Speech, SpeechRequest, Voice

LINE = "Now in three colours: rose, citrus and mint."


VOICES = {name: plugins.find("pipeline.voices", name) for name in plugins.names("pipeline.voices")}
"""Every voice that is installed."""


@pytest.fixture(params=list(VOICES.values()), ids=list(VOICES), scope="module")
def voice(request: pytest.FixtureRequest) -> Iterator[Voice]:
    speaker: Voice = request.param
    yield speaker
    if close := getattr(speaker, "close", None):
        close()


@pytest.fixture(scope="module")
def request_(voice: Voice) -> SpeechRequest:
    return SpeechRequest(LINE, voice.name, voice.languages[0])


@pytest.fixture(scope="module")
def speech(voice: Voice, request_: SpeechRequest) -> Speech:
    return voice.speak(request_)


def test_a_voice_says_who_it_is(voice: Voice, speech: Speech) -> None:
    assert voice.name
    assert voice.version
    assert voice.languages == tuple(language.lower() for language in voice.languages)
    assert voice.name in speech.agent


def test_it_speaks_at_the_pace_of_speech(speech: Speech) -> None:
    assert 8 < len(LINE) / speech.duration < 25
    assert speech.sample_rate >= 16_000
    assert len(speech.pcm) == 2 * speech.samples


def test_it_is_heard_and_does_not_clip(speech: Speech) -> None:
    samples = array.array("h", speech.pcm)
    assert 1000 < max(map(abs, samples)) < 32_767


def test_no_silence_is_left_at_the_ends(speech: Speech) -> None:
    samples = array.array("h", speech.pcm)
    tenth, loudest = speech.sample_rate // 10, max(map(abs, samples))
    assert max(map(abs, samples[:tenth])) > loudest / 100
    assert max(map(abs, samples[-tenth:])) > loudest / 100


def test_its_words_are_those_written(speech: Speech) -> None:
    assert " ".join(word.text for word in speech.words) == LINE


def test_its_words_come_one_after_the_other(speech: Speech) -> None:
    edges = [edge for word in speech.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= speech.duration
    assert all(isinstance(edge, Fraction) for edge in edges)
    assert speech.timing in ("exact", "proportional")


def test_it_says_the_same_the_same_way(voice: Voice, request_: SpeechRequest, speech: Speech) -> None:
    assert voice.speak(request_) == speech


def test_faster_is_shorter(voice: Voice, request_: SpeechRequest, speech: Speech) -> None:
    assert voice.speak(replace(request_, speed=1.5)).duration < speech.duration * Fraction(9, 10)


@pytest.mark.parametrize("text", ["", "  \n ", "… — !", "😀"])
def test_nothing_to_say_is_refused(voice: Voice, request_: SpeechRequest, text: str) -> None:
    for refuse in (voice.check, voice.speak):
        with pytest.raises(InputError, match="nothing to speak"):
            refuse(replace(request_, text=text))


def test_a_language_that_it_lacks_is_refused(voice: Voice, request_: SpeechRequest) -> None:
    for refuse in (voice.check, voice.speak):
        with pytest.raises(InputError, match="'x-klingon'"):
            refuse(replace(request_, language="x-klingon"))
