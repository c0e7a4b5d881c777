"""A server that stands for Veo on the Gemini API: `python -m stages.simulators.veo --port N --state DIR`.

It speaks `predictLongRunning` as google-genai 2.34.0 does, takes any key, sells
and films in OpenAI's simulator's studio, and logs to DIR/sales.jsonl. Trouble
comes by flag, by header (`faults`), or by the studio's words in a prompt, and
`[expires]`: the file is deleted when it is fetched.

google-genai reads a file's name from `https://` addresses alone. With `--tls`
the server speaks that, by a certificate that it makes itself: point SSL_CERT_FILE
at DIR/tls.pem. The counter here is shared with `fal` and `openrouter`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import ipaddress
import json
import re
import signal
import sqlite3
import ssl
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stages.clip import Size
from stages.files import attempt
from stages.simulators import faults
from stages.simulators.faults import Faults
from stages.simulators.openai import IMAGES, UPLOAD_LIMIT, Desk, Order, Refusal, Server, Studio

MAGIC = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG", "image/webp": b"RIFF"}
HEIGHTS = {"480p": 480, "720p": 720, "1080p": 1080, "4k": 2160, "4K": 2160}
"""The shorter side, by a resolution's name."""


class Refused(Exception):
    """An HTTP answer that is no success, whole."""

    def __init__(self, status: int, body: Mapping[str, Any], **headers: str) -> None:
        super().__init__(str(body))
        self.status, self.body, self.headers = status, body, headers


# ---------------------------------------------------------------- the counter


class Counter(Desk):
    """One connection to a provider that speaks JSON. A subclass says `answer` and `error`."""

    server: Shop

    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """The body for a request to the path below the shop's; None if it was answered already."""
        raise NotImplementedError

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        """The body of an error, as this provider spells it."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Whatever `answer` says, for any method."""
        self._answer(self._act)

    def do_POST(self) -> None:
        """As GET."""
        self._answer(self._act)

    def do_PUT(self) -> None:
        """As GET."""
        self._answer(self._act)

    def say(self, status: int, body: Mapping[str, Any], **headers: str) -> None:
        """Send JSON with a status and headers (`retry_after` for `retry-after`)."""
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def data(self) -> dict[str, Any]:
        """The JSON object that was sent."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > UPLOAD_LIMIT:
            self.close_connection = True
            raise Refused(413, self.error(413, "The request is too large."))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused(400, self.error(400, "The body should be a JSON object."))
        return found

    def sell(self, order: Order) -> Mapping[str, Any]:
        """Sell and film it, with whatever trouble is due: the studio's description."""
        if "moderated" in self._struck:
            raise Refused(400, self.error(400, "Your request was blocked by our moderation system."))
        return self.server.studio.sell(replace(order, faults=self._struck))

    def sold(self, job_id: str) -> sqlite3.Row:
        """The studio's job of that id."""
        job = self.server.studio.job(job_id)
        if "lost" in self._faults_of(job):
            raise Refused(404, self.error(404, "Not found."))
        return job

    def described(self, job_id: str) -> Mapping[str, Any]:
        """That job, as the studio describes it."""
        return self.server.studio.described(self.sold(job_id))

    def film(self, job_id: str) -> None:
        """Send the film of a finished job."""
        self._content(self.sold(job_id), "video")

    def url(self, path: str) -> str:
        """An address here, by the name that the caller knows us by."""
        scheme = "https" if self.server.secure else "http"
        return f"{scheme}://{self.headers.get('Host')}/{path}"

    def _complain(self, status: int, message: str, code: str, headers: Mapping[str, str]) -> None:
        self.say(status, self.error(status, message), **headers)

    def _act(self) -> Mapping[str, Any] | None:
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/sim-root.pem":
            self.server.studio.signer()
            self._root(self.server.studio.folder / "sim-root.pem")
            return None
        below = address.path.removeprefix(self.server.path)
        parts = [urllib.parse.unquote(part) for part in below.split("/") if part]
        try:
            return self.answer(self.command, parts, dict(urllib.parse.parse_qsl(address.query)))
        except Refused as refused:
            self.say(refused.status, refused.body, **refused.headers)
        except Refusal as refusal:  # the studio's
            self.say(refusal.status, self.error(refusal.status, refusal.body["message"] or ""))
        return None


class Shop(Server):
    """A server with a counter, below `path`; over TLS if it has a certificate."""

    def __init__(
        self,
        port: int,
        studio: Studio,
        counter: type[Counter],
        path: str = "",
        tls: Path | None = None,
        trouble: Faults | None = None,
    ) -> None:
        super().__init__(port, studio, trouble=trouble)
        self.RequestHandlerClass = counter
        self.path, self.secure = path, tls is not None
        self.shown: set[str] = set()  # the films whose address was given out once
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            # Shaking hands while accepting would let one silent caller hold up all.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.server_address[1]}{self.path}"


