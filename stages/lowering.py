"""From what was asked of a picture or a sound to the graph of filters that does it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stages.clip import (
    BT709,
    STILL,
    Colour,
    Filter,
    Overlay,
    Picture,
    PictureFacts,
    Size,
    SoundFacts,
    Source,
    Stream,
    filtered,
)
from stages.encoding import Encoding
from stages.errors import InputError
from stages.subtitles import edges
from stages.tails import whole_of


def lowered(picture: Picture, encoding: Encoding, texts: str = "") -> Stream:
    """The picture's stream with its intentions carried out in order: crop, one resample, images laid over it,
    captions and other texts (in the file `texts`), tags.

    A stream that the encoding accepts as it is comes back as the bare source.
    Raises InputError for HDR that nobody asked to tone-map: it has no honest place in an 8-bit BT.709 file.
    """
    if not encoding.refuses(picture):
        return whole_of(picture) or picture.stream
    stream = framed(picture)
    for overlay in picture.overlays:
        if overlay.image:
            stream = _laid_over(stream, picture, overlay, overlay.image)
    if texts:
        # Without fontsdir libass finds no font, burns nothing and exits with 0.
        stream = filtered("ass", stream, filename=texts, fontsdir="fonts")
    if not encoding.is_film:
        return _pictured(stream, encoding)
    stream = filtered("format", stream, pix_fmts=encoding.pixel_format)
    # Tags stand in the graph: as output options they relabel in 5.1 and convert in 9.0.
    stream = _tagged(stream)
    if encoding.hardware == "vaapi":
        return filtered("hwupload", filtered("format", stream, pix_fmts="nv12"))
    return stream


def _pictured(stream: Stream, encoding: Encoding) -> Stream:
    """The stream as pictures have it: RGB, or a JPEG's full-range BT.601; with a palette of its own for a GIF."""
    jpeg = encoding.format == "mjpeg"
    stream = filtered(
        "scale", stream, in_color_matrix="bt709", in_range="tv", out_range="full",
        **({"out_color_matrix": "bt601"} if jpeg else {}), flags="lanczos+accurate_rnd+full_chroma_int+full_chroma_inp",
    )  # fmt: skip
    if encoding.format == "gif":
        stream = filtered("format", stream, pix_fmts="rgb24")
        return filtered("paletteuse", stream, filtered("palettegen", stream))
    stream = filtered("format", stream, pix_fmts=encoding.pixel_format)
    # Screens show video's values as sRGB; as BT.709, a PNG's gamma would make them lighter.
    tags = {"colorspace": "smpte170m" if jpeg else "gbr", "color_primaries": "bt709", "color_trc": "iec61966-2-1"}
    return filtered("setparams", stream, range="pc", **tags)


def framed(picture: Picture) -> Stream:
    """The picture's stream, cropped and resampled to the delivered frame, once."""
    stream, scaler = picture.stream, picture.scaler
    if scaler is None:
        return stream
    left, top, width, height = scaler.window.even(picture.size)
    if (width, height) != (picture.size.width, picture.size.height):
        stream = filtered("crop", stream, w=width, h=height, x=left, y=top)
    if scaler.background == "blur" and scaler.size != scaler.canvas:
        return on_blur(stream, scaler.size, scaler.canvas, scaler.engine, scaler.sharpen)
    if (width, height) != (scaler.size.width, scaler.size.height):
        stream = scaled(stream, scaler.size, scaler.engine)
    stream = sharpened(stream, scaler.sharpen)
    if scaler.canvas != scaler.size:
        stream = filtered(
            "pad", stream,
            w=scaler.canvas.width, h=scaler.canvas.height,
            x=(scaler.canvas.width - scaler.size.width) // 4 * 2,
            y=(scaler.canvas.height - scaler.size.height) // 4 * 2,
            color=scaler.background,
        )  # fmt: skip
    return filtered("setsar", stream, sar=1)


ACCURATE = "lanczos+accurate_rnd+full_chroma_int"
"""swscale's flags: without the last two it rounds each step, and a colour comes out a code value off."""


def scaled(stream: Stream, size: Size, engine: str = "lanczos") -> Filter:
    """The picture resampled to `size` by `lanczos`, on the CPU, or `libplacebo`, on the GPU."""
    if engine == "libplacebo":
        return filtered(
            "libplacebo", stream, w=size.width, h=size.height,
            upscaler="ewa_lanczossharp", downscaler="ewa_lanczos", format="yuv420p",
        )  # fmt: skip
    return filtered("scale", stream, w=size.width, h=size.height, flags=ACCURATE)


def sharpened(stream: Stream, strength: float) -> Stream:
    """The picture with its edges sharpened, in luma, where the eye sees it; `strength` is 0 (not at all) to 1."""
    if not strength:
        return stream
    # cas, since unsharp wins VMAF and loses VMAF-NEG: it rings where cas holds back. In 16 bits, since in 8 it
    # rounds down: a flat grey came out half a code value darker.
    deep = filtered("format", stream, pix_fmts="yuv420p16")
    return filtered("format", filtered("cas", deep, strength=f"{strength:g}", planes=1), pix_fmts="yuv420p")


