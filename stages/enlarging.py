"""Frame engines are settled before compiling: decoder | engine | lossless encoder, into a film of its own.

A picture that an engine enlarges, or gives more frames, carries an ENGINE node, which ffmpeg does
not know. `make_frames` makes the film that stands for it; the compiler then
sees a source. Only a frame or two are between two of the three at a time. The film
is made in segments, so that a run that was killed goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from stages.clip import BT709, ENGINE, Clip, Filter, Picture, PictureFacts, Size, Source, Stream, filtered
from stages.engines import engine_named, interpolator_named
from stages.errors import FfmpegError, InputError
from stages.ffmpeg import frames_command, join_command, lossless_command, piped, run_command
from stages.fidelity import Consistency, consistency
from stages.files import attempt
from stages.inbetweening import filled, first_needed
from stages.lowering import rewritten
from stages.media import clip_from, probe

FRAMES = "frames.mp4"

SEGMENT = 48
"""Frames in a segment: what a kill costs at most."""

GAUGED = 12
"""One frame of so many is compared with its source. Measured: 25 CPU milliseconds for each frame of a 1080p film,
most of it to decode them all; the quickest engine takes 640."""

Fraction01: TypeAlias = Callable[[float], object]
"""Told how much is done, 0 to 1."""


def enlarged(picture: Picture, frame: Size, engine: str, model: Path | None) -> Picture:
    """The picture at `frame` by a frame engine. It must carry no scaler: that is carried out before."""
    assert picture.scaler is None
    stream = filtered(
        ENGINE, picture.stream,
        engine=engine, model=str(model.absolute()) if model else "",
        from_width=picture.size.width, from_height=picture.size.height,
        width=frame.width, height=frame.height, rate=picture.rate, frames=picture.frames,
    )  # fmt: skip
    return replace(picture, stream=stream, size=frame)


def unsettled(stream: Stream) -> tuple[Filter, ...]:
    """What engines have yet to make in a graph, inputs first, each once."""
    found: list[Filter] = []

    def look(node: Stream) -> Stream:
        if isinstance(node, Filter) and node.name == ENGINE:
            found.append(node)
        return node

    rewritten(stream, look)
    return tuple(found)


def settled_with(clip: Clip, film: Callable[[Filter], Stream]) -> Clip:
    """The clip with `film(node)` in place of each ENGINE node in its picture."""
    if clip.picture is None or not unsettled(clip.picture.stream):
        return clip

    def change(node: Stream) -> Stream:
        return film(node) if isinstance(node, Filter) and node.name == ENGINE else node

    return replace(clip, picture=replace(clip.picture, stream=rewritten(clip.picture.stream, change)))


def settle(clip: Clip, folder: Path) -> Clip:
    """The clip with the frames of its engines made, as films in `folder`. Raises as `make_frames`."""
    made: list[Stream] = []

    def film(node: Filter) -> Stream:
        place = folder / f"frames{len(made)}"
        place.mkdir()
        made.append(_stream(make_frames(node, folder=place)))
        return made[-1]

    return settled_with(clip, film)


def promise_frames(node: Filter) -> Source:
    """The film that `make_frames` will make of `node`."""
    given = dict(node.options)
    size = Size(int(given["width"]), int(given["height"]))
    facts = PictureFacts(
        size, size, Fraction(given["rate"]), int(given["frames"]),
        "h264", "High 4:4:4 Predictive", colour=BT709, keyframes=SEGMENT,
    )  # fmt: skip
    return Source(Path(FRAMES), facts, promised=True)


def make_frames(
    node: Filter, *, folder: Path, unfinished: Path | None = None, on_progress: Fraction01 | None = None
) -> Clip:
    """Make the film of an ENGINE node as `frames.mp4` in `folder`: lossless, BT.709, silent.

    `unfinished` is a folder for the segments that are done, which a later call takes up.
    An engine that enlarges by more or less than what was asked is brought to the exact size by Lanczos.
    What it drew is compared with its source (fidelity.py) after the first segment and at the end; a doubt is a
    remark on the clip. Raises InputError for a model that cannot run or draws something else, FfmpegError if
    the source ends early.
    """
    promised = promise_frames(node).facts
    assert isinstance(promised, PictureFacts)
    given = dict(node.options)
    segments = unfinished or folder / "segments"
    segments.mkdir(parents=True, exist_ok=True)
    starts = range(0, promised.frames, SEGMENT)
    todo = [start for start in starts if not _segment(segments, start).exists()]
    if todo:
        large, frames = _drawn(node, todo[0], segments)
        for start in todo:
            many = min(SEGMENT, promised.frames - start)
            with attempt(_segment(segments, start)) as part:
                made = lossless_command(large, promised.size, promised.rate, part.name)
                with piped(made.arguments, segments, write=True) as pipe:
                    for number, frame in enumerate(islice(frames, many), start + 1):
                        pipe.write(frame)
                        if on_progress:
                            on_progress(number / promised.frames)
                _check(part, replace(promised, frames=many))
            if start == 0:  # before hours go into the rest
                _gauged(node, _segment(segments, start), replace(promised, frames=many))
    with attempt(folder / FRAMES) as part:
        names = [_segment(segments, start).name for start in starts]
        run_command(join_command(names, str(part.absolute())), segments)
        _check(part, promised)
    found = _gauged(node, folder / FRAMES, promised)
    doubts = (f"{given['engine']} drew doubtful frames: {found}",) if found.doubtful else ()
    return replace(clip_from(folder / FRAMES, _facts(folder / FRAMES), None), history=(), remarks=doubts)


def _drawn(node: Filter, start: int, folder: Path) -> tuple[Size, Iterator[bytes]]:
    """The frames that an engine draws, from number `start` on, and how large they are."""
    given, source = dict(node.options), node.inputs[0]
    name, small = str(given["engine"]), Size(int(given["from_width"]), int(given["from_height"]))
    if pace := _pace(node):
        first = first_needed(start, pace)
        decoded = _decoded(source, small, first, int(given["from_frames"]), folder)
        return small, filled(decoded, small, pace, start, interpolator_named(name).between, name)
    engine = engine_named(name, Path(str(given["model"])) if given["model"] else None)
    scale = nearest_scale(engine.scales, small, Size(int(given["width"]), int(given["height"])))
    decoded = _decoded(source, small, start, int(given["frames"]), folder)
    return Size(small.width * scale, small.height * scale), engine.process(decoded, small, scale)


def _pace(node: Filter) -> Fraction | None:
    """How many frames of its source go by in one of an ENGINE node that gives it more; None for one that enlarges."""
    given = dict(node.options)
    return Fraction(given["from_rate"]) / Fraction(given["rate"]) if "from_rate" in given else None


def _gauged(node: Filter, film: Path, facts: PictureFacts) -> Consistency:
    """How the film of an ENGINE node compares with its source, of whose frames some may be left in a film that has
    more. Raises InputError if it shows something else."""
    given = dict(node.options)
    made: Stream = Source(film.absolute(), facts)
    small, every = Size(int(given["from_width"]), int(given["from_height"])), GAUGED
    if pace := _pace(node):
        last = (facts.frames - 1) * pace // 1
        source: Stream = filtered("trim", node.inputs[0], end_frame=int(last) + 1)
        source = filtered("select", source, expr=f"not(mod(n,{pace.numerator}))")
        made = filtered("select", made, expr=f"not(mod(n,{pace.denominator}))")
        every = max(1, GAUGED // pace.denominator)
    else:
        source = filtered("trim", node.inputs[0], end_frame=facts.frames)
    found = consistency(source, made, small, every=every)
    if found.broken:
        who = Path(str(given["model"])).name or given["engine"]
        raise InputError(
            f"{who} draws something else than its source: {found}", "model" if given["model"] else "engine"
        )
    return found


def nearest_scale(scales: tuple[int, ...], small: Size, large: Size) -> int:
    """The least of `scales` that reaches `large`, or the greatest where none does."""
    wanted = Fraction(max(large.width * small.height, large.height * small.width), small.width * small.height)
    return next((scale for scale in sorted(scales) if scale >= wanted), max(scales))


def _decoded(stream: Stream, size: Size, start: int, frames: int, folder: Path) -> Iterator[bytes]:
    """The frames from number `start` on, as packed RGB."""
    length, number = size.width * size.height * 3, start
    with piped(frames_command(stream, start, frames).arguments, folder) as pipe:
        while number < frames and len(frame := pipe.read(length)) == length:
            yield frame
            number += 1
    if number < frames:
        raise FfmpegError(f"the source ends after {number} of {frames} frames")


def _segment(folder: Path, start: int) -> Path:
    return folder / f"{start:08}.mp4"


def _check(film: Path, wanted: PictureFacts) -> None:
    found = _facts(film)
    off = [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in ("frames", "rate", "size", "colour")
        if getattr(found, name) != getattr(wanted, name)
    ]
    if off:
        raise FfmpegError(f"ffmpeg made other frames than were described: {', '.join(off)}")


def _facts(film: Path) -> PictureFacts:
    picture, _ = probe(film)
    if picture is None:
        raise InputError(f"{film}: holds no picture")
    return picture


def _stream(clip: Clip) -> Stream:
    assert clip.picture is not None
    return clip.picture.stream
