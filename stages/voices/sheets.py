"""What is known of each voice over the network: its preset, or what `models.yaml` says under `voices`.

voices:
  kokoro: {base_url: http://gpu:8880/v1, voices: [af_heart]}   # one's own: free, if it says no price
  azure: {region: eu}                                          # what differs from its preset
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import presets
from stages.errors import InputError
from stages.stage import nearest

PLAIN = ("base_url", "key_variable", "trust_host", "region", "tier", "dialect")
"""What a line may say that a preset has no sourced value for. `dialect` is the protocol that its server speaks."""

VALUES = ("model", "voices", "languages", "price", "price_minute", "characters", "speed", "rpm")
"""What it may say that presets say, too."""

OWN: Mapping[str, Any] = {
    "voices": [".+"],
    "languages": [],
    "price": "0",
    "characters": None,
    "speed": [0.25, 4.0],
    "word_times": "none",
    "rpm": None,
}
"""What is taken of a server that nobody knows: any voice, any language, any length, for nothing."""


def voice_sheets(file: Path, said: object) -> dict[str, presets.Sheet]:
    """The voices that `file` tells of. Raises InputError, naming the line."""
    if not isinstance(said, dict):
        raise InputError(f"{file.name}: voices: should be lines such as 'kokoro: {{base_url: http://gpu:8880/v1}}'")
    return {str(name): _sheet(file, str(name), line) for name, line in said.items()}


def _sheet(file: Path, name: str, said: object) -> presets.Sheet:
    where = f"{file.name}: voices.{name}"
    if not isinstance(said, dict):
        raise InputError(f"{where}: should say base_url:, or what differs from its preset")
    for key in said:
        if key not in (*PLAIN, *VALUES):
            raise InputError(f"{where}.{key}: is not known{nearest(str(key), (*PLAIN, *VALUES))}")
    known = presets.names("voices")
    if "base_url" in said:
        served = {"provider": str(said.get("dialect", "openai-speech")), "key_variable": ""}
        base = presets.Sheet(name, file, served, _values({**OWN, "model": name}, file))
    elif name in known:
        base = presets.read("voices", name)
    else:
        raise InputError(f"{where}: is no voice{nearest(name, known)}; one on a server of your own says base_url:")
    values = {key: said[key] for key in VALUES if key in said}
    for key in ("voices", "languages"):
        if not isinstance(values.get(key, []), list):
            raise InputError(f"{where}.{key}: should be a list, not '{values[key]}'")
    for key in {"price", "price_minute"} & set(values):
        values[key] = _price(f"{where}.{key}", values[key])
    free = "base_url" in said and not any(Decimal(values.get(key, "0")) for key in ("price", "price_minute"))
    # What costs nothing may be asked for twice: a lost answer is then no case for a human.
    facts: dict[str, Any] = {**base.facts, **{key: said[key] for key in PLAIN if key in said}}
    facts |= {"idempotent": True} if free else {}
    return replace(base, facts=facts, values={**base.values, **_values(values, file)})


def _price(where: str, said: object) -> str:
    try:
        price = Decimal(str(said).removeprefix("$"))
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise InputError(f"{where}: should be an amount of US dollars such as $0.015, not '{said}'")
    return str(price)


def _values(said: Mapping[str, Any], file: Path) -> dict[str, presets.Value]:
    return {key: presets.Value(value, 1, str(file), "") for key, value in said.items()}
