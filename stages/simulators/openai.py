"""A server that stands for OpenAI's: `python -m stages.simulators.openai --port N --state DIR`.

It speaks the Videos protocol as far as facts/providers.md section 1 knows it,
sells clips for nothing, films them, and appends every sale to DIR/sales.jsonl.
All state is in DIR: a server that was killed and started again goes on with
what it sold. It is as inconvenient as the real one: a sale may land up to a
third of `settle` seconds after the request was read, even if the buyer has
hung up, and is listed up to a third later.

With `--dialect` it answers as others do who speak the protocol
(`stages/simulators/manners.py`), and with `--fault` or the header X-Sim-Fault
things go wrong (`stages/simulators/faults.py`). Words in a prompt ask for
trouble too: `[moderated]` (refused), `[moderated later]`, `[fails]`, `[short]`
(a second too short), `[slow]` (stays at 99 %).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import sqlite3
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stages.certificates import Signer, test_signer
from stages.clip import SAMPLE_RATE, Action, Size
from stages.errors import AfterframeError, FfmpegError
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt, sweep
from stages.provenance import sign
from stages.simulators import RATE, faults, film, manners
from stages.simulators.faults import Fault, Faults
from stages.simulators.manners import MANNERS, OPENAI, Manner

AGENT = "SIMULATED by Afterframe"
SIZES = ("720x1280", "1280x720")
PRO_SIZES = (*SIZES, "1024x1792", "1792x1024", "1080x1920", "1920x1080")
MODELS = {"sim": SIZES, "sim-pro": PRO_SIZES, "sora-2": SIZES, "sora-2-pro": PRO_SIZES}
"""What each model films; the names that it stands for are taken too, so that their users' code works."""

SECONDS = ("4", "8", "12")
IMAGES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
UPLOAD_LIMIT = 32 * 1024 * 1024
KEPT = 86_400
"""Seconds for which a film can be fetched: `expires_at` (Azure's documentation says created + 86400)."""


