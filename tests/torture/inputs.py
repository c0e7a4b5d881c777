"""What a user may bring: each film is made by one ffmpeg line, which is printed by

    python tests/torture/inputs.py

The scene is drawn in code values, so that no build of ffmpeg can have converted it: three patches whose BT.709
codes are known, and a fourth whose grey counts the frames. A click sounds while frame 12 is shown.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log

from stages.clip import Size

Rgb = tuple[int, int, int]
Codes = tuple[float, float, float]

PATCHES: tuple[Rgb, Rgb, Rgb] = ((150, 60, 70), (60, 140, 80), (70, 80, 150))
"""Top left, top right, bottom left, 8-bit. No brighter than 30 % of white, so that tone-mapping leaves them alone."""

FRAMES, CLICK = 24, 12
FIRST, STEP = 32, 6
"""Luma of frame 0 of the counting patch, 8-bit video range, and how much more each frame has."""

# ---------------------------------------------------------------- codes

# Kr and Kb of ISO/IEC 23091-2 (H.273).
WEIGHTS = {
    "bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt470bg": (0.299, 0.114),
    "smpte240m": (0.212, 0.087), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip

# From linear BT.709 to linear BT.2020 (ITU-R BT.2087 table 1) and to Display P3 (SMPTE EG 432-1, by its primaries).
TO_2020 = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
TO_P3 = ((0.8225, 0.1774, 0.0), (0.0332, 0.9669, 0.0), (0.0171, 0.0724, 0.9108))


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is stored, and what it says of it; `tagged` false if it says nothing."""

    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"
    full: bool = False
    bits: int = 8
    tagged: bool = True

    @property
    def tags(self) -> str:
        """As ffmpeg's filter has them."""
        said = (self.matrix, self.primaries, self.transfer, "pc" if self.full else "tv")
        matrix, primaries, transfer, range_ = said if self.tagged else ("unknown",) * 4
        return f"setparams=range={range_}:colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}"

    def codes(self, rgb: Rgb) -> Codes:
        """Y, Cb and Cr of a colour that is given in BT.709."""
        red, green, blue = self._signal(rgb)
        kr, kb = WEIGHTS[self.matrix]
        y = kr * red + (1 - kr - kb) * green + kb * blue
        cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
        scale = 2 ** (self.bits - 8)
        if self.full:
            top = 2**self.bits - 1
            return top * y, top * cb + 128 * scale, top * cr + 128 * scale
        return scale * (16 + 219 * y), scale * (128 + 224 * cb), scale * (128 + 224 * cr)

    def grey(self, luma: str) -> str:
        """The code of an 8-bit video-range luma, as ffmpeg computes it."""
        scale = 2 ** (self.bits - 8)
        return f"(({luma})-16)*{2**self.bits - 1}/219" if self.full else f"{scale}*({luma})"

    def _signal(self, rgb: Rgb) -> Codes:
        """Red, green and blue from 0 to 1, as the camera of this look would have stored them."""
        own = (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)
        if self.primaries not in ("bt2020", "smpte432"):
            return own
        # Displays show BT.709 by the power 2.4 (ITU-R BT.1886).
        linear = [value**2.4 for value in own]
        rows = TO_2020 if self.primaries == "bt2020" else TO_P3
        red, green, blue = (sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows)
        if self.transfer == "smpte2084":
            return _pq(red), _pq(green), _pq(blue)
        if self.transfer == "arib-std-b67":
            # The scene's light, from the display's: BT.2100's OOTF for 1000 cd/m2, inverted.
            red, green, blue = (value * 203 / 1000 for value in (red, green, blue))
            bright = 0.2627 * red + 0.6780 * green + 0.0593 * blue
            gain = bright ** (1 / 1.2 - 1)
            return _hlg(red * gain), _hlg(green * gain), _hlg(blue * gain)
        return red ** (1 / 2.4), green ** (1 / 2.4), blue ** (1 / 2.4)


