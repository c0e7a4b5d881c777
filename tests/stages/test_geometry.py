"""Crops and focus as people write them, on pictures of any size."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described

from stages.clip import Box, Size
from stages.errors import InputError
from stages.framing import fit
from stages.geometry import CENTER, Crop, parse_focus, parse_still_focus


def edges(box: Box) -> tuple[int, int, int, int]:
    return int(box.x), int(box.y), int(box.x + box.width), int(box.y + box.height)


# ---------------------------------------------------------------- crop


def test_the_cells_of_a_grid_are_counted_row_by_row() -> None:
    sheet = Size(300, 200)
    found = [edges(Crop.parse(f"3x2:{cell}").on(sheet)) for cell in range(1, 7)]
    assert found == [
        (0, 0, 100, 100), (100, 0, 200, 100), (200, 0, 300, 100),
        (0, 100, 100, 200), (100, 100, 200, 200), (200, 100, 300, 200),
    ]  # fmt: skip


@given(st.builds(Size, st.integers(6, 5000), st.integers(6, 5000)), st.integers(1, 6), st.integers(1, 6))
def test_the_cells_of_a_grid_hold_every_pixel_once(size: Size, columns: int, rows: int) -> None:
    cells = [Crop(f"{columns}x{rows}", cell).on(size) for cell in range(1, columns * rows + 1)]
    assert sum(cell.width * cell.height for cell in cells) == size.width * size.height
    rights = {int(cell.x + cell.width) for cell in cells}
    assert {int(cell.x) for cell in cells} - {0} == rights - {size.width}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10%,20%,30%,40%", (100, 100, 400, 300)),
        ("10% 20% 30% 40%", (100, 100, 400, 300)),
        ("120, 80, 640, 360", (120, 80, 760, 440)),
        ("120px,80px,640px,360px", (120, 80, 760, 440)),
        ("0,0,50%,100%", (0, 0, 500, 500)),
        ("33.3%,0,33.4%,100%", (333, 0, 667, 500)),
        ("2x1:2", (500, 0, 1000, 500)),
        ("2×1:1", (0, 0, 500, 500)),
        (" 3 x 2 : 4 ", (0, 250, 333, 500)),
    ],
)
def test_a_crop_is_read_as_it_is_written(text: str, shown: tuple[int, int, int, int]) -> None:
    assert edges(Crop.parse(text).on(Size(1000, 500))) == shown


@given(st.builds(Size, st.integers(100, 5000), st.integers(100, 5000)), st.integers(0, 99), st.data())
def test_a_crop_in_shares_stays_inside(size: Size, left: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 100 - left))
    box = Crop.parse(f"{left}%,{left}%,{width}%,{width}%").on(size)
    assert 0 <= box.x < box.x + box.width <= size.width
    assert 0 <= box.y < box.y + box.height <= size.height


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("3x2:7", "the cells 1 to 6, row by row, not 7"),
        ("3x2:0", "the cells 1 to 6, row by row, not 0"),
        ("0x2:1", "should be a grid such as 3x2"),
        ("3x2", "should be a cell of a grid such as 3x2:4"),
        ("3:4", "should be a cell of a grid"),
        ("10%,20%,30%", "should be left, top, width and height"),
        ("10%,20%,30%,-40%", "should be left, top, width and height"),
        ("left", "should be left, top, width and height"),
        ("", "should be a cell of a grid, such as 3x2:4, or a box"),
    ],
)
def test_what_is_no_crop_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        Crop.parse(text)
    assert caught.value.parameter == "crop"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("60%,0,50%,100%", "reaches outside of the picture, which is 200x100"),
        ("120,80,640,360", "reaches outside"),
        ("0,0,0.1%,100%", "leaves nothing of a picture of 200x100"),
        ("300x1:2", "leaves nothing"),
    ],
)
def test_a_crop_that_the_picture_does_not_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Crop.parse(text).on(Size(200, 100))


def test_a_crop_can_be_made_of_its_fields_and_prints_as_it_is_written() -> None:
    assert Crop(grid="3x2", cell=4) == Crop.parse("3x2:4")
    assert str(Crop(grid="3x2", cell=4)) == "3x2:4"
    assert str(Crop(box="10%,20%,30%,40%")) == "10%,20%,30%,40%"
    for wrong in ({}, {"grid": "3x2", "cell": 9}, {"grid": "3x2", "cell": 1, "box": "0,0,1,1"}):
        with pytest.raises(InputError):
            Crop(**wrong)  # type: ignore[arg-type]  # as a recipe's mapping would


# ---------------------------------------------------------------- focus


@pytest.mark.parametrize("text", ["left", "0.3", "1.3x0.5", "0.3x2", "-0.1x0.5", "x", "", "faces"])
def test_a_focus_that_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="should be center or a point"):
        parse_focus(text)
    with pytest.raises(InputError, match="should be center, auto, face or a point"):
        parse_still_focus(text)


def test_a_focus_is_exact() -> None:
    assert parse_focus("0.3x0.7") == parse_still_focus("0.3x0.7") == (Fraction(3, 10), Fraction(7, 10))
    assert parse_focus("1x0") == (Fraction(1), Fraction(0))
    assert parse_still_focus(" center ") == CENTER


@pytest.mark.parametrize("text", ["auto", "face"])
def test_a_clip_is_not_looked_into_and_a_still_picture_is(text: str) -> None:
    assert parse_still_focus(text) == text
    with pytest.raises(InputError, match=f"'{text}' looks into a picture, which only prepare does"):
        fit(described("1280x720"), size="720x720", focus=text)
