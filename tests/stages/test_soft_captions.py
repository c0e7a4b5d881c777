"""Captions in a track of their own: what a player reads of it, in every container, by both builds of ffmpeg."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import described, film, picture_of

from stages import Clip, Cue, InputError, caption, concat, conform, deliver, open_clip, render, strip_audio, trim
from stages.clip import Captions
from stages.delivery import cut
from stages.encoding import Encoding
from stages.media import mp4_layout, probe, texts_of
from stages.subtitles import read_cues, srt, vtt
from stages.timed_text import LONGEST, samples, text_track

MARKED = "{\\an8}a <i> & --> C:\\new \\N {x} \U0001f600\n&amp; second &nbsp;"
"""What the decoders of SRT and WebVTT would read as markup."""


def at(start: int, end: int, text: str = "Hello") -> Cue:
    """A cue by its milliseconds."""
    return Cue(text, Fraction(start, 1000), Fraction(end, 1000))


SAID = (at(501, 1003, MARKED), at(1003, 1250), at(2123, 2777, "漢字 שלום"))


def soft(clip: Clip, cues: tuple[Cue, ...] = SAID, burn: bool = False) -> Clip:
    return replace(clip, picture=replace(picture_of(clip), captions=Captions(cues, burn, soft=True)))


# ---------------------------------------------------------------- the track


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 900), st.sampled_from("ab ")), max_size=6))
def test_a_track_is_without_a_gap_and_shows_each_caption_when_it_is_due(spans: list[tuple[int, int, str]]) -> None:
    cues = [at(start, start + length, text) for start, length, text in spans]
    shown = samples(cues)
    edges = [0, *(end for _, _, end in shown)]
    assert [start for _, start, _ in shown] == edges[:-1]
    assert all(start < end for _, start, end in shown)
    for moment in range(0, 4000, 50):
        due = [text for text, cue in ((cue.text.strip(), cue) for cue in cues) if text and _shows(cue, moment)]
        assert [text for text, start, end in shown if start <= moment < end and text] == (
            ["\n".join(due)] if due else []
        )


def _shows(cue: Cue, moment: int) -> bool:
    return cue.start * 1000 <= moment < cue.end * 1000


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z"]), min_size=1), max_size=4))
def test_a_player_reads_the_very_text(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "track.mp4"
    cues = tuple(at(1000 * number + 7, 1000 * number + 900, text) for number, text in enumerate(said))
    file.write_bytes(text_track(cues, picture_of(described()).frame))
    if cues:
        assert texts_of(file) == cues


# ---------------------------------------------------------------- films


@pytest.mark.parametrize(
    ("edit_lists", "container"), [(True, "mp4"), (False, "mp4"), (True, "mov")], ids=["edits", "none", "mov"]
)
def test_a_film_carries_every_letter_to_the_millisecond(
    build: str, shot: Path, tmp_path: Path, edit_lists: bool, container: str
) -> None:
    """Where edit lists are forbidden too, though nothing is shown at first."""
    target = tmp_path / f"film.{container}"
    render(soft(open_clip(shot)), target, Encoding(edit_lists=edit_lists, container=container))
    assert texts_of(target) == SAID
    assert mp4_layout(target).edit_lists is edit_lists
    with av.open(str(target)) as opened:
        (stream,) = opened.streams.subtitles
        assert stream.start_time == 0
        assert (stream.codec_context.name, opened.streams.video[0].start_time) == ("mov_text", 0)
    bare = tmp_path / f"bare.{container}"
    render(open_clip(shot), bare, Encoding(edit_lists=edit_lists, container=container))
    assert probe(target) == probe(bare)


def test_soft_captions_leave_the_picture_as_it_is(shot: Path) -> None:
    clip = strip_audio(open_clip(shot))
    assert not Encoding().refuses(picture_of(soft(clip)))
    assert Encoding().refuses(picture_of(soft(clip, burn=True)))


def test_cuts_and_joins_move_the_track(shot: Path, tmp_path: Path) -> None:
    clip = trim(soft(open_clip(shot)), start="1s")
    render(concat((clip, clip)), tmp_path / "film.mp4")
    assert [(cue.start, cue.end) for cue in texts_of(tmp_path / "film.mp4")][:3] == [
        (Fraction(0), Fraction(3, 1000)),
        (Fraction(3, 1000), Fraction(1, 4)),
        (Fraction(1123, 1000), Fraction(1777, 1000)),
    ]
    assert len(texts_of(tmp_path / "film.mp4")) == 6


def test_a_tail_that_is_cut_off_without_encoding_takes_its_captions_along(shot: Path, tmp_path: Path) -> None:
    clip = trim(soft(open_clip(shot)), length="2.5s", lossless="require")
    render(clip, tmp_path / "film.mp4")
    assert texts_of(tmp_path / "film.mp4") == (*SAID[:2], replace(SAID[2], end=Fraction(5, 2)))


# ---------------------------------------------------------------- deliveries


@pytest.mark.parametrize("preset", ["youtube", "web"])
def test_a_signed_delivery_conforms_with_the_track_in_it(build: str, shot: Path, tmp_path: Path, preset: str) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt(SAID), encoding="utf-8")
    clip = caption(open_clip(shot), file=file, burn=False, sidecar="both", soft=True)
    made = deliver(clip, preset, tmp_path / "out.mp4")
    assert made.verdict.verdict not in ("absent", "tampered", "broken")
    assert [row for row in conform(made.file, preset) if not row.fine] == []
    arrow = tuple(replace(cue, text=cue.text.replace("-->", "→")) for cue in SAID)  # what SRT cannot hold
    assert texts_of(made.file) == arrow
    assert [read_cues(beside) for beside in made.sidecars] == [arrow, arrow]


def test_what_holds_no_text_track_is_delivered_without_it_and_says_so() -> None:
    clip = soft(described(seconds=3))
    said = "has no text track: the soft captions are left out"
    assert [note for note in cut(clip, "preview-gif").notes if said in note]
    assert not [note for note in cut(clip, "preview-gif", captions=False).notes if said in note]
    assert not [note for note in cut(clip, "web").notes if said in note]


def test_a_text_that_no_sample_holds(tmp_path: Path) -> None:
    file = tmp_path / "words.srt"
    file.write_text(srt([at(0, 1000, "x" * (LONGEST + 1))]), encoding="utf-8")
    with pytest.raises(InputError, match="the caption at 0 s is 65536 bytes long, and a text track takes 65535"):
        caption(described(), file=file, burn=False, soft=True)


# ---------------------------------------------------------------- the files beside it

lines = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from("&<>-{}\\ "), min_size=1)
texts = lines.map(lambda text: " ".join(text.split())).filter(bool)


@settings(max_examples=50)
@given(st.lists(st.lists(texts, min_size=1, max_size=2).map("\n".join), min_size=1, max_size=4))
def test_webvtt_reads_what_it_wrote(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "captions.vtt"
    cues = tuple(at(1000 * number + 1, 1000 * number + 999, text) for number, text in enumerate(said))
    file.write_text(vtt(cues), encoding="utf-8")
    assert read_cues(file) == tuple(replace(cue, text=cue.text.replace("-->", "→")) for cue in cues)


def test_a_film_without_a_track_has_no_texts(shot: Path, tmp_path: Path) -> None:
    assert texts_of(shot) == ()
    burnt = film(tmp_path / "x.mkv", "-i", str(shot), "-c", "copy")
    assert texts_of(burnt) == ()
