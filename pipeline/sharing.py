"""What a project shares with other machines through AFTERFRAME_STORE; its folder is then a cache before that.

    project             which project this is: all machines that share a store work for the same
    signer              its test signer, so that all sign as one
    batches/ID          what was submitted, and in ID.orders what it was told
    tasks/NAME          the note of a finished task: the names, bytes and SHA-256 of its files
    objects/ab/ab12…    these files, the users' that a batch reads, and the paid originals

    schedules/NAME      the batch that a schedule makes

What a machine makes it puts there, the note last; what it needs it fetches. So
a note that can be read stands for files that are there; one whose files are
gone or damaged is taken away, and the task made again. Two machines that share
a database, too, never make one task at the same time. Without a database the
store saves making things again, as a cache that a team shares.

All machines should have the same ffmpeg, trust lists and signer: these are part
of tasks' names. What a store costs in requests: four to eight for a task (its
note looked for and put, its files looked for and put), one a second for each
batch under way on each machine, and one for each batch when it is submitted. An
upload that was killed leaves parts in a bucket that nobody sees and that cost
money; a lifecycle rule ends them (S3: AbortIncompleteMultipartUpload).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stages.carriers import sidecar_of
from stages.depot import Corrupt, Depot, Missing, keep_all, object_name, shared_depot
from stages.errors import InputError, WriteError
from stages.files import attempt, fresh_folder, home, locked, sha256
from stages.signers import signer_from_environment, test_signer

FORGOTTEN = 30.0
"""Seconds after which a task that was not there is looked for again. Who makes one looks again before, under its
lock: to know late costs a look, and makes nothing twice."""

TOUCHED = 86_400.0
"""Seconds after which the use of a note is noted anew, so that garbage is told by its age."""

SIGNERS = re.compile(r"test-(root|signer)\.(pem|key)")
"""The files of a test signer."""

INPUTS = "inputs"
"""The folder of users' files that came through the store, each as `SHA256/NAME`."""


class Lost(Exception):
    """A finished task cannot be fetched: why."""


@dataclass(slots=True)
class Seen:
    """What this process knows of a store: notes as they were read, and when others were not there."""

    notes: dict[str, str] = field(default_factory=dict)
    missed: dict[str, float] = field(default_factory=dict)
    texts: dict[str, tuple[float, str, str]] = field(default_factory=dict)

    def note(self, name: str, text: str) -> None:
        """Keep a note; of very many only the latest."""
        self.missed.pop(name, None)
        if len(self.notes) >= 5000:
            self.notes.clear()
        self.notes[name] = text

    def forget_all(self) -> None:
        """As a process that has just begun."""
        for known in (self.notes, self.missed, self.texts):
            known.clear()

    def look_anew(self) -> None:
        """Look again for all that was not there: others are known to have made something meanwhile."""
        self.missed.clear()

    def forget(self, name: str) -> None:
        """Look for it again."""
        self.notes.pop(name, None)
        self.missed.pop(name, None)


@cache
def _seen(url: str) -> Seen:
    return Seen()


