"""Files whose credentials lie, each made the way a careless tool or a forger would make it.

A studio has a generator that signs (as Sora does), our own signer, a stranger
who copies the names of both, and a clip of one second. `GOOD` and `BAD` say
how to make each file, and what `verify` must say of it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import c2pa
import imageio_ffmpeg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from stages import provenance, signers
from stages.clip import Action, History
from stages.manifest import CAPTURE_SOURCES, MODEL_MADE, manifest_of

EMAIL = "1.3.6.1.5.5.7.3.4"
C2PA_USE = "1.3.6.1.4.1.62558.2.1"
PAST = datetime.now(UTC) - timedelta(hours=1)
CAMERA = next(one for one in CAPTURE_SOURCES if one.endswith("digitalCapture"))


# ---------------------------------------------------------------- certificates


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: tuple[str, str],
    own: CertificateIssuerPrivateKeyTypes,
    issuer: tuple[str, str],
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    uses: Sequence[str] = (EMAIL,),
    usage: bool = True,
    key_id: bool = True,
    critical: bool = False,
    begin: datetime | None = None,
    end: datetime | None = None,
    serial: int = 0,
    responder: str = "",
) -> x509.Certificate:
    """A certificate for (common name, organisation), with as many faults as asked."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(name), own.public_key(), serial or x509.random_serial_number())
        .not_valid_before(begin or now - timedelta(days=2))
        .not_valid_after(end or now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if usage:
        allowed = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        builder = builder.add_extension(allowed, critical=True)
    if key_id:
        identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(identity, critical=False)
    if uses and not ca:
        extended = x509.ExtendedKeyUsage([x509.ObjectIdentifier(use) for use in uses])
        builder = builder.add_extension(extended, critical=critical)
    if responder:
        place = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder))
        builder = builder.add_extension(x509.AuthorityInformationAccess([place]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(parts: tuple[str, str]) -> x509.Name:
    common, organisation = parts
    held = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in held])


def pem(thing: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A root and an intermediate in `folder`, and the leaves that they issue."""

    def __init__(self, folder: Path, organisation: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.organisation = folder, organisation
        self.root_name, self.name = ("Root", organisation), ("Issuer", organisation)
        root_key, self.key = key(), key()
        self.root = folder / "root.pem"
        self.root.write_bytes(pem(certificate(self.root_name, root_key, self.root_name, root_key, ca=True)))
        self.issuer = certificate(self.name, self.key, self.root_name, root_key, ca=True)

    def signer(self, common: str, **faults: Any) -> provenance.Signer:
        """A signer with this common name, at fault where asked."""
        own = key()
        leaf = certificate((common, self.organisation), own, self.name, self.key, **faults)
        stem = f"{common}-{leaf.serial_number % 10**8}".replace(" ", "-")
        return written(self.folder / stem, leaf, own, pem(self.issuer))


def self_signed(folder: Path, common: str, organisation: str) -> provenance.Signer:
    own = key()
    name = (common, organisation)
    return written(folder / "self", certificate(name, own, name, own), own, b"")


def written(stem: Path, leaf: x509.Certificate, own: ec.EllipticCurvePrivateKey, above: bytes) -> provenance.Signer:
    chain, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
    chain.write_bytes(pem(leaf) + above)
    private.write_bytes(pem(own))
    common = str(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return provenance.Signer(
        chain, private, "own", common, str(leaf.serial_number), leaf.fingerprint(hashes.SHA256()).hex()
    )


# ---------------------------------------------------------------- signing without our rules


def manifest(*actions: Mapping[str, Any], generator: str = "Sora", title: str = "x.mp4") -> dict[str, Any]:
    return {
        "claim_generator_info": [{"name": generator}],
        "title": title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}],
    }


CREATED = {"action": "c2pa.created", "softwareAgent": {"name": "Sora"}, "digitalSourceType": MODEL_MADE}
OPENED = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
TRANSCODED = {"action": "c2pa.transcoded"}


def raw_sign(
    source: Path,
    target: Path,
    signer: provenance.Signer,
    described: Mapping[str, Any],
    ingredients: Sequence[tuple[Path, Mapping[str, Any]]] = (),
    anchors: Sequence[Path] = (),
    intent: c2pa.C2paBuilderIntent | None = None,
    uses: Sequence[str] = (EMAIL, C2PA_USE),
    url: str = "",
    resources: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Sign as any program could, with the library alone."""
    trust = {"trust_config": "".join(f"{use}\n" for use in uses)}
    if anchors:
        trust["trust_anchors"] = "".join(file.read_text() for file in anchors)
    settings = {"version": 1, "trust": trust, "builder": {"thumbnail": {"enabled": False}}}
    settings["verify"] = {"verify_after_sign": False}
    context = c2pa.Context.from_dict(settings)
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg.ES256, signer.chain.read_bytes(), (signer.key or Path()).read_bytes(), None
    )
    with c2pa.Builder(dict(described), context=context) as builder, c2pa.Signer.from_info(info) as hand:
        if intent is not None:
            builder.set_intent(intent)
        if url:  # the manifest is elsewhere
            builder.set_no_embed()
            builder.set_remote_url(url)
        for name, content in resources.items():
            builder.add_resource(name, io.BytesIO(content))
        for file, words in ingredients:
            with file.open("rb") as stream:
                builder.add_ingredient(json.dumps({"title": file.name, **words}), "video/mp4", stream)
        with source.open("rb") as stream, target.open("w+b") as out:
            store = builder.sign(hand, "video/mp4", stream, out)
    if url:
        target.with_suffix(".store").write_bytes(store)
    return target


