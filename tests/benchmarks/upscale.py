"""How good and how dear each engine is, on a film of which the truth is known.

    nice -n 15 python tests/benchmarks/upscale.py film.mp4 --frames 24 --factor 2x [--model net.onnx] [--look out.png]

The film's own frames are the truth; made small by a bicubic kernel, and damaged by x264 if `--crf` says so, they are
what each engine enlarges. `small` to `flicker` compare the outcome with what it was made from, and need no truth;
`pooled` to `NEG` with the truth (stages/fidelity.py). CPU is user and system time of all processes for a frame, its
lossless encoding included; memory is that of the largest process. Each engine has processes of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from stages import Encoding, open_clip, render, upscale
from stages.clip import Picture, Size
from stages.engines import FILTERS, engine_names
from stages.errors import InputError
from stages.ffmpeg import run_ffmpeg
from stages.fidelity import consistency, likeness
from stages.geometry import times

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)
TAGS = "format=yuv420p,setsar=1,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
LOSSLESS = ("-an", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")
SHOWN = Size(320, 240)
"""Of each engine's first frame, from its middle, in the picture to look at."""


def prepared(film: Path, frames: int, factor: Fraction, crf: int, folder: Path) -> None:
    """`truth.mp4` and `small.mp4`."""
    frame = _picture(film).size
    small = Size(int(frame.width / factor) // 16 * 16, int(frame.height / factor) // 16 * 16)
    large = times(small, factor)
    cut = ["-i", str(film), "-frames:v", str(frames), "-vf", f"crop={large.width}:{large.height},{TAGS}"]
    run_ffmpeg([*cut, *LOSSLESS, str(folder / "truth.mp4")])
    kept = ("-an", "-c:v", "libx264", "-crf", str(crf)) if crf else LOSSLESS
    resample = f"scale={small.width}:{small.height}:flags=bicubic+accurate_rnd+full_chroma_int,{TAGS}"
    run_ffmpeg(["-i", str(folder / "truth.mp4"), "-vf", resample, *kept, str(folder / "small.mp4")])


def tried(name: str, model: Path | None, factor: str, folder: Path) -> dict[str, Any]:
    """One engine's row, or why there is none."""
    small, truth, made = (folder / f"{film}.mp4" for film in ("small", "truth", name))
    clip = open_clip(small)
    try:
        clip = upscale(clip, size=factor, engine=name, model=model)
        render(clip, made, EXACT)
    except InputError as error:
        return {"fault": str(error)}
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    before, after = _picture(small), _picture(made)
    return {
        **asdict(consistency(before.stream, after.stream, before.size)),
        **asdict(likeness(after.stream, _picture(truth).stream)),
        "milliseconds": seconds * 1000 / before.frames,
        "megabytes": max(one.ru_maxrss for one in used) / 1024,
    }


def look(folder: Path, names: list[str], target: Path) -> None:
    """The middle of the truth's and of each engine's first frame, side by side."""
    films = [folder / f"{name}.mp4" for name in ("truth", *names)]
    inputs = [part for film in films for part in ("-i", str(film))]
    crops = "".join(f"[{at}:v]crop={SHOWN.width}:{SHOWN.height}[c{at}];" for at in range(len(films)))
    row = "".join(f"[c{at}]" for at in range(len(films))) + f"hstack={len(films)}"
    run_ffmpeg([*inputs, "-filter_complex", crops + row, "-frames:v", "1", str(target.absolute())])


def _picture(film: Path) -> Picture:
    picture = open_clip(film).picture
    assert picture
    return picture


def main() -> None:
    """Print the table; or, in a process of its own, one row of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--factor", default="2x")
    parser.add_argument("--crf", type=int, default=0)
    parser.add_argument("--model", type=Path, help="what the engine onnx runs")
    parser.add_argument("--look", type=Path, help="a PNG of all, side by side")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(tried(given.one, given.model, given.factor, given.film)))
        return
    print(f"{'engine':<14} small dB  drift  flicker  pooled   mean   SSIM    NEG  CPU ms    MB")
    with tempfile.TemporaryDirectory() as name:
        folder, drawn = Path(name), []
        prepared(given.film, given.frames, Fraction(given.factor.removesuffix("x")), given.crf, folder)
        for engine in (*FILTERS, *engine_names()):
            model = ["--model", str(given.model)] if engine == "onnx" and given.model else []
            asked = [sys.executable, __file__, str(folder), "--one", engine, "--factor", given.factor, *model]
            row = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            if "fault" in row:
                print(f"{engine:<14} {row['fault']}")
                continue
            drawn.append(engine)
            neg = f"{row['neg']:6.2f}" if row["neg"] is not None else "   n/a"
            print(
                f"{engine:<14} {row['decibels']:8.2f} {row['drift']:6.2f} {row['flicker']:8.2f} {row['pooled']:7.2f}"
                f" {row['mean']:6.2f} {row['ssim']:.4f} {neg} {row['milliseconds']:7.0f} {row['megabytes']:5.0f}",
                flush=True,
            )
        if given.look:
            look(folder, drawn, given.look)


if __name__ == "__main__":
    main()
