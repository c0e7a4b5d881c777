"""Errors cross processes: what is raised in a worker is what its parent catches."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stages.errors
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    FfmpegError,
    InputError,
    Later,
    ProvenanceError,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    RecipeError,
    SubmissionUnknown,
    WriteError,
)

ROOT = Path(__file__).parents[1]

words = st.lists(st.text(), max_size=3).map(tuple)
provider_errors = (st.text(), st.text(), st.text(), st.text())
MADE: dict[type[Exception], st.SearchStrategy[Exception]] = {
    AfterframeError: st.builds(AfterframeError, st.text()),
    InputError: st.builds(InputError, st.text(), st.text()),
    WriteError: st.builds(WriteError, st.text()),
    RecipeError: st.builds(RecipeError, words),
    FfmpegError: st.builds(FfmpegError, st.text(), words, st.text()),
    ProviderError: st.builds(ProviderError, *provider_errors),
    ProviderRefused: st.builds(ProviderRefused, *provider_errors),
    ProviderUnavailable: st.builds(ProviderUnavailable, *provider_errors),
    SubmissionUnknown: st.builds(SubmissionUnknown, st.text()),
    BudgetExceeded: st.builds(BudgetExceeded, st.text()),
    ProvenanceError: st.builds(ProvenanceError, st.text(), st.text(), words),
    Later: st.builds(Later, st.floats(0, 1e6), st.none() | st.floats(0, 1)),
}


def family(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


@given(st.one_of(list(MADE.values())))
def test_an_error_survives_the_way_to_another_process(error: Exception) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))


def test_none_is_left_out() -> None:
    for room in ("stages", "pipeline"):
        for file in (ROOT / room).rglob("*.py"):
            if "Error" in file.read_text(encoding="utf-8") and file.stem not in ("__main__", "child"):
                importlib.import_module(
                    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                )
    assert {one for one in family(AfterframeError) if one.__module__.split(".")[0] in ("stages", "pipeline")} <= set(
        MADE
    )


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = stages.errors.__doc__ or ""
    for error in family(AfterframeError):
        if error.__module__ == "stages.errors":
            assert f" {error.__name__} " in drawn.replace("\n", " ")


@pytest.mark.parametrize("error", [InputError, ProviderRefused, ProviderUnavailable, ProvenanceError])
def test_an_error_is_its_sentence(error: type[Exception]) -> None:
    assert str(error("a clear sentence")) == "a clear sentence"