@contextlib.contextmanager
def reader(file: Path, anchors: Sequence[Path] = ()) -> Iterator[c2pa.Reader]:
    """The library's own, without our rules; it fetches nothing either."""
    trust = {"trust_config": f"{EMAIL}\n{C2PA_USE}\n", "trust_anchors": "".join(a.read_text() for a in anchors)}
    context = c2pa.Context.from_dict({"version": 1, "trust": trust, "verify": {"remote_manifest_fetch": False}})
    with file.open("rb") as stream, c2pa.Reader("video/mp4", stream, context=context) as read:
        yield read


PARENT = {"relationship": "parentOf", "label": "parent"}


# ---------------------------------------------------------------- boxes


def boxes(content: bytes) -> list[tuple[str, int, int]]:
    """The top-level boxes of an MP4: name, first byte, byte after the last."""
    found, at = [], 0
    while at + 8 <= len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        found.append((content[at + 4 : at + 8].decode("latin-1"), at, at + size))
        at += size
    return found


def span(content: bytes, name: str) -> tuple[int, int]:
    return next((begin, end) for kind, begin, end in boxes(content) if kind == name)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def moved_chunks(content: bytes, by: int) -> bytes:
    """The file with its chunk offsets (stco) raised, as whoever inserts a box has to do."""
    held = bytearray(content)
    at = held.find(b"stco")
    while at >= 0:
        count = struct.unpack(">I", held[at + 8 : at + 12])[0]
        for number in range(count):
            place = at + 12 + 4 * number
            held[place : place + 4] = struct.pack(">I", struct.unpack(">I", held[place : place + 4])[0] + by)
        at = held.find(b"stco", at + 4)
    return bytes(held)


def transplanted(box: bytes, content: bytes) -> bytes:
    """`content`, which has no manifest, with the C2PA `box` of another file after its ftyp."""
    _, end = span(content, "ftyp")
    content = moved_chunks(content, len(box))
    return content[:end] + box + content[end:]


# ---------------------------------------------------------------- the studio


def ffmpeg(*argv: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, argv)], check=True)


