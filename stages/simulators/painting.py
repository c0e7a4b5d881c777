"""What is filmed and drawn where nothing was shown: a sun over hills and water."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from stages.clip import Size

if TYPE_CHECKING:
    import numpy as np

Paint = tuple[int, int, int]

MOODS: tuple[tuple[Paint, Paint, Paint], ...] = (
    ((38, 52, 110), (255, 168, 96), (255, 214, 150)),
    ((24, 28, 66), (214, 92, 110), (255, 190, 140)),
    ((96, 148, 200), (246, 226, 190), (255, 246, 214)),
    ((20, 44, 70), (116, 170, 176), (236, 240, 214)),
)
"""Zenith, horizon and sun, in RGB."""

SHORE = 0.70
"""Where the water begins, as a part of the height."""

HILLS = ((0.54, 0.045, 0.42), (0.60, 0.035, 0.62), (0.665, 0.022, 0.84))
"""Of each range, the far ones first: its height in the picture, its relief, how dark it is."""

OCTAVES = ((1.7, 1.0), (4.3, 0.55), (9.1, 0.28), (19.0, 0.13), (41.0, 0.06), (83.0, 0.03))
"""Of the waves that are a skyline: how many, and how high."""


def landscape(file: Path, size: Size, prompt: str) -> list[str]:
    """Paint one into `file`, a picture as ffmpeg reads it with the arguments that come back.

    The prompt decides the mood and the skyline. It is painted with 480 lines, since everything in it is soft, and
    with 16 bits, so that the sky shows no bands. numpy does in a tenth of a second what `geq` did in five.
    """
    scale = 480 / min(size.width, size.height)
    width, height = (round(side * scale / 2) * 2 for side in (size.width, size.height))
    file.write_bytes(_painted(width, height, random.Random(prompt)).tobytes())
    told = {"f": "rawvideo", "pixel_format": "rgb48le", "video_size": f"{width}x{height}", "framerate": "24"}
    return [*(word for name, value in told.items() for word in (f"-{name}", value)), "-i", str(file.resolve())]


def _painted(width: int, height: int, dice: random.Random) -> np.ndarray:
    """Its pixels. Lengths are parts of the height."""
    import numpy as np  # noqa: PLC0415 -- heavy

    zenith, horizon, light = np.array(dice.choice(MOODS), np.float32)
    sun = width / height * dice.uniform(0.3, 0.7), dice.uniform(0.34, 0.46)
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = across / height, down / height
    depth = np.maximum(y - SHORE, 0)
    water = y > SHORE
    # water shows the scene upside down, through ripples that grow towards us
    swell = np.sin(46 / (0.12 + depth) + 3 * np.sin(7 * x)) * np.sin(11 * x + 90 * depth)
    seen = np.where(water, SHORE - depth * 1.15 + (0.002 + 0.02 * depth) * swell, y)
    x = x + 0.012 * np.sin(160 * depth)
    far = np.hypot(x - sun[0], seen - sun[1])

    def mixed(first: np.ndarray, second: np.ndarray, part: np.ndarray) -> np.ndarray:
        blend: np.ndarray = first + (second - first) * part[..., None]
        return blend

    tone = mixed(zenith, horizon, np.clip(seen / 0.58, 0, 1) ** 1.6)
    disc = np.clip((0.055 - far) * height / 3, 0, 1)
    tone = mixed(tone, light, np.clip(0.75 * np.exp(-4.5 * far) + disc, 0, 1))
    for level, relief, darkness in HILLS:
        below = seen - level
        for count, tall in OCTAVES:
            often = count * dice.uniform(0.8, 1.25)
            below += relief * tall * np.sin(often * x + dice.uniform(0, 6.28))
        shade = horizon + (np.array((14, 20, 34)) - horizon) * darkness
        tone = mixed(tone, mixed(shade, horizon, np.clip(3 * below, 0, 0.35)), np.clip(below * height / 1.6, 0, 1))
    ripples = np.maximum(0, np.sin(46 / (0.12 + depth) + 5 * np.sin(9 * x))) ** 6
    sparkle = (5 + 15 * np.exp(-3 * abs(x - sun[0]))) * ripples
    tone = np.where(water[..., None], tone * (0.78, 0.82, 0.88) + sparkle[..., None], tone)
    vignette = 1 - 0.22 * (np.hypot(across / width - 0.5, down / height - 0.5) / 0.707) ** 2
    lit = np.clip(tone * vignette[..., None], 0, 255)
    return np.rint(lit * 257).astype("<u2")
