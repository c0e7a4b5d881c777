"""What sellers of speech are sent, and what is made of their answers: escaped text, word times, refusals."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from forks import serving
from hypothesis import given
from hypothesis import strategies as st

from stages.clip import Size
from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.providers import VideoRequest, elevenlabs, google_speech
from stages.providers.azure_speech import AzureSpeech, ssml
from stages.providers.elevenlabs import ElevenLabs, words_in
from stages.providers.google_speech import LONGEST, GoogleSpeech, fields
from stages.providers.handover import Handover
from stages.simulators.azure_speech import cut, read
from stages.simulators.google_speech import ordered
from stages.simulators.speech import RATE, hum
from stages.voices.sounds import pcm_of, wav_of, words_of

ROOT = Path(__file__).resolve().parents[2]
LINE = "Now in three colours: rose, citrus & <mint>."
JENNY = VideoRequest(LINE, "neural", Size(0, 0), 0, work="speak", options=(("voice", "en-US-JennyNeural"),))
NEURAL = replace(JENNY, model="text-to-speech", options=(("voice", "en-US-Neural2-F"), ("speed", "1")))
GEORGE = replace(JENNY, model="eleven_flash_v2_5", options=(("voice", "JBFqnCBsd6RMkjVDRZzb"),))
# A lambda: hypothesis takes the bare str.split for what lets every text through, and " " is one that it does not.
lines = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).filter(
    lambda said: bool(said.split())
)


# ---------------------------------------------------------------- SSML


@given(lines)
def test_text_is_data_in_ssml(text: str) -> None:
    name, said, speed = read(ssml(replace(JENNY, prompt=text)).encode())
    assert (name, said, speed) == ("en-US-JennyNeural", text, 1.0)
    marked, _, _, _ = ordered(fields(replace(NEURAL, prompt=text)))
    assert marked == [(word, (str(number),)) for number, word in enumerate(text.split())]


def test_ssml_of_an_author_does_not_get_through() -> None:
    said = ssml(replace(JENNY, prompt='Hi</voice><voice name="x">there'))
    assert said.count("<voice") == 1
    assert "&lt;/voice&gt;" in said


@pytest.mark.parametrize(("speed", "rate"), [("1", None), ("1.25", "+25%"), ("0.5", "-50%")])
def test_speed_is_a_change_in_percent_and_1_costs_no_characters(speed: str, rate: str | None) -> None:
    said = ssml(replace(JENNY, options=(*JENNY.options, ("speed", speed))))
    assert ("prosody" in said) == bool(rate)
    assert read(said.encode())[2] == float(speed)
    assert f'rate="{rate}"' in said or not rate


def test_marks_are_left_out_where_they_do_not_fit_or_are_not_known() -> None:
    assert fields(NEURAL)["enableTimePointing"] == ["SSML_MARK"]
    for plain in (
        replace(NEURAL, prompt="word " * 500),
        replace(NEURAL, options=(("voice", "en-US-Chirp3-HD-Puck"),)),
    ):
        body = fields(plain)
        assert body["input"] == {"text": plain.prompt}
        assert "enableTimePointing" not in body
    assert len("word " * 500) < LONGEST


# ---------------------------------------------------------------- answers


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5), st.floats(0.01, 0.2))
def test_words_are_what_stands_between_spaces(texts: list[str], each: float) -> None:
    text = " ".join(texts)
    starts = [number * each for number in range(len(text))]
    words = words_in(list(text), starts, [start + each for start in starts])
    assert [word.text for word in words] == texts
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert abs(words[-1].end - Fraction(len(text) * each)) < Fraction(1, 1000)


ALIGNED: Mapping[str, Any] = {
    "characters": list("a b"),
    "character_start_times_seconds": [0.3, 0.4, 0.5],
    "character_end_times_seconds": [0.4, 0.5, 0.6],
}


@pytest.mark.parametrize(
    "alignment",
    [
        None,
        {},
        {"characters": ["a"]},
        {**ALIGNED, "character_end_times_seconds": [1.0]},
        {**ALIGNED, "characters": [1, 2, 3]},
    ],
)
def test_times_that_make_no_sense_lose_no_sound(alignment: Any) -> None:
    pcm = hum("a b").pcm
    kept = elevenlabs.told({"audio_base64": base64.b64encode(pcm).decode(), "alignment": alignment}, "a b")
    assert pcm_of(kept) == (pcm, RATE)
    assert words_of(kept) == ()
    good = elevenlabs.told({"audio_base64": base64.b64encode(pcm).decode(), "alignment": ALIGNED}, "a b")
    assert [float(word.start) for word in words_of(good)] == [0.3, 0.5]


POINTS: Sequence[Sequence[tuple[str, float]]] = ([], [("0", 0.3)], [("x", 1)], [("0", 0.9), ("1", 0.2)])


@pytest.mark.parametrize("points", POINTS)
def test_marks_that_make_no_sense_lose_no_sound(points: Sequence[tuple[str, float]]) -> None:
    line = hum("a b")
    told = [{"markName": name, "timeSeconds": seconds} for name, seconds in points]
    answer = {"audioContent": base64.b64encode(line.wav).decode(), "timepoints": told}
    kept = google_speech.told(answer, "a b")
    assert (pcm_of(kept), words_of(kept)) == ((line.pcm, RATE), ())


def test_an_answer_without_a_sound_may_have_been_paid() -> None:
    for told in (elevenlabs.told, google_speech.told):
        for content in (None, "", "no base64!"):
            with pytest.raises(ProviderUnavailable, match="without a sound"):
                told({"audio_base64": content, "audioContent": content}, "a")
    mp3 = b"ID3 whatever it is"
    assert google_speech.told({"audioContent": base64.b64encode(mp3).decode()}, "a") == mp3


# ---------------------------------------------------------------- on the line


@contextlib.contextmanager
def server(name: str, folder: Path, *options: str) -> Iterator[str]:
    given = ("--latency", "0", "--settle", "0", *options, "--state", str(folder))
    with serving(f"stages.simulators.{name}", *given) as url:
        yield url


SELLERS: Mapping[str, tuple[type[Handover], str, VideoRequest]] = {
    "elevenlabs": (ElevenLabs, "ELEVENLABS_API_KEY", GEORGE),
    "azure_speech": (AzureSpeech, "AZURE_SPEECH_KEY", JENNY),
    "google_speech": (GoogleSpeech, "GOOGLE_API_KEY", NEURAL),
}


@pytest.mark.parametrize("name", SELLERS)
def test_a_seller_is_understood(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, variable, request = SELLERS[name]
    with server(name, tmp_path, "--fault", "429=7*1") as url:
        seller = make(url)
        with pytest.raises(ProviderRefused, match=f"{seller.name} needs a key: set {variable}"):
            seller.order(request, "key")
        monkeypatch.setenv(variable, "a-key-of-ours")
        with pytest.raises(Later) as later:
            seller.order(request, "key")
        assert later.value.seconds == 7
        goods = seller.order(request, "key")
        assert isinstance(goods, bytes)
        assert pcm_of(goods) == (hum(LINE).pcm, RATE)
        told = words_of(goods)
        assert bool(told) == (name != "azure_speech")
        for word, real in zip(told, hum(LINE).words, strict=bool(told)):
            assert (word.text, abs(word.start - real.start) < Fraction(1, 1000)) == (real.text, True)
        for wrong, failure in (
            ({"prompt": "[moderated]"}, "moderation_input"),
            ({"options": (("voice", "Nobody"),)}, "invalid_request"),
        ):
            with pytest.raises(ProviderRefused) as refused:
                seller.order(replace(request, **wrong), "key")
            assert refused.value.failure == failure
            assert refused.value.text
        assert len((tmp_path / "sales.jsonl").read_text().splitlines()) == 1


def test_azure_is_as_strict_as_it_says_and_cuts_what_is_too_long(tmp_path: Path) -> None:
    good = {
        "Ocp-Apim-Subscription-Key": "a-key-of-ours",
        "Content-Type": "application/ssml+xml",
        "X-Microsoft-OutputFormat": "riff-24khz-16bit-mono-pcm",
        "User-Agent": "test",
    }
    with server("azure_speech", tmp_path) as url, httpx.Client(base_url=url) as client:

        def status(body: str = ssml(JENNY), **headers: str | None) -> int:
            wanted = {**good, **{name.replace("_", "-"): value for name, value in headers.items()}}
            sent = httpx.Headers([(name, value) for name, value in wanted.items() if value is not None])
            return client.post("/v1", content=body, headers=sent).status_code

        assert status() == 200
        assert status(Ocp_Apim_Subscription_Key=None) == 401
        assert status(Content_Type="text/plain") == 415
        assert status(X_Microsoft_OutputFormat="riff-96khz") == 400
        assert status(User_Agent="") == 400
        assert status("<speak>") == 400
    assert len(cut(hum(LINE), 2).pcm) == 2 * RATE * 2


def test_azures_region_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_SPEECH_REGION", raising=False)
    with pytest.raises(InputError, match="AZURE_SPEECH_REGION should name the region"):
        AzureSpeech()
    monkeypatch.setenv("AZURE_SPEECH_REGION", "westeurope")
    assert AzureSpeech().account == "westeurope.tts.speech.microsoft.com"
    monkeypatch.setenv("AZURE_SPEECH_REGION", "evil.example.com/")
    with pytest.raises(InputError):
        AzureSpeech()


def test_a_wav_keeps_its_words_whoever_told_them() -> None:
    line = hum("a b")
    assert words_of(wav_of(line.pcm, RATE, line.words)) == line.words
