"""The compiler, and the only ffmpeg: from a clip's description to argv, and a way to run it.

`command` is pure: it lowers pictures to one filter graph, numbers each node
once, splits what is read twice, and returns argv with the small text files
that the graph reads. `run_command` runs it in a folder of its own, so that
every name in it is plain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from stages.clip import (
    BT709,
    Colour,
    Filter,
    Picture,
    PictureFacts,
    Size,
    SoundFacts,
    Source,
    Stream,
    filtered,
)
from stages.errors import FfmpegError, InputError
from stages.subtitles import styled

FONTS = Path(__file__).parent / "fonts"
CHILD = Path(__file__).parent / "child.py"

Progress = Callable[[int], None]
"""Told how many frames are done."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is encoded. `gop` is the longest distance between key frames, in seconds."""

    codec: str = "libx264"
    preset: str = "veryfast"
    crf: int = 18
    profile: str = "high"
    gop: Fraction = Fraction(2)
    b_frames: int = 2
    pixel_format: str = "yuv420p"
    max_rate: int = 0
    edit_lists: bool = True

    def refuses(self, picture: Picture) -> str:
        """Why `picture`'s stream cannot be copied into such a file; nothing if it can."""
        if isinstance(picture.stream, Filter) or picture.scaler or (picture.captions and picture.captions.burn):
            return "its picture is edited"
        facts = picture.stream.facts
        assert isinstance(facts, PictureFacts)
        return next((f"{key}: {found}" for key, found in self.mismatches(facts)), "")

    def mismatches(self, facts: PictureFacts) -> Iterator[tuple[str, str]]:
        """What about a video stream is not as this encoding makes it: which value, and what was found."""
        codec = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}.get(self.codec, self.codec)
        longest = round(self.gop * facts.rate)
        for wrong, key, found in (
            (facts.codec != codec, "codec", facts.codec),
            (bool(self.profile) and facts.profile.lower() not in PROFILES[self.profile], "profile", facts.profile),
            (facts.pixel_format != self.pixel_format, "pixel_format", facts.pixel_format),
            (facts.keyframes > longest, "gop", f"{facts.keyframes} frames between key frames, not {longest}"),
            (bool(self.max_rate) and facts.bit_rate > self.max_rate, "max_rate", f"{facts.bit_rate} bit/s"),
            (facts.sample_aspect != 1, "pixels", f"not square: {facts.sample_aspect}"),
            (facts.rotation != 0, "pixels", f"turned by {facts.rotation} degrees"),
            (facts.size != facts.coded, "pixels", f"an odd number: {facts.coded}"),
            (not facts.constant_rate, "rate", "not constant"),
            (facts.colour not in (BT709, Colour()), "colour", f"{facts.colour.matrix}, {facts.colour.range}"),
            (facts.start != 0, "start", f"at {float(facts.start):g} s"),
        ):
            if wrong:
                yield key, found


PROFILES = {"high": ("high", "main", "baseline", "constrained baseline")}
"""Profiles of H.264 that a decoder of the key's plays (ITU-T H.264 annex A)."""


LOSSLESS = Encoding(preset="ultrafast", crf=0, profile="", gop=Fraction(1), b_frames=0)
"""For a picture between two stages: bit-exact, quick to read; never delivered."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file of a command: a picture, the encoded sound to lay beside it, and a plain name.

    `sheet` names a contact sheet to make on the way, where the picture is encoded: its frames are decoded anyway.
    """

    picture: Picture
    encoding: Encoding = Encoding()
    sound: Path | None = None
    name: str = "out.mp4"
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """An ffmpeg call: its arguments without the program, and text files it wants in its folder."""

    arguments: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    needs_fonts: bool = False


# ---------------------------------------------------------------- lowering: pictures


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


def _head(source: Source) -> Stream:
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


# ---------------------------------------------------------------- the command