@dataclass
class Studio:
    """Everybody's certificates and a clip, in `folder`."""

    folder: Path
    counted: int = field(default=0)

    def __post_init__(self) -> None:
        self.generator = Authority(self.folder / "openai", "OpenAI")
        self.pipeline = Authority(self.folder / "pipeline", "A Studio")
        self.stranger = Authority(self.folder / "stranger", "OpenAI")
        self.sora = self.generator.signer("Sora", uses=(EMAIL, C2PA_USE))
        self.ours = signers.test_signer(self.folder / "ours")
        assert self.ours.root
        self.anchors = (self.generator.root, self.pipeline.root, self.ours.root)
        self._prepare_aged()

    def new(self, suffix: str = ".mp4") -> Path:
        self.counted += 1
        return self.folder / f"{self.counted:03}{suffix}"

    def file(self, content: bytes) -> Path:
        target = self.new()
        target.write_bytes(content)
        return target

    @functools.cached_property
    def film(self) -> Path:
        """What a generator films, unsigned: 160x90, one second, with sound."""
        target = self.new()
        ffmpeg(*_inputs("testsrc2", 440), target)
        return target

    @functools.cached_property
    def render(self) -> Path:
        """What our pipeline rendered of it, unsigned."""
        target = self.new()
        ffmpeg("-i", self.film, "-vf", "hue=h=90", target)
        return target

    @functools.cached_property
    def voice(self) -> Path:
        target = self.new(".wav")
        ffmpeg("-f", "lavfi", "-i", "sine=220:d=0.5", target)
        return target

    @functools.cached_property
    def delivered(self) -> Path:
        """A delivery, made once."""
        return self.final()

    @functools.cached_property
    def original(self) -> Path:
        """The film, signed as Sora signs."""
        return self.signed_by(self.sora)

    def signed_by(self, signer: provenance.Signer, film: Path | None = None) -> Path:
        return raw_sign(film or self.film, self.new(), signer, manifest(CREATED), anchors=self.anchors)

    def history(self, original: Path) -> History:
        voice = (Action("open", file=self.voice, ai=True), Action("trim", (("length", "400ms"),)))
        return (
            Action("open", file=original),
            Action("trim", (("length", "1s"),)),
            Action("mix_audio", (("at", "100ms"),), inputs=(voice,)),
            Action("level", (("loudness", "-14.0"),)),
            Action("upscale", (("size", "1080p"),)),
        )

    def final(self, original: Path | None = None, **more: Any) -> Path:
        """A delivery of `original`, signed by our rules."""
        target = self.new()
        history = self.history(original or self.original)
        options: dict[str, Any] = {"anchors": self.anchors, "signer": self.ours} | more
        provenance.sign(self.render, target, history=history, **options)
        return target

    def foreign(
        self,
        *parents: Path,
        signer: provenance.Signer | None = None,
        actions: Sequence[Any] = (),
        **more: Any,
    ) -> Path:
        """A delivery signed by another studio's program, with `parents`."""
        described = manifest(*(actions or (OPENED, TRANSCODED)), generator="Cutter")
        with_words = [(parent, PARENT) for parent in parents]
        signer = signer or self.editor
        options: dict[str, Any] = {"anchors": self.anchors} | more
        return raw_sign(self.render, self.new(), signer, described, with_words, **options)

    @functools.cached_property
    def editor(self) -> provenance.Signer:
        return self.pipeline.signer("Cutter")

    def _prepare_aged(self) -> None:
        """Certificates that end in a moment, and what was signed and delivered while they lasted."""
        for made_before_the_clock_runs in (self.original, self.render, self.voice):
            assert made_before_the_clock_runs.exists()
        self.ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        ending = self.generator.signer("Sora", end=self.ends)
        forged = self.stranger.signer("Sora", end=self.ends)
        self.aged, self.aged_forgery = self.signed_by(ending), self.signed_by(forged)
        self.delivered_before = self.final(self.aged)
        ending_editor = self.pipeline.signer("Cutter", end=self.ends)
        self.aged_final = self.foreign(self.original, signer=ending_editor)
        self.aged_stranger = self.foreign(self.original, signer=self.stranger.signer("Cutter", end=self.ends))

    def wait(self) -> None:
        """Until the certificates that end have ended."""
        while (left := (self.ends - datetime.now(UTC)).total_seconds()) > -1.1:  # valid through its last second
            time.sleep(max(0.05, left + 1.1))


def _inputs(picture: str, tone: int) -> tuple[str, ...]:
    sound = ("-f", "lavfi", "-i", f"sine={tone}:d=1")
    return ("-f", "lavfi", "-i", f"{picture}=s=160x90:d=1:r=24", *sound, "-shortest")


Maker = Callable[[Studio], Path]


# ---------------------------------------------------------------- good files


def two_hops(s: Studio, first: Path | None = None) -> Path:
    return s.final(s.final(first))


def archived(s: Studio) -> Path:
    original = s.new()
    shutil.copyfile(s.original, original)
    archive = original.with_suffix(".c2pa")
    provenance.archive_ingredient(original, archive, anchors=s.anchors)
    original.unlink()
    return s.final(original, archives={original: archive})


def signed_in_place(s: Studio) -> Path:
    target = s.file(s.render.read_bytes())
    provenance.sign(target, target, history=s.history(s.original), signer=s.ours, anchors=s.anchors)
    return target


def created(s: Studio, history: History = (Action("generate", (("prompt", "a dog"),), "wan-2.2", ai=True),)) -> Path:
    target = s.new()
    provenance.sign(s.film, target, history=history, signer=s.ours)
    return target


