"""What is in a media file, from its headers and packets: the only PyAV.

One frame is decoded to learn the rotation and whether it is interlaced, and to know that the stream can be
decoded at all; the rest of the file is read, not decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.clip import (
    SAMPLE_RATE,
    Action,
    Clip,
    Colour,
    Cue,
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


def probe(path: Path, *, pictures: bool = False) -> tuple[PictureFacts | None, SoundFacts | None]:
    """The facts of the first video and the first audio stream of `path`.

    A still picture is a film of one frame if `pictures` are taken, an animated
    WebP one of as many as it has. Raises InputError as `open_clip`.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a video or a sound")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes)")
    if pictures and (animated := _animated_webp(path)):
        return animated, None
    with _opened(path) as container:
        if _is_still(container) and not pictures:
            raise InputError(f"{path}: is a still picture, not a video or a sound")
        video = next((s for s in container.streams.video if not _is_cover(s)), None)
        audio = next(iter(container.streams.audio), None)
        if video is None and audio is None:
            raise InputError(f"{path}: holds neither video nor sound")
        packets = _read(container, [s for s in (video, audio) if s])
        sound = _sound_facts(audio, packets[audio.index], _first_heard(path, packets[audio.index])) if audio else None
        picture = _picture_facts(path, container, video, packets[video.index]) if video else None
        if sound and audio and "matroska" in container.format.name:
            sound = replace(sound, priming=_priming(sound, packets[audio.index]))
            picture = picture and replace(picture, primed=sound.priming > 0 > packets[audio.index].start)
    return picture, sound


def essence(path: Path) -> str:
    """A SHA-256 of the encoded streams of `path`, in hexadecimal: the same however they are packaged, and whatever
    metadata lies around them. Raises InputError as `open_clip`."""
    found: dict[int, Any] = {}
    with _opened(path) as container:
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.size:
                found.setdefault(packet.stream.index, hashlib.sha256()).update(memoryview(packet))
    return hashlib.sha256(b"".join(each.digest() for _, each in sorted(found.items()))).hexdigest()


def packets_through(path: Path, frames: int) -> int:
    """How many packets of its video, in the order of decoding, hold the first `frames` that are shown.

    More than `frames` where one of them rests on a frame that is shown later.
    """
    with _opened(path) as container:
        video = next(stream for stream in container.streams.video if not _is_cover(stream))
        packets = [packet for packet in container.demux(video) if packet.size]
    shown = sorted((packet.pts or 0, number) for number, packet in enumerate(packets) if not packet.is_discard)
    return max(number for _, number in shown[:frames]) + 1


def texts_of(path: Path) -> tuple[Cue, ...]:
    """What the first text track (`mov_text`) of `path` shows, without its gaps; nothing if it has none.

    Raises InputError as `open_clip`.
    """
    with _opened(path, UNSEEN) as container:
        stream = next((one for one in container.streams.subtitles if one.codec_context.name == "mov_text"), None)
        if stream is None:
            return ()
        # A sample is two bytes of length, the text, and boxes of style (3GPP TS 26.245, 5.17).
        packets = [(bytes(packet), packet) for packet in container.demux(stream) if packet.size > 2]
        found: list[Cue] = []
        for data, packet in packets:
            base, length = packet.time_base or Fraction(1), int.from_bytes(data[:2], "big")
            start = (packet.pts or 0) * base
            text = data[2 : 2 + length].decode("utf-8", "replace")
            if text:
                found.append(Cue(text, start, start + (packet.duration or 0) * base))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """How an MP4 is laid out: whether its index comes first, whether it has edit lists, and its major brand,
    which is `qt  ` for a MOV and empty for what is neither."""

    moov_first: bool
    edit_lists: bool
    brand: str = ""


def mp4_layout(path: Path) -> Mp4Layout:
    """The order of boxes in an MP4, and whether any track has an `elst` (ISO/IEC 14496-12)."""
    order: list[bytes] = []
    edit_lists, brand = False, ""
    with path.open("rb") as file:
        while header := file.read(8):
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            order.append(kind)
            if kind == b"ftyp":
                brand = file.read(4).decode("latin-1")
                file.seek(max(size - 12, 0), 1)
            elif kind == b"moov":
                edit_lists = b"elst" in file.read(size - 8)
            elif size >= 8:
                file.seek(size - 8, 1)
            else:
                break  # size 0: the box runs to the end of the file
    moov_first = b"moov" in order and (b"mdat" not in order or order.index(b"moov") < order.index(b"mdat"))
    return Mp4Layout(moov_first, edit_lists, brand)


