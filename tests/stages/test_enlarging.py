"""Frame engines: what they draw arrives exactly, whole, in order, and is taken up where it was left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import LOSSLESS, TAGS, counted, film, luma, numbers, picture_of, planes, samples, sound_of
from nets import blurring, copying

import stages.enlarging
from stages import Clip, Encoding, FfmpegError, InputError, Size, concat, fit, open_clip, render, still, trim, upscale
from stages.clip import Filter, Source
from stages.engines.onnx import Onnx
from stages.engines.tiles import in_tiles
from stages.enlarging import make_frames, nearest_scale, settle, unsettled

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)

Pixels = npt.NDArray[np.uint8]


def rendered(clip: Clip, target: Path) -> Path:
    render(clip, target, EXACT)
    assert [file.name for file in target.parent.iterdir() if file.name.startswith(".")] == []
    return target


def node_of(clip: Clip) -> Filter:
    (node,) = unsettled(picture_of(clip).stream)
    return node


# ---------------------------------------------------------------- what is drawn


def test_every_frame_arrives_in_order_and_the_sound_is_left_alone(shot: Path, tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", rate="24000/1001", seconds=2.2)
    net = copying(tmp_path / "net.onnx")
    made = rendered(
        upscale(trim(open_clip(source), start="2f"), size="2x", engine="onnx", model=net), tmp_path / "o.mp4"
    )
    assert numbers(made) == list(range(2, len(luma(source))))
    assert (picture_of(made).size, picture_of(made).rate) == (Size(320, 180), picture_of(source).rate)
    plain, engine = (tmp_path / name for name in ("plain.mp4", "engine.mp4"))
    render(upscale(open_clip(shot), size="2x"), plain, EXACT)
    render(upscale(open_clip(shot), size="2x", engine=f"onnx:{net}"), engine, EXACT)
    assert np.array_equal(samples(plain), samples(engine))
    assert sound_of(plain).samples == sound_of(engine).samples


def test_what_the_engine_drew_is_what_is_seen(tmp_path: Path) -> None:
    """Squares of 2 by 2 in colours of their own: copied pixels keep their edges, a resampling would not; and no
    colour drifts by one code value."""
    squares = "geq=lum='90+mod(floor(X/2),4)*16+mod(floor(Y/2),3)*8':cb='112+mod(X,5)*4':cr='118+mod(Y,7)*3'"
    source = film(
        tmp_path / "squares.mp4",
        *("-f", "lavfi", "-i", f"color=s=64x48:r=24:d=0.2,format=yuv420p,{squares},{TAGS}", *LOSSLESS),
    )
    clip = upscale(open_clip(source), size="2x", engine="onnx", model=copying(tmp_path / "net.onnx"))
    small, large = planes(source)[0], planes(rendered(clip, tmp_path / "out.mp4"))[0]
    for before, after in zip(small, large, strict=True):
        assert float(after.mean()) == pytest.approx(float(before.mean()), abs=0.5)
    copied = small[0].repeat(2, axis=0).repeat(2, axis=1)
    assert float(np.abs(copied.astype(int) - large[0]).mean()) < 1.5


def test_borders_go_on_as_they_are(tmp_path: Path) -> None:
    """A net that sees black beyond its border would darken the edge of a white film."""
    source = film(tmp_path / "w.mp4", "-f", "lavfi", "-i", f"color=white:s=80x64:r=24:d=0.2,{TAGS}", *LOSSLESS)
    clip = upscale(open_clip(source), size="2x", engine="onnx", model=blurring(tmp_path / "net.onnx"))
    frame = luma(rendered(clip, tmp_path / "out.mp4"))[0]
    assert frame.min() >= frame.max() - 1


@given(st.integers(1, 50), st.integers(1, 50), st.integers(16, 40), st.integers(16, 40))
def test_tiles_have_no_seams(height: int, width: int, tile_height: int, tile_width: int) -> None:
    """What needs three pixels around each comes out as if there were one tile."""

    def blurred(pixels: Pixels) -> Pixels:
        high, wide = pixels.shape[:2]
        around = np.pad(pixels.astype(int), ((3, 3), (3, 3), (0, 0)))
        total = sum(around[y : y + high, x : x + wide] for y in range(7) for x in range(7))
        mean: Pixels = (np.asarray(total) // 49).astype(np.uint8)
        return mean.repeat(2, axis=0).repeat(2, axis=1)

    frame = np.random.default_rng(height * 51 + width).integers(0, 256, (height, width, 3), np.uint8)
    sizes: set[tuple[int, ...]] = set()

    def seen(tile: Pixels) -> Pixels:
        sizes.add(tile.shape)
        return blurred(tile)

    whole = in_tiles(frame, (64 + height, 64 + width), 3, 2, blurred)
    assert np.array_equal(in_tiles(frame, (tile_height, tile_width), 3, 2, seen), whole)
    assert sizes == {(tile_height, tile_width, 3)}  # of one size, so that memory does not grow with the frame


def test_a_model_that_insists_on_a_size_gets_it(tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", seconds=0.25)
    clip = upscale(open_clip(source), size="3x", engine="onnx", model=copying(tmp_path / "net.onnx", scale=3, side=40))
    assert numbers(rendered(clip, tmp_path / "out.mp4")) == list(range(6))


@pytest.mark.parametrize(
    ("size", "scales", "scale"),
    [("240x136", (2, 3, 4), 2), ("320x180", (2, 4), 2), ("322x180", (4, 3, 2), 3), ("1600x900", (2, 4), 4)],
)
def test_the_least_factor_that_reaches_the_size(size: str, scales: tuple[int, ...], scale: int) -> None:
    assert nearest_scale(scales, Size(160, 90), Size.parse(size)) == scale


def test_other_edits_before_and_after(tmp_path: Path) -> None:
    """Cropped before, joined, cropped and shown as a still after."""
    source, net = counted(tmp_path / "counted.mp4", seconds=0.5), copying(tmp_path / "net.onnx")
    large = upscale(fit(open_clip(source), size="90x90"), size="1.5x", engine="onnx", model=net, sharpen=0.5)
    assert picture_of(large).frame == Size(136, 136)
    twice = fit(concat((large, trim(large, length="3f"))), size="60x100")
    assert numbers(rendered(twice, tmp_path / "out.mp4")) == [*range(12), *range(3)]
    assert still(twice, at="13f", folder=tmp_path / "still").file.exists()


# ---------------------------------------------------------------- going on


def test_it_goes_on_with_the_segment_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.enlarging, "SEGMENT", 12)
    source = counted(tmp_path / "counted.mp4", seconds=2)
    node = node_of(upscale(open_clip(source), size="2x", engine="onnx", model=copying(tmp_path / "net.onnx")))
    kept, told = tmp_path / "unfinished", list[float]()

    def stop(fraction: float) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_frames(node, folder=tmp_path / "first", unfinished=kept, on_progress=stop)
    assert sorted(file.name for file in kept.glob("*")) == ["00000000.mp4", "00000012.mp4"]
    made = make_frames(node, folder=tmp_path / "second", unfinished=kept, on_progress=told.append)
    assert (round(told[0] * 48), told[-1], len(told)) == (25, 1.0, 24)
    assert numbers(made.file) == list(range(48))
    assert isinstance(picture_of(made).stream, Source)


def test_a_source_that_ends_early_is_told(tmp_path: Path) -> None:
    source = counted(tmp_path / "counted.mp4", seconds=0.5)
    clip = upscale(open_clip(source), size="2x", engine="onnx", model=copying(tmp_path / "net.onnx"))
    counted(source, seconds=0.25)
    with pytest.raises(FfmpegError, match="the source ends after 6 of 12 frames"):
        settle(clip, tmp_path)


# ---------------------------------------------------------------- what is refused


def test_a_model_that_cannot_run_is_refused(tmp_path: Path) -> None:
    broken, grey = tmp_path / "broken.onnx", copying(tmp_path / "grey.onnx", channels=1)
    broken.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"broken\.onnx: is no model that ONNX Runtime can load"):
        _ = Onnx(broken).scales
    with pytest.raises(
        InputError, match=r"grey\.onnx: should take one picture of 1 x 3 x .*, not tensor\(float\) of 1 x 1"
    ):
        _ = Onnx(grey).scales
    assert Onnx(copying(tmp_path / "four.onnx", scale=4)).scales == (4,)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"engine": "onnx"}, "onnx cannot work here: it needs a model: engine: onnx:MODEL"),
        ({"engine": "onnx:gone.onnx"}, r"onnx cannot work here: gone\.onnx: there is no such file"),
        ({"engine": "lanzcos"}, r"there is no engine 'lanzcos' \(did you mean lanczos\?\)"),
        ({"engine": "anime4k:my.onnx"}, "anime4k has a model of its own and takes none"),
        ({"engine": "anime4k", "size": "128x72"}, "anime4k enlarges, and 128x72 is no larger than 160x90: use lanczos"),
        ({"sharpen": "2"}, "should be a number from 0 to 1 such as 0.3, not '2'"),
    ],
)
def test_what_no_engine_can_do_is_refused(shot: Path, asked: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        upscale(open_clip(shot), **{"size": "2x", **asked})  # type: ignore[arg-type]  # words


def test_who_enlarged_is_on_record(shot: Path, tmp_path: Path) -> None:
    net = copying(tmp_path / "net.onnx")
    trained = upscale(open_clip(shot), size="2x", engine=f"onnx:{net}").history[-1]
    assert trained.ai
    assert trained.agent.endswith(" with net.onnx")
    assert trained.parameters == (("size", "2x"), ("engine", "onnx"), ("model", "net.onnx"))
    assert str(tmp_path) not in json.dumps(trained.parameters)
    plain = upscale(open_clip(shot), size="2x", engine="lanczos-sharp").history[-1]
    assert (plain.agent, plain.ai) == ("", False)


def test_sharpening_is_seen_whatever_size_comes_after(tmp_path: Path) -> None:
    edge = f"format=yuv420p,geq=lum='if(lt(X,48),60,180)':cb=128:cr=128,{TAGS}"
    source = film(tmp_path / "e.mp4", "-f", "lavfi", "-i", f"color=s=96x96:r=24:d=0.1,{edge}", *LOSSLESS)

    flat = film(tmp_path / "flat.mp4", "-f", "lavfi", "-i", f"color=gray:s=96x96:r=24:d=0.1,{TAGS}", *LOSSLESS)
    sharp = rendered(upscale(open_clip(flat), size="2x", sharpen="0.5"), tmp_path / "out.mp4")
    assert float(luma(sharp)[0].mean()) == pytest.approx(float(luma(flat)[0].mean()), abs=0.1)

    def steepest(**asked: str) -> int:
        clip = fit(upscale(open_clip(source), size="2x", **asked), size="160x144")  # type: ignore[arg-type]  # words
        row = luma(rendered(clip, tmp_path / "out.mp4"))[0][70].astype(int)
        return int(np.abs(np.diff(row)).max())

    assert steepest(engine="lanczos-sharp") > steepest() + 3
    assert steepest(sharpen="0.3") == steepest(engine="lanczos-sharp")
    assert steepest(engine="lanczos-sharp", sharpen="0") == steepest()
