"""Reference images: any photo becomes the exact pixels that a model asks for. The only file that knows Pillow."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from stages.clip import Box, Size
from stages.errors import InputError
from stages.files import attempt

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Fit: TypeAlias = Literal["cover", "contain", "stretch", "blur"]

PIXEL_LIMIT = 200_000_000
"""The largest picture that is opened, in pixels: a phone's 200-megapixel photo (16320x12240) just passes.
A file of a few kilobytes can claim billions; decoded, a pixel takes 4 bytes."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")
"""Pillow's names of what is read. Others, such as EPS, would start programs of the user's machine."""

WORTH_SAYING = Fraction(5, 4)
"""Enlarged more than this, a picture is visibly soft, and the user is told."""

OVERSAMPLING = Fraction(3, 2)
"""How much larger than needed a JPEG is decoded or a picture averaged down before the one good resample."""


# ---------------------------------------------------------------- geometry, pure


@dataclass(frozen=True, slots=True)
class Placement:
    """Show `window` of the source, in its upright pixels, at `left`, `top` of the reference in `size`."""

    window: Box
    size: Size
    left: int = 0
    top: int = 0

    @property
    def enlargement(self) -> Fraction:
        """How many times larger a source pixel becomes, along the more enlarged side."""
        return max(self.size.width / self.window.width, self.size.height / self.window.height)


def placement(source: Size, target: Size, fit: Fit, focus: tuple[Fraction, Fraction]) -> Placement:
    """Where `source` goes in `target`; `blur` places its sharp part as `contain` does.

    `cover` keeps `focus` (shares of width and height) as near to the middle
    as the edges allow, to a fraction of a pixel.
    """
    if fit == "stretch":
        return Placement(Box.of(source), target)
    if fit == "cover":
        return Placement(_cover(source, target.aspect, focus), target)
    scale = min(Fraction(target.width, source.width), Fraction(target.height, source.height))
    inner = Size(max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    return Placement(Box.of(source), inner, (target.width - inner.width) // 2, (target.height - inner.height) // 2)


def _cover(source: Size, aspect: Fraction, focus: tuple[Fraction, Fraction]) -> Box:
    width = min(Fraction(source.width), source.height * aspect)
    height = min(Fraction(source.height), source.width / aspect)
    x = min(max(focus[0] * source.width - width / 2, Fraction(0)), source.width - width)
    y = min(max(focus[1] * source.height - height / 2, Fraction(0)), source.height - height)
    return Box(x, y, width, height)


def parse_focus(text: str) -> tuple[Fraction, Fraction]:
    """`center`, or a point as shares of width and height: `0.3x0.7`. Raises InputError for anything else."""
    if text == "center":
        return Fraction(1, 2), Fraction(1, 2)
    match = re.fullmatch(r"([01]|[01]?\.\d+)\s*[x×]\s*([01]|[01]?\.\d+)", text.strip())
    if not match or max(Fraction(match[1]), Fraction(match[2])) > 1:
        raise InputError(f"focus should be center or a point such as 0.3x0.7 (left 0, right 1), not '{text}'")
    return Fraction(match[1]), Fraction(match[2])


# ---------------------------------------------------------------- the job


@dataclass(frozen=True, slots=True)
class Reference:
    """A prepared image. `window` is what it shows of `source`, the photo's upright size; `notes` are for the report."""

    file: Path
    size: Size
    source: Size
    window: Box
    notes: tuple[str, ...] = ()


def prepare(
    image: Path,
    *,
    size: Size | str,
    fit: Fit = "cover",
    focus: str = "center",
    background: str = "black",
    format: Literal["jpeg", "png"] = "png",
    folder: Path,
) -> Reference:
    """Write `image` as `reference.png` or `reference.jpg` of exactly `size` into `folder`.

    Turned upright, in sRGB, 8 bits, without transparency (which shows
    `background`) and without metadata such as the place it was taken.

    fit: `cover` crops around `focus`, `contain` adds bars of `background`,
    `blur` fills the bars with the blurred picture, `stretch` distorts.
    focus: `center`, or a point such as `0.3x0.7`: 30 % from the left, 70 % from the top.
    background: a CSS colour, `black` or `#1b2c3d`.

    Of an animation the first frame is taken. A picture that had to be
    enlarged is noted and logged. Raises InputError, naming the file, for what
    is missing, no image, broken, or larger than PIXEL_LIMIT.
    """
    target = size if isinstance(size, Size) else Size.parse(size)
    point, colour = parse_focus(focus), _colour(background)
    with _opened(image) as opened:
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # an MPO's others are previews
        place = placement(_upright_size(opened), target, fit, point)
        photo = _decoded(opened, place)
        drawn = _drawn(photo, target, fit, place, point, colour)
    notes = _notes(image.name, photo, target, place, frames)
    for note in notes:
        log.warning("%s", note)
    file = folder / ("reference.jpg" if format == "jpeg" else "reference.png")
    with attempt(file) as part:
        drawn.save(part, format, **({"quality": 95, "subsampling": 0} if format == "jpeg" else {}))
    return Reference(file, target, photo.size, place.window, notes)


def _notes(name: str, photo: _Photo, target: Size, place: Placement, frames: int) -> tuple[str, ...]:
    notes = []
    if place.enlargement > WORTH_SAYING:
        notes.append(f"{name} is {photo.size}: enlarged {float(place.enlargement):.3g} times to fill {target}")
    if frames > 1:
        notes.append(f"{name} has {frames} frames: the first one is used")
    if photo.note:
        notes.append(f"{name}: {photo.note}")
    return tuple(notes)


# ---------------------------------------------------------------- drawing


def _drawn(
    photo: _Photo, target: Size, fit: Fit, place: Placement, point: tuple[Fraction, Fraction], colour: Rgb
) -> Image:
    from PIL import Image, ImageFilter  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    sharp = _flat(_shown(photo, place.window, place.size), colour)
    if place.size == target:
        return sharp
    if fit == "blur":
        behind = _flat(_shown(photo, placement(photo.size, target, "cover", point).window, target), colour)
        canvas = behind.filter(ImageFilter.GaussianBlur(max(target.width, target.height) / 40))
    else:
        canvas = Image.new("RGB", (target.width, target.height), colour)
    canvas.paste(sharp, (place.left, place.top))
    return canvas


def _shown(photo: _Photo, window: Box, size: Size) -> Image:
    """`window` of the photo at `size`, in sRGB; colour is converted last, where the pixels are fewest."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    image = photo.image
    x, y = Fraction(image.width, photo.size.width), Fraction(image.height, photo.size.height)
    right, bottom = (window.x + window.width) * x, (window.y + window.height) * y
    box = (float(window.x * x), float(window.y * y), float(right), float(bottom))
    return _in_srgb(image.resize((size.width, size.height), Image.Resampling.LANCZOS, box), photo.to_srgb)


def _in_srgb(image: Image, to_srgb: ImageCmsTransform | None) -> Image:
    from PIL import ImageCms  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    opaque = image.convert({"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode))
    if to_srgb:
        opaque = ImageCms.applyTransform(opaque.convert(to_srgb.input_mode), to_srgb) or opaque
    opaque = opaque.convert("RGB")
    if image.mode in ("LA", "RGBA"):
        opaque.putalpha(image.getchannel("A"))
    return opaque


def _flat(image: Image, colour: Rgb) -> Image:
    """Without transparency, `colour` showing through."""
    from PIL import Image as Images  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    if image.mode != "RGBA":
        return image
    canvas = Images.new("RGB", image.size, colour)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _colour(text: str) -> Rgb:
    from PIL import ImageColor  # noqa: PLC0415 -- heavy; loaded when a picture is prepared

    try:
        return ImageColor.getrgb(text)[:3]  # type: ignore[return-value]  # three of three or four
    except ValueError:
        raise InputError(f"background should be a colour such as black or #1b2c3d, not '{text}'") from None


# ---------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """The picture in `path`, its header read. What Pillow raises, here and in the block, becomes InputError."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 -- heavy; loaded when a picture is read

    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes)")
        with path.open("rb") as file:
            with _pillows_limit_lifted():
                photo = Image.open(file, formats=FORMATS)
            _check_pixels(path, photo.size)
            yield photo
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not an image") from None
    except PermissionError:
        raise InputError(f"{path}: this user may not read it") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_unknown(path)}") from None
    except Exception as error:  # broken files make Pillow raise nearly anything: OSError, SyntaxError, struct.error
        raise InputError(f"{path}: is truncated or broken and cannot be read as an image ({error})") from None


