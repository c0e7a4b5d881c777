"""A short run of limits.py on either store; and its naive twin exceeds the limit."""

from __future__ import annotations

from pathlib import Path

from limits import PER_MINUTE, run


def test_limits_hold_for_three_buyers_that_are_killed(tmp_path: Path, database: str) -> None:
    outcome = run(tmp_path / "town", 4, database=database, budget=25)
    assert outcome.held, outcome
    assert outcome.most >= PER_MINUTE * 0.7, "they bought too little to prove anything"


def test_the_naive_twin_exceeds_the_limit(tmp_path: Path) -> None:
    assert not run(tmp_path / "town", 3, naive=True).held
