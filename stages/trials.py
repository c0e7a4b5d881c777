"""Which engines can enlarge and which interpolators fill in on this machine: each tried on a frame, not just found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import presets
from stages.clip import Size
from stages.engines import (
    FILTERS,
    PACES,
    engine_named,
    engine_names,
    interpolator_named,
    interpolator_names,
)
from stages.enlarging import nearest_scale
from stages.errors import AfterframeError
from stages.ffmpeg import filter_fault, run_ffmpeg
from stages.framing import SHARP
from stages.retiming import MOVED

SMALL, LARGE = Size(1280, 720), Size(1920, 1080)
TRIED = Size(320, 180)
"""A frame engine is tried on a sixteenth of a frame, and its time taken sixteen times: some need half a minute."""
SHARE = SMALL.width * SMALL.height // (TRIED.width * TRIED.height)

FRAMES = 24

GRAPHS = {
    "lanczos": "scale=1920:1080:flags=lanczos+accurate_rnd+full_chroma_int",
    "lanczos-sharp": "scale=1920:1080:flags=lanczos+accurate_rnd+full_chroma_int,format=yuv420p16,"
    f"cas=strength={SHARP}:planes=1,format=yuv420p",
    "libplacebo": "libplacebo=w=1920:h=1080:upscaler=ewa_lanczossharp:format=yuv420p",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One engine: CPU milliseconds for a frame from 720p to 1080p, or for a new one of 720p; or why it cannot work
    here."""

    name: str
    version: str
    trained: bool
    milliseconds: float = 0.0
    fault: str = ""

    @property
    def quality(self) -> str:
        """`PSNR 40.4 dB, VMAF-NEG 92.9` at twice the size, where it was measured (presets/engines.yaml)."""
        known = presets.quality()
        if f"{self.name}.psnr" not in known:
            return ""
        psnr, neg = (known[f"{self.name}.{figure}"].value for figure in ("psnr", "neg"))
        return f"PSNR {psnr:.1f} dB, VMAF-NEG {neg:.1f}"


def try_engines(model: Path | None = None) -> Iterator[Trial]:
    """Each engine that there is, tried; `model` is what `onnx` is tried with."""
    for name in FILTERS:
        yield _filter(name)
    for name in engine_names():
        yield _engine(name, model if name == "onnx" else None)


def try_interpolators() -> Iterator[Trial]:
    """Each interpolator that there is, tried."""
    for name in PACES:
        yield _pace(name)
    for name in interpolator_names():
        yield _interpolator(name)


def _filter(name: str) -> Trial:
    if fault := filter_fault(GRAPHS[name]):
        needs = "it needs a GPU with a Vulkan driver" if name == "libplacebo" else "this ffmpeg lacks the filter"
        return Trial(name, "ffmpeg", False, fault=f"{needs} ({fault})")
    more = _spent(GRAPHS[name], SMALL) - _spent("null", SMALL)
    return Trial(name, "ffmpeg", False, max(0.0, more) * 1000 / FRAMES)


def _pace(name: str) -> Trial:
    graph = (
        "fps=48" if name == "repeat" else "minterpolate=fps=48:" + ":".join(f"{k}={v}" for k, v in MOVED[name].items())
    )
    if fault := filter_fault(graph):
        return Trial(name, "ffmpeg", False, fault=f"this ffmpeg lacks the filter ({fault})")
    size, share = (TRIED, SHARE) if name == "motion" else (SMALL, 1)
    more = _spent(graph, size) - _spent("null", size)
    return Trial(name, "ffmpeg", False, max(0.0, more) * share * 1000 / FRAMES)


def _spent(graph: str, size: Size) -> float:
    """CPU seconds of a graph over FRAMES frames."""
    before = os.times()
    source = f"testsrc2=s={size}:r=24:d={FRAMES // 24},format=yuv420p"
    run_ffmpeg(["-f", "lavfi", "-i", source, "-vf", graph, "-f", "null", "-"])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _interpolator(name: str) -> Trial:
    worker = interpolator_named(name)
    if fault := worker.probe():
        return Trial(name, worker.version, worker.trained, fault=fault)
    frame = bytes(range(256)) * (TRIED.width * TRIED.height * 3 // 256)
    later = frame[30:] + frame[:30]
    try:
        worker.between(frame, later, TRIED, Fraction(1, 2))  # the first one loads the model
        before = time.process_time()
        worker.between(later, frame, TRIED, Fraction(1, 2))
        spent = time.process_time() - before
    except AfterframeError as error:
        return Trial(name, worker.version, worker.trained, fault=str(error))
    return Trial(name, worker.version, worker.trained, spent * SHARE * 1000)


def _engine(name: str, model: Path | None) -> Trial:
    engine = engine_named(name, model)
    if fault := engine.probe():
        return Trial(name, engine.version, engine.trained, fault=fault)
    frame = bytes(range(256)) * (TRIED.width * TRIED.height * 3 // 256)
    try:
        scale = nearest_scale(engine.scales, SMALL, LARGE)
        made = engine.process(iter([frame] * 2), TRIED, scale)
        next(made)  # the first one loads the model
        before = time.process_time()
        next(made)
        spent = time.process_time() - before
    except AfterframeError as error:
        return Trial(name, engine.version, engine.trained, fault=str(error))
    return Trial(name, engine.version, engine.trained, spent * SHARE * 1000)
