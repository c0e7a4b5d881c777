"""What content credentials prove: pure logic over what the C2PA reader reports.

"A manifest exists" proves nothing, and neither does the reader's `Trusted`: it
says so of a file whose parent was tampered with, stripped, swapped, signed by a
stranger or dropped, because what was known when the parent was opened counts as
settled. So every manifest and every ingredient is looked at here, with what was
recorded and what is found now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from stages.certificates import TEST_ORGANISATION
from stages.credentials import (
    Credentials,
    Json,
    Reading,
    State,
    actions_of,
    ancestors,
    codes_in,
    deltas_of,
    found_now,
    generator_of,
    is_complete,
    record_of,
    results_of,
    shown,
    source_type_of,
    spec_version_of,
    tree_of,
    used_by,
)
from stages.manifest import AI_SOURCES, CAPTURE_SOURCES, GENERATOR, RECORD, UNKNOWN_ORIGIN
from stages.signers import Signer

Kind: TypeAlias = Literal["tampered", "broken", "untrusted", "expired"]
Outcome: TypeAlias = Literal["proved", "absent", "tampered", "broken", "untrusted", "expired"]

WORST_FIRST: tuple[Kind, ...] = ("tampered", "broken", "untrusted", "expired")

EXIT_CODES: Mapping[str, int] = MappingProxyType(
    {"proved": 0, "absent": 10, "tampered": 11, "broken": 12, "untrusted": 13, "expired": 14}
)
"""What `pipeline verify` ends with, by verdict."""

MEDIA_HASHES = ("assertion.bmffHash", "assertion.dataHash", "assertion.boxesHash", "assertion.collectionHash")
"""Beginnings of the codes that bind a manifest to the picture and the sound."""


ELSEWHERE = "manifest.inaccessible"
"""The code of a manifest that would have to be fetched."""

NOTHING = Credentials("absent")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying a file found, with one `sentence` for people and `codes` for machines.

    `signer` is `test` for a test signer, else the certificate's common name.
    `origin` is the file that it was made from, as its manifest shows it.
    `asked` says who was asked over the network, and what came of it; nobody is unless that was wanted.
    """

    verdict: Outcome
    sentence: str
    codes: tuple[str, ...] = ()
    signer: str = ""
    origin: Credentials | None = None
    credentials: Credentials = NOTHING
    asked: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """See EXIT_CODES."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True, slots=True)
class Original:
    """The file that is said to be the origin: its SHA-256 and the label of its own manifest, if it has one.

    `codes` are the failures of the origin's carried store, read over this file;
    `carried` says that the store is the original's, byte for byte.
    """

    sha256: str
    label: str
    codes: tuple[str, ...] = ()
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the label of the manifest in which it is."""

    kind: Kind
    code: str
    label: str


# ---------------------------------------------------------------- judging


def credentials_of(reading: Reading, *, media: bool = True) -> Credentials:
    """The credentials that a reading found, with those of the files it was made from.

    Without `media` a store was read alone: that it does not match what it was made for is then no finding.
    """
    if not reading.report:
        state: State = "tampered" if reading.broken else "absent"
        return Credentials(state, (reading.failure,) if reading.failure else ())
    findings = [*_findings(reading), *_chain_findings(reading, None, strict=False)]
    findings = [one for one in findings if media or not _needs_media(one.code)]
    return _graded(reading.report, findings)


def judge(
    reading: Reading,
    *,
    signer: Signer | None = None,
    original: Original | None = None,
    actions: Sequence[str] = (),
) -> Verdict:
    """The verdict on a file.

    `signer` is who must have signed it, `original` what its origin must be, and
    `actions` the C2PA names of the actions that must be listed; each is left out
    where it is not known.
    """
    if not reading.report:
        return _unreadable(reading)
    label = reading.report["active_manifest"]
    findings = [*_findings(reading), *_chain_findings(reading, signer, strict=True)]
    if signer is not None:
        findings += _signer_findings(reading, label, signer)
    if original is not None:
        findings += _original_findings(reading.report, original)
    if actions:
        findings += _action_findings(reading.report["manifests"][label], label, actions)
    if not findings and reading.report.get("validation_state") != "Trusted":
        findings = [Finding("untrusted", "afterframe.state.notTrusted", label)]
    tree = _graded(reading.report, findings)
    worst = next((kind for kind in WORST_FIRST if any(one.kind == kind for one in findings)), None)
    outcome: Outcome = worst or "proved"
    return Verdict(outcome, _sentence(outcome, tree, findings), _codes(findings), _signer_word(tree), tree.parent, tree)


UNREAD = {
    "afterframe.store.compressed": "The file is made to choke whoever reads it: it holds too many compressed manifests."
}


