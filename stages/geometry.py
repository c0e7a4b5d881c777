"""Where a picture goes in a frame: windows, shapes, focus, crops and placements, in exact fractions. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Literal, TypeAlias

from stages.clip import Box, Size, Unit
from stages.errors import InputError

Mode: TypeAlias = Literal["cover", "contain", "stretch", "blur"]
"""`cover` crops, `contain` adds bars, `blur` fills the bars with a blurred copy, `stretch` distorts."""

# ---------------------------------------------------------------- focus

Point: TypeAlias = tuple[Fraction, Fraction]
"""Shares of width and height, from the left and from the top."""

CENTER: Point = (Fraction(1, 2), Fraction(1, 2))

LOOKED_FOR = ("auto", "face")
"""What is found by looking into a picture, which only `prepare` does: an edit describes, and decodes nothing."""


def parse_focus(text: str) -> Point:
    """`center`, or `0.3x0.7`: the point, from the left and from the top, that a crop keeps in its middle."""
    if text.strip() == "center":
        return CENTER
    if text.strip() in LOOKED_FOR:
        raise InputError(
            f"'{text.strip()}' looks into a picture, which only prepare does:"
            " here it should be center or a point such as 0.3x0.7",
            "focus",
        )
    match = re.fullmatch(r"([01]|[01]?\.\d+)\s*[x×]\s*([01]|[01]?\.\d+)", text.strip())
    if not match or max(Fraction(match[1]), Fraction(match[2])) > 1:
        raise InputError(f"should be center or a point such as 0.3x0.7 (left 0, right 1), not '{text}'", "focus")
    return Fraction(match[1]), Fraction(match[2])


def parse_still_focus(text: str) -> Point | Literal["auto", "face"]:
    """`auto` and `face` as they are, and else as `parse_focus`."""
    match text.strip():
        case "auto" | "face" as sought:
            return sought
    try:
        return parse_focus(text)
    except InputError:
        why = f"should be center, auto, face or a point such as 0.3x0.7 (left 0, right 1), not '{text}'"
        raise InputError(why, "focus") from None


Focus: TypeAlias = Annotated[str, Unit(parse_focus, "center | 0.3x0.7")]
"""Of a clip, which is never looked into."""

StillFocus: TypeAlias = Annotated[str, Unit(parse_still_focus, "center | auto | face | 0.3x0.7")]
"""Of a still picture, where it can also be found."""


# ---------------------------------------------------------------- windows


def window(size: Size, aspect: Fraction, focus: Point = CENTER) -> Box:
    """The largest window of shape `aspect` on `size`, as near to having `focus` in its middle as the edges allow."""
    width = min(Fraction(size.width), size.height * aspect)
    height = min(Fraction(size.height), size.width / aspect)
    left = min(max(focus[0] * size.width - width / 2, Fraction(0)), size.width - width)
    top = min(max(focus[1] * size.height - height / 2, Fraction(0)), size.height - height)
    return Box(left, top, width, height)


@dataclass(frozen=True, slots=True)
class Placement:
    """Show `window` of a source, in its upright pixels, at `left`, `top` of a frame in `size`."""

    window: Box
    size: Size
    left: int = 0
    top: int = 0

    @property
    def enlargement(self) -> Fraction:
        """How many times larger a source pixel becomes, along the more enlarged side."""
        return max(self.size.width / self.window.width, self.size.height / self.window.height)


def placement(region: Box, target: Size, fit: Mode, focus: Point = CENTER) -> Placement:
    """Where `region` of a picture, in whole pixels, goes in `target`; `blur` places its sharp part as `contain` does.

    `cover` keeps `focus` (shares of the region's width and height) as near to
    the middle as the region's edges allow, to a fraction of a pixel.
    """
    source = Size(int(region.width), int(region.height))
    if fit == "stretch":
        return Placement(region, target)
    if fit == "cover":
        shown = window(source, target.aspect, focus)
        return Placement(replace(shown, x=region.x + shown.x, y=region.y + shown.y), target)
    scale = min(Fraction(target.width, source.width), Fraction(target.height, source.height))
    inner = Size(max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    left, top = (target.width - inner.width) // 2, (target.height - inner.height) // 2
    return Placement(region, inner, left, top)


# ---------------------------------------------------------------- crops

GRID = r"(\d{1,3})\s*[x×]\s*(\d{1,3})"


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture: a cell of a grid, such as one angle of a character sheet, or a box.

    `grid` is `3x2` (three columns, two rows) and `cell` counts from 1, row by
    row. `box` is left, top, width and height, each in pixels (`120`) or as a
    share of the picture (`10%`). Raises InputError for anything else.
    """

    grid: str = ""
    cell: int = 0
    box: str = ""

    def __post_init__(self) -> None:
        if bool(self.grid) == bool(self.box):
            raise InputError("should be a cell of a grid, such as 3x2:4, or a box, such as 10%,20%,30%,40%", "crop")
        if self.grid:
            columns, rows = _grid(self.grid)
            if not 1 <= self.cell <= columns * rows:
                raise InputError(
                    f"a grid of {self.grid} has the cells 1 to {columns * rows}, row by row, not {self.cell}", "crop"
                )
        else:
            _lengths(self.box)

    @classmethod
    def parse(cls, text: str) -> Crop:
        """`3x2:4`, or four lengths `10%,20%,30%,40%` or `120,80,640,360`, parted by commas or spaces."""
        if match := re.fullmatch(rf"({GRID})\s*:\s*(\d{{1,6}})", text.strip()):
            return cls(grid=match[1], cell=int(match[4]))
        if re.search(r"\d\s*[x×]\s*\d|:", text):
            raise InputError(f"should be a cell of a grid such as 3x2:4 (columns x rows: cell), not '{text}'", "crop")
        return cls(box=text.strip())

    def on(self, size: Size) -> Box:
        """The part of a picture of `size` in whole pixels: edges are rounded, so that cells touch and none overlap.

        Raises InputError if it reaches outside, or if nothing is left.
        """
        left, top, right, bottom = self._edges(size)
        if left < 0 or top < 0 or right > size.width or bottom > size.height:
            raise InputError(f"crop {self} reaches outside of the picture, which is {size}", "crop")
        if right <= left or bottom <= top:
            raise InputError(f"crop {self} leaves nothing of a picture of {size}", "crop")
        return Box(Fraction(left), Fraction(top), Fraction(right - left), Fraction(bottom - top))

    def _edges(self, size: Size) -> tuple[int, int, int, int]:
        if self.grid:
            columns, rows = _grid(self.grid)
            row, column = divmod(self.cell - 1, columns)
            wide, high = Fraction(size.width, columns), Fraction(size.height, rows)
            return round(column * wide), round(row * high), round((column + 1) * wide), round((row + 1) * high)
        sides = (size.width, size.height, size.width, size.height)
        left, top, width, height = (
            Fraction(number) * side / 100 if share else Fraction(number)
            for (number, share), side in zip(_lengths(self.box), sides, strict=True)
        )
        return round(left), round(top), round(left + width), round(top + height)

    def __str__(self) -> str:
        return f"{self.grid}:{self.cell}" if self.grid else self.box


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(GRID, text.strip())
    if not match or not int(match[1]) or not int(match[2]):
        raise InputError(f"should be a grid such as 3x2 (columns x rows), not '{text}'", "crop")
    return int(match[1]), int(match[2])


def _lengths(text: str) -> list[tuple[str, bool]]:
    """Each of the four as a number, and whether it is in percent."""
    found = [re.fullmatch(r"(\d+(?:\.\d+)?)(%|px)?", part) for part in re.split(r"\s*[,\s]\s*", text.strip())]
    if len(found) != 4 or not all(found):
        raise InputError(
            f"should be left, top, width and height, such as 10%,20%,30%,40% or 120,80,640,360, not '{text}'", "crop"
        )
    return [(match[1], match[2] == "%") for match in found if match]


CropText: TypeAlias = Crop | str | None
"""A crop, or its text."""


# ---------------------------------------------------------------- sizes


def even(length: Fraction | int) -> int:
    """The nearest even number: 4:2:0 has no other sizes."""
    return 2 * round(Fraction(length) / 2)


def times(size: Size, factor: Fraction) -> Size:
    """`size` times `factor`, in even numbers."""
    return Size(even(size.width * factor), even(size.height * factor))


def inside(size: Size, frame: Size) -> Size:
    """The largest size of `size`'s shape that fits into `frame`, in even numbers."""
    fitted = times(size, min(Fraction(frame.width, size.width), Fraction(frame.height, size.height)))
    return Size(max(2, fitted.width), max(2, fitted.height))
