"""What a cancelled batch has bought and nobody has begun is taken back: over real HTTP, from a provider that makes one
film at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from forks import serving
from workshop import Workshop

import presets
from pipeline.calling_off import take_back
from pipeline.roster import Batch, draw_up
from pipeline.rows import read_rows
from pipeline.turns import Sofar, Step, Turn
from pipeline.yard import Yard
from stages import buying
from stages.bookkeeping import call_off
from stages.ledger import Budget, Ledger, Purchase, open_ledger, purchases, spent
from stages.providers import Provider
from stages.providers.runway import Runway

pytest_plugins = ["desks"]

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: $20
steps:
  - generate: {prompt: $prompt, frame: 16:9, length: 3s, model: runway-gen4.5}
  - trim
deliver: [{preset: web, file: out/$name.mp4}]
"""
ROWS = "prompt,name\na fox,fox\na hen,hen\na cow,cow\n"
ALL = Budget("all", Decimal(99))


@pytest.fixture
def runway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Runway that films one at a time, each for minutes."""
    usual = buying.provider_of

    def hurried(sheet: presets.Sheet, state: Path) -> Provider:
        provider: Provider = replace(usual(sheet, state), typical=0.2, poll=0.2)  # type: ignore[type-var]  # dataclasses
        return provider

    monkeypatch.setattr(buying, "provider_of", hurried)
    monkeypatch.setenv("RUNWAYML_API_SECRET", "a-key")
    options = ("--state", tmp_path / "shop", "--no-film", "--latency", "40", "--concurrency", "1")
    with serving("stages.simulators.runway", *options) as url:
        monkeypatch.setenv("RUNWAYML_BASE_URL", url)
        yield url


@pytest.fixture
def batch(runway: str, desk: Workshop) -> tuple[Yard, Batch]:
    """Three films, all bought, of which none is made yet."""
    recipe, yard = desk.write(RECIPE), Yard(desk.store.folder)
    (desk.folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    rows = read_rows(str(desk.folder / "rows.csv"), recipe, RECIPE)
    drawn = draw_up(recipe, rows, desk.store, simulate=False)
    yard.submit(drawn)
    for step in steps(yard, drawn):
        assert step.next == "wait"
    sold = purchases(open_ledger())
    assert [row.state for row in sold] == ["ACCEPTED"] * 3
    return yard, drawn


def steps(yard: Yard, batch: Batch) -> list[Step]:
    """One of each render."""
    found = []
    for render in batch.good:
        _, recipe, store = yard.open(batch.id, render.id)
        found.append(Turn(recipe, store, "buy", batch.keys).step(Sofar()))
    return found


def test_what_waits_at_the_provider_is_not_paid_and_what_is_filmed_is_kept(
    batch: tuple[Yard, Batch], runway: str, tmp_path: Path
) -> None:
    yard, drawn = batch
    price, end = drawn.price / 3, time.monotonic() + 60
    while Runway(runway).check(purchases(open_ledger())[0].job_id).state == "queued":
        assert time.monotonic() < end
        time.sleep(0.1)
    off = take_back(yard, drawn)
    assert [row.prompt for row in off.kept] == ["a fox"]
    assert sorted(row.prompt for row in off.back) == ["a cow", "a hen"]
    assert str(off).splitlines() == [
        f"2 called off before they were begun: ${2 * price:.2f} not paid",
        f"1 paid, and made to the end: ${price:.2f}; `pipeline resume` fetches them",
    ]
    assert spent(open_ledger(), ALL) == price
    again = take_back(yard, drawn)
    assert (len(again.back), len(again.kept)) == (0, 1)
    assert [step.next for step in steps(yard, drawn)] == ["wait"] * 3
    assert len((tmp_path / "shop" / "sales.jsonl").read_text().splitlines()) == 3 + 2
    assert spent(open_ledger(), ALL) == 3 * price


def test_what_a_worker_in_the_middle_of_a_step_buys_anew_is_called_off_too(
    batch: tuple[Yard, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard, drawn = batch

    def meanwhile(ledger: Ledger, provider: Provider, row: Purchase, why: str) -> Purchase | None:
        off = call_off(ledger, provider, row, why)
        if off and off.prompt == "a cow" and off.attempt == 1:
            assert steps(yard, drawn)[2].next == "wait"
        return off

    monkeypatch.setattr("pipeline.calling_off.call_off", meanwhile)
    off = take_back(yard, drawn)
    cows = purchases(open_ledger(), next(row.key for row in off.back if row.prompt == "a cow"))
    assert [(row.attempt, row.state) for row in cows] == [(1, "WRITTEN_OFF"), (2, "WRITTEN_OFF")]


def test_what_another_batch_wants_is_left_to_it(batch: tuple[Yard, Batch]) -> None:
    yard, drawn = batch
    hen = next(row.key for row in purchases(open_ledger()) if row.prompt == "a hen")
    off = take_back(yard, drawn, {hen})
    assert "a cow" in [row.prompt for row in off.back]
    assert "a hen" not in [row.prompt for row in off.back + off.kept]
    assert purchases(open_ledger(), hen)[0].state == "ACCEPTED"


def test_without_the_account_it_is_said_what_was_not_asked_back(
    batch: tuple[Yard, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWAYML_BASE_URL", "http://127.0.0.1:9/v1")
    off = take_back(*batch)
    assert (len(off.back), len(off.kept)) == (0, 3)
    assert "3 not asked back: nothing here names runway at 127.0.0.1:" in str(off)