def joined(s: Studio, other: Path, edit: str = "concat") -> Path:
    """A delivery of the original, with `other` joined to it or laid into it."""
    target = s.new()
    history = (Action("open", file=s.original), Action(edit, inputs=((Action("open", file=other),),)))
    provenance.sign(s.render, target, history=history, signer=s.ours, anchors=s.anchors)
    return target


def with_free_box(s: Studio) -> Path:
    return s.file(s.final().read_bytes() + struct.pack(">I", 16) + b"free" + bytes(8))


GOOD: dict[str, Maker] = {
    "the generator's own file": lambda s: s.original,
    "a delivery": lambda s: s.final(),
    "a delivery, read without anchors at first": lambda s: s.final(anchors=()),
    "a delivery from an archive, the original gone": archived,
    "a delivery signed in place": signed_in_place,
    "two deliveries in a row": two_hops,
    "a delivery of a clip that was never signed": lambda s: s.final(s.film),
    "a bought clip that we vouch for": created,
    "a delivery of a clip that we vouch for": lambda s: s.final(created(s)),
    "another studio's delivery": lambda s: s.foreign(s.original),
    "a delivery of another studio's delivery": lambda s: s.final(s.foreign(s.original)),
    "a film joined to a copy of itself": lambda s: joined(s, s.file(s.original.read_bytes())),
    "a film joined to a delivery of itself": lambda s: joined(s, s.final()),
    "a free box at the end, which no player shows": with_free_box,
}


# ---------------------------------------------------------------- bad files


def changed(place: Callable[[bytes], int]) -> Maker:
    """A delivery with the bit at `place` flipped."""
    return lambda s: s.file(flipped(data := s.final().read_bytes(), place(data)))


def middle(content: bytes, name: str) -> int:
    begin, end = span(content, name)
    return (begin + end) // 2


def cut(place: Callable[[bytes], int]) -> Maker:
    return lambda s: s.file((data := s.final().read_bytes())[: place(data)])


def remuxed(s: Studio, *options: str | Path) -> Path:
    target = s.new()
    ffmpeg("-i", s.final(), *options, "-c", "copy", target)
    return target


def box_of(file: Path) -> bytes:
    content = file.read_bytes()
    begin, end = span(content, "uuid")
    return content[begin:end]


def other_sound(s: Studio) -> Path:
    return remuxed(s, "-i", s.film, "-map", "0:v", "-map", "1:a")


def old_box_on_other_sound(s: Studio) -> Path:
    return s.file(transplanted(box_of(s.final()), other_sound(s).read_bytes()))


def box_at_the_end(s: Studio) -> Path:
    content = s.final().read_bytes()
    begin, end = span(content, "uuid")
    return s.file(moved_chunks(content[:begin] + content[end:], begin - end) + content[begin:end])


def two_boxes(s: Studio) -> Path:
    content = s.final().read_bytes()
    return s.file(transplanted(box_of(s.final()), content))


def swapped(s: Studio) -> Path:
    """The original's manifest on another film."""
    return s.file(transplanted(box_of(s.original), s.render.read_bytes()))


def stripped(s: Studio) -> Path:
    target = s.new()
    ffmpeg("-i", s.original, "-c", "copy", target)
    return target


def tampered_original(s: Studio) -> Path:
    content = s.original.read_bytes()
    return s.file(flipped(content, middle(content, "mdat")))


def laundered(s: Studio, source: str = CAMERA, generator: str = "Afterframe") -> Path:
    """Signed again with our own key as if it had no origin."""
    described = manifest({"action": "c2pa.created", "digitalSourceType": source}, generator=generator)
    return raw_sign(s.render, s.new(), s.ours, described, anchors=s.anchors)


def ours_without_record(s: Studio, parent: Path) -> Path:
    return s.foreign(parent, signer=s.ours)


def relabelled(s: Studio) -> Path:
    filmed = {"action": "c2pa.edited", "digitalSourceType": CAMERA}
    return s.foreign(s.original, actions=(OPENED, filmed))


def edited_intent(s: Studio) -> Path:
    """The library, asked to edit a file that lost its manifest, takes that file for its own parent."""
    described = manifest(TRANSCODED, generator="Cutter")
    return raw_sign(stripped(s), s.new(), s.editor, described, anchors=s.anchors, intent=c2pa.C2paBuilderIntent.EDIT)


