"""A film that cannot hold credentials: they are delivered beside it, and stay with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workshop import Workshop, ffmpeg

from pipeline.report import write_report
from pipeline.roster import Batch, draw_up
from pipeline.rows import read_rows
from pipeline.run import Result
from pipeline.show import summary, summary_json
from pipeline.yard import Yard
from stages import deliver, open_clip, provenance, trim
from stages.clip import Action
from stages.conformance import conform
from stages.errors import InputError
from stages.media import probe
from stages.policy import Policy

pytest_plugins = ["desks"]

RECIPE = """\
steps:
- trim: {clip: clip.mp4, length: 0.5s}
- caption: {file: words.srt, burn: no, soft: yes}
deliver: [{preset: web-webm, file: out/film.webm, language: en}]
"""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory, small_media: Path) -> tuple[Workshop, Result]:
    """A project that has delivered a WebM of a clip that a stranger signed."""
    workshop = Workshop(tmp_path_factory.mktemp("apart") / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    clip = workshop.folder / "clip.mp4"
    signer = provenance.test_signer(workshop.folder / "stranger")
    provenance.sign(clip, clip, history=(Action("generate", agent="a model", ai=True),), signer=signer)
    return workshop, workshop.run(RECIPE + "provenance: {anchors: [stranger/test-root.pem]}\n")


def names(workshop: Workshop) -> list[str]:
    return sorted(file.name for file in (workshop.folder / "out").iterdir() if file.suffix != ".html")


def test_the_pair_is_delivered_and_proved(delivered: tuple[Workshop, Result]) -> None:
    workshop, result = delivered
    film = workshop.folder / "out" / "film.webm"
    assert names(workshop) == ["film.c2pa", "film.webm"]
    assert [file.name for file in result.placed] == ["film.c2pa", "film.webm"]
    found = provenance.verify(film, original=workshop.folder / "clip.mp4", anchors=workshop.store.anchors)
    assert (found.verdict, found.codes) == ("proved", ())
    assert found.origin
    assert found.origin.ai
    (said,) = result.final.remarks
    assert "webm has no text track: the soft captions are left out" in said
    assert not [row for row in conform(film, "web-webm") if not row.fine]
    picture, sound = probe(film)
    assert picture
    assert sound
    assert (picture.codec, picture.frames, str(picture.rate), sound.codec) == ("vp9", 12, "24", "opus")
    assert abs(sound.samples - 24_000) <= 960


def test_whoever_reads_of_it_is_told(delivered: tuple[Workshop, Result]) -> None:
    workshop, result = delivered
    recipe = workshop.read(RECIPE)
    report = write_report(recipe, workshop.store, result)
    assert "    its credentials lie beside it in film.c2pa" in summary(recipe, result, report)
    (told,) = summary_json(recipe, result, report)["files"]
    assert (told["provenance"], told["sidecars"]) == ("proved", ["out/film.c2pa"])
    assert "lies beside it in film.c2pa" in report.read_text()
    report.unlink()


def test_what_is_lost_of_the_pair_is_restored(delivered: tuple[Workshop, Result]) -> None:
    workshop, _ = delivered
    out, recipe = workshop.folder / "out", RECIPE + "provenance: {anchors: [stranger/test-root.pem]}\n"
    (out / "film.c2pa").write_bytes(b"another's")
    again = workshop.run(recipe)
    assert (again.made, [file.name for file in again.placed]) == ([], ["film.c2pa"])
    shutil.rmtree(out)
    assert [file.name for file in workshop.run(recipe).placed] == ["film.c2pa", "film.webm"]
    assert provenance.verify(out / "film.webm", anchors=workshop.store.anchors).verdict == "proved"


UNSIGNED = "provenance: {sign: off, strip: I understand, anchors: [stranger/test-root.pem]}\n"


def test_an_unsigned_film_keeps_no_credentials_of_the_one_before(delivered: tuple[Workshop, Result]) -> None:
    """Its bytes are those of the signed one: only what lay beside that said who made it."""
    workshop, _ = delivered
    film, signed = workshop.folder / "out" / "film.webm", RECIPE + "provenance: {anchors: [stranger/test-root.pem]}\n"
    workshop.run(signed)
    content = film.read_bytes()
    workshop.run(RECIPE + UNSIGNED)
    assert (names(workshop), film.read_bytes()) == (["film.webm"], content)
    assert [file.name for file in workshop.run(signed).placed] == ["film.c2pa"]
    assert provenance.verify(film, anchors=workshop.store.anchors).verdict == "proved"


def test_a_film_delivered_unsigned_by_hand_keeps_none_either(small_media: Path, tmp_path: Path) -> None:
    clip, film = trim(open_clip(small_media / "clip.mp4"), length="0.5s"), tmp_path / "film.webm"
    assert deliver(clip, "web-webm", film).verdict.verdict == "proved"
    assert (tmp_path / "film.c2pa").is_file()
    deliver(clip, "web-webm", film, policy=Policy(sign="off", strip="I understand"))
    assert sorted(file.name for file in tmp_path.glob("film.*")) == ["film.webm"]


def test_credentials_beside_an_input_are_part_of_what_is_read(tmp_path: Path, small_media: Path) -> None:
    """Laid there, exchanged or taken away, they are read anew, and what was delivered is signed anew."""
    workshop = Workshop(tmp_path / "project")
    film, beside = workshop.folder / "clip.webm", workshop.folder / "clip.c2pa"
    ffmpeg("-i", str(small_media / "clip.mp4"), "-t", "0.5", "-c:v", "libvpx", "-c:a", "libopus", str(film))
    recipe = "steps: [level: {clip: clip.webm}]\ndeliver: [{preset: web, file: out/film.mp4}]\n"
    signer = provenance.test_signer(workshop.folder / "stranger")
    recipe += "provenance: {anchors: [stranger/test-root.pem]}\n"

    def maker() -> tuple[str, list[str]]:
        result = workshop.run(recipe)
        (placement,) = result.final.deliveries
        origin = result.delivered(placement).verdict.origin
        assert origin
        return origin.actions[0][1] if origin.actions else origin.state, [each.slot for each in result.made]

    assert maker()[0] == "absent"
    for agent in ("a model", "another model"):
        history = (Action("generate", agent=agent, ai=True),)
        beside.unlink(missing_ok=True)
        provenance.sign(film, film, history=history, signer=signer)
        assert maker() == (agent, ["ingest:clip.webm", "out/film.mp4:web"])
    assert maker() == ("another model", [])
    beside.unlink()
    assert maker() == ("absent", [])  # as it was at first


def test_credentials_beside_an_input_may_not_change_while_it_is_read(tmp_path: Path, small_media: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    film = workshop.folder / "clip.webm"
    ffmpeg("-i", str(small_media / "clip.mp4"), "-t", "0.5", "-c:v", "libvpx", "-an", str(film))
    world = workshop.store.world(workshop.read("deliver: [{preset: web, clip: clip.webm, file: out/film.mp4}]\n"))
    workshop.store.unchanged(world)
    (workshop.folder / "clip.c2pa").write_bytes(b"another's")
    with pytest.raises(InputError, match="was changed while the recipe ran"):
        workshop.store.unchanged(world)


def test_credentials_beside_an_input_go_with_it_to_other_machines(
    tmp_path: Path, small_media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_STORE", str(tmp_path / "shared"))
    one, two = (Workshop(tmp_path / name / "project") for name in ("one", "two"))
    film = one.folder / "clip.webm"
    ffmpeg("-i", str(small_media / "clip.mp4"), "-t", "0.5", "-c:v", "libvpx", "-an", str(film))
    recipe = one.write("inputs: {clip: ~}\ndeliver: [{preset: web, clip: $clip, file: out/film.mp4}]\n")
    (one.folder / "rows.csv").write_text("clip\nclip.webm\n", encoding="utf-8")

    def drawn() -> Batch:
        return draw_up(recipe, read_rows(str(one.folder / "rows.csv"), recipe, recipe.read_text()), one.store)

    bare = drawn()
    signer = provenance.test_signer(tmp_path / "stranger")
    provenance.sign(film, film, history=(Action("generate", agent="a model", ai=True),), signer=signer)
    batch = drawn()
    assert bare.renders[0].id != batch.renders[0].id  # it is another film to make
    Yard(one.store.folder).submit(batch)
    _, read, _ = Yard(two.store.folder).open(batch.id, batch.renders[0].id)
    (clip,) = read.files
    assert (clip.is_relative_to(two.folder), clip.read_bytes()) == (True, film.read_bytes())
    assert provenance.verify(clip, anchors=[tmp_path / "stranger" / "test-root.pem"]).verdict == "proved"
    (one.folder / "clip.c2pa").unlink()  # then the one here is not what was submitted either
    _, read, _ = Yard(one.store.folder).open(batch.id, batch.renders[0].id)
    assert read.files != (film,)
