"""Who talks in a film is heard, under its noise too, and nobody is heard where nobody talks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import film, sound_of

from stages import mix_audio, open_clip, trim
from stages.ingestion import ingest
from stages.listening import said_of, spans, speech_in

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def talking(media: Path) -> Path:
    """A voice from 1 s to 2.5 s in the wind, and a hit now and then."""
    wind = "anoisesrc=color=pink:seed=1:a=0.05:r=48000:d=4"
    hits = "aevalsrc='0.5*exp(-60*mod(t,1.1))*sin(2*PI*180*t)':s=48000:d=4"
    graph = "[0]atrim=end=1.5,adelay=1000[v];[v][1][2]amix=inputs=3:normalize=0:duration=longest[a]"
    return film(
        media / "talking.mp4",
        *("-i", str(FIXTURES / "narration.wav"), "-f", "lavfi", "-i", wind, "-f", "lavfi", "-i", hits),
        *("-f", "lavfi", "-i", "color=s=64x64:r=24:d=4", "-filter_complex", graph, "-map", "3:v", "-map", "[a]"),
    )


def test_a_voice_is_heard_in_the_wind_and_told(talking: Path, tmp_path: Path) -> None:
    found = ingest(talking, open_clip(talking), folder=tmp_path)
    ((begin, end),) = found.speech
    assert float(begin) == pytest.approx(1, abs=0.15)
    assert float(end) == pytest.approx(2.5, abs=0.15)
    (told,) = found.remarks
    assert told.startswith("speech in ")
    assert told.endswith(" s of its own sound: mix_audio keeps it, replace_audio does not")


def test_wind_hits_and_yawns_are_no_speech(talking: Path) -> None:
    assert speech_in(sound_of(trim(open_clip(talking), start="2.7s"))) == ()
    assert speech_in(sound_of(FIXTURES / "bunny.mp4")) == ()


def test_what_was_heard_before_changes_nothing(talking: Path) -> None:
    """The model remembers; cut off in the middle of a word, the next sound would begin with the rest of it."""
    whole, middle = sound_of(talking), sound_of(trim(open_clip(talking), start="1.2s", length="0.8s"))
    first = speech_in(middle)
    assert first
    speech_in(whole)
    assert speech_in(middle) == first
    assert speech_in(sound_of(FIXTURES / "bunny.mp4")) == ()


def test_a_narration_by_itself_is_nothing_to_warn_of(tmp_path: Path) -> None:
    voice = FIXTURES / "narration.wav"
    assert ingest(voice, open_clip(voice), folder=tmp_path).speech == ()


def test_an_edited_sound_is_heard_as_it_became(talking: Path) -> None:
    clip = mix_audio(
        trim(open_clip(talking), start="2.7s"), sound=trim(open_clip(FIXTURES / "narration.wav"), length="1s")
    )
    ((begin, _),) = speech_in(sound_of(clip))
    assert begin < Fraction(1, 5)


@given(st.lists(st.floats(0, 1), max_size=200))
def test_spans_are_in_order_apart_and_long_enough(likelihoods: list[float]) -> None:
    found = spans(likelihoods)
    edges = [edge for span in found for edge in span]
    assert edges == sorted(edges)
    assert all(end - begin >= Fraction(1, 4) for begin, end in found)
    assert all(b[0] - a[1] >= Fraction(1, 2) for a, b in pairwise(found))
    assert found == () or max(likelihoods) >= 0.5


def test_it_is_told_in_tenths_of_a_second() -> None:
    one, other = (Fraction(123, 100), Fraction(7, 2)), (Fraction(5), Fraction(611, 100))
    assert said_of([one]) == "speech in 1.2-3.5 s of its own sound"
    assert said_of([one, other]) == "speech in 1.2-3.5 s and 5-6.1 s of its own sound"
    assert said_of([]) == ""
