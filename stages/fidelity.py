"""Whether an enlarged film is still the film: gauges that a broken or a boastful engine does not pass.

`consistency` needs no truth: an enlargement, made small again, must be what it was made from. `likeness` compares
with a truth, where there is one. VMAF alone says little: on 720p to 1080p everything is at 99.6 and sharpening
raises it, so what is asked for is VMAF-NEG, which discounts that, and PSNR both pooled and mean.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.clip import Size, Stream, filtered
from stages.ffmpeg import filter_fault, measure_command, run_command

CEILING = 100.0
"""Decibels that stand for no difference at all."""

BROKEN_DECIBELS, DOUBTFUL_DECIBELS = 20.0, 28.0
BROKEN_DRIFT, DOUBTFUL_DRIFT = 12.0, 2.0
"""Below and beyond which an engine is refused or doubted. Measured at 2x on bigbuckbunny: Lanczos 48.1 dB and 0.1
levels of drift, bilinear 40.5, a blur of 2 pixels 34.0; a film moved by two of its pixels 24.1, red and blue
exchanged 29.7 and 17.5 levels, a tenth too dark 25.7 and 12.4, black 7.1 and 92."""

NEG = "version=vmaf_v0.6.1neg"


@dataclass(frozen=True, slots=True)
class Consistency:
    """What an enlargement, brought back to the size it was made from, differs by.

    `decibels` are PSNR of the luma, pooled over the frames; `drift` is how far the mean of luma or chroma is off
    in any frame, and `flicker` by how much the difference changes from frame to frame on average, in code values.
    """

    decibels: float
    drift: float
    flicker: float

    def __str__(self) -> str:
        return f"made small again it is {self.decibels:.1f} dB from its source, its colour {self.drift:.1f} levels off"

    @property
    def broken(self) -> bool:
        """Whether this is no enlargement of its source."""
        return self.decibels < BROKEN_DECIBELS or self.drift > BROKEN_DRIFT

    @property
    def doubtful(self) -> bool:
        """Whether a viewer who knows the source would see a difference."""
        return self.decibels < DOUBTFUL_DECIBELS or self.drift > DOUBTFUL_DRIFT


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near a film is to the truth: PSNR of the luma, pooled and mean of the frames; SSIM; VMAF-NEG, None
    where ffmpeg has no libvmaf."""

    pooled: float
    mean: float
    ssim: float
    neg: float | None


def consistency(source: Stream, made: Stream, size: Size, *, every: int = 1) -> Consistency:
    """Compare `made` with the `source` of `size` that it was enlarged from, one frame of `every`.

    Both in BT.709; they must have as many frames. Raises FfmpegError.
    """
    small = filtered("scale", made, w=size.width, h=size.height, flags="bicubic+accurate_rnd+full_chroma_int")
    here, there = _counted(small, every), _counted(source, every)
    off = filtered("blend", here, there, all_mode="grainextract")  # 128 is no difference
    longer = filtered(
        "tpad", off, stop=1, stop_mode="clone"
    )  # of one frame there would be no change, which is an error
    read = _measured(
        {
            "psnr": filtered("psnr", here, there),
            "off": filtered("signalstats", off),
            "change": filtered("signalstats", filtered("tblend", longer, all_mode="difference")),
        }
    )
    errors = read["psnr"].get("lavfi.psnr.mse.y", [])
    means = [value for plane in "YUV" for value in read["off"].get(f"lavfi.signalstats.{plane}AVG", [])]
    changes = read["change"].get("lavfi.signalstats.YAVG", [])[:-1]
    drift = max((abs(mean - 128) for mean in means), default=0.0)
    return Consistency(_decibels(_mean(errors)), drift, _mean(changes))


def likeness(made: Stream, truth: Stream) -> Likeness:
    """Compare a film with one of the same frames that is known to be right. Raises FfmpegError."""
    here, there = _counted(made, 1), _counted(truth, 1)
    compared: dict[str, Stream] = {"psnr": filtered("psnr", here, there), "ssim": filtered("ssim", here, there)}
    known = not filter_fault(f"scale=192:192,split[a][b];[a][b]libvmaf=model={NEG}")
    log = "neg.json"
    if known:
        compared["neg"] = filtered("libvmaf", here, there, model=NEG, log_path=log, log_fmt="json", n_threads=1)
    with tempfile.TemporaryDirectory() as folder:
        read = _measured(compared, Path(folder))
        neg = json.loads((Path(folder) / log).read_text())["pooled_metrics"]["vmaf"]["mean"] if known else None
    errors = read["psnr"]["lavfi.psnr.mse.y"]
    return Likeness(
        _decibels(_mean(errors)),
        _mean([_decibels(error) for error in errors]),
        _mean(read["ssim"]["lavfi.ssim.Y"]),
        neg,
    )


def _counted(stream: Stream, every: int) -> Stream:
    """By the number of the frame: two films whose clocks differ would be compared one frame off, by 10 dB."""
    if every > 1:
        stream = filtered("select", stream, expr=f"not(mod(n,{every}))")
    stream = filtered("format", stream, pix_fmts="yuv420p")
    return filtered("setpts", filtered("settb", stream, expr="1/25"), expr="N")


Read = dict[str, list[float]]


def _measured(streams: dict[str, Stream], folder: Path | None = None) -> dict[str, Read]:
    """What the filters at the end of `streams` said of each frame."""
    with tempfile.TemporaryDirectory() as fresh:
        place = folder or Path(fresh)
        run_command(measure_command(streams), place)
        return {name: _values((place / f"{name}.txt").read_text()) for name in streams}


def _values(text: str) -> Read:
    found: Read = {}
    for key, value in _pairs(text):
        found.setdefault(key, []).append(value)
    return found


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.startswith("lavfi."):
            yield key, float(value)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _decibels(error: float) -> float:
    return min(CEILING, 10 * math.log10(255**2 / error)) if error > 0 else CEILING
