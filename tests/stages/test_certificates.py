"""Signers: the local test authority, and what is said of one that C2PA would refuse."""

from __future__ import annotations

import dataclasses
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tamper
from tamper import Authority

from stages import certificates, signers
from stages.errors import InputError
from stages.signers import check_signer, signer_from_environment


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", "A Studio")


# ---------------------------------------------------------------- the test signer


def test_it_is_made_once(tmp_path: Path) -> None:
    first = signers.test_signer(tmp_path / "state" / "signer")
    assert signers.test_signer(tmp_path / "state" / "signer") == first
    assert check_signer(first) == []
    assert (first.kind, first.name) == ("test", "Afterframe test signer")
    assert first.key is not None
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600


def test_processes_at_once_get_the_same_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from stages.signers import test_signer;"
        "print(test_signer(Path(sys.argv[1])).fingerprint)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "signer")]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {process.communicate()[0] for process in running}
    assert found == {signers.test_signer(tmp_path / "signer").fingerprint + "\n"}


@pytest.mark.parametrize("name", ["test-root.pem", "test-signer.pem", "test-signer.key"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_half_a_signer_is_made_again(tmp_path: Path, name: str, content: bytes | None) -> None:
    first = signers.test_signer(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    again = signers.test_signer(tmp_path)
    assert check_signer(again) == []
    assert again.fingerprint != first.fingerprint


def test_it_is_renewed_before_it_ends_and_the_older_root_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIFE", timedelta(hours=23))
    first = signers.test_signer(tmp_path)
    older = certificates.read_anchors([first.root or tmp_path])
    monkeypatch.undo()
    again = signers.test_signer(tmp_path)
    assert again.serial != first.serial
    assert certificates.read_anchors([again.root or tmp_path]).endswith(older)
    assert signers.test_signer(tmp_path) == again


# ---------------------------------------------------------------- check_signer


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"uses": ()}, "lacks ExtendedKeyUsage"),
        ({"uses": ("1.3.6.1.5.5.7.3.1",)}, "ExtendedKeyUsage has 1.3.6.1.5.5.7.3.1"),
        ({"uses": (tamper.EMAIL, "2.5.29.37.0")}, "anyExtendedKeyUsage"),
        ({"usage": False}, "lacks the extension KeyUsage"),
        ({"key_id": False}, "lacks the extension AuthorityKeyIdentifier"),
        ({"ca": True}, "is an authority's"),
        ({"end": NOW - timedelta(hours=1)}, "expired on"),
        ({"begin": NOW + timedelta(hours=1)}, "is not valid before"),
    ],
)
def test_a_fault_is_named(authority: Authority, faults: dict[str, Any], sentence: str) -> None:
    assert any(sentence in found for found in check_signer(authority.signer("Cutter", **faults)))


def test_a_good_signer_has_no_fault(authority: Authority) -> None:
    for use in certificates.ALLOWED_USES:
        assert check_signer(authority.signer("Cutter", uses=(use,))) == []


def test_chains_and_keys_are_checked(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.signer("Cutter"), authority.signer("Other")
    assert "is not the key of 'Cutter'" in check_signer(dataclasses.replace(good, key=other.key))[0]
    assert "holds no private key" in check_signer(dataclasses.replace(good, key=good.chain))[0]
    assert "cannot be read" in check_signer(dataclasses.replace(good, key=tmp_path / "none"))[0]
    assert "holds no certificate" in check_signer(dataclasses.replace(good, chain=good.key or tmp_path))[0]
    assert "self-signed" in check_signer(tamper.self_signed(tmp_path, "Cutter", "A Studio"))[0]
    stranger = Authority(tmp_path / "stranger", "A Stranger")
    good.chain.write_bytes(good.chain.read_bytes().split(b"-----END")[0] + b"-----END CERTIFICATE-----\n")
    assert "alone" in check_signer(good)[0]
    good.chain.write_bytes(good.chain.read_bytes() + tamper.pem(stranger.issuer))
    assert "'Issuer' did not issue 'Cutter'" in check_signer(good)[0]


# ---------------------------------------------------------------- the environment


def test_the_environment_names_a_signer(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    good = authority.signer("Cutter")
    monkeypatch.delenv("AFTERFRAME_SIGNER_CERT", raising=False)
    monkeypatch.delenv("AFTERFRAME_SIGNER_KEY", raising=False)
    assert signer_from_environment() is None
    monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(good.chain))
    with pytest.raises(InputError, match="AFTERFRAME_SIGNER_KEY is not"):
        signer_from_environment()
    monkeypatch.setenv("AFTERFRAME_SIGNER_KEY", "/nowhere.key")
    with pytest.raises(InputError, match=r"AFTERFRAME_SIGNER_KEY: /nowhere\.key cannot be read"):
        signer_from_environment()
    monkeypatch.setenv("AFTERFRAME_SIGNER_KEY", str(good.key))
    assert signer_from_environment() == good
    monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(good.key))
    with pytest.raises(InputError, match=r"AFTERFRAME_SIGNER_CERT: .* holds no certificate"):
        signer_from_environment()
