"""The simulator as its users meet it: a process, spoken to by our client and by hand, killed and started again."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from forks import serving

from stages.clip import SAMPLE_RATE, Size
from stages.errors import Later, ProviderError, ProviderRefused, ProviderUnavailable
from stages.ffmpeg import run_ffmpeg
from stages.ledger import collect, open_ledger, purchases, request_key, submit_once
from stages.media import open_clip
from stages.provenance import read_credentials
from stages.providers import VideoRequest
from stages.providers.openai import sim
from stages.simulators import RATE, camera

ROOT = Path(__file__).resolve().parents[2]
WISH = VideoRequest("a rose opens", "sim", Size(1280, 720), 4)
PHOTO = ROOT / "fixtures" / "photo.jpg"


@contextlib.contextmanager
def simulator(state: Path, *options: str) -> Iterator[str]:
    """A simulator's base URL. It is killed in the end, not asked to stop."""
    with serving("stages.simulators.openai", "--state", state, *options) as url:
        yield url


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulator that lands, lists and films at once, with one tiny film."""
    with simulator(tmp_path_factory.mktemp("quick"), "--no-film", "--latency", "0", "--settle", "0") as url:
        yield url


def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something, not for ever."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def patiently(step: Callable[[], Path]) -> Path:
    """Do what a job's caller does: come back when told to."""
    for _ in range(200):
        try:
            return step()
        except Later as later:
            time.sleep(later.seconds)
    raise AssertionError("never done")


