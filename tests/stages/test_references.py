"""Photos of every kind become the exact pixels asked for, and what is no photo is told in one sentence."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from scenes import SCENES, two_people

from stages import faces, pictures, references
from stages.clip import Action, Box, Clip, Size
from stages.errors import InputError
from stages.geometry import Mode, placement
from stages.references import look_at, make_reference, prepare, promise_reference

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CENTER = (Fraction(1, 2), Fraction(1, 2))
Rgb = tuple[int, int, int]


def corners(size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Quarters in red, green, blue and white, from the top left to the bottom right."""
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for at, colour in zip(((0, 0), (width, 0), (0, height), (width, height)), (RED, GREEN, BLUE, WHITE), strict=True):
        image.paste(colour, (*at, at[0] + width, at[1] + height))
    return image


def prepared(
    file: Path, size: str = "160x120", fit: Mode = "cover", focus: str = "center", background: str = "black"
) -> Image.Image:
    """What `prepare` wrote, read back."""
    made = make_reference(file, size=size, fit=fit, focus=focus, background=background, folder=file.parent / "made")
    with Image.open(made.file) as image:
        assert image.mode == "RGB"
        assert f"{image.width}x{image.height}" == size
        return image.copy()


def quarters(image: Image.Image) -> list[Rgb]:
    """The colours in the middle of its quarters."""
    right, bottom = image.width * 3 // 4, image.height * 3 // 4
    places = ((right // 3, bottom // 3), (right, bottom // 3), (right // 3, bottom), (right, bottom))
    return [pixel(image, *place) for place in places]


def pixel(image: Image.Image, x: int, y: int) -> Rgb:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value[0], value[1], value[2]


def near(one: Rgb, other: Rgb, within: int = 3) -> bool:
    return all(abs(a - b) <= within for a, b in zip(one, other, strict=True))


def all_near(found: list[Rgb], wanted: list[Rgb], within: int = 3) -> bool:
    return all(near(one, other, within) for one, other in zip(found, wanted, strict=True))


# ---------------------------------------------------------------- geometry

sides = st.integers(1, 20_000)
sizes = st.builds(Size, sides, sides)
targets = st.builds(Size, st.integers(16, 4096), st.integers(16, 4096))
shares = st.fractions(0, 1, max_denominator=1000)


@given(sizes, targets, shares, shares)
def test_cover_shows_a_window_of_the_frames_shape_inside_the_photo(
    source: Size, target: Size, x: Fraction, y: Fraction
) -> None:
    window = placement(Box.of(source), target, "cover", (x, y)).window
    assert window.width / window.height == target.aspect
    assert window.width == source.width or window.height == source.height
    assert 0 <= window.x <= window.x + window.width <= source.width
    assert 0 <= window.y <= window.y + window.height <= source.height


@given(sizes, targets, shares, shares)
def test_cover_has_the_focus_in_the_middle_unless_an_edge_is_in_the_way(
    source: Size, target: Size, x: Fraction, y: Fraction
) -> None:
    window = placement(Box.of(source), target, "cover", (x, y)).window
    if 0 < window.x < source.width - window.width:
        assert window.x + window.width / 2 == x * source.width
    if 0 < window.y < source.height - window.height:
        assert window.y + window.height / 2 == y * source.height


@given(sizes, targets)
def test_contain_shows_all_of_the_photo_and_touches_two_edges(source: Size, target: Size) -> None:
    place = placement(Box.of(source), target, "contain", CENTER)
    assert place.window == Box.of(source)
    assert place.size.width == target.width or place.size.height == target.height
    assert 0 <= place.left <= target.width - place.size.width
    assert 0 <= place.top <= target.height - place.size.height


# ---------------------------------------------------------------- every kind of photo


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch", "blur"])
@pytest.mark.parametrize("size", ["720x1280", "160x120", "1280x718"])
def test_the_size_is_exact(tmp_path: Path, fit: Mode, size: str) -> None:
    corners((333, 251)).save(tmp_path / "photo.png")
    prepared(tmp_path / "photo.png", size, fit)


def test_cover_follows_the_focus(tmp_path: Path) -> None:
    corners((400, 100)).save(tmp_path / "photo.png")
    left = prepared(tmp_path / "photo.png", "100x100", focus="0x0.5")
    right = prepared(tmp_path / "photo.png", "100x100", focus="1x0.5")
    assert all_near(quarters(left), [RED, RED, BLUE, BLUE])
    assert all_near(quarters(right), [GREEN, GREEN, WHITE, WHITE])


def test_contain_has_bars_of_the_background(tmp_path: Path) -> None:
    corners((400, 100)).save(tmp_path / "photo.png")
    image = prepared(tmp_path / "photo.png", "100x100", "contain", background="#102030")
    assert pixel(image, 50, 10) == pixel(image, 50, 90) == (0x10, 0x20, 0x30)
    assert near(pixel(image, 10, 45), RED)


def test_blur_fills_the_bars_with_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100), (200, 100, 50)).save(tmp_path / "photo.png")
    image = prepared(tmp_path / "photo.png", "100x100", "blur")
    assert near(pixel(image, 50, 5), (200, 100, 50))


STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera held so does to the picture: the inverse of what EXIF asks for."""


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("size", [(400, 300), (1600, 1200)])
def test_a_camera_held_in_any_way_gives_an_upright_picture(
    tmp_path: Path, orientation: int, suffix: str, size: tuple[int, int]
) -> None:
    turn, exif, file = STORED[orientation], Image.Exif(), tmp_path / f"photo.{suffix}"
    exif[0x0112] = orientation
    photo = corners(size)
    (photo if turn is None else photo.transpose(turn)).save(file, exif=exif)
    made = make_reference(file, size="160x120", folder=tmp_path)
    assert made.source == Size(*size)
    with Image.open(made.file) as image:
        assert all_near(quarters(image), [RED, GREEN, BLUE, WHITE], within=8)


@pytest.mark.parametrize("orientation", STORED)
def test_heic_is_read_upright_and_as_one_picture(tmp_path: Path, orientation: int) -> None:
    pillow_heif.register_heif_opener()
    turn, exif = STORED[orientation], Image.Exif()
    exif[0x0112] = orientation
    stored = corners() if turn is None else corners().transpose(turn)
    behind = Image.new("RGB", stored.size, "gray")
    stored.save(tmp_path / "photo.heic", "HEIF", exif=exif.tobytes(), quality=90, save_all=True, append_images=[behind])
    made = make_reference(tmp_path / "photo.heic", size="160x120", folder=tmp_path)
    assert (made.source, made.notes) == (Size(400, 300), ())
    with Image.open(made.file) as image:
        assert all_near(quarters(image), [RED, GREEN, BLUE, WHITE], within=8)


@pytest.mark.parametrize("suffix", ["avif", "webp", "bmp", "ppm", "jp2", "tif", "gif"])
def test_every_common_format_is_read(tmp_path: Path, suffix: str) -> None:
    corners().save(tmp_path / f"photo.{suffix}")
    assert all_near(quarters(prepared(tmp_path / f"photo.{suffix}")), [RED, GREEN, BLUE, WHITE], within=12)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    corners().convert("CMYK").save(tmp_path / "photo.jpg", quality=95)
    assert all_near(quarters(prepared(tmp_path / "photo.jpg")), [RED, GREEN, BLUE, WHITE], within=8)


@pytest.mark.parametrize(("deep", "shown"), [(0, 0), (257, 1), (32768, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, deep: int, shown: int) -> None:
    Image.new("I;16", (40, 30), deep).save(tmp_path / "photo.png")
    assert pixel(prepared(tmp_path / "photo.png"), 80, 60) == (shown, shown, shown)


def test_sixteen_bit_colour_keeps_its_tones(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(8, 8, depth=16, rows=struct.pack(">HHH", 0x8080, 0x4040, 0xFFFF) * 8))
    assert pixel(prepared(tmp_path / "photo.png", "16x16"), 8, 8) == (0x80, 0x40, 0xFF)


def test_transparent_palette_shows_the_background(tmp_path: Path) -> None:
    palette = corners().convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    white = palette.getpixel((390, 290))
    palette.save(tmp_path / "photo.png", transparency=white)
    image = prepared(tmp_path / "photo.png", background="#ff00ff")
    assert all_near(quarters(image), [RED, GREEN, BLUE, (255, 0, 255)])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (40, 30), (255, 255, 255, 128)).convert(mode)
    image.save(tmp_path / "photo.png")
    assert near(pixel(prepared(tmp_path / "photo.png", background="black"), 80, 60), (128, 128, 128))


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_every_common_mode_is_read(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("photo.tif" if mode == "YCbCr" else "photo.png")
    Image.new("RGB", (40, 30), "white").convert(mode).save(file)
    assert near(pixel(prepared(file), 80, 60), WHITE)


def swapped_profile() -> bytes:
    """An RGB profile whose red is sRGB's green and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"temp").replace(b"gXYZ", b"rXYZ").replace(b"temp", b"gXYZ")