def _unreadable(reading: Reading) -> Verdict:
    credentials = credentials_of(reading)
    if reading.broken:
        sentence = UNREAD.get(reading.failure, "The file is damaged: its content credentials cannot be read.")
        return Verdict("tampered", sentence, credentials.codes, credentials=credentials)
    elsewhere = f"; it says that they lie at {shown(reading.address)}" if reading.address else ""
    sentence = f"The file carries no content credentials{elsewhere}."
    return Verdict("absent", sentence, credentials.codes, credentials=credentials)


def kind_of(code: str) -> Kind:
    """How bad a C2PA failure code is. What is not known counts as tampering."""
    if code in ("signingCredential.expired", "claimSignature.outsideValidity"):
        return "expired"
    if code.startswith(("signingCredential.", "timeStamp.")):
        return "untrusted"
    return "broken" if code.startswith(("assertion.action.", "manifest.")) else "tampered"


def _findings(reading: Reading) -> Iterator[Finding]:
    """What is wrong with signatures and hashes, in the file and in everything that it was made from."""
    report = reading.report
    label = report["active_manifest"]
    results = results_of(report)
    active = results.get("activeManifest", {})
    yield from _trust_findings(reading, label, codes_in(active, "failure"))
    yield from (_finding(code, label) for code in codes_in(active, "failure") if _lasting(code))
    yield from _missing_successes(label, active)
    for other, alone in reading.alone.items():
        failures = _alone_failures(alone)
        yield from _trust_findings(reading, other, failures)
        yield from (_finding(code, other) for code in failures if _lasting(code) and not _needs_media(code))
    yield from (Finding("untrusted", "signingCredential.untrusted", other) for other in sorted(reading.unvouched))
    for place, entry in _recorded(report):
        # What a certificate was worth is asked anew of each manifest, above. A manifest that lies elsewhere is
        # missing, which is judged where a parent has to have one.
        codes = (code for code in codes_in(entry, "failure") if code != ELSEWHERE)
        yield from (_finding(code, place) for code in codes if _lasting(code))


def _missing_successes(label: str, active: Json) -> Iterator[Finding]:
    found = set(codes_in(active, "success"))
    failed = set(codes_in(active, "failure"))
    if not any(code.startswith(MEDIA_HASHES) for code in found | failed):
        yield Finding("tampered", "afterframe.mediaHash.missing", label)
    if not failed and not {"claimSignature.validated", "claimSignature.insideValidity"} <= found:
        yield Finding("tampered", "claimSignature.missing", label)
    if "signingCredential.trusted" not in found and not any(not _lasting(code) for code in failed):
        yield Finding("untrusted", "signingCredential.untrusted", label)


def _trust_findings(reading: Reading, label: str, failures: Sequence[str]) -> Iterator[Finding]:
    """The certificate's failures. The reader calls each expired one untrusted too, even the honest."""
    codes = [code for code in failures if not _lasting(code)]
    aged = any(kind_of(code) == "expired" for code in codes) and label in reading.anchored
    for code in codes:
        if not (aged and code == "signingCredential.untrusted"):
            yield _finding(code, label)


REVOKED = frozenset({"signingCredential.revoked", "signingCredential.ocsp.revoked"})


def _lasting(code: str) -> bool:
    """Whether a failure stays one however certificates and anchors change."""
    return kind_of(code) in ("tampered", "broken") or code in REVOKED


def _needs_media(code: str) -> bool:
    return code.startswith(MEDIA_HASHES)


def _alone_failures(alone: Json) -> tuple[str, ...]:
    if "failure" in alone:
        return (str(alone["failure"]),)
    return codes_in(results_of(alone).get("activeManifest", {}), "failure")


def _recorded(report: Json) -> Iterator[tuple[str, Json]]:
    """What was recorded of each ingredient when it was opened, and what differs from it now."""
    for label, manifest in report["manifests"].items():
        for ingredient in manifest.get("ingredients", ()):
            place = ingredient.get("active_manifest", label)
            results = results_of(ingredient)
            yield place, results.get("activeManifest", {})
            yield from ((place, delta) for delta in deltas_of(results))
    _, *deltas = found_now(report)
    yield from deltas


def _finding(code: str, label: str) -> Finding:
    return Finding(kind_of(code), code, label)


# ---------------------------------------------------------------- the chain


def _chain_findings(reading: Reading, signer: Signer | None, *, strict: bool) -> Iterator[Finding]:
    """What is wrong with who was made from whom.

    Of our own manifests, and of the file's if `strict`, an unproved parent is
    an error unless our record says that it came without credentials. What
    others did before the file reached us is theirs to say.
    """
    manifests = reading.report["manifests"]
    for label, manifest in manifests.items():
        ours = _is_ours(manifest, signer)
        demanding = ours or (strict and label == reading.report["active_manifest"])
        yield from _parent_findings(label, manifest, manifests, ours=ours, demanding=demanding)
        yield from _source_findings(label, manifest, manifests)
        if ours:
            yield from _record_findings(label, manifest)
        if generator_of(manifest) == GENERATOR:
            yield from _promise_findings(label, manifest)


