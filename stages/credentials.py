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
    action claims. `actions` are (action, agent, digital source type), `told` what each says of itself in words.
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
    told: tuple[str, ...] = ()

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
    is then the code, and `address` where the file says that it lies, if it does.
    `alone` holds, by label, the report on each other manifest of the store, read
    now without its media. `anchored` are the labels whose certificate leads to an
    anchor if dates are left aside; `unvouched` those whose certificate leads to
    one for timestamps alone, or to none, where there are such. `leaves` are the
    fingerprints of who signed the file.
    """

    report: Json
    alone: Mapping[str, Json]
    anchored: frozenset[str] = frozenset()
    unvouched: frozenset[str] = frozenset()
    leaves: frozenset[str] = frozenset()
    failure: str = ""
    broken: bool = False
    address: str = ""


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


def found_now(report: Json) -> Iterator[tuple[str, Json]]:
    """What was found of the active manifest, and what is found of each ingredient that was not recorded of it, each
    with the label of the manifest that it is about."""
    results, active = results_of(report), report["active_manifest"]
    yield active, results.get("activeManifest", {})
    for delta in results.get("ingredientDeltas") or ():
        place = str(delta.get("ingredientAssertionURI", "")).split("/")
        holder = next((label for label in report["manifests"] if label in place), active)
        ingredients = report["manifests"][holder].get("ingredients", ())
        labels = (str(one.get("active_manifest", active)) for one in ingredients if one.get("label") == place[-1])
        yield next(labels, active), delta.get("validationDeltas", {})


def codes_in(entry: Json, outcome: str) -> tuple[str, ...]:
    return tuple(str(one["code"]) for one in entry.get(outcome) or ())


# ---------------------------------------------------------------- manifests


SHOWN = 300
"""Characters of a name that are shown: who signs writes what he likes."""


def shown(text: object) -> str:
    """What stands in a file, fit for a terminal and a page: no control or invisible characters, and not endless."""
    words = "".join(each if each.isprintable() else " " for each in str(text))
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"


def generator_of(manifest: Json) -> str:
    for info in manifest.get("claim_generator_info") or ():
        return shown(info.get("name", ""))
    return shown(manifest.get("claim_generator", "")).partition("/")[0]


def spec_version_of(manifest: Json) -> str:
    """The version of C2PA that it says it follows; empty if it says none, as claims before 2.4 did not have to."""
    found = (info.get("specVersion") for info in manifest.get("claim_generator_info") or ())
    return str(next(filter(None, found), ""))


def actions_of(manifest: Json) -> Iterator[Json]:
    for assertion in _action_lists(manifest):
        yield from assertion.get("actions", ())


def is_complete(manifest: Json) -> bool:
    """Whether each list of actions says that nothing else was done (`allActionsIncluded`), and there is one."""
    said = [assertion.get("allActionsIncluded") is True for assertion in _action_lists(manifest)]
    return bool(said) and all(said)


def _action_lists(manifest: Json) -> Iterator[Json]:
    for assertion in manifest.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            yield assertion.get("data") or {}


def _agent(action: Json) -> str:
    agent = action.get("softwareAgent", "")
    return shown(agent.get("name", "")) if isinstance(agent, Mapping) else shown(agent)


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
        else _unsigned(manifest, one)
        for one in children
    )
    signature = manifest.get("signature_info", {})
    return Credentials(
        *grade(label),
        label,
        shown(manifest.get("title", "")),
        generator_of(manifest),
        shown(signature.get("common_name") or signature.get("issuer", "")),
        shown(signature.get("issuer", "")),
        shown(signature.get("time", "")),
        source_type_of(manifest),
        tuple(
            (shown(a.get("action", "")), _agent(a), shown(a.get("digitalSourceType", ""))) for a in actions_of(manifest)
        ),
        role,
        ingredients,
        tuple(shown(action.get("description", "")) for action in actions_of(manifest)),
    )


def _unsigned(manifest: Json, ingredient: Json) -> Credentials:
    """An ingredient without credentials, of which the manifest that it went into may say that a model made it."""
    used = (action for action in actions_of(manifest) if ingredient.get("label") in used_by(action))
    sources = (str(action.get("digitalSourceType", "")) for action in used)
    source = next((each for each in sources if each in AI_SOURCES), "")
    title, role = shown(ingredient.get("title", "")), ingredient.get("relationship", "")
    return Credentials("absent", title=title, relationship=role, source_type=source)
