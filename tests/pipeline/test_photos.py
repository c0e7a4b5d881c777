"""Photos in recipes: who is on them, what is cut off them, and that their credentials stay with what is filmed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image
from workshop import FIXTURES, Workshop

from pipeline.plan import plan
from pipeline.recipe import Given, Recipe
from pipeline.run import run
from pipeline.tasks import FileFacts
from stages.clip import Action, Box
from stages.errors import RecipeError
from stages.faces import find_faces
from stages.provenance import read_credentials, sign
from stages.signers import test_signer as signer_in

pytest_plugins = ["desks"]

STILL = """\
inputs: {{photo: {photo}}}
steps:
  - prepare: {{image: $photo, {prepare}}}
  - generate: {{prompt: she smiles, reference: $prepare, frame: 9:16, length: 4s, model: sim}}
  - trim: {{length: 0.5s}}
  - fit: {{size: 180x320}}
deliver: [{{preset: web, file: out/web.mp4}}]
"""


@pytest.fixture
def studio(desk: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A project with a portrait in it, whose simulator films at once."""
    monkeypatch.setenv("AFTERFRAME_SIM_LATENCY", "0")
    shutil.copy(FIXTURES / "portrait.jpg", desk.folder)
    shutil.copy(FIXTURES / "photo.jpg", desk.folder)
    return desk


def facts(studio: Workshop, photo: str) -> FileFacts:
    recipe = studio.read(STILL.format(photo=photo, prepare="fit: cover"))
    return studio.store.world(recipe).files[studio.folder / photo]


# ---------------------------------------------------------------- who is on it


def test_a_photo_is_known_with_its_faces(studio: Workshop) -> None:
    assert facts(studio, "portrait.jpg").faces == 1
    assert facts(studio, "photo.jpg").faces == 0


@pytest.mark.parametrize("suffix", ["heic", "avif", "webp", "png"])
def test_whatever_kind_of_picture_it_is(studio: Workshop, suffix: str) -> None:
    pillow_heif.register_heif_opener()
    with Image.open(studio.folder / "portrait.jpg") as portrait:
        portrait.save(studio.folder / f"photo.{suffix}")
    assert facts(studio, f"photo.{suffix}").faces == 1


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were searched for faces."""
    names: list[str] = []

    def counted(file: Path) -> tuple[Box, ...] | None:
        names.append(file.name)
        return find_faces(file)

    monkeypatch.setattr("pipeline.store.find_faces", counted)
    return names


EDITS = """\
steps:
  - replace_audio: {clip: silent.mp4, sound: voice.wav}
  - caption: {file: words.srt}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_films_and_sounds_are_not_looked_at(workshop: Workshop, looked: list[str]) -> None:
    world = workshop.store.world(workshop.read(EDITS))
    assert {file.name: known.faces for file, known in world.files.items()} == {
        "silent.mp4": None, "voice.wav": None, "words.srt": None,
    }  # fmt: skip
    assert looked == ["words.srt"], "which is no film, and no picture either"


def test_a_photo_is_looked_at_once_and_again_when_it_or_who_looks_changed(
    studio: Workshop, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert facts(studio, "portrait.jpg").faces == 1
    assert len(looked) == 1
    shutil.copy(studio.folder / "photo.jpg", studio.folder / "portrait.jpg")
    assert facts(studio, "portrait.jpg").faces == 0
    assert len(looked) == 2
    monkeypatch.setattr("pipeline.store.detector", lambda: "dlib 99")
    facts(studio, "portrait.jpg")
    assert len(looked) == 3


def test_without_the_extra_nobody_knows(studio: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.faces.detector", lambda: "")
    monkeypatch.setattr("pipeline.store.detector", lambda: "")
    assert facts(studio, "portrait.jpg").faces is None
    monkeypatch.undo()
    assert facts(studio, "portrait.jpg").faces == 1, "installed since"


# ---------------------------------------------------------------- in a recipe


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ("focus: faces", "prepare.focus: should be center, auto, face or a point such as 0.3x0.7"),
        ('crop: "3x2:7"', "prepare.crop: a grid of 3x2 has the cells 1 to 6, row by row, not 7"),
        ("crop: half", "prepare.crop: should be left, top, width and height"),
    ],
)
def test_a_mistake_is_told_with_its_line(studio: Workshop, prepare: str, why: str) -> None:
    with pytest.raises(RecipeError, match=r"film\.yaml:3: ") as caught:
        studio.read(STILL.format(photo="photo.jpg", prepare=prepare))
    assert why in str(caught.value)


@pytest.mark.parametrize("crop", ["3x2:4", "10% 20% 30% 40%", "'10%,20%,30%,40%'"])
def test_a_crop_is_one_text(studio: Workshop, crop: str) -> None:
    recipe = studio.read(STILL.format(photo="photo.jpg", prepare=f"crop: {crop}"))
    assert given(recipe)["crop"] == crop.strip("'")


def given(recipe: Recipe) -> dict[str, str]:
    return {key: each.text for key, each in recipe.steps[0].arguments.items() if isinstance(each, Given)}


def test_a_clip_has_no_face_to_focus_on(workshop: Workshop) -> None:
    with pytest.raises(RecipeError, match="'face' looks into a picture, which only prepare does"):
        workshop.read(
            "steps: [{fit: {clip: clip.mp4, size: 90x160, focus: face}}]\ndeliver: [{preset: web, file: out/web.mp4}]\n"
        )


