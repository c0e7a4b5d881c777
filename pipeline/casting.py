"""The voices that recipes can name, as `pipeline voices` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import presets
from pipeline.show import state_of
from stages import plugins
from stages.errors import InputError
from stages.hiring import sellers
from stages.market import Market
from stages.voices import SpeechRequest, Voice

SHOWN = 6
"""How many languages, and voices, are named; more are counted."""


def voices_text(shop: Market) -> str:
    """One line a voice, or a seller of them: its voices, languages, price, and whether it can be had now."""
    rows = [*_installed(), *(_sold(sheet, shop) for sheet in sellers(shop).values())]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + "  " + row[4] for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


Row = tuple[str, str, str, str, str]


def _installed() -> Iterator[Row]:
    for name in plugins.names("pipeline.voices"):
        voice: Voice = plugins.find("pipeline.voices", name)
        try:
            voice.check(SpeechRequest("one", voice.name, next(iter(voice.languages), "en")))
            state = f"ready ({voice.version})"
        except InputError as error:
            state = str(error).removeprefix(f"voice {name} ")
        yield name, "", _some(voice.languages), "$0", state


def _sold(sheet: presets.Sheet, shop: Market) -> Row:
    return f"{sheet.name}:", _some(sheet["voices"]), _some(sheet["languages"]), _price(sheet), state_of(sheet, shop)


def _some(names: list[str] | tuple[str, ...]) -> str:
    """Those that there is room for; what is a pattern, as `[a-z]{2}-.+`, tells nobody anything."""
    plain = [str(name) for name in names if not set(str(name)) & set("[(.+*\\\\")]
    if not plain:
        return "any"
    rest = f" and {len(plain) - SHOWN} more" if len(plain) > SHOWN else ""
    return ", ".join(plain[:SHOWN]) + rest


def _price(sheet: presets.Sheet) -> str:
    """What 1000 characters cost; of what is sold by the minute, a minute."""
    if minute := sheet.get("price_minute"):
        return f"${Decimal(minute).normalize():f}/min"
    prices = {Decimal(value.value) for name, value in sheet.values.items() if name.partition(".")[0] == "price"}
    ends = dict.fromkeys((min(prices), max(prices)))
    whole = "–".join(f"${price.normalize():f}" for price in ends)
    return f"{whole}/1000 characters" if any(prices) else whole