def serve(name: str, counter: type[Counter], path: str = "", arguments: list[str] | None = None) -> None:
    """Serve until told to stop. Prints the base URL when ready, and writes it to DIR/url."""
    parser = argparse.ArgumentParser(prog="simulate", description=f"Stand for {name}. Nothing is paid.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="the folder that holds everything")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that filming takes at least")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds until a sale has surely landed")
    parser.add_argument("--no-film", action="store_true", help="hand out a plain unsigned film (for tests)")
    parser.add_argument("--tls", action="store_true", help="speak https; the certificate is DIR/tls.pem")
    faults.add_flag(parser)
    given = parser.parse_args(arguments)
    state, trouble = given.state.resolve(), faults.given(given.fault)
    studio = Studio(
        state,
        latency=given.latency,
        settle=given.settle,
        keys=False,
        films=not given.no_film,
        forgets=bool(trouble.strike(faults.START)),
    )
    server = Shop(given.port, studio, counter, path, certificate(state) if given.tls else None, trouble)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with attempt(state / "url") as part:
        part.write_text(server.url)
    print(server.url, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    studio.close()


def certificate(folder: Path) -> Path:
    """A certificate for this machine and its key, in one file that callers can trust; made once."""
    file = folder / "tls.pem"
    if file.exists():
        return file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Afterframe simulator")])
    now = datetime.now(UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with attempt(file) as part:
        part.touch(mode=0o600)
        part.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that came along, and the suffix of its kind."""

    content: bytes = b""
    suffix: str = ""


def image_in(media_type: str, encoded: str) -> Image | None:
    """A picture from base64; None if it is none that can be filmed."""
    try:
        content = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return None
    if media_type not in IMAGES or not content.startswith(MAGIC[media_type]):
        return None
    return Image(content, IMAGES[media_type])


def image_at(address: object) -> Image | None:
    """A picture from a data URL; the simulators fetch nothing."""
    found = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", str(address), re.DOTALL)
    return image_in(found[1], found[2]) if found else None


def pixels(ratio: str, resolution: str) -> Size:
    """`16:9` in `720p` as 1280x720: even numbers, the shorter side as named."""
    across, down = map(int, ratio.split(":"))
    side = HEIGHTS[resolution]
    longer = round(side * max(across, down) / min(across, down) / 2) * 2
    return Size(longer, side) if across >= down else Size(side, longer)


# ---------------------------------------------------------------- Veo

MODELS = ("veo-3.1-generate-preview", "veo-3.1-fast-generate-preview", "veo-3.1-lite-generate-preview")
WORDS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
POLICY = "violates Google's Responsible AI practices."


class VeoCounter(Counter):
    """One connection to the Gemini API."""

    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Create, look, fetch."""
        if parts[:1] == ["storage"]:  # signed: without a key
            self._store(parts[1:], query)
            return None
        if not self.headers.get("x-goog-api-key"):
            raise Refused(403, self.error(403, "Method doesn't allow unregistered callers."))
        match method, parts:
            case "GET", ["models"]:
                return {"models": [{"name": f"models/{name}"} for name in MODELS]}
            case "POST", ["models", action] if action.endswith(":predictLongRunning"):
                return self._sell(action.removesuffix(":predictLongRunning"))
            case "GET", ["models", model, "operations", operation]:
                return self._operation(model, operation)
            case "GET", ["files", action] if action.endswith(":download"):
                self._send_on(action.removesuffix(":download"))
                return None
        raise Refused(404, self.error(404, f"{method} {self.path} is not found."))

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        """As Google's front door spells it."""
        return {"error": {"code": status, "message": text, "status": WORDS.get(status, "UNKNOWN")}}

    def _sell(self, model: str) -> Mapping[str, Any]:
        data = self.data()
        if model not in MODELS:
            text = f"models/{model} is not found for API version v1beta, or is not supported for predictLongRunning."
            raise Refused(404, self.error(404, text))
        try:
            order = ordered(model, data)
        except ValueError as error:
            raise Refused(400, self.error(400, str(error))) from None
        sold = self.sell(order)
        return {"name": f"models/{model}/operations/{sold['id'].removeprefix('video_')}"}

    def _operation(self, model: str, operation: str) -> Mapping[str, Any]:
        job = self.sold(f"video_{operation}")
        name = f"models/{model}/operations/{operation}"
        if job["model"] != model:
            raise Refused(404, self.error(404, f"{name} is not found."))
        described = self.server.studio.described(job)
        kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"
        match described["status"]:
            case "completed":
                uri = self.url(f"v1beta/files/{operation}:download?alt=media")
                film: dict[str, Any] = {"generatedSamples": [{"video": {"uri": uri}}]}
                return {"name": name, "done": True, "response": {"@type": kind, "generateVideoResponse": film}}
            case "failed" if described["error"]["code"] == "moderation_blocked":
                reasons = ["Sorry, we can't create videos with this content. The film " + POLICY]
                filtered = {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": reasons}
                return {"name": name, "done": True, "response": {"@type": kind, "generateVideoResponse": filtered}}
            case "failed":
                return {"name": name, "done": True, "error": {"code": 13, "message": described["error"]["message"]}}
        return {"name": name}

    def _send_on(self, file: str) -> None:
        """A file is given out by a storage, signed, behind a redirect."""
        job = self.sold(f"video_{file}")
        if "[expires]" in job["prompt"]:
            text = f"You do not have permission to access the File {file} or it may not exist."
            raise Refused(403, self.error(403, text))
        self.say(302, {}, Location=self.url(f"v1beta/storage/{file}?signature={file[::-1]}"))

    def _store(self, parts: Sequence[str], query: Mapping[str, str]) -> None:
        file = parts[0] if parts else ""
        if query.get("signature") != file[::-1]:
            raise Refused(403, self.error(403, "The signature does not fit."))
        self.film(f"video_{file}")


def ordered(model: str, data: Mapping[str, Any]) -> Order:
    """The body as an Order. Raises ValueError with what Google would say."""
    instance = _one_instance(data)
    parameters = data.get("parameters") or {}
    known = "aspectRatio resolution durationSeconds sampleCount negativePrompt personGeneration enhancePrompt"
    _only(parameters, known, "parameters")
    for name in ("negativePrompt", "personGeneration", "aspectRatio", "resolution"):
        if not isinstance(parameters.get(name, ""), str):
            raise ValueError(f"`{name}` should be a string.")
    if parameters.get("sampleCount", 1) != 1:
        raise ValueError("`sampleCount` isn't supported by this model: it makes one video.")
    seconds, resolution = parameters.get("durationSeconds", 8), parameters.get("resolution", "720p")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds not in (4, 6, 8):
        raise ValueError("`durationSeconds` should be 4, 6 or 8.")
    if parameters.get("aspectRatio", "16:9") not in ("16:9", "9:16"):
        raise ValueError(f"`aspectRatio` with value `{parameters['aspectRatio']}` isn't supported by this model.")
    if resolution not in (("720p", "1080p") if "lite" in model else ("720p", "1080p", "4k")):
        raise ValueError(f"`resolution` with value `{resolution}` isn't supported by this model.")
    if seconds != 8 and (resolution != "720p" or "lastFrame" in instance):
        raise ValueError("`durationSeconds` should be 8 for this use case.")
    prompt = instance.get("prompt", "")
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("`prompt` should be text.")
    if "[moderated]" in prompt:
        raise ValueError(f"The prompt could not be submitted. This prompt contains sensitive words that {POLICY}")
    first = _picture(instance, "image")
    _picture(instance, "lastFrame")
    if "lastFrame" in instance and "image" not in instance:
        raise ValueError("`lastFrame` needs an `image`.")
    size = pixels(parameters.get("aspectRatio", "16:9"), resolution)
    return Order(prompt, model, str(seconds), str(size), "", first.content, first.suffix)


def _one_instance(data: Mapping[str, Any]) -> Mapping[str, Any]:
    _only(data, "instances parameters", "the request")
    instances = data.get("instances")
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        raise ValueError("`instances` should be a list of one.")
    if not isinstance(data.get("parameters", {}), dict):
        raise ValueError("`parameters` should be an object.")
    _only(instances[0], "prompt image lastFrame", "instances[0]")
    instance: Mapping[str, Any] = instances[0]
    return instance


def _only(found: Mapping[str, Any], known: str, where: str) -> None:
    for name in found:
        if name not in known.split():
            raise ValueError(f"`{name}` isn't supported by this model. Please remove it from {where}.")


def _picture(instance: Mapping[str, Any], name: str) -> Image:
    if name not in instance:
        return Image()
    given = instance[name]
    if not isinstance(given, dict) or set(given) != {"bytesBase64Encoded", "mimeType"}:
        raise ValueError(f"`{name}` should be `bytesBase64Encoded` and `mimeType`.")
    found = image_in(str(given["mimeType"]), str(given["bytesBase64Encoded"]))
    if found is None:
        raise ValueError(f"`{name}` is no JPEG, PNG or WebP.")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Stand for Veo."""
    serve("Veo on the Gemini API", VeoCounter, "/v1beta", arguments)


if __name__ == "__main__":
    main()
