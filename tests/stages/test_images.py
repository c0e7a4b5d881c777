"""The Images protocol over real HTTP, against our simulator and against servers that answer otherwise."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_simulator import PHOTO, sales, simulator

from stages.bookkeeping import write_off
from stages.clip import Size
from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable, SubmissionUnknown
from stages.ledger import Limits, collect, open_ledger, purchases, submit_once
from stages.provenance import read_credentials
from stages.providers import Footage, Provider, VideoRequest
from stages.providers.images import Images, SimulatedImages

WISH = VideoRequest("a red fox", "sim", Size(1024, 1024), 0, work="draw", options=(("quality", "low"),))
QUICK = ("--no-film", "--latency", "0", "--settle", "0")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    """A simulator that draws at once, one colour; no key hides a second request."""
    with simulator(state, *QUICK, "--ignore-keys") as url:
        yield url


@pytest.fixture
def painter(url: str) -> SimulatedImages:
    return SimulatedImages(url)


def bought(painter: Provider, target: Path, request: VideoRequest = WISH) -> Image.Image:
    """The picture, without a ledger."""
    job = painter.submit(request, f"for {target.name}")
    assert (job.state, painter.check(job.id).state) == ("done", "done")
    painter.download(job.id, target)
    with Image.open(target) as image:
        return image.copy()


@contextlib.contextmanager
def sells(state: Path, wanted: int) -> Iterator[None]:
    before = count(state)
    yield
    assert count(state) - before == wanted


def count(state: Path) -> int:
    return len(sales(state)) if (state / "sales.jsonl").exists() else 0


# ---------------------------------------------------------------- the simulator draws


def test_it_draws_what_was_asked(painter: SimulatedImages, state: Path, tmp_path: Path) -> None:
    with sells(state, 1):
        image = bought(painter, tmp_path / "picture", replace(WISH, size=Size(1536, 864)))
    assert (image.size, image.format or "PNG") == ((1536, 864), "PNG")
    assert sales(state)[-1]["size"] == "1536x864"


def test_what_is_shown_is_taken_after_and_a_grid_is_a_grid(tmp_path: Path) -> None:
    """Drawn for real, signed, and marked."""
    with simulator(tmp_path / "sim", "--latency", "0", "--settle", "0") as url:
        painter = SimulatedImages(url)
        plain = bought(painter, tmp_path / "plain.png")
        sheet = bought(painter, tmp_path / "sheet.png", replace(WISH, prompt="a fox in a grid of 3 columns and 2 rows"))
        after = bought(painter, tmp_path / "after.png", replace(WISH, references=(PHOTO,)))
        (tmp_path / "root.pem").write_bytes(painter.root())
    photo = Image.open(PHOTO).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.crop((left, top, left + side, top + side))
    assert unlike(after, square) < 8 < unlike(plain, square)
    pixels = np.asarray(sheet.convert("RGB")).astype(int)
    white: Any = pixels.min(axis=2) > 250
    assert bands(white.all(axis=0)) == 4, "three columns have four white bands around them"
    assert bands(white.all(axis=1)) == 3
    corner = np.asarray(plain.convert("L")).astype(int)[950:1010, 30:250]
    assert np.abs(np.diff(corner, axis=1)).max() > 30, "SIMULATED stands in the corner"
    found = read_credentials(tmp_path / "after.png", anchors=[tmp_path / "root.pem"])
    assert (found.state, found.ai, found.actions[0][:2]) == (
        "proved",
        True,
        ("c2pa.created", "SIMULATED by Afterframe"),
    )


def unlike(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures, seen small; the corner with the word left out."""
    small = [np.asarray(each.convert("RGB").resize((32, 32))).astype(int)[:28] for each in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def bands(white: Any) -> int:
    """How many runs of true there are."""
    return int(np.count_nonzero(np.diff(np.concatenate(([0], white.astype(int)))) == 1))


def test_quality_and_pictures_go_along_as_the_sdk_sends_them(tmp_path: Path) -> None:
    with listener() as desk:
        account = Images(desk.url, "")
        shown = [tmp_path / "one.png", tmp_path / "two.png"]
        for file in shown:
            Image.new("RGB", (64, 64), "red").save(file)
        account.submit(WISH, "some-key")
        account.submit(replace(WISH, reference=shown[0], references=(shown[1],)), "other-key")
    first, second = desk.asked
    assert first["path"] == "/v1/images/generations"
    assert json.loads(first["body"]) == {
        "model": "sim", "prompt": "a red fox", "size": "1024x1024", "n": 1, "quality": "low"
    }  # fmt: skip
    assert first["headers"]["idempotency-key"] == "some-key"
    assert "authorization" not in first["headers"]
    assert second["path"] == "/v1/images/edits"
    assert second["headers"]["content-type"].startswith("multipart/form-data")
    assert second["body"].count(b'name="image[]"; filename=') == 2
    assert second["body"].count(b"Content-Type: image/png") == 2
    assert b'name="quality"\r\n\r\nlow' in second["body"]


def test_the_account_is_openais_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert (Images().account, Images().key_variable, Images().name) == (
        "api.openai.com",
        "OPENAI_API_KEY",
        "openai-images",
    )
    assert Images().settle > Images().patience + Images().send_within
    assert (Images().idempotent, Images().can_list) == (False, False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert Images().account == "localhost:8000"


@pytest.mark.parametrize(
    "wish",
    [{"last_frame": PHOTO}, {"negative": "people"}, {"loop": True}, {"seed": 0}, {"footage": Footage(PHOTO)}],
    ids=str,
)
def test_what_it_has_no_words_for_is_refused_before_it_is_sent(
    painter: SimulatedImages, state: Path, wish: dict[str, Any]
) -> None:
    with sells(state, 0), pytest.raises(InputError) as no:
        painter.submit(replace(WISH, **wish), "key")
    assert no.value.parameter in wish


def test_a_reference_that_is_no_picture_is_refused_before_it_is_sent(
    painter: SimulatedImages, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "page.png").write_text("<html>")
    with sells(state, 0):
        for file in (tmp_path / "page.png", tmp_path / "gone.png"):
            with pytest.raises(InputError, match=file.name):
                painter.submit(replace(WISH, references=(file,)), "key")


# ---------------------------------------------------------------- through the ledger


def paid(painter: Provider, request: VideoRequest = WISH) -> Path:
    ledger = open_ledger()
    submit_once(ledger, painter, request, "aa" * 32, price=Decimal("0.01"), limits=Limits(5))
    return collect(ledger, painter, "aa" * 32)


def test_bought_through_the_ledger(painter: SimulatedImages, state: Path) -> None:
    with sells(state, 1):
        first = paid(painter)
        assert paid(painter) == first
    assert (first.suffix, first.parent.name) == (".png", "originals")


def test_a_lost_answer_is_parked_and_sent_again_only_when_a_human_gave_it_up(tmp_path: Path) -> None:
    with simulator(tmp_path, *QUICK, "--ignore-keys", "--fault", "reset-after*1@create") as url:
        painter = replace(SimulatedImages(url), settle=0.5)
        with pytest.raises(Later):
            paid(painter)
        for _ in range(2):
            with pytest.raises(SubmissionUnknown, match="sim-images may have been paid"):
                paid(painter)
        assert count(tmp_path) == 1
        (row,) = purchases(open_ledger())
        ledger = replace(open_ledger(), clock=lambda: row.sent_at + 600)
        write_off(ledger, row.key, "it is not there")
        assert paid(painter).exists()
    assert count(tmp_path) == 2


@pytest.mark.parametrize("fault", ["reset-after*2@create", "truncated*2@create", "500*2@create"])
def test_where_keys_are_honoured_it_is_sent_again_and_sold_once(tmp_path: Path, fault: str) -> None:
    with simulator(tmp_path, *QUICK, "--fault", fault) as url:
        painter = SimulatedImages(url, idempotent=True)
        for _ in range(2):
            with pytest.raises(Later):
                paid(painter)
        assert paid(painter).exists()
    assert count(tmp_path) == 1


def test_a_limit_is_waited_for_and_nothing_was_sold(tmp_path: Path) -> None:
    with simulator(tmp_path, *QUICK, "--fault", "429=0.2*1@create") as url:
        with pytest.raises(Later) as later:
            paid(SimulatedImages(url))
        assert later.value.seconds == pytest.approx(0.2)
        assert (count(tmp_path), purchases(open_ledger())[0].state) == (0, "INTENT")


def test_a_killed_simulator_has_the_sale_in_its_log(tmp_path: Path) -> None:
    with simulator(tmp_path, *QUICK) as url:
        SimulatedImages(url).submit(WISH, "key")
    (tmp_path / "sales.jsonl").write_text("")  # as if the kill came before the line
    with contextlib.closing(sqlite3.connect(tmp_path / "pictures" / "pictures.sqlite3")) as database, database:
        database.execute("UPDATE picture SET logged = 0")
    with simulator(tmp_path, *QUICK) as url:
        job = SimulatedImages(url).submit(WISH, "another")
        assert job.state == "done"
    assert len(sales(tmp_path)) == 2


# ---------------------------------------------------------------- what goes wrong


def test_policy_is_told_from_breakage(painter: SimulatedImages, state: Path) -> None:
    with sells(state, 0):
        with pytest.raises(ProviderRefused, match="safety system") as no:
            painter.submit(replace(WISH, prompt="a crowd [moderated]"), "key")
        assert (no.value.failure, no.value.code) == ("moderation_input", "moderation_blocked")
        for wrong in ({"model": "dall-e-9"}, {"size": Size(1000, 1000)}, {"options": (("quality", "best"),)}):
            with pytest.raises(ProviderRefused) as no:
                painter.submit(replace(WISH, **wrong), "key")
            assert no.value.failure == "invalid_request"


@dataclass
class Listener:
    """A server that answers what it is told, and remembers what it was asked."""

    url: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def listener(picture: bytes = b"\x89PNG\r\n\x1a\n picture") -> Iterator[Listener]:
    told = Listener(answer={"created": 1, "data": [{"b64_json": base64.b64encode(picture).decode()}]})

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told.asked.append({"path": self.path, "headers": headers, "body": body})
            self.say(told.status, json.dumps(told.answer).encode())

        def do_GET(self) -> None:
            self.say(200, picture) if self.path == "/files/1.png" else self.say(404, b"")

        def say(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield told
        server.shutdown()


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.mark.parametrize(
    "item",
    [{"b64_json": PIXEL}, {"url": f"data:image/png;base64,{PIXEL}"}, {"url": "/files/1.png"},
     {"url": "{origin}/files/1.png", "b64_json": None}],
    ids=["b64_json", "data", "path", "url"],
)  # fmt: skip
def test_a_picture_is_taken_however_it_is_handed_over(item: dict[str, Any], tmp_path: Path) -> None:
    with listener(base64.b64decode(PIXEL)) as desk:
        origin = desk.url.removesuffix("/v1")
        desk.answer = {"data": [{k: v and v.replace("{origin}", origin) for k, v in item.items()}]}
        bought(Images(desk.url, ""), tmp_path / "picture")
    assert (tmp_path / "picture").read_bytes() == base64.b64decode(PIXEL)


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": []}, {"data": [{}]}, {"data": [None]}, {"data": "none"}, {"data": [{"b64_json": "=!"}]},
     {"error": {"message": "overloaded"}}],
    ids=str,
)  # fmt: skip
def test_an_answer_without_a_picture_may_have_been_paid(answer: dict[str, Any]) -> None:
    with listener() as desk:
        desk.answer = answer
        painter = replace(Images(desk.url, ""), settle=0.1)
        with pytest.raises(ProviderUnavailable):
            painter.submit(WISH, "key")
        with pytest.raises(Later):
            paid(painter)
        with pytest.raises(SubmissionUnknown):
            paid(painter)
        assert len(desk.asked) == 2


def test_a_link_elsewhere_must_be_https_and_public(tmp_path: Path) -> None:
    with listener() as desk, listener() as other:
        desk.answer = {
            "data": [{"url": f"{other.url.removesuffix('/v1').replace('127.0.0.1', 'localhost')}/files/1.png"}]
        }
        painter = Images(desk.url, "")
        job = painter.submit(WISH, "key")
        with pytest.raises(ProviderRefused, match="not https and public"):
            painter.download(job.id, tmp_path / "picture")


def test_a_server_that_wants_a_key_and_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with listener() as desk:
        with pytest.raises(ProviderRefused, match="needs a key: set OPENAI_API_KEY"):
            paid(Images(desk.url))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        assert paid(Images(desk.url)).exists()
        assert desk.asked[0]["headers"]["authorization"] == "Bearer sk-test"
    assert len(desk.asked) == 1
