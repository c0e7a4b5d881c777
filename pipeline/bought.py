"""`upscale: {engine: runway, size: 4k}`: an engine that is a provider is a purchase, the stage `enlarge`."""

from __future__ import annotations

from functools import cache

import yaml
from yaml import Node

import presets
from stages import plugins
from stages.errors import InputError
from stages.refilming import does
from stages.stage import Stage, stage_of

RENAMED = {"clip": "of", "engine": "model", "size": "size", "take": "take"}
"""What is written for `upscale`, by the parameter of `enlarge` that it is; there it may have a take, too."""


def as_purchase(stage: Stage, body: Node) -> tuple[Stage, Node]:
    """A step as it is carried out: `upscale` by a provider, or by a model that is sold, as `enlarge`; any other as it
    is. Raises InputError for a provider that enlarges nothing, and for what is not sold, such as `sharpen`."""
    if stage.name != "upscale" or not isinstance(body, yaml.MappingNode):
        return stage, body
    engine = next((value.value for key, value in body.value if key.value == "engine"), "")
    sold = models_of(str(engine)) if engine else None  # most name none, and need no reading of all that is sold
    if sold is None:
        return stage, body
    pairs = []
    for key, value in body.value:
        if key.value not in RENAMED:
            also = f": add `- upscale: {{{key.value}: …}}` after it" if key.value == "sharpen" else ""
            raise InputError(f"{key.value}: is nothing that {engine} sells{also}")
        here = key.start_mark, key.end_mark
        if key.value == "engine":
            names = [yaml.ScalarNode("", name, value.start_mark, value.end_mark) for name in sold]
            value = yaml.SequenceNode("", names, value.start_mark, value.end_mark)
        pairs.append((yaml.ScalarNode("", RENAMED[key.value], *here), value))
    whole = yaml.MappingNode("", pairs, body.start_mark, body.end_mark)
    return stage_of(plugins.find("pipeline.stages", "enlarge")), whole


@cache
def models_of(engine: str) -> tuple[str, ...] | None:
    """The models that enlarge films and are sold by the provider `engine`, or called so; None if it is neither.

    Raises InputError for a provider or model that films, and enlarges nothing.
    """
    sheets = [presets.read("models", name) for name in presets.names("models")]
    meant = [sheet for sheet in sheets if engine in (sheet.name, sheet.facts["provider"])]
    sold = tuple(sheet.name for sheet in meant if does("upscale", sheet))
    if meant and not sold:
        others = ", ".join(sheet.name for sheet in sheets if does("upscale", sheet))
        raise InputError(f"engine: {engine} enlarges no films; such are: {others}")
    return sold or None
