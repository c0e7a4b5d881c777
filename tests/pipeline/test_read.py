"""A recipe is read as it is written, or every mistake in it is told at once, each with its line."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from workshop import GOLDENS, ROOT, Workshop, golden

import presets
from pipeline.read import json_schema, read_recipe
from pipeline.recipe import FromFile, FromStep, Given
from stages import plugins
from stages.errors import RecipeError
from stages.geometry import Crop

pytest_plugins = ["desks"]

DELIVER = "deliver: [{preset: web, file: out/web.mp4}]\n"


@pytest.fixture
def room(desk: Workshop) -> Workshop:
    """A project with files in it that are only looked at, not into."""
    for name in ("clip.mp4", "other.mp4", "voice.wav", "words.srt", "root.pem"):
        (desk.folder / name).touch()
    return desk


def mistakes(room: Workshop, text: str, **given: str) -> list[str]:
    """What is wrong with `text`, without the file's name."""
    with pytest.raises(RecipeError) as caught:
        room.read(text, given)
    assert all(mistake.startswith("film.yaml:") for mistake in caught.value.mistakes)
    return [mistake.removeprefix("film.yaml:") for mistake in caught.value.mistakes]


# ---------------------------------------------------------------- mistakes


def test_every_mistake_is_told_at_once(room: Workshop) -> None:
    with pytest.raises(RecipeError) as caught:
        room.read((GOLDENS / "mistakes.yaml").read_text(encoding="utf-8"), {"clop": "clip.mp4"})
    golden("mistakes.txt", f"{caught.value}\n")


STEP = "steps:\n- trim: {clip: clip.mp4, length: 1s}\n"

