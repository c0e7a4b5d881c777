"""Reference images: any photo becomes the exact pixels that a model asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from stages import saliency
from stages.clip import Action, Box, Clip, History, PictureFacts, Size
from stages.faces import SIDE, detector, faces_in
from stages.geometry import (
    CENTER,
    LOOKED_FOR,
    Crop,
    CropText,
    Mode,
    Placement,
    Point,
    StillFocus,
    parse_still_focus,
    placement,
    window,
)
from stages.media import clip_from
from stages.pictures import (
    Photo,
    draw,
    draw_crop,
    enough,
    look,
    parse_colour,
    part_of,
    read_photo,
    small,
    thumbnail,
    write,
)
from stages.stage import job

WORTH_SAYING = Fraction(5, 4)
"""Enlarged more than this, a picture is visibly soft, and the user is told."""

CROP = "crop.jpg"
"""What of the photo is shown, drawn on it, for people to look at."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A prepared image. `window` is what it shows of the photo, whose upright size is `source`.

    `faces` are those that were looked for and found on it, None where nobody
    looked; `focus` is what that came to, in words.
    """

    file: Path
    size: Size
    source: Size
    window: Box
    notes: tuple[str, ...] = ()
    focus: str = ""
    faces: tuple[Box, ...] | None = None


def promise_reference(
    image: Path,
    *,
    size: Size | str,
    focus: StillFocus = "center",
    format: Literal["jpeg", "png"] = "png",
    **_: object,
) -> Clip:
    """The picture that `prepare` will make: one frame of exactly `size`."""
    target = size if isinstance(size, Size) else Size.parse(size)
    return _clip(Path(_name(format)), target, format, (Action("open", file=image),), (), focus, promised=True)


@job(promise_reference)
def prepare(
    image: Path,
    *,
    size: Size | str,
    fit: Mode = "cover",
    focus: StillFocus = "center",
    crop: CropText = None,
    background: str = "black",
    format: Literal["jpeg", "png"] = "png",
    folder: Path,
    inputs: Mapping[str, Clip] | None = None,
) -> Clip:
    """Write `image` as `reference.png` or `reference.jpg` of exactly `size` into `folder`.

    In a recipe `size` and `format` may be left open: then they are what the
    model wants that films the picture.

    Turned upright, in sRGB, 8 bits, without transparency (which shows
    `background`) and without metadata such as the place it was taken.

    fit: `cover` crops around `focus`, `contain` adds bars of `background`,
    `blur` fills the bars with the blurred picture, `stretch` distorts.
    focus: `center`, or a point such as `0.3x0.7`: 30 % from the left, 70 % from the top;
    `face` is the middle of the faces (of all that a crop can hold, else of the
    largest; it needs the extra `faces`), `auto` what catches the eye.
    crop: only a part of the picture, such as one angle of a character sheet:
    `3x2:4` is the fourth cell of three columns and two rows, counted row by row;
    `10%,20%,30%,40%` or `120,80,640,360` are left, top, width and height.
    background: a CSS colour, `black` or `#1b2c3d`.

    Of an animation the first frame is taken. That, and whatever else a person
    should know, such as that the picture had to be enlarged, is in the clip's
    `remarks`. `crop.jpg` beside it shows what is cut away. Raises InputError,
    naming the file, for what is missing, no image, broken, or larger than
    PIXEL_LIMIT, and for a crop that the picture does not have.
    """
    made = make_reference(
        image, size=size, fit=fit, focus=focus, crop=crop, background=background, format=format, folder=folder
    )
    corner = "+".join(str(round(edge)) for edge in (made.window.x, made.window.y))
    shown = f"{round(made.window.width)}x{round(made.window.height)}+{corner} of {made.source}"
    part = str(crop) if crop else ""
    notes = "; ".join(made.notes)
    said = {"size": str(made.size), "fit": fit, "crop": part, "focus": made.focus, "shows": shown, "note": notes}
    before = inputs["image"].history if inputs and "image" in inputs else (Action("open", file=image),)
    clip = _clip(made.file, made.size, format, before, tuple((k, v) for k, v in said.items() if v), focus)
    return replace(clip, remarks=made.notes)


def _clip(
    file: Path,
    size: Size,
    format: str,
    before: History,
    said: tuple[tuple[str, str], ...],
    focus: str,
    promised: bool = False,
) -> Clip:
    opened = clip_from(file, still(size, format), None, promised)
    history = (*before, Action("prepare", said, _agent(focus)))
    return Clip(opened.picture, None, history)


def still(size: Size, format: str) -> PictureFacts:
    """The facts of a picture file: one frame. `format` is `png`, `jpeg` or `webp`."""
    codec = "mjpeg" if format == "jpeg" else format
    return PictureFacts(size, size, Fraction(1), 1, codec, pixel_format="rgb24")


def look_at(path: Path) -> PictureFacts:
    """What a picture file holds, by its upright size and kind; it is decoded once, so that a broken one is told.

    Raises InputError, naming the file.
    """
    return still(*look(path))


def _agent(focus: str) -> str:
    """Who made it; where it was looked for faces, what was found depends on the detector, or on there being none."""
    looked = detector() if focus.strip() in LOOKED_FOR else ""
    return ", ".join(filter(None, (f"Pillow {version('pillow')}", looked)))


def _name(format: str) -> str:
    return "reference.jpg" if format == "jpeg" else "reference.png"


def make_reference(
    image: Path,
    *,
    size: Size | str,
    fit: Mode = "cover",
    focus: StillFocus = "center",
    crop: CropText = None,
    background: str = "black",
    format: Literal["jpeg", "png"] = "png",
    folder: Path,
) -> Reference:
    """What `prepare` does, telling what it did; beside it, `crop.jpg` shows what is cut away."""
    target = size if isinstance(size, Size) else Size.parse(size)
    sought, colour = parse_still_focus(focus), parse_colour(background)
    part = Crop.parse(crop) if isinstance(crop, str) else crop

    def region(whole: Size) -> Box:
        return part.on(whole) if part else Box.of(whole)

    def least(whole: Size) -> Size:
        place = placement(region(whole), target, fit)
        drawn = enough(whole, place.window, place.size)
        if sought not in LOOKED_FOR:
            return drawn
        seen = enough(whole, region(whole), small(region(whole), SIDE))
        return Size(max(drawn.width, seen.width), max(drawn.height, seen.height))

    photo = read_photo(image, least)
    shown = region(photo.size)
    cut = part_of(photo, shown)
    sight = _sight(cut, shown, target, fit, sought)
    place = placement(shown, target, fit, sight.point)
    notes = tuple(
        f"{image.name} {note}" for note in (*photo.notes, *sight.notes, *_softness(photo, shown, place, target))
    )
    behind = placement(shown, target, "cover", sight.point).window if fit == "blur" else None
    file = folder / _name(format)
    write(draw(cut, place, target, colour, behind), file, format)
    write(draw_crop(photo, place.window, sight.faces or ()), folder / CROP, "jpeg", quality=85)
    return Reference(file, target, photo.size, place.window, notes, sight.said, sight.faces)


def _softness(photo: Photo, region: Box, place: Placement, target: Size) -> tuple[str, ...]:
    if place.enlargement <= WORTH_SAYING:
        return ()
    what = "is" if region == Box.of(photo.size) else "has in this crop"
    whole = Size(int(region.width), int(region.height))
    return (f"{what} {whole}: enlarged {float(place.enlargement):.1f} times for {target}, it will look soft",)


# ---------------------------------------------------------------- focus


@dataclass(frozen=True, slots=True)
class Sight:
    """What looking at a picture came to: the point to keep in the middle, in words too, and the faces,
    None where none were looked for."""

    point: Point = CENTER
    said: str = ""
    faces: tuple[Box, ...] | None = None
    notes: tuple[str, ...] = ()


def _sight(photo: Photo, region: Box, target: Size, fit: Mode, sought: Point | Literal["auto", "face"]) -> Sight:
    """Where `region` of the photo is to be cut, if it is to be cut at all."""
    if fit in ("contain", "stretch"):
        return Sight()
    if sought not in LOOKED_FOR:
        assert isinstance(sought, tuple)
        return Sight(sought, "center" if sought == CENTER else _said(sought))
    grey = thumbnail(photo, region, SIDE, "L")
    found = faces_in(grey)
    if found and sought == "face":
        held = faces_held(region, target, found)
        point = _middle(region, held)
        return Sight(point, f"face at {_said(point)}, {_counted(held, found)}", found)
    colours = thumbnail(photo, region, saliency.SIDE, "RGB")
    point = saliency.salient_point(colours, grey, target.aspect, found or ())
    notes: tuple[str, ...] = ()
    if sought == "face":
        lacking = "is not searched for faces: that needs pip install 'afterframe[faces]'"
        notes = (f"{lacking if found is None else 'shows no face that is found'}; focus is auto instead",)
    return Sight(point, f"auto at {_said(point)}", found, notes)


def faces_held(region: Box, target: Size, found: tuple[Box, ...]) -> tuple[Box, ...]:
    """All the faces, if a crop of `region` to `target`'s shape can hold them, else the first, which is the largest."""
    around = _around(found)
    crop = window(Size(int(region.width), int(region.height)), target.aspect)
    fits = around.width <= crop.width and around.height <= crop.height
    return found if fits else found[:1]


def _around(boxes: tuple[Box, ...]) -> Box:
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return Box(left, top, right - left, bottom - top)


def _middle(region: Box, boxes: tuple[Box, ...]) -> Point:
    around = _around(boxes)
    across = (around.x + around.width / 2 - region.x) / region.width
    down = (around.y + around.height / 2 - region.y) / region.height
    return across, down


def _said(point: Point) -> str:
    """`0.3x0.7`, as one would write it."""
    return "x".join(f"{float(share):.3f}".rstrip("0").rstrip(".") for share in point)


def _counted(held: tuple[Box, ...], found: tuple[Box, ...]) -> str:
    faces = "1 face" if len(found) == 1 else f"{len(found)} faces"
    return faces if len(held) == len(found) else f"the largest of {faces}"
