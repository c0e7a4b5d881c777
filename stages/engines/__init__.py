"""What a frame engine is: `probe()`, `scales` and `process(frames)`; and what an interpolator is: `probe()` and
`between(before, after)`. One file each; found by name under `pipeline.engines` and `pipeline.interpolators`.

An engine sees frames and nothing else. Decoding, colour, the exact size, the
lossless film in between and going on after a kill are the business of
`enlarging.py`, alike for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from stages import plugins
from stages.clip import Size

FILTERS = ("lanczos", "lanczos-sharp", "libplacebo")
"""Engines that are filters of ffmpeg: part of the one encode, with nothing between."""


class Engine(Protocol):
    """Somebody who enlarges frames. What is registered is called with the file of a model, or None.

    `version` names the software and model that a result depends on:
    `onnxruntime 1.32.0 with swin.onnx`. `trained`: a trained model draws,
    which is then said in the film's credentials. `scales` are the whole
    factors by which it can enlarge; reading them may load the model.
    """

    @property
    def version(self) -> str: ...

    @property
    def trained(self) -> bool: ...

    @property
    def scales(self) -> tuple[int, ...]: ...

    def probe(self) -> str:
        """Why it cannot work on this machine, in a sentence that says what brings it; nothing if it can.

        Quick, and without loading a model: the plan asks."""

    def process(self, frames: Iterable[bytes], size: Size, scale: int) -> Iterator[bytes]:
        """Each of `frames` enlarged by `scale`, in order, holding no more than a few at once.

        Frames are packed RGB, 8 bits a channel, full range, of `size` and then of `scale` times that.
        Raises InputError for a model that it cannot run.
        """


def engine_named(name: str, model: Path | None = None) -> Engine:
    """The frame engine `name` with its model. Raises InputError if there is none of that name."""
    engine: Engine = plugins.find("pipeline.engines", name)(model)
    return engine


def engine_names() -> tuple[str, ...]:
    """The frame engines that are registered."""
    return plugins.names("pipeline.engines")


PACES = ("motion", "blend", "repeat")
"""Interpolators that are filters of ffmpeg: part of the one encode, with nothing between."""


class Interpolator(Protocol):
    """Somebody who draws frames between frames. What is registered is called without anything.

    `version` and `trained` as an engine's. Which frame is drawn when, cuts,
    repeats and the film are the business of `inbetweening.py` and `enlarging.py`.
    """

    @property
    def version(self) -> str: ...

    @property
    def trained(self) -> bool: ...

    def probe(self) -> str:
        """As an engine's: why it cannot work here, quickly; nothing if it can."""

    def between(self, before: bytes, after: bytes, size: Size, share: Fraction) -> bytes:
        """The frame that is `share` of the way, more than 0 and less than 1, from one frame to the next.

        Frames are packed RGB, 8 bits a channel, full range, of `size`. It is asked in the order of the film, and
        may keep what it found out about a pair; the same question must get the same answer after a restart.
        """


def interpolator_named(name: str) -> Interpolator:
    """The interpolator `name`. Raises InputError if there is none of that name."""
    found: Interpolator = plugins.find("pipeline.interpolators", name)()
    return found


def interpolator_names() -> tuple[str, ...]:
    """The interpolators that are registered."""
    return plugins.names("pipeline.interpolators")
