"""A run that is killed again and again ends with whole, proved files. The long version: run_kills.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import run_kills


@pytest.mark.slow
def test_killed_runs_deliver_whole_files_in_the_end(tmp_path: Path) -> None:
    outcome = run_kills.run(tmp_path, kills=12, seed=time.time_ns(), seconds=15)
    assert outcome.faults == []
    assert outcome.kills > 0
    assert outcome.longest_orphan < 4
