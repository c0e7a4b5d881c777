"""What is laid over a picture is seen where and while it was asked for, in the frame that is delivered."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import LOSSLESS, TAGS, colour, described, film, luma, picture_of, planes
from PIL import Image

from stages import (
    Clip,
    Cue,
    Encoding,
    InputError,
    Size,
    concat,
    deliver,
    end_card,
    fit,
    label,
    loop,
    open_clip,
    overlay,
    render,
    still,
    trim,
    upscale,
)
from stages.clip import Captions, Margins, Overlay, origins
from stages.delivery import cut
from stages.manifest import action_names, manifest_of
from stages.provenance import read_credentials
from stages.subtitles import TITLE_SAFE, edges, styled

EXACT = Encoding(preset="ultrafast", crf=0, profile="", gop=Fraction(10), b_frames=0)
Mask = npt.NDArray[np.bool_]
BLUE = (0, 0, 255, 255)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """1 s of mid grey at 24 fps, 320x180: what is drawn on it shows."""
    source = f"color=gray:s=320x180:r=24:d=1,format=yuv420p,geq=lum=126:cb=128:cr=128,{TAGS}"
    return open_clip(film(tmp_path_factory.mktemp("grey") / "grey.mp4", "-f", "lavfi", "-i", source, *LOSSLESS))


@pytest.fixture(scope="module")
def logo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60x30: a blue half, and one that is half transparent."""
    image = Image.new("RGBA", (60, 30), BLUE)
    image.paste((0, 0, 255, 128), (30, 0, 60, 30))
    file = tmp_path_factory.mktemp("logo") / "it's a [logo]; 50%, no: 2.png"
    image.save(file)
    return file


def changed(clip: Clip, tmp_path: Path) -> list[Mask]:
    """Where each frame is not the grey that it was."""
    render(clip, tmp_path / "drawn.mp4", EXACT)
    return [abs(frame.astype(int) - 126) > 4 for frame in luma(tmp_path / "drawn.mp4")]


def box(frame: Mask) -> tuple[int, int, int, int]:
    """Top, right, bottom and left of what is drawn: how many lines and columns are free before it."""
    rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
    height, width = frame.shape
    return int(rows[0]), int(width - 1 - columns[-1]), int(height - 1 - rows[-1]), int(columns[0])


# ---------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("corner", "free"),
    [
        ("top-left", (8, 268, 154, 16)),
        ("top", (8, 142, 154, 142)),
        ("top-right", (8, 16, 154, 268)),
        ("center", (80, 142, 82, 142)),
        ("bottom-left", (152, 268, 10, 16)),
        ("bottom", (152, 142, 10, 142)),
        ("bottom-right", (152, 16, 10, 268)),
    ],
)
def test_an_image_stands_in_its_corner_of_the_safe_area(
    corner: Any, free: tuple[int, ...], grey: Clip, logo: Path, tmp_path: Path
) -> None:
    frames = changed(overlay(trim(grey, length="1f"), image=logo, corner=corner), tmp_path)
    assert box(frames[0]) == free


def test_a_margin_is_kept_beyond_the_safe_area(grey: Clip, logo: Path, tmp_path: Path) -> None:
    clip = overlay(trim(grey, length="1f"), image=logo, corner="bottom-left", margin="10%", size="40%")
    assert box(changed(clip, tmp_path)[0]) == (180 - 28 - 36, 320 - 34 - 72, 28, 34)


@pytest.mark.parametrize("corner", ["top-left", "bottom-right"])
def test_a_text_stands_in_its_corner_of_the_safe_area(corner: Any, grey: Clip, tmp_path: Path) -> None:
    top, right, bottom, left = box(
        changed(overlay(trim(grey, length="1f"), text="Only today", corner=corner), tmp_path)[0]
    )
    near = (top, left) if corner == "top-left" else (bottom, right)
    far = (bottom, right) if corner == "top-left" else (top, left)
    assert all(edge - 3 <= found <= edge + 6 for edge, found in zip((9, 16), near, strict=True))
    assert min(far) > 140


def test_a_platform_has_a_safe_area_of_its_own(logo: Path) -> None:
    clip = overlay(described(seconds=6), image=logo)
    picture = cut(clip, "instagram-reels").picture
    assert edges(picture.frame, picture.safe) == (269, 65, 672, 65)
    assert edges(Size(1920, 1080), cut(clip, "web").picture.safe) == (54, 96, 54, 96)
    assert edges(Size(1080, 1920), None) == (96, 54, 346, 54)


