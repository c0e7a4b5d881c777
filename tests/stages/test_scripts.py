"""Scripts: where lines and sentences begin and end, and how a line comes to fit its slot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import trim
from stages.clip import Action, Clip, Sound, SoundFacts, Source, Word, origins, sources
from stages.errors import InputError, ProviderUnavailable
from stages.market import Market
from stages.mixing import measure
from stages.narration import Asked, narrate, speak
from stages.scripts import Line, read_script, sentences
from stages.stage import stage_of

SECOND = 48_000

# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Now. And then? Yes!", 3),
        ("Dr. Smith met J. K. Rowling on Jan. 5th. She left.", 2),
        ("It costs $9.99 at example.com today. Really.", 2),
        ('“Nothing,” she said, “is impossible.” 😀 "Go." (Or stay.)', 3),
        ("Wait... what? no", 1),
        ("One\n\nTwo", 2),
        ("现在有三种颜色。第四种也来了。", 2),
        ("…", 1),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count


@given(st.text("aB.!? \n😀", max_size=40))
def test_no_word_is_lost_between_sentences(text: str) -> None:
    assert " ".join(sentences(text)).split() == text.split()


# ---------------------------------------------------------------- files

SCRIPT = """# Launch film

Hello
there.

## 0:05 The product
<!-- louder? -->
**Anna:** Now in *three* colours.
[0:09-0:12] **Ben**: And a fourth.
- Ben: Order today.

