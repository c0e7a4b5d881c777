"""What others left half-made is told by the clock of the folder, never by ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stages.files import FORGOTTEN, PART, sweep


def test_a_clock_that_is_days_ahead_sweeps_nothing_that_others_are_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, old = (tmp_path / f"{PART}{'0' * 8}-{number}-abcd" for number in (1, 2))
    for folder in (fresh, old):
        folder.mkdir()
    os.utime(old, (time.time() - 2 * FORGOTTEN,) * 2)
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 3 * FORGOTTEN)
    sweep(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [fresh.name]
