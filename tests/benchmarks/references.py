"""Photos to reference pictures: `prepare` beside pyvips and beside Pillow used plainly.

    pip install 'pyvips[binary]'
    python tests/benchmarks/references.py [--pictures 200]

Photos of 12 megapixels become JPEGs of 1280x720, one after another, each
contender in a process of its own. Peak memory is that of its process (VmHWM),
of which the first row, a process that only imports Pillow, says what is Python's.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from stages.references import make_reference

ROOT = Path(__file__).resolve().parents[2]
PHOTO = (4000, 3000)
TARGET = (1280, 720)
DISTINCT = 6

Way = Callable[[Path, Path], None]


def prepared(focus: str) -> Way:
    """As `prepare` does it, with the picture of the crop."""

    def way(photo: Path, folder: Path) -> None:
        make_reference(photo, size="1280x720", focus=focus, format="jpeg", folder=folder)

    return way


def vips(photo: Path, folder: Path) -> None:
    """libvips' own way: shrink on load, upright, in sRGB, cropped around the centre."""
    import pyvips  # noqa: PLC0415 -- only the benchmark has it

    made = pyvips.Image.thumbnail(str(photo), TARGET[0], height=TARGET[1], crop="centre", export_profile="srgb")
    made.jpegsave(str(folder / "reference.jpg"), Q=95, subsample_mode="off", strip=True)


def plain(photo: Path, folder: Path) -> None:
    """Pillow as its tutorials have it: decoded whole, upright, fitted."""
    with Image.open(photo) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    fitted = ImageOps.fit(upright, TARGET, Image.Resampling.LANCZOS)
    fitted.save(folder / "reference.jpg", quality=95, subsampling=0)


WAYS: dict[str, Way] = {
    "nothing": lambda photo, folder: None,
    "prepare": prepared("center"),
    "prepare, focus: auto": prepared("auto"),
    "prepare, focus: face": prepared("face"),
    "pyvips": vips,
    "Pillow without draft": plain,
}


def photos(folder: Path) -> list[Path]:
    """Distinct photos of 12 megapixels: the fixture turned and enlarged, with grain as a sensor gives it."""
    made = []
    with Image.open(ROOT / "fixtures" / "photo.jpg") as photo:
        for number in range(DISTINCT):
            image = ImageOps.fit(photo.rotate(number * 3, expand=False), PHOTO)
            grain = Image.merge("RGB", [Image.effect_noise(PHOTO, 24) for _ in range(3)])
            made.append(folder / f"{number}.jpg")
            Image.blend(image, grain, 0.15).save(made[-1], quality=92)
    return made


def measure(name: str, count: int, folder: Path) -> None:
    """In this process: prints milliseconds of wall and CPU a picture, and the peak in megabytes."""
    way, files = WAYS[name], sorted(folder.glob("*.jpg"))
    out = folder / "out"
    out.mkdir(exist_ok=True)
    way(files[0], out)  # what is loaded and unpacked once
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        way(files[number % len(files)], out)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(f"{name:22} {wall / count * 1000:8.1f} {cpu / count * 1000:8.1f} {peak:8.0f}")


def main() -> None:
    """Measure every way in a process of its own."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pictures", type=int, default=200)
    asked.add_argument("--way", help=argparse.SUPPRESS)
    asked.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.way:
        measure(given.way, given.pictures, given.folder)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.pictures} photos of 12 megapixels")
    print(f"{'':22} {'ms wall':>8} {'ms CPU':>8} {'MB peak':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder)
        for way in WAYS:
            if way == "pyvips" and importlib.util.find_spec("pyvips") is None:
                print("pyvips                 is not here: pip install 'pyvips[binary]'")
                continue
            command = [sys.executable, __file__, "--way", way, "--pictures", str(given.pictures), "--folder", name]
            subprocess.run(command, check=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