def _pq(white: float) -> float:
    """SMPTE ST 2084's signal of so many times 203 cd/m2."""
    power = (white * 203 / 10_000) ** (2610 / 16384)
    return float(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


def _hlg(light: float) -> float:
    """ITU-R BT.2100's signal of a scene's light."""
    return float((3 * light) ** 0.5 if light <= 1 / 12 else 0.17883277 * log(12 * light - 0.28466892) + 0.55991073)


# ---------------------------------------------------------------- films


@dataclass(frozen=True, slots=True)
class Input:
    """One film: how it is made, and what must be found in it.

    `drawn` frames are drawn, `fields` to a frame; `shown` are those that a
    viewer sees, by number. `turned` says how far the patches are turned,
    clockwise; `late` how many seconds after the picture the sound starts.
    `copied` names another film that it is made from.
    """

    size: str = "96x64"
    rate: str = "24"
    look: Look = Look()
    format: str = "yuv420p"
    filters: str = ""
    codec: str = "-c:v libx264 -preset ultrafast -qp 1 -g 12"
    sound: float = 0
    late: float = 0
    suffix: str = "mp4"
    drawn: int = FRAMES
    fields: int = 1
    shown: tuple[int, ...] = tuple(range(FRAMES))
    upright: str = ""
    turned: int = 0
    copied: str = ""
    options: str = ""

    @property
    def frame(self) -> Size:
        """What a viewer sees, upright and in square pixels."""
        width, height = (int(side) for side in (self.upright or self.size).split("x"))
        return Size(width // 2 * 2, height // 2 * 2)

    @property
    def per_second(self) -> Fraction:
        """Frames a second."""
        return Fraction(self.rate)

    def line(self, target: str, copied: str = "") -> tuple[str, ...]:
        """The arguments that make it."""
        if self.copied:
            return (*shlex.split(self.options), "-i", copied, *shlex.split(self.codec), target)
        width, height = self.size.split("x")
        inputs = ["-f", "lavfi", "-i", f"color=s={width}x{height}:r={self.per_second * self.fields},{self._scene()}"]
        if self.sound:
            moment = CLICK / self.per_second - Fraction(self.late)
            click = f"0.8*sin(2*PI*2000*t)*between(t,{float(moment):.6f},{float(moment) + 0.005:.6f})"
            inputs += [*(("-itsoffset", str(self.late)) if self.late else ())]
            inputs += ["-f", "lavfi", "-i", f"aevalsrc='{click}|{click}':s=48000:d={self.sound}", "-c:a", "aac"]
        return (*inputs, *shlex.split(self.codec), target)

    def _scene(self) -> str:
        count = f"{FIRST}+{STEP}*N"
        if self.format.startswith("gbr"):
            grey = f"({count}-16)*255/219"
            planes = [self._quarters([str(rgb[i]) for rgb in PATCHES], grey) for i in range(3)]
            drawn = f"geq=r='{planes[0]}':g='{planes[1]}':b='{planes[2]}'"
        else:
            codes = [self.look.codes(rgb) for rgb in PATCHES]
            neutral = str(128 * 2 ** (self.look.bits - 8))
            luma = self._quarters([f"{c[0]:.2f}" for c in codes], self.look.grey(count))
            cb, cr = (self._quarters([f"{c[i]:.2f}" for c in codes], neutral) for i in (1, 2))
            drawn = f"geq=lum='{luma}':cb='{cb}':cr='{cr}'"
        return f"trim=end_frame={self.drawn},format={self.format},{drawn},{self.look.tags}{self.filters}"

    @staticmethod
    def _quarters(patches: list[str], last: str) -> str:
        """An expression of four values; geq cuts off what is behind the point, so half a code is added."""
        one, two, three, four = (f"0.5+{value}" for value in (*patches, last))
        return f"if(lt(Y,H/2),if(lt(X,W/2),{one},{two}),if(lt(X,W/2),{three},{four}))"


X264 = "-c:v libx264 -preset ultrafast -qp 1"
TEN = "-c:v libx264 -preset ultrafast -qp 1 -pix_fmt yuv420p10le"
SOUND = Input(sound=1)
TAGGED_601 = Look("smpte170m", "smpte170m", "smpte170m")
FEW = Input(drawn=3, shown=(0, 1, 2))

INPUTS: dict[str, Input] = {
    # ---- time
    "24": SOUND,
    "23.976": replace(SOUND, rate="24000/1001"),
    "29.97": replace(SOUND, rate="30000/1001"),
    "59.94": replace(SOUND, rate="60000/1001"),
    "variable rate": replace(
        SOUND,
        filters=",select='not(eq(mod(n,5),3))'",
        codec=f"{X264} -fps_mode vfr",
        shown=(0, 1, 2, 2, 4, 5, 6, 7, 7, 9, 10, 11, 12, 12, 14, 15, 16, 17, 17, 19, 20, 21, 22),
    ),
    "matroska, clock of ms": replace(SOUND, rate="24000/1001", suffix="mkv"),
    "transport stream": replace(SOUND, suffix="ts"),
    "B-frames": replace(SOUND, codec="-c:v libx264 -qp 1 -bf 3 -b_strategy 0 -g 12"),
    "open GOP": replace(SOUND, codec="-c:v libx264 -qp 1 -bf 3 -x264-params open-gop=1:keyint=8:min-keyint=8"),
    "edit list hides frames": Input(
        copied="B-frames", options="-ss 0.25", codec="-c copy", sound=1, shown=tuple(range(6, FRAMES))
    ),
    "edit list, empty at first": Input(copied="B-frames", options="-itsoffset 0.5", codec="-c copy", sound=1),
    # ---- sound
    "no sound": Input(),
    "sound shorter": replace(SOUND, sound=0.7),
    "sound longer": replace(SOUND, sound=1.6),
    "sound late": replace(SOUND, late=0.25, sound=0.75),
    # ---- geometry
    "turned by 90": Input(
        copied="no sound", options="-display_rotation:v:0 -90", codec="-c copy", upright="64x96", turned=90
    ),
    "turned by 180": Input(copied="no sound", options="-display_rotation:v:0 180", codec="-c copy", turned=180),
    "turned by 270": Input(
        copied="no sound", options="-display_rotation:v:0 90", codec="-c copy", upright="64x96", turned=270
    ),
    "interlaced, top first": Input(
        filters=",tinterlace=interleave_top,setfield=tff",
        codec=f"{X264} -flags +ildct+ilme -x264-params tff=1",
        fields=2,
        shown=tuple(range(0, FRAMES, 2)),
    ),
    "interlaced, bottom first": Input(
        filters=",tinterlace=interleave_bottom,setfield=bff",
        codec=f"{X264} -flags +ildct+ilme -x264-params bff=1",
        fields=2,
        shown=tuple(range(0, FRAMES, 2)),
    ),
    "pixels 4:3": Input(filters=",setsar=4/3", upright="128x64", look=TAGGED_601),
    "pixels 8:9": Input(filters=",setsar=8/9", upright="86x64", look=TAGGED_601),
    "pixels 4:3, turned": Input(
        copied="pixels 4:3", options="-display_rotation:v:0 -90", codec="-c copy", upright="48x96", turned=90
    ),
    "odd, 4:4:4": Input(size="97x65", format="yuv444p", codec=f"{X264} -pix_fmt yuv444p"),
    "odd, 4:2:0": Input(size="97x65", codec="-c:v ffv1", suffix="mkv"),
    "1344x768": replace(FEW, size="1344x768"),
    "1112x834": replace(FEW, size="1112x834"),
    "1104x832": replace(FEW, size="1104x832"),
    "832x1104": replace(FEW, size="832x1104"),
    "864x496": replace(FEW, size="864x496"),
    "1280x720": replace(FEW, size="1280x720"),
    # ---- colour
    "bt.601, 525 lines": Input(look=TAGGED_601),
    "bt.601, 625 lines": Input(look=Look("bt470bg", "bt470bg", "bt709")),
    "smpte 240m": Input(look=Look("smpte240m", "bt709", "smpte240m")),
    "bt.709, full range": Input(look=Look(full=True)),
    "bt.601, full range": Input(look=Look("smpte170m", "bt709", "bt709", full=True)),
    "untagged, small": Input(look=Look("smpte170m", tagged=False)),
    "untagged, 720 lines": replace(FEW, size="1280x720", look=Look(tagged=False)),
    "10 bits": Input(look=Look(bits=10), format="yuv420p10le", codec=TEN),
    "10 bits, full range": Input(look=Look(bits=10, full=True), format="yuv420p10le", codec=TEN),
    "prores": Input(look=Look(bits=10), format="yuv422p10le", codec="-c:v prores_ks -qscale:v 1", suffix="mov"),
    "4:4:4": Input(format="yuv444p", codec=f"{X264} -pix_fmt yuv444p"),
    "rgb": Input(format="gbrp", codec="-c:v libx264rgb -preset ultrafast -qp 0", look=Look("gbr", full=True)),
    "jpeg range": Input(
        look=Look("smpte170m", "bt709", "bt709", full=True), format="yuvj420p", codec="-c:v mjpeg -q:v 1", suffix="mov"
    ),
    "bt.2020": Input(look=Look("bt2020nc", "bt2020", "bt2020-10", bits=10), format="yuv420p10le", codec=TEN),
    "display p3": Input(look=Look("bt709", "smpte432", "bt709", bits=10), format="yuv420p10le", codec=TEN),
    "vp9": Input(codec="-c:v libvpx-vp9 -lossless 1 -deadline realtime -cpu-used 8", suffix="webm"),
    "hdr, pq": Input(look=Look("bt2020nc", "bt2020", "smpte2084", bits=10), format="yuv420p10le", codec=TEN),
    "hdr, hlg": Input(look=Look("bt2020nc", "bt2020", "arib-std-b67", bits=10), format="yuv420p10le", codec=TEN),
}
"""By name; a film that is copied stands after the one that it is made from."""


if __name__ == "__main__":
    for name, made in INPUTS.items():
        file = f"{name}.{made.suffix}"
        print(f"# {name}\nffmpeg {shlex.join(made.line(file, f'{made.copied}.mp4'))}\n")
