"""What a hostile file may try: lies of a trusted signer, bombs, endless chains, addresses to fetch from."""

from __future__ import annotations

import base64
import io
import json
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import c2pa
import pytest
import tamper
from tamper import Studio

from stages import provenance
from stages.carriers import COMPRESSED, compressed_in, sidecar_of
from stages.certificates import fingerprints_in
from stages.clip import Action
from stages.credentials import ancestors
from stages.errors import InputError
from stages.provenance import Credentials, archive_ingredient, read_credentials, verify


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


# ---------------------------------------------------------------- a trusted signer lies


def store_of(studio: Studio, file: Path) -> tuple[str, bytes, Any]:
    """A file's label, its store, and what a reader without our rules says of it."""
    with tamper.reader(file, studio.anchors) as reader:
        report, store = json.loads(reader.json()), io.BytesIO()
        reader.resource_to_stream(report["active_manifest"], store)
    return report["active_manifest"], store.getvalue(), report["validation_results"]


def lying(studio: Studio, label: str, store: bytes) -> Path:
    """Signed by one whom we trust, who writes that this parent was found to be good."""
    _, _, fine = store_of(studio, studio.original)
    parent = {"title": "x.mp4", "format": "video/mp4", "active_manifest": label, "validation_results": fine}
    held = {"manifest_data": {"format": "application/c2pa", "identifier": "parent"}}
    described = tamper.manifest(tamper.OPENED, tamper.TRANSCODED, generator="Cutter")
    described["ingredients"] = [parent | held | tamper.PARENT]
    return tamper.raw_sign(
        studio.render, studio.new(), studio.editor, described, anchors=studio.anchors, resources={"parent": store}
    )


