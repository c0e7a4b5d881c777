"""Several films of one wish: the best is kept, the others stay where they were paid for, and the report shows all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from stages.buying import Got
from stages.errors import InputError
from stages.ffmpeg import contact_sheet
from stages.files import attempt
from stages.judging import Judged, best, judge
from stages.media import probe

Pick = Literal["auto", "sharpest", "closest", "first"]

CONTEST = "contest.json"
"""What was compared, in the task's folder: a list of Entry, the films' pictures beside it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One film of several: who made it, for how many US dollars, what it is like, and whether it was picked.

    `sheet` is a picture of it, beside the list; `fault` says why there is no film.
    """

    model: str
    seconds: int
    size: str
    price: str
    picked: bool = False
    judged: Judged | None = None
    sheet: str = ""
    fault: str = ""


def hold(got: Sequence[Got], pick: Pick, reference: Path | None, folder: Path) -> tuple[Got, tuple[str, ...]]:
    """The best of the films that came, and what to say of the others. One alone is best.

    `auto` leaves out what is black or frozen, then takes what is closest to
    the reference where there is one, else the sharpest.
    """
    there = [each for each in got if each.original]
    if len(got) == 1:
        return there[0], ()
    films = [each.original for each in there if each.original]
    judged = [judge(film, reference) for film in films]
    chosen = there[_picked(judged, pick)]
    remarks = tuple(f"{each.order.name}: {each.error}" for each in got if each.error)
    _note(got, dict(zip(films, judged, strict=True)), chosen, folder)
    return chosen, remarks


def _picked(judged: Sequence[Judged], pick: Pick) -> int:
    if pick == "sharpest":
        return max(range(len(judged)), key=lambda number: judged[number].sharpness)
    if pick == "closest":
        return max(range(len(judged)), key=lambda number: judged[number].likeness or 0.0)
    return 0 if pick == "first" else best(judged)


def _note(got: Sequence[Got], judged: dict[Path, Judged], chosen: Got, folder: Path) -> None:
    entries: list[Entry] = []
    for number, each in enumerate(got, start=1):
        route, film = each.order.route, each.original
        entries.append(
            Entry(
                model=each.order.name,
                seconds=route.seconds,
                size=str(route.size),
                price="" if route.price is None else str(route.price),
                picked=each is chosen,
                judged=judged[film] if film else None,
                sheet=_drawn(film, folder / f"film-{number}.jpg") if film else "",
                fault=str(each.error or ""),
            )
        )
    with attempt(folder / CONTEST) as part:
        part.write_text(json.dumps([asdict(entry) for entry in entries], indent=1), encoding="utf-8")


def _drawn(film: Path, target: Path) -> str:
    """Six frames of the film, in a picture of that name; empty where it is no film, which is told elsewhere."""
    try:
        picture, _ = probe(film)
    except InputError:
        return ""
    contact_sheet(film, picture, target)
    return target.name
