"""A bought line is kept as a WAV that knows its words: what is written is read, whatever else reads it too."""

from __future__ import annotations

import array
import io
import wave
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.clip import Word
from stages.errors import ProviderRefused
from stages.hiring import speech_in
from stages.simulators.speech import LEAD, RATE, hum
from stages.voices.sounds import pcm_of, sound_in, voiced, wav_of, words_of

LINE = "Now in three colours: rose, citrus and mint."

texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@st.composite
def told(draw: st.DrawFn) -> tuple[Word, ...]:
    """Words at whole samples, one after the other."""
    edges = sorted(draw(st.lists(st.integers(0, 900), min_size=2, max_size=20)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return tuple(Word(draw(texts), Fraction(start, 1000), Fraction(end, 1000)) for start, end in pairs)


@given(told(), st.sampled_from(["", "SIMULATED"]))
def test_the_words_that_were_written_are_read(words: tuple[Word, ...], comment: str) -> None:
    pcm = bytes(2 * 999)
    kept = wav_of(pcm, 1000, words, comment)
    assert words_of(kept) == words
    assert pcm_of(kept) == (pcm, 1000)
    with wave.open(io.BytesIO(kept)) as other:
        assert (other.getframerate(), other.getnchannels(), other.readframes(5000)) == (1000, 1, pcm)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 10**6])
def test_a_wav_that_does_not_know_its_length_has_what_there_is(length: int) -> None:
    kept = wav_of(b"\1\2" * 50, 24_000)
    assert pcm_of(kept[:40] + length.to_bytes(4, "little") + kept[44:]) == (b"\1\2" * 50, 24_000)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\2\0\0\0ab", b"ID3" * 20])
def test_what_is_no_wav_has_no_samples(content: bytes) -> None:
    assert pcm_of(content) is None


def test_what_is_no_sound_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "lost.wav").write_text('{"error": "no voice today"}')
    with pytest.raises(ProviderRefused, match=r"holds no sound .*lost\.wav"):
        sound_in(tmp_path / "lost.wav")
    (tmp_path / "mute.wav").write_bytes(wav_of(bytes(4800), 24_000))
    with pytest.raises(ProviderRefused, match=r"was paid and is silent; it is kept in .*mute\.wav"):
        speech_in(tmp_path / "mute.wav", LINE, "tts-1 openai-tts-1:nova")


def test_silence_around_is_cut_and_the_words_move_with_it(tmp_path: Path) -> None:
    line = hum(LINE)
    (tmp_path / "told.wav").write_bytes(wav_of(line.pcm, RATE, line.words))
    (tmp_path / "plain.wav").write_bytes(line.wav)
    exact, shared = (speech_in(tmp_path / name, LINE, "x") for name in ("told.wav", "plain.wav"))
    start, end = voiced(line.pcm, RATE)
    assert (exact.timing, shared.timing) == ("exact", "proportional")
    assert exact.pcm == shared.pcm == line.pcm[2 * start : 2 * end]
    assert abs(Fraction(start, RATE) - LEAD) < Fraction(2, 100)
    for word, real in zip(exact.words, line.words, strict=True):
        assert word.text == real.text
        assert abs(word.start + Fraction(start, RATE) - real.start) < Fraction(1, 1000)
    for word, real in zip(shared.words, exact.words, strict=True):
        assert abs(word.start - real.start) < Fraction(6, 100)
    samples = array.array("h", exact.pcm)
    word = exact.words[3]
    inside = samples[int(word.start * RATE) : int(word.end * RATE)]
    before = samples[int(word.start * RATE) - RATE // 20 : int(word.start * RATE)]
    assert max(inside) > 5000 > 50 > max(before), "a word sounds when it is said to"


def test_words_that_are_not_those_written_are_not_believed(tmp_path: Path) -> None:
    line = hum("twenty roses")
    (tmp_path / "told.wav").write_bytes(wav_of(line.pcm, RATE, line.words))
    speech = speech_in(tmp_path / "told.wav", "20 roses", "x")
    assert (speech.timing, [word.text for word in speech.words]) == ("proportional", ["20", "roses"])
