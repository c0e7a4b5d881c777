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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from stages.asking import fetch_store, origin_of, responders, revocation_told
from stages.carriers import (
    COMPRESSED,
    MOST,
    WITHOUT,
    compressed_in,
    holds_manifest,
    mime_of,
    opened,
    sidecar_in_use,
    sidecar_of,
    sniffed,
)
from stages.certificates import (
    ALLOWED_USES,
    fingerprints_in,
    is_anchored,
    leaf_of,
    read_anchors,
    responders_in,
    verified,
)
from stages.clip import History, Origin, origins
from stages.credentials import Credentials, Reading, ancestors, codes_in, results_of
from stages.errors import InputError, ProvenanceError, ProviderUnavailable
from stages.files import attempt, sha256
from stages.manifest import GENERATOR, RECORD, action_names, manifest_of
from stages.signers import Signer, check_signer, signer_for, signer_from_environment, signer_with, test_signer
from stages.trust import stamp_anchors
from stages.verdict import ELSEWHERE, EXIT_CODES, Original, Verdict, credentials_of, judge, kind_of

__all__ = [
    "EXIT_CODES",
    "Credentials",
    "Signer",
    "Verdict",
    "archive_ingredient",
    "check_signer",
    "read_credentials",
    "read_store",
    "sdk_version",
    "sign",
    "signer_for",
    "signer_from_environment",
    "signer_with",
    "store_of",
    "test_signer",
    "verify",
    "vouchers",
]

STORE = "application/c2pa"


@cache
def sdk_version() -> str:
    """The version of the C2PA library, for cache names."""
    return importlib.metadata.version("c2pa-python")


def read_credentials(file: Path, *, anchors: Sequence[Path] = (), tsa_anchors: Sequence[Path] = ()) -> Credentials:
    """What the credentials of `file` prove, and of everything that it was made from.

    A file without a manifest is `absent`; a damaged one is `tampered`. Of a file
    that cannot hold one (WebM, Matroska, Ogg), the sidecar beside it is read.
    `anchors` are PEM files of trusted roots, `tsa_anchors` of those that vouch
    for timestamps alone.
    Raises InputError only if there is no such file, or if an anchor is not PEM.
    """
    trust = _trusting(anchors, tsa_anchors)
    with _read_file(file, trust) as held:
        return credentials_of(_examined(held, trust))


def store_of(file: Path) -> bytes:
    """The manifest store that `file` carries, byte for byte; empty if it carries none that can be read.

    Raises InputError if there is no such file.
    """
    with _read_file(file, NOBODY) as held:
        label = held.report.get("active_manifest")
        return held.store(label) if label else b""


def read_store(store: Path, *, anchors: Sequence[Path] = ()) -> Credentials:
    """What a manifest store says that lies in a file of its own, away from what it was made for.

    Nothing is proved by it: whether it belongs to a file, only `verify` can
    tell, of a file that carries it. Raises InputError if there is no such file.
    """
    trust = _trusting(anchors)
    with _read_store(store, trust) as held:
        return credentials_of(_examined(held, trust), media=False)


def vouchers(file: Path, anchors: Sequence[Path]) -> Mapping[str, Path]:
    """Which of `anchors` the certificate of each manifest in `file`, or in a manifest store (`.c2pa`), leads to, by
    label, whatever the date is; one that leads to none is not there. Raises InputError as read_credentials."""
    with _read_store(file) if file.suffix == ".c2pa" else _read_file(file, NOBODY) as held:
        found = ((label, _vouching(held, label, anchors)) for label in held.report.get("manifests", ()))
        return {label: anchor for label, anchor in found if anchor}


