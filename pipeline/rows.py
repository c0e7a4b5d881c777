"""The rows of a batch: from a CSV, a JSONL file, a glob, or the recipe's own matrix, each to the inputs of one render.

    products.csv      a column an input; an empty cell leaves the input as the recipe has it
    products.jsonl    an object a line
    'clips/*.mp4'     each file is the input that must be given; `name`, if the recipe has it, is the file's name
    (nothing)         the recipe's `rows:` or `matrix:`, every combination of its values

Values stay as they were written, as in a recipe. A row that cannot be read is
told with its line, and stops no other.
"""

from __future__ import annotations

import csv
import glob
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.read import Heading, read_heading
from stages.errors import InputError
from stages.stage import nearest

NAME = "name"
"""The input that gets the name of a file that a glob found, without its ending."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one render is given. `line` is where in its file, or which of the files or combinations; `fault` is why
    it cannot be read, `other` what its author wrote besides, such as an article number."""

    line: int
    given: Mapping[str, str]
    fault: str = ""
    other: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a `source`, and the folder that the paths in them are looked up in first; `unused` columns are no
    inputs of the recipe."""

    source: str
    beside: Path
    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()


def read_rows(source: str, recipe: Path, text: str) -> Rows:
    """The rows in `source` for a recipe with this `text`; where `source` is empty, those that the recipe names.

    Raises InputError if there are none, or no column is one of its inputs.
    """
    heading = read_heading(recipe, text)
    if not source and heading.rows:
        source = str(recipe.parent / heading.rows)
    if not source:
        return Rows("matrix", recipe.parent, tuple(_combinations(heading)))
    if any(sign in source for sign in "*?["):
        return Rows(source, Path.cwd(), tuple(_files(source, heading)))
    file = Path(source)
    try:
        lines = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"--rows {source}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--rows {source}: cannot be read as UTF-8 text ({error})") from None
    rows = list(_objects(lines) if file.suffix in (".jsonl", ".ndjson", ".json") else _cells(lines))
    return _fitting(source, file.absolute().parent, rows, heading)


def _fitting(source: str, beside: Path, rows: Sequence[Row], heading: Heading) -> Rows:
    """With the columns that are inputs. One that is not may be a remark of the author's, or a slip of the pen."""
    known = {**heading.inputs, **heading.matrix}
    columns = dict.fromkeys(name for row in rows for name in row.given)
    unused = tuple(name for name in columns if name not in known)
    if not rows:
        raise InputError(f"--rows {source}: there are no rows")
    if columns and len(unused) == len(columns):
        wrong = unused[0]
        raise InputError(
            f"--rows {source}: no column is one of the recipe's inputs ({', '.join(known) or 'it has none'});"
            f" the first is {wrong}{nearest(wrong, known)}"
        )
    return Rows(source, beside, tuple(_parted(row, known) for row in rows), unused)


def _parted(row: Row, known: Mapping[str, object]) -> Row:
    given = {name: value for name, value in row.given.items() if name in known}
    return replace(row, given=given, other={name: row.given[name] for name in row.given if name not in given})


def _cells(text: str) -> Iterator[Row]:
    """The rows of a CSV whose first line names the columns; commas, semicolons or tabs between them."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, {}, f"is not CSV: {error}")
            continue
        if not names:
            names = [cell.strip() for cell in cells]
        elif len(cells) > len(names):
            yield Row(line, {}, f"has {len(cells)} cells for {len(names)} columns")
        elif any(cell.strip() for cell in cells):
            pairs = zip(names, cells, strict=False)
            yield Row(line, {name: cell.strip() for name, cell in pairs if name and cell.strip()})


def _objects(text: str) -> Iterator[Row]:
    """The objects of a JSONL file, with numbers as they were written."""
    for line, each in enumerate(text.splitlines(), 1):
        if not each.strip():
            continue
        try:
            said = json.loads(each, parse_float=str, parse_int=str)
        except (ValueError, RecursionError) as error:
            yield Row(line, {}, f"is not JSON: {error}")
            continue
        if not isinstance(said, dict):
            yield Row(line, {}, "should be an object of names and values")
            continue
        nested = [name for name, value in said.items() if isinstance(value, list | dict)]
        if nested:
            yield Row(line, {}, f"{nested[0]}: should be a value, not a list or an object")
        else:
            yield Row(line, {name: _written(value) for name, value in said.items() if value is not None})


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _files(pattern: str, heading: Heading) -> Iterator[Row]:
    found = sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())
    if not found:
        raise InputError(f"--rows {pattern}: no file has such a name")
    known = {**heading.inputs, **heading.matrix}
    open_ = [name for name, value in known.items() if value is None and name != NAME]
    takes = open_[0] if len(open_) == 1 else "clip"
    if takes not in known:
        what = f"several inputs that must be given ({', '.join(open_)})" if open_ else "no input that must be given"
        raise InputError(f"--rows {pattern}: the recipe has {what}, and none called clip: which gets the files?")
    for number, file in enumerate(found, 1):
        given = {takes: str(Path(file).absolute())}
        yield Row(number, {**given, NAME: Path(file).stem} if NAME in known else given)


def _combinations(heading: Heading) -> Iterator[Row]:
    if not heading.matrix:
        raise InputError("there are no rows: give --rows FILE, or the recipe a matrix:")
    values = [heading.matrix[name] for name in heading.matrix]
    for number, chosen in enumerate(itertools.product(*values), 1):
        yield Row(number, dict(zip(heading.matrix, chosen, strict=True)))
