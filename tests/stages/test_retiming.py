"""More frames, backwards, faster and slower: which frames are seen, and that sound, words and captions follow."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import (
    LOSSLESS,
    TAGS,
    counted,
    described,
    film,
    luma,
    numbers,
    onsets,
    picture_of,
    samples,
    sound_of,
    times,
    tone,
)

from stages import (
    Clip,
    Cue,
    Encoding,
    InputError,
    Word,
    concat,
    interpolate,
    label,
    open_clip,
    overlay,
    render,
    reverse,
    speed,
    strip_audio,
    trim,
    upscale,
)
from stages.clip import Action, Captions, samples_for
from stages.manifest import action_names
from stages.retiming import parse_rate

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """2 s at 24 fps; each frame says which one it is."""
    return open_clip(counted(tmp_path_factory.mktemp("grey") / "grey.mp4"))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A textured square that moves by 4 pixels a frame, at 24 fps."""
    texture = "lum='if(between(X-4*N,20,60)*between(Y,25,65),90+60*sin((X-4*N)/3)*cos(Y/4),16)':cb=128:cr=128"
    source = f"color=s=200x90:r=24:d=1,format=yuv420p,geq={texture},{TAGS}"
    return open_clip(film(tmp_path_factory.mktemp("moving") / "moving.mp4", "-f", "lavfi", "-i", source, *LOSSLESS))


def seen(clip: Clip, tmp_path: Path) -> list[int]:
    """Which frames of a counted film are shown."""
    render(strip_audio(clip), tmp_path / "seen.mp4", EXACT)
    return numbers(tmp_path / "seen.mp4")


def told(clip: Clip) -> Clip:
    """With a word, a caption and a label from 1 s to 1.5 s."""
    begin, end = Fraction(1), Fraction(3, 2)
    shown = overlay(clip, text="x", start=begin, end=end)
    picture = replace(picture_of(shown), captions=Captions((Cue("0", Fraction(0), begin), Cue("1", begin, end))))
    return replace(shown, picture=picture, sound=replace(sound_of(clip), words=(Word("1", begin, end),)))


# ---------------------------------------------------------------- frames between frames


@pytest.mark.parametrize("engine", ["motion", "blend", "repeat"])
@pytest.mark.parametrize(("rate", "frames"), [("60", 60), ("59.94", 60), ("48", 48), ("25", 25)])
def test_frames_are_exact_and_the_length_stays(
    engine: Any, rate: str, frames: int, moving: Clip, tmp_path: Path
) -> None:
    clip = interpolate(moving, rate=rate, engine=engine)
    assert (picture_of(clip).frames, picture_of(clip).rate) == (frames, parse_rate(rate))
    render(clip, tmp_path / "more.mp4", EXACT)  # which checks frames and rate of the file
    assert len(luma(tmp_path / "more.mp4")) == frames


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_few_frames_are_enough(count: int, moving: Clip, tmp_path: Path) -> None:
    render(interpolate(trim(moving, length=f"{count}f"), rate=48), tmp_path / "more.mp4", EXACT)
    assert len(luma(tmp_path / "more.mp4")) == 2 * count


def test_what_moves_is_between_where_it_was_and_where_it_will_be(moving: Clip, tmp_path: Path) -> None:
    """At 48 a second each second frame is new: the square stands 2 pixels on, and no ghost of it is left."""
    render(interpolate(moving, rate=48), tmp_path / "more.mp4", EXACT)
    render(moving, tmp_path / "own.mp4", EXACT)
    more, own = luma(tmp_path / "more.mp4"), luma(tmp_path / "own.mp4")
    for number in range(2, 20):
        was = own[number].astype(float)
        assert abs(more[2 * number].astype(float) - was).mean() < 0.1
        between = more[2 * number + 1].astype(float)
        wanted = np.roll(was, 2, axis=1)
        # Doubled frames or faded ones are off by 3.8 and 1.2 on average.
        assert abs(between - wanted).mean() < 0.8