def _is_ours(manifest: Json, signer: Signer | None) -> bool:
    signature = manifest.get("signature_info", {})
    return (
        generator_of(manifest) == GENERATOR
        or signature.get("issuer") == TEST_ORGANISATION
        or (signer is not None and signature.get("cert_serial_number") == signer.serial)
    )


def _parent_findings(label: str, manifest: Json, manifests: Json, *, ours: bool, demanding: bool) -> Iterator[Finding]:
    parents = [one for one in manifest.get("ingredients", ()) if one.get("relationship") == "parentOf"]
    if len(parents) > 1:
        yield Finding("broken", "manifest.multipleParents", label)
    if not demanding:
        return
    if not parents and not _made_from_nothing(manifest, ours=ours):
        yield Finding("broken", "afterframe.parent.missing", label)
    for parent in parents:
        excused = ours and record_of(parent).get("state") == "absent"
        if parent.get("active_manifest") not in manifests and not excused:
            yield Finding("broken", "afterframe.parent.unsigned", label)


def _made_from_nothing(manifest: Json, *, ours: bool) -> bool:
    """Whether the manifest may do without a parent: it created what it describes."""
    actions = list(actions_of(manifest))
    if not actions:
        return manifest.get("claim_version") == 1 and not ours  # the first claims needed none
    first = actions[0]
    if first.get("action") != "c2pa.created":
        return False
    if not ours:
        return True
    # We never film: a camera's claim in our name is a relabelled file.
    marked = (first.get("parameters") or {}).get(RECORD) == UNKNOWN_ORIGIN
    return marked and first.get("digitalSourceType") not in CAPTURE_SOURCES


def _record_findings(label: str, manifest: Json) -> Iterator[Finding]:
    """Where an ingredient is not what we recorded when we read it."""
    for ingredient in manifest.get("ingredients", ()):
        record = record_of(ingredient)
        if not record:
            continue
        if record.get("state") == "tampered" and "active_manifest" not in ingredient:
            yield Finding("tampered", "afterframe.origin.tampered", label)
        if record.get("label", "") != ingredient.get("active_manifest", ""):
            yield Finding("broken", "afterframe.origin.swapped", label)
        if (
            record.get("ai")
            and ingredient.get("relationship") == "componentOf"
            and not _said_to_be_ai(manifest, ingredient)
        ):
            yield Finding("broken", "afterframe.sourceType.missing", label)


def _promise_findings(label: str, manifest: Json) -> Iterator[Finding]:
    """Where a manifest of ours does not say what each of them does: that its list of actions is whole, and which
    C2PA it follows. The asset rubrics ask for both (C2PA Asset Rubrics 1.0, of specification 2.4)."""
    if not is_complete(manifest):
        yield Finding("broken", "afterframe.actions.incomplete", label)
    if not spec_version_of(manifest):
        yield Finding("broken", "afterframe.specVersion.missing", label)


def _said_to_be_ai(manifest: Json, ingredient: Json) -> bool:
    return any(
        action.get("digitalSourceType") in AI_SOURCES
        for action in actions_of(manifest)
        if ingredient.get("label") in used_by(action)
    )


def _source_findings(label: str, manifest: Json, manifests: Json) -> Iterator[Finding]:
    """Where what a model made is said to be filmed by a camera."""
    if not _comes_from_ai(manifest, manifests):
        return
    components = {one.get("label") for one in manifest.get("ingredients", ()) if one.get("relationship") != "parentOf"}
    for action in actions_of(manifest):
        filmed = action.get("digitalSourceType") in CAPTURE_SOURCES
        if filmed and not components & used_by(action):
            yield Finding("broken", "afterframe.sourceType.relabelled", label)


def _comes_from_ai(manifest: Json, manifests: Json) -> bool:
    return any(source_type_of(manifests[label]) in AI_SOURCES for label in ancestors(manifest, manifests))


def _signer_findings(reading: Reading, label: str, signer: Signer) -> Iterator[Finding]:
    manifest = reading.report["manifests"][label]
    if reading.leaves != {signer.fingerprint}:  # names and numbers can be copied, by another authority that is trusted
        yield Finding("untrusted", "afterframe.signer.other", label)
    elif generator_of(manifest) != GENERATOR:
        yield Finding("broken", "afterframe.generator.other", label)


