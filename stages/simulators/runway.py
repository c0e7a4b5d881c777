"""A server that stands for Runway's: `python -m stages.simulators.runway --port N --state DIR`.

It prints the base URL as RUNWAYML_BASE_URL wants it, without `/v1`, sells
tasks for nothing, films them and appends every sale to DIR/sales.jsonl, in
which a task's id stands as `video_` and its hexadecimal digits. What it
accepts is what the types of runwayml 5.24.0 describe, for the models whose
prices are known; its answers have the shapes that facts/providers.md section 4
and published captures of August 2026 show. The words of its complaints about a
missing version or key are made up; a last frame is checked and not filmed.

Words in a prompt ask for trouble: `[moderated]` (input: fails at once, charged),
`[moderated later]` (output), `[fails]`, `[fails ASSET.INVALID]` or any other code,
`[slow]` (stays at 0.99), `[short]` (a second too short), `[cancelled]` (by somebody
else), `[lost]` (forgotten when it is done), `[broke]` (no credits), `[expires]`
(the first link that is followed has expired), `[expired]` (all have).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import itertools
import json
import re
import secrets
import shutil
import signal
import sqlite3
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from stages.clip import Action, Size
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt
from stages.provenance import sign
from stages.simulators.openai import AGENT, IMAGES, Order, Refusal, Studio
from stages.simulators.openai import Server as OpenAIServer

VERSION = "2024-11-06"
LINKS_LAST = 86_400
"""Seconds for which a link works; "within 24-48 hours"."""
INLINE = 5 * 1024 * 1024
BODY = 64 * 1024 * 1024

Reply = tuple[int, Mapping[str, Any] | None]


class Problem(Exception):
    """An HTTP answer that is no success, with its body and headers."""

    def __init__(self, status: int, body: Mapping[str, Any], **headers: str) -> None:
        super().__init__(str(body))
        self.status, self.body, self.headers = status, body, headers


# ---------------------------------------------------------------- what it sells


@dataclass(frozen=True, slots=True)
class Schema:
    """The body that one model takes at one endpoint; all else is refused.

    `positions` are those of its images, `usual` the length if none is given
    (not published for all: made up), `credits` what a second costs, and
    `silent` what it costs without sound, where that can be asked. Films of
    models without `audio` are silent.
    """

    required: str
    optional: str
    ratios: str
    seconds: tuple[int, ...]
    usual: int
    credits: int
    silent: int = 0
    prompt: int = 1000
    positions: str = ""

    @property
    def fields(self) -> frozenset[str]:
        """All field names."""
        return frozenset(f"{self.required} {self.optional}".split())


RATIOS = "1280:720 720:1280 1104:832 832:1104 960:960 1584:672"
VEO_RATIOS = "1280:720 720:1280 1080:1920 1920:1080"
SEEDANCE_RATIOS = (
    "992:432 864:496 752:560 640:640 560:752 496:864 1470:630 1280:720 1112:834 960:960 834:1112 720:1280 "
    "2206:946 1920:1080 1664:1248 1440:1440 1248:1664 1080:1920 3840:1646 3840:2160 3840:2880 3840:3840 "
    "2880:3840 2160:3840"
)
MASTERS = "contentModeration outputFormat proresProfile seed"
TEN, VEO, LONG = tuple(range(2, 11)), (4, 6, 8), tuple(range(4, 16))
IMAGE_TO_VIDEO: Mapping[str, Schema] = {
    "gen4.5": Schema(
        "model promptImage promptText ratio duration", MASTERS, RATIOS, TEN, 10, credits=12, positions="first"
    ),
    "gen4_turbo": Schema(
        "model promptImage ratio",
        "promptText duration seed contentModeration",
        RATIOS,
        TEN,
        10,
        credits=5,
        positions="first",
    ),
    "veo3.1": Schema(
        "model promptImage ratio",
        "promptText duration seed audio negativePrompt",
        VEO_RATIOS,
        VEO,
        8,
        credits=40,
        silent=20,
        positions="first last",
    ),
    "veo3.1_fast": Schema(
        "model promptImage ratio",
        "promptText duration seed audio negativePrompt",
        VEO_RATIOS,
        VEO,
        8,
        credits=15,
        silent=10,
        positions="first last",
    ),
    "seedance2": Schema(
        "model promptImage",
        "promptText ratio duration seed audio referenceAudio",
        SEEDANCE_RATIOS,
        LONG,
        5,
        credits=36,
        silent=36,
        prompt=3500,
        positions="first last",
    ),
}
TEXT_TO_VIDEO: Mapping[str, Schema] = {
    "gen4.5": Schema("model promptText ratio duration", MASTERS, "1280:720 720:1280", TEN, 10, credits=12),
    "veo3.1": Schema(
        "model promptText ratio", "duration seed audio negativePrompt", VEO_RATIOS, VEO, 8, credits=40, silent=20
    ),
    "veo3.1_fast": Schema(
        "model promptText ratio", "duration seed audio negativePrompt", VEO_RATIOS, VEO, 8, credits=15, silent=10
    ),
    "seedance2": Schema(
        "model promptText",
        "ratio duration seed audio referenceAudio references referenceVideos",
        SEEDANCE_RATIOS,
        LONG,
        5,
        credits=36,
        silent=36,
        prompt=3500,
    ),
}
ENDPOINTS = {"image_to_video": IMAGE_TO_VIDEO, "text_to_video": TEXT_TO_VIDEO}
UNPLAYED = {"referenceAudio", "references", "referenceVideos", "outputFormat", "proresProfile"}
"""Fields that the real one has and the simulator does not play."""


def checked(endpoint: str, body: Mapping[str, Any]) -> Schema:
    """The schema of a create request that fits it. Raises Problem as the real one does, with all issues."""
    schema = ENDPOINTS[endpoint].get(str(body.get("model")))
    if schema is None:
        known = "|".join(f'"{name}"' for name in ENDPOINTS[endpoint])
        raise _invalid([_issue("invalid_union", "model", f"Invalid input: expected one of {known}")])
    issues = [
        _issue("invalid_type", name, "Invalid input: received undefined")
        for name in schema.required.split()
        if name not in body
    ]
    if extra := sorted(set(body) - schema.fields):
        issues.append({"code": "unrecognized_keys", "keys": extra, "path": [], "message": f"Unrecognized key: {extra}"})
    issues += [_issue("simulator", name, "the simulator does not play this") for name in set(body) & UNPLAYED]
    issues += [issue for name, wrong in _wrongs(schema).items() if name in body for issue in wrong(body[name])]
    if issues:
        raise _invalid(issues)
    return schema


def _wrongs(schema: Schema) -> Mapping[str, Callable[[Any], list[dict[str, Any]]]]:
    def text(name: str, limit: int) -> Callable[[Any], list[dict[str, Any]]]:
        def wrong(value: Any) -> list[dict[str, Any]]:
            if not isinstance(value, str):
                return [_issue("invalid_type", name, "Invalid input: expected string")]
            units = len(value.encode("utf-16-le")) // 2
            return [] if 1 <= units <= limit else [_issue("too_big", name, f"expected 1 to {limit} characters")]

        return wrong

    def one_of(name: str, values: tuple[Any, ...], kind: type) -> Callable[[Any], list[dict[str, Any]]]:
        def wrong(value: Any) -> list[dict[str, Any]]:
            if type(value) is kind and (not values or value in values):
                return []
            known = "|".join(json.dumps(each) for each in values) or kind.__name__
            return [_issue("invalid_value", name, f"Invalid option: expected one of {known}")]

        return wrong

    return {
        "promptText": text("promptText", schema.prompt),
        "negativePrompt": text("negativePrompt", schema.prompt),
        "ratio": one_of("ratio", tuple(schema.ratios.split()), str),
        "duration": one_of("duration", schema.seconds, int),
        "audio": one_of("audio", (True, False), bool),
        "seed": one_of("seed", (), int),
        "contentModeration": _wrong_moderation,
        "promptImage": lambda value: _wrong_images(value, schema.positions.split()),
    }


def _wrong_moderation(value: Any) -> list[dict[str, Any]]:
    fits = isinstance(value, dict) and set(value) <= {"publicFigureThreshold"}
    if fits and value.get("publicFigureThreshold", "auto") in ("auto", "low"):
        return []
    return [_issue("invalid_value", "contentModeration", "expected publicFigureThreshold: auto|low")]


def _wrong_images(value: Any, positions: list[str]) -> list[dict[str, Any]]:
    images = value if isinstance(value, list) else [{"uri": value, "position": "first"}]
    found = [image.get("position") for image in images if isinstance(image, dict)]
    if len(found) < len(images) or not images or any(set(image) != {"uri", "position"} for image in images):
        return [_issue("invalid_type", "promptImage", "expected a URI, or a list of {uri, position}")]
    if found != positions[: len(found)]:
        return [_issue("custom", "promptImage", f"expected positions {positions}, in this order")]
    for image in images:
        uri = image["uri"]
        if not isinstance(uri, str) or not re.match(r"data:image/(png|jpeg|webp);base64,|runway://", uri):
            return [_issue("invalid_format", "promptImage", "the simulator takes data URIs and uploads of images")]
        if uri.startswith("data:") and len(uri) > INLINE:
            return [_issue("too_big", "promptImage", "Too big: expected string to have <=5242880 characters")]
    return []


def _issue(code: str, name: str, message: str) -> dict[str, Any]:
    return {"code": code, "path": [name], "message": message}


def _invalid(issues: list[dict[str, Any]]) -> Problem:
    about = "https://docs.dev.runwayml.com/api"
    return Problem(400, {"error": "Validation of body failed", "issues": issues, "docUrl": about})


# ---------------------------------------------------------------- what all simulators of tasks share


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


class TaskDesk(BaseHTTPRequestHandler):
    """One connection to a server of tasks: JSON in, JSON out, films behind links."""

    protocol_version = "HTTP/1.1"
    server: TaskServer

    def do_GET(self) -> None:
        """Answer: everything goes one way."""
        try:
            try:
                self._answer()
            except Refusal as refusal:  # the studio's
                raise self.complaint(refusal.status, str(refusal)) from None
        except Problem as problem:
            self._reply(problem.status, problem.body, problem.headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the buyer hung up

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what counts is in sales.jsonl."""

    def serve(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request. Raises Problem."""
        raise NotImplementedError

    def greeting(self) -> dict[str, str]:
        """Headers that go with every answer."""
        return {}

    def complaint(self, status: int, message: str) -> Problem:
        """A refusal in the protocol's own shape."""
        return Problem(status, {"error": message})

    def _answer(self) -> None:
        body = self._bytes()
        address = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in address.path.split("/") if part]
        query = dict(urllib.parse.parse_qsl(address.query))
        if parts[:1] == ["files"] and self.command == "GET":
            self._hand_out(parts, query)
        else:
            status, said = self.serve(self.command, parts, query, body)
            self._reply(status, said)

    def _bytes(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY:
            self.close_connection = True
            raise self.complaint(413, "The request is too large.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        return body

    def _reply(self, status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**self.greeting(), **(headers or {})}.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def key(self) -> None:
        """Raises Problem unless the request has a key; which one does not matter."""
        if not re.fullmatch(r"Bearer \S+", self.headers.get("Authorization", "")):
            raise self.complaint(401, "Missing or invalid API key.")

    def fields(self, body: bytes) -> dict[str, Any]:
        """The JSON object that was sent."""
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.complaint(400, "The body should be a JSON object.")
        return found

    def job(self, task_id: str, unknown: str) -> sqlite3.Row:
        """The job behind an id. Raises Problem with 404 and the words `unknown`."""
        try:
            job = self.server.studio.job(private(task_id))
        except Refusal:
            raise self.complaint(404, unknown) from None
        if self.server.gone(job["id"]):
            raise self.complaint(404, unknown)
        return job

    def link(self, job: sqlite3.Row) -> str:
        """A fresh address of the film."""
        return f"{self.server.origin}/files/{public(job['id'])}/film.mp4?_jwt={self.server.links.issue(job['id'])}"

    def _hand_out(self, parts: list[str], query: Mapping[str, str]) -> None:
        """The film behind a link, or the rest of it if a Range asks for that."""
        if "Authorization" in self.headers:  # as storage does: one way to be let in, not two
            raise Problem(400, {"Code": "InvalidArgument", "Message": "Only one auth mechanism allowed"})
        job = self.job(parts[1] if len(parts) == 3 else "", "No such file.")
        if not self.server.links.opens(query.get("_jwt", ""), job):
            raise Problem(403, {"Code": "AccessDenied", "Message": "Access Denied"})
        path = self.server.film(job)
        size, version = path.stat().st_size, f'"{job["id"]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.headers.get("If-Range", version) == version else 0
        if start >= size:
            raise Problem(416, {"Code": "InvalidRange"})
        self.send_response(206 if start else 200)
        headers = {"Content-Type": "video/mp4", "Content-Length": str(size - start), "ETag": version}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            shutil.copyfileobj(file, self.wfile)


class TaskServer(OpenAIServer):
    """A server of tasks. What else was ordered besides what a studio knows rides in the column of its keys."""

    def __init__(self, port: int, studio: Studio, desk: type[TaskDesk], links_last: float) -> None:
        super().__init__(port, studio)
        self.RequestHandlerClass = desk
        self.links = Links(links_last)
        self.forgotten = studio.folder / "forgotten"
        self.forgotten.mkdir(exist_ok=True)
        self._muting = threading.Lock()

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:port`"""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sell(self, prompt: str, model: str, seconds: int, size: Size, image: tuple[bytes, str], **more: Any) -> str:
        """Sell a film: the job's id. `more` comes back from `ordered`."""
        remembered = json.dumps({"nonce": secrets.token_hex(8), **more})
        order = Order(prompt, model, str(seconds), str(size), remembered, *image)
        return str(self.studio.sell(order)["id"])

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


def picture(uri: str, complaint: Problem) -> tuple[bytes, str]:
    """The image in a data URI, and its kind. Raises `complaint` if there is none."""
    match = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", uri, re.DOTALL)
    try:
        return base64.b64decode(match[2] if match else "!", validate=True), IMAGES[match[1] if match else ""]
    except (binascii.Error, KeyError):
        raise complaint from None


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The options that all simulators of tasks have."""
    found = argparse.ArgumentParser(prog=prog, description=description)
    found.add_argument("--port", type=int, default=0, help="0 takes a free one")
    found.add_argument("--state", type=Path, required=True, help="the folder that holds everything")
    found.add_argument("--latency", type=float, default=2.0, help="seconds that filming takes at least")
    found.add_argument("--settle", type=float, default=0.0, help="seconds until a sale is surely listed")
    found.add_argument("--no-film", action="store_true", help="hand out a plain unsigned film (for tests)")
    return found


def opened(given: argparse.Namespace) -> Studio:
    """The studio that the options ask for."""
    latency, settle = given.latency, given.settle
    return Studio(given.state.resolve(), latency=latency, settle=settle, films=not given.no_film)


def run(server: TaskServer, base_url: str) -> None:
    """Serve until told to stop; print the base URL when ready, and write it to DIR/url."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with attempt(server.studio.folder / "url") as part:
        part.write_text(base_url)
    print(base_url, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.studio.close()


# ---------------------------------------------------------------- how it speaks


class Desk(TaskDesk):
    """One connection."""

    server: Server

    def serve(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Reply:
        """Tasks, uploads, the organization."""
        if method == "POST" and parts[:1] == ["storage"]:  # where uploads go: no key, no version
            return self._store(parts[1:], body)
        self.key()
        if self.headers.get("X-Runway-Version") != VERSION:
            raise self.complaint(400, f"X-Runway-Version should be {VERSION}")
        match method, parts:
            case "POST", ["v1", ("image_to_video" | "text_to_video") as endpoint]:
                return 200, self._create(endpoint, self.fields(body))
            case "POST", ["v1", "uploads"]:
                return 200, self._invite(self.fields(body))
            case "GET", ["v1", "tasks", task_id]:
                return 200, self._task(self.job(task_id, "Could not find Task"))
            case "DELETE", ["v1", "tasks", task_id]:
                self.server.forget(self.job(task_id, "Could not find Task"))
                return 204, None
            case "GET", ["v1", "organization"]:
                return 200, self._organization()
        raise self.complaint(404, f"Not found: {method} {self.path}")

    def _create(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        schema = checked(endpoint, body)
        prompt, model = str(body.get("promptText", "")), str(body["model"])
        if "[broke]" in prompt:
            raise self.complaint(400, "You do not have enough credits to run this task.")
        if self.server.daily <= sum(job["model"] == model for job in self.server.sold()):
            raise self.complaint(429, "You have reached the daily limit of generations for this model.")
        seconds = int(body.get("duration", schema.usual))
        sound = "audio" in schema.fields and bool(body.get("audio", True))
        cost = seconds * (schema.credits if sound or "audio" not in schema.fields else schema.silent)
        size = Size(*map(int, body.get("ratio", "1280:720").split(":")))
        image = self._first(body.get("promptImage"))
        job_id = self.server.sell(prompt, model, seconds, size, image, sound=sound, credits=cost)
        return {"id": public(job_id), "estimatedCost": {"credits": cost}}

    def _first(self, images: Any) -> tuple[bytes, str]:
        """The first frame's bytes and kind; nothing if there is none. All images are looked at."""
        if images is None:
            return b"", ""
        uris = [image["uri"] for image in images] if isinstance(images, list) else [images]
        first, *_ = (self._image(uri) for uri in uris)
        return first

    def _image(self, uri: str) -> tuple[bytes, str]:
        unreadable = _invalid([_issue("custom", "promptImage", "Failed to fetch asset")])
        if not uri.startswith("runway://"):
            return picture(uri, unreadable)
        path = self.server.uploads / uri.removeprefix("runway://").replace("/", "_")
        kinds = {b"\x89PNG": ".png", b"\xff\xd8\xff\xe0": ".jpg", b"RIFF": ".webp"}
        if not path.is_file():
            raise unreadable
        content = path.read_bytes()
        return content, kinds.get(content[:4], ".jpg")

    def _invite(self, body: dict[str, Any]) -> dict[str, Any]:
        """Where to upload to, and under which name it is then known."""
        if set(body) != {"filename", "type"} or body["type"] != "ephemeral":
            raise _invalid([_issue("invalid_value", "type", "expected filename, and type: ephemeral")])
        name = f"{uuid.uuid4()}{Path(str(body['filename'])).suffix}"
        return {
            "uploadUrl": f"{self.server.origin}/storage",
            "fields": {"key": name, "policy": secrets.token_hex(16)},
            "runwayUri": f"runway://{name}",
        }

    def _store(self, parts: list[str], body: bytes) -> Reply:
        """Keep what was uploaded, as S3 does: the file is the last part of the form."""
        boundary = re.search(r'boundary="?([^";]+)', self.headers.get("Content-Type", ""))
        sections = body.split(b"--" + boundary[1].encode())[1:-1] if boundary else []
        found: dict[str, bytes] = {}
        for section in sections:
            head, _, content = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            if name := re.search(rb'name="([^"]*)"', head):
                found[name[1].decode()] = content.removesuffix(b"\r\n")
        if parts or list(found)[-1:] != ["file"] or not {"key", "policy"} <= set(found):
            raise Problem(400, {"Code": "InvalidArgument", "Message": "Bucket POST must contain a file, last."})
        with attempt(self.server.uploads / Path(found["key"].decode()).name) as part:
            part.write_bytes(found["file"])
        return 204, None

    def _task(self, job: sqlite3.Row) -> dict[str, Any]:
        """The task as it stands."""
        prompt, cost = job["prompt"], self.server.ordered(job)["credits"]
        video = self.server.studio.described(job)
        head = {"id": public(job["id"]), "createdAt": stamp(job["created_at"])}
        over = video["status"] in ("completed", "failed")
        if over and "[lost]" in prompt:
            raise self.complaint(404, "Could not find Task")
        if over and "[cancelled]" in prompt:
            return {**head, "status": "CANCELLED", "cost": {"credits": 0}}
        if failed := _failed(prompt, video, over):
            code, text = failed
            charged = cost if code.startswith("SAFETY") else 0
            return {**head, "status": "FAILED", "failure": text, "failureCode": code, "cost": {"credits": charged}}
        if over:
            return {**head, "status": "SUCCEEDED", "output": [self.link(job)], "cost": {"credits": cost}}
        head["estimatedCost"] = {"credits": cost}  # type: ignore[assignment]  # the rest is text
        if self.server.throttled(job):
            return {**head, "status": "THROTTLED"}
        if video["status"] == "queued":
            return {**head, "status": "PENDING"}
        return {**head, "status": "RUNNING", "progress": video["progress"] / 100}

    def _organization(self) -> dict[str, Any]:
        sold = [job["model"] for job in self.server.sold()]
        limit = {"maxConcurrentGenerations": self.server.concurrency, "maxDailyGenerations": self.server.daily}
        return {
            "creditBalance": 1_000_000,
            "tier": {"maxMonthlyCreditSpend": 1_000_000, "models": dict.fromkeys(IMAGE_TO_VIDEO, limit)},
            "usage": {"models": {name: {"dailyGenerations": sold.count(name)} for name in sorted(set(sold))}},
        }


def _failed(prompt: str, video: Mapping[str, Any], over: bool) -> tuple[str, str] | None:
    """The failure code and its text, if the task has failed."""
    if "[moderated]" in prompt:
        return "SAFETY.INPUT.TEXT", "The prompt was flagged by our content moderation system."
    if not over:
        return None
    if code := re.search(r"\[fails ([\w.]+)\]", prompt):
        return code[1], "The task failed as its prompt asked."
    if video["status"] != "failed":
        return None
    if video["error"]["code"] == "moderation_blocked":
        return "SAFETY.OUTPUT.VIDEO", "The output was flagged by our content moderation system."
    return "INTERNAL.BAD_OUTPUT.CODE01", "An unexpected error occurred."


class Server(TaskServer):
    """The desk is open to many at once. `concurrency` tasks are filmed at once, `daily` sold in a day, of one model."""

    def __init__(self, port: int, studio: Studio, concurrency: int = 5, daily: int = 1000) -> None:
        super().__init__(port, studio, Desk, LINKS_LAST)
        self.concurrency, self.daily = concurrency, daily
        self.uploads = studio.folder / "uploads"
        self.uploads.mkdir(exist_ok=True)

    def sold(self) -> list[dict[str, Any]]:
        """What was sold within a day, newest first."""
        jobs, _ = self.studio.listed("", 10_000, descending=True)
        return [job for job in jobs if job["created_at"] > time.time() - 86_400]

    def throttled(self, job: sqlite3.Row) -> bool:
        """Whether as many tasks as may run at once stand before this one."""
        live = [each["id"] for each in self.sold() if each["status"] in ("queued", "in_progress")]
        before = live[live.index(job["id"]) + 1 :] if job["id"] in live else []
        return sum(not self.gone(each) for each in before) >= self.concurrency


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    options = parser("simulate", "Stand for Runway's API. Nothing is paid.")
    options.add_argument("--concurrency", type=int, default=5, help="tasks at once; more are THROTTLED")
    options.add_argument("--daily", type=int, default=1000, help="tasks of one model in 24 hours; then 429")
    given = options.parse_args(arguments)
    server = Server(given.port, opened(given), given.concurrency, given.daily)
    run(server, server.origin)


if __name__ == "__main__":
    main()
