"""What is written in signs is said in words, and captions still show what was written."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.clip import Word
from stages.reading import as_written, readings, said


@pytest.mark.parametrize(
    ("written", "heard"),
    [
        ("It costs $9.99 in 1080p, 20% off!", "It costs $9.99 in ten eighty p, 20 percent off!"),
        ("3 kg or 1 kg, 3kg, 5 °C", "3 kilograms or 1 kilogram, 3 kilograms, 5 degrees Celsius"),
        ("10-12 weeks, $5–10, 2019-2024", "10 to 12 weeks, $5 to $10, 2019 to 2024"),
        ("call 555-1234 on 2026-11-26 at 9:30", "call 555-1234 on 2026-11-26 at 9:30"),
        ("*bold*, **very bold**, `code`, 2*3*4", "bold, very bold, code, 2*3*4"),
        ("[our shop](https://a.example/c) is <i>new</i>", "our shop is new"),
        ("https://example.com/new?x=1, or a-b.io.", "example dot com slash new, or a dash b dot io."),
        ("me@example.com wrote Node.js", "me at example dot com wrote Node.js"),
        ("😀 Hi 👍🏽 there! 🇩🇪", "Hi there!"),
        ("A & B at 1.25x, 24/7", "A and B at 1.25 times, twenty four seven"),
        ("The 1990s, the '90s; a 30s clip, ‘60s’", "The 1990s, the nineties; a 30 seconds clip, sixties’"),
        ("20 €, 20€ or 5 £ (10 $).", "€20 , €20 or £5 (10 $)."),
        ("No. 1 of 20 m², 50/50, 1.5M views", "Number 1 of 20 square metres, 50 50, 1.5 million views"),
        ("No. He said no. CO2 and H2O.", "No. He said no. C O 2 and H 2 O."),
        ("www.example.com or www.com", "example dot com or www dot com"),
        ("1920x1080, #1, #summer_sale", "1920 by 1080, number 1, hashtag summer sale"),
    ],
)
def test_signs_are_said_in_words(written: str, heard: str) -> None:
    assert said(readings(written)) == heard


def test_other_languages_lose_only_what_is_seen() -> None:
    assert said(readings("*Nur* 3 kg & 20% 😀", "de")) == "Nur 3 kg & 20%"


@given(st.lists(st.sampled_from(["hi", "20%", "😀", "3-4", "—", "*b*", "a@b.co", "end."]), min_size=1, max_size=9))
def test_captions_show_what_was_written(words: list[str]) -> None:
    read = readings(" ".join(words))
    spoken = [Word(word, Fraction(at), Fraction(at + 1)) for at, word in enumerate(said(read).split())]
    shown = as_written(spoken, read)
    if spoken:
        assert " ".join(word.text for word in shown) == " ".join(one.written for one in read)
        assert (shown[0].start, shown[-1].end) == (spoken[0].start, spoken[-1].end)
        assert all(before.end == after.start for before, after in pairwise(shown))


def test_a_word_of_the_voice_that_reaches_into_the_next_joins_both() -> None:
    read = readings("3-4 gone")
    spoken = [Word("3", Fraction(0), Fraction(1)), Word("to 4 gone", Fraction(1), Fraction(2))]
    assert [word.text for word in as_written(spoken, read)] == ["3-4 gone"]
