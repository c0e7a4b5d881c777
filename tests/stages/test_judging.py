"""What is measured of a film is what a viewer would say of it, and the best of several is what one would take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import TAGS, film

from stages import FfmpegError, InputError, Size, open_clip, prepare, still
from stages.judging import HONOURED, Judged, best, judge
from stages.simulators import film as simulated

FIXTURES = Path(__file__).parents[2] / "fixtures"
BUNNY = FIXTURES / "bunny.mp4"
DEBIAN = Path("/usr/bin/ffmpeg")

X264 = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf")


@pytest.fixture(params=["imageio-ffmpeg", "Debian"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each ffmpeg that is here."""
    if request.param == "Debian":
        if not DEBIAN.exists():
            pytest.skip("there is no other ffmpeg")
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(DEBIAN))


# ---------------------------------------------------------------- its first frame and the reference

WIDE, UPRIGHT = Size(640, 360), Size(360, 640)


@pytest.fixture(scope="module")
def pictures(media: Path) -> dict[str, Path]:
    """What models are shown: two crops of a photo, and two frames of an animation."""
    folder = media / "pictures"
    found = {
        name: prepare(FIXTURES / "photo.jpg", size=size, focus="0.7x0.5", folder=folder / name).file
        for name, size in (("photo", WIDE), ("upright photo", UPRIGHT))
    }
    for name, at in (("bunny", "start"), ("later bunny", "4s")):
        found[name] = still(open_clip(BUNNY), at=at, folder=folder / name).file
    return found


@pytest.fixture(scope="module")
def films(media: Path, pictures: dict[str, Path]) -> dict[str, Path]:
    """What comes back: by the simulator, of its reference or (its fault `ignored-reference`) of something else."""
    folder = media / "takes"
    folder.mkdir()
    made: dict[str, Path] = {}

    def take(name: str, size: Size, reference: Path | None, prompt: str) -> None:
        made[name] = folder / f"{len(made)}.mp4"
        simulated(made[name], prompt=prompt, size=size, seconds=1, reference=reference)

    take("of the photo", WIDE, pictures["photo"], "slow dolly")
    take("of the upright photo", UPRIGHT, pictures["upright photo"], "pan left")
    take("of the later bunny", WIDE, pictures["later bunny"], "tilt up")
    take("of a landscape", WIDE, None, "slow dolly")
    take("of an upright landscape", UPRIGHT, None, "a rose")
    made["of the bunny"] = BUNNY
    for name, source, filters, crf in (
        ("of the photo, poorly", "of the photo", "scale=320:180", 40),
        ("of the photo, graded", "of the photo", "eq=brightness=0.06:contrast=0.85:saturation=1.4", 28),
        ("of the bunny, reframed", "of the bunny", "crop=iw*0.97:ih*0.97:iw*0.02:ih*0.01,scale=640:360", 30),
        ("of the bunny, dark", "of the bunny", "eq=brightness=-0.1:gamma=0.8,scale=640:366", 28),
    ):
        target = folder / f"{len(made)}.mp4"
        made[name] = film(target, "-i", str(made[source]), "-t", "0.5", "-vf", filters, *X264, str(crf))
    return made


PAIRS = {
    "photo": ("of the photo", "of the photo, poorly", "of the photo, graded"),
    "upright photo": ("of the upright photo",),
    "bunny": ("of the bunny", "of the bunny, reframed", "of the bunny, dark"),
    "later bunny": ("of the later bunny",),
}


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(("picture", "take"), [(picture, take) for picture in PAIRS for take in PAIRS[picture]])
def test_a_film_that_begins_with_its_reference_is_clearly_over_the_threshold(
    picture: str, take: str, pictures: dict[str, Path], films: dict[str, Path]
) -> None:
    judged = judge(films[take], pictures[picture])
    assert judged.likeness is not None
    assert judged.likeness > HONOURED + 0.25
    assert not judged.ignored


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("picture", "take"),
    [
        ("photo", "of a landscape"),
        ("upright photo", "of an upright landscape"),
        ("bunny", "of a landscape"),
        ("later bunny", "of a landscape"),
        ("photo", "of the bunny"),
        ("bunny", "of the photo"),
        ("bunny", "of the photo, poorly"),
        ("upright photo", "of the bunny"),
    ],
)
def test_a_film_of_something_else_is_clearly_under_it(
    picture: str, take: str, pictures: dict[str, Path], films: dict[str, Path]
) -> None:
    judged = judge(films[take], pictures[picture])
    assert judged.likeness is not None
    assert judged.likeness < HONOURED - 0.2
    assert judged.ignored


def test_a_flat_film_is_like_nothing(pictures: dict[str, Path], tmp_path: Path) -> None:
    grey = film(tmp_path / "grey.mp4", "-f", "lavfi", "-i", "color=gray:s=160x90:r=24:d=1", *X264, "20")
    assert judge(grey, pictures["photo"]).likeness == 0


def test_without_a_reference_nothing_is_said_of_likeness(films: dict[str, Path]) -> None:
    judged = judge(films["of the photo"])
    assert (judged.likeness, judged.ignored) == (None, False)


# ---------------------------------------------------------------- black, frozen, sharp


