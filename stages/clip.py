"""What a clip is: a picture and a sound, described but not decoded.

Everything here is a frozen value. Time is exact: integer frames, integer
samples, `Fraction` seconds; text such as `6s` is parsed here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from stages.errors import InputError

SAMPLE_RATE = 48_000
"""Sound is counted at 48 kHz whatever its source has: the compiler resamples at the head."""


# ---------------------------------------------------------------- text at the border


@dataclass(frozen=True)
class Unit:
    """How text becomes a value, for a stage's parameter: `Annotated[..., Unit(...)]`.

    `parse` raises InputError with one sentence; `example` goes into help and schema.
    `rest` names the parameter that may be written behind a colon: `engine: onnx:MODEL` is `engine: onnx`
    and `model: MODEL`.
    """

    parse: Callable[[str], object]
    example: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Frames:
    """A length or a moment counted in frames: only a clip's rate makes it seconds."""

    count: int


def parse_time(text: str) -> Fraction | Frames:
    """Seconds (`6s`, `800ms`, `6.5`, `00:00:06.5`) or a frame count (`180f`)."""
    text = text.strip()
    if match := re.fullmatch(r"(\d+)\s*(?:f|frames?)", text):
        return Frames(int(match[1]))
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|seconds?|ms|m|min)?", text):
        scale = {"ms": Fraction(1, 1000), "m": Fraction(60), "min": Fraction(60)}
        return Fraction(match[1]) * scale.get(match[2] or "s", Fraction(1))
    if match := re.fullmatch(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)", text):
        return int(match[1] or 0) * 3600 + int(match[2]) * 60 + Fraction(match[3].replace(",", "."))
    raise InputError(f"should be a time such as 6s, 180f or 00:00:06.5, not '{text}'")


def parse_decibels(text: str) -> float:
    """`-3 dB`, `10dB`, `-14 LUFS`, `-1 dBTP` or a bare number, as a float."""
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*(dB|dBTP|dBFS|LUFS|LKFS|LU)?", text.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"should be a level such as -3 dB or -14 LUFS, not '{text}'")
    return float(match[1])


def parse_switch(text: str) -> bool:
    """`true`, `yes`, `on` or their opposites."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise InputError(f"should be true or false, not '{text}'")
    return words[text.strip().lower()]


Time: TypeAlias = Annotated[Fraction | int | str | Frames, Unit(parse_time, "6s")]
"""A moment or a length: seconds, frames, or text with a unit (`6s`, `180f`, `00:00:06.5`)."""

Decibels: TypeAlias = Annotated[float | str, Unit(parse_decibels, "-3 dB")]
"""A level or a change of level, as a number or as text with its unit."""


def seconds(time: Time, rate: Fraction) -> Fraction:
    """`time` in exact seconds; `180f` is counted at `rate` frames a second."""
    parsed = parse_time(time) if isinstance(time, str) else time
    return parsed.count / rate if isinstance(parsed, Frames) else Fraction(parsed)


def frame_count(time: Time, rate: Fraction) -> int:
    """`time` in whole frames at `rate`: the nearest, and of two as near the later, so that 0.5 s to 3.5 s
    at 25 a second are 75 frames."""
    return floor(seconds(time, rate) * rate + Fraction(1, 2))


def samples_for(frames: int, rate: Fraction) -> int:
    """How many samples at 48 kHz last as long as `frames` frames."""
    return round(Fraction(frames) / rate * SAMPLE_RATE)


def decibels(level: Decibels) -> float:
    """`level` as a number of decibels."""
    return parse_decibels(level) if isinstance(level, str) else float(level)


def parse_share(text: str) -> Fraction:
    """`20%` as a fraction of one. Raises InputError for anything else, and for more than the whole."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not match or Fraction(match[1]) > 100:
        raise InputError(f"should be a share such as 20%, not '{text}'")
    return Fraction(match[1]) / 100


Share: TypeAlias = Annotated[Fraction | str, Unit(parse_share, "20%")]
"""A part of a length, as a fraction of one or as text (`20%`)."""


def share(part: Share) -> Fraction:
    """`part` as a fraction of one."""
    return parse_share(part) if isinstance(part, str) else Fraction(part)


def printed_seconds(time: Fraction) -> str:
    """`time` for people: `6`, `6.5`, `0.042`."""
    return f"{float(time):.3f}".rstrip("0").rstrip(".")


