"""The only ffmpeg: from a graph of filters to argv, and a way to run it.

`command` is pure: it joins lowered pictures to one filter graph, numbers each node
once, splits what is read twice, and returns argv with the small text files
that the graph reads. `run_command` runs it in a folder of its own, so that
every name in it is plain.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, Any

from stages.clip import (
    CHAIN,
    SAMPLE_RATE,
    STILL,
    Cue,
    Filter,
    Picture,
    PictureFacts,
    Size,
    SoundFacts,
    Source,
    Stream,
    filtered,
)
from stages.encoding import Encoding
from stages.errors import FfmpegError, WriteError
from stages.language_tags import container_code
from stages.lettering import SHIPPED, face
from stages.lowering import headed, lowered, rewritten
from stages.pictures import draw_still
from stages.subtitles import FONT, styled
from stages.timed_text import text_track, texts

CHILD = Path(__file__).parent / "child.py"

Progress = Callable[[int], None]
"""Told how many frames are done."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file of a command: a picture, the encoded sound to lay beside it, and a plain name.

    `sheet` names a contact sheet to make on the way, where the picture is encoded: its frames are decoded anyway.
    `language` is its sound's and its captions', a BCP 47 tag.
    `packets`, if not 0, is how many of a copied picture's packets are taken, in the order of decoding.
    """

    picture: Picture
    encoding: Encoding = field(default_factory=Encoding)
    sound: Path | None = None
    name: str = "out.mp4"
    sheet: str = ""
    packets: int = 0
    language: str = ""


@dataclass(frozen=True, slots=True)
class Still:
    """A picture to draw as a PNG of `size`, as `mode` says (`clip.STILL`)."""

    file: Path
    size: Size
    mode: str


@dataclass(frozen=True, slots=True)
class TextTrack:
    """Captions to write as a text track for a film of `size` (`timed_text`)."""

    cues: tuple[Cue, ...]
    size: Size


@dataclass(frozen=True, slots=True)
class Command:
    """An ffmpeg call: its arguments without the program, and the texts, fonts, stills and text tracks it wants in
    its folder."""

    arguments: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    fonts: tuple[Path, ...] = ()
    stills: Mapping[str, Still] = field(default_factory=dict)
    tracks: Mapping[str, TextTrack] = field(default_factory=dict)


# ---------------------------------------------------------------- the command


def command(outputs: Sequence[Output]) -> Command:
    """One ffmpeg call that decodes each source once and makes all `outputs`. Pure.

    A copied picture gets no filter and no `-t` (which would add frames).
    """
    texts: dict[str, str] = {}  # by content: outputs with the same captions share the drawing of them
    streams: list[Stream] = []
    stills: dict[Still, str] = {}
    for output in outputs:
        stream = lowered(output.picture, output.encoding, _texts(output.picture, texts))
        streams.append(_with_stills(stream, stills))
    files = {name: text for text, name in texts.items()}
    sheets = [
        (_strip(stream, output.picture.frame, output.picture.frames), output.sheet)
        for stream, output in zip(streams, outputs, strict=True)
        if output.sheet and isinstance(stream, Filter)
    ]
    linked = linked_graph([*streams, *(strip for strip, _ in sheets)])
    films = zip(linked, streams, outputs, strict=False)
    tracks: dict[TextTrack, str] = {}
    made = [_output(each, output, isinstance(stream, Source), _track(output, tracks)) for each, stream, output in films]
    made += [_sheet_output(each, name) for each, (_, name) in zip(linked[len(streams) :], sheets, strict=True)]
    device = _VAAPI if any(output.encoding.hardware == "vaapi" for output in outputs) else ()
    fonts = _fonts([output.picture for output in outputs]) if files else ()
    return Command(
        (*device, *_arguments(made)), files, fonts,
        {name: still for still, name in stills.items()}, {name: track for track, name in tracks.items()},
    )  # fmt: skip


def _track(output: Output, tracks: dict[TextTrack, str]) -> str:
    """The name of the file with the captions to lay in as a track, noted in `tracks`; empty where there are none."""
    captions = output.picture.captions
    if not captions or not texts(captions) or not output.encoding.boxed:
        return ""
    return tracks.setdefault(TextTrack(captions.cues, output.picture.frame), f"texts{len(tracks)}.mp4")


def _texts(picture: Picture, texts: dict[str, str]) -> str:
    """The name of the file with the captions and texts to draw into `picture`, noted in `texts`; empty where
    there are none."""
    captions = picture.captions
    cues = captions.cues if captions and captions.burn else ()
    if not cues and not any(one.text for one in picture.overlays):
        return ""
    style, font = (captions.style, captions.font) if captions else ("clean", None)
    named = face(font).name if font else FONT
    text = styled(cues, picture.frame, picture.overlays, picture.safe, style, named)
    return texts.setdefault(text, f"captions{len(texts)}.ass")


def _fonts(pictures: Sequence[Picture]) -> tuple[Path, ...]:
    given = (picture.captions.font for picture in pictures if picture.captions and picture.captions.font)
    return (SHIPPED, *dict.fromkeys(given))


def _with_stills(stream: Stream, stills: dict[Still, str]) -> Stream:
    """The graph with each still picture as the PNG that it will be drawn as, noted in `stills`."""

    def change(node: Stream) -> Stream:
        if not isinstance(node, Filter) or node.name != STILL:
            return node
        (image,), given = node.inputs, dict(node.options)
        assert isinstance(image, Source)
        size = Size(int(given["w"]), int(given["h"]))
        name = stills.setdefault(Still(image.path, size, str(given["mode"])), f"still{len(stills)}.png")
        return Source(Path(name), PictureFacts(size, size, Fraction(25), 1, "png", pixel_format="rgba"))

    return rewritten(stream, change) if isinstance(stream, Filter) else stream


def still_command(picture: Picture, number: int, target: str) -> Command:
    """One ffmpeg call that makes the PNG `target` of frame `number` of `picture`, as a viewer sees it. Pure."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    texts: dict[str, str] = {}
    # Taken out first, so that no other frame costs more than its decoding; its time stays: captions go by it.
    stream: Stream = filtered("trim", picture.stream, start_frame=number, end_frame=number + 1)
    stills: dict[Still, str] = {}
    stream = _with_stills(lowered(replace(picture, stream=stream), Encoding(), _texts(picture, texts)), stills)
    stream = filtered(
        "scale", stream, in_color_matrix="bt709", in_range="tv", out_range="full",
        flags="lanczos+accurate_rnd+full_chroma_int+full_chroma_inp",
    )  # fmt: skip
    # Screens show video's values as sRGB; as BT.709, a PNG's gamma would make them lighter.
    stream = filtered(
        "setparams", filtered("format", stream, pix_fmts="rgb24"),
        range="pc", colorspace="gbr", color_primaries="bt709", color_trc="iec61966-2-1",
    )  # fmt: skip
    (linked,) = linked_graph([stream])
    made = ffmpeg.output(linked, target, **{"frames:v": 1, "update": 1, "fps_mode": "passthrough"}, **_METADATA)
    files = {name: text for text, name in texts.items()}
    return Command(
        _arguments([made]), files, _fonts([picture]) if files else (), {name: still for still, name in stills.items()}
    )