def test_colours_are_converted_by_their_profile(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo.png", icc_profile=swapped_profile())
    assert all_near(quarters(prepared(tmp_path / "photo.png")), [GREEN, RED, BLUE, WHITE], within=4)


def test_a_profile_reaches_the_colours_beside_transparency(tmp_path: Path) -> None:
    image = corners().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 128))
    image.save(tmp_path / "photo.png", icc_profile=swapped_profile())
    assert near(pixel(prepared(tmp_path / "photo.png"), 20, 20), (0, 128, 0), within=4)


def test_srgb_stays_as_it_is(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "photo.png", icc_profile=srgb)
    assert near(pixel(prepared(tmp_path / "photo.png"), 80, 60), (200, 100, 50), within=1)


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(corners(), to_lab)
    assert lab
    lab.save(tmp_path / "photo.tif")
    # eight bits of Lab are coarse at the corners of sRGB
    assert all_near(quarters(prepared(tmp_path / "photo.tif")), [RED, GREEN, BLUE, WHITE], within=24)


@pytest.mark.parametrize("space", ["XYZ", "LAB"])
def test_a_profile_for_other_pixels_is_passed_over_and_said(tmp_path: Path, space: Literal["XYZ", "LAB"]) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
    corners().save(tmp_path / "photo.png", icc_profile=profile)
    made = make_reference(tmp_path / "photo.png", size="160x120", folder=tmp_path)
    assert "read without it" in "".join(made.notes)
    with Image.open(made.file) as image:
        assert all_near(quarters(image), [RED, GREEN, BLUE, WHITE])


def test_a_broken_profile_is_passed_over_and_said(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo.png", icc_profile=b"not a profile" * 20)
    made = make_reference(tmp_path / "photo.png", size="160x120", folder=tmp_path)
    assert made.notes == ("photo.png has a broken colour profile: read without it",)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"photo.{suffix}", save_all=True, append_images=frames[1:])
    made = make_reference(tmp_path / f"photo.{suffix}", size="40x30", folder=tmp_path)
    assert made.notes == (f"photo.{suffix} has 3 frames: the first one is used",)
    with Image.open(made.file) as image:
        assert near(pixel(image, 20, 15), RED)


def test_a_tiny_picture_is_enlarged_and_the_user_told(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "photo.png")
    made = prepare(tmp_path / "photo.png", size="1280x720", folder=tmp_path)
    with Image.open(made.file) as image:
        assert pixel(image, 0, 0) == pixel(image, 1279, 719) == RED
    assert made.remarks == ("photo.png is 1x1: enlarged 1280.0 times for 1280x720, it will look soft",)
    assert dict(made.history[-1].parameters)["note"] == made.remarks[0]


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
@pytest.mark.parametrize("fit", ["cover", "contain", "stretch", "blur"])
def test_a_line_of_pixels_is_a_picture_too(tmp_path: Path, size: tuple[int, int], fit: Mode) -> None:
    Image.new("RGB", size, "lime").save(tmp_path / "photo.png")
    assert pixel(prepared(tmp_path / "photo.png", "160x120", fit), 79, 59) == GREEN


