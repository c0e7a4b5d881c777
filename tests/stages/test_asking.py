"""What verifying asks over the network: nothing unless it is wanted, and then only whom it may."""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tamper
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from tamper import Studio

from stages import asking
from stages.http import is_open
from stages.provenance import Signer, store_of, verify

HERE = ("127.0.0.1",)
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


class Server:
    """A real server on loopback: `pages` by path, and the status of a certificate under `/ocsp/`."""

    def __init__(self, studio: Studio) -> None:
        self.calls: list[str] = []
        self.pages: dict[str, bytes | str] = {}
        self.status = GOOD
        self.authority = studio.generator
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.calls.append(self.path)
                page = server.answer(self.path) if self.path.startswith("/ocsp/") else server.pages.get(self.path)
                self.send_response(404 if page is None else 302 if isinstance(page, str) else 200)
                if isinstance(page, str):
                    self.send_header("Location", page)
                body = page if isinstance(page, bytes) else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.own = tamper.key()
        name, organisation = "Responder", self.authority.organisation
        self.responder = tamper.certificate(
            (name, organisation), self.own, self.authority.name, self.authority.key, uses=(OCSP_SIGNING,)
        )
        self.leaves: dict[int, x509.Certificate] = {}

    def signer(self) -> Signer:
        """One whose certificate says that this server knows whether it was revoked."""
        signer = self.authority.signer("Sora", responder=f"{self.url}/ocsp/")
        leaf = x509.load_pem_x509_certificates(signer.chain.read_bytes())[0]
        self.leaves[leaf.serial_number] = leaf
        return signer

    def answer(self, path: str) -> bytes:
        asked = ocsp.load_der_ocsp_request(base64.b64decode(urllib.parse.unquote(path.removeprefix("/ocsp/"))))
        now, gone = datetime.now(UTC), self.status == REVOKED
        made = ocsp.OCSPResponseBuilder().add_response(
            self.leaves[asked.serial_number], self.authority.issuer, hashes.SHA1(), self.status,
            now - timedelta(hours=1), now + timedelta(days=1),
            now - timedelta(hours=2) if gone else None, x509.ReasonFlags.key_compromise if gone else None,
        )  # fmt: skip
        made = made.responder_id(ocsp.OCSPResponderEncoding.HASH, self.responder)
        made = made.certificates([self.responder, self.authority.issuer])
        return made.sign(self.own, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.fixture
def server(studio: Studio) -> Iterator[Server]:
    made = Server(studio)
    yield made
    made.http.shutdown()
    made.http.server_close()


# ---------------------------------------------------------------- credentials that lie elsewhere


def elsewhere(studio: Studio, server: Server, path: str = "/film.c2pa") -> Path:
    """A film whose credentials lie at the server, where they are."""
    film = studio.new()
    described = tamper.manifest(tamper.CREATED)
    tamper.raw_sign(studio.film, film, studio.sora, described, url=server.url + path)
    server.pages[path] = film.with_suffix(".store").read_bytes()
    return film


def test_credentials_that_lie_elsewhere_are_fetched_where_that_is_asked(studio: Studio, server: Server) -> None:
    film = elsewhere(studio, server)
    found = verify(film, anchors=studio.anchors)
    assert (found.verdict, found.codes, found.asked, server.calls) == ("absent", ("manifest.inaccessible",), (), [])
    assert found.sentence.endswith(f"it says that they lie at {server.url}/film.c2pa.")
    found = verify(film, anchors=studio.anchors, remote=True, hosts=HERE)
    assert (found.verdict, found.codes, server.calls) == ("proved", (), ["/film.c2pa"])
    assert found.asked == (f"credentials fetched from {server.url}/film.c2pa",)
    assert found.credentials.generator == "Sora"
    film.write_bytes(tamper.flipped(content := film.read_bytes(), tamper.middle(content, "mdat")))
    assert verify(film, anchors=studio.anchors, remote=True, hosts=HERE).verdict == "tampered"
    assert verify(studio.original, anchors=studio.anchors, remote=True, hosts=HERE).asked == ()


def test_a_private_address_is_not_called_unless_its_host_is_named(studio: Studio, server: Server) -> None:
    film = elsewhere(studio, server)
    found = verify(film, anchors=studio.anchors, remote=True, hosts=("example.com",))
    assert (found.verdict, found.codes, server.calls) == ("absent", ("manifest.inaccessible",), [])
    (told,) = found.asked
    assert told.startswith(f"credentials not fetched from {server.url}/film.c2pa: ")
    assert told.endswith("which is not https and public")
    assert asking.fetch_store("https://127.0.0.1/\x1b[2J", ())[1].isprintable()


def test_nobody_is_sent_on_into_the_house(studio: Studio, server: Server) -> None:
    """A named host that sends on to another one that is private."""
    film = elsewhere(studio, server)
    server.pages["/secret"], server.pages["/film.c2pa"] = (
        b"secret",
        server.url.replace("127.0.0.1", "localhost") + "/secret",
    )
    found = verify(film, anchors=studio.anchors, remote=True, hosts=HERE)
    assert (found.verdict, server.calls) == ("absent", ["/film.c2pa"])
    assert "which is not https and public" in found.asked[0]


@pytest.mark.parametrize("page", [b"<html>not here</html>", b"", None, b"\0" * 3_000_000])
def test_what_comes_and_is_no_manifest_is_told(
    studio: Studio, server: Server, page: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST", 1_000_000)
    film = elsewhere(studio, server)
    server.pages.pop("/film.c2pa")
    if page is not None:
        server.pages["/film.c2pa"] = page
    found = verify(film, anchors=studio.anchors, remote=True, hosts=HERE)
    assert (found.verdict, found.codes, len(found.asked)) == ("absent", ("manifest.inaccessible",), 1)
    assert found.asked[0].startswith("credentials ")


def test_anothers_manifest_from_elsewhere_proves_nothing(studio: Studio, server: Server) -> None:
    film = elsewhere(studio, server)
    server.pages["/film.c2pa"] = store_of(studio.original)
    assert verify(film, anchors=studio.anchors, remote=True, hosts=HERE).verdict == "tampered"


# ---------------------------------------------------------------- revoked certificates


def test_whether_a_certificate_was_revoked_is_asked_where_that_is_wanted(studio: Studio, server: Server) -> None:
    film = studio.signed_by(server.signer())
    place = f"{server.url}/ocsp/"
    assert (verify(film, anchors=studio.anchors).asked, server.calls) == ((), [])
    found = verify(film, anchors=studio.anchors, ocsp=True)
    assert (found.verdict, server.calls) == ("proved", [])
    assert found.asked == (f"revocation not asked of {place}: it is not public, or one too many",)
    found = verify(film, anchors=studio.anchors, ocsp=True, hosts=HERE)
    assert (found.verdict, found.asked) == ("proved", (f"revocation asked of {place}: not revoked",))
    assert server.calls
    server.status = UNKNOWN
    found = verify(film, anchors=studio.anchors, ocsp=True, hosts=HERE)
    assert found.asked == (f"revocation asked of {place}: a certificate is not known there",)
    server.leaves.clear()  # it fails
    found = verify(film, anchors=studio.anchors, ocsp=True, hosts=HERE)
    assert (found.verdict, found.asked) == ("proved", (f"revocation asked of {place}: no answer of use",))
    assert verify(studio.original, anchors=studio.anchors, ocsp=True, hosts=HERE).asked == (
        "revocation not asked: no certificate says whom to ask",
    )


def test_a_revoked_certificate_proves_nothing_wherever_it_is_in_the_chain(studio: Studio, server: Server) -> None:
    film = studio.signed_by(server.signer())
    final = studio.final(film)
    once_more = studio.final(final)
    server.status = REVOKED
    for file, whose in ((film, "its signature"), (final, "the signature of a file"), (once_more, "the signature of a")):
        found = verify(file, original=film, anchors=studio.anchors, ocsp=True, hosts=HERE)
        assert (found.verdict, found.codes) == ("untrusted", ("signingCredential.ocsp.revoked",)), found
        assert f"the certificate behind {whose}" in found.sentence
        assert found.sentence.endswith("was revoked by who issued it.")
        assert found.asked[0].endswith(": REVOKED")
        assert verify(file, original=film, anchors=studio.anchors).verdict == "proved"  # who does not ask is not told


# ---------------------------------------------------------------- whom one may ask


@pytest.mark.parametrize(
    ("url", "hosts", "plain", "may"),
    [
        ("https://1.1.1.1/x", (), False, True),
        ("http://1.1.1.1/x", (), False, False),
        ("http://1.1.1.1/x", (), True, True),
        ("https://127.0.0.1/x", (), True, False),
        ("https://127.1/x", (), True, False),
        ("https://2130706433/x", (), True, False),
        ("https://[::1]/x", (), True, False),
        ("https://[::ffff:127.0.0.1]/x", (), True, False),
        ("https://169.254.169.254/latest", (), True, False),
        ("https://10.0.0.1/x", (), True, False),
        ("https://localhost/x", (), True, False),
        ("http://localhost:81/x", ("localhost",), False, True),
        ("https://user@127.0.0.1/x", ("user",), True, False),
        ("file:///etc/passwd", (), True, False),
        ("https://[/x", (), True, False),
        ("http://1.1.1.1:99999/x", (), True, False),
        ("http://localhost:ocsp/x", ("localhost",), True, False),
        ("", (), True, False),
    ],
)
def test_who_may_be_asked(url: str, hosts: tuple[str, ...], plain: bool, may: bool) -> None:
    assert is_open(url, hosts, plain=plain) == may


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("http://ocsp.example.com:80/x", "http://ocsp.example.com"),
        ("http://ocsp.example.com:8080/x", "http://ocsp.example.com:8080"),
        ("http://[2606:4700::1111]:80/x", "http://[2606:4700::1111]"),
    ],
)
def test_an_address_is_named_as_the_library_compares_it(address: str, origin: str) -> None:
    assert asking.origin_of(address) == origin


def test_the_command_asks_where_it_is_told_to(studio: Studio, server: Server, tmp_path: Path) -> None:
    film = elsewhere(studio, server)
    command = [sys.executable, "-m", "pipeline", "verify", str(film), "--anchors", str(studio.generator.root)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    silent = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (silent.returncode, server.calls) == (10, [])
    asked = [*command, "--remote", "--ocsp", "--host", "127.0.0.1"]
    told = subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (told.returncode, server.calls) == (0, ["/film.c2pa"]), told.stderr
    assert f"  credentials fetched from {server.url}/film.c2pa\n  revocation not asked: no" in told.stdout
