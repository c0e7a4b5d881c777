"""What one delivery has to itself: an overlay, a language."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from PIL import Image
from workshop import Workshop

from pipeline.tasks import Film
from stages.errors import RecipeError
from stages.provenance import read_credentials

pytest_plugins = ["desks"]

OWN = """\
inputs: {clip: clip.mp4}
steps:
  - trim: {clip: $clip, length: 0.5s}
  - caption: {file: words.srt, burn: no, sidecar: srt, soft: yes}
deliver:
  - {preset: web, file: out/plain.mp4}
  - {preset: web, file: out/en.mp4, language: en}
  - {preset: web, file: out/de.mp4, language: de, overlay: {image: logo.png, corner: bottom-left, size: 30%}}
"""


@pytest.fixture
def logo(workshop: Workshop) -> Workshop:
    """With a teal logo, which nothing in the film is like."""
    Image.new("RGB", (32, 18), (0, 128, 128)).save(workshop.folder / "logo.png")
    return workshop


def teal(file: str) -> bool:
    """Whether the lower left corner is teal."""
    with av.open(file) as opened:
        frame = next(opened.decode(video=0)).to_ndarray(format="rgb24").astype(np.int16)
    height, width = frame.shape[:2]
    corner = frame[round(height * 0.85) : round(height * 0.93), round(width * 0.07) : round(width * 0.12)]
    return bool((corner[..., 0] < 60).all() and (corner[..., 1] > 90).all() and (corner[..., 1] < 160).all())


def test_each_delivery_has_its_own_overlay_and_language(logo: Workshop) -> None:
    result = logo.run(OWN)
    out = logo.folder / "out"
    assert sorted(file.name for file in out.glob("*.srt")) == ["de.de.srt", "en.en.srt", "plain.srt"]
    assert [teal(str(out / f"{name}.mp4")) for name in ("plain", "en", "de")] == [False, False, True]
    tags = {}
    for name in ("plain", "en", "de"):
        with av.open(str(out / f"{name}.mp4")) as opened:
            tags[name] = [stream.metadata.get("language") for stream in opened.streams if stream.type != "video"]
    assert tags == {"plain": ["und", "und"], "en": ["eng", "eng"], "de": ["deu", "deu"]}
    inner = read_credentials(out / "de.mp4").ingredients
    assert [(one.title, one.relationship) for one in inner] == [("clip.mp4", "parentOf"), ("logo.png", "componentOf")]
    assert len(read_credentials(out / "en.mp4").ingredients) == 1
    kinds = [task.name.partition("-")[0] for task in result.final.tasks]
    assert (kinds.count("sound"), kinds.count("film")) == (1, 3)
    assert not [task for task in logo.plan(OWN).tasks if task.action != "cached"]
    (out / "de.de.srt").unlink()
    assert [file.name for file in logo.run(OWN).placed] == ["de.de.srt"]


def test_another_logo_makes_that_delivery_anew_and_no_other(logo: Workshop) -> None:
    logo.run(OWN)
    Image.new("RGB", (32, 18), (0, 0, 255)).save(logo.folder / "logo.png")
    films = [task for task in logo.plan(OWN).tasks if isinstance(task.work, Film) and task.action != "cached"]
    assert [task.slot for task in films] == ["out/de.mp4:film for web"]


def test_an_overlay_of_a_file_that_is_delivered_as_it_is_and_in_short(logo: Workshop) -> None:
    text = 'deliver: [{preset: web, file: out/a.mp4, clip: clip.mp4, overlay: "Sale $$4"}]\n'
    (placement,) = logo.plan(text).deliveries
    (one,) = placement.cut.picture.overlays
    assert (one.text, one.corner) == ("Sale $4", "top-right")


def test_what_is_wrong_with_them_is_told_with_its_line(logo: Workshop) -> None:
    text = """\
steps: [{trim: {clip: clip.mp4, length: 0.5s}}]
deliver:
  - {preset: web, file: out/a.mp4, overlay: {image: nowhere.png, cornr: top}}
  - {preset: web, file: out/b.mp4, language: german}
  - {preset: web, file: out/c.mp4, overlay: {clip: clip.mp4, text: x}}
"""
    with pytest.raises(RecipeError) as refused:
        logo.read(text)
    told = str(refused.value)
    assert "film.yaml:3: deliver.overlay.image: nowhere.png: there is no such file" in told
    assert "film.yaml:3: deliver.overlay.cornr: is not known (did you mean corner?)" in told
    assert "film.yaml:4: deliver.language: should be a language such as de, en or pt-BR (BCP 47), not 'german'" in told
    assert "film.yaml:5: deliver.overlay.clip: is not known; it is the delivery's clip" in told
    with pytest.raises(RecipeError, match=r"film.yaml:2: overlay of out/a.mp4.end: .*leaves nothing of it"):
        logo.plan(
            "steps: [{trim: {clip: clip.mp4, length: 0.5s}}]\n"
            "deliver: [{preset: web, file: out/a.mp4, overlay: {text: x, start: 0.4s, end: 0.2s}}]\n"
        )


def test_captions_do_not_fall_on_what_is_read_whatever_the_language(logo: Workshop) -> None:
    (logo.folder / "out").mkdir()
    (logo.folder / "words.srt").replace(logo.folder / "out" / "de.de.srt")
    with pytest.raises(RecipeError, match=r"the captions beside de.mp4 would fall on the input .*de\.de\.srt"):
        logo.plan(OWN.replace("words.srt", "out/de.de.srt"))


def test_the_edit_is_written_beside_the_film_without_encoding_it_again(logo: Workshop) -> None:
    text = "deliver: [{preset: web, file: out/a.mp4, clip: clip.mp4, export: otio}]\n"
    logo.run(text.replace(", export: otio", ""))
    assert logo.plan(text).remarks == ("web: the edit is written beside the film, as .otio",)
    result = logo.run(text)
    assert result.placed[-1].name == "a.otio"
    assert not [task for task in result.made if isinstance(task.work, Film)]
    told = json.loads((logo.folder / "out" / "a.otio").read_text(encoding="utf-8"))
    assert (told["OTIO_SCHEMA"].partition(".")[0], told["name"]) == ("Timeline", "a")
    with pytest.raises(RecipeError, match=r"deliver\.export: should be one of"):
        logo.read(text.replace("otio", "edl"))
