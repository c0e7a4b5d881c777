"""A project whose runs buy from a server of their own: what they are told, and what was sold."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forks import Serving, start_serving
from workshop import Workshop, environment

from pipeline.plan import plan
from pipeline.read import read_recipe
from pipeline.tasks import Task


@dataclass(slots=True)
class Server:
    """A simulator in a process of its own, that hands out plain films."""

    folder: Path
    options: tuple[str, ...] = ("--latency", "0", "--settle", "0.3", "--ignore-keys")
    url: str = ""
    running: Serving | None = None

    def open(self) -> None:
        """Start it; again on the same port and state, if it ran before."""
        port = self.url.rpartition(":")[2].removesuffix("/v1") or "0"
        state = ("--state", str(self.folder), "--port", port, "--no-film", *self.options)
        self.running = start_serving("stages.simulators.openai", *state)
        self.url = self.running.url

    def kill(self) -> None:
        """End it, rudely."""
        if self.running:
            self.running.kill()
            self.running = None

    def sales(self) -> int:
        """How often it was paid."""
        log = self.folder / "sales.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_for_a_sale(self, before: int) -> None:
        """Until it was paid once more than `before`."""
        end = time.monotonic() + 300
        while self.sales() == before:
            assert time.monotonic() < end, "nothing was sold"
            time.sleep(0.01)


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    """A server of one's own, to maltreat."""
    one = Server(folder, options) if options else Server(folder)
    one.open()
    try:
        yield one
    finally:
        one.kill()


@dataclass(frozen=True, slots=True)
class Shoot:
    """A project in `folder/project`, its AFTERFRAME_HOME beside it, and the server that films for it."""

    folder: Path
    server: Server

    @property
    def workshop(self) -> Workshop:
        return Workshop(self.folder / "project")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def env(self) -> dict[str, str]:
        return {"AFTERFRAME_HOME": str(self.home), "AFTERFRAME_SIM_URL": self.server.url}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`pipeline run film.yaml`, not waited for, in a group of its own."""
        return subprocess.Popen(
            self.workshop.command("run", "film.yaml", "--json", *arguments),
            cwd=self.workshop.folder,
            env=environment(self.env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, *arguments: str, recipe: str = "film.yaml", **env: str) -> dict[str, Any]:
        """`pipeline run`, which must end well; what it tells scripts."""
        done = self.workshop.cli("run", recipe, "--json", *arguments, env={**self.env, **env})
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def refused(self, code: int, *arguments: str, **env: str) -> str:
        """`pipeline run`, which must end with this exit code and a word about why."""
        done = self.workshop.cli("run", "film.yaml", *arguments, env={**self.env, **env})
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert done.stderr.strip()
        return done.stderr

    def planned(self, text: str, **given: str) -> dict[str, Task]:
        """What a run of the recipe would do now, by kind of task. In this process: it is asked often."""
        recipe = read_recipe(self.workshop.write(text, "planned.yaml"), given)
        with self.here():
            return {task.name.partition("-")[0]: task for task in plan(recipe, self.workshop.store.world(recipe)).tasks}

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """This process is as the project's runs are."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            yield

    @contextlib.contextmanager
    def sells(self, wanted: int) -> Iterator[None]:
        """In this block exactly so many films are sold."""
        before = self.server.sales()
        yield
        assert self.server.sales() - before == wanted
