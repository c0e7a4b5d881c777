"""The only ffmpeg: from a graph of filters to argv, and a way to run it.

`command` is pure: it joins lowered pictures to one filter graph, numbers each node
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
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from stages.clip import Filter, Picture, PictureFacts, Size, SoundFacts, Source, Stream, filtered
from stages.encoding import Encoding
from stages.errors import FfmpegError
from stages.lowering import headed, lowered, rewritten
from stages.subtitles import styled

FONTS = Path(__file__).parent / "fonts"
CHILD = Path(__file__).parent / "child.py"

Progress = Callable[[int], None]
"""Told how many frames are done."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file of a command: a picture, the encoded sound to lay beside it, and a plain name.

    `sheet` names a contact sheet to make on the way, where the picture is encoded: its frames are decoded anyway.
    """

    picture: Picture
    encoding: Encoding = field(default_factory=Encoding)
    sound: Path | None = None
    name: str = "out.mp4"
    sheet: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """An ffmpeg call: its arguments without the program, and text files it wants in its folder."""

    arguments: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    needs_fonts: bool = False


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
    graphs = [stream if isinstance(stream, Source) else rewritten(stream, _with_head) for stream in streams]
    return [number(stream) for stream in graphs], nodes


def _with_head(stream: Stream) -> Stream:
    return headed(stream) if isinstance(stream, Source) else stream


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
