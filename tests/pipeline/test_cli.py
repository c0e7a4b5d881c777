"""The command line: what scripts read, what people are told, and how everything that is bad is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from workshop import FIXTURES, SRT, Workshop, environment, ffmpeg, flip_a_byte, lacking_ffmpeg

import presets
from stages import plugins, provenance
from stages.clip import Action

pytest_plugins = ["desks"]

QUICK = "steps:\n- trim: {clip: clip.mp4, length: 0.5s, lossless: never}\ndeliver: [{preset: web, file: out/web.mp4}]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_media: Path) -> tuple[Workshop, str, str]:
    """A project in which QUICK was run with --json; its stdout and stderr."""
    workshop = Workshop(tmp_path_factory.mktemp("made") / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    workshop.write(QUICK)
    done = workshop.cli("run", "film.yaml", "--json")
    assert done.returncode == 0, done.stderr
    return workshop, done.stdout, done.stderr


# ---------------------------------------------------------------- for scripts


def test_run_ends_with_one_json_object_on_stdout(made: tuple[Workshop, str, str]) -> None:
    _, out, errors = made
    told = json.loads(out)
    assert out.count("\n") == 1
    shape = {
        "path": str, "preset": str, "size": str, "frames": int, "rate": str, "duration": str,
        "loudness": float, "true_peak": float, "provenance": str, "original": str,
        "cost": type(None), "sidecars": list,
    }  # fmt: skip
    (file,) = told["files"]
    assert {key: type(value) for key, value in file.items()} == shape
    assert {key: file[key] for key in ("path", "preset", "size", "frames", "rate", "duration", "provenance")} == {
        "path": "out/web.mp4", "preset": "web", "size": "160x90", "frames": 12, "rate": "24/1",
        "duration": "1/2", "provenance": "proved",
    }  # fmt: skip
    assert file["original"] == "clip.mp4"
    assert {key: told[key] for key in ("bought", "spent", "encoded", "copied", "cached", "report")} == {
        "bought": 0, "spent": "0.00", "encoded": 1, "copied": 0, "cached": 0, "report": "out/film.report.html",
    }  # fmt: skip
    assert "1 encoded" in errors
    assert "report: out/film.report.html" in errors


def test_plan_lists_the_tasks(made: tuple[Workshop, str, str]) -> None:
    done = made[0].cli("plan", "film.yaml", "--json")
    tasks = json.loads(done.stdout)["tasks"]
    assert {task["action"] for task in tasks} == {"cached"}
    for task in tasks:
        assert {"name", "steps", "action", "price", "reason"} <= set(task)
        assert isinstance(task["name"], str)
        assert isinstance(task["steps"], list)
        assert task["price"] is None
    other = json.loads(made[0].cli("plan", made[0].write(QUICK.replace("0.5s", "1s"), "other.yaml"), "--json").stdout)
    assert {task["action"] for task in other["tasks"]} == {"cached", "make", "encode"}
    assert any(task["reason"].startswith("trim.length: 1s, was 0.5s") for task in other["tasks"])


def test_plan_and_check_tell_people(made: tuple[Workshop, str, str]) -> None:
    said = made[0].cli("plan", "film.yaml").stdout
    assert "cached; $0.00 to pay" in said.splitlines()[-1]
    said = made[0].cli("check", "film.yaml").stdout
    assert said.startswith("film.yaml: fine; 1 steps, 1 deliveries, ")


# ---------------------------------------------------------------- verify

VERDICTS = {"proved": 0, "absent": 10, "tampered": 11, "untrusted": 13}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verify_says_it_by_its_exit_code(made: tuple[Workshop, str, str], verdict: str, tmp_path: Path) -> None:
    workshop = made[0]
    file = tmp_path / "film.mp4"
    shutil.copy(workshop.folder / "out" / "web.mp4", file)
    if verdict == "absent":
        shutil.copy(workshop.folder / "clip.mp4", file)
    if verdict == "tampered":
        flip_a_byte(file)
    elsewhere = tmp_path / "elsewhere"  # whose project vouches for nobody
    elsewhere.mkdir()
    (elsewhere / "pyproject.toml").touch()
    cwd = elsewhere if verdict == "untrusted" else workshop.folder
    done = workshop.cli("verify", file, "--json", cwd=cwd)
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"]) == (VERDICTS[verdict], verdict)
    assert isinstance(told["codes"], list)
    assert bool(told["codes"]) == (verdict in ("tampered", "untrusted"))


def test_verify_takes_an_original_and_anchors(made: tuple[Workshop, str, str], tmp_path: Path) -> None:
    workshop = made[0]
    web, clip = workshop.folder / "out" / "web.mp4", workshop.folder / "clip.mp4"
    root = workshop.folder / ".pipeline" / "signer" / "test-root.pem"
    (tmp_path / "pyproject.toml").touch()
    done = workshop.cli("verify", web, "--anchors", root, "--tsa-anchors", root, "--original", clip, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("proved: ")
    other = shutil.copy(FIXTURES / "bunny.mp4", tmp_path / "other.mp4")
    assert workshop.cli("verify", web, "--anchors", root, "--original", other, cwd=tmp_path).returncode in (11, 12)
    for wrong in (
        ["gone.mp4"],
        [web, "--original", "gone.mp4"],
        [web, "--anchors", "gone.pem"],
        [web, "--tsa-anchors", "gone.pem"],
        [web, "--frobnicate"],
    ):
        refused = workshop.cli("verify", *wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "Traceback" not in refused.stderr


def test_the_original_of_a_signed_clip_is_carried(workshop: Workshop) -> None:
    """A clip that somebody signed, by a root that the recipe names."""
    signer = provenance.test_signer(workshop.folder / "studio")
    clip = workshop.folder / "clip.mp4"
    provenance.sign(clip, clip, history=(Action("generate", agent="a model", ai=True),), signer=signer)
    assert signer.root
    workshop.write(f"provenance: {{anchors: [studio/{signer.root.name}]}}\n{QUICK}")
    assert workshop.cli("run", "film.yaml").returncode == 0
    done = workshop.cli("verify", "out/web.mp4", "--original", "clip.mp4", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"]) == (0, "proved")
    assert told["credentials"]["ingredients"][0]["state"] == "proved"


# ---------------------------------------------------------------- what there is


def test_what_there_is_can_be_listed(desk: Workshop) -> None:
    said = desk.cli("presets").stdout
    assert [line.split()[0] for line in said.splitlines()] == list(presets.names("delivery"))
    assert "https://support.google.com/youtube/answer/1722171" in desk.cli("presets", "youtube").stdout
    refused = desk.cli("presets", "yotube")
    assert refused.returncode == 2
    assert "did you mean youtube?" in refused.stderr

    held = desk.cli("conform", FIXTURES / "bunny.mp4", "--preset", "web")
    assert (held.returncode, held.stderr) == (1, "")
    assert "NO loudness      -19.4 LUFS" in held.stdout
    assert "web.yaml:" in held.stdout
    numbers = json.loads(desk.cli("conform", FIXTURES / "bunny.mp4", "--preset", "web", "--json").stdout)["numbers"]
    assert {"key": "codec", "found": "h264", "wanted": "h264", "fine": True} in numbers
    assert desk.cli("conform", FIXTURES / "narration.srt", "--preset", "web").returncode == 2

    said = desk.cli("stages").stdout
    assert [line.split()[0] for line in said.splitlines()] == list(plugins.names("pipeline.stages"))
    said = desk.cli("stages", "trim").stdout
    assert said.startswith("trim (edit)\n\nKeep exactly the frames from `start`")
    assert "length: " in said
    refused = desk.cli("stages", "tirm")
    assert refused.returncode == 2
    assert "did you mean trim?" in refused.stderr
    assert json.loads(desk.cli("stages", "--schema").stdout)["title"] == "Afterframe recipe"


def test_the_doctor_examines(desk: Workshop) -> None:
    done = desk.cli("doctor")
    assert done.returncode == 0, done.stdout
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"ffmpeg", "filters", "c2pa", "signer", "home"}
    lacking = str(lacking_ffmpeg(desk.folder, "ass"))
    ill = desk.cli("doctor", env={"IMAGEIO_FFMPEG_EXE": lacking})
    assert ill.returncode == 1
    assert "NO  filters    missing: ass" in ill.stdout


def test_the_script_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("pipeline")
    for start in ([str(script)], [sys.executable, "-m", "pipeline"]):
        done = subprocess.run([*start, "--help"], capture_output=True, text=True, env=environment())
        assert done.returncode == 0
        assert "Turn AI-generated clips into finished, priced and provable video." in done.stdout


def test_a_usage_mistake_is_the_authors(desk: Workshop) -> None:
    for wrong in (["rnu"], ["run"], ["run", "film.yaml", "--jsn"], ["run", desk.write(QUICK), "--set", "clip"]):
        done = desk.cli(*wrong)
        assert done.returncode == 2, wrong
        assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- bad input

Make = Callable[[Path], object]


def truncated(folder: Path) -> None:
    data = (folder / "clip.mp4").read_bytes()
    (folder / "clip.mp4").write_bytes(data[: len(data) // 2])


def truncated_after_its_index(folder: Path) -> None:
    ffmpeg("-i", folder / "clip.mp4", "-c", "copy", "-movflags", "+faststart", folder / "front.mp4")
    data = (folder / "front.mp4").read_bytes()
    (folder / "clip.mp4").write_bytes(data[: len(data) * 2 // 3])


def corrupt(folder: Path) -> None:
    data = bytearray((folder / "clip.mp4").read_bytes())
    data[: len(data) * 9 // 10] = b"\x00" * (len(data) * 9 // 10)
    (folder / "clip.mp4").write_bytes(data)


def nothing(folder: Path) -> None:
    pass


# What is done to the project, what is written instead of what, and what is said of it.
AUTHORS: dict[str, tuple[Make, tuple[str, str], str]] = {
    "a missing file": (nothing, ("clip.mp4", "gone.mp4"), "film.yaml:2: trim.clip: gone.mp4: there is no such file"),
    "not a video": (
        lambda f: (f / "clip.mp4").write_text("hello"), ("", ""), "film.yaml:2: trim.clip: {}/clip.mp4: is ",
    ),
    "a truncated video": (truncated, ("", ""), "film.yaml:2: trim.clip: {}/clip.mp4: is "),
    "a video truncated after its index": (
        truncated_after_its_index, ("", ""), "film.yaml:2: trim.clip: {}/clip.mp4: is truncated",
    ),
    "no bytes": (
        lambda f: (f / "clip.mp4").write_bytes(b""), ("", ""),
        "film.yaml:2: trim.clip: {}/clip.mp4: is empty (0 bytes)",
    ),
    "a corrupt MP4": (corrupt, ("", ""), "film.yaml:2: trim.clip: {}/clip.mp4: is "),
    "no sound": (
        nothing,
        ("- trim: {clip: clip.mp4, length: 0.5s, lossless: never}", "- mix_audio: {clip: clip.mp4, sound: silent.mp4}"),
        "film.yaml:2: mix_audio: sound: has no sound in it",
    ),
    "no picture": (nothing, ("clip.mp4", "voice.wav"), "film.yaml:3: deliver: web: wants a picture"),
    "an unknown key": (
        nothing, ("length: 0.5s", "lenght: 0.5s"), "film.yaml:2: trim.lenght: is not known (did you mean length?)",
    ),
    "a wrong unit": (
        nothing, ("0.5s", "0.5 parsecs"), "film.yaml:2: trim.length: should be a time such as 6s, 180f or 00:00:06.5",
    ),
    "an unknown preset": (
        nothing, ("preset: web", "preset: wbe"),
        "film.yaml:3: deliver.preset: there is no preset 'wbe' (did you mean web?)",
    ),
    "an impossible cut": (
        nothing, ("0.5s", "9s"), "film.yaml:2: trim.length: 0–9 s is asked of a clip that is 2 s long",
    ),
    "two deliveries to one file": (
        nothing,
        ("deliver: [", "deliver: [{preset: youtube, file: out/web.mp4}, "),
        "film.yaml:3: deliver.file: web.mp4 is delivered already at line 3",
    ),
    "no recipe": (lambda f: (f / "film.yaml").unlink(), ("", ""), "film.yaml: there is no such recipe"),
    "captions that are none": (
        nothing,
        ("- trim: {clip: clip.mp4, length: 0.5s, lossless: never}", "- caption: {clip: clip.mp4, file: voice.wav}"),
        "film.yaml:2: caption: {}/voice.wav: cannot be read as UTF-8 captions",
    ),
    "a size of nothing": (
        nothing, ("- trim: {clip: clip.mp4, length: 0.5s, lossless: never}", "- upscale: {clip: clip.mp4, size: 0x}"),
        "film.yaml:2: upscale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", AUTHORS)
def test_the_authors_mistakes_are_told_in_a_sentence(workshop: Workshop, what: str) -> None:
    spoil, (old, new), said = AUTHORS[what]
    workshop.write(QUICK.replace(old, new, 1) if old else QUICK)
    spoil(workshop.folder)
    refused(workshop, 2, said)


def refused(workshop: Workshop, code: int, said: str, env: dict[str, str] | None = None) -> None:
    """A run ends with that code and one such sentence, and leaves nothing behind."""
    check_refusal(workshop, workshop.cli("run", "film.yaml", env=env), code, said)


def check_refusal(workshop: Workshop, done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.endswith(("…", "%"))]
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    told = [line for line in told if not line.endswith("what does not need it goes on")]
    assert len(told) == 1, told
    assert told[0].startswith(said.format(workshop.folder)) or said.format(workshop.folder) in told[0], told[0]
    assert not (workshop.folder / "out" / "web.mp4").exists()
    assert workshop.leftovers() == []


# ---------------------------------------------------------------- the world's faults

UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root without root's powers over files: what stands for a user where tests run as root."""


