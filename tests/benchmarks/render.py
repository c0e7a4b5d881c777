"""What one encode costs: Afterframe, the best command written by hand, and one process a stage.

    python tests/benchmarks/render.py --rounds 3

The job is that of `presets/recipes/finish.yaml` for `web` at x264's `veryfast`,
sound included: 6 s of a 720p clip, a ducked narration, levelling, captions,
1080p. In each round every way is run once, the command by hand twice: how much
those two differ is the noise, and no smaller difference means anything. CPU is
user and system time of all processes; wall time means little on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median

from stages import caption, level, mix_audio, trim, upscale
from stages.clip import Clip, Size
from stages.delivery import Cut, Shot, cut, make_films
from stages.ffmpeg import Output, command, ffmpeg_binary, run_command
from stages.lettering import SHIPPED
from stages.media import open_clip
from stages.mixing import SOUND, make_sound
from stages.subtitles import styled

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CLIP, VOICE, SRT = FIXTURES / "bunny.mp4", FIXTURES / "narration.wav", FIXTURES / "narration.srt"
FRAMES, SECONDS = 144, 6
FOUR = ("web", "youtube", "instagram-reels", "youtube-shorts")

BETWEEN = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p")
DELIVERED = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-profile:v", "high", "-bf", "2", "-g", "48"),
    *("-pix_fmt", "yuv420p", "-movflags", "+faststart"),
)
AAC = ("-c:a", "aac", "-b:a", "160k", "-ar", "48000")
SCALE = "scale=1920:1080:flags=lanczos+accurate_rnd+full_chroma_int,setsar=1"
TAGS = "format=yuv420p,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
CUT = f"trim=end_frame={FRAMES},setpts=PTS-STARTPTS"
CUT_SOUND = f"aresample=48000,atrim=end={SECONDS},asetpts=PTS-STARTPTS"
LAID = "aresample=48000,pan=stereo|c0=c0|c1=c0,adelay=800:all=1,apad=whole_dur=6,atrim=end=6"
DUCKED = "volume='if(between(t,0.65,5.6),0.316,1)':eval=frame"
MIXED = "amix=inputs=2:normalize=0:duration=first"


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float


def cost(work: Callable[[Path], None]) -> Cost:
    """What `work` takes in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = _cpu(), time.perf_counter()
        work(Path(folder))
        return Cost(time.perf_counter() - began, _cpu() - before)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def interleaved(ways: Mapping[str, Callable[[Path], None]], rounds: int) -> dict[str, list[Cost]]:
    """Each way once a round, each round starting with another, so that a busy minute hits all alike."""
    names, costs = list(ways), {name: list[Cost]() for name in ways}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            costs[name].append(cost(ways[name]))
            print(f"    round {number + 1}: {name}: {costs[name][-1].wall:.2f} s, CPU {costs[name][-1].cpu:.2f} s")
    return costs


# ---------------------------------------------------------------- Afterframe


def described() -> Clip:
    """The recipe, in Python."""
    clip = mix_audio(trim(open_clip(CLIP), length="6s"), sound=open_clip(VOICE), at="0.8s", duck="10 dB")
    return upscale(caption(level(clip, loudness=-14.0), file=SRT), size="1080p")


def quick(made: Cut) -> Cut:
    return replace(made, encoding=replace(made.encoding, preset="veryfast"))


def afterframe(folder: Path) -> None:
    """As a run does it, up to signing: sound, film, checks, and the strip of frames for the report."""
    made = quick(cut(described(), "web"))
    assert made.track
    make_sound(made.track, folder=folder)
    make_films([Shot(made, folder / SOUND, folder)])
    looked_at(folder / "film.mp4")


def afterframe_bare(folder: Path) -> None:
    """The same commands without the checks and the strip of frames."""
    made = quick(cut(described(), "web"))
    assert made.track
    make_sound(made.track, folder=folder)
    run_command(command([Output(made.picture, made.encoding, folder / SOUND)]), folder)
    looked_at(folder / "out.mp4")


def four(folder: Path, at_once: int) -> None:
    """The pictures of four deliveries, `at_once` a process."""
    outputs = [Output(made.picture, made.encoding, None, f"{made.preset}.mp4") for made in CUTS]
    for first in range(0, len(outputs), at_once):
        run_command(command(outputs[first : first + at_once]), folder)


# ---------------------------------------------------------------- by hand


