"""A line becomes a sound that knows its words; what cannot be spoken is told before anything is made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.clip import Clip, SoundFacts, Source, Word, origins
from stages.errors import InputError, ProviderUnavailable
from stages.speech import promise_line, read_speech, speak_line
from stages.voices import Speech, SpeechRequest, check_latin, espeak_language, share
from stages.voices.hibari import Heart, group_spans, joined, shared_spans, split, trimmed, word_spans
from stages.voices.hibari import heart as embedded
from stages.voices.pacing import stretched

LINE = "Now in three colours: rose, citrus and mint."
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def silent_afterwards() -> Iterator[None]:
    yield
    embedded.close()


@pytest.fixture(scope="module")
def voice() -> Iterator[Heart]:
    """A voice whose child may be maltreated."""
    speaker = Heart()
    yield speaker
    speaker.close()


def served(voice: Heart, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the next child run `code`."""
    voice.close()
    monkeypatch.setattr("stages.voices.hibari.SERVE", code)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return speak_line(LINE, folder=tmp_path_factory.mktemp("speak"))


def source_of(clip: Clip) -> Source:
    assert clip.sound
    assert isinstance(clip.sound.stream, Source)
    return clip.sound.stream


def words_of(clip: Clip) -> tuple[Word, ...]:
    assert clip.sound
    return clip.sound.words


# ---------------------------------------------------------------- the job


def test_a_line_becomes_a_wav_file_and_its_words(clip: Clip) -> None:
    file = source_of(clip).path
    with wave.open(str(file), "rb") as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
        samples = sound.getnframes()
    assert source_of(clip).facts == SoundFacts("pcm_s16le", "", 24_000, 1, "mono", samples, bit_rate=384_000)
    assert clip.sound
    assert clip.sound.samples == 2 * samples  # counted at 48 kHz
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["speech.wav", "words.json"]


def test_its_length_is_plausible(clip: Clip) -> None:
    assert 2 < clip.duration < 4
    assert abs(promise_line(LINE).duration / clip.duration - 1) < Fraction(1, 4)


def test_its_words_are_those_written_inside_its_length(clip: Clip) -> None:
    words = words_of(clip)
    assert [word.text for word in words] == LINE.split()
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= clip.duration
    assert all(word.start < word.end for word in words)


def test_the_model_itself_says_when_a_word_sounds(clip: Clip) -> None:
    said = json.loads(source_of(clip).path.with_name("words.json").read_text())
    assert said["timing"] == "exact"
    *_, colours, rose, _, _, _ = words_of(clip)
    assert rose.start - colours.end > Fraction(1, 20)  # the colon is a pause and no part of a word


def test_the_record_says_who_spoke(clip: Clip) -> None:
    (action,) = clip.history
    assert action.name == "speak"
    assert action.agent == "hibari-tts 0.2.1 heart"
    assert action.parameters == (("text", LINE), ("voice", "heart"), ("language", "en"), ("speed", "1.0"))
    (origin,) = origins(clip.history)
    assert (origin.file, origin.ai) == (source_of(clip).path, True)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_a_pace_is_kept_to_the_sample_and_the_words_with_it(clip: Clip, tmp_path: Path, speed: float) -> None:
    own = source_of(clip).facts
    other = speak_line(LINE, speed=speed, folder=tmp_path)
    facts = source_of(other).facts
    assert isinstance(own, SoundFacts)
    assert isinstance(facts, SoundFacts)
    assert facts.samples == round(own.samples / Fraction(speed))
    assert [word.text for word in words_of(other)] == LINE.split()
    for mine, its in zip(words_of(clip), words_of(other), strict=True):  # a pause scales less than a vowel
        assert abs(mine.start / Fraction(speed) - its.start) < Fraction(8, 100)
    assert words_of(other)[-1].end <= other.duration


