"""A short run of film_kills.py: one sale each, whole films; and with a ledger that forgets it sells twice."""

from __future__ import annotations

import time
from pathlib import Path

import film_kills
import pytest


@pytest.mark.slow
def test_killed_runs_pay_once(tmp_path: Path) -> None:
    combinations = (film_kills.SEPARATE[1], film_kills.SEPARATE[2])
    outcomes = list(film_kills.run_all(tmp_path, combinations, kills=3, seed=time.time_ns(), seconds=15))
    for outcome in outcomes:
        assert outcome.faults == []
        assert outcome.sales == outcome.rounds
        assert outcome.longest_orphan < 4
        assert outcome.kills


@pytest.mark.slow
@pytest.mark.thorough
def test_without_a_memory_it_pays_twice(tmp_path: Path) -> None:
    """Else the harness is too gentle to prove anything."""
    outcome = film_kills.run(tmp_path, film_kills.NAIVE, kills=12, seed=time.time_ns(), seconds=30)
    assert outcome.sold_again > 0, outcome
