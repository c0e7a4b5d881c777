"""The best part of a film is the one that a viewer would take: steady, in one shot, with something to see."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import LOSSLESS, TAGS, film, luma, picture_of

from stages import InputError, concat, fit, open_clip, render, trim
from stages.clip import Clip, Size
from stages.looks import Looks, best_part, cuts_within, look, looks_from, steadiest

RATE = Fraction(24)

# ---------------------------------------------------------------- which window, by figures


def looks(*steps: int, cuts: tuple[int, ...] = (), blank: tuple[int, ...] = ()) -> Looks:
    return Looks(RATE, steps, cuts, blank)


@pytest.mark.parametrize(
    ("seen", "frames", "first"),
    [
        (looks(0, *[500] * 9), 4, 0),  # all alike: the earliest
        (looks(0, *[900, 100] * 3, *[500] * 4), 4, 6),  # the same motion, but smooth
        (looks(0, *[900] * 5, *[300] * 5), 4, 5),  # smooth both, but slower: the step into it is not seen
        (looks(0, 9, 9, 9, 9000, 9, 9, 9, 9, 9, cuts=(4,)), 6, 4),  # it may begin with a cut
        (looks(0, *[900, 100] * 2, 9000, 9, 9, 9, cuts=(5,)), 4, 5),
        (looks(0, 0, 0, 9, 500, 100, 500, 100, 500, blank=(0, 1, 2)), 4, 4),  # rather shaken than black
        (looks(0, *[500] * 7, blank=(3, 4)), 4, 0),  # of two halves that are half black, the earlier
        (looks(0, *[500] * 7, blank=(0, 6)), 5, 1),
        (looks(0, *[500] * 4, blank=(2,)), 3, 1),  # rather in the middle than at an end
        (looks(0, 9, 9, 9, 9000, 9, 9, 9, cuts=(4,), blank=(0, 1)), 6, 2),  # a cut inside, but no black end
    ],
)
def test_the_steadiest_window(seen: Looks, frames: int, first: int) -> None:
    assert steadiest(seen, frames) == first


def test_of_too_few_frames_there_is_no_window() -> None:
    with pytest.raises(InputError, match="5 frames are asked of 4"):
        steadiest(looks(0, 1, 1, 1), 5)


def test_a_hold_of_half_a_second_is_a_freeze_and_one_of_two_frames_is_animation() -> None:
    held = [0, *[600, 0] * 6, *[700] * 5, *[10] * 11, *[700] * 5]
    assert looks_from(RATE, held, [], []).blank == tuple(range(18, 29))
    assert looks_from(RATE, [*held[:20], 700, *held[21:]], [], []).blank == ()


films = st.integers(2, 40).flatmap(
    lambda many: st.builds(
        lambda steps, cuts, blank: looks(0, *steps, cuts=tuple(sorted(cuts)), blank=tuple(sorted(blank))),
        st.lists(st.integers(0, 9000), min_size=many - 1, max_size=many - 1),
        st.sets(st.integers(1, many - 1), max_size=4),
        st.sets(st.integers(0, many - 1), max_size=8),
    )
)


@settings(max_examples=60)
@given(films, st.data())
def test_where_there_is_a_window_without_fault_one_is_taken(seen: Looks, data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, len(seen.steps)))

    def faults(first: int) -> int:
        return cuts_within(seen, first, frames) + len({*range(first, first + frames)} & {*seen.blank})

    first = steadiest(seen, frames)
    assert 0 <= first <= len(seen.steps) - frames
    if any(not faults(other) for other in range(len(seen.steps) - frames + 1)):
        assert not faults(first)
    brighter = replace(seen, steps=tuple(3 * step for step in seen.steps))
    assert steadiest(brighter, frames) == first  # only what is more and what is less counts


# ---------------------------------------------------------------- on films

SHAKE = "crop=160:90:x='40+6*sin(n*2.4)+4*sin(n*5.1)':y='30+4*cos(n*3.3)'"
PAN = "crop=160:90:x='min(2*n,94)':y=30"


@pytest.fixture(scope="module")
def mixed(media: Path) -> Path:
    """5.5 s at 24 fps: black (frames 0 to 23), shaken (24 to 59), a cut, a smooth pan (60 to 107), which then
    stands still (to 131)."""
    photo = Path(__file__).parents[2] / "fixtures" / "photo.jpg"
    graph = ";".join(
        [
            "[0]scale=320:200,setsar=1,split[a][b]",
            "color=black:s=160x90:r=24:d=1,format=yuv420p[black]",
            f"[a]trim=end_frame=36,setpts=N/24/TB,{SHAKE},format=yuv420p[shaken]",
            f"[b]hflip,negate,trim=end_frame=72,setpts=N/24/TB,{PAN},format=yuv420p[pan]",
            f"[black][shaken][pan]concat=n=3,{TAGS}",
        ]
    )
    return film(
        media / "mixed.mov",
        *("-loop", "1", "-framerate", "24", "-t", "4", "-i", str(photo), "-filter_complex", graph, *LOSSLESS),
    )


def same_frames(made: Path, source: Path, first: int) -> bool:
    """Whether a film shows the source's frames from number `first` on: by what is decoded."""
    shown, whole = luma(made), luma(source)
    return (
        all(np.abs(one.astype(int) - other).mean() < 4 for one, other in zip(shown, whole[first:], strict=False))
        and len({frame.tobytes() for frame in shown}) > len(shown) // 2
    )


