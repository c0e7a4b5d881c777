"""A film's end is cut off without encoding it, on each ffmpeg; browsers are tried by `tests/benchmarks/tails.py`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from lab import counted, luma, numbers, picture_of, sound_of, times

from stages import Encoding, InputError, deliver, open_clip, render, strip_audio, trim, upscale
from stages.clip import PictureFacts, Source, samples_for
from stages.delivery import cut
from stages.media import mp4_layout, packets_through
from stages.provenance import read_credentials, signer_for
from stages.tails import ends_clean

LISTS, NONE = Encoding(), Encoding(edit_lists=False)
TONE = ("-f", "lavfi", "-i", "sine=f=300:r=48000:d=2", "-c:a", "aac")
KINDS = {"no B-frames": "bframes=0", "B-frames": "bframes=2", "pyramid": "bframes=3:b-pyramid=normal"}


def filmed(target: Path, kind: str, rate: str = "24") -> Path:
    """2 s whose frames say their numbers, with a tone."""
    options = f"{KINDS[kind]}:b-adapt=0:scenecut=0:keyint=24:open-gop=0"
    return counted(target, *TONE, "-c:v", "libx264", "-crf", "4", "-x264-params", options, rate=rate)


def clean(file: Path) -> set[int]:
    """After how many frames it may be cut."""
    stream = picture_of(file).stream
    assert isinstance(stream, Source)
    assert isinstance(stream.facts, PictureFacts)
    facts = stream.facts
    return {frames for frames in range(1, facts.frames + 1) if ends_clean(facts, frames)}


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_film_may_end_is_known_from_its_packets(kind: str, tmp_path: Path) -> None:
    file = filmed(tmp_path / "film.mp4", kind)
    assert clean(file) == {frames for frames in range(1, 49) if packets_through(file, frames) == frames}
    assert len(clean(file)) == {"no B-frames": 48, "B-frames": 18, "pyramid": 14}[kind]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize(("kind", "rate"), [("B-frames", "24"), ("pyramid", "30000/1001")])
def test_the_frames_of_a_tail_cut_are_those_of_the_film(kind: str, rate: str, tmp_path: Path) -> None:
    file, made = filmed(tmp_path / "film.mp4", kind, rate), tmp_path / "out.mp4"
    plain, hiding = luma(file), set(range(20, 34)) - clean(file)
    for frames, encoding in ((min(clean(file) - set(range(20))), NONE), (min(hiding), LISTS)):
        render(trim(open_clip(file), length=f"{frames}f", lossless="require"), made, encoding)
        assert all(np.array_equal(one, other) for one, other in zip(luma(made), plain[:frames], strict=True))
        assert times(made) == pytest.approx([float(n / Fraction(rate)) for n in range(frames)], abs=1e-4)
        assert sound_of(made).samples == samples_for(frames, Fraction(rate))
        assert picture_of(made).frames == frames
        assert mp4_layout(made).edit_lists == encoding.edit_lists


def test_a_cut_that_would_have_to_hide_a_frame_is_encoded_unless_it_must_not_be(tmp_path: Path) -> None:
    clip = open_clip(filmed(tmp_path / "film.mp4", "B-frames"))
    allowed, hidden = trim(clip, length="28f"), trim(clip, length="27f")
    assert cut(allowed, "web").said == "its end is cut off, and the rest is copied"
    assert cut(hidden, "web").reason == (
        "its end is cut off after frame 27, which rests on a later one, and browsers may take that for a longer film"
    )
    assert not cut(trim(clip, length="27f", lossless="require"), "web").reason
    assert cut(trim(clip, length="28f", lossless="never"), "web").reason == "its end is cut off"
    assert cut(trim(trim(clip, length="40f"), length="28f"), "web").tail
    assert not cut(upscale(allowed, size="2x"), "web").tail


def test_what_must_be_lossless_and_cannot_is_refused(tmp_path: Path) -> None:
    clip = open_clip(filmed(tmp_path / "film.mp4", "B-frames"))
    with pytest.raises(InputError, match="a cut at the start is encoded"):
        trim(clip, start="4f", lossless="require")
    with pytest.raises(InputError, match=r"edit_lists.*its end is cut off after frame 27.*only an edit list"):
        render(trim(clip, length="27f", lossless="require"), tmp_path / "out.mp4", NONE)
    edited = upscale(trim(clip, length="28f", lossless="require"), size="2x")
    with pytest.raises(InputError, match="lossless: require, and the picture must be encoded: its picture is edited"):
        cut(edited, "web")


def test_a_tail_cut_is_on_record_as_a_trim_and_not_as_a_new_encode(tmp_path: Path) -> None:
    clip = strip_audio(open_clip(filmed(tmp_path / "film.mp4", "B-frames")))
    made = deliver(trim(clip, length="28f"), "web", tmp_path / "out.mp4", signer=signer_for(tmp_path))
    assert made.copied
    assert numbers(made.file) == list(range(28))
    names = [name for name, _, _ in read_credentials(made.file).actions]
    assert names[0] == "c2pa.opened"
    assert names[-2:] == ["c2pa.trimmed", "c2pa.repackaged"]