def test_captions_keep_to_a_platforms_safe_area_too() -> None:
    cues = (Cue("Hello", Fraction(0), Fraction(1)),)
    assert ",2,65,65,672,1" in styled(cues, Size(1080, 1920), safe=Margins.parse("14% 6% 35% 6%"))


def test_what_is_laid_on_before_a_crop_is_not_cut_by_it(grey: Clip, logo: Path, tmp_path: Path) -> None:
    def laid(clip: Clip) -> Clip:
        return label(overlay(clip, image=logo, corner="bottom-right"))

    clip = trim(grey, length="1f")
    render(fit(laid(clip), size="90x160"), tmp_path / "before.mp4", EXACT)
    render(laid(fit(clip, size="90x160")), tmp_path / "after.mp4", EXACT)
    (before,), (after,) = luma(tmp_path / "before.mp4"), luma(tmp_path / "after.mp4")
    assert np.array_equal(before, after)
    free = box(abs(before.astype(int) - 126) > 4)
    assert free[1] >= 4
    assert free[2] >= 28


def test_a_label_stands_on_its_ground_inside_the_safe_area(grey: Clip, tmp_path: Path) -> None:
    frames = changed(label(upscale(grey, size="2x")), tmp_path)
    assert len({box(frame) for frame in frames}) == 1
    top, right, bottom, left = box(frames[0])
    assert (top, left) == (18, 32)
    assert right > 480
    assert bottom > 310
    assert frames[0][top : 360 - bottom, left : 640 - right].mean() > 0.9  # a whole box, not letters alone


def test_a_label_and_a_caption_do_not_cover_each_other(grey: Clip, tmp_path: Path) -> None:
    clip = trim(grey, length="1f")
    cues = Captions((Cue("A line that is said", Fraction(0), Fraction(1)),))
    said = replace(clip, picture=replace(picture_of(clip), captions=cues))
    both, alone, labelled = (
        changed(one, tmp_path)[0] for one in (label(said, corner="bottom"), said, label(clip, corner="bottom"))
    )
    assert both.sum() == pytest.approx(alone.sum() + labelled.sum(), rel=0.05)
    assert (both & labelled).sum() == labelled.sum()  # the label stays where it is, the caption gives way


# ---------------------------------------------------------------- how it looks


def test_an_image_keeps_its_colour_its_shape_and_its_transparency(grey: Clip, logo: Path, tmp_path: Path) -> None:
    clip = overlay(trim(grey, length="1f"), image=logo, corner="center", size="100%")
    render(clip, tmp_path / "drawn.mp4", EXACT)
    (frame,) = planes(tmp_path / "drawn.mp4")
    assert colour(frame, 0.35, 0.5) == pytest.approx((0, 0, 255), abs=4)
    assert colour(frame, 0.65, 0.5) == pytest.approx((64, 64, 192), abs=5)
    assert colour(frame, 0.5, 0.1) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.parametrize("text", ["{curly} \\N C:\\new", "50% – “naïve” Ωmega 'quoted', a → b; [x]", "<i>&amp;</i>"])
def test_a_text_is_drawn_as_it_is_written(text: str, grey: Clip, tmp_path: Path) -> None:
    clip = upscale(trim(grey, length="1f"), size="4x")
    bare = "".join(c for c in text if c not in "{}\\<>&;[]%':")
    whole, less = (box(changed(overlay(clip, text=words, corner="top-left"), tmp_path)[0]) for words in (text, bare))
    assert whole[2] >= 720 - 36 - 70  # one line
    assert less[1] - whole[1] > 4 * (len(text) - len(bare))  # each character takes room


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_no_text_is_a_command_or_another_line(text: str) -> None:
    laid = Overlay("top", Fraction(1, 20), Fraction(0), Fraction(0), Fraction(1), text.strip())
    script = styled((), Size(320, 180), (laid,))
    (line,) = (line for line in script.split("[Events]")[1].splitlines() if line.startswith("Dialogue"))
    said = line.split(",text0,", 1)[1]
    assert "{" not in said.replace("\\{", "")
    assert script.split("[Events]")[1].count("\n") == 3


# ---------------------------------------------------------------- while


def test_it_is_seen_exactly_while_it_was_asked_for(grey: Clip, logo: Path, tmp_path: Path) -> None:
    for laid in ({"image": logo}, {"text": "Now"}):
        frames = changed(overlay(grey, start="5f", end="0.5s", **laid), tmp_path)
        assert [bool(frame.any()) for frame in frames] == [5 <= number < 12 for number in range(24)], laid