@dataclass(frozen=True, slots=True)
class Sharing:
    """A project's `.pipeline/` in `folder`, and the store that it shares. All raise WriteError and InputError as the
    store does."""

    folder: Path
    depot: Depot

    @property
    def seen(self) -> Seen:
        """What this process knows already."""
        return _seen(self.depot.url)

    # ------------------------------------------------------------ the project

    def project(self) -> str:
        """What the project is called: eight hexadecimal digits, the same on all machines."""
        kept = self.folder / "project"
        mine = kept.read_text(encoding="utf-8") if kept.exists() else secrets.token_hex(4)
        return self._agreed("project", lambda: mine)

    def _agreed(self, name: str, proposed: Callable[[], str]) -> str:
        """The text that all machines have under that name, whoever was first."""
        if name not in self.seen.texts:
            try:
                text = self.depot.read(name)
            except Missing:
                self.depot.write(name, proposed())
                text = self.depot.read(name)
            assert text
            self.seen.texts[name] = time.monotonic(), text.tag, text.text
        return self.seen.texts[name][2]

    def share_signer(self) -> None:
        """Have the project's test signer here, where no other is set."""
        folder = self.folder / "signer"
        if "signer" in self.seen.texts or signer_from_environment():
            return
        signer = json.loads(self._agreed("signer", lambda: json.dumps(_files(test_signer(folder).chain.parent))))
        with locked(folder / ".lock"):
            if _files(folder) != signer:
                for name in filter(SIGNERS.fullmatch, sorted(signer)):
                    with attempt(folder / name) as part:
                        part.touch(0o600)
                        part.write_text(signer[name], encoding="utf-8")
        if _files(test_signer(folder).chain.parent) != signer:  # it had run out
            self.depot.write("signer", json.dumps(_files(folder)), anew=True)

    # ------------------------------------------------------------ texts that change

    def text(self, name: str, within: float) -> str | None:
        """A text, as it was at most so many seconds ago, or as it was last while the store cannot be reached; None if
        there is none."""
        when, tag, text = known = self.seen.texts.get(name, (float("-inf"), "", ""))
        if time.monotonic() - when > within:
            try:
                found = self.depot.read(name, unless=tag)
                known = (time.monotonic(), found.tag, found.text) if found else (time.monotonic(), tag, text)
            except Missing:
                known = time.monotonic(), "", ""
            except WriteError:
                if name not in self.seen.texts:
                    raise
            self.seen.texts[name] = known
        return known[2] or None

    def tell(self, name: str, text: str) -> None:
        """Put it in place of what was there."""
        self.depot.write(name, text, anew=True)
        self.seen.texts.pop(name, None)

    # ------------------------------------------------------------ tasks

    def note(self, name: str) -> dict[str, Any] | None:
        """The note of a task that some machine has finished; None if none has."""
        seen = self.seen
        if name not in seen.notes:
            if time.monotonic() - seen.missed.get(name, float("-inf")) < FORGOTTEN:
                return None
            try:
                found = self.depot.read(f"tasks/{name}")
            except Missing:
                seen.missed[name] = time.monotonic()
                return None
            assert found
            seen.note(name, found.text)
            if time.time() - found.when > TOUCHED:
                self.depot.write(f"tasks/{name}", found.text, anew=True)
        loaded: dict[str, Any] = json.loads(seen.notes[name])
        return loaded

    def send(self, task: Path) -> None:
        """Put the files of a finished task there, then its note."""
        text = (task / "note.json").read_text(encoding="utf-8")
        keep_all(self.depot, _named_in(text, task))
        self.depot.write(f"tasks/{task.name}", text)
        self.seen.note(task.name, text)

    def send_late(self, tasks: Path) -> None:
        """Put there what was finished while the store could not be reached; not what was damaged since, which is made
        again when it is wanted."""
        for name in sorted(entry.name for entry in (self.folder / UNSENT).glob("*")):
            note = tasks / name / "note.json"
            if note.exists() and all(
                file.is_file() and sha256(file) == digest
                for file, digest in _named_in(note.read_text(encoding="utf-8"), note.parent)
            ):
                self.send(note.parent)
            (self.folder / UNSENT / name).unlink(missing_ok=True)

    def bring(self, name: str, target: Path) -> None:
        """Fetch a finished task into the folder `target`. Raises Lost if that cannot be."""
        note = self.note(name)
        if note is None:
            raise Lost(f"{name} is not in the store any more")
        with fresh_folder(self.folder / "tmp") as folder:
            for file, digest in note["files"].items():
                self._fetch(name, digest, folder / Path(file).name)
            for file, digest in note.get("home", {}).items():
                if not (own := home() / "originals" / Path(file).name).is_file():
                    self._fetch(name, digest, own)
            with attempt(folder / "note.json") as part:
                part.write_text(json.dumps(note, indent=1), encoding="utf-8")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                folder.rename(target)

    def _fetch(self, name: str, digest: str, target: Path) -> None:
        try:
            self.depot.fetch(digest, target)
        except Missing:
            self.discard(name)
            raise Lost(f"{self.depot.uri(digest)} is gone, which {name} needs") from None
        except Corrupt as error:
            self.discard(name, digest)
            raise Lost(str(error)) from None

    def discard(self, name: str, digest: str = "") -> None:
        """Take a note away whose files are not all there, and the damaged one."""
        self.depot.remove([f"tasks/{name}", *([object_name(digest)] if digest else [])])
        self.seen.forget(name)

    # ------------------------------------------------------------ users' files

    def input(self, digest: str, name: str, beside: str = "") -> Path:
        """A user's file, fetched if it is not here, and the credentials that lie `beside` it, by their SHA-256 if
        there are such. Raises InputError if it cannot be."""
        file = self.folder / INPUTS / (f"{digest}-{beside[:16]}" if beside else digest) / name
        if not file.exists():
            if beside:
                self._bring_input(beside, sidecar_of(file))
            self._bring_input(digest, file)
        return file

    def _bring_input(self, digest: str, file: Path) -> None:
        try:
            self.depot.fetch(digest, file)
        except Missing:
            raise InputError(f"{file.name}: is not in the store {self.depot.url}: submit the batch again") from None
        except Corrupt as error:
            self.depot.remove([object_name(digest)])
            raise InputError(f"{file.name}: {error}; submit the batch again") from None


UNSENT = "unsent"
"""The folder with the names of tasks that are finished here and not in the store yet."""


def sharing_of(folder: Path) -> Sharing | None:
    """What the project whose `.pipeline/` is `folder` shares; None if AFTERFRAME_STORE is not set."""
    depot = shared_depot()
    return Sharing(folder, depot) if depot else None


def of_home(result: object) -> dict[str, str]:
    """The paid originals that a noted result reads, relative to AFTERFRAME_HOME, with their SHA-256."""
    named = {text.removeprefix("home:") for text in _strings(result) if text.startswith("home:originals/")}
    return {name: sha256(home() / name) for name in sorted(named) if (home() / name).is_file()}


def swapped(result: Any, others: Callable[[str], str]) -> Any:
    """A noted result with other texts in place of its own."""
    if isinstance(result, str):
        return others(result)
    if isinstance(result, Mapping):
        return {key: swapped(value, others) for key, value in result.items()}
    return [swapped(value, others) for value in result] if isinstance(result, list | tuple) else result


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _named_in(text: str, task: Path) -> list[tuple[Path, str]]:
    """The files that the note of a task tells of, and the paid originals, each with its SHA-256."""
    note = json.loads(text)
    files = ((task / file, digest) for file, digest in note["files"].items())
    return [*files, *((home() / file, digest) for file, digest in note.get("home", {}).items())]


def _files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("test-*.*"))}
