"""ffmpeg's own filters: they do what they say, they are never hidden, and they may not change frames or sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lab import LOSSLESS, TAGS, counted, described, film, luma

from stages import Clip, Encoding, FfmpegError, InputError, fit, open_clip, render, trim
from stages.escape import ffmpeg, parse_chain
from stages.manifest import action_names, manifest_of

EXACT = Encoding(preset="ultrafast", crf=0, profile="", b_frames=0)


@pytest.fixture(scope="module")
def slope(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """12 frames that get lighter to the right."""
    source = f"color=s=160x90:r=24:d=0.5,format=yuv420p,geq=lum='40+X':cb=128:cr=128,{TAGS}"
    return open_clip(film(tmp_path_factory.mktemp("slope") / "slope.mp4", "-f", "lavfi", "-i", source, *LOSSLESS))


def test_the_chain_is_carried_out_in_its_place(slope: Clip, tmp_path: Path) -> None:
    clip = ffmpeg(trim(slope, start="2f"), filters="hflip, lutyuv=y='clip(val, 0, 100)'")
    render(fit(clip, size="80x90"), tmp_path / "out.mp4", EXACT)
    frames = luma(tmp_path / "out.mp4")
    assert len(frames) == 10
    assert np.array_equal(frames[0][45], np.clip(40 + 159 - np.arange(40, 120), 0, 100))


def test_a_text_may_hold_what_the_graph_is_written_in(slope: Clip, tmp_path: Path) -> None:
    """What is quoted stays quoted, the marks of a graph and of our own among it."""
    render(
        ffmpeg(slope, filters="drawbox=c=black:t=fill:x='if(gt(1\\,0)\\,0\\,9)',negate"), tmp_path / "out.mp4", EXACT
    )
    assert luma(tmp_path / "out.mp4")[0].min() > 200
    assert parse_chain("drawtext=text='a[;],b'") == "drawtext=text='a[;],b'"


def test_it_is_said_to_be_unsafe_and_on_record() -> None:
    clip = fit(ffmpeg(described(), filters="hflip"), size="90x160")
    assert clip.remarks == ("UNSAFE: the picture goes through filters of ffmpeg's own that are not checked: hflip",)
    origin = clip.history[0].file
    assert origin
    assert clip.history[1].parameters == (("filters", "hflip"),)
    assert action_names(clip.history[:2], {origin: "parent"}, frozenset()) == ("c2pa.opened", "c2pa.edited")
    signed = manifest_of(clip.history, {origin: "parent"}, frozenset(), title="x", transcoded=True)
    assert "Filters of ffmpeg's own" in str(signed)
    assert "hflip" not in str(signed)  # it may name a file of the machine


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ("fps=12", "'fps=12' makes 12 frames of 24: their number must stay"),
        ("tpad=start=1", "'tpad=start=1' makes 25 frames of 24: their number must stay"),
        ("setpts=PTS*2", "'setpts=PTS*2' shows frames at other times: use trim or speed for that"),
        ("scale=80:46", "'scale=80:46' makes 80x46 of 160x90: use fit for that"),
        ("split", "'split' makes several pictures of one"),
        ("hflip=x=1", "ffmpeg does not take 'hflip=x=1': "),
        ("hflop", "lacks the filter 'hflop'"),
        ("overlay", "ffmpeg does not take 'overlay': "),
        ("hflip;[0:v]vflip", "';' does not belong in it"),
        ("hflip[out]", "'[' does not belong in it"),
        ("eq=contrast='1", "''' does not belong in it"),
        ("hflip\\", "'\\' does not belong in it"),
        ("hflip,,vflip", "should be filters such as hflip,eq=contrast=1.1, not 'hflip,,vflip'"),
        (" ", "should be filters such as hflip,eq=contrast=1.1, not ' '"),
    ],
)
def test_what_changes_frames_or_is_no_chain_is_refused_before_it_runs(chain: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        ffmpeg(described(), filters=chain)
    assert sentence in str(refused.value)


def test_a_sound_has_no_picture_to_filter() -> None:
    with pytest.raises(InputError, match="the clip has no picture"):
        ffmpeg(replace(described(), picture=None), filters="hflip")


def test_what_changes_frames_only_later_is_found_in_the_film(tmp_path: Path) -> None:
    """The trial has 24 frames; the film that is made is counted all the same."""
    clip = ffmpeg(open_clip(counted(tmp_path / "long.mp4")), filters="select='lt(n,30)'")
    with pytest.raises(FfmpegError, match="another film than was described: frames 30 instead of 48"):
        render(clip, tmp_path / "out.mp4", EXACT)
