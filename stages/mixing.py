"""How a described sound becomes one encoded file.

Sound is made first, and the picture's encode copies it in: mixed to PCM and
measured, levelled, encoded once to AAC, measured again, and corrected where
the encoder moved it.
"""

from __future__ import annotations

import re
import struct
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.clip import DUCK, SAMPLE_RATE, Filter, Loudness, Sound, SoundFacts, Source, Stream, exactly, filtered
from stages.errors import FfmpegError
from stages.ffmpeg import run_command, sound_command, waveform
from stages.files import fresh_folder
from stages.lowering import rewritten

LIMITER_MARGIN = 0.3
"""dB under the ceiling: AAC raised true peaks by up to 0.1 dB, and by 0.6 dB once (facts: audio 3)."""

TOLERANCE = 0.1
"""LU: nearer than this to the target needs no further correction (EBU R 128 meters agree to 0.1 LU)."""

SILENT = -70.0
"""LUFS: at and under the absolute gate of ITU-R BS.1770 there is nothing to level."""


# ---------------------------------------------------------------- ducking

THRESHOLD = "-45dB"
SHORTEST = 0.02
"""Seconds: anything shorter is a click, not a voice."""

GAP = 0.25
"""silencedetect finds clean speech to the hundredth of a second with these (facts: audio 5)."""


def enveloped(stream: Stream, folder: Path) -> Stream:
    """The graph with each `duck` as ffmpeg can do it: where the voice is heard is measured, and the
    envelope written into `folder`. sidechaincompress would lose the last 0.6 s and miss the depth."""
    count = 0

    def change(node: Stream) -> Stream:
        nonlocal count
        if not (isinstance(node, Filter) and node.name == DUCK):
            return node
        bed, voice = node.inputs
        options = dict(node.options)
        spans = heard(voice, int(options["samples"]), folder)
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
    for begin, end in spans:
        end = min(end, samples)
        gains[begin:end] = array("h", [round(32767 * low)]) * max(0, end - begin)
    ramp_down = [round(32767 * low ** (i / attack)) for i in range(attack)] if attack else []
    ramp_up = [round(32767 * low ** (1 - i / release)) for i in range(release)] if release else []
    for begin, end in spans:
        for i, gain in enumerate(reversed(ramp_down), 1):
            if 0 <= begin - i < samples:
                gains[begin - i] = min(gains[begin - i], gain)
        for i, gain in enumerate(ramp_up):
            if end + i < samples:
                gains[end + i] = min(gains[end + i], gain)
    return gains


def write_wav(path: Path, values: array[int]) -> None:
    """Mono 16-bit samples at 48 kHz as a RIFF file."""
    data = values.tobytes()
    layout = "<4sI4s4sIHHIIHH4sI"
    shape = (16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16)  # PCM, one channel, two bytes a sample
    head = struct.pack(layout, b"RIFF", 36 + len(data), b"WAVE", b"fmt ", *shape, b"data", len(data))
    path.write_bytes(head + data)


# ---------------------------------------------------------------- making


@dataclass(frozen=True, slots=True)
class Track:
    """What is asked of one encoded sound: the mix, its length in samples, and how it is encoded."""

    sound: Sound
    samples: int
    bit_rate: int = 192_000
    edit_lists: bool = True


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


@dataclass(frozen=True, slots=True)
class SoundReport:
    """The mix before levelling, the encoded file after it, and the gain applied, in dB."""

    before: Measured
    after: Measured
    gain: float = 0.0
    limited: bool = False


PRIMING = 1024
"""Samples that ffmpeg's AAC encoder puts in front, hidden by an edit list where one is allowed."""


SOUND, WAVES = "sound.m4a", "waves.png"


