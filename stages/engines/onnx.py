"""The engine `onnx`: a model of one's own in a file, run by ONNX Runtime, on the GPU where its build finds one.

The model takes one picture as `1 x 3 x height x width`, RGB from 0 to 1 (or 0
to 255 where it takes whole numbers), and gives it 1 to 8 times larger: what
Real-ESRGAN, SwinIR, ESPCN and most others are exported as.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.clip import Size
from stages.engines.tiles import Pixels, frame_of, in_tiles, pixels_of
from stages.errors import InputError

TILE, MARGIN = 256, 16
"""Pixels of a side, and of what a tile sees beyond it: memory goes with the tile, 0.3 GB for a net of 64 channels,
and not with the frame; the margin costs a quarter more work and hides the seams of nets that see no further."""

LARGEST = 8
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class Onnx:
    """A model in a file, run by ONNX Runtime."""

    trained = True

    def __init__(self, model: Path | None) -> None:
        self.model = model

    @property
    def version(self) -> str:
        """`onnxruntime 1.32.0 with swin.onnx`."""
        try:
            runtime = f"onnxruntime {version('onnxruntime')}"
        except PackageNotFoundError:
            runtime = "onnxruntime"
        return f"{runtime} with {self.model.name}" if self.model else runtime

    def probe(self) -> str:
        """What is missing: ONNX Runtime, or a model."""
        if find_spec("onnxruntime") is None or find_spec("numpy") is None:
            return "ONNX Runtime is not installed: pip install 'afterframe[onnx]'"
        if self.model is None:
            return "it needs a model: engine: onnx:MODEL, a file of ONNX"
        return "" if self.model.is_file() else f"{self.model}: there is no such file"

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """The one factor that the model enlarges by, found by enlarging a tile. Raises InputError for another model."""
        height, width = self._fixed or (64, 64)
        outcome = self._run(self._numpy.zeros((height, width, 3), "uint8"))
        scale = outcome.shape[0] // height
        if outcome.shape != (height * scale, width * scale, 3) or not 1 <= scale <= LARGEST:
            raise InputError(f"{self.model}: makes {_shape(outcome.shape)} of {_shape((height, width, 3))}", "model")
        return (scale,)

    def process(self, frames: Iterable[bytes], size: Size, scale: int) -> Iterator[bytes]:
        """Each frame in tiles of one size, borders continued by replication."""
        height, width = self._fixed or (TILE + 2 * MARGIN,) * 2
        margin = MARGIN if min(height, width) >= 4 * MARGIN else min(height, width) // 8
        for frame in frames:
            yield frame_of(in_tiles(pixels_of(frame, size), (height, width), margin, scale, self._run))

    # ---------------------------------------------------------------- the model

    @property
    def _numpy(self) -> Any:
        import numpy  # noqa: PLC0415 -- heavy, and of an extra

        return numpy

    @cached_property
    def _session(self) -> Any:
        import onnxruntime  # noqa: PLC0415 -- heavy, and of an extra

        # Those that are compiled in, best first; the one for Azure would call a service.
        known = [name for name in onnxruntime.get_available_providers() if not name.startswith("Azure")]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what it warns of, a GPU that is not there, is no fault
        try:
            session = onnxruntime.InferenceSession(str(self.model), options, providers=known)
        except Exception as error:  # its own classes have no common parent
            raise InputError(
                f"{self.model}: is no model that ONNX Runtime can load ({_line(error)})", "model"
            ) from None
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3 or inputs[0].type not in TYPES:
            found = ", ".join(f"{one.type} of {_shape(one.shape)}" for one in inputs)
            raise InputError(f"{self.model}: should take one picture of 1 x 3 x height x width, not {found}", "model")
        return session

    @cached_property
    def _fixed(self) -> tuple[int, int] | None:
        """The height and width that the model insists on; None where it takes any."""
        height, width = self._session.get_inputs()[0].shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def _run(self, tile: Pixels) -> Pixels:
        numpy, entry = self._numpy, self._session.get_inputs()[0]
        kind = TYPES[entry.type]
        planes = numpy.ascontiguousarray(tile.transpose(2, 0, 1)[None])
        if kind != "uint8":
            planes = planes.astype(kind) / numpy.asarray(255, kind)
        try:
            (outcome, *_) = self._session.run(None, {entry.name: planes})
        except Exception as error:
            raise InputError(f"{self.model}: cannot enlarge {_shape(planes.shape)} ({_line(error)})", "model") from None
        if outcome.dtype != numpy.uint8:
            outcome = (numpy.clip(outcome.astype("float32"), 0, 1) * 255 + 0.5).astype("uint8")
        enlarged: Pixels = outcome[0].transpose(1, 2, 0)
        return enlarged


def _shape(shape: Iterable[object]) -> str:
    return " x ".join(str(side) for side in shape)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
