"""What people and scripts are told: plans, progress and summaries, as text and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import presets
from pipeline.recipe import Recipe
from pipeline.run import Event, Result
from pipeline.tasks import Cost, Placement, Plan, Task
from stages.clip import origins, printed_seconds
from stages.delivery import Delivered, unsigned
from stages.destinations import told
from stages.encoding import Row
from stages.errors import InputError
from stages.market import Market, owner
from stages.money import dollars
from stages.routing import check_market

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

ACTIONS = ("pay", "encode", "copy", "make", "cached")

VERBS = {
    "ingest": "reading",
    "look": "measuring",
    "sound": "mixing",
    "frames": "drawing frames",
    "film": "encoding",
    "delivery": "signing",
    "generate": "filming",
    "draw": "drawing",
    "foley": "making a sound",
    "score": "composing",
    "speak": "speaking",
    "prepare": "preparing",
}
"""What a task of each kind is doing; the kind is the first word of its name."""


# ---------------------------------------------------------------- plans


def plan_text(plan: Plan) -> str:
    """One line a task: what would happen, to what, and why. Then who gets what, and what each file costs."""
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
    sections = [
        [line.rstrip() for line in lines],
        list(plan.remarks),
        [f"{_whose(host)} gets {what}" for host, what in sorted(_hosts(plan).items())],
        [f"{file} costs {cost}" for file, cost in _costs(plan).items()],
        [told, *over],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _costs(plan: Plan) -> dict[str, Cost]:
    """What each file costs, by its place in the project."""
    placed = {plan[each.task].slot.rpartition(":")[0]: each.file for each in plan.deliveries}
    return {name: plan.costs[file] for name, file in placed.items() if file in plan.costs}


def _hosts(plan: Plan) -> dict[str, str]:
    """Each host that anything would be sent to, with what."""
    found: dict[str, dict[str, None]] = {}
    for task in plan.tasks:
        for host, what in task.hosts:
            found.setdefault(host, {})[f"{what} ({task.title})"] = None
    return {host: ", ".join(what) for host, what in found.items()}


def _whose(host: str) -> str:
    return f"{host} ({who})" if (who := owner(host)) else host


def _priced(task: Task) -> str:
    if task.action != "pay":
        return task.action
    known = f"pay {dollars(task.price)}"
    return known if None not in task.prices else f"{known} + ?" if task.price else "pay ?"


def _paid(tasks: Sequence[Task], how: str) -> str:
    """What they cost: what the simulator sells is priced and not paid, and never counted with what is."""
    unknown = sum(task.unknown_prices for task in tasks)
    real = sum((task.real_price for task in tasks), Decimal(0))
    simulated = sum((task.price for task in tasks if task.simulated), Decimal(0))
    if simulated and not real and not unknown:
        return f"{dollars(simulated)} {how} (SIMULATED: nothing is paid)"
    return (
        f"{dollars(real)} {how}"
        + (f", and the unknown price of {unknown}" if unknown else "")
        + (f", and {dollars(simulated)} SIMULATED" if simulated else "")
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan for scripts."""
    return {
        "tasks": [
            {
                "name": task.name,
                "steps": list(task.steps),
                "action": task.action,
                "price": str(task.price) if task.prices else None,
                "unknown_prices": task.unknown_prices,
                "reason": task.reason,
                "promised": task.promised,
            }
            for task in plan.tasks
        ],
        "remarks": list(plan.remarks),
        "hosts": _hosts(plan),
        "costs": {file: cost_json(cost) for file, cost in _costs(plan).items()},
        "over_budget": plan.over,
    }


def cost_json(cost: Cost) -> dict[str, Any]:
    """What a file costs, for scripts: US dollars as text, seconds as fractions."""
    return {
        "paid": f"{cost.paid:.2f}",
        "to_pay": f"{cost.to_pay:.2f}",
        "unknown_prices": cost.unknown,
        "simulated": cost.simulated,
        "seconds_bought": str(cost.bought),
        "seconds_kept": str(cost.kept),
        "seconds_wasted": str(cost.wasted),
        "purchases": cost.films,
        "failures": cost.failures,
    }


# ---------------------------------------------------------------- models