def test_words_that_are_stretched_stay_where_they_sound() -> None:
    rate, click, tempo = 24_000, 12_000, Fraction(4, 5)
    pcm = array("h", [0] * 24_000)
    pcm[click : click + 240] = array("h", [20_000, -20_000] * 120)
    given_ = Speech(pcm.tobytes(), rate, (Word("click", Fraction(1, 2), Fraction(51, 100)),), "exact", "a test")
    made = stretched(given_, 19_200)
    samples = array("h", made.pcm)
    loudest = max(range(len(samples)), key=lambda at: abs(samples[at]))
    assert (made.samples, made.words[0].start) == (19_200, tempo / 2)
    assert abs(Fraction(loudest, rate) - made.words[0].start) < Fraction(15, 1000)


def test_it_can_be_read_back(clip: Clip, tmp_path: Path) -> None:
    again = read_speech(source_of(clip).path.parent)
    assert (again, again.history) == (clip, clip.history)
    with pytest.raises(InputError, match="holds no speech"):
        read_speech(tmp_path)


def test_the_same_line_has_the_same_samples_in_another_process(clip: Clip, tmp_path: Path) -> None:
    embedded.close()
    again = speak_line(LINE, folder=tmp_path)
    assert source_of(again).path.read_bytes() == source_of(clip).path.read_bytes()
    assert words_of(again) == words_of(clip)


def test_many_sentences_are_one_sound(tmp_path: Path) -> None:
    sentences = [f"Sentence {number} has come — and gone." for number in range(40)]
    clip = speak_line(" ".join(sentences), folder=tmp_path)
    words = words_of(clip)
    first = ["Sentence", "0", "has", "come —", "and", "gone."]
    assert [word.text for word in words[:6]] == first
    assert len(words) == 240
    pauses = [after.start - before.end for before, after in zip(words[5::6], words[6::6], strict=False)]
    assert len(pauses) == 39
    assert all(Fraction(1, 4) <= pause < Fraction(1, 2) for pause in pauses)


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith's clinic — open at 9:30am — costs $9.99 & up!",
        '“Nothing,” she said, “is impossible.” 😀 "Go." (Or stay.)',
        "😀 hello",
        "wait... what?\n\nA new paragraph\nand a line",
        "It cost $3.2 billion on Jan. 5th, 2019.",
    ],
)
def test_nothing_written_is_lost(tmp_path: Path, text: str) -> None:
    assert " ".join(word.text for word in words_of(speak_line(text, folder=tmp_path))) == " ".join(text.split())


def test_a_sentence_longer_than_the_model_takes_is_spoken_whole(tmp_path: Path) -> None:
    text = "one two three four five " * 40
    clip = speak_line(text, folder=tmp_path)
    assert [word.text for word in words_of(clip)] == text.split()
    assert 40 < clip.duration < 120


# ---------------------------------------------------------------- what cannot be spoken


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("现在有三种颜色", "language: cmn"),
        ("Hello 世界, welcome", "language: cmn"),
        ("漢字とかな", "language: ja"),
        ("Сейчас в трёх цветах", "language: ru"),
        ("Καλημέρα", "language: el"),
        ("الآن", "language: ar"),
        ("지금", "language: ko"),
    ],
)
def test_another_script_is_refused_with_a_voice_that_reads_it(text: str, language: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=language) as planned:
        promise_line(text)
    assert "afterframe[espeak]" in str(planned.value)
    with pytest.raises(InputError, match=language):
        speak_line(text, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("language", "other"), [("de", "de"), ("pt-BR", "pt-br"), ("zh-CN", "cmn"), ("en-GB", "en-gb")]
)
def test_another_language_is_refused_with_a_voice_that_speaks_it(language: str, other: str) -> None:
    with pytest.raises(InputError, match=rf"not '{language}'; use voice: espeak with language: {other} "):
        promise_line("Jetzt in drei Farben.", language=language)


def test_a_language_that_nobody_speaks_is_refused() -> None:
    with pytest.raises(InputError, match=r"voice heart speaks en, en-us, not 'tlh'$"):
        promise_line("nuqneH", language="tlh")


