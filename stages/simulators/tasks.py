"""What the simulators share that sell tasks and hand out films behind links which expire: Luma's and Runway's."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
import secrets
import sqlite3
import threading
import time
import urllib.parse
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.clip import Action
from stages.errors import InputError
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt
from stages.provenance import sign
from stages.simulators.desk import Desk, Problem, Server
from stages.simulators.faults import Faults
from stages.simulators.studio import AGENT, IMAGES, Order, Refusal, Shot, Studio

Reply = tuple[int, Mapping[str, Any] | None]


def public(job_id: str) -> str:
    """A job's id as the protocols show it, a UUID."""
    return str(uuid.UUID(hex=job_id.removeprefix("video_")))


def private(task_id: str) -> str:
    """A UUID as the studio's id; what is none belongs to no job."""
    try:
        return f"video_{uuid.UUID(task_id).hex}"
    except ValueError:
        return ""


def stamp(at: float) -> str:
    """`2026-08-26T06:30:33.796Z`"""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Links:
    """Signed addresses of films, which expire; not kept: after the next start all have."""

    def __init__(self, last: float) -> None:
        self.last = last
        self._numbers = itertools.count()
        self._issued: dict[str, tuple[str, int, float]] = {}
        self._dead: dict[str, int] = {}

    def issue(self, job_id: str) -> str:
        """A new token for the film of that job."""
        token = secrets.token_urlsafe(24)
        self._issued[token] = (job_id, next(self._numbers), time.time())
        return token

    def opens(self, token: str, job: sqlite3.Row) -> bool:
        """Whether the token opens the film. Of `[expires]`, those handed out before the first try do not."""
        job_id, number, at = self._issued.get(token, ("", 0, 0.0))
        if job_id != job["id"] or time.time() > at + self.last or "[expired]" in job["prompt"]:
            return False
        if "[expires]" in job["prompt"]:
            return number > self._dead.setdefault(job_id, number)
        return True


class TaskDesk(Desk):
    """One connection to a server of tasks: JSON in, JSON out, films behind links."""

    server: TaskServer
    most = 64 * 1024 * 1024

    @abstractmethod
    def serve(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request."""

    def act(self) -> None:
        """Whatever `serve` says; and the films."""
        body = self.body()
        address = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in address.path.split("/") if part]
        query = dict(urllib.parse.parse_qsl(address.query))
        if parts[:1] == ["files"] and self.command == "GET":
            self._hand_out(parts, query)
        else:
            self.say(*self.serve(self.command, parts, query, body))

    def key(self) -> None:
        """Raises Refusal unless the request has a key; which one does not matter."""
        if not re.fullmatch(r"Bearer \S+", self.headers.get("Authorization", "")):
            raise Refusal(401, "Missing or invalid API key.")

    def job(self, task_id: str, unknown: str) -> sqlite3.Row:
        """The job behind an id. Raises Refusal with 404 and the words `unknown`."""
        try:
            job = self.server.studio.job(private(task_id))
        except Refusal:
            raise Refusal(404, unknown) from None
        if self.server.gone(job["id"]) or "lost" in self.faults_of(job):
            raise Refusal(404, unknown)
        return job

    def link(self, job: sqlite3.Row) -> str:
        """A fresh address of the film."""
        return f"{self.server.origin}/files/{public(job['id'])}/film.mp4?_jwt={self.server.links.issue(job['id'])}"

    def _hand_out(self, parts: list[str], query: Mapping[str, str]) -> None:
        """The film behind a link."""
        if "Authorization" in self.headers:  # as storage does: one way to be let in, not two
            raise Problem(400, {"Code": "InvalidArgument", "Message": "Only one auth mechanism allowed"})
        job = self.job(parts[1] if len(parts) == 3 else "", "No such file.")
        if not self.server.links.opens(query.get("_jwt", ""), job) or "expired" in self.faults_of(job):
            raise Problem(403, {"Code": "AccessDenied", "Message": "Access Denied"})
        try:
            self.send_film(self.server.film(job), job)
        except Refusal as refusal:
            raise Problem(refusal.status, {"Code": "InvalidRange"}) from None


class TaskServer(Server):
    """A server of tasks. What else was ordered besides what a studio knows rides in the column of its keys."""

    def __init__(
        self,
        port: int,
        studio: Studio,
        desk: type[TaskDesk],
        links_last: float,
        path: str = "",
        trouble: Faults | None = None,
    ) -> None:
        super().__init__(port, studio, desk, path, trouble)
        self.links = Links(links_last)
        self.forgotten = studio.folder / "forgotten"
        self.forgotten.mkdir(exist_ok=True)
        self._muting = threading.Lock()

    def sell(self, order: Order, **more: Any) -> str:
        """Sell a film: the job's id. `more` comes back from `ordered`."""
        remembered = json.dumps({"nonce": secrets.token_hex(8), **more})
        return str(self.studio.sell(replace(order, key=remembered))["id"])

    def ordered(self, job: sqlite3.Row) -> dict[str, Any]:
        """What else was ordered."""
        found: dict[str, Any] = json.loads(job["key"])
        return found

    def gone(self, job_id: str) -> bool:
        """Whether it was cancelled or deleted."""
        return (self.forgotten / job_id).exists()

    def forget(self, job: sqlite3.Row) -> None:
        """Cancel or delete; the sale stays a sale."""
        (self.forgotten / job["id"]).touch()

    def film(self, job: sqlite3.Row) -> Path:
        """The film as it was ordered: without sound, where it should have none."""
        path = self.studio.film_of(job)
        if self.ordered(job)["sound"]:
            return path
        mute = path.with_name(f"{job['id']}-mute.mp4")
        with self._muting:
            if not mute.exists():
                self._mute(job, path, mute)
        return mute

    def _mute(self, job: sqlite3.Row, path: Path, mute: Path) -> None:
        muting = path.with_name(f"{job['id']}-muting.mp4")
        with attempt(muting) as part:
            copied = "-map 0:v -c copy -movflags +faststart -f mp4"
            run_ffmpeg(["-i", str(path.resolve()), *copied.split(), str(part.resolve())])
        if self.studio.films:
            made = Action("generate", (("model", job["model"]),), agent=AGENT, ai=True)
            sign(muting, mute, history=(made,), signer=self.studio.signer(), generator=AGENT)
            muting.unlink()
        else:
            muting.replace(mute)


def footage(studio: Studio, uri: str, complaint: Exception) -> Shot:
    """The film in a data URI. Raises `complaint` if there is none."""
    match = re.fullmatch(r"data:video/[\w.+-]+;base64,(.*)", uri, re.DOTALL)
    try:
        return studio.taken_in(base64.b64decode(match[1] if match else "!", validate=True))
    except (binascii.Error, InputError):
        raise complaint from None


def picture(uri: str, complaint: Exception) -> tuple[bytes, str]:
    """The image in a data URI, and its kind. Raises `complaint` if there is none."""
    match = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", uri, re.DOTALL)
    try:
        return base64.b64decode(match[2] if match else "!", validate=True), IMAGES[match[1] if match else ""]
    except (binascii.Error, KeyError):
        raise complaint from None
