"""Where a picture goes in a frame: windows, shapes and focus, in exact fractions. Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal, TypeAlias

from stages.clip import Box, Size, Unit
from stages.errors import InputError

Mode: TypeAlias = Literal["cover", "contain", "stretch", "blur"]
"""`cover` crops, `contain` adds bars, `blur` fills the bars with a blurred copy, `stretch` distorts."""

CENTER = (Fraction(1, 2), Fraction(1, 2))


def parse_focus(text: str) -> tuple[Fraction, Fraction]:
    """`center`, or `0.3x0.7`: the point, from the left and from the top, that a crop keeps in its middle."""
    if text.strip() == "center":
        return CENTER
    match = re.fullmatch(r"([01]|[01]?\.\d+)\s*[x×]\s*([01]|[01]?\.\d+)", text.strip())
    if not match or max(Fraction(match[1]), Fraction(match[2])) > 1:
        raise InputError(f"should be center or a point such as 0.3x0.7 (left 0, right 1), not '{text}'", "focus")
    return Fraction(match[1]), Fraction(match[2])


Focus: TypeAlias = Annotated[str, Unit(parse_focus, "center | 0.3x0.7")]


def window(size: Size, aspect: Fraction, focus: tuple[Fraction, Fraction] = CENTER) -> Box:
    """The largest window of shape `aspect` on `size`, as near to having `focus` in its middle as the edges allow."""
    width = min(Fraction(size.width), size.height * aspect)
    height = min(Fraction(size.height), size.width / aspect)
    left = min(max(focus[0] * size.width - width / 2, Fraction(0)), size.width - width)
    top = min(max(focus[1] * size.height - height / 2, Fraction(0)), size.height - height)
    return Box(left, top, width, height)


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
