"""Content credentials (C2PA): read and archived at ingest, signed last, verified. The only importer of c2pa.

Every ffmpeg pass drops a file's manifest. So the original's is archived before
anything touches it, carried byte for byte as the parent of what is delivered,
and proved there; `stages.verdict` says why the reader's own `Trusted` is not enough.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import mimetypes
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from stages.certificates import (
    ALLOWED_USES,
    Signer,
    algorithm_of,
    check_signer,
    is_anchored,
    read_anchors,
    signer_for,
    signer_from_environment,
    test_signer,
)
from stages.clip import History, Origin, origins
from stages.credentials import Credentials, Reading, ancestors, codes_in, results_of
from stages.errors import InputError, ProvenanceError
from stages.files import attempt, sha256
from stages.manifest import GENERATOR, RECORD, action_names, manifest_of
from stages.verdict import EXIT_CODES, Original, Verdict, credentials_of, judge, kind_of

__all__ = [
    "EXIT_CODES",
    "Credentials",
    "Signer",
    "Verdict",
    "archive_ingredient",
    "check_signer",
    "read_credentials",
    "sdk_version",
    "sign",
    "signer_for",
    "signer_from_environment",
    "test_signer",
    "verify",
]

STORE = "application/c2pa"


def sdk_version() -> str:
    """The version of the C2PA library, for cache names."""
    return importlib.metadata.version("c2pa-python")


def read_credentials(file: Path, *, anchors: Sequence[Path] = ()) -> Credentials:
    """What the credentials of `file` prove, and of everything that it was made from.

    A file without a manifest, or of a kind that cannot carry one, is `absent`;
    a damaged one is `tampered`. `anchors` are PEM files of trusted roots.
    Raises InputError only if there is no such file, or if an anchor is not PEM.
    """
    with _opened(file) as stream, _read(_mime(file), stream, anchors) as held:
        return credentials_of(_examined(held, anchors))


def archive_ingredient(file: Path, target: Path, *, anchors: Sequence[Path] = ()) -> Credentials:
    """Read `file` and write what `sign` will need of it to `target`, so that `file` itself may go.

    Do it the moment a file arrives: the archive holds its manifest byte for
    byte, its SHA-256 and what was found. Raises InputError as read_credentials,
    and WriteError where `target` cannot be written.
    """
    found = read_credentials(file, anchors=anchors)
    with attempt(target) as part, part.open("w+b") as stream:
        _write_archive(file, found, stream, anchors)
    return found


def sign(
    file: Path,
    target: Path,
    *,
    history: History,
    signer: Signer,
    archives: Mapping[Path, Path] = MappingProxyType({}),
    anchors: Sequence[Path] = (),
    title: str | None = None,
    transcoded: bool = True,
    generator: str = GENERATOR,
) -> None:
    """Sign `file` into `target`, with the files that `history` names as its ingredients.

    The first picture's origin is the parent, others are components, what a
    model was shown are inputs. An origin with an archive in `archives` need not
    exist any more. A history without files signs `file` as created. `title` is
    the target's name if not given; `transcoded` is False where the streams were
    copied, `generator` who claims it, if not Afterframe itself. `target` may be
    `file` itself; it appears whole or not at all.

    Raises InputError if an origin is missing, if the container cannot carry
    credentials, if `file` carries some that are not an origin's (they would be
    lost) or if the signer cannot sign; ProvenanceError if what was signed does
    not read back intact.
    """
    made_from = origins(history)
    ids = _ids(made_from)
    trusted = (*anchors, signer.root) if signer.root else tuple(anchors)
    ingredients = [_ingredient(one, ids[one.file], archives, trusted) for one in made_from]
    _keep_credentials(file, ingredients)
    ai = frozenset(one.origin.file for one in ingredients if one.record["ai"])
    manifest = manifest_of(history, ids, ai, title=title or target.name, transcoded=transcoded, generator=generator)
    manifest["ingredients"] = [one.described for one in ingredients]
    with attempt(target) as part:
        _sign(file, part, manifest, [one.store for one in ingredients if one.store], signer)
        _check_signed(part, target, signer, trusted)


def verify(
    file: Path,
    *,
    original: Path | None = None,
    anchors: Sequence[Path] = (),
    signer: Signer | None = None,
    history: History = (),
) -> Verdict:
    """Whether the credentials of `file` prove who made it and from what.

    `anchors` are PEM files of trusted roots; nothing else is trusted, but for
    the root of `signer` if that is a test one. With `signer`, nobody else may
    have signed. With `original`, the file must have been made from it, and its
    credentials must be carried byte for byte. With `history`, the actions
    listed must be those. Nothing is fetched.

    Raises InputError only if a file is missing or an anchor is not PEM.
    """
    trusted = (*anchors, signer.root) if signer and signer.root else tuple(anchors)
    with _opened(file) as stream, _read(_mime(file), stream, trusted) as held:
        reading = _examined(held, trusted)
        compared = _compare(held, original, trusted) if original and held.report else None
    # Which origins a model made changes source types, never the names of actions.
    actions = action_names(history, _ids(origins(history)), frozenset()) if history else ()
    return judge(reading, signer=signer, original=compared, actions=actions)


# ---------------------------------------------------------------- the library


def _context(anchors: Sequence[Path] = ()) -> Any:
    """The only settings that the library is used with: our anchors, C2PA's certificate uses, no network."""
    from c2pa import Context  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    trust = {"trust_config": "\n".join(ALLOWED_USES) + "\n"}  # without it the library refuses C2PA's own use
    if anchors:
        trust["trust_anchors"] = read_anchors(anchors)
    settings = {
        "version": 1,
        "trust": trust,
        # What was signed is read again by _check_signed, which looks at more.
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    return Context.from_dict(settings)


@contextlib.contextmanager
def _translated(file: Path) -> Iterator[None]:
    """The library's errors as ours, naming the file."""
    from c2pa import C2paError  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    try:
        yield
    except C2paError as error:
        if isinstance(error, C2paError.NotSupported):
            raise InputError(f"{file}: this kind of file cannot carry content credentials") from None
        raise ProvenanceError(f"{file}: content credentials: {error}", codes=(_error_code(error),)) from None


def _error_code(error: Exception) -> str:
    """A code for a reader's error: `afterframe.reader.io`, `afterframe.reader.manifest`."""
    kind = type(error).__name__.removeprefix("_C2pa")
    return f"afterframe.reader.{(str(error).partition(':')[0] if kind == 'C2paError' else kind).lower()}"


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    with stream:
        yield stream


MAGIC = (
    (4, b"ftyp", "video/mp4"),
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/avi"),
    (8, b"WEBP", "image/webp"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
)


def _mime(file: Path) -> str:
    """What kind of file it is, by its first bytes, since names lie; else by its name."""
    with _opened(file) as stream:
        known = _sniffed(stream)
    return known or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _sniffed(stream: BinaryIO) -> str:
    stream.seek(0)
    head = stream.read(16)
    stream.seek(0)
    return next((mime for at, magic, mime in MAGIC if head[at : at + len(magic)] == magic), "")


# ---------------------------------------------------------------- reading


NO_READING = Reading({}, {})


@dataclass(frozen=True, slots=True)
class _Held:
    """A manifest store while its reader is open; without a reader there is none, for the reason in `unread`."""

    reader: Any = None
    report: Mapping[str, Any] = field(default_factory=dict)
    unread: Reading = NO_READING

    def store(self, label: str) -> bytes:
        """The store of `label` with all that it was made from, byte for byte as it was embedded."""
        written = io.BytesIO()
        self.reader.resource_to_stream(label, written)
        return written.getvalue()

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong with the active manifest."""
        return codes_in(results_of(self.report).get("activeManifest", {}), "failure")


@contextlib.contextmanager
def _read(mime: str, stream: BinaryIO, anchors: Sequence[Path], store: bytes | None = None) -> Iterator[_Held]:
    """Read the credentials in `stream`, or those in `store` over it."""
    from c2pa import C2paError, Reader  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    try:
        reader = Reader(mime, stream, manifest_data=store, context=_context(anchors))
    except C2paError as error:
        yield _Held(unread=_unread(error, stream))
        return
    with reader:
        yield _Held(reader, json.loads(reader.json()))


def _unread(error: Exception, stream: BinaryIO) -> Reading:
    """What it means that there is nothing to read: no credentials, or damaged ones."""
    from c2pa import C2paError  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    if isinstance(error, C2paError.ManifestNotFound):
        return NO_READING
    if isinstance(error, C2paError.NotSupported):
        return Reading({}, {}, failure="afterframe.container.unsupported")
    if "must fetch remote manifests" in str(error):
        return Reading({}, {}, failure="manifest.inaccessible")
    # A film that c2pa cannot parse but ffmpeg can has lost nothing if no manifest was in it.
    damaged = _holds_manifest(stream) or not _sniffed(stream)
    return Reading({}, {}, failure=_error_code(error), broken=damaged)


def _holds_manifest(stream: BinaryIO) -> bool:
    try:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"jumb") >= 0 and content.find(b"c2pa") >= 0
    except ValueError:  # an empty file
        return False


def _examined(held: _Held, anchors: Sequence[Path]) -> Reading:
    """The report, and one on each other manifest in the store."""
    if not held.report:
        return held.unread
    active, context = held.report["active_manifest"], _context(anchors)
    alone = {label: _read_alone(held, label, context) for label in held.report["manifests"] if label != active}
    return Reading(held.report, alone, _anchored(held, {**alone, active: held.report}, anchors))


def _read_alone(held: _Held, label: str, context: Any) -> Mapping[str, Any]:
    """The report on one manifest of a store, from its own bytes, now: what others recorded may be a lie."""
    from c2pa import C2paError, Reader  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    try:
        with Reader(STORE, io.BytesIO(held.store(label)), context=context) as reader:
            report: dict[str, Any] = json.loads(reader.json())
    except C2paError as error:
        return {"failure": _error_code(error)}
    return report if report["active_manifest"] == label else {"failure": "afterframe.store.other"}


def _anchored(held: _Held, reports: Mapping[str, Mapping[str, Any]], anchors: Sequence[Path]) -> frozenset[str]:
    """The labels of expired manifests whose certificates lead to an anchor."""

    def serial(label: str) -> str:
        return str(held.report["manifests"][label].get("signature_info", {}).get("cert_serial_number", ""))

    def aged(report: Mapping[str, Any]) -> bool:
        return any(kind_of(one["code"]) == "expired" for one in report.get("validation_status") or ())

    return frozenset(
        label
        for label, report in reports.items()
        if aged(report) and is_anchored(held.store(label), serial(label), anchors)
    )


def _compare(held: _Held, original: Path, anchors: Sequence[Path]) -> Original:
    """What `original` is, and whether the store that the file carries is the one in it."""
    with _opened(original) as stream, _read(_mime(original), stream, anchors) as own:
        if not own.report:
            return Original(sha256(original), "")
        label = own.report["active_manifest"]
        embedded = own.store(label)
    manifests, active = held.report["manifests"], held.report["active_manifest"]
    if label not in (active, *ancestors(manifests[active], manifests)):
        return Original(sha256(original), label)
    carried = held.store(label)
    with _opened(original) as stream, _read(_mime(original), stream, anchors, carried) as over:
        codes = over.failures if over.report else (over.unread.failure,)
    return Original(sha256(original), label, codes, carried == embedded)


# ---------------------------------------------------------------- ingredients


@dataclass(frozen=True, slots=True)
class _Ingredient:
    """An origin as it goes into a manifest: the JSON that describes it, and its store under its label."""

    origin: Origin
    described: dict[str, Any]
    store: tuple[str, bytes] | None

    @property
    def record(self) -> Mapping[str, Any]:
        """What we read of it at first."""
        record: Mapping[str, Any] = self.described["metadata"][RECORD]
        return record


def _ids(made_from: Sequence[Origin]) -> dict[Path, str]:
    """An id for each origin, by which actions name it."""
    words = {"parentOf": "parent", "componentOf": "component", "inputTo": "input"}
    return {
        one.file: "parent" if one.relationship == "parentOf" else f"{words[one.relationship]}-{number}"
        for number, one in enumerate(made_from)
    }


def _ingredient(origin: Origin, name: str, archives: Mapping[Path, Path], anchors: Sequence[Path]) -> _Ingredient:
    """What the archive of an origin holds, or what one made of the file now would."""
    archive = archives.get(origin.file)
    if archive is None:
        if not origin.file.exists():
            raise InputError(f"{origin.file}: the original is missing, and there is no archive of its credentials")
        held = io.BytesIO()
        _write_archive(origin.file, read_credentials(origin.file, anchors=anchors), held, anchors)
        return _from_archive(origin, name, io.BytesIO(held.getvalue()), origin.file)
    with _opened(archive) as stream:
        return _from_archive(origin, name, stream, archive)


def _from_archive(origin: Origin, name: str, stream: Any, file: Path) -> _Ingredient:
    with _translated(file), _read(STORE, stream, ()) as held:
        described = _only_ingredient(held.report) if held.report else {}
        if RECORD not in described.get("metadata", {}):
            raise InputError(f"{file}: is not an archive of credentials that Afterframe made")
        label = described.get("active_manifest")
        store = (described["manifest_data"]["identifier"], held.store(label)) if label else None
    described |= {"relationship": origin.relationship, "label": name}
    record = described["metadata"][RECORD]
    record["ai"] = bool(record["ai"] or origin.ai)
    return _Ingredient(origin, described, store)


def _only_ingredient(report: Mapping[str, Any]) -> dict[str, Any]:
    found = report["manifests"][report["active_manifest"]].get("ingredients") or [{}]
    return dict(found[0])


def _write_archive(file: Path, found: Credentials, stream: Any, anchors: Sequence[Path]) -> None:
    """Write the ingredient archive of `file`, of which `found` was read."""
    from c2pa import Builder  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    record = {"state": found.state, "label": found.label, "sha256": sha256(file), "ai": found.ai}
    described = {
        "title": file.name, "relationship": "parentOf", "label": "origin",
        "metadata": {RECORD: record | ({"codes": list(found.codes)} if found.codes else {})},
    }  # fmt: skip
    # What cannot be read goes in as bytes of no kind, with the record of what was found.
    mime = _mime(file) if found.label or found.state == "absent" else "application/octet-stream"
    with (
        _translated(file),
        _opened(file) as content,
        Builder({"assertions": []}, context=_context(anchors)) as builder,
    ):
        builder.add_ingredient(json.dumps(described), mime, content)
        builder.write_ingredient_archive("origin", stream)


# ---------------------------------------------------------------- signing


def _keep_credentials(file: Path, ingredients: Sequence[_Ingredient]) -> None:
    """Signing anew drops the credentials that a file has: only those that an ingredient carries may go."""
    with _opened(file) as stream, _read(_mime(file), stream, ()) as held:
        label = held.report.get("active_manifest")
    if label is not None and label not in {one.described.get("active_manifest") for one in ingredients}:
        raise InputError(f"{file}: carries content credentials already, which signing would drop; open it instead")


def _sign(
    file: Path, part: Path, manifest: Mapping[str, Any], stores: Sequence[tuple[str, bytes]], signer: Signer
) -> None:
    from c2pa import Builder  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    mime = _mime(file)
    try:
        with (
            _translated(file),
            _opened(file) as source,
            part.open("w+b") as written,
            Builder(manifest, context=_context()) as builder,
            _library_signer(signer) as hand,
        ):
            for identifier, store in stores:
                builder.add_resource(identifier, io.BytesIO(store))
            builder.sign(hand, mime, source, written)
    except ProvenanceError as error:
        if wrong := check_signer(signer):
            raise InputError(f"{signer.chain}: cannot sign: {'; '.join(wrong)}") from None
        raise error


def _library_signer(signer: Signer) -> Any:
    from c2pa import C2paSignerInfo, C2paSigningAlg  # noqa: PLC0415 -- heavy: loads 23 MB of native code
    from c2pa import Signer as LibrarySigner  # noqa: PLC0415 -- likewise

    algorithm = algorithm_of(signer.key)
    if algorithm is None:
        raise InputError(f"{signer.chain}: cannot sign: {'; '.join(check_signer(signer))}")
    info = C2paSignerInfo(C2paSigningAlg[algorithm], signer.chain.read_bytes(), signer.key.read_bytes(), None)
    return LibrarySigner.from_info(info)


def _check_signed(part: Path, target: Path, signer: Signer, anchors: Sequence[Path]) -> None:
    """Read what was signed. The signer's own root may be unknown here; anything else is an error."""
    with _opened(part) as stream, _read(_mime(part), stream, anchors) as held:
        report, failures = held.report, held.failures
    if not report:
        raise ProvenanceError(f"{target}: what was signed cannot be read back", "tampered")
    wrong = [code for code in failures if code != "signingCredential.untrusted"]
    by = report["manifests"][report["active_manifest"]]["signature_info"]["cert_serial_number"]
    if wrong or by != signer.serial:
        codes = wrong or ["afterframe.signer.other"]
        raise ProvenanceError(f"{target}: what was signed reads back {', '.join(codes)}", "tampered", codes)
