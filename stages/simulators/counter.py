"""The counter of the simulators that take JSON and sell one film for each order: fal's, OpenRouter's and Veo's."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import sqlite3
import ssl
import urllib.parse
from abc import abstractmethod
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
from stages.simulators.desk import Desk, Server, opened, options, run
from stages.simulators.faults import Faults
from stages.simulators.studio import IMAGES, Order, Refusal, Studio

MAGIC = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG", "image/webp": b"RIFF"}
HEIGHTS = {"480p": 480, "720p": 720, "1080p": 1080, "4k": 2160, "4K": 2160}
"""The shorter side, by a resolution's name."""


class Counter(Desk):
    """One connection to a provider that speaks JSON. A provider's says `answer` and `error`."""

    server: Shop
    most = 64 * 1024 * 1024

    @abstractmethod
    def answer(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> Mapping[str, Any] | None:
        """The body for a request to the path below the shop's; None if it was answered already."""

    do_PUT = Desk.do_GET

    def act(self) -> None:
        """Whatever `answer` says, for any method."""
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/sim-root.pem":
            return self.send_root()
        below = address.path.removeprefix(self.server.path)
        parts = [urllib.parse.unquote(part) for part in below.split("/") if part]
        said = self.answer(self.command, parts, dict(urllib.parse.parse_qsl(address.query)))
        return None if said is None else self.say(200, said)

    def sell(self, order: Order) -> Mapping[str, Any]:
        """Sell and film it, with whatever trouble is due: the studio's description."""
        if "moderated" in self.struck:
            raise Refusal(400, "Your request was blocked by our moderation system.")
        return self.server.studio.sell(replace(order, faults=self.struck))

    def sold(self, job_id: str) -> sqlite3.Row:
        """The studio's job of that id."""
        job = self.server.studio.job(job_id)
        if "lost" in self.faults_of(job):
            raise Refusal(404, "Not found.")
        return job

    def described(self, job_id: str) -> Mapping[str, Any]:
        """That job, as the studio describes it."""
        return self.server.studio.described(self.sold(job_id))

    def film(self, job_id: str) -> None:
        """Send the film of a finished job."""
        job = self.sold(job_id)
        if self.server.studio.described(job)["status"] != "completed" or self.expired(job):
            raise Refusal(404, "The video is not ready, or has expired.")
        self.send_film(self.server.studio.film_of(job), job)

    def url(self, path: str) -> str:
        """An address here, by the name that the caller knows us by."""
        scheme = "https" if self.server.secure else "http"
        return f"{scheme}://{self.headers.get('Host')}/{path}"


class Shop(Server):
    """A server with a counter; over TLS if it has a certificate."""

    def __init__(
        self,
        port: int,
        studio: Studio,
        counter: type[Counter],
        path: str = "",
        tls: Path | None = None,
        trouble: Faults | None = None,
    ) -> None:
        super().__init__(port, studio, counter, path, trouble)
        self.secure = tls is not None
        self.shown: set[str] = set()  # the films whose address was given out once
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            # Shaking hands while accepting would let one silent caller hold up all.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


def serve(name: str, counter: type[Counter], path: str = "", arguments: list[str] | None = None) -> None:
    """Stand for `name` until told to stop."""
    parser = options(f"Stand for {name}.")
    parser.add_argument("--tls", action="store_true", help="speak https; the certificate is DIR/tls.pem")
    given = parser.parse_args(arguments)
    trouble = faults.given(given.fault)
    studio = opened(given, trouble, keys=False)
    run(Shop(given.port, studio, counter, path, certificate(studio.folder) if given.tls else None, trouble))


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


def video_at(address: object) -> bytes:
    """A film from a data URL; the simulators fetch nothing. Empty if it is none."""
    found = re.fullmatch(r"data:video/[\w.+-]+;base64,(.*)", str(address), re.DOTALL)
    try:
        return base64.b64decode(found[1] if found else "", validate=True)
    except (ValueError, binascii.Error):
        return b""


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