def _animated_webp(path: Path) -> PictureFacts | None:
    """An animated WebP, by its chunks (RFC 9649, 2.7): libav's libraries do not read them. None for any other file."""
    size, waits, found = Size(0, 0), [], b""
    with path.open("rb") as file:
        head = file.read(12)
        while head[:4] == b"RIFF" and head[8:] == b"WEBP" and len(chunk := file.read(8)) == 8:
            body = file.read(length := int.from_bytes(chunk[4:], "little"))
            file.seek(length % 2, 1)  # chunks begin at even places
            if chunk[:4] == b"VP8X":
                size = Size(*(int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7)))
            elif chunk[:4] == b"ANMF":
                waits.append(int.from_bytes(body[12:15], "little"))
                found = body[16:20]
    if not waits or not sum(waits):
        return None
    rate = Fraction(1000 * len(waits), sum(waits))
    profile = "lossless" if found == b"VP8L" else "lossy"
    return PictureFacts(size, size, rate, len(waits), "webp", profile, constant_rate=len(set(waits)) == 1)


# ---------------------------------------------------------------- reading


UNSEEN = {"skip_frame": "all"}
"""Opening a film decodes a few of its frames, to know what it holds: for those who want none of its picture."""


@contextlib.contextmanager
def _opened(path: Path, options: Mapping[str, str] | None = None) -> Iterator[InputContainer]:
    import av  # noqa: PLC0415 -- heavy: a plan of cached files needs none of it

    try:
        # Absolute, or a colon in a relative name would be a protocol.
        with av.open(str(path.absolute()), options=dict(options or {})) as container:
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
    """Of one stream: presentation times and the end of what a viewer gets, in ticks of `base` seconds, and how its
    frames rest on each other.

    `behind` is how many packets in a row are shown before one that was decoded
    before them: B-frames; `leading` whether some do so right after a key frame;
    `ends` as `PictureFacts` has it, of a video.
    """

    ticks: list[int]
    last: int
    base: Fraction
    total: int
    key_distance: int
    behind: int
    leading: bool
    ends: str

    @property
    def start(self) -> Fraction:
        """Seconds, of the first; 0 if there is none."""
        return self.ticks[0] * self.base if self.ticks else Fraction(0)

    @property
    def end(self) -> Fraction:
        """Seconds."""
        return self.last * self.base


def _read(container: InputContainer, streams: list[av.VideoStream | av.AudioStream]) -> dict[int, _Packets]:
    times: dict[int, list[int]] = {s.index: [] for s in streams}
    ends = {s.index: 0 for s in streams}
    totals = {s.index: 0 for s in streams}
    since_key = {s.index: 0 for s in streams}
    distance = {s.index: 0 for s in streams}
    order = {s.index: _Order() for s in streams}
    for packet in container.demux(*streams):
        index = packet.stream.index
        if not packet.size:
            continue
        totals[index] += 1
        since_key[index] = 1 if packet.is_keyframe else since_key[index] + 1
        distance[index] = max(distance[index], since_key[index])
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            order[index].see(time, packet.is_keyframe)
        if packet.is_discard or time is None:
            continue  # hidden by the edit list
        times[index].append(time)
        ends[index] = max(ends[index], time + (packet.duration or 0))
    whole = {s.index: s.type == "video" and len(times[s.index]) == totals[s.index] for s in streams}
    bases = {s.index: s.time_base or Fraction(1) for s in streams}
    return {
        i: _Packets(
            sorted(times[i]), ends[i], bases[i], totals[i], distance[i], order[i].behind, order[i].leading,
            _ends(times[i]) if whole[i] else "",
        )
        for i in times
    }  # fmt: skip


def _ends(times: list[int]) -> str:
    """After which packets all that are decoded are also the first that are shown, as bits; `times` are in the order
    of decoding."""
    bits, latest = ["0"], min(times, default=0)
    for time, shown in zip(times, sorted(times), strict=True):
        latest = max(latest, time)
        bits.append("1" if latest == shown else "0")
    return f"{int(''.join(reversed(bits)), 2):x}"


