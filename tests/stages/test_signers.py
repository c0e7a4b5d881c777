"""Signers whose key is not a file of ours: a function, a service over HTTP, a timestamp authority (openssl's own)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import tamper
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from PIL import Image
from tamper import Authority

from stages.clip import Action
from stages.errors import InputError, ProviderUnavailable
from stages.provenance import Signer, check_signer, read_credentials, sign, signer_from_environment, signer_with, verify
from stages.signers import Hand

CREATED = (Action("generate", (("prompt", "a dog"),), "wan-2.2", ai=True),)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of one's own."""
    return Authority(tmp_path / "authority", "A Studio")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A picture to sign: quick."""
    Image.effect_noise((64, 64), 50).save(tmp_path / "clip.png")
    return tmp_path / "clip.png"


def hand_of(signer: Signer, raw: bool = False) -> Hand:
    """A key store that hands out no key."""
    assert signer.key
    key = serialization.load_pem_private_key(signer.key.read_bytes(), None)

    def sign(content: bytes) -> bytes:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big") if raw else signature

    return sign


@contextlib.contextmanager
def service(answer: Callable[[bytes, str], bytes], kind: str = "application/octet-stream") -> Iterator[str]:
    """Its address; `answer` is given the body and the Authorization header, and None is a 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = answer(self.rfile.read(int(self.headers["Content-Length"])), self.headers.get("Authorization", ""))
            self.send_response(200 if told else 503)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/sign"
    finally:
        server.shutdown()
        server.server_close()


# ---------------------------------------------------------------- a hand


@pytest.mark.parametrize("raw", [False, True])
def test_a_function_signs(authority: Authority, clip: Path, raw: bool) -> None:
    leaf = authority.signer("Cutter")
    signer = signer_with(leaf.chain, hand_of(leaf, raw))
    sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)
    found = verify(clip.with_name("signed.png"), anchors=[authority.root], signer=signer)
    assert (found.verdict, found.signer, signer.key) == ("proved", "Cutter", None)
    assert check_signer(signer, once=True) == []


@pytest.mark.parametrize("kind", ["ED25519", "PS256", "ES384", "ES512"])
def test_every_kind_of_key_signs(authority: Authority, clip: Path, kind: str) -> None:
    make: Mapping[str, Callable[[], Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey]] = {
        "ED25519": Ed25519PrivateKey.generate,
        "PS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    }
    own = make[kind]()
    leaf = tamper.certificate(("Cutter", "A Studio"), own, authority.name, authority.key)
    chain = clip.with_name("chain.pem")
    chain.write_bytes(tamper.pem(leaf) + tamper.pem(authority.issuer))

    def hand(content: bytes) -> bytes:
        if isinstance(own, Ed25519PrivateKey):
            return own.sign(content)
        if isinstance(own, RSAPrivateKey):
            return own.sign(content, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        return own.sign(content, ec.ECDSA(hashes.SHA384() if kind == "ES384" else hashes.SHA512()))

    signed = clip.with_name("signed.png")
    sign(clip, signed, history=CREATED, signer=signer_with(chain, hand))
    assert verify(signed, anchors=[authority.root]).verdict == "proved"


def test_a_wrong_signature_is_told_and_leaves_nothing(authority: Authority, clip: Path) -> None:
    leaf, other = authority.signer("Cutter"), authority.signer("Other")
    for hand in (hand_of(other), lambda content: b"", lambda content: b"0" * 64):
        signer = signer_with(leaf.chain, hand)
        with pytest.raises(InputError, match="'Cutter' made a signature that is not its key's"):
            sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)
        assert "is not its key's" in check_signer(signer, once=True)[0]
    assert not clip.with_name("signed.png").exists()


# ---------------------------------------------------------------- a service


def test_a_service_signs(authority: Authority, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf, asked = authority.signer("Cutter"), []

    def answer(body: bytes, token: str) -> bytes:
        asked.append(token)
        return hand_of(leaf)(body)

    with service(answer) as url:
        monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(leaf.chain))
        monkeypatch.setenv("AFTERFRAME_SIGNER_URL", url)
        monkeypatch.setenv("AFTERFRAME_SIGNER_TOKEN", "secret-token")
        signer = signer_from_environment()
        assert signer is not None
        assert check_signer(signer, once=True) == []
        sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)
    assert verify(clip.with_name("signed.png"), anchors=[authority.root]).verdict == "proved"
    assert asked == ["Bearer secret-token"] * 2
    monkeypatch.setenv("AFTERFRAME_SIGNER_KEY", str(leaf.key))
    with pytest.raises(InputError, match="are both set"):
        signer_from_environment()


