"""Recipes that draw before they film, run by the real `pipeline` against a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from shoot import Server, Shoot, server
from workshop import frames_of

from pipeline.tasks import Call
from stages.provenance import read_credentials, verify

RECIPE = """\
inputs: {prompt: a fox in a blue coat}
steps:
  - draw: {prompt: $prompt, sheet: 3x2, model: [sim]}
  - prepare: {image: $draw, fit: contain}
  - generate: {prompt: it walks, reference: $prepare, frame: 16:9, length: 3s, model: sim}
  - trim: {length: 0.5s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that draws and films at once, and signs nothing; no key hides a second request."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


Made = tuple[Shoot, dict[str, Any]]


@pytest.fixture(scope="module")
def made(quick: Server, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """RECIPE, run once. Not to be changed."""
    shoot = Shoot(tmp_path_factory.mktemp("made"), quick)
    shoot.workshop.write(RECIPE)
    with shoot.sells(2):
        return shoot, shoot.run()


@pytest.fixture
def finished(made: Made, tmp_path: Path) -> Shoot:
    """A copy of it, home and all."""
    shutil.copytree(made[0].folder, tmp_path / "copy")
    return Shoot(tmp_path / "copy", made[0].server)


def test_a_picture_and_a_film_of_it_are_bought(made: Made) -> None:
    shoot, told = made
    (file,) = told["files"]
    assert (told["bought"], told["spent"], told["simulated"], told["encoded"]) == (2, "0.41", "0.41", 1)
    assert (file["path"], file["frames"], file["provenance"]) == ("out/web.mp4", 12, "proved")
    assert frames_of(shoot.workshop.folder / "out" / "web.mp4") == 12
    assert shoot.workshop.leftovers() == []
    assert not list((shoot.home / "handed").iterdir())
    assert sorted(file.suffix for file in (shoot.home / "originals").iterdir() if "roots" not in file.name) == [
        ".mp4",
        ".png",
    ]


def test_the_picture_is_an_input_of_the_film_made_by_a_model(made: Made) -> None:
    shoot, _ = made
    roots = shoot.workshop.store.anchors
    verdict = verify(shoot.workshop.folder / "out" / "web.mp4", anchors=roots)
    assert verdict.verdict == "proved"
    film, picture = verdict.credentials.ingredients
    assert (film.relationship, picture.relationship) == ("parentOf", "inputTo")
    assert picture.state == "proved"
    assert picture.source_type.endswith("/trainedAlgorithmicMedia")
    assert picture.actions[0][:2] == ("c2pa.created", "SIMULATED sim")


def test_a_second_run_makes_nothing_and_a_lost_cache_buys_nothing(finished: Shoot) -> None:
    with finished.sells(0):
        assert finished.run()["encoded"] == 0
        shutil.rmtree(finished.workshop.folder / ".pipeline" / "tasks")
        told = finished.run()
    assert (told["bought"], told["encoded"]) == (0, 1)


REWRITTEN: Mapping[str, Callable[[str], str]] = {
    "another list of models": lambda text: text.replace("model: [sim]", "model: sim"),
    "steps renamed": lambda text: text.replace("  - draw:", "  - name: sheet\n    draw:").replace("$draw", "$sheet"),
    "what is the default, written": lambda text: text.replace(
        "sheet: 3x2", "sheet: 3x2, quality: medium, size: 1536x1024"
    ),
}


@pytest.mark.parametrize("change", REWRITTEN)
def test_what_makes_no_other_picture_makes_no_other_film(finished: Shoot, change: str) -> None:
    """The film is known by its picture, the picture by what was asked for, not by who was asked."""
    planned = finished.planned(REWRITTEN[change](RECIPE))
    assert [planned[kind].price or 0 for kind in ("draw", "generate")] == [0, 0]


@pytest.mark.parametrize(
    "change", ["sheet: 2x2", "sheet: 3x2, quality: high", "sheet: 3x2, take: 2", "size: 1024x1024"]
)
def test_another_picture_is_paid_and_so_is_its_film(finished: Shoot, change: str) -> None:
    planned = finished.planned(RECIPE.replace("sheet: 3x2", change))
    assert [planned[kind].action for kind in ("draw", "generate")] == ["pay", "pay"]


def test_a_retake_of_the_picture(finished: Shoot) -> None:
    with finished.sells(2):
        assert finished.run("--retake", "draw")["bought"] == 2


def test_a_plan_says_who_draws_and_for_how_much(finished: Shoot) -> None:
    said = finished.workshop.cli("plan", "film.yaml", "--set", "prompt=two foxes", env=finished.env).stdout
    assert "sim draws 1536x1024, medium, $0.02" in said
    assert said.splitlines()[-1].endswith("; $0.42 to pay (SIMULATED: nothing is paid)")


def test_a_picture_may_be_the_first_frame_as_it_is(finished: Shoot) -> None:
    """Left open, its size is what the film wants."""
    text = RECIPE.replace("  - prepare: {image: $draw, fit: contain}\n", "").replace("$prepare", "$draw")
    planned = finished.planned(text)
    work = planned["draw"].work
    assert isinstance(work, Call)
    assert work.arguments["size"] == "1280x720"
    finished.workshop.write(text)
    with finished.sells(2):
        assert finished.run()["bought"] == 2


def test_a_photo_is_what_the_picture_takes_after(finished: Shoot) -> None:
    shutil.copy(Path(__file__).parents[2] / "fixtures" / "photo.jpg", finished.workshop.folder)
    finished.workshop.write(RECIPE.replace("sheet: 3x2", "sheet: 3x2, reference: photo.jpg"))
    with finished.sells(2):
        finished.run()
    found = verify(finished.workshop.folder / "out" / "web.mp4", anchors=finished.workshop.store.anchors)
    assert [one.relationship for one in found.credentials.ingredients] == ["parentOf", "inputTo", "inputTo"]


def test_policy_is_told_as_policy_and_nothing_is_sold(finished: Shoot) -> None:
    with finished.sells(0):
        said = finished.refused(1, "--set", "prompt=[moderated]")
    assert "sim-images refused the request by its content policy" in said


MISTAKEN = """\
steps:
  - {name: cells, draw: {prompt: x, sheet: 5x5, model: sim}}
  - {name: best, draw: {prompt: x, quality: best, model: sim}}
  - {name: wide, draw: {prompt: x, size: 1000x1000, model: sim}}
  - {name: nobody, draw: {prompt: x, model: sims}}
  - {name: closed, draw: {prompt: x, model: gpt-image-1}}
  - draw: {prompt: x, model: sim}
  - prepare: {image: $draw, size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_mistakes_are_told_with_their_lines(finished: Shoot) -> None:
    finished.workshop.write(MISTAKEN)
    said = finished.refused(2)
    for words in (
        "film.yaml:2: cells.sheet: should be columns x rows such as 3x2",
        "film.yaml:3: best.quality: should be one of low, medium, high",
    ):
        assert words in said
    finished.workshop.write(
        "".join(line for line in MISTAKEN.splitlines(True) if "5x5" not in line and "best" not in line)
    )
    said = finished.refused(2)
    for words in (
        "film.yaml:2: wide.size: sim sells 1024x1024",
        "film.yaml:3: nobody.model: there is no model 'sims' that draws (did you mean sim?)",
        "film.yaml:4: closed.model: gpt-image-1 closed on 2026-10-23",
    ):
        assert words in said


@pytest.mark.slow
def test_with_sim_everything_is_simulated_from_the_sheet_to_the_film(finished: Shoot) -> None:
    """As a newcomer has it: no server but the one that the runner starts, which signs what it draws and films."""
    finished.workshop.write(RECIPE.replace(", model: [sim]", "").replace("model: sim", "model: sora-2"))
    env = {"AFTERFRAME_HOME": str(finished.folder / "elsewhere"), "AFTERFRAME_SIM_LATENCY": "0.1"}
    done = finished.workshop.cli("run", "film.yaml", "--sim", "--json", env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["bought"], told["files"][0]["provenance"]) == (2, "proved")
    found = verify(finished.workshop.folder / "out" / "web.mp4", anchors=finished.workshop.store.anchors)
    film, picture = found.credentials.ingredients
    assert all("SIMULATED" in one.generator for one in (film, picture))
    (drawn,) = (finished.folder / "elsewhere" / "originals").glob("*.png")
    assert read_credentials(drawn, anchors=finished.workshop.store.anchors).state == "proved"