def test_the_lie_that_a_stranger_is_trusted_is_found(studio: Studio) -> None:
    label, store, _ = store_of(studio, studio.signed_by(studio.stranger.signer("Sora")))
    found = verify(lying(studio, label, store), anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("untrusted", ("signingCredential.untrusted",))


@pytest.mark.parametrize("lie", ["claim", "signature", "nothing"])
def test_the_lie_that_a_changed_parent_is_whole_is_found(studio: Studio, lie: str) -> None:
    label, store, _ = store_of(studio, studio.original)
    forged = {
        "claim": store.replace(b"trainedAlgorithmicMedia", b"computationalMediaTypes"),
        "signature": tamper.flipped(store, store.rindex(b"c2pa.signature") + 700),
        "nothing": store,
    }[lie]
    found = verify(lying(studio, label, forged), anchors=studio.anchors)
    assert found.verdict == ("proved" if lie == "nothing" else "tampered"), found


def test_a_lie_about_the_parents_picture_is_found_with_the_original_at_hand(studio: Studio) -> None:
    """The parent's picture is not in the file: what was done to it only the original can tell."""
    changed = tamper.tampered_original(studio)
    label, store, said = store_of(studio, changed)
    assert said["activeManifest"]["failure"]
    lie = lying(studio, label, store)
    found = verify(lie, original=changed, anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("broken", ("assertion.bmffHash.mismatch",))
    assert verify(studio.final(changed), anchors=studio.anchors).verdict == "tampered"


# ---------------------------------------------------------------- bombs


def bomb(side: int = 16_000) -> bytes:
    """A small PNG that is `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(3 * side), 9) * 40) + chunk(b"IEND", b"")


def with_thumbnail(studio: Studio, picture: bytes) -> Path:
    described = tamper.manifest(tamper.CREATED) | {"thumbnail": {"format": "image/png", "identifier": "t.png"}}
    return tamper.raw_sign(
        studio.film, studio.new(), studio.sora, described, anchors=studio.anchors, resources={"t.png": picture}
    )


def verified_alone(file: Path, original: Path | None = None, *anchors: Path) -> list[str]:
    """The verdict of a process of its own, and the memory that it took at most, in MB."""
    code = (
        "import re, sys; from pathlib import Path; from stages.provenance import verify;"
        "given = [Path(each) for each in sys.argv[1:]];"
        "v = verify(given[0], original=given[1] if given[1:] else None, anchors=given[2:]);"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text());"  # maxrss is also the parent's
        "print(v.verdict, int(peak[1]) // 1024)"
    )
    argv = [sys.executable, "-c", code, *map(str, (file, *([original] if original else []), *anchors))]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_thumbnails_are_carried_and_never_unpacked(studio: Studio) -> None:
    loaded = with_thumbnail(studio, bomb())
    final = studio.final(loaded)
    verdict, megabytes = verified_alone(final, loaded, *studio.anchors)
    assert verdict == "proved"
    assert int(megabytes) < 200  # unpacked, it is 768
    assert bomb() in final.read_bytes()


def test_a_heavy_manifest_is_read_and_not_carried(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 MB, as if no more than 2 were carried; tests/benchmarks/provenance.py makes one of 33 MB."""
    monkeypatch.setattr(provenance, "MOST", 2_000_000)
    heavy = with_thumbnail(studio, bytes(3 << 20))
    assert verify(heavy, anchors=studio.anchors).verdict == "proved"
    with pytest.raises(InputError, match=r"its content credentials take 3 MB, .* more than 2 MB are not"):
        archive_ingredient(heavy, studio.new(".c2pa"), anchors=studio.anchors)
    heavy.write_bytes(tamper.flipped(heavy.read_bytes(), 1 << 20))
    assert verify(heavy, anchors=studio.anchors).verdict == "tampered"


def test_a_manifest_that_lies_about_its_size_is_read_within_it_or_damaged(studio: Studio) -> None:
    said = read_credentials(studio.original, anchors=studio.anchors)
    content = bytearray(studio.original.read_bytes())
    at, _ = tamper.span(bytes(content), "uuid")
    place = content.index(b"jumb", at) - 4
    for size in (0xFFFFFFF0, 33 << 20, 1, 7):
        content[place : place + 4] = struct.pack(">I", size)
        found = read_credentials(studio.file(bytes(content)), anchors=studio.anchors)
        assert found.state == "tampered" or found == said, size


def test_a_thumbnail_full_of_beginnings_of_certificates_holds_nobody_up() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert fingerprints_in(b"\x30\x82" * (4 << 20), "1") == frozenset()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5  # each tried, it would be minutes


NOTHING = "z///f/gnAOKxQCD3/p/////wTwDEYQGA7v0/////4Z8AiMMiAN37f/7//8M/ARCHBQC69/8D"
"""64 MB of zeros: brotli.compress(bytes(64 << 20), quality=11, lgwin=24)."""


LABEL = b"urn:c2pa:%08d-0000-4000-8000-000000000000"


def compressed(count: int, content: bytes, label: bytes = LABEL) -> bytes:
    """A manifest store with `count` manifests, each a `brob` box with this content (C2PA 2.3, 'Compressed boxes')."""

    def box(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", 8 + len(payload)) + kind + payload

    def described(kind: bytes, label: bytes) -> bytes:
        return box(b"jumd", kind + bytes.fromhex("00110010800000aa00389b71") + b"\x03" + label + b"\0")

    labels = (label % number if b"%" in label else label for number in range(count))
    held = (box(b"jumb", described(b"c2cm", label) + box(b"brob", content)) for label in labels)
    return box(b"jumb", described(b"c2pa", b"c2pa") + b"".join(held))


def stored(content: bytes) -> bytes:
    """Less than 64 kB as a Brotli stream that compresses nothing (RFC 7932, section 9.2)."""
    return ((len(content) - 1) << 4 | 1 << 20).to_bytes(3, "little") + content + b"\x03"


def test_a_compressed_manifest_is_read_and_carried_as_any_other(studio: Studio) -> None:
    film = webm(studio)
    provenance.sign(film, film, history=(Action("generate", agent="a model", ai=True),), signer=studio.ours)
    store = sidecar_of(film).read_bytes()
    manifest = store[8 + int.from_bytes(store[8:12], "big") :]
    begin = manifest.index(b"urn:c2pa:")
    label = manifest[begin : manifest.index(b"\0", begin)]
    sidecar_of(film).write_bytes(compressed(1, stored(manifest), label))
    found = verify(film, anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("proved", ())
    final = studio.final(film)
    found = verify(final, original=film, anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("proved", ())
    sidecar_of(film).write_bytes(compressed(1, stored(tamper.flipped(manifest, 900)), label))
    assert verify(film, anchors=studio.anchors).verdict == "tampered"


def webm(studio: Studio) -> Path:
    film = studio.new(".webm")
    tamper.ffmpeg("-i", studio.film, "-frames:v", "1", "-an", "-c:v", "libvpx", film)
    return film


@pytest.mark.parametrize("count", [1, 16, 100_000])
def test_compressed_manifests_are_not_unpacked_without_end(studio: Studio, count: int) -> None:
    """Of 64 MB each: as many of them as the library would take fill any memory."""
    film = webm(studio)
    sidecar_of(film).write_bytes(compressed(count, base64.b64decode(NOTHING)))
    verdict, megabytes = verified_alone(film)
    assert verdict == "tampered"
    assert int(megabytes) < 200
    codes = verify(film).codes
    assert codes == ("afterframe.store.compressed" if count > 16 else "afterframe.reader.verify",)


def test_a_compressed_manifest_in_a_film_is_counted_wherever_it_lies(studio: Studio) -> None:
    content = studio.original.read_bytes()
    begin, end = tamper.span(content, "uuid")
    box = bytearray(content[begin : begin + 8 + 16 + 21]) + compressed(17, base64.b64decode(NOTHING))
    box[0:4] = struct.pack(">I", len(box))
    stuffed = studio.file(content[:begin] + bytes(box) + content[end:])
    assert verify(stuffed, anchors=studio.anchors).codes == ("afterframe.store.compressed",)
    assert compressed_in(io.BytesIO(bytes((1 << 20) - 7) + COMPRESSED + bytes(99) + COMPRESSED)) == 2


# ---------------------------------------------------------------- endless chains


def chain(studio: Studio, hops: int, first: Path) -> Path:
    """A film that passed through `hops` other hands."""
    for _ in range(hops):
        first = studio.foreign(first)
    return first


def test_a_long_chain_is_walked_to_its_end(studio: Studio) -> None:
    """12 hops; tests/benchmarks/provenance.py goes to 100, of which each is verified with all before it."""
    final = studio.final(chain(studio, 12, studio.original))
    found = verify(final, original=studio.original, anchors=studio.anchors)
    assert found.verdict == "proved"
    assert depth(found.credentials) == 14
    rotten = chain(studio, 5, studio.signed_by(studio.stranger.signer("Sora")))
    assert verify(rotten, anchors=studio.anchors).verdict == "untrusted"
    assert verify(chain(studio, 5, tamper.tampered_original(studio)), anchors=studio.anchors).verdict == "tampered"


def depth(one: Credentials) -> int:
    return 1 + max(map(depth, one.ingredients), default=0)


def test_a_parent_in_a_ring_ends(studio: Studio) -> None:
    """Two manifests cannot name each other by hash, but a reader's report might: the walk must end."""
    ring = {
        label: {"ingredients": [{"relationship": "parentOf", "active_manifest": other}]}
        for label, other in (("a", "b"), ("b", "a"))
    }
    assert ancestors(ring["a"], ring) == ("b", "a")


# ---------------------------------------------------------------- addresses


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server on loopback at which nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server
        with pytest.raises(TimeoutError):
            server.accept()


def remote(studio: Studio, server: socket.socket, host: str = "127.0.0.1") -> Path:
    url = f"http://{host}:{server.getsockname()[1]}/film.c2pa"
    return tamper.raw_sign(studio.film, studio.new(), studio.sora, tamper.manifest(tamper.CREATED), url=url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_is_not_called_to_verify_to_archive_or_to_sign(
    studio: Studio, listener: socket.socket, host: str
) -> None:
    film = remote(studio, listener, host)
    assert b"dcterms" in film.read_bytes()
    assert verify(film, anchors=studio.anchors).codes == ("manifest.inaccessible",)
    assert read_credentials(film, anchors=studio.anchors).state == "absent"
    assert archive_ingredient(film, studio.new(".c2pa"), anchors=studio.anchors).state == "absent"
    final = studio.final(film)
    found = verify(final, original=film, anchors=studio.anchors)
    assert (found.verdict, found.origin and found.origin.state) == ("proved", "absent")
    provenance.sign(film, studio.new(), history=(Action("open", file=film),), signer=studio.ours)


def test_an_address_beside_a_manifest_is_not_called(studio: Studio, listener: socket.socket) -> None:
    film = studio.file(remote(studio, listener).read_bytes())
    with pytest.raises(c2pa.C2paError, match="remote"), tamper.reader(film, studio.anchors):
        pass
    final = studio.new()
    history = (Action("open", file=studio.original),)
    provenance.sign(film, final, history=history, signer=studio.ours, anchors=studio.anchors)
    assert verify(final, anchors=studio.anchors).verdict == "proved"