def frames_command(stream: Stream, start: int, end: int) -> Command:
    """One ffmpeg call that writes the frames from number `start` up to `end` to its standard output, as packed RGB.
    Pure."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    taken = filtered("trim", stream, start_frame=start, end_frame=end)
    taken = filtered(
        "scale", taken, in_color_matrix="bt709", in_range="tv", out_range="full",
        flags="lanczos+accurate_rnd+full_chroma_int+full_chroma_inp",
    )  # fmt: skip
    (linked,) = linked_graph([filtered("format", taken, pix_fmts="rgb24")])
    return Command(_arguments([ffmpeg.output(linked, "pipe:1", format="rawvideo", fps_mode="passthrough")]))


def lossless_command(size: Size, target: Size, rate: Fraction, name: str) -> Command:
    """One ffmpeg call that reads packed RGB frames of `size` from its standard input and writes them, resampled
    to `target`, as lossless H.264 in BT.709. Pure."""
    resample = f"scale={target.width}:{target.height}:flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    return Command(
        (
            *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", str(size), "-framerate", str(rate)),
            *("-i", "pipe:0", "-vf", f"{resample}:out_color_matrix=bt709:out_range=tv,format=yuv420p,setsar=1,{tags}"),
            # The fastest preset: no B-frames, so that segments join without a gap; its files are large, and temporary.
            *("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-fps_mode", "passthrough", name),
        )
    )


def join_command(names: Sequence[str], target: str) -> Command:
    """One ffmpeg call that joins segments, which lie in its folder, without encoding anything. Pure."""
    listed = "".join(f"file '{name}'\n" for name in names)
    arguments = ("-f", "concat", "-i", "segments.txt", "-c", "copy", "-movflags", "+faststart", target)
    return Command(arguments, {"segments.txt": listed})


def measure_command(streams: Mapping[str, Stream]) -> Command:
    """One ffmpeg call that writes what the filters at the end of `streams` say of each frame to `NAME.txt`. Pure."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    told = [filtered("metadata", stream, mode="print", file=f"{name}.txt") for name, stream in streams.items()]
    stills: dict[Still, str] = {}
    drawn = [_with_stills(stream, stills) for stream in told]
    outputs = [ffmpeg.output(linked, "-", format="null", fps_mode="passthrough") for linked in linked_graph(drawn)]
    return Command(_arguments(outputs), stills={name: still for still, name in stills.items()})


