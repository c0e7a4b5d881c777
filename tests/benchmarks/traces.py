"""How far apart films look: copies as platforms make them, and other films. `stages.traces.ALIKE` lies between.

    python -m tests.benchmarks.traces

Prints the bits (of 64, on average of six frames) by which a copy differs that was scaled to 240 lines and encoded at
CRF 36, or at 30 frames a second, and by which any two of the films do.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

from stages.ffmpeg import run_ffmpeg
from stages.traces import ALIKE, distance, looks_of

LOOKS = {
    "mandelbrot": "mandelbrot=s=1280x720:r=24",
    "gradients 5": "gradients=s=1280x720:r=24:seed=5:n=6",
    "gradients 7": "gradients=s=1280x720:r=24:seed=7:n=6",
    "test picture": "testsrc2=s=1280x720:r=24",
}
HARD = ("-vf", "scale=-2:240", "-c:v", "libx264", "-crf", "36", "-preset", "veryfast")
FASTER = (*HARD, "-r", "30")
BUNNY = Path(__file__).resolve().parents[2] / "fixtures" / "bunny.mp4"


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AFTERFRAME_HOME"] = name
        films = {"bunny": BUNNY}
        for title, look in LOOKS.items():
            films[title] = folder / f"{title}.mp4"
            run_ffmpeg(["-f", "lavfi", "-i", look, "-t", "3", "-pix_fmt", "yuv420p", str(films[title])])
        looks = {title: looks_of(film) for title, film in films.items()}
        for title, film in films.items():
            apart = []
            for how in (HARD, FASTER):
                run_ffmpeg(["-i", str(film), *how, "-y", str(folder / "copy.mp4")])
                apart.append(distance(looks[title], looks_of(folder / "copy.mp4")))
            print(f"{title:<14} copy {apart[0]:4.1f}, at 30/s {apart[1]:4.1f}")
        others = {pair: distance(looks[pair[0]], looks[pair[1]]) for pair in itertools.combinations(films, 2)}
        for pair, bits in sorted(others.items(), key=lambda one: one[1]):
            print(f"{pair[0]} and {pair[1]}: {bits:.1f}")
        print(f"alike up to {ALIKE}")


if __name__ == "__main__":
    main()
