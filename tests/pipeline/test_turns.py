"""Steps of a render, without the engine: each plans anew, so what is done twice or by two at once changes nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from shoot import Shoot, server
from workshop import Workshop, frames_of

from pipeline.read import read_recipe
from pipeline.run import Work
from pipeline.turns import Role, Sofar, Step, Turn, sofar_from
from stages.delivery import Shot, make_films
from stages.errors import FfmpegError

pytest_plugins = ["desks"]

RECIPE = """\
steps:
  - trim: {clip: clip.mp4, length: 1s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""
BUYS = """\
steps:
  - generate: {prompt: a fox, frame: 16:9, length: 2s, model: sim}
  - trim: {length: 1s}
deliver: [{preset: web, file: out/web.mp4}]
"""


def steps_of(workshop: Workshop, text: str, role: Role = "make") -> list[Step]:
    """All steps until a render ends, or is handed over; its state goes through JSON, as through the engine."""
    sofar, steps = Sofar(), list[Step]()
    recipe = read_recipe(workshop.write(text))
    while not steps or steps[-1].next in ("again", "wait"):
        step = Turn(recipe, workshop.store, role).step(sofar)
        sofar = sofar_from(json.loads(json.dumps(asdict(step.sofar))))
        steps.append(step)
    return steps


def test_a_step_is_a_task_and_the_last_tells_what_came_of_it(workshop: Workshop) -> None:
    steps = steps_of(workshop, RECIPE)
    kinds = [made["task"].partition("-")[0] for step in steps for made in step.made]
    assert sorted(kinds) == ["delivery", "film", "ingest", "sound"]
    assert kinds.index("sound") < kinds.index("film") < kinds.index("delivery")
    assert all(len(made["sha256"]) == 64 and made["size"] > 0 for step in steps for made in step.made)
    result = steps[-1].result
    (file,) = result["files"]
    assert (result["state"], file["path"], file["frames"], file["provenance"]) == ("done", "out/web.mp4", 24, "proved")
    assert len(json.dumps(steps[-1].to_json())) < 3000
    again = steps_of(workshop, RECIPE)
    assert [step.next for step in again] == ["end"]
    assert again[0].result["files"] == [file]


def test_a_turn_goes_on_with_its_plan_unless_somebody_else_went_on(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[Work]()
    begin = Work.begin

    def counted(*given: Any) -> Work:
        begun.append(begin(*given))
        return begun[-1]

    monkeypatch.setattr(Work, "begin", counted)
    recipe = read_recipe(workshop.write(RECIPE))
    turn, sofar = Turn(recipe, workshop.store, "make"), Sofar()
    first = turn.step(sofar)
    second = turn.step(sofar_from(json.loads(json.dumps(asdict(first.sofar)))))  # it went through the engine
    assert len(begun) == 1
    assert [len(step.made) for step in (first, second)] == [1, 1], "what one step made is not told by the next again"
    assert sum(second.sofar.made.values()) == 2
    third = turn.step(first.sofar)  # as after a crash that lost what the second came to
    assert len(begun) == 2
    while third.next == "again":
        third = turn.step(third.sofar)
    assert (third.next, third.result["state"]) == ("end", "done")


def test_two_at_once_make_one_film(workshop: Workshop) -> None:
    with ThreadPoolExecutor(3) as pool:
        ends = [future.result()[-1] for future in [pool.submit(steps_of, workshop, RECIPE) for _ in range(3)]]
    assert [end.result["state"] for end in ends] == ["done"] * 3
    assert sum(end.result["made"].get("encode", 0) for end in ends) == 1
    assert frames_of(workshop.folder / "out" / "web.mp4") == 24
    assert workshop.leftovers() == []


def test_what_fails_stops_what_needs_it_and_is_told(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(shots: Sequence[Shot], *rest: Any) -> Any:
        if any(shot.cut.reason for shot in shots):
            raise FfmpegError("ffmpeg failed (exit code 1): no reason given")
        return make_films(shots, *rest)

    monkeypatch.setattr("pipeline.run.make_films", broken)
    text = RECIPE.replace("deliver: [", "deliver: [{preset: web, clip: clip.mp4, file: out/as-it-is.mp4}, ")
    result = steps_of(workshop, text)[-1].result
    assert result["state"] == "failed"
    assert [file["path"] for file in result["files"]] == ["out/as-it-is.mp4"]
    assert [error["says"] for error in result["errors"]] == ["ffmpeg failed (exit code 1): no reason given"]


def test_buying_hands_over_what_needs_a_processor(tmp_path: Path) -> None:
    with server(tmp_path / "server") as sells:
        shoot = Shoot(tmp_path, sells)
        with shoot.here(), shoot.sells(1):
            bought = steps_of(shoot.workshop, BUYS, "buy")
            assert bought[-1].next == "hand over"
            assert [made["task"].partition("-")[0] for step in bought for made in step.made] == ["generate"]
            made = steps_of(shoot.workshop, BUYS, "make")
            assert (made[-1].result["state"], made[-1].result["paid"]) == ("done", "0.40")
            (shoot.home / "originals").rename(shoot.home / "elsewhere")
            (shoot.workshop.folder / ".pipeline" / "tasks").rename(shoot.workshop.folder / "gone")
            assert steps_of(shoot.workshop, BUYS, "make")[-1].next == "hand over"


def test_an_outage_is_waited_out_and_what_cannot_work_is_not(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_SIM_URL", "http://127.0.0.1:9/v1")
    recipe = read_recipe(workshop.write(BUYS))
    first: dict[str, Any] = Turn(recipe, workshop.store, "buy").step(Sofar()).to_json()
    assert (first["next"], first["sofar"]["tries"], first["sofar"]["failed"]) == ("wait", 1, [])
    tired = Turn(recipe, workshop.store, "buy").step(Sofar(tries=99))
    assert tired.sofar.errors[0]["error"] == "ProviderUnavailable"
    wrong = Turn(read_recipe(workshop.write(RECIPE.replace("1s", "9s"))), workshop.store, "make").step(Sofar())
    assert (wrong.next, wrong.result["state"]) == ("end", "failed")
    assert "trim" in wrong.result["errors"][0]["says"]


def test_a_disk_that_is_full_is_waited_for(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, store = read_recipe(workshop.write(RECIPE)), workshop.store

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run.make", full)
        patch.setattr("pipeline.turns.make", full)
        first = Turn(recipe, store, "make").step(Sofar())
        assert (first.next, first.sofar.tries, first.sofar.failed) == ("wait", 1, [])
        patch.setattr("pipeline.turns.Work.begin", full)
        second = Turn(recipe, store, "make").step(first.sofar)
        assert (second.next, second.sofar.tries) == ("wait", 2)
    assert Turn(recipe, store, "make").step(second.sofar).next == "again"
