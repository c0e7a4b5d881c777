"""Pictures and moderation, for the simulator that stands for OpenAI: `/v1/images/…` and `/v1/moderations`.

What is drawn has exactly the size that was asked, says SIMULATED in a corner,
and is signed as the films are. A picture that is shown is taken after; a
prompt that speaks of a grid gets one. As with the real one, the picture comes
in the answer and there is no list. Every sale is in DIR/sales.jsonl.
`[moderated]` in a prompt is refused here, and flagged by the moderation.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import secrets
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import presets
from stages.clip import Action, Size
from stages.errors import FfmpegError
from stages.ffmpeg import run_ffmpeg
from stages.files import attempt, fresh_folder, sweep
from stages.filetypes import filetype_of
from stages.moderation import WORDS
from stages.provenance import sign
from stages.simulators import FONT, stamp
from stages.simulators.desk import Desk, Problem, object_in
from stages.simulators.painting import landscape
from stages.simulators.studio import AGENT, IMAGES, Refusal, Studio

FORMATS = {"png": "png", "jpeg": "mjpeg", "webp": "libwebp"}
"""Output formats, with ffmpeg's encoder."""

SHOWN = 16
"""How many pictures may be shown: what openai-python 3.57 says of the real one."""

BLOCKED = {
    "message": "Your request was rejected by the safety system. safety_violations=[violence].",
    "type": "image_generation_user_error",
    "param": None,
    "code": "moderation_blocked",
}
"""As seen from gpt-image-2 in github.com/jeffstric/ZJT/issues/480."""

PLACES = (["images", "generations"], ["images", "edits"], ["moderations"])


def serves(desk: Desk) -> bool:
    """Whether this file answers what `desk` was asked."""
    parts = _parts(desk)
    return (desk.command == "POST" and parts in PLACES) or (desk.command == "GET" and parts[:1] == ["pictures"])


def act(desk: Desk) -> None:
    """Answer. Raises Refusal and Problem."""
    match _parts(desk):
        case ["moderations"]:
            desk.say(200, judged(object_in(desk.body())))
        case ["pictures", name]:
            picture = gallery(desk.server.studio).folder / Path(name).name
            if not picture.is_file():
                raise Refusal(404, "There is no such picture.", "not_found")
            desk.send(200, picture.read_bytes(), f"image/{picture.suffix[1:]}")
        case ["images", what]:
            _sell(desk, edits=what == "edits")
        case _:
            raise Refusal(404, f"Invalid URL ({desk.command} {desk.path})")


