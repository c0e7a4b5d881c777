"""What a film is like: black, frozen, sharp, and whether it begins with the picture that its model was shown.

All of it is measured in one decode, on small frames; the figures of films of
one request can be compared, and `best` picks among them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import sqrt
from pathlib import Path

from stages.clip import Size
from stages.errors import FfmpegError, InputError
from stages.ffmpeg import run_ffmpeg
from stages.files import fresh_folder
from stages.media import probe

LOOKS = 12
"""Frames a second that are looked at: enough to see, and a slow move shows better than from frame to frame."""

DARK = 32
"""Luma of video range under which a pixel is black, in 98 of 100 pixels of a black frame (blackframe's defaults)."""

STILL = 0.15
"""Mean luma step between two looks under which nothing moved. A photo held for 3 s and encoded steps by 0, and
by 0.4 at a key frame; with grain by 0.14 in the middle; the slowest zoom that one would use (0.7 % a second), 0.45."""

FREEZE = 6
"""Looks without a move that make a freeze: half a second. Animation holds a drawing for two or three frames."""

HONOURED = 0.5
"""Likeness from which a film begins with its reference. 25 pictures (15 photos, 6 frames of animation and of a
hand-held film, 4 simulated landscapes) were each encoded at CRF 30 and 42, blurred, graded, darkened, shifted by 2 %,
enlarged by 3 % and cut to 7:4 and 9:16: 0.78 or more; enlarged by 8 %: 0.52. Against each other, 574 pairs: 0.35 or
less, 0.23 but for two. Landscapes of our own simulator, left out there, are all alike: 0.47 to 0.80."""

AS_CLOSE = 0.1
"""What two films that honour a reference may differ in likeness by the chance of a camera's first step."""

MOSTLY_FINE = 0.1
"""The share of black or frozen frames that a film may have: a fade at its beginning is no fault."""

GRID = Size(24, 14)
"""In how many fields pictures are compared: finer ones tell a shift of 2 % from a likeness."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was measured. `black` and `frozen` are shares of the frames, `sharpness` is the mean strength of edges.

    `likeness`, from 0 to 1, is how alike its first frame and the reference
    are; none where there was no reference.
    """

    black: float
    frozen: float
    sharpness: float
    likeness: float | None = None

    @property
    def ignored(self) -> bool:
        """Whether it began with something else than its reference."""
        return self.likeness is not None and self.likeness < HONOURED


def judge(film: Path, reference: Path | None = None) -> Judged:
    """Measure `film`, and how alike its first frame is to the picture `reference`, cropped to its shape.

    Sharpness is comparable between films of one prompt and shape, and hardly
    fooled by grain. Raises InputError if there is no picture in `film`, and
    FfmpegError if it cannot be decoded.
    """
    picture, _ = probe(film)
    if picture is None:
        raise InputError(f"{film}: holds no picture to judge")
    with fresh_folder(Path(tempfile.gettempdir())) as work:
        said = run_ffmpeg(_arguments(film.absolute(), picture.size, reference and reference.absolute()), work)
        levels, edges = ((work / name).read_text(encoding="utf-8") for name in ("levels.txt", "edges.txt"))
        steps, dark = _figures(levels, "signalstats.YDIF"), _figures(levels, "blackframe.pblack")
        sharp = _figures(edges, "signalstats.YAVG")
        if not sharp:
            raise FfmpegError("no frame of the film can be decoded", stderr=said)
        likeness = _likeness((work / "first").read_bytes(), (work / "shown").read_bytes()) if reference else None
    black = sum(share >= 98 for share in dark) / len(dark)
    return Judged(black, _frozen(steps), sum(sharp) / len(sharp), likeness)


def best(films: Sequence[Judged]) -> int:
    """Which of several films of one request to take: not black, not frozen, among those closest to the
    reference, where there was one, the sharpest. Raises InputError if there is none."""
    if not films:
        raise InputError("there is no film to choose from")
    closest = max(film.likeness or 0.0 for film in films)
    wishes: tuple[Callable[[Judged], bool], ...] = (
        lambda film: film.black <= MOSTLY_FINE,
        lambda film: film.frozen <= MOSTLY_FINE,
        lambda film: (film.likeness or 0.0) >= closest - AS_CLOSE,
    )
    left = list(range(len(films)))
    for wish in wishes:
        left = [number for number in left if wish(films[number])] or left
    return max(left, key=lambda number: films[number].sharpness)


# ---------------------------------------------------------------- measuring


def _arguments(film: Path, size: Size, reference: Path | None) -> list[str]:
    """One decode: what is measured goes to text files, the first frame and the reference to a few grey fields."""
    small = "scale=480:480:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=area:out_range=tv"
    seen = [
        *(
            f"fps={LOOKS}:eof_action=pass",
            small,
            "format=yuv420p",
            "signalstats",
            f"blackframe=amount=0:threshold={DARK}",
        ),
        "metadata=mode=print:file=levels.txt",
        "convolution=0m='0 -1 0 -1 4 -1 0 -1 0'",  # Laplacian, of which what is positive is half
        "signalstats",
        "metadata=mode=print:key=lavfi.signalstats.YAVG:file=edges.txt",
    ]
    fields = f"scale={GRID.width}:{GRID.height}:flags=area,format=gray"
    graph = [f"[0:v]split[a][b];[a]{','.join(seen)}[seen]", f"[b]trim=end_frame=1,{fields}[first]"]
    outputs = ["-map", "[seen]", "-f", "null", "-", "-map", "[first]", "-f", "rawvideo", "first"]
    inputs = ["-i", str(film)]
    if reference:
        shape = f"crop='min(iw,ih*{size.width}/{size.height})':'min(ih,iw*{size.height}/{size.width})'"
        graph.append(f"[1:v]trim=end_frame=1,{shape},{fields}[shown]")
        outputs += ["-map", "[shown]", "-f", "rawvideo", "shown"]
        inputs += ["-i", str(reference)]
    return [*inputs, "-filter_complex", ";".join(graph), *outputs]


def _figures(printed: str, key: str) -> list[float]:
    return [float(figure) for figure in re.findall(rf"^lavfi\.{key}=(.+)$", printed, re.MULTILINE)]


def _frozen(steps: Sequence[float]) -> float:
    """The share of looks that belong to a freeze; the first step, from nothing, is none."""
    runs = (len(list(run)) for still, run in groupby(steps[1:], lambda step: step < STILL) if still)
    return sum(run + 1 for run in runs if run + 1 >= FREEZE) / len(steps)


def _likeness(first: bytes, shown: bytes) -> float:
    """How two pictures' edges go together (Pearson's correlation of their gradients): light, contrast and
    detail make no difference to it, and a likeness of sky above and ground below is none. Flat ones have no edges."""
    one, other = _gradients(first), _gradients(shown)
    strength = sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return max(0.0, sum(a * b for a, b in zip(one, other, strict=True)) / strength) if strength else 0.0


def _gradients(grey: bytes) -> list[float]:
    width = GRID.width
    across = [right - left for at, (left, right) in enumerate(pairwise(grey), 1) if at % width]
    down = [below - above for above, below in zip(grey, grey[width:], strict=False)]
    return [step - sum(steps) / len(steps) for steps in (across, down) for step in steps]
