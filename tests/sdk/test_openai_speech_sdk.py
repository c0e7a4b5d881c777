"""OpenAI's own SDK, unchanged, has lines spoken by our simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_openai_sdk import simulator

from stages.filetypes import HEAD, filetype_of
from stages.simulators.speech import RATE, hum
from stages.voices.sounds import pcm_of, sound_in

openai = pytest.importorskip("openai")

LINE = "Now in three colours: rose, citrus and mint."


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    with simulator(state) as url:
        yield url


def asked(state: Path) -> list[dict[str, object]]:
    log = state / "sales.jsonl"
    return [json.loads(line)["asked"] for line in log.read_text().splitlines()] if log.exists() else []


def test_the_sdk_has_a_line_spoken(url: str, state: Path) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        wav = client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="marin", input=LINE, instructions="warm", response_format="wav", speed=1.25
        )
        pcm = client.audio.speech.create(model="tts-1", voice="nova", input=LINE, response_format="pcm").content
    assert wav.response.headers["content-type"] == "audio/wav"
    assert wav.content[4:8] == b"\xff" * 4, "OpenAI's WAV is sent while it is made, and does not know its length"
    assert pcm_of(wav.content) == (hum(LINE, 1.25).pcm, RATE)
    assert pcm == hum(LINE).pcm
    assert [each["model"] for each in asked(state)[-2:]] == ["gpt-4o-mini-tts", "tts-1"]


@pytest.mark.parametrize("form", ["mp3", "opus", "flac"])
def test_the_sdk_gets_the_format_that_it_asks_for(url: str, tmp_path: Path, form: str) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        usual = {} if form == "mp3" else {"response_format": form}
        with client.audio.speech.with_streaming_response.create(
            model="tts-1-hd", voice="onyx", input=LINE, **usual
        ) as answer:
            answer.stream_to_file(tmp_path / "line")
    kind = filetype_of((tmp_path / "line").read_bytes()[:HEAD])
    assert kind
    assert kind.suffix == {"mp3": ".mp3", "opus": ".ogg", "flac": ".flac"}[form]
    pcm, rate, words = sound_in(tmp_path / "line")
    assert abs(len(pcm) / 2 / rate - len(hum(LINE).pcm) / 2 / RATE) < 0.1
    assert words == ()


def test_the_sdk_understands_what_is_wrong(url: str, state: Path) -> None:
    before = len(asked(state))
    good = {"model": "tts-1", "voice": "nova", "input": LINE}
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        for wrong, param in (
            ({"voice": "marin"}, "voice"),
            ({"input": ""}, "input"),
            ({"input": "a" * 4097}, "input"),
            ({"speed": 5}, "speed"),
            ({"response_format": "midi"}, "response_format"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                client.audio.speech.create(**{**good, **wrong})
            assert refused.value.param == param
        with pytest.raises(openai.BadRequestError) as refused:
            client.audio.speech.create(**{**good, "input": "[moderated]"})
        assert refused.value.code == "content_policy_violation"
        with pytest.raises(openai.NotFoundError) as absent:
            client.audio.speech.create(**{**good, "model": "tts-9"})
        assert absent.value.code == "model_not_found"
        with pytest.raises(openai.RateLimitError):
            client.audio.speech.create(**good, extra_headers={"X-Sim-Fault": "429=1"})
    assert len(asked(state)) == before
