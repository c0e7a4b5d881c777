"""What makes a function a stage: `@edit` and `@job`.

A stage's signature is its recipe schema and its docstring is its help. A
parameter annotated `Clip` gets a clip, one annotated `tuple[Clip, ...]`
several, one annotated `Path` a file; text for any other parameter is parsed
by its annotation.
"""

from __future__ import annotations

import functools
import inspect
import time
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from stages.clip import Action, Clip, Frames, Picture, Size, Unit, parse_switch
from stages.errors import InputError, Later, Struck

P = ParamSpec("P")
R = TypeVar("R")
Promise = Callable[..., Clip]
After = Callable[..., Clip]
Sees = Callable[..., Picture | None]
Kind = Literal["clip", "clips", "file", "value", "words", "fields", "rows", "table"]

__all__ = ["InParts", "Offer", "Parameter", "Stage", "edit", "job", "nearest", "parameters_of", "stage_of"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a stage. `kind` is `clip`, `clips`, `file`, `value`, `words` (a list of
    names), `table` (names, each with one or a list of others), `fields` or `rows`.

    `fields` is a mapping, each of whose values is one of `fields`; `parse`
    makes of them, by name, what the stage takes; `rows` is a list of those, or one text. `rest` is the parameter that
    may be written behind a colon in this one's text.
    """

    name: str
    kind: Kind
    required: bool
    default: object
    parse: Callable[..., object]
    example: str
    choices: tuple[str, ...] = ()
    fields: tuple[Parameter, ...] = ()
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a job that buys would do. `prices` are those of its purchases in US dollars, None where nobody knows;
    there are none if all of it is owned from before.

    `fills` are the arguments that this settles. `asks` is what it wants of the
    file that a step before it makes, by that step's parameters. `said` is the
    choice in words. `simulated`: the price is a simulator's, and nobody is paid.
    `keys` are the ledger's, of what would be bought or is owned. `hosts` says
    who gets what, `remarks` what else is worth telling before it is paid.
    `seconds` of film would be bought; `no_faces` names the model that would
    refuse a face in its reference.
    """

    prices: tuple[Decimal | None, ...]
    fills: Mapping[str, object]
    asks: Mapping[str, str]
    said: str = ""
    simulated: bool = False
    keys: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: int = 0
    no_faces: str = ""


@dataclass(frozen=True, slots=True)
class InParts:
    """How a job is done in parts, each of which is a task with a name of its own.

    `compose` takes the job's parameters, `shop` and `make`, and returns the clip composed of what that makes. `make`
    takes the arguments of `stage`, also a job, for several parts by their names, and returns a clip for each.
    """

    stage: Stage
    compose: Callable[..., Clip]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the runner knows of a stage.

    A job also promises what it will make, and one that buys says what it would
    offer for it. `after` are edits that its result goes through whenever it is used.
    `tools` are those whose version may change what it makes; `parts` say how it is done in several.
    `sees` says which picture an edit of these arguments must have looked at, and is handed back as `looks`.
    """

    name: str
    kind: Literal["edit", "job"]
    version: int
    function: Callable[..., Any]
    promise: Promise | None = None
    offer: Callable[..., Offer] | None = None
    after: After | None = None
    tools: tuple[str, ...] = ()
    sees: Sees | None = None
    parts: InParts | None = None

    @property
    def buys(self) -> bool:
        """Whether it, or a part of it, may cost money."""
        return bool(self.offer or (self.parts and self.parts.stage.offer))

    @property
    def help(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, read off the signature; those that only the runner fills are left out."""
        return parameters_of(self.function, RUNNER_FILLS if self.kind == "job" else LOOKS if self.sees else ())


RUNNER_FILLS = ("folder", "on_progress", "shop", "keys", "identities", "inputs")
"""Parameters of a job that a recipe cannot give: where its files go, whom it tells of progress, what is
for sale, the keys of all that the run buys, the identities of the files it is given, and the clips behind them."""


LOOKS = ("looks",)
"""The parameter of an edit that a recipe cannot give: what was measured of the picture that it `sees`."""


Doer = Callable[..., tuple[str, bool]]
"""Who does an edit, given its parameters: the agent's name, empty for Afterframe itself, and whether it is
a trained model."""


def edit(
    version: int = 1, *, by: Doer = lambda *_, **__: ("", False), lays: str = "", sees: Sees | None = None
) -> Callable[[Callable[P, Clip]], Callable[P, Clip]]:
    """Make a function from clip to clip an edit: it writes nothing, and its history is kept.

    Its first parameter is the clip, or a tuple of them of which the first is
    what the others are laid beside. `lays` names the parameter whose file
    becomes a part of it, and is one of its origins then. `sees` takes the same
    parameters and returns the picture that must be looked at first, or None:
    the edit has a parameter `looks` for what was measured. An edit that changed
    nothing adds no history. Raise `version` when the same parameters come to
    mean another result; what was made by the older one is then made again.
    """

    def decorate(function: Callable[P, Clip]) -> Callable[P, Clip]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Clip:
            after = function(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            clip, *others = (each for value in given.values() for each in _clips(value))
            if after is clip:
                return clip
            agent, ai = by(*args, **kwargs)
            file = given.get(lays)
            laid = ((Action("open", file=file.absolute()),),) if isinstance(file, Path) else ()
            action = Action(
                function.__name__,
                parameters=tuple(_on_record(function, given)),
                agent=agent,
                ai=ai,
                inputs=(*(other.history for other in others), *laid),
            )
            return replace(after, history=(*after.history, action))

        call.__stage__ = Stage(function.__name__, "edit", version, call, sees=sees)  # type: ignore[attr-defined]  # functions take attributes
        return call

    return decorate


def job(
    promise: Promise,
    *,
    offer: Callable[..., Offer] | None = None,
    after: After | None = None,
    version: int = 1,
    tools: tuple[str, ...] = (),
    parts: InParts | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that makes files a job.

    `promise` takes the same parameters, `folder` aside, and returns the clip
    that the job will make, as its preset describes it, without touching the
    world. `offer` takes those and `shop` and `identities` (of the files among
    them), and says what would be bought. `after` takes the clip and the same
    parameters, and returns it edited. `tools` (`ffmpeg`) are those whose other
    version makes it anew. With `parts`, the runner makes those and
    composes them. The job itself never waits: it makes its files, or raises `Later` or `Struck`. Called as
    a library function, it is called again until it is done.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            while True:
                try:
                    made = function(*args, **kwargs)
                except Later as later:
                    time.sleep(later.seconds)
                except Struck as struck:
                    kwargs["shop"] = struck.shop
                else:
                    given = signature.bind(*args, **kwargs).arguments
                    return typing.cast("R", after(made, **given)) if after else made

        stage = Stage(function.__name__, "job", version, function, promise, offer, after, tools, parts=parts)
        call.__stage__ = stage  # type: ignore[attr-defined]  # functions take attributes
        return call

    return decorate


def stage_of(function: object) -> Stage:
    """The Stage behind a decorated function. Raises InputError if it is none."""
    found = getattr(function, "__stage__", None)
    if not isinstance(found, Stage):
        raise InputError(f"{getattr(function, '__name__', function)!r} is not a stage: decorate it with @edit or @job")
    return found


@functools.cache
def parameters_of(function: Callable[..., Any], without: tuple[str, ...] = ()) -> tuple[Parameter, ...]:
    """The parameters of a function, read off its annotations, save those named in `without`."""
    hints = _hints(function)
    given = inspect.signature(function).parameters
    return tuple(_parameter(name, hints[name], given[name]) for name in given if name not in without)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no known word is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f" (did you mean {close[0]}?)" if close else ""


def _clips(value: object) -> tuple[Clip, ...]:
    if isinstance(value, tuple | list):
        return tuple(each for each in value if isinstance(each, Clip))
    return (value,) if isinstance(value, Clip) else ()


def _on_record(function: Callable[..., Any], given: Mapping[str, object]) -> typing.Iterator[tuple[str, str]]:
    """An edit's parameters as they go into the record; what is written behind a colon as the parameter that it is."""
    for key, value in given.items():
        if key in LOOKS:
            continue  # it follows from the rest
        rest = _rest(_hints(function)[key])
        first, colon, behind = value.partition(":") if isinstance(value, str) else ("", "", "")
        if rest and colon:
            yield key, first
            yield rest, Path(behind).name
        elif text := _recorded(value):
            yield key, text


def _recorded(value: object) -> str:
    """A parameter as it goes into the record, which is signed into what is published: of a file only its
    name, of a clip nothing, since its own history says more."""
    if value is None or _clips(value):
        return ""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Frames):
        return f"{value.count}f"
    if isinstance(value, str | int | float | Fraction) or is_dataclass(value):
        return str(value)
    raise InputError(f"{value!r} cannot be put on record: should be text, a number, a size, a file or a clip")


@functools.cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    return typing.get_type_hints(function, include_extras=True)


def _parameter(name: str, hint: Any, given: inspect.Parameter) -> Parameter:
    required = given.default is inspect.Parameter.empty
    default = None if required else given.default
    kind, parse, example, choices = _reader(hint)
    inner = parameters_of(parse) if kind in ("fields", "rows") else ()
    return Parameter(name, kind, required, default, parse, example, choices, inner, _rest(hint))


def _rest(hint: Any) -> str:
    return next((extra.rest for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Unit)), "")


Reader = tuple[Kind, Callable[..., object], str, tuple[str, ...]]


def _reader(hint: Any) -> Reader:
    """How text becomes a value of the annotated type."""
    if typing.get_origin(hint) is Annotated:
        unit = next(extra for extra in hint.__metadata__ if isinstance(extra, Unit))
        return "value", functools.partial(_checked, unit.parse), unit.example, ()
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        for known in (Path, Clip, Size):  # what may be a file or a clip is written as a file
            if known in members:
                return _reader(known)
        return _reader(members[0])
    if typing.get_origin(hint) is Literal:
        words = tuple(str(word) for word in typing.get_args(hint))
        return "value", functools.partial(_one_of, words), " | ".join(words), words
    if typing.get_origin(hint) is dict:
        return "table", str, "{name: value}", ()
    if typing.get_origin(hint) is tuple and is_dataclass(row := typing.get_args(hint)[0]) and row is not Clip:
        return "rows", typing.cast("type", row), "text", ()
    if typing.get_origin(hint) is tuple:
        several: Kind = "clips" if Clip in typing.get_args(hint) else "words"
        return several, str, "[$one, $another]" if several == "clips" else "[one, another]", ()
    if hint not in _PLAIN and isinstance(hint, type) and is_dataclass(hint):
        return "fields", hint, f"{{{', '.join(f'{field.name}: …' for field in fields(hint))}}}", ()
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