def archive_ingredient(file: Path, target: Path, *, anchors: Sequence[Path] = ()) -> Credentials:
    """Read `file` and write what `sign` will need of it to `target`, so that `file` itself may go.

    Do it the moment a file arrives: the archive holds its manifest byte for
    byte, its SHA-256 and what was found. Raises InputError as read_credentials,
    and WriteError where `target` cannot be written.
    """
    with attempt(target) as part, part.open("w+b") as stream:
        return _write_archive(file, stream, _trusting(anchors))


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
    `file` itself; it appears whole or not at all. What cannot hold credentials
    (WebM, Matroska, Ogg) gets them in a sidecar, `target` with `.c2pa` for its
    own suffix.

    Raises InputError if an origin is missing, if it is a kind of file of which
    credentials say nothing, if `file` carries some that are not an origin's (they would be
    lost) or if the signer cannot sign; ProvenanceError if what was signed does
    not read back intact; ProviderUnavailable if a signing service or a timestamp
    authority cannot be reached.
    """
    made_from = origins(history)
    ids = _ids(made_from)
    trusted = _trusting((*anchors, signer.root) if signer.root else anchors)
    ingredients = [_ingredient(one, ids[one.file], archives, trusted) for one in made_from]
    _keep_credentials(file, ingredients)
    ai = frozenset(one.origin.file for one in ingredients if one.record["ai"])
    manifest = manifest_of(history, ids, ai, title=title or target.name, transcoded=transcoded, generator=generator)
    manifest["ingredients"] = [one.described for one in ingredients]
    with attempt(target) as part:
        store = _sign(file, part, manifest, [one.store for one in ingredients if one.store], signer)
        _check_signed(part, store, target, signer, trusted)
        if store is not None:
            with attempt(sidecar_of(target)) as beside:
                beside.write_bytes(store)


def verify(
    file: Path,
    *,
    original: Path | None = None,
    anchors: Sequence[Path] = (),
    tsa_anchors: Sequence[Path] = (),
    signer: Signer | None = None,
    history: History = (),
    remote: bool = False,
    ocsp: bool = False,
    hosts: Sequence[str] = (),
) -> Verdict:
    """Whether the credentials of `file` prove who made it and from what.

    `anchors` are PEM files of trusted roots; nothing else is trusted, but for
    the root of `signer` if that is a test one. `tsa_anchors` are those that
    vouch for the time of a signature and for nothing else. With `signer`, nobody else may
    have signed. With `original`, the file must have been made from it, and its
    credentials must be carried byte for byte. With `history`, the actions
    listed must be those.

    Nothing is fetched unless asked: `remote` fetches credentials that the file
    says lie elsewhere, at an address that is https and public; `ocsp` asks
    whether a certificate was revoked, where it says, if that is public. `hosts`
    are those that may also be private, or without https. The verdict's `asked`
    says who was asked.

    Raises InputError only if a file is missing or an anchor is not PEM.
    """
    trust = _trusting((*anchors, signer.root) if signer and signer.root else anchors, tsa_anchors)
    store, told = _fetched(file, hosts) if remote else (None, ())
    named = _responders(file, store) if ocsp else {}
    asked = responders(named, hosts)
    with _read_file(file, replace(trust, responders=asked), store) as held:
        reading = _examined(held, trust)
        compared = _compare(held, original, trust) if original and held.report else None
        told += tuple(revocation_told(held.report, named, asked)) if ocsp and held.report else ()
    # Which origins a model made changes source types, never the names of actions.
    actions = action_names(history, _ids(origins(history)), frozenset()) if history else ()
    return replace(judge(reading, signer=signer, original=compared, actions=actions), asked=told)


# ---------------------------------------------------------------- the library


@dataclass(frozen=True, slots=True)
class _Trust:
    """PEM files of the roots that are trusted, and of those that are for timestamps alone; and the addresses at which
    it may be asked whether a certificate was revoked."""

    roots: tuple[Path, ...] = ()
    stamps: tuple[Path, ...] = ()
    responders: tuple[str, ...] = ()


NOBODY = _Trust()


def _trusting(anchors: Sequence[Path], tsa_anchors: Sequence[Path] = ()) -> _Trust:
    """Timestamps are also trusted by the C2PA's own list: they say when, never who."""
    return _Trust(tuple(anchors), (*tsa_anchors, *stamp_anchors()))