ONE_MISTAKE = {
    "nothing at all": ("", "1: the recipe is empty"),
    "only a comment": ("# to do\n", "1: the recipe is empty"),
    "a list": ("- trim: 6s\n", "1: a recipe: should be a mapping of names to values"),
    "a word": ("trim", "1: a recipe: should be a mapping of names to values"),
    "not YAML": ("steps: [\n", "2: is not YAML: expected the node content, but found '<stream end>'"),
    "a tab": ("steps:\n\t- trim: 6s\n", "2: is not YAML: found character '\\t' that cannot start any token"),
    "two documents": ("steps: []\n---\nsteps: []\n", "2: is not YAML: but found another document"),
    "a bottomless list": ("[" * 5000, "1: is nested too deeply"),
    "steps as a mapping": (f"steps:\n  trim: {{clip: clip.mp4}}\n{DELIVER}", "2: steps: should be a list"),
    "a step without a stage": (f"{STEP}- {{name: x}}\n{DELIVER}", "3: a step names one stage, not 0: "),
    "a list for a value": (
        f"steps:\n- trim: {{clip: clip.mp4, length: [1s]}}\n{DELIVER}",
        "2: trim.length: should be 6s, not a list or a mapping",
    ),
    "a list for an input": (
        f"inputs: {{length: [1s]}}\nsteps:\n- trim: {{clip: clip.mp4, length: $length}}\n{DELIVER}",
        "1: inputs.length: should be a value, not a list or a mapping",
    ),
    "nothing for a value": (f"steps:\n- trim: {{clip: clip.mp4, length: }}\n{DELIVER}", "2: trim.length: is empty"),
    "nothing for a file": (f'steps:\n- trim: {{clip: "", length: 1s}}\n{DELIVER}', "2: trim.clip: is empty"),
    "a folder for a file": (
        f"steps:\n- trim: {{clip: ., length: 1s}}\n{DELIVER}",
        "2: trim.clip: .: is a folder, not a file",
    ),
    "no clip to begin with": (
        f"steps:\n- trim: {{length: 1s}}\n{DELIVER}",
        "2: trim: clip: is missing (such as $clip)",
    ),
    "a later step": (
        f"steps:\n- trim: {{clip: $level, length: 1s}}\n- level: {{loudness: -14}}\n{DELIVER}",
        "2: trim.clip: there is no input or earlier step $level",
    ),
    "a step for a text": (f"{STEP}- fit: {{size: $trim}}\n{DELIVER}", "3: fit.size: $trim is a step, not a text"),
    "an input that is not given": (
        f"inputs: {{clip: ~}}\nsteps:\n- trim: {{clip: $clip, length: 1s}}\n{DELIVER}",
        "1: inputs.clip: must be given: --set clip=…",
    ),
    "a list for a stage that takes one clip": (
        f"{STEP}- level: [clip.mp4]\n{DELIVER}",
        "3: level: should be a mapping of names to values",
    ),
    "a list of clips with one that is not there": (
        f"steps:\n- concat: [clip.mp4, gone.mp4]\n{DELIVER}",
        "2: concat.clips: gone.mp4: there is no such file",
    ),
    "a list in a list of clips": (
        f"steps:\n- concat: [clip.mp4, [other.mp4]]\n{DELIVER}",
        "2: concat.clips: should be $clip, not a list or a mapping",
    ),
    "no clips to join": (
        f"steps:\n- concat: {{crossfade: 1s}}\n{DELIVER}",
        "2: concat: clips: is missing (such as [$one, $another])",
    ),
    "a delivery onto one of several clips": (
        "steps:\n- concat: [clip.mp4, other.mp4]\ndeliver:\n- {preset: web, file: other.mp4}\n",
        "4: deliver.file: other.mp4 is one of the inputs",
    ),
    "a key twice": (f"steps: []\nsteps: []\n{DELIVER}", "2: steps: is given twice"),
    "nothing delivered": (STEP, "1: deliver: nothing is delivered; name a preset: and a file:"),
    "a delivery onto an input": (
        f"{STEP}deliver:\n- {{preset: web, file: clip.mp4}}\n",
        "4: deliver.file: clip.mp4 is one of the inputs",
    ),
    "a delivery onto the clip that it delivers": (
        "deliver:\n- {preset: web, clip: other.mp4, file: other.mp4}\n",
        "2: deliver.file: other.mp4 is one of the inputs",
    ),
    "two films whose credentials would lie in one file": (
        f"{STEP}deliver:\n- {{preset: web-webm, file: a.webm}}\n- {{preset: web-webm, file: ./a.WEBM}}\n",
        "5: deliver.file: a.WEBM and a.webm would both have their credentials in a.c2pa",
    ),
    "a step that signs, with an edit after it": (
        f"{STEP}- sign: {{}}\n- {{trim: 0.5s, name: again}}\n{DELIVER}",
        "3: to sign and to verify is the last that each delivery does, and no step: nothing may be edited after it",
    ),
    "two deliveries to one file, told apart by nothing but dots": (
        f"{STEP}deliver:\n- {{preset: web, file: out/a.mp4}}\n- {{preset: youtube, file: out/../out/./a.mp4}}\n",
        "5: deliver.file: a.mp4 is delivered already at line 4",
    ),
    "an anchor that is not there": (
        f"provenance: {{anchors: [gone.pem]}}\n{STEP}{DELIVER}",
        "1: provenance.anchors: gone.pem: there is no such file",
    ),
    "a typo in a preset": (
        f"{STEP}deliver: [{{preset: yotube, file: a.mp4}}]\n",
        "3: deliver.preset: there is no preset 'yotube' (did you mean youtube?)",
    ),
    "a preset like none": (
        f"{STEP}deliver: [{{preset: betamax, file: a.mp4}}]\n",
        f"3: deliver.preset: there is no preset 'betamax'; there are {', '.join(presets.names('delivery'))}",
    ),
    "a typo in an input's name": (
        f"inputs: {{clip: clip.mp4}}\nsteps:\n- trim: {{clip: $clop, length: 1s}}\n{DELIVER}",
        "3: trim.clip: there is no input or earlier step $clop (did you mean clip?)",
    ),
}


@pytest.mark.parametrize("what", ONE_MISTAKE)
def test_one_mistake_is_told_in_one_sentence(room: Workshop, what: str) -> None:
    text, said = ONE_MISTAKE[what]
    assert mistakes(room, text) == [said]


def test_a_file_that_is_no_text_is_told(desk: Workshop) -> None:
    file = desk.folder / "film.yaml"
    file.write_bytes(b"\xff\xfe\x00steps")
    with pytest.raises(RecipeError, match="cannot be read as UTF-8 text"):
        read_recipe(file)
    with pytest.raises(RecipeError, match="is a folder, not a recipe"):
        read_recipe(desk.folder)
    with pytest.raises(RecipeError, match="there is no such recipe; packaged ones are finish"):
        read_recipe(desk.folder / "gone.yaml")


