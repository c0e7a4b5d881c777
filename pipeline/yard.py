"""Where renders are made: a project's folder on this machine, its batches and its store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.recipe import Recipe
from pipeline.roster import Batch, Orders, Shelf, from_json, to_json, within
from pipeline.sharing import Sharing, sharing_of
from pipeline.store import Store
from stages.carriers import sidecar_of
from stages.depot import Corrupt, Missing, keep_all
from stages.errors import InputError, WriteError
from stages.files import home, sha256, sweep
from stages.ingestion import SHEET
from stages.ledger import open_ledger, purchases


@dataclass(frozen=True, slots=True)
class Yard:
    """One project, whose `.pipeline/` is `folder`."""

    folder: Path

    @property
    def shelf(self) -> Shelf:
        """Its batches."""
        return Shelf(self.folder / "batches", self.shared)

    @property
    def shared(self) -> Sharing | None:
        """What it shares with other machines, if AFTERFRAME_STORE is set."""
        return sharing_of(self.folder)

    def submit(self, batch: Batch) -> None:
        """Write a batch down, and have all that it reads where other machines find it."""
        self._send(batch)
        self.shelf.keep(batch)

    def keep_for(self, schedule: str, batch: Batch) -> None:
        """Have the batch that a schedule makes, and all that it reads, where other machines find it."""
        self._send(batch)
        if shared := self.shared:
            shared.tell(f"schedules/{schedule}", to_json(batch))

    def kept_for(self, schedule: str, id: str) -> Batch | None:
        """The batch of a schedule, as it was when that was added, with an id of its own; None where no store is
        shared: then the files are read anew."""
        text = shared.text(f"schedules/{schedule}", 0.0) if (shared := self.shared) else None
        return replace(from_json(text), id=id, submitted=time.time()) if text else None

    def _send(self, batch: Batch) -> None:
        if shared := self.shared:
            project = self.folder.parent
            keep_all(shared.depot, [(project / name, digest) for name, digest in batch.files.items()])
            originals = (row for row in purchases(open_ledger()) if row.state == "DONE" and row.key in batch.keys)
            own = {home() / row.original: row.sha256 for row in originals} if batch.keys else {}
            keep_all(shared.depot, [(file, digest) for file, digest in own.items() if file.is_file()])

    def open(self, batch: str, render: str) -> tuple[Batch, Recipe, Store]:
        """What a step needs of a render. Raises InputError and RecipeError."""
        found, project = self.shelf.read(batch), self.folder.parent
        models = self._place(found, project / found.models) if found.models else None
        recipe = found.recipe_of(found.render(render), project, lambda path: self._place(found, path))
        return found, recipe, Store(self.folder, found.simulate, models)

    def _place(self, batch: Batch, path: Path) -> Path:
        """Where a file that a batch reads lies on this machine, as it was when the batch was submitted."""
        project, shared = self.folder.parent, self.shared
        digest, beside = batch.files.get(within(path, project)), batch.files.get(within(sidecar_of(path), project), "")
        if digest is None or shared is None:
            return path
        if path.is_file():
            here = Store(self.folder).look_at(path)
            if (here.sha256, here.beside or "") == (digest, beside):
                return path
        return shared.input(digest, path.name, beside)

    def told(self, batch: str) -> Orders:
        """What the batch was told last, as far as can be known now."""
        try:
            return self.shelf.told(batch)[0]
        except WriteError:
            return "go"

    def tell(self, batch: str, orders: Orders, why: str = "") -> None:
        """Tell it something else."""
        self.shelf.tell(batch, orders, why)

    def place(self, files: Iterable[Mapping[str, Any]]) -> list[Path]:
        """Have what was delivered on other machines in this project: the files that were not there. `files` are of a
        render's result. Raises InputError if the store does not have one any more."""
        placed: list[Path] = []
        for path, digest in (
            pair for file in files for pair in (*file.get("beside", {}).items(), (file["path"], file["sha256"]))
        ):
            target = self.folder.parent / path
            if "://" in path or (shared := self.shared) is None or (target.is_file() and sha256(target) == digest):
                continue
            try:
                shared.depot.fetch(digest, target)
            except (Missing, Corrupt) as error:
                raise InputError(f"{path}: cannot be fetched: {error}; submit the batch again") from None
            placed.append(target)
        return placed

    def sheet(self, film: str) -> Path | None:
        """The contact sheet of a film that some machine made."""
        file = self.folder / "tasks" / film / SHEET
        if file.is_file() or (shared := self.shared) is None:
            return file if file.is_file() else None
        digest = (shared.note(film) or {"files": {}})["files"].get(SHEET)
        with contextlib.suppress(InputError):
            return shared.input(digest, SHEET) if digest else None
        return None

    def tidy(self) -> None:
        """Clear away what killed workers left half-made."""
        for name in ("", "tmp", "slots", "anchors", "files", "batches"):
            sweep(self.folder / name)
