"""Where lines break: what never begins or ends one, and how long they are in scripts without spaces."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.clip import Cue, Word
from stages.line_breaks import CLOSING, KANA_LENGTH, OPENING, SMALL, WIDE_LENGTH, fitted, units, width, wrapped
from stages.subtitles import cues_from, timed

JAPANESE = (
    "新しいスマートフォンは、とても軽くて使いやすいです。"
    "カメラの画質も「すばらしい」と評判で、毎日の写真がもっと楽しくなります。"
)
CHINESE = "今天我们为您介绍三种新颜色：玫瑰红、柑橘黄和薄荷绿，欢迎到店里来看看。现在下单，全场八折！"
KOREAN = "새로운 색상 세 가지를 지금 만나 보세요. 장미, 감귤, 그리고 민트입니다."

signs = st.text(st.sampled_from("日本語をかきょっカメーラ、。「」（）！abc 12%한글’"), max_size=90)


@given(signs)
def test_units_are_the_whole_text_and_latin_ones_its_words(text: str) -> None:
    assert "".join(units(text)) == text.lstrip()
    latin = "".join(sign for sign in text if sign.isascii())
    assert [unit.strip() for unit in units(latin)] == latin.split()


@given(signs)
def test_no_line_begins_with_what_closes_or_ends_with_what_opens(text: str) -> None:
    for number, unit in enumerate(units(text)):
        if number and unit.strip().strip(OPENING + CLOSING + SMALL):  # signs alone have nothing to cling to
            assert unit[0] not in "、。」）！ょっー" or units(text)[number - 1][-1].isspace()
            assert unit.strip()[-1] not in "「（"


@pytest.mark.parametrize(
    ("text", "most"), [(JAPANESE, KANA_LENGTH), (CHINESE, WIDE_LENGTH), (KOREAN, WIDE_LENGTH)], ids=["ja", "zh", "ko"]
)
def test_a_text_of_wide_signs_is_cues_of_two_short_lines(text: str, most: int) -> None:
    words = tuple(Word(word, Fraction(at), Fraction(at + 1)) for at, word in enumerate(text.split()))
    cues = cues_from(words)
    lines = [line for cue in cues for line in cue.text.split("\n")]
    assert max(map(width, lines)) <= most
    assert max(cue.text.count("\n") for cue in cues) == 1
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(before.end <= after.start for before, after in pairwise(cues))
    for cue in cues:  # the words of a cue are those that it shows, each in its own time
        assert [word.text.strip() for word in timed(cue)] == [word.text for word in cue.words]
        assert [word.start for word in timed(cue)] == [word.start for word in cue.words]


def test_japanese_is_broken_where_a_phrase_ends() -> None:
    assert wrapped("カメラの画質も「すばらしい」と評判で、") == "カメラの画質も\n「すばらしい」と評判で、"
    assert wrapped("毎日の写真がもっと楽しくなります。") == "毎日の写真がもっと\n楽しくなります。"


def test_what_is_too_long_for_the_frame_is_broken_anew_and_the_rest_left() -> None:
    assert fitted("今天我们为您介绍三种新颜色：\n玫瑰红", 40) == "今天我们为您介绍三种新颜色：\n玫瑰红"
    assert fitted("今天我们为您介绍\n三种新颜色", 12) == "今天我们为您\n介绍三种新颜\n色"
    for latin in (
        "A line that is longer than it should be is broken by libass",
        "😀 A line as long as this one here is",
    ):
        assert fitted(latin, 20) == latin


def test_a_dash_that_was_spoken_with_its_word_has_the_words_time() -> None:
    words = (Word("come —", Fraction(0), Fraction(3)), Word("gone", Fraction(3), Fraction(4)))
    cue = Cue("come — gone", Fraction(0), Fraction(4), words)
    assert [word.text.strip() for word in timed(cue)] == ["come", "—", "gone"]
    assert [word.end for word in timed(cue)] == [Fraction(5, 2), 3, 4]
