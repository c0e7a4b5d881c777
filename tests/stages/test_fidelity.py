"""Gauges of an enlargement: each fault that an engine may have moves the one that is made for it."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
import pytest
from lab import LOSSLESS, TAGS, film, picture_of
from nets import copying, saved
from onnx import TensorProto, helper

from stages import InputError, Size, open_clip, upscale
from stages.clip import Stream
from stages.enlarging import make_frames, unsettled
from stages.fidelity import Consistency, consistency, likeness

SMALL = Size(160, 96)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft shapes in colours that move: eight frames of 320x192, and the same small."""
    folder = tmp_path_factory.mktemp("scene")
    graph = f"testsrc2=s=320x192:r=24:d=0.33,gblur=1.5,format=yuv420p,{TAGS}"
    film(folder / "truth.mp4", "-f", "lavfi", "-i", graph, *LOSSLESS)
    film(folder / "small.mp4", "-i", str(folder / "truth.mp4"), "-vf", f"scale=160:96:flags=bicubic,{TAGS}", *LOSSLESS)
    return folder


def enlarged(scene: Path, then: str = "null", how: str = "lanczos") -> Stream:
    graph = f"scale=320:192:flags={how},{then},{TAGS}"
    made = film(scene / "made.mp4", "-i", str(scene / "small.mp4"), "-vf", graph, *LOSSLESS)
    return picture_of(made).stream


def gauged(scene: Path, then: str = "null") -> Consistency:
    return consistency(picture_of(scene / "small.mp4").stream, enlarged(scene, then), SMALL)


def test_a_faithful_enlargement_passes(scene: Path) -> None:
    found = gauged(scene)
    assert (found.broken, found.doubtful) == (False, False)
    assert found.decibels > 36
    assert found.drift < 0.5
    assert gauged(scene, "hue=b=0").flicker == pytest.approx(found.flicker, abs=0.1)


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("lutyuv=y=val+30", "drift"),
        ("swapuv", "drift"),
        ("crop=316:188:4:4,pad=320:192", "decibels"),
        ("lutyuv=y=val+12*mod(n\\,2)", "flicker"),
    ],
)
def test_each_fault_is_seen(scene: Path, fault: str, wrong: str) -> None:
    if wrong == "flicker":
        fault = "geq=lum='lum(X,Y)+8*mod(N,2)':cb='cb(X,Y)':cr='cr(X,Y)'"
    good, bad = gauged(scene), gauged(scene, fault)
    assert bad.doubtful
    if wrong == "decibels":
        assert bad.decibels < good.decibels - 10
    else:
        assert getattr(bad, wrong) > getattr(good, wrong) + 3


def test_likeness_prefers_what_is_nearer_the_truth(scene: Path) -> None:
    truth = picture_of(scene / "truth.mp4").stream
    same, fine, coarse = (
        likeness(truth, truth),
        *(likeness(enlarged(scene, how=how), truth) for how in ("lanczos", "neighbor")),
    )
    assert (same.pooled, same.mean, same.ssim) == (100, 100, 1)
    assert fine.pooled > coarse.pooled + 1
    assert fine.mean > coarse.mean + 1
    assert fine.ssim > coarse.ssim
    if fine.neg is not None and coarse.neg is not None:  # Debian's ffmpeg has no libvmaf
        assert fine.neg > coarse.neg


def test_a_net_that_draws_something_else_is_refused_with_numbers(scene: Path, tmp_path: Path) -> None:
    """It gives blue for red, as those do that were trained on BGR."""
    swapped = numpy.zeros((3, 3, 1, 1), "float32")
    for channel in range(3):
        swapped[channel, 2 - channel] = 1
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, swapped.shape, swapped.ravel())
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["mixed"]),
        helper.make_node("Resize", ["mixed", "", "factors"], ["y"], mode="nearest"),
    ]
    net = saved(tmp_path / "bgr.onnx", nodes, [kernel, factors], [1, 3, "high", "wide"])
    red = film(
        tmp_path / "red.mp4", "-f", "lavfi", "-i", f"color=red:s=64x48:r=24:d=0.2,format=yuv420p,{TAGS}", *LOSSLESS
    )
    (node,) = unsettled(picture_of(upscale(open_clip(red), size="2x", engine="onnx", model=net)).stream)
    with pytest.raises(InputError, match=r"bgr\.onnx draws something else than its source: .* levels off") as told:
        make_frames(node, folder=tmp_path)
    assert told.value.parameter == "model"


def test_a_doubt_is_a_remark(scene: Path, tmp_path: Path) -> None:
    """A little too bright, everywhere."""
    net = onnx.load(str(copying(tmp_path / "net.onnx")))
    net.graph.node[0].output[0] = "same"
    net.graph.initializer.append(helper.make_tensor("more", TensorProto.FLOAT, [1], [0.02]))
    net.graph.node.append(helper.make_node("Add", ["same", "more"], ["y"]))
    onnx.save(net, str(tmp_path / "bright.onnx"))
    clip = upscale(open_clip(scene / "small.mp4"), size="2x", engine="onnx", model=tmp_path / "bright.onnx")
    (node,) = unsettled(picture_of(clip).stream)
    (remark,) = make_frames(node, folder=tmp_path).remarks
    assert remark.startswith("onnx drew doubtful frames: made small again")
