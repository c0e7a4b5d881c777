"""The command line of the money: `pipeline ledger …` and `pipeline webhooks`.

What works on the ledger is imported inside the commands, so that `--help` loads none of it.
"""
# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import dataclasses
import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stages.bookkeeping import Audit
    from stages.ledger import Ledger, Purchase
    from stages.providers import Provider

app = typer.Typer(help="What was asked for, sent, bought and fetched.", no_args_is_help=True, rich_markup_mode=None)

Key = Annotated[str, typer.Argument(help="The purchase's key, or how it begins.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]

OPEN = ("SENDING", "ACCEPTED")


@app.command("list")
def list_(
    only_open: Annotated[bool, typer.Option("--open", help="Only what is not settled.")] = False,
    most: Annotated[int, typer.Option("--limit", min=1, help="How many, the latest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List purchases, the latest first."""
    from stages.ledger import open_ledger, purchases

    ledger = open_ledger()
    rows = [row for row in reversed(purchases(ledger)) if not only_open or row.state in OPEN]
    if as_json:
        print(json.dumps([_data(row) for row in rows[:most]]))
        return
    if not rows:
        print("nothing is open" if only_open else "nothing was bought yet")
        return
    now = ledger.clock()
    table = [
        ("key", "state", "model", "seconds", "size", "price", "sent", "job"),
        *(_line(row, now) for row in rows[:most]),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(rows) > most:
        print(f"… and {len(rows) - most} older; --limit shows more")


@app.command()
def show(key: Key, as_json: Json = False) -> None:
    """Show all that is known of a purchase, attempt by attempt."""
    from stages.bookkeeping import find_key
    from stages.ledger import open_ledger, purchases

    ledger = open_ledger()
    rows = purchases(ledger, find_key(ledger, key))
    if as_json:
        print(json.dumps([_data(row) for row in rows]))
        return
    for row in rows:
        for name, value in _data(row).items():
            if value not in ("", 0, 0.0, None):
                shown = _moment(value) if name.endswith("_at") or name in ("first_sent", "next_look") else value
                print(f"{name:<11} {shown}")
        print()


@app.command()
def adopt(key: Key, job_id: Annotated[str, typer.Argument(help="The provider's id of the job.")]) -> None:
    """Say which job it was that was bought, after its answer was lost; the next run fetches its film."""
    from stages.bookkeeping import adopt as adopt_job
    from stages.bookkeeping import find_key
    from stages.ledger import open_ledger

    ledger = open_ledger()
    row = adopt_job(ledger, find_key(ledger, key), job_id)
    print(f"{row.key[:12]} is job {row.job_id} of {row.provider} at {row.account}; the next run fetches it")


@app.command("write-off")
def write_off(
    key: Key,
    why: Annotated[str, typer.Option("--why", help="Why, for whoever asks later.")],
    unpaid: Annotated[bool, typer.Option("--unpaid", help="It was not paid: budgets need not count it.")] = False,
) -> None:
    """Give a purchase up, so that the next run buys it again."""
    from stages.bookkeeping import find_key
    from stages.bookkeeping import write_off as give_up
    from stages.ledger import open_ledger
    from stages.money import dollars

    ledger = open_ledger()
    row = give_up(ledger, find_key(ledger, key), why, unpaid=unpaid)
    counted = "it does not count against budgets" if row.billed == "no" else f"its {dollars(row.price)} count as spent"
    print(f"{row.key[:12]} is written off: the next run buys it again; {counted}")


@app.command()
def audit(
    provider: Annotated[
        str, typer.Option("--provider", help="Only this one; by default all that were bought from.")
    ] = "",
    days: Annotated[float, typer.Option("--days", min=0.1, help="How far back.")] = 7.0,
    as_json: Json = False,
) -> None:
    """Compare the ledger with the providers' lists. Exit code 1 if they do not agree."""
    from stages.errors import AfterframeError
    from stages.ledger import open_ledger, purchases

    ledger = open_ledger()
    accounts = sorted({(row.provider, row.account) for row in purchases(ledger)})
    names = [provider] if provider else sorted({name for name, _ in accounts})
    if not names:
        print("nothing was bought yet: there is nothing to compare")
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            found.append(_compared(ledger, name, [where for who, where in accounts if who == name], days, not as_json))
        except AfterframeError as error:
            if provider:
                raise
            print(f"{name}: not compared: {error}", file=sys.stderr)
            found.append({"provider": name, "agrees": False, "error": str(error)})
    if as_json:
        print(json.dumps(found))
    sys.exit(1 if any(not each["agrees"] for each in found) else 0)


def approve(
    number: Annotated[str, typer.Argument(help="What to approve; without it, what waits is listed.")] = "",
    decline: Annotated[bool, typer.Option("--decline", help="Say no instead.")] = False,
) -> None:
    """Agree to what a run asks to pay whose recipe says `budget: {approve: true}`, or decline it."""
    from stages.approvals import answer, asked
    from stages.ledger import open_ledger
    from stages.money import dollars

    ledger = open_ledger()
    if number:
        said = answer(ledger, number, yes=not decline)
        print(f"{said.id} ({said.what}, {dollars(said.price)}) is {said.state}")
        return
    for each in asked(ledger):
        print(f"{each.id}  {dollars(each.price)}  {each.what}  asked {_ago(ledger.clock() - each.at)}")
    if not asked(ledger):
        print("nothing waits for approval")


def approved(keys: frozenset[str], price: Decimal, what: str) -> bool:
    """Wait until somebody has answered whether `price` may be paid."""
    from stages.approvals import ask
    from stages.ledger import open_ledger
    from stages.money import dollars

    ledger = open_ledger()
    question = ask(ledger, keys, price, what)
    if question.state == "asked":
        words = f"{what} would pay {dollars(price)}; waiting for `pipeline approve {question.id}`"
        print(words, file=sys.stderr, flush=True)
    while question.state == "asked":
        time.sleep(1.0)
        question = ask(ledger, keys, price, what)
    return question.state == "approved"


def webhooks(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8787,
    host: Annotated[str, typer.Option(help="The address to listen on, behind what speaks https.")] = "127.0.0.1",
) -> None:
    """Let providers call when a film is ready, so that it is fetched sooner. Their word is checked with them.

    Secrets come from OPENAI_WEBHOOK_SECRET and OPENROUTER_WEBHOOK_SECRET.
    """
    from stages.ledger import open_ledger
    from stages.webhooks import Listener

    with Listener(open_ledger(), port, host) as server:
        for path in server.speakers:
            print(f"{server.url}{path}", flush=True)
        server.serve_forever(poll_interval=0.2)


def _compared(ledger: Ledger, name: str, ours: list[str], days: float, tell: bool) -> dict[str, Any]:
    """What one provider's list says; of its accounts, that which the environment names."""
    from stages.bookkeeping import audit as compare
    from stages.errors import InputError

    account = _account(name)
    others = [where for where in ours if where != account.account]
    if ours and account.account not in ours:
        raise InputError(
            f"the ledger knows {name} at {', '.join(ours)}, and the environment names {account.account}: "
            "set its key and address to those"
        )
    result = compare(ledger, account, ledger.clock() - days * 86_400)
    if tell:
        _tell(account, result, days)
        for where in others:
            print(f"  not compared: {name} at {where}, which the environment does not name")
    return _finding(account, result)


def _account(name: str) -> Provider:
    """A provider's account, as the environment names it."""
    from stages import plugins
    from stages.files import state_folder

    make = plugins.find("pipeline.providers", name)
    account: Provider = make(state_folder(Path.cwd())) if name.startswith("sim") else make()
    return account


def _line(row: Purchase, now: float) -> tuple[str, ...]:
    from stages.money import dollars

    state = row.state.lower().replace("_", " ") + (f" ({row.failure})" if row.failure else "")
    job = row.job_id if len(row.job_id) <= 40 else f"{row.job_id[:39]}…"
    sent = _ago(now - row.sent_at) if row.sent_at else ""
    return (
        row.key[:12],
        state,
        row.model,
        str(row.seconds or ""),
        row.size.removeprefix("0x0"),
        dollars(row.price),
        sent,
        job,
    )


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _data(row: Purchase) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "price": str(row.price)}


def _finding(account: Provider, result: Audit) -> dict[str, Any]:
    strangers = None if result.strangers is None else [job.id for job in result.strangers]
    return {
        "provider": account.name,
        "account": account.account,
        "agrees": result.agrees,
        "strangers": strangers,
        "missing": [row.key for row in result.missing],
        "unclear": [row.key for row in result.unclear],
        "young": result.young,
    }


def _tell(account: Provider, result: Audit, days: float) -> None:
    from stages.money import dollars

    print(f"{account.name} at {account.account}, the last {days:g} days:")
    if result.strangers is None:
        print("  it has no list: whether it made more than the ledger knows cannot be seen")
    for job in result.strangers or ():
        made = _moment(job.created_at) if job.created_at else "at an unknown time"
        print(f"  job {job.id} is in no row: {job.model} {job.seconds} s, {made}, {job.prompt[:50]!r}")
    for row in result.missing:
        print(
            f"  job {row.job_id} of {row.key[:12]} is not known there ({dollars(row.price)}, {row.model});"
            " is it the right key?"
        )
    for row in result.unclear:
        print(
            f"  {row.key[:12]} was sent {_moment(row.sent_at)} and never answered ({dollars(row.price)}, {row.model}):"
            " its recipe, run again, finds out"
        )
    if result.young:
        print(f"  {result.young} jobs were made a moment ago; the next audit can tell")
    if result.agrees:
        print("  the ledger and its list agree")
