"""Makes tiny films with ffmpeg, and looks at films as a viewer would: decoded with PyAV, in numpy."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from unittest import mock

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from stages.clip import BT709, Clip, Colour, Picture, PictureFacts, Size, Sound, SoundFacts
from stages.media import clip_from, open_clip

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Rgb = tuple[float, float, float]

TAGS = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "0", "-bf", "0")

# Frame n is flat grey of luma 32 + 2n, so that a frame says which one it is.
COUNTED = "color=s=160x90:r={rate}:d={seconds},format=yuv420p,geq=lum=32+2*N:cb=128:cr=128," + TAGS


def shipped_ffmpeg() -> str:
    """The ffmpeg of imageio-ffmpeg, whichever one is tried: what a test begins with must not depend on that."""
    with mock.patch.dict(os.environ):
        os.environ.pop("IMAGEIO_FFMPEG_EXE", None)
        return str(imageio_ffmpeg.get_ffmpeg_exe())


def film(target: Path, *arguments: str) -> Path:
    """Run ffmpeg with `arguments` to make `target`."""
    argv = [shipped_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments, str(target)]
    subprocess.run(argv, check=True)
    return target


def counted(target: Path, *arguments: str, rate: str = "24", seconds: float = 2, filters: str = "") -> Path:
    """A film whose frames can be told apart by `number_of`; `arguments` go to the output."""
    source = COUNTED.format(rate=rate, seconds=seconds) + filters
    return film(target, "-f", "lavfi", "-i", source, *(arguments or LOSSLESS))


# ---------------------------------------------------------------- seeing


def planes(file: Path) -> list[tuple[Pixels, Pixels, Pixels]]:
    """Each frame's Y, U and V, as the decoder yields them. Only for 8-bit 4:2:0."""
    found: list[tuple[Pixels, Pixels, Pixels]] = []
    with av.open(str(file.absolute())) as container:
        for frame in container.decode(video=0):
            assert frame.format.name in ("yuv420p", "yuvj420p"), frame.format.name
            y, u, v = (
                np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
                for plane in frame.planes
            )
            found.append((y, u, v))
    return found


def luma(file: Path) -> list[Pixels]:
    """Each frame's luma."""
    return [y for y, _, _ in planes(file)]


def numbers(file: Path, step: int = 2) -> list[int]:
    """Which frame of a `counted` film each frame shows."""
    return [round((float(np.median(y)) - 32) / step) for y in luma(file)]


def times(file: Path) -> list[float]:
    """When each frame is shown, in seconds."""
    with av.open(str(file.absolute())) as container:
        return [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]


def colour(planes_: tuple[Pixels, Pixels, Pixels], left: float, top: float) -> Rgb:
    """RGB of the pixel at this share of width and height, read as BT.709 video, as a player would."""
    y, u, v = (float(plane[int(plane.shape[0] * top), int(plane.shape[1] * left)]) for plane in planes_)
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    return 255 * red, 255 * (y - 0.2126 * red - 0.0722 * blue) / 0.7152, 255 * blue


# ---------------------------------------------------------------- hearing


def samples(file: Path) -> Samples:
    """The decoded sound, channels by samples, each at the instant when a player plays it."""
    with av.open(str(file.absolute())) as container:
        stream = container.streams.audio[0]
        heard: list[Samples] = []
        for frame in container.decode(stream):
            block = frame.to_ndarray().astype(np.float32)
            if frame.format.is_packed:
                block = block.reshape(-1, frame.layout.nb_channels).T
            if frame.format.name.startswith("s16"):
                block /= 32768
            if not heard and frame.time:
                late = np.zeros((block.shape[0], round(frame.time * stream.rate)), np.float32)
                heard.append(late)
            heard.append(block)
    return np.concatenate(heard, axis=1)


def tone(sound: Samples, hertz: float, begin: float, end: float, rate: int = 48_000) -> float:
    """How loud a tone is from `begin` to `end` seconds, in dB, other tones aside."""
    part = sound[round(begin * rate) : round(end * rate)] * np.hanning(round(end * rate) - round(begin * rate))
    wave = np.exp(-2j * np.pi * hertz / rate * np.arange(len(part)))
    return float(20 * np.log10(4 * abs(np.dot(part, wave)) / len(part) + 1e-9))


def onsets(sound: Samples, rate: int = 48_000) -> list[float]:
    """When each click begins, in seconds."""
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 2)
    return [float(at) / rate for before, at in zip([-rate, *loud], loud, strict=False) if at - before > rate // 20]


# ---------------------------------------------------------------- looping


@dataclass(frozen=True, slots=True)
class Seam:
    """What happens where a looped film begins anew, and what usually happens from frame to frame and sample
    to sample in it: mean absolute luma difference, and the step of the wave, full scale 1."""

    jump: float
    usual_jump: float
    step: float
    usual_step: float


def seam(file: Path) -> Seam:
    """How a film looks and sounds where its end is followed by its beginning."""
    frames = [frame.astype(np.float32) for frame in luma(file)]
    jumps = [float(np.abs(one - other).mean()) for one, other in pairwise(frames)]
    heard = samples(file)[:, : sound_of(file).samples]  # AAC decodes to whole packets
    step = float(np.abs(heard[:, -1] - heard[:, 0]).max())
    usual_step = float(np.abs(np.diff(heard, axis=1)).max(axis=0).mean())
    return Seam(float(np.abs(frames[-1] - frames[0]).mean()), float(np.mean(jumps)), step, usual_step)


# ---------------------------------------------------------------- clips


def picture_of(clip: Clip | Path) -> Picture:
    """The picture that must be there."""
    picture = (clip if isinstance(clip, Clip) else open_clip(clip)).picture
    assert picture
    return picture


def sound_of(clip: Clip | Path) -> Sound:
    """The sound that must be there."""
    sound = (clip if isinstance(clip, Clip) else open_clip(clip)).sound
    assert sound
    return sound


def described(
    size: str = "160x90", seconds: int = 3, rate: str = "24", name: str = "/media/shot.mp4", colour: Colour = BT709
) -> Clip:
    """A clip that is only described: H.264 and stereo AAC in a file that no one reads."""
    frame, per_second = Size(*map(int, size.split("x"))), Fraction(rate)
    picture = PictureFacts(
        frame, frame, per_second, round(seconds * per_second), "h264", "High", colour=colour, keyframes=48
    )
    sound = SoundFacts("aac", "LC", 48_000, 2, "stereo", round(picture.frames / per_second * 48_000))
    return clip_from(Path(name), picture, sound)