def models_text(shop: Market) -> str:
    """One line a model that films, draws or plays: what it sells, for how much, and whether it can be had now."""
    films = [_model_row(sheet, shop) for sheet in shop.sheets()]
    rows = films + [_picture_row(presets.read("images", name), shop) for name in presets.names("images")]
    rows += [_sound_row(presets.read("sounds", name), shop) for name in presets.names("sounds")]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + "  " + row[4] for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _model_row(sheet: presets.Sheet, shop: Market) -> tuple[str, str, str, str, str]:
    works = [work for work in sheet.get("works", ()) if work != "film"]
    state = f"only to {' and '.join(works)}; {state_of(sheet, shop)}" if works else state_of(sheet, shop)
    prices = {Decimal(str(v.value)) for name, v in sheet.values.items() if name.startswith("price.")}
    sold = sheet.get("seconds", [])
    whole = len(sold) > 4 and sold == list(range(sold[0], sold[-1] + 1))
    lengths = (f"{sold[0]}–{sold[-1]}" if whole else ", ".join(map(str, sold))) + " s"
    return sheet.name, sheet.facts["provider"], lengths, _span(prices, "/s"), state


def _sound_row(sheet: presets.Sheet, shop: Market) -> tuple[str, str, str, str, str]:
    prices = {Decimal(sheet[key]) for key in ("price_each", "price_minute")} - {Decimal(0)}
    lengths, unit = f"{sheet['length_min']} to {sheet['length_max']}", "" if Decimal(sheet["price_each"]) else "/min"
    return sheet.name, sheet.facts["provider"], f"a sound, {lengths}", _span(prices, unit), state_of(sheet, shop)


def _picture_row(sheet: presets.Sheet, shop: Market) -> tuple[str, str, str, str, str]:
    tables = [v.value for name, v in sheet.values.items() if name.startswith("price.")]
    prices = {Decimal(price) for table in tables for price in table.values()}
    return sheet.name, sheet.facts["provider"], "a picture", _span(prices, ""), state_of(sheet, shop)


def _span(prices: set[Decimal], unit: str) -> str:
    ends = dict.fromkeys((min(prices), max(prices))) if prices else {}
    return "–".join(f"${price}" for price in ends) + unit if ends else "price unknown"


def state_of(sheet: presets.Sheet, shop: Market) -> str:
    """Whether it can be had now, and if not, why."""
    try:
        check_market(sheet, sheet.name, shop)
    except InputError as error:
        return str(error).removeprefix(f"{sheet.name} ").removeprefix(f"{sheet.name}: ").partition(";")[0]
    return "simulated, nothing is paid" if sheet.facts.get("simulated") else "ready"


def stale_text(today: date, days: int = 180) -> str:
    """The numbers of all presets that were last checked more than `days` days ago."""
    kinds: tuple[presets.Kind, ...] = ("models", "images", "voices", "sounds", "delivery")
    sheets = [presets.read(kind, name) for kind in kinds for name in presets.names(kind)]
    stale = [
        f"{sheet.place(key)} {key}: {value.checked}"
        for sheet in sheets
        for key, value in sheet.values.items()
        if today - date.fromisoformat(value.checked) > timedelta(days=days)
    ]
    return "\n".join(stale) or f"every number was checked within {days} days"


# ---------------------------------------------------------------- conformance


def conform_text(rows: Sequence[Row], sheet: presets.Sheet) -> str:
    """A line a number: what was found, what `sheet` wants, and where it says so; what is off is counted."""
    told = [(row.key, row.found, row.wanted, sheet.place(row.key) if row.key in sheet.values else "") for row in rows]
    table = [("", "found", "wanted", ""), *told]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    marks = ["   ", *("ok " if row.fine else "NO " for row in rows)]
    lines = [
        mark + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)) + "  " + line[3]
        for mark, line in zip(marks, table, strict=True)
    ]
    wrong = sum(not row.fine for row in rows)
    verdict = f"{wrong} of {len(rows)} numbers are off" if wrong else f"all {len(rows)} numbers are right"
    return "\n".join([*(line.rstrip() for line in lines), "", f"{sheet.name}: {verdict}"])


def conform_json(rows: Sequence[Row], sheet: presets.Sheet) -> dict[str, Any]:
    """The same for scripts."""
    told = [{"key": row.key, "found": row.found, "wanted": row.wanted, "fine": row.fine} for row in rows]
    return {"preset": sheet.name, "fine": all(row.fine for row in rows), "numbers": told}


