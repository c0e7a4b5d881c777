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

from pipeline import cli_batch, cli_ledger, cli_schedule, cli_trust

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
    from pipeline.spans import traced
    from stages.errors import InputError
    from stages.money import dollars

    read, store = _read(recipe, set_, sim)
    if until:
        read = read.until(until)
    if retake:
        store.retake(read, retake)

    def agree(planned: Plan) -> bool:
        if read.purse.approve:
            unknown = f", and the unknown price of {planned.unknown_prices}" if planned.unknown_prices else ""
            return cli_ledger.approved(planned.keys, planned.price, f"{recipe}{unknown}")
        if yes or read.purse.limited or not planned.real_price:
            return True
        if not sys.stdin.isatty():
            raise InputError(
                f"this run would pay {dollars(planned.real_price)}: give the recipe a budget:, or say --yes"
            )
        return typer.confirm(f"This run would pay {dollars(planned.real_price)}. Go on?", err=True)

    with Progress() as progress, traced(progress.watch, recipe=read.known_as) as watch:
        result = run_recipe(read, store, watch, jobs, agree)
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
app.command()(cli_ledger.approve)
app.command()(cli_ledger.webhooks)
app.add_typer(cli_schedule.app, name="schedule")
for command in cli_batch.COMMANDS:
    app.command()(command)
app.command()(cli_trust.credentials)
app.add_typer(cli_trust.trust, name="trust")
app.add_typer(cli_trust.signer, name="signer")


@app.command()
def simulate(
    as_: Annotated[
        str,
        typer.Option(
            "--as", help="openai, runway, luma, veo, fal, openrouter, elevenlabs, azure-speech or google-speech."
        ),
    ] = "openai",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 0,
    state: Annotated[Path, typer.Option(help="The folder that holds what it sold and filmed.")] = Path(".pipeline/sim"),
    latency: Annotated[float, typer.Option(help="Seconds that filming takes at least.")] = 2.0,
    ignore_keys: Annotated[bool, typer.Option("--ignore-keys", help="Do not honour Idempotency-Key.")] = False,
    fault: Annotated[
        list[str] | None, typer.Option(help="Trouble on demand: 429=2*5, fails@create; repeatable.")
    ] = None,
) -> None:
    """Stand for a provider: a server to build against without paying.

    Prints its base URL when ready, and appends every sale to STATE/sales.jsonl.
    """
    from importlib import import_module

    from stages.errors import InputError
    from stages.stage import nearest

    known = ("openai", "runway", "luma", "veo", "fal", "openrouter", "elevenlabs", "azure-speech", "google-speech")
    if as_ not in known:
        raise InputError(f"--as {as_}: there is no such simulator{nearest(as_, known)}; there are {', '.join(known)}")
    serve = import_module(f"stages.simulators.{as_.replace('-', '_')}").main
    state.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--state", str(state), "--latency", str(latency)]
    troubles = [f"--fault={each}" for each in fault or ()]
    serve([*options, *(["--ignore-keys"] if ignore_keys else []), *troubles])


# ---------------------------------------------------------------- files


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The file to verify.")],
    original: Annotated[Path | None, typer.Option(help="The original that it was made from.")] = None,
    anchors: Annotated[
        list[str] | None, typer.Option(help="PEM files of roots, or lists (pipeline trust list), to trust as well.")
    ] = None,
    tsa_anchors: Annotated[
        Path | None, typer.Option("--tsa-anchors", help="A PEM file of roots to trust for timestamps alone.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Fetch credentials that the file says lie elsewhere (https, public).")
    ] = False,
    ocsp: Annotated[
        bool, typer.Option("--ocsp", help="Ask whether a certificate was revoked, where it says (public).")
    ] = False,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="A host that the two may ask though it is private, or plain.")
    ] = None,
    as_json: Json = False,
) -> NoReturn:
    """Prove where a file came from. Exit codes: 0 proved, 10 absent, 11 tampered, 12 broken chain,
    13 untrusted, 14 expired, 2 usage. Nobody is asked over the network but by --remote and --ocsp."""
    from pipeline.store import Store
    from stages.errors import InputError
    from stages.files import state_folder
    from stages.provenance import verify as verify_file
    from stages.trust import anchors_named

    named = anchors_named(anchors or ())
    for path in (file, original, tsa_anchors, *named):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: there is no such file")
    store = Store(state_folder(Path.cwd()))
    stamps = (tsa_anchors,) if tsa_anchors else ()
    found = verify_file(
        file,
        original=original,
        anchors=(*named, *store.anchors),
        tsa_anchors=stamps,
        remote=remote,
        ocsp=ocsp,
        hosts=hosts or (),
    )
    if as_json:
        from pipeline.noting import converter

        told = {"verdict": found.verdict, "codes": found.codes, "sentence": found.sentence, "signer": found.signer}
        asked = {"asked": found.asked} if remote or ocsp else {}
        print(json.dumps({**told, **asked, "credentials": converter().unstructure(found.credentials)}))
    else:
        print(f"{found.verdict}: {found.sentence}")
        for line in (*found.codes, *found.asked):
            print(f"  {line}")
    sys.exit(found.exit_code)


