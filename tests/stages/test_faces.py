"""Faces are found where they are, in upright pixels; where nobody can look, that is said."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scenes import FACE, PORTRAIT, SCENES, two_people

from stages.clip import Box
from stages.errors import InputError
from stages.faces import detector, find_faces

PHOTO = PORTRAIT.with_name("photo.jpg")


def overlap(box: Box, other: tuple[float, float, float, float]) -> float:
    """The share of both that is in both."""
    left, top, right, bottom = other
    wide = min(float(box.x + box.width), right) - max(float(box.x), left)
    high = min(float(box.y + box.height), bottom) - max(float(box.y), top)
    both = max(0.0, wide) * max(0.0, high)
    return both / (float(box.width * box.height) + (right - left) * (bottom - top) - both)


def found_in(image: Image.Image, folder: Path, **options: Any) -> tuple[Box, ...]:
    image.save(folder / "photo.png", **options)
    found = find_faces(folder / "photo.png")
    assert found is not None
    return found


@pytest.fixture
def portrait() -> Image.Image:
    with Image.open(PORTRAIT) as image:
        return image.convert("RGB")


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name.startswith("dlib"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    detector.cache_clear()
    yield
    detector.cache_clear()


def test_a_face_is_found_where_it_is() -> None:
    found = find_faces(PORTRAIT)
    assert found is not None
    (face,) = found
    assert overlap(face, FACE) > 0.7


def test_dandelions_have_no_face() -> None:
    assert find_faces(PHOTO) == ()


@pytest.mark.parametrize("name", ["ball_on_a_lawn", "odd_one_out", "moon_over_a_tower", "detail_on_a_wall"])
def test_what_is_drawn_has_no_face(name: str, tmp_path: Path) -> None:
    assert found_in(SCENES[name]()[0], tmp_path) == ()


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_a_box_is_in_the_pictures_own_pixels(size: int, portrait: Image.Image, tmp_path: Path) -> None:
    (face,) = found_in(portrait.resize((size, size)), tmp_path)
    assert overlap(face, tuple(edge * size / 512 for edge in FACE)) > 0.6  # type: ignore[arg-type]  # it has four


@pytest.mark.parametrize(("orientation", "turn"), [(3, "ROTATE_180"), (6, "ROTATE_90"), (8, "ROTATE_270")])
def test_a_box_is_on_the_upright_picture(orientation: int, turn: str, portrait: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = portrait.crop((0, 0, 512, 400))
    (face,) = found_in(wide.transpose(Image.Transpose[turn]), tmp_path, exif=exif)
    assert overlap(face, FACE) > 0.6


def test_the_largest_face_comes_first(tmp_path: Path) -> None:
    right, left = found_in(two_people(1300), tmp_path)
    assert right.width > left.width
    assert right.x > 1300 > left.x + left.width


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (3, 3), (640, 2)])
def test_pictures_too_small_for_a_face_have_none(size: tuple[int, int], tmp_path: Path) -> None:
    assert found_in(Image.new("RGB", size, "gray"), tmp_path) == ()


def test_a_face_at_the_edge_is_cut_off_there(portrait: Image.Image, tmp_path: Path) -> None:
    for face in found_in(portrait.crop((190, 90, 512, 400)), tmp_path):
        assert face.x >= 0
        assert face.y >= 0
        assert face.x + face.width <= 322


def test_what_is_no_picture_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no picture")
    for file in (tmp_path / "words.txt", tmp_path / "none.png"):
        with pytest.raises(InputError, match=file.name):
            find_faces(file)


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_nobody_looks() -> None:
    assert detector() == ""
    assert find_faces(PORTRAIT) is None


def test_who_looks_is_known_by_its_version() -> None:
    assert detector().startswith("dlib 2")