def sound_command(stream: Stream, target: str, drawn: Stream | None = None, /, **options: str | int) -> Command:
    """One ffmpeg call that makes the sound file `target` from `stream`, and `waves.png` of what is `drawn`. Pure."""
    import ffmpeg  # noqa: PLC0415 -- heavy

    linked, *waves = linked_graph([stream, *([_waves(drawn)] if drawn else [])])
    made = [ffmpeg.output(linked, target, vn=None, **_METADATA, **options)]
    made += [ffmpeg.output(each, WAVES, **{"frames:v": 1, "update": 1}) for each in waves]
    return Command(_arguments(made))


WAVES = "waves.png"

_DRAWN = {"s": "960x120", "colors": "0x5b8def", "scale": "lin", "draw": "full"}
"""How `showwavespic` draws a sound."""


def _waves(stream: Stream) -> Filter:
    """A drawing of a sound, full scale from top to bottom."""
    return filtered("showwavespic", filtered("aformat", stream, channel_layouts="mono"), **_DRAWN)


_METADATA = {"map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact"}
"""Nothing of the source's tags, no dates, no encoder strings: what a file says of itself is signed or absent."""


MP4_CLOCK = {"movie_timescale": SAMPLE_RATE}
"""An edit list counts by the film's clock, which is of milliseconds: too coarse for a frame at 23.976, and in
ffmpeg 5.1 one that ends a sample early hides the last frame."""


