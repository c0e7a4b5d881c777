"""A batch on three machines, of which one loses its power. The long version: batch_faults.py."""

from __future__ import annotations

from pathlib import Path

import batch_faults
import machines
import postgres
import pytest


@pytest.mark.thorough
def test_a_batch_on_three_machines_ends_well_though_one_dies(tmp_path: Path) -> None:
    if lacking := machines.lacking() or ("" if postgres.is_here() else postgres.LACKING):
        pytest.skip(lacking)
    assert batch_faults.torture(tmp_path, renders=10, seed=1, faults=["killed"]) == []
