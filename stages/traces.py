"""What was delivered from here, so that a copy whose manifest a platform took away can still be traced.

remember(film, sheet, verdict)     # when a film is delivered: a line in AFTERFRAME_HOME/delivered
recall(file)                       # the delivery that a file is, or once was

A copy is known by its bytes, by its streams (repackaged), or by its looks (encoded anew, scaled): six frames as
difference hashes of 64 bits each. It is a trace, not a proof: `verify` says what a file itself can prove.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.clip import Size
from stages.ffmpeg import contact_sheet, run_ffmpeg, sheet_layout
from stages.files import attempt, fresh_folder, home, locked, sha256, told
from stages.media import essence, probe

Alike = Literal["the same file", "the same streams", "the same looks"]

FRAMES, BITS = 6, 64
ALIKE = 10
"""Bits of 64, on average of six frames, by which a copy may differ. `python -m tests.benchmarks.traces`: copies of 240
lines at CRF 36 differ by 0 to 4, other films by 17 and more."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A film that was delivered: its name, preset and time, its SHA-256, the manifest store that it carried, and how a
    file that was asked about is `alike`."""

    name: str
    preset: str
    when: float
    sha256: str
    store: Path
    alike: Alike


def remember(film: Path, sheet: Path, store: bytes, *, name: str, preset: str) -> None:
    """Note that `film` was delivered as `name`, with the manifest `store`; `sheet` is the strip of its frames.

    Raises WriteError where AFTERFRAME_HOME cannot be written.
    """
    of = sha256(film)
    folder = _folder()
    if (folder / f"{of}.c2pa").is_file():
        return
    picture, _ = probe(film, pictures=True)
    looks = _looks(sheet, picture.size) if picture and sheet.is_file() else ()
    line = {
        "name": name, "preset": preset, "when": round(time.time(), 3), "sha256": of,
        "streams": essence(film), "looks": list(looks),
    }  # fmt: skip
    with locked(folder / ".lock"):
        index = folder / "index.jsonl"
        with told(index), index.open("a", encoding="utf-8") as lines:
            lines.write(f"\n{json.dumps(line)}\n")  # whatever a kill left of the line before
        with attempt(folder / f"{of}.c2pa") as part:  # last: it means that the line is there
            part.write_bytes(store)


def recall(file: Path) -> Delivery | None:
    """The delivery that `file` is a copy of, the closest first and then the latest; None if it is of none.

    Raises InputError if it cannot be read.
    """
    known = [each for each in _lines(_folder()) if (_folder() / f"{each['sha256']}.c2pa").is_file()]
    if not known:
        return None
    if same := [each for each in known if each["sha256"] == sha256(file)]:
        return _delivery(same[-1], "the same file")
    streams = essence(file)
    if same := [each for each in known if each["streams"] == streams]:
        return _delivery(same[-1], "the same streams")
    looks = looks_of(file)
    near = [(distance(looks, each["looks"]), -each["when"], each) for each in known if each["looks"] and looks]
    found = min(near, default=None, key=lambda one: one[:2])
    return _delivery(found[2], "the same looks") if found and found[0] <= ALIKE else None


def distance(looks: tuple[int, ...], others: tuple[int, ...]) -> float:
    """Bits by which six frames differ, on average: 0 to 64."""
    pairs = list(zip(looks, others, strict=False))
    return sum((one ^ other).bit_count() for one, other in pairs) / len(pairs) if pairs else float(BITS)


# ---------------------------------------------------------------- looks


def looks_of(file: Path) -> tuple[int, ...]:
    """A hash of each of six frames of a film; none if it has no picture. Raises InputError as `probe`."""
    picture, _ = probe(file, pictures=True)
    if picture is None:
        return ()
    with fresh_folder(_folder()) as work:
        contact_sheet(file, picture, work / "sheet.jpg")
        return _looks(work / "sheet.jpg", picture.size)


def _looks(sheet: Path, frame: Size) -> tuple[int, ...]:
    """A difference hash of each of the six frames on a contact sheet: whether a pixel is brighter than the next one,
    on eight rows of nine."""
    columns, rows = sheet_layout(frame)
    across = 9 * columns
    scaled = f"scale={across}:{8 * rows}:flags=area,format=gray"
    with fresh_folder(_folder()) as work:
        run_ffmpeg(["-i", str(sheet.absolute()), "-vf", scaled, "-f", "rawvideo", "-frames:v", "1", "small"], work)
        grey = (work / "small").read_bytes()
    return tuple(
        sum(
            (grey[at] > grey[at + 1]) << (8 * y + x)
            for y in range(8)
            for x in range(8)
            for at in [(8 * row + y) * across + 9 * column + x]
        )
        for row in range(rows)
        for column in range(columns)
    )


# ---------------------------------------------------------------- the index


def _folder() -> Path:
    return home() / "delivered"


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    try:
        text = (folder / "index.jsonl").read_text(encoding="utf-8")
    except OSError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # cut off by a kill


def _delivery(told: dict[str, Any], alike: Alike) -> Delivery:
    store = _folder() / f"{told['sha256']}.c2pa"
    return Delivery(told["name"], told["preset"], told["when"], told["sha256"], store, alike)
