"""A server that stands for OpenAI's: `python -m stages.simulators.openai --port N --state DIR`.

It speaks the Videos protocol as far as facts/providers.md section 1 knows it,
but for characters: sells clips for nothing, films them, remixes, edits and extends
those that it sold, and appends every sale to DIR/sales.jsonl.
All state is in DIR: a server that was killed and started again goes on with
what it sold. It is as inconvenient as the real one: a sale may land up to a
third of `settle` seconds after the request was read, even if the buyer has
hung up, and is listed up to a third later.

With `--dialect` it answers as others do who speak the protocol
(`stages/simulators/manners.py`), and with `--fault` or the header X-Sim-Fault
things go wrong (`stages/simulators/faults.py`). Words in a prompt ask for
trouble too: `[moderated]` (refused), `[moderated later]`, `[fails]`, `[short]`
(a second too short), `[slow]` (stays at 99 %). Pictures and moderation are in
`stages/simulators/images.py`, speech in `speech.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import sqlite3
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from stages.errors import FfmpegError
from stages.ffmpeg import run_ffmpeg
from stages.simulators import faults, images, manners, sounds, speech
from stages.simulators.desk import Desk, Server, opened, options, run
from stages.simulators.faults import Faults
from stages.simulators.manners import MANNERS, Manner
from stages.simulators.studio import IMAGES, Order, Refusal, Studio

SIZES = ("720x1280", "1280x720")
PRO_SIZES = (*SIZES, "1024x1792", "1792x1024", "1080x1920", "1920x1080")
MODELS = {"sim": SIZES, "sim-pro": PRO_SIZES, "sora-2": SIZES, "sora-2-pro": PRO_SIZES}
"""What each model films; the names that it stands for are taken too, so that their users' code works."""

SECONDS = ("4", "8", "12")
ADDED = ("4", "8", "12", "16", "20")
"""Seconds by which a film is made longer: at most EXTENSIONS times, to LONGEST. facts/providers.md 1."""
EXTENSIONS, LONGEST = 6, 120


# ---------------------------------------------------------------- how it speaks


