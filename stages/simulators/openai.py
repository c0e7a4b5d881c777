"""A server that stands for OpenAI's: `python -m stages.simulators.openai --port N --state DIR`.

It speaks the Videos protocol as far as facts/providers.md section 1 knows it,
sells clips for nothing, films them, and appends every sale to DIR/sales.jsonl.
All state is in DIR: a server that was killed and started again goes on with
what it sold. It is as inconvenient as the real one: a sale may land up to a
third of `settle` seconds after the request was read, even if the buyer has
hung up, and is listed up to a third later.

Words in a prompt ask for trouble: `[moderated]` (refused), `[moderated later]`,
`[fails]`, `[short]` (a second too short), `[slow]` (stays at 99 %).
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
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stages.certificates import Signer, test_signer
from stages.clip import SAMPLE_RATE, Action, Size
from stages.errors import AfterframeError, FfmpegError
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt
from stages.provenance import sign
from stages.simulators import RATE, film

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
    """A create request that passed all checks. `reference` is the image, `suffix` its kind."""

    prompt: str
    model: str
    seconds: str
    size: str
    key: str
    reference: bytes = b""
    suffix: str = ""


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
    ) -> None:
        self.folder, self.latency, self.settle, self.keys, self.films = folder, latency, settle, keys, films
        for name in ("films", "references"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "sim.sqlite3", check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS job (number INTEGER PRIMARY KEY, id TEXT UNIQUE, key TEXT UNIQUE,"
            " model TEXT, prompt TEXT, seconds TEXT, size TEXT, reference TEXT, created_at REAL, listed_at REAL)"
        )
        self._failed: dict[str, str] = {}  # not kept: after the next start it is tried again
        self._progress: dict[str, float] = {}
        self._crew = ThreadPoolExecutor(max_workers=1)
        self._catch_up()

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
            "listed_at": now + random.uniform(0, self.settle / 3),
        }
        with self._lock:
            if known := self._one("key", values["key"]):
                asked = (order.model, order.prompt, order.seconds, order.size)
                if tuple(known[name] for name in ("model", "prompt", "seconds", "size")) != asked:
                    raise Refusal(400, "Idempotency-Key was used for another request", "idempotency_key_reused")
                return self.described(known)
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
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
        if age >= self.latency and "[slow]" not in job["prompt"]:
            if error := self._error(job):
                status = "failed"
            elif self.film_of(job).exists():
                status, progress = "completed", 100
        described = {
            "id": job["id"],
            "object": "video",
            "model": job["model"],
            "status": status,
            "progress": 99 if "[slow]" in job["prompt"] and age >= self.latency else progress,
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

    def delete(self, job: sqlite3.Row) -> None:
        """Forget a finished job."""
        if self.described(job)["status"] not in ("completed", "failed"):
            raise Refusal(400, "Only completed or failed videos can be deleted.", "invalid_state")
        with self._lock:
            self._database.execute("DELETE FROM job WHERE id = ?", (job["id"],))
        self.film_of(job).unlink(missing_ok=True)

    def _one(self, column: str, value: str | None) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._database.execute(f"SELECT * FROM job WHERE {column} = ?", (value,)).fetchone()
        return found

    def _error(self, job: sqlite3.Row) -> dict[str, str] | None:
        if "[moderated later]" in job["prompt"]:
            return {
                "code": "moderation_blocked",
                "message": "Your request was blocked by our moderation system.",
            }
        if "[fails]" in job["prompt"]:
            return {"code": "server_error", "message": "The server had an error while filming."}
        return {"code": "server_error", "message": self._failed[job["id"]]} if job["id"] in self._failed else None

    def _catch_up(self) -> None:
        """After a start: log the sales that a kill kept from the log, and film what was not filmed."""
        log = self.folder / "sales.jsonl"
        whole = [line for line in log.read_bytes().split(b"\n")[:-1] if line] if log.exists() else []
        if log.exists() and not log.read_bytes().endswith(b"\n"):  # killed in the middle of a line
            with attempt(log) as part:
                part.write_bytes(b"".join(line + b"\n" for line in whole))
        logged = {json.loads(line)["id"] for line in whole}
        jobs = self._database.execute("SELECT * FROM job ORDER BY number").fetchall()
        self._log_sales([job for job in jobs if job["id"] not in logged])
        for job in jobs:
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
                size=Size.parse(job["size"]),
                seconds=int(job["seconds"]) - ("[short]" in job["prompt"]),
                reference=self.folder / "references" / job["reference"] if job["reference"] else None,
                on_progress=on_progress,
            )
            made = Action("generate", (("model", job["model"]),), agent=AGENT, ai=True)
            sign(unsigned, self.film_of(job), history=(made,), signer=self.signer(), generator=AGENT)
        (self.folder / "films" / f"{job['id']}-unsigned.mp4").unlink(missing_ok=True)

    def _hand_out_canned(self, job: sqlite3.Row) -> None:
        seconds = int(job["seconds"]) - ("[short]" in job["prompt"])
        canned = self.folder / f"canned-{job['size']}-{seconds}.mp4"
        if not canned.exists():
            with attempt(canned) as part:
                _film_plainly(part, job["size"], seconds)
        name = job["id"].encode()
        with attempt(self.film_of(job)) as part:  # a `free` box makes each file another one
            part.write_bytes(canned.read_bytes() + struct.pack(">I4s", 8 + len(name), b"free") + name)

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
        try:
            body = act()
            if body is not None:
                self._send(200, body)
        except Refusal as refusal:
            self._send(refusal.status, {"error": refusal.body})
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the buyer hung up

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _place(self) -> tuple[list[str], dict[str, str]]:
        """The path after `/v1`, in parts, and the query."""
        address = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in address.path.split("/") if part]
        if len(parts) < 2 or parts[0] != "v1" or parts[1] not in ("videos", "models", "sim-root.pem"):
            raise Refusal(404, f"Invalid URL ({self.command} {address.path})")
        return parts[1:], dict(urllib.parse.parse_qsl(address.query))

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
                return studio.described(studio.job(job_id))
            case ["videos", job_id, "content"]:
                self._content(studio.job(job_id), query.get("variant", "video"))
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
        limit = query.get("limit", "20")
        if not limit.isdigit() or not 0 <= int(limit) <= 100:
            raise Refusal(400, f"Invalid 'limit': {limit}", "invalid_value", "limit")
        descending = query.get("order", "desc") == "desc"
        data, more = self.server.studio.listed(query.get("after", ""), int(limit), descending)
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return {"object": "list", "data": data, "has_more": more, **ends}

    def _delete(self) -> Mapping[str, Any]:
        parts, _ = self._place()
        if len(parts) != 2:
            raise Refusal(404, f"Invalid URL (DELETE {self.path})")
        self.server.studio.delete(self.server.studio.job(parts[1]))
        return {"id": parts[1], "object": "video.deleted", "deleted": True}

    def _create(self) -> Mapping[str, Any]:
        fields, image, media_type = self._body()
        parts, _ = self._place()
        if parts != ["videos"]:
            raise Refusal(404, f"Invalid URL (POST {self.path})")
        order = ordered(fields, image, media_type, self.headers.get("Idempotency-Key", ""))
        return self.server.studio.sell(order)

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
        if kind.startswith("application/json"):
            return _json_fields(body)
        if boundary := re.search(r'boundary="?([^";]+)', kind):
            return _form_fields(body, boundary[1].encode())
        raise Refusal(400, f"Unsupported content type: '{kind}'")

    def _content(self, job: sqlite3.Row, variant: str) -> None:
        """Send the film, or the rest of it if a Range asks for that."""
        path = self.server.studio.film_of(job)
        if variant != "video":
            raise Refusal(400, "The simulator has no thumbnails or sprite sheets.", "invalid_value", "variant")
        if self.server.studio.described(job)["status"] != "completed" or time.time() > job["created_at"] + KEPT:
            raise Refusal(404, "The video is not ready, or has expired.", "not_found")
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


def ordered(fields: Mapping[str, str], image: bytes, media_type: str, key: str) -> Order:
    """The request as an Order. Raises Refusal where the real one would."""
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
        if name == "input_reference":
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

    def __init__(self, port: int, studio: Studio) -> None:
        super().__init__(("127.0.0.1", port), Desk)
        self.studio = studio

    @property
    def url(self) -> str:
        """The base URL, with its version."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

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
    given = parser.parse_args(arguments)
    studio = Studio(
        given.state.resolve(),
        latency=given.latency,
        settle=given.settle,
        keys=not given.ignore_keys,
        films=not given.no_film,
    )
    server = Server(given.port, studio)
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
