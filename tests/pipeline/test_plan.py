"""Planning is pure; a task's name changes when its result would, and at no other time."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import FILM, ROOT, SRT, Workshop, golden

import presets
from pipeline.plan import plan
from pipeline.read import read_recipe
from pipeline.recipe import Recipe
from pipeline.show import plan_json, plan_text
from pipeline.store import Store
from pipeline.tasks import Call, FileFacts, FileOf, Film, Note, Plan, ResultOf, Task, World
from stages.clip import BT709, PictureFacts, Size, SoundFacts
from stages.errors import RecipeError
from stages.ffmpeg import Output, command
from stages.media import clip_from

pytest_plugins = ["desks"]

PACKAGED = ("finish", "narrate", "vertical")


def picture(frames: int = 48, rate: int = 24) -> PictureFacts:
    """What would be found in a clip."""
    size = Size(160, 90)
    return PictureFacts(size, size, Fraction(rate), frames, "h264", "High", colour=BT709, keyframes=48)


def sound(seconds: float) -> SoundFacts:
    return SoundFacts("aac", "LC", 48_000, 2, "stereo", round(seconds * 48_000))


def known(desk: Workshop, **changed: FileFacts) -> World:
    """A world in which FILM's files lie in the project's folder; `changed` by the stem of its name."""
    for name in ("clip.mp4", "silent.mp4", "voice.wav"):
        (desk.folder / name).touch()
    (desk.folder / "words.srt").write_text(SRT, encoding="utf-8")
    found = {
        "clip.mp4": ("a", picture(), sound(2)),
        "silent.mp4": ("b", picture(), None),
        "voice.wav": ("c", None, sound(0.6)),
        "words.srt": ("d", None, None),
    }
    files = {
        desk.folder / name: FileFacts(letter * 64, clip_from(desk.folder / name, p, s) if p or s else None, "no clip")
        for name, (letter, p, s) in found.items()
    }
    files |= {next(path for path in files if path.stem == stem): facts for stem, facts in changed.items()}
    return World(files, tools={"ffmpeg": "n9", "c2pa": "0.38"}, signer="test")


def planned(desk: Workshop, text: str = FILM, **changed: FileFacts) -> Plan:
    """What would be done for `text` where nothing is made yet."""
    world = known(desk, **changed)
    return plan(desk.read(text), world)


def made(world: World, done: Plan) -> World:
    """The world once everything in `done` is made."""
    notes = {
        task.name: Note(task.name, task.slot, task.parts, {"film.mp4": task.name}, None, Path("/tasks") / task.name)
        for task in done.tasks
    }
    delivered = {placement.file: placement.task for placement in done.deliveries}
    return replace(world, notes=notes, latest={note.slot: note.parts for note in notes.values()}, delivered=delivered)


def names(done: Plan) -> dict[str, str]:
    """The tasks' names, by what people call them."""
    return {task.title: task.name for task in done.tasks}


def differ(one: Plan, other: Plan) -> set[str]:
    """The tasks that have another name in the other plan."""
    before, after = names(one), names(other)
    assert set(before) == set(after)
    return {title for title, name in before.items() if after[title] != name}


SOUNDS = {"sound for web", "sound for youtube"}
DELIVERIES = {"web", "youtube"}
FILMS = {"film for web", "film for youtube"} | DELIVERIES


# ---------------------------------------------------------------- purity

_opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event in ("open", "os.listdir", "os.scandir", "subprocess.Popen", "socket.connect"):
        _opened.append(f"{event} {arguments[0]}")


sys.addaudithook(_audit)  # cannot be taken away again; it listens only inside `watching`