PACKED, UNPACKED = 16, 2
"""How many compressed manifests are read of one file, and how many MB of each: thousands of 32 MB, as the library
takes them, fit into a file of one MB, and each is packed anew whenever it is looked at, at 15 s each."""

LARGE = 32 << 20
"""From how many bytes on a film is hashed in chunks, so that a verifier need not hold it in memory: 500 MB are then
read in 53 MB instead of 506 (tests/benchmarks/provenance.py). Smaller ones have the one hash that the oldest readers
know, too."""


def _context(trust: _Trust = NOBODY, size: int = 0) -> Any:
    """The only settings that the library is used with: our anchors, C2PA's certificate uses, no network but for
    `trust.responders`.

    `size` is that of a file to sign, in bytes.
    """
    from c2pa import Context  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    trusted = {"trust_config": "\n".join(ALLOWED_USES) + "\n"}  # without it the library refuses C2PA's own use
    if anchors := (*trust.roots, *trust.stamps):
        # It keeps no list for timestamps alone: what a stamp's root vouches for beyond them, _unvouched finds.
        trusted["trust_anchors"] = read_anchors(anchors)
    settings: dict[str, Any] = {
        "version": 1,
        "trust": trusted,
        # What was signed is read again by _check_signed, which looks at more.
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": bool(trust.responders),
            "verify_after_sign": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }
    core: dict[str, Any] = {"max_decompressed_manifest_size_in_mb": UNPACKED}
    if trust.responders:
        free = [origin_of(each) for each in trust.responders]
        core |= {"allowed_network_hosts": free, "allow_redirects": False}
    if size >= LARGE:
        core |= {"merkle_tree_chunk_size_in_kb": 1024, "backing_store_memory_threshold_in_mb": 16}
    return Context.from_dict(settings | {"core": core})


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
def _read_file(file: Path, trust: _Trust, store: bytes | None = None) -> Iterator[_Held]:
    """Read the credentials in `file`, in its sidecar if it has to have one, or those in `store` over it."""
    if store is None and (beside := sidecar_in_use(file)):
        with opened(beside) as stream:
            store = stream.read()
    with opened(file) as stream, _read(mime_of(file), stream, trust, store) as held:
        yield held


@contextlib.contextmanager
def _read_store(store: Path, trust: _Trust = NOBODY) -> Iterator[_Held]:
    """Read a manifest store that lies in a file of its own."""
    with opened(store) as stream, _read(STORE, stream, trust) as held:
        yield held


@contextlib.contextmanager
def _read(mime: str, stream: BinaryIO, trust: _Trust, store: bytes | None = None) -> Iterator[_Held]:
    from c2pa import C2paError, Reader  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    if compressed_in(stream if store is None else io.BytesIO(store)) > PACKED:
        yield _Held(unread=Reading({}, {}, failure="afterframe.store.compressed", broken=True))
        return
    try:
        reader = Reader(mime, stream, manifest_data=store, context=_context(trust))
    except C2paError as error:
        yield _Held(unread=_unread(error, stream, store))
        return
    with reader:
        report = json.loads(reader.json())
        if report["active_manifest"] in report["manifests"]:
            yield _Held(reader, report)
        else:  # a label that was changed where no hash reaches
            yield _Held(unread=Reading({}, {}, failure="afterframe.store.other", broken=True))


def _unread(error: Exception, stream: BinaryIO, store: bytes | None) -> Reading:
    """What it means that there is nothing to read: no credentials, or damaged ones."""
    from c2pa import C2paError  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    if store is not None:
        return Reading({}, {}, failure=_error_code(error), broken=True)
    if isinstance(error, C2paError.ManifestNotFound):
        return NO_READING
    if isinstance(error, C2paError.NotSupported):
        return Reading({}, {}, failure="afterframe.container.unsupported")
    if "must fetch remote manifests" in str(error):
        address = re.search(r"https?://\S+", str(error))
        return Reading({}, {}, failure=ELSEWHERE, address=address[0] if address else "")
    # A film that c2pa cannot parse but ffmpeg can has lost nothing if no manifest was in it.
    damaged = holds_manifest(stream) or not sniffed(stream)
    return Reading({}, {}, failure=_error_code(error), broken=damaged)


