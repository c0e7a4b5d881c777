"""Recipes whose lines are bought, run by the real `pipeline` against a real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shoot import Server, Shoot, server

RECIPE = """\
inputs: {clip: shot.mp4, line: "Now in three colours."}
steps:
  - speak: {text: $line, voice: sim}
  - mix_audio: {clip: $clip, sound: $speak, at: 0.2s}
  - caption: {sidecar: srt}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that speaks at once; no key hides a second request."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture(scope="module")
def made(quick: Server, shot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shoot, dict[str, Any]]:
    """RECIPE, run once. Not to be changed."""
    shoot = Shoot(tmp_path_factory.mktemp("made"), quick)
    shoot.workshop.write(RECIPE)
    shutil.copy(shot, shoot.workshop.folder / "shot.mp4")
    with shoot.sells(1):
        return shoot, shoot.run()


@pytest.fixture
def finished(made: tuple[Shoot, dict[str, Any]], tmp_path: Path) -> Shoot:
    """A copy of it, home and all."""
    shutil.copytree(made[0].folder, tmp_path / "copy")
    return Shoot(tmp_path / "copy", made[0].server)


def test_a_line_is_bought_and_kept_and_captioned(made: tuple[Shoot, dict[str, Any]]) -> None:
    shoot, told = made
    assert (told["bought"], told["simulated"]) == (1, told["spent"])
    assert [file.suffix for file in (shoot.home / "originals").iterdir()] == [".wav"]
    assert not list((shoot.home / "handed").iterdir())
    captions = (shoot.workshop.folder / "out" / "web.srt").read_text()
    assert "Now in three colours." in captions.replace("\n", " ")
    assert shoot.workshop.leftovers() == []


def test_what_is_hummed_is_not_published(finished: Shoot) -> None:
    finished.workshop.write(RECIPE.replace("preset: web", "preset: tiktok"))
    with finished.sells(0):
        assert "this film is SIMULATED" in finished.refused(2)


def test_a_lost_cache_and_another_place_for_the_line_buy_nothing(finished: Shoot) -> None:
    shutil.rmtree(finished.workshop.folder / ".pipeline" / "tasks")
    with finished.sells(0):
        assert finished.run()["bought"] == 0
        finished.workshop.write(RECIPE.replace("at: 0.2s", "at: 0.4s").replace("voice: sim", "voice: 'sim:hum'"))
        assert finished.run()["bought"] == 0


def test_another_take_is_paid_and_a_budget_holds(finished: Shoot) -> None:
    with finished.sells(1):
        assert finished.run("--retake", "speak")["bought"] == 1
    dear = f"{{base_url: '{finished.server.url}', model: tts-1, voices: [nova], price: $9}}"
    finished.workshop.write(f"voices: {{dear: {dear}}}\n", "models.yaml")
    recipe = RECIPE.replace("voice: sim", "voice: dear")
    finished.workshop.write(recipe.replace("steps:", "budget: {total: $0.18}\nsteps:", 1))
    with finished.sells(0):
        assert "this run would pay $0.19, and the recipe's budget is $0.18" in finished.refused(1)
    finished.workshop.write(recipe.replace("steps:", "budget: {total: $0.19}\nsteps:", 1))
    with finished.sells(1):
        told = finished.run()
    assert (told["bought"], told["spent"], told["simulated"]) == (1, "0.19", "0.00")


SCRIPT = """\
  - speak:
      voice: sim
      text: [One. Two., {text: Three., take: 1}]
"""


def test_of_a_script_each_line_is_a_purchase(finished: Shoot) -> None:
    """Two of them here: a line is bought whole, whatever its sentences, and a changed one alone."""
    script = RECIPE.replace("  - speak: {text: $line, voice: sim}\n", SCRIPT)
    finished.workshop.write(script)
    with finished.sells(2):
        assert finished.run()["bought"] == 2
    with finished.sells(0):
        assert finished.run()["bought"] == 0
        assert "give its line take: 2" in finished.refused(2, "--retake", "speak 2")
    finished.workshop.write(script.replace("take: 1", "take: 2"))
    with finished.sells(1):
        assert finished.run()["bought"] == 1
    with finished.sells(2):
        assert finished.run("--retake", "speak")["bought"] == 2


def test_a_seller_that_is_down_is_stood_in_for_and_the_report_says_so(finished: Shoot) -> None:
    """The voice that stands in is planned when the first has failed: nothing counts as bought."""
    down = "voices: {down: {base_url: 'http://127.0.0.1:9/v1', voices: [a], price: $9}}\n"
    finished.workshop.write(down, "models.yaml")
    finished.workshop.write(RECIPE.replace("voice: sim", "voice: [down, espeak]"))
    with finished.sells(0):
        assert (
            "down:a speaks 21 characters, $0.19" in finished.workshop.cli("plan", "film.yaml", env=finished.env).stdout
        )
        told = finished.run("--yes")
    assert (told["bought"], told["spent"]) == (0, "0.00")
    assert any("another was asked" in said for said in told["warnings"])
    report = (finished.workshop.folder / told["report"]).read_text()
    assert "espeak speaks instead" in report


def test_policy_is_told_as_policy_and_nothing_is_sold(finished: Shoot) -> None:
    with finished.sells(0):
        assert "sim-speech refused the request by its content policy" in finished.refused(
            1, "--set", "line=[moderated] x"
        )


def test_a_server_of_ones_own_speaks_for_nothing(finished: Shoot) -> None:
    finished.workshop.write(
        f"voices: {{kokoro: {{base_url: '{finished.server.url}', model: tts-1, voices: [nova]}}}}\n", "models.yaml"
    )
    finished.workshop.write(RECIPE.replace("voice: sim", "voice: kokoro"))
    with finished.sells(1):
        told = finished.run()
    assert (told["bought"], told["spent"]) == (0, "0.00")
    listed = finished.workshop.cli("voices", env={**finished.env, "OPENAI_API_KEY": ""}).stdout.splitlines()
    rows = {line.split()[0]: line for line in listed}
    assert rows["kokoro:"].split()[1:] == ["nova", "any", "$0", "ready"]
    assert rows["openai:"].endswith("needs a key in OPENAI_API_KEY, which is not set")
    assert "simulated, nothing is paid" in rows["sim:"]


def test_without_a_key_the_plan_names_the_variable(finished: Shoot) -> None:
    finished.workshop.write(RECIPE.replace("voice: sim", "voice: 'openai:marin'"))
    with finished.sells(0):
        said = finished.refused(2, OPENAI_API_KEY="")
        assert "film.yaml:3: speak.voice: openai needs a key in OPENAI_API_KEY, which is not set" in said
    plan = finished.workshop.cli("plan", "film.yaml", "--sim", env={**finished.env, "OPENAI_API_KEY": ""})
    assert "sim speaks 21 characters, $0.01" in plan.stdout