@contextmanager
def watching() -> Iterator[list[str]]:
    """What is opened, listed or started meanwhile."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def text_of(done: Plan) -> Any:
    """All of a plan that can be compared: filters are equal only to themselves."""
    films = [task.work.cut for task in done.tasks if isinstance(task.work, Film)]
    return (
        plan_json(done),
        [(task.slot, task.parts, task.needs) for task in done.tasks],
        [command([Output(film.picture, film.encoding)]) for film in films],
        [(placement.file, placement.task) for placement in done.deliveries],
    )


def test_the_same_recipe_and_world_give_the_same_plan(desk: Workshop) -> None:
    world = known(desk)
    recipe = desk.read(FILM)
    assert text_of(plan(recipe, world)) == text_of(plan(recipe, world))


def test_planning_opens_no_file_but_the_captions_that_it_lays_out(desk: Workshop) -> None:
    world = known(desk)
    without = FILM.replace("  - caption: {file: words.srt}\n", "")
    plan(desk.read(without), world)  # presets are package data, read once
    for text, expected in ((without, []), (FILM, [f"open {desk.folder / 'words.srt'}"])):
        recipe = desk.read(text)
        with watching() as opened:
            plan(recipe, world)
        assert opened == expected


def test_planning_after_a_snapshot_looks_at_nothing_but_notes(workshop: Workshop) -> None:
    recipe = workshop.read(FILM)
    world = workshop.store.world(recipe)
    plan(recipe, world)
    with watching() as opened:
        plan(recipe, world)
    allowed = (str(workshop.folder / "words.srt"), str(workshop.folder / ".pipeline"))
    assert [line for line in opened if not line.split(" ", 1)[1].startswith(allowed)] == []


# ---------------------------------------------------------------- goldens


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_recipes_plan_as_reviewed(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(ROOT / "presets" / "recipes" / f"{name}.yaml")
    world = replace(Store(tmp_path / ".pipeline").world(recipe), delivered={})
    golden(f"{name}.plan.txt", told(plan(recipe, world)))


def told(done: Plan) -> str:
    """The plan as people see it, then what each task reads and what it is remade for, presets' numbers apart."""
    lines = [plan_text(done)]
    titles = {task.name: task.title for task in done.tasks}
    for task in done.tasks:
        lines.append(f"\n{task.title}")
        lines += [f"    reads {titles[need]}" for need in task.needs]
        sheets = {key.split(".")[0] for key in task.parts} & set(presets.names("delivery"))
        lines += [f"    {key}: {_anonymous(key, value, titles)}" for key, value in task.parts.items()
                  if key.split(".")[0] not in sheets]  # fmt: skip
        lines += [f"    all of {sheet}.yaml" for sheet in sorted(sheets)]
    return "\n".join(lines) + "\n"


def _anonymous(key: str, value: str, titles: Mapping[str, str]) -> str:
    if value in titles:
        return f"the task '{titles[value]}'"
    if key.lstrip("@") in ("ffmpeg", "c2pa", "signer", "anchors"):
        return "…"
    return re.sub(r"\b[0-9a-f]{16,64}\b", "…", value)


# ---------------------------------------------------------------- names: what changes them

