"""What people and scripts are told of batches: how they stand, what came of each row, what it cost."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pipeline.roster import Batch, Orders, Render
from stages.clip import printed_seconds
from stages.money import dollars

ENDED = ("done", "failed", "held", "new")
"""Words for renders that nobody works on."""

ORDER = ("done", "failed", "making", "buying", "queued", "waiting", "held", "new")

COLUMNS = (
    "row", "state", "file", "sha256", "bytes", "preset", "size", "frames", "duration", "loudness", "provenance",
    "paid", "simulated", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """How a render stands: `waiting` for its turn, `buying`, `queued` for a slot, `making`, `done`, `failed`,
    `held` or `new`. Times are seconds since 1970."""

    word: str
    result: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    executor: str = ""


NEW = State("new")

NOBODY: Mapping[str, State] = {}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands at a moment: what it was told last and why, and each of its renders, by id."""

    batch: Batch
    orders: Orders
    why: str
    states: Mapping[str, State]

    @property
    def counts(self) -> Counter[str]:
        """How many renders stand how."""
        return Counter(self.states.get(render.id, NEW).word for render in self.batch.good)

    @property
    def over(self) -> bool:
        """Whether nobody works on it any more."""
        return all(word in ENDED for word in self.counts)

    @property
    def paid(self) -> Decimal:
        """US dollars that its finished renders cost, simulated ones too."""
        return sum((Decimal(state.result.get("paid", "0")) for state in self.states.values()), Decimal(0))

    @property
    def word(self) -> str:
        """How the whole stands."""
        if self.orders != "go" and not self.done:
            return {"pause": "paused", "cancel": "cancelled", "stop": "stopped"}[self.orders]
        return "done" if self.done else "over" if self.over else "under way"

    @property
    def done(self) -> bool:
        """Whether every render that can run is done."""
        return self.counts["done"] == len(self.batch.good)

    def of(self, render: Render) -> State:
        """How one render stands."""
        return self.states.get(render.id, NEW)

    def seconds(self) -> float:
        """How long its renders took by the clock, from the first that began to the last that ended."""
        began = [state.began for state in self.states.values() if state.began]
        ended = [state.ended for state in self.states.values() if state.ended]
        return max(ended) - min(began) if began and ended else 0.0


def line(standing: Standing) -> str:
    """`film-1126-2041-a3f9  under way  120 of 200 done, 2 failed, 2 making, 76 queued  $12.00`."""
    counts, batch = standing.counts, standing.batch
    told = [f"{counts['done']} of {len(batch.good)} done"]
    told += [f"{counts[word]} {word}" for word in ORDER[1:] if counts[word]]
    if batch.bad:
        told.append(f"{len(batch.bad)} bad row{'s' if len(batch.bad) > 1 else ''}")
    return f"{batch.id}  {standing.word}  {', '.join(told)}  {_spent(standing)}".rstrip()


def _spent(standing: Standing) -> str:
    if not any(render.buys for render in standing.batch.good):
        return ""
    simulated = not any(render.real for render in standing.batch.good)
    return f"{dollars(standing.paid)} spent{' (SIMULATED: nothing is paid)' if simulated else ''}"


def text(standing: Standing, most: int = 20) -> str:
    """The batch in a line, then what went wrong, each with its rows."""
    lines = [line(standing)]
    if standing.why:
        lines.append(f"  {standing.why}")
    wrong = wrong_rows(standing.batch, standing.states)
    lines += [f"  {each}" for each in wrong[:most]]
    if len(wrong) > most:
        lines.append(f"  … and {len(wrong) - most} more: pipeline export {standing.batch.id}")
    if standing.over and standing.counts["failed"]:
        lines.append(f"  `pipeline resume --failed {standing.batch.id}` tries again what failed")
    return "\n".join(lines)


def wrong_rows(batch: Batch, states: Mapping[str, State] = NOBODY) -> list[str]:
    """What is wrong, with the rows that it is wrong in: `rows.csv:3-5,9: none.mp4: there is no such file`."""
    rows: dict[str, list[int]] = {}
    for render in batch.renders:
        errors = states.get(render.id, NEW).result.get("errors", ())
        for says in [*filter(None, [render.fault]), *(error["says"] for error in errors)]:
            rows.setdefault(says, []).append(render.line)
    return [f"{batch.source}:{_ranges(lines)}: {says}".replace("\n", "\n    ") for says, lines in rows.items()]


def _ranges(lines: Sequence[int]) -> str:
    """`3-5,9` for 3, 4, 5 and 9."""
    found: list[list[int]] = []
    for number in sorted(set(lines)):
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, each)) for each in found)


def to_json(standing: Standing, *, rows: bool = True) -> dict[str, Any]:
    """The same for scripts."""
    batch = standing.batch
    told: dict[str, Any] = {
        "batch": batch.id,
        "recipe": batch.recipe,
        "state": standing.word,
        "why": standing.why,
        "renders": len(batch.good),
        "bad_rows": len(batch.bad),
        "counts": dict(standing.counts),
        "paid": f"{standing.paid:.2f}",
        "submitted": batch.submitted,
        "seconds": round(standing.seconds(), 1),
    }
    return {**told, "rows": [row_json(standing, render) for render in batch.renders]} if rows else told


def row_json(standing: Standing, render: Render) -> dict[str, Any]:
    """What came of one row, for scripts."""
    state = standing.of(render)
    errors = [render.fault] if render.fault else [error["says"] for error in state.result.get("errors", ())]
    return {
        "row": render.line,
        "render": render.id,
        "given": dict(render.given),
        "other": dict(render.other),
        "state": "bad row" if render.fault else state.word,
        "files": state.result.get("files", []),
        "paid": state.result.get("paid", "0.00"),
        "simulated": state.result.get("simulated", False),
        "made": state.result.get("made", {}),
        "seconds": state.result.get("seconds", 0.0),
        "warnings": state.result.get("warnings", []),
        "errors": errors,
    }


def export(standing: Standing, kind: str) -> str:
    """All rows as `csv` (a line a file, or one for a row without any) or `jsonl` (a line a row), each with all that
    its own columns said; one that is called like one of ours is `row.size`."""
    rows = [row_json(standing, render) for render in standing.batch.renders]
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    own = dict.fromkeys(name for render in standing.batch.renders for name in (*render.given, *render.other))
    heads = {name: f"row.{name}" if name in COLUMNS else name for name in own}
    out = io.StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, *heads.values()], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        said = {heads[name]: value for name, value in (row["given"] | row["other"]).items()}
        plain = {**row, **said, "error": "; ".join(row["errors"])}
        for number, file in enumerate(row["files"] or [{}]):
            paid = {} if number == 0 else {"paid": "", "seconds": ""}  # a row is paid once, however many files it has
            # Decimals, since 25/12 is a date to many.
            seconds = {"duration": printed_seconds(Fraction(file["duration"]))} if file else {}
            writer.writerow({**plain, **file, **seconds, "file": file.get("path", ""), **paid})
    return out.getvalue()
