"""What a recipe asks of the credentials of what goes in: read from YAML, heeded in runs, told in the summary."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from workshop import Workshop

from pipeline.doctor import examine
from pipeline.show import summary
from stages import provenance
from stages.clip import Action
from stages.credentials import Credentials, State
from stages.errors import InputError, ProvenanceError, RecipeError
from stages.policy import Policy

pytest_plugins = ["desks"]

DELIVER = "deliver: [{preset: web, file: out/web.mp4}]\n"
QUICK = "steps:\n- trim: {clip: clip.mp4, length: 0.5s}\n" + DELIVER
VOICED = "steps:\n- trim: {clip: clip.mp4, length: 1s}\n- mix_audio: {sound: voice.wav}\n" + DELIVER


@pytest.fixture
def workshop(tmp_path: Path, small_media: Path) -> Workshop:
    """A project with an unsigned clip and voice."""
    found = Workshop(tmp_path / "project")
    shutil.copytree(small_media, found.folder, dirs_exist_ok=True)
    return found


def sign_by_a_stranger(clip: Path) -> None:
    signer = provenance.test_signer(clip.parent / "stranger")
    provenance.sign(clip, clip, history=(Action("generate", agent="a model", ai=True),), signer=signer)


# ---------------------------------------------------------------- pure


@pytest.mark.parametrize(
    ("state", "policy", "told"),
    [
        ("proved", Policy("require-trusted", "stop"), ""),
        ("absent", Policy(), ""),
        ("absent", Policy("accept", "stop"), "STOP carries no credentials, and provenance.missing is stop"),
        ("absent", Policy("require-trusted"), ""),
        ("untrusted", Policy(), "intact, but nobody trusted here vouches"),
        ("expired", Policy(), "intact, but the certificate behind it"),
        ("untrusted", Policy("accept"), ""),
        ("expired", Policy("accept"), ""),
        ("untrusted", Policy("require-trusted"), "STOP and provenance.origin is require-trusted"),
        ("expired", Policy("require-trusted"), "STOP and provenance.origin is require-trusted"),
        ("tampered", Policy("accept"), "STOP was changed after it was signed"),
        ("tampered", Policy(), "STOP was changed after it was signed"),
    ],
)
def test_each_state_under_each_policy(state: State, policy: Policy, told: str) -> None:
    found = Credentials(state, () if state in ("proved", "absent") else ("a.code",))
    if told.startswith("STOP"):
        with pytest.raises(ProvenanceError, match=told.removeprefix("STOP ")) as error:
            policy.check("clip.mp4", found)
        assert error.value.codes == found.codes
    else:
        assert policy.check("clip.mp4", found).startswith(told)
        assert bool(policy.check("clip.mp4", found)) == bool(told)


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        (
            "{origin: trusted}",
            "provenance.origin: should be one of require-trusted, require-intact, accept, not 'trusted'",
        ),
        ("{missing: never}", "provenance.missing: should be one of accept, stop, not 'never'"),
        ("{orign: accept}", "provenance.orign: is not known"),
        ("accept", "provenance: should be a mapping"),
    ],
)
def test_a_wrong_policy_is_the_authors_mistake(workshop: Workshop, written: str, mistake: str) -> None:
    with pytest.raises(RecipeError, match=r"film\.yaml:1: ") as error:
        workshop.read(f"provenance: {written}\n{QUICK}")
    assert mistake in str(error.value)


def test_a_policy_is_read(workshop: Workshop) -> None:
    assert workshop.read(QUICK).policy == Policy("require-intact", "accept")
    read = workshop.read(f"provenance: {{origin: require-trusted, missing: stop}}\n{QUICK}")
    assert (read.policy, read.anchors) == (Policy("require-trusted", "stop"), ())


# ---------------------------------------------------------------- runs


def test_what_lacks_credentials_is_told_loudly_every_time(workshop: Workshop) -> None:
    for _ in range(2):  # a run that finds everything made tells it, too
        recipe = workshop.read(VOICED)
        told = summary(recipe, workshop.run(VOICED), workshop.folder / "report.html")
        assert "NO CREDENTIALS in clip.mp4, voice.wav: nobody vouches for who made that" in told


def test_what_lacks_credentials_stops_where_that_is_asked(workshop: Workshop) -> None:
    workshop.run(QUICK)  # what was read under another policy does not count
    with pytest.raises(ProvenanceError, match=r"clip\.mp4: carries no credentials, and provenance\.missing is stop"):
        workshop.run(f"provenance: {{missing: stop}}\n{QUICK}")


def test_an_untrusted_original_passes_with_a_note_unless_trust_is_asked(workshop: Workshop) -> None:
    sign_by_a_stranger(workshop.folder / "clip.mp4")
    passed = workshop.run(QUICK)
    assert ["clip.mp4: intact, but nobody trusted" in warning for warning in passed.warnings] == [True]
    assert passed.delivered(passed.final.deliveries[0]).verdict.verdict == "untrusted"
    assert workshop.run(f"provenance: {{origin: accept}}\n{QUICK}").warnings == []
    (workshop.folder / "out" / "web.mp4").unlink()
    with pytest.raises(ProvenanceError, match=r"clip\.mp4.*provenance\.origin is require-trusted"):
        workshop.run(f"provenance: {{origin: require-trusted}}\n{QUICK}")
    assert not (workshop.folder / "out" / "web.mp4").exists()
    anchored = "provenance: {origin: require-trusted, missing: stop, anchors: [stranger/test-root.pem]}\n"
    workshop.run(anchored + QUICK)
    assert (workshop.folder / "out" / "web.mp4").exists()


# ---------------------------------------------------------------- who signs


MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


def studio(folder: Path, *, days: int = 1, use: x509.ObjectIdentifier = MAIL) -> tuple[Path, Path]:
    """The certificates and the key of one who signs until in so many days, and may for `use`."""
    root, own, now = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)

    def certificate(name: str, key: ec.EllipticCurvePublicKey, ca: bool) -> bytes:
        above, own_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("Root", name))
        made = x509.CertificateBuilder(above, own_name, key, x509.random_serial_number()).not_valid_before(
            now - timedelta(9)
        )
        made = made.not_valid_after(now + timedelta(days)).add_extension(x509.BasicConstraints(ca, None), critical=True)
        allowed = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        made = made.add_extension(allowed, critical=True)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        made = made if ca else made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        return made.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    chain, key = folder / "studio.pem", folder / "studio.key"
    chain.write_bytes(certificate("Studio", own.public_key(), False) + certificate("Root", root.public_key(), True))
    plain = serialization.NoEncryption()
    key.write_bytes(own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return chain, key


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"days": -1}, "the certificate expired on "),
        ({"use": ExtendedKeyUsageOID.SERVER_AUTH}, "ExtendedKeyUsage has 1.3.6.1.5.5.7.3.1; it needs one of "),
    ],
)
@pytest.mark.parametrize("by_service", [False, True])
def test_a_signer_who_cannot_is_told_before_anything_is_bought(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any], said: str, by_service: bool
) -> None:
    chain, key = studio(workshop.folder, **faults)
    monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(chain))
    if by_service:  # which is not asked: nobody listens there
        monkeypatch.setenv("AFTERFRAME_SIGNER_URL", "http://127.0.0.1:9/sign")
    else:
        monkeypatch.setenv("AFTERFRAME_SIGNER_KEY", str(key))
    buys = "steps:\n- generate: {prompt: a dog, length: 4s, model: sim}\n" + DELIVER
    for recipe in (QUICK, buys, buys + "provenance: {sign: off, strip: I understand}\n"):
        with pytest.raises(InputError, match=r"AFTERFRAME_SIGNER_CERT: .*: cannot sign: ") as found:
            workshop.plan(recipe)
        assert said in str(found.value)
    with pytest.raises(InputError, match="cannot sign"):
        workshop.run(buys)
    assert not workshop.store.tasks.exists()
    assert workshop.plan(QUICK + "provenance: {sign: off}\n").tasks  # nobody signs


def test_a_service_that_is_well_is_not_asked_by_a_plan(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, _ = studio(workshop.folder)
    monkeypatch.setenv("AFTERFRAME_SIGNER_CERT", str(chain))
    monkeypatch.setenv("AFTERFRAME_SIGNER_URL", "http://127.0.0.1:9/sign")
    assert workshop.plan(QUICK).tasks
    finding = next(one for one in examine() if one.what == "signer")
    assert (finding.fine, "the signing service" in finding.text) == (False, True)
