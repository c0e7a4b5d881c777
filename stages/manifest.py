"""A clip's history in C2PA's words: the claim that is signed into a delivery. Pure."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from stages.clip import Action, History
from stages.errors import InputError

GENERATOR = "Afterframe"
RECORD = "org.afterframe.origin"
"""The key of what we read of an ingredient at first, and of a created file's word that it had none."""
UNKNOWN_ORIGIN = "none"

_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MODEL_MADE = _SOURCE + "trainedAlgorithmicMedia"
PARTLY_MODEL_MADE = _SOURCE + "compositeWithTrainedAlgorithmicMedia"
COMPUTED = _SOURCE + "algorithmicMedia"
EDITED_BY_PEOPLE = _SOURCE + "humanEdits"
AI_SOURCES = frozenset({MODEL_MADE, PARTLY_MODEL_MADE, _SOURCE + "compositeSynthetic"})
CAPTURE_SOURCES = frozenset(
    _SOURCE + name
    for name in (
        "digitalCapture",
        "computationalCapture",
        "negativeFilm",
        "positiveFilm",
        "print",
        "screenCapture",
    )
)

PRIVATE = frozenset({"prompt", "filters"})
"""Parameters that are nobody's business but the author's; filters of ffmpeg's own may name files of the machine."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "trim": ("c2pa.trimmed",),
    "concat": ("c2pa.placed",),
    "end_card": ("c2pa.placed",),
    "overlay": ("c2pa.placed",),
    "mix_audio": ("c2pa.placed",),
    "music": ("c2pa.placed",),
    "speed": ("c2pa.changedSpeed",),
    "replace_audio": ("c2pa.dubbed",),
    "caption": ("c2pa.addedText",),
    "label": ("c2pa.addedText",),
    "upscale": ("c2pa.resized.proportional",),
}
"""C2PA's name of each edit; another one is `c2pa.edited`."""

DESCRIPTIONS: Mapping[str, str] = {
    "trim": "Cut in time",
    "concat": "Joined to another film",
    "mix_audio": "A sound laid over its own",
    "replace_audio": "Its sound replaced",
    "caption": "Captions written into the picture",
    "fit": "Brought into another frame",
    "upscale": "Enlarged",
    "speed": "Made faster or slower",
    "level": "Sound levelled",
    "label": "Labelled as made by a model",
    "end_card": "A still image shown at the end",
    "overlay": "An image laid over the picture",
    "strip_audio": "Sound removed",
    "loop": "Repeated",
    "reverse": "Played backwards",
    "ffmpeg": "Filters of ffmpeg's own",
    "interpolate": "Frames added between the frames there are",
    "music": "Music laid under its sound",
    "tonemap": "High dynamic range made into standard",
    "speak": "Spoken lines put together",
}

NEEDS_NO_SOURCE = frozenset({"c2pa.placed", "c2pa.resized.proportional", "c2pa.enhanced", "c2pa.edited.metadata"})
"""Actions to which the asset rubrics attach no digital source type."""


def manifest_of(
    history: History,
    ids: Mapping[Path, str],
    ai: frozenset[Path],
    *,
    title: str,
    transcoded: bool,
    generator: str = GENERATOR,
) -> dict[str, Any]:
    """The manifest, without its ingredients, of a file with this history.

    `ids` are the ingredients' ids by origin file, the parent's among them if
    there is one; `ai` the origins that a trained model made. `transcoded` says
    that picture or sound was encoded anew. Raises InputError for an empty history.
    """
    actions = list(_actions(history, ids, ai))
    if len(history) > 1 or ids:  # what was only just created was not written anew
        actions.append(_written(transcoded))
    return {
        "claim_generator_info": [{"name": generator, "version": version(), "specVersion": "2.4"}],
        "title": title,
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "created": True,
                "data": {"allActionsIncluded": True, "actions": actions},
            }
        ],
    }


def action_names(history: History, ids: Mapping[Path, str], ai: frozenset[Path]) -> tuple[str, ...]:
    """The C2PA names of the actions that a delivery with this history lists, the last one apart."""
    return tuple(action["action"] for action in _actions(history, ids, ai))