def ffmpeg(folder: Path, *arguments: str | Path) -> None:
    argv = [ffmpeg_binary(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(argv, cwd=folder, check=True)


def drawn(folder: Path, size: Size) -> str:
    """The captions as a filter; what it reads is written into the folder."""
    picture = described().picture
    assert picture
    assert picture.captions
    (folder / "captions.ass").write_text(styled(picture.captions.cues, size), encoding="utf-8")
    (folder / "fonts").symlink_to(SHIPPED.parent, target_is_directory=True)
    return "ass=captions.ass:fontsdir=fonts"


def by_hand(folder: Path) -> None:
    """One command by someone who has measured already: when the voice speaks, how loud the mix is."""
    graph = (
        f"[0:v]{CUT},{SCALE},{drawn(folder, Size(1920, 1080))},{TAGS}[v];"
        f"[0:a]{CUT_SOUND},{DUCKED}[bed];[1:a]{LAID}[voice];[bed][voice]{MIXED},volume=0.9dB[a]"
    )
    ffmpeg(folder, "-i", CLIP, "-i", VOICE, "-filter_complex", graph, "-map", "[v]", "-map", "[a]",
           *DELIVERED, *AAC, "out.mp4")  # fmt: skip
    looked_at(folder / "out.mp4")


def staged(folder: Path) -> None:
    """One process a stage, x264 veryfast crf 18 between; stages of the sound copy the picture."""
    ffmpeg(folder, "-i", CLIP, "-vf", CUT, "-af", CUT_SOUND, *BETWEEN, *AAC, "trimmed.mp4")
    graph = f"[0:a]{DUCKED}[bed];[1:a]{LAID}[voice];[bed][voice]{MIXED}[a]"
    ffmpeg(folder, "-i", "trimmed.mp4", "-i", VOICE, "-filter_complex", graph, "-map", "0:v", "-map", "[a]",
           "-c:v", "copy", *AAC, "mixed.mp4")  # fmt: skip
    ffmpeg(folder, "-i", "mixed.mp4", "-vn", "-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-")
    ffmpeg(folder, "-i", "mixed.mp4", "-af", "volume=0.9dB", "-c:v", "copy", *AAC, "levelled.mp4")
    captions = drawn(folder, Size(1280, 720))
    ffmpeg(folder, "-i", "levelled.mp4", "-vf", captions, *BETWEEN, "-c:a", "copy", "captioned.mp4")
    ffmpeg(folder, "-i", "captioned.mp4", "-vf", SCALE, *BETWEEN, "-c:a", "copy", "upscaled.mp4")
    ffmpeg(folder, "-i", "upscaled.mp4", "-vf", TAGS, *DELIVERED, "-c:a", "copy", "out.mp4")
    looked_at(folder / "out.mp4")


def looked_at(file: Path) -> None:
    """Each way must have made the same film: else it is no comparison."""
    clip = open_clip(file)
    assert clip.picture
    assert clip.sound
    found = (clip.picture.frames, str(clip.picture.size), clip.picture.rate)
    assert found == (FRAMES, "1920x1080", Fraction(24)), found
    assert abs(clip.sound.duration - SECONDS) < Fraction(1, 40)


# ---------------------------------------------------------------- telling

ONE = {
    "by hand": by_hand,
    "by hand again": by_hand,
    "Afterframe": afterframe,
    "Afterframe without checks and strip": afterframe_bare,
    "one process a stage": staged,
}
CUTS = [quick(cut(described(), preset)) for preset in FOUR]
MANY: dict[str, Callable[[Path], None]] = {
    "four processes": lambda folder: four(folder, 1),
    "four processes again": lambda folder: four(folder, 1),
    "one process": lambda folder: four(folder, 4),
}


def table(costs: Mapping[str, list[Cost]]) -> str:
    """Medians, and ratios to the first way, round by round."""
    base = next(iter(costs.values()))
    lines = [f"{'':38}{'wall s':>8}{'CPU s':>8}{'wall':>7}{'CPU':>7}  (ratios to the first: median of the rounds)"]
    for name, mine in costs.items():
        wall = median(one.wall / first.wall for one, first in zip(mine, base, strict=True))
        cpu = median(one.cpu / first.cpu for one, first in zip(mine, base, strict=True))
        own = f"{median(one.wall for one in mine):8.2f}{median(one.cpu for one in mine):8.2f}"
        lines.append(f"{name:38}{own}{wall:7.2f}{cpu:7.2f}")
    return "\n".join(lines)


def main() -> None:
    """Run all ways, interleaved, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    one, many = interleaved(ONE, rounds), interleaved(MANY, rounds)
    print(f"\none delivery, veryfast, n={rounds}\n{table(one)}")
    print(f"\nthe pictures of four deliveries, veryfast, n={rounds}\n{table(many)}")
    pairs = list(zip(one["one process a stage"], one["Afterframe"], strict=True))
    cpu, wall = (median(getattr(s, what) / getattr(a, what) for s, a in pairs) for what in ("cpu", "wall"))
    print(f"\none process a stage takes {cpu:.2f} times Afterframe's CPU, and {wall:.2f} times its wall time (goal 3)")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
