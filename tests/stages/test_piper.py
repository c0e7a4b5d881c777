"""Piper's voices: a model in a file that hums, by the real piper-tts; and what a plan tells of a wrong one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from nets import humming

from stages.errors import InputError, ProviderUnavailable
from stages.speech import promise_line, speak_line
from stages.voices import Speech, SpeechRequest
from stages.voices.models import VoiceModel, cast, named, voice_file
from stages.voices.piper import Piper, matched, piper

LINE = "Rose of the day, citrus — and mint. And two!"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return humming(tmp_path_factory.mktemp("voices") / "en_US-hum.onnx")


@pytest.fixture(scope="module")
def speech(model: Path) -> Speech:
    return Piper(model).speak(SpeechRequest(LINE))


def test_words_sound_when_they_say_so(speech: Speech) -> None:
    assert speech.timing == "exact"
    wave = numpy.abs(numpy.frombuffer(speech.pcm, "<i2").astype(float))
    rate = speech.sample_rate
    for word in speech.words:
        assert wave[int(word.start * rate) : int(word.end * rate)].mean() > 0.1 * wave.max(), word
    for before, after in zip(speech.words, speech.words[1:], strict=False):
        gap = wave[int(before.end * rate) : int(after.start * rate)]
        assert not gap.size or gap.mean() < 0.02 * wave.max(), before


def test_words_that_run_into_each_other_are_told_apart(speech: Speech) -> None:
    of, the = (word for word in speech.words if word.text in ("of", "the"))
    assert of.end == the.start
    assert 0 < (the.end - of.start) / 2 <= of.end - of.start


def test_a_sign_that_is_not_spoken_stays_with_its_word(speech: Speech) -> None:
    assert [word.text for word in speech.words][4] == "citrus —"


def test_another_take_is_another_sound(model: Path, speech: Speech) -> None:
    again = Piper(model).speak(SpeechRequest(LINE, seed=1, take=2))
    assert again.samples == speech.samples
    assert again.pcm != speech.pcm


def test_what_looks_like_phonemes_is_text(model: Path) -> None:
    spoken = Piper(model).speak(SpeechRequest("Say [[two]] now."))
    assert [word.text for word in spoken.words] == ["Say", "[[two]]", "now."]


def test_piper_is_loaded_by_the_child_alone(model: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from stages.voices import SpeechRequest
from stages.voices.piper import Piper
Piper(Path({str(model)!r})).speak(SpeechRequest("One."))
print(*(name for name in ("piper", "onnxruntime", "numpy") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ---------------------------------------------------------------- what a plan tells


def refusal(voice: str, text: str = "One.", language: str = "en", speed: float = 1.0) -> tuple[str, str]:
    with pytest.raises(InputError) as told:
        promise_line(text, voice=voice, language=language, speed=speed)
    return str(told.value), told.value.parameter


def test_a_model_that_is_missing_is_told(model: Path, tmp_path: Path) -> None:
    assert refusal("piper")[0].startswith("voice piper needs a model: voice: piper:FILE.onnx")
    gone = tmp_path / "gone.onnx"
    assert refusal(f"piper:{gone}") == (f"voice piper:gone.onnx: {gone}: there is no such file", "voice")
    bare = shutil.copy(model, tmp_path / "bare.onnx")
    told = "voice piper:bare.onnx needs bare.onnx.json beside it, and there is none"
    assert refusal(f"piper:{bare}") == (told, "voice")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"espeak": 1}', "\udcff"])
def test_what_describes_no_voice_is_told(model: Path, tmp_path: Path, text: str) -> None:
    file = Path(shutil.copy(model, tmp_path / "odd.onnx"))
    file.with_name("odd.onnx.json").write_bytes(text.encode(errors="surrogateescape"))
    assert refusal(f"piper:{file}")[0].startswith("odd.onnx.json: describes no voice of Piper's (")


def test_an_alphabet_that_wants_downloads_is_refused(tmp_path: Path) -> None:
    file = humming(tmp_path / "zh.onnx", "zh_CN", "cmn", "pinyin")
    assert refusal(f"piper:{file}", "一", "zh-cn")[0] == (
        "voice piper:zh.onnx reads by 'pinyin', which needs more than piper-tts brings"
    )


def test_languages_are_the_models(model: Path, tmp_path: Path) -> None:
    assert Piper(model).languages == ("en-us", "en")
    german = humming(tmp_path / "de.onnx", "de_DE", "de")
    assert promise_line("Drei Farben, größer.", voice=f"piper:{german}", language="de").promised
    assert "speaks de-de, de, not 'en'; use voice: espeak with language: en" in refusal(f"piper:{german}")[0]
    older = humming(tmp_path / "fr.onnx", "", "fr")
    assert Piper(older).languages == ("fr",)
    assert "speaks English, and this is German" in refusal(f"piper:{model}", "Jetzt in drei Farben.")[0]


@pytest.mark.parametrize("speed", [0.4, 2.1])
def test_a_pace_that_it_lacks_is_told(model: Path, speed: float) -> None:
    told = f"voice piper:en_US-hum.onnx speaks at 0.5 to 2 times its pace, not {speed:g}"
    assert refusal(f"piper:{model}", speed=speed) == (told, "speed")


def test_piper_that_is_not_installed_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = "voice piper needs piper-tts (GPL): pip install 'afterframe[piper]'"
    assert refusal(f"piper:{model}") == (told, "voice")


def test_a_voice_that_takes_no_file_is_told() -> None:
    assert refusal("espeak:de") == ("voice espeak takes no file: say voice: espeak, not espeak:de", "voice")


# ---------------------------------------------------------------- what breaks down


def test_a_model_that_cannot_be_run_is_the_authors_to_mend(model: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(model, tmp_path / "torn.onnx"))
    shutil.copy(VoiceModel(model).config, VoiceModel(file).config)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match=r"voice piper:torn\.onnx cannot be run \(.+\)"):
        Piper(file).speak(SpeechRequest("One."))


def test_a_child_that_hangs_or_dies_may_do_another_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.voices.piper.PATIENCE", 0.01)
    with pytest.raises(ProviderUnavailable, match=r"piper:en_US-hum\.onnx hung"):
        Piper(model).speak(SpeechRequest("1"))
    monkeypatch.setattr("stages.voices.piper.PATIENCE", 60)
    monkeypatch.setattr("stages.voices.piper.CHILD", model.with_name("none.py"))
    with pytest.raises(ProviderUnavailable, match=r"piper:en_US-hum\.onnx broke down: .*none\.py"):
        Piper(model).speak(SpeechRequest("One."))


# ---------------------------------------------------------------- names


def test_a_file_is_known_by_what_it_holds_and_not_by_where_it_lies(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / model.name
    for file in (model, VoiceModel(model).config):
        shutil.copy(file, tmp_path)
    assert str(VoiceModel(moved)) == str(VoiceModel(model))
    assert str(tmp_path) not in str(VoiceModel(moved))
    config = json.loads(VoiceModel(moved).config.read_text())
    VoiceModel(moved).config.write_text(json.dumps({**config, "inference": {"length_scale": 1.1}}))
    assert str(VoiceModel(moved)) != str(VoiceModel(model))


def test_names_of_voices_with_and_without_a_file() -> None:
    assert [voice_file(name) for name in ("piper:a/b.onnx", "heart", "openai:marin", "piper")] == [
        "a/b.onnx",
        "",
        "",
        "",
    ]
    assert named("piper:/somewhere/b.onnx") == "piper:b.onnx"
    assert cast("openai:marin") == {"voice": "openai:marin"}
    assert cast("piper:a/b.onnx") == {"voice": "piper:b.onnx", "model": VoiceModel(Path("a/b.onnx"))}
    assert piper.name == "piper"


def test_no_folder_goes_on_record(model: Path, tmp_path: Path) -> None:
    clip = speak_line("One.", voice=f"piper:{model.name}", model=VoiceModel(model), folder=tmp_path)
    (action,) = clip.history
    assert action.ai
    assert action.agent.endswith(" piper:en_US-hum.onnx")
    assert str(model.parent) not in str(replace(action, file=None))
    assert str(model.parent) not in (tmp_path / "words.json").read_text()


# ---------------------------------------------------------------- word times, pure


def test_a_word_with_no_sound_of_its_own_leaves_times_to_the_characters() -> None:
    sounds = [("a", 0, 10), ("b", 10, 20), ("c", 30, 40)]
    assert matched(["ab", "c"], sounds) == [(0, 20), (30, 40)]
    assert matched(["ab", "", "c"], sounds) == [(0, 20), None, (30, 40)]
    assert matched(["ab", "x", "c"], sounds) is None
    assert matched(["ab"], []) is None
