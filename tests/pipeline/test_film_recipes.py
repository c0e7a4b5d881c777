"""Recipes that buy, run by the real `pipeline` against a real server: what is paid, and what is not paid again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import pytest
from shoot import Server, Shoot, server
from workshop import ffmpeg, frames_of

import presets
from pipeline.plan import plan
from pipeline.read import read_recipe
from pipeline.recipe import Recipe
from pipeline.run import run
from pipeline.tasks import Plan
from stages.ledger import open_ledger, purchases
from stages.stage import Stage

RECIPE = """\
inputs:
  photo: photo.png
  prompt: a rose
  line: Hello there.
steps:
  - prepare: {image: $photo, fit: cover}
  - generate: {prompt: $prompt, reference: $prepare, frame: 16:9, length: 3s, model: sim}
  - trim: {length: 2s}
  - speak: {text: $line, voice: heart}
  - mix_audio: {clip: $trim, sound: $speak, at: 0.1s, duck: 10 dB}
  - upscale: {size: 320x180}
deliver:
  - {preset: web, file: out/web.mp4}
"""

BRIEF = """\
inputs: {prompt: a rose, length: 3s, photo: photo.png}
steps:
  - prepare: {image: $photo}
  - generate: {prompt: $prompt, reference: $prepare, frame: 16:9, length: $length, model: sim}
  - trim: {length: 0.5s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""
"""Without a voice."""


MANY = """\
steps:
  - generate: {prompt: a rose, frame: 16:9, length: 3s, model: sim}
  - trim: {length: 2s}
  - {name: hello, speak: {text: Hello there., voice: espeak}}
  - {name: tag, speak: {text: Guten Tag., voice: espeak, language: de}}
  - {name: with_english, mix_audio: {clip: $trim, sound: $hello, duck: 10 dB}}
  - {name: english, caption: {clip: $with_english}}
  - {name: with_german, mix_audio: {clip: $trim, sound: $tag, duck: 10 dB}}
  - {name: german, caption: {clip: $with_german}}
deliver:
  - {preset: youtube, clip: $english, file: out/wide-en.mp4}
  - {preset: youtube, clip: $german, file: out/wide-de.mp4, language: de}
  - {preset: youtube-shorts, clip: $english, file: out/tall-en.mp4, focus: 0.3x0.5}
  - {preset: youtube-shorts, clip: $german, file: out/tall-de.mp4, mode: blur, captions: off}
"""
"""Two languages in two frames."""


# ---------------------------------------------------------------- a server, a project, a purse


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that films at once, and sells whatever it is asked for: no key hides a second request."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo."""
    folder = tmp_path_factory.mktemp("photos")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=1280x720", "-frames:v", "1", folder / "photo.png")
    return folder


Made = tuple[Shoot, dict[str, Any], str]


@pytest.fixture(scope="module")
def made(quick: Server, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """RECIPE, run once; what it told scripts and people. Not to be changed."""
    shoot = Shoot(tmp_path_factory.mktemp("made"), quick)
    shutil.copy(media / "photo.png", shoot.workshop.folder)
    shoot.workshop.write(RECIPE)
    with shoot.sells(1):
        done = shoot.workshop.cli("run", "film.yaml", "--json", env=shoot.env)
    assert done.returncode == 0, done.stderr
    return shoot, json.loads(done.stdout), done.stderr


@pytest.fixture
def finished(made: Made, tmp_path: Path) -> Shoot:
    """A copy of it, home and all."""
    shutil.copytree(made[0].folder, tmp_path / "copy")
    return Shoot(tmp_path / "copy", made[0].server)


@pytest.fixture
def fresh(quick: Server, media: Path, tmp_path: Path) -> Shoot:
    """BRIEF, not run yet, with nothing bought."""
    return project(tmp_path, quick, media)


def project(folder: Path, one: Server, media: Path) -> Shoot:
    """BRIEF, not run yet."""
    shoot = Shoot(folder / "own", one)
    shutil.copy(media / "photo.png", shoot.workshop.folder)
    shoot.workshop.write(BRIEF)
    return shoot


# ---------------------------------------------------------------- bought once


def test_a_run_says_what_it_bought(made: Made) -> None:
    shoot, told, said = made
    (file,) = told["files"]
    assert {key: told[key] for key in ("bought", "spent", "encoded", "copied", "cached")} == {
        "bought": 1, "spent": "0.40", "encoded": 1, "copied": 0, "cached": 0,
    }  # fmt: skip
    assert {key: file[key] for key in ("path", "size", "frames", "rate", "provenance")} == {
        "path": "out/web.mp4", "size": "320x180", "frames": 48, "rate": "24/1", "provenance": "proved",
    }  # fmt: skip
    assert frames_of(shoot.workshop.folder / "out" / "web.mp4") == 48
    assert shoot.workshop.leftovers() == []
    # a photo looked at, prepared, a line spoken, a sound, a delivery
    assert "1 bought, 1 encoded, 5 smaller tasks; $0.40 spent (SIMULATED: nothing is paid)" in said


def test_a_second_run_makes_nothing(finished: Shoot) -> None:
    with finished.sells(0):
        told = finished.run()
    assert {key: told[key] for key in ("bought", "spent", "encoded", "copied")} == {
        "bought": 0, "spent": "0.00", "encoded": 0, "copied": 0,
    }  # fmt: skip


def test_another_line_is_spoken_and_encoded_and_nothing_is_bought(finished: Shoot) -> None:
    with finished.sells(0):
        told = finished.run("--set", "line=Good bye.")
    assert (told["bought"], told["spent"], told["encoded"]) == (0, "0.00", 1)


def test_a_plan_says_pay_and_how_much(finished: Shoot) -> None:
    done = finished.workshop.cli("plan", "film.yaml", "--json", "--set", "prompt=two roses", env=finished.env)
    tasks = {task["name"].partition("-")[0]: task for task in json.loads(done.stdout)["tasks"]}
    assert (tasks["generate"]["action"], tasks["generate"]["price"]) == ("pay", "0.40")
    assert (tasks["prepare"]["action"], tasks["prepare"]["price"]) == ("cached", None)
    said = finished.workshop.cli("plan", "film.yaml", "--set", "prompt=two roses", env=finished.env).stdout
    assert "pay $0.40" in said
    assert said.splitlines()[-1].endswith("; $0.40 to pay (SIMULATED: nothing is paid)")
    assert finished.planned(RECIPE)["generate"].action == "cached"


def test_versions_and_prices_buy_nothing(finished: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage a version later, every tool another, every price ten times as high."""
    plain = presets.read

    def dearer(kind: presets.Kind, name: str) -> presets.Sheet:
        sheet = plain(kind, name)
        news = {key: replace(each, value="9.99") for key, each in sheet.values.items() if key.startswith("price.")}
        return replace(sheet, values=MappingProxyType({**sheet.values, **news}))

    monkeypatch.setattr(presets, "read", dearer)
    store, recipe = finished.workshop.store, newer(read_recipe(finished.workshop.folder / "film.yaml"))
    with finished.here(), finished.sells(0):
        world = store.world(recipe)
        for tools in (world.tools, {"ffmpeg": "n99", "c2pa": "c2pa-python 99"}):
            planned = plan(recipe, replace(world, tools=tools))
            assert price(planned) == 0
            assert [task.action for task in planned.tasks if task.slot == "generate"] == ["make"]
        result = run(recipe, store)
    assert result.bought == []
    assert {"prepare", "generate", "speak"} <= {task.slot for task in result.made}
    assert result.count("encode") == 1


def newer(recipe: Recipe) -> Recipe:
    """The recipe, read by an Afterframe in which every stage has changed."""

    def later(stage: Stage) -> Stage:
        parts = stage.parts and replace(stage.parts, stage=later(stage.parts.stage))
        return replace(stage, version=stage.version + 1, parts=parts)

    return replace(recipe, steps=tuple(replace(step, stage=later(step.stage)) for step in recipe.steps))


def price(planned: Plan) -> Decimal:
    return sum((task.price for task in planned.tasks), Decimal(0))


REORDERED = """\
  - generate: {model: [sim], length: 3s, frame: 16:9, reference: $prepare, prompt: $prompt}
"""

REWRITTEN: Mapping[str, Callable[[str], str]] = {
    "a step renamed": lambda text: (
        text.replace("  - generate:", "  - name: shot\n    generate:")
        .replace("  - prepare:", "  - name: picture\n    prepare:")
        .replace("$prepare", "$picture")
    ),
    "keys reordered": lambda text: text.replace(text[text.index("  - generate") : text.index("  - trim")], REORDERED),
    "a photo moved": lambda text: text.replace("photo.png", "photos/renamed.png"),
    "a longer length that the film has": lambda text: text.replace("length: 3s", "length: 4s"),
    "no length to spare": lambda text: text.replace("length: 3s", "length: 2s"),
    "another delivery": lambda text: text + "  - {preset: youtube, file: out/youtube.mp4}\n",
    "no speech": lambda text: text.replace("sound: $speak", "sound: voice.wav"),
}


@pytest.mark.parametrize("change", REWRITTEN)
def test_rewriting_the_recipe_buys_nothing(rewritten: Shoot, change: str) -> None:
    text = REWRITTEN[change](RECIPE)
    assert text != RECIPE
    assert not rewritten.planned(text)["generate"].price


@pytest.fixture(scope="module")
def rewritten(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Shoot:
    """A copy of it, with another photo of the same bytes and a recorded voice. Not to be run."""
    folder = tmp_path_factory.mktemp("rewritten") / "copy"
    shutil.copytree(made[0].folder, folder)
    project = folder / "project"
    (project / "photos").mkdir()
    shutil.copy(project / "photo.png", project / "photos" / "renamed.png")
    ffmpeg("-f", "lavfi", "-i", "sine=880:r=24000:d=0.6", project / "voice.wav")
    return Shoot(folder, made[0].server)


def test_a_recipe_with_other_names_and_another_order_is_the_same(finished: Shoot) -> None:
    text = REWRITTEN["keys reordered"](RECIPE)
    finished.workshop.write(text.replace("  - prepare:", "  - name: still\n    prepare:").replace("$prepare", "$still"))
    with finished.sells(0):
        told = finished.run()
    assert (told["bought"], told["encoded"]) == (0, 0)


@pytest.mark.parametrize("change", ["frame: 9:16", "length: 5s", "fit: blur", "take: 2, length: 3s"])
def test_another_request_is_paid(rewritten: Shoot, change: str) -> None:
    word = change.split(", ")[-1].partition(":")[0]
    text = re.sub(rf"{word}: [\w:]+", change, RECIPE, count=1).replace("size: 320x180", "size: 0.25x")
    assert rewritten.planned(text)["generate"].action == "pay"


def test_what_a_recipe_buys_is_known_by_the_same_key_for_ever(fresh: Shoot) -> None:
    """Whoever changes how identities are made makes every user pay again for every film."""
    (fresh.workshop.folder / "dot.ppm").write_bytes(b"P6 1 1 255\n\x80\x40\x20")
    (key,) = fresh.planned(BRIEF, photo="dot.ppm")["generate"].keys
    assert key == "a3d2556a475ad0a5f3e318dc2195b564d539b3d5bb221cce561661e3abebb874"


def test_without_its_cache_the_film_comes_from_home(finished: Shoot) -> None:
    shutil.rmtree(finished.workshop.folder / ".pipeline")
    with finished.sells(0):
        told = finished.run()
    assert (told["bought"], told["spent"], told["encoded"]) == (0, "0.00", 1)


def test_a_project_may_be_moved(finished: Shoot, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = Shoot(tmp_path / "elsewhere" / "new", finished.server)
    finished.folder.rename(moved.folder)
    with moved.sells(0):
        told = moved.run()
    assert (told["bought"], told["encoded"]) == (0, 0)
    shutil.rmtree(moved.workshop.folder / ".pipeline" / "tasks")
    with moved.sells(0):
        assert moved.run("--until", "generate")["bought"] == 0


# ---------------------------------------------------------------- once more


def test_a_retake_buys_one_and_is_kept(finished: Shoot) -> None:
    with finished.sells(1):
        told = finished.run("--retake", "generate")
        assert (told["bought"], told["spent"], told["encoded"]) == (1, "0.40", 1)
        again = finished.run()
        assert (again["bought"], again["encoded"]) == (0, 0)
    shutil.rmtree(finished.workshop.folder / ".pipeline")
    with finished.sells(0):
        assert finished.run("--until", "generate")["bought"] == 0


def test_a_retake_that_was_killed_is_the_one_that_is_asked_for_again(finished: Shoot) -> None:
    before = finished.server.sales()
    with finished.sells(1):
        process = finished.start("--retake", "generate")
        finished.server.wait_for_a_sale(before)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert finished.run("--retake", "generate")["encoded"] == 1


def test_a_retake_before_the_first_take_is_the_first(fresh: Shoot) -> None:
    """Else deleting the cache would buy the first take, which nobody has asked for."""
    with fresh.sells(1):
        assert fresh.run("--retake", "generate", "--until", "generate")["bought"] == 1
        shutil.rmtree(fresh.workshop.folder / ".pipeline")
        assert fresh.run("--until", "generate")["bought"] == 0


def test_only_what_buys_can_be_retaken(finished: Shoot) -> None:
    assert "--retake generat: is no step that buys (did you mean generate?)" in finished.refused(
        2, "--retake", "generat"
    )


def test_recipes_of_one_name_have_takes_of_their_own(finished: Shoot) -> None:
    folder, store = finished.workshop.folder, finished.workshop.store
    shutil.copytree(folder, folder / "other", ignore=shutil.ignore_patterns(".pipeline", "out", "pyproject.toml"))
    ours, theirs = (read_recipe(place / "film.yaml") for place in (folder, folder / "other"))
    with finished.here():
        store.retake(ours, "generate")
    assert (store.takes(ours), store.takes(theirs)) == ({"generate": 2}, {})


def test_until_a_step_delivers_nothing(fresh: Shoot) -> None:
    with fresh.sells(1):
        told = fresh.run("--until", "generate")
    assert (told["bought"], told["encoded"], told["files"]) == (1, 0, [])
    assert not (fresh.workshop.folder / "out").exists()
    with fresh.sells(0):
        assert fresh.run()["encoded"] == 1


def test_two_runs_at_once_buy_once(fresh: Shoot, quick: Server, media: Path, tmp_path: Path) -> None:
    """Two in one project, and a third in another that shares the ledger."""
    third = project(tmp_path / "third", quick, media)
    (tmp_path / "own" / "home").mkdir()
    (tmp_path / "third" / "own" / "home").symlink_to(fresh.home)
    with fresh.sells(1):
        runs = [fresh.start(), fresh.start(), third.start()]
        assert [process.wait(300) for process in runs] == [0, 0, 0]
    for shoot in (fresh, third):
        assert frames_of(shoot.workshop.folder / "out" / "web.mp4") == 12
        assert shoot.workshop.leftovers() == []


# ---------------------------------------------------------------- when the world says no


def test_policy_is_told_as_policy(fresh: Shoot) -> None:
    with fresh.sells(0):
        for _ in range(2):  # the second is not even sent
            said = fresh.refused(1, "--set", "prompt=a crowd [moderated]")
            assert "content policy" in said
            assert "change the prompt" in said
    with fresh.sells(1):
        for _ in range(2):
            said = fresh.refused(1, "--set", "prompt=a crowd [moderated later]")
            assert "content policy" in said
            assert "change the prompt" in said


def test_a_job_that_failed_is_told_and_tried_again_when_asked(fresh: Shoot) -> None:
    with fresh.sells(1):
        said = fresh.refused(1, "--set", "prompt=a rose [fails]")
    assert "sim could not film it" in said
    assert "not your prompt's fault, try again" in said
    with fresh.sells(1):
        fresh.refused(1, "--set", "prompt=a rose [fails]")  # a failed job is not billed


def test_a_film_that_comes_short_is_kept(fresh: Shoot) -> None:
    with fresh.sells(1):
        said = fresh.refused(1, "--set", "prompt=a rose [short]", "--set", "length=4s")
        assert "was paid for 4 s and sent 3 s, less than the 4 s that are needed; it is kept in" in said
        fresh.refused(1, "--set", "prompt=a rose [short]", "--set", "length=4s")
        told = fresh.run("--set", "prompt=a rose [short]", "--set", "length=3s")
    assert (told["bought"], told["encoded"]) == (0, 1)


def test_a_server_that_goes_and_comes_back(tmp_path: Path, media: Path) -> None:
    with server(tmp_path / "server", "--latency", "2", "--settle", "0") as one:
        shoot = project(tmp_path, one, media)
        process = shoot.start()
        one.wait_for_a_sale(0)
        one.kill()
        assert process.wait(300) == 1
        assert "cannot reach sim" in shoot.refused(1)
        one.open()
        assert shoot.run()["encoded"] == 1
        assert one.sales() == 1


def test_whoever_waits_for_a_lost_answer_is_told_until_when(tmp_path: Path, media: Path) -> None:
    with server(tmp_path / "server", "--settle", "1", "--ignore-keys", "--fault", "reset-after*1@create") as one:
        shoot = project(tmp_path, one, media)
        done = shoot.workshop.cli("run", "film.yaml", "--until", "generate", env=shoot.env)
        assert done.returncode == 0, done.stderr
        told = re.findall(
            "filming generate: an earlier answer of sim was lost: waiting until (..:..), then", done.stderr
        )
        assert (len(told), one.sales()) == (1, 1)


def test_no_network(fresh: Shoot) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        said = fresh.refused(1, AFTERFRAME_SIM_URL=url)
    assert "cannot reach sim" in said
    with fresh.sells(1):
        assert fresh.run()["bought"] == 1
    assert "should be a URL such as https://host/v1" in fresh.refused(2, "--set", "prompt=x", AFTERFRAME_SIM_URL="sim")


class Doorman(BaseHTTPRequestHandler):
    """Knows nobody."""

    def do_POST(self) -> None:
        body = json.dumps({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}).encode()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_wrong_key(fresh: Shoot) -> None:
    with HTTPServer(("127.0.0.1", 0), Doorman) as desk:
        threading.Thread(target=desk.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        said = fresh.refused(1, AFTERFRAME_SIM_URL=f"http://127.0.0.1:{desk.server_address[1]}/v1")
        desk.shutdown()
    assert "does not accept the key" in said
    assert "Incorrect API key provided" in said
    with fresh.sells(1):  # a refusal was no sale: with the right key it is bought
        assert fresh.run()["bought"] == 1


@pytest.fixture
def small_home(fresh: Shoot) -> Iterator[Path]:
    """An AFTERFRAME_HOME on a disk of one megabyte."""
    fresh.home.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(fresh.home)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk (mount, of Debian's package mount)")
    yield fresh.home
    subprocess.run(["umount", "-l", str(fresh.home)], check=True)


def test_a_disk_that_fills_up_while_it_is_fetched(fresh: Shoot, small_home: Path) -> None:
    fresh.planned(BRIEF)  # makes the ledger
    free = os.statvfs(small_home).f_bavail * os.statvfs(small_home).f_frsize
    ballast = small_home / "ballast"
    ballast.write_bytes(bytes(free - 140_000))  # the ledger has room; 12 s of film have not
    with fresh.sells(1):
        said = fresh.refused(1, "--set", "length=12s")
        assert "the disk is full" in said
        assert str(small_home) in said
        assert not list(small_home.rglob("*.part"))
        ballast.unlink()
        told = fresh.run("--set", "length=12s")
    assert (told["bought"], told["encoded"]) == (0, 1)


# ---------------------------------------------------------------- the author's mistakes


def bomb() -> bytes:
    """A PNG of 3000 megapixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_pictures_that_are_none(fresh: Shoot) -> None:
    folder = fresh.workshop.folder
    (folder / "page.png").write_text("<html>404 Not Found</html>")
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:4000])
    (folder / "bomb.png").write_bytes(bomb())
    with fresh.sells(0):
        for name, words in (
            ("page.png", "is no picture, film or sound that can be read"),
            ("cut.png", "truncated or broken"),
            ("bomb.png", "3000 megapixels: more than the limit of 200 megapixels"),
            ("gone.png", "there is no such file"),
        ):
            said = fresh.refused(2, "--set", f"photo={name}")
            assert f"{name}: " in said
            assert words in said


def test_a_picture_of_another_size_is_refused_before_it_is_paid(fresh: Shoot) -> None:
    """A photo that nobody prepared."""
    ffmpeg("-i", fresh.workshop.folder / "photo.png", "-vf", "scale=640:360", fresh.workshop.folder / "small.png")
    fresh.workshop.write(
        BRIEF.replace("reference: $prepare", "reference: small.png").replace("  - prepare: {image: $photo}\n", "")
    )
    with fresh.sells(0):
        fresh.refused(1)


def test_a_closed_model_and_the_line_that_maps_it(fresh: Shoot) -> None:
    fresh.workshop.write(BRIEF.replace("model: sim", "model: sora-2"))
    with fresh.sells(0):
        said = fresh.refused(2)
        assert said.startswith("film.yaml:4: generate.model: ")
        assert "sora-2 closed on 2026-09-24 (sora-2.yaml:" in said
        assert "`sora-2: MODEL`, with one of " in said
    with fresh.sells(1):
        assert fresh.run("--sim", "--until", "generate")["bought"] == 1
    (fresh.workshop.folder / "models.yaml").write_text("sora-2: sim\n")
    with fresh.sells(0):
        assert fresh.run()["bought"] == 0


MISTAKEN = """\
steps:
  - {name: long, generate: {prompt: x, frame: 16:9, length: 13s, model: sim}}
  - {name: square, generate: {prompt: x, frame: 1:1, length: 3s, model: sim}}
  - {name: typo, generate: {prompt: x, frame: 16:9, length: 3s, model: sin}}
  - {name: nobody, generate: {prompt: x, frame: 16:9, length: 3s}}
  - {name: shapeless, generate: {prompt: x, length: 3s, model: sim}}
  - {name: fine, generate: {prompt: x, frame: 16:9, length: 3s, model: sim}}
  - trim: {length: 9s}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_mistakes_are_told_at_once_with_their_lines(fresh: Shoot) -> None:
    fresh.workshop.write(MISTAKEN)
    with fresh.sells(0):
        said = fresh.refused(2).splitlines()
    for line, words in zip(
        said,
        (
            "film.yaml:2: long.length: sim sells at most 12 s (sim.yaml:",
            "film.yaml:3: square.frame: sim sells 720x1280, 1280x720 (sim.yaml:",
            "film.yaml:4: typo.model: there is no model 'sin' (did you mean sim?)",
            "film.yaml:5: nobody.model: is missing (such as ",
            "film.yaml:6: shapeless.frame: is missing (such as 9:16 | 1280x720)",
            "film.yaml:8: trim",
        ),
        strict=True,
    ):
        assert line.startswith(words)


def test_a_check_with_sim_is_of_what_sim_would_film(fresh: Shoot) -> None:
    fresh.workshop.write(BRIEF.replace("model: sim", "model: sora-2"))
    done = fresh.workshop.cli("check", "film.yaml", "--sim", env=fresh.env)
    assert (done.returncode, done.stdout[:15]) == (0, "film.yaml: fine")


# ---------------------------------------------------------------- one shot after another

SHOTS = """\
inputs: {photo: photo.png}
steps:
  - prepare: {image: $photo}
  - {name: a, generate: {prompt: a rose, reference: $prepare, frame: 16:9, length: 3s, model: sim}}
  - trim: {length: 0.5s}
  - still
  - {name: again, prepare: {image: $still}}
  - {name: b, generate: {prompt: it opens, reference: $again, frame: 16:9, length: 3s, model: sim}}
  - {name: c, generate: {prompt: it closes, reference: $still, frame: 16:9, length: 3s, model: sim}}
  - {name: short_c, trim: {length: 0.5s}}
  - {name: short_b, trim: {clip: $b, length: 0.5s}}
  - concat: {clips: [$trim, $short_b, $short_c], crossfade: 0.25s}
deliver:
  - {preset: web, file: out/b.mp4, clip: $short_b}
  - {preset: web, file: out/all.mp4}
"""


def behind(shoot: Shoot, name: str) -> list[tuple[str, str]]:
    """What `pipeline verify` finds behind a delivery: of each file how it was used, and its title."""
    done = shoot.workshop.cli("verify", f"out/{name}", "--json", env=shoot.env)
    assert done.returncode == 0, done.stderr
    return [(one["relationship"], one["title"]) for one in json.loads(done.stdout)["credentials"]["ingredients"]]


def originals(shoot: Shoot) -> dict[str, str]:
    """The names of the paid originals, by the steps that bought them."""
    recipe = read_recipe(shoot.workshop.folder / "film.yaml")
    with shoot.here():
        kept = {row.key: Path(row.original).name for row in purchases(open_ledger())}
        tasks = plan(recipe, shoot.workshop.store.world(recipe)).tasks
    return {task.slot: kept[key] for task in tasks for key in task.keys if key in kept}


def test_the_next_shot_is_shown_the_end_of_the_one_before_it_and_says_so(fresh: Shoot) -> None:
    """Prepared for the model, or as it is."""
    fresh.workshop.write(SHOTS)
    with fresh.sells(3):
        told = fresh.run()
    assert [file["frames"] for file in told["files"]] == [12, 3 * 12 - 2 * 6]
    film = originals(fresh)
    assert behind(fresh, "b.mp4") == [("parentOf", film["b"]), ("inputTo", film["a"]), ("inputTo", "photo.png")]
    assert behind(fresh, "all.mp4") == [
        ("parentOf", film["a"]),
        ("inputTo", "photo.png"),
        ("componentOf", film["b"]),
        ("componentOf", film["c"]),
    ]
    shutil.rmtree(fresh.workshop.folder / ".pipeline")
    with fresh.sells(0):
        assert fresh.run()["bought"] == 0


# ---------------------------------------------------------------- many from one


def test_languages_and_frames_come_of_one_purchase(fresh: Shoot) -> None:
    """One sale, one sound a language, one film a picture."""
    fresh.workshop.write(MANY)
    with fresh.sells(1):
        told = fresh.run()
    assert (told["bought"], told["encoded"]) == (1, 4)
    assert [file["size"] for file in told["files"]] == ["1280x720"] * 2 + ["1080x1920"] * 2
    with fresh.here():
        planned = plan(recipe := read_recipe(fresh.workshop.folder / "film.yaml"), fresh.workshop.store.world(recipe))
    kinds = [task.name.partition("-")[0] for task in planned.tasks]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "generate": 1, "speak_line": 2, "sound": 2, "film": 4, "delivery": 4,
    }  # fmt: skip
    burnt = {each.file.stem: each.cut.picture.captions for each in planned.deliveries}
    english, german = burnt["wide-en"], burnt["wide-de"]
    assert english
    assert german
    assert (english.cues[0].text, german.cues[0].text) == ("Hello there.", "Guten Tag.")
    assert (burnt["tall-en"], burnt["tall-de"]) == (english, None)
    told = {}
    for name in ("wide-en", "wide-de"):
        with av.open(str(fresh.workshop.folder / "out" / f"{name}.mp4")) as film:
            told[name] = film.streams.audio[0].metadata["language"]
    assert told == {"wide-en": "und", "wide-de": "deu"}
    with fresh.sells(0):
        assert fresh.run()["encoded"] == 0