---
"""


def test_a_markdown_script_has_speakers_and_times(tmp_path: Path) -> None:
    file = tmp_path / "film.md"
    file.write_text(SCRIPT)
    assert [(line.text, line.speaker, line.start, line.end) for line in read_script(file, ("Ben",))] == [
        ("Hello there.", "", None, None),
        ("Now in *three* colours.", "Anna", 5, None),
        ("And a fourth.", "Ben", 9, 12),
        ("Order today.", "Ben", None, None),
    ]
    assert read_script(file)[-1] == Line("Ben: Order today.")  # a colon alone makes no speaker


def test_a_subtitle_file_has_slots(tmp_path: Path) -> None:
    file = tmp_path / "film.srt"
    file.write_text("1\n00:00:01,000 --> 00:00:02,500\nAnna: Hello\nthere.\n")
    assert read_script(file, ("anna",)) == (Line("Hello\nthere.", "anna", at=Fraction(1), until=Fraction(5, 2)),)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.md", "# Only a heading\n", "a.md: there is nothing to speak"),
        ("a.md", "Hello.\n\n```\ncode\n```\n", "a.md:3: a table or a block of code cannot be spoken"),
        ("a.docx", "Hello.", r"a.docx: should be a .md or an .srt file"),
        ("a.srt", "Hello.", "caption 1 has no line with its times"),
    ],
)
def test_a_script_that_is_not_understood_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_script(tmp_path / name)


# ---------------------------------------------------------------- slots


class Told:
    """A voice that takes a second a word, and does as told; what it was asked is kept."""

    def __init__(self, *, refuses: str = "") -> None:
        self.asked: dict[str, Asked] = {}
        self.refuses = refuses

    def __call__(self, asked: Mapping[str, Asked]) -> tuple[Clip, ...]:
        if any(one["voice"] == self.refuses for one in asked.values()):
            raise InputError(f"voice {self.refuses} needs a key")
        self.asked |= asked
        return tuple(self.clip(part, one) for part, one in asked.items())

    def clip(self, part: str, one: Asked) -> Clip:
        text = str(one["text"]).split()
        pace = 1 / Fraction(str(one.get("speed", 1)))
        words = tuple(Word(word, number * pace, (number + 1) * pace) for number, word in enumerate(text))
        samples = round(len(text) * pace * SECOND)
        source = Source(Path(f"{part}.wav"), SoundFacts("pcm_s16le", "", SECOND, 1, "mono", samples))
        return Clip(sound=Sound(source, samples, words), history=(Action("speak", file=source.path),))


def starts(clip: Clip) -> list[tuple[str, Fraction]]:
    assert clip.sound
    return [(word.text, word.start) for word in clip.sound.words]


def test_lines_and_sentences_stand_apart() -> None:
    clip = narrate((Line("One. Two."), Line("Three.")), make=Told())
    assert starts(clip) == [("One.", 0), ("Two.", Fraction(5, 4)), ("Three.", Fraction(11, 4))]
    assert clip.duration == Fraction(15, 4)
    assert [str(origin.file) for origin in origins(clip.history)] == ["1.1.wav", "1.2.wav", "2.wav"]


def test_a_time_is_kept_to_the_sample() -> None:
    clip = narrate((Line("One.", at="0.3s"), Line("Two.", at="5s")), make=Told())
    assert starts(clip) == [("One.", Fraction(3, 10)), ("Two.", 5)]
    assert clip.duration == 6


def test_a_line_that_is_too_long_is_stretched_and_its_words_with_it() -> None:
    told = Told()
    clip = narrate((Line("a b c d e f g h i j", at=0, until="9s"),), make=told)
    assert [one.get("speed") for one in told.asked.values()] == [None]
    assert clip.duration == 9
    assert starts(clip) == [(word, Fraction(9 * number, 10)) for number, word in enumerate("abcdefghij")]


LATE = (Line("a b c d e", at=0, until="2s"), Line("f", at="4.1s"))


def test_what_hurrying_does_not_help_flows_into_the_gap() -> None:
    clip = narrate(LATE, make=Told())
    assert dict(starts(clip))["f"] == Fraction(41, 10)
    with pytest.raises(InputError, match=r"line 1 is 4 s and has 2 s even at 1\.25 times its pace: .* fit: flow"):
        narrate(LATE, fit="speed", make=Told())
    with pytest.raises(InputError, match="line 1 is 5 s and has 2 s: shorten it"):
        narrate(LATE, fit="error", make=Told())


def test_nothing_overlaps_and_nothing_is_cut() -> None:
    lines = (Line("a b c d e f g h i j", at=0), Line("k", at="4s"), Line("l", at="8.5s"), Line("m", at="20s"))
    with pytest.raises(InputError, match=r"line 1 is 8 s and has 3\.9 s before the next line.*fit: extend"):
        narrate(lines, make=Told())
    clip = narrate(lines, fit="extend", make=Told())
    assert [(word, float(at)) for word, at in starts(clip)[-3:]] == [("k", 8.1), ("l", 9.0), ("m", 20)]
    assert clip.remarks == ("lines start up to 4.1 s later than their times",)
    late = narrate(lines[:2], fit="extend", make=Told())
    assert late.remarks[1:] == ("the narration runs 4.1 s longer than its times: hold the picture until 9.1 s",)


def test_times_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="line 2 is at 2 s, and line 1 has until 3 s"):
        narrate((Line("a", at=0, until="3s"), Line("b", at="2s")), make=Told())
    with pytest.raises(InputError, match="line 1 has until: 1 s, and no at: before it"):
        narrate((Line("a", until="1s"),), make=Told())
    with pytest.raises(InputError, match="frames: give seconds"):
        narrate((Line("a", at="10f"),), make=Told())
    with pytest.raises(InputError, match="a text or a script"):
        narrate(make=Told())


# ---------------------------------------------------------------- who speaks


def test_speakers_have_voices_and_a_line_may_have_its_own() -> None:
    told = Told()
    lines = (Line("a", "Anna"), Line("b", "ben"), Line("c", voice="heart"), Line("d"))
    narrate(lines, voice="heart", voices={"anna": ("heart",), "Ben": ("espeak",)}, make=told)
    assert [one["voice"] for one in told.asked.values()] == ["heart", "espeak", "heart", "heart"]


def test_one_that_stands_in_is_told() -> None:
    told = Told(refuses="heart")
    clip = narrate("Hello.", voice=("heart", "espeak"), make=told)
    assert [one["voice"] for one in told.asked.values()] == ["espeak"]
    assert clip.remarks == ("voice heart needs a key; espeak speaks instead",)
    with pytest.raises(InputError, match="voice heart needs a key"):
        narrate("Hello.", voice="heart", make=told)
    with pytest.raises(InputError, match=r"no voice 'espeek' \(did you mean espeak\?\)"):
        narrate("Hello.", voice=("heart", "espeek"), make=told)


def test_a_voice_that_is_paid_is_asked_once_a_line() -> None:
    told = Told()
    lines = (Line("One. Two.", at=0, until="1.9s"), Line("Three.", take=2))
    narrate(lines, voice="openai:marin", take=3, shop=Market(date.today()), make=told)
    assert [(one["text"], one["take"]) for one in told.asked.values()] == [("One. Two.", 3), ("Three.", 4)]


def test_a_test_voice_stands_in_for_nobody() -> None:
    with pytest.raises(InputError, match="a simulator speaks only when it is named alone"):
        narrate("Hello.", voice=("openai", "sim"), shop=Market(date.today()), make=Told())


def test_a_voice_that_breaks_down_is_stood_in_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hung(*_: object) -> NoReturn:
        raise ProviderUnavailable("voice heart hung")

    monkeypatch.setattr("stages.voices.hibari.Heart.speak", hung)
    clip = speak("Hello.", voice=("heart", "espeak"), folder=tmp_path)
    assert clip.remarks == ("voice heart hung; espeak speaks instead",)
    assert clip.history[0].agent.startswith("espeakng-loader")
    with pytest.raises(ProviderUnavailable, match="voice heart hung"):
        speak("Hello.", folder=tmp_path)


# ---------------------------------------------------------------- heard


def peak(clip: Clip) -> float:
    assert clip.sound
    return measure(clip.sound).true_peak


def test_a_script_is_rendered_as_its_words_say(tmp_path: Path) -> None:
    """A line squeezed into its slot has ended in it, and the next begins where it should, to the sample."""
    lines = (Line("One two three four five six seven.", at="0.5s", until="2s"), Line("Eight.", at="3s"))
    clip = speak(lines, voice="espeak", fit="flow", folder=tmp_path)
    assert clip.sound
    ends = clip.sound.words[6].end
    assert [word.text for word in clip.sound.words][-1] == "Eight."
    assert len(sources(clip.sound.stream)) == 2
    between = trim(clip, start=ends + Fraction(1, 20), end=Fraction(3) - Fraction(1, 50))
    assert peak(between) < -60
    for start, length in ((Fraction(1, 2), "0.3s"), (Fraction(3), "0.2s")):
        assert peak(trim(clip, start=start, length=length)) > -20
    assert peak(trim(clip, length="0.49s")) < -60


def test_a_list_of_lines_is_read_off_the_signature() -> None:
    rows = next(parameter for parameter in stage_of(speak).parameters if parameter.name == "text")
    assert rows.kind == "rows"
    assert [field.name for field in rows.fields] == [
        "text",
        "speaker",
        "voice",
        "language",
        "speed",
        "at",
        "until",
        "take",
    ]