# ---------------------------------------------------------------- progress


class Progress:
    """Progress on stderr: bars on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self.bars: Bars | None = None
        self.rows: dict[str, TaskID] = {}
        self.quarters: dict[str, int] = {}
        self.told: set[str] = set()

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
            why = f"{_named(event.tasks)}: {event.said}" if event.said else ""
            if why not in self.told:  # a job that waits is asked again and again
                title = event.tasks[0].title
                print(why or f"another run is making {title}; waiting for it", file=sys.stderr, flush=True)
            self.told.add(why)
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
        length = f"{made.frames} frames at {float(made.rate):g}/s = {printed_seconds(made.duration)} s"
        sound = f"{made.loudness.loudness:g} LUFS" if made.loudness else "no sound"
        shown = "a picture" if made.frames == 1 else f"{length}  {sound}"
        lines.append(
            f"{_shown(placement.file, recipe)}  {made.preset}  {made.size}  {shown}  {made.verdict.verdict}"
            + (f" (signer: {made.verdict.signer})" if made.verdict.signer else "")
        )
        if (noted := result.sound(placement)) and noted.remark:
            lines.append(f"    the sound: {noted.remark}")
        if made.verdict.verdict != "proved":
            lines.append(f"    {made.verdict.sentence}")
        if apart := made.credentials_apart:
            lines.append(f"    its credentials lie beside it in {placement.beside(apart).name}: keep the two together")
        if names := unsigned(placement.cut.clip.history, made.verdict):
            lines.append(f"    NO CREDENTIALS in {', '.join(names)}: nobody vouches for who made that")
    lines += [f"{file} cost {cost}" for file, cost in _costs(result.final).items()]
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
        f"{purchases(result)} bought" if result.bought else "",
        f"{encoded} encoded" if encoded else "",
        f"{copied} with the picture copied" if copied else "",
        f"{smaller} smaller {'task' if smaller == 1 else 'tasks'}" if smaller else "",
        "everything cached" if not result.made else f"{cached} cached" if cached else "",
        f"{len(result.placed)} put in place" if result.placed and not result.made else "",
    ]
    return f"{', '.join(filter(None, told))}; {_paid(result.bought, 'spent')}; {result.seconds:.1f} s"


def purchases(result: Result) -> int:
    """How many things a run bought; one task may film several takes."""
    return sum(len(task.prices) for task in result.bought)


def summary_json(recipe: Recipe, result: Result, report: Path) -> dict[str, Any]:
    """The same for scripts. `encoded` counts lossy picture encodes; `simulated` of `spent` was never paid."""
    return {
        "files": [_file_json(recipe, each, result) for each in result.final.deliveries],
        "bought": purchases(result),
        "spent": f"{result.spent:.2f}",
        "simulated": f"{result.simulated:.2f}",
        "encoded": result.count("encode"),
        "copied": result.count("copy"),
        "cached": result.count("cached"),
        "warnings": list(dict.fromkeys(result.warnings)),
        "report": _shown(report, recipe),
    }


def _file_json(recipe: Recipe, placement: Placement, result: Result) -> dict[str, Any]:
    made = result.delivered(placement)
    original = next((o.file for o in origins(placement.cut.clip.history) if o.relationship == "parentOf"), None)
    return {
        "path": _shown(placement.file, recipe),
        **measured_json(made),
        "true_peak": made.loudness and made.loudness.true_peak,
        "sidecars": [_shown(placement.beside(file), recipe) for file in made.sidecars],
        "original": original and _shown(original, recipe),
        "cost": cost_json(cost) if (cost := result.final.costs.get(placement.file)) else None,
    }


def measured_json(made: Delivered) -> dict[str, Any]:
    """What was found on a delivered file, for scripts."""
    return {
        "preset": made.preset,
        "size": str(made.size),
        "frames": made.frames,
        "rate": f"{made.rate.numerator}/{made.rate.denominator}",
        "duration": str(made.duration),
        "loudness": made.loudness and made.loudness.loudness,
        "provenance": made.verdict.verdict,
    }


def _shown(file: Path, recipe: Recipe) -> str:
    return told(file, recipe.project)
