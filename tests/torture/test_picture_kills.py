"""A sample of picture_kills.py: killed anywhere, a picture or a line is paid once, and what was received is there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from picture_kills import run


@pytest.mark.slow
@pytest.mark.parametrize(("goods", "every"), [pytest.param("picture", 16, marks=pytest.mark.thorough), ("speech", 16)])
def test_killed_anywhere_it_is_paid_once_and_nothing_that_came_is_lost(tmp_path: Path, goods: str, every: int) -> None:
    outcome = run(tmp_path / "kept", every=every, start=random.randint(1, every), goods=goods)
    assert outcome.faults == []
    for phase in ("not sold", "sold, not received", "received, not noted", "noted"):
        assert outcome.phases[phase], f"no kill came when it was {phase}: {outcome}"
    line = max(outcome.lines["received, not noted"] - 40, 1)  # it is not the same moment each time
    twin = run(tmp_path / "forgetful", every=5, start=line, end=line + 80, forgetful=True, goods=goods)
    assert any("it was received, not noted, and a human was asked" in each for each in twin.faults), "too gentle"