CHANGES = {
    "a parameter of the cut": (("length: 1s", "length: 1.5s"), SOUNDS | FILMS),
    "a parameter of the sound": (("duck: 10 dB", "duck: 12 dB"), SOUNDS | FILMS),
    "a parameter of the picture": (("size: 320x180", "size: 480x270"), FILMS),
    "captions left out": (("  - caption: {file: words.srt}\n", ""), FILMS),
    "captions not burnt": (("{file: words.srt}", "{file: words.srt, burn: no}"), FILMS),
    "how a delivery crops": (("web, file", "web, focus: 0.1x0.5, file"), {"film for web", "web"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_remakes_what_depends_on_it_and_nothing_else(desk: Workshop, what: str) -> None:
    (old, new), expected = CHANGES[what]
    world = known(desk)
    assert old in FILM
    before, after = plan(desk.read(FILM), world), plan(desk.read(FILM.replace(old, new)), world)
    assert differ(before, after) == expected


def test_another_narration_remakes_the_sound_and_what_holds_it(desk: Workshop) -> None:
    before = planned(desk)
    voice = FileFacts("e" * 64, clip_from(desk.folder / "voice.wav", None, sound(0.6)))
    after = planned(desk, FILM, voice=voice)
    assert differ(before, after) == {"voice.wav"} | SOUNDS | FILMS


def test_other_captions_do_not_remake_the_sound(desk: Workshop) -> None:
    before = planned(desk)
    after = planned(desk, FILM, words=FileFacts("e" * 64))
    assert differ(before, after) == FILMS


def test_another_clip_remakes_everything_but_the_voices_ingest(desk: Workshop) -> None:
    before = planned(desk)
    clip = FileFacts("e" * 64, clip_from(desk.folder / "clip.mp4", picture(), sound(2)))
    assert differ(before, planned(desk, FILM, clip=clip)) == {"clip.mp4"} | SOUNDS | FILMS


def test_another_ffmpeg_remakes_all_that_it_made(desk: Workshop) -> None:
    world = known(desk)
    recipe = desk.read(FILM)
    newer = replace(world, tools={**world.tools, "ffmpeg": "n10"})
    assert differ(plan(recipe, world), plan(recipe, newer)) == SOUNDS | FILMS


def test_another_signer_signs_again(desk: Workshop) -> None:
    world = known(desk)
    recipe = desk.read(FILM)
    assert differ(plan(recipe, world), plan(recipe, replace(world, signer="ours"))) == DELIVERIES


@pytest.mark.parametrize(("key", "value", "expected"), [
    ("crf", "25", {"film for web", "web"}), ("audio_rate", "96000", {"sound for web", "film for web", "web"}),
])  # fmt: skip
def test_a_presets_value_remakes_its_deliveries(
    desk: Workshop, monkeypatch: pytest.MonkeyPatch, key: str, value: str, expected: set[str]
) -> None:
    before = planned(desk)
    shutil.copytree(presets.FOLDER / "delivery", desk.folder / "sheets" / "delivery")
    sheet = desk.folder / "sheets" / "delivery" / "web.yaml"
    text = sheet.read_text(encoding="utf-8")
    changed = re.sub(rf"({key}: +{{value: )[^,]+", rf"\g<1>{value}", text)
    assert changed != text
    sheet.write_text(changed, encoding="utf-8")
    monkeypatch.setattr(presets, "FOLDER", desk.folder / "sheets")
    presets.read.cache_clear()
    try:
        assert differ(before, planned(desk)) == expected
    finally:
        presets.read.cache_clear()


def test_the_order_of_steps_is_part_of_the_name(desk: Workshop) -> None:
    mix, cut = "mix_audio: {%ssound: voice.wav, at: 0.2s}", "trim: {%sstart: 0.5s, length: 1s}"
    deliver = "deliver: [{preset: web, file: web.mp4}]\n"
    first = "clip: clip.mp4, "
    world = known(desk)
    one = plan(desk.read(f"steps:\n- {mix % first}\n- {cut % ''}\n{deliver}"), world)
    other = plan(desk.read(f"steps:\n- {cut % first}\n- {mix % ''}\n{deliver}"), world)
    assert differ(one, other) == {"sound for web", "film for web", "web"}


def test_frames_are_counted_at_the_pictures_rate(desk: Workshop) -> None:
    """The sound is laid in at another moment, though nothing that it is made of has changed."""
    text = (
        "steps:\n- replace_audio: {clip: silent.mp4, sound: voice.wav, at: 12f}\n"
        "deliver: [{preset: web, file: web.mp4}]\n"
    )
    slow = FileFacts("e" * 64, clip_from(desk.folder / "silent.mp4", picture(24, 12), None))
    one, other = planned(desk, text), planned(desk, text, silent=slow)
    assert "sound for web" in differ(one, other)


JOINED = """\
steps:
- {trim: {clip: clip.mp4, length: 1s}, name: first}
- {trim: {clip: silent.mp4, length: 1s}, name: second}
- concat: {clips: [$first, $second], crossfade: 0.5s}
deliver: [{preset: web, file: web.mp4}]
"""


@pytest.mark.parametrize(
    "change",
    [
        ("length: 1s}, name: second", "length: 0.75s}, name: second"),
        ("[$first, $second]", "[$second, $first]"),
        ("[$first, $second]", "[$first, $second, $first]"),
        ("crossfade: 0.5s", "crossfade: 0.25s"),
    ],
)
def test_what_is_joined_and_how_is_part_of_the_name(desk: Workshop, change: tuple[str, str]) -> None:
    one, other = planned(desk, JOINED), planned(desk, JOINED.replace(*change))
    assert {"sound for web", "film for web", "web"} <= differ(one, other)


def test_a_list_of_clips_written_short_is_the_same_recipe(desk: Workshop) -> None:
    short = JOINED.replace("{clips: [$first, $second], crossfade: 0.5s}", "[$first, $second]")
    long = JOINED.replace(", crossfade: 0.5s", "")
    assert differ(planned(desk, short), planned(desk, long)) == set()


def test_what_is_joined_is_known_by_its_number(desk: Workshop) -> None:
    film = planned(desk, JOINED)[names(planned(desk, JOINED))["film for web"]]
    assert film.parts["concat.clips.2 > second.length"] == "1s"
    assert film.steps == ("first", "second", "concat")


def test_both_of_what_is_joined_are_ingested_before_it_is_delivered(desk: Workshop) -> None:
    done = planned(desk, JOINED)
    delivery = done[names(done)["web"]]
    assert {name.partition("-")[0] for name in delivery.needs} == {"ingest", "sound", "film"}
    assert [done[name].title for name in delivery.needs if name.startswith("ingest")] == ["clip.mp4", "silent.mp4"]


STILL = """\
steps:
- trim: {clip: clip.mp4, length: 1s}
- still: {at: end}
- prepare: {image: $still, size: 64x64}
deliver: [{preset: web, file: web.mp4, clip: $trim}]
"""


def test_another_ffmpeg_takes_a_still_anew_and_another_clip_or_moment_does(desk: Workshop) -> None:
    world = known(desk)
    recipe = desk.read(STILL)
    one = plan(recipe, world)
    assert one[names(one)["prepare"]].promised
    newer = plan(recipe, replace(world, tools={**world.tools, "ffmpeg": "n10"}))
    assert {"still", "prepare"} <= differ(one, newer)
    assert differ(one, planned(desk, STILL.replace("at: end", "at: start"))) == {"still", "prepare"}
    assert {"still", "prepare"} <= differ(one, planned(desk, STILL.replace("length: 1s", "length: 1.5s")))


def test_a_moment_that_is_not_there_is_told_with_its_line(desk: Workshop) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(desk, STILL.replace("at: end", "at: 24f"))
    assert caught.value.mistakes[0] == (
        "film.yaml:3: still.at: frame 24 is after the last frame, which is number 23, at 0.958 s"
    )


# ---------------------------------------------------------------- names: what does not


def test_names_do_not_depend_on_places_or_on_the_order_of_keys(
    desk: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(desk)
    elsewhere = Workshop(tmp_path / "quite" / "elsewhere")
    reordered = FILM.replace("{sound: $voice, at: 0.2s, duck: 10 dB}", "{duck: 10 dB, at: 0.2s, sound: $voice}")
    reordered = "# what people write\n" + reordered.replace(
        "{preset: web, file: out/web.mp4}", "file: out/web.mp4\n    preset: web"
    )
    after = planned(elsewhere, reordered)
    assert differ(before, after) == set()
    monkeypatch.chdir(elsewhere.folder)
    assert differ(after, planned(elsewhere, reordered)) == set()


def test_another_name_for_a_delivery_or_a_file_encodes_nothing(desk: Workshop) -> None:
    world = known(desk)
    before = plan(desk.read(FILM), world)
    after = plan(desk.read(FILM.replace("out/web.mp4", "out/w.mp4")), made(world, before))
    assert {task.action for task in after.tasks} == {"cached"}
    renamed = desk.folder / "rabbit.mp4"
    renamed.touch()
    facts = FileFacts("a" * 64, clip_from(renamed, picture(), sound(2)))
    world = replace(world, files={**world.files, renamed: facts})
    after = plan(desk.read(FILM.replace("clip.mp4", "rabbit.mp4")), made(world, before))
    assert {task.title for task in after.tasks if task.action != "cached"} <= {"rabbit.mp4"}


# ---------------------------------------------------------------- what would be done, and why


def test_reasons_say_what_changed_with_both_values(desk: Workshop) -> None:
    world = known(desk)
    first = plan(desk.read(FILM), world)
    assert {task.title: task.reason for task in first.tasks} == {
        **dict.fromkeys(("clip.mp4", "voice.wav", *SOUNDS), "new"),
        **dict.fromkeys(DELIVERIES, "new"),
        **dict.fromkeys(FILMS - DELIVERIES, "new; its picture is edited"),
    }
    later = made(world, first)
    assert {task.reason for task in plan(desk.read(FILM), later).tasks} == {""}

    changed = plan(desk.read(FILM.replace("duck: 10 dB", "duck: 12 dB")), later)
    reasons = {task.title: task.reason for task in changed.tasks}
    assert reasons["sound for web"] == "mix_audio.duck: 12 dB, was 10 dB"
    assert reasons["film for web"] == "mix_audio.duck: 12 dB, was 10 dB; its picture is edited"
    assert reasons["clip.mp4"] == ""

    newer = plan(desk.read(FILM), replace(later, tools={"ffmpeg": "n10", "c2pa": "0.38"}))
    assert "ffmpeg: n10, was n9" in {task.reason for task in newer.tasks if task.title == "sound for web"}.pop()


def test_a_delivery_that_is_gone_or_altered_is_restored(desk: Workshop) -> None:
    world = known(desk)
    recipe = desk.read(FILM)
    later = made(world, plan(recipe, world))
    web, youtube = (delivery.file for delivery in recipe.deliveries)
    found = plan(recipe, replace(later, delivered={youtube: "another hash"}))
    assert {task.title: (task.action, task.reason) for task in found.tasks if task.title in DELIVERIES} == {
        "web": ("cached", "is missing: restored from the cache"),
        "youtube": ("cached", "differs: restored from the cache"),
    }
    assert web.name in plan_text(found) or "web" in plan_text(found)


def test_a_picture_that_no_step_touches_is_copied_where_the_preset_allows(desk: Workshop) -> None:
    text = (
        "steps:\n- replace_audio: {clip: clip.mp4, sound: voice.wav}\n"
        "deliver:\n- {preset: web, file: web.mp4}\n- {preset: youtube, file: youtube.mp4}\n"
    )
    found = {task.title: (task.action, task.reason) for task in planned(desk, text).tasks}
    assert found["film for web"] == ("copy", "new")
    action, reason = found["film for youtube"]
    assert action == "encode"
    assert re.fullmatch(r"new; youtube\.yaml:\d+ gop: 48 frames between key frames, not at most 12", reason)


def test_two_deliveries_of_one_film_are_both_made(desk: Workshop) -> None:
    text = (
        "steps:\n- trim: {clip: clip.mp4, length: 1s}\n"
        "deliver:\n- {preset: web, file: a.mp4}\n- {preset: web, file: b.mp4}\n"
    )
    assert delivered_by(planned(desk, text)) == [desk.folder / "a.mp4", desk.folder / "b.mp4"]


def delivered_by(done: Plan) -> list[Path]:
    """The files that a plan puts in place."""
    return sorted(placement.file for placement in done.deliveries)


# ---------------------------------------------------------------- what cannot be

IMPOSSIBLE = {
    "a cut longer than the clip": (
        ("length: 1s", "length: 9s"),
        "film.yaml:5: trim.length: 0–9 s is asked of a clip that is 2 s long",
    ),
    "a cut of nothing": (
        ("length: 1s", "start: 1s, end: 1s"),
        "film.yaml:5: trim.end: 1–1 s leaves nothing of a 2 s clip",
    ),
    "a narration that does not fit": (
        ("at: 0.2s", "at: 0.6s"),
        "film.yaml:6: mix_audio: 0.6 s of sound at 0.6 s do not fit into a clip of 1 s",
    ),
    "a shape that enlarging cannot give": (
        ("size: 320x180", "size: 320x320"),
        "film.yaml:9: upscale: 320x320 has another shape than the clip's 160x90; use fit for that",
    ),
    "a file without a clip": (("clip: clip.mp4", "clip: words.srt"), "film.yaml:5: trim.clip: no clip"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_told_with_its_line(desk: Workshop, what: str) -> None:
    (old, new), said = IMPOSSIBLE[what]
    assert old in FILM
    world = known(desk)
    with pytest.raises(RecipeError) as caught:
        plan(desk.read(FILM.replace(old, new)), world)
    assert caught.value.mistakes == (said,)


def test_all_that_cannot_be_is_told_at_once(desk: Workshop) -> None:
    world = known(desk)
    text = (
        "steps:\n"
        "- trim: {clip: clip.mp4, length: 9s}\n"
        "- {trim: 1s, name: short}\n"
        "- {trim: {clip: clip.mp4, length: 7s}, name: other}\n"
        "deliver:\n"
        "- {preset: youtube-shorts, clip: voice.wav, file: a.mp4}\n"
    )
    with pytest.raises(RecipeError) as caught:
        plan(desk.read(text), world)
    assert [mistake.partition(": ")[0] for mistake in caught.value.mistakes] == [
        "film.yaml:2", "film.yaml:4", "film.yaml:6"
    ]  # fmt: skip


def test_captions_beside_a_film_do_not_fall_on_an_input(desk: Workshop) -> None:
    world = known(desk)
    text = (
        "steps:\n- caption: {clip: clip.mp4, file: words.srt, sidecar: srt}\n"
        "deliver: [{preset: web, file: words.mp4}]\n"
    )
    with pytest.raises(RecipeError, match=r"film\.yaml:3: .*words\.srt"):
        plan(desk.read(text), world)


# ---------------------------------------------------------------- any recipe

Line = tuple[str, Mapping[str, str]]

lengths = st.integers(1, 60).map(lambda frames: f"{frames}f")
moments = st.sampled_from(["0", "0.1s", "5f", "0.9s"])
edits: st.SearchStrategy[Line] = st.one_of(
    st.tuples(st.just("trim"), st.fixed_dictionaries({"length": lengths}, optional={"start": moments})),
    st.tuples(st.just("mix_audio"), st.fixed_dictionaries({"sound": st.just("voice.wav"), "at": moments})),
    st.tuples(st.just("replace_audio"), st.fixed_dictionaries({"sound": st.just("voice.wav")})),
    st.tuples(st.just("level"), st.fixed_dictionaries({"loudness": st.sampled_from(["-16", "-23"])})),
    st.tuples(st.just("strip_audio"), st.just({})),
    st.tuples(st.just("caption"), st.fixed_dictionaries({"file": st.just("words.srt")})),
    st.tuples(st.just("upscale"), st.fixed_dictionaries({"size": st.sampled_from(["1.5x", "2x", "320x180"])})),
    st.tuples(st.just("fit"), st.fixed_dictionaries({"size": st.sampled_from(["90x160", "160x90", "100x100"])})),
)
delivered = st.sampled_from(["web", "youtube", "web"])


@st.composite
def recipes(draw: st.DrawFn) -> str:
    """A linear recipe: each step reads the one before it, or an earlier one, or a clip of its own."""
    lines = ["steps:"]
    steps = draw(st.lists(edits, min_size=1, max_size=6))
    for number, (stage, parameters) in enumerate(steps):
        earlier = [f"$s{n}" for n in range(number)]
        reads = draw(st.sampled_from([*earlier[-1:], *earlier, "clip.mp4", "silent.mp4"]))
        given_ = ", ".join(f"{key}: {value}" for key, value in {"clip": reads, **parameters}.items())
        lines.append(f"- {{name: s{number}, {stage}: {{{given_}}}}}")
    lines.append("deliver:")
    for number, preset in enumerate(draw(st.lists(delivered, min_size=1, max_size=4))):
        of = draw(st.sampled_from(["", *(f"clip: $s{n}, " for n in range(len(steps))), "clip: clip.mp4, "]))
        lines.append(f"- {{preset: {preset}, {of}file: out/{number}.mp4}}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, World]:
    desk = Workshop(tmp_path_factory.mktemp("any"))
    return desk, known(desk)


@settings(max_examples=150, deadline=None)
@given(text=recipes())
def test_in_any_plan_each_file_is_made_once_and_after_all_it_reads(room: tuple[Workshop, World], text: str) -> None:
    desk, world = room
    recipe = desk.read(text)
    try:
        found = plan(recipe, world)
    except RecipeError as error:
        told = [mistake for mistake in error.mistakes if re.match(r"film\.yaml:\d+: ", mistake)]
        assert len(told) == len(error.mistakes)  # noqa: PT017 -- most of what is generated can be planned
        return
    check(recipe, found)
    later = made(world, found)
    assert {task.action for task in plan(recipe, later).tasks} == {"cached"}
    assert text_of(plan(recipe, world)) == text_of(found)


def check(recipe: Recipe, found: Plan) -> None:
    seen: set[str] = set()
    for task in found.tasks:
        assert task.name not in seen, "made twice"
        assert set(task.needs) <= seen, "made before what it reads"
        assert _named_in(task.work) <= set(task.needs), "reads what it does not wait for"
        seen.add(task.name)
    assert delivered_by(found) == sorted(one.file for one in recipe.deliveries)
    delivering = {placement.task for placement in found.deliveries}
    assert delivering <= seen
    needed = {need for task in found.tasks for need in task.needs}
    assert not seen - delivering - needed, "made for nobody"


def _named_in(work: Call | Film) -> set[str]:
    """The tasks that a task's work will read."""
    if isinstance(work, Film):
        return {work.sound.task} if work.sound else set()
    return set(_places(work.arguments))


def _places(value: object) -> Iterator[str]:
    if isinstance(value, FileOf | ResultOf):
        yield value.task
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _places(inner)


def test_a_plan_finds_its_tasks_by_name(desk: Workshop) -> None:
    found = planned(desk)
    task: Task = found.tasks[-1]
    assert found[task.name] is task


def test_what_another_recipe_spoke_is_no_reason(workshop: Workshop) -> None:
    steps = "steps:\n- speak: Hello there.\n- trim: {clip: clip.mp4, length: 1s}\n"
    text = f"{steps}deliver:\n- {{preset: web, file: out/a.mp4}}\n"

    def reason(name: str) -> str:
        recipe = read_recipe(workshop.write(text, name))
        world = replace(workshop.store.world(recipe), latest={"film.yaml:speak": {"speak.text": "Good bye."}})
        return next(task.reason for task in plan(recipe, world).tasks if task.slot == "speak")

    assert "Good bye." in reason("film.yaml") or "was nothing" in reason("film.yaml")
    assert reason("other.yaml") == "new"
