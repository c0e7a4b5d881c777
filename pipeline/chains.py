"""What a result depends on, followed from step to step: hashes that become names, and words that explain them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.recipe import Given, Step
from pipeline.tasks import Parts
from stages.clip import Clip
from stages.errors import InputError


@dataclass(frozen=True, slots=True)
class Chain:
    """What a picture or a sound depends on.

    `identity` is a hash of what was asked for, versions aside: stages,
    parameters as written, users' files. `version` is one of the versions of
    the stages and tools behind it. `parts` say both in words.
    """

    identity: str = ""
    version: str = ""
    parts: Parts = field(default_factory=dict)

    def longer(self, step: Step, resolved: Mapping[str, One]) -> Chain:
        """With one more step on it, called with `resolved`."""
        parts = {**self.parts, step.name: step.stage.name}
        asked: dict[str, str] = {"stage": step.stage.name, "of": self.identity}
        versions = {"": self.version, step.stage.name: str(step.stage.version)}
        for key, value in sorted(resolved.items()):
            where = f"{step.name}.{key}"
            if isinstance(value, Given):
                asked[key] = parts[where] = value.text
            elif isinstance(value, File):
                asked[key] = parts[where] = f"sha256:{value.identity}"
            elif isinstance(value, Asked):
                versions[key] = parts[where] = value.text
            else:
                asked[key], versions[key] = value.both.identity, value.both.version
                parts |= {f"{where} > {inner}": text for inner, text in value.both.parts.items()}
        return Chain(digest(asked), digest(versions), parts)


@dataclass(frozen=True, slots=True)
class Made:
    """A step's result: the clip, what its picture and its sound depend on, and the tasks behind it."""

    clip: Clip
    picture: Chain
    sound: Chain
    steps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def both(self) -> Chain:
        """What the clip as a whole depends on."""
        if self.picture == self.sound:
            return self.picture
        identity = digest(self.picture.identity, self.sound.identity)
        version = digest(self.picture.version, self.sound.version)
        return Chain(identity, version, {**self.sound.parts, **self.picture.parts})


@dataclass(frozen=True, slots=True)
class File:
    """A file that is read as a file, not as a clip."""

    path: Path
    identity: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A value that a later step asked for: it makes a difference to the name, not to the identity."""

    text: str


One = Made | Given | File | Asked
Value = One | tuple[Made, ...]


def spread(resolved: Mapping[str, Value]) -> dict[str, One]:
    """Several clips each by a name of its own: `clips.1`, `clips.2`."""
    found: dict[str, One] = {}
    for key, value in resolved.items():
        if isinstance(value, tuple):
            found |= {f"{key}.{number}": one for number, one in enumerate(value, 1)}
        else:
            found[key] = value
    return found


def plain(value: Value) -> object:
    """What the stage's function is called with."""
    if isinstance(value, Given):
        return value.value
    if isinstance(value, Asked):
        return value.text
    if isinstance(value, tuple):
        return tuple(one.clip for one in value)
    return value.path if isinstance(value, File) else value.clip


def file_of(value: Value, parameter: str) -> Path:
    """The file that a job reads: the user's, or one that another job made."""
    if isinstance(value, File):
        return value.path
    assert isinstance(value, Made)
    try:
        return value.clip.file
    except InputError as error:
        raise InputError(str(error), parameter) from None


def identities(resolved: Mapping[str, One]) -> dict[str, str]:
    """Of the files and clips among a job's arguments."""
    files = {key: value.identity for key, value in resolved.items() if isinstance(value, File)}
    return files | {key: value.both.identity for key, value in resolved.items() if isinstance(value, Made)}


def needs_of(*made: Made) -> tuple[str, ...]:
    """The tasks behind all of them."""
    return tuple(dict.fromkeys(need for one in made for need in one.needs))


def digest(*parts: str | Parts) -> str:
    """20 hexadecimal digits of a SHA-256, the same whatever order the keys of a mapping are in."""
    text = "\n".join(part if isinstance(part, str) else repr(sorted(part.items())) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def what_changed(parts: Parts, before: Parts | None) -> str:
    """The first difference to what was made last time: `trim.length: 6s, was 5s`."""
    if before is None:
        return "new"
    for key in (*parts, *(key for key in before if key not in parts)):
        now, was = parts.get(key), before.get(key)
        if now != was:
            return f"a new {key}" if key in ("film", "sound") else f"{key}: {_short(now)}, was {_short(was)}"
    return "made before, and gone"


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text[:19] + "…" if text.startswith("sha256:") or len(text) > 60 else text
