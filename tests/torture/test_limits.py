"""A short run of limits.py on either store; and its naive twin exceeds the limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from limits import PER_MINUTE, run


def test_limits_hold_for_three_buyers_that_are_killed(tmp_path: Path, database: str) -> None:
    for seconds in (4, 16):  # a busy machine buys less
        outcome = run(tmp_path / f"town of {seconds}", seconds, database=database, budget=25)
        assert outcome.held, outcome
        if outcome.most >= PER_MINUTE * 0.7:
            break
    else:
        pytest.fail(f"they bought too little to prove anything: {outcome}")


def test_the_naive_twin_exceeds_the_limit(tmp_path: Path) -> None:
    assert not all(run(tmp_path / f"town of {seconds}", seconds, naive=True).held for seconds in (3, 12))
