"""A batch's report: a page with a contact sheet of every clip, what it cost, how far it is proved, what went wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.board import Standing, line
from pipeline.pages import page
from pipeline.roster import Render
from stages.clip import printed_seconds
from stages.files import attempt, copy_whole
from stages.money import dollars

Sheet = Callable[[str], Path | None]
"""Where the contact sheet of a film is, by the film's task."""


def write_batch_report(standing: Standing, sheet: Sheet, folder: Path) -> Path:
    """Write `index.html` into `folder`, with the sheets beside it, and return where."""
    shutil.rmtree(folder, ignore_errors=True)
    cards = [_card(standing, render, sheet, folder) for render in standing.batch.renders]
    target = folder / "index.html"
    text = page(
        "batch.html.j2",
        title=standing.batch.id,
        told=line(standing).removeprefix(standing.batch.id).strip().replace("  ", " · "),
        recipe=standing.batch.recipe,
        source=standing.batch.source,
        when=datetime.fromtimestamp(standing.batch.submitted).astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        totals=_totals(standing),
        wrong=[card for card in cards if card["errors"]],
        made=[card for card in cards if card["files"]],
        open=[card for card in cards if not card["errors"] and not card["files"]],
    )
    with attempt(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def _totals(standing: Standing) -> list[tuple[str, str]]:
    files = [file for state in standing.states.values() for file in state.result.get("files", ())]
    verdicts: dict[str, int] = {}
    for file in files:
        verdicts[file["provenance"]] = verdicts.get(file["provenance"], 0) + 1
    found = [
        ("files", f"{len(files)}, {sum(file['bytes'] for file in files) / 1e6:.1f} MB"),
        ("provenance", ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"),
        ("time", f"{standing.seconds():.0f} s by the clock"),
    ]
    if any(render.buys for render in standing.batch.good):
        simulated = not any(render.real for render in standing.batch.good)
        found.append(("spent", f"{dollars(standing.paid)}{' (SIMULATED: nothing is paid)' if simulated else ''}"))
    return found


def _card(standing: Standing, render: Render, sheet_of: Sheet, folder: Path) -> dict[str, Any]:
    state = standing.of(render)
    errors = [render.fault] if render.fault else [error["says"] for error in state.result.get("errors", ())]
    paid = state.result.get("paid", "0.00")
    return {
        "title": f"row {render.line}",
        "state": "bad row" if render.fault else state.word,
        "given": ", ".join(f"{name}: {value}" for name, value in {**render.given, **render.other}.items()),
        "files": [_file(file, sheet_of, folder) for file in state.result.get("files", [])],
        "paid": "" if Decimal(paid) == 0 else f"${paid}{' SIMULATED' if state.result.get('simulated') else ''}",
        "errors": errors,
        "warnings": state.result.get("warnings", []),
    }


def _file(file: Mapping[str, Any], sheet_of: Sheet, folder: Path) -> dict[str, str]:
    """What is told of one file. Its link leads from the page to the film, where that is a file on this machine."""
    path, name = file["path"], file["film"]
    loudness = f", {file['loudness']:g} LUFS" if file["loudness"] is not None else ""
    seconds = printed_seconds(Fraction(file["duration"]))
    told = {
        "path": path,
        "link": "" if "://" in path else Path(path).as_uri() if Path(path).is_absolute() else f"../../{quote(path)}",
        "verdict": file["provenance"],
        "says": f"{file['size']}, {seconds} s{loudness}, {file['bytes'] / 1e6:.1f} MB",
        "sheet": "",
    }
    if name and (sheet := sheet_of(name)):
        told["sheet"] = f"sheets/{name}{sheet.suffix}"
        copy_whole(sheet, folder / told["sheet"])
    return told
