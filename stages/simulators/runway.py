"""A server that stands for Runway's: `python -m stages.simulators.runway --port N --state DIR`.

It prints the base URL as RUNWAYML_BASE_URL wants it, without `/v1`, sells
tasks for nothing, films them and appends every sale to DIR/sales.jsonl, in
which a task's id stands as `video_` and its hexadecimal digits. What it
accepts is what the types of runwayml 5.24.0 describe, for the models whose
prices are known; its answers have the shapes that facts/providers.md section 4
and published captures of August 2026 show. The words of its complaints about a
missing version or key are made up; a last frame is checked and not filmed.
Films are worked on as they come, within the request or uploaded: anew (silently)
at video_to_video, larger at video_upscale.

Words in a prompt ask for trouble: `[moderated]` (input: fails at once, charged),
`[moderated later]` (output), `[fails]`, `[fails ASSET.INVALID]` or any other code,
`[slow]` (stays at 0.99), `[short]` (a second too short), `[cancelled]` (by somebody
else), `[lost]` (forgotten when it is done), `[broke]` (no credits), `[expires]`
(the first link that is followed has expired), `[expired]` (all have). More comes by
flag or by header (`faults`).
"""

from __future__ import annotations

import json
import math
import re
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from stages.clip import Size
from stages.errors import InputError
from stages.files import attempt
from stages.simulators import faults
from stages.simulators.desk import Problem, object_in, opened, options, run
from stages.simulators.faults import Faults
from stages.simulators.studio import Order, Refusal, Shot, Studio
from stages.simulators.tasks import Reply, TaskDesk, TaskServer, footage, picture, public, stamp

VERSION = "2024-11-06"
LINKS_LAST = 86_400
"""Seconds for which a link works; "within 24-48 hours"."""
INLINE = 5 * 1024 * 1024


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
VIDEO_TO_VIDEO: Mapping[str, Schema] = {
    "aleph2": Schema(
        "model videoUri",
        "promptText seed contentModeration keyframes outputFormat proresProfile ratio targetAspectRatio",
        "",
        (),
        0,
        credits=28,
    ),
}
VIDEO_UPSCALE: Mapping[str, Schema] = {
    "magnific_video_upscaler_creative": Schema(
        "model videoUri", "creativity flavor fpsBoost resolution sharpen smartGrain", "", (), 0, credits=0
    ),
}
ENDPOINTS = {
    "image_to_video": IMAGE_TO_VIDEO,
    "text_to_video": TEXT_TO_VIDEO,
    "video_to_video": VIDEO_TO_VIDEO,
    "video_upscale": VIDEO_UPSCALE,
}
LEAST = 56
"""Credits that a remix costs at least. facts/providers.md 4."""
FRAME = {"720p": Fraction("0.7"), "1k": Fraction("0.7"), "2k": Fraction("0.9"), "4k": Fraction("1.2")}
"""Credits that a frame of an enlarged film costs. docs.dev.runwayml.com/guides/pricing, as of 2026-08-26."""
LINES = {"720p": 720, "1k": 1080, "2k": 1440, "4k": 2160}
UNPLAYED = {
    *("referenceAudio", "references", "referenceVideos", "outputFormat", "proresProfile"),
    *("keyframes", "targetAspectRatio", "fpsBoost"),
}
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
        "videoUri": _wrong_footage,
        "resolution": one_of("resolution", tuple(FRAME), str),
        "flavor": one_of("flavor", ("vivid", "natural"), str),
        **{name: one_of(name, tuple(range(101)), int) for name in ("creativity", "sharpen", "smartGrain")},
        "promptImage": lambda value: _wrong_images(value, schema.positions.split()),
    }


def _wrong_moderation(value: Any) -> list[dict[str, Any]]:
    fits = isinstance(value, dict) and set(value) <= {"publicFigureThreshold"}
    if fits and value.get("publicFigureThreshold", "auto") in ("auto", "low"):
        return []
    return [_issue("invalid_value", "contentModeration", "expected publicFigureThreshold: auto|low")]


def _wrong_footage(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, str) or not re.match(r"data:video/[\w.+-]+;base64,|runway://", value):
        return [_issue("invalid_format", "videoUri", "the simulator takes data URIs and uploads of videos")]
    if value.startswith("data:") and len(value) > INLINE:
        return [_issue("too_big", "videoUri", "Too big: expected string to have <=5242880 characters")]
    return []


def fits(model: str, shot: Shot) -> None:
    """Raise Problem unless the model takes a film of that length, size and rate."""
    shortest = 2 if model == "aleph2" else 0
    if not shortest <= shot.length <= 30:
        bound = {"code": "too_big", "maximum": 30} if shot.length > 30 else {"code": "too_small", "minimum": shortest}
        text = f"Asset duration must be at {'most 30' if shot.length > 30 else f'least {shortest}'} seconds"
        kind = {"type": "number", "inclusive": True, "origin": "number", "message": text, "path": ["videoUri"]}
        raise _invalid([{**bound, **kind}])
    if model == "aleph2" and (min(shot.size.width, shot.size.height) > 1080 or shot.rate > 30):
        raise _invalid([_issue("custom", "videoUri", "Asset must be 1080p or less at 30 fps or less")])


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


# ---------------------------------------------------------------- how it speaks


