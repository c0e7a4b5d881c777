"""Finding stages, providers, voices, engines and interpolators by name, through entry points.

Built-ins register in `pyproject.toml` like anyone else's: one file, one entry
point, in any distribution.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from stages.errors import InputError
from stages.stage import nearest

Group = Literal[
    "pipeline.stages", "pipeline.providers", "pipeline.voices", "pipeline.engines", "pipeline.interpolators"
]


def find(group: Group, name: str) -> Any:
    """What is registered as `name`, loaded. Raises InputError with the nearest name if there is nothing."""
    known = _registered(group)
    if name not in known:
        kind = group.removeprefix("pipeline.").removesuffix("s")
        raise InputError(f"there is no {kind} '{name}'{nearest(name, known)}")
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{group} '{name}' ({known[name].value}) cannot be loaded: {error}") from error


def names(group: Group) -> tuple[str, ...]:
    """What is registered in the group, by name."""
    return tuple(sorted(_registered(group)))


@cache
def _registered(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