def test_two_deliveries_to_one_file_by_two_ways_are_a_mistake(room: Workshop) -> None:
    (room.folder / "out").mkdir()
    (room.folder / "link").symlink_to("out")
    text = f"{STEP}deliver:\n- {{preset: web, file: out/a.mp4}}\n- {{preset: web, file: link/a.mp4}}\n"
    assert mistakes(room, text) == ["5: deliver.file: a.mp4 is delivered already at line 4"]


def test_a_delivery_onto_the_credentials_of_an_input_is_a_mistake(room: Workshop) -> None:
    (room.folder / "again").symlink_to(".")
    (room.folder / "song.ogg").write_bytes(b"OggS")
    text = f"{STEP}- replace_audio: {{sound: song.ogg}}\ndeliver:\n- {{preset: web-webm, file: again/song.webm}}\n"
    assert mistakes(room, text) == [
        "5: deliver.file: song.webm and song.ogg would both have their credentials in song.c2pa"
    ]
    room.read(text.replace("web-webm", "web").replace(".webm", ".mp4"))  # which holds its own


def test_what_is_delivered_is_not_edited(room: Workshop) -> None:
    """Neither by its own path nor by another."""
    (room.folder / "again").symlink_to(".")
    text = f"{STEP}- concat: [$trim, again/other.mp4]\ndeliver:\n- {{preset: web, file: other.mp4}}\n"
    assert mistakes(room, text) == ["5: deliver.file: other.mp4 is one of the inputs"]


def test_set_must_name_an_input(room: Workshop) -> None:
    text = f"inputs: {{clip: clip.mp4}}\nsteps:\n- trim: {{clip: $clip, length: 1s}}\n{DELIVER}"
    assert mistakes(room, text, clop="x") == ["1: --set clop: the recipe has no such input (did you mean clip?)"]
    assert mistakes(room, text, clip="") == ["3: trim.clip: is empty"]
    assert mistakes(room, text, clip="gone.mp4") == ["3: trim.clip: gone.mp4: there is no such file"]


# ---------------------------------------------------------------- values as written


def value_of(room: Workshop, value: str, stage: str = "trim", key: str = "length") -> Given:
    """What the stage's parameter gets where `value` is written."""
    recipe = room.read(f"steps:\n- {stage}: {{clip: clip.mp4, {key}: {value}}}\n{DELIVER}")
    argument = recipe.steps[0].arguments[key]
    assert isinstance(argument, Given)
    return argument


@pytest.mark.parametrize("text", ["6:30", "00:00:06.5", "0777", "1_000", "1e3", "no", "~~", "0x1F", "2026-11-22"])
def test_no_scalar_is_changed_by_yaml(room: Workshop, text: str) -> None:
    recipe = room.read(f"inputs: {{it: {text}}}\nsteps:\n- trim: {{clip: clip.mp4, length: 1s}}\n{DELIVER}", {})
    assert recipe.steps[0].arguments["length"] == Given("1s", "1s")
    # As a time it is a time or refused, but never another number that YAML made of it.
    if text in ("6:30", "00:00:06.5", "0777"):
        assert value_of(room, text).text == text
    else:
        refused = mistakes(room, f"steps:\n- trim: {{clip: clip.mp4, length: {text}}}\n{DELIVER}")
        assert refused == [f"2: trim.length: should be a time such as 6s, 180f or 00:00:06.5, not '{text}'"]


def test_a_time_with_colons_is_minutes_and_seconds(room: Workshop) -> None:
    from stages.clip import seconds  # noqa: PLC0415 -- used here alone, to read what the stage would

    assert seconds(str(value_of(room, "6:30").value), Fraction(24)) == 390
    assert seconds(str(value_of(room, "0777").value), Fraction(24)) == 777


@pytest.mark.parametrize(("text", "meant"), [("no", False), ("off", False), ("yes", True), ("True", True)])
def test_switches_are_words(room: Workshop, text: str, meant: bool) -> None:
    recipe = room.read(f"steps:\n- caption: {{clip: clip.mp4, file: words.srt, burn: {text}}}\n{DELIVER}")
    assert recipe.steps[0].arguments["burn"] == Given(text, meant)


