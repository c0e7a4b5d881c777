"""Recipes that leave it to us which part of a clip is kept: looked at in a task of its own, once for all lengths."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from shoot import Shoot, server
from workshop import Workshop, ffmpeg, frames_of

from pipeline.report import write_report
from pipeline.show import plan_text
from pipeline.tasks import Plan
from stages.errors import RecipeError

BEST = """\
steps:
  - trim: {clip: clip.mp4, length: 12f, anchor: best}
deliver: [{preset: web, file: out/web.mp4}]
"""
TOOK = "trim: took 1–1.5 s, the steadiest: no cut and nothing black or frozen in it"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """With a clip that is black for a second before it moves for half of one, and then stands still."""
    made = Workshop(tmp_path / "project")
    moving = "testsrc2=s=160x90:r=24:d=0.5,format=yuv420p,tpad=start=24:stop=24:stop_mode=clone:color=black"
    tone = ("-f", "lavfi", "-i", "sine=440:r=48000:d=2.5")
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    ffmpeg("-f", "lavfi", "-i", moving, *tone, "-vf", tags, "-c:a", "aac", made.folder / "clip.mp4")
    return made


def actions(plan: Plan) -> dict[str, str]:
    return {task.title: task.action for task in plan.tasks}


def test_the_best_part_is_found_once_for_all_lengths(workshop: Workshop) -> None:
    before = workshop.plan(BEST)
    told = plan_text(before)
    assert " make    motion for trim" in told
    assert "~encode  film for web" in told  # which part it shows is not known yet
    assert TOOK not in told
    assert {task.title for task in before.tasks if task.promised} == {"sound for web", "film for web", "web"}
    result = workshop.run(BEST)
    assert frames_of(workshop.folder / "out" / "web.mp4") == 12
    assert any(TOOK in remark for remark in result.final.remarks)
    assert {task.name for task in result.final.tasks} == {task.name for task in before.tasks}
    page = html.unescape(write_report(workshop.read(BEST), workshop.store, result).read_text(encoding="utf-8"))
    assert TOOK in page
    assert "motion for trim" in page
    assert set(actions(workshop.plan(BEST)).values()) == {"cached"}
    black = ffmpeg("-i", workshop.folder / "out" / "web.mp4", "-vf", "blackframe,freezedetect=d=0.2", "-f", "null", "-")
    assert "pblack" not in black
    assert "freeze_start" not in black
    shorter = actions(workshop.plan(BEST.replace("12f", "10f")))
    assert (shorter["motion for trim"], shorter["film for web"]) == ("cached", "encode")


def test_steps_before_it_are_seen_and_steps_after_it_wait(workshop: Workshop) -> None:
    recipe = BEST.replace(
        "steps:\n", "steps:\n  - {name: first, trim: {clip: clip.mp4, start: 0.5s}}\n  - fit: {size: 90x160}\n"
    ).replace("clip: clip.mp4, length", "length")
    recipe = recipe.replace(
        "deliver:", "  - still: {of: $trim, at: start}\n  - overlay: {clip: $trim, image: $still}\ndeliver:"
    )
    assert [task.promised for task in workshop.plan(recipe).tasks if task.slot == "still"] == [True]
    result = workshop.run(recipe)
    assert any("trim: took 0.5–1 s" in remark for remark in result.final.remarks)
    assert frames_of(workshop.folder / "out" / "web.mp4") == 12
    assert set(actions(workshop.plan(recipe)).values()) == {"cached"}


BOUGHT = """\
steps:
  - generate: {prompt: a fox, model: sim, frame: 16:9, length: 2s}
  - trim: {length: 1s, anchor: best}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_what_is_bought_is_looked_at_when_it_is_there(tmp_path: Path) -> None:
    with server(tmp_path / "sim") as one:
        shoot = Shoot(tmp_path, one)
        before = shoot.planned(BOUGHT)
        assert (before["look"].promised, before["look"].needs) == (True, (before["generate"].name,))
        with shoot.here(), shoot.sells(1):
            result = shoot.workshop.run(BOUGHT)
        assert any("the steadiest" in remark for remark in result.final.remarks)
        assert {task.action for task in shoot.planned(BOUGHT).values()} == {"cached"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("anchor: best, lossless: require", r"film\.yaml:2: trim\.lossless: the best part may begin anywhere"),
        ("anchor: best, start: 1s", r"film\.yaml:2: trim\.anchor: places a length:, without start: or end:"),
        ("anchor: best, looks: x", r"film\.yaml:2: trim.*looks"),
        ("anchor: bset", r"film\.yaml:2: trim\.anchor: .*did you mean best"),
    ],
)
def test_a_best_part_that_cannot_be_is_told_with_its_line(workshop: Workshop, wrong: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        workshop.plan(BEST.replace("anchor: best", wrong))
