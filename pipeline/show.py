"""What people and scripts are told: plans, progress and summaries, as text and as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_UP, Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import presets
from pipeline.recipe import Recipe
from pipeline.run import Event, Result
from pipeline.tasks import Placement, Plan, Task
from stages.clip import origins, printed_seconds
from stages.delivery import Delivered

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

AUDIBLE = 0.3
"""LU off the target that are worth a word; EBU R 128 allows 0.5."""

ACTIONS = ("pay", "encode", "copy", "make", "cached")

VERBS = {
    "ingest": "reading",
    "sound": "mixing",
    "film": "encoding",
    "delivery": "signing",
    "generate": "filming",
    "speak": "speaking",
    "prepare": "preparing",
}
"""What a task of each kind is doing; the kind is the first word of its name."""


# ---------------------------------------------------------------- plans


def plan_text(plan: Plan) -> str:
    """One line a task: what would happen, to what, and why."""
    rows = [(("~" if task.promised else " ") + _priced(task), task.title, task.reason) for task in plan.tasks]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + "  " + row[2] for row in rows
    ]
    counts = {word: sum(task.action == word for task in plan.tasks) for word in ACTIONS}
    told = ", ".join(
        f"{count} to {word}" if word != "cached" else f"{count} cached" for word, count in counts.items() if count
    )
    told = f"{told or 'nothing to do'}; {_paid(plan.tasks, 'to pay')}"
    over = [f"OVER BUDGET: {plan.over}"] if plan.over else []
    return "\n".join([*(line.rstrip() for line in lines), *plan.remarks, "", told, *over])


def _priced(task: Task) -> str:
    return f"pay {_money(task.price)}" if task.price else task.action


def _money(price: Decimal) -> str:
    return f"${price.quantize(Decimal('0.01'), ROUND_UP)}"


def _paid(tasks: Sequence[Task], how: str) -> str:
    """What they cost: what the simulator sells is priced and not paid, and never counted with what is."""
    real = sum((task.real_price for task in tasks), Decimal(0))
    simulated = sum((task.price or Decimal(0) for task in tasks if task.simulated), Decimal(0))
    if simulated and not real:
        return f"{_money(simulated)} {how} (SIMULATED: nothing is paid)"
    return f"{_money(real)} {how}" + (f", and {_money(simulated)} SIMULATED" if simulated else "")


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan for scripts."""
    return {
        "tasks": [
            {
                "name": task.name,
                "steps": list(task.steps),
                "action": task.action,
                "price": None if task.price is None else str(task.price),
                "reason": task.reason,
                "promised": task.promised,
            }
            for task in plan.tasks
        ],
        "remarks": list(plan.remarks),
        "over_budget": plan.over,
    }


# ---------------------------------------------------------------- models


def models_text(today: date) -> str:
    """One line a model: what it sells, for how much, and whether it can be had now."""
    rows = [_model_row(presets.read("models", name), today) for name in presets.names("models")]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + "  " + row[4] for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _model_row(sheet: presets.Sheet, today: date) -> tuple[str, str, str, str, str]:
    closed, key = sheet.get("retires_on"), sheet.facts.get("key_variable", "")
    if closed and date.fromisoformat(str(closed)) <= today:
        state = f"closed on {closed}"
    elif key and key not in os.environ:
        state = f"needs {key}"
    else:
        state = "simulated, nothing is paid" if sheet.facts.get("simulated") else "ready"
    prices = sorted({Decimal(str(v.value)) for name, v in sheet.values.items() if name.startswith("price.")})
    span = "price unknown" if not prices else "–".join(f"${p}" for p in dict.fromkeys((prices[0], prices[-1]))) + "/s"
    sold = sheet.get("seconds", [])
    whole = len(sold) > 4 and sold == list(range(sold[0], sold[-1] + 1))
    lengths = (f"{sold[0]}–{sold[-1]}" if whole else ", ".join(map(str, sold))) + " s"
    return sheet.name, sheet.facts["provider"], lengths, span, state


def stale_text(today: date, days: int = 180) -> str:
    """The numbers of all presets that were last checked more than `days` days ago."""
    kinds: tuple[presets.Kind, ...] = ("models", "delivery")
    sheets = [presets.read(kind, name) for kind in kinds for name in presets.names(kind)]
    stale = [
        f"{sheet.place(key)} {key}: {value.checked}"
        for sheet in sheets
        for key, value in sheet.values.items()
        if today - date.fromisoformat(value.checked) > timedelta(days=days)
    ]
    return "\n".join(stale) or f"every number was checked within {days} days"


# ---------------------------------------------------------------- progress