@pytest.mark.parametrize("language", ["en", "en-US", "en_us"])
def test_english_has_more_than_one_name(language: str) -> None:
    assert promise_line(LINE, language=language).promised


@pytest.mark.parametrize("text", ["5 µm of β-carotene", "π is 3.14", "Crème brûlée à la Łódź", "x² at 20 °C", "№ 5"])
def test_letters_that_english_borrows_pass(text: str) -> None:
    check_latin(embedded, text)


def test_an_unknown_voice_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no voice 'hart' \(did you mean heart\?\)"):
        promise_line(LINE, voice="hart")


@pytest.mark.parametrize("speed", [0, 0.49, 2.01, -1, float("nan")])
def test_a_speed_that_the_voice_lacks_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match=r"0\.5 to 2 times"):
        promise_line(LINE, speed=speed)


def test_too_much_is_refused() -> None:
    with pytest.raises(InputError, match="20001 characters are too many"):
        promise_line("a " * 10_000 + "b")
    with pytest.raises(InputError, match="201 characters and no space"):
        promise_line("a" * 201)


def test_what_the_voice_stumbles_over_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot pronounce '1111"):
        speak_line("Take " + "1" * 90, folder=tmp_path)
    assert speak_line("Take one.", folder=tmp_path).duration > 0  # the child serves on


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'afterframe\[local\]'"):
        promise_line(LINE)


def test_a_promise_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = promise_line(LINE, speed=2, folder=tmp_path / "none")
    assert clip.promised
    assert abs(clip.duration - promise_line(LINE).duration / 2) < Fraction(1, 10_000)
    assert words_of(clip)[-1].end <= clip.duration
    assert clip.history[0].agent == "hibari-tts 0.2.1 heart"
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the child


def pid_of(voice: Heart) -> int:
    assert voice._child
    return voice._child.pid


def gone(pid: int) -> bool:
    """Whether the process has ended, be it a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition: object, seconds: float = 10) -> bool:
    """Whether `condition()` comes true within `seconds`."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_a_child_killed_while_it_speaks_is_replaced(voice: Heart) -> None:
    ready = voice.speak(SpeechRequest("Ready."))
    pid = pid_of(voice)
    os.kill(pid, signal.SIGSTOP)  # so that it is sure to be asked before it dies
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    assert voice.speak(SpeechRequest("Ready.")) == ready
    assert pid_of(voice) != pid


