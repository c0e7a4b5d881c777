"""A short run of kills.py: one sale each, and its naive twin pays twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import run


@pytest.mark.parametrize(
    "keys", [pytest.param(True, id="keys honoured", marks=pytest.mark.thorough), pytest.param(False, id="keys ignored")]
)
def test_killed_buyers_pay_once(tmp_path: Path, keys: bool) -> None:
    outcome = run(tmp_path / "town", kills=6, keys=keys, whole_group=True)
    assert outcome.cut > 0, "no kill came between a request and its note: this proved nothing"
    assert outcome.exact, outcome


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_killed_buyers_that_share_a_postgres_pay_once(tmp_path: Path, database: str) -> None:
    outcome = run(tmp_path / "town", kills=6, keys=False, whole_group=True, database=database)
    assert outcome.cut > 0, "no kill came between a request and its note: this proved nothing"
    assert outcome.exact, outcome


def test_the_naive_twin_pays_twice(tmp_path: Path) -> None:
    """Else the harness is too gentle to prove anything; on a busy machine, where buyers die before they buy, it is."""
    outcomes = (run(tmp_path / f"town {number}", kills=12, naive=True, seed=number) for number in range(3))
    assert any(outcome.sales > outcome.wishes for outcome in outcomes)