# ---------------------------------------------------------------- geometry


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels; prints and parses as `1280x720`."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def aspect(self) -> Fraction:
        """Width over height."""
        return Fraction(self.width, self.height)

    @property
    def deliverable(self) -> bool:
        """Whether a delivery can have it: even numbers from 16 to 8192."""
        return all(16 <= side <= 8192 and side % 2 == 0 for side in (self.width, self.height))

    @classmethod
    def parse(cls, text: str) -> Size:
        """`1280x720` as a Size. Raises InputError for anything else, and for odd numbers:
        4:2:0 video, which every delivery is, has no odd sizes."""
        match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text.strip())
        if not match:
            raise InputError(f"should be a size such as 1280x720, not '{text}'")
        size = cls(int(match[1]), int(match[2]))
        if not size.deliverable:
            raise InputError(f"should be a size of even numbers from 16 to 8192, not '{text}'")
        return size


@dataclass(frozen=True, slots=True)
class Box:
    """A window on a picture: left and top corner, width and height, in its pixels."""

    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction

    @classmethod
    def of(cls, size: Size) -> Box:
        """The whole picture."""
        return cls(Fraction(0), Fraction(0), Fraction(size.width), Fraction(size.height))

    def even(self, whole: Size) -> tuple[int, int, int, int]:
        """Left, top, width and height in even numbers, inside `whole`: 4:2:0 has no odd corners."""
        left, top = 2 * round(self.x / 2), 2 * round(self.y / 2)
        width, height = max(2, 2 * round(self.width / 2)), max(2, 2 * round(self.height / 2))
        return min(left, whole.width - width), min(top, whole.height - height), width, height


@dataclass(frozen=True, slots=True)
class Margins:
    """How far to stay away from a frame's edges, as shares of its height (`top`, `bottom`) and width."""

    top: Fraction
    right: Fraction
    bottom: Fraction
    left: Fraction

    @classmethod
    def parse(cls, text: str) -> Margins:
        """`14% 6% 35% 6%`: top, right, bottom and left. Raises InputError for anything else."""
        parts = text.split()
        if len(parts) != 4:
            raise InputError(f"should be four margins such as 14% 6% 35% 6% (top, right, bottom, left), not '{text}'")
        return cls(*map(parse_share, parts))


# ---------------------------------------------------------------- what a probe finds


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags by ffmpeg's names; `unknown` where the file says nothing."""

    matrix: str = "unknown"
    primaries: str = "unknown"
    transfer: str = "unknown"
    range: str = "unknown"


BT709 = Colour("bt709", "bt709", "bt709", "tv")


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What the headers and packets of a video stream say.

    `size` is what a viewer sees: turned upright, pixels made square. `coded`
    is what the decoder yields after turning, `sample_aspect` its pixels' shape.
    `keyframes` is the longest distance between two key frames, in frames;
    `b_frames` how many stand in a row at most; with a `closed_gop`, nothing
    before a key frame needs it. `ends` says after which frames it may end
    with nothing left behind that they need: bit n of the hexadecimal number
    stands for the first n frames; empty if that is not known. `primed`: its file's clock starts before
    zero, with `SoundFacts.priming`.
    """

    size: Size
    coded: Size
    rate: Fraction
    frames: int
    codec: str
    profile: str = ""
    pixel_format: str = "yuv420p"
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    colour: Colour = Colour()
    start: Fraction = Fraction(0)
    constant_rate: bool = True
    keyframes: int = 0
    b_frames: int = 0
    bit_rate: int = 0
    interlaced: bool = False
    closed_gop: bool = True
    primed: bool = False
    ends: str = ""


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What the headers and packets of an audio stream say; `samples` at the stream's own rate.

    `priming` are samples before the first that is heard, which a Matroska file
    asks to leave out: ffmpeg 5.1 plays them, and begins the file's clock there.
    """

    codec: str
    profile: str
    sample_rate: int
    channels: int
    layout: str
    samples: int
    start: Fraction = Fraction(0)
    bit_rate: int = 0
    priming: int = 0


