"""A batch that is watched: a table on a terminal, a line whenever something changed elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipeline.board import ORDER, Standing, line

if TYPE_CHECKING:
    from rich.live import Live as Screen

SHOWN = 12
"""Renders that have a line of their own."""


class Live:
    """How a batch stands, on stderr, drawn anew at each look."""

    def __init__(self) -> None:
        self.screen: Screen | None = None
        self.last = ""

    def __enter__(self) -> Live:
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 -- on a terminal alone
            from rich.live import Live as Screen  # noqa: PLC0415 -- likewise

            self.screen = Screen(console=Console(stderr=True), transient=True)
            self.screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.screen:
            self.screen.stop()

    def show(self, standing: Standing) -> None:
        """Show it as it stands now."""
        if self.screen:
            self.screen.update(_table(standing))
        elif (told := line(standing)) != self.last:
            print(told, file=sys.stderr, flush=True)
            self.last = told


def _table(standing: Standing) -> Any:
    from rich.table import Table  # noqa: PLC0415 -- on a terminal alone

    table = Table(title=line(standing), title_justify="left", box=None)
    for name in ("row", "state", "given", "what"):
        table.add_column(name)
    ranks = {word: number for number, word in enumerate(("making", "buying", "failed", "done"))}
    renders = [render for render in standing.batch.good if standing.of(render).word in ranks]
    renders.sort(key=lambda render: (ranks[standing.of(render).word], -standing.of(render).ended))
    for render in renders[:SHOWN]:
        state = standing.of(render)
        files = ", ".join(f"{file['path']} {file['provenance']}" for file in state.result.get("files", ()))
        wrong = "; ".join(error["says"] for error in state.result.get("errors", ()))
        given = ", ".join(f"{name}={value}" for name, value in render.given.items())
        table.add_row(str(render.line), state.word, given[:50], wrong or files)
    table.caption = f"{sum(standing.counts[word] for word in ORDER)} renders"
    return table
