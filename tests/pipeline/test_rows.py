"""Rows of a batch, from wherever they come: as they were written, and with the line of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.board import wrong_rows
from pipeline.roster import Batch, Render
from pipeline.rows import Row, read_rows
from stages.errors import InputError, RecipeError

RECIPE = "inputs: {product: ~, line: hello}\ndeliver: []\n"


def rows_in(folder: Path, name: str, content: str, recipe: str = RECIPE) -> list[tuple[int, dict[str, str], str]]:
    """The rows of a file, in short."""
    (folder / name).write_text(content, encoding="utf-8")
    found = read_rows(str(folder / name), folder / "r.yaml", recipe)
    return [(row.line, dict(row.given), row.fault) for row in found.rows]


def test_a_csv_is_taken_as_it_was_written(tmp_path: Path) -> None:
    text = '\ufeffproduct;line;price\nrose;"two\nlines";3\nno;;4\n\n1:30;00;5\n'
    assert rows_in(tmp_path, "a.csv", text) == [
        (2, {"product": "rose", "line": "two\nlines"}, ""),
        (4, {"product": "no"}, ""),
        (6, {"product": "1:30", "line": "00"}, ""),
    ]


def test_bad_rows_of_a_csv_are_told_with_their_lines(tmp_path: Path) -> None:
    told = rows_in(tmp_path, "a.csv", 'product,line\nrose,a,b\ncitrus,c\n"open\n')
    assert [(line, fault) for line, _, fault in told if fault] == [
        (2, "has 3 cells for 2 columns"),
        (4, "is not CSV: unexpected end of data"),
    ]
    assert (3, {"product": "citrus", "line": "c"}, "") in told


def test_jsonl_keeps_numbers_as_they_were_written(tmp_path: Path) -> None:
    text = '{"product": 1.50, "line": true}\n\n{"product": [1]}\n{"product": null, "line": "x"}\nnonsense\n[]\n'
    told = rows_in(tmp_path, "a.jsonl", text)
    assert told[0] == (1, {"product": "1.50", "line": "true"}, "")
    assert told[2] == (4, {"line": "x"}, "")
    assert [(line, fault.partition(":")[0]) for line, _, fault in told if fault] == [
        (3, "product"),
        (5, "is not JSON"),
        (6, "should be an object of names and values"),
    ]


def test_a_glob_gives_each_file_to_the_input_that_is_open(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "a.txt"):
        (tmp_path / name).touch()
    found = read_rows(str(tmp_path / "*.mp4"), tmp_path / "r.yaml", "inputs: {shot: ~, name: ~}\n")
    assert [row.given for row in found.rows] == [
        {"shot": str(tmp_path / f"{name}.mp4"), "name": name} for name in ("a", "b")
    ]
    with pytest.raises(InputError, match="no file has such a name"):
        read_rows(str(tmp_path / "*.mov"), tmp_path / "r.yaml", "inputs: {shot: ~}\n")
    with pytest.raises(InputError, match=r"several inputs that must be given \(one, two\)"):
        read_rows(str(tmp_path / "*.mp4"), tmp_path / "r.yaml", "inputs: {one: ~, two: ~}\n")


def test_a_matrix_is_every_combination(tmp_path: Path) -> None:
    text = "matrix: {product: [rose, 1:30], size: [small, large]}\n"
    found = read_rows("", tmp_path / "r.yaml", text)
    assert [tuple(row.given.values()) for row in found.rows] == [
        ("rose", "small"), ("rose", "large"), ("1:30", "small"), ("1:30", "large"),
    ]  # fmt: skip
    with pytest.raises(RecipeError, match=r"r.yaml:1: matrix.size: should be a list"):
        read_rows("", tmp_path / "r.yaml", "matrix: {size: small}\n")


def test_the_recipe_may_name_its_rows(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("product\nrose\n", encoding="utf-8")
    found = read_rows("", tmp_path / "r.yaml", f"rows: p.csv\n{RECIPE}")
    assert found.rows == (Row(2, {"product": "rose"}),)


def test_columns_that_are_no_inputs_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("product,price\nrose,3\n", encoding="utf-8")
    found = read_rows(str(tmp_path / "p.csv"), tmp_path / "r.yaml", RECIPE)
    assert found.unused == ("price",)
    assert found.rows == (Row(2, {"product": "rose"}, other={"price": "3"}),)
    (tmp_path / "p.csv").write_text("prodcut\nrose\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"did you mean product\?"):
        read_rows(str(tmp_path / "p.csv"), tmp_path / "r.yaml", RECIPE)
    with pytest.raises(InputError, match="there is no such file"):
        read_rows("none.csv", tmp_path / "r.yaml", RECIPE)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_whatever_a_csv_holds_no_row_is_lost_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = rows_in(folder, "any.csv", f"product,line\nrose,one\n{text}")
    assert lines[0] == (2, {"product": "rose", "line": "one"}, "")


def test_what_is_wrong_in_many_rows_is_told_once() -> None:
    faults = {2: "no file", 3: "no file", 4: "no file", 5: "", 6: "too long", 9: "no file"}
    renders = tuple(Render("", line, {}, fault) for line, fault in faults.items())
    batch = Batch("film", "film.yaml", "", "rows.csv", "", False, 0.0, renders)
    assert wrong_rows(batch) == ["rows.csv:2-4,9: no file", "rows.csv:6: too long"]
