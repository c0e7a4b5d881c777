"""Servers that stand for the providers, and the camera they share.

People build and demo against them without paying. What they film looks and
sounds like a clip, has exactly the size and length that were asked, and says
SIMULATED in a corner of the picture. So does what they make of films.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from stages.clip import SAMPLE_RATE, Size, samples_for
from stages.ffmpeg import run_ffmpeg
from stages.files import fresh_folder
from stages.simulators.painting import landscape

RATE = Fraction(24)
"""Frames a second."""

FONT = Path(__file__).parent.parent / "fonts" / "Inter-SemiBold.otf"

Progress = Callable[[float], None]


def film(
    target: Path,
    *,
    prompt: str,
    size: Size,
    seconds: int,
    reference: Path | None = None,
    on_progress: Progress = lambda _: None,
) -> None:
    """Film `reference`, which becomes the first frame, or else a landscape, and write an MP4 to `target`.

    The camera does what the prompt says: `pan left`, `tilt up`, `orbit`; else a slow dolly in.
    Raises FfmpegError.
    """
    frames = int(seconds * RATE)
    graph = f"[0:v]{camera(prompt, size, frames)},{stamp(size)}[picture];{ambience(prompt, frames)}[sound]"
    with fresh_folder(target.parent) as folder:
        scene = ["-i", str(reference.resolve())] if reference else landscape(folder / "scene", size, prompt)
        _shoot(target, scene, graph, frames, on_progress)


# ---------------------------------------------------------------- what is done to films


def remix(
    target: Path, footage: Path, *, prompt: str, size: Size, frames: int, on_progress: Progress = lambda _: None
) -> None:
    """Film the first frame of `footage` in another light, as the prompt says or as it falls. Raises FfmpegError."""
    shot = f"trim=end_frame=1,setpts=0,{light(prompt)},{camera(prompt, size, frames)},{stamp(size)}"
    graph = f"[0:v]{shot}[picture];{ambience(prompt, frames)}[sound]"
    _shoot(target, ["-i", str(footage.resolve())], graph, frames, on_progress)


def extend(
    target: Path,
    footage: Path,
    *,
    prompt: str,
    size: Size,
    frames: int,
    new: int,
    heard: bool,
    on_progress: Progress = lambda _: None,
) -> None:
    """`footage`, then `new` frames of its last one with the camera moving on: `frames` in all. Its sound, if it is
    `heard`, goes before the new one. Raises FfmpegError."""
    old, end = frames - new, str(footage.resolve())
    before = f"aresample={SAMPLE_RATE},aformat=channel_layouts=stereo,apad" if heard else "anull"
    sound = f"[0:a]{before}" if heard else f"anullsrc=r={SAMPLE_RATE}:cl=stereo"
    graph = ";".join(
        (
            f"[0:v]fps={RATE},{fitted(size)},trim=end_frame={old},tpad=stop=-1:stop_mode=clone,trim=end_frame={old}[old]",
            # of what a second brings only the last is shown: no film is decoded whole to find its end
            f"[1:v]reverse,trim=end_frame=1,setpts=0,{camera(prompt, size, new)},{stamp(size)}[new]",
            "[old][new]concat=n=2:v=1:a=0[picture]",
            f"{sound},atrim=end_sample={samples_for(old, RATE)},asetpts=PTS-STARTPTS[was]",
            f"{ambience(prompt, new)}[is]",
            "[was][is]concat=n=2:v=0:a=1[sound]",
        )
    )
    _shoot(target, ["-i", end, "-sseof", "-1", "-i", end], graph, frames, on_progress)


def upscale(
    target: Path, footage: Path, *, size: Size, frames: int, heard: bool, on_progress: Progress = lambda _: None
) -> None:
    """`footage` at `size`, a little sharper, with its sound if it is `heard`. Raises FfmpegError."""
    sound = "[0:a]anull" if heard else f"anullsrc=r={SAMPLE_RATE}:cl=stereo"
    cut = f"apad,atrim=end_sample={samples_for(frames, RATE)}"
    shot = (
        f"fps={RATE},{fitted(size)},unsharp=5:5:0.4,tpad=stop=-1:stop_mode=clone,trim=end_frame={frames},{stamp(size)}"
    )
    graph = f"[0:v]{shot}[picture];{sound},aresample={SAMPLE_RATE},aformat=channel_layouts=stereo,{cut}[sound]"
    _shoot(target, ["-i", str(footage.resolve())], graph, frames, on_progress)


LIGHTS = {
    r"night|moon|dark|midnight": "colorlevels=romax=0.45:gomax=0.5:bomax=0.75",
    r"sunset|golden|warm|autumn|fire": "colorlevels=rimax=0.85:bomax=0.6",
    r"snow|winter|cold|frost|ice": "hue=s=0.35,colorlevels=rimax=0.9:gimax=0.88:bimax=0.8",
    r"black.and.white|monochrome|noir": "hue=s=0",
}
"""Filters for a mood, by the words for it."""


def light(prompt: str) -> str:
    """A filter that puts a film in the light that the prompt speaks of, or in some other."""
    spoken = (look for words, look in LIGHTS.items() if re.search(words, prompt.lower()))
    return next(spoken, f"hue=h={random.Random(prompt).choice((-110, -70, 70, 110, 160))}")


def fitted(size: Size) -> str:
    """Filters that bring any film to `size`."""
    return f"scale={size.width}:{size.height}:flags=lanczos:out_color_matrix=bt709:out_range=tv,format=yuv420p,setsar=1"


def _shoot(target: Path, source: list[str], graph: str, frames: int, on_progress: Progress) -> None:
    colour = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
    encoder = f"-c:v libx264 -preset superfast -crf 19 -g 48 {colour} -c:a aac -b:a 160k"
    run_ffmpeg(
        [
            *source,
            *("-filter_complex", graph, "-map", "[picture]", "-map", "[sound]", "-frames:v", str(frames)),
            *encoder.split(),
            *("-movflags", "+faststart", "-f", "mp4", str(target.resolve())),
        ],
        folder=FONT.parent,  # so that the font's name needs no escaping
        on_progress=lambda frame: on_progress(min(frame / frames, 1.0)),
    )


# ---------------------------------------------------------------- the camera

MOVES = {
    r"(pan|truck|track)\w*( to the)? left": (0.00, 0.06, 0.88, 0.94),
    r"(pan|truck|track)\w*( to the)? right": (0.12, 0.06, 1.00, 0.94),
    r"(tilt|crane|pedestal)\w* up": (0.06, 0.00, 0.94, 0.88),
    r"(tilt|crane|pedestal)\w* down": (0.06, 0.12, 0.94, 1.00),
    "": (0.07, 0.065, 0.93, 0.925),
}
"""What the last frame shows of the first: left, top, right, bottom, as parts of width and height."""


def camera(prompt: str, size: Size, frames: int) -> str:
    """Filters that hold one picture for `frames` frames while a slow, eased move crosses it.

    `perspective` samples between pixels (to 1/256); `zoompan` and `crop` move
    by whole ones, which judders at this pace. The move starts on the whole
    picture, so the reference is the first frame.
    """
    left, top, right, bottom = next(window for words, window in MOVES.items() if re.search(words, prompt.lower()))
    twist = 0.02 if re.search(r"orbit|arc|circl", prompt.lower()) else 0.0
    ease = f"st(0,on/{frames});st(0,ld(0)*ld(0)*(3-2*ld(0)));"
    corners = ((left, top - twist), (right, top + twist), (left, bottom + twist), (right, bottom - twist))
    options = ":".join(
        f"x{n}='{ease}W*{n % 2}+W*ld(0)*{x - n % 2:.4f}':y{n}='{ease}H*{n // 2}+H*ld(0)*{y - n // 2:.4f}'"
        for n, (x, y) in enumerate(corners)
    )
    return (
        f"{fitted(size)},loop=loop=-1:size=1,setpts=N/{RATE}/TB,fps={RATE},"
        f"perspective={options}:sense=source:eval=frame:interpolation=linear"
    )


def stamp(size: Size) -> str:
    """A filter that writes SIMULATED small into the bottom left corner."""
    height = min(size.width, size.height)
    place = f"x={height // 24}:y=h-th-{height // 24}:fontsize={height // 30}"
    look = "fontcolor=white@0.6:shadowcolor=black@0.4:shadowx=1:shadowy=1"
    return f"drawtext=fontfile={FONT.name}:text=SIMULATED:{place}:{look}"


# ---------------------------------------------------------------- its sound


def ambience(prompt: str, frames: int) -> str:
    """A chain that makes wind which swells slowly, and now and then a bird: stereo, about -24 LUFS."""
    dice = random.Random(prompt)
    wind = "anoisesrc=color=brown:amplitude=1:sample_rate={rate}:seed={seed},highpass=f=90,lowpass=f=700"
    leaves = "anoisesrc=color=pink:amplitude=1:sample_rate={rate}:seed={seed},highpass=f=1500,lowpass=f=6000"
    swell = "volume='0.62+0.25*sin(2*PI*t/5.3+{phase})+0.13*sin(2*PI*t/2.1+{phase})':eval=frame"
    chains, names = [], []
    for side in ("left", "right"):
        for name, noise, gain in (("wind", wind, 0.9), ("leaves", leaves, 0.05)):
            chain = noise.format(rate=SAMPLE_RATE, seed=dice.randrange(1 << 30))
            move = swell.format(phase=f"{dice.uniform(0, 1.2):.2f}")
            chains.append(f"{chain},{move},volume={gain}[{name}_{side}]")
            names.append(f"[{name}_{side}]")
    birds = "|".join(_birds(random.Random(prompt), gain) for gain in ((0.05, 0.02), (0.025, 0.045)))
    return ";".join(
        [
            *chains,
            f"{names[0]}{names[1]}amix=normalize=0[left]",
            f"{names[2]}{names[3]}amix=normalize=0[right]",
            "[left][right]join=channel_layout=stereo[air]",
            f"aevalsrc='{birds}':c=stereo:s={SAMPLE_RATE},aecho=0.8:0.5:60|110:0.25|0.15[birds]",
            f"[air][birds]amix=normalize=0,atrim=end_sample={samples_for(frames, RATE)},volume=-4.9dB,"
            f"afade=t=in:d=0.25,afade=t=out:st={float(frames / RATE) - 0.4:.2f}:d=0.4",
        ]
    )


def _birds(dice: random.Random, gains: tuple[float, float]) -> str:
    """Two birds: short falling and rising whistles in groups, each in its own rhythm."""
    calls = []
    for gain, pitch, bend, every in zip(gains, (3100, 4300), (900, -1300), (3.7, 5.1), strict=True):
        start = dice.uniform(0.4, 1.6)
        for note in range(3):
            at = f"mod(t-{start + note * dice.uniform(0.16, 0.2):.3f}+{every},{every})"
            whistle = f"sin(2*PI*({pitch}*{at}+{bend * 4}*{at}*{at}))*pow(sin(PI*{at}/0.11),2)"
            calls.append(f"{gain}*lt({at},0.11)*{whistle}")
    return "+".join(calls)