def version() -> str:
    """Afterframe's own version; `0` where it runs uninstalled."""
    try:
        return importlib.metadata.version("afterframe")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _actions(history: History, ids: Mapping[Path, str], ai: frozenset[Path]) -> Iterator[dict[str, Any]]:
    if not history:
        raise InputError("nothing is known of how the file was made: its history is empty")
    first, *others = history
    from_model = first.file in ai if first.file else first.ai
    if first.file is not None:
        yield {"action": "c2pa.opened", "parameters": {"ingredientIds": [ids[first.file]]}}
    else:
        source = MODEL_MADE if first.ai else COMPUTED
        parameters = {RECORD: UNKNOWN_ORIGIN, **_parameters(first)}
        yield _action("c2pa.created", first, parameters) | {"digitalSourceType": source}
    for action in others:
        for inner in action.inputs:
            yield from _edits_of_component(inner, ids, ai)
        yield from _edit(action, ids, ai, from_model)


def _edits_of_component(history: History, ids: Mapping[Path, str], ai: frozenset[Path]) -> Iterator[dict[str, Any]]:
    """What was done to a component before it was laid in."""
    if not history:
        return
    first, *others = history
    for action in others:
        for inner in action.inputs:
            yield from _edits_of_component(inner, ids, ai)
        from_model = first.file in ai if first.file else first.ai
        yield from _edit(action, ids, ai, from_model, of=first.file)


def _edit(
    action: Action, ids: Mapping[Path, str], ai: frozenset[Path], from_model: bool, of: Path | None = None
) -> Iterator[dict[str, Any]]:
    """One edit, as one C2PA action or two; `of` is the component that it was done to, if it was one."""
    laid_in = [inner[0] for inner in action.inputs if inner]
    placed = [ids[one.file] for one in laid_in if one.file is not None and ids[one.file] != "parent"]
    used = placed or ([ids[of]] if of is not None and ids[of] != "parent" else [])
    models = [one.file in ai if one.file else one.ai for one in laid_in]
    for name in _names(action):
        if name == "c2pa.placed" and not placed:
            name = "c2pa.edited"  # a placed action must name a component: this is the clip itself, or made here
        parameters = _parameters(action) | ({"ingredientIds": used} if used else {})
        source = _source_type(name, action, models, from_model)
        yield _action(name, action, parameters) | ({"digitalSourceType": source} if source else {})


def _names(action: Action) -> tuple[str, ...]:
    given = dict(action.parameters)
    if action.name == "fit":
        resized = ("c2pa.resized",) if given.get("mode") == "stretch" else ("c2pa.resized.proportional",)
        return resized if given.get("mode", "cover") != "cover" else ("c2pa.cropped", *resized)
    if action.name == "caption" and given.get("burn") == "False":
        return ()  # a caption file beside the film changes nothing in it
    if action.name == "overlay" and given.get("text"):
        return ("c2pa.addedText",)
    if action.name == "upscale" and action.ai:
        return ("c2pa.enhanced", "c2pa.resized.proportional")
    return NAMES.get(action.name, ("c2pa.edited",))


def _source_type(name: str, action: Action, models: list[bool], from_model: bool) -> str:
    """The digital source type that an action needs, or nothing."""
    if action.ai:
        return PARTLY_MODEL_MADE if name != "c2pa.resized.proportional" else ""
    if any(models):
        return MODEL_MADE if all(models) else PARTLY_MODEL_MADE
    if name in NEEDS_NO_SOURCE:
        return ""
    if from_model:
        return PARTLY_MODEL_MADE if models or name == "c2pa.addedText" else MODEL_MADE
    return EDITED_BY_PEOPLE


def _action(name: str, action: Action, parameters: Mapping[str, object]) -> dict[str, Any]:
    described = {"description": DESCRIPTIONS[action.name]} if action.name in DESCRIPTIONS else {}
    if name == "c2pa.addedText" and action.name == "overlay":
        described = {"description": "A text laid over the picture"}
    if action.name == "upscale" and action.ai:
        described = {"description": "Enlarged by a trained model"}
    if action.name == "interpolate" and action.ai:
        described = {"description": "Frames drawn by a trained model between the frames there are"}
    return {
        "action": name,
        "softwareAgent": _agent(action.agent),
        "parameters": dict(parameters),
        **described,
    }


def _agent(name: str) -> dict[str, str]:
    return {"name": name} if name else {"name": GENERATOR, "version": version()}


def _parameters(action: Action) -> dict[str, object]:
    """The edit's own parameters under our name; of a file only its name: folders say who works where."""
    given = {
        key: PurePath(value).name if key == "file" or PurePath(value).is_absolute() else value
        for key, value in action.parameters
        if key not in PRIVATE
    }
    return {f"org.afterframe.{action.name}": given}


def _written(transcoded: bool) -> dict[str, Any]:
    return {"action": "c2pa.transcoded" if transcoded else "c2pa.repackaged", "softwareAgent": _agent("")}
