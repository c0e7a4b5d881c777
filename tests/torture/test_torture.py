"""Whatever a user brings is cut to the frame, upright, in square pixels, in its true colours and in sync.

Each of `inputs.py` is made once, and rendered by each ffmpeg that is here: imageio-ffmpeg's and Debian's 5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from inputs import CLICK, FIRST, INPUTS, PATCHES, STEP, Input, Look
from lab import Pixels, film, onsets, picture_of, planes, samples, times

from stages import Encoding, InputError, deliver, fit, open_clip, render, tonemap, trim, upscale
from stages.clip import BT709, Clip
from stages.media import probe

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The film of an input, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("brought")

    @cache
    def made(name: str) -> Path:
        asked = INPUTS[name]
        copied = str(made(asked.copied)) if asked.copied else ""
        target = folder / f"{name}.{asked.suffix}"
        return film(target, *asked.line(str(target), copied)[:-1])

    return made


# ---------------------------------------------------------------- what is seen


def quarter(plane: Pixels, number: int) -> Pixels:
    """The middle of a quarter: top left, top right, bottom left, bottom right; edges are blurred by resampling."""
    height, width = plane.shape
    top, left = (number // 2) * height // 2, (number % 2) * width // 2
    return plane[top + height // 6 : top + height // 3, left + width // 6 : left + width // 3]


def places(asked: Input) -> tuple[int, int, int, int]:
    """Where each patch and the count have come to lie."""
    return {0: (0, 1, 2, 3), 90: (1, 3, 0, 2), 180: (3, 2, 1, 0), 270: (2, 0, 3, 1)}[asked.turned]


def drift(asked: Input, frame: tuple[Pixels, Pixels, Pixels]) -> float:
    """By how many code values the mean of a patch is off, at most."""
    return max(
        abs(float(quarter(plane, place).mean()) - code)
        for place, rgb in zip(places(asked), PATCHES, strict=False)
        for plane, code in zip(frame, Look().codes(rgb), strict=True)
    )


def count(asked: Input, frame: tuple[Pixels, Pixels, Pixels]) -> float:
    """Which frame it is."""
    return (float(quarter(frame[0], places(asked)[3]).mean()) - FIRST) / STEP


def combed(asked: Input, frame: tuple[Pixels, Pixels, Pixels]) -> float:
    """How far each line of the counting patch is from the next one."""
    return float(np.abs(np.diff(quarter(frame[0], places(asked)[3]).astype(int), axis=0)).mean())


# ---------------------------------------------------------------- every input


HDR = [name for name in INPUTS if name.startswith("hdr")]


DRIFT = {"hdr, hlg": 12}
"""zscale applies HLG's OOTF to each of red, green and blue, where ITU-R BT.2100 has it of the luminance: greys are
exact, colours come out richer."""


def cut(name: str, file: Path) -> Clip:
    """From its third frame on; the large ones from their second, and made small."""
    asked, clip = INPUTS[name], tonemap(open_clip(file))
    picture = picture_of(clip)
    assert (picture.size, picture.rate, picture.frames) == (asked.frame, asked.per_second, len(asked.shown))
    if len(asked.shown) > 3:
        return trim(clip, start="2f")
    return fit(trim(clip, start="1f"), size="160x90")


@pytest.mark.parametrize("name", INPUTS)
def test_a_cut_is_exact_and_true(name: str, build: str, brought: Callable[[str], Path], tmp_path: Path) -> None:
    asked, clip, made = INPUTS[name], cut(name, brought(name)), tmp_path / "out.mp4"
    render(clip, made, EXACT)
    facts, sound = probe(made)
    assert facts
    frames, wanted = planes(made), asked.shown[-picture_of(clip).frames :]
    numbers = [round(count(asked, frame)) for frame in frames]
    # Tone-mapping changes the greys of the count, not their order.
    assert numbers == (list(wanted) if name not in HDR else sorted(numbers))
    assert (facts.size, facts.coded) == (picture_of(clip).frame,) * 2
    assert (facts.rate, facts.constant_rate, facts.sample_aspect) == (asked.per_second, True, Fraction(1))
    assert (facts.rotation, facts.interlaced, facts.colour) == (0, False, BT709)
    assert max(drift(asked, frame) for frame in (frames[0], frames[-1])) < DRIFT.get(name, 1)
    assert max(combed(asked, frame) for frame in frames) < STEP / 2  # combs are a STEP deep; dither is 1
    assert bool(sound) == bool(asked.sound)
    if sound:
        assert abs(sound.samples - round(len(frames) / asked.per_second * 48_000)) <= 1
        (click,) = onsets(samples(made)[0])
        flash = times(made)[wanted.index(CLICK)]
        assert abs(click - flash) < 1 / (2 * asked.per_second)


CONVERTED = [name for name in INPUTS if "range" in name or name in ("bt.601, 525 lines", "rgb", "vp9")]


@pytest.mark.parametrize("name", CONVERTED)
@pytest.mark.usefixtures("build")
def test_colours_are_true_after_a_resample_too(name: str, brought: Callable[[str], Path], tmp_path: Path) -> None:
    """A second scale may read the frame otherwise than the first one left it."""
    render(upscale(trim(open_clip(brought(name)), length="2f"), size="2x"), tmp_path / "out.mp4", EXACT)
    assert drift(INPUTS[name], planes(tmp_path / "out.mp4")[0]) < 1


@pytest.mark.parametrize("name", HDR)
def test_hdr_is_refused_unless_it_is_tone_mapped(name: str, brought: Callable[[str], Path], tmp_path: Path) -> None:
    clip = open_clip(brought(name))
    for refused in (lambda: render(clip, tmp_path / "out.mp4"), lambda: deliver(clip, "web", tmp_path / "out.mp4")):
        with pytest.raises(InputError, match=r"is HDR \((PQ|HLG)\).*: put the step tonemap"):
            refused()