def test_the_best_part_is_in_one_shot_neither_black_nor_frozen_nor_shaken(
    mixed: Path, tmp_path: Path, build: str
) -> None:
    clip = open_clip(mixed)
    found = look(picture_of(clip))
    assert found.cuts == (24, 60)
    assert found.blank == (*range(24), *range(108, 132))
    best = trim(clip, length="1.5s", anchor="best")
    render(best, tmp_path / "best.mp4")
    assert same_frames(tmp_path / "best.mp4", mixed, 60)
    assert not same_frames(tmp_path / "best.mp4", mixed, 62)
    assert best.remarks[0].startswith("took 2.5–4 s, the steadiest: no cut and nothing black or frozen in it; its")


def test_what_is_looked_at_is_the_edited_picture(mixed: Path) -> None:
    clip = open_clip(mixed)
    upright = fit(trim(clip, start="60f", length="48f"), size=Size(90, 160))
    assert look(picture_of(upright)).cuts == look(picture_of(upright)).blank == ()
    joined = concat((trim(clip, length="12f"), upright, trim(clip, length="12f")))
    found = look(picture_of(joined))
    assert (found.cuts, found.blank) == ((12, 60), (*range(12), *range(60, 72)))


def test_a_cut_that_must_cost_no_encode_cannot_begin_anywhere(mixed: Path) -> None:
    with pytest.raises(InputError, match="a cut at the start is encoded") as refused:
        trim(open_clip(mixed), length="1s", anchor="best", lossless="require")
    assert refused.value.parameter == "lossless"
    assert trim(open_clip(mixed), length="132f", anchor="best", lossless="require").duration == Fraction(11, 2)


def test_the_best_part_is_of_a_picture_that_is_there(mixed: Path, voice: Path) -> None:
    clip = open_clip(mixed)
    picture = picture_of(clip)
    promised = replace(picture, stream=replace(picture.stream, promised=True))  # type: ignore[arg-type]  # a source
    with pytest.raises(InputError, match="yet to be made: make it and open it first"):
        trim(Clip(promised), length="1s", anchor="best")
    with pytest.raises(InputError, match="this clip has none"):
        trim(open_clip(voice), length="1s", anchor="best")
    with pytest.raises(InputError, match="places a length:"):
        trim(clip, end="1s", anchor="best")


def test_before_anybody_looked_its_length_is_known() -> None:
    assert best_part(Looks(RATE, ()), 96, 24) == (72, ())
