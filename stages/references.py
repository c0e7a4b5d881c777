"""Reference images: any photo becomes the exact pixels that a model asks for. The one file with Pillow."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, cast

from stages.clip import Action, Box, Clip, PictureFacts, Size
from stages.errors import InputError
from stages.files import attempt
from stages.geometry import Focus, Mode, parse_focus, window
from stages.media import clip_from
from stages.stage import job

if TYPE_CHECKING:
    from PIL import Image, ImageCms

log = logging.getLogger(__name__)

Rgb: TypeAlias = tuple[int, int, int]

PIXEL_LIMIT = 200_000_000
"""The largest picture that is opened, in pixels: a phone's 200-megapixel photo (16320x12240) just passes.
A file of a few kilobytes can claim billions; decoded, a pixel takes 4 bytes."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")
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


def placement(source: Size, target: Size, fit: Mode, focus: tuple[Fraction, Fraction]) -> Placement:
    """Where `source` goes in `target`; `blur` places its sharp part as `contain` does.

    `cover` keeps `focus` (shares of width and height) as near to the middle
    as the edges allow, to a fraction of a pixel.
    """
    if fit == "stretch":
        return Placement(Box.of(source), target)
    if fit == "cover":
        return Placement(window(source, target.aspect, focus), target)
    scale = min(Fraction(target.width, source.width), Fraction(target.height, source.height))
    inner = Size(max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    left, top = (target.width - inner.width) // 2, (target.height - inner.height) // 2
    return Placement(Box.of(source), inner, left, top)


# ---------------------------------------------------------------- the job


@dataclass(frozen=True, slots=True)
class Reference:
    """A prepared image. `window` is what it shows of the photo, whose upright size is `source`."""

    file: Path
    size: Size
    source: Size
    window: Box
    notes: tuple[str, ...] = ()


def promise_reference(image: Path, *, size: Size | str, format: Literal["jpeg", "png"] = "png", **_: object) -> Clip:
    """The picture that `prepare` will make: one frame of exactly `size`."""
    target = size if isinstance(size, Size) else Size.parse(size)
    return _clip(Path(_name(format)), target, format, image, (), promised=True)


@job(promise_reference)
def prepare(
    image: Path,
    *,
    size: Size | str,
    fit: Mode = "cover",
    focus: Focus = "center",
    background: str = "black",
    format: Literal["jpeg", "png"] = "png",
    folder: Path,
) -> Clip:
    """Write `image` as `reference.png` or `reference.jpg` of exactly `size` into `folder`.

    In a recipe `size` and `format` may be left open: then they are what the
    model wants that films the picture.

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
    made = make_reference(image, size=size, fit=fit, focus=focus, background=background, format=format, folder=folder)
    window = "+".join(str(round(edge)) for edge in (made.window.x, made.window.y))
    shown = f"{round(made.window.width)}x{round(made.window.height)}+{window} of {made.source}"
    said = {"size": str(made.size), "fit": fit, "shows": shown, "note": "; ".join(made.notes)}
    return _clip(made.file, made.size, format, image, tuple((k, v) for k, v in said.items() if v))


def _clip(
    file: Path, size: Size, format: str, image: Path, said: tuple[tuple[str, str], ...], promised: bool = False
) -> Clip:
    facts = PictureFacts(size, size, Fraction(1), 1, "mjpeg" if format == "jpeg" else "png", pixel_format="rgb24")
    opened = clip_from(file, facts, None, promised)
    history = (Action("open", file=image), Action("prepare", said, f"Pillow {version('pillow')}"))
    return Clip(opened.picture, None, history)


def _name(format: str) -> str:
    return "reference.jpg" if format == "jpeg" else "reference.png"


def make_reference(
    image: Path,
    *,
    size: Size | str,
    fit: Mode = "cover",
    focus: Focus = "center",
    background: str = "black",
    format: Literal["jpeg", "png"] = "png",
    folder: Path,
) -> Reference:
    """What `prepare` does, telling what it did."""
    target = size if isinstance(size, Size) else Size.parse(size)
    point, colour = parse_focus(focus), _colour(background)
    photo = _read(image, target, fit, point)
    drawn = _drawn(photo, target, fit, point, colour)
    place = placement(photo.size, target, fit, point)
    notes = _notes(image.name, photo, target, place)
    for note in notes:
        log.warning("%s", note)
    file = folder / _name(format)
    with attempt(file) as part:
        drawn.save(part, format, **({"quality": 95, "subsampling": 0} if format == "jpeg" else {}))
    return Reference(file, target, photo.size, place.window, notes)


def _notes(name: str, photo: _Photo, target: Size, place: Placement) -> tuple[str, ...]:
    notes = [f"{name} {note}" for note in photo.notes]
    if place.enlargement > WORTH_SAYING:
        times = f"{float(place.enlargement):.1f}"
        notes.append(f"{name} is {photo.size}: enlarged {times} times for {target}, it will look soft")
    return tuple(notes)


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo decoded: `image` upright and of 8 bits, perhaps smaller than `size`, which is the file's."""

    image: Image.Image
    size: Size
    to_srgb: ImageCms.ImageCmsTransform | None
    notes: tuple[str, ...] = ()


def _read(path: Path, target: Size, fit: Mode, point: tuple[Fraction, Fraction]) -> _Photo:
    """The photo in `path`, decoded as large as `target` needs. Raises InputError, naming the file."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415 -- heavy; loaded when a picture is read

    try:
        with path.open("rb") as file:
            opened = _opened(file)
            return _decoded(opened, placement(_upright_size(opened), target, fit, point))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not an image") from None
    except PermissionError:
        raise InputError(f"{path}: this user may not read it") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_unknown(path)}") from None
    except Exception as error:  # of broken files Pillow raises nearly anything: SyntaxError, struct.error, …
        why = str(error) or type(error).__name__
        raise InputError(f"{path}: is truncated or broken and cannot be read as an image: {why}") from None


_LIMIT_LOCK = threading.Lock()


def _opened(file: IO[bytes]) -> Image.Image:
    """The picture with its header read and its size checked."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is read

    if not file.read(1):
        raise InputError("is empty (0 bytes)")
    # Pillow warns at 89 megapixels and refuses at 179 without naming the
    # picture's size; while it reads the header, its limit gives way to ours.
    Image.init()  # fills Image.OPEN; a build may lack AVIF
    with _LIMIT_LOCK:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    width, height = opened.size
    if width * height > PIXEL_LIMIT:
        size = f"{width}x{height}, {width * height / 1e6:.4g} megapixels"
        raise InputError(f"is {size}: more than the limit of {PIXEL_LIMIT / 1e6:.4g} megapixels (PIXEL_LIMIT)")
    return opened


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "is HEIC, which is not read: save it as JPEG, PNG or AVIF"
    return f"is not an image that can be read ({', '.join(FORMATS)})"


ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""

TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""Pillow's names of what makes a picture upright, by its orientation (Exif 2.32, 4.6.4)."""


def _orientation(opened: Image.Image) -> int:
    """1 to 8 as in EXIF; 1, upright, where the tag is missing or broken."""
    if opened.format == "TIFF":  # which Pillow turns itself
        return 1
    try:
        value = opened.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF is common and says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright_size(opened: Image.Image) -> Size:
    return _turned(Size(*opened.size), _orientation(opened))


def _turned(size: Size, orientation: int) -> Size:
    """`size` as stored if it is given upright, and upright if it is given as stored."""
    return Size(size.height, size.width) if orientation >= 5 else size


def _decoded(opened: Image.Image, place: Placement) -> _Photo:
    """Decode and turn, no larger than `place` needs where that saves memory: it matters at 200 megapixels."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is read

    size = _upright_size(opened)
    enough = Size(
        _enough(size.width, place.window.width, place.size.width),
        _enough(size.height, place.window.height, place.size.height),
    )
    orientation = _orientation(opened)
    stored = _turned(enough, orientation)
    if opened.format in ("JPEG", "MPO"):
        opened.draft(None, (stored.width, stored.height))  # it is scaled while it is decoded
    opened.load()
    image = _eight_bits(opened)
    factors = (image.width // stored.width, image.height // stored.height)
    if max(factors) > 1:
        # not image.reduce: on a JPEG 2000 file, that is a number
        image = Image.Image.reduce(image, factors)
    if orientation in TURNS:
        image = image.transpose(Image.Transpose[TURNS[orientation]])
    to_srgb, notes = _to_srgb(image)
    if (frames := getattr(opened, "n_frames", 1)) > 1 and opened.format != "MPO":  # whose others are previews
        notes = (*notes, f"has {frames} frames: the first one is used")
    return _Photo(image, size, to_srgb, notes)


def _enough(whole: int, shown: Fraction, wanted: int) -> int:
    """How many of `whole` pixels are enough to show `shown` of them as `wanted`."""
    return min(whole, ceil(whole * OVERSAMPLING * wanted / shown))


def _eight_bits(opened: Image.Image) -> Image.Image:
    """In one of the modes L, LA, RGB, RGBA, CMYK and LAB. Raises InputError for more than 16 bits."""
    if opened.mode.startswith("I"):
        return _scaled(opened)
    if opened.mode == "F":
        raise InputError("has floating-point pixels, which are not read: save it with 8 or 16 bits")
    if opened.has_transparency_data:
        return opened if opened.mode in ("LA", "RGBA") else opened.convert("RGBA")
    mode = {"1": "L", "L": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(opened.mode, "RGB")
    return opened if opened.mode == mode else opened.convert(mode)


def _scaled(deep: Image.Image) -> Image.Image:
    """16 bits to 8, rounded: `convert` alone clips what is over 255."""
    whole = deep.convert("I")
    if cast("tuple[int, int]", whole.getextrema())[1] > 0xFFFF:
        raise InputError("has 32-bit pixels, which are not read: save it with 8 or 16 bits")
    return whole.point(lambda value: value * (1 / 257) + 0.5).convert("L")


PROFILE_MODES = {"RGB": ("RGB", "RGBA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",), "Lab": ("LAB",)}
"""The ICC's names of colour spaces, and the modes that a profile for one describes, the opaque one first."""


def _to_srgb(image: Image.Image) -> tuple[ImageCms.ImageCmsTransform | None, tuple[str, ...]]:
    """The way from the image's colours to sRGB, None where they are taken for it; and what to say."""
    from PIL import ImageCms  # noqa: PLC0415 -- heavy; loaded when a picture is read

    embedded = image.info.get("icc_profile")
    if not embedded and image.mode != "LAB":
        return None, ()
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(embedded) if embedded else ImageCms.createProfile("LAB"))
        space = profile.profile.xcolor_space.strip()
        modes = PROFILE_MODES.get(space, ())
        if image.mode not in modes:
            return None, (f"has a colour profile for {space} but {image.mode} pixels: read without it",)
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), modes[0], "RGB"), ()
    except (ImageCms.PyCMSError, OSError):
        return None, ("has a broken colour profile: read without it",)


