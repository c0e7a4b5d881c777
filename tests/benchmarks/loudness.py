"""How near to its target each sound comes: ours against ffmpeg-normalize, both measured on the AAC that was made.

    pip install ffmpeg-normalize
    python tests/benchmarks/loudness.py [LUFS ...]

Both get the same stereo files (the two say different things of how loud a mono
one is), the same ffmpeg, AAC at 192 kb/s and a ceiling of -1 dBTP. The error is
in LU, time in seconds of wall clock. What has peaks over the ceiling has missed:
theirs is then made again with the ceiling lowered until the peaks are under ours
(`held`), and that is what ours is held against. Of what is too faint to be raised
there is nothing to reach: the change is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from stages import level, measure, open_clip, speak
from stages.clip import Sound
from stages.ffmpeg import ffmpeg_binary, run_ffmpeg
from stages.mixing import SILENT, Measured, Track, make_sound

ROOT = Path(__file__).parents[2]
CEILING = -1.0

SYNTHETIC = {
    "foley hits": "0.9*exp(-60*mod(t,1.1))*sin(2*PI*180*t)+0.4*exp(-200*mod(t,1.1))*(random(0)*2-1):d=8",
    "sharp hits": "0.9*lt(mod(t,0.5),0.003)*sin(2*PI*2000*t)+0.005*(random(0)*2-1):d=6",
    "chords": "0.1*(sin(2*PI*220*t)+sin(2*PI*277.2*t)+sin(2*PI*329.6*t))*(0.6+0.4*sin(2*PI*0.5*t)):d=12",
    "loud, clipped": "clip(2*sin(2*PI*110*t)+1.5*sin(2*PI*331*t),-1,1):d=8",
    "bass": "0.5*sin(2*PI*45*t):d=6",
    "quiet, then loud": "(0.003+0.25*gt(t,7))*sin(2*PI*440*t)+0.002*(random(0)*2-1):d=12",
    "wind": "0.05*(random(0)*2-1)*(1+0.6*sin(2*PI*0.2*t)):d=10",
    "near silent": "0.0006*(random(0)*2-1):d=6",
    "0.3 s": "0.3*sin(2*PI*600*t):d=0.3",
    "silence": "0:d=4",
}
"""What ffmpeg's aevalsrc makes."""

LINES = (
    "The old lighthouse keeper climbed the stairs each evening.",
    "Far below, the waves broke on the rocks, and nobody came.",
    "Then, one night, there was a knock at the door.",
)


def spoken(voice: str, folder: Path) -> Path:
    """Three lines, with pauses between them."""
    files = []
    for number, line in enumerate(LINES):
        room = folder / f"{voice}{number}"
        room.mkdir()
        files.append(speak(line, voice=voice, folder=room).file)
    inputs = [part for file in files for part in ("-i", str(file))]
    graph = (
        "".join(f"[{n}]aresample=48000,apad=pad_dur=0.8[a{n}];" for n in range(3))
        + "[a0][a1][a2]concat=n=3:v=0:a=1,pan=stereo|c0=c0|c1=c0"
    )
    run_ffmpeg([*inputs, "-filter_complex", graph, str(folder / f"{voice}.wav")])
    return folder / f"{voice}.wav"


def sounds(folder: Path) -> dict[str, Path]:
    """Real and synthetic ones, by name."""
    found = {f"speech, {voice}": spoken(voice, folder) for voice in ("heart", "espeak")}
    cuts = {"speech, 1.6 s": (found["speech, heart"], "1.6"), "film, real": (ROOT / "fixtures" / "bunny.mp4", "10")}
    for name, (file, length) in cuts.items():
        found[name] = folder / f"cut{len(found)}.wav"
        run_ffmpeg(["-i", str(file), "-vn", "-t", length, "-ar", "48000", str(found[name])])
    found["speech over wind"] = folder / "over.wav"
    wind = ("-f", "lavfi", "-i", "anoisesrc=color=pink:seed=1:a=0.05:r=48000:d=9")
    graph = "[0][1]amix=inputs=2:normalize=0:duration=first"
    run_ffmpeg(["-i", str(found["speech, heart"]), *wind, "-filter_complex", graph, str(found["speech over wind"])])
    for name, expression in SYNTHETIC.items():
        found[name] = folder / f"made{len(found)}.wav"
        formula, _, length = expression.rpartition(":")
        source = f"aevalsrc='{formula}|{formula}':s=48000:{length}"
        run_ffmpeg(["-f", "lavfi", "-i", source, str(found[name])])
    return found


@dataclass(frozen=True, slots=True)
class Run:
    """What was reached, and in how many seconds; nothing if it failed."""

    found: Measured | None
    seconds: float
    said: str = ""


