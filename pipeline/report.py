"""One self-contained HTML page a run: what was delivered, from what, how, and how far it is proved."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import presets
from pipeline.pages import page
from pipeline.pedigree import STATES, Known, known_by, pedigree, story
from pipeline.recipe import Recipe
from pipeline.run import Result
from pipeline.show import counts
from pipeline.store import OWN_ROOT, Damaged, Store
from pipeline.tasks import Note, Placement
from stages.attesting import ROOTS
from stages.clip import Clip, origins, printed_seconds
from stages.contest import CONTEST
from stages.credentials import Credentials
from stages.delivery import Delivered
from stages.destinations import address_of
from stages.errors import WriteError
from stages.ffmpeg import WAVES
from stages.files import attempt
from stages.ingestion import SHEET, Ingested
from stages.listening import said_of
from stages.mixing import Measured, SoundReport
from stages.provenance import vouchers
from stages.references import CROP
from stages.trust import trust_lists


def write_report(recipe: Recipe, store: Store, result: Result) -> Path:
    """Write the page beside the first delivery, as `finish.report.html`, and return where; into the project's
    `reports/` where all are delivered to buckets. Raises WriteError, also where what it shows is lost."""
    here = [delivery.file.parent for delivery in recipe.deliveries if not address_of(delivery.file)]
    folder = here[0] if here else recipe.project / "reports" if recipe.deliveries else store.folder
    target = folder / f"{recipe.file.stem}.report.html"
    found = (result.world.notes.get(task.name) for task in result.final.tasks)
    # Frames that an engine made are large, and the page shows none of them.
    try:
        store.bring(note for note in found if note and not note.name.startswith("frames-"))
    except Damaged as damaged:  # another machine's: what it made is in the store no more, or not whole
        store.discard(damaged.note.name)
        raise WriteError(f"{damaged}: what was delivered is whole; run it again for the report") from None
    text = page(
        "report.html.j2",
        title=recipe.file.stem,
        recipe=_short(recipe.file, recipe),
        when=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        told=counts(result),
        warnings=[*dict.fromkeys(result.warnings), *result.final.remarks],
        films=[_film(recipe, store, result, placement) for placement in result.final.deliveries],
        originals=[_original(note) for note in _brought_in(result)],
        tasks=[_task(result, name) for name in (task.name for task in result.final.tasks)],
    )
    with attempt(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


def _film(recipe: Recipe, store: Store, result: Result, placement: Placement) -> dict[str, Any]:
    made, note = result.delivered(placement), result.world.notes[placement.task]
    film = next((n for n in _needed(result, placement.task) if n.name.startswith("film-")), None)
    sound = film and next((n for n in _needed(result, film.name) if n.name.startswith("sound-")), None)
    known = _known(result, placement, made.verdict.credentials)
    sheet = _data(film.folder / SHEET) if film else ""
    trusted = _trusted(recipe, store, result, placement)
    vouching = {label: trusted[anchor] for label, anchor in vouchers(note.file, tuple(trusted)).items()}
    return {
        "path": _short(placement.file, recipe),
        "preset": made.preset,
        "verdict": made.verdict.verdict,
        "sentence": made.verdict.sentence,
        "sheet": sheet,
        "measured": list(_measured(made, note, placement)),
        "sound": sound and _sound(sound.result),
        "waves": sound and _data(sound.folder / WAVES),
        "story": story(made.verdict.credentials, known),
        "tree": pedigree(made.verdict.credentials, known, Known(placement.file.name, sheet), vouching),
        "trusted": list(dict.fromkeys(trusted.values())),
        "cost": str(result.final.costs.get(placement.file, "")),
        "apart": placement.beside(apart).name if (apart := made.credentials_apart) else "",
    }


def _trusted(recipe: Recipe, store: Store, result: Result, placement: Placement) -> dict[Path, str]:
    """Whom this run trusts to vouch for signers, in words."""
    own = store.folder / "signer" / "test-root.pem"
    lists = (each for each in trust_lists() if each.default and not each.stamps)
    return {
        **{each.file: f"the trust list “{each.name}” of {each.issued}" for each in lists},
        **{anchor: f"{anchor.name}, which this recipe names" for anchor in recipe.anchors},
        **{n.folder / ROOTS: f"the root that came with {n.slot}, for its own films alone"
           for n in _needed(result, placement.task) if ROOTS in n.files},
        **({own: OWN_ROOT} if own.is_file() else {}),
    }  # fmt: skip


def _needed(result: Result, name: str) -> list[Note]:
    """The notes of what a task needs, as far as they are still there."""
    needs = next((task.needs for task in result.final.tasks if task.name == name), ())
    return [result.world.notes[need] for need in needs if need in result.world.notes]


def _measured(made: Delivered, note: Note, placement: Placement) -> Iterator[dict[str, str]]:
    """What was found on the file beside what the preset asks for."""
    sheet = presets.read("delivery", made.preset)
    frame = "frame" if "frame" in sheet.values else "max_frame"
    rows = [
        ("frame", str(made.size), str(sheet[frame]) if frame == "frame" else f"within {sheet[frame]}", frame),
        ("frames",
         "a picture" if made.frames == 1
         else f"{made.frames} at {float(made.rate):g} a second = {printed_seconds(made.duration)} s",
         f"{sheet['rate_min']}–{sheet['rate_max']} a second" if "rate_min" in sheet.values else "any", "rate_max"),
        ("size", f"{note.file.stat().st_size / 1e6:.2f} MB", _bytes(sheet.get("size_max")), "size_max"),
    ]  # fmt: skip
    if placement.cut.encoding.boxed:
        rows.append(("edit lists", "as asked, checked", str(sheet.get("edit_lists", "allow")), "edit_lists"))
    if made.loudness and "loudness" in sheet.values:
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
    return {"before": _loud(report.before), "after": f"{_loud(report.after)} ({how})", "remark": report.remark}


def _loud(measured: Measured) -> str:
    return f"{measured.loudness:g} LUFS, peak {measured.true_peak:g} dBTP, range {measured.range:g} LU"


def _known(result: Result, placement: Placement, credentials: Credentials) -> list[Known | None]:
    """What the run knows of each of a film's ingredients. Where the ledger that it was bought with is another
    one's now, the film is there and what it was made from is not: so each is looked for among those of its role."""
    files: dict[str, list[Path]] = {}
    for origin in origins(placement.cut.clip.history):
        files.setdefault(origin.relationship, []).append(origin.file)
    roles = {role: iter(named) for role, named in files.items()}
    found = [next(roles.get(one.relationship, iter(())), None) for one in credentials.ingredients]
    return [_known_file(result, file) if file else None for file in found]