def test_a_child_killed_whenever_it_speaks_is_a_clear_error(voice: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        served(voice, patch, "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)")
        with pytest.raises(ProviderUnavailable, match="voice heart was killed by signal 9 before it had spoken"):
            voice.speak(SpeechRequest("Ready."))
    assert voice.speak(SpeechRequest("Ready.")).duration > 0


def test_a_child_killed_between_lines_is_replaced(voice: Heart) -> None:
    voice.speak(SpeechRequest("Ready."))
    os.kill(pid_of(voice), signal.SIGKILL)
    assert voice.speak(SpeechRequest("Back again.")).duration > 0


def test_a_child_that_hangs_is_given_up(voice: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.voices.hibari.PATIENCE", 0.3)
    served(voice, monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(ProviderUnavailable, match="hung"):
        voice.speak(SpeechRequest("Ready."))


def test_a_child_that_fails_says_why(voice: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    served(voice, monkeypatch, "raise SystemExit('libgomp.so.1 is missing')")
    with pytest.raises(
        ProviderUnavailable, match=r"ended with status 1 before it had spoken: libgomp\.so\.1 is missing"
    ):
        voice.speak(SpeechRequest("Ready."))


def test_an_idle_child_leaves_and_another_comes(voice: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    served(voice, monkeypatch, "import stages.voices.hibari as h; h.IDLE = 0.1; h.serve()")
    voice.speak(SpeechRequest("Ready."))
    pid = pid_of(voice)
    assert until(lambda: gone(pid))
    assert voice.speak(SpeechRequest("Back again.")).duration > 0


def test_lines_of_many_threads_are_spoken_one_by_one(voice: Heart) -> None:
    texts = ["One.", "Two and two.", "Three and three and three."]
    alone = [voice.speak(SpeechRequest(text)) for text in texts]
    found: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda text=text: found.update({text: voice.speak(SpeechRequest(text))}))
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[text] for text in texts] == alone


STARTED = """
import sys, time
from stages.voices import SpeechRequest
from stages.voices.hibari import heart
heart.speak(SpeechRequest("Ready."))
heavy = {"numpy", "onnxruntime", "hibari", "PIL"} & set(sys.modules)
print(heart._child.pid, *heavy, flush=True)
"""


def started(then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", STARTED + then], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_the_parent_stays_small_and_its_end_is_the_childs() -> None:
    with started("") as parent:
        out, _ = parent.communicate(timeout=300)
    assert parent.returncode == 0
    pid, *heavy = out.split()
    assert not heavy
    assert until(lambda: gone(int(pid)))


def test_a_parent_that_is_killed_takes_the_child_along() -> None:
    with started("time.sleep(60)") as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert until(lambda: gone(pid), 2)


def test_a_thread_that_ends_does_not_take_the_child_along(voice: Heart) -> None:
    voice.close()
    thread = threading.Thread(target=voice.speak, args=(SpeechRequest("Ready."),))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert not gone(pid_of(voice))


# ---------------------------------------------------------------- text, pure

texts = st.lists(st.text("abcdefghij,;.", min_size=1, max_size=12), min_size=1, max_size=60)


@given(texts, st.integers(1, 80))
def test_pieces_hold_every_word_in_order_and_fit(words: list[str], limit: int) -> None:
    pieces = split(words, lambda text: len(text) <= limit)
    assert [word for piece in pieces for word in piece] == words
    assert all(len(piece) == 1 or len(" ".join(piece)) <= limit for piece in pieces)


def test_a_long_sentence_is_cut_after_a_comma() -> None:
    words = ["alpha", "beta", "gamma,", "delta", "epsilon", "zeta"]
    assert split(words, lambda text: len(text) < 30) == [words[:3], words[3:]]


@given(texts, st.fractions(0, 10), st.fractions("0.1", 10))
def test_shared_words_fill_their_time_in_order(words: list[str], start: Fraction, length: Fraction) -> None:
    laid = share(words, start, start + length)
    assert (laid[0].start, laid[-1].end) == (start, start + length)
    edges = [edge for word in laid for edge in (word.start, word.end)]
    assert edges == sorted(edges)


def test_punctuation_is_a_pause_and_no_part_of_a_word() -> None:
    #                 hˈI,  —  bˈI.
    edges = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert group_spans("hˈI, — bI.", edges) == [(0, 30), None, (70, 90)]


def test_a_written_word_may_be_several_spoken_ones() -> None:
    groups = [(0, 10), (10, 20), (30, 40), None]
    assert word_spans([2, 1, 1], groups) == [(0, 20), (30, 40), None]
    assert word_spans([2, 2, 1], groups) is None


def test_what_is_heard_before_the_first_word_is_a_part_of_it() -> None:
    assert trimmed([None, (30, 40), (50, 70)], 25, 60) == [None, (0, 15), (25, 35)]


def test_what_makes_no_sound_stays_with_the_word_before() -> None:
    assert joined(["😀", "hi", "—", "you"], [None, (0, 1), None, (2, 3)]) == [("😀 hi —", 0, 1), ("you", 2, 3)]
    assert shared_spans(["hi", "—", "you"], [True, False, True], 60) == [(0, 20), None, (30, 60)]


@pytest.mark.parametrize(
    ("tag", "name"), [("fr-CA", "fr"), ("zh-TW", "cmn"), ("zh-HK", "yue"), ("no", "nb"), ("xx", ""), ("pt_BR", "pt-br")]
)
def test_espeak_has_its_own_names(tag: str, name: str) -> None:
    assert espeak_language(tag) == name
