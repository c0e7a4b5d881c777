"""What is in a media file, from its headers and packets: the only PyAV.

One frame is decoded to learn the rotation and to know that the stream can be
decoded at all; the rest of the file is read, not decoded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from stages.clip import (
    SAMPLE_RATE,
    Action,
    Clip,
    Colour,
    Picture,
    PictureFacts,
    Size,
    Sound,
    SoundFacts,
    Source,
    filtered,
)
from stages.errors import InputError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

# Numbers of ISO/IEC 23091-2 (H.273) and of libav's ranges, by ffmpeg's names.
MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
    0: "gbr",
}
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    12: "smpte432",
}
TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m",
    13: "iec61966-2-1", 14: "bt2020-10", 16: "smpte2084", 18: "arib-std-b67",
}  # fmt: skip
RANGES = {1: "tv", 2: "pc"}

STANDARD_RATES = tuple(
    Fraction(*pair)
    for pair in (
        (24000, 1001),
        (24, 1),
        (25, 1),
        (30000, 1001),
        (30, 1),
        (48, 1),
        (50, 1),
        (60000, 1001),
        (60, 1),
    )
)


def open_clip(path: Path | str) -> Clip:
    """The clip in the file `path`, described but not decoded.

    Raises InputError if there is no such file, if it is empty or truncated, or
    if it holds neither video nor sound.
    """
    path = Path(path)
    picture, sound = probe(path)
    return clip_from(path, picture, sound)


def clip_from(path: Path, picture: PictureFacts | None, sound: SoundFacts | None, promised: bool = False) -> Clip:
    """The clip that a file with these streams holds, or will hold once it is made."""
    path = path if promised else path.absolute()  # ffmpeg runs in a folder of its own
    return Clip(
        Picture(Source(path, picture, promised), picture.size, picture.rate, picture.frames) if picture else None,
        _sound(Source(path, sound, promised), sound, picture.start if picture else sound.start) if sound else None,
        (Action("open", file=path),),
    )


def _sound(source: Source, facts: SoundFacts, origin: Fraction) -> Sound:
    """The sound on the picture's clock: a stream that starts later is delayed, one that starts earlier is cut."""
    samples = round(Fraction(facts.samples, facts.sample_rate) * SAMPLE_RATE)
    late = round((facts.start - origin) * SAMPLE_RATE)
    if abs(late) < SAMPLE_RATE // 1000:
        return Sound(source, samples)
    if late > 0:
        return Sound(filtered("adelay", source, delays=f"{late}S", all=1), samples + late)
    cut = filtered("asetpts", filtered("atrim", source, start_sample=-late), expr="PTS-STARTPTS")
    return Sound(cut, samples + late)


