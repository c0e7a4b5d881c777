"""From what was asked of a picture or a sound to the graph of filters that does it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stages.clip import BT709, Filter, Picture, PictureFacts, Size, SoundFacts, Source, Stream, filtered
from stages.encoding import Encoding
from stages.errors import InputError


def lowered(picture: Picture, encoding: Encoding, captions: str = "") -> Stream:
    """The picture's stream with its intentions carried out in order: crop, one resample, captions, tags.

    A stream that the encoding accepts as it is comes back as the bare source.
    Raises InputError for HDR, which has no honest place in an 8-bit BT.709 file yet.
    """
    if not encoding.refuses(picture):
        return picture.stream
    stream = _framed(picture)
    if captions:
        # Without fontsdir libass finds no font, burns nothing and exits with 0.
        stream = filtered("ass", stream, filename=captions, fontsdir="fonts")
    stream = filtered("format", stream, pix_fmts=encoding.pixel_format)
    # Tags stand in the graph: as output options they relabel in 5.1 and convert in 9.0.
    return filtered("setparams", stream, range="tv", colorspace="bt709", color_primaries="bt709", color_trc="bt709")


def _framed(picture: Picture) -> Stream:
    """Crop and resample to the delivered frame, once."""
    stream, scaler = picture.stream, picture.scaler
    if scaler is None:
        return stream
    left, top, width, height = scaler.window.even(picture.size)
    if (width, height) != (picture.size.width, picture.size.height):
        stream = filtered("crop", stream, w=width, h=height, x=left, y=top)
    if scaler.background == "blur" and scaler.size != scaler.canvas:
        return on_blur(stream, scaler.size, scaler.canvas)
    if (width, height) != (scaler.size.width, scaler.size.height):
        stream = scaled(stream, scaler.size)
    if scaler.canvas != scaler.size:
        stream = filtered(
            "pad", stream,
            w=scaler.canvas.width, h=scaler.canvas.height,
            x=(scaler.canvas.width - scaler.size.width) // 4 * 2,
            y=(scaler.canvas.height - scaler.size.height) // 4 * 2,
            color=scaler.background,
        )  # fmt: skip
    return filtered("setsar", stream, sar=1)


def scaled(stream: Stream, size: Size) -> Filter:
    """The picture resampled to `size`."""
    return filtered("scale", stream, w=size.width, h=size.height, flags="lanczos+accurate_rnd+full_chroma_int")


def on_blur(stream: Stream, size: Size, canvas: Size) -> Stream:
    """The picture at `size`, in the middle of a blurred copy of itself that fills `canvas`."""
    # The copy is blurred at a quarter of its size: the eye cannot tell, and it costs a sixteenth.
    small = filtered(
        "scale", stream, w=canvas.width // 8 * 2, h=canvas.height // 8 * 2,
        force_original_aspect_ratio="increase", force_divisible_by=2,
    )  # fmt: skip
    small = filtered("crop", small, w=canvas.width // 8 * 2, h=canvas.height // 8 * 2)
    behind = scaled(filtered("gblur", small, sigma=8), canvas)
    behind = filtered("setsar", behind, sar=1)
    front = filtered("setsar", scaled(stream, size), sar=1)
    return filtered(
        "overlay", behind, front,
        x=(canvas.width - size.width) // 4 * 2, y=(canvas.height - size.height) // 4 * 2,
    )  # fmt: skip


def headed(source: Source) -> Stream:
    """A source as filters must see it: declared colours, square pixels, a constant rate, 48 kHz stereo."""
    if isinstance(source.facts, SoundFacts):
        return _sound_head(source, source.facts)
    facts, stream = source.facts, _declared(source, source.facts)
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


def _declared(source: Source, facts: PictureFacts) -> Stream:
    """The source with known colours: tagged as what it is, converted to BT.709 video range if it is not that."""
    colour = facts.colour
    if colour.transfer in ("smpte2084", "arib-std-b67"):
        raise InputError(f"{source.path}: is HDR ({colour.transfer}); tone-map it to BT.709 first")
    rgb = colour.matrix == "gbr" or facts.pixel_format.startswith(("rgb", "bgr", "gbr"))
    full = colour.range == "pc" or facts.pixel_format.startswith("yuvj")
    matrix = colour.matrix
    if matrix == "unknown":
        # Untagged: BT.709 from 720 lines up, BT.601 below, as players assume.
        matrix = "bt709" if min(facts.coded.width, facts.coded.height) >= 720 else "smpte170m"
    if rgb:
        return filtered("scale", source, out_color_matrix="bt709", out_range="tv")
    if matrix == "bt709" and not full:
        if colour == BT709:
            return source
        return filtered("setparams", source, range="tv", colorspace="bt709", color_primaries="bt709", color_trc="bt709")
    return filtered(
        "scale", source,
        in_color_matrix=_swscale_name(matrix), out_color_matrix="bt709",
        in_range="full" if full else "tv", out_range="tv",
        flags="lanczos+accurate_rnd+full_chroma_int",
    )  # fmt: skip


def _swscale_name(matrix: str) -> str:
    return {"bt2020nc": "bt2020", "bt2020c": "bt2020", "bt470bg": "bt601", "smpte170m": "bt601"}.get(matrix, matrix)


def _sound_head(source: Source, facts: SoundFacts) -> Stream:
    stream: Stream = filtered("aresample", source, sample_rate=48000)
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
