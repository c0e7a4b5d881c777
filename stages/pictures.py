"""Still pictures read and drawn: any photo upright, in 8 bits and in sRGB. The one file with Pillow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, cast

from stages.clip import Box, Size
from stages.errors import InputError
from stages.files import attempt
from stages.geometry import Mode, Placement, placement

if TYPE_CHECKING:
    from PIL import Image, ImageCms

Rgb: TypeAlias = tuple[int, int, int]

PIXEL_LIMIT = 200_000_000
"""The largest picture that is opened, in pixels: a phone's 200-megapixel photo (16320x12240) just passes.
A file of a few kilobytes can claim billions; decoded, a pixel takes 4 bytes."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")
"""Pillow's names of what is read. Others, such as EPS, would start programs of the user's machine."""

OVERSAMPLING = Fraction(3, 2)
"""How much larger than needed a JPEG is decoded or a picture averaged down before the one good resample."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo decoded: `image` upright and of 8 bits, perhaps smaller than `size`, which is the file's, and
    showing `window` of it."""

    image: Image.Image
    size: Size
    window: Box
    to_srgb: ImageCms.ImageCmsTransform | None = None
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> tuple[Fraction, Fraction]:
        """How many pixels of `image` are one of the file's, across and down."""
        return self.image.width / self.window.width, self.image.height / self.window.height


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy of `window`, a part of a picture in its upright pixels: `size` in bytes, row by row, one of
    grey a pixel or three of red, green and blue."""

    window: Box
    size: Size
    pixels: bytes

    def box(self, left: int, top: int, width: int, height: int) -> Box:
        """What these of its pixels are on the picture."""
        across = self.window.width / self.size.width
        down = self.window.height / self.size.height
        return Box(self.window.x + left * across, self.window.y + top * down, width * across, height * down)


# ---------------------------------------------------------------- reading


def read_photo(path: Path, enough: Callable[[Size], Size]) -> Photo:
    """The photo in `path`, decoded no smaller than `enough` of its upright size says.

    Raises InputError, naming the file, for what is missing, no image, broken,
    or larger than PIXEL_LIMIT.
    """
    with _told(path), path.open("rb") as file:
        opened = _opened(file)
        return _decoded(opened, enough(_upright_size(opened)))


def look(path: Path) -> tuple[Size, str]:
    """The upright size and the format, such as `jpeg`, of a picture that can be decoded. Raises InputError."""
    with _told(path), path.open("rb") as file:
        opened = _opened(file)
        opened.load()
        return _upright_size(opened), str(opened.format).lower()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What can go wrong with a picture as InputError, naming the file."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415 -- heavy; loaded when a picture is read

    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}", error.parameter) from None
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
    heic = ("HEIF",) if _reads_heic() else ()
    with _LIMIT_LOCK:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(file, formats=[name for name in (*FORMATS, *heic) if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    width, height = opened.size
    if width * height > PIXEL_LIMIT:
        size = f"{width}x{height}, {width * height / 1e6:.4g} megapixels"
        raise InputError(f"is {size}: more than the limit of {PIXEL_LIMIT / 1e6:.4g} megapixels (PIXEL_LIMIT)")
    return opened


def _reads_heic() -> bool:
    """Whether the extra `heic` is installed, which from then on Pillow knows of."""
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415 -- an extra
    except ImportError:
        return False
    register_heif_opener()
    return True


HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""The major brands of HEIF files, most of them with HEVC in them (ISO/IEC 23008-12)."""


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in HEIC:
        if _reads_heic():
            return "is HEIC, but broken or of a kind that cannot be read: save it as JPEG, PNG or AVIF"
        return "is HEIC, which needs pip install 'afterframe[heic]'; or save it as JPEG, PNG or AVIF"
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


def enough(whole: Size, shown: Box, wanted: Size) -> Size:
    """How large a picture of `whole` must be decoded, so that `shown` of it is sharp in `wanted` pixels."""
    return Size(
        min(whole.width, ceil(whole.width * OVERSAMPLING * wanted.width / shown.width)),
        min(whole.height, ceil(whole.height * OVERSAMPLING * wanted.height / shown.height)),
    )


ONE_PICTURE = ("MPO", "HEIF")
"""Formats whose further pictures are previews, depths or a burst, and no frames of a film."""


