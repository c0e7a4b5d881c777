"""`upscale` by a provider: a purchase like any other, priced in the plan, sent once, kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from forks import serving
from lab import film, picture_of

import presets
from pipeline.plan import plan
from pipeline.read import read_recipe
from pipeline.run import run
from pipeline.show import plan_text
from pipeline.store import Store
from stages import Size, buying
from stages.errors import BudgetExceeded, RecipeError
from stages.providers import Provider

RECIPE = """\
inputs: {clip: clip.mp4}
budget: $5
steps:
  - upscale: {clip: $clip, engine: runway, size: 1080p}
  - trim: {length: 6f}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a clip of a second, which knows the key of an account."""
    made = tmp_path / "project"
    (made / ".pipeline").mkdir(parents=True)
    picture = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=24:d=1", "-pix_fmt", "yuv420p")
    film(made / "clip.mp4", *picture, "-c:v", "libx264", "-preset", "ultrafast")
    (made / "film.yaml").write_text(RECIPE)
    monkeypatch.setenv("RUNWAYML_API_SECRET", "a-key")
    usual = buying.provider_of

    def hurried(sheet: presets.Sheet, state: Path) -> Provider:
        provider: Provider = replace(usual(sheet, state), typical=0.5, poll=0.3)  # type: ignore[type-var]  # dataclasses
        return provider

    monkeypatch.setattr(buying, "provider_of", hurried)
    return made


def test_a_providers_engine_is_bought_once(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--state", tmp_path / "shop", "--port", "0", "--latency", "0.2", "--no-film")
    store, recipe = Store(project / ".pipeline"), project / "film.yaml"
    with serving("stages.simulators.runway", *options) as url:
        monkeypatch.setenv("RUNWAYML_BASE_URL", url)
        asked = read_recipe(recipe)
        planned = plan(asked, store.world(asked))
        first = run(asked, store)
        recipe.write_text(RECIPE.replace("1080p", "1920x1080").replace("runway,", "runway-magnific-upscaler,"))
        shutil.rmtree(store.folder / "tasks")
        second = run(read_recipe(recipe), store)  # said otherwise, with an empty cache: it is the same purchase
    (task,) = [task for task in planned.tasks if task.action == "pay"]
    assert (task.slot, str(planned.price)) == ("upscale", "0.168")  # 24 frames of $0.007
    assert "runway-magnific-upscaler enlarges films: 1 s, 1920x1080" in plan_text(planned)
    assert (len(first.bought), len(second.bought)) == (1, 0)
    assert len((tmp_path / "shop" / "sales.jsonl").read_text().splitlines()) == 1
    assert picture_of(project / "out" / "web.mp4").size == Size(1920, 1080)


def test_it_counts_against_the_budget(project: Path) -> None:
    (project / "film.yaml").write_text(RECIPE.replace("$5", "$0.10"))
    with pytest.raises(BudgetExceeded, match=r"this run would pay \$0\.17.* the recipe's budget is \$0\.10"):
        run(read_recipe(project / "film.yaml"), Store(project / ".pipeline"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "engine: luma, size: 4k",
            r"film\.yaml:4: engine: luma enlarges no films; such are: .*runway-magnific-upscaler",
        ),
        ("engine: runway, size: 4k, sharpen: 0.3", r"film\.yaml:4: sharpen: is nothing that runway sells: add"),
        ("engine: runway, size: 1.1x", r"upscale\.size: runway-magnific-upscaler makes 1280x720.*, not 704x396"),
        ("engine: runwy, size: 4k", r"there is no engine 'runwy'"),
    ],
)
def test_what_is_not_sold_is_told_with_its_line(project: Path, asked: str, said: str) -> None:
    (project / "film.yaml").write_text(RECIPE.replace("engine: runway, size: 1080p", asked))
    store = Store(project / ".pipeline")
    with pytest.raises(RecipeError, match=said):
        plan(recipe := read_recipe(project / "film.yaml"), store.world(recipe))
