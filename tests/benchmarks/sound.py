"""What work on the sound alone costs, against the same work with the picture encoded anew at x264's veryfast.

    python tests/benchmarks/sound.py

A 720p clip gets a narration, ducked and levelled; in one recipe its picture is copied, in the others it is encoded,
as it is or enlarged to 1080p. Twice: Big Buck Bunny, which is smooth, and the same with grain and 6 Mb/s. The goal
is seven times less than the same film at 720p with grain; the exit code says whether it is met. CPU is user and
system time of this process and all that it starts. `by hand` is the least that it could be: four calls of ffmpeg
that mix and measure, encode, measure what was encoded, and lay it beside the copied picture; nothing is checked.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

from stages import Clip, Encoding, level, mix_audio, open_clip, render, trim, upscale
from stages.clip import Frames
from stages.ffmpeg import run_ffmpeg

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOAL, ROUNDS = 7.0, 3


def cpu() -> float:
    """Seconds so far, of this process and its children."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def cost(clip: Clip, encoding: Encoding, target: Path) -> float:
    """CPU seconds of rendering it."""
    before = cpu()
    render(clip, target, encoding)
    return cpu() - before


def by_hand(film: Path, folder: Path) -> float:
    """CPU seconds of the calls that cannot be spared."""
    head = "aresample=48000,aformat=channel_layouts=stereo"
    bed, voice = f"[0:a]{head},volume=-3dB[bed]", f"[1:a]{head},adelay=800:all=1[voice]"
    mix = f"{bed};{voice};[bed][voice]amix=inputs=2:normalize=0:duration=first,ebur128=peak=true"
    narration = str(FIXTURES / "narration.wav")
    wav, encoded, made = (str(folder / name) for name in ("m.wav", "m.m4a", "m.mp4"))
    calls = [
        ["-i", str(film), "-i", narration, "-filter_complex", mix, "-vn", "-c:a", "pcm_f32le", wav],
        ["-i", wav, "-af", "volume=1.6dB", "-c:a", "aac", "-b:a", "192k", encoded],
        ["-i", encoded, "-af", "ebur128=peak=true", "-f", "null", "-"],
        ["-i", str(film), "-i", encoded, "-map", "0:v", "-map", "1:a", "-c", "copy", "-movflags", "+faststart", made],
    ]
    before = cpu()
    for call in calls:
        run_ffmpeg(call)
    return cpu() - before


def grainy(target: Path) -> Path:
    """The fixture with grain in it."""
    grain = ("-vf", "unsharp,noise=alls=10:allf=t", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-bf", "2")
    run_ffmpeg(["-i", str(FIXTURES / "bunny.mp4"), *grain, "-c:a", "copy", "-g", "48", str(target)])
    return target


def main() -> int:
    """Print each, and their ratios."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS}, CPU seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, file in (("smooth", FIXTURES / "bunny.mp4"), ("grain", grainy(folder / "grain.mp4"))):
            clip = open_clip(file)
            clip = level(mix_audio(clip, sound=open_clip(FIXTURES / "narration.wav"), at="0.8s", duck="10 dB"))
            ways = {
                "sound alone": clip,
                "720p": trim(clip, length=Frames(191)),  # a frame less: no copy has that end
                "1080p": upscale(clip, size="1080p"),
            }
            target = folder / "out.mp4"
            costs = {way: median(cost(one, Encoding(), target) for _ in range(ROUNDS)) for way, one in ways.items()}
            alone = costs.pop("sound alone")
            told = ", ".join(
                f"picture at {way} too {spent:.2f}: {spent / alone:.1f} times" for way, spent in costs.items()
            )
            least = median(by_hand(file, folder) for _ in range(ROUNDS))
            print(f"{what}: sound alone {alone:.2f} (by hand {least:.2f}); {told}", flush=True)
    return 0 if costs["720p"] / alone >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