def test_a_lower_rate_leaves_frames_out(grey: Clip, tmp_path: Path) -> None:
    assert seen(interpolate(grey, rate=12), tmp_path) == seen(interpolate(grey, rate=12, engine="repeat"), tmp_path)
    assert interpolate(grey, rate=24) is grey


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60", 60),
        ("59.94", Fraction(60000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("60000/1001", Fraction(60000, 1001)),
    ],
)
def test_rates_are_read_as_they_are_meant(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


# ---------------------------------------------------------------- backwards


def test_the_last_frame_comes_first(grey: Clip, tmp_path: Path) -> None:
    assert seen(reverse(grey), tmp_path) == list(range(47, -1, -1))
    assert seen(reverse(trim(grey, start="10f", length="5f")), tmp_path) == [14, 13, 12, 11, 10]
    assert seen(concat((trim(grey, length="3f"), reverse(trim(grey, length="3f")))), tmp_path) == [0, 1, 2, 2, 1, 0]


def test_the_sound_is_played_backwards_with_it(flashes: Path, tmp_path: Path) -> None:
    """The film's flashes and clicks at 0.5, 1.5 and 2.5 s: a click's end is now its beginning."""
    clip = reverse(trim(open_clip(flashes), length="2s"))
    assert sound_of(clip).samples == 96_000
    render(clip, tmp_path / "back.mp4", EXACT)
    white = [number for number, frame in enumerate(luma(tmp_path / "back.mp4")) if frame.mean() > 200]
    assert white == [11, 35]
    assert onsets(samples(tmp_path / "back.mp4")[0]) == pytest.approx([0.495, 1.495], abs=2e-3)


def test_captions_stay_with_their_frames_when_they_run_backwards() -> None:
    clip = reverse(told(described(seconds=3)))
    captions = picture_of(clip).captions
    assert captions
    assert [(cue.text, cue.start, cue.end) for cue in captions.cues] == [
        ("1", Fraction(3, 2), Fraction(2)),
        ("0", Fraction(2), Fraction(3)),
    ]
    assert [(one.start, one.end) for one in picture_of(clip).overlays] == [(Fraction(3, 2), Fraction(2))]
    assert sound_of(clip).words == ()


def test_more_than_memory_holds_is_refused() -> None:
    with pytest.raises(InputError, match=r"1440 frames of 3840x2160 are 17\.9 GB, and 2 GB can be held"):
        reverse(described("3840x2160", seconds=60))


# ---------------------------------------------------------------- faster and slower


@pytest.mark.parametrize(
    ("factor", "shown"),
    [
        ("2x", list(range(0, 48, 2))),
        ("0.5x", [number for number in range(48) for _ in range(2)]),
        ("4", list(range(0, 48, 4))),
        ("1.5x", [number * 3 // 2 for number in range(32)]),
        ("48", [0]),
    ],
)
def test_frames_are_left_out_or_repeated(factor: str, shown: list[int], grey: Clip, tmp_path: Path) -> None:
    assert seen(speed(grey, factor=factor), tmp_path) == shown


@given(
    st.fractions(Fraction(1, 2), 2, max_denominator=50),
    st.integers(2, 200),
    st.sampled_from(["24", "25", "24000/1001", "60"]),
)
def test_picture_and_sound_stay_as_long_as_each_other(factor: Fraction, frames: int, rate: str) -> None:
    clip = speed(trim(described(seconds=10, rate=rate), length=f"{frames}f"), factor=factor)
    assert picture_of(clip).frames == round(frames / factor)
    assert sound_of(clip).samples == samples_for(picture_of(clip).frames, Fraction(rate))


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("factor", ["0.5x", "2x"])
def test_what_is_seen_and_heard_at_once_stays_together(factor: str, tmp_path: Path) -> None:
    """To a millisecond, as everything else."""
    white, burst = "if(eq(mod(N,24),12),235,16)", "0.8*sin(2*PI*2000*t)*lt(mod(t+0.5,1),0.2)"
    source = film(
        tmp_path / "bursts.mov",
        *("-f", "lavfi", "-i", f"color=s=64x64:r=24:d=3,format=yuv420p,geq=lum='{white}':cb=128:cr=128,{TAGS}"),
        *("-f", "lavfi", "-i", f"aevalsrc='{burst}|{burst}':s=48000:d=3", *LOSSLESS, "-c:a", "pcm_s16le"),
    )
    made = tmp_path / "out.mp4"
    render(speed(open_clip(source), factor=factor), made, EXACT)
    lit = [at for at, y in zip(times(made), luma(made), strict=True) if y.mean() > 128]
    flash = lit[::2] if factor == "0.5x" else lit
    assert flash == pytest.approx([at / float(factor[:-1]) for at in (0.5, 1.5, 2.5)], abs=1e-3)
    assert onsets(samples(made)[0]) == pytest.approx(flash, abs=1e-3)


@pytest.mark.parametrize("factor", ["0.5x", "0.8x", "1.2x", "1.5x"])
def test_sound_follows_with_its_pitch_kept(factor: str, flashes: Path, shot: Path, tmp_path: Path) -> None:
    times = float(factor[:-1])
    clip = speed(open_clip(shot), factor=factor)
    render(clip, tmp_path / "tone.mp4", EXACT)
    left = samples(tmp_path / "tone.mp4")[0]
    assert tone(left, 300, 0.2, 3 / times - 0.2) == pytest.approx(-20, abs=1)
    clicking = speed(open_clip(flashes), factor=factor)
    render(clicking, tmp_path / "clicks.mp4", EXACT)
    wanted = [at / times for at in (0.5, 1.5, 2.5)]
    assert onsets(samples(tmp_path / "clicks.mp4")[0]) == pytest.approx(wanted, abs=1e-3)


def test_words_captions_and_labels_follow() -> None:
    clip = speed(told(described(seconds=3)), factor=2)
    captions = picture_of(clip).captions
    assert captions
    half, three_quarters = Fraction(1, 2), Fraction(3, 4)
    assert sound_of(clip).words == (Word("1", half, three_quarters),)
    assert captions.cues[1] == Cue("1", half, three_quarters)
    assert (picture_of(clip).overlays[0].start, picture_of(clip).overlays[0].end) == (half, three_quarters)


def test_slow_motion_is_smooth_with_frames_between(moving: Clip, tmp_path: Path) -> None:
    render(speed(interpolate(moving, rate=48), factor="0.5x"), tmp_path / "slow.mp4", EXACT)
    assert len(luma(tmp_path / "slow.mp4")) == 96


# ---------------------------------------------------------------- on record, and refused


def test_they_are_on_record() -> None:
    clip = reverse(speed(interpolate(described(), rate=60), factor=2))
    origin = clip.history[0].file
    assert origin
    names = action_names(clip.history, {origin: "parent"}, frozenset())
    assert names == ("c2pa.opened", "c2pa.edited", "c2pa.changedSpeed", "c2pa.edited")


def test_a_faster_clip_is_not_cut_to_what_was_asked_for() -> None:
    bought = replace(described(), history=(Action("generate", (("length", "2s"),)),))
    with pytest.raises(InputError, match="give length:"):
        trim(speed(bought, factor=2))


def test_what_is_laid_over_later_is_not_moved() -> None:
    assert picture_of(label(speed(upscale(described(), size="2x"), factor=2))).overlays[0].end == Fraction(3, 2)


@pytest.mark.parametrize(
    ("edited", "sentence"),
    [
        (lambda clip: interpolate(clip, rate=240), "240 is no rate: 1 to 120 frames a second"),
        (lambda clip: interpolate(clip, rate="fast"), "should be a rate such as 60 or 60000/1001, not 'fast'"),
        (
            lambda clip: speed(clip, factor=3),
            "3 is not from 0.5 to 2 times; more goes without sound: strip_audio first",
        ),
        (lambda clip: speed(strip_audio(clip), factor=0), "0 is not from 0.01 to 100 times"),
        (lambda clip: speed(clip, factor="1.23456789x"), "123456789/100000000 is too fine: three decimals at most"),
        (lambda clip: speed(clip, factor="fast"), "should be a factor such as 2x or 0.5x, not 'fast'"),
        (
            lambda clip: speed(trim(strip_audio(clip), length="1f"), factor=9),
            "9 times faster leaves nothing of 1 frames",
        ),
    ],
)
def test_what_cannot_be_is_refused(edited: Any, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        edited(described())
    assert str(refused.value) == sentence