def sales(state: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (state / "sales.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture photo at exactly 1280x720."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    cover = "scale=1280:720:force_original_aspect_ratio=increase,crop=1280:720"
    run_ffmpeg(["-i", str(PHOTO), "-vf", cover, "-frames:v", "1", str(path)])
    return path


# ---------------------------------------------------------------- what it films


def test_it_films_a_photo_as_it_was_asked(tmp_path: Path, photo: Path) -> None:
    """Bought through the ledger, over HTTP: size, length, sound, loudness, first frame, credentials, log."""
    request = VideoRequest("slow dolly in", "sim", Size(1280, 720), 4, photo)
    key = request_key(request)
    ledger = open_ledger(tmp_path / "home")
    with simulator(tmp_path / "sim", "--latency", "0") as url:
        provider = sim(url, idempotent=True)
        submit_once(ledger, provider, request, key, price=Decimal("0.40"))
        film = patiently(lambda: collect(ledger, provider, key))
    clip = open_clip(film)
    assert clip.picture
    assert clip.sound
    assert (clip.picture.size, clip.picture.rate, clip.picture.frames) == (Size(1280, 720), RATE, 96)
    assert abs(clip.sound.samples - 4 * SAMPLE_RATE) <= 1024
    assert loudness(film) == pytest.approx(-24, abs=1.5)
    assert likeness(film, photo) > 30
    credentials = read_credentials(film, anchors=[tmp_path / "sim" / "sim-root.pem"])
    assert (credentials.state, credentials.ai, credentials.ingredients) == ("proved", True, ())
    assert credentials.actions[0][:2] == ("c2pa.created", "SIMULATED by Afterframe")
    (sale,) = sales(tmp_path / "sim")
    assert {name: sale[name] for name in ("id", "model", "seconds", "size")} == {
        "id": purchases(ledger, key)[0].job_id,
        "model": "sim",
        "seconds": "4",
        "size": "1280x720",
    }


def loudness(film: Path) -> float:
    """Integrated, in LUFS."""
    said = run_ffmpeg(["-i", str(film), "-af", "ebur128", "-f", "null", "-"])
    return float(said.rpartition("I:")[2].split()[0])


def likeness(film: Path, photo: Path) -> float:
    """PSNR of the first frame's luma against the photo, the corner with the word left out."""
    part = "crop=1280:640:0:0,format=gray"
    graph = f"[0:v]scale=in_range=tv:out_range=pc,{part}[a];[1:v]{part}[b];[a][b]psnr"
    inputs = ["-i", str(film), "-i", str(photo)]
    said = run_ffmpeg([*inputs, "-frames:v", "1", "-lavfi", graph, "-f", "null", "-"])
    return float(said.rpartition("PSNR y:")[2].split()[0])


def test_a_short_film_of_a_landscape_and_a_restart(tmp_path: Path) -> None:
    """Killed while filming, it goes on after the next start, and forgets nothing."""
    state, wish = tmp_path / "sim", VideoRequest("pan left [short]", "sim", Size(720, 1280), 4)
    with simulator(state) as url:
        job = sim(url).submit(wish, "key")
    with (state / "sales.jsonl").open("a") as log:
        log.write('{"id": "torn')  # killed in the middle of a line
    with simulator(state) as url:
        provider = sim(url)
        assert provider.submit(wish, "key").id == job.id
        seen = [0.0]
        while seen[-1] < 1:
            assert len(seen) < 1000, "it was never done"
            time.sleep(0.05)
            seen.append(provider.check(job.id).progress or 0)
        provider.download(job.id, tmp_path / "film.mp4")
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert [sale["id"] for sale in sales(state)] == [job.id]
    picture = open_clip(tmp_path / "film.mp4").picture
    assert picture
    assert (picture.size, picture.frames) == (Size(720, 1280), 72)


def test_the_camera_does_what_the_prompt_says() -> None:
    size = Size(1280, 720)
    moves = {
        camera(prompt, size, 96) for prompt in ("dolly in", "Pan left", "camera tilts up", "orbit", "panning right")
    }
    assert len(moves) == 5
    assert camera("a pan of leftovers", size, 96) == camera("dolly in", size, 96)


# ---------------------------------------------------------------- how it speaks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": "6"}, "Invalid seconds value"),
        ({"size": "1920x1080"}, "Model does not support this size"),
        ({"model": "gpt-5"}, "is no video model"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"prompt": "crowd [moderated]"}, "blocked by our moderation system"),
    ],
)
def test_what_the_real_one_refuses_is_refused(quick: str, change: dict[str, str], words: str) -> None:
    form = {"model": "sim", "prompt": "a rose", "seconds": "4", "size": "1280x720", **change}
    answer = httpx.post(f"{quick}/videos", files={name: (None, value) for name, value in form.items()})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_reference_must_have_the_very_size(quick: str, photo: Path) -> None:
    tall = VideoRequest("a rose", "sim", Size(720, 1280), 4, photo)
    with pytest.raises(ProviderRefused, match="Inpaint image must match the requested width and height"):
        sim(quick).submit(tall, "tall")
    broken = photo.with_name("broken.png")
    broken.write_bytes(photo.read_bytes()[:500])
    with pytest.raises(ProviderRefused):
        sim(quick).submit(VideoRequest("a rose", "sim", Size(1280, 720), 4, broken), "broken")


def test_json_is_understood_too(quick: str, photo: Path) -> None:
    address = f"data:image/png;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    body = {"prompt": "a rose", "size": "1280x720", "input_reference": {"image_url": address}}
    job = httpx.post(f"{quick}/videos", json=body).json()
    assert (job["model"], job["seconds"], job["quality"]) == ("sora-2", "4", "standard")
    assert "error" not in job
    for bad in ({"prompt": "x", "seconds": 4}, {"prompt": "x", "input_reference": "photo.png"}, [1]):
        assert httpx.post(f"{quick}/videos", json=bad).status_code == 400
    assert httpx.post(f"{quick}/videos", content=b"prompt").status_code == 400


