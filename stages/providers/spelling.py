"""How providers spell a frame and a moment."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

from stages.clip import Size

RESOLUTIONS = {720: "720p", 1080: "1080p", 2160: "4k"}
"""By the shorter side of 16:9 and 9:16."""


def shape(size: Size) -> tuple[str, str]:
    """1280x720 as `16:9` and `720p`; the resolution is empty where it has no such name."""
    aspect = Fraction(size.width, size.height)
    return f"{aspect.numerator}:{aspect.denominator}", RESOLUTIONS.get(min(size.width, size.height), "")


def instant(value: object) -> float | None:
    """`2026-08-26T06:30:33.796Z` as seconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo else None