def _parts(desk: Desk) -> list[str]:
    path = urllib.parse.urlsplit(desk.path).path
    below = path.removeprefix(f"{desk.server.path}/")
    return below.split("/") if below != path else []


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was checked. `link`: the answer says where the picture is."""

    model: str
    prompt: str
    size: Size
    quality: str = "auto"
    format: str = "png"
    link: bool = False
    shown: tuple[bytes, ...] = field(default=(), repr=False)


def _sell(desk: Desk, *, edits: bool) -> None:
    started, studio = time.monotonic(), desk.server.studio
    order = ordered(*_sent(desk, edits))
    if "[moderated]" in order.prompt or "moderated" in desk.struck:
        raise Problem(400, {"error": BLOCKED})
    time.sleep(random.uniform(0, studio.settle / 3))
    picture = gallery(studio).sell(order, desk.headers.get("Idempotency-Key", ""))
    time.sleep(max(0.0, started + studio.latency - time.monotonic()))
    where = {"url": f"{desk.server.url}/pictures/{picture.name}"}
    goods = where if order.link else {"b64_json": base64.b64encode(picture.read_bytes()).decode()}
    told = {"background": "opaque", "output_format": order.format, "quality": order.quality, "size": str(order.size)}
    desk.say(200, {"created": int(time.time()), "data": [goods], **told})


def _sent(desk: Desk, edits: bool) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """The fields that were sent, and the pictures."""
    body, kind = desk.body(), desk.headers.get("Content-Type", "")
    if not edits:
        return object_in(body), ()
    boundary = re.search(r'boundary="?([^";]+)', kind)
    if not kind.startswith("multipart/form-data") or not boundary:
        raise Refusal(400, f"Unsupported content type: '{kind}'")
    fields: dict[str, Any] = {}
    shown: list[bytes] = []
    for name, content in _form(body, boundary[1].encode()):
        if name in ("image", "image[]"):
            shown.append(content)
        else:
            fields[name] = content.decode(errors="replace")
    if not shown:
        raise Refusal(400, "Missing required parameter: 'image'.", "missing_required_parameter", "image")
    return fields, tuple(shown)


def _form(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = BytesHeaderParser().parsebytes(head).get_param("name", header="Content-Disposition")
        yield str(name), content.removesuffix(b"\r\n")


def ordered(fields: Mapping[str, Any], shown: tuple[bytes, ...]) -> Order:
    """The request as an Order. Raises Refusal where the real one would."""
    models = {presets.read("images", name)["model"]: presets.read("images", name) for name in presets.names("images")}
    model, prompt = str(fields.get("model", "")), str(fields.get("prompt", ""))
    size, quality = str(fields.get("size", "auto")), str(fields.get("quality", "auto"))
    form = str(fields.get("output_format", "png"))
    if model not in models:
        raise Refusal(400, f"Invalid value: '{model}' is no image model.", "invalid_value", "model")
    sheet = models[model]
    sizes, qualities = sheet["sizes"], [key.removeprefix("price.") for key in sheet.values if key.startswith("price.")]
    for name, value, allowed in (
        ("size", size, sizes),
        ("quality", quality, qualities),
        ("output_format", form, FORMATS),
    ):
        if value != "auto" and value not in allowed:
            message = f"Invalid value: '{value}'. Supported values are: {', '.join(allowed)}."
            raise Refusal(400, message, "invalid_value", name)
    if not 1 <= len(prompt) <= sheet["prompt_limit"]:
        raise Refusal(400, "Invalid 'prompt': must have 1 to 32000 characters.", "invalid_value", "prompt")
    if str(fields.get("n", 1)) != "1":
        raise Refusal(400, "The simulator draws one at a time.", "invalid_value", "n")
    kinds = {kind.media_type if (kind := filetype_of(picture[:16])) else "" for picture in shown}
    if len(shown) > SHOWN or not kinds <= set(IMAGES):
        raise Refusal(400, f"Invalid image: up to {SHOWN} in PNG, JPEG or WebP.", "invalid_image", "image")
    wanted = Size.parse("1024x1024" if size == "auto" else size)
    return Order(model, prompt, wanted, quality, form, fields.get("response_format") == "url", shown)


class Gallery:
    """The pictures that were sold, in DIR/pictures, and who has which by the key that was sent."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.folder = studio, studio.folder / "pictures"
        self.folder.mkdir(exist_ok=True)
        sweep(self.folder)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            self.folder / "pictures.sqlite3", check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS picture (number INTEGER PRIMARY KEY, name TEXT, key TEXT UNIQUE, model TEXT,"
            " size TEXT, prompt TEXT, at REAL, logged INTEGER DEFAULT 0)"
        )
        self._log_sales()  # those that a kill kept from the log

    def sell(self, order: Order, key: str) -> Path:
        """Draw and land the sale; the same key gets the same picture, where keys are honoured."""
        with self._lock:
            asked = (order.model, str(order.size), order.prompt)
            if self.studio.keys and key and (known := self._known(key)):
                if known[1:] != asked:
                    raise Refusal(400, "Idempotency-Key was used for another request", "idempotency_key_reused")
                return self.folder / str(known[0])
            picture = self._drawn(order)
            values = (picture.name, key if self.studio.keys and key else None, *asked, time.time())
            self._database.execute(
                "INSERT INTO picture (name, key, model, size, prompt, at) VALUES (?, ?, ?, ?, ?, ?)", values
            )
            self._log_sales()
        return picture

    def _known(self, key: str) -> tuple[object, ...] | None:
        sql = "SELECT name, model, size, prompt FROM picture WHERE key = ?"
        found: tuple[object, ...] | None = self._database.execute(sql, (key,)).fetchone()
        return found

    def _log_sales(self) -> None:
        sql = "SELECT number, name, model, size, at FROM picture WHERE logged = 0 ORDER BY number"
        for number, name, model, size, at in self._database.execute(sql).fetchall():
            sale = {"id": Path(name).stem, "model": model, "seconds": "0", "size": size, "at": at}
            with (self.studio.folder / "sales.jsonl").open("a") as log:
                log.write(json.dumps(sale) + "\n")
                log.flush()
                os.fsync(log.fileno())
            self._database.execute("UPDATE picture SET logged = 1 WHERE number = ?", (number,))

    def _drawn(self, order: Order) -> Path:
        name = f"picture_{secrets.token_hex(12)}"
        target = self.folder / f"{name}.{order.format}"
        try:
            with fresh_folder(self.folder) as folder:
                draw(folder / "unsigned", order, plain="" if self.studio.films else f"0x{name[-6:]}")
                if not self.studio.films:
                    return Path(folder / "unsigned").replace(target)
                made = Action("draw", (("model", order.model),), agent=AGENT, ai=True)
                with attempt(target) as part:
                    signer = self.studio.signer()
                    sign(folder / "unsigned", part, history=(made,), signer=signer, title=name, generator=AGENT)
        except FfmpegError as error:
            raise Refusal(400, f"Invalid image: {error}", "invalid_image", "image") from None
        return target