def test_a_service_that_is_down_is_not_the_users_fault(
    authority: Authority, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(authority.signer("Cutter").chain))
    with service(lambda body, token: b"") as url:
        monkeypatch.setenv("AFTERFRAME_SIGNER_URL", url)
        signer = signer_from_environment()
        assert signer is not None
        with pytest.raises(ProviderUnavailable, match="the signing service: HTTP 503"):
            sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)
    with pytest.raises(ProviderUnavailable, match="cannot reach the signing service"):
        sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)
    assert "cannot reach" in check_signer(signer, once=True)[0]
    assert not clip.with_name("signed.png").exists()


# ---------------------------------------------------------------- a timestamp


@pytest.fixture
def timestamps(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A timestamp authority's address and root."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: apt-get install openssl")
    folder, root = tmp_path / "tsa", tmp_path / "tsa" / "root.pem"
    folder.mkdir()
    root_key, own = tamper.key(), tamper.key()
    name, clock = ("Root", "A Clock"), ("Clock", "A Clock")
    root.write_bytes(tamper.pem(tamper.certificate(name, root_key, name, root_key, ca=True)))
    leaf = tamper.certificate(clock, own, name, root_key, uses=("1.3.6.1.5.5.7.3.8",), critical=True)
    (folder / "leaf.pem").write_bytes(tamper.pem(leaf))
    (folder / "key.pem").write_bytes(tamper.pem(own))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_cert = leaf.pem\ncerts = root.pem\n"
        "signer_key = key.pem\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256, sha384, sha512\n"
        "ess_cert_id_chain = no\ness_cert_id_alg = sha256\n"
    )

    def answer(body: bytes, token: str) -> bytes:
        (folder / "query.tsq").write_bytes(body)
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq", "-out", "reply.tsr"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (folder / "reply.tsr").read_bytes()

    with service(answer, "application/timestamp-reply") as url:
        yield url, root


def test_a_signature_with_a_timestamp_outlives_its_certificate(
    authority: Authority, clip: Path, timestamps: tuple[str, Path]
) -> None:
    url, root = timestamps
    soon = authority.signer("Cutter", begin=tamper.PAST, end=datetime.now(UTC) + timedelta(seconds=3))
    stamped, plain = clip.with_name("stamped.png"), clip.with_name("plain.png")
    sign(clip, stamped, history=CREATED, signer=replace(soon, timestamps=url))
    sign(clip, plain, history=CREATED, signer=soon)
    for file in (stamped, plain):
        assert verify(file, anchors=[authority.root, root]).verdict == "proved"
    wait_until_over(soon)
    assert verify(stamped, anchors=[authority.root, root]).verdict == "proved"
    assert verify(stamped, anchors=[authority.root]).verdict == "expired"
    assert verify(stamped, anchors=[authority.root], tsa_anchors=[root]).verdict == "proved"
    assert verify(plain, anchors=[authority.root], tsa_anchors=[root]).verdict == "expired"
    made_of = clip.with_name("made-of.png")
    sign(clip, made_of, history=(Action("open", file=stamped),), signer=authority.signer("Cutter"))
    assert verify(made_of, anchors=[authority.root], tsa_anchors=[root]).verdict == "proved"


def test_who_vouches_for_timestamps_vouches_for_nothing_else(authority: Authority, clip: Path, tmp_path: Path) -> None:
    signed, clock = clip.with_name("signed.png"), Authority(tmp_path / "clock", "A Clock")
    sign(clip, signed, history=CREATED, signer=clock.signer("Cutter"))
    assert verify(signed, anchors=[clock.root]).verdict == "proved"
    for anchors in ([authority.root], []):
        found = verify(signed, anchors=anchors, tsa_anchors=[clock.root])
        assert (found.verdict, found.codes) == ("untrusted", ("signingCredential.untrusted",))
        assert read_credentials(signed, anchors=anchors, tsa_anchors=[clock.root]).state == "untrusted"
    made_of = clip.with_name("made-of.png")
    sign(clip, made_of, history=(Action("open", file=signed),), signer=authority.signer("Cutter"))
    assert verify(made_of, anchors=[authority.root], tsa_anchors=[clock.root]).verdict == "untrusted"
    assert verify(made_of, anchors=[authority.root, clock.root]).verdict == "proved"


def test_without_its_timestamp_nothing_is_signed(authority: Authority, clip: Path) -> None:
    signer = replace(authority.signer("Cutter"), timestamps="http://127.0.0.1:9/tsa")
    with pytest.raises(ProviderUnavailable, match=r"timestamp authority at http://127\.0\.0\.1:9/tsa"):
        sign(clip, clip.with_name("signed.png"), history=CREATED, signer=signer)


def wait_until_over(signer: Signer) -> None:
    """Until its certificate has ended."""
    while check_signer(signer) == []:
        time.sleep(0.2)
    time.sleep(1)  # whole seconds are counted
