"""A voice of one's own in a recipe: found beside it, known by what it holds, wherever the project lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nets import humming
from workshop import FIXTURES, Workshop

from stages.errors import RecipeError

RECIPE = """\
steps:
  - trim: {clip: clip.mp4, length: 2s}
  - speak:
      voices: {ben: "piper:voices/en_US-hum.onnx"}
      text: [{text: One., speaker: ben}, {text: Two., voice: "piper:voices/en_US-hum.onnx"}]
  - mix_audio: {clip: $trim, sound: $speak}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    workshop = Workshop(tmp_path / "project")
    shutil.copy(FIXTURES / "bunny.mp4", workshop.folder / "clip.mp4")
    (workshop.folder / "voices").mkdir()
    humming(workshop.folder / "voices" / "en_US-hum.onnx")
    return workshop


def test_a_model_is_found_beside_the_recipe_and_named_by_what_it_holds(workshop: Workshop, tmp_path: Path) -> None:
    spoken = [task for task in workshop.run(RECIPE).made if task.title.startswith("speak ")]
    assert sorted(task.title for task in spoken) == ["speak 1", "speak 2"]
    moved = Workshop(tmp_path / "moved")
    shutil.rmtree(moved.folder)
    workshop.folder.rename(moved.folder)
    assert not [task.title for task in moved.plan(RECIPE).tasks if task.action == "make"]
    assert str(tmp_path) not in "".join(file.read_text() for file in moved.folder.rglob("words.json"))
    humming(moved.folder / "voices" / "en_US-hum.onnx", code="en_GB")
    again = [task for task in moved.plan(RECIPE).tasks if task.action == "make" and task.title.startswith("speak ")]
    assert [task.title for task in again] == ["speak 1", "speak 2"]
    assert "speak 1.model: en_US-hum.onnx" in again[0].reason


def test_a_wrong_one_is_told_in_its_line(workshop: Workshop) -> None:
    with pytest.raises(
        RecipeError, match=r"^film\.yaml:3: speak: line 2: voice piper:en_UK-hum\.onnx: .*no such file$"
    ):
        workshop.plan(RECIPE.replace('voice: "piper:voices/en_US', 'voice: "piper:voices/en_UK'))


def test_who_stands_in_is_told_without_a_folder(workshop: Workshop) -> None:
    text = RECIPE.replace(
        'ben: "piper:voices/en_US-hum.onnx"', 'ben: ["piper:gone.onnx", "piper:voices/en_US-hum.onnx"]'
    )
    told = [remark for remark in workshop.plan(text).remarks if "speaks instead" in remark]
    assert len(told) == 1
    assert told[0].endswith("no such file; piper:en_US-hum.onnx speaks instead")