def measured(file: Path) -> Measured:
    """With ffmpeg's ebur128, which pyloudnorm agreed with within 0.1 LU (facts: audio 3)."""
    return measure(sound_of(file))


def sound_of(file: Path) -> Sound:
    """The sound in it."""
    sound = open_clip(file).sound
    assert sound
    return sound


def ours(file: Path, target: float, folder: Path) -> Run:
    """By `make_sound`, waveform drawing and all."""
    folder.mkdir()
    begun = time.monotonic()
    sound = level(open_clip(file), loudness=target, true_peak=CEILING).sound
    assert sound
    report = make_sound(Track(sound, sound.samples), folder=folder)
    taken = time.monotonic() - begun
    return Run(measured(folder / report.file), taken, "limited" if report.limited else "")


def theirs(file: Path, target: float, folder: Path, ceiling: float = CEILING) -> Run:
    """By the command line, as its readme has it, with peaks under `ceiling`."""
    folder.mkdir(parents=True)
    program = shutil.which("ffmpeg-normalize", path=str(Path(sys.executable).parent)) or "ffmpeg-normalize"
    said = ["-nt", "ebu", "-t", str(target), "-tp", f"{ceiling:.2f}"]
    said += ["-c:a", "aac", "-b:a", "192k", "-ar", "48000", "-f"]
    begun = time.monotonic()
    environment = {**os.environ, "FFMPEG_PATH": ffmpeg_binary()}
    argv = [program, str(file), *said, "-o", str(folder / "out.m4a")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    taken = time.monotonic() - begun
    if done.returncode or not (folder / "out.m4a").exists():
        return Run(None, taken, "failed")
    return Run(measured(folder / "out.m4a"), taken, "dynamic" if "dynamic" in done.stderr.lower() else "")


def held(file: Path, target: float, folder: Path, first: Run) -> Run:
    """Theirs, with peaks that are under our ceiling after AAC: told a lower one until they are."""
    made, ceiling = first, CEILING
    for number in range(LOWERED):
        if made.found is None or made.found.true_peak <= CEILING:
            break
        ceiling -= made.found.true_peak - CEILING + 0.05
        made = theirs(file, target, folder / str(number), ceiling)
    return made


LOWERED = 6
"""How often the ceiling is lowered."""


def row(name: str, target: float, before: Measured, mine: Run, other: Run, under: Run) -> tuple[str, bool]:
    """One line of the table, and whether ours is at least as near as theirs under the ceiling."""

    def told(run: Run) -> str:
        if run.found is None:
            return f"{'failed':>6} {'':>6} {run.seconds:5.1f}"
        error = run.found.loudness - (before.loudness if before.faint else target)
        return f"{error:+6.1f} {max(run.found.true_peak, -99):6.1f} {run.seconds:5.1f}"

    def off(run: Run) -> float:
        if run.found is None or (not before.faint and run.found.true_peak > CEILING):
            return 99.0
        if before.faint:  # it was not to be changed
            return abs(max(run.found.loudness, SILENT) - max(before.loudness, SILENT))
        return abs(run.found.loudness - target)

    fine = off(mine) <= min(off(under), 98.0) + 1e-9
    over = "over the ceiling" if other.found and not before.faint and other.found.true_peak > CEILING else ""
    marks = ", ".join(filter(None, (mine.said, *(f"theirs {said}" for said in (other.said, over) if said))))
    known = f"{name:<18} {target:5g} {before.loudness:6.1f} {before.true_peak:6.1f}"
    line = f"{known} | {told(mine)} | {told(other)} | {told(under) if under is not other else '':20} | {marks}"
    return line + ("" if fine else "  <-- WORSE"), fine


def main(targets: list[float]) -> int:
    """Print the table; the exit code says whether ours is at least as near in every row."""
    all_fine = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = " | ".join(f"{who:>6} {'dBTP':>6} {'s':>5}" for who in ("ours", "theirs", "held"))
        print(f"{'':<18} {'to':>5} {'LUFS':>6} {'dBTP':>6} | {columns} |")
        for number, (what, file) in enumerate(sounds(folder).items()):
            before = measured(file)
            for target in targets:
                room = folder / f"{number}{target:g}"
                room.mkdir()
                mine, other = ours(file, target, room / "ours"), theirs(file, target, room / "theirs")
                under = other if before.faint else held(file, target, room / "held", other)
                line, fine = row(what, target, before, mine, other, under)
                all_fine &= fine
                print(line, flush=True)
    return 0 if all_fine else 1


if __name__ == "__main__":
    sys.exit(main([float(given) for given in sys.argv[1:]] or [-14.0, -23.0]))
