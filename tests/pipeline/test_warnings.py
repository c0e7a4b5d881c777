"""What a user is told before and after paying: of faces that are refused, of policy, of an ignored reference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from shoot import Server, Shoot, server
from workshop import ROOT

SHOWN = """\
inputs: {photo: portrait.jpg, prompt: she turns and smiles}
budget: $20
steps:
  - prepare: {image: $photo, focus: face}
  - generate: {prompt: $prompt, reference: $prepare, frame: 16:9, length: 3s, model: MODEL}
  - trim: {length: 0.5s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that films at once."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def shoot(quick: Server, tmp_path: Path) -> Shoot:
    """A project with a portrait, a flower, and a paper that says who agreed to be shown."""
    found = Shoot(tmp_path / "own", quick)
    for name in ("portrait.jpg", "photo.jpg"):
        shutil.copy(ROOT / "fixtures" / name, found.workshop.folder)
    (found.workshop.folder / "consent.txt").write_text("She agreed on 2026-11-26.\n")
    return found


def planned(shoot: Shoot, text: str, **given: str) -> str:
    """What `pipeline plan` says."""
    shoot.workshop.write(text)
    settings = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    done = shoot.workshop.cli("plan", "film.yaml", *settings, env={**shoot.env, "RUNWAYML_API_SECRET": "key"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_face_is_told_where_the_model_refuses_people(shoot: Shoot) -> None:
    text = SHOWN.replace("MODEL", "runway-seedance-2")
    assert "portrait.jpg shows a face, and runway-seedance-2 refuses people in its reference" in planned(shoot, text)
    assert "shows a face" not in planned(shoot, text, photo="photo.jpg")
    assert "shows a face" not in planned(shoot, SHOWN.replace("MODEL", "sim"))
    agreed = text.replace("length: 3s,", "length: 4s, consent: consent.txt,")
    assert "that consent is on record does not change it" in planned(shoot, agreed)


def test_consent_goes_on_record(shoot: Shoot) -> None:
    shoot.workshop.write(SHOWN.replace("MODEL", "sim, consent: consent.txt"))
    told = shoot.run()
    assert told["files"][0]["provenance"] == "proved"
    page = (shoot.workshop.folder / told["report"]).read_text()
    assert "consent: consent.txt sha256:" in page
    with shoot.sells(0):
        shoot.run()


def test_a_policy_can_be_asked_before_anything_is_bought(shoot: Shoot) -> None:
    shoot.workshop.write(SHOWN.replace("MODEL", "sim, preflight: moderation"))
    asked = {"AFTERFRAME_MODERATION_URL": shoot.server.url, "OPENAI_API_KEY": "a-key"}
    with shoot.sells(0):
        said = shoot.refused(1, "--set", "prompt=a rose [moderated]", **asked)
    assert "the moderation at 127.0.0.1" in said
    assert "nothing was ordered" in said
    with shoot.sells(1):
        shoot.run(**asked)
    plan = shoot.workshop.cli("plan", "film.yaml", "--set", "prompt=two roses", env={**shoot.env, **asked}).stdout
    assert "gets the prompt and the reference (generate)" in plan


def test_a_reference_that_was_ignored_is_the_providers_fault(shoot: Shoot, tmp_path: Path) -> None:
    options = ("--latency", "0", "--settle", "0.3", "--fault", "ignored-reference")
    with server(tmp_path / "blind", *options) as blind:
        other = Shoot(shoot.folder, blind)
        other.workshop.write(SHOWN.replace("MODEL", "sim"))
        told = other.run()
    assert any("sim ignored the reference: the first frame shows something else" in said for said in told["warnings"])
