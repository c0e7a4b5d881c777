"""The simulator that a recipe names: a server of its own in a child process, found again or started again.

Its state is in the project's `.pipeline/sim/`; `AFTERFRAME_SIM_URL` (with `/v1`)
names one that runs already. The child dies with whoever started it; what it
sold it remembers, and films after its next start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from stages.errors import ProviderUnavailable
from stages.ffmpeg import CHILD
from stages.files import locked
from stages.http import ask
from stages.providers.effects import SimulatedEffects
from stages.providers.images import SimulatedImages
from stages.providers.openai import Simulator
from stages.providers.speech import SimulatedSpeech

START = 20.0
"""Seconds in which a simulator must answer."""


def sim(state: Path) -> Simulator:
    """The simulator of the project whose `.pipeline/` is `state`, or the one at AFTERFRAME_SIM_URL."""
    if url := os.environ.get("AFTERFRAME_SIM_URL"):
        return Simulator(url)
    return Simulator(_running(state / "sim"), idempotent=True)


def sim_images(state: Path) -> SimulatedImages:
    """Whoever draws there."""
    films = sim(state)
    return SimulatedImages(films.base_url, idempotent=films.idempotent)


def sim_speech(state: Path) -> SimulatedSpeech:
    """Whoever speaks there."""
    films = sim(state)
    return SimulatedSpeech(films.base_url, idempotent=films.idempotent)


def sim_sounds(state: Path) -> SimulatedEffects:
    """Whoever makes sounds there."""
    films = sim(state)
    return SimulatedEffects(films.base_url, idempotent=films.idempotent)


def _running(folder: Path) -> str:
    """The base URL of the simulator in `folder`; one is started if none answers."""
    with locked(folder / "starting"):  # two jobs at once start one
        url = folder / "url"
        if url.exists() and _answers(url.read_text(encoding="utf-8")):
            return url.read_text(encoding="utf-8")
        url.unlink(missing_ok=True)
        return _started(folder, url)


def _started(folder: Path, url: Path) -> str:
    launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
    latency = os.environ.get("AFTERFRAME_SIM_LATENCY", "2")
    server = [sys.executable, "-m", "stages.simulators.openai", "--state", str(folder), "--latency", latency]
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen([*launcher, *server], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and child.poll() is None:
        if url.exists() and _answers(url.read_text(encoding="utf-8")):
            return url.read_text(encoding="utf-8")
        time.sleep(0.05)
    raise ProviderUnavailable(f"the simulator did not start; its log is {folder / 'log'}")


def _answers(url: str) -> bool:
    here = Simulator(url)
    try:
        return ask(here.service, "GET", "models").status == 200
    except ProviderUnavailable:
        return False