@pytest.mark.parametrize(
    ("written", "file"),
    [("$$.mp4", "$.mp4"), ("$4.mp4", "$4.mp4"), ("$$take.mp4", "$take.mp4"), ("cut-$take.mp4", "cut-7.mp4")],
)
def test_dollars(room: Workshop, written: str, file: str) -> None:
    recipe = room.read(f"inputs: {{take: 7}}\n{STEP}deliver: [{{preset: web, file: {written}}}]\n")
    assert recipe.deliveries[0].file == room.folder / file


def test_an_inputs_value_is_not_read_again(room: Workshop) -> None:
    recipe = room.read(f"inputs: {{take: $other, other: x}}\n{STEP}deliver: [{{preset: web, file: $take.mp4}}]\n")
    assert recipe.deliveries[0].file.name == "$other.mp4"


def test_set_beats_what_is_written(room: Workshop) -> None:
    text = f"inputs: {{clip: clip.mp4}}\nsteps:\n- trim: {{clip: $clip, length: 1s}}\n{DELIVER}"
    assert room.read(text, {"clip": "other.mp4"}).files == (room.folder / "other.mp4",)


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("step", ["trim: 6s", "trim: {length: 6s}", "trim:\n    length: 6s"])
def test_a_lone_value_is_the_first_parameter(room: Workshop, step: str) -> None:
    recipe = room.read(f"steps:\n- strip_audio: {{clip: clip.mp4}}\n- {step}\n{DELIVER}")
    assert recipe.steps[1].arguments == {"clip": FromStep("strip_audio"), "length": Given("6s", "6s")}


@pytest.mark.parametrize("step", ["strip_audio", "strip_audio:", "strip_audio: ~", "strip_audio: {}"])
def test_a_stage_may_stand_alone(room: Workshop, step: str) -> None:
    recipe = room.read(f"{STEP}- {step}\n{DELIVER}")
    assert recipe.steps[1].arguments == {"clip": FromStep("trim")}


def test_a_step_reads_the_one_before_it_unless_it_says_otherwise(room: Workshop) -> None:
    recipe = room.read(
        "inputs: {clip: clip.mp4}\n"
        "steps:\n"
        "- trim: {clip: $clip, length: 2s}\n"
        "- {trim: 1s, name: short}\n"
        "- level: {clip: $trim}\n"
        "- mix_audio: {sound: voice.wav}\n"
        "deliver:\n"
        "- {preset: web, file: last.mp4}\n"
        "- {preset: web, clip: $short, file: short.mp4}\n"
        "- {preset: web, clip: $clip, file: whole.mp4}\n"
    )
    assert [step.arguments["clip"] for step in recipe.steps] == [
        FromFile(room.folder / "clip.mp4"),
        FromStep("trim"),
        FromStep("trim"),
        FromStep("level"),
    ]
    assert recipe.steps[3].arguments["sound"] == FromFile(room.folder / "voice.wav")
    assert [one.of for one in recipe.deliveries] == ["mix_audio", "short", FromFile(room.folder / "clip.mp4")]
    assert recipe.files == (room.folder / "clip.mp4", room.folder / "voice.wav")


@pytest.mark.parametrize("step", ["concat: [$trim, other.mp4, $trim]", "concat: {clips: [$trim, other.mp4, $trim]}"])
def test_several_clips_are_a_list(room: Workshop, step: str) -> None:
    recipe = room.read(
        f"{STEP}- {step}\n- concat: {{clips: [$concat, clip.mp4], crossfade: 0.5s}}\n  name: more\n{DELIVER}"
    )
    _, concat, more = recipe.steps
    assert concat.arguments == {"clips": (FromStep("trim"), FromFile(room.folder / "other.mp4"), FromStep("trim"))}
    assert concat.reads == ("trim", "trim")
    assert set(more.arguments) == {"clips", "crossfade"}
    assert recipe.files == (room.folder / "clip.mp4", room.folder / "other.mp4")


def test_a_still_is_of_the_step_before_it(room: Workshop) -> None:
    recipe = room.read(f"{STEP}- still\n- {{still: 12f, name: later}}\n{DELIVER}")
    assert recipe.steps[1].arguments == {"of": FromStep("trim")}
    assert recipe.steps[2].arguments == {"of": FromStep("still"), "at": Given("12f", "12f")}


