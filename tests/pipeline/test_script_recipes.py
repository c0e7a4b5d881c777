"""Scripts in recipes: a task a sentence, so that a changed line is one line spoken; slots; who stood in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workshop import ROOT, Workshop

from stages.errors import InputError, RecipeError


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    workshop = Workshop(tmp_path / "project")
    shutil.copy(ROOT / "fixtures" / "bunny.mp4", workshop.folder / "clip.mp4")
    return workshop


SCRIPT = """\
steps:
  - trim: {clip: clip.mp4, length: 2s}
  - speak:
      fit: FIT
      voice: espeak
      text:
        - {text: One. Two., speaker: anna}
        - {at: 1s, text: LATER}
  - mix_audio: {clip: $trim, sound: $speak}
deliver: [{preset: web, file: out/web.mp4}]
"""


def script(later: str = "Three.", fit: str = "flow") -> str:
    return SCRIPT.replace("LATER", later).replace("FIT", fit)


def test_a_changed_line_is_one_line_spoken(workshop: Workshop) -> None:
    first = workshop.run(script())
    made = sorted(task.title for task in first.made if task.title.startswith("speak"))  # they are made side by side
    assert made[-3:] == ["speak 1.1", "speak 1.2", "speak 2"]
    planned = workshop.plan(script("Four."))
    spoken = {task.title: task.action for task in planned.tasks if task.title.startswith("speak")}
    assert spoken["speak 2"] == "make"
    assert [title for title, action in spoken.items() if action == "make"] == ["speak 2"]
    result = workshop.run(script("Four."))
    assert [task.title for task in result.made if task.title.startswith("speak")] == ["speak 2"]


def test_a_line_that_cannot_fit_stops_the_run(workshop: Workshop) -> None:
    text = script().replace("One. Two.", "One and two and three.")
    with pytest.raises(RecipeError, match=r"film\.yaml:3: speak: line 1 is .* and has 0\.9 s before the next line"):
        workshop.run(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("{at: 1s, text: Three.}", "{at: soon, text: Three.}"), "film.yaml:8: speak.text 2.at: should be a time"),
        (("{at: 1s, text: Three.}", "{at: 1s}"), "film.yaml:8: speak.text 2: text missing"),
        (("speaker: anna", "who: anna"), "film.yaml:7: speak.text 1.who: is not known"),
        (("fit: flow", "fit: squeeze"), "film.yaml:4: speak.fit: should be one of speed, flow, extend, error"),
        (
            ("voice: espeak", "voice: [espeek, heart]"),
            "film.yaml:5: speak.voice: there is no voice 'espeek' (did you mean espeak?)",
        ),
        (("voice: espeak", "voices: [anna]"), "film.yaml:5: speak.voices: should be a mapping"),
    ],
)
def test_a_wrong_script_is_told_with_its_line(workshop: Workshop, change: tuple[str, str], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        workshop.plan(script().replace(*change))
    assert said in str(refused.value)


def test_a_voice_that_stands_in_is_told_in_plan_and_summary(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.voices.hibari.Heart.check", lambda *_: refuse())
    text = script().replace("voice: espeak", "voice: [heart, espeak]")
    told = "speak: voice heart needs hibari-tts; espeak speaks instead"
    assert told in workshop.plan(text).remarks
    assert told in workshop.run(text).final.remarks


def refuse() -> None:
    raise InputError("voice heart needs hibari-tts")