def _original_findings(report: Json, original: Original) -> Iterator[Finding]:
    manifests, active = report["manifests"], report["active_manifest"]
    if original.label == active and original.carried and not original.codes:
        return  # the file is its own original
    if original.label:
        if original.label not in ancestors(manifests[active], manifests):
            yield Finding("broken", "afterframe.original.other", active)
        elif not original.carried:
            yield Finding("broken", "afterframe.original.notCarried", active)
        yield from (Finding("broken", code, active) for code in original.codes if _lasting(code))
        return
    records = [
        record_of(one) for one in manifests[active].get("ingredients", ()) if one.get("relationship") == "parentOf"
    ]
    if not any(one.get("state") == "absent" and one.get("sha256") == original.sha256 for one in records):
        yield Finding("broken", "afterframe.original.other", active)


def _action_findings(manifest: Json, label: str, expected: Sequence[str]) -> Iterator[Finding]:
    # The last one says how a file was written that was made of another, which the log does not know.
    listed = [str(action.get("action")) for action in actions_of(manifest)]
    if listed[-1:] in (["c2pa.transcoded"], ["c2pa.repackaged"]):
        listed.pop()
    if listed != list(expected):
        yield Finding("broken", "afterframe.actions.differ", label)


# ---------------------------------------------------------------- for people


def _graded(report: Json, findings: Sequence[Finding]) -> Credentials:
    """Each manifest with its state; the root with the worst, being no better than what it was made from."""

    def grade(label: str) -> tuple[State, tuple[str, ...]]:
        here = [one for one in findings if label in (one.label, report["active_manifest"])]
        return _state(here), _codes(here)

    return tree_of(report, grade)


def _state(findings: Sequence[Finding]) -> State:
    kinds = {"tampered" if one.kind == "broken" else one.kind for one in findings}
    states: tuple[State, ...] = ("tampered", "untrusted", "expired")
    return next((state for state in states if state in kinds), "proved")


def _codes(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Each code once, the worst first; those that others recorded may be any text."""
    return tuple(dict.fromkeys(shown(one.code) for kind in WORST_FIRST for one in findings if one.kind == kind))


def _signer_word(tree: Credentials) -> str:
    return "test" if tree.issuer == TEST_ORGANISATION else tree.signer


BROKEN_SENTENCES = {
    "manifest.multipleParents": "it names more than one parent",
    "afterframe.parent.missing": "it does not say what it was made from",
    "afterframe.parent.unsigned": "the file that it was made from came without its credentials",
    "afterframe.origin.swapped": "what it was made from is not what was read at first",
    "afterframe.sourceType.relabelled": "something made by a model is said to be filmed",
    "afterframe.sourceType.missing": "a part made by a model is not said to be so",
    "afterframe.generator.other": "it was not signed by Afterframe",
    "afterframe.original.other": "it was not made from the original given",
    "afterframe.original.notCarried": "it does not carry the original's credentials as they were",
    "afterframe.actions.differ": "the actions it lists are not those that were done",
    "afterframe.actions.incomplete": "it does not say that the list of its actions is whole",
    "afterframe.specVersion.missing": "it does not say which version of C2PA it follows",
}


def _sentence(outcome: Outcome, tree: Credentials, findings: Sequence[Finding]) -> str:
    who = "a test certificate" if _signer_word(tree) == "test" else tree.signer or "an unnamed signer"
    worst = next((one for one in findings if one.kind == outcome), None)
    if worst is None:
        return f"The file is intact and signed by {who}; {_origin_words(tree)}."
    here = worst.label == tree.label and not worst.code.startswith("afterframe.origin")
    if outcome == "tampered":
        what = "The file was changed after it was signed" if here else "A file that it was made from was tampered with"
        return f"{what} ({worst.code})."
    if outcome == "broken":
        return f"The chain of credentials is broken: {BROKEN_SENTENCES.get(worst.code, worst.code)}."
    if worst.code == "afterframe.signer.other":
        return f"The file is intact, but it was signed by {who}, who is not the signer expected."
    what = "its signature" if here else "the signature of a file that it was made from"
    if outcome == "expired":
        return f"The file is intact, but the certificate behind {what} has expired."
    if worst.code in REVOKED:
        return f"The file is intact, but the certificate behind {what} was revoked by who issued it."
    name = _name_of(worst.label, tree)
    return f"The file is intact, but nobody trusted here vouches for {what} (by {name})."


def _origin_words(tree: Credentials) -> str:
    origin = tree.parent
    if origin is None:
        return f"it was made by {tree.generator or 'an unnamed generator'}"
    if origin.state == "absent":
        return "its original carries no credentials"
    return f"its original, made by {origin.generator or 'an unnamed generator'}, is signed by {origin.signer}"


def _name_of(label: str, tree: Credentials) -> str:
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if one.label == label:
            return one.signer or "nobody named"
        waiting.extend(one.ingredients)
    return "nobody named"
