"""A crop keeps what a picture is about, on drawn pictures and on photographs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scenes import SCENES, dandelion

from stages.clip import Box, Size
from stages.geometry import CENTER, Point, window
from stages.pictures import Photo, thumbnail
from stages.saliency import FACE_WEIGHT, SIDE, salience, salient_point

TALL, WIDE = Fraction(9, 16), Fraction(16, 9)


def point_of(image: Image.Image, aspect: Fraction, faces: tuple[Box, ...] = ()) -> Point:
    whole = Box.of(Size(*image.size))
    photo = Photo(image, Size(*image.size), whole)
    colours, grey = thumbnail(photo, whole, SIDE, "RGB"), thumbnail(photo, whole, 10 * SIDE, "L")
    return salient_point(colours, grey, aspect, faces)


def holds(crop: Box, box: tuple[int, int, int, int]) -> bool:
    left, top, right, bottom = box
    return crop.x <= left and right <= crop.x + crop.width and crop.y <= top and bottom <= crop.y + crop.height


@pytest.mark.parametrize("name", SCENES)
def test_a_subject_off_the_middle_is_kept(name: str) -> None:
    image, subject = SCENES[name]()
    size = Size(*image.size)
    aspect = TALL if image.width > image.height else WIDE
    assert not holds(window(size, aspect), subject), "a crop around the centre would do"
    assert holds(window(size, aspect, point_of(image, aspect)), subject)


@pytest.mark.parametrize("name", SCENES)
def test_a_mirror_image_is_cut_at_the_mirrored_place(name: str) -> None:
    image, _ = SCENES[name]()
    aspect = TALL if image.width > image.height else WIDE
    (x, y), (mirrored, same) = point_of(image, aspect), point_of(ImageOps.mirror(image), aspect)
    assert abs(x - (1 - mirrored)) < Fraction(1, 20)
    assert abs(y - same) < Fraction(1, 20)


@pytest.mark.parametrize("colour", ["black", "white", "#406080"])
@pytest.mark.parametrize("aspect", [TALL, WIDE, Fraction(1)])
def test_where_nothing_stands_out_the_centre_is_kept(colour: str, aspect: Fraction) -> None:
    assert point_of(Image.new("RGB", (640, 360), colour), aspect) == CENTER


def test_a_shape_that_cuts_nothing_away_leaves_the_centre() -> None:
    assert point_of(dandelion()[0], WIDE) == CENTER


def test_a_face_outweighs_everything_else() -> None:
    image, _ = SCENES["ball_on_a_lawn"]()
    face = Box(Fraction(80), Fraction(200), Fraction(120), Fraction(120))
    assert holds(window(Size(*image.size), TALL, point_of(image, TALL, (face,))), (80, 200, 200, 320))
    whole = Box.of(Size(*image.size))
    photo = Photo(image, Size(*image.size), whole)
    weights = salience(thumbnail(photo, whole, SIDE, "RGB"), thumbnail(photo, whole, 10 * SIDE, "L"), (face,))
    assert max(map(max, weights)) == FACE_WEIGHT
    assert sum(weight == FACE_WEIGHT for row in weights for weight in row) >= 8 * 8


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 255), st.sampled_from([TALL, WIDE, Fraction(1)]))
def test_any_picture_has_a_point_on_it(width: int, height: int, seed: int, aspect: Fraction) -> None:
    pixels = bytes((seed * n * n + n) % 256 for n in range(width * height * 3))
    point = point_of(Image.frombytes("RGB", (width, height), pixels), aspect)
    assert all(0 <= share <= 1 for share in point)
