"""What every voice promises. A voice of another package is tested once it is installed."""

from __future__ import annotations

import array
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from nets import humming
from test_providers import QUICK, Stand
from test_providers import opened as open_stand

from stages import plugins
from stages.errors import InputError
from stages.hiring import Hired, voice_named
from stages.market import Market
from stages.providers.speech import Speech as SpeechAccount
from stages.voices import Speech, SpeechRequest, Voice
from stages.voices.sheets import voice_sheets

KEY = "A_SELLERS_KEY"
LINE = "Now in three colours: rose, citrus and mint."


@dataclass(frozen=True)
class Sold:
    """A voice over the network: the simulator that stands for it, and what models.yaml would say of it.

    `exact`: its words are timed by who speaks.
    """

    voice: str
    simulator: str
    dialect: str
    model: str = ""
    fastest: float = 4.0
    exact: bool = False

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Hired]:
        """The voice, at its simulator."""
        seller, _, name = self.voice.partition(":")
        stand = Stand(seller, (self.simulator, *QUICK), lambda url: SpeechAccount(url, ""))
        with open_stand(stand, folder) as opened:
            key = {"key_variable": KEY} if self.dialect != "openai-speech" else {}
            said = {**key, "base_url": opened.provider.base_url, "dialect": self.dialect, "model": self.model or seller}  # type: ignore[attr-defined]
            told = {**said, "voices": [name], "languages": ["en"], "speed": [0.5, self.fastest]}
            sheets = voice_sheets(Path("models.yaml"), {seller: told})
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(KEY, "a-key-of-ours")
                yield Hired(sheets[seller], name, Market(date.today(), frozenset({KEY}), voices=sheets), folder)


SOLD = (
    Sold("openai:marin", "stages.simulators.openai", "openai-speech", "gpt-4o-mini-tts"),
    Sold(
        "elevenlabs:JBFqnCBsd6RMkjVDRZzb", "stages.simulators.elevenlabs", "elevenlabs", "eleven_flash_v2_5", 1.2, True
    ),
    Sold("azure:en-US-JennyNeural", "stages.simulators.azure_speech", "azure-speech", fastest=2),
    Sold("google:en-US-Neural2-F", "stages.simulators.google_speech", "google-speech", fastest=2, exact=True),
    Sold("google:en-US-Chirp3-HD-Puck", "stages.simulators.google_speech", "google-speech", fastest=2),
)
"""Voices over the network: add yours here."""


@dataclass(frozen=True)
class Filed:
    """An installed voice that speaks by a model in a file, and what makes one to try it with."""

    voice: str
    make: Callable[[Path], Path]

    def opened(self, folder: Path) -> Voice:
        """The voice, with that model."""
        return voice_named(f"{self.voice}:{self.make(folder / 'en_US-hum.onnx')}")


FILED = (Filed("piper", humming),)
"""Voices that are a file: add yours here."""

VOICES = {
    **{name: plugins.find("pipeline.voices", name) for name in plugins.names("pipeline.voices")},
    **{filed.voice: filed for filed in FILED},
    **{sold.voice: sold for sold in SOLD},
}
"""Every voice that is installed, or sold."""


@pytest.fixture(params=list(VOICES.values()), ids=list(VOICES), scope="module")
def voice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Voice]:
    if isinstance(request.param, Sold):
        with request.param.opened(tmp_path_factory.mktemp("stand")) as hired:
            yield hired
        return
    if isinstance(request.param, Filed):
        yield request.param.opened(tmp_path_factory.mktemp("model"))
        return
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


def test_it_says_where_its_word_times_are_from(request: pytest.FixtureRequest, speech: Speech) -> None:
    if isinstance(sold := request.node.callspec.params["voice"], Sold):
        assert speech.timing == ("exact" if sold.exact else "proportional")


def test_it_says_the_same_the_same_way(voice: Voice, request_: SpeechRequest, speech: Speech) -> None:
    assert voice.speak(request_) == speech


def test_faster_is_shorter(voice: Voice, request_: SpeechRequest, speech: Speech) -> None:
    fastest = min(1.5, getattr(voice, "speeds", (1.0, 1.5))[1])
    longest = 1 - (1 - 1 / Fraction(fastest)) * Fraction(3, 10)  # of 1.5 times the pace 9/10
    assert voice.speak(replace(request_, speed=fastest)).duration < speech.duration * longest


@pytest.mark.parametrize("text", ["", "  \n ", "… — !", "😀"])
def test_nothing_to_say_is_refused(voice: Voice, request_: SpeechRequest, text: str) -> None:
    for refuse in (voice.check, voice.speak):
        with pytest.raises(InputError, match="nothing to speak"):
            refuse(replace(request_, text=text))


def test_a_language_that_it_lacks_is_refused(voice: Voice, request_: SpeechRequest) -> None:
    for refuse in (voice.check, voice.speak):
        with pytest.raises(InputError, match="'x-klingon'"):
            refuse(replace(request_, language="x-klingon"))