def probe(path: Path) -> tuple[PictureFacts | None, SoundFacts | None]:
    """The facts of the first video and the first audio stream of `path`. Raises InputError as `open_clip`."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a video or a sound")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes)")
    with _opened(path) as container:
        if _is_still(container):
            raise InputError(f"{path}: is a still picture, not a video or a sound")
        video = next((s for s in container.streams.video if not _is_cover(s)), None)
        audio = next(iter(container.streams.audio), None)
        if video is None and audio is None:
            raise InputError(f"{path}: holds neither video nor sound")
        packets = _read(container, [s for s in (video, audio) if s])
        sound = _sound_facts(audio, packets[audio.index], _first_heard(path, packets[audio.index])) if audio else None
        picture = _picture_facts(path, container, video, packets[video.index]) if video else None
    return picture, sound


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """How an MP4 is laid out: whether its index comes first, and whether it has edit lists."""

    moov_first: bool
    edit_lists: bool


def mp4_layout(path: Path) -> Mp4Layout:
    """The order of boxes in an MP4, and whether any track has an `elst` (ISO/IEC 14496-12)."""
    order: list[bytes] = []
    edit_lists = False
    with path.open("rb") as file:
        while header := file.read(8):
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            order.append(kind)
            if kind == b"moov":
                edit_lists = b"elst" in file.read(size - 8)
            elif size >= 8:
                file.seek(size - 8, 1)
            else:
                break  # size 0: the box runs to the end of the file
    moov_first = b"moov" in order and (b"mdat" not in order or order.index(b"moov") < order.index(b"mdat"))
    return Mp4Layout(moov_first, edit_lists)


# ---------------------------------------------------------------- reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    import av  # noqa: PLC0415 -- heavy: a plan of cached files needs none of it

    try:
        with av.open(str(path.absolute())) as container:  # a colon in a relative name would be a protocol
            yield container
    except PermissionError:
        raise InputError(f"{path}: may not be read by this user") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: is not a video or a sound that can be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(";")[0].strip().rstrip(".").lower()


def _is_still(container: InputContainer) -> bool:
    name = container.format.name
    return name.endswith("_pipe") or name == "image2"


def _is_cover(stream: av.VideoStream) -> bool:
    from av.stream import Disposition  # noqa: PLC0415 -- as above

    return bool(stream.disposition & Disposition.attached_pic)


@dataclass(frozen=True, slots=True)
class _Packets:
    """Of one stream: presentation times and lengths of what a viewer gets, and where the key frames are."""

    times: list[Fraction]
    end: Fraction
    total: int
    key_distance: int


def _read(container: InputContainer, streams: list[av.VideoStream | av.AudioStream]) -> dict[int, _Packets]:
    times: dict[int, list[Fraction]] = {s.index: [] for s in streams}
    ends = {s.index: Fraction(0) for s in streams}
    totals = {s.index: 0 for s in streams}
    since_key = {s.index: 0 for s in streams}
    distance = {s.index: 0 for s in streams}
    for packet in container.demux(*streams):
        index = packet.stream.index
        if not packet.size:
            continue
        totals[index] += 1
        since_key[index] = 1 if packet.is_keyframe else since_key[index] + 1
        distance[index] = max(distance[index], since_key[index])
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.is_discard or time is None:
            continue  # hidden by the edit list
        base = packet.time_base or Fraction(1)
        times[index].append(time * base)
        ends[index] = max(ends[index], (time + (packet.duration or 0)) * base)
    return {i: _Packets(sorted(times[i]), ends[i], totals[i], distance[i]) for i in times}


def _picture_facts(path: Path, container: InputContainer, stream: av.VideoStream, packets: _Packets) -> PictureFacts:
    if not packets.total or packets.total < stream.frames:
        raise InputError(f"{path}: is truncated: {packets.total} of {stream.frames} frames are there")
    context = stream.codec_context
    rotation = _first_rotation(path, container, stream)
    upright = Size(context.width, context.height) if rotation % 180 == 0 else Size(context.height, context.width)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if rotation % 180 else aspect
    rate, constant = _rate(stream, packets.times)
    start = packets.times[0] if packets.times else Fraction(0)
    frames = len(packets.times) if constant else max(1, round((packets.end - start) * rate))
    return PictureFacts(
        size=_square(upright, aspect),
        coded=upright,
        rate=rate,
        frames=frames or packets.total,
        codec=context.name,
        profile=stream.profile or "",
        pixel_format=context.pix_fmt or "",
        sample_aspect=aspect,
        rotation=rotation,
        colour=Colour(
            MATRICES.get(int(context.colorspace), "unknown"),
            PRIMARIES.get(int(context.color_primaries), "unknown"),
            TRANSFERS.get(int(context.color_trc), "unknown"),
            RANGES.get(int(context.color_range), "unknown"),
        ),
        start=start,
        constant_rate=constant,
        keyframes=packets.key_distance,
        b_frames=bool(context.has_b_frames),
        bit_rate=context.bit_rate or 0,
    )


def _first_rotation(path: Path, container: InputContainer, stream: av.VideoStream) -> int:
    """Degrees of the display matrix, read off the first frame."""
    container.seek(0)
    for frame in container.decode(stream):
        return int(getattr(frame, "rotation", 0) or 0) % 360
    raise InputError(f"{path}: holds video of which no frame can be decoded")


def _square(upright: Size, aspect: Fraction) -> Size:
    """The size in square pixels and even numbers: a last odd line or column is not shown."""
    width = upright.width // 2 * 2 if aspect == 1 else 2 * round(upright.width * aspect / 2)
    return Size(width, upright.height // 2 * 2)


def _rate(stream: av.VideoStream, times: list[Fraction]) -> tuple[Fraction, bool]:
    """Frames a second, and whether every frame stands where that rate puts it."""
    for candidate in (stream.base_rate, stream.guessed_rate, stream.average_rate):
        if candidate and all(
            abs((time - times[0]) * candidate - index) < Fraction(1, 4) for index, time in enumerate(times)
        ):
            return Fraction(candidate), True

    def off(rate: Fraction) -> Fraction:
        return max(abs((time - times[0]) * rate - round((time - times[0]) * rate)) for time in times)

    average = Fraction(stream.average_rate or stream.guessed_rate or 25)
    # Where frames are only left out, the rate is that of the grid on which the others stand.
    grids = [rate for rate in STANDARD_RATES if rate >= average and off(rate) < Fraction(1, 4)]
    return min(grids, key=off) if grids else min(STANDARD_RATES, key=lambda rate: abs(rate - average)), False


def _first_heard(path: Path, packets: _Packets) -> Fraction:
    """When the first sample sounds: a first packet may hold an encoder's priming, which is never heard.

    Opened anew, since seeking to the start goes by the picture's key frames.
    """
    with contextlib.suppress(InputError), _opened(path) as container:
        for frame in container.decode(audio=0):
            if frame.pts is not None and frame.time_base is not None:
                return max(Fraction(0), frame.pts * frame.time_base)
    return max(Fraction(0), packets.times[0]) if packets.times else Fraction(0)


def _sound_facts(stream: av.AudioStream, packets: _Packets, start: Fraction) -> SoundFacts:
    context = stream.codec_context
    if stream.duration is not None and stream.time_base is not None:
        length = stream.duration * stream.time_base
    else:
        length = packets.end - start
    return SoundFacts(
        codec=context.name,
        profile=stream.profile or "",
        sample_rate=context.sample_rate,
        channels=context.channels,
        layout=context.layout.name,
        samples=round(min(length, packets.end - start or length) * context.sample_rate),
        start=start,
        bit_rate=stream.bit_rate or 0,
    )