def _decoded(opened: Image.Image, least: Size) -> Photo:
    """Decode and turn, no larger than `least` where that saves memory: it matters at 200 megapixels."""
    from PIL import Image  # noqa: PLC0415 -- heavy; loaded when a picture is read

    size, orientation = _upright_size(opened), _orientation(opened)
    stored = _turned(least, orientation)
    if opened.format in ("JPEG", "MPO"):
        opened.draft(None, (stored.width, stored.height))  # it is scaled while it is decoded
    frames = getattr(opened, "n_frames", 1)  # once it is loaded, a TIFF of several pages cannot tell
    opened.load()
    image = _eight_bits(opened)
    factors = (image.width // stored.width, image.height // stored.height)
    if max(factors) > 1:
        # not image.reduce: on a JPEG 2000 file, that is a number
        image = Image.Image.reduce(image, factors)
    if orientation in TURNS:
        image = image.transpose(Image.Transpose[TURNS[orientation]])
    to_srgb, notes = _to_srgb(image)
    if frames > 1 and opened.format not in ONE_PICTURE:
        notes = (*notes, f"has {frames} frames: the first one is used")
    return Photo(image, size, Box.of(size), to_srgb, notes)


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


# ---------------------------------------------------------------- parts and small copies


def part_of(photo: Photo, region: Box) -> Photo:
    """The photo with nothing but `region`, to less than one of its decoded pixels: a resample looks beyond the
    window that it shows, and would mix the edge of the next picture of a sheet into this one."""
    if region == photo.window:
        return photo
    (across, down), image = photo.scale, photo.image
    left, top = (min(ceil(region.x * across), image.width - 1), min(ceil(region.y * down), image.height - 1))
    right = max(left + 1, int((region.x + region.width) * across))
    bottom = max(top + 1, int((region.y + region.height) * down))
    window = Box(left / across, top / down, (right - left) / across, (bottom - top) / down)
    cut = image.crop((left, top, right, bottom))
    return Photo(cut, photo.size, window, photo.to_srgb, photo.notes)


def small(window: Box, side: int) -> Size:
    """The size of a copy of `window` whose longer side is `side` pixels, or as many as the window has."""
    scale = min(Fraction(1), Fraction(side) / max(window.width, window.height))
    return Size(max(1, round(window.width * scale)), max(1, round(window.height * scale)))


def thumbnail(photo: Photo, window: Box, side: int, mode: Literal["L", "RGB"]) -> Thumbnail:
    """`window` of the photo in grey (`L`) or in colour, its longer side `side` pixels, or as many as it has."""
    size = small(window, side)
    drawn = _flat(_shown(photo, window, size), (255, 255, 255)).convert(mode)
    return Thumbnail(window, size, drawn.tobytes())


# ---------------------------------------------------------------- drawing


def draw(photo: Photo, place: Placement, frame: Size, colour: Rgb, behind: Box | None = None) -> Image.Image:
    """The photo placed in a `frame` of `colour`, or before `behind`, a part of itself, enlarged and blurred."""
    from PIL import Image, ImageFilter  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    sharp = _flat(_shown(photo, place.window, place.size), colour)
    if place.size == frame:
        return sharp
    if behind:
        canvas = _flat(_shown(photo, behind, frame), colour)
        canvas = canvas.filter(ImageFilter.GaussianBlur(max(frame.width, frame.height) / 40))
    else:
        canvas = Image.new("RGB", (frame.width, frame.height), colour)
    canvas.paste(sharp, (place.left, place.top))
    return canvas


def draw_still(file: Path, target: Path, size: Size, mode: str) -> None:
    """Write the picture in `file` as a PNG of `size`, black where it leaves room and where it is transparent.

    `mode` is a `geometry.Mode`; or `inside`, for the largest that fits into
    `size`, with its transparency. Raises InputError as `read_photo`.
    """
    photo = read_photo(file, lambda whole: enough(whole, Box.of(whole), size))
    if mode == "inside":
        place = placement(photo.window, size, "contain")
        write(_shown(photo, place.window, place.size), target, "png")
        return
    way = cast("Mode", mode)
    place = placement(photo.window, size, way)
    behind = placement(photo.window, size, "cover").window if way == "blur" else None
    write(draw(photo, place, size, (0, 0, 0), behind), target, "png")


def write(image: Image.Image, file: Path, format: Literal["jpeg", "png"], quality: int = 95) -> None:
    """Write it; it appears whole or not at all."""
    with attempt(file) as part:
        image.save(part, format, **({"quality": quality, "subsampling": 0} if format == "jpeg" else {}))


FRAME, FACE = (255, 255, 255), (255, 204, 0)
"""The colours of what is kept and of faces: white and amber are seen on most photos, and by the colour-blind."""


def draw_crop(photo: Photo, window: Box, faces: Sequence[Box], side: int = 640) -> Image.Image:
    """The whole photo, `side` pixels wide or high, dark where `window` leaves it out; `faces` framed thinly."""
    from PIL import ImageDraw, ImageEnhance  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    size = small(Box.of(photo.size), side)
    scale = Fraction(max(size.width, size.height), max(photo.size.width, photo.size.height))
    whole = _flat(_shown(photo, Box.of(photo.size), size), (128, 128, 128))

    def corners(box: Box) -> tuple[int, int, int, int]:
        right, bottom = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
        return round(box.x * scale), round(box.y * scale), max(right, 1), max(bottom, 1)

    left, top, right, bottom = corners(window)
    canvas = ImageEnhance.Brightness(whole).enhance(0.3)
    canvas.paste(whole.crop((left, top, right, bottom)), (left, top))
    pen = ImageDraw.Draw(canvas)
    for box, colour, width in (*((face, FACE, 1) for face in faces), (window, FRAME, 2)):
        left, top, right, bottom = corners(box)
        if right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
    return canvas


def _shown(photo: Photo, window: Box, size: Size) -> Image.Image:
    """The window of the photo in its new size, in sRGB."""
    from PIL import Image, ImageCms  # noqa: PLC0415 -- heavy; loaded when a picture is drawn

    image, (across, down) = photo.image, photo.scale
    left, top = (window.x - photo.window.x) * across, (window.y - photo.window.y) * down
    right, bottom = left + window.width * across, top + window.height * down
    box = (
        max(0.0, float(left)),
        max(0.0, float(top)),
        min(image.width, float(right)),
        min(image.height, float(bottom)),
    )
    # What is far larger is averaged down first: a small copy takes a tenth of the time, and looks the same.
    shown = image.resize((size.width, size.height), Image.Resampling.LANCZOS, box, float(OVERSAMPLING))
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


def parse_colour(text: str) -> Rgb:
    """A CSS colour, `black` or `#1b2c3d`. Raises InputError if it is none."""
    from PIL import ImageColor  # noqa: PLC0415 -- heavy; loaded when a picture is prepared

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise InputError(f"background should be a colour such as black or #1b2c3d, not '{text}'") from None
    return red, green, blue
