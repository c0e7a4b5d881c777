"""What README shows is what happens: its Python runs, its recipe is the packaged one, its commands exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from forks import run_module

from pipeline.read import read_recipe
from stages import plugins

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    monkeypatch.setenv("AFTERFRAME_SIM_LATENCY", "0.2")
    said = [
        subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        for block in blocks("python")
    ]
    assert said[0].startswith("144 -14")
    assert said[1] == "proved\n"


def test_its_recipe_is_the_packaged_one() -> None:
    shown, packaged = (
        yaml.safe_load(text) for text in (blocks("yaml")[0], (ROOT / "presets/recipes/hello.yaml").read_text())
    )
    assert shown == packaged


def test_its_second_recipe_can_be_bought(tmp_path: Path) -> None:
    (tmp_path / "fox.yaml").write_text(blocks("yaml")[1], encoding="utf-8")
    env = {**os.environ, "AFTERFRAME_HOME": str(tmp_path / "home")}
    told = run_module("pipeline", "plan", "fox.yaml", "--sim", cwd=tmp_path, env=env)
    assert "to pay (SIMULATED: nothing is paid)" in told.stdout, told.stderr


def test_every_packaged_recipe_is_named_and_reads() -> None:
    for recipe in (ROOT / "presets" / "recipes").glob("*.yaml"):
        assert recipe.name in README
        assert read_recipe(recipe).deliveries


def test_its_commands_exist() -> None:
    listed = subprocess.run([sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True).stdout
    commands = set(re.findall(r"^  (\w[\w-]*) ", listed, re.MULTILINE))
    assert commands >= {"run", "plan", "check", "verify", "presets", "stages", "doctor", "simulate"}
    assert set(re.findall(r"`pipeline (\w+)", README)) <= commands


def test_its_test_command_is_what_ci_runs() -> None:
    (command,) = (block for block in blocks("sh") if "pytest" in block)
    script = (ROOT / ".ci" / "run").read_text()
    assert all(part.strip() in script.replace(" -q ", " ") for part in command.split("&&"))


@pytest.mark.parametrize("stage", plugins.names("pipeline.stages"))
def test_every_stage_explains_itself(stage: str) -> None:
    told = run_module("pipeline", "stages", stage, cwd=ROOT, env=os.environ)
    assert told.returncode == 0, told.stderr
    assert stage in told.stdout
    assert len(told.stdout.splitlines()) > 3