def on_blur(stream: Stream, size: Size, canvas: Size, engine: str = "lanczos", sharpen: float = 0.0) -> Stream:
    """The picture at `size`, in the middle of a blurred copy of itself that fills `canvas`."""
    # The copy is blurred at a quarter of its size: the eye cannot tell, and it costs a sixteenth.
    small = filtered(
        "scale", stream, w=canvas.width // 8 * 2, h=canvas.height // 8 * 2,
        force_original_aspect_ratio="increase", force_divisible_by=2,
    )  # fmt: skip
    small = filtered("crop", small, w=canvas.width // 8 * 2, h=canvas.height // 8 * 2)
    behind = scaled(filtered("gblur", small, sigma=8), canvas)
    behind = filtered("setsar", behind, sar=1)
    front = filtered("setsar", sharpened(scaled(stream, size, engine), sharpen), sar=1)
    return filtered(
        "overlay", behind, front,
        x=(canvas.width - size.width) // 4 * 2, y=(canvas.height - size.height) // 4 * 2,
    )  # fmt: skip


def still_of(image: Source, size: Size, mode: str) -> Filter:
    """One frame with the still picture `image`."""
    return filtered(STILL, image, w=size.width, h=size.height, mode=mode)


def _laid_over(stream: Stream, picture: Picture, overlay: Overlay, image: Source) -> Filter:
    """The picture with an image in a corner of its safe area, over a whole number of frames."""
    frame, short = picture.frame, min(picture.frame.width, picture.frame.height)
    top, right, bottom, left = (edge + round(overlay.margin * short) for edge in edges(frame, picture.safe))
    side = max(2, round(overlay.size * short))
    room = Size(max(2, min(side, frame.width - left - right)), max(2, min(side, frame.height - top - bottom)))
    # Half a frame early: a clock of another base may round a frame's time down. Chroma has no odd corners.
    first, after = (float(time - 1 / picture.rate / 2) for time in (overlay.start, overlay.end))
    return filtered(
        "overlay", stream, still_of(image, room, "inside"),
        x=_place(overlay.corner, "left", "right", left, right, "main_w-overlay_w"),
        y=_place(overlay.corner, "top", "bottom", top, bottom, "main_h-overlay_h"),
        enable=f"gte(t,{first:.6f})*lt(t,{after:.6f})",
    )  # fmt: skip


def _place(corner: str, near: str, far: str, before: int, after: int, spare: str) -> str:
    if near in corner:
        return str(before // 2 * 2)
    return f"2*floor(({spare}-{after})/2)" if far in corner else f"2*floor(({spare}+{before - after})/4)"


def headed(source: Source) -> Stream:
    """A source as filters must see it: declared colours, square pixels, a constant rate, 48 kHz stereo."""
    if isinstance(source.facts, SoundFacts):
        return _sound_head(source, source.facts)
    facts, stream = source.facts, _declared(source, _progressive(source, source.facts), source.facts)
    if facts.sample_aspect != 1:
        stream = filtered("setsar", scaled(stream, facts.size), sar=1)
    elif facts.size != facts.coded:
        stream = filtered("crop", stream, w=facts.size.width, h=facts.size.height, x=0, y=0)
    if not facts.constant_rate:
        # fps before any trim, or frames are miscounted; the clone covers a last frame rounded away.
        stream = filtered("tpad", filtered("fps", stream, fps=facts.rate), stop=2, stop_mode="clone")
        stream = filtered("trim", stream, end_frame=facts.frames)
    if facts.start != 0 or not facts.constant_rate:
        stream = filtered("setpts", stream, expr="PTS-STARTPTS")
    return stream


def _progressive(source: Source, facts: PictureFacts) -> Stream:
    """The source without combs: a frame of two fields becomes the whole picture of the first; the count stays.

    First of all, since resampling would mix the fields; frames that say they are progressive pass as they are.
    """
    return filtered("bwdif", source, mode="send_frame", deint="interlaced") if facts.interlaced else source


def _declared(source: Source, stream: Stream, facts: PictureFacts) -> Stream:
    """The stream with known colours: tagged as what it is, converted to BT.709 video range if it is not that."""
    if refused := hdr(source):
        raise InputError(refused)
    colour = facts.colour
    full = colour.range == "pc" or facts.pixel_format.startswith("yuvj")
    matrix = colour.matrix
    if matrix == "unknown":
        # Untagged: BT.709 from 720 lines up, BT.601 below, as players assume.
        matrix = "bt709" if min(facts.coded.width, facts.coded.height) >= 720 else "smpte170m"
    if colour.matrix == "gbr" or facts.pixel_format.startswith(("rgb", "bgr", "gbr")):
        stream = filtered("scale", stream, out_color_matrix="bt709", out_range="tv", flags=ACCURATE)
        # YUV from here on: a filter that got RGB would leave it to 5.1 to make BT.601 of it.
        deep, clear = "1" in facts.pixel_format, facts.pixel_format in ("rgba", "bgra", "argb", "abgr")
        pixels = "yuva444p" if clear else "yuv444p10le" if deep else "yuv444p"
        return _tagged(filtered("format", stream, pix_fmts=pixels))
    if colour.transfer in HDR:
        return _tone_mapped(stream, colour, full)
    if colour.primaries in WIDE:
        return _narrowed(stream, matrix, colour.primaries, full)
    if matrix == "bt709" and not full:
        if colour == BT709:
            return stream
        return _tagged(stream)
    stream = filtered(
        "scale", stream,
        in_color_matrix=_swscale_name(matrix), out_color_matrix="bt709",
        in_range="full" if full else "tv", out_range="tv",
        flags=ACCURATE,
    )  # fmt: skip
    if full:  # else 5.1 hands on a yuvj420p, which the next scale takes for full range, whatever it is tagged
        stream = filtered("format", stream, pix_fmts=facts.pixel_format.replace("yuvj", "yuv"))
    # Said at once: 5.1 leaves the old range on the frame, and the next scale would convert it again.
    return _tagged(stream)


HDR = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
"""Transfers of ITU-R BT.2100, as people call them."""

WIDE = ("bt2020", "smpte432")
"""Primaries so far from BT.709's that taking them for it shows: reds and greens pale. BT.601's are taken for it,
as browsers and most players do: they differ by a few code values, and files are tagged so for their matrix alone."""


def hdr(source: Source) -> str:
    """Why this source cannot be shown as it is: it is HDR, and nobody asked to tone-map it; else nothing."""
    if source.tonemap or not isinstance(source.facts, PictureFacts) or source.facts.colour.transfer not in HDR:
        return ""
    name = HDR[source.facts.colour.transfer]
    return f"{source.path}: is HDR ({name}), and deliveries are BT.709: put the step tonemap before the others"


def _narrowed(stream: Stream, matrix: str, primaries: str, full: bool) -> Filter:
    """Wide colours in BT.709's primaries, by way of linear light; what lies outside is clipped. BT.2087."""
    stream = filtered(
        "zscale", stream,
        rangein="full" if full else "limited", matrixin=matrix, primariesin=primaries, transferin="709",
        range="limited", matrix="709", primaries="709", transfer="709", dither="ordered",
    )  # fmt: skip
    return _tagged(stream)


SDR_WHITE, HDR_PEAK = 203, 1000
"""cd/m2: diffuse white of PQ and HLG, which SDR shows as its white (ITU-R BT.2408), and HLG's nominal peak, for
which most PQ is graded too."""


def _tone_mapped(stream: Stream, colour: Colour, full: bool) -> Filter:
    """HDR as BT.709 shows it: up to 30 % of white as it was, above it rolled off, so that 1000 cd/m2 is white."""
    # 5.1 finds "no path between colorspaces" unless both ends of each step are said.
    stream = filtered(
        "zscale", stream,
        rangein="full" if full else "limited", transferin=colour.transfer,
        matrixin="bt2020nc" if colour.matrix == "unknown" else colour.matrix,
        primariesin="bt2020" if colour.primaries == "unknown" else colour.primaries,
        transfer="linear", primaries="709", matrix="709", npl=SDR_WHITE,
    )  # fmt: skip
    stream = filtered("format", stream, pix_fmts="gbrpf32le")
    stream = filtered("tonemap", stream, tonemap="mobius", desat=0, peak=f"{HDR_PEAK / SDR_WHITE:.4f}")
    stream = filtered(
        "zscale", stream,
        transferin="linear", primariesin="709",
        transfer="709", primaries="709", matrix="709", range="limited", dither="ordered",
    )  # fmt: skip
    return _tagged(filtered("format", stream, pix_fmts="yuv444p"))


def _tagged(stream: Stream) -> Filter:
    return filtered("setparams", stream, range="tv", colorspace="bt709", color_primaries="bt709", color_trc="bt709")


def _swscale_name(matrix: str) -> str:
    return {"bt2020nc": "bt2020", "bt2020c": "bt2020", "bt470bg": "bt601", "smpte170m": "bt601"}.get(matrix, matrix)


def _sound_head(source: Source, facts: SoundFacts) -> Stream:
    """At 48 kHz in stereo. Of 5.1 the front is as loud as it was, the centre and what is behind 3 dB less on either
    side, as ITU-R BS.775 has it; the LFE, which repeats the others, is left out."""
    whole = filtered("atrim", source, start_sample=facts.priming) if facts.priming else source
    stream: Stream = filtered("aresample", whole, sample_rate=48000)
    if facts.channels == 1:
        # `-ac 2` takes 3 dB off a mono voice; pan takes nothing.
        return filtered("pan", stream, args="stereo|c0=c0|c1=c0")
    return filtered("aformat", stream, sample_fmts="fltp", channel_layouts="stereo")


def rewritten(stream: Stream, change: Callable[[Stream], Stream]) -> Stream:
    """The graph with `change` applied to each node once, inputs first; what it returns is not visited again."""
    done: dict[int, Stream] = {}

    def visit(node: Stream) -> Stream:
        if id(node) not in done:
            inner = replace(node, inputs=tuple(map(visit, node.inputs))) if isinstance(node, Filter) else node
            done[id(node)] = change(inner)
        return done[id(node)]

    return visit(stream)
