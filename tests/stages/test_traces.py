"""A delivered film is known again after a platform has taken its manifest away."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import counted, film

import stages.ffmpeg
from stages import deliver, open_clip
from stages.errors import InputError
from stages.ffmpeg import contact_sheet, run_ffmpeg
from stages.media import probe
from stages.provenance import read_credentials, read_store
from stages.traces import distance, recall, remember


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two films of one second that do not look alike."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, look in (
        ("one", "mandelbrot=s=320x180:r=24:start_scale=0.5"),
        ("two", "cellauto=s=320x180:r=24:rule=110"),
    ):
        film(folder / f"{name}.mp4", "-f", "lavfi", "-i", look, "-t", "1", "-pix_fmt", "yuv420p")
    return folder


@pytest.fixture
def delivered(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first of them, as it was delivered."""
    monkeypatch.chdir(tmp_path)
    deliver(open_clip(scenes / "two.mp4"), "web", tmp_path / "two-web.mp4")
    return deliver(open_clip(scenes / "one.mp4"), "web", tmp_path / "one-web.mp4").file


HOW = {
    "the same file": (),
    "the same streams": ("-c", "copy", "-movflags", "+faststart"),
    "the same looks": ("-vf", "scale=160:90", "-c:v", "libx264", "-crf", "36", "-r", "24"),
}


@pytest.mark.parametrize("alike", HOW)
def test_a_stripped_copy_is_traced(delivered: Path, alike: str) -> None:
    copy = delivered.with_name("copy.mp4")
    if HOW[alike]:
        run_ffmpeg(["-i", str(delivered), *HOW[alike], str(copy)])
        assert read_credentials(copy).state == "absent"
    else:
        copy.write_bytes(delivered.read_bytes())
    found = recall(copy)
    assert found is not None
    assert (found.name, found.preset, found.alike) == ("one-web.mp4", "web", alike)
    kept, own = read_store(found.store), read_credentials(delivered)
    assert (kept.label, kept.generator, kept.actions) == (own.label, own.generator, own.actions)


def test_what_was_never_delivered_is_not_known(delivered: Path, scenes: Path, tmp_path: Path) -> None:
    other = film(
        tmp_path / "other.mp4", "-f", "lavfi", "-i", "life=s=320x180:r=24:mold=10", "-t", "1", "-pix_fmt", "yuv420p"
    )
    assert recall(other) is None
    with pytest.raises(InputError, match="is not a video"):
        recall(Path(__file__))


def test_before_anything_was_delivered_there_is_nothing_to_find(scenes: Path) -> None:
    assert recall(scenes / "one.mp4") is None


def test_a_line_that_a_kill_cut_off_harms_no_other(delivered: Path, tmp_path: Path) -> None:
    from stages.files import home  # noqa: PLC0415 -- the variable is the test's

    with (home() / "delivered" / "index.jsonl").open("a") as index:
        index.write('{"name": "half')
    found = recall(delivered)
    assert found is not None
    assert found.name == "one-web.mp4"
    later = film(delivered.with_name("later.mp4"), "-f", "lavfi", "-i", "testsrc=s=64x64:r=24", "-frames:v", "3")
    for _ in range(2):  # once is enough
        remember(later, Path("no sheet"), b"a store", name="later.mp4", preset="web")
    found = recall(later)
    assert found is not None
    assert (found.name, found.alike, found.store.read_bytes()) == ("later.mp4", "the same file", b"a store")
    assert (home() / "delivered" / "index.jsonl").read_text().count("later.mp4") == 1


def test_distance_counts_bits_on_average() -> None:
    assert distance((0, 0), (1, 7)) == 2.0
    assert distance((), (1,)) == 64.0


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv"])
def test_a_long_film_is_shown_without_being_decoded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its six frames are those that decoding all of it finds."""
    long = counted(tmp_path / name, *("-c:v", "libx264", "-g", "4", "-bf", "2", "-pix_fmt", "yuv420p"), seconds=2.5)
    facts = probe(long)[0]
    assert facts
    assert not facts.start
    assert facts.keyframes == 4
    sheets = []
    for sparse in (stages.ffmpeg.SPARSE, 1000):
        monkeypatch.setattr(stages.ffmpeg, "SPARSE", sparse)
        contact_sheet(long, facts, tmp_path / "sheet.jpg")
        sheets.append((tmp_path / "sheet.jpg").read_bytes())
    assert sheets[0] == sheets[1]
