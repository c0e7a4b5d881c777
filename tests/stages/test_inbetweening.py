"""Frames that an interpolator draws: each at its moment, none over a cut, taken up where they were left."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import LOSSLESS, TAGS, described, film, luma, picture_of, sound_of
from plugs import Fader, installed

import stages.enlarging
from stages import Clip, Encoding, InputError, Size, fit, interpolate, open_clip, render, trim, upscale
from stages.clip import Filter
from stages.enlarging import make_frames, unsettled
from stages.inbetweening import apart, filled, first_needed
from stages.manifest import manifest_of

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)
SMALL = Size(64, 48)


@pytest.fixture(autouse=True)
def _fader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("Fader", "Missing", "Blackout", "Cropper")
    entries = {name.lower(): f"plugs:{name}" for name in names}
    installed(tmp_path / "site", monkeypatch, "pipeline.interpolators", **entries)


def ramp(folder: Path, level: str = "40+N*6", seconds: float = 0.5, rate: str = "24") -> Clip:
    """A film whose frame N is of one grey."""
    source = f"color=s={SMALL}:r={rate}:d={seconds},format=yuv420p,geq=lum='{level}':cb=128:cr=128,{TAGS}"
    return open_clip(film(folder / "ramp.mp4", "-f", "lavfi", "-i", source, *LOSSLESS))


def levels(clip: Clip, folder: Path) -> list[float]:
    """The grey of each frame."""
    render(clip, folder / "out.mp4", EXACT)
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []
    return [float(frame.mean()) for frame in luma(folder / "out.mp4")]


def node_of(clip: Clip) -> Filter:
    (node,) = unsettled(picture_of(clip).stream)
    return node


# ---------------------------------------------------------------- which frame is seen when


@pytest.mark.parametrize(("rate", "frames"), [("60", 30), ("48", 24), ("59.94", 30), ("25", 12)])
def test_each_frame_shows_its_moment(rate: str, frames: int, tmp_path: Path) -> None:
    clip = interpolate(ramp(tmp_path), rate=rate, engine="fader")
    pace = 24 / picture_of(clip).rate
    wanted = [40 + 6 * min(float(number * pace), 11) for number in range(frames)]
    assert levels(clip, tmp_path) == pytest.approx(wanted, abs=1.01)


def test_over_a_cut_the_nearer_frame_is_repeated(tmp_path: Path) -> None:
    """Frames 0 to 5 are dark, 6 to 11 light: a blend of the two would be seen."""
    found = levels(interpolate(ramp(tmp_path, "if(lt(N,6),40+N,190+N)"), rate=60, engine="fader"), tmp_path)
    assert all(level < 47 or level > 194 for level in found)
    # From 12.5, at which frame 5 is, to 15, at which frame 6 is: 13 is nearer to the one, 14 to the other.
    assert [level > 100 for level in found] == [number >= 14 for number in range(30)]


def test_quick_motion_is_no_cut(tmp_path: Path) -> None:
    """A film that changes by 12 % of full scale in each frame goes on changing."""
    found = levels(interpolate(ramp(tmp_path, "16+N*30", 0.25), rate=48, engine="fader"), tmp_path)
    assert found[5] == pytest.approx(16 + 2.5 * 30, abs=1.01)


def test_its_own_frames_stay_as_they_are(shot: Path, tmp_path: Path) -> None:
    clip = trim(open_clip(shot), length="6f")
    render(clip, tmp_path / "own.mp4", EXACT)
    render(interpolate(clip, rate=60, engine="fader"), tmp_path / "more.mp4", EXACT)
    own, more = (np.array(luma(tmp_path / name), int) for name in ("own.mp4", "more.mp4"))
    off = np.abs(own[::2] - more[::5]).mean(axis=(1, 2))
    moved = np.abs(own[:-1] - own[1:]).mean()
    assert off.max() < 1 < moved / 3, (off, moved)
    assert sound_of(open_clip(tmp_path / "more.mp4")).samples == sound_of(clip).samples


def flat(level: int) -> bytes:
    return bytes([level]) * 300


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=12),
    st.fractions(Fraction(1, 6), Fraction(29, 30), max_denominator=30),
    st.data(),
)
def test_begun_anywhere_it_is_the_same_film(greys: list[int], pace: Fraction, data: st.DataObject) -> None:
    """Also how much of the source is held: two frames and the one that comes."""
    frames = round(len(greys) / pace)
    taken: list[int] = []

    def source(first: int) -> Iterator[bytes]:
        for number in range(first, len(greys)):
            taken.append(number)
            yield flat(greys[number])

    def film_from(start: int) -> list[bytes]:
        made = filled(source(first_needed(start, pace)), SMALL, pace, start, Fader().between, "fader")
        found = []
        for number in range(start, frames):
            found.append(next(made))
            assert max(taken) <= number * pace + 1
        return found

    start = data.draw(st.integers(0, max(0, frames - 1)))
    whole = film_from(0)
    taken.clear()
    assert film_from(start) == whole[start:]


# ---------------------------------------------------------------- going on, and other edits


def test_it_goes_on_with_the_segment_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.enlarging, "SEGMENT", 12)
    node = node_of(interpolate(ramp(tmp_path, "40+N*4", 1), rate=60, engine="fader"))
    kept, told = tmp_path / "unfinished", list[float]()

    def stop(fraction: float) -> None:
        if fraction > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_frames(node, folder=tmp_path / "first", unfinished=kept, on_progress=stop)
    assert len(list(kept.glob("0*.mp4"))) == 3
    made = make_frames(node, folder=tmp_path / "second", unfinished=kept, on_progress=told.append)
    assert (round(told[0] * 60), told[-1], len(told)) == (37, 1.0, 24)
    found = [float(frame.mean()) for frame in luma(made.file)]
    assert found == pytest.approx([40 + 4 * min(number * 0.4, 23) for number in range(60)], abs=1.01)
    assert made.remarks == ()


def test_other_edits_before_and_after(tmp_path: Path) -> None:
    clip = trim(ramp(tmp_path), start="2f", length="6f")
    more = trim(interpolate(fit(clip, size="48x48"), rate=48, engine="fader"), start="1f", length="8f")
    larger = upscale(more, size="2x")
    assert picture_of(larger).frame == Size(96, 96)
    assert levels(larger, tmp_path) == pytest.approx([52 + 3 * number for number in range(1, 9)], abs=1.5)


def test_a_lower_rate_leaves_frames_out_and_asks_nobody(tmp_path: Path) -> None:
    clip = interpolate(ramp(tmp_path), rate=12, engine="missing")
    assert not unsettled(picture_of(clip).stream)
    assert (clip.history[-1].agent, clip.history[-1].ai) == ("", False)


# ---------------------------------------------------------------- on record, and refused


def test_who_drew_is_on_record(tmp_path: Path) -> None:
    clip = interpolate(ramp(tmp_path), rate=60, engine="fader")
    assert (clip.history[-1].agent, clip.history[-1].ai) == ("fader 1.0 with nothing", True)
    origin = clip.history[0].file
    assert origin
    signed = manifest_of(clip.history, {origin: "parent"}, frozenset(), title="x", transcoded=True)
    drawn = signed["assertions"][0]["data"]["actions"][1]
    assert drawn["description"] == "Frames drawn by a trained model between the frames there are"
    assert drawn["digitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert interpolate(ramp(tmp_path), rate=60).history[-1].agent == ""


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("fade", r"there is no engine 'fade' \(did you mean fader\?\); there are motion, blend, repeat, .*fader"),
        ("missing", r"missing cannot work here: its model is not there: pip install 'fader\[model\]'"),
    ],
)
def test_who_cannot_work_is_refused(engine: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        interpolate(described(), rate=60, engine=engine)


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("cropper", "cropper draws frames of 9213 bytes, and these are of 9216"),
        ("blackout", r"blackout draws something else .*: its frame 1 is \d\d levels from .*, which are [67] apart"),
    ],
)
def test_who_draws_something_else_is_refused(engine: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        make_frames(node_of(interpolate(ramp(tmp_path), rate=48, engine=engine)), folder=tmp_path)


def test_frames_are_told_apart_by_a_sample_of_all_colours() -> None:
    size = 3 * 400 * 300
    assert apart(bytes([10, 20, 30]) * (size // 3), bytes([40, 20, 30]) * (size // 3)) == pytest.approx(10, abs=0.1)