@app.command()
def conform(
    file: Annotated[Path, typer.Argument(help="The film to check.")],
    preset: Annotated[str, typer.Option("--preset", help="The delivery preset to hold it against.")],
    as_json: Json = False,
) -> NoReturn:
    """Hold every number of a film against a delivery preset. Exit code 1 if one is off."""
    from pipeline.show import conform_json, conform_text
    from stages.conformance import conform as held
    from stages.encoding import delivery_preset

    rows = held(file, preset)
    sheet = delivery_preset(preset)
    print(json.dumps(conform_json(rows, sheet)) if as_json else conform_text(rows, sheet))
    sys.exit(0 if all(row.fine for row in rows) else 1)


# ---------------------------------------------------------------- what there is


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="A preset to show whole.")] = None) -> None:
    """List the delivery presets, or show one with its sources."""
    import presets as data
    from stages.encoding import delivery_preset

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
    from stages.files import project_folder
    from stages.ledger import open_ledger
    from stages.market import open_market

    here = Path.cwd()
    shop = None if check else open_market(open_ledger(), project_folder(here), beside=here)
    print(models_text(shop) if shop else stale_text(date.today()))


@app.command()
def voices() -> None:
    """List the voices that speak, or could: their languages, prices, and whether they can be had now."""
    from pipeline.casting import voices_text
    from stages.files import project_folder
    from stages.ledger import open_ledger
    from stages.market import open_market

    here = Path.cwd()
    print(voices_text(open_market(open_ledger(), project_folder(here), beside=here)))


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
                + ("" if p.required or p.default in (None, "", ()) else f"  (default: {p.default})")
            )
        return
    for each in plugins.names("pipeline.stages"):
        stage = stage_of(plugins.find("pipeline.stages", each))
        print(f"{each:<14} {stage.kind:<5} {stage.help.splitlines()[0]}")


@app.command()
def engines(
    model: Annotated[Path | None, typer.Option(help="A file of ONNX to try the engine onnx with.")] = None,
) -> None:
    """List what can enlarge a film and what can give it more frames, each tried: how fast it is here, and what
    brings the rest."""
    from stages.trials import Trial, try_engines, try_interpolators

    def show(tried: Trial) -> None:
        kind = "a trained model" if tried.trained else "a filter" if tried.version == "ffmpeg" else "no trained model"
        quality = f"; {tried.quality}" if tried.quality else ""
        told = tried.fault or f"{tried.milliseconds:.0f} ms, {kind} ({tried.version}){quality}"
        print(f"{'NO ' if tried.fault else 'ok '} {tried.name:<14} {told}")

    print("upscale, CPU time of a frame from 720p to 1080p on this machine; how near to the truth at twice the size:")
    for tried in try_engines(model):
        show(tried)
    print("interpolate, CPU time of a new frame of 720p:")
    for tried in try_interpolators():
        show(tried)


@app.command()
def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Free what was not used for so long: 12h, 30d.")
    ] = "30d",
    keep_under: Annotated[str, typer.Option("--keep-under", help="Then the oldest until so much is left: 200GB.")] = "",
    here: Annotated[bool, typer.Option("--here", help="Only on this machine, not in AFTERFRAME_STORE.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
) -> None:
    """Free what nobody used for long, here and in the shared store; never what open renders need or what was paid."""
    from pipeline.garbage import Limits, Needed, clean_here, clean_store, needed_by_open, parse_age, parse_size
    from pipeline.yard import Yard
    from stages.files import state_folder

    yard = Yard(state_folder(Path.cwd()))
    limits = Limits(parse_age(older_than), parse_size(keep_under) if keep_under else None)
    # What is freed here alone is fetched from the store again: then nobody need find out what is needed.
    needed = Needed() if here and yard.shared else needed_by_open(yard)
    if needed.renders:
        print(f"{needed.renders} open renders need {len(needed.tasks)} tasks: they stay")
    note = " (nothing was touched)" if dry_run else ""
    print(f"{clean_here(yard, needed, limits, dry=dry_run)}{note}")
    if (shared := yard.shared) and not here:
        print(f"{clean_store(shared, needed, limits, dry=dry_run)}{note}")


@app.command()
def doctor() -> None:
    """Say whether this machine has what recipes need. Exit code 1 if something is missing."""
    from pipeline.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok ' if finding.fine else 'NO '} {finding.what:<10} {finding.text}")
    sys.exit(0 if all(finding.fine or finding.optional for finding in findings) else 1)