# ---------------------------------------------------------------- the graph


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of a file. `promised` where the file is yet to be made; `tonemap` where its HDR may be lost."""

    path: Path
    facts: PictureFacts | SoundFacts
    promised: bool = False
    tonemap: bool = False


@dataclass(frozen=True, slots=True, eq=False)  # eq would walk shared inputs again and again
class Filter:
    """One ffmpeg filter on its inputs. Options hold integers, text and rates."""

    name: str
    options: tuple[tuple[str, str | int | Fraction], ...] = ()
    inputs: tuple[Stream, ...] = ()


Stream: TypeAlias = Source | Filter


def filtered(name: str, *inputs: Stream, **options: str | int | Fraction) -> Filter:
    """The filter `name` on `inputs`."""
    return Filter(name, tuple(options.items()), inputs)


DUCK = "duck"
"""Not ffmpeg's: a bed and a voice, made into the bed times an envelope before it is compiled (mixing.py).
Its `spans` say when the voice is heard (`0-9600 24000-31200`, in samples); without them that is measured."""

STRETCH = "stretch"
"""Not ffmpeg's: a sound made `tempo` times faster before the rest is compiled (stretching.py)."""

ENGINE = "engine"
"""Not ffmpeg's: a picture that a frame engine enlarges, made into a film before it is compiled (enlarging.py)."""


STILL = "still"
"""Not ffmpeg's: a still picture of any kind, drawn at `w` by `h` as a PNG before it is compiled (ffmpeg.py).
Its `mode` is a `geometry.Mode`, or `inside`, which keeps shape and transparency and has no bars."""


CHAIN = "chain"
"""A chain of ffmpeg's filters whose `text` a user wrote: it goes into the graph as it is (escape.py)."""


def exactly(stream: Stream, samples: int) -> Filter:
    """Padded with silence or cut to exactly `samples`; ffmpeg's -shortest does neither exactly."""
    return filtered("atrim", filtered("apad", stream, whole_len=samples), end_sample=samples)


def sources(*streams: Stream) -> tuple[Source, ...]:
    """The sources that `streams` read, each once, in the order met."""
    found: dict[Source, None] = {}
    seen: set[int] = set()
    waiting: list[Stream] = list(reversed(streams))
    while waiting:
        stream = waiting.pop()
        if isinstance(stream, Source):
            found[stream] = None
        elif id(stream) not in seen:
            seen.add(id(stream))
            waiting.extend(reversed(stream.inputs))
    return tuple(found)


# ---------------------------------------------------------------- picture, sound, clip


