"""Where a film comes from, in words and pictures for a reader who has never heard of C2PA: the report's tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stages.clip import Clip
from stages.credentials import Credentials
from stages.manifest import AI_SOURCES, CAPTURE_SOURCES

MARKS = {"proved": "✓", "untrusted": "?", "expired": "?", "tampered": "✗", "absent": "–"}
"""One sign for each state, so that a glance down the tree is enough."""

STATES = {
    "proved": "proved",
    "untrusted": "intact, but by a signer nobody here vouches for",
    "expired": "intact, but its certificate has expired",
    "tampered": "changed after it was signed",
    "absent": "carries no credentials",
}

RESTS = {
    "untrusted": "intact, but nobody here vouches for all who signed what it was made from: see ? below",
    "expired": "intact, but a certificate behind what it was made from has expired: see ? below",
    "tampered": "it, or something that it was made from, was changed after it was signed: see ✗ below",
}
"""The same of a file that is no better than what it was made from."""

ROLES = {
    "": "this file",
    "parentOf": "what it was made from",
    "componentOf": "laid into it",
    "inputTo": "shown to the model",
}

WORDS = {
    "opened": "begun with what it was made from",
    "addedText": "text put into the picture",
    "changedSpeed": "made faster or slower",
    "converted": "turned into another format",
    "created": "made",
    "cropped": "cropped",
    "dubbed": "spoken anew",
    "edited": "edited",
    "enhanced": "improved",
    "placed": "something laid in",
    "published": "published",
    "repackaged": "packed into this file as it was",
    "resized": "resized",
    "resized.proportional": "resized",
    "transcoded": "written as this file",
    "trimmed": "cut in time",
}
"""C2PA's actions in plain words; one that is not here is told by its own name."""


UNTOLD = (WORDS["opened"], WORDS["transcoded"], WORDS["repackaged"], "made", "made by AI")
"""What goes without saying where it was said who made a film of what."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the run knows of a file that went in: what to call it, a strip of its frames as a data URI, and who made
    it, if a step did."""

    name: str
    sheet: str = ""
    by: str = ""


