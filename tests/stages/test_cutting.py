"""Which frames `trim`, `loop` and `concat` show, and the sound, words and captions that belong to them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, picture_of, sound_of

from stages import Clip, Cue, InputError, Word, caption, concat, fit, level, loop, strip_audio, trim, upscale
from stages.clip import Action, Captions, Origin, PictureFacts, Size, origins, samples_for
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
def test_lengths(asked: dict[str, Any], frames: int) -> None:
    clip = trim(described(seconds=3), **asked)
    assert picture_of(clip).frames == frames
    assert sound_of(clip).samples == samples_for(frames, Fraction(24))


@pytest.mark.parametrize(
    ("anchor", "begins"), [("start", 0), ("middle", 24), ("end", 48)], ids=lambda value: str(value)
)
def test_a_length_is_taken_where_it_is_anchored(anchor: Any, begins: int) -> None:
    clip = trim(spoken(), length="1s", anchor=anchor)
    assert picture_of(clip).frames == 24
    assert cues_of(clip)[0] == Cue(str(begins // 12), Fraction(0), Fraction(2, 5))


def test_an_odd_frame_is_left_out_behind_the_middle() -> None:
    clip = trim(spoken(), length="71f", anchor="middle")
    assert cues_of(clip)[0].end == Fraction(2, 5)
    assert cues_of(trim(spoken(), length="71f", anchor="end"))[0].end == Fraction(2, 5) - Fraction(1, 24)


@pytest.mark.parametrize("asked", [{"end": "2s"}, {"start": "1s"}, {"start": "1s", "length": "1s"}])
def test_an_anchor_is_of_a_length(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="places a length:, without start: or end:") as refused:
        trim(described(seconds=3), anchor="end", **asked)
    assert refused.value.parameter == "anchor"


def test_a_generated_clip_may_be_cut_to_what_was_asked_for_at_its_end() -> None:
    bought = replace(spoken(), history=(Action("generate", (("length", "2s"),)),))
    assert cues_of(trim(bought, anchor="end"))[0].text == "2"


def test_more_than_there_is_cannot_be_anchored() -> None:
    with pytest.raises(InputError, match="0–4 s is asked of a clip that is 3 s long"):
        trim(described(seconds=3), length="4s", anchor="end")


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
def test_the_impossible_is_refused_with_the_numbers(asked: dict[str, Any], sentence: str) -> None:
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


# ---------------------------------------------------------------- loop


@pytest.mark.parametrize(("overlap", "frames"), [("0.5s", 60), ("2f", 70), ("36f", 36), ("0.52s", 60)])
def test_a_loop_is_shorter_by_its_overlap(overlap: str, frames: int) -> None:
    clip = loop(described(seconds=3), overlap=overlap)
    assert picture_of(clip).frames == frames
    assert sound_of(clip).samples == samples_for(frames, Fraction(24))


def test_half_a_second_overlaps_unless_told_otherwise() -> None:
    assert picture_of(loop(described(seconds=3))).frames == 60


def test_a_sound_alone_is_looped_to_the_sample() -> None:
    assert sound_of(loop(replace(described(), picture=None), overlap="0.25s")).samples == 132_000


def test_a_short_sound_makes_the_loop_no_shorter() -> None:
    clip = described(seconds=3)
    short = replace(clip, sound=replace(sound_of(clip), samples=48_000))
    assert sound_of(loop(short)).samples == 120_000


@pytest.mark.parametrize(
    ("overlap", "sentence"),
    [
        ("0s", "0 s is no overlap: two frames at least are blended"),
        ("1f", "0.042 s is no overlap: two frames at least are blended"),
        ("37f", "1.542 s is more than half of a 3 s clip"),
        ("4s", "4 s is more than half of a 3 s clip"),
    ],
)
def test_an_overlap_of_nothing_or_of_too_much_is_refused(overlap: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        loop(described(seconds=3), overlap=overlap)
    assert (str(refused.value), refused.value.parameter) == (sentence, "overlap")


def test_words_and_captions_of_a_loop_change_over_in_the_middle_of_the_fade() -> None:
    """3 s with 0.5 s of overlap: 0.5 to 2.75 s come first, then 0.25 to 0.5 s from the beginning."""
    clip = loop(spoken(), overlap="0.5s")
    words = sound_of(clip).words
    assert [word.text for word in words] == [*map(str, range(3, 14))]  # 14 is cut at 2.75 s, 1 at 0.25 and 2 at 0.5
    assert words[0] == Word("3", Fraction(1, 10), Fraction(1, 4))
    late = replace(clip, sound=None)
    assert [(cue.text, cue.start, cue.end) for cue in cues_of(late)] == [
        ("1", 0, Fraction(2, 5)),
        ("2", Fraction(1, 2), Fraction(9, 10)),
        ("3", 1, Fraction(7, 5)),
        ("4", Fraction(3, 2), Fraction(19, 10)),
        ("5", 2, Fraction(9, 4)),
        ("0", Fraction(9, 4), Fraction(12, 5)),
    ]


def test_a_word_of_the_beginning_is_heard_at_the_end_of_the_loop() -> None:
    clip = spoken()
    words = (Word("early", Fraction(7, 10), Fraction(9, 10)),)
    said = sound_of(loop(replace(clip, sound=replace(sound_of(clip), words=words)), overlap="1s")).words
    assert said == (Word("early", Fraction(17, 10), Fraction(19, 10)),)


def test_what_was_looped_is_on_record() -> None:
    assert loop(described(), overlap="0.5s").history[-1] == Action("loop", (("overlap", "0.5s"),))


def test_a_bare_trim_knows_no_length_after_a_loop_or_a_join() -> None:
    bought = replace(described(seconds=3), history=(Action("generate", (("length", "2s"),)),))
    for clip in (loop(bought), concat((bought, bought))):
        with pytest.raises(InputError, match="give length:, start: or end:"):
            trim(clip)


# ---------------------------------------------------------------- concat


@pytest.mark.parametrize(("crossfade", "frames"), [("0s", 216), ("0.5s", 192), ("2f", 212)])
def test_three_clips_are_as_long_as_their_frames(crossfade: str, frames: int) -> None:
    clip = concat((described(), described(), described()), crossfade=crossfade)
    assert picture_of(clip).frames == frames
    assert sound_of(clip).samples == samples_for(frames, Fraction(24))


def test_the_first_says_in_which_frame_and_at_which_rate() -> None:
    first, second = (
        upscale(described("160x90", rate="24000/1001"), size="2x"),
        described("90x160", seconds=2, rate="30"),
    )
    picture = picture_of(concat((first, second)))
    assert (picture.frame, picture.rate) == (Size(320, 180), Fraction(24000, 1001))
    assert picture.frames == 72 + round(60 / Fraction(30) * Fraction(24000, 1001))


def test_an_intention_that_all_share_is_left_for_later() -> None:
    two = [fit(described(), size="90x160"), fit(described(), size="90x160")]
    assert picture_of(concat(tuple(two))).scaler == picture_of(two[0]).scaler
    assert picture_of(concat((two[0], described("320x180")))).scaler is None


def test_words_and_captions_follow_each_other() -> None:
    clip = concat((spoken(), spoken()))
    assert [word.start for word in sound_of(clip).words][14:16] == [Fraction(14, 5), Fraction(3)]
    assert [cue.start for cue in cues_of(clip)][5:7] == [Fraction(5, 2), Fraction(3)]


def test_words_and_captions_change_over_in_the_middle_of_a_crossfade() -> None:
    clip = concat((spoken(), spoken()), crossfade="0.5s")  # the second is the louder from 2.75 s on
    assert [word.text for word in sound_of(clip).words] == [*map(str, range(14)), *map(str, range(2, 15))]
    assert sound_of(clip).words[14].start == Fraction(29, 10)
    assert cues_of(clip)[5:7] == (
        Cue("5", Fraction(5, 2), Fraction(11, 4)),
        Cue("0", Fraction(11, 4), Fraction(29, 10)),
    )


def test_sounds_alone_are_joined_to_the_sample() -> None:
    alone = replace(described(), picture=None)
    assert sound_of(concat((alone, trim(alone, length="12.5ms")), crossfade="1ms")).samples == 144_000 + 600 - 48


def test_clips_without_a_sound_stay_without() -> None:
    assert concat((strip_audio(described()), strip_audio(described()))).sound is None
    assert sound_of(concat((strip_audio(described()), described()))).samples == 288_000


def test_a_level_counts_for_the_whole() -> None:
    assert (
        sound_of(concat((described(), level(described(), loudness=-16)))).loudness
        == sound_of(level(described(), loudness=-16)).loudness
    )


def test_the_first_is_the_parent_and_the_others_are_components() -> None:
    clip = concat((described(name="/a.mp4"), described(name="/b.mp4"), described(name="/c.mp4")), crossfade="0.5s")
    assert origins(clip.history) == (
        Origin(Path("/a.mp4"), "parentOf", False),
        Origin(Path("/b.mp4"), "componentOf", False),
        Origin(Path("/c.mp4"), "componentOf", False),
    )
    assert clip.history[-1].parameters == (("crossfade", "0.5s"),)


def test_what_a_person_should_know_of_each_is_kept() -> None:
    one, other = replace(described(), remarks=("dark",)), replace(described(), remarks=("dark", "short"))
    assert concat((one, other)).remarks == ("dark", "short")


CAPTIONED = {True: spoken(), False: replace(spoken(), picture=replace(picture_of(spoken()), captions=None))}
BESIDE = caption(CAPTIONED[False], burn=False, sidecar="srt")


@pytest.mark.parametrize(
    ("clips", "crossfade", "sentence"),
    [
        ((), "0s", "should be two clips or more, not 0"),
        ((described(),), "0s", "should be two clips or more, not 1"),
        ((described(), replace(described(), picture=None)), "0s", "clip 1 has a picture, and clip 2 has none"),
        ((replace(described(), picture=None), described()), "0s", "clip 2 has a picture, and clip 1 has none"),
        ((described(), described()), "1f", "0.042 s is no crossfade: two frames at least are blended"),
        (
            (described(), trim(described(), length="1s")),
            "1.5s",
            "clip 2 is 1 s long: too short for 1.5 s of crossfade",
        ),
        (
            (described(), trim(described(), length="1s"), described()),
            "0.75s",
            "clip 2 is 1 s long: too short for 0.75 s of crossfade at both ends",
        ),
        (
            (CAPTIONED[True], BESIDE),
            "0s",
            "the clips are captioned in different ways (burn:, soft:, sidecar:, style:, font:)",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(clips: tuple[Clip, ...], crossfade: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        concat(clips, crossfade=crossfade)
    assert str(refused.value) == sentence
    assert refused.value.parameter == ("crossfade" if "crossfade" in sentence else "clips")


lengths = st.lists(st.integers(8, 200), min_size=2, max_size=12)


@given(rates, lengths, st.sampled_from([0, 2, 4]))
def test_sound_is_as_long_as_the_picture_however_many_are_joined(rate: str, lengths: list[int], fade: int) -> None:
    whole = described(seconds=10, rate=rate)
    clip = concat(tuple(trim(whole, length=f"{length}f") for length in lengths), crossfade=f"{fade}f")
    frames = sum(lengths) - fade * (len(lengths) - 1)
    assert (picture_of(clip).frames, sound_of(clip).samples) == (frames, samples_for(frames, Fraction(rate)))


@given(rates, st.integers(4, 71), st.data())
def test_a_loop_of_anything_is_as_long_as_promised(rate: str, frames: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(2, frames // 2))
    clip = loop(trim(described(seconds=4, rate=rate), length=f"{frames}f"), overlap=f"{overlap}f")
    assert (picture_of(clip).frames, sound_of(clip).samples) == (
        frames - overlap,
        samples_for(frames - overlap, Fraction(rate)),
    )
