"""What the C2PA reader reports of a file, and what a report or a page shows of it.

Pure: plain functions over the reader's JSON, which differs with the version of
the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from stages.manifest import AI_SOURCES, RECORD

State: TypeAlias = Literal["proved", "untrusted", "expired", "tampered", "absent"]
Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The content credentials of a file, or of one that it was made from.

    `codes` say why a state is not `proved`. `signer` is the certificate's common
    name, `issuer` its organisation, `signed_at` an ISO time where a timestamp
    authority gave one, `source_type` the digital source type that the `created`
    action claims. `actions` are (action, agent, digital source type).
    `relationship` is `parentOf`, `componentOf` or `inputTo` for an ingredient. An
    ingredient that several manifests share lists its own ingredients once.
    """

    state: State
    codes: tuple[str, ...] = ()
    label: str = ""
    title: str = ""
    generator: str = ""
    signer: str = ""
    issuer: str = ""
    signed_at: str = ""
    source_type: str = ""
    actions: tuple[tuple[str, str, str], ...] = ()
    relationship: str = ""
    ingredients: tuple[Credentials, ...] = ()

    @property
    def parent(self) -> Credentials | None:
        """The file that this one was made from."""
        return next((one for one in self.ingredients if one.relationship == "parentOf"), None)

    @property
    def ai(self) -> bool:
        """Whether it, or a file that it was made from, claims to be made by a trained model."""
        return self.source_type in AI_SOURCES or (self.parent is not None and self.parent.ai)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader reports of one file, as JSON values.

    `report` is empty where there is no manifest or it cannot be read; `failure`
    is then the code. `alone` holds, by label, the report on each other manifest
    of the store, read now without its media. `anchored` are the labels whose
    certificate leads to an anchor if dates are left aside.
    """

    report: Json
    alone: Mapping[str, Json]
    anchored: frozenset[str] = frozenset()
    failure: str = ""
    broken: bool = False


# ---------------------------------------------------------------- validation results


SUCCESS_ENDINGS = (".trusted", ".validated", ".match", ".insideValidity")


def results_of(report: Json) -> Json:
    """`validation_results`; claims of version 1 recorded a flat list instead, good and bad together."""
    if "validation_results" in report:
        return dict(report["validation_results"])
    flat = report.get("validation_status") or ()
    return {"activeManifest": {"failure": [one for one in flat if not one["code"].endswith(SUCCESS_ENDINGS)]}}


def deltas_of(results: Json) -> Iterator[Json]:
    for delta in results.get("ingredientDeltas") or ():
        yield delta.get("validationDeltas", {})


def codes_in(entry: Json, outcome: str) -> tuple[str, ...]:
    return tuple(str(one["code"]) for one in entry.get(outcome) or ())


# ---------------------------------------------------------------- manifests


def generator_of(manifest: Json) -> str:
    for info in manifest.get("claim_generator_info") or ():
        return str(info.get("name", ""))
    return str(manifest.get("claim_generator", "")).partition("/")[0]


def actions_of(manifest: Json) -> Iterator[Json]:
    for assertion in manifest.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            yield from (assertion.get("data") or {}).get("actions", ())


def _agent(action: Json) -> str:
    agent = action.get("softwareAgent", "")
    return str(agent.get("name", "")) if isinstance(agent, Mapping) else str(agent)


def used_by(action: Json) -> set[str]:
    """The labels of the ingredients that an action names."""
    used = (action.get("parameters") or {}).get("ingredients") or ()
    return {str(one.get("url", "")).rpartition("/")[2] for one in used}


def source_type_of(manifest: Json) -> str:
    created = (one for one in actions_of(manifest) if one.get("action") == "c2pa.created")
    return next((str(one.get("digitalSourceType", "")) for one in created), "")


def record_of(ingredient: Json) -> Json:
    """What we wrote about an ingredient when we first read it."""
    record = (ingredient.get("metadata") or {}).get(RECORD, {})
    return record if isinstance(record, Mapping) else {}


def ancestors(manifest: Json, manifests: Json) -> tuple[str, ...]:
    """The labels of the manifest's parent, of that one's parent and so on."""
    found: dict[str, None] = {}
    while True:
        parents = [one for one in manifest.get("ingredients", ()) if one.get("relationship") == "parentOf"]
        label = parents[0].get("active_manifest", "") if parents else ""
        if label not in manifests or label in found:
            return tuple(found)
        found[label] = None
        manifest = manifests[label]


# ---------------------------------------------------------------- the tree


Grade: TypeAlias = Callable[[str], tuple[State, tuple[str, ...]]]
"""The state of the manifest with a label, and the codes that say why."""


def tree_of(report: Json, grade: Grade) -> Credentials:
    """The active manifest and all that it was made from."""
    return _branch(report["manifests"], report["active_manifest"], "", grade, set())


def _branch(manifests: Json, label: str, role: str, grade: Grade, seen: set[str]) -> Credentials:
    manifest = manifests[label]
    children = () if label in seen else manifest.get("ingredients", ())
    seen.add(label)
    ingredients = tuple(
        _branch(manifests, one["active_manifest"], one.get("relationship", ""), grade, seen)
        if one.get("active_manifest") in manifests
        else Credentials("absent", title=str(one.get("title", "")), relationship=one.get("relationship", ""))
        for one in children
    )
    signature = manifest.get("signature_info", {})
    return Credentials(
        *grade(label),
        label,
        str(manifest.get("title", "")),
        generator_of(manifest),
        str(signature.get("common_name") or signature.get("issuer", "")),
        str(signature.get("issuer", "")),
        str(signature.get("time", "")),
        source_type_of(manifest),
        tuple((str(a.get("action", "")), _agent(a), str(a.get("digitalSourceType", ""))) for a in actions_of(manifest)),
        role,
        ingredients,
    )
