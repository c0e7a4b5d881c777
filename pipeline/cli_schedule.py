"""The command line of schedules: `pipeline schedule add`, `list`, `pause`, `resume`, `remove`, `run-now`.

They fire while a `pipeline worker` of the project runs; one or many.
What works is imported inside the commands, so that `--help` loads none of it.
"""
# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.batch import Desk

app = typer.Typer(
    help="Batches at set times, made by the project's workers.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@app.command()
def add(
    cron: Annotated[str, typer.Argument(help='When, as in cron: "0 2 * * MON".')],
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    rows: Annotated[str, typer.Option("--rows", help="As for `pipeline batch`; read anew at each tick.")] = "",
    name: Annotated[str, typer.Option("--name", help="By default the recipe's.")] = "",
    zone: Annotated[str, typer.Option("--zone", help="The time zone of its times, such as Europe/Berlin.")] = "UTC",
    catch_up: Annotated[
        str, typer.Option("--catch-up", help="Of ticks that no worker lived for: latest, all or none.")
    ] = "latest",
    sim: Annotated[bool, typer.Option("--sim", help="Let the simulator film everything; nothing is paid.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the price of every tick beforehand.")] = False,
) -> None:
    """Make a batch whenever it is time. What it may spend is the recipe's budget. Where a store is shared, the recipe,
    its rows and files stay as they are now: any machine may make it."""
    from datetime import UTC, datetime

    from pipeline.read import recipe_text
    from pipeline.roster import draw_up, within
    from pipeline.rows import read_rows
    from pipeline.schedules import Schedule, checked
    from pipeline.store import Store
    from pipeline.yard import Yard
    from stages.errors import InputError

    file = recipe.absolute()
    with _desk() as desk:
        folder = desk.engine.folder
        source = rows if not rows or Path(rows).is_absolute() else within(Path.cwd() / rows, folder.parent)
        drawn = draw_up(file, read_rows(rows, file, recipe_text(file)), Store(folder, sim), simulate=sim)
        purse = drawn.recipe_of(drawn.good[0], folder.parent).purse if drawn.good else None
        if drawn.real_price and not yes and not (purse and purse.limited):
            raise InputError("each tick may pay: give the recipe a budget:, or say --yes")
        if purse and purse.approve:
            raise InputError("nobody is there to approve it at night: take approve: out of the recipe's budget")
        stem = name or drawn.id.rsplit("-", 3)[0]
        kept = Schedule(stem, cron, zone, within(file, folder.parent), source, catch_up, sim)  # type: ignore[arg-type]
        Yard(folder).keep_for(checked(kept).name, drawn)
        desk.schedule(kept)
    print(f"{stem}: next at {kept.next(datetime.now(UTC)):%Y-%m-%d %H:%M %Z}, {len(drawn.good)} renders as of now")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List the schedules: when they fired last and will next."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    with _desk() as desk:
        found = desk.schedules()
    if as_json:
        print(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        then = "paused" if each.paused else f"next {each.next(datetime.now(UTC)):%Y-%m-%d %H:%M %Z}"
        last = f"last {datetime.fromisoformat(each.last):%Y-%m-%d %H:%M}" if each.last else "not yet fired"
        print(f"{each.name}  {each.cron}  {each.recipe} {each.rows}  {then}  {last}  catch up: {each.catch_up}")
    if not found:
        print("there are no schedules", file=sys.stderr)


@app.command()
def pause(name: Name) -> None:
    """Let it not fire until it is resumed."""
    with _desk() as desk:
        desk.schedule_named(name)
        desk.client.pause_schedule(name)


@app.command()
def resume(name: Name) -> None:
    """Let it fire again."""
    with _desk() as desk:
        desk.schedule_named(name)
        desk.client.resume_schedule(name)


@app.command()
def remove(name: Name) -> None:
    """Forget it. What it began goes on."""
    from pipeline.sharing import sharing_of

    with _desk() as desk:
        desk.schedule_named(name)
        desk.client.delete_schedule(name)
        if shared := sharing_of(desk.engine.folder):
            shared.depot.remove([f"schedules/{name}"])


@app.command("run-now")
def run_now(name: Name) -> None:
    """Let it fire now, besides its times."""
    with _desk() as desk:
        desk.fire(desk.schedule_named(name))


@contextmanager
def _desk() -> Iterator[Desk]:
    from pipeline.batch import Engine
    from stages.files import state_folder

    engine = Engine.of(state_folder(Path.cwd()))
    engine.prepare()
    with engine.client() as desk:
        yield desk
