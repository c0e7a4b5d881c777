"""Times, sizes and levels: read exactly as they are written, and refused in one sentence."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described

from stages.clip import (
    Action,
    Filter,
    Frames,
    Origin,
    Size,
    Stream,
    decibels,
    filtered,
    frame_count,
    origins,
    parse_decibels,
    parse_switch,
    parse_time,
    printed_seconds,
    samples_for,
    seconds,
    sources,
)
from stages.errors import InputError

rates = st.sampled_from([Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])

# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("6s", 6),
        ("6", 6),
        (" 6.5 s ", Fraction(13, 2)),
        ("0.1s", Fraction(1, 10)),
        ("800ms", Fraction(4, 5)),
        ("2m", 120),
        ("1.5 min", 90),
        ("1 second", 1),
        ("00:00:06.5", Fraction(13, 2)),
        ("00:00:06,500", Fraction(13, 2)),
        ("1:02", 62),
        ("01:02:03", 3723),
    ],
)
def test_seconds_are_exact(text: str, time: Fraction) -> None:
    assert parse_time(text) == time
    assert isinstance(parse_time(text), Fraction)


def test_frames_are_counted_at_the_clips_own_rate() -> None:
    assert parse_time("180f") == parse_time("180 frames") == Frames(180)
    assert seconds(Frames(48), Fraction(24)) == 2
    assert seconds("180f", Fraction(24000, 1001)) == Fraction(1001 * 180, 24000)
    assert frame_count("180f", Fraction(24000, 1001)) == 180


@pytest.mark.parametrize(
    "text", ["", "two", "6x", "-1s", "6 s s", "1:99", "1:2:3:4", "1e3", "inf", "nan", "6,5", "٣ s x"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_time(text)
    assert str(refused.value) == f"should be a time such as 6s, 180f or 00:00:06.5, not '{text.strip()}'"


@given(st.text(max_size=12) | st.from_regex(r"[0-9:., ]{1,9}(s|ms|f|m)?", fullmatch=True))
def test_any_text_is_a_time_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert seconds(parse_time(text), Fraction(24)) >= 0


@given(st.integers(0, 10**6), rates)
def test_a_frame_count_survives_the_way_through_seconds(frames: int, rate: Fraction) -> None:
    assert frame_count(frames / rate, rate) == frames


@given(st.integers(1, 10**6), rates)
def test_sound_lasts_as_long_as_its_frames(frames: int, rate: Fraction) -> None:
    assert abs(Fraction(samples_for(frames, rate), 48_000) - frames / rate) <= Fraction(1, 96_000)


@pytest.mark.parametrize(
    ("time", "text"),
    [(6, "6"), (Fraction(13, 2), "6.5"), (Fraction(1, 24), "0.042"), (0, "0"), (100, "100")],
)
def test_seconds_are_printed_for_people(time: Fraction, text: str) -> None:
    assert printed_seconds(Fraction(time)) == text


# ---------------------------------------------------------------- levels and switches


@pytest.mark.parametrize(
    ("text", "level"),
    [("-3 dB", -3), ("10dB", 10), ("+1.5 db", 1.5), ("-14 LUFS", -14), ("-1 dBTP", -1), (" -23 ", -23), ("0", 0)],
)
def test_levels(text: str, level: float) -> None:
    assert parse_decibels(text) == level == decibels(level)


@pytest.mark.parametrize("text", ["", "loud", "3 bel", "--3", "1e400", "inf", "nan dB"])
def test_what_is_no_level_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="should be a level such as -3 dB or -14 LUFS, not"):
        parse_decibels(text)


def test_switches() -> None:
    assert all(map(parse_switch, ("true", "Yes", " on ")))
    assert not any(map(parse_switch, ("false", "NO", "off")))
    with pytest.raises(InputError, match="should be true or false, not '1'"):
        parse_switch("1")


# ---------------------------------------------------------------- sizes

even = st.integers(8, 4096).map(lambda half: 2 * half)


@given(even, even)
def test_a_size_reads_what_it_prints(width: int, height: int) -> None:
    size = Size(width, height)
    assert Size.parse(str(size)) == Size.parse(f" {width} × {height} ") == size
    assert size.aspect == Fraction(width, height)


@pytest.mark.parametrize("text", ["", "1280", "1280x", "x720", "1280*720", "1280x720x3", "-2x16", "12.5x20"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="should be a size such as 1280x720, not"):
        Size.parse(text)


@pytest.mark.parametrize("text", ["1279x720", "1280x721", "8x720", "16384x720", "0x0"])
def test_a_size_that_no_delivery_can_have_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"should be a size of even numbers from 16 to 8192, not '{text}'"):
        Size.parse(text)


# ---------------------------------------------------------------- clips


def test_a_clip_lasts_as_long_as_its_picture_else_its_sound() -> None:
    clip = described(seconds=2)
    assert clip.duration == 2
    assert type(clip)(sound=clip.sound).duration == 2
    assert type(clip)().duration == 0


def test_a_stream_read_twice_has_its_source_once_in_the_order_met() -> None:
    (picture, sound) = described().streams
    read = filtered("overlay", filtered("split", picture), filtered("split", picture))
    assert sources(read, sound) == (picture, sound)


def test_sources_of_deeply_shared_reads_are_found_at_once() -> None:
    (picture, _) = described().streams
    stream: Stream = picture
    for _ in range(60):  # 2 to the 60th ways down
        stream = Filter("overlay", (), (stream, stream))
    assert sources(stream) == (picture,)


def test_what_a_model_was_shown_is_an_input_before_its_film_has_a_name() -> None:
    shown = (Action("generate", file=Path("first.mp4"), ai=True), Action("still"))
    attested = (Action("generate", ai=True, inputs=(shown,)),)
    assert origins(attested) == (Origin(Path("first.mp4"), "inputTo", True),)


def test_origins_put_the_first_picture_first() -> None:
    film, music, photo = Path("film.mp4"), Path("music.wav"), Path("photo.png")
    shown = (Action("open", file=photo),)
    history = (
        Action("generate", file=film, ai=True, inputs=(shown,)),
        Action("trim"),
        Action("mix_audio", inputs=((Action("open", file=music),),)),
        Action("mix_audio", inputs=((Action("open", file=music),),)),
    )
    assert origins(history) == (
        Origin(film, "parentOf", True),
        Origin(photo, "inputTo", False),
        Origin(music, "componentOf", False),
    )
    created = replace(history[0], file=None)
    assert origins((created,)) == (Origin(photo, "inputTo", False),), "shown to a model, whoever has the film"