@contextmanager
def _pillows_limit_lifted() -> Iterator[None]:
    """Pillow warns at 89 megapixels and refuses at 179 without naming the size; PIXEL_LIMIT takes its place."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is read

    with _LIMIT_LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_pixels(path: Path, size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    if pixels > PIXEL_LIMIT:
        raise InputError(
            f"{path}: is {size[0]}x{size[1]}, {pixels / 1e6:.4g} megapixels; PIXEL_LIMIT is {PIXEL_LIMIT / 1e6:.4g} megapixels"
        )


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "is HEIC, which is not read: save it as JPEG, PNG or AVIF"
    return f"is not an image that can be read ({', '.join(FORMATS)})"


ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""


def _orientation(photo: Image) -> int:
    """1 to 8 as in EXIF; 1, upright, where the tag is missing, broken or carried out already."""
    try:
        value = photo.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF is common and says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright_size(photo: Image) -> Size:
    width, height = photo.size
    return Size(height, width) if _orientation(photo) >= 5 else Size(width, height)


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo decoded: `image` upright and 8 bits, perhaps smaller than the `size` that it has in the file."""

    image: Image
    size: Size
    to_srgb: ImageCmsTransform | None
    note: str = ""


def _decoded(opened: Image, place: Placement) -> _Photo:
    """Decode and turn; no larger than `place` needs where that saves memory, which matters at 200 megapixels."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is read

    size, turned = _upright_size(opened), _orientation(opened) >= 5
    enough = _enough(size, place)
    if opened.format in ("JPEG", "MPO"):
        opened.draft(None, (enough.height, enough.width) if turned else (enough.width, enough.height))  # type: ignore[attr-defined]
    opened.load()
    image = _eight_bits(opened)
    if turned != (_orientation(opened) >= 5):  # a TIFF turns itself when it is loaded
        turned = False
    factor = (image.height // enough.width, image.width // enough.height) if turned else (0, 0)
    return _Photo(image, size, None)