def spans(clip: Clip) -> list[tuple[float, float]]:
    return [(float(one.start * 24), float(one.end * 24)) for one in picture_of(clip).overlays]


def test_it_follows_its_frames_through_cuts_joins_and_loops(logo: Path) -> None:
    clip = overlay(described(seconds=3), image=logo, start="24f", end="48f")
    assert spans(trim(clip, start="30f")) == [(0, 18)]
    assert spans(trim(clip, end="24f")) == []
    assert spans(concat((described(seconds=1), clip))) == [(48, 72)]
    assert spans(loop(clip, overlap="12f")) == [(12, 36)]
    assert spans(loop(label(described(seconds=3)), overlap="12f")) == [(0, 54), (54, 60)]


def test_one_frame_of_it_shows_it_too(grey: Clip, logo: Path, tmp_path: Path) -> None:
    clip = overlay(grey, image=logo, start="5f", end="12f")
    drawn = [
        np.asarray(Image.open(still(clip, at=at, folder=tmp_path).file)).std() > 1 for at in ("4f", "5f", "11f", "12f")
    ]
    assert drawn == [False, True, True, False]


# ---------------------------------------------------------------- on record, and refused


def test_the_record_says_what_was_laid_over(logo: Path) -> None:
    clip = overlay(overlay(label(described()), image=logo), text="Only today")
    assert [action.name for action in clip.history[1:]] == ["label", "overlay", "overlay"]
    assert dict(clip.history[2].parameters) == {"image": logo.name}
    origin = clip.history[0].file
    assert origin
    assert [(one.file, one.relationship) for one in origins(clip.history)] == [
        (origin, "parentOf"),
        (logo, "componentOf"),
    ]
    ids = {origin: "parent", logo: "component-1"}
    assert action_names(clip.history, ids, frozenset()) == (
        "c2pa.opened",
        "c2pa.addedText",
        "c2pa.placed",
        "c2pa.addedText",
    )
    signed = manifest_of(clip.history, ids, frozenset(), title="x", transcoded=True)
    said = [action.get("description") for action in signed["assertions"][0]["data"]["actions"]]
    assert said[1:4] == [
        "Labelled as made by a model",
        "An image laid over the picture",
        "A text laid over the picture",
    ]


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_an_image_is_an_ingredient_of_what_it_is_laid_over(
    suffix: str, grey: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = tmp_path / f"logo.{suffix}"
    Image.new("RGB", (40, 40), "white").save(image)
    clip = end_card(overlay(trim(grey, length="2f"), image=image), image=Path(image.name), length="2f")
    found = read_credentials(deliver(clip, "web", tmp_path / "out.mp4").file)
    assert [(one.title, one.relationship) for one in found.ingredients[1:]] == [(image.name, "componentOf")]
    assert [name for name, _, _ in found.actions].count("c2pa.placed") == 2


def test_a_picture_that_was_made_is_a_component_of_what_it_is_laid_over(grey: Clip, tmp_path: Path) -> None:
    frame = still(grey, folder=tmp_path)
    clip = overlay(described(), image=frame)
    assert clip.history[-1].inputs == (frame.history,)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "give an image: or a text:, one of them"),
        ({"text": " "}, "give an image: or a text:, one of them"),
        ({"text": "x", "start": "3s"}, "starts at 3 s, after the end of a 3 s clip"),
        ({"text": "x", "end": "4s"}, "ends at 4 s, after the end of a 3 s clip"),
        ({"text": "x", "start": "2s", "end": "1s"}, "2–1 s leaves nothing of it"),
        ({"text": "x", "size": "0%"}, "should be more than 0%"),
        ({"text": "x", "size": "101%"}, "should be a share such as 20%, not '101%'"),
        ({"text": "x", "margin": "26%"}, "leaves no room: a quarter of the frame's shorter side at most"),
    ],
)
def test_what_cannot_be_shown_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        overlay(described(seconds=3), **asked)
    assert str(refused.value) == sentence


def test_an_image_that_is_none_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_text("no picture")
    for name, sentence in (("logo.png", "is not an image that can be read"), ("none.png", "there is no such file")):
        with pytest.raises(InputError, match=sentence) as refused:
            overlay(described(), image=tmp_path / name)
        assert refused.value.parameter == "image"
    with pytest.raises(InputError, match="the clip has no picture"):
        label(replace(described(), picture=None))


def test_margins_are_read_as_they_are_written() -> None:
    assert Margins.parse("5% 5% 5% 5%") == TITLE_SAFE
    with pytest.raises(InputError, match="should be four margins"):
        Margins.parse("5%")