def make_sound(track: Track, *, folder: Path) -> SoundReport:
    """Mix, level and encode `track` to `sound.m4a` in `folder`, exactly as long as asked, and draw it.

    Where edit lists are forbidden, the first 21 ms of sound give way to the
    encoder's priming, so that what follows stays in sync without one.
    """
    target, loudness = folder / SOUND, track.sound.loudness
    with fresh_folder(folder) as work:
        exact = exactly(enveloped(track.sound.stream, work), track.samples)
        before = _measured(run_command(sound_command(_metered(exact), "mix.wav", acodec="pcm_f32le"), work))
        mix = Source(Path("mix.wav"), SoundFacts("pcm_f32le", "", SAMPLE_RATE, 2, "stereo", track.samples))
        gain = 0.0 if loudness is None or before.silent else loudness.target - before.loudness
        margin = LIMITER_MARGIN
        for attempt in range(PASSES):
            levelled, limited = _levelled(mix, track.samples, gain, margin, before, loudness)
            after = _encoded(levelled, track, target, work)
            correction = 0.0 if loudness is None or before.silent else loudness.target - after.loudness
            pumping = limited and correction > 0 and gain + correction > PUMPING + loudness_gap(loudness, before)
            over = 0.0 if loudness is None or before.silent else after.true_peak - loudness.true_peak
            fine = abs(correction) <= TOLERANCE or pumping or margin > LIMITER_MARGIN
            if (over <= 0 and fine) or attempt == PASSES - 1:
                break
            if over > 0:
                margin += over  # AAC raised the peaks by more than was left to it; more gain would raise them again
            else:
                gain += correction
    waveform(target, folder / WAVES)
    return SoundReport(before, after, gain, limited)


PASSES = 3
"""How often the level is corrected: measured sounds came within 0.1 LU in two."""

PUMPING = 3.0
"""dB of extra gain into the limiter: beyond it loudness is bought with distortion, so what is missing is reported."""


def loudness_gap(loudness: Loudness | None, before: Measured) -> float:
    """How much louder the mix would have to be, in dB."""
    return loudness.target - before.loudness if loudness else 0.0


def _levelled(
    mix: Stream, samples: int, gain: float, margin: float, before: Measured, loudness: Loudness | None
) -> tuple[Stream, bool]:
    if loudness is None or before.silent:
        return mix, False
    stream: Stream = filtered("volume", mix, volume=f"{gain:.3f}dB")
    if before.true_peak + gain <= loudness.true_peak - margin:
        return stream, False
    limit = 10 ** ((loudness.true_peak - margin) / 20)
    # At 192 kHz sample peaks are near true peaks; level=disabled, or it turns up what it turned down.
    stream = filtered("aresample", stream, sample_rate=192_000)
    stream = filtered("alimiter", stream, limit=f"{limit:.5f}", attack=5, release=80, level="disabled", latency=1)
    return exactly(filtered("aresample", stream, sample_rate=SAMPLE_RATE), samples), True


def _encoded(stream: Stream, track: Track, target: Path, folder: Path) -> Measured:
    """Encode once, and measure what was encoded."""
    options: dict[str, str | int] = {"acodec": "aac", "b:a": track.bit_rate, "ar": SAMPLE_RATE, "f": "mp4"}
    if not track.edit_lists:
        stream = filtered("atrim", stream, start_sample=PRIMING)
        stream = filtered("asetpts", stream, expr="PTS-STARTPTS")
        stream = filtered("afade", stream, type="in", nb_samples=240)
        options["use_editlist"] = 0
    run_command(sound_command(stream, str(target.resolve()), **options), folder)
    encoded = Source(target.resolve(), SoundFacts("aac", "LC", SAMPLE_RATE, 2, "stereo", track.samples))
    return _measured(run_command(sound_command(_metered(encoded), "-", f="null"), folder))


def measure(sound: Sound, folder: Path | None = None) -> Measured:
    """The loudness of a sound as it is described, intentions aside; `folder` is for what it takes meanwhile."""
    with fresh_folder(folder or Path(tempfile.gettempdir())) as work:
        stream = _metered(enveloped(sound.stream, work))
        return _measured(run_command(sound_command(stream, "-", f="null"), work))


def _metered(stream: Stream) -> Filter:
    return filtered("ebur128", stream, peak="true", framelog="verbose")


def _measured(said: str) -> Measured:
    _, found, summary = said.rpartition("Summary:")
    if not found:
        raise FfmpegError("ffmpeg measured no loudness", stderr=said)

    def value(label: str) -> float:
        match = re.search(rf"{label}:\s+(-?inf|nan|-?[\d.]+)", summary)
        number = float(match[1]) if match else float("-inf")
        return -99.0 if number != number or number < -99 else number

    return Measured(value("I"), value("Peak"), value("LRA"))
