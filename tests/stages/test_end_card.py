"""A still image after the end: for exactly as long as asked, in the clip's frame, in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import colour, counted, described, picture_of, planes, samples, sound_of, tone
from PIL import Image

from stages import (
    Clip,
    Encoding,
    InputError,
    concat,
    end_card,
    fit,
    label,
    open_clip,
    render,
    strip_audio,
    trim,
    upscale,
)
from stages.clip import Action
from stages.manifest import action_names

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square photo, red above and blue below, that its camera saved lying on its side."""
    image = Image.new("RGB", (200, 200), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 200, 100))
    file = tmp_path_factory.mktemp("card") / "card.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(file, quality=95, exif=exif)
    return file


@pytest.mark.parametrize("way", ["as it is", "upscaled", "cropped", "silent"])
def test_the_card_follows_the_last_frame(way: str, card: Path, shot: Path, tmp_path: Path) -> None:
    ways: dict[str, Any] = {
        "as it is": lambda clip: clip,
        "upscaled": lambda clip: upscale(clip, size="2x"),
        "cropped": lambda clip: fit(clip, size="90x90"),
        "silent": strip_audio,
    }
    before: Clip = ways[way](trim(open_clip(shot), length="1s"))
    clip = end_card(before, image=card, length="0.5s")
    render(clip, tmp_path / "ended.mp4", EXACT)
    render(before, tmp_path / "before.mp4", EXACT)
    frames, own = planes(tmp_path / "ended.mp4"), planes(tmp_path / "before.mp4")
    assert (picture_of(clip).frame, picture_of(clip).frames, len(frames)) == (picture_of(before).frame, 36, 36)
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(frames, own, strict=False))
    for frame in frames[24:]:
        assert np.array_equal(frame[0], frames[24][0])
        assert colour(frame, 0.5, 0.25) == pytest.approx((255, 0, 0), abs=4)
        assert colour(frame, 0.5, 0.75) == pytest.approx((0, 0, 255), abs=4)
        if way != "cropped":
            assert colour(frame, 0.05, 0.5) == pytest.approx((0, 0, 0), abs=2)  # bars


def test_the_sound_is_padded_with_silence_to_the_sample(card: Path, shot: Path, tmp_path: Path) -> None:
    clip = end_card(open_clip(shot), image=card, length="1s")
    assert (picture_of(clip).frames, sound_of(clip).samples) == (96, 192_000)
    render(clip, tmp_path / "ended.mp4", EXACT)
    left = samples(tmp_path / "ended.mp4")[0]
    assert tone(left, 300, 1, 2) == pytest.approx(-20, abs=1)
    assert abs(left[3 * 48_000 + 2400 : 4 * 48_000]).max() < 1e-3


def test_a_card_may_be_cut_joined_and_ended_again(card: Path, tmp_path: Path) -> None:
    ended = end_card(
        trim(open_clip(counted(tmp_path / "grey.mp4")), length="12f"), image=card, length="12f", mode="cover"
    )
    clip = concat((trim(ended, start="6f", end="18f"), end_card(ended, image=card, length="1f")))
    render(clip, tmp_path / "joined.mp4", EXACT)
    shows = [
        max(abs(one - other) for one, other in zip(colour(frame, 0.5, 0.8), (0, 0, 255), strict=True)) < 5
        for frame in planes(tmp_path / "joined.mp4")
    ]
    assert shows == [*[False] * 6, *[True] * 6, *[False] * 12, *[True] * 13]


def test_what_is_laid_over_before_ends_with_the_clip(card: Path) -> None:
    one, both = end_card(label(described()), image=card), label(end_card(described(), image=card))
    assert [picture_of(clip).overlays[0].end for clip in (one, both)] == [3, 5]


def test_a_generated_clip_with_a_card_is_not_cut_to_what_was_asked_for(card: Path) -> None:
    bought = Clip(described().picture, None, (Action("generate", (("length", "2s"),)),))
    with pytest.raises(InputError, match="give length:"):
        trim(end_card(bought, image=card))


def test_it_is_on_record(card: Path) -> None:
    clip = end_card(described(), image=card)
    origin = clip.history[0].file
    assert origin
    assert clip.history[-1].parameters == (("image", "card.jpg"),)
    ids = {origin: "parent", card: "component-1"}
    assert action_names(clip.history, ids, frozenset()) == ("c2pa.opened", "c2pa.placed")


def test_what_cannot_be_shown_is_refused(card: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 s is no length: one frame at least"):
        end_card(described(), image=card, length="10ms")
    with pytest.raises(InputError, match="the clip has no picture"):
        end_card(Clip(None, described().sound), image=card)
    with pytest.raises(InputError, match="there is no such file"):
        end_card(described(), image=tmp_path / "none.png")
