"""One recipe, filmed through each protocol over real HTTP: prepared, bought once, trimmed, delivered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from forks import serving

import presets
from pipeline.read import read_recipe
from pipeline.run import Result, run
from pipeline.store import Store
from stages import buying
from stages.providers import Provider

ROOT = Path(__file__).parents[2]

RECIPE = """
inputs: {photo: photo.jpg}
budget: $20
steps:
  - prepare: {image: $photo}
  - generate: {prompt: slow dolly, reference: $prepare, frame: 16:9, length: 3s, model: MODEL}
  - trim
  - upscale: {size: 0.25x}
deliver:
  - {preset: web, file: out/film.mp4}
"""


@dataclass(frozen=True)
class Way:
    """One protocol: its simulator, the model that films, its key, and the variable that says where it is."""

    simulator: str
    model: str
    key: str
    where: str
    models: str = ""
    shown: bool = True
    path: str = "/v1"


VEO = "veo-3.1-fast: {retires_on: null}\n"
"""As if Google had not closed it."""

OWN = (
    "own: {{base_url: '{{url}}', dialect: {dialect}, model: {model}, seconds: [4, 8], sizes: [1280x720], price: 0.1}}\n"
)

WAYS = (
    Way("runway", "runway-gen4.5", "RUNWAYML_API_SECRET", "RUNWAYML_BASE_URL"),
    Way("luma", "luma-ray-3.2", "LUMA_AGENTS_API_KEY", "LUMA_AGENTS_BASE_URL"),
    Way("fal", "fal-veo-3.1-fast", "FAL_KEY", "FAL_BASE_URL"),
    Way("veo", "veo-3.1-fast", "GEMINI_API_KEY", "GEMINI_BASE_URL", VEO),
    Way(
        "luma", "luma-ray-2", "LUMAAI_API_KEY", "LUMAAI_BASE_URL", shown=False, path="/dream-machine/v1"
    ),  # which takes no references
    Way("openrouter", "own", "OPENROUTER_API_KEY", "", OWN.format(dialect="openrouter", model="google/veo-3.1")),
    Way("openai", "own", "", "", OWN.format(dialect="any", model="sim")),
)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The base URL of the protocol's simulator."""
    way: Way = request.getfixturevalue("way")
    options = ("--state", tmp_path / "shop", "--port", "0", "--latency", "0.2", "--no-film")
    with serving(f"stages.simulators.{way.simulator}", *options) as url:
        yield url


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.simulator}-{way.model}")
def test_the_recipe_is_filmed_through_every_protocol(
    way: Way, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / ".pipeline").mkdir(parents=True)
    shutil.copy(ROOT / "fixtures" / "photo.jpg", project)
    recipe = (
        RECIPE
        if way.shown
        else RECIPE.replace("  - prepare: {image: $photo}\n", "").replace(" reference: $prepare,", "")
    )
    (project / "film.yaml").write_text(recipe.replace("MODEL", way.model))
    (project / "models.yaml").write_text(way.models.replace("{url}", server))
    server = server.replace("/v1", way.path)
    for variable, text in ((way.key, "a-key"), (way.where, server)):
        if variable:
            monkeypatch.setenv(variable, text)
    usual = buying.provider_of

    def hurried(sheet: presets.Sheet, state: Path) -> Provider:
        """The same account, looked at sooner: simulators are fast."""
        provider: Provider = replace(usual(sheet, state), typical=0.5, poll=0.3)  # type: ignore[type-var]  # dataclasses
        return provider

    monkeypatch.setattr(buying, "provider_of", hurried)

    def run_it() -> Result:
        return run(read_recipe(project / "film.yaml"), Store(project / ".pipeline"))

    first, second = run_it(), run_it()
    film = first.delivered(first.final.deliveries[0])
    assert (film.frames, film.verdict.verdict) == (72, "proved")
    assert abs(film.size.aspect - Fraction(16, 9)) < Fraction(1, 50)
    assert (len(first.bought), len(second.bought), second.count("encode")) == (1, 0, 0)
    assert len((tmp_path / "shop" / "sales.jsonl").read_text().splitlines()) == 1