class Refusal(Exception):
    """An HTTP answer with OpenAI's error body."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


@dataclass(frozen=True, slots=True)
class Order:
    """A create request that was checked. `reference` is the image, `suffix` its kind, `faults` what goes wrong."""

    prompt: str
    model: str
    seconds: str
    size: str
    key: str
    reference: bytes = b""
    suffix: str = ""
    faults: Mapping[str, Fault] = field(default_factory=dict)


# ---------------------------------------------------------------- what it sold


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
            "created_at": now,
            "listed_at": now
            + random.uniform(0, self.settle / 3)
            + (order.faults["lag"].number(5) if "lag" in order.faults else 0.0),
        }
        with self._lock:
            if known := self._one("key", values["key"]):
                asked = (order.model, order.prompt, order.seconds, order.size)
                if tuple(known[name] for name in ("model", "prompt", "seconds", "size")) != asked:
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
                sale = {name: job[name] for name in ("id", "model", "seconds", "size")} | {"at": job["created_at"]}
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
            film(
                unsigned,
                prompt=job["prompt"],
                size=Size.parse(self._delivered(job)[0]),
                seconds=self._delivered(job)[1],
                reference=self.folder / "references" / job["reference"] if self._looks_at_reference(job) else None,
                on_progress=on_progress,
            )
            made = Action("generate", (("model", job["model"]),), agent=AGENT, ai=True)
            sign(unsigned, self.film_of(job), history=(made,), signer=self.signer(), generator=AGENT)
        (self.folder / "films" / f"{job['id']}-unsigned.mp4").unlink(missing_ok=True)

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

    def _looks_at_reference(self, job: sqlite3.Row) -> bool:
        return bool(job["reference"]) and "ignored-reference" not in self.faults_of(job)

    def signer(self) -> Signer:
        """Who signs the films; the root to trust is then in `sim-root.pem`."""
        signer = test_signer(self.folder / "signer")
        if signer.root and not (self.folder / "sim-root.pem").exists():
            with attempt(self.folder / "sim-root.pem") as part:
                shutil.copyfile(signer.root, part)
        return signer


def _film_plainly(target: Path, size: str, seconds: int) -> None:
    """One colour and one tone: half a second's work."""
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    picture = f"color=0x405060:s={size}:r={RATE}:d={seconds},format=yuv420p,{tags}"
    sound = f"sine=330:r={SAMPLE_RATE}:d={seconds},volume=-6dB"
    coded = "-c:v libx264 -preset ultrafast -g 48 -c:a aac -ac 2 -movflags +faststart -f mp4"
    run_ffmpeg(["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *coded.split(), str(target.resolve())])


# ---------------------------------------------------------------- how it speaks


class Desk(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    _struck: Mapping[str, Fault] = {}
    """What goes wrong with the job that is asked for, or sold, now."""

    def do_GET(self) -> None:
        """Retrieve, list, content."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Create."""
        self._answer(self._create)

    def do_DELETE(self) -> None:
        """Delete."""
        self._answer(self._delete)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what counts is in sales.jsonl."""

    def _answer(self, act: Any) -> None:
        def answer() -> None:
            where = faults.places(self.command, self.path)
            trouble, header = self.server.faults, self.headers.get(faults.HEADER, "")
            self._struck = trouble.strike(faults.SALE, header, where, located="create" not in where)
            try:
                body = act()
                if body is not None:
                    self._send(200, body)
            except Refusal as refusal:
                self._send(refusal.status, self.manner.complaint(refusal.status, refusal.body))

        try:
            faults.serve(self, self.server.faults, answer, self._complain)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the buyer hung up

    @property
    def manner(self) -> Manner:
        """How it answers."""
        return self.server.manner

    def _complain(self, status: int, message: str, code: str, headers: Mapping[str, str]) -> None:
        self._send(status, self.manner.complaint(status, Refusal(status, message, code).body), headers)

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] = {}) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _place(self) -> tuple[list[str], dict[str, str]]:
        """The path after `/v1`, in parts, and the query."""
        address = urllib.parse.urlsplit(self.path)
        path = address.path.removeprefix(f"{self.manner.base}/")
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        if path == address.path or parts[:1] not in (["videos"], ["models"], ["sim-root.pem"], ["films"]):
            raise Refusal(404, f"Invalid URL ({self.command} {address.path})")
        shown = self.manner.credentials
        if shown and parts[0] == "videos" and not any(self.headers.get(name) for name in shown):
            raise Refusal(401, "Access denied due to invalid subscription key or wrong API endpoint.", "401")
        return parts, dict(urllib.parse.parse_qsl(address.query))

    def _sold(self, name: str) -> sqlite3.Row:
        """The job that is called so here. Raises Refusal with 404."""
        job = self.server.studio.job(self.manner.private(name))
        if "lost" in self._faults_of(job):
            raise Refusal(404, f"Video with id '{name}' not found.", "not_found")
        return job

    def _faults_of(self, job: sqlite3.Row) -> Mapping[str, Fault]:
        """What goes wrong with `job`, by what it was sold with and by this request."""
        return {**self.server.studio.faults_of(job), **self._struck}

    def _shown(self, video: Mapping[str, Any]) -> dict[str, Any]:
        return self.manner.shown(video, f"{self.server.url}/films/{video['id']}.mp4?signature=1")

    def _get(self) -> Mapping[str, Any] | None:
        parts, query = self._place()
        studio = self.server.studio
        match parts:
            case ["models"]:
                return {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
            case ["sim-root.pem"]:  # ours alone: so that films can be proved where they are made
                studio.signer()
                self._root(studio.folder / "sim-root.pem")
                return None
            case ["videos"]:
                return self._list(query)
            case ["videos", job_id]:
                video = studio.described(self._sold(job_id))
                self._send(self.manner.status_of(video), self._shown(video))
                return None
            case ["videos", job_id, "content"]:
                return self._content(self._sold(job_id), query.get("variant", ""))
            case ["films", name]:
                job = studio.job(name.removesuffix(".mp4"))
                if "expired" in self._faults_of(job):
                    raise Refusal(403, "Request has expired", "AccessDenied")
                self._film(job)
                return None
        raise Refusal(404, f"Invalid URL (GET {self.path})")

    def _root(self, file: Path) -> None:
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-pem-file")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _list(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        studio = self.server.studio
        if not self.manner.pages:
            raise Refusal(405, "Method Not Allowed")
        if self.manner.pages == "whole":
            return {"data": [self._shown(video) for video in studio.listed("", 1_000_000, False)[0]], "object": "list"}
        limit = query.get("limit", "20" if self.manner.strict else "100")
        if not limit.isdigit() or not 0 <= int(limit) <= 100:
            raise Refusal(400, f"Invalid 'limit': {limit}", "invalid_value", "limit")
        descending = query.get("order", "desc") == "desc"
        videos, more = studio.listed(self.manner.private(query.get("after", "")), int(limit), descending)
        data = [self._shown(video) for video in videos]
        if self.manner.pages == "bare":
            return {"object": "list", "data": data}
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return {"object": "list", "data": data, "has_more": more, **ends}

    def _delete(self) -> Mapping[str, Any]:
        parts, _ = self._place()
        if len(parts) != 2:
            raise Refusal(404, f"Invalid URL (DELETE {self.path})")
        if not self.manner.deletes:
            raise Refusal(405, "Method Not Allowed")
        job = self._sold(parts[1])
        shown = {**self._shown(self.server.studio.described(job)), "status": "deleted"}
        self.server.studio.delete(job, unfinished=self.manner.deletes == "any")
        if self.manner.deleted == "job":
            return shown
        named = {} if self.manner.deleted == "bare" else {"id": parts[1], "object": "video.deleted"}
        return {**named, "deleted": True}

    def _create(self) -> Mapping[str, Any] | None:
        fields, image, media_type = self._body()
        parts, _ = self._place()
        if parts != ["videos"]:
            raise Refusal(404, f"Invalid URL (POST {self.path})")
        order = ordered(fields, image, media_type, self.headers.get("Idempotency-Key", ""), self.manner)
        if "moderated" in self._struck:
            raise Refusal(400, "Your request was blocked by our moderation system.", "moderation_blocked")
        self._send(self.manner.created, self._shown(self.server.studio.sell(replace(order, faults=self._struck))))
        return None

    def _body(self) -> tuple[dict[str, str], bytes, str]:
        """The fields of a multipart or JSON body, and the reference with its media type."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > UPLOAD_LIMIT:
            self.close_connection = True
            raise Refusal(413, "The request is too large.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/json") and "json" in self.manner.encodings:
            return _json_fields(body) if self.manner.strict else self._loose_fields(body)
        if kind.startswith("application/json"):
            raise Refusal(422, "Field required")
        if boundary := re.search(r'boundary="?([^";]+)', kind):
            return _form_fields(body, boundary[1].encode())
        raise Refusal(400, f"Unsupported content type: '{kind}'")

    def _loose_fields(self, body: bytes) -> tuple[dict[str, str], bytes, str]:
        try:
            return manners.fields_of(body, self.manner)
        except ValueError as error:
            raise Refusal(422, str(error), "invalid_value") from None

    def _content(self, job: sqlite3.Row, variant: str) -> Mapping[str, Any] | None:
        """Send the film, or say where it is."""
        variants, video = self.manner.variants, self.server.studio.described(job)
        if variant and variants is not None and variant not in variants:
            raise Refusal(400, "The simulator has no thumbnails or sprite sheets.", "invalid_value", "variant")
        if video["status"] != "completed":
            raise Refusal(*(self.manner.failed if video["status"] == "failed" else self.manner.early), "not_found")
        url = f"{self.server.url}/films/{job['id']}.mp4?signature={secrets.token_hex(4)}"
        match self.manner.link:
            case "detail":
                raise Refusal(400, f"Video has been uploaded to cloud storage. Please use the cloud URL: {url}")
            case "body":
                return {"id": job["id"], "url": url}
            case "path":
                return {"id": job["id"], "output_path": f"/data/{job['id']}.mp4"}
            case "job":
                raise Refusal(404, "Invalid URL")
        if time.time() > job["created_at"] + KEPT or "expired" in self._faults_of(job):
            raise Refusal(404, "The video is not ready, or has expired.", "not_found")
        self._film(job)
        return None

    def _film(self, job: sqlite3.Row) -> None:
        """Send the film, or the rest of it if a Range asks for that."""
        path = self.server.studio.film_of(job)
        if not path.exists():
            raise Refusal(404, "There is no such film.", "not_found")
        size, version = path.stat().st_size, f'"{job["id"]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.headers.get("If-Range", version) == version else 0
        if start >= size:
            raise Refusal(416, "Nothing is there.")
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            shutil.copyfileobj(file, self.wfile)


def ordered(fields: Mapping[str, str], image: bytes, media_type: str, key: str, manner: Manner = OPENAI) -> Order:
    """The request as an Order. Raises Refusal where the real one would."""
    if not manner.strict:
        return _ordered_loosely(fields, image, media_type, key)
    prompt, model = fields.get("prompt", ""), fields.get("model", "sora-2")
    seconds, size = fields.get("seconds", "4"), fields.get("size", "720x1280")
    if not 1 <= len(prompt) <= 32_000:
        raise Refusal(400, "Invalid 'prompt': must have 1 to 32000 characters.", "invalid_value", "prompt")
    if model not in MODELS:
        raise Refusal(400, f"Invalid value: '{model}' is no video model.", "invalid_value", "model")
    if seconds not in SECONDS:
        raise Refusal(400, f"Invalid seconds value. Supported: {', '.join(SECONDS)}.", "invalid_value", "seconds")
    if size not in MODELS[model]:
        raise Refusal(400, f"Model does not support this size: {size}.", "invalid_value", "size")
    if "[moderated]" in prompt:
        raise Refusal(400, "Your request was blocked by our moderation system.", "moderation_blocked")
    if image and media_type not in IMAGES:
        raise Refusal(400, f"Unsupported media type '{media_type}'.", "invalid_value", "input_reference")
    if image and _image_size(image) != size:
        message = "Inpaint image must match the requested width and height"
        raise Refusal(400, message, "invalid_value", "input_reference")
    return Order(prompt, model, seconds, size, key, image, IMAGES.get(media_type, ""))


def _ordered_loosely(fields: Mapping[str, str], image: bytes, media_type: str, key: str) -> Order:
    """For a server of one's own: any model, size and whole number of seconds, and references are fitted."""
    prompt, model = fields.get("prompt", ""), fields.get("model") or "sim"
    seconds, size = fields.get("seconds", "4"), fields.get("size", "720x1280")
    if not prompt:
        raise Refusal(422, "prompt: Field required", "invalid_value", "prompt")
    if not re.fullmatch(r"[1-9]\d*(\.0)?", seconds):
        raise Refusal(422, "seconds: String should match pattern '^[1-9]\\d*$'", "invalid_value", "seconds")
    if not re.fullmatch(r"\d+x\d+", size):
        raise Refusal(422, "size: String should match pattern '^\\d+x\\d+$'", "invalid_value", "size")
    if "[moderated]" in prompt:
        raise Refusal(400, "Your request was blocked by our moderation system.", "moderation_blocked")
    if image and not _image_size(image):
        message = "Invalid input_reference: provided content is not a valid image."
        raise Refusal(400, message, "invalid_value", "input_reference")
    return Order(prompt, model, seconds.removesuffix(".0"), size, key, image, IMAGES.get(media_type, ".png"))


def _image_size(image: bytes) -> str:
    """What the decoder finds, as `1280x720`; empty if it is no image."""
    part = Path(os.environ.get("TMPDIR", "/tmp")) / f"afterframe-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        part.write_bytes(image)
        said = run_ffmpeg(["-i", str(part), "-frames:v", "1", "-f", "null", "-"])
    except FfmpegError:
        return ""
    finally:
        part.unlink(missing_ok=True)
    found = re.search(r"Stream #0:0.*?Video:.*?\b(\d+x\d+)\b", said)
    return found[1] if found else ""


def _form_fields(body: bytes, boundary: bytes) -> tuple[dict[str, str], bytes, str]:
    fields: dict[str, str] = {}
    image, media_type = b"", ""
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head)
        name = headers.get_param("name", header="Content-Disposition")
        if name in ("input_reference", "image_reference"):
            image, media_type = content.removesuffix(b"\r\n"), headers.get_content_type()
        else:
            fields[str(name)] = content.removesuffix(b"\r\n").decode(errors="replace")
    return fields, image, media_type


def _json_fields(body: bytes) -> tuple[dict[str, str], bytes, str]:
    try:
        data = json.loads(body)
        reference = data.pop("input_reference", None)
        address = reference["image_url"] if reference else ""
        match = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", address, re.DOTALL) if address else None
        image = base64.b64decode(match[2], validate=True) if match else b""
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise Refusal(400, "The body should be a JSON object, a reference in it a data URL.") from None
    if address and not match:
        raise Refusal(400, "The simulator takes data URLs only.", "invalid_value", "input_reference")
    fields = {name: value for name, value in data.items() if isinstance(value, str)}
    if unlike := sorted(set(data) - set(fields)):
        raise Refusal(400, f"Invalid type for '{unlike[0]}': expected a string.", "invalid_type", unlike[0])
    return fields, image, match[1] if match else ""


class Server(ThreadingHTTPServer):
    """The desk is open to many at once; nobody who hangs up is waited for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, studio: Studio, manner: Manner = OPENAI, trouble: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", port), Desk)
        self.studio, self.manner, self.faults = studio, manner, trouble or Faults()

    @property
    def url(self) -> str:
        """The base URL, with its version."""
        return f"http://127.0.0.1:{self.server_address[1]}{self.manner.base}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line that broke is the buyer's affair; anything else is a fault of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop. Prints the base URL when ready, and writes it to DIR/url."""
    parser = argparse.ArgumentParser(prog="simulate", description="Stand for OpenAI's Videos API. Nothing is paid.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="the folder that holds everything")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that filming takes at least")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds until a sale is surely listed")
    parser.add_argument("--ignore-keys", action="store_true", help="do not honour Idempotency-Key")
    parser.add_argument("--no-film", action="store_true", help="hand out a plain unsigned film (for tests)")
    parser.add_argument("--dialect", choices=MANNERS, default="openai", help="as whose server it answers")
    parser.add_argument("--link", choices=manners.LINKS, help="say where films are instead of sending them")
    faults.add_flag(parser)
    given = parser.parse_args(arguments)
    manner, trouble = MANNERS[given.dialect], faults.given(given.fault)
    if given.link is not None:
        manner = replace(manner, link=given.link)
    studio = Studio(
        given.state.resolve(),
        latency=given.latency,
        settle=given.settle,
        keys=manner.keys and not given.ignore_keys,
        films=not given.no_film,
        forgets=manner.forgets or bool(trouble.strike(faults.START)),
    )
    server = Server(given.port, studio, manner, trouble)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with attempt(given.state / "url") as part:
        part.write_text(server.url)
    print(server.url, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    studio.close()


if __name__ == "__main__":
    main()