def test_lists_have_pages_and_deleted_jobs_are_gone(tmp_path: Path) -> None:
    with simulator(tmp_path, "--no-film", "--latency", "0", "--settle", "0") as url:
        provider = sim(url)
        ids = [provider.submit(WISH, f"key {number}").id for number in range(5)]
        page = httpx.get(f"{url}/videos", params={"limit": 2, "order": "asc", "after": ids[0]}).json()
        assert [job["id"] for job in page["data"]] == ids[1:3]
        assert (page["has_more"], page["first_id"], page["last_id"]) == (True, ids[1], ids[2])
        assert [job.id for job in provider.find(0)] == ids[::-1]
        assert provider.find(time.time() + 60) == []
        until(lambda: provider.check(ids[0]).state == "done")
        provider.delete(ids[0])
        assert provider.check(ids[0]).state == "gone"
        assert httpx.get(f"{url}/videos", params={"limit": 101}).status_code == 400
        assert httpx.get(f"{url}/images").status_code == 404
        assert {"id": "sim", "object": "model"} in httpx.get(f"{url}/models").json()["data"]
    assert len(sales(tmp_path)) == 5


def test_the_same_key_is_the_same_sale_unless_told_otherwise(quick: str, tmp_path: Path) -> None:
    provider = sim(quick)
    first = provider.submit(WISH, "the same")
    assert provider.submit(WISH, "the same").id == first.id
    with pytest.raises(ProviderRefused, match="another request"):
        provider.submit(VideoRequest("another", "sim", Size(1280, 720), 4), "the same")
    with simulator(tmp_path, "--no-film", "--ignore-keys", "--settle", "0") as url:
        assert sim(url).submit(WISH, "the same").id != sim(url).submit(WISH, "the same").id
    assert len(sales(tmp_path)) == 2


def test_a_film_comes_in_parts_and_not_before_it_is_there(quick: str) -> None:
    slow = sim(quick).submit(VideoRequest("a rose [slow]", "sim", Size(1280, 720), 4), "slow")
    until(lambda: sim(quick).check(slow.id).progress == 0.99)
    assert httpx.get(f"{quick}/videos/{slow.id}/content").status_code == 404
    job = sim(quick).submit(WISH, "parts")
    until(lambda: sim(quick).check(job.id).state == "done")
    address = f"{quick}/videos/{job.id}/content"
    whole = httpx.get(address)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.content[4:8] == b"ftyp"
    rest = httpx.get(address, headers={"Range": "bytes=100-"})
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    changed = httpx.get(address, headers={"Range": "bytes=100-", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    assert httpx.get(address, headers={"Range": "bytes=9999999-"}).status_code == 416
    expires = httpx.get(f"{quick}/videos/{job.id}").json()["expires_at"]
    assert expires == pytest.approx(time.time() + 86_400, abs=60)


@pytest.mark.parametrize(
    ("word", "kind", "failure"),
    [
        ("[moderated]", ProviderRefused, "moderation_input"),
        ("[moderated later]", ProviderRefused, "moderation_output"),
        ("[fails]", ProviderUnavailable, "transient"),
    ],
)
def test_trouble_on_demand(quick: str, tmp_path: Path, word: str, kind: type[ProviderError], failure: str) -> None:
    ledger, provider = open_ledger(tmp_path), sim(quick, idempotent=True)
    request = VideoRequest(f"a rose {word} {tmp_path}", "sim", Size(1280, 720), 4)
    key = request_key(request)

    def film() -> Path:
        submit_once(ledger, provider, request, key, price=Decimal(0))
        return collect(ledger, provider, key)

    with pytest.raises(kind) as raised:
        patiently(film)
    assert raised.value.failure == failure


def test_a_sale_lands_late_and_is_listed_later(tmp_path: Path) -> None:
    """The buyer hangs up; within the settle time the sale is there all the same."""
    with simulator(tmp_path, "--no-film", "--ignore-keys", "--settle", "3") as url:
        with contextlib.suppress(httpx.ReadTimeout):
            form: dict[str, tuple[None, str]] = {"model": (None, "sim"), "prompt": (None, "a rose")}
            httpx.post(f"{url}/videos", files=form, timeout=0.05)
        until(lambda: len(sim(url).find(0)) == 1, 3)
    assert len(sales(tmp_path)) == 1
