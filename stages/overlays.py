"""Edits that lay something into the frame: an image, a text, a label that says who made the picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from stages.clip import (
    Clip,
    Corner,
    Overlay,
    Picture,
    PictureFacts,
    Share,
    Source,
    Time,
    frame_count,
    printed_seconds,
    share,
)
from stages.errors import InputError
from stages.pictures import look
from stages.stage import edit

IMAGE_SIZE, TEXT_SIZE, LABEL_SIZE = Fraction(20, 100), Fraction(6, 100), Fraction(4, 100)
"""Of the frame's shorter side, where nothing else is asked for: in 1080x1920 a logo of 216 pixels, lines of 65 and 43.
"""

LABELS = {"ai": "AI-generated"}
"""What a label of each kind says: Regulation (EU) 2024/1689, article 50(4), wants it disclosed that content was
artificially generated or manipulated, and names no words."""


@edit(lays="image")
def overlay(
    clip: Clip,
    *,
    text: str = "",
    image: Path | Clip | None = None,
    corner: Corner = "top-right",
    start: Time = 0,
    end: Time | None = None,
    size: Share | None = None,
    margin: Share = Fraction(0),
) -> Clip:
    """Lay an image, such as a logo, or a text over the picture, from `start` to `end` or as long as the clip lasts.

    It is laid out for the delivered frame, so that no crop cuts it, inside the
    platform's safe area, in `corner`. `size` and `margin` are shares of the
    frame's shorter side: of an image its longer side (20%), of a text the
    height of its lines (6%); the margin is added to the safe area's. An image
    keeps its shape and its transparency. What overlaps is stacked: images in
    the order of the steps, texts above them.

    Raises InputError for both or neither, for an image that cannot be read,
    and for times of which nothing is left.
    """
    if bool(text.strip()) == (image is not None):
        raise InputError("give an image: or a text:, one of them", "image")
    usual = TEXT_SIZE if text else IMAGE_SIZE
    picture = _picture(clip)
    first, last = _frames(picture, start, end)
    laid = Overlay(
        corner,
        _positive(share(usual if size is None else size)),
        _share_of_margin(margin),
        first / picture.rate,
        last / picture.rate,
        text.strip(),
        None if image is None else still_source(image),
    )
    return replace(clip, picture=replace(picture, overlays=(*picture.overlays, laid)))


@edit()
def label(
    clip: Clip,
    *,
    kind: Literal["ai"] = "ai",
    text: str = "",
    corner: Corner = "top-left",
    size: Share = LABEL_SIZE,
) -> Clip:
    """Say in the picture, as long as it lasts, that a model made it: `AI-generated`, or `text` in another language.

    White on a dark ground, laid out for the delivered frame, inside the
    platform's safe area. Put it after the last step that makes the clip longer.
    """
    picture = _picture(clip)
    said = text.strip() or LABELS[kind]
    laid = Overlay(corner, _positive(share(size)), Fraction(0), Fraction(0), picture.duration, said, boxed=True)
    return replace(clip, picture=replace(picture, overlays=(*picture.overlays, laid)))


def still_source(image: Path | Clip) -> Source:
    """A still picture as a source. Raises InputError if it is none, or cannot be read."""
    if isinstance(image, Clip):
        stream = image.picture.stream if image.picture else None
        if not isinstance(stream, Source):
            raise InputError("should be a picture as it was made, or a file", "image")
        return stream
    try:
        size, kind = look(image)
    except InputError as error:
        raise InputError(str(error), "image") from None
    return Source(image.absolute(), PictureFacts(size, size, Fraction(1), 1, kind, pixel_format="rgba"))


def _picture(clip: Clip) -> Picture:
    if clip.picture is None:
        raise InputError("the clip has no picture")
    return clip.picture


def _frames(picture: Picture, start: Time, end: Time | None) -> tuple[int, int]:
    """The first frame on which it shows, and the one after the last."""
    first = frame_count(start, picture.rate)
    last = picture.frames if end is None else frame_count(end, picture.rate)
    lasts = printed_seconds(picture.duration)
    if first >= picture.frames:
        raise InputError(
            f"starts at {printed_seconds(first / picture.rate)} s, after the end of a {lasts} s clip", "start"
        )
    if last > picture.frames:
        raise InputError(f"ends at {printed_seconds(last / picture.rate)} s, after the end of a {lasts} s clip", "end")
    if last <= first:
        said = f"{printed_seconds(first / picture.rate)}–{printed_seconds(last / picture.rate)} s leaves nothing of it"
        raise InputError(said, "end")
    return first, last


def _positive(size: Fraction) -> Fraction:
    if size <= 0:
        raise InputError("should be more than 0%", "size")
    return size


def _share_of_margin(margin: Share) -> Fraction:
    kept = share(margin)
    if kept > Fraction(1, 4):
        raise InputError("leaves no room: a quarter of the frame's shorter side at most", "margin")
    return kept