def moving(seconds: float, more: str) -> str:
    return f"testsrc2=s=160x90:r=24:d={seconds},{more}"


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("source", "black", "frozen"),
    [
        (moving(2, "null"), 0, 0),
        ("color=black:s=160x90:r=24:d=1", 1, 1),
        (moving(2, "drawbox=color=black:t=fill:enable='lt(t,1)'"), 0.5, 0.5),
        (moving(2, "fade=in:d=0.25"), 0, 0),
        (moving(2, "tpad=stop_mode=clone:stop_duration=2"), 0, 0.5),
        (moving(2, "framestep=3,fps=24"), 0, 0),  # drawn for every third frame only
        (moving(2, "tpad=stop_mode=clone:stop_duration=0.25"), 0, 0),  # a breath, no freeze
        (moving(2, "scale=out_range=pc,format=yuvj420p"), 0, 0),
    ],
)
def test_black_and_frozen_frames_are_counted(source: str, black: float, frozen: float, tmp_path: Path) -> None:
    judged = judge(film(tmp_path / "film.mp4", "-f", "lavfi", "-i", source, *X264, "20"))
    assert judged.black == pytest.approx(black, abs=0.06)
    assert judged.frozen == pytest.approx(frozen, abs=0.06)


@pytest.mark.usefixtures("either")
def test_a_photo_that_only_flickers_with_its_encoding_is_frozen_and_a_slow_zoom_is_not(tmp_path: Path) -> None:
    photo = ("-loop", "1", "-i", str(FIXTURES / "photo.jpg"), "-t", "2", "-r", "24")
    zoom = "scale=1280:-2,zoompan=z='1+0.0006*on':d=1:s=640x360:fps=24"
    held = film(tmp_path / "held.mp4", *photo, "-vf", "scale=640:360", "-g", "24", *X264, "30")
    slow = film(tmp_path / "slow.mp4", *photo, "-vf", zoom, *X264, "20")
    assert judge(held).frozen > 0.9
    assert judge(slow).frozen == 0


@pytest.fixture(scope="module")
def sharpnesses(media: Path) -> dict[str, float]:
    """One second of an animation, more and less sharp."""
    kinds = {
        "as it is": "null",
        "soft": "gblur=sigma=1.5",
        "softer": "gblur=sigma=4",
        "enlarged": "scale=320:180,scale=1280:720",
        "grainy": "noise=alls=8:allf=t:all_seed=1",
    }
    cut = ("-i", str(BUNNY), "-t", "1")
    return {
        name: judge(film(media / f"sharp-{number}.mp4", *cut, "-vf", filters, *X264, "19")).sharpness
        for number, (name, filters) in enumerate(kinds.items())
    }


def test_the_sharper_film_is_the_sharper_number(sharpnesses: dict[str, float]) -> None:
    found = [sharpnesses[name] for name in ("as it is", "soft", "softer")]
    assert found[0] > 1.25 * found[1] > 1.5 * found[2]
    assert sharpnesses["as it is"] > 1.5 * sharpnesses["enlarged"]


def test_grain_hardly_passes_for_sharpness(sharpnesses: dict[str, float]) -> None:
    assert sharpnesses["grainy"] == pytest.approx(sharpnesses["as it is"], rel=0.15)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_shortest_film_can_be_judged(frames: int, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", f"testsrc2=s=160x90:r=60,{TAGS}", "-frames:v", str(frames))
    judged = judge(film(tmp_path / "film.mp4", *source, *X264, "20"))
    assert (judged.black, judged.frozen) == (0, 0)
    assert judged.sharpness > 1


# ---------------------------------------------------------------- what cannot be judged


def test_a_sound_has_no_looks() -> None:
    with pytest.raises(InputError, match="holds no picture to judge"):
        judge(FIXTURES / "narration.wav")


def test_a_film_that_is_not_there() -> None:
    with pytest.raises(InputError, match="there is no such file"):
        judge(Path("gone.mp4"))


def test_a_reference_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(FfmpegError):
        judge(BUNNY, tmp_path / "words.png")


# ---------------------------------------------------------------- the best

FINE = Judged(black=0.0, frozen=0.0, sharpness=3.0)


@pytest.mark.parametrize(
    ("films", "index"),
    [
        ([FINE], 0),
        ([FINE, replace(FINE, sharpness=4)], 1),
        ([FINE, FINE], 0),
        ([replace(FINE, black=0.5, sharpness=9), FINE], 1),
        ([replace(FINE, black=0.05, sharpness=9), FINE], 0),  # a fade at its beginning
        ([replace(FINE, frozen=0.5, sharpness=9), FINE], 1),
        ([replace(FINE, black=1, frozen=1), replace(FINE, frozen=1)], 1),
        ([replace(FINE, likeness=0.3, sharpness=9), replace(FINE, likeness=0.9)], 1),
        ([replace(FINE, likeness=0.95), replace(FINE, likeness=0.9, sharpness=4)], 1),  # as close, and sharper
        ([replace(FINE, likeness=0.95, black=0.9), replace(FINE, likeness=0.1)], 1),
        ([replace(FINE, black=1), replace(FINE, black=1, sharpness=4)], 1),  # all of them black
    ],
)
def test_the_best_is_the_one_that_one_would_take(films: list[Judged], index: int) -> None:
    assert best(films) == index


def test_there_is_no_best_of_none() -> None:
    with pytest.raises(InputError, match="there is no film to choose from"):
        best([])


shares, looks = st.floats(0, 1), st.none() | st.floats(0, 1)


@given(st.lists(st.builds(Judged, shares, shares, st.floats(0, 20), looks), min_size=1, max_size=6))
def test_the_best_beats_each_that_is_as_fine_and_as_close(films: list[Judged]) -> None:
    chosen = films[best(films)]
    for other in films:
        same = (other.black, other.frozen, other.likeness) == (chosen.black, chosen.frozen, chosen.likeness)
        assert not same or other.sharpness <= chosen.sharpness
        flawless = max(other.black, other.frozen) == 0
        assert not flawless or max(chosen.black, chosen.frozen) <= 0.1
