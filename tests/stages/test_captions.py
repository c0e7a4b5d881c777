"""Captions say what was written, when it was written for: read, kept, escaped and laid out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import described, picture_of, sound_of

from stages import Clip, Cue, InputError, Size, Word, caption, trim
from stages.line_breaks import LINE_LENGTH, wrapped
from stages.subtitles import cues_from, read_srt, srt, styled, vtt

ONE = "1\n00:00:00,500 --> 00:00:01,000\nHello\n"

# ---------------------------------------------------------------- SRT, there and back

lines = st.text(
    st.sampled_from("{}\\<>&-→ abcé漢字😀\"'#0123:,.|‏") | st.characters(codec="utf-8", exclude_categories=["C", "Z"]),
    min_size=1,
).map(lambda text: " ".join(text.split()))
texts = st.lists(lines.filter(bool), min_size=1, max_size=3).map("\n".join)


@st.composite
def captions(draw: st.DrawFn) -> tuple[Cue, ...]:
    """Cues by time, to the millisecond."""
    edges = draw(st.lists(st.integers(0, 40_000_000), min_size=2, max_size=8, unique=True).map(sorted))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return tuple(Cue(draw(texts), Fraction(start, 1000), Fraction(end, 1000)) for start, end in pairs)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captions") / "captions.srt"


@given(captions())
def test_srt_reads_what_it_wrote(file: Path, cues: tuple[Cue, ...]) -> None:
    file.write_text(srt(cues), encoding="utf-8")
    assert read_srt(file) == tuple(replace(cue, text=cue.text.replace("-->", "→")) for cue in cues)


@pytest.mark.parametrize(
    "text", ["{an8} stays", "C:\\new", "a --> b", "<i>", "漢字 😀", "two\nlines", "1", "\n \nspace\n"]
)
def test_srt_keeps_what_other_writers_drop(file: Path, text: str) -> None:
    file.write_text(srt([Cue(text, Fraction(1), Fraction(2))]), encoding="utf-8")
    assert [cue.text for cue in read_srt(file)] == [text.replace("-->", "→").strip()]


def test_srt_of_other_writers(file: Path) -> None:
    said = "\ufeff2\r\n00:01:00,000 --> 00:01:01,000 X1:10\r\nsecond\r\n\r\n\r\n00:00:01.5 --> 00:00:02.5\r\nfirst\r\n"
    file.write_text(said, encoding="utf-8", newline="")
    assert read_srt(file) == (Cue("first", Fraction(3, 2), Fraction(5, 2)), Cue("second", Fraction(60), Fraction(61)))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("", "captions.srt: holds no captions"),
        ("Hello\n", "caption 1 has no line with its times"),
        (ONE + "\n2\n1:2 -> 3\nHello\n", "caption 2 has no line with its times"),
        ("00:00:01,000 --> soon\nHello\n", "caption 1: '00:00:01,000 --> soon' is not a pair of times"),
        ("00:00:01,000 -->\nHello\n", "is not a pair of times"),
        ("1 --> 2 --> 3\nHello\n", "is not a pair of times"),
        ("90f --> 91f\nHello\n", "'90f --> 91f' is not a pair of times"),
        ("00:00:02,000 --> 00:00:01,000\nHello\n", "caption 1 ends at 1 s, before it starts at 2 s"),
    ],
)
def test_a_file_that_is_no_srt_is_named_with_the_caption(file: Path, said: str, sentence: str) -> None:
    file.write_text(said, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_srt(file)
    assert str(refused.value).startswith(str(file))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_not_text(file: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.srt: there is no such file"):
        read_srt(file.with_name("nowhere.srt"))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"captions\.srt: cannot be read as UTF-8"):
        read_srt(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_srt(file.parent)


# ---------------------------------------------------------------- WebVTT and ASS


def test_vtt_escapes_what_it_would_read_as_markup() -> None:
    assert vtt(
        [Cue("a < b & c --> d", Fraction(1), Fraction(3661500, 1000)), Cue("x\n\ny", Fraction(2), Fraction(3))]
    ) == ("WEBVTT\n\n00:00:01.000 --> 01:01:01.500\na &lt; b &amp; c → d\n\n00:00:02.000 --> 00:00:03.000\nx\ny\n")


@given(captions())
def test_vtt_has_no_markup_and_no_arrow_but_its_own(cues: tuple[Cue, ...]) -> None:
    body = vtt(cues).removeprefix("WEBVTT\n\n")
    assert body.count("-->") == len(cues)
    assert "<" not in body
    assert len([block for block in body.split("\n\n") if block.strip()]) == len(cues)


def test_ass_is_laid_out_for_the_frame_it_is_burnt_into() -> None:
    wide = styled([Cue("{x}\nC:\\new", Fraction(1), Fraction(5, 2))], Size(1920, 1080))
    assert "PlayResX: 1920\nPlayResY: 1080" in wide
    assert "Dialogue: 0,0:00:01.00,0:00:02.50,line,\\{x\\}\\NC:\\\u2060new\n" in wide
    assert "PlayResX: 1080\nPlayResY: 1920" in styled([], Size(1080, 1920))


# ---------------------------------------------------------------- wrapping


def test_a_long_line_is_broken_in_the_middle() -> None:
    assert wrapped("A short line stays.") == "A short line stays."
    assert (
        wrapped("The quick brown fox jumps over the lazy dog twice.")
        == "The quick brown fox jumps\nover the lazy dog twice."
    )


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=14))
def test_no_line_is_longer_than_the_eye_reads(words: list[str]) -> None:
    text = wrapped(" ".join(words))
    assert text.split() == words
    assert max(map(len, text.split("\n"))) <= LINE_LENGTH


# ---------------------------------------------------------------- from words


def spoken(*said: str, each: Fraction = Fraction(3, 10), pauses: dict[int, int] | None = None) -> tuple[Word, ...]:
    """Words one after the other, with a pause of so many seconds before those named."""
    words: list[Word] = []
    at = Fraction(0)
    for index, text in enumerate(said):
        at += (pauses or {}).get(index, 0)
        words.append(Word(text, at, at + each))
        at += each
    return tuple(words)


def test_cues_break_at_sentences_and_pauses() -> None:
    words = spoken("Morning", "comes.", "One", "round", "rabbit", "wakes", pauses={4: 1})
    assert [(cue.text, cue.start, cue.end) for cue in cues_from(words)] == [
        ("Morning comes.", Fraction(0), Fraction(3, 5)),
        ("One round", Fraction(3, 5), Fraction(6, 5)),
        ("rabbit wakes", Fraction(11, 5), Fraction(14, 5)),
    ]


@given(st.lists(st.text("abcdefgh.!?", min_size=1, max_size=12), min_size=1, max_size=60))
def test_cues_say_every_word_once_in_order_and_never_two_at_a_time(said: list[str]) -> None:
    cues = cues_from(spoken(*said))
    assert " ".join(cue.text for cue in cues).split() == said
    assert all(len(cue.text.split("\n")) <= 2 for cue in cues)
    edges = [edge for cue in cues for edge in (cue.start, cue.end)]
    assert edges == sorted(edges)


# ---------------------------------------------------------------- the edit


def talking() -> Clip:
    clip = described(seconds=3)
    return replace(clip, sound=replace(sound_of(clip), words=spoken("Hello", "there.")))


def cues_of(clip: Clip) -> list[str]:
    captions = picture_of(clip).captions
    assert captions
    return [cue.text for cue in captions.cues]


def test_captions_come_from_the_clips_own_words_or_from_a_file(file: Path) -> None:
    assert cues_of(caption(talking())) == ["Hello there."]
    file.write_text(ONE, encoding="utf-8")
    assert cues_of(caption(described(), file=file)) == ["Hello"]


def test_the_record_names_the_file_and_not_where_it_lies(file: Path) -> None:
    file.write_text(ONE, encoding="utf-8")
    assert caption(described(), file=file).history[-1].parameters == (("file", "captions.srt"),)


def test_what_cannot_be_captioned_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="caption: the clip has no picture to write on"):
        caption(replace(talking(), picture=None))
    with pytest.raises(InputError, match="caption: no words are known"):
        caption(described())
    with pytest.raises(InputError, match="has captions already"):
        caption(caption(talking()))
    file.write_text(ONE.replace("00:00:00,5", "00:00:02,5").replace("01,0", "03,0"), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        caption(trim(described(), length="2s"), file=file)
    assert str(refused.value) == "caption: 'Hello' starts at 2.5 s, after the clip's end at 2 s"


def test_an_empty_caption_after_the_end_is_refused_too(file: Path) -> None:
    file.write_text("1\n00:00:09,000 --> 00:00:10,000\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="9 s"):
        caption(described(seconds=3), file=file)