# ---------------------------------------------------------------- drawing


def _drawn(photo: _Photo, target: Size, fit: Mode, point: tuple[Fraction, Fraction], colour: Rgb) -> Image.Image:
    from PIL import Image, ImageFilter  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    place = placement(photo.size, target, fit, point)
    sharp = _flat(_shown(photo, place), colour)
    if place.size == target:
        return sharp
    if fit == "blur":
        behind = _flat(_shown(photo, placement(photo.size, target, "cover", point)), colour)
        canvas = behind.filter(ImageFilter.GaussianBlur(max(target.width, target.height) / 40))
    else:
        canvas = Image.new("RGB", (target.width, target.height), colour)
    canvas.paste(sharp, (place.left, place.top))
    return canvas


def _shown(photo: _Photo, place: Placement) -> Image.Image:
    """The window of the photo in its new size, in sRGB."""
    from PIL import Image, ImageCms  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    image, window = photo.image, place.window
    x, y = Fraction(image.width, photo.size.width), Fraction(image.height, photo.size.height)
    right, bottom = (window.x + window.width) * x, (window.y + window.height) * y
    box = (float(window.x * x), float(window.y * y), float(right), float(bottom))
    shown = image.resize((place.size.width, place.size.height), Image.Resampling.LANCZOS, box)
    opaque = shown.convert({"LA": "L", "RGBA": "RGB"}.get(shown.mode, shown.mode))
    if photo.to_srgb:  # colour is converted last, where the pixels are fewest
        opaque = ImageCms.applyTransform(opaque, photo.to_srgb) or opaque
    opaque = opaque.convert("RGB")
    if shown.mode in ("LA", "RGBA"):
        opaque.putalpha(shown.getchannel("A"))
    opaque.info = {}  # else Pillow writes the photo's profile, which no longer describes these colours
    return opaque


def _flat(image: Image.Image, colour: Rgb) -> Image.Image:
    """Without transparency, `colour` showing through."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGB", image.size, colour)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _colour(text: str) -> Rgb:
    from PIL import ImageColor  # noqa: PLC0415 -- heavy; loaded when a picture is prepared

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise InputError(f"background should be a colour such as black or #1b2c3d, not '{text}'") from None
    return red, green, blue