def command(outputs: Sequence[Output]) -> Command:
    """One ffmpeg call that decodes each source once and makes all `outputs`. Pure.

    A copied picture gets no filter and no `-t` (which would add frames).
    """
    texts: dict[str, str] = {}  # by content: outputs with the same captions share the drawing of them
    streams: list[Stream] = []
    for output in outputs:
        captions, name = output.picture.captions, ""
        if captions and captions.burn and captions.cues:
            text = styled(captions.cues, output.picture.frame)
            name = texts.setdefault(text, f"captions{len(texts)}.ass")
        streams.append(lowered(output.picture, output.encoding, name))
    files = {name: text for text, name in texts.items()}
    sheets = [
        (_strip(stream, output.picture.frame, output.picture.frames), output.sheet)
        for stream, output in zip(streams, outputs, strict=True)
        if output.sheet and isinstance(stream, Filter)
    ]
    linked = linked_graph([*streams, *(strip for strip, _ in sheets)])
    films = zip(linked, streams, outputs, strict=False)
    made = [_output(each, output, isinstance(stream, Source)) for each, stream, output in films]
    made += [_sheet_output(each, name) for each, (_, name) in zip(linked[len(streams) :], sheets, strict=True)]
    return Command(_arguments(made), files, needs_fonts=bool(files))


def sound_command(stream: Stream, target: str, **options: str | int) -> Command:
    """One ffmpeg call that makes the sound file `target` from `stream`. Pure."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    (linked,) = linked_graph([stream])
    return Command(_arguments([ffmpeg.output(linked, target, vn=None, **_METADATA, **options)]))


_METADATA = {"map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact"}
"""Nothing of the source's tags, no dates, no encoder strings: what a file says of itself is signed or absent."""


def _output(stream: Any, output: Output, copied: bool) -> Any:
    import ffmpeg  # noqa: PLC0415 -- heavy

    encoding = output.encoding
    flags = "+faststart" if encoding.edit_lists else "+faststart+negative_cts_offsets"
    options: dict[str, Any] = {"movflags": flags, **_METADATA}
    if not encoding.edit_lists:
        options["use_editlist"] = 0
    if copied:
        options["c:v"] = "copy"
    else:
        options |= _encoder(encoding, output.picture.rate)
    parts = [stream]
    if output.sound:
        parts.append(ffmpeg.input(str(output.sound))["a"])
        options["c:a"] = "copy"
    return ffmpeg.output(*parts, output.name, **options)


def _encoder(encoding: Encoding, rate: Fraction) -> dict[str, Any]:
    options: dict[str, Any] = {
        "c:v": encoding.codec,
        "preset": encoding.preset,
        "crf": encoding.crf,
        "g": max(1, round(encoding.gop * rate)),
        "bf": encoding.b_frames,
        "pix_fmt": encoding.pixel_format,
        "flags:v": "+bitexact+cgop",
        "fps_mode": "passthrough",
    }
    if encoding.profile:
        options["profile:v"] = encoding.profile
    if encoding.max_rate:
        options |= {"maxrate": encoding.max_rate, "bufsize": 2 * encoding.max_rate}
    return options


def _arguments(made: Sequence[Any]) -> tuple[str, ...]:
    import ffmpeg  # noqa: PLC0415 -- heavy

    return tuple(ffmpeg.get_args(ffmpeg.merge_outputs(*made) if len(made) > 1 else made[0]))