def unprivileged(workshop: Workshop) -> subprocess.CompletedProcess[str]:
    command = workshop.command("run", "film.yaml")
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv, of Debian's package util-linux")
        command = [*UNPRIVILEGED, *command]
    return subprocess.run(command, cwd=workshop.folder, env=environment(), capture_output=True, text=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(mode)


def test_a_read_only_project_is_told(workshop: Workshop) -> None:
    workshop.write(QUICK)
    with read_only(workshop.folder):
        done = unprivileged(workshop)
    check_refusal(workshop, done, 1, "{}/")
    assert "this user may not write there" in done.stderr
    assert not (workshop.folder / ".pipeline").exists()


def test_a_read_only_output_folder_is_told_before_anything_is_made(workshop: Workshop) -> None:
    workshop.write(QUICK)
    (workshop.folder / "out").mkdir()
    with read_only(workshop.folder / "out"):
        done = unprivileged(workshop)
    check_refusal(workshop, done, 1, "{}/out: this user may not write there")
    assert "encoding" not in done.stderr


def test_a_clip_that_may_not_be_read_is_told(workshop: Workshop) -> None:
    workshop.write(QUICK)
    (workshop.folder / "clip.mp4").chmod(0)
    check_refusal(workshop, unprivileged(workshop), 2, "{}/clip.mp4: ")


def test_planning_works_where_nothing_may_be_written(workshop: Workshop) -> None:
    workshop.write(QUICK)
    start = [*UNPRIVILEGED] if os.geteuid() == 0 else []
    with read_only(workshop.folder):
        done = subprocess.run(
            [*start, *workshop.command("plan", "film.yaml")],
            cwd=workshop.folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "1 to encode" in done.stdout


@pytest.fixture(params=["56k", "400k", "600k"])
def small_disk(request: pytest.FixtureRequest, workshop: Workshop) -> Iterator[Workshop]:
    """The project on a disk of its own that is soon full: at once, while encoding, while delivering."""
    workshop.write(QUICK.replace("0.5s", "2s"))
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small tmpfs")
    state = workshop.folder / ".pipeline"
    state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(state)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield workshop
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def test_a_full_disk_is_told(small_disk: Workshop) -> None:
    done = small_disk.cli("run", "film.yaml")
    if done.returncode == 0:
        pytest.fail("the disk was not full")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert not (small_disk.folder / "out" / "web.mp4").exists()
    assert small_disk.leftovers() == []


def test_an_ffmpeg_without_a_filter_is_told(workshop: Workshop) -> None:
    workshop.write(QUICK.replace("deliver", "- caption: {file: words.srt}\ndeliver"))
    (workshop.folder / "words.srt").write_text(SRT.replace("900", "400"), encoding="utf-8")
    lacking = str(lacking_ffmpeg(workshop.folder, "ass"))
    refused(workshop, 1, f"this ffmpeg ({lacking}) lacks the filter ", {"IMAGEIO_FFMPEG_EXE": lacking})


def test_an_ffmpeg_that_is_not_there_is_told(workshop: Workshop) -> None:
    workshop.write(QUICK)
    refused(workshop, 1, "/nowhere/ffmpeg: ", {"IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"})


def test_a_reader_that_goes_away_is_no_fault(made: tuple[Workshop, str, str]) -> None:
    shell = f"{' '.join(made[0].command('stages'))} | head -1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env=environment())
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("name", ["runway", "luma"])
def test_a_simulator_has_trouble_when_it_is_told_to(name: str, tmp_path: Path) -> None:
    options = ["--state", str(tmp_path), "--fault", "500=503*1@create"]
    command = [sys.executable, "-m", "pipeline", "simulate", "--as", name, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        answers = [httpx.post(f"{url}/generations", json={}) for _ in range(2)]
        process.kill()
    assert answers[0].status_code == 503
    assert 400 <= answers[1].status_code < 500  # it is heard again: no key


@pytest.mark.parametrize(
    ("key", "words"),
    [("sk-admin-123", "can change the whole organisation"), ("sk-123", "looks like a user's"), ("sk-proj-123", "")],
)
def test_the_doctor_warns_of_a_key_that_can_do_too_much(desk: Workshop, key: str, words: str) -> None:
    said = desk.cli("doctor", env={"OPENAI_API_KEY": key, "OPENAI_BASE_URL": ""}).stdout
    assert words in said
    assert ("spending cap" in said) == bool(words)
    assert key not in said
