"""Recipes whose edits read pictures, or say something that a person should know: planned, run and proved."""

from __future__ import annotations

import html
from pathlib import Path

from lab import film
from PIL import Image
from workshop import Workshop, frames_of

from pipeline.report import write_report
from pipeline.show import summary
from pipeline.tasks import Film
from stages.provenance import read_credentials

pytest_plugins = ["desks"]

LAID = """\
steps:
  - trim: {clip: clip.mp4, length: 0.5s}
  - still: {of: $trim}
  - overlay: {clip: $trim, image: $still, corner: bottom-left}
  - label: ai
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_a_picture_that_is_yet_to_be_made_can_be_laid_over(workshop: Workshop) -> None:
    first = workshop.plan(LAID)
    (still,) = (task for task in first.tasks if task.slot == "still")
    (film,) = (task for task in first.tasks if task.action == "encode")
    assert still.name in film.needs
    assert film.promised
    result = workshop.run(LAID)
    assert result.warnings == []
    assert result.delivered(result.final.deliveries[0]).verdict.verdict == "proved"
    assert frames_of(workshop.folder / "out" / "web.mp4") == 12
    assert not [task for task in workshop.plan(LAID).tasks if task.action != "cached"]


def test_the_credentials_of_an_image_are_archived_before_it_is_laid_in(workshop: Workshop) -> None:
    Image.new("RGB", (32, 18), "white").save(workshop.folder / "logo.png")
    text = LAID.replace("$still", "logo.png")
    result = workshop.run(text)
    (delivery,) = (task for task in result.final.tasks if task.title == "web")
    (archive,) = (task for task in result.final.tasks if task.title == "logo.png")
    assert archive.name in delivery.needs
    inner = read_credentials(workshop.folder / "out" / "web.mp4").ingredients
    assert [(one.title, one.relationship) for one in inner] == [("clip.mp4", "parentOf"), ("logo.png", "componentOf")]
    assert not [task for task in workshop.plan(text).tasks if task.action != "cached"]


UNSAFE = LAID.replace("  - label: ai\n", '  - ffmpeg: "hflip,eq=contrast=1.1"\n').replace(
    ", image: $still", ", text: x"
)


def test_filters_of_ffmpegs_own_are_told_in_plan_and_report_and_make_another_film(workshop: Workshop) -> None:
    told = (
        "ffmpeg: UNSAFE: the picture goes through filters of ffmpeg's own that are not checked: hflip,eq=contrast=1.1"
    )
    first = workshop.plan(UNSAFE)
    assert first.remarks == (told,)
    result = workshop.run(UNSAFE)
    assert result.final.remarks == (told,)
    page = write_report(workshop.read(UNSAFE), workshop.store, result).read_text(encoding="utf-8")
    assert told in html.unescape(page)
    again, other = (
        {task.name for task in workshop.plan(text).tasks if isinstance(task.work, Film)}
        for text in (UNSAFE, UNSAFE.replace("hflip", "vflip"))
    )
    assert not again & other


def test_a_sound_that_is_too_faint_to_be_levelled_is_told_in_summary_and_report(workshop: Workshop) -> None:
    hiss = "aevalsrc='0.0006*(random(0)*2-1)':s=48000:d=1"
    film(workshop.folder / "hiss.wav", "-f", "lavfi", "-i", hiss)
    text = """\
steps:
  - trim: {clip: clip.mp4, length: 1s}
  - replace_audio: {sound: hiss.wav}
deliver: [{preset: web, file: out/web.mp4}]
"""
    result = workshop.run(text)
    told = "LUFS there is little but noise to be heard: left as it is, not brought to -14 LUFS"
    assert told in summary(workshop.read(text), result, Path("report.html"))
    page = write_report(workshop.read(text), workshop.store, result).read_text(encoding="utf-8")
    assert told in html.unescape(page)