def linked_graph(streams: Sequence[Stream]) -> list[Any]:
    """`streams` as ffmpeg-python streams, each distinct node once, with a split where one is read twice."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    numbers, nodes = _numbered(streams)
    reads = Counter(number for _, inputs in nodes for number in inputs)
    reads.update(numbers)
    taps: list[Iterator[Any]] = []
    for node, inputs in nodes:
        if isinstance(node, Source):
            kind = "a" if isinstance(node.facts, SoundFacts) else "v"
            made = ffmpeg.input(str(node.path))[kind]
            taps.append(_repeated(made))
            continue
        options = {key: str(value) for key, value in node.options}
        made = ffmpeg.filter([next(taps[number]) for number in inputs], node.name, **options)
        count = reads[len(taps)]
        if count > 1:
            split = made.filter_multi_output("asplit" if node.name in _SOUND_FILTERS else "split", count)
            taps.append(iter([split[index] for index in range(count)]))
        else:
            taps.append(iter([made]))
    return [next(taps[number]) for number in numbers]


_SOUND_FILTERS = frozenset(
    {"acrossfade", "adelay", "afade", "aformat", "alimiter", "amix", "amultiply", "apad", "aresample", "areverse"}
    | {"asetpts", "atrim", "ebur128", "pan", "silencedetect", "volume"}
)
"""What is split with `asplit`."""


def _repeated(stream: Any) -> Iterator[Any]:
    while True:
        yield stream


Node = tuple[Source | Filter, tuple[int, ...]]


def _numbered(streams: Sequence[Stream]) -> tuple[list[int], list[Node]]:
    """Each distinct node once, after its inputs, keyed by name, options and the numbers of its inputs.

    Keyed by number, not by value: hashing nested filters was exponential in nested reads.
    """
    nodes: list[Node] = []
    known: dict[object, int] = {}
    by_id: dict[int, int] = {}

    def number(stream: Stream) -> int:
        if id(stream) not in by_id:
            inputs = tuple(number(inner) for inner in stream.inputs) if isinstance(stream, Filter) else ()
            key = (stream.name, stream.options, inputs) if isinstance(stream, Filter) else stream
            if key not in known:
                known[key] = len(nodes)
                nodes.append((stream, inputs))
            by_id[id(stream)] = known[key]
        return by_id[id(stream)]

    # An output that is a bare source is copied; only what filters read gets a head.
    headed = [stream if isinstance(stream, Source) else rewritten(stream, _with_head) for stream in streams]
    return [number(stream) for stream in headed], nodes


def _with_head(stream: Stream) -> Stream:
    return _head(stream) if isinstance(stream, Source) else stream


def rewritten(stream: Stream, change: Callable[[Stream], Stream]) -> Stream:
    """The graph with `change` applied to each node once, inputs first; what it returns is not visited again."""
    done: dict[int, Stream] = {}

    def visit(node: Stream) -> Stream:
        if id(node) not in done:
            inner = replace(node, inputs=tuple(map(visit, node.inputs))) if isinstance(node, Filter) else node
            done[id(node)] = change(inner)
        return done[id(node)]

    return visit(stream)


# ---------------------------------------------------------------- running


def run_command(made: Command, folder: Path, on_progress: Progress | None = None) -> str:
    """Run `made` in `folder`, where its files are written first. Returns what ffmpeg said."""
    for name, text in made.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if made.needs_fonts and not (folder / "fonts").exists():
        (folder / "fonts").symlink_to(FONTS, target_is_directory=True)
    said = run_ffmpeg(made.arguments, folder, on_progress)
    if made.needs_fonts and ("find any fallback" in said or "Glyph 0x" in said):
        missing = next((line for line in said.splitlines() if "Glyph 0x" in line or "fallback" in line), "")
        raise FfmpegError(f"the caption font lacks a character: {missing.split(']')[-1].strip()}", made.arguments, said)
    return said


def run_ffmpeg(arguments: Sequence[str], folder: Path | None = None, on_progress: Progress | None = None) -> str:
    """Run ffmpeg with `arguments`, in `folder`; it dies if this process dies. Returns its stderr.

    Raises FfmpegError with one sentence of what was wrong.
    """
    argv = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]
    argv += ["-y", "-progress", "pipe:1", *arguments]
    launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen([*launcher, *argv], cwd=folder, stdout=subprocess.PIPE, stderr=errors) as process:
            _running.add(process)
            try:
                _follow(process.stdout, on_progress)
                code = process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                _running.discard(process)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code != 0:
        raise FfmpegError(_diagnosis(said, code, folder), argv, said)
    return said


_running: set[subprocess.Popen[bytes]] = set()


def stop_all() -> None:
    """Kill every ffmpeg that this process runs: somebody pressed Ctrl-C."""
    for process in tuple(_running):
        process.kill()


def _follow(lines: IO[bytes] | None, on_progress: Progress | None) -> None:
    for line in lines or ():
        if on_progress and line.startswith(b"frame="):
            on_progress(int(line[6:]))


def ffmpeg_binary() -> str:
    """The ffmpeg that is used: `IMAGEIO_FFMPEG_EXE` if set, else the one that imageio-ffmpeg ships."""
    import imageio_ffmpeg  # noqa: PLC0415 -- heavy

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise FfmpegError("no ffmpeg was found: install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE") from None


def ffmpeg_version() -> str:
    """The version of that ffmpeg, such as `n9.0.2-17-g2a571b6068`."""
    binary = ffmpeg_binary()
    try:
        said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise FfmpegError(f"{binary}: does not run as ffmpeg ({error})") from None
    words = said.split()
    return words[2] if len(words) > 2 and words[0] == "ffmpeg" else "unknown"


def _diagnosis(said: str, code: int, folder: Path | None) -> str:
    """One sentence from ffmpeg's last words in `folder`."""
    for line in said.splitlines():
        if "No such filter" in line:
            return f"this ffmpeg ({ffmpeg_binary()}) lacks the filter {line.split(':')[-1].strip()}; use another build"
        if "Unknown encoder" in line:
            return f"this ffmpeg ({ffmpeg_binary()}) lacks the encoder {line.split('encoder')[-1].strip()}"
        if "No space left on device" in line:
            return f"{(folder or Path.cwd()).absolute()}: the disk is full"
    errors = [line for line in said.splitlines() if "[error] " in line or "[fatal] " in line]
    telling = [line for line in errors if not damage(line)] or errors or said.split("\n")[-2:-1] or ["it said nothing"]
    # The first error is the cause; those after it tell who else stopped.
    return f"ffmpeg failed (exit code {code}): {telling[0].split('] ')[-1].strip()}"


