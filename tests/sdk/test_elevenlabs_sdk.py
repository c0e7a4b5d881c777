"""ElevenLabs' own SDK, unchanged, against our simulator."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from forks import serving

from stages.filetypes import HEAD, filetype_of
from stages.simulators.speech import hum

pytest.importorskip("elevenlabs")
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError

ROOT = Path(__file__).resolve().parents[2]
LINE = "Now in three colours: rose, citrus and mint."
GEORGE = "JBFqnCBsd6RMkjVDRZzb"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[ElevenLabs]:
    options = ("--latency", "0", "--settle", "0", "--state", state)
    with (
        serving("stages.simulators.elevenlabs", *options) as url,
        httpx.Client() as line,  # the SDK closes none of its own
    ):
        yield ElevenLabs(api_key="none", base_url=url.removesuffix("/v1"), httpx_client=line)


def test_the_sdk_has_a_line_spoken_and_timed(client: ElevenLabs, state: Path) -> None:
    answer = client.text_to_speech.convert_with_timestamps(
        GEORGE, text=LINE, model_id="eleven_flash_v2_5", output_format="pcm_24000"
    )
    line = hum(LINE)
    assert base64.b64decode(answer.audio_base_64) == line.pcm
    assert answer.alignment
    assert "".join(answer.alignment.characters) == LINE
    citrus = LINE.index("citrus")
    assert abs(answer.alignment.character_start_times_seconds[citrus] - float(line.words[5].start)) < 0.002
    assert abs(answer.alignment.character_end_times_seconds[citrus + 5] - float(line.words[5].end)) < 0.002
    sold = json.loads((state / "sales.jsonl").read_text().splitlines()[-1])
    assert (sold["model"], sold["asked"]["voice"]) == ("eleven_flash_v2_5", GEORGE)


def test_the_sdk_gets_the_sound_alone(client: ElevenLabs) -> None:
    sound = b"".join(client.text_to_speech.convert(GEORGE, text=LINE, model_id="eleven_multilingual_v2"))
    kind = filetype_of(sound[:HEAD])
    assert kind
    assert kind.suffix == ".mp3"


def test_the_sdk_understands_what_is_wrong(client: ElevenLabs, state: Path) -> None:
    def refused(**wrong: object) -> tuple[int | None, str]:
        with pytest.raises(ApiError) as error:
            client.text_to_speech.convert_with_timestamps(**{"voice_id": GEORGE, "text": LINE, **wrong})  # type: ignore[arg-type]
        return error.value.status_code, error.value.body["detail"]["status"]

    before = (state / "sales.jsonl").read_text()
    assert refused(voice_id="nobody") == (404, "voice_not_found")
    assert refused(text="a" * 10_001) == (400, "max_character_limit_exceeded")
    assert refused(model_id="eleven_v9") == (400, "model_not_found")
    assert refused(output_format="pcm_44100") == (403, "output_format_not_allowed")
    assert refused(voice_settings={"speed": 1.5}) == (400, "invalid_voice_settings")
    assert refused(text="[moderated]") == (400, "content_against_policy")
    busy = {"request_options": {"additional_headers": {"X-Sim-Fault": "429=0"}, "max_retries": 0}}
    assert refused(**busy) == (429, "too_many_concurrent_requests")
    assert (state / "sales.jsonl").read_text() == before