def swapped_after_ingest(s: Studio) -> Path:
    """An archive in which the record is of another file than the manifest."""
    record = {"state": "proved", "label": "urn:c2pa:another", "sha256": "0" * 64, "ai": True}
    words = PARENT | {"metadata": {"org.afterframe.origin": record}}
    described = manifest(OPENED, TRANSCODED, generator="Afterframe")
    return raw_sign(s.render, s.new(), s.ours, described, [(s.original, words)], s.anchors)


def without(s: Studio, promise: str) -> Path:
    """A delivery of ours in all but one promise of its manifest, signed with our own key."""
    history = s.history(s.original)[:2]
    described = manifest_of(history, {s.original: "parent"}, frozenset(), title="x.mp4", transcoded=True)
    for holder in (described["claim_generator_info"][0], described["assertions"][0]["data"]):
        holder.pop(promise, None)
    return raw_sign(s.render, s.new(), s.ours, described, [(s.original, PARENT)], s.anchors)


def two_parents(s: Studio) -> Path:
    other = s.signed_by(s.sora, s.render)
    return s.foreign(s.original, other)


def silent_about_the_voice(s: Studio) -> Path:
    record = {"state": "absent", "label": "", "sha256": "0" * 64, "ai": True}
    voice = {"relationship": "componentOf", "label": "voice", "metadata": {"org.afterframe.origin": record}}
    placed = {"action": "c2pa.placed", "parameters": {"ingredientIds": ["voice"]}}
    described = manifest(OPENED, placed, generator="Afterframe")
    return raw_sign(s.render, s.new(), s.ours, described, [(s.original, PARENT), (s.film, voice)], s.anchors)


def shown(s: Studio, other: Path) -> Path:
    """A delivery of a film whose model was shown `other`."""
    target = s.new()
    history = (Action("generate", file=s.original, ai=True, inputs=((Action("open", file=other),),)),)
    provenance.sign(s.render, target, history=history, signer=s.ours, anchors=s.anchors)
    return target


def of_a_stranger(s: Studio) -> Path:
    return s.signed_by(s.stranger.signer("Sora"))


def swapped_later(s: Studio) -> Path:
    """A delivery's manifest on another film."""
    return s.file(transplanted(box_of(s.delivered), s.film.read_bytes()))


XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""The kind of an MP4's box of XMP (XMP specification part 3, 1.2.7)."""


def aged(make: Maker) -> Maker:
    def wait_and_make(s: Studio) -> Path:
        s.wait()
        return make(s)

    return wait_and_make