class VideosDesk(Desk):
    """One connection."""

    server: VideosServer

    @property
    def manner(self) -> Manner:
        """How it answers."""
        return self.server.manner

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """OpenAI's error body, in its manner."""
        return self.manner.complaint(refusal.status, refusal.body)

    def act(self) -> None:
        """Retrieve, list, content; create; delete; and what `images.py`, `speech.py` and `sounds.py` answer."""
        if images.serves(self):
            return images.act(self)
        if speech.serves(self):
            return speech.act(self)
        if sounds.serves(self):
            return sounds.act(self)
        said = {"GET": self._get, "POST": self._create, "DELETE": self._delete}[self.command]()
        if said is not None:
            self.say(200, said)
        return None

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
        if "lost" in self.faults_of(job):
            raise Refusal(404, f"Video with id '{name}' not found.", "not_found")
        return job

    def _shown(self, video: Mapping[str, Any]) -> dict[str, Any]:
        return self.manner.shown(video, f"{self.server.url}/films/{video['id']}.mp4?signature=1")

    def _get(self) -> Mapping[str, Any] | None:
        parts, query = self._place()
        studio = self.server.studio
        match parts:
            case ["models"]:
                return {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
            case ["sim-root.pem"]:
                self.send_root()
                return None
            case ["videos"]:
                return self._list(query)
            case ["videos", job_id]:
                video = studio.described(self._sold(job_id))
                self.say(self.manner.status_of(video), self._shown(video))
                return None
            case ["videos", job_id, "content"]:
                return self._content(self._sold(job_id), query.get("variant", ""))
            case ["films", name]:
                job = studio.job(name.removesuffix(".mp4"))
                if "expired" in self.faults_of(job):
                    raise Refusal(403, "Request has expired", "AccessDenied")
                self.send_film(studio.film_of(job), job)
                return None
        raise Refusal(404, f"Invalid URL (GET {self.path})")

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
        fields, image, media_type = self._fields()
        parts, _ = self._place()
        key = self.headers.get("Idempotency-Key", "")
        match parts:
            case ["videos"]:
                order = ordered(fields, image, media_type, key, self.manner)
            case ["videos", name, "remix"] if "remix" in self.manner.works:
                order = self._remixed(name, fields, key)
            case ["videos", "edits"] if "edits" in self.manner.works:
                order = self._remixed(fields.pop("video", ""), fields, key)
            case ["videos", "extensions"] if "extensions" in self.manner.works:
                order = self._extended(fields.pop("video", ""), fields, key)
            case _:
                raise Refusal(404, f"Invalid URL (POST {self.path})")
        if "moderated" in self.struck:
            raise Refusal(400, "Your request was blocked by our moderation system.", "moderation_blocked")
        self.say(self.manner.created, self._shown(self.server.studio.sell(replace(order, faults=self.struck))))
        return None

    def _remixed(self, name: str, fields: Mapping[str, str], key: str) -> Order:
        """A remix or an edit, which are the same here: of the film's model, size and length."""
        _only(fields, "prompt")
        job = self._sold(name)
        shot = self.server.studio.shot_of(job)
        prompt = _prompt(fields)
        return Order(prompt, job["model"], job["seconds"], job["size"], key, work="remix", shot=shot)

    def _extended(self, name: str, fields: Mapping[str, str], key: str) -> Order:
        _only(fields, "prompt seconds")
        job, prompt, seconds = self._sold(name), _prompt(fields), fields.get("seconds", "")
        if seconds not in ADDED:
            raise Refusal(400, f"Invalid seconds value. Supported: {', '.join(ADDED)}.", "invalid_value", "seconds")
        whole = int(job["seconds"]) + int(seconds)
        if whole > LONGEST or self.server.studio.extensions(job) >= EXTENSIONS:
            text = f"A video can be extended {EXTENSIONS} times, to {LONGEST} seconds."
            raise Refusal(400, text, "invalid_value", "video")
        shot = self.server.studio.shot_of(job)
        return Order(prompt, job["model"], str(whole), job["size"], key, work="extend", shot=shot, added=int(seconds))

    def _fields(self) -> tuple[dict[str, str], bytes, str]:
        """The fields of a multipart or JSON body, and the reference with its media type."""
        body = self.body()
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
        if self.expired(job):
            raise Refusal(404, "The video is not ready, or has expired.", "not_found")
        self.send_film(self.server.studio.film_of(job), job)
        return None


def ordered(fields: Mapping[str, str], image: bytes, media_type: str, key: str, manner: Manner) -> Order:
    """The request as an Order. Raises Refusal where the real one would."""
    if not manner.strict:
        return _ordered_loosely(fields, image, media_type, key)
    prompt, model = fields.get("prompt", ""), fields.get("model", "sora-2")
    seconds, size = fields.get("seconds", "4"), fields.get("size", "720x1280")
    _prompt(fields)
    if model not in MODELS:
        raise Refusal(400, f"Invalid value: '{model}' is no video model.", "invalid_value", "model")
    if seconds not in SECONDS:
        raise Refusal(400, f"Invalid seconds value. Supported: {', '.join(SECONDS)}.", "invalid_value", "seconds")
    if size not in MODELS[model]:
        raise Refusal(400, f"Model does not support this size: {size}.", "invalid_value", "size")
    if image and media_type not in IMAGES:
        raise Refusal(400, f"Unsupported media type '{media_type}'.", "invalid_value", "input_reference")
    if image and _image_size(image) != size:
        message = "Inpaint image must match the requested width and height"
        raise Refusal(400, message, "invalid_value", "input_reference")
    return Order(prompt, model, seconds, size, key, image, IMAGES.get(media_type, ""))


def _prompt(fields: Mapping[str, str]) -> str:
    """The prompt, if it has a length and nothing against it."""
    prompt = fields.get("prompt", "")
    if not 1 <= len(prompt) <= 32_000:
        raise Refusal(400, "Invalid 'prompt': must have 1 to 32000 characters.", "invalid_value", "prompt")
    if "[moderated]" in prompt:
        raise Refusal(400, "Your request was blocked by our moderation system.", "moderation_blocked")
    return prompt


def _only(fields: Mapping[str, str], known: str) -> None:
    if unknown := sorted(set(fields) - set(known.split())):
        raise Refusal(400, f"Unknown parameter: '{unknown[0]}'.", "unknown_parameter", unknown[0])


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
        elif name == "video":
            raise Refusal(400, "The simulator works on its own videos only.", "invalid_value", "video")
        else:
            fields["video" if name == "video[id]" else str(name)] = content.removesuffix(b"\r\n").decode(
                errors="replace"
            )
    return fields, image, media_type


def _json_fields(body: bytes) -> tuple[dict[str, str], bytes, str]:
    try:
        data = json.loads(body)
        reference = data.pop("input_reference", None)
        if "video" in data:
            data["video"] = data["video"]["id"]
        address = reference["image_url"] if reference else ""
        match = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", address, re.DOTALL) if address else None
        image = base64.b64decode(match[2], validate=True) if match else b""
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise Refusal(400, "The body should be a JSON object, a reference in it a data URL, a video {id}.") from None
    if address and not match:
        raise Refusal(400, "The simulator takes data URLs only.", "invalid_value", "input_reference")
    fields = {name: value for name, value in data.items() if isinstance(value, str)}
    if unlike := sorted(set(data) - set(fields)):
        raise Refusal(400, f"Invalid type for '{unlike[0]}': expected a string.", "invalid_type", unlike[0])
    return fields, image, match[1] if match else ""


class VideosServer(Server):
    """Whoever's it stands for, it answers in one manner."""

    def __init__(self, port: int, studio: Studio, manner: Manner, trouble: Faults) -> None:
        super().__init__(port, studio, VideosDesk, manner.base, trouble)
        self.manner = manner


def main(arguments: list[str] | None = None) -> None:
    """Stand for OpenAI, or another who speaks its protocol."""
    parser = options("Stand for OpenAI's Videos API.")
    parser.add_argument("--ignore-keys", action="store_true", help="do not honour Idempotency-Key")
    parser.add_argument("--dialect", choices=MANNERS, default="openai", help="as whose server it answers")
    parser.add_argument("--link", choices=manners.LINKS, help="say where films are instead of sending them")
    given = parser.parse_args(arguments)
    manner, trouble = MANNERS[given.dialect], faults.given(given.fault)
    if given.link is not None:
        manner = replace(manner, link=given.link)
    studio = opened(given, trouble, keys=manner.keys and not given.ignore_keys, forgets=manner.forgets)
    run(VideosServer(given.port, studio, manner, trouble))


if __name__ == "__main__":
    main()