class RunwayDesk(TaskDesk):
    """One connection."""

    server: RunwayServer

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As Runway's errors are."""
        return {"error": str(refusal)}

    def serve(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Reply:
        """Tasks, uploads, the organization."""
        if method == "POST" and parts[:1] == ["storage"]:  # where uploads go: no key, no version
            return self._store(parts[1:], body)
        self.key()
        if self.headers.get("X-Runway-Version") != VERSION:
            raise Refusal(400, f"X-Runway-Version should be {VERSION}")
        match method, parts:
            case "POST", ["v1", ("image_to_video" | "text_to_video") as endpoint]:
                return 200, self._create(endpoint, object_in(body))
            case "POST", ["v1", ("video_to_video" | "video_upscale") as endpoint]:
                return 200, self._treat(endpoint, object_in(body))
            case "POST", ["v1", "uploads"]:
                return 200, self._invite(object_in(body))
            case "GET", ["v1", "tasks", task_id]:
                return 200, self._task(self.job(task_id, "Could not find Task"))
            case "DELETE", ["v1", "tasks", task_id]:
                self.server.forget(self.job(task_id, "Could not find Task"))
                return 204, None
            case "GET", ["v1", "organization"]:
                return 200, self._organization()
        raise Refusal(404, f"Not found: {method} {self.path}")

    def _create(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        schema = checked(endpoint, body)
        seconds = int(body.get("duration", schema.usual))
        sound = "audio" in schema.fields and bool(body.get("audio", True))
        cost = seconds * (schema.credits if sound or "audio" not in schema.fields else schema.silent)
        size = Size(*map(int, body.get("ratio", "1280:720").split(":")))
        image, suffix = self._first(body.get("promptImage"))
        order = Order(str(body.get("promptText", "")), str(body["model"]), str(seconds), str(size), "", image, suffix)
        return self._sold(order, cost, sound)

    def _treat(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """Film a film anew, at its size and length; or make it larger, as large as its shape allows."""
        checked(endpoint, body)
        model, resolution = str(body["model"]), str(body.get("resolution", "2k"))
        shot = self._footage(str(body["videoUri"]))
        fits(model, shot)
        order = Order(str(body.get("promptText", "")), model, str(shot.seconds), str(shot.size), "", shot=shot)
        if endpoint == "video_to_video":
            cost = max(LEAST, math.ceil(shot.length * VIDEO_TO_VIDEO[model].credits))
            return self._sold(replace(order, work="remix"), cost, sound=False)
        larger = shot.with_lines(LINES[resolution])
        cost = max(1, math.ceil(FRAME[resolution] * shot.length * shot.rate))
        return self._sold(replace(order, work="upscale", size=str(larger)), cost, shot.heard)

    def _sold(self, order: Order, cost: int, sound: bool) -> dict[str, Any]:
        if "[broke]" in order.prompt:
            raise Refusal(400, "You do not have enough credits to run this task.")
        if self.server.daily <= sum(job["model"] == order.model for job in self.server.sold()):
            raise Refusal(429, "You have reached the daily limit of generations for this model.")
        job_id = self.server.sell(replace(order, faults=self.struck), sound=sound, credits=cost)
        return {"id": public(job_id), "estimatedCost": {"credits": cost}}

    def _footage(self, uri: str) -> Shot:
        unreadable = _invalid([_issue("custom", "videoUri", "Failed to fetch asset")])
        if not uri.startswith("runway://"):
            return footage(self.server.studio, uri, unreadable)
        path = self.server.upload(uri)
        try:
            return self.server.studio.taken_in(path.read_bytes())
        except (FileNotFoundError, InputError):
            raise unreadable from None

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
        path = self.server.upload(uri)
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
            raise Refusal(404, "Could not find Task")
        if over and "[cancelled]" in prompt:
            return {**head, "status": "CANCELLED", "cost": {"credits": 0}}
        if failed := _failed(prompt, video, over, "moderated" in self.faults_of(job)):
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


def _failed(prompt: str, video: Mapping[str, Any], over: bool, moderated: bool) -> tuple[str, str] | None:
    """The failure code and its text, if the task has failed."""
    if moderated or "[moderated]" in prompt:
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


class RunwayServer(TaskServer):
    """The desk is open to many at once. `concurrency` tasks are filmed at once, `daily` sold in a day, of one model."""

    def __init__(
        self, port: int, studio: Studio, concurrency: int = 5, daily: int = 1000, trouble: Faults | None = None
    ) -> None:
        super().__init__(port, studio, RunwayDesk, LINKS_LAST, trouble=trouble)
        self.concurrency, self.daily = concurrency, daily
        self.uploads = studio.folder / "uploads"
        self.uploads.mkdir(exist_ok=True)

    def upload(self, uri: str) -> Path:
        """Where the file of a `runway://` address is, if it is there."""
        return self.uploads / uri.removeprefix("runway://").replace("/", "_")

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
    """Stand for Runway."""
    parser = options("Stand for Runway's API.", settle=0.0)
    parser.add_argument("--concurrency", type=int, default=5, help="tasks at once; more are THROTTLED")
    parser.add_argument("--daily", type=int, default=1000, help="tasks of one model in 24 hours; then 429")
    given = parser.parse_args(arguments)
    trouble = faults.given(given.fault)
    run(RunwayServer(given.port, opened(given, trouble), given.concurrency, given.daily, trouble))


if __name__ == "__main__":
    main()
