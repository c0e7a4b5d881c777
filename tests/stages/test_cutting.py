"""`trim` keeps exactly the frames that were asked for, and the sound, words and captions that belong to them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, picture_of, sound_of

from stages import Clip, Cue, InputError, Word, strip_audio, trim
from stages.clip import Action, Captions, PictureFacts, Size, samples_for
from stages.media import clip_from

WORDS = tuple(Word(str(i), Fraction(i, 5), Fraction(i, 5) + Fraction(3, 20)) for i in range(15))
CUES = tuple(Cue(str(i), Fraction(i, 2), Fraction(i, 2) + Fraction(2, 5)) for i in range(6))


def spoken(rate: str = "24") -> Clip:
    """A clip of 3 s with words and captions."""
    clip = described(seconds=3, rate=rate)
    captioned = replace(picture_of(clip), captions=Captions(CUES))
    return replace(clip, picture=captioned, sound=replace(sound_of(clip), words=WORDS))


def cues_of(clip: Clip) -> tuple[Cue, ...]:
    captions = picture_of(clip).captions
    return captions.cues if captions else ()


# ---------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        ({"length": "2s"}, 48),
        ({"length": "30f"}, 30),
        ({"start": "1s"}, 48),
        ({"start": "1s", "length": "1s"}, 24),
        ({"start": "1s", "end": "2s"}, 24),
        ({"start": "12f", "end": "00:00:01.5"}, 24),
        ({"length": 2}, 48),
        ({"length": Fraction(1, 24)}, 1),
        ({"length": "0.52s"}, 12),  # 12.48 frames: the nearest
    ],
)
def test_lengths(asked: dict[str, str], frames: int) -> None:
    clip = trim(described(seconds=3), **asked)
    assert picture_of(clip).frames == frames
    assert sound_of(clip).samples == samples_for(frames, Fraction(24))


def test_at_a_film_rate_the_sound_stays_with_the_frames() -> None:
    clip = trim(described(seconds=3, rate="24000/1001"), length="47f")
    assert (picture_of(clip).frames, sound_of(clip).samples) == (47, round(47 * 48048 / 24))


def test_all_of_a_clip_is_the_clip_itself() -> None:
    clip = described(seconds=3)
    assert trim(clip, length="3s") is clip
    assert trim(clip, start="0s", end="72f") is clip


def test_a_generated_clip_is_cut_to_what_was_asked_for_unless_told_otherwise() -> None:
    bought = replace(described(seconds=3), history=(Action("generate", (("length", "2s"),)), Action("strip_audio")))
    assert picture_of(trim(bought)).frames == 48
    assert picture_of(trim(bought, start="2s")).frames == 24
    with pytest.raises(InputError, match="give length:, start: or end:"):
        trim(described())


def test_what_was_cut_is_on_record() -> None:
    clip = trim(described(), start="1s", length="1s")
    assert [(a.name, a.parameters) for a in clip.history[1:]] == [("trim", (("length", "1s"), ("start", "1s")))]


def test_a_sound_alone_is_cut_to_the_sample() -> None:
    sound = replace(described(), picture=None)
    assert sound_of(trim(sound, start="0.25s", length="12.5ms")).samples == 600


def test_a_silent_film_is_cut_too() -> None:
    assert picture_of(trim(strip_audio(described()), length="1s")).frames == 24


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"length": "1s", "end": "2s"}, "give length: or end:, not both"),
        ({"start": "5s", "end": "3s"}, "5–3 s leaves nothing of a 3 s clip"),
        ({"length": "0s"}, "0–0 s leaves nothing of a 3 s clip"),
        ({"length": "4s"}, "0–4 s is asked of a clip that is 3 s long"),
        ({"start": "2.5s", "length": "1s"}, "2.5–3.5 s is asked of a clip that is 3 s long"),
        ({"start": "3s"}, "3–3 s leaves nothing of a 3 s clip"),
        ({"end": "73f"}, "0–3.042 s is asked of a clip that is 3 s long"),
    ],
)
def test_the_impossible_is_refused_with_the_numbers(asked: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        trim(described(seconds=3), **asked)
    assert str(refused.value) == sentence
    assert refused.value.parameter in asked


# ---------------------------------------------------------------- what belongs to the frames


def test_words_move_with_the_sound_and_none_is_cut_in_two() -> None:
    clip = trim(spoken(), start="0.5s", length="1s")
    assert [word.text for word in sound_of(clip).words] == ["3", "4", "5", "6"]
    assert sound_of(clip).words[0] == Word("3", Fraction(1, 10), Fraction(1, 4))


def test_captions_are_cut_at_the_edges() -> None:
    clip = trim(spoken(), start="0.75s", length="0.5s")
    assert cues_of(clip) == (Cue("1", Fraction(0), Fraction(3, 20)), Cue("2", Fraction(1, 4), Fraction(1, 2)))


def test_a_sound_that_ends_early_ends_early_after_the_cut() -> None:
    clip = described(seconds=3)
    short = replace(clip, sound=replace(sound_of(clip), samples=48_000))
    assert sound_of(trim(short, start="0.5s")).samples == 24_000
    assert sound_of(trim(short, start="2s")).samples == 0


rates = st.sampled_from(["24", "25", "24000/1001", "30000/1001"])
edges = st.lists(st.integers(0, 71), min_size=4, max_size=4, unique=True).map(sorted)


@given(rates, edges)
def test_a_trim_of_a_trim_adds_up(rate: str, edges: list[int]) -> None:
    whole, (first, inner, inner_end, end) = spoken(rate), edges
    longer, second, length = end - first, inner - first, inner_end - inner
    twice = trim(trim(whole, start=f"{first}f", length=f"{longer}f"), start=f"{second}f", length=f"{length}f")
    once = trim(whole, start=f"{first + second}f", length=f"{length}f")
    assert picture_of(twice).frames == picture_of(once).frames == length
    assert abs(sound_of(twice).samples - sound_of(once).samples) <= 1
    assert cues_of(twice) == cues_of(once)
    assert sound_of(twice).words == sound_of(once).words


def test_half_frames_at_both_ends_add_none() -> None:
    facts = PictureFacts(Size(160, 90), Size(160, 90), Fraction(25), 250, "h264")
    clip = trim(clip_from(Path("film.mp4"), facts, None), start="0.5s", end="3.5s")
    assert clip.picture
    assert clip.picture.frames == 75