def _examined(held: _Held, trust: _Trust) -> Reading:
    """The report, and one on each other manifest in the store."""
    if not held.report:
        return held.unread
    active, context = held.report["active_manifest"], _context(trust)
    alone = {label: _read_alone(held, label, context) for label in held.report["manifests"] if label != active}
    reports = {**alone, active: held.report}
    leaves = fingerprints_in(held.store(active), _serial(held, active))
    return Reading(held.report, alone, _anchored(held, reports, trust), _unvouched(held, reports, trust), leaves)


def _read_alone(held: _Held, label: str, context: Any) -> Mapping[str, Any]:
    """The report on one manifest of a store, from its own bytes, now: what others recorded may be a lie."""
    from c2pa import C2paError, Reader  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    try:
        with Reader(STORE, io.BytesIO(held.store(label)), context=context) as reader:
            report: dict[str, Any] = json.loads(reader.json())
    except C2paError as error:
        return {"failure": _error_code(error)}
    return report if report["active_manifest"] == label else {"failure": "afterframe.store.other"}


def _anchored(held: _Held, reports: Mapping[str, Mapping[str, Any]], trust: _Trust) -> frozenset[str]:
    """The labels of expired manifests whose certificates lead to a root."""

    def aged(report: Mapping[str, Any]) -> bool:
        return any(kind_of(one["code"]) == "expired" for one in report.get("validation_status") or ())

    return frozenset(label for label, report in reports.items() if aged(report) and _leads_to(held, label, trust.roots))


def _unvouched(held: _Held, labels: Iterable[str], trust: _Trust) -> frozenset[str]:
    """The labels of manifests for which no root vouches, or none but for timestamps."""
    return (
        frozenset(label for label in labels if not _leads_to(held, label, trust.roots)) if trust.stamps else frozenset()
    )


def _leads_to(held: _Held, label: str, roots: Sequence[Path]) -> bool:
    store = held.store(label)
    if COMPRESSED not in store:
        return is_anchored(store, _serial(held, label), roots)
    # Its certificates are packed as well: the library says no more than whether they lead there and are valid.
    alone = _read_alone(held, label, _context(_Trust(tuple(roots))))
    return "signingCredential.trusted" in codes_in(results_of(alone).get("activeManifest", {}), "success")


def _vouching(held: _Held, label: str, anchors: Sequence[Path]) -> Path | None:
    return next((one for one in anchors if _leads_to(held, label, (one,))), None)


def _serial(held: _Held, label: str) -> str:
    return str(held.report["manifests"][label].get("signature_info", {}).get("cert_serial_number", ""))


def _fetched(file: Path, hosts: Sequence[str]) -> tuple[bytes | None, tuple[str, ...]]:
    """The store that `file` says lies elsewhere, and what came of asking there."""
    with _read_file(file, NOBODY) as held:
        address = held.unread.address
    if not address:
        return None, ()
    store, said = fetch_store(address, hosts)
    with _read(STORE, io.BytesIO(store), NOBODY) as held:
        if store and not held.report:
            return None, (f"{said}, but what came is no manifest that can be read",)
    return store or None, (said,)


def _responders(file: Path, store: bytes | None) -> dict[str, tuple[str, ...]]:
    """Where it can be asked whether the certificates of those who signed were revoked, by the manifest's label."""
    with _read_file(file, NOBODY, store) as held:
        labels = held.report.get("manifests", ())
        named = {label: responders_in(held.store(label), _serial(held, label)) for label in labels}
    return {label: addresses for label, addresses in named.items() if addresses}