BAD: dict[str, tuple[str, Maker]] = {
    "a bit of the picture": ("tampered", changed(lambda c: middle(c, "mdat"))),
    "the last bit of the sound": ("tampered", changed(lambda c: span(c, "mdat")[1] - 1)),
    "a bit of the index": ("tampered", changed(lambda c: middle(c, "moov"))),
    "a bit of the title": ("tampered", changed(lambda c: c.index(b"mp4", span(c, "uuid")[0] + 5000))),
    "a bit of the signature": ("tampered", changed(lambda c: c.rindex(b"c2pa.signature") + 700)),
    "1000 bytes short": ("tampered", cut(lambda c: len(c) - 1000)),
    "half of it": ("tampered", cut(lambda c: len(c) // 2)),
    "cut inside the manifest": ("tampered", cut(lambda c: middle(c, "uuid"))),
    "empty": ("tampered", lambda s: s.file(b"")),
    "garbage": ("tampered", lambda s: s.file(b"once upon a time there was a film" * 99)),
    "zeros at the end": ("tampered", lambda s: s.file(s.final().read_bytes() + bytes(100))),
    "a box of XMP added": (
        "tampered",
        lambda s: s.file(s.final().read_bytes() + struct.pack(">I", 40) + b"uuid" + XMP + b"<x:xmpmeta/>    "),
    ),
    "two manifests": ("tampered", two_boxes),
    "the manifest moved to the end": ("tampered", box_at_the_end),
    "copied by ffmpeg": ("absent", lambda s: remuxed(s)),
    "sound replaced by ffmpeg": ("absent", other_sound),
    "sound replaced, the old manifest put back": ("tampered", old_box_on_other_sound),
    "the manifest of another film": ("tampered", swapped),
    "parent dropped, said to be filmed": ("broken", laundered),
    "parent dropped, under another name": ("broken", lambda s: laundered(s, generator="Camera")),
    "parent dropped, said to be made by a model": ("broken", lambda s: laundered(s, MODEL_MADE)),
    "parent kept, said to be filmed": ("broken", relabelled),
    "parent tampered with before we got it": ("tampered", lambda s: s.final(tampered_original(s))),
    "parent tampered with, another studio": ("tampered", lambda s: s.foreign(tampered_original(s))),
    "parent with another film's manifest": ("tampered", lambda s: s.final(swapped(s))),
    "parent cut inside its manifest": ("tampered", lambda s: s.final(cut(lambda c: middle(c, "uuid"))(s))),
    "parent stripped": ("broken", lambda s: ours_without_record(s, stripped(s))),
    "parent stripped, another studio": ("broken", lambda s: s.foreign(stripped(s))),
    "its own stripped self as parent": ("broken", edited_intent),
    "another parent than was recorded": ("broken", swapped_after_ingest),
    "a model's voice, not said to be one": ("broken", silent_about_the_voice),
    "two parents": ("broken", two_parents),
    "actions that are not said to be all": ("broken", lambda s: without(s, "allActionsIncluded")),
    "no word of which C2PA it follows": ("broken", lambda s: without(s, "specVersion")),
    "parent signed by a stranger": ("untrusted", lambda s: s.final(s.signed_by(s.stranger.signer("Sora")))),
    "parent that vouches for itself": (
        "untrusted",
        lambda s: s.final(s.signed_by(self_signed(s.folder, "Sora", "OpenAI"))),
    ),
    "grandparent signed by a stranger": (
        "untrusted",
        lambda s: two_hops(s, s.signed_by(s.stranger.signer("Sora"))),
    ),
    "grandparent tampered with": ("tampered", lambda s: two_hops(s, tampered_original(s))),
    "grandparent stripped": ("broken", lambda s: s.final(ours_without_record(s, stripped(s)))),
    "a film joined to it, made of one that was tampered with": (
        "tampered",
        lambda s: joined(s, s.final(tampered_original(s))),
    ),
    "a film joined to it, made of a stranger's": ("untrusted", lambda s: joined(s, s.final(of_a_stranger(s)))),
    "a film joined to it, made of one that was stripped": (
        "broken",
        lambda s: joined(s, ours_without_record(s, stripped(s))),
    ),
    "a sound laid into it that was tampered with": (
        "tampered",
        lambda s: joined(s, tampered_original(s), "mix_audio"),
    ),
    "what its model was shown was tampered with": ("tampered", lambda s: shown(s, tampered_original(s))),
    "what its model was shown is a stranger's": ("untrusted", lambda s: shown(s, of_a_stranger(s))),
    "grandparent with another film's manifest": ("tampered", lambda s: s.final(s.foreign(swapped_later(s)))),
    "grandparent said to be filmed": ("broken", lambda s: s.final(s.foreign(relabelled(s)))),
    "great-grandparent stripped": ("broken", lambda s: s.foreign(s.final(ours_without_record(s, stripped(s))))),
    "great-grandparent signed by a stranger": ("untrusted", lambda s: s.final(two_hops(s, of_a_stranger(s)))),
    "great-grandparent tampered with": ("tampered", lambda s: s.foreign(two_hops(s, tampered_original(s)))),
    "signed by a stranger": (
        "untrusted",
        lambda s: s.foreign(s.original, signer=s.stranger.signer("Cutter")),
    ),
    "signed by itself": (
        "untrusted",
        lambda s: s.foreign(s.original, signer=self_signed(s.folder, "Cutter", "A Studio")),
    ),
    "a certificate for another use": (
        "untrusted",
        lambda s: s.foreign(s.original, signer=s.pipeline.signer("Cutter", uses=("1.2.3.4",)), uses=("1.2.3.4",)),
    ),
    "signed by a certificate that ended": ("expired", aged(lambda s: s.aged_final)),
    "a stranger's certificate that ended": ("untrusted", aged(lambda s: s.aged_stranger)),
    "parent's certificate ended before": ("expired", aged(lambda s: s.final(s.aged))),
    "parent's certificate ended since": ("expired", aged(lambda s: s.delivered_before)),
    "grandparent's certificate ended": ("expired", aged(lambda s: two_hops(s, s.aged))),
    "parent's certificate ended, a stranger's": ("untrusted", aged(lambda s: s.final(s.aged_forgery))),
}