def _output(stream: Any, output: Output, copied: bool, captions: str = "") -> Any:
    import ffmpeg  # noqa: PLC0415 -- heavy

    encoding = output.encoding
    options: dict[str, Any] = {**_CONTAINERS.get(encoding.container, {}), **_METADATA}
    if not encoding.edit_lists:
        options |= {"movflags": "+faststart+negative_cts_offsets", "use_editlist": 0}
    if copied:
        options["c:v"] = "copy"
        if output.packets:
            # Not -t, which goes by the clock of decoding and takes some too many; nor -frames, at which 5.1 ends the
            # sound too.
            options["bsf:v"] = rf"noise=amount=0:drop=gte(n\,{output.packets})"
    else:
        options |= _encoder(encoding, output.picture.rate)
    parts = [stream]
    if output.sound:
        parts.append(ffmpeg.input(str(output.sound))["a"])
        options["c:a"] = "copy"
    if captions:
        parts.append(ffmpeg.input(captions)["s"])
        options["c:s"] = "copy"
    if output.language and encoding.is_film:
        code = container_code(output.language, encoding.container)
        kinds = [kind for kind, there in (("a", output.sound), ("s", captions)) if there]
        options |= {f"metadata:s:{kind}": f"language={code}" for kind in kinds}
    return ffmpeg.output(*parts, output.name, **options)


_CONTAINERS: Mapping[str, Mapping[str, Any]] = {
    "mp4": {"movflags": "+faststart", **MP4_CLOCK},
    "mov": {"movflags": "+faststart", **MP4_CLOCK},
    "webm": {"cues_to_front": 1},
    "mkv": {"cues_to_front": 1},
    "gif": {"loop": 0},
    "webp": {"loop": 0},
    "jpg": {"update": 1},
    "png": {"update": 1},
}
"""What a muxer is told: the index first, played for ever, one picture."""

_QUALITY = {"libwebp_anim": "quality", "mjpeg": "q:v"}
"""What `crf` is called where it is not called so."""


def _encoder(encoding: Encoding, rate: Fraction) -> dict[str, Any]:
    options: dict[str, Any] = {"c:v": encoding.codec}
    if encoding.hardware:
        options |= _hardware(encoding)
    elif encoding.format == "vp9":  # a bit rate of 0 leaves the quality constant
        options |= {"deadline": "good", "cpu-used": encoding.preset, "row-mt": 1, "b:v": 0}
    elif encoding.format == "ffv1":  # version 3, in slices that each have a checksum (RFC 9043)
        options |= {"level": 3, "slices": 4, "slicecrc": 1}
    elif encoding.preset:
        options["preset"] = encoding.preset
    if encoding.crf is not None and not encoding.hardware:
        options[_QUALITY.get(encoding.codec, "crf")] = encoding.crf
    if encoding.is_film and encoding.format != "prores":  # which has key frames alone
        options["g"] = max(1, round(encoding.gop * rate))
    if encoding.format in ("h264", "hevc"):
        options["bf"] = encoding.b_frames
    options |= {
        **_pixels(encoding),
        "flags:v": "+bitexact+cgop" if encoding.is_film else "+bitexact",
        "fps_mode": "passthrough",
    }
    if encoding.profile:
        options["profile:v"] = encoding.profile
    if encoding.max_rate:
        options |= {"maxrate": encoding.max_rate, "bufsize": 2 * encoding.max_rate}
    return options


def _pixels(encoding: Encoding) -> dict[str, str]:
    """The form of the pixels that an encoder takes; VA-API's lie in its own memory."""
    taken = {"qsv": "nv12", "vaapi": "vaapi"}.get(encoding.hardware, encoding.pixel_format)
    return {"pix_fmt": taken}


def _hardware(encoding: Encoding) -> dict[str, Any]:
    """How each kind of hardware is told the quality that `crf` means; their scales are near x264's, Apple's is not."""
    quality = encoding.crf or 0
    told: dict[str, dict[str, Any]] = {
        "nvenc": {"preset": "p5", "rc": "vbr", "cq": quality, "b:v": 0},
        "qsv": {"preset": "medium", "global_quality": quality},
        "vaapi": {"qp": quality},
        "videotoolbox": {"q:v": max(1, 100 - 2 * quality)},
    }
    return told[encoding.hardware]


_VAAPI = ("-init_hw_device", "vaapi=gpu", "-filter_hw_device", "gpu")