def _compare(held: _Held, original: Path, trust: _Trust) -> Original:
    """What `original` is, and whether the store that the file carries is the one in it."""
    with _read_file(original, trust) as own:
        if not own.report:
            return Original(sha256(original), "")
        label = own.report["active_manifest"]
        embedded = own.store(label)
    manifests, active = held.report["manifests"], held.report["active_manifest"]
    if label not in (active, *ancestors(manifests[active], manifests)):
        return Original(sha256(original), label)
    carried = held.store(label)
    with _read_file(original, trust, carried) as over:
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


def _ingredient(origin: Origin, name: str, archives: Mapping[Path, Path], trust: _Trust) -> _Ingredient:
    """What the archive of an origin holds, or what one made of the file now would."""
    archive = archives.get(origin.file)
    if archive is None:
        if not origin.file.exists():
            raise InputError(f"{origin.file}: the original is missing, and there is no archive of its credentials")
        held = io.BytesIO()
        _write_archive(origin.file, held, trust)
        return _from_archive(origin, name, io.BytesIO(held.getvalue()), origin.file)
    with opened(archive) as stream:
        return _from_archive(origin, name, stream, archive)


def _from_archive(origin: Origin, name: str, stream: Any, file: Path) -> _Ingredient:
    with _translated(file), _read(STORE, stream, NOBODY) as held:
        described = _only_ingredient(held.report) if held.report else {}
        if RECORD not in described.get("metadata", {}):
            raise InputError(f"{file}: is not an archive of credentials that Afterframe made")
        label = described.get("active_manifest")
        store = (described["manifest_data"]["identifier"], held.store(label)) if label else None
    # Its manifest carries its thumbnail; a second one beside it would name a resource that is not there.
    described = {key: value for key, value in described.items() if key != "thumbnail"}
    described |= {"relationship": origin.relationship, "label": name}
    record = described["metadata"][RECORD]
    record["ai"] = bool(record["ai"] or origin.ai)
    return _Ingredient(origin, described, store)


def _only_ingredient(report: Mapping[str, Any]) -> dict[str, Any]:
    found = report["manifests"][report["active_manifest"]].get("ingredients") or [{}]
    return dict(found[0])


def _write_archive(file: Path, stream: Any, trust: _Trust) -> Credentials:
    """Write the ingredient archive of `file`; what was read of it."""
    from c2pa import Builder  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    with _read_file(file, trust) as held:
        found = credentials_of(_examined(held, trust))
        store, results = held.store(found.label) if found.label else b"", dict(results_of(held.report))
    if len(store) > MOST:
        raise InputError(
            f"{file}: its content credentials take {len(store) / 1e6:.0f} MB, which each file made of it would have"
            f" to carry; more than {MOST / 1e6:.0f} MB are not"
        )
    record = {"state": found.state, "label": found.label, "sha256": sha256(file), "ai": found.ai}
    described: dict[str, Any] = {
        "title": file.name, "relationship": "parentOf", "label": "origin",
        "metadata": {RECORD: record | ({"codes": list(found.codes)} if found.codes else {})},
    }  # fmt: skip
    # What cannot be read goes in as bytes of no kind, with the record of what was found.
    mime = mime_of(file) if found.label or found.state == "absent" else "application/octet-stream"
    with (
        _translated(file),
        opened(file) as content,
        Builder({"assertions": []}, context=_context(trust)) as builder,
    ):
        if store and mime in WITHOUT:  # the library looks for a manifest in the file alone
            held_apart = {"format": STORE, "identifier": "sidecar"}
            described |= {"active_manifest": found.label, "validation_results": results, "manifest_data": held_apart}
            builder.add_resource("sidecar", io.BytesIO(store))
        builder.add_ingredient(json.dumps(described), mime, content)
        builder.write_ingredient_archive("origin", stream)
    return found


# ---------------------------------------------------------------- signing


