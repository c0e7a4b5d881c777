"""Crops stay inside, shapes stay exact, and one edit of the frame after another shows what both ask for."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, picture_of

from stages import Clip, InputError, Size, fit, upscale
from stages.clip import Box, Filter, Scaler, Stream
from stages.framing import parse_target
from stages.geometry import inside, parse_focus

even = st.integers(8, 2160).map(lambda half: 2 * half)
sizes = st.builds(Size, even, even)
shares = st.integers(0, 100).map(lambda hundredths: f"{hundredths / 100:.2f}")


def of(size: Size) -> Clip:
    return described(str(size))


def scaler_of(clip: Clip) -> Scaler:
    scaler = picture_of(clip).scaler
    assert scaler
    return scaler


def filters_of(clip: Clip) -> list[tuple[str, dict[str, object]]]:
    """The filters in front of the scaler, in order."""
    found: list[tuple[str, dict[str, object]]] = []
    stream: Stream = picture_of(clip).stream
    while isinstance(stream, Filter):
        found.insert(0, (stream.name, dict(stream.options)))
        stream = stream.inputs[0]
    return found


# ---------------------------------------------------------------- the text


@pytest.mark.parametrize(
    ("text", "target"),
    [("1080p", 1080), ("4K", 2160), ("1.5x", Fraction(3, 2)), ("2x", Fraction(2)), ("1920x1080", Size(1920, 1080))],
)
def test_targets(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "big", "1080", "1919x1080", "-2x", "x2"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"should be a size such as 1080p, 4k, 1\.5x or 1920x1080, not"):
        parse_target(text)


@pytest.mark.parametrize("text", ["left", "0.3", "1.3x0.5", "0.3x2", "-0.1x0.5", "", "x"])
def test_what_is_no_focus_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"should be center or a point such as 0\.3x0\.7 .*, not"):
        parse_focus(text)


# ---------------------------------------------------------------- upscale


@pytest.mark.parametrize(
    ("size", "asked", "frame"),
    [
        ("1280x720", "1080p", "1920x1080"),
        ("720x1280", "1080p", "1080x1920"),
        ("1280x720", "4k", "3840x2160"),
        ("1280x720", "1.5x", "1920x1080"),
        ("1280x720", "0.5x", "640x360"),
        ("864x496", "1080p", "1882x1080"),
        ("1112x834", "1080p", "1440x1080"),
    ],
)
def test_upscale_keeps_the_shape(size: str, asked: str, frame: str) -> None:
    assert str(picture_of(upscale(described(size), size=asked)).frame) == frame


def test_upscale_to_the_same_size_is_the_clip_itself() -> None:
    clip = described("1920x1080")
    assert upscale(clip, size="1080p") is clip


def test_upscale_into_another_shape_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        upscale(described("1280x720"), size="1080x1920")
    assert str(refused.value) == "upscale: 1080x1920 has another shape than the clip's 1280x720; use fit for that"


@pytest.mark.parametrize("size", ["0x", "0.001x", "1000x"])
def test_upscale_to_a_size_that_no_video_has_is_refused(size: str) -> None:
    with pytest.raises(InputError, match=r"upscale: \S+ of 1280x720 is \S+; .* 16 to 8192"):
        upscale(described("1280x720"), size=size)


def test_a_sound_has_no_frame() -> None:
    sound = replace(described(), picture=None)
    with pytest.raises(InputError, match="upscale: the clip has no picture"):
        upscale(sound, size="1080p")
    with pytest.raises(InputError, match="fit: the clip has no picture"):
        fit(sound, size="160x90")


# ---------------------------------------------------------------- fit


@given(sizes, sizes, shares, shares)
def test_cover_crops_inside_the_picture_to_exactly_the_frames_shape(size: Size, frame: Size, x: str, y: str) -> None:
    clip = fit(of(size), size=frame, focus=f"{x}x{y}")
    assert picture_of(clip).frame == frame
    if frame == size:
        return
    window = scaler_of(clip).window
    assert window.width / window.height == frame.aspect
    assert window.width == size.width or window.height == size.height
    assert 0 <= window.x <= window.x + window.width <= size.width
    assert 0 <= window.y <= window.y + window.height <= size.height
    left, top, width, height = window.even(size)
    assert left % 2 == top % 2 == width % 2 == height % 2 == 0
    assert 0 <= left < left + width <= size.width
    assert 0 <= top < top + height <= size.height


@given(sizes, sizes)
def test_contain_shows_everything_and_touches_two_edges(size: Size, frame: Size) -> None:
    clip = fit(of(size), size=frame, mode="contain")
    assert picture_of(clip).frame == frame
    if frame == size:
        return
    shown = scaler_of(clip)
    assert shown.window == Box.of(size)
    assert shown.size.width % 2 == shown.size.height % 2 == 0
    assert shown.size.width <= frame.width
    assert shown.size.height <= frame.height
    assert shown.size.width == frame.width or shown.size.height == frame.height


@given(sizes, sizes)
def test_what_fits_inside_keeps_its_shape_to_a_pixel(size: Size, frame: Size) -> None:
    small = inside(size, frame)
    assert abs(small.width - small.height * size.aspect) <= 2 + 2 * size.aspect
    assert min(small.width, small.height) >= 2


def test_the_focus_is_kept_in_the_middle() -> None:
    window = scaler_of(fit(described("1280x720"), size="720x720", focus="0.7x0.5")).window
    assert window == Box(Fraction(536), Fraction(0), Fraction(720), Fraction(720))


def test_stretch_shows_everything_at_the_frames_size() -> None:
    assert scaler_of(fit(described("160x90"), size="90x160", mode="stretch")) == Scaler(
        Box.of(Size(160, 90)), Size(90, 160), Size(90, 160)
    )


def test_the_frame_it_has_is_the_clip_itself() -> None:
    clip = described("160x90")
    assert fit(clip, size="160x90") is clip
    enlarged = upscale(clip, size="320x180")
    assert fit(enlarged, size="320x180") is enlarged


# ---------------------------------------------------------------- one after another


def test_fit_after_upscale_crops_the_source_and_resamples_once() -> None:
    clip = fit(upscale(described("1280x720"), size="1080p"), size="1080x1920")
    assert filters_of(clip) == []
    assert scaler_of(clip) == Scaler(
        Box(Fraction(875, 2), Fraction(0), Fraction(405), Fraction(720)), Size(1080, 1920), Size(1080, 1920)
    )


def test_upscale_after_fit_enlarges_the_crop_and_resamples_once() -> None:
    cropped = fit(described("1280x720"), size="360x640")
    clip = upscale(cropped, size="1080x1920")
    assert filters_of(clip) == []
    assert scaler_of(clip) == replace(scaler_of(cropped), size=Size(1080, 1920), canvas=Size(1080, 1920))


def test_upscale_after_contain_enlarges_the_bars_too() -> None:
    clip = upscale(fit(described("1280x720"), size="360x640", mode="contain"), size="2x")
    assert scaler_of(clip) == Scaler(Box.of(Size(1280, 720)), Size(720, 404), Size(720, 1280))


def test_fit_after_contain_sees_the_bars() -> None:
    barred = fit(described("1280x720"), size="720x720", mode="contain")
    clip = fit(barred, size="720x1280", mode="contain")
    assert filters_of(clip) == [
        ("crop", {"w": 1280, "h": 720, "x": 0, "y": 0}),
        ("pad", {"w": 1280, "h": 1280, "x": 0, "y": 280}),
    ]
    assert scaler_of(clip) == Scaler(Box.of(Size(1280, 1280)), Size(720, 720), Size(720, 1280))


def test_fit_after_a_crop_sees_only_what_was_left() -> None:
    clip = fit(fit(described("1280x720"), size="720x720", focus="0x0.5"), size="360x720", focus="1x0.5")
    assert filters_of(clip) == [("crop", {"w": 720, "h": 720, "x": 0, "y": 0})]
    assert scaler_of(clip).window == Box(Fraction(360), Fraction(0), Fraction(360), Fraction(720))


def test_fit_after_stretch_keeps_the_stretched_shape() -> None:
    clip = fit(fit(described("160x90"), size="160x160", mode="stretch"), size="320x320")
    assert scaler_of(clip).size == scaler_of(clip).canvas == Size(320, 320)
    assert scaler_of(clip).window.width / scaler_of(clip).window.height == picture_of(clip).size.aspect


def test_fit_after_blur_keeps_the_blurred_bars() -> None:
    clip = fit(fit(described("160x90"), size="160x160", mode="blur"), size="320x640", mode="contain")
    assert "gblur" in [name for name, _ in filters_of(clip)] or scaler_of(clip).background == "blur"


@given(sizes, sizes, sizes, st.sampled_from(["cover", "contain"]), st.sampled_from(["cover", "contain"]))
def test_any_two_fits_end_in_the_last_frame(size: Size, first: Size, last: Size, one: str, other: str) -> None:
    clip = fit(fit(of(size), size=first, mode=one), size=last, mode=other)  # type: ignore[arg-type]  # drawn from them
    assert picture_of(clip).frame == last
    for _, options in filters_of(clip):
        assert all(isinstance(value, int) and value % 2 == 0 and value >= 0 for value in options.values())
    if picture_of(clip).scaler:
        window = scaler_of(clip).window
        assert window.x + window.width <= picture_of(clip).size.width
        assert window.y + window.height <= picture_of(clip).size.height
