"""Small ONNX models, made where they are used, of which it is known what they draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnx.parser
from onnx import TensorProto, helper


def saved(
    file: Path, nodes: list[Any], weights: list[Any], shape: list[int | str], kind: int = TensorProto.FLOAT
) -> Path:
    """A model of `nodes` from `x`, of `shape`, to `y`."""
    entry = helper.make_tensor_value_info("x", kind, shape)
    outcome = helper.make_tensor_value_info("y", kind, [1, shape[1], None, None])
    graph = helper.make_graph(nodes, "net", [entry], [outcome], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def copying(file: Path, scale: int = 2, side: int | str = "side", channels: int = 3) -> Path:
    """Each pixel `scale` by `scale` times."""
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [4], [1, 1, scale, scale])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = helper.make_node("Resize", ["x", "", "factors"], ["y"], **how)
    sides: list[int | str] = [1, channels, side, side if isinstance(side, int) else "wide"]
    return saved(file, [node], [factors], sides)


def blurring(file: Path) -> Path:
    """Each pixel twice by twice, as the mean of 7 by 7 around it; beyond its border a net of this kind sees black."""
    weights = numpy.zeros((3, 3, 7, 7), "float32")
    for channel in range(3):
        weights[channel, channel] = 1 / 49
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, weights.shape, weights.ravel())
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["blurred"], pads=[3, 3, 3, 3]),
        helper.make_node("Resize", ["blurred", "", "factors"], ["y"], mode="nearest"),
    ]
    return saved(file, nodes, [kernel, factors], [1, 3, "high", "wide"])


PHONEMES = "_^$ !(),-.:;?abcdefghijklmnopqrstuvwxyzæçðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒʔˈˌːθᵻɬø\u0303\u0329"
"""What Piper pads, begins, ends and parts words with, then punctuation, then espeak-ng's phonemes."""

VOICE = """
<ir_version: 8, opset_import: ["": 17]>
hum (int64[1, phonemes] input, int64[1] input_lengths, float[3] scales) => (float[1, 1, 1, samples] output)
<float[1] short = {2}, float[1] more = {4}, float[1] hop = {256}, float[1] turn = {0.0018},
 float[1] loud = {0.3}, int64[1] column = {1}, int64[1] row = {0}, int64[1] length_at = {1}, int64[1] silent = {2},
 int64[2] upright = {-1, 1}, int64[4] shape = {1, 1, 1, -1}, float zero = {0}, float one = {1}, int64[1] pause = {12}>
{
    length = Gather (scales, length_at)
    spoken = Greater (input, silent)
    sounding = Cast <to = 1> (spoken)
    added = Mul (sounding, more)
    frames = Add (added, short)
    scaled = Mul (frames, length)
    widths = Ceil (scaled)
    axis = Constant <value_int = 1> ()
    ends = CumSum (widths, axis)
    all = ReduceSum <keepdims = 0> (widths)
    size = Mul (all, hop)
    total = Squeeze (size)
    at = Range (zero, total, one)
    frame = Div (at, hop)
    floored = Floor (frame)
    standing = Reshape (floored, upright)
    passed = GreaterOrEqual (standing, ends)
    counted = Cast <to = 7> (passed)
    which = ReduceSum <keepdims = 0> (counted, column)
    flat = Squeeze (input, row)
    symbol = Gather (flat, which)
    pitch = Cast <to = 1> (symbol)
    raised = Add (pitch, hop)
    angle = Mul (raised, at)
    turned = Mul (angle, turn)
    wave = Sin (turned)
    noise = RandomNormalLike (wave)
    hiss = Mul (noise, turn)
    hissing = Add (wave, hiss)
    is_sound = Greater (symbol, pause)
    gate = Cast <to = 1> (is_sound)
    gated = Mul (hissing, gate)
    softer = Mul (gated, loud)
    output = Reshape (softer, shape)
}
"""


def humming(file: Path, code: str = "en_US", espeak: str = "en-us", alphabet: str = "espeak") -> Path:
    """A voice for Piper that hums each phoneme for 6 frames at a pitch of its own, hissing a little, with its JSON."""
    onnx.save(onnx.parser.parse_model(VOICE), str(file))
    config = {
        "audio": {"sample_rate": 22050},
        "espeak": {"voice": espeak},
        "language": {"code": code},
        "phoneme_type": alphabet,
        "phoneme_id_map": {symbol: [number] for number, symbol in enumerate(PHONEMES)},
        "num_symbols": 256,
        "num_speakers": 1,
        "hop_length": 256,
    }
    file.with_name(f"{file.name}.json").write_text(json.dumps(config), encoding="utf-8")
    return file
