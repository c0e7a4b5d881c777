"""The credentials of a file for people: as lines of text, and as a small HTML card that a team can show its users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.pages import page
from pipeline.pedigree import Known, pedigree, story
from stages.credentials import Credentials


def lines(tree: Credentials, vouching: Mapping[str, str], name: str) -> Iterator[str]:
    """A tree: who made what, signed by whom, what was done to it, and from what it was made. `vouching` says who
    vouches for the signer of a manifest, by its label."""
    return _lines(pedigree(tree, (), Known(name), vouching), "")


def _lines(node: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{node['mark']} {_called(node)} ({node['role']}): {node['says']}"
    yield f"{indent}  {node['made']} {node['signed']}"
    if node["vouched"]:
        yield f"{indent}  {node['vouched']}"
    for number, said in enumerate(node["done"], 1):
        yield f"{indent}  {number}. {said}"
    for inner in node["ingredients"]:
        yield from _lines(inner, f"{indent}    ")


def _called(node: Mapping[str, Any]) -> str:
    return f"{node['name']} “{node['title']}”" if node["title"] else str(node["name"])


def card(tree: Credentials, vouching: Mapping[str, str], name: str, sentence: str) -> str:
    """One self-contained HTML page, dark where the reader's browser is."""
    told = story(tree, ()) if tree.label and tree.state != "tampered" else ()
    node = pedigree(tree, (), Known(name), vouching)
    return page("card.html.j2", name=name, sentence=sentence, story=told, tree=node, readable=bool(tree.label))
