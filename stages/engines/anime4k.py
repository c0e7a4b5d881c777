"""The engine `anime4k`: small networks trained on drawn films (Anime4KCPP's), compiled into a wheel, MIT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from stages.clip import Size
from stages.engines.tiles import frame_of, pixels_of
from stages.errors import InputError

MODEL = "acnet-gan"
"""The best of its six on photos at 1.5x: VMAF-NEG +0.24 over Lanczos, by 0.7 CPU seconds a frame of 720p."""


class Anime4k:
    """Anime4KCPP's ACNet. It handles borders and colour by itself, and a frame is small enough to need no tiles."""

    trained = True
    scales = (2,)

    def __init__(self, model: Path | None) -> None:
        if model:
            raise InputError(f"anime4k has a model of its own and takes none, not '{model}'", "model")

    @property
    def version(self) -> str:
        """`pyanime4k 3.1.0 with acnet-gan`."""
        try:
            return f"pyanime4k {version('pyanime4k')} with {MODEL}"
        except PackageNotFoundError:
            return "pyanime4k"

    def probe(self) -> str:
        """What is missing."""
        return "" if find_spec("pyanime4k") else "pyanime4k is not installed: pip install 'afterframe[anime4k]'"

    def process(self, frames: Iterable[bytes], size: Size, scale: int) -> Iterator[bytes]:
        """Each frame by itself."""
        import pyanime4k  # noqa: PLC0415 -- heavy, and of an extra

        worker = pyanime4k.Processor("cpu", 0, MODEL)
        for frame in frames:
            yield frame_of(worker(pixels_of(frame, size), float(scale)))
