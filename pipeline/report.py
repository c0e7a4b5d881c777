"""One self-contained HTML page a run: what was delivered, from what, how, and how far it is proved."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import presets
from pipeline.recipe import Recipe
from pipeline.run import Result
from pipeline.show import counts
from pipeline.store import Store
from pipeline.tasks import Note, Placement
from stages.clip import Clip, printed_seconds
from stages.credentials import Credentials
from stages.delivery import Delivered
from stages.files import attempt
from stages.ingestion import SHEET, Ingested
from stages.mixing import WAVES, Measured, SoundReport

STATES = {
    "proved": "proved",
    "untrusted": "intact, but by a signer nobody here vouches for",
    "expired": "intact, but its certificate has expired",
    "tampered": "changed after it was signed",
    "absent": "carries no credentials",
}


WORDS = {
    "addedText": "captioned",
    "placed": "sound laid in",
    "dubbed": "spoken anew",
    "resized.proportional": "resized",
    "transcoded": "encoded",
    "repackaged": "packed anew",
}
"""C2PA's actions, for people who have never heard of them."""


def write_report(recipe: Recipe, store: Store, result: Result) -> Path:
    """Write the page beside the first delivery, as `finish.report.html`, and return where."""
    import jinja2  # noqa: PLC0415 -- heavy

    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("report.html.j2")
    folder = recipe.deliveries[0].file.parent if recipe.deliveries else store.folder
    target = folder / f"{recipe.file.stem}.report.html"
    text = page.render(
        title=recipe.file.stem,
        recipe=_short(recipe.file, recipe),
        when=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        told=counts(result),
        warnings=[*dict.fromkeys(result.warnings), *result.final.remarks],
        films=[_film(recipe, result, placement) for placement in result.final.deliveries],
        originals=[_original(note) for note in _brought_in(result)],
        tasks=[_task(result, name) for name in (task.name for task in result.final.tasks)],
        words=STATES,
    )
    with attempt(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def _film(recipe: Recipe, result: Result, placement: Placement) -> dict[str, Any]:
    made, note = result.delivered(placement), result.world.notes[placement.task]
    film = next((n for n in _needed(result, placement.task) if n.name.startswith("film-")), None)
    sound = film and next((n for n in _needed(result, film.name) if n.name.startswith("sound-")), None)
    return {
        "path": _short(placement.file, recipe),
        "preset": made.preset,
        "verdict": made.verdict.verdict,
        "sentence": made.verdict.sentence,
        "sheet": _data(film.folder / SHEET) if film else "",
        "measured": list(_measured(made, note)),
        "sound": sound and _sound(sound.result),
        "waves": sound and _data(sound.folder / WAVES),
        "tree": _tree(made.verdict.credentials),
    }


def _needed(result: Result, name: str) -> list[Note]:
    """The notes of what a task needs, as far as they are still there."""
    needs = next((task.needs for task in result.final.tasks if task.name == name), ())
    return [result.world.notes[need] for need in needs if need in result.world.notes]


def _measured(made: Delivered, note: Note) -> Iterator[dict[str, str]]:
    """What was found on the file beside what the preset asks for."""
    sheet = presets.read("delivery", made.preset)
    frame = "frame" if "frame" in sheet.values else "max_frame"
    rows = [
        ("frame", str(made.size), str(sheet[frame]) if frame == "frame" else f"within {sheet[frame]}", frame),
        ("frames", f"{made.frames} at {float(made.rate):g} a second = {printed_seconds(made.duration)} s",
         f"{sheet['rate_min']}–{sheet['rate_max']} a second", "rate_max"),
        ("size", f"{note.file.stat().st_size / 1e6:.2f} MB", _bytes(sheet.get("size_max")), "size_max"),
        ("edit lists", "as asked, checked", str(sheet["edit_lists"]), "edit_lists"),
    ]  # fmt: skip
    if made.loudness:
        rows.append(("loudness", f"{made.loudness.loudness:g} LUFS", f"{sheet['loudness']} LUFS", "loudness"))
        rows.append(
            ("true peak", f"{made.loudness.true_peak:g} dBTP", f"at most {sheet['true_peak']} dBTP", "true_peak")
        )
    for what, found, wanted, key in rows:
        yield {
            "what": what,
            "found": found,
            "wanted": wanted,
            "by": sheet.place(key) if key in sheet.values else "",
        }


def _bytes(limit: int | None) -> str:
    return f"at most {limit / 1e6:.0f} MB" if limit else "any"


def _sound(report: SoundReport) -> dict[str, str]:
    how = f"{report.gain:+.1f} dB" + (", limited" if report.limited else "")
    return {"before": _loud(report.before), "after": f"{_loud(report.after)} ({how})"}


def _loud(measured: Measured) -> str:
    return f"{measured.loudness:g} LUFS, peak {measured.true_peak:g} dBTP, range {measured.range:g} LU"


def _tree(node: Credentials) -> dict[str, Any]:
    return {
        "title": node.title,
        "generator": node.generator,
        "signer": node.signer,
        "state": node.state,
        "actions": [{"says": _says(action)} for action in node.actions],
        "ingredients": [_tree(inner) for inner in node.ingredients],
    }


def _says(action: tuple[str, str, str]) -> str:
    """`trimmed`, `created by AI (Sora)`."""
    name, agent, source_type = action
    name = name.removeprefix("c2pa.")
    said = WORDS.get(name, name.replace(".", " "))
    if source_type.endswith("trainedAlgorithmicMedia"):
        # The mark tells what the result is made of, not who did the edit: a trim of an AI film is no AI's work.
        said = {"created": "created by AI", "placed": "AI-made sound laid in"}.get(name, said)
    return f"{said} ({agent})" if agent and agent != "Afterframe" else said


def _brought_in(result: Result) -> list[Note]:
    """What was read, bought and spoken, in the plan's order."""
    notes = [result.world.notes[task.name] for task in result.final.tasks if task.name in result.world.notes]
    return [note for note in notes if isinstance(note.result, Ingested | Clip)]


def _original(note: Note) -> dict[str, Any]:
    return {
        "name": note.slot.partition(":")[2] or note.slot,
        "says": _ingest_says(note.result) if isinstance(note.result, Ingested) else _job_says(note.result),
        "sheet": _data(note.folder / SHEET),
        "waves": _data(note.folder / WAVES),
    }


def _ingest_says(found: Ingested) -> str:
    return STATES[found.credentials.state] + (f" · {_loud(found.loudness)}" if found.loudness else "")


def _job_says(made: Clip) -> str:
    """`by SIMULATED sim · prompt: slow dolly · seconds: 8`."""
    action = made.history[-1]
    return " · ".join([f"by {action.agent}", *(f"{key}: {text}" for key, text in action.parameters)])


def _task(result: Result, name: str) -> dict[str, Any]:
    then = next((task for task in result.first.tasks if task.name == name), result.final[name])
    seconds = result.world.notes[name].seconds if name in result.world.notes else 0.0
    done = {"cached": "used again", "encode": "encoded", "copy": "copied", "pay": "bought", "make": "made"}
    return {
        "title": then.title,
        "steps": " > ".join(then.steps),
        "action": done[then.action],
        "reason": then.reason,
        "seconds": f"{seconds:.1f}",
    }


def _data(file: Path) -> str:
    """The picture as a data URI; nothing where there is none."""
    if not file.exists():
        return ""
    kind = "png" if file.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _short(file: Path, recipe: Recipe) -> str:
    return str(file.relative_to(recipe.project)) if file.is_relative_to(recipe.project) else file.name