@dataclass(slots=True)
class _Order:
    """Packets as they are decoded, held against when they are shown."""

    latest: int | None = None
    key: int | None = None
    run: int = 0
    behind: int = 0
    leading: bool = False

    def see(self, time: int, keyframe: bool) -> None:
        """The next packet."""
        if keyframe:
            self.key = time
        elif self.key is not None and time < self.key:
            self.leading = True
        early = self.latest is not None and time < self.latest
        self.run = self.run + 1 if early else 0
        self.behind = max(self.behind, self.run)
        self.latest = time if self.latest is None else max(self.latest, time)


def _picture_facts(path: Path, container: InputContainer, stream: av.VideoStream, packets: _Packets) -> PictureFacts:
    if not packets.total or packets.total < stream.frames:
        raise InputError(f"{path}: is truncated: {packets.total} of {stream.frames} frames are there")
    context = stream.codec_context
    rotation, interlaced = (0, False) if _is_still(container) else _first_frame(path, container, stream)
    upright = Size(context.width, context.height) if rotation % 180 == 0 else Size(context.height, context.width)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if rotation % 180 else aspect
    rate, constant = _rate(stream, packets)
    start = packets.start
    frames = len(packets.ticks) if constant else max(1, round((packets.end - start) * rate))
    return PictureFacts(
        size=_square(upright, aspect),
        coded=upright,
        rate=rate,
        frames=frames or packets.total,
        codec=context.codec.canonical_name,
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
        b_frames=packets.behind,
        bit_rate=context.bit_rate or 0,
        interlaced=interlaced,
        closed_gop=not packets.leading,
        ends=packets.ends,
    )


def _first_frame(path: Path, container: InputContainer, stream: av.VideoStream) -> tuple[int, bool]:
    """Of the first frame: degrees of its display matrix, and whether it is of two fields."""
    container.seek(0)
    for packet in container.demux(stream):
        frames = packet.decode()
        if not frames and packet.is_keyframe:  # a decoder asks for more packets; this one holds a whole frame
            frames = stream.codec_context.decode(None)
            stream.codec_context.flush_buffers()
        for frame in frames:
            return int(getattr(frame, "rotation", 0) or 0) % 360, bool(frame.interlaced_frame)
    raise InputError(f"{path}: holds video of which no frame can be decoded")


def _square(upright: Size, aspect: Fraction) -> Size:
    """The size in square pixels and even numbers: a last odd line or column is not shown."""
    width = upright.width // 2 * 2 if aspect == 1 else 2 * round(upright.width * aspect / 2)
    return Size(width, upright.height // 2 * 2)


def _rate(stream: av.VideoStream, packets: _Packets) -> tuple[Fraction, bool]:
    """Frames a second, and whether every frame stands where that rate puts it."""
    ticks = [tick - packets.ticks[0] for tick in packets.ticks]
    for candidate in (stream.base_rate, stream.guessed_rate, stream.average_rate):
        if candidate:
            step = candidate * packets.base
            # Within a quarter of a frame, in whole numbers: a film has many.
            if all(
                4 * abs(tick * step.numerator - index * step.denominator) < step.denominator
                for index, tick in enumerate(ticks)
            ):
                return Fraction(candidate), True

    def off(rate: Fraction) -> Fraction:
        step = rate * packets.base
        return max(abs(tick * step - round(tick * step)) for tick in ticks)

    average = Fraction(stream.average_rate or stream.guessed_rate or 25)
    # Where frames are only left out, the rate is that of the grid on which the others stand.
    grids = [rate for rate in STANDARD_RATES if rate >= average and off(rate) < Fraction(1, 4)]
    return min(grids, key=off) if grids else min(STANDARD_RATES, key=lambda rate: abs(rate - average)), False


def _first_heard(path: Path, packets: _Packets) -> Fraction:
    """When the first sample sounds: a first packet may hold an encoder's priming, which is never heard.

    Opened anew, since seeking to the start goes by the picture's key frames.
    """
    with contextlib.suppress(InputError), _opened(path, UNSEEN) as container:
        for frame in container.decode(audio=0):
            if frame.pts is not None and frame.time_base is not None:
                return max(Fraction(0), frame.pts * frame.time_base)
    return max(Fraction(0), packets.start)


def _priming(sound: SoundFacts, packets: _Packets) -> int:
    """Samples before the first that is heard; encoders put a multiple of 64 there, and Matroska's clock is of
    milliseconds. AAC alone: what Opus has there, 5.1 leaves out too."""
    early = sound.start - packets.start if packets.ticks and sound.codec == "aac" else Fraction(0)
    return max(0, 64 * round(early * sound.sample_rate / 64))


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