def test_a_huge_jpeg_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """Of 108 megapixels, which are 324 MB when they are decoded; in a process of its own, whose peak is its own."""
    Image.new("RGB", (12_000, 9_000), "teal").save(tmp_path / "photo.jpg", quality=80)
    script = (
        "import sys; from pathlib import Path; from stages.references import make_reference\n"
        "for focus in ('center', 'face'):\n"
        "    made = make_reference(Path(sys.argv[1]), size='1280x720', focus=focus, folder=Path(sys.argv[2]))\n"
        "assert str(made.source) == '12000x9000'\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) // 1024)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "photo.jpg"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 220, f"{done.stdout} MB"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_large_picture_is_cropped_where_it_should_be(tmp_path: Path, suffix: str) -> None:
    corners((4000, 3000)).save(tmp_path / f"photo.{suffix}")
    made = make_reference(tmp_path / f"photo.{suffix}", size="160x120", folder=tmp_path)
    assert (made.source, made.window) == (Size(4000, 3000), Box.of(Size(4000, 3000)))
    with Image.open(made.file) as image:
        assert near(pixel(image, 78, 58), RED, within=8)  # a pixel and a half from where the four meet
        assert near(pixel(image, 81, 61), WHITE, within=8)


def test_jpeg_is_written_where_a_model_wants_it(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo.png")
    made = make_reference(tmp_path / "photo.png", size=Size(160, 120), format="jpeg", folder=tmp_path / "made")
    with Image.open(made.file) as image:
        assert (made.file.name, image.format, image.size) == ("reference.jpg", "JPEG", (160, 120))
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == ["crop.jpg", "reference.jpg"]


def test_where_it_was_taken_is_not_passed_on(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    corners().save(tmp_path / "photo.jpg", exif=exif, icc_profile=swapped_profile())
    image = prepared(tmp_path / "photo.jpg")
    assert not image.getexif()
    assert "icc_profile" not in image.info


def test_the_same_photo_gives_the_same_bytes(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo.jpg")
    one = make_reference(tmp_path / "photo.jpg", size="160x120", folder=tmp_path / "one").file.read_bytes()
    assert make_reference(tmp_path / "photo.jpg", size="160x120", folder=tmp_path / "two").file.read_bytes() == one


# ---------------------------------------------------------------- a part of it


def test_each_cell_of_a_sheet_is_a_picture_of_its_own(tmp_path: Path) -> None:
    corners((400, 300)).save(tmp_path / "sheet.png")
    for cell, colour in enumerate((RED, GREEN, BLUE, WHITE), start=1):
        made = make_reference(tmp_path / "sheet.png", size="160x120", crop=f"2x2:{cell}", folder=tmp_path / str(cell))
        with Image.open(made.file) as image:
            assert image.getcolors() == [(160 * 120, colour)], "a neighbour's pixels are in it"


def test_a_crop_is_of_the_upright_picture_and_focus_is_within_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    corners((400, 300)).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    options = {"size": "100x100", "crop": "0,150,400,150", "folder": tmp_path}
    made = make_reference(tmp_path / "photo.png", focus="0x0.5", **options)  # type: ignore[arg-type]  # as they should be
    assert made.window == Box(Fraction(0), Fraction(150), Fraction(150), Fraction(150))
    made = make_reference(tmp_path / "photo.png", focus="1x0.5", **options)  # type: ignore[arg-type]  # likewise
    assert made.window == Box(Fraction(250), Fraction(150), Fraction(150), Fraction(150))


@pytest.mark.parametrize("fit", ["contain", "blur"])
def test_bars_and_blur_are_of_the_crop_alone(tmp_path: Path, fit: Mode) -> None:
    corners((400, 300)).save(tmp_path / "photo.png")
    made = make_reference(tmp_path / "photo.png", size="100x400", fit=fit, crop="2x2:2", folder=tmp_path)
    with Image.open(made.file) as image:
        assert {colour for _, colour in image.getcolors() or ()} <= {GREEN, BLACK}
        assert pixel(image, 50, 200) == GREEN


def test_a_small_crop_is_told(tmp_path: Path) -> None:
    corners((400, 300)).save(tmp_path / "photo.png")
    made = make_reference(tmp_path / "photo.png", size="1280x960", crop="2x2:1", folder=tmp_path)
    assert made.notes == (
        "photo.png has in this crop 200x150: enlarged 6.4 times for 1280x960, it will look soft",
    )  # fmt: skip


def test_a_crop_that_is_not_there_is_told_with_the_file(tmp_path: Path) -> None:
    corners((400, 300)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo\.png: crop 300,0,200,100 reaches outside .* 400x300") as caught:
        make_reference(tmp_path / "photo.png", size="160x120", crop="300,0,200,100", folder=tmp_path / "none")
    assert caught.value.parameter == "crop"


# ---------------------------------------------------------------- what it is about


def two(tmp_path: Path, apart: int) -> Path:
    two_people(apart).save(tmp_path / "people.png")
    return tmp_path / "people.png"


def test_face_keeps_all_faces_that_a_crop_can_hold(tmp_path: Path) -> None:
    made = make_reference(two(tmp_path, 330), size="720x1280", focus="face", folder=tmp_path)
    assert made.focus.startswith("face at 0.2")
    assert made.focus.endswith(", 2 faces")
    assert made.faces
    assert all(_inside(face, made.window) for face in made.faces)


def test_face_keeps_the_largest_of_faces_too_far_apart(tmp_path: Path) -> None:
    made = make_reference(two(tmp_path, 1300), size="720x1280", focus="face", folder=tmp_path)
    assert made.focus.endswith(", the largest of 2 faces")
    assert made.faces
    assert [_inside(face, made.window) for face in made.faces] == [True, False]
    largest = made.faces[0]
    assert made.window.x + made.window.width / 2 == largest.x + largest.width / 2


def test_face_looks_at_the_crop_alone(tmp_path: Path) -> None:
    made = make_reference(two(tmp_path, 1300), size="720x720", focus="face", crop="2x1:1", folder=tmp_path)
    assert made.focus.endswith(", 1 face")
    assert made.faces
    assert made.faces[0].x < 400


def test_a_tiny_target_is_looked_at_as_well_as_a_large_one(tmp_path: Path) -> None:
    assert make_reference(two(tmp_path, 330), size="36x64", focus="face", folder=tmp_path).focus.endswith("2 faces")


def _inside(box: Box, window: Box) -> bool:
    across = window.x <= box.x and box.x + box.width <= window.x + window.width
    return across and window.y <= box.y and box.y + box.height <= window.y + window.height


def test_where_no_face_is_found_focus_is_auto_and_said(tmp_path: Path) -> None:
    image, subject = SCENES["ball_on_a_lawn"]()
    image.save(tmp_path / "photo.png")
    made = make_reference(tmp_path / "photo.png", size="360x640", focus="face", folder=tmp_path)
    assert made.notes[0] == "photo.png shows no face that is found; focus is auto instead"
    assert made.focus.startswith("auto at 0.8")
    assert made.window.x <= subject[0] < subject[2] <= made.window.x + made.window.width


@pytest.mark.usefixtures("without_faces")
def test_without_the_extra_focus_is_auto_and_the_way_to_it_is_said(tmp_path: Path) -> None:
    made = make_reference(two(tmp_path, 1300), size="720x1280", focus="face", folder=tmp_path)
    assert made.notes == (
        "people.png is not searched for faces: that needs pip install 'afterframe[faces]'; focus is auto instead",
    )
    assert made.faces is None
    assert make_reference(two(tmp_path, 1300), size="720x1280", focus="auto", folder=tmp_path).notes == ()


@pytest.fixture
def without_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (faces, references):
        monkeypatch.setattr(module, "detector", lambda: "")


def test_auto_takes_faces_for_the_most_important(tmp_path: Path) -> None:
    made = make_reference(two(tmp_path, 1300), size="720x1280", focus="auto", folder=tmp_path)
    assert made.faces
    assert _inside(made.faces[0], made.window)


@pytest.mark.parametrize("fit", ["contain", "stretch"])
def test_what_is_not_cut_is_not_looked_into(tmp_path: Path, fit: Mode) -> None:
    made = make_reference(two(tmp_path, 1300), size="720x1280", fit=fit, focus="face", folder=tmp_path)
    assert (made.faces, made.focus, made.notes) == (None, "", ())


def test_the_history_tells_what_was_shown_and_why(tmp_path: Path) -> None:
    file = two(tmp_path, 330)
    made = prepare(file, size="360x640", focus="face", crop="1x1:1", folder=tmp_path)
    opened, action = made.history
    assert opened.file == file
    said = dict(action.parameters)
    assert list(said) == ["size", "fit", "crop", "focus", "shows"]
    assert (said["fit"], said["crop"]) == ("cover", "1x1:1")
    assert re.fullmatch(r"face at 0\.\d+x0\.\d+, 2 faces", said["focus"])
    assert re.fullmatch(r"608x1080\+\d+\+0 of 1920x1080", said["shows"])
    promised = promise_reference(file, size="360x640", focus="face", crop="1x1:1")
    assert action.agent == promised.history[-1].agent
    assert re.fullmatch(r"Pillow [\d.]+, dlib [\w.]+", action.agent)
    assert "dlib" not in promise_reference(file, size="360x640").history[-1].agent


def test_what_was_done_to_the_picture_before_stays_on_record(tmp_path: Path) -> None:
    corners().save(tmp_path / "photo.png")
    drawn = Clip(history=(Action("draw", agent="a model", ai=True),))
    made = prepare(tmp_path / "photo.png", size="160x120", folder=tmp_path, inputs={"image": drawn})
    assert [action.name for action in made.history] == ["draw", "prepare"]


# ---------------------------------------------------------------- the picture of the crop


def test_the_crop_is_drawn_on_the_photo(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 900), (200, 200, 200)).save(tmp_path / "photo.png")
    make_reference(tmp_path / "photo.png", size="720x1280", focus="0.25x0.5", folder=tmp_path)
    with Image.open(tmp_path / "crop.jpg") as image:
        assert image.size == (640, 360)
        assert near(pixel(image, 160, 180), (200, 200, 200)), "what is kept"
        assert near(pixel(image, 500, 180), (60, 60, 60)), "what is cut away"
        assert near(pixel(image, 60, 180), WHITE, within=12), "the frame"


def test_faces_are_drawn_on_it_even_where_they_are_cut_away(tmp_path: Path) -> None:
    make_reference(two(tmp_path, 1300), size="720x1280", focus="face", folder=tmp_path)
    with Image.open(tmp_path / "crop.jpg") as image:
        amber = [x for x in range(640) for y in range(360) if near(pixel(image, x, y), (255, 204, 0), within=60)]
    assert min(amber) < 80
    assert max(amber) > 450


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (50, 40)])
def test_the_crop_of_any_picture_can_be_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "lime").save(tmp_path / "photo.png")
    for focus in ("center", "auto"):
        make_reference(tmp_path / "photo.png", size="160x120", focus=focus, folder=tmp_path)
    with Image.open(tmp_path / "crop.jpg") as image:
        assert max(image.size) == min(640, max(size))


def test_a_picture_is_looked_at_by_its_upright_size_and_kind(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    corners().save(tmp_path / "photo.jpg", exif=exif)
    facts = look_at(tmp_path / "photo.jpg")
    assert (facts.size, facts.codec, facts.frames) == (Size(300, 400), "mjpeg", 1)


# ---------------------------------------------------------------- what is no photo


def png(width: int, height: int, depth: int = 8, rows: bytes = b"") -> bytes:
    """An RGB PNG that claims `width` by `height` pixels; every row has the bytes `rows`."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + rows) * min(height, 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def refused(file: Path, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        make_reference(file, size="160x120", folder=file.parent / "none")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert not (file.parent / "none").exists()


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(60_000, 50_000))
    refused(tmp_path / "photo.png", "is 60000x50000, 3000 megapixels: more than the limit of 200 megapixels")


def test_the_limit_is_ours_and_pillows_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Image.MAX_IMAGE_PIXELS
    corners((300, 200)).save(tmp_path / "photo.png")
    monkeypatch.setattr(pictures, "PIXEL_LIMIT", 60_000)
    prepared(tmp_path / "photo.png")
    monkeypatch.setattr(pictures, "PIXEL_LIMIT", 59_999)
    refused(tmp_path / "photo.png", r"is 300x200, 0\.06 megapixels: .*PIXEL_LIMIT")
    assert theirs == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    Image.effect_noise((200, 150), 80).convert("RGB").save(whole)
    cut = tmp_path / f"photo.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(cut, "truncated or broken|is not an image")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("<html>404 Not Found</html>")
    refused(tmp_path / "photo.jpg", "is not an image that can be read")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_without_its_extra_heic_is_named(tmp_path: Path, brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100))
    refused(tmp_path / "photo.heic", "is HEIC, but broken")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(tmp_path / "photo.heic", r"is HEIC, which needs pip install 'afterframe\[heic\]'; or save it as JPEG")


def test_without_its_extra_a_whole_heic_is_not_read_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.register_heif_opener()
    corners().save(tmp_path / "photo.heic", "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(tmp_path / "photo.heic", "needs pip install")


def test_nothing_is_started_to_read_a_picture(tmp_path: Path) -> None:
    (tmp_path / "photo.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    refused(tmp_path / "photo.eps", "is not an image that can be read")


def test_an_empty_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "empty.jpg", "is empty")
    refused(tmp_path / "folder.jpg", "is a folder")
    refused(tmp_path / "missing.jpg", "there is no such file")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.new("F", (40, 30), 0.5).save(tmp_path / "photo.tif")
    refused(tmp_path / "photo.tif", "floating-point")


def test_wrong_parameters_are_told_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="background should be a colour"):
        make_reference(tmp_path / "missing.jpg", size="160x120", background="blakc", folder=tmp_path)
    with pytest.raises(InputError, match="should be a size"):
        make_reference(tmp_path / "missing.jpg", size="big", folder=tmp_path)