class Progress:
    """Progress on stderr: bars on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self.bars: Bars | None = None
        self.rows: dict[str, TaskID] = {}
        self.quarters: dict[str, int] = {}
        self.waited = False

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 -- on a terminal alone
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 -- likewise
            from rich.progress import Progress as Bars  # noqa: PLC0415 -- likewise

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
            )
            self.bars = Bars(*columns, console=Console(stderr=True))
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "waiting":
            if not self.waited:
                print(f"another run is making {event.tasks[0].title}; waiting for it", file=sys.stderr, flush=True)
            self.waited = True
        elif event.kind == "failed":
            print(f"{_named(event.tasks)}: failed; what does not need it goes on", file=sys.stderr, flush=True)
        elif self.bars:
            self._draw(self.bars, event)
        elif event.kind == "started":
            print(f"{_named(event.tasks)} …", file=sys.stderr, flush=True)
        elif event.kind == "progress":
            self._quarter(event)

    def _quarter(self, event: Event) -> None:
        quarter, name = int(event.fraction * 4), event.tasks[0].name
        if quarter > self.quarters.get(name, 0):
            self.quarters[name] = quarter
            print(f"{_named(event.tasks)} {25 * quarter} %", file=sys.stderr, flush=True)

    def _draw(self, bars: Bars, event: Event) -> None:
        if event.kind == "started":
            if (shared := self.rows.get(event.tasks[0].name)) is not None:
                bars.remove_task(shared)  # it goes on alone
            self.rows[event.tasks[0].name] = bars.add_task(_named(event.tasks), total=1.0)
        elif event.kind in ("progress", "done"):
            bars.update(self.rows[event.tasks[0].name], completed=event.fraction)


def _named(tasks: tuple[Task, ...]) -> str:
    """`mixing sound for web`, `encoding web, youtube`, `filming generate`."""
    kind = tasks[0].name.partition("-")[0]
    titles = ", ".join(task.title.removeprefix("film for ") for task in tasks)
    verb = "copying the picture of" if tasks[0].action == "copy" else VERBS.get(kind, "making")
    return f"{verb} {titles}"


# ---------------------------------------------------------------- summaries


def summary(recipe: Recipe, result: Result, report: Path) -> str:
    """A few lines: each file, what was done for it, and how far it is proved."""
    lines = []
    for placement in result.final.deliveries:
        made = result.delivered(placement)
        sound = f"{made.loudness.loudness:g} LUFS" if made.loudness else "no sound"
        lines.append(
            f"{_shown(placement.file, recipe)}  {made.preset}  {made.size}  {made.frames} frames"
            f" at {float(made.rate):g}/s = {printed_seconds(made.duration)} s  {sound}  {made.verdict.verdict}"
            + (f" (signer: {made.verdict.signer})" if made.verdict.signer else "")
        )
        track = placement.cut.track
        if made.loudness and track and track.sound.loudness and not made.loudness.silent:
            wanted = track.sound.loudness
            if abs(made.loudness.loudness - wanted.target) > AUDIBLE:
                lines.append(f"    {wanted.target:g} LUFS could not be reached under {wanted.true_peak:g} dBTP")
        if made.verdict.verdict != "proved":
            lines.append(f"    {made.verdict.sentence}")
    lines += [f"warning: {warning}" for warning in dict.fromkeys(result.warnings)]
    lines += list(result.final.remarks)
    lines.append(counts(result))
    lines.append(f"report: {_shown(report, recipe)}")
    return "\n".join(lines)


def counts(result: Result) -> str:
    """What a run did and cost: `1 bought, 2 encoded, 7 smaller tasks; $0.80 spent; 21.4 s`."""
    encoded, copied, cached = (result.count(action) for action in ("encode", "copy", "cached"))
    smaller = len(result.made) - encoded - copied - len(result.bought)
    told = [
        f"{len(result.bought)} bought" if result.bought else "",
        f"{encoded} encoded" if encoded else "",
        f"{copied} with the picture copied" if copied else "",
        f"{smaller} smaller {'task' if smaller == 1 else 'tasks'}" if smaller else "",
        "everything cached" if not result.made else f"{cached} cached" if cached else "",
        f"{len(result.placed)} put in place" if result.placed and not result.made else "",
    ]
    return f"{', '.join(filter(None, told))}; {_paid(result.bought, 'spent')}; {result.seconds:.1f} s"


def summary_json(recipe: Recipe, result: Result, report: Path) -> dict[str, Any]:
    """The same for scripts. `encoded` counts lossy picture encodes; `simulated` of `spent` was never paid."""
    return {
        "files": [_file_json(recipe, each, result.delivered(each)) for each in result.final.deliveries],
        "bought": len(result.bought),
        "spent": f"{result.spent:.2f}",
        "simulated": f"{result.simulated:.2f}",
        "encoded": result.count("encode"),
        "copied": result.count("copy"),
        "cached": result.count("cached"),
        "warnings": list(dict.fromkeys(result.warnings)),
        "report": _shown(report, recipe),
    }


def _file_json(recipe: Recipe, placement: Placement, made: Delivered) -> dict[str, Any]:
    original = next((o.file for o in origins(placement.cut.clip.history) if o.relationship == "parentOf"), None)
    return {
        "path": _shown(placement.file, recipe),
        "preset": made.preset,
        "size": str(made.size),
        "frames": made.frames,
        "rate": f"{made.rate.numerator}/{made.rate.denominator}",
        "duration": str(made.duration),
        "loudness": made.loudness and made.loudness.loudness,
        "true_peak": made.loudness and made.loudness.true_peak,
        "provenance": made.verdict.verdict,
        "original": original and _shown(original, recipe),
    }


def _shown(file: Path, recipe: Recipe) -> str:
    return str(file.relative_to(recipe.project)) if file.is_relative_to(recipe.project) else str(file)
