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
from typing import Annotated, TypeAlias

from stages.errors import InputError

SAMPLE_RATE = 48_000
"""Sound is counted at 48 kHz whatever its source has: the compiler resamples at the head."""


# ---------------------------------------------------------------- text at the border


@dataclass(frozen=True)
class Unit:
    """How text becomes a value, for a stage's parameter: `Annotated[..., Unit(...)]`.

    `parse` raises InputError with one sentence; `example` goes into help and schema.
    """

    parse: Callable[[str], object]
    example: str


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
    `keyframes` is the longest distance between two key frames, in frames.
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
    b_frames: bool = False
    bit_rate: int = 0


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What the headers and packets of an audio stream say; `samples` at the stream's own rate."""

    codec: str
    profile: str
    sample_rate: int
    channels: int
    layout: str
    samples: int
    start: Fraction = Fraction(0)
    bit_rate: int = 0


# ---------------------------------------------------------------- the graph


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of a file. `promised` where the file is yet to be made."""

    path: Path
    facts: PictureFacts | SoundFacts
    promised: bool = False


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
"""Not ffmpeg's: a bed and a voice, made into the bed times an envelope before it is compiled (mixing.py)."""


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

    Carried out once, at rendering, as one crop and one resample by `engine`.
    """

    window: Box
    size: Size
    canvas: Size
    engine: str = "lanczos"
    background: str = "black"


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word, from `start` to `end` seconds on its clip's clock."""

    text: str
    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption, shown from `start` to `end` seconds; lines are split by a newline."""

    text: str
    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True)
class Captions:
    """An intention: burn `cues` into the delivered frame, write them beside it (`srt`, `vtt`), or both."""

    cues: tuple[Cue, ...]
    burn: bool = True
    sidecar: str = ""


@dataclass(frozen=True, slots=True)
class Loudness:
    """An intention: integrated loudness in LUFS and true-peak ceiling in dBTP (ITU-R BS.1770)."""

    target: float
    true_peak: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Frames at an exact rate. `size` is the stream's; `frame` what a viewer will see."""

    stream: Stream
    size: Size
    rate: Fraction
    frames: int
    scaler: Scaler | None = None
    captions: Captions | None = None

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
    the histories of the other clips and files that it used.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    agent: str = ""
    file: Path | None = None
    ai: bool = False
    inputs: tuple[History, ...] = ()


History: TypeAlias = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A picture, a sound, or both, and how they came about."""

    picture: Picture | None = None
    sound: Sound | None = None
    history: History = dataclass_field(default=(), compare=False)

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
        return any(source.promised for source in sources(*self.streams))

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
                for inner in action.inputs:  # what was shown to a model
                    walk(inner, "inputTo")
            else:
                for inner in action.inputs:
                    walk(inner, "inputTo" if below == "inputTo" else "componentOf")
            below = "inputTo" if below == "inputTo" else "componentOf"

    walk(history, "parentOf")
    return tuple(found.values())
