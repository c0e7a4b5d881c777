"""How a described sound becomes one encoded file.

Sound is made first, and the picture's encode copies it in: mixed to PCM and
measured, levelled, encoded once to AAC, measured again, and corrected where
the encoder moved it.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log10
from pathlib import Path

from stages.clip import (
    DUCK,
    SAMPLE_RATE,
    STRETCH,
    Filter,
    Loudness,
    Sound,
    SoundFacts,
    Source,
    Stream,
    exactly,
    filtered,
)
from stages.errors import FfmpegError
from stages.ffmpeg import MP4_CLOCK, WAVES, run_command, sound_command
from stages.files import fresh_folder
from stages.lowering import rewritten
from stages.stretching import stretch

LIMITER_MARGIN = 0.3
"""dB under the ceiling: AAC raised true peaks by up to 0.1 dB, and by 0.6 dB once (facts: audio 3)."""

TOLERANCE = 0.05
"""LU: nearer than this to the target needs no further correction; meters say tenths."""

SILENT = -70.0
"""LUFS: at and under the absolute gate of ITU-R BS.1770 there is nothing to level."""

FAINT = -60.0
"""LUFS: no louder is a room in which nobody speaks. ACX takes audiobooks with as much noise between words (-60 dBFS
RMS); brought to a film's loudness it would be nothing but that noise, so it is left as it is."""

MOST = 30.0
"""dB of gain: with more, the noise of a room that ACX would take came nearer than 16 dB to a film at -14 LUFS."""


# ---------------------------------------------------------------- ducking

THRESHOLD = "-45dB"
SHORTEST = 0.02
"""Seconds: anything shorter is a click, not a voice."""

GAP = 0.25
"""silencedetect finds clean speech to the hundredth of a second with these (facts: audio 5)."""


def enveloped(stream: Stream, folder: Path) -> Stream:
    """The graph with each `duck` as ffmpeg can do it: where the voice is heard is measured, and the
    envelope written into `folder`. sidechaincompress would lose the last 0.6 s and miss the depth.
    Each `stretch` is made there, too."""
    count = 0

    def change(node: Stream) -> Stream:
        nonlocal count
        if isinstance(node, Filter) and node.name == STRETCH:
            count += 1
            return _stretched(node, folder, f"stretched{count}")
        if not (isinstance(node, Filter) and node.name == DUCK):
            return node
        bed, voice = node.inputs
        options = dict(node.options)
        spans = _spans(str(options.get("spans", ""))) or heard(voice, int(options["samples"]), folder)
        path = folder / f"envelope{count}.wav"
        count += 1
        values = envelope(
            spans,
            int(options["samples"]),
            float(options["depth"]),
            int(options["attack"]),
            int(options["release"]),
        )
        write_wav(path, values)
        facts = SoundFacts("pcm_s16le", "", SAMPLE_RATE, 1, "mono", len(values))
        return filtered("amultiply", bed, Source(Path(path.name), facts))

    return rewritten(stream, change)


def _stretched(node: Filter, folder: Path, name: str) -> Source:
    """A `stretch`, made in `folder`."""
    (inner,) = node.inputs
    floats = filtered("aformat", inner, sample_fmts="flt", channel_layouts="stereo")
    run_command(sound_command(floats, f"{name}.in", acodec="pcm_f32le", f="f32le"), folder)
    samples = stretch(folder / f"{name}.in", folder / f"{name}.f32", Fraction(dict(node.options)["tempo"]))
    (folder / f"{name}.in").unlink()
    with (folder / f"{name}.wav").open("wb") as file, (folder / f"{name}.f32").open("rb") as made:
        file.write(_head(3, 2, 4, samples))  # IEEE floats
        shutil.copyfileobj(made, file)
    (folder / f"{name}.f32").unlink()
    return Source(Path(f"{name}.wav"), _pcm(samples))


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    """`0-9600 24000-31200` as pairs."""
    pairs = (span.split("-") for span in text.split())
    return tuple((int(begin), int(end)) for begin, end in pairs)


