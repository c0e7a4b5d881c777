"""The lists of trusted roots: shipped, fetched, checked, and never fetched unasked."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import tamper

from stages.certificates import authorities
from stages.errors import InputError, ProviderRefused
from stages.trust import anchors_named, stamp_anchors, trust_anchors, trust_lists, update


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served, and its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "published"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def roots(count: int) -> bytes:
    """So many new authorities."""
    made = b""
    for number in range(count):
        own, name = tamper.key(), (f"Root {number}", "An Authority")
        made += tamper.pem(tamper.certificate(name, own, name, own, ca=True))
    return made


def test_what_ships_is_trusted_but_for_the_interim_list() -> None:
    lists = {each.name: each for each in trust_lists()}
    assert {name: each.roots for name, each in lists.items()} == {"c2pa": 30, "c2pa-tsa": 22, "interim": 18}
    assert (trust_anchors(), stamp_anchors()) == ((lists["c2pa"].file,), (lists["c2pa-tsa"].file,))
    assert anchors_named(["interim", "own.pem"]) == (lists["interim"].file, Path("own.pem"))
    assert lists["c2pa"].next is not None
    assert lists["c2pa"].next > lists["c2pa"].issued > date(2026, 8, 1)


def test_a_fetched_list_is_kept_and_used_from_then_on(published: tuple[Path, str]) -> None:
    folder, url = published
    (folder / "list.pem").write_bytes(roots(29))
    dates = {"ListIssueDateTime": "2026-11-20T00:00:00Z", "NextUpdate": "2027-11-20T00:00:00Z"}
    (folder / "list.json").write_text(json.dumps({"LoTE": {"ListAndSchemeInformation": dates}}))
    made = update("c2pa", url=f"{url}/list.pem", dates=f"{url}/list.json")
    assert (made.roots, made.fetched, made.issued, made.next) == (29, True, date(2026, 11, 20), date(2027, 11, 20))
    assert trust_anchors()[0] == made.file
    made.file.with_suffix(".json").write_text("half")
    assert trust_lists()[0].roots == 30  # a damaged one is not used


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>not found</html>", "holds no certificate of an authority"),
        (b"", "holds no certificate of an authority"),
        (roots(3), "came with 3 roots and had 30"),
    ],
)
def test_what_does_not_hold_up_is_refused(published: tuple[Path, str], content: bytes, said: str) -> None:
    folder, url = published
    (folder / "list.pem").write_bytes(content)
    with pytest.raises(InputError, match=said):
        update("c2pa", url=f"{url}/list.pem")
    assert not trust_lists()[0].fetched


def test_an_older_list_is_no_news(published: tuple[Path, str]) -> None:
    folder, url = published
    (folder / "list.pem").write_bytes(trust_anchors()[0].read_bytes())
    told = {"LoTE": {"ListAndSchemeInformation": {"ListIssueDateTime": "2025-01-01T00:00:00Z"}}}
    (folder / "list.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="is of 2025-01-01, and the one here of 2026-08-05"):
        update("c2pa", url=f"{url}/list.pem", dates=f"{url}/list.json")
    (folder / "list.json").write_text("{}")
    with pytest.raises(InputError, match="dates of the trust list c2pa cannot be read"):
        update("c2pa", url=f"{url}/list.pem", dates=f"{url}/list.json")


def test_a_leaf_is_no_authority(tmp_path: Path) -> None:
    signer = tamper.self_signed(tmp_path, "Cutter", "A Studio")
    assert authorities(signer.chain.read_bytes()) == ()


def test_what_is_not_there_is_named(published: tuple[Path, str]) -> None:
    with pytest.raises(ProviderRefused, match="where the trust list c2pa is published does not have the file"):
        update("c2pa", url=f"{published[1]}/nothing.pem")
    with pytest.raises(InputError, match="there is no trust list 'c2p': c2pa, c2pa-tsa, interim"):
        update("c2p")