def pedigree(
    credentials: Credentials,
    known: Sequence[Known | None],
    own: Known,
    vouching: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The tree of a delivered film; `known` are the files it was made from, in the order of its ingredients
    as far as anything is known of them, and
    `vouching` says by the label of a manifest who vouches for its signer."""
    return _node(credentials, own, vouching, known)


def _node(
    node: Credentials, named: Known | None, vouching: Mapping[str, str], known: Sequence[Known | None] = ()
) -> dict[str, Any]:
    by = f"by {node.signer}" if node.signer else ""
    inner: list[Known | None] = [*known, *([None] * (len(node.ingredients) - len(known)))]
    return {
        "name": named.name if named else node.title or "a file",
        "title": node.title if named and node.title not in (named.name, "") else "",
        "sheet": named.sheet if named else "",
        "role": ROLES.get(node.relationship, node.relationship),
        "state": node.state,
        "mark": MARKS[node.state],
        "says": says(node, vouched=node.label in vouching),
        "vouched": _vouched(node, vouching),
        "made": f"{_made(node, named)}.",
        "signed": f"Signed {by}{f' ({node.issuer})' if node.issuer and node.issuer != node.signer else ''}"
        f"{f' on {node.signed_at[:10]}' if node.signed_at else ''}." if by else "Not signed.",
        "done": list(done(node)),
        "ingredients": [_node(one, name, vouching) for one, name in zip(node.ingredients, inner, strict=False)],
    }  # fmt: skip


def says(node: Credentials, *, vouched: bool) -> str:
    """The state in words; of one that is itself `vouched` for, what it was made from is the reason."""
    rests = any(one.state == node.state for one in _behind(node))
    return RESTS[node.state] if rests and vouched and node.state in RESTS else STATES[node.state]


def _behind(node: Credentials) -> Iterator[Credentials]:
    for one in node.ingredients:
        yield one
        yield from _behind(one)


def _vouched(node: Credentials, vouching: Mapping[str, str]) -> str:
    """Who vouches for the signer, and what it means that nobody does."""
    if who := vouching.get(node.label, ""):
        return f"Vouched for by {who}."
    if node.state != "untrusted" or not node.signer:
        return ""
    return (
        f"An unknown signer: none of those whom this project trusts has checked who {node.signer} is,"
        " and anybody can sign under any name. The record was not changed since; whether it is true,"
        " nobody here can say."
    )


def _made(node: Credentials, named: Known | None) -> str:
    """Who made it, by its own record, or else by ours of the run."""
    if node.generator:
        return f"Made {maker(node)}"
    if named and named.by:
        return f"Made by {named.by}, by this recipe's record"
    if node.source_type in AI_SOURCES:
        return "Made by AI, says the record of the file it went into"
    return "Nobody says who made it"


def maker(node: Credentials) -> str:
    """`by AI: Sora`, `with a camera: Nikon`, `with Premiere`."""
    if node.source_type in AI_SOURCES:
        return f"by AI: {node.generator}"
    if node.source_type in CAPTURE_SOURCES:
        return f"with a camera: {node.generator}"
    return f"with {node.generator}"


def done(node: Credentials) -> Iterator[str]:
    """Each action in plain words, with who did it if that is not who signed the file."""
    told: Mapping[int, str] = dict(enumerate(node.told))
    for number, (name, agent, source) in enumerate(node.actions):
        name = name.removeprefix("c2pa.")
        said = told.get(number) or WORDS.get(name, name.replace(".", " "))
        said = said[:1].lower() + said[1:]
        if source in AI_SOURCES and name in ("created", "placed", "dubbed", "enhanced"):
            # Elsewhere the mark tells what the result is made of, not who did the edit: a trim is no AI's work.
            said += " by AI" if name in ("created", "enhanced") else " (made by AI)"
        yield f"{said}, by {agent}" if agent and agent not in ("Afterframe", node.generator) else said


def story(credentials: Credentials, known: Sequence[Known | None]) -> list[str]:
    """Who made the film and what was done to it, in two or three sentences."""
    names = {id(one): two for one, two in zip(credentials.ingredients, known, strict=False)}

    def told(one: Credentials) -> str:
        named = names.get(id(one))
        made = _made(one, named)
        signed = f"signed by {one.signer or 'nobody named'}" if one.state != "absent" else "not signed"
        return f"{named.name if named else one.title or 'a file'} ({made[:1].lower()}{made[1:]}; {signed})"

    parent = credentials.parent
    lines = [
        f"The film was made from {told(parent)}."
        if parent
        else f"The film was made {maker(credentials)}, from nothing else."
    ]
    for role, words in (("componentOf", "Laid into it: "), ("inputTo", "Shown to the model that made it: ")):
        inner = [told(one) for one in credentials.ingredients if one.relationship == role]
        lines += [words + ", ".join(inner) + "."] if inner else []
    edits = [said for said in dict.fromkeys(done(credentials)) if said not in UNTOLD]
    lines.append(
        f"Then {credentials.generator} did this: {', '.join(edits)}." if edits else "Nothing else was done to it."
    )
    if credentials.ai or any(one.source_type in AI_SOURCES for one in credentials.ingredients):
        lines.append("So what you see or hear is, at least in part, made by AI.")
    return lines


def known_by(result: object, slot: str, sheet: str) -> Known:
    """What a reader calls what a task brought in: a file by its name, what a step made by the step's."""
    name = slot.partition(":")[2] or slot
    if not isinstance(result, Clip):
        return Known(name, sheet)
    last = result.history[-1] if result.history else None
    by = f"AI: {last.agent}" if last and last.ai and last.agent else last.agent if last else ""
    return Known(f"{name}, a step of this recipe", sheet, by)
