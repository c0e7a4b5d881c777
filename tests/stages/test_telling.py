"""What somebody's server is told: signed, once, to nobody else, and never with what is secret in a complaint."""

from __future__ import annotations

import pytest
from receiver import SECRET, receiving

from stages.errors import AfterframeError, InputError, ProviderRefused, ProviderUnavailable
from stages.notices import Notify
from stages.telling import secrets, send


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_NOTIFY_SECRET", SECRET)


def test_a_message_is_signed_by_the_old_key_and_by_the_new(monkeypatch: pytest.MonkeyPatch) -> None:
    new = "whsec_" + "bmV3" * 12
    monkeypatch.setenv("AFTERFRAME_NOTIFY_SECRET", f"{new} {SECRET}")
    for key in (SECRET, new):
        with receiving(key) as receiver:
            send(receiver.url, "msg_1", '{"type": "batch.ended", "says": "fertig ✓"}')
        assert (receiver.ids, receiver.bodies[0]["says"]) == (["msg_1"], "fertig ✓")


@pytest.mark.parametrize(("status", "error"), [(500, ProviderUnavailable), (404, ProviderUnavailable),
                                               (302, ProviderUnavailable), (410, ProviderRefused)])  # fmt: skip
def test_what_is_not_taken_is_said_and_no_redirect_followed(status: int, error: type[AfterframeError]) -> None:
    with receiving() as receiver:
        receiver.answers = [status]
        with pytest.raises(error, match=str(status)) as caught:
            send(receiver.url, "msg_1", "{}")
    assert len(receiver.ids) == 1
    assert "t0ps3cret" not in str(caught.value)


def test_who_cannot_be_reached_is_named_without_what_is_secret() -> None:
    with receiving() as receiver:
        pass
    with pytest.raises(ProviderUnavailable, match=r"cannot reach 127\.0\.0\.1:") as caught:
        send(receiver.url, "msg_1", "{}")
    assert "t0ps3cret" not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "whsec_short", "whsec_" + "not base64!" * 6])
def test_a_secret_that_is_none_is_told_before_anything_is_sent(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_NOTIFY_SECRET", secret)
    with pytest.raises(InputError, match="AFTERFRAME_NOTIFY_SECRET") as caught:
        secrets()
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("url", ["", "hook", "ftp://example.com/", "https://", "https://[::1", "http://h:99999/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="should be a URL"):
        Notify.parse(url)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="without a password") as caught:
        Notify.parse("https://user:t0ps3cret@example.com/hook")
    assert "t0ps3cret" not in str(caught.value)
    assert "t0ps3cret" not in repr(Notify.parse("https://example.com/hook?token=t0ps3cret"))
