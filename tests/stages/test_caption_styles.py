"""What is seen of burnt captions: the style, the moment, the place, the direction; and what cannot be drawn."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from lab import described, picture_of, sound_of
from numpy.typing import NDArray
from PIL import Image

import presets
from stages import Clip, Cue, InputError, Size, Word, caption, concat, fit, open_clip, reverse, trim
from stages.clip import Captions, CaptionStyle, Margins, filtered
from stages.delivery import cut
from stages.ffmpeg import run_command, still_command
from stages.subtitles import edges, srt, styled, timed, vtt

Rgb = NDArray[np.int16]
ZERO, HALF = Fraction(0), Fraction(1, 2)
WORDS = tuple(Word(text, number * HALF, (number + 1) * HALF) for number, text in enumerate(("One", "round", "rabbit")))


def talking() -> Clip:
    """A clip that says three words, half a second each."""
    clip = described(seconds=3)
    return replace(clip, sound=replace(sound_of(clip), words=WORDS))


def gold(frame: Rgb) -> NDArray[np.bool_]:
    """Where it is of the highlight's colour."""
    return np.asarray((frame[..., 0] > 150) & (frame[..., 1] > 120) & (frame[..., 2] < 90))


def white(frame: Rgb) -> NDArray[np.bool_]:
    return np.asarray((frame > 150).all(axis=2))


def centre(where: NDArray[np.bool_]) -> float:
    """The middle of the columns, as a share of the width."""
    return float(np.flatnonzero(where.any(axis=0)).mean() / where.shape[1])


@pytest.fixture
def black(shot: Path) -> Clip:
    """Real film, blacked out, with the words."""
    clip = open_clip(shot)
    dark = filtered("drawbox", picture_of(clip).stream, color="black", t="fill")
    return replace(
        clip, picture=replace(picture_of(clip), stream=dark), sound=replace(sound_of(talking()), words=WORDS)
    )


def look(clip: Clip, at: str, folder: Path) -> Rgb:
    picture = picture_of(clip)
    run_command(still_command(picture, int(Fraction(at) * picture.rate), "still.png"), folder)
    return np.asarray(Image.open(folder / "still.png").convert("RGB")).astype(np.int16)


@pytest.mark.parametrize("size", ["320x180", "180x320"])
def test_the_word_being_said_is_gold_in_its_place(black: Clip, size: str, tmp_path: Path) -> None:
    clip = fit(caption(black, style="bold-word"), size=size)
    first, last = look(clip, "1/4", tmp_path), look(clip, "5/4", tmp_path)
    assert centre(gold(first)) < 0.45 < 0.55 < centre(gold(last))
    assert white(first).sum() > white(last).sum() > 20  # "rabbit" takes more room than "One"
    clean = look(fit(caption(black), size=size), "1/4", tmp_path)
    assert not gold(clean).any()
    assert abs(centre(np.asarray((clean > 80).any(axis=2))) - 0.5) < 0.02
    after = look(caption(fit(black, size=size), style="bold-word"), "1/4", tmp_path)
    assert np.array_equal(first, after)


def test_karaoke_fills_the_line_while_it_is_said(black: Clip, tmp_path: Path) -> None:
    clip = fit(caption(black, style="karaoke"), size="320x180")
    share = []
    for at in ("1/12", "1/2", "1", "35/24"):
        frame = look(clip, at, tmp_path)
        share.append(gold(frame).sum() / (gold(frame).sum() + white(frame).sum()))
    assert share == sorted(share)
    assert share[0] < 0.15
    assert share[-1] > 0.9
    assert not (look(clip, "37/24", tmp_path) > 40).any()  # and then it is gone


@pytest.mark.parametrize("style", ["clean", "bold-word", "karaoke"])
def test_captions_of_every_style_keep_to_the_safe_area(black: Clip, style: CaptionStyle, tmp_path: Path) -> None:
    safe = Margins.parse("14% 6% 35% 6%")  # Reels
    clip = fit(caption(black, style=style), size="180x320")
    frame = look(replace(clip, picture=replace(picture_of(clip), safe=safe)), "1/4", tmp_path)
    drawn = np.asarray((frame > 60).any(axis=2))
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    _, right, bottom, left = edges(Size(180, 320), safe)
    assert len(rows) > 5
    assert 320 / 2 < rows.min() < rows.max() < 320 - bottom
    assert left <= columns.min() < columns.max() < 180 - right


