"""Recipes whose frames an engine draws: a task of its own, kept, priced in time only, and said in the credentials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import ROOT, Workshop, ffmpeg, frames_of

from pipeline.show import plan_text
from stages.clip import Size
from stages.engines.onnx import Onnx
from stages.errors import RecipeError
from stages.provenance import read_credentials

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
import plugs
from nets import copying
from plugs import installed, plugged

pytest_plugins = ["desks"]

LARGE = """\
inputs: {clip: clip.mp4}
steps:
  - trim: {clip: $clip, length: 12f}
  - upscale: {size: 2x, engine: "onnx:net.onnx", sharpen: 0.2}
  - {name: shorter, trim: {length: 8f}}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_what_an_engine_drew_is_kept_and_said(tmp_path: Path, small_media: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    copying(workshop.folder / "net.onnx")
    before = {task.slot: task for task in workshop.plan(LARGE).tasks}
    assert before["upscale"].name.startswith("frames-")
    assert "~encode  film for web" in plan_text(workshop.plan(LARGE))  # it rests on frames that are not there yet
    result = workshop.run(LARGE)
    film = workshop.folder / "out" / "web.mp4"
    assert frames_of(film) == 8
    actions = [(name, agent) for name, agent, _ in read_credentials(film).actions]
    assert ("c2pa.enhanced", before["upscale"].parts["upscale by"]) in actions
    assert before["upscale"].parts["upscale by"].endswith(" with net.onnx")
    assert result.final.price == 0
    assert not any((workshop.folder / ".pipeline" / "unfinished").glob("*"))
    # A step after it makes nothing anew; another model does.
    again = {task.slot: task.action for task in workshop.plan(LARGE.replace("8f", "6f")).tasks}
    assert again["upscale"] == "cached"
    copying(workshop.folder / "net.onnx", scale=4)
    other = {task.slot: task for task in workshop.plan(LARGE).tasks}
    assert other["upscale"].action == "make"
    assert other["upscale"].reason.startswith("upscale.model: sha256:")


def test_a_model_that_is_not_there_is_told_with_its_line(tmp_path: Path, small_media: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    with pytest.raises(RecipeError, match=r"film\.yaml:4: upscale\.model: net\.onnx: there is no such file"):
        workshop.plan(LARGE)


def test_killed_it_goes_on_with_the_segments_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By kill -9, in a process of its own; what an abandoned recipe left goes after two weeks."""
    workshop = Workshop(tmp_path / "project")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x90:r=24:d=6", "-pix_fmt", "yuv420p", workshop.folder / "clip.mp4")
    copying(workshop.folder / "net.onnx")
    workshop.write(LARGE.replace("length: 12f", "length: 144f"))
    unfinished = workshop.folder / ".pipeline" / "unfinished"
    command = [sys.executable, "-m", "pipeline", "run", "film.yaml"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=workshop.folder, env=environ, stdout=subprocess.DEVNULL) as killed:
        while not list(unfinished.glob("*/00000000.mp4")):
            assert killed.poll() is None, "it was through before it could be killed"
            time.sleep(0.01)
        killed.kill()
    done = len(list(unfinished.glob("*/0*.mp4")))
    assert 1 <= done < 3
    drawn, process = list[int](), Onnx.process

    def counting(engine: Onnx, frames: Iterator[bytes], size: Size, scale: int) -> Iterator[bytes]:
        for frame in process(engine, frames, size, scale):
            drawn.append(len(frame))
            yield frame

    monkeypatch.setattr(Onnx, "process", counting)
    week, fortnight = unfinished / "frames-week", unfinished / "frames-fortnight"
    for kept, days in ((week, 7), (fortnight, 15)):
        kept.mkdir()
        os.utime(kept, (time.time() - days * 86400,) * 2)
    workshop.run(LARGE.replace("length: 12f", "length: 144f"))
    assert len(drawn) == 144 - 48 * done
    assert frames_of(workshop.folder / "out" / "web.mp4") == 8
    assert list(unfinished.glob("*")) == [week]


def test_engines_are_tried_and_what_is_missing_is_named(desk: Workshop) -> None:
    done = desk.cli("engines", "--model", copying(desk.folder / "net.onnx"))
    assert done.returncode == 0, done.stderr
    told = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("ok ", "NO "))}
    assert set(told) >= {"lanczos", "lanczos-sharp", "libplacebo", "onnx", "anime4k", "realesrgan"}
    for name in ("lanczos", "lanczos-sharp", "onnx", "motion", "blend", "repeat"):
        assert told[name].startswith("ok "), told[name]
    assert "with net.onnx" in told["onnx"]
    assert told["lanczos"].endswith("(ffmpeg); PSNR 40.4 dB, VMAF-NEG 92.9")
    assert "VMAF" not in told["onnx"]  # of a model of one's own nothing is known
    slow, quick = (int(told[name].split()[2]) for name in ("motion", "blend"))
    assert slow > 2 * quick
    for line in told.values():
        assert line.startswith("ok ") or "pip install" in line or "needs" in line or "wants" in line
    site = plugged(desk.folder / "site", "pipeline.interpolators", fader="plugs:Fader", missing="plugs:Missing")
    also = desk.cli("engines", env={"PYTHONPATH": f"{site}{os.pathsep}{Path(plugs.__file__).parent}"}).stdout
    assert "it needs a model" in also
    assert re.search(r"^ok  fader +\d+ ms, a trained model \(fader 1\.0 with nothing\)$", also, re.M)
    assert re.search(r"^NO  missing +its model is not there: pip install 'fader\[model\]'$", also, re.M)


SMOOTH = """\
inputs: {clip: clip.mp4}
steps:
  - trim: {clip: $clip, length: 12f}
  - interpolate: {rate: 60, engine: fader}
  - {name: shorter, trim: {length: 20f}}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_what_an_interpolator_drew_is_kept_and_said(
    tmp_path: Path, small_media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", monkeypatch, "pipeline.interpolators", fader="plugs:Fader")
    workshop = Workshop(tmp_path / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    with pytest.raises(RecipeError, match=r"film\.yaml:4: interpolate\.engine: there is no engine 'fade'.*fader"):
        workshop.plan(SMOOTH.replace("fader", "fade"))
    before = {task.slot: task for task in workshop.plan(SMOOTH).tasks}
    assert before["interpolate"].name.startswith("frames-")
    workshop.run(SMOOTH)
    film = workshop.folder / "out" / "web.mp4"
    assert frames_of(film) == 20
    assert ("c2pa.edited", "fader 1.0 with nothing") in [
        (name, agent) for name, agent, _ in read_credentials(film).actions
    ]
    again = {task.slot: task.action for task in workshop.plan(SMOOTH.replace("20f", "15f")).tasks}
    assert again["interpolate"] == "cached"
    monkeypatch.setattr(plugs.Fader, "version", "fader 1.1")
    newer = {task.slot: task for task in workshop.plan(SMOOTH).tasks}
    assert newer["interpolate"].action == "make"
    assert "fader 1.1" in newer["interpolate"].reason