SHEET = """\
steps:
  - name: front
    prepare: {image: portrait.jpg, size: 96x96, crop: "2x2:1"}
  - name: back
    prepare: {image: portrait.jpg, size: 96x96, crop: 50% 0% 50% 50%}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_one_sheet_gives_a_picture_an_angle(studio: Workshop) -> None:
    """Each a task of its own, which only its own cell makes anew."""
    result = run(studio.read(SHEET).until("back"), studio.store)
    notes = [result.world.notes[task.name] for task in result.final.tasks if task.name.startswith("prepare")]
    shown = [dict(note.result.history[-1].parameters)["shows"] for note in notes]
    assert shown == ["256x256+0+0 of 512x512", "256x256+256+0 of 512x512"]
    assert notes[0].file.read_bytes() != notes[1].file.read_bytes()
    assert all("crop.jpg" in note.files and note.file.name == "reference.png" for note in notes)
    other = studio.read(SHEET.replace("2x2:1", "2x2:4")).until("back")
    actions = {task.slot: task.action for task in plan(other, studio.store.world(other)).tasks}
    assert (actions["front"], actions["back"]) == ("make", "cached")


def test_who_looks_is_a_part_of_what_is_made_only_where_somebody_looks(
    studio: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SHEET.replace('"2x2:1"', '"2x2:1", focus: face')

    def names() -> tuple[str, ...]:
        recipe = studio.read(text).until("back")
        tasks = plan(recipe, studio.store.world(recipe)).tasks
        return tuple(task.name for task in tasks if task.name.startswith("prepare"))

    before = names()
    monkeypatch.setattr("stages.references.detector", lambda: "")
    after = names()
    assert before[0] != after[0]
    assert before[1] == after[1]


# ---------------------------------------------------------------- its credentials


@pytest.mark.parametrize("suffix", ["jpg", pytest.param("png", marks=pytest.mark.thorough)])
def test_a_signed_photo_is_an_input_of_what_is_filmed_from_it(studio: Workshop, suffix: str) -> None:
    """The camera's manifest is carried along, byte for byte, in the manifest of the delivery."""
    camera = signer_in(studio.folder / "camera")
    assert camera.root
    with Image.open(studio.folder / "portrait.jpg") as portrait:
        portrait.save(studio.folder / f"plain.{suffix}")
    taken = (Action("photograph", agent="a camera"),)
    sign(studio.folder / f"plain.{suffix}", studio.folder / f"signed.{suffix}", history=taken, signer=camera)
    text = STILL.format(photo=f"signed.{suffix}", prepare="focus: face")
    studio.write(text + "provenance: {anchors: [camera/test-root.pem]}\n")
    done = studio.cli("run", "film.yaml", "--json")
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout)["files"]
    assert file["provenance"] == "proved"

    roots = (camera.root, *studio.store.anchors)
    film = read_credentials(studio.folder / "out" / "web.mp4", anchors=roots)
    parent, photo = film.ingredients
    assert (parent.relationship, photo.relationship) == ("parentOf", "inputTo")
    assert (photo.state, photo.signer, photo.title) == ("proved", camera.name, f"signed.{suffix}")
    own = read_credentials(studio.folder / f"signed.{suffix}", anchors=roots)
    assert photo.label == own.label
    page = (studio.folder / "out" / "film.report.html").read_text(encoding="utf-8")
    assert re.search(r'<img src="data:image/jpeg;base64,[^"]+" alt="what prepare shows of its picture">', page)
    assert re.search(r"focus: face at 0\.\d+x0\.\d+, 1 face", page)


def test_a_photo_that_was_changed_after_it_was_signed_is_not_filmed(studio: Workshop) -> None:
    camera = signer_in(studio.folder / "camera")
    taken = (Action("photograph", agent="a camera"),)
    sign(studio.folder / "portrait.jpg", studio.folder / "signed.jpg", history=taken, signer=camera)
    data = bytearray((studio.folder / "signed.jpg").read_bytes())
    data[-1000] ^= 1
    (studio.folder / "signed.jpg").write_bytes(data)
    studio.write(STILL.format(photo="signed.jpg", prepare="fit: cover"))
    done = studio.cli("run", "film.yaml")
    assert done.returncode != 0
    assert "signed.jpg: was changed after it was signed" in done.stderr
    assert not (studio.folder / "out").exists()


@pytest.mark.parametrize("suffix", ["heic", pytest.param("avif", marks=pytest.mark.thorough)])
def test_a_phones_photo_goes_all_the_way(studio: Workshop, suffix: str) -> None:
    pillow_heif.register_heif_opener()
    with Image.open(studio.folder / "portrait.jpg") as portrait:
        portrait.save(studio.folder / f"phone.{suffix}")
    studio.write(STILL.format(photo=f"phone.{suffix}", prepare="focus: face"))
    done = studio.cli("run", "film.yaml")
    assert done.returncode == 0, done.stderr
    film = read_credentials(studio.folder / "out" / "web.mp4", anchors=studio.store.anchors)
    assert [one.relationship for one in film.ingredients] == ["parentOf", "inputTo"]
    assert film.ingredients[1].state == "absent"
