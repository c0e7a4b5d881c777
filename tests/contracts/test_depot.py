"""What every shared store keeps to, in a folder, on S3 and in memory: whole, once, and checked."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.depot import PART, Corrupt, Depot, Missing, depot_at, keep_all, object_name, shared_depot
from stages.errors import InputError, WriteError


@pytest.fixture(params=["folder", "s3", "memory"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Depot:
    """An empty one."""
    if request.param == "s3":
        return depot_at(f"{request.getfixturevalue('s3')}/project")
    return depot_at(str(tmp_path / "shared") if request.param == "folder" else f"memory://{tmp_path.name}")


def file(folder: Path, content: bytes, name: str = "film.mp4") -> tuple[Path, str]:
    """A file and its SHA-256."""
    (folder / name).write_bytes(content)
    return folder / name, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b"small", os.urandom(PART + 5)], ids=["small", "in parts"])
def test_a_file_comes_back_as_it_was_put_and_is_put_once(depot: Depot, tmp_path: Path, content: bytes) -> None:
    film, digest = file(tmp_path, content)
    assert not depot.holds(digest)
    assert depot.keep(film, digest)
    assert not depot.keep(film, digest)
    depot.fetch(digest, tmp_path / "deep" / "copy.mp4")
    assert (tmp_path / "deep" / "copy.mp4").read_bytes() == content
    assert [(entry.name, entry.size) for entry in depot.list("objects")] == [(object_name(digest), len(content))]
    depot.remove([object_name(digest), object_name("none")])
    assert list(depot.list()) == []


@pytest.mark.parametrize("content", [b"small", os.urandom(PART + 5)], ids=["small", "in parts"])
def test_a_file_that_is_another_than_was_said_is_not_put(depot: Depot, tmp_path: Path, content: bytes) -> None:
    film, digest = file(tmp_path, content)
    film.write_bytes(content[::-1] + b"more")
    with pytest.raises(InputError, match=r"film\.mp4: was changed while it was put"):
        depot.keep(film, digest)
    assert list(depot.list()) == []


def test_what_is_not_there_or_damaged_is_told_and_leaves_no_file(depot: Depot, tmp_path: Path) -> None:
    target = tmp_path / "copy.mp4"
    with pytest.raises(Missing):
        depot.fetch("0" * 64, target)
    depot.write(object_name("0" * 64), "something else")
    with pytest.raises(Corrupt, match="is damaged"):
        depot.fetch("0" * 64, target)
    assert list(tmp_path.glob("*.mp4")) == []


def test_a_text_is_written_once_or_anew(depot: Depot) -> None:
    with pytest.raises(Missing):
        depot.read("notes/a")
    assert depot.write("notes/a", "first")
    assert not depot.write("notes/a", "second")
    found = depot.read("notes/a")
    assert found
    assert found.text == "first"
    assert depot.read("notes/a", unless=found.tag) is None
    assert depot.write("notes/a", "the third", anew=True)
    now = depot.read("notes/a", unless=found.tag)
    assert now
    assert now.text == "the third"
    assert depot.find("notes/b") is None


def test_many_files_are_put_at_once(depot: Depot, tmp_path: Path) -> None:
    keep_all(depot, [file(tmp_path, bytes([n]), f"{n}.mp4") for n in range(20)])
    assert len(list(depot.list("objects"))) == 20


KILLED = """
import sys, time
from pathlib import Path
from stages import depot
whole = depot._checked
def slowly(file, digest):
    for chunk in whole(file, digest):
        yield chunk
        print("a part", flush=True)
    time.sleep(60)
depot._checked = slowly
depot.depot_at(sys.argv[1]).keep(Path(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_killed_in_the_middle_of_an_upload_it_leaves_nothing_half(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "shared") if where == "folder" else str(request.getfixturevalue("s3"))
    film, digest = file(tmp_path, os.urandom(PART + 5))
    command = [sys.executable, "-c", KILLED, url, str(film), digest]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == [b"a part\n"] * 2
        process.send_signal(signal.SIGKILL)
    depot = depot_at(url)
    assert list(depot.list()) == []
    assert depot.keep(film, digest)
    depot.fetch(digest, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == film.read_bytes()


def test_a_delivered_object_says_what_it_is(s3: str, tmp_path: Path) -> None:
    depot = depot_at(s3)
    film, digest = file(tmp_path, b"film")
    assert depot.told("out/film.mp4") is None
    depot.put(film, "out/film.mp4", digest, kind="video/mp4")
    assert depot.told("out/film.mp4") == digest
    film, other = file(tmp_path, b"another film")
    depot.put(film, "out/film.mp4", other, kind="video/mp4")
    assert depot.told("out/film.mp4") == other


def test_a_store_that_is_wrong_or_away_is_told_in_a_sentence(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film, digest = file(tmp_path, b"film")
    with pytest.raises(InputError, match="should be s3://…, gs://…, az://… or a folder"):
        depot_at("ftp://films")
    with pytest.raises(InputError, match="there is no such bucket or folder"):
        depot_at("s3://no-such-bucket").put(film, "a", digest)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("stages.depot.PATIENCE", 0.1)
    monkeypatch.setenv("AFTERFRAME_STORE", "s3://out-of-reach")
    away = shared_depot()
    assert away
    with pytest.raises(WriteError, match="the store s3://out-of-reach cannot be used now"):
        away.holds(digest)