def contact_sheet(file: Path, picture: PictureFacts | None, target: Path) -> None:
    """A JPEG of six frames, evenly spread over the film in `file`; of the one picture in a file that is no film."""
    pick, layout = _six_of(picture.frames, picture.size) if picture else ("1", "1x1")
    small = "scale=480:480:force_original_aspect_ratio=decrease:force_divisible_by=2,setsar=1"
    # Absolute, or a colon would be a protocol; -update, or a % in its name would be a number.
    still = ("-frames:v", "1", "-fps_mode", "passthrough", "-q:v", "4", "-update", "1", str(target.absolute()))
    run_ffmpeg(["-i", str(file.absolute()), "-an", "-vf", f"select='{pick}',{small},tile={layout}", *still])


def _six_of(frames: int, frame: Size) -> tuple[str, str]:
    """Which frames to show, as ffmpeg's `select` has it, and how to lay them out: upright ones in one row."""
    step = max(1, frames // 6)
    return f"not(mod(n-{step // 2},{step}))", "3x2" if frame.width >= frame.height else "6x1"


def _strip(stream: Stream, frame: Size, frames: int) -> Filter:
    """A contact sheet as a part of a graph."""
    pick, layout = _six_of(frames, frame)
    small = filtered(
        "scale", filtered("select", stream, expr=pick),
        w=480, h=480, force_original_aspect_ratio="decrease", force_divisible_by=2,
    )  # fmt: skip
    return filtered("tile", filtered("setsar", small, sar=1), layout=layout)


def _sheet_output(stream: Any, name: str) -> Any:
    import ffmpeg  # noqa: PLC0415 -- heavy

    return ffmpeg.output(stream, name, **{"frames:v": 1, "q:v": 4, "update": 1, "fps_mode": "passthrough"})


def waveform(file: Path, target: Path) -> None:
    """A PNG of the sound in `file`, full scale from top to bottom."""
    draw = "aformat=channel_layouts=mono,showwavespic=s=960x120:colors=0x5b8def:scale=lin:draw=full"
    still = ("-frames:v", "1", "-update", "1", str(target.absolute()))
    run_ffmpeg(["-i", str(file.absolute()), "-vn", "-filter_complex", draw, *still])


def damage(said: str) -> tuple[str, ...]:
    """What ffmpeg complained of while it decoded: signs of a damaged source, each once."""
    signs = (
        "error while decoding",
        "corrupt",
        "concealing",
        "Invalid NAL",
        "Invalid data found",
        "missing picture",
    )
    return tuple(dict.fromkeys(line.split("] ")[-1] for line in said.splitlines() if any(s in line for s in signs)))[:3]
