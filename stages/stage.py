"""What makes a function a stage: `@edit` and `@job`.

A stage's signature is its recipe schema and its docstring is its help. A
parameter annotated `Clip` gets a clip, one annotated `Path` a file; text for
any other parameter is parsed by its annotation.
"""

from __future__ import annotations

import functools
import inspect
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar

from stages.clip import Action, Clip, Frames, Size, Unit, parse_switch
from stages.errors import InputError, Later

P = ParamSpec("P")
R = TypeVar("R")
Promise = Callable[..., Clip]
Kind = Literal["clip", "file", "value", "words"]

__all__ = ["Offer", "Parameter", "Stage", "edit", "job", "nearest", "parameters_of", "stage_of"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a stage. `kind` is `clip`, `file`, `value` or `words` (a list of names)."""

    name: str
    kind: Kind
    required: bool
    default: object
    parse: Callable[[str], object]
    example: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a job that buys would do: for `price` US dollars, none if it is `owned` from before.

    `fills` are the arguments that this settles. `asks` is what it wants of the
    file that a step before it makes, by that step's parameters. `said` is the
    choice in words. `simulated`: the price is a simulator's, and nobody is paid.
    """

    price: Decimal
    fills: Mapping[str, object]
    asks: Mapping[str, str]
    said: str = ""
    owned: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """What the runner knows of a stage.

    A job also promises what it will make, and one that buys says what it would
    offer for it.
    """

    name: str
    kind: Literal["edit", "job"]
    version: int
    function: Callable[..., Any]
    promise: Promise | None = None
    offer: Callable[..., Offer] | None = None

    @property
    def help(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, read off the signature; those that only the runner fills are left out."""
        return parameters_of(self.function, RUNNER_FILLS if self.kind == "job" else ())


RUNNER_FILLS = ("folder", "on_progress", "shop", "key", "identities", "inputs")
"""Parameters of a job that a recipe cannot give: where its files go, whom it tells of progress, what is
for sale, the key of a purchase, the identities of the files it is given, and the clips behind them."""


def edit(
    version: int = 1,
) -> Callable[[Callable[Concatenate[Clip, P], Clip]], Callable[Concatenate[Clip, P], Clip]]:
    """Make a function from clip to clip an edit: it writes nothing, and its history is kept.

    An edit that changed nothing adds no history. Raise `version` when the
    same parameters come to mean another result; what was made by the older
    one is then made again.
    """

    def decorate(function: Callable[Concatenate[Clip, P], Clip]) -> Callable[Concatenate[Clip, P], Clip]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(clip: Clip, *args: P.args, **kwargs: P.kwargs) -> Clip:
            after = function(clip, *args, **kwargs)
            if after is clip:
                return clip
            given = signature.bind(clip, *args, **kwargs).arguments
            _, *others = (each for value in given.values() for each in _clips(value))
            action = Action(
                function.__name__,
                parameters=tuple((key, text) for key, value in given.items() if (text := _recorded(value))),
                inputs=tuple(other.history for other in others),
            )
            return replace(after, history=(*after.history, action))

        call.__stage__ = Stage(function.__name__, "edit", version, call)  # type: ignore[attr-defined]  # functions take attributes
        return typing.cast("Callable[Concatenate[Clip, P], Clip]", call)  # `clip` may be named, too

    return decorate


def job(
    promise: Promise,
    *,
    offer: Callable[..., Offer] | None = None,
    version: int = 1,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that makes files a job.

    `promise` takes the same parameters, `folder` aside, and returns the clip
    that the job will make, as its preset describes it, without touching the
    world. `offer` takes those and `shop` and `identities` (of the files among
    them), and says what would be bought. The job itself never waits: it makes its files or raises `Later`.
    Called as a library function, it is called again until it is done.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            while True:
                try:
                    return function(*args, **kwargs)
                except Later as later:
                    time.sleep(later.seconds)

        stage = Stage(function.__name__, "job", version, function, promise, offer)
        call.__stage__ = stage  # type: ignore[attr-defined]  # functions take attributes
        return call

    return decorate


def stage_of(function: object) -> Stage:
    """The Stage behind a decorated function. Raises InputError if it is none."""
    found = getattr(function, "__stage__", None)
    if not isinstance(found, Stage):
        raise InputError(f"{getattr(function, '__name__', function)!r} is not a stage: decorate it with @edit or @job")
    return found


def parameters_of(function: Callable[..., Any], without: Sequence[str] = ()) -> tuple[Parameter, ...]:
    """The parameters of a function, read off its annotations, save those named in `without`."""
    hints = _hints(function)
    given = inspect.signature(function).parameters
    return tuple(_parameter(name, hints[name], given[name]) for name in given if name not in without)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no known word is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f" (did you mean {close[0]}?)" if close else ""


def _clips(value: object) -> tuple[Clip, ...]:
    if isinstance(value, tuple):
        return tuple(each for each in value if isinstance(each, Clip))
    return (value,) if isinstance(value, Clip) else ()


def _recorded(value: object) -> str:
    """A parameter as it goes into the record, which is signed into what is published: of a file only its
    name, of a clip nothing, since its own history says more."""
    if value is None or _clips(value):
        return ""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Frames):
        return f"{value.count}f"
    if isinstance(value, str | int | float | Fraction | Size):
        return str(value)
    raise InputError(f"{value!r} cannot be put on record: should be text, a number, a size, a file or a clip")


@functools.cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    return typing.get_type_hints(function, include_extras=True)


def _parameter(name: str, hint: Any, given: inspect.Parameter) -> Parameter:
    required = given.default is inspect.Parameter.empty
    default = None if required else given.default
    kind, parse, example, choices = _reader(hint)
    return Parameter(name, kind, required, default, parse, example, choices)


Reader = tuple[Kind, Callable[[str], object], str, tuple[str, ...]]


def _reader(hint: Any) -> Reader:
    """How text becomes a value of the annotated type."""
    if typing.get_origin(hint) is Annotated:
        unit = next(extra for extra in hint.__metadata__ if isinstance(extra, Unit))
        return "value", functools.partial(_checked, unit.parse), unit.example, ()
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        for known in (Clip, Path, Size):
            if known in members:
                return _reader(known)
        return _reader(members[0])
    if typing.get_origin(hint) is Literal:
        words = tuple(str(word) for word in typing.get_args(hint))
        return "value", functools.partial(_one_of, words), " | ".join(words), words
    if typing.get_origin(hint) is tuple:
        return "words", str, "[one, another]", ()
    if hint not in _PLAIN:
        raise InputError(f"a stage's parameter is annotated {hint}: should be Clip, Path, Size or a plain type")
    return _PLAIN[hint]


def _checked(parse: Callable[[str], object], text: str) -> str:
    """The text itself, once it is known to parse: only the stage knows the rate that `180f` is counted at."""
    parse(text)
    return text


def _one_of(words: tuple[str, ...], text: str) -> str:
    if text not in words:
        raise InputError(f"should be one of {', '.join(words)}, not '{text}'{nearest(text, words)}")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"should be a number, not '{text}'") from None


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"should be a whole number, not '{text}'") from None


_PLAIN: dict[Any, Reader] = {
    Clip: ("clip", str, "$clip", ()),
    Path: ("file", Path, "a file", ()),
    Size: ("value", Size.parse, "1280x720", ()),
    str: ("value", str, "text", ()),
    int: ("value", _whole_number, "1", ()),
    float: ("value", _number, "0.5", ()),
    bool: ("value", parse_switch, "true", ()),
}
