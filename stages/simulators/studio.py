"""Where all simulators sell and film: the orders, the jobs and the films, in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import sqlite3
import struct
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from stages.clip import SAMPLE_RATE, Action, Size
from stages.errors import AfterframeError, InputError
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt, copy_whole, sweep
from stages.media import probe
from stages.provenance import sign
from stages.providers import Work
from stages.signers import Signer, test_signer
from stages.simulators import RATE, Progress, extend, film, remix, upscale
from stages.simulators.faults import Fault

AGENT = "SIMULATED by Afterframe"
IMAGES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
"""The references that can be filmed: by media type, the suffix."""

KEPT = 86_400
"""Seconds for which a film can be fetched: `expires_at` (Azure's documentation says created + 86400)."""


class Refusal(Exception):
    """An HTTP answer with OpenAI's error body."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


@dataclass(frozen=True, slots=True)
class Shot:
    """A film to work on: its file, what is in it, and the studio's job that made it, empty where it was uploaded.

    `length` is in seconds, `heard` says whether it has sound.
    """

    file: Path
    size: Size
    rate: Fraction
    length: Fraction
    heard: bool
    source: str = ""

    @property
    def seconds(self) -> int:
        """Its length in whole seconds, to the nearest."""
        return max(round(self.length), 1)

    def with_lines(self, lines: int) -> Size:
        """Its size with so many pixels on the shorter side, in even numbers."""
        part = Fraction(lines, min(self.size.width, self.size.height))
        return Size(round(self.size.width * part / 2) * 2, round(self.size.height * part / 2) * 2)


@dataclass(frozen=True, slots=True)
class Order:
    """A create request that was checked. `reference` is the image, `suffix` its kind, `faults` what goes wrong.

    `work` is done to `shot`; `seconds` are those of what comes of it, of which
    `added` are new.
    """

    prompt: str
    model: str
    seconds: str
    size: str
    key: str
    reference: bytes = b""
    suffix: str = ""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    work: Work = "film"
    shot: Shot | None = None
    added: int = 0

    def same(self, job: sqlite3.Row) -> bool:
        """Whether `job` is what was ordered."""
        asked = (self.model, self.prompt, self.seconds, self.size, self.work, self.shot.source if self.shot else "")
        return tuple(job[name] for name in ("model", "prompt", "seconds", "size", "work", "source")) == asked


WORKED = {
    "work": "TEXT DEFAULT 'film'",
    "source": "TEXT DEFAULT ''",
    "footage": "TEXT DEFAULT ''",
    "added": "INTEGER DEFAULT 0",
}
"""Columns for work on films: what is done, to which job's film, the file of it, and how many seconds are new."""


class Studio:
    """The sales, the jobs and the films in one folder.

    Filming takes at least `latency` seconds. `films=False` hands out a plain,
    unsigned film of the size and length that were asked, made once for all, so
    that whole recipes can be tested quickly.
    """

    def __init__(
        self,
        folder: Path,
        *,
        latency: float = 2.0,
        settle: float = 3.0,
        keys: bool = True,
        films: bool = True,
        forgets: bool = False,
    ) -> None:
        self.folder, self.latency, self.settle, self.keys, self.films = folder, latency, settle, keys, films
        for name in ("films", "references"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            sweep(folder / name)  # what a kill left half-filmed
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "sim.sqlite3", check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS job (number INTEGER PRIMARY KEY, id TEXT UNIQUE, key TEXT UNIQUE,"
            " model TEXT, prompt TEXT, seconds TEXT, size TEXT, reference TEXT, created_at REAL, listed_at REAL)"
        )
        there = {row["name"] for row in self._database.execute("PRAGMA table_info(job)")}
        for column in sorted(WORKED.keys() - there):  # a studio of an earlier version lacks them
            self._database.execute(f"ALTER TABLE job ADD COLUMN {column} {WORKED[column]}")
        self._database.execute("CREATE TABLE IF NOT EXISTS fault (job TEXT, name TEXT, value TEXT)")
        self._faults: dict[str, dict[str, Fault]] = {}
        for row in self._database.execute("SELECT * FROM fault"):
            self._faults.setdefault(row["job"], {})[row["name"]] = Fault(row["name"], row["value"])
        self._failed: dict[str, str] = {}  # not kept: after the next start it is tried again
        self._progress: dict[str, float] = {}
        self._crew = ThreadPoolExecutor(max_workers=1)
        self._catch_up(forgets)

    def close(self) -> None:
        """Stop filming; what was not finished is filmed after the next start."""
        self._crew.shutdown(wait=False, cancel_futures=True)

    def sell(self, order: Order) -> dict[str, Any]:
        """Land the sale, and start filming. The same key gets the same job."""
        time.sleep(random.uniform(0, self.settle / 3))
        job_id = f"video_{secrets.token_hex(16)}"
        reference = ""
        if order.reference:
            reference = f"{job_id}{order.suffix}"
            with attempt(self.folder / "references" / reference) as part:
                part.write_bytes(order.reference)
        now = time.time()
        values: dict[str, Any] = {
            "id": job_id,
            "key": order.key if self.keys and order.key else None,
            "model": order.model,
            "prompt": order.prompt,
            "seconds": order.seconds,
            "size": order.size,
            "reference": reference,
            "work": order.work,
            "source": order.shot.source if order.shot else "",
            "footage": self._kept(order.shot, job_id) if order.shot else "",
            "added": order.added,
            "created_at": now,
            "listed_at": now
            + random.uniform(0, self.settle / 3)
            + (order.faults["lag"].number(5) if "lag" in order.faults else 0.0),
        }
        with self._lock:
            if known := self._one("key", values["key"]):
                if not order.same(known):
                    raise Refusal(400, "Idempotency-Key was used for another request", "idempotency_key_reused")
                return self.described(known)
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            for fault in order.faults.values():
                self._database.execute("INSERT INTO fault VALUES (?, ?, ?)", (job_id, fault.name, fault.value))
            self._faults[job_id] = dict(order.faults)
            self._database.execute(f"INSERT INTO job ({names}) VALUES ({marks})", values)
            sold = self._one("id", job_id)
            assert sold
            self._log_sales([sold])
        self._start(sold)
        return self.described(sold)

    def shot_of(self, job: sqlite3.Row) -> Shot:
        """The film of a job, to work on. Raises Refusal if it is not done."""
        if self.described(job)["status"] != "completed":
            raise Refusal(400, f"Video '{job['id']}' is not completed.", "invalid_state")
        return _seen(self.film_of(job), job["id"])

    def taken_in(self, content: bytes) -> Shot:
        """A film that was uploaded, to work on. Raises InputError if it is none."""
        file = self.folder / "references" / f"{secrets.token_hex(16)}.mp4"
        with attempt(file) as part:
            part.write_bytes(content)
        try:
            return _seen(file)
        except InputError:
            file.unlink()
            raise

    def extensions(self, job: sqlite3.Row) -> int:
        """How often the film of `job` was made longer."""
        found = 0
        while job["work"] == "extend" and job["source"]:
            found, job = found + 1, self.job(job["source"])
        return found

    def _kept(self, shot: Shot, job_id: str) -> str:
        """The name of a file that stays as it is, whatever becomes of the job that made it."""
        references = self.folder / "references"
        if shot.file.parent == references:
            return shot.file.name
        copy_whole(shot.file, references / f"{job_id}.mp4")
        return f"{job_id}.mp4"

    def job(self, job_id: str) -> sqlite3.Row:
        """The job of that id. Raises Refusal with 404."""
        with self._lock:
            found = self._one("id", job_id)
        if found is None:
            raise Refusal(404, f"Video with id '{job_id}' not found.", "not_found")
        return found

    def listed(self, after: str, limit: int, descending: bool) -> tuple[list[dict[str, Any]], bool]:
        """A page of jobs, and whether there are more. What was sold a moment ago is not there yet."""
        order, beyond = ("DESC", "<") if descending else ("ASC", ">")
        start = self.job(after)["number"] if after else None
        where = f"listed_at <= :now AND (:start IS NULL OR number {beyond} :start)"
        with self._lock:
            rows = self._database.execute(
                f"SELECT * FROM job WHERE {where} ORDER BY number {order} LIMIT :most",
                {"now": time.time(), "start": start, "most": limit + 1},
            ).fetchall()
        return [self.described(row) for row in rows[:limit]], len(rows) > limit

    def described(self, job: sqlite3.Row) -> dict[str, Any]:
        """The Video object, as it stands now. Nulls are left out, as the real one does."""
        age = time.time() - job["created_at"]
        status, error = "queued", None
        progress = int(99 * min(age / max(self.latency, 0.01), self._progress.get(job["id"], 0.0), 1.0))
        if progress or age > 0.15 * self.latency:
            status = "in_progress"
        stuck = "[slow]" in job["prompt"] or "stuck" in self.faults_of(job)
        if age >= self.latency and not stuck:
            if error := self._error(job):
                status = "failed"
            elif self.film_of(job).exists():
                status, progress = "completed", 100
        described = {
            "id": job["id"],
            "object": "video",
            "model": job["model"],
            "status": status,
            "progress": 99 if stuck and age >= self.latency else progress,
            "created_at": int(job["created_at"]),
            "prompt": job["prompt"],
            "seconds": job["seconds"],
            "size": job["size"],
            "quality": "standard",
            "error": error,
            "remixed_from_video_id": job["source"] if job["work"] == "remix" and job["source"] else None,
        }
        if status == "completed":
            described["completed_at"] = int(self.film_of(job).stat().st_mtime)
            described["expires_at"] = int(job["created_at"]) + KEPT
        return {name: value for name, value in described.items() if value is not None}

    def film_of(self, job: sqlite3.Row) -> Path:
        """Where the film of `job` is, once it is made."""
        return self.folder / "films" / f"{job['id']}.mp4"

    def faults_of(self, job: sqlite3.Row) -> Mapping[str, Fault]:
        """What was to go wrong with `job` when it was sold."""
        return self._faults.get(job["id"], {})

    def delete(self, job: sqlite3.Row, unfinished: bool = False) -> None:
        """Forget a finished job, or also one that is not."""
        if not unfinished and self.described(job)["status"] not in ("completed", "failed"):
            raise Refusal(400, "Only completed or failed videos can be deleted.", "invalid_state")
        with self._lock:
            self._database.execute("DELETE FROM job WHERE id = ?", (job["id"],))
        self.film_of(job).unlink(missing_ok=True)

    def _one(self, column: str, value: str | None) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._database.execute(f"SELECT * FROM job WHERE {column} = ?", (value,)).fetchone()
        return found

    def _error(self, job: sqlite3.Row) -> dict[str, str] | None:
        if "[moderated later]" in job["prompt"] or "moderated-later" in self.faults_of(job):
            return {
                "code": "moderation_blocked",
                "message": "Your request was blocked by our moderation system.",
            }
        if "[fails]" in job["prompt"] or "fails" in self.faults_of(job):
            return {"code": "server_error", "message": "The server had an error while filming."}
        return {"code": "server_error", "message": self._failed[job["id"]]} if job["id"] in self._failed else None

    def _catch_up(self, forgets: bool) -> None:
        """After a start: log the sales that a kill kept from the log, and film what was not filmed, or forget all."""
        log = self.folder / "sales.jsonl"
        whole = [line for line in log.read_bytes().split(b"\n")[:-1] if line] if log.exists() else []
        if log.exists() and not log.read_bytes().endswith(b"\n"):  # killed in the middle of a line
            with attempt(log) as part:
                part.write_bytes(b"".join(line + b"\n" for line in whole))
        logged = {json.loads(line)["id"] for line in whole}
        jobs = self._database.execute("SELECT * FROM job ORDER BY number").fetchall()
        self._log_sales([job for job in jobs if job["id"] not in logged])
        if forgets:
            self._database.execute("DELETE FROM job")
        for job in jobs if not forgets else ():
            if not self.film_of(job).exists():
                self._start(job)

    def _log_sales(self, jobs: list[sqlite3.Row]) -> None:
        with (self.folder / "sales.jsonl").open("a") as log:
            for job in jobs:
                sale = {name: job[name] for name in ("id", "work", "model", "seconds", "size")}
                sale |= {"added": job["added"]} if job["work"] == "extend" else {}
                sale |= {"at": job["created_at"]}
                log.write(json.dumps(sale) + "\n")
            log.flush()
            os.fsync(log.fileno())

    # -- filming

    def _start(self, job: sqlite3.Row) -> None:
        if self._error(job) is None:
            with contextlib.suppress(RuntimeError):  # shutting down: after the next start
                self._crew.submit(self._film, job)

    def _film(self, job: sqlite3.Row) -> None:
        try:
            if self.films:
                self._film_and_sign(job)
            else:
                self._hand_out_canned(job)
        except (AfterframeError, OSError) as error:
            self._failed[job["id"]] = str(error)

    def _film_and_sign(self, job: sqlite3.Row) -> None:
        def on_progress(part: float) -> None:
            self._progress[job["id"]] = part

        with attempt(self.folder / "films" / f"{job['id']}-unsigned.mp4") as unsigned:
            if self._looks_at(job, "footage"):
                self._work(job, unsigned, on_progress)
            else:
                film(
                    unsigned,
                    prompt=job["prompt"],
                    size=Size.parse(self._delivered(job)[0]),
                    seconds=self._delivered(job)[1],
                    reference=self.folder / "references" / job["reference"]
                    if self._looks_at(job, "reference")
                    else None,
                    on_progress=on_progress,
                )
            made = Action("generate", (("model", job["model"]),), agent=AGENT, ai=True)
            sign(unsigned, self.film_of(job), history=(made,), signer=self.signer(), generator=AGENT)
        (self.folder / "films" / f"{job['id']}-unsigned.mp4").unlink(missing_ok=True)

    def _work(self, job: sqlite3.Row, target: Path, on_progress: Progress) -> None:
        """Do to the footage what was ordered; what a film is too short by is taken off its end."""
        footage, prompt = self.folder / "references" / job["footage"], job["prompt"]
        picture, sound = probe(footage)
        assert picture
        text, seconds = self._delivered(job)
        size, heard = Size.parse(text), sound is not None
        frames = round(picture.frames / picture.rate * RATE) - round((int(job["seconds"]) - seconds) * RATE)
        if job["work"] == "extend":
            new = round(job["added"] * RATE)
            extend(
                target, footage, prompt=prompt, size=size, frames=frames + new, new=new, heard=heard,
                on_progress=on_progress,
            )  # fmt: skip
        elif job["work"] == "upscale":
            upscale(target, footage, size=size, frames=frames, heard=heard, on_progress=on_progress)
        else:
            remix(target, footage, prompt=prompt, size=size, frames=frames, on_progress=on_progress)

    def _hand_out_canned(self, job: sqlite3.Row) -> None:
        size, seconds = self._delivered(job)
        canned = self.folder / f"canned-{size}-{seconds}.mp4"
        if not canned.exists():
            with attempt(canned) as part:
                _film_plainly(part, size, seconds)
        name = job["id"].encode()
        with attempt(self.film_of(job)) as part:  # a `free` box makes each file another one
            part.write_bytes(canned.read_bytes() + struct.pack(">I4s", 8 + len(name), b"free") + name)

    def _delivered(self, job: sqlite3.Row) -> tuple[str, int]:
        """The size and the length that the film really gets."""
        size, seconds, wrong = job["size"], int(job["seconds"]) - ("[short]" in job["prompt"]), self.faults_of(job)
        if "wrong-size" in wrong:
            size = wrong["wrong-size"].value or "x".join(size.split("x")[::-1])
        return size, int(wrong["wrong-length"].number(seconds - 1)) if "wrong-length" in wrong else seconds

    def _looks_at(self, job: sqlite3.Row, kind: str) -> bool:
        """Whether what came along, of that kind, is used."""
        return bool(job[kind]) and "ignored-reference" not in self.faults_of(job)

    def signer(self) -> Signer:
        """Who signs the films; the root to trust is then in `sim-root.pem`."""
        signer = test_signer(self.folder / "signer")
        if signer.root and not (self.folder / "sim-root.pem").exists():
            with attempt(self.folder / "sim-root.pem") as part:
                shutil.copyfile(signer.root, part)
        return signer


def _seen(file: Path, source: str = "") -> Shot:
    picture, sound = probe(file)
    if picture is None:
        raise InputError(f"{file.name} has no picture")
    return Shot(file, picture.size, picture.rate, picture.frames / picture.rate, sound is not None, source)


def _film_plainly(target: Path, size: str, seconds: int) -> None:
    """One colour and one tone: half a second's work."""
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    picture = f"color=0x405060:s={size}:r={RATE}:d={seconds},format=yuv420p,{tags}"
    sound = f"sine=330:r={SAMPLE_RATE}:d={seconds},volume=-6dB"
    coded = "-c:v libx264 -preset ultrafast -g 48 -c:a aac -ac 2 -movflags +faststart -f mp4"
    run_ffmpeg(["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *coded.split(), str(target.resolve())])