# ---------------------------------------------------------------- fonts


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A font with two Hebrew letters, alef a full box, bet a low one, and a Chinese sign, another full box."""
    builder = FontBuilder(1000, isTTF=True)
    heights = {".notdef": 100, "space": 1, "alef": 900, "bet": 150, "yong": 900}
    glyphs = {}
    for name, height in heights.items():
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        for corner in ((100, height), (900, height), (900, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyphOrder(list(heights))
    builder.setupCharacterMap({0x20: "space", 0x5D0: "alef", 0x5D1: "bet", 0x6C38: "yong"})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(heights, (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular", "fullName": "Boxes Regular"})
    builder.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    builder.save(tmp_path / "boxes.ttf")
    return tmp_path / "boxes.ttf"


def test_hebrew_is_drawn_from_the_right_with_a_font_that_has_it(black: Clip, boxes: Path, tmp_path: Path) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt([Cue("א ב", Fraction(0), Fraction(1))]), encoding="utf-8")
    frame = look(fit(caption(black, file=file, font=boxes), size="320x180"), "1/4", tmp_path)
    tall = white(frame).sum(axis=0)
    left, right = tall[: len(tall) // 2].max(), tall[len(tall) // 2 :].max()
    assert right > 2 * left > 0  # alef, the first letter, stands on the right


def test_hebrew_is_sung_from_the_right_too(black: Clip, boxes: Path, tmp_path: Path) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt([Cue("אאא אאא", Fraction(0), Fraction(2))]), encoding="utf-8")
    frame = look(fit(caption(black, file=file, font=boxes, style="karaoke"), size="320x180"), "1/2", tmp_path)
    sung, waiting = np.flatnonzero(gold(frame).any(axis=0)), np.flatnonzero(white(frame).any(axis=0))
    assert waiting.max() < sung.min()  # in the middle of the first word: none of it is left to be sung


@pytest.mark.parametrize("size", ["320x180", "180x320"])
def test_chinese_is_broken_inside_the_safe_area(black: Clip, boxes: Path, size: str, tmp_path: Path) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt([Cue("永" * 24, Fraction(0), Fraction(1))]), encoding="utf-8")
    frame = look(fit(caption(black, file=file, font=boxes), size=size), "1/4", tmp_path)
    columns = np.flatnonzero((frame > 80).all(axis=2).any(axis=0))
    _, right, _, left = edges(Size.parse(size), None)
    assert left <= columns.min() < columns.max() < frame.shape[1] - right
    assert abs(columns.mean() / frame.shape[1] - 0.5) < 0.02


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "漢字",
            "'字' (U+5B57); give font: the file of Noto Sans CJK (apt install fonts-noto-cjk)",
        ),
        ("שלום", "DejaVu Sans (apt install fonts-dejavu-core)"),
        ("ok 😀", "lacks '😀' (U+1F600); give font: the file of a font of one colour that has it"),
    ],
)
def test_what_our_font_lacks_is_said_before_anything_is_made(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt([Cue(text, Fraction(0), Fraction(1))]), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        caption(described(), file=file)
    assert sentence in str(refused.value)
    assert caption(described(), file=file, burn=False, sidecar="srt")  # a file needs no font


def test_a_font_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_text("no font")
    with pytest.raises(InputError, match=r"font\.ttf: is no font that can be read"):
        caption(talking(), font=tmp_path / "font.ttf")
    with pytest.raises(InputError, match="there is no such file"):
        caption(talking(), font=tmp_path / "none.ttf")


# ---------------------------------------------------------------- words and files


def cues_of(clip: Clip) -> tuple[Cue, ...]:
    captions = picture_of(clip).captions
    assert captions
    return captions.cues


def test_words_keep_their_times_through_cuts() -> None:
    clip = caption(talking(), style="karaoke")
    short = cues_of(trim(clip, start="0.5s"))[0]
    assert [(word.start, word.end) for word in timed(short)] == [(ZERO, ZERO), (ZERO, HALF), (HALF, Fraction(1))]
    joined = concat((clip, clip))
    assert cues_of(joined)[1].words[1] == Word("round", Fraction(7, 2), Fraction(4))
    with pytest.raises(InputError, match="captioned in different ways"):
        concat((clip, caption(talking())))
    backwards = cues_of(reverse(clip))[0]
    assert timed(backwards)[0].start == backwards.start  # they are no longer said in order: shared by length


def test_words_without_times_share_their_cues() -> None:
    words = timed(Cue("ab cd", Fraction(0), Fraction(5)))
    assert [(word.text, word.start, word.end) for word in words] == [
        ("ab ", ZERO, Fraction(3)),
        ("cd", Fraction(3), Fraction(5)),
    ]
    assert timed(Cue("  ", Fraction(0), Fraction(1))) == ()


def test_karaoke_counts_from_the_moments() -> None:
    third = Fraction(1, 3)
    words = tuple(Word("a", number * third, (number + 1) * third) for number in range(3))
    text = styled([Cue("a a a", Fraction(0), Fraction(1), words)], Size(640, 360), style="karaoke")
    assert "{\\kf33}a {\\kf34}a {\\kf33}a\n" in text


def test_captions_of_another_clip_or_of_webvtt(tmp_path: Path) -> None:
    assert cues_of(caption(described(), of=talking())) == cues_of(caption(talking()))
    file = tmp_path / "words.vtt"
    file.write_text("WEBVTT\n\nNOTE x\n\n00:00.500 --> 00:01.000 align:left\n<v Ann>a &lt;b&gt; <i>c</i>\n")
    assert cues_of(caption(described(), file=file)) == (Cue("a <b> c", HALF, Fraction(1)),)
    file.write_text(vtt(cues_of(caption(described(), file=file))))
    assert cues_of(caption(described(), file=file)) == (Cue("a <b> c", HALF, Fraction(1)),)
    with pytest.raises(InputError, match="not both"):
        caption(described(), file=file, of=talking())
    with pytest.raises(InputError, match="no words are known of that clip"):
        caption(described(), of=described())
    with pytest.raises(InputError, match="nothing is drawn"):
        caption(talking(), burn=False, style="karaoke")


def test_both_files_at_once() -> None:
    assert Captions((), sidecar="both").formats == ("srt", "vtt")
    assert Captions((), sidecar="vtt").formats == ("vtt",)


PLATFORMS = [name for name in presets.names("delivery") if "safe_area" in presets.read("delivery", name).values]
"""Those that say how far their buttons reach into the frame."""


@pytest.mark.parametrize("preset", PLATFORMS)
def test_captions_keep_to_the_safe_area_of_every_platform(black: Clip, preset: str, tmp_path: Path) -> None:
    """Two full lines, in the delivered frame, by the preset's own numbers."""
    file = tmp_path / "words.srt"
    file.write_text(
        srt(
            [
                Cue(
                    "WOMEN WALKED WESTWARD WITH MANY MERRY GNUS\nand jumped quickly over gloomy gypsy bogs",
                    ZERO,
                    Fraction(3),
                )
            ]
        ),
        encoding="utf-8",
    )
    made = cut(caption(black, file=file), preset)
    top, right, bottom, left = (float(one[:-1]) / 100 for one in presets.read("delivery", preset)["safe_area"].split())
    frame = look(made.clip, "1/4", tmp_path)
    height, width = frame.shape[:2]
    drawn = np.asarray((frame > 60).any(axis=2))
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    assert len(rows) > height / 30
    assert len(columns) > width / 4
    assert top * height <= rows.min() < rows.max() < (1 - bottom) * height
    assert left * width <= columns.min() < columns.max() < (1 - right) * width


def test_there_are_platforms_with_a_safe_area() -> None:
    assert {"instagram-reels", "youtube-shorts"} <= set(PLATFORMS)
