"""The command line of credentials: `pipeline credentials`, `pipeline trust …` and `pipeline signer …`.

What works on them is imported inside the commands, so that `--help` loads none of it.
"""
# ruff: noqa: PLC0415 -- see above

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stages.traces import Delivery
    from stages.trust import TrustList

trust = typer.Typer(help="Whose signatures are trusted.", no_args_is_help=True, rich_markup_mode=None)
signer = typer.Typer(help="Who signs what is delivered.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


# ---------------------------------------------------------------- trust


@trust.command("list")
def list_(as_json: Json = False) -> None:
    """List the lists of trusted roots, and how old they are."""
    from stages.trust import trust_lists

    if as_json:
        print(json.dumps([_list_json(each) for each in trust_lists()]))
        return
    for each in trust_lists():
        print(_list_line(each))


@trust.command("update")
def update_(
    names: Annotated[list[str] | None, typer.Argument(help="Which lists; by default those trusted everywhere.")] = None,
    url: Annotated[str, typer.Option(help="Fetch one list from here, instead of where it is published.")] = "",
) -> None:
    """Fetch the lists of trusted roots anew, check them, and keep them for when there is no network.

    Nothing else ever fetches one; verifying needs no network.
    """
    from stages.errors import InputError
    from stages.trust import trust_lists, update

    wanted = names or [each.name for each in trust_lists() if each.default]
    if url and len(wanted) != 1:
        raise InputError("--url fetches one list: say which")
    for name in wanted:
        print(_list_line(update(name, url=url)))


def _list_line(each: TrustList) -> str:
    due = f", the next one is due on {each.next}" if each.next else ""
    late = " (overdue: pipeline trust update)" if each.next and each.next < date.today() else ""
    where = "fetched" if each.fetched else "as shipped"
    use = "trusted everywhere" if each.default else f"trusted where it is named: anchors: [{each.name}]"
    head = f"{each.name:<10} {each.roots:>3} roots, {where}, issued {each.issued}{due}{late}; {use}"
    return f"{head}\n{'':<11}{each.about}"


def _list_json(each: TrustList) -> dict[str, object]:
    told = {"name": each.name, "file": str(each.file), "issued": str(each.issued), "next": each.next and str(each.next)}
    return {**told, "roots": each.roots, "default": each.default, "fetched": each.fetched, "about": each.about}


# ---------------------------------------------------------------- signer


@signer.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="Where its files go; it must be empty or not there.")],
    test: Annotated[bool, typer.Option("--test", help="From a local authority that nobody else trusts.")] = False,
) -> None:
    """Make a signer that C2PA accepts: a root, an authority below it, and a leaf with its key.

    Only `--test` ones can be made here: one that others trust is bought from an authority on the C2PA trust list.
    """
    from stages.errors import InputError
    from stages.signers import test_signer

    if not test:
        raise InputError(
            "a signer that others trust comes from an authority on the C2PA trust list (pipeline trust list);"
            " for one of your own add --test"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty: a signer is not made over what is there")
    made = test_signer(folder)
    print(f"AFTERFRAME_SIGNER_CERT={made.chain.absolute()}")
    print(f"AFTERFRAME_SIGNER_KEY={(made.key or folder).absolute()}")
    print(f"who verifies needs the root: pipeline verify FILE --anchors {made.root}", file=sys.stderr)


@signer.command("check")
def check(
    chain: Annotated[Path | None, typer.Argument(help="Its certificates, PEM; by default the environment's.")] = None,
    key: Annotated[Path | None, typer.Argument(help="Its private key, PEM.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a signer, before a render is paid for. Exit code 0 if C2PA accepts it, 1 if not.

    Looks at the leaf's extensions, its dates, the chain and the key; a signing service is asked for one signature.
    """
    from stages.certificates import wrong_with
    from stages.errors import InputError
    from stages.signers import check_signer, signer_from_environment

    if chain:
        name, faults = str(chain), wrong_with(chain, key)
        if key is None and not faults:
            print("no key was given: the certificates alone were checked", file=sys.stderr)
    else:
        found = signer_from_environment()
        if found is None:
            raise InputError(
                "AFTERFRAME_SIGNER_CERT is not set: name a file, or set it; without it a test signer signs"
            )
        name, faults = found.name, check_signer(found, once=True)
    if as_json:
        print(json.dumps({"signer": name, "faults": faults}))
    else:
        print(f"{name}: fine" if not faults else f"{name}:")
        for fault in faults:
            print(f"  {fault}")
    sys.exit(1 if faults else 0)


# ---------------------------------------------------------------- credentials


def credentials(
    file: Annotated[Path, typer.Argument(help="A film, a sound or a picture, or a manifest store (.c2pa).")],
    html: Annotated[Path | None, typer.Option(help="Write a small page to show to others.")] = None,
    store: Annotated[Path | None, typer.Option(help="Write the manifest store, of a stripped copy as well.")] = None,
    anchors: Annotated[list[str] | None, typer.Option(help="PEM files or lists to trust, besides the usual.")] = None,
    as_json: Json = False,
) -> None:
    """Show who made a file, from what, and what was done to it.

    A file without credentials is looked for among what was delivered from here: platforms take them away.
    Nothing is proved by that; `pipeline verify` says what a file itself can prove.
    """
    from pipeline.card import card, lines
    from pipeline.noting import converter
    from pipeline.store import Store
    from stages.errors import InputError
    from stages.files import attempt, state_folder
    from stages.provenance import read_store, store_of, verify, vouchers
    from stages.traces import recall
    from stages.trust import anchors_named

    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    given = {named: f"{named.name}, named here" for named in anchors_named(anchors or ())}
    words = {**given, **Store(state_folder(Path.cwd())).known}
    trusted, delivery, read = tuple(words), None, file
    if file.suffix == ".c2pa":
        tree, sentence = read_store(file, anchors=trusted), "A manifest store, away from the file that it belongs to."
        kept = file.read_bytes()
    else:
        found = verify(file, anchors=trusted)
        tree, sentence, kept = found.credentials, found.sentence, store_of(file)
        if tree.state == "absent" and (delivery := recall(file)):
            read = delivery.store
            tree, kept, sentence = read_store(read, anchors=trusted), read.read_bytes(), _recalled(delivery)
    vouching = {label: words[anchor] for label, anchor in vouchers(read, trusted).items()}
    if store:
        if not kept:
            raise InputError(f"{file}: carries no credentials, and is no copy of what was delivered from here")
        with attempt(store) as part:
            part.write_bytes(kept)
    if html:
        with attempt(html) as part:
            part.write_text(card(tree, vouching, file.name, sentence), encoding="utf-8")
    if as_json:
        told = {"file": str(file), "sentence": sentence, "credentials": converter().unstructure(tree)}
        print(json.dumps({**told, "delivered": delivery and {"name": delivery.name, "alike": delivery.alike}}))
        return
    print(sentence)
    for line in lines(tree, vouching, file.name) if tree.label else ():
        print(line)


def _recalled(delivery: Delivery) -> str:
    day = datetime.fromtimestamp(delivery.when).astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"The file carries no credentials any more; it has {delivery.alike} as {delivery.name},"
        f" delivered for {delivery.preset} on {day}. What that carried:"
    )
