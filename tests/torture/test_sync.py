"""A few of sync.py's films: each rate, container and stage once, half of them without edit lists."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from sync import CONTAINERS, LIMIT, STAGES, flashing, found

from stages import Encoding, open_clip, render

PICKED = [
    ("24000/1001", "mkv", "copied", True),
    ("24", "ts", "cut", False),
    ("25", "webm", "under music", True),
    ("30000/1001", "mkv", "joined 30 times", False),
    ("30", "mkv", "slower", True),
    ("50", "mp4", "mixed, ducked", False),
    ("60", "mp4", "scaled, levelled", True),
]


@pytest.mark.parametrize(("rate", "container", "stage", "lists"), PICKED, ids=lambda value: str(value))
def test_a_flash_and_its_click_stay_together(
    rate: str, container: str, stage: str, lists: bool, tmp_path: Path
) -> None:
    source = flashing(tmp_path / f"source.{container}", Fraction(rate), 3, *CONTAINERS[container])
    render(STAGES[stage](open_clip(source)), tmp_path / "made.mp4", Encoding(preset="ultrafast", edit_lists=lists))
    made = found(tmp_path / "made.mp4")
    assert made.pairs >= 2
    assert max(abs(made.apart), made.drift) < LIMIT
