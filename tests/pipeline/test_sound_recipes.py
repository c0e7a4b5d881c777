"""Recipes that buy sounds for silent films, run by the real `pipeline` against a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import samples, sound_of, tone
from shoot import Server, Shoot, server

from stages.provenance import verify

RECIPE = """\
steps:
  - foley: {prompt: rain on a tin roof, length: 1.5s, model: sim}
  - score: {prompt: slow strings, length: 3s, model: sim}
  - strip_audio: {clip: clip.mp4}
  - mix_audio: {sound: $foley, at: 0.2s}
  - music: {sound: $score, gain: 0 dB, fade_out: 0.2s, duck: 0 dB}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


Made = tuple[Shoot, dict[str, Any]]


@pytest.fixture(scope="module")
def made(quick: Server, shot: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """RECIPE, run once. Not to be changed."""
    shoot = Shoot(tmp_path_factory.mktemp("made"), quick)
    shoot.workshop.write(RECIPE)
    shutil.copy(shot, shoot.workshop.folder / "clip.mp4")
    with shoot.sells(2):
        return shoot, shoot.run()


def test_a_silent_film_gets_the_sounds_that_were_bought(made: Made) -> None:
    shoot, told = made
    (file,) = told["files"]
    assert (told["bought"], told["spent"], told["simulated"], file["provenance"]) == (2, "0.24", "0.24", "proved")
    film = shoot.workshop.folder / "out" / "web.mp4"
    assert sound_of(film).samples == 144_000
    left = samples(film)[0]
    music, knocks = tone(left, 220, 0.1, 2.7), [tone(left, 180, at, at + 0.05) for at in (0.1, 0.9, 2.4)]
    assert music > -40
    assert knocks[1] > knocks[0] + 10
    assert knocks[1] > knocks[2] + 10


def test_they_are_told_as_made_by_a_model(made: Made) -> None:
    shoot, _ = made
    verdict = verify(shoot.workshop.folder / "out" / "web.mp4", anchors=shoot.workshop.store.anchors)
    assert verdict.verdict == "proved"
    sounds = [one for one in verdict.credentials.ingredients if one.relationship == "componentOf"]
    assert [one.actions[0][:2] for one in sounds] == [("c2pa.created", "SIMULATED sim")] * 2
    assert all(one.source_type.endswith("/trainedAlgorithmicMedia") for one in sounds)


def test_a_second_run_and_a_lost_cache_buy_nothing(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made[0].folder, tmp_path / "copy")
    shoot = Shoot(tmp_path / "copy", made[0].server)
    with shoot.sells(0):
        shutil.rmtree(shoot.workshop.folder / ".pipeline" / "tasks")
        assert shoot.run()["bought"] == 0


@pytest.mark.parametrize(
    ("change", "paid"), [("length: 1500ms", False), ("length: 1.4s", True), ("take: 2, length: 1.5s", True)]
)
def test_only_another_sound_is_paid(made: Made, change: str, paid: bool) -> None:
    planned = made[0].planned(RECIPE.replace("length: 1.5s", change))
    assert bool(planned["foley"].price) == paid


@pytest.mark.thorough  # it takes the half minute after which a lost answer counts as lost
def test_killed_before_the_sound_came_it_is_doubted_and_not_bought_again(shot: Path, tmp_path: Path) -> None:
    with server(tmp_path / "server", "--latency", "3", "--ignore-keys") as one:
        shoot = Shoot(tmp_path / "killed", one)
        shoot.workshop.write(RECIPE)
        shutil.copy(shot, shoot.workshop.folder / "clip.mp4")
        process = shoot.start("--until", "foley")
        one.wait_for_a_sale(0)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        said = shoot.refused(1, "--until", "foley")
        assert re.search(
            r"foley: an earlier answer of sim-sounds was lost: waiting until ..:.., it may still come", said
        )
        assert "sim-sounds may have been paid $0.12" in said
        assert one.sales() == 1
