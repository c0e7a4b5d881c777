"""Flash and click through every stage, container and rate: how far apart they end up, in milliseconds.

    python tests/torture/sync.py [--quick]

A white frame and a click at the same instant, once a second. What is told is the worst of each stage: how far a
click is from its flash, and how much that changes from the first to the last (the drift). Beyond a millisecond of
either the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import LOSSLESS, TAGS, film, luma, onsets, samples, times

from stages import Clip, Encoding, concat, level, mix_audio, music, open_clip, render, speed, trim, upscale
from stages.clip import SAMPLE_RATE

RATES = ("24000/1001", "24", "25", "30000/1001", "30", "50", "60")

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-bf", "2")
CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "mp4": (*X264, "-c:a", "aac", "-b:a", "192k"),
    "mov": (*LOSSLESS, "-c:a", "pcm_s16le"),
    "mkv": (*X264, "-c:a", "aac", "-b:a", "192k"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-b:v", "1M", "-c:a", "libopus", "-b:a", "160k"),
    "ts": (*X264, "-c:a", "aac", "-b:a", "192k"),
}


def flashing(target: Path, rate: Fraction, seconds: int, *coded: str) -> Path:
    """A film of so many seconds: frame number `rate / 2`, and one each whole second after it, is white and clicks."""
    every, first = round(rate), round(rate / 2)
    white = f"if(eq(mod(N,{every}),{first}),235,16)"
    period, start = every / rate, first / rate
    click = f"0.8*sin(2*PI*2000*t)*lt(mod(t-{float(start):.9f}+{float(period):.9f},{float(period):.9f}),0.005)"
    length = f"{float(seconds * every / rate):.6f}"
    picture = f"color=s=160x90:r={rate}:d={length},format=yuv420p,geq=lum='{white}':cb=128:cr=128,{TAGS}"
    sound = f"aevalsrc='{click}|{click}':s=48000:d={length}"
    return film(target, "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *coded)


def _tick(clip: Clip) -> Clip:
    return trim(replace(clip, picture=None), length="0.05s")


STAGES: Mapping[str, Callable[[Clip], Clip]] = {
    "copied": lambda clip: clip,
    "cut": lambda clip: trim(clip, start="7f"),
    "scaled, levelled": lambda clip: level(upscale(clip, size="2x"), loudness=-20),
    "mixed, ducked": lambda clip: mix_audio(clip, sound=_tick(clip), duck="3 dB"),
    "under music": lambda clip: music(clip, sound=_tick(clip), gain=-30, duck=0, fade_out=0),
    "slower": lambda clip: speed(clip, factor="0.5x"),
    "joined 30 times": lambda clip: concat((trim(clip, length="1s"),) * 30),
}


LIMIT = 1.0
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class Found:
    """How far clicks are from their flashes, in milliseconds, and how much that changes."""

    apart: float
    drift: float
    pairs: int


def found(file: Path) -> Found:
    """Raises ValueError where flashes and clicks do not pair up."""
    bright = [at for at, frame in zip(times(file), luma(file), strict=True) if frame.mean() > 150]
    flashed = [at for before, at in pairwise([-9.0, *bright]) if at - before > 0.3]
    clicked = onsets(samples(file)[0])
    if len(flashed) != len(clicked) or len(flashed) < 2:
        raise ValueError(f"{len(flashed)} flashes and {len(clicked)} clicks")
    apart = [1000 * (click - flash) for flash, click in zip(flashed, clicked, strict=True)]
    return Found(max(apart, key=abs), max(apart) - min(apart), len(apart))


def cases(quick: bool) -> Iterator[tuple[str, str, str, bool]]:
    """Rate, container, stage, and whether edit lists are allowed."""
    for number, rate in enumerate(RATES):
        for other, container in enumerate(CONTAINERS):
            for third, stage in enumerate(STAGES):
                for lists in (True, False):
                    if not quick or (number + other + third) % 7 == int(lists):
                        yield rate, container, stage, lists


def main(quick: bool) -> int:
    """Run, and print the worst of each stage."""
    worst: dict[str, tuple[Found, str]] = {}
    failed: list[str] = []
    count = 0
    with tempfile.TemporaryDirectory() as name:
        folder, clips = Path(name), dict[tuple[str, str], Clip]()
        for rate, container, stage, lists in cases(quick):
            if (rate, container) not in clips:
                file = folder / f"{rate.replace('/', '-')}.{container}"
                clips[rate, container] = open_clip(flashing(file, Fraction(rate), 4, *CONTAINERS[container]))
            where = f"{rate} {container}, {'with' if lists else 'without'} edit lists"
            made, count = folder / "made.mp4", count + 1
            try:
                clip = STAGES[stage](clips[rate, container])
                render(clip, made, Encoding(preset="ultrafast", edit_lists=lists))
                one = found(made)
                print(f"{count}: {stage}, {where}: {one.apart:+.3f} ms apart, {one.drift:.3f} ms of drift", flush=True)
                if max(abs(one.apart), one.drift) > LIMIT:
                    failed.append(f"{stage}, {where}: {one.apart:.2f} ms apart, {one.drift:.2f} ms of drift")
            except Exception as error:  # each case counts
                failed.append(f"{stage}, {where}: {type(error).__name__}: {error}")
                continue
            if stage not in worst or max(abs(one.apart), one.drift) > max(
                abs(worst[stage][0].apart), worst[stage][0].drift
            ):
                worst[stage] = (one, where)
    print(f"{count} films; one sample is {1000 / SAMPLE_RATE:.3f} ms")
    for stage, (one, where) in worst.items():
        print(f"{stage:<18} {one.apart:+6.3f} ms apart, {one.drift:.3f} ms of drift in {one.pairs} flashes: {where}")
    print(*failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a seventh of them")
    sys.exit(main(parser.parse_args().quick))
