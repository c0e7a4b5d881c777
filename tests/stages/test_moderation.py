"""Asked before money is spent: what is flagged is said in plain words, and what cannot be learnt is no yes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_images import Listener, listener
from test_simulator import PHOTO, simulator

from stages.errors import InputError, Later, ProviderRefused, ProviderUnavailable
from stages.http import NOT_SENT
from stages.moderation import ask_moderation, host


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulator(tmp_path_factory.mktemp("sim"), "--no-film", "--latency", "0") as url:
        yield url


@pytest.fixture
def moderated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator moderates."""
    monkeypatch.setenv("AFTERFRAME_MODERATION_URL", url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A server that answers what it is told."""
    with listener() as desk:
        monkeypatch.setenv("AFTERFRAME_MODERATION_URL", desk.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield desk


@pytest.mark.usefixtures("moderated")
def test_what_is_fine_passes_with_any_number_of_pictures() -> None:
    """The real one takes one picture in a request, and the simulator is as strict."""
    ask_moderation("a red fox")
    ask_moderation("a red fox", [PHOTO, PHOTO, PHOTO])
    ask_moderation("", [PHOTO])
    ask_moderation("")


@pytest.mark.usefixtures("moderated")
def test_what_is_flagged_is_told_in_plain_words() -> None:
    with pytest.raises(ProviderRefused, match=r"the moderation at 127\.0\.0\.1:\d+ found violence: nothing was") as no:
        ask_moderation("a crowd [moderated]", [PHOTO])
    assert (no.value.failure, no.value.code) == ("moderation_input", "violence")


def test_each_picture_is_asked_for_and_every_category_told_once(desk: Listener) -> None:
    desk.answer = {
        "results": [
            {"flagged": True, "categories": {"sexual/minors": True, "hate": False, "brand/new": True, "violence": True}}
        ]
    }
    with pytest.raises(ProviderRefused, match="found sexual content with minors, brand, new, violence: nothing"):
        ask_moderation("a fox", [PHOTO, PHOTO])
    first, second = (json.loads(asked["body"]) for asked in desk.asked)
    assert [part["type"] for part in first["input"]] == ["text", "image_url"]
    assert [part["type"] for part in second["input"]] == ["image_url"]
    assert second["input"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert (first["model"], desk.asked[0]["path"]) == ("omni-moderation-latest", "/v1/moderations")
    assert desk.asked[0]["headers"]["authorization"] == "Bearer sk-test"


def test_flagged_without_a_category_is_flagged(desk: Listener) -> None:
    desk.answer = {"results": [{"flagged": True}]}
    with pytest.raises(ProviderRefused, match="found something"):
        ask_moderation("a fox")


@pytest.mark.parametrize("answer", [{}, {"results": []}, {"results": "none"}, {"results": [None]}], ids=str)
def test_no_result_is_no_yes(desk: Listener, answer: dict[str, object]) -> None:
    desk.answer = answer
    with pytest.raises(ProviderUnavailable, match="without a result"):
        ask_moderation("a fox")


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, ProviderUnavailable), (401, ProviderRefused), (429, Later)],
)
def test_a_no_of_the_server_is_told(desk: Listener, status: int, error: type[Exception]) -> None:
    desk.status, desk.answer = status, {"error": {"message": "no"}}
    with pytest.raises(error):
        ask_moderation("a fox")


def test_who_cannot_be_reached_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_MODERATION_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ProviderUnavailable, match="cannot reach") as no:
        ask_moderation("a fox")
    assert no.value.code == NOT_SENT


def test_a_picture_that_cannot_be_read_is_the_callers(desk: Listener, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        ask_moderation("a fox", [tmp_path / "gone.png"])
    assert desk.asked == []


def test_who_would_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERFRAME_MODERATION_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert host() == "api.openai.com"
    with pytest.raises(ProviderRefused, match="set OPENAI_API_KEY"):
        ask_moderation("a fox")
    monkeypatch.setenv("AFTERFRAME_MODERATION_URL", "https://own.example:8443/v1")
    assert host() == "own.example:8443"