def _keep_credentials(file: Path, ingredients: Sequence[_Ingredient]) -> None:
    """Signing anew drops the credentials that a file has: only those that an ingredient carries may go."""
    with _read_file(file, NOBODY) as held:
        label = held.report.get("active_manifest")
    if label is not None and label not in {one.described.get("active_manifest") for one in ingredients}:
        raise InputError(f"{file}: carries content credentials already, which signing would drop; open it instead")


def _sign(
    file: Path, part: Path, manifest: Mapping[str, Any], stores: Sequence[tuple[str, bytes]], signer: Signer
) -> bytes | None:
    """Sign `file` into `part`; the manifest, if it has to lie beside it."""
    from c2pa import Builder  # noqa: PLC0415 -- heavy: loads 23 MB of native code

    mime = mime_of(file)
    try:
        with (
            _translated(file),
            opened(file) as source,
            part.open("w+b") as written,
            Builder(manifest, context=_context(size=file.stat().st_size)) as builder,
            _library_signer(signer) as hand,
        ):
            for identifier, store in dict(stores).items():  # two copies of a film have one store
                builder.add_resource(identifier, io.BytesIO(store))
            if mime not in WITHOUT:
                builder.sign(hand, mime, source, written)
                return None
            builder.set_no_embed()
            return bytes(builder.sign(hand, mime, source, written))
    except ProvenanceError as error:
        if wrong := check_signer(signer):
            raise InputError(f"{signer.chain}: cannot sign: {'; '.join(wrong)}") from None
        if signer.timestamps and "http" in str(error):  # the library goes there by itself
            unreached = f"{file}: no timestamp from the timestamp authority at {signer.timestamps}"
            raise ProviderUnavailable(f"{unreached}; without AFTERFRAME_TSA_URL it is signed without one") from None
        raise error


@contextlib.contextmanager
def _library_signer(signer: Signer) -> Iterator[Any]:
    """The library's own signer. What a hand raises comes out as it was; the library would lose it."""
    from c2pa import C2paSignerInfo, C2paSigningAlg  # noqa: PLC0415 -- heavy: loads 23 MB of native code
    from c2pa import Signer as LibrarySigner  # noqa: PLC0415 -- likewise

    leaf = leaf_of(signer.chain)
    if not leaf.algorithm:
        raise InputError(f"{signer.chain}: cannot sign: {'; '.join(check_signer(signer))}")
    algorithm, timestamps = C2paSigningAlg[leaf.algorithm], signer.timestamps or None
    if signer.key:
        info = C2paSignerInfo(algorithm, signer.chain.read_bytes(), signer.key.read_bytes(), timestamps)
        with LibrarySigner.from_info(info) as own:
            yield own
        return
    raised: list[Exception] = []

    def sign(content: bytes) -> bytes:
        assert signer.hand
        try:
            if signature := verified(signer.chain, content, signer.hand(content)):
                return signature
            raise InputError(f"what signs for '{signer.name}' made a signature that is not its key's")
        except Exception as error:
            raised.append(error)
            raise

    try:
        with LibrarySigner.from_callback(sign, algorithm, signer.chain.read_text(), timestamps) as own:
            yield own
    except Exception:
        if raised:
            raise raised[0] from None
        raise


def _check_signed(part: Path, store: bytes | None, target: Path, signer: Signer, trust: _Trust) -> None:
    """Read what was signed. The signer's own root may be unknown here; anything else is an error."""
    with _read_file(part, trust, store) as held:
        report, failures = held.report, held.failures
    if not report:
        raise ProvenanceError(f"{target}: what was signed cannot be read back", "tampered")
    wrong = [code for code in failures if code != "signingCredential.untrusted"]
    by = report["manifests"][report["active_manifest"]]["signature_info"]["cert_serial_number"]
    if wrong or by != signer.serial:
        codes = wrong or ["afterframe.signer.other"]
        raise ProvenanceError(f"{target}: what was signed reads back {', '.join(codes)}", "tampered", codes)