def lacking(encoding: Encoding) -> str:
    """Why this machine cannot encode so, in ffmpeg's words; nothing if it just encoded a frame."""
    vaapi = encoding.hardware == "vaapi"
    options = [word for key, value in _encoder(encoding, Fraction(25)).items() for word in (f"-{key}", str(value))]
    source = "color=s=640x360:r=25,format=nv12" + (",hwupload" if vaapi else "")
    graph = ["-filter_complex", source, *options, "-frames:v", "1", "-f", "null", "-"]
    try:
        run_ffmpeg([*(_VAAPI if vaapi else ()), *graph])
    except FfmpegError as error:
        return error.message
    return ""


def _arguments(made: Sequence[Any]) -> tuple[str, ...]:
    import ffmpeg  # noqa: PLC0415 -- heavy

    arguments = list(ffmpeg.get_args(ffmpeg.merge_outputs(*made) if len(made) > 1 else made[0]))
    if "-filter_complex" in arguments:
        at = arguments.index("-filter_complex") + 1
        arguments[at] = re.sub(rf"\b{CHAIN}_([0-9a-f]+)", lambda it: bytes.fromhex(it[1]).decode(), arguments[at])
    return tuple(arguments)


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
            made = ffmpeg.input(str(node.path), **_reading(node))[kind]
            taps.append(_repeated(made))
            continue
        options, name = {key: str(value) for key, value in node.options}, node.name
        if name == CHAIN:  # ffmpeg-python would escape it: until all is linked, it is in hexadecimal
            name = f"{CHAIN}_{options.pop('text').encode().hex()}"
        made = ffmpeg.filter([next(taps[number]) for number in inputs], name, **options)
        count = reads[len(taps)]
        if count > 1:
            split = made.filter_multi_output("asplit" if node.name in _SOUND_FILTERS else "split", count)
            taps.append(iter([split[index] for index in range(count)]))
        else:
            taps.append(iter([made]))
    return [next(taps[number]) for number in numbers]


_SOUND_FILTERS = frozenset(
    {
        "acrossfade",
        "adelay",
        "afade",
        "aformat",
        "alimiter",
        "aloop",
        "amix",
        "amultiply",
        "apad",
        "aresample",
        "areverse",
    }
    | {"asetpts", "atrim", "ebur128", "pan", "silencedetect", "volume"}
)
"""What is split with `asplit`."""


def _reading(source: Source) -> dict[str, Any]:
    """How a file is read whose clock starts at an encoder's priming, so that every build reads it alike: the picture
    from zero on, which 5.1 puts later; the sound with its priming, which is cut by number (`lowering.headed`)."""
    facts = source.facts
    if isinstance(facts, SoundFacts):
        return {"flags2": "+skip_manual"} if facts.priming else {}
    return {"seek_timestamp": 1, "ss": 0} if facts.primed else {}


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
    for name, still in made.stills.items():
        draw_still(still.file, folder / name, still.size, still.mode)
    for name, track in made.tracks.items():
        (folder / name).write_bytes(text_track(track.cues, track.size))
    if made.fonts:
        (folder / "fonts").mkdir(exist_ok=True)
        for number, font in enumerate(made.fonts):
            link = folder / "fonts" / f"{number}{font.suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(font.absolute())
    said = run_ffmpeg(made.arguments, folder, on_progress)
    if made.fonts and ("find any fallback" in said or "Glyph 0x" in said):
        missing = next((line for line in said.splitlines() if "Glyph 0x" in line or "fallback" in line), "")
        raise FfmpegError(f"the caption font lacks a character: {missing.split(']')[-1].strip()}", made.arguments, said)
    return said


def run_ffmpeg(arguments: Sequence[str], folder: Path | None = None, on_progress: Progress | None = None) -> str:
    """Run ffmpeg with `arguments`, in `folder`; it dies if this process dies. Returns its stderr.

    Raises FfmpegError with one sentence of what was wrong.
    """
    with tempfile.TemporaryFile() as errors:
        with _started(["-progress", "pipe:1", *arguments], folder, errors) as process:
            _follow(process.stdout, on_progress)
        return _heard(process, errors, folder)