@dataclass(frozen=True, slots=True)
class Scaler:
    """An intention: show `window` of the stream at `size`, in the middle of `canvas`.

    Carried out once, at rendering, as one crop and one resample by `engine`,
    then sharpened by `sharpen`, 0 (not at all) to 1.
    """

    window: Box
    size: Size
    canvas: Size
    engine: str = "lanczos"
    background: str = "black"
    sharpen: float = 0.0


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word, from `start` to `end` seconds on its clip's clock."""

    text: str
    start: Fraction
    end: Fraction

    def stretched(self, share: Fraction) -> Word:
        """On a clip that lasts `share` as long."""
        return Word(self.text, self.start * share, self.end * share)


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption, shown from `start` to `end` seconds; lines are split by a newline.

    `words` are those of `text` with their times, where they are known.
    """

    text: str
    start: Fraction
    end: Fraction
    words: tuple[Word, ...] = ()


CaptionStyle: TypeAlias = Literal["clean", "bold-word", "karaoke"]


@dataclass(frozen=True, slots=True)
class Captions:
    """An intention: burn `cues` into the delivered frame in a `style`, with `font` where it is not ours; write them
    beside it (`srt`, `vtt`, `both`); lay them in as a track that the viewer turns on (`soft`)."""

    cues: tuple[Cue, ...]
    burn: bool = True
    sidecar: str = ""
    style: CaptionStyle = "clean"
    font: Path | None = None
    soft: bool = False

    @property
    def formats(self) -> tuple[str, ...]:
        """The files to write beside it, by suffix."""
        return {"": (), "both": ("srt", "vtt")}.get(self.sidecar, (self.sidecar,))


Corner: TypeAlias = Literal["top-left", "top", "top-right", "center", "bottom-left", "bottom", "bottom-right"]


@dataclass(frozen=True, slots=True)
class Overlay:
    """An intention: lay `text` or the still picture `image` into the delivered frame, from `start` to `end` seconds.

    `size` is a share of the frame's shorter side: the longer side of an image,
    the height of a text's lines. `margin` is another, kept from the edges of the
    safe area. `boxed`: the text stands on a dark ground.
    """

    corner: Corner
    size: Fraction
    margin: Fraction
    start: Fraction
    end: Fraction
    text: str = ""
    image: Source | None = None
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class Loudness:
    """An intention: integrated loudness in LUFS and true-peak ceiling in dBTP (ITU-R BS.1770)."""

    target: float
    true_peak: float


Lossless: TypeAlias = Literal["auto", "never", "require"]


@dataclass(frozen=True, slots=True)
class Picture:
    """Frames at an exact rate. `size` is the stream's; `frame` what a viewer will see.

    `safe` is how far the platform's own buttons reach into the frame, where that is known.
    `lossless` is whether its end may be cut off, or must be, without encoding it anew.
    """

    stream: Stream
    size: Size
    rate: Fraction
    frames: int
    scaler: Scaler | None = None
    captions: Captions | None = None
    overlays: tuple[Overlay, ...] = ()
    safe: Margins | None = None
    lossless: Lossless = "auto"

    @property
    def frame(self) -> Size:
        """The size in which it will be shown, intentions included."""
        return self.scaler.canvas if self.scaler else self.size

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples at 48 kHz, with the words that are spoken in them where these are known."""

    stream: Stream
    samples: int
    words: tuple[Word, ...] = ()
    loudness: Loudness | None = None

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return Fraction(self.samples, SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was done, for the record: provenance is read off it.

    `file` is the original that the action brought in (a clip that was opened,
    generated or spoken); `ai` says that a trained model made it. `inputs` are
    the histories of the other clips and files that it used. `bought` are the
    ledger's keys of what was paid for it, what was not chosen included.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    agent: str = ""
    file: Path | None = None
    ai: bool = False
    inputs: tuple[History, ...] = ()
    bought: tuple[str, ...] = ()


History: TypeAlias = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A picture, a sound, or both, and how they came about.

    `remarks` are what a person should know of it, such as a reference that its model ignored.
    """

    picture: Picture | None = None
    sound: Sound | None = None
    history: History = dataclass_field(default=(), compare=False)
    remarks: tuple[str, ...] = dataclass_field(default=(), compare=False)

    @property
    def duration(self) -> Fraction:
        """Seconds: the picture's where there is one, else the sound's."""
        part = self.picture or self.sound
        return part.duration if part else Fraction(0)

    @property
    def file(self) -> Path:
        """The one file that holds it as it is. Raises InputError if it was edited since, or has several."""
        files = {stream.path for stream in self.streams if isinstance(stream, Source)}
        if len(files) != 1 or not all(isinstance(stream, Source) for stream in self.streams):
            raise InputError("should be a file, or what a job made: an edited clip is no file yet")
        return files.pop()

    @property
    def promised(self) -> bool:
        """Whether anything in it is yet to be made."""
        laid = [one.image for one in self.picture.overlays if one.image] if self.picture else []
        return any(source.promised for source in sources(*self.streams, *laid))

    @property
    def streams(self) -> Iterator[Stream]:
        """The streams of its parts."""
        return (part.stream for part in (self.picture, self.sound) if part)


@dataclass(frozen=True, slots=True)
class Origin:
    """A file that a clip was made from, in C2PA's words.

    `relationship` is `parentOf` (the first picture), `componentOf` (another
    picture or sound laid into it) or `inputTo` (what a model was shown).
    """

    file: Path
    relationship: str
    ai: bool


def origins(history: History) -> tuple[Origin, ...]:
    """The files that a clip of this history was made from: the parent first, each file once."""
    found: dict[Path, Origin] = {}

    def walk(actions: History, role: str) -> None:
        below = role
        for action in actions:
            if action.file is not None:
                found.setdefault(action.file, Origin(action.file, below, action.ai))
            # What was shown to a model, though the film that it made of it is yet to be named.
            shown = action.file is not None or action.ai or below == "inputTo"
            for inner in action.inputs:
                walk(inner, "inputTo" if shown else "componentOf")
            below = "inputTo" if below == "inputTo" else "componentOf"

    walk(history, "parentOf")
    return tuple(found.values())
