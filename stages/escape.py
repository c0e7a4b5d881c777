"""The escape edit: filters of ffmpeg's own, as text, for what no stage does."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Annotated

from stages.clip import CHAIN, Clip, Size, Unit, filtered
from stages.errors import FfmpegError, InputError
from stages.ffmpeg import run_ffmpeg
from stages.stage import edit

TRIED = 24
"""Frames on which a chain is tried before it is taken."""


def parse_chain(text: str) -> str:
    """Filters one after another, as ffmpeg's `-vf` takes them.

    Raises InputError for nothing, and for what would reach out of its place in
    a graph: labels, a second chain, an open quote.
    """
    chain = text.strip()
    # What is quoted or escaped means itself; what is left must not be of the graph's grammar.
    bare = re.sub(r"\\.|'[^']*'", "x", chain, flags=re.DOTALL)
    if not all(part.strip() for part in bare.split(",")):
        raise InputError(f"should be filters such as hflip,eq=contrast=1.1, not '{text}'")
    if found := next((sign for sign in ";[]'\\" if sign in bare), ""):
        raise InputError(f"should be one chain, such as hflip,eq=contrast=1.1: '{found}' does not belong in it")
    return chain


@edit()
def ffmpeg(clip: Clip, *, filters: Annotated[str, Unit(parse_chain, "hflip,eq=contrast=1.1")]) -> Clip:
    """UNSAFE: send the picture through a chain of ffmpeg's own filters, such as `hflip,eq=contrast=1.1`.

    For what no stage does. Nothing is known of what they do to colours, and
    another ffmpeg may do it otherwise or not at all, so plan and report say
    that it was used. Frames, their times and their size must stay as they are:
    the chain is tried on 24 frames of a test picture, and the film is counted.
    Raises InputError for no picture, for what ffmpeg does not understand, and
    for a chain that changes how many frames there are, when, or how large.
    """
    if clip.picture is None:
        raise InputError("the clip has no picture")
    chain = parse_chain(filters)
    _try(chain, clip.picture.size, str(clip.picture.rate))
    stream = filtered(CHAIN, clip.picture.stream, text=chain)
    unsafe = f"UNSAFE: the picture goes through filters of ffmpeg's own that are not checked: {chain}"
    return replace(
        clip, picture=replace(clip.picture, stream=stream), remarks=tuple(dict.fromkeys((*clip.remarks, unsafe)))
    )


@cache
def _try(chain: str, size: Size, rate: str) -> None:
    """Raises InputError if frames, their times or their size are others after it."""
    graph = f"testsrc2=s={size}:r={rate},format=yuv420p,trim=end_frame={TRIED}[in];[in]{chain}[out];[out]showinfo"
    try:
        said = run_ffmpeg(["-filter_complex", graph, "-fps_mode", "passthrough", "-f", "null", "-"])
    except FfmpegError as error:
        why = re.sub(r"^ffmpeg failed \(.*?\): ", "", error.message)
        raise InputError(f"ffmpeg does not take '{chain}': {why}", "filters") from None
    if "Stream #0:1" in said.partition("Output #0")[2]:
        raise InputError(f"'{chain}' makes several pictures of one", "filters")
    frames = re.findall(r"\bpts_time:(\S+).*? s:(\d+)x(\d+) ", said)
    if len(frames) != TRIED:
        raise InputError(f"'{chain}' makes {len(frames)} frames of {TRIED}: their number must stay", "filters")
    if other := {f"{width}x{height}" for _, width, height in frames} - {str(size)}:
        raise InputError(f"'{chain}' makes {other.pop()} of {size}: use fit for that", "filters")
    first, second = (float(time) for time, *_ in frames[:2])
    per, whole = (float(part) for part in (*rate.split("/"), "1")[:2])
    if first or abs(second - whole / per) > 1e-3:
        raise InputError(f"'{chain}' shows frames at other times: use trim or speed for that", "filters")