def heard(voice: Stream, samples: int, folder: Path) -> tuple[tuple[int, int], ...]:
    """From which of its `samples` to which the voice is heard; pauses under 0.25 s count as speech."""
    stream = filtered("silencedetect", voice, noise=THRESHOLD, duration=str(GAP))
    said = run_command(sound_command(stream, "-", f="null"), folder)
    starts = [float(t) for t in re.findall(r"silence_start: (-?[\d.]+)", said)]
    ends = [float(t) for t in re.findall(r"silence_end: (-?[\d.]+)", said)]
    # The voice is what lies between the end of one silence and the start of the next. A silence that
    # reaches the end of the sound is said to end there: without its length, a voice would seem to follow.
    spans = zip([0.0, *ends], [*starts, samples / SAMPLE_RATE], strict=False)
    return tuple((round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in spans if b - max(a, 0) > SHORTEST)


def envelope(spans: Sequence[tuple[int, int]], samples: int, depth: float, attack: int, release: int) -> array[int]:
    """Gain per sample, full scale 32767: down by `depth` dB over each span, with ramps in decibels outside it."""
    low = 10 ** (-depth / 20)
    gains = array("h", [32767]) * samples

    def hold(begin: int, most: array[int]) -> None:
        first, last = max(0, begin), max(0, min(begin + len(most), samples))
        gains[first:last] = array("h", map(min, gains[first:last], most[first - begin :]))

    down = array("h", (round(32767 * low ** ((attack - i) / attack)) for i in range(attack, 0, -1)))
    up = array("h", (round(32767 * low ** (1 - i / release)) for i in range(release)))
    for begin, end in spans:
        hold(begin - attack, down)
        hold(begin, array("h", [round(32767 * low)]) * (end - begin))
        hold(end, up)
    return gains


def write_wav(path: Path, values: array[int]) -> None:
    """Mono 16-bit samples at 48 kHz as a RIFF file."""
    path.write_bytes(_head(1, 1, 2, len(values)) + values.tobytes())


def _head(kind: int, channels: int, width: int, samples: int) -> bytes:
    """Of a RIFF file at 48 kHz: `kind` 1 is whole numbers, 3 floats, of `width` bytes."""
    block = channels * width
    shape = (16, kind, channels, SAMPLE_RATE, SAMPLE_RATE * block, block, 8 * width)
    size = min(samples * block, 2**32 - 37)  # what is longer is read to its end
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", *shape, b"data", size)


# ---------------------------------------------------------------- making


@dataclass(frozen=True, slots=True)
class Track:
    """What is asked of one encoded sound: the mix, its length in samples, and how it is encoded."""

    sound: Sound
    samples: int
    bit_rate: int = 192_000
    edit_lists: bool = True
    codec: str = "aac"

    @property
    def file(self) -> str:
        """The name of what is made, in a folder of its own."""
        return {"aac": SOUND, "opus": "sound.webm", "flac": "sound.mka"}.get(self.codec, "sound.mov")


@dataclass(frozen=True, slots=True)
class Measured:
    """Integrated loudness in LUFS, true peak in dBTP, loudness range in LU (ITU-R BS.1770, EBU Tech 3342)."""

    loudness: float
    true_peak: float
    range: float

    @property
    def silent(self) -> bool:
        """Whether there is nothing that could be levelled."""
        return self.loudness <= SILENT

    @property
    def faint(self) -> bool:
        """Whether there is nothing that should be levelled."""
        return self.loudness <= FAINT

    @property
    def told(self) -> Measured:
        """To a tenth, as meters say it."""
        return Measured(*(round(number, 1) for number in (self.loudness, self.true_peak, self.range)))


@dataclass(frozen=True, slots=True)
class SoundReport:
    """The mix before levelling, the encoded file after it, the gain applied, in dB, and what was asked for."""

    before: Measured
    after: Measured
    gain: float = 0.0
    limited: bool = False
    file: str = "sound.m4a"
    asked: Loudness | None = None

    @property
    def remark(self) -> str:
        """Why it is not as loud as was asked for; nothing if it is."""
        if self.asked is None or abs(self.after.loudness - self.asked.target) <= AUDIBLE:
            return ""
        target = f"{self.asked.target:g} LUFS"
        if self.before.silent:
            return f"it is silent, or too short to be measured: not brought to {target}"
        if self.before.loudness <= FAINT:
            return (
                f"at {self.before.loudness:g} LUFS there is little but noise to be heard: left as it is, not brought to"
                f" {target}"
            )
        if self.gain >= MOST:
            return f"{target} would raise it by more than {MOST:g} dB, and its noise with it: {self._reached}"
        return f"{target} could not be reached under {self.asked.true_peak:g} dBTP: {self._reached}"

    @property
    def _reached(self) -> str:
        return f"it is {self.after.loudness:g} LUFS"


AUDIBLE = 0.3
"""LU off the target that are worth a word; EBU R 128 allows 0.5."""

PRIMING = 1024
"""Samples that ffmpeg's AAC encoder puts in front, hidden by an edit list where one is allowed."""


SOUND = "sound.m4a"


def make_sound(track: Track, *, folder: Path) -> SoundReport:
    """Mix, level and encode `track` to its `file` in `folder`, exactly as long as asked, and draw it.

    Where edit lists are forbidden, the first 21 ms of sound give way to the
    encoder's priming, so that what follows stays in sync without one.
    """
    target, loudness = folder / track.file, track.sound.loudness
    with fresh_folder(folder) as work:
        exact = exactly(enveloped(track.sound.stream, work), track.samples)
        before = _metered(exact, work, "mix.wav", acodec="pcm_f32le")
        mix = Mix(Source(Path("mix.wav"), _pcm(track.samples)), track.samples, before)
        aim = Aim(loudness.target, loudness.true_peak - LIMITER_MARGIN) if loudness and not before.faint else None
        tries: list[Try] = []
        while len(tries) < PASSES:
            levelled = _levelled(mix, aim, work) if aim else Levelled(mix.stream, spent=True)
            file = work / f"{len(tries)}{target.suffix}"
            tries.append(Try(levelled, _encoded(levelled.stream, track, file, work), file))
            # What is limited moves with each try: the more there were, the less another is worth.
            near = TOLERANCE * (len(tries) if levelled.limited else 1)
            corrected = _corrected(aim, tries[-1], loudness, near) if aim and loudness else aim
            if corrected == aim:
                break
            aim = corrected
        best = min(tries, key=lambda one: one.miss(loudness)) if loudness else tries[0]
        best.file.replace(target)
        best.waves.replace(folder / WAVES)
    made = best.levelled
    return SoundReport(before.told, best.after.told, made.gain, made.limited, track.file, loudness)


PASSES = 6
"""How often a sound is encoded at most, of which the best is kept: one did for 16 of 24 in benchmarks/loudness.py."""

PUMPING = 3.0
"""dB of extra gain into the limiter: beyond it loudness is bought with distortion, so what is missing is reported."""

LIGHT = 1.0
"""dB off the highest peak: so little limiting costs under 0.05 LU, and needs no measuring before the encode."""

WORTH = 1.0
"""LU that a limiter has to bring where it cannot bring all: it raises what lies between hits, and for less than that
they are brought to the ceiling as they are."""

SLOW = 80
"""Milliseconds in which the limiter lets go."""

FAST = 20
"""Milliseconds: a limiter that lets go so fast leaves the tail of a hit alone (1.5 to 2.4 LU more on foley), and
roughens what it holds: only for a sound that 80 leave too quiet."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A mix as PCM, its length in samples, and what was measured on it."""

    stream: Stream
    samples: int
    found: Measured


@dataclass(frozen=True, slots=True)
class Aim:
    """The loudness in LUFS that a mix is brought to before it is encoded, the true peak in dBTP it is held under."""

    loudness: float
    peak: float


@dataclass(frozen=True, slots=True)
class Levelled:
    """A mix with its gain in dB; whether it was limited, and whether it is as loud as it gets."""

    stream: Stream
    gain: float = 0.0
    limited: bool = False
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """One encode: how it was levelled, and what came of it."""

    levelled: Levelled
    after: Measured
    file: Path

    @property
    def waves(self) -> Path:
        """The drawing of it."""
        return self.file.with_suffix(".png")

    def miss(self, loudness: Loudness) -> tuple[float, float]:
        """How many dB its peaks are over the ceiling, and how many LU it is off the target."""
        return max(0.0, self.after.true_peak - loudness.true_peak), abs(loudness.target - self.after.loudness)


def _corrected(aim: Aim, made: Try, loudness: Loudness, near: float) -> Aim:
    """What to aim at to come nearer than that; the same if it is `near` LU or as near as it gets."""
    over, off = made.miss(loudness)
    if over:  # AAC raised the peaks by more than was left to it
        return replace(aim, peak=aim.peak - over - TOLERANCE)
    if made.levelled.spent:
        room = loudness.true_peak - made.after.true_peak  # where it lowered them, or was given too much
        return replace(aim, peak=aim.peak + room / 2) if room > LIMITER_MARGIN and off > AUDIBLE else aim
    if off < near:
        return aim
    return replace(aim, loudness=aim.loudness + loudness.target - made.after.loudness)


def _levelled(mix: Mix, aim: Aim, folder: Path) -> Levelled:
    """`mix` as near to `aim` as gain and a limiter bring it, measured before anything is encoded."""
    wanted = aim.loudness - mix.found.loudness
    gain, spent = min(wanted, MOST), wanted > MOST
    if mix.found.true_peak + gain <= aim.peak:
        return Levelled(_louder(mix.stream, gain), gain, spent=spent)
    if mix.found.true_peak + gain - aim.peak < LIGHT:
        held = _limited(_louder(mix.stream, gain), mix.samples, aim.peak, SLOW)
        return Levelled(held, gain, limited=True, spent=spent)
    target, release = mix.found.loudness + gain, SLOW
    most = gain + PUMPING
    for _ in range(PASSES):
        held = _limited(_louder(mix.stream, gain), mix.samples, aim.peak, release)
        found = _metered(held, folder, "levelled.wav", acodec="pcm_f32le").loudness
        short = target - found
        if short > 10 * TOLERANCE and release != FAST:
            release = FAST
            continue
        more = min(gain + short, most)
        if abs(more - gain) < TOLERANCE:
            break
        gain = more
    spent = spent or short > TOLERANCE
    unheld = aim.peak - mix.found.true_peak
    if spent and found < mix.found.loudness + unheld + WORTH:
        return Levelled(_louder(mix.stream, unheld), unheld, spent=True)
    return Levelled(Source(Path("levelled.wav"), _pcm(mix.samples)), gain, limited=True, spent=spent)


def _louder(stream: Stream, gain: float) -> Stream:
    return filtered("volume", stream, volume=f"{gain:.3f}dB")


def _limited(stream: Stream, samples: int, peak: float, release: int) -> Stream:
    """With its true peaks held under `peak` dBTP."""
    # At 192 kHz sample peaks are near true peaks; level=disabled, or it turns up what it turned down.
    stream = filtered("aresample", stream, sample_rate=192_000)
    limit = f"{10 ** (peak / 20):.5f}"
    stream = filtered("alimiter", stream, limit=limit, attack=5, release=release, level="disabled", latency=1)
    return exactly(filtered("aresample", stream, sample_rate=SAMPLE_RATE), samples)


def _pcm(samples: int) -> SoundFacts:
    return SoundFacts("pcm_f32le", "", SAMPLE_RATE, 2, "stereo", samples)


_PACKED: dict[str, dict[str, str | int]] = {
    "aac": {"f": "mp4", **MP4_CLOCK},
    "opus": {"acodec": "libopus", "f": "webm"},
    "flac": {"f": "matroska", "sample_fmt": "s32", "bits_per_raw_sample": 24},
}
"""How what is no PCM is encoded and packed; ffmpeg's own encoder of Opus is an experiment."""


def _encoded(stream: Stream, track: Track, target: Path, folder: Path) -> Measured:
    """Encode once, and measure what was encoded."""
    options: dict[str, str | int] = {"acodec": track.codec, "ar": SAMPLE_RATE, **_PACKED.get(track.codec, {"f": "mov"})}
    if track.codec in ("aac", "opus"):
        options["b:a"] = track.bit_rate
    if not track.edit_lists:
        stream = filtered("atrim", stream, start_sample=PRIMING)
        stream = filtered("asetpts", stream, expr="PTS-STARTPTS")
        stream = filtered("afade", stream, type="in", nb_samples=240)
        options["use_editlist"] = 0
    run_command(sound_command(stream, str(target.resolve()), **options), folder)
    encoded = Source(target.resolve(), SoundFacts(track.codec, "", SAMPLE_RATE, 2, "stereo", track.samples))
    found = _metered(encoded, folder, drawn=encoded)
    (folder / WAVES).replace(target.with_suffix(".png"))
    return found


def measure(sound: Sound, folder: Path | None = None, *, drawn: bool = False) -> Measured:
    """The loudness of a sound as it is described, to a tenth, intentions aside; `folder` is for what it takes
    meanwhile, and gets a drawing of it, `waves.png`, if it is to be `drawn`."""
    folder = folder or Path(tempfile.gettempdir())
    with fresh_folder(folder) as work:
        stream = enveloped(sound.stream, work)
        found = _metered(stream, work, drawn=stream if drawn else None).told
        if drawn:
            (work / WAVES).replace(folder / WAVES)
    return found


METER = "meter.txt"


def _metered(
    stream: Stream, folder: Path, target: str = "-", drawn: Stream | None = None, **options: str | int
) -> Measured:
    """Measure `stream` on its way into `target`. ffmpeg's summary says tenths, its metadata thousandths: with these, a
    gain hits the target at once."""
    meter = filtered("ebur128", stream, peak="true", framelog="verbose", metadata=1)
    meter = filtered("ametadata", meter, mode="print", file=METER)
    if target == "-":
        options = {"f": "null"}
    said = run_command(sound_command(meter, target, drawn, **options), folder)
    file = folder / METER
    return _measured(said, file.read_text(encoding="utf-8") if file.exists() else "")


def _measured(said: str, told: str = "") -> Measured:
    """From the summary that ebur128 says at its end and what it told of each tenth of a second."""
    _, found, summary = said.rpartition("Summary:")
    if not found:
        raise FfmpegError("ffmpeg measured no loudness", stderr=said)

    def value(label: str) -> float:
        match = re.search(rf"{label}:\s+(-?inf|nan|-?[\d.]+)", summary)
        number = float(match[1]) if match else float("-inf")
        return -99.0 if number != number or number < -99 else number

    def finer(rough: float, key: str, read: Callable[[float], float]) -> float:
        """The last that was told of it; not of a peak in the rest after the last whole tenth of a second."""
        number = told.rpartition(f"lavfi.r128.{key}=")[2].partition("\n")[0]
        fine = read(float(number)) if number and number != "nan" else rough
        return fine if abs(fine - rough) <= 0.06 else rough

    return Measured(
        finer(value("I"), "I", float),
        finer(value("Peak"), "true_peak", lambda peak: 20 * log10(max(peak, 1e-9))),
        value("LRA"),
    )