@contextlib.contextmanager
def piped(arguments: Sequence[str], folder: Path, *, write: bool = False) -> Iterator[IO[bytes]]:
    """The end that is ours of the pipe of a running ffmpeg: to read its standard output, or to `write` its input.

    Raises FfmpegError when the block ends, if ffmpeg failed; it is killed if the block does.
    """
    broken = False
    with tempfile.TemporaryFile() as errors:
        with _started(arguments, folder, errors, write=write) as process:
            pipe = process.stdin if write else process.stdout
            assert pipe is not None
            try:
                yield pipe
                pipe.close()
            except BrokenPipeError:  # it ended early; what it said tells why
                broken = True
        _heard(process, errors, folder)
    if broken:
        raise FfmpegError("ffmpeg stopped reading the frames it was given", arguments)


@contextlib.contextmanager
def _started(
    arguments: Sequence[str], folder: Path | None, errors: IO[bytes], *, write: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A running ffmpeg, waited for when the block ends and killed if that fails."""
    argv = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", "-y", *arguments]
    stdin, stdout = (subprocess.PIPE, subprocess.DEVNULL) if write else (None, subprocess.PIPE)
    with subprocess.Popen(
        [*_launcher(), str(os.getpid()), *argv], cwd=folder, stdin=stdin, stdout=stdout, stderr=errors, process_group=0
    ) as process:
        _running[process] = threading.get_ident()
        try:
            yield process
            process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            _running.pop(process, None)


@cache
def _launcher() -> tuple[str, ...]:
    """What starts a program that dies with this process, given this one's number and the program: `setpriv` of
    util-linux and a shell, which take 3 ms of CPU, or a Python, which takes 15."""
    setpriv = shutil.which("setpriv")
    if setpriv:
        # As in child.py: the kernel is asked first, and then whether the parent is still there.
        started = (setpriv, "--pdeathsig", "KILL", "sh", "-c", 'test "$PPID" = "$0" && exec "$@"')
        # One that knows no --pdeathsig, as BusyBox's, fails.
        if subprocess.run([*started, str(os.getpid()), "true"], capture_output=True).returncode == 0:
            return started
    return (sys.executable, "-I", "-S", str(CHILD))


def _heard(process: subprocess.Popen[bytes], errors: IO[bytes], folder: Path | None) -> str:
    """What an ffmpeg that has ended said. Raises FfmpegError if it failed, and WriteError if for want of room."""
    errors.seek(0)
    said = errors.read().decode(errors="replace")
    if process.returncode != 0:
        if "No space left on device" in said:
            raise WriteError(f"{(folder or Path.cwd()).absolute()}: the disk is full")
        argv = [str(part) for part in process.args[len(_launcher()) + 1 :]] if isinstance(process.args, list) else []
        raise FfmpegError(_diagnosis(said, process.returncode, folder), argv, said)
    return said


_running: dict[subprocess.Popen[bytes], int] = {}


def stop_all(threads: Collection[int] | None = None) -> None:
    """Kill every ffmpeg that this process runs, or those that some of its threads started: somebody pressed
    Ctrl-C, or cancelled a render."""
    for process, thread in tuple(_running.items()):
        if threads is None or thread in threads:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With whatever it started: an ffmpeg may be a script that calls another."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _follow(lines: IO[bytes] | None, on_progress: Progress | None) -> None:
    for line in lines or ():
        if on_progress and line.startswith(b"frame="):
            on_progress(int(line[6:]))


@cache
def filter_fault(description: str) -> str:
    """Why this ffmpeg cannot run a filter on one frame, in its words; nothing if it can."""
    try:
        run_ffmpeg(
            ["-f", "lavfi", "-i", "color=s=32x32:d=0.04", "-vf", description, "-frames:v", "1", "-f", "null", "-"]
        )
    except FfmpegError as error:
        return error.message.rpartition(": ")[2]
    return ""


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


NOT_STARTED = {126: errno.EACCES, 127: errno.ENOENT}
"""What a shell exits with that could not start a program, and why (POSIX, 2.8.2)."""


def _diagnosis(said: str, code: int, folder: Path | None) -> str:
    """One sentence from ffmpeg's last words in `folder`."""
    if code in NOT_STARTED:
        return f"{ffmpeg_binary()} cannot be started: {os.strerror(NOT_STARTED[code])}"
    for line in said.splitlines():
        if "No such filter" in line:
            return f"this ffmpeg ({ffmpeg_binary()}) lacks the filter {line.split(':')[-1].strip()}; use another build"
        if "Unknown encoder" in line:
            return f"this ffmpeg ({ffmpeg_binary()}) lacks the encoder {line.split('encoder')[-1].strip()}"
    errors = [line for line in said.splitlines() if "[error] " in line or "[fatal] " in line]
    telling = [line for line in errors if not damage(line)] or errors or said.split("\n")[-2:-1] or ["it said nothing"]
    # The first error is the cause; those after it tell who else stopped.
    return f"ffmpeg failed (exit code {code}): {telling[0].split('] ')[-1].strip()}"


def contact_sheet(file: Path, picture: PictureFacts | None, target: Path) -> None:
    """A JPEG of six frames, evenly spread over the film in `file`; of the one picture in a file that is no film."""
    name = str(file.absolute())  # or a colon would be a protocol
    small = "scale=480:480:force_original_aspect_ratio=decrease:force_divisible_by=2,setsar=1"
    # -update, or a % in its name would be a number.
    still = ("-frames:v", "1", "-fps_mode", "passthrough", "-q:v", "4", "-update", "1", str(target.absolute()))
    sparse = picture and picture.constant_rate and SPARSE * picture.keyframes <= picture.frames
    if picture and sparse and not picture.start:  # as in MPEG-TS, which is not sought in exactly
        # Each from the key frame before it: of a long film, nearly nothing is decoded.
        moments = [(number - Fraction(1, 2)) / picture.rate for number in _numbers(picture.frames)]
        inputs = [
            word
            for at in moments
            for word in ("-threads", "1", "-seek_timestamp", "1", "-ss", f"{float(at):.6f}", "-i", name)
        ]
        taken = "".join(f"[{each}:v:0]trim=end_frame=1,setpts=0,{small}[s{each}];" for each in range(len(moments)))
        joined = "".join(f"[s{each}]" for each in range(len(moments))) + f"concat=n={len(moments)}"
        columns, rows = sheet_layout(picture.size)
        run_ffmpeg([*inputs, "-an", "-filter_complex", f"{taken}{joined},tile={columns}x{rows}", *still])
        return
    pick, layout = _six_of(picture.frames, picture.size) if picture else ("1", "1x1")
    run_ffmpeg(["-i", name, "-an", "-vf", f"select='{pick}',{small},tile={layout}", *still])


SPARSE = 12
"""Times the distance of key frames: in a film so long, half of it at most is decoded for six frames."""


def _numbers(frames: int) -> list[int]:
    """Which six frames of so many are shown."""
    step = max(1, frames // 6)
    return list(range(step // 2, frames, step))[:6]


def _six_of(frames: int, frame: Size) -> tuple[str, str]:
    """Which frames to show, as ffmpeg's `select` has it, and how to lay them out: upright ones in one row."""
    step, (columns, rows) = max(1, frames // 6), sheet_layout(frame)
    return f"not(mod(n-{step // 2},{step}))", f"{columns}x{rows}"


def sheet_layout(frame: Size) -> tuple[int, int]:
    """The columns and rows of a contact sheet."""
    return (3, 2) if frame.width >= frame.height else (6, 1)


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