def test_inputs_are_relative_to_the_recipe_and_outputs_to_the_project(room: Workshop) -> None:
    file = room.folder / "recipes" / "film.yaml"
    file.parent.mkdir()
    file.write_text(f"steps:\n- trim: {{clip: ../clip.mp4, length: 1s}}\n{DELIVER}", encoding="utf-8")
    recipe = read_recipe(file)
    assert recipe.project == room.folder
    assert recipe.files == (room.folder / "clip.mp4",)
    assert recipe.deliveries[0].file == room.folder / "out" / "web.mp4"


# ---------------------------------------------------------------- the schema


def test_the_schema_names_every_stage_and_is_json() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    items = schema["properties"]["steps"]["items"]
    named: dict[str, Any] = _of_type(items, "object")["properties"]
    assert set(named) == {"name", *plugins.names("pipeline.stages")}
    for name in plugins.names("pipeline.stages"):
        assert named[name]["description"], name
    assert named["trim"]["properties"]["length"] == {"examples": ["6s"]}
    assert named["fit"]["properties"]["mode"] == {"enum": ["cover", "contain", "stretch", "blur"]}


@pytest.mark.parametrize("file", sorted((ROOT / "presets" / "recipes").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_the_schema_allows_the_packaged_recipes(file: Path) -> None:
    assert faults(json_schema(), yaml.safe_load(file.read_text(encoding="utf-8"))) == []


def test_the_schema_allows_what_is_read(room: Workshop) -> None:
    text = f"{STEP}- strip_audio\n- trim: 0.5\n- {{level: -16, name: loud}}\n- concat: [$loud, $trim]\n{DELIVER}"
    text = text.replace("- trim: 0.5\n", "- {trim: 0.5, name: shorter}\n")
    room.read(text)
    assert faults(json_schema(), yaml.safe_load(text)) == []
    assert faults(json_schema(), yaml.safe_load(text.replace("trim: 0.5", "trim: [0.5]"))) != []
    assert faults(json_schema(), yaml.safe_load(text.replace("steps", "stpes"))) == ["stpes: is not allowed"]


def _of_type(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """The branch of a schema for values of that type."""
    branches: list[dict[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return next(one for one in branches if kind in _types(one))


def _types(schema: dict[str, Any]) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def faults(schema: Any, value: Any, where: str = "") -> list[str]:
    """What a JSON Schema validator would say, for the words that our schema uses."""
    if branches := schema.get("anyOf"):
        found = [faults(branch, value, where) for branch in branches]
        return [] if [] in found else found[0]
    kinds = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "boolean"}
    kind = "null" if value is None else kinds[type(value)]
    if _types(schema) and kind not in _types(schema):
        return [f"{where or 'it'}: is a {kind}"]
    found_here: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False:
            found_here += [f"{key}: is not allowed" for key in value if key not in known]
        found_here += [f"{where}{key}: is missing" for key in schema.get("required", ()) if key not in value]
        for key, inner in value.items():
            found_here += faults(known.get(key, {}), inner, f"{where}{key}.")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found_here += faults(schema.get("items", {}), inner, f"{where}{index}.")
    if "enum" in schema and value not in schema["enum"]:
        found_here.append(f"{where}: is not one of {schema['enum']}")
    return found_here


# ---------------------------------------------------------------- values in parts


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("3x2:4", ""),
        ("{grid: 3x2, cell: 4}", ""),
        ("{grid: 3x2, cell: 9}", "prepare.crop: a grid of 3x2 has the cells 1 to 6, row by row, not 9"),
        ("{grd: 3x2}", "prepare.crop.grd: is not known (did you mean grid?)"),
        ("{grid: 3x2, cell: four}", "prepare.crop.cell: should be a whole number, not 'four'"),
        ("[3x2, 4]", "prepare.crop: should be a mapping of names to values"),
    ],
)
def test_a_value_may_be_given_in_parts(room: Workshop, written: str, words: str) -> None:
    (room.folder / "photo.jpg").touch()
    text = (
        f"steps:\n  - prepare: {{image: photo.jpg, crop: {written}, size: 640x360}}\n"
        "deliver: [{preset: web, file: out.mp4, clip: $prepare}]\n"
    )
    if not words:
        given = room.read(text).steps[0].arguments["crop"]
        assert isinstance(given, Given)
        assert given.value == Crop(grid="3x2", cell=4)
        return
    with pytest.raises(RecipeError) as raised:
        room.read(text)
    assert words in str(raised.value)
