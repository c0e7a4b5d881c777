"""What language a delivery is in, as its tracks and the files beside it say."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from lab import described

from stages import Clip, InputError, caption, deliver, open_clip
from stages.delivery import beside, cut
from stages.language_tags import container_code, parse_language
from stages.media import texts_of

SRT = "1\n00:00:00,500 --> 00:00:01,000\nGuten Tag.\n"


@pytest.mark.parametrize(
    ("text", "tag", "code"),
    [("de", "de", "deu"), ("ger", "de", "deu"), ("pt_br", "pt-BR", "por"), ("zh-Hant", "zh-Hant", "zho")],
)
def test_tags_are_put_right_and_coded_as_mp4_has_them(text: str, tag: str, code: str) -> None:
    assert parse_language(text) == tag
    assert container_code(tag, "mp4") == code


@pytest.mark.parametrize("text", ["german", "klingon", "", "x", "d", "qq"])
def test_what_is_no_language(text: str) -> None:
    with pytest.raises(InputError, match=f"should be a language such as de, en or pt-BR .BCP 47., not '{text}'"):
        parse_language(text)


def german(clip: Clip, folder: Path) -> Clip:
    (folder / "words.srt").write_text(SRT, encoding="utf-8")
    return caption(clip, file=folder / "words.srt", burn=False, sidecar="both", soft=True)


@pytest.mark.parametrize(("preset", "suffix", "code"), [("web", "mp4", "deu"), ("mezzanine", "mov", "ger")])
def test_the_tracks_and_the_files_beside_them_say_the_language(
    build: str, shot: Path, tmp_path: Path, preset: str, suffix: str, code: str
) -> None:
    made = deliver(german(open_clip(shot), tmp_path), preset, tmp_path / f"film.{suffix}", language="de-DE")
    with av.open(str(made.file)) as opened:
        assert [(s.type, s.metadata.get("language")) for s in opened.streams if s.type != "video"] == [
            ("audio", code),
            ("subtitle", code),
        ]
    assert [cue.text for cue in texts_of(made.file)] == ["Guten Tag."]
    assert [file.name for file in made.sidecars] == ["film.de-DE.srt", "film.de-DE.vtt"]
    assert all(file.is_file() for file in made.sidecars)


def test_without_a_language_the_files_are_called_as_the_film(tmp_path: Path) -> None:
    clip = german(described(seconds=3), tmp_path)
    named = [file.name for file in beside(cut(clip, "web"), Path("film.cut.mp4"))]
    assert named == ["film.cut.srt", "film.cut.vtt"]
    named = [file.name for file in beside(cut(clip, "web", language="de"), Path("film.cut.mp4"))]
    assert named == ["film.cut.de.srt", "film.cut.de.vtt"]
