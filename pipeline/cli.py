"""The command line: thin functions that call one thing each.

What runs a recipe is imported inside the commands, so that `--help` loads none of it.
"""
# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pipeline import cli_ledger

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.store import Store
    from pipeline.tasks import Plan

app = typer.Typer(
    help="Turn AI-generated clips into finished, priced and provable video.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(help="A recipe file, or the name of a packaged recipe.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="name=value for one of the recipe's inputs.")]
Sim = Annotated[bool, typer.Option("--sim", help="Let the simulator film everything; nothing is paid.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; everything else goes to stderr.")]


def main() -> None:
    """Run the command line; what goes wrong is told in a sentence, never as a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill stops like Ctrl-C
    try:
        app()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_told(error))


def _told(failure: BaseException) -> int:
    """Say what went wrong on stderr, and give the exit code."""
    from stages.errors import AfterframeError, InputError

    code = 1
    try:
        raise failure
    except* AfterframeError as group:
        errors = [error for error in _flat(group) if isinstance(error, AfterframeError)]
        for sentence in dict.fromkeys(map(str, errors)):
            print(sentence, file=sys.stderr)
        code = 2 if all(isinstance(error, InputError) for error in errors) else 1
    except* KeyboardInterrupt:
        print("stopped; run it again to go on from here", file=sys.stderr)
        code = 130
    except* BrokenPipeError:
        pass
    except* OSError as group:
        for error in _flat(group):
            print(f"{error.filename or 'the machine'}: {error.strerror or error}", file=sys.stderr)
    return code


def _flat(group: BaseExceptionGroup[Any]) -> list[Any]:
    return [
        one
        for error in group.exceptions
        for one in (_flat(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


# ---------------------------------------------------------------- recipes


@app.command()
def run(
    recipe: RecipeFile,
    set_: Settings = None,
    retake: Annotated[str, typer.Option("--retake", help="Buy one more take of this step.")] = "",
    until: Annotated[str, typer.Option("--until", help="Stop after this step; nothing is delivered.")] = "",
    sim: Sim = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the price beforehand.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="How many tasks may work at once; 0: one a core.")] = 0,
    as_json: Json = False,
) -> None:
    """Make what a recipe asks for; what is there already is used again."""
    from pipeline.report import write_report
    from pipeline.run import run as run_recipe
    from pipeline.show import Progress, summary, summary_json
    from stages.errors import InputError

    read, store = _read(recipe, set_, sim)
    if until:
        read = read.until(until)
    if retake:
        store.retake(read, retake)

    def agree(planned: Plan) -> bool:
        if yes or read.budget:
            return True
        if not sys.stdin.isatty():
            raise InputError(f"this run would pay ${planned.real_price}: give the recipe a budget:, or say --yes")
        return typer.confirm(f"This run would pay ${planned.real_price}. Go on?", err=True)

    with Progress() as progress:
        result = run_recipe(read, store, progress.watch, jobs, agree)
    report = write_report(read, store, result)
    print(summary(read, result, report), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(summary_json(read, result, report)))


@app.command()
def plan(recipe: RecipeFile, set_: Settings = None, sim: Sim = False, as_json: Json = False) -> None:
    """Show what a run would make, buy and use again, without doing it."""
    from pipeline.plan import plan as plan_recipe
    from pipeline.show import plan_json, plan_text

    read, store = _read(recipe, set_, sim)
    planned = plan_recipe(read, store.world(read))
    print(json.dumps(plan_json(planned)) if as_json else plan_text(planned))


@app.command()
def check(recipe: RecipeFile, set_: Settings = None, sim: Sim = False) -> None:
    """Say every mistake in a recipe; nothing is made."""
    from pipeline.plan import plan as plan_recipe

    read, store = _read(recipe, set_, sim)
    planned = plan_recipe(read, store.world(read))
    print(f"{recipe}: fine; {len(read.steps)} steps, {len(read.deliveries)} deliveries, {len(planned.tasks)} tasks")


def _read(recipe: Path, settings: list[str] | None, sim: bool = False) -> tuple[Recipe, Store]:
    import presets
    from pipeline.read import read_recipe
    from pipeline.store import Store

    packaged = None if recipe.exists() else presets.recipe(str(recipe))
    read = read_recipe(packaged or recipe, dict(_setting(text) for text in settings or ()))
    return read, Store(read.project / ".pipeline", sim)


def _setting(text: str) -> tuple[str, str]:
    from stages.errors import InputError

    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: should be name=value")
    return name, value


app.add_typer(cli_ledger.app, name="ledger")
app.command()(cli_ledger.webhooks)


@app.command()
def simulate(
    as_: Annotated[str, typer.Option("--as", help="openai, runway, luma, veo, fal or openrouter.")] = "openai",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 0,
    state: Annotated[Path, typer.Option(help="The folder that holds what it sold and filmed.")] = Path(".pipeline/sim"),
    latency: Annotated[float, typer.Option(help="Seconds that filming takes at least.")] = 2.0,
    ignore_keys: Annotated[bool, typer.Option("--ignore-keys", help="Do not honour Idempotency-Key.")] = False,
) -> None:
    """Stand for a provider: a server to build against without paying.

    Prints its base URL when ready, and appends every sale to STATE/sales.jsonl.
    """
    from importlib import import_module

    from stages.errors import InputError
    from stages.stage import nearest

    known = ("openai", "runway", "luma", "veo", "fal", "openrouter")
    if as_ not in known:
        raise InputError(f"--as {as_}: there is no such simulator{nearest(as_, known)}; there are {', '.join(known)}")
    serve = import_module(f"stages.simulators.{as_}").main
    state.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--state", str(state), "--latency", str(latency)]
    serve([*options, *(["--ignore-keys"] if ignore_keys else [])])


# ---------------------------------------------------------------- files


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The file to verify.")],
    original: Annotated[Path | None, typer.Option(help="The original that it was made from.")] = None,
    anchors: Annotated[
        list[Path] | None, typer.Option(help="PEM files of roots to trust, besides this project's.")
    ] = None,
    as_json: Json = False,
) -> NoReturn:
    """Prove where a file came from. Exit codes: 0 proved, 10 absent, 11 tampered, 12 broken chain,
    13 untrusted, 14 expired, 2 usage."""
    from pipeline.store import Store
    from stages.errors import InputError
    from stages.files import state_folder
    from stages.provenance import verify as verify_file

    for path in (file, original, *(anchors or ())):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: there is no such file")
    store = Store(state_folder(Path.cwd()))
    found = verify_file(file, original=original, anchors=(*(anchors or ()), *store.anchors))
    if as_json:
        from pipeline.store import converter

        told = {"verdict": found.verdict, "codes": found.codes, "sentence": found.sentence, "signer": found.signer}
        print(json.dumps({**told, "credentials": converter().unstructure(found.credentials)}))
    else:
        print(f"{found.verdict}: {found.sentence}")
        for code in found.codes:
            print(f"  {code}")
    sys.exit(found.exit_code)


# ---------------------------------------------------------------- what there is


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="A preset to show whole.")] = None) -> None:
    """List the delivery presets, or show one with its sources."""
    import presets as data
    from stages.delivery import delivery_preset

    if name:
        sheet = delivery_preset(name)
        print(f"{sheet.name}: {sheet.about}\n")
        for key, value in sheet.values.items():
            print(f"  {key:<13} {value.value!s:<11} {value.source} ({value.checked})")
        return
    for each in data.names("delivery"):
        print(f"{each:<17} {data.read('delivery', each).about}")


@app.command()
def models(
    check: Annotated[bool, typer.Option("--check", help="Name what was last checked over 180 days ago.")] = False,
) -> None:
    """List the models that can be bought from, or could: lengths, sizes, prices, and whether their key is there."""
    from datetime import date

    from pipeline.show import models_text, stale_text

    print(stale_text(date.today()) if check else models_text(date.today()))


@app.command()
def stages(
    name: Annotated[str | None, typer.Argument(help="A stage to explain.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema of recipes, for editors.")] = False,
) -> None:
    """List the stages, explain one, or print the JSON Schema of recipes."""
    from stages import plugins
    from stages.stage import stage_of

    if schema:
        from pipeline.read import json_schema

        print(json.dumps(json_schema(), indent=1))
        return
    if name:
        stage = stage_of(plugins.find("pipeline.stages", name))
        print(f"{stage.name} ({stage.kind})\n\n{stage.help}\n")
        for p in stage.parameters:
            print(
                f"  {p.name + ':':<11} {p.example}"
                + ("" if p.required or p.default in (None, "") else f"  (default: {p.default})")
            )
        return
    for each in plugins.names("pipeline.stages"):
        stage = stage_of(plugins.find("pipeline.stages", each))
        print(f"{each:<14} {stage.kind:<5} {stage.help.splitlines()[0]}")


@app.command()
def doctor() -> None:
    """Say whether this machine has what recipes need. Exit code 1 if something is missing."""
    from pipeline.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok ' if finding.fine else 'NO '} {finding.what:<10} {finding.text}")
    sys.exit(0 if all(finding.fine or finding.optional for finding in findings) else 1)