def _known_file(result: Result, file: Path) -> Known:
    for note in _brought_in(result):
        if note.holds(file) or (isinstance(note.result, Ingested) and note.slot == f"ingest:{file.name}"):
            return known_by(note.result, note.slot, _data(note.folder / SHEET))
    return Known(file.name)


def _brought_in(result: Result) -> list[Note]:
    """What was read, bought and spoken, in the plan's order."""
    notes = [result.world.notes[task.name] for task in result.final.tasks if task.name in result.world.notes]
    # The film of what an engine enlarged has no history of its own: it brought nothing in.
    return [n for n in notes if isinstance(n.result, Ingested) or (isinstance(n.result, Clip) and n.result.history)]


def _original(note: Note) -> dict[str, Any]:
    return {
        "name": note.slot.partition(":")[2] or note.slot,
        "says": _ingest_says(note.result) if isinstance(note.result, Ingested) else _job_says(note.result),
        "crop": _data(note.folder / CROP),
        "sheet": _data(note.folder / SHEET),
        "waves": _data(note.folder / WAVES),
        "films": list(_compared(note)),
    }


def _compared(note: Note) -> Iterator[dict[str, Any]]:
    """The films that one was picked from, side by side, with what each cost and what it is like."""
    if CONTEST not in note.files:
        return
    for entry in json.loads((note.folder / CONTEST).read_text(encoding="utf-8")):
        judged = entry["judged"] or {}
        said = [f"{key.replace('_', ' ')} {value:.2f}" for key, value in judged.items() if isinstance(value, float)]
        price = f"${entry['price']}" if entry["price"] else "price not known"
        yield {
            "title": f"{entry['model']}: {entry['seconds']} s, {entry['size']}, {price}",
            "picked": entry["picked"],
            "says": entry["fault"] or " · ".join(said),
            "sheet": _data(note.folder / entry["sheet"]) if entry["sheet"] else "",
        }


def _ingest_says(found: Ingested) -> str:
    loud = _loud(found.loudness) if found.loudness else ""
    return " · ".join(filter(None, (STATES[found.credentials.state], loud, said_of(found.speech))))


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
    return address_of(file) or (
        str(file.relative_to(recipe.project)) if file.is_relative_to(recipe.project) else file.name
    )
