"""The command line of batches: `pipeline batch`, `worker`, `status`, `pause`, `cancel`, `resume`, `export`.

What works is imported inside the commands, so that `--help` loads none of it.
"""
# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline import cli_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.batch import Desk, Engine
    from pipeline.board import Standing, State
    from pipeline.roster import Batch, Render
    from pipeline.yard import Yard

log = logging.getLogger(__name__)

Which = Annotated[str, typer.Argument(help="A batch's id, or how it begins; by default the latest.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; everything else goes to stderr.")]

LOOKS = 1.0
"""Seconds between two looks at a batch that is watched; more, where a look itself takes long."""


TELLING = 60.0
"""Seconds that `pipeline batch` goes on for its last messages."""


def batch(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the name of a packaged recipe.")],
    rows: Annotated[str, typer.Option("--rows", help="A CSV, a JSONL, or a glob such as 'clips/*.mp4'.")] = "",
    sim: Annotated[bool, typer.Option("--sim", help="Let the simulator film everything; nothing is paid.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the price beforehand.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="How many tasks may work at once; 0: cores + 1.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Submit only; `pipeline worker` makes it.")] = False,
    notify: Annotated[
        str, typer.Option("--notify", help="A URL to POST to when all is over, instead of the recipe's notify:.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a recipe once for each row, and watch it. Stopped and started again, it goes on from there."""
    import presets
    from pipeline.batch import Engine
    from pipeline.board import wrong_rows
    from pipeline.read import recipe_text
    from pipeline.roster import draw_up
    from pipeline.rows import read_rows
    from pipeline.store import Store
    from stages.errors import InputError

    file = recipe if recipe.exists() else presets.recipe(str(recipe)) or recipe
    given = read_rows(rows, file.absolute(), recipe_text(file))
    yard = _yard(file.absolute().parent)
    drawn = _notifying(draw_up(file.absolute(), given, Store(yard.folder, sim), simulate=sim), notify)
    for remark in drawn.remarks:
        print(remark, file=sys.stderr)
    for wrong in wrong_rows(drawn):
        print(wrong, file=sys.stderr)
    if not drawn.good:
        raise InputError(f"none of the {len(drawn.bad)} rows can be made: nothing was submitted")
    _agreed(drawn, yard, yes)
    engine = Engine.of(yard.folder)
    engine.prepare()
    with engine.client() as desk:
        drawn = _submit(desk, yard, drawn)
    print(f"{drawn.id}: {len(drawn.good)} renders submitted", file=sys.stderr, flush=True)
    if detach:
        _tell(_standing(engine, yard, drawn), yard, as_json)
    else:
        _ended(_work_until_over(engine, yard, drawn, jobs), yard, as_json)


def _notifying(drawn: Batch, url: str) -> Batch:
    """With whom to tell, if that was said. Raises InputError if it cannot be."""
    from dataclasses import replace

    from stages.errors import InputError
    from stages.notices import Notify
    from stages.telling import secrets

    if url:
        try:
            drawn = replace(drawn, notify=Notify.parse(url, bool(drawn.notify and drawn.notify.each)))
        except InputError as error:
            raise InputError(f"--notify: {error}") from None
    if drawn.notify:
        secrets()
    return drawn


def _agreed(drawn: Batch, yard: Yard, yes: bool) -> None:
    """Ask before anything is paid, as `pipeline run` does. Raises InputError and BudgetExceeded."""
    from stages.errors import BudgetExceeded, InputError
    from stages.money import dollars

    if not drawn.good or not (drawn.price or drawn.unknown_prices):
        return
    purse = drawn.recipe_of(drawn.good[0], yard.folder.parent).purse
    price = f"{dollars(drawn.real_price)}" + (f" and {drawn.unknown_prices} unknown" if drawn.unknown_prices else "")
    if purse.approve:
        if not cli_ledger.approved(drawn.keys, drawn.price, f"batch {drawn.recipe}, {len(drawn.good)} renders"):
            raise BudgetExceeded(f"nobody agreed to pay {price}: nothing was bought")
    elif drawn.real_price and not yes and not purse.limited:
        if not sys.stdin.isatty():
            raise InputError(f"this batch would pay {price}: give the recipe a budget:, or say --yes")
        if not typer.confirm(f"This batch would pay {price}. Go on?", err=True):
            raise BudgetExceeded(f"nobody agreed to pay {price}: nothing was bought")


def _submit(desk: Desk, yard: Yard, drawn: Batch) -> Batch:
    """Write it down, and put into the queues what is not there already."""
    from pipeline.roster import submitted

    named, fresh = submitted(drawn, desk.under_way())
    yard.submit(named)
    desk.submit(named, fresh)
    desk.watch_over(named)
    return named


# ---------------------------------------------------------------- watching


def _work_until_over(engine: Engine, yard: Yard, drawn: Batch, jobs: int) -> Standing:
    """Watch a batch until nobody works on it any more; make it here, unless somebody else does."""
    from pipeline.batch import Worker, alone
    from pipeline.slots import usual_count

    if engine.shared:
        return _watch(engine, yard, drawn)
    while True:
        with alone(yard.folder) as mine:
            if not mine:
                standing = _watch(engine, yard, drawn, until=lambda: _is_free(yard.folder))
                if standing.over:
                    return standing
                continue  # whoever made it is gone: go on in its place
            with Worker(engine, yard, jobs or usual_count()):
                standing = _watch(engine, yard, drawn)
                _let_tell(engine, drawn)
                return standing


def _let_tell(engine: Engine, drawn: Batch) -> None:
    """Wait until its messages are sent, or were not taken; not for long: whoever works here next sends the rest."""
    end = time.monotonic() + TELLING
    with engine.client() as desk:
        while drawn.notify and desk.untold(drawn)[0] and time.monotonic() < end:
            time.sleep(0.2)
        if drawn.notify and (left := sum(desk.untold(drawn))):
            host = drawn.notify.host
            print(f"{drawn.id}: {left} messages are yet to be sent to {host}: `pipeline worker`", file=sys.stderr)


def _is_free(folder: Path) -> bool:
    from pipeline.batch import alone

    with alone(folder) as mine:
        return mine


def _watch(engine: Engine, yard: Yard, drawn: Batch, until: object = None) -> Standing:
    """Show how it stands, again and again, until it is over."""
    from pipeline.show_batch import Live

    with engine.client() as desk, Live() as live:
        states: Mapping[str, State] = {}
        while True:
            began = time.monotonic()
            standing = _look(desk, yard, drawn, states)
            states = standing.states
            live.show(standing)
            if standing.over or (callable(until) and until()):
                return standing
            time.sleep(max(LOOKS, 5 * (time.monotonic() - began)))


def _look(desk: Desk, yard: Yard, found: Batch, known: Mapping[str, State] | None = None) -> Standing:
    from pipeline.board import Standing

    orders, why = yard.shelf.told(found.id)
    return Standing(found, orders, why, desk.states(found, known or {}))


def _standing(engine: Engine, yard: Yard, found: Batch) -> Standing:
    with engine.client() as desk:
        return _look(desk, yard, found)


def _tell(standing: Standing, yard: Yard, as_json: bool) -> None:
    from pipeline.board import text, to_json

    print(json.dumps(to_json(standing)) if as_json else text(standing))


def _ended(standing: Standing, yard: Yard, as_json: bool) -> None:
    """Tell how it ended, fetch what other machines made, write the page of it, and say by the exit code whether all
    is well."""
    from pipeline.report_batch import write_batch_report

    _tell(standing, yard, as_json)
    _fetched(standing, yard)
    report = write_batch_report(standing, yard.sheet, yard.folder.parent / "reports" / standing.batch.id)
    print(f"report: {report.relative_to(yard.folder.parent)}", file=sys.stderr)
    sys.exit(0 if standing.done and not standing.batch.bad else 1)


def _fetched(standing: Standing, yard: Yard) -> None:
    """Have what was delivered in this project, where a store is shared."""
    placed = [file for state in standing.states.values() for file in yard.place(state.result.get("files", ()))]
    if placed:
        print(f"{len(placed)} files fetched from {yard.shared and yard.shared.depot.url}", file=sys.stderr)


def fetch(which: Which = "") -> None:
    """Fetch what a batch has delivered so far into this project, where other machines made it (AFTERFRAME_STORE)."""
    from pipeline.batch import Engine

    yard = _yard(Path.cwd())
    _fetched(_standing(Engine.of(yard.folder), yard, yard.shelf.find(which)), yard)


def _yard(start: Path) -> Yard:
    from pipeline.yard import Yard
    from stages.files import state_folder

    return Yard(state_folder(start))


def status(
    which: Which = "",
    all_: Annotated[bool, typer.Option("--all", help="Every batch, a line each.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing it until it is over.")] = False,
    as_json: Json = False,
) -> None:
    """Show how a batch stands, and what is wrong with which row."""
    from pipeline.batch import Engine
    from pipeline.board import line, to_json

    yard = _yard(Path.cwd())
    engine = Engine.of(yard.folder)
    if all_:
        with engine.client() as desk:
            found = [_look(desk, yard, yard.shelf.read(name)) for name in yard.shelf.names()]
        print(json.dumps([to_json(each, rows=False) for each in found]) if as_json else "\n".join(map(line, found)))
        return
    chosen = yard.shelf.find(which)
    _tell(_watch(engine, yard, chosen) if follow else _standing(engine, yard, chosen), yard, as_json)


def pause(which: Which = "") -> None:
    """Let a batch begin nothing more; what is being made is finished. `pipeline resume` goes on."""
    _hold(which, "pause")


def cancel(which: Which = "") -> None:
    """Stop a batch at once: what is being encoded dies, and films that were bought and not begun are called off where
    their provider can, and not paid. What is paid is kept."""
    from pipeline.calling_off import take_back

    yard, found, others = _hold(which, "cancel")
    wanted = {key for name in others for key in yard.shelf.read(name).keys}

    def watch(asked: int, of: int) -> None:
        if asked % 50 == 0 and asked < of:
            print(f"{asked} of {of} films asked back", file=sys.stderr, flush=True)

    if says := str(take_back(yard, found, wanted, watch)):
        print(says)


def _hold(which: str, orders: Literal["pause", "cancel"]) -> tuple[Yard, Batch, set[str]]:
    """The batch that was told to rest, and the ids of those that go on."""
    from pipeline.batch import Engine

    yard = _yard(Path.cwd())
    found = yard.shelf.find(which)
    yard.tell(found.id, orders)
    with Engine.of(yard.folder).client() as desk:
        held = desk.hold(found)
        runs = {run.partition("/")[2] for run in desk.under_way().values()}
    print(f"{found.id}: {held} renders held; `pipeline resume {found.id}` goes on", flush=True)
    others = {name for name in yard.shelf.names() if name in runs | {run.rpartition(".")[0] for run in runs}}
    return yard, found, others - {found.id}


def resume(
    which: Which = "",
    failed: Annotated[bool, typer.Option("--failed", help="Try again what failed.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="How many tasks may work at once; 0: cores + 1.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Submit only; `pipeline worker` makes it.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with a batch that was paused, cancelled, or stopped by its budget; or with what failed of it."""
    from secrets import token_hex

    from pipeline.batch import Engine

    yard = _yard(Path.cwd())
    engine = Engine.of(yard.folder)
    found = yard.shelf.find(which)
    yard.tell(found.id, "go")
    with engine.client() as desk:
        desk.go_on(found)
        if again := _to_try_again(_look(desk, yard, found), failed):
            found = _again(desk, yard, found, again)
        desk.watch_over(found, token_hex(2))
    if detach:
        _tell(_standing(engine, yard, found), yard, as_json)
    else:
        _ended(_work_until_over(engine, yard, found, jobs), yard, as_json)


def _to_try_again(standing: Standing, failed: bool) -> list[Render]:
    """What failed; unasked only what was lost, or failed for want of money."""

    def wants(render: Render) -> bool:
        state = standing.of(render)
        poor = any(error["error"] == "BudgetExceeded" for error in state.result.get("errors", ()))
        return state.word == "new" or (state.word == "failed" and (failed or poor))

    return [render for render in standing.batch.good if wants(render)]


def _again(desk: Desk, yard: Yard, found: Batch, renders: list[Render]) -> Batch:
    """The same batch, with new runs for some of its renders."""
    import secrets
    from dataclasses import replace

    mark = secrets.token_hex(2)
    fresh = {render.id: f"{render.id}/{found.id}.{mark}" for render in renders}
    found = replace(found, renders=tuple(replace(each, run=fresh.get(each.id, each.run)) for each in found.renders))
    yard.shelf.keep(found)
    desk.submit(found, [render for render in found.good if render.id in fresh])
    return found


def export(
    which: Which = "",
    kind: Annotated[str, typer.Option("--format", help="csv, jsonl or html.")] = "csv",
) -> None:
    """Print what came of each row: files, hashes, cost, verdicts, errors; or write the page of it."""
    from pipeline.batch import Engine
    from pipeline.board import export as exported
    from stages.errors import InputError

    if kind not in ("csv", "jsonl", "html"):
        raise InputError(f"--format {kind}: should be csv, jsonl or html")
    yard = _yard(Path.cwd())
    standing = _standing(Engine.of(yard.folder), yard, yard.shelf.find(which))
    if kind == "html":
        from pipeline.report_batch import write_batch_report

        folder = yard.folder.parent / "reports" / standing.batch.id
        print(write_batch_report(standing, yard.sheet, folder).relative_to(yard.folder.parent))
    else:
        print(exported(standing, kind), end="")


def worker(
    encode: Annotated[
        int | None, typer.Option("--encode", min=0, help="How many encode at once; by default cores + 1.")
    ] = None,
    buy: Annotated[bool, typer.Option("--buy/--no-buy", help="Whether it buys, and waits for films.")] = True,
    webhooks: Annotated[
        str, typer.Option("--webhooks", help="[HOST]:PORT to listen at for providers' calls, as in :8080.")
    ] = "",
    metrics: Annotated[
        str, typer.Option("--metrics", help="[HOST]:PORT for /metrics (Prometheus) and /health, as in :9090.")
    ] = "",
    logs: Annotated[
        str, typer.Option("--logs", envvar="AFTERFRAME_LOGS", help="How stderr tells what is made: plain or json.")
    ] = "plain",
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when there is nothing to do.")] = False,
) -> None:
    """Make what was submitted, until it is stopped. Any number of them share a database."""
    from pipeline.batch import Engine, Worker, alone
    from pipeline.metrics import metering
    from pipeline.slots import usual_count
    from stages.errors import InputError

    yard = _yard(Path.cwd())
    engine = Engine.of(yard.folder)
    slots = usual_count() if encode is None else encode
    _log(logs)
    with contextlib.nullcontext(True) if engine.shared else alone(yard.folder) as mine:
        if not mine:
            raise InputError(f"{yard.folder}: another process works there already; AFTERFRAME_DATABASE lets many")
        with contextlib.ExitStack() as stack:
            if webhooks:
                stack.enter_context(_webhooks(webhooks))
            one = stack.enter_context(Worker(engine, yard, slots, buy))
            if metrics:
                host, port = _address(metrics)
                log.info("metrics at http://%s:%d/metrics", host, stack.enter_context(metering(one, host, port)))
            log.info("worker %s: %d slots%s", one.executor, slots, ", buys" if buy else "")
            desk = stack.enter_context(engine.client())
            while not until_idle or desk.is_busy():
                time.sleep(1.0)


def _log(kind: str) -> None:
    """Tell more than what is wrong, on stderr."""
    from pipeline.metrics import LOGS
    from stages.errors import InputError

    if kind not in LOGS:
        raise InputError(f"--logs {kind}: should be {' or '.join(LOGS)}")
    for name in ("pipeline", "stages"):  # not all there are: httpx logs addresses whole, with what is secret in them
        logging.getLogger(name).setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LOGS[kind])


@contextlib.contextmanager
def _webhooks(where: str) -> Iterator[None]:
    """Let providers call, as `pipeline webhooks` does, in a thread."""
    from threading import Thread

    from stages.ledger import open_ledger
    from stages.webhooks import Listener

    host, port = _address(where)
    with Listener(open_ledger(), port, host) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
        for path in server.speakers:
            log.info("webhooks at %s%s", server.url, path)
        try:
            yield
        finally:
            server.shutdown()


def _address(where: str) -> tuple[str, int]:
    """`:8080` is this machine alone."""
    from stages.errors import InputError

    host, colon, port = where.rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"{where}: should be HOST:PORT or :PORT")
    return host or "127.0.0.1", int(port)


COMMANDS = (batch, worker, status, pause, cancel, resume, export, fetch)
