"""What every interpolator promises. One of another package is tested once it is installed; a test's own is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lab import LOSSLESS, TAGS, film, luma, picture_of
from plugs import installed

from stages import Encoding, interpolate, open_clip, plugins, render
from stages.clip import Size
from stages.engines import Interpolator, interpolator_named

SIZE = Size(64, 48)
EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)


@pytest.fixture(params=[*plugins.names("pipeline.interpolators"), "fader"])
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each that can work here."""
    if request.param == "fader":
        installed(tmp_path / "site", monkeypatch, "pipeline.interpolators", fader="plugs:Fader")
    if fault := interpolator_named(request.param).probe():
        pytest.skip(fault)
    return str(request.param)


def grey(level: int) -> bytes:
    return bytes([level]) * (SIZE.width * SIZE.height * 3)


def test_an_interpolator_says_who_it_is(name: str) -> None:
    found: Interpolator = interpolator_named(name)
    assert any(letter.isdigit() for letter in found.version)
    assert found.trained in (True, False)


def test_a_frame_between_is_of_their_size_and_lies_between(name: str) -> None:
    found, levels = interpolator_named(name), []
    for share in (Fraction(1, 5), Fraction(1, 2), Fraction(4, 5), Fraction(1, 5)):
        made = found.between(grey(60), grey(100), SIZE, share)
        assert len(made) == len(grey(0))
        levels.append(float(np.frombuffer(made, np.uint8).mean()))
    assert all(58 <= level <= 102 for level in levels)
    assert levels[0] == levels[3], "the same question, the same answer: a run that was killed goes on"


def test_its_frames_stand_in_a_film_where_they_belong(name: str, tmp_path: Path) -> None:
    """A film that grows lighter: so does what is made of it, and no frame steps back."""
    ramp = f"color=s=64x48:r=24:d=0.5,format=yuv420p,geq=lum='40+N*8':cb=128:cr=128,{TAGS}"
    clip = open_clip(film(tmp_path / "ramp.mp4", "-f", "lavfi", "-i", ramp, *LOSSLESS))
    more = interpolate(clip, rate=60, engine=name)
    assert picture_of(more).frames == 30
    render(more, tmp_path / "more.mp4", EXACT)
    levels = [float(frame.mean()) for frame in luma(tmp_path / "more.mp4")]
    assert levels[0:30:5] == pytest.approx([40.0 + 16 * number for number in range(6)], abs=1.01)
    assert all(later >= earlier - 1 for earlier, later in pairwise(levels))