_galleries: dict[Studio, Gallery] = {}
_opening = threading.Lock()


def gallery(studio: Studio) -> Gallery:
    """The studio's pictures; opened by whoever asks first."""
    with _opening:
        if studio not in _galleries:
            _galleries[studio] = Gallery(studio)
        return _galleries[studio]


def draw(target: Path, order: Order, plain: str = "") -> None:
    """Draw the first picture that was shown, or a landscape, at the size that was asked; as a grid if the prompt
    speaks of one, each cell another part of it. `plain` is a colour to draw instead: quickly. Raises FfmpegError."""
    width, height = order.size.width, order.size.height
    shown = target.with_name("shown")
    if plain:
        source = ["-f", "lavfi", "-i", f"color={plain}:s={order.size}"]
    elif order.shown:
        shown.write_bytes(order.shown[0])
        source = ["-i", str(shown.resolve())]
    else:
        source = landscape(shown, order.size, order.prompt)
    cover = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=lanczos,crop={width}:{height},setsar=1"
    grid = re.search(r"grid of (\d) columns and (\d) rows", order.prompt)
    parts = [cover, *([cells(order.size, int(grid[1]), int(grid[2]))] if grid else []), stamp(order.size)]
    coded = ["-frames:v", "1", "-c:v", FORMATS[order.format], "-f", "image2", "-update", "1"]
    run_ffmpeg([*source, "-vf", ",".join(parts), *coded, str(target.resolve())], folder=FONT.parent)


def cells(size: Size, columns: int, rows: int) -> str:
    """Filters that show the picture once in each cell of a grid, a little further on each time."""
    gap, count = max(4, size.height // 100), columns * rows
    wide, high = (size.width - gap) // columns - gap, (size.height - gap) // rows - gap
    part = 0.6 * min(size.width / wide, size.height / high)
    window = f"crop={round(wide * part)}:{round(high * part)}:x='(iw-ow)*n/{count - 1}':y=(ih-oh)/2"
    return (
        f"loop=loop={count - 1}:size=1,setpts=N/25/TB,{window},scale={wide}:{high},"
        f"tile={columns}x{rows}:margin={gap}:padding={gap}:color=white,"
        f"pad={size.width}:{size.height}:(ow-iw)/2:(oh-ih)/2:white"
    )


# ---------------------------------------------------------------- moderation


def judged(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of `/v1/moderations`: «[moderated]» is violence, and all else is fine.

    A list of texts gets a result each; a list of parts gets one, and may hold one picture.
    """
    asked = body.get("input")
    if not asked or not isinstance(asked, str | list):
        raise Refusal(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")
    parts = [part for part in asked if isinstance(part, Mapping)] if isinstance(asked, list) else []
    pictures = sum(part.get("type") == "image_url" for part in parts)
    if pictures > 1:
        message = f"Number of images ({pictures}) exceeds maximum of 1"
        raise Refusal(400, message, "too_many_images", "input")
    texts = (
        [" ".join(str(part.get("text", "")) for part in parts)]
        if parts
        else [asked]
        if isinstance(asked, str)
        else asked
    )
    return {
        "id": f"modr-{secrets.token_hex(8)}",
        "model": str(body.get("model", "omni-moderation-latest")),
        "results": [_result("[moderated]" in str(text)) for text in texts],
    }


def _result(flagged: bool) -> dict[str, Any]:
    kinds = {name: ["text", "image"] if re.match("self-harm|sexual$|violence", name) else ["text"] for name in WORDS}
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == "violence" for name in WORDS},
        "category_scores": {name: 0.97 if flagged and name == "violence" else 0.0001 for name in WORDS},
        "category_applied_input_types": kinds,
    }
