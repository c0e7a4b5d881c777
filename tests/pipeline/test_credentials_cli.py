"""`pipeline credentials`, `pipeline trust` and `pipeline signer`, as a user has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workshop import ROOT, Workshop, ffmpeg

ANCHOR = ROOT / "fixtures" / "fixture-root.pem"
RECIPE = f"""\
inputs: {{clip: {ROOT / "fixtures" / "bunny.mp4"}}}
provenance: {{anchors: [{ANCHOR}]}}
steps: [trim: {{clip: $clip, length: 0.5s}}]
deliver: [{{preset: web, file: out/web.mp4}}]
"""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A project that has delivered a film, its AFTERFRAME_HOME inside."""
    workshop = Workshop(tmp_path_factory.mktemp("project"))
    workshop.write(RECIPE, "recipe.yaml")
    done = workshop.cli("run", "recipe.yaml", env={"AFTERFRAME_HOME": str(workshop.folder / "home")})
    assert done.returncode == 0, done.stderr
    return workshop


def test_they_are_told_as_a_tree_as_json_and_as_a_card(delivered: Workshop) -> None:
    env = {"AFTERFRAME_HOME": str(delivered.folder / "home")}
    said = delivered.cli("credentials", "out/web.mp4", "--html", "card.html", "--store", "web.c2pa", env=env).stdout
    assert "✓ web.mp4 “web” (this file): proved\n  Made with Afterframe." in said
    assert "_media.mp4 (what it was made from): proved\n      Made by AI: Sora. Signed by " in said
    assert "      Vouched for by a root that a recipe here names.\n" in said
    page = (delivered.folder / "card.html").read_text()
    assert "_media.mp4 (made by AI: Sora; signed by Afterframe fixtures (test)" in page
    assert "http" not in page  # nothing is fetched by who looks at it
    store = delivered.cli("credentials", "web.c2pa", env=env).stdout
    assert store.splitlines()[1:] == said.replace("✓ web.mp4", "✓ web.c2pa").splitlines()[1:]
    told = json.loads(delivered.cli("credentials", "web.c2pa", "--json", env=env).stdout)
    assert told["credentials"]["ingredients"][0]["generator"] == "Sora"
    assert told["credentials"]["state"] == "proved"


def test_a_copy_that_a_platform_stripped_is_traced(delivered: Workshop) -> None:
    env = {"AFTERFRAME_HOME": str(delivered.folder / "home")}
    copy = delivered.folder / "reposted.mp4"
    ffmpeg("-i", str(delivered.folder / "out" / "web.mp4"), "-vf", "scale=320:180", "-crf", "34", str(copy))
    said = delivered.cli("credentials", "reposted.mp4", env=env).stdout
    assert "carries no credentials any more; it has the same looks as web.mp4, delivered for web on" in said
    assert "Made by AI: Sora." in said
    assert delivered.cli("verify", "reposted.mp4", env=env).returncode == 10
    other = delivered.cli("credentials", "reposted.mp4", "--store", "x.c2pa", env={"AFTERFRAME_HOME": "/nowhere"})
    assert (other.returncode, "is no copy of what was delivered from here" in other.stderr) == (2, True)


def test_a_signer_is_made_checked_and_signs(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    made = workshop.cli("signer", "new", "keys", "--test")
    env = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert workshop.cli("signer", "check", env=env).stdout == "Afterframe test signer: fine\n"
    assert workshop.cli("signer", "check", "keys/test-signer.pem", "keys/test-signer.key").returncode == 0
    wrong = workshop.cli("signer", "check", "keys/test-root.pem")
    assert wrong.returncode == 1
    assert "must begin with the signer's own" in wrong.stdout
    again = workshop.cli("signer", "new", "keys", "--test")
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)
    assert "C2PA trust list" in workshop.cli("signer", "new", "other").stderr
    assert "AFTERFRAME_SIGNER_CERT is not set" in workshop.cli("signer", "check").stderr


def test_the_trust_lists_are_listed(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    told = json.loads(workshop.cli("trust", "list", "--json").stdout)
    assert {each["name"]: each["default"] for each in told} == {"c2pa": True, "c2pa-tsa": True, "interim": False}
    assert "there is no trust list 'all'" in workshop.cli("trust", "update", "all").stderr


def test_credentials_are_left_out_only_by_who_understands(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    off = RECIPE.replace("provenance: {", "provenance: {sign: off, ")
    workshop.write(off, "recipe.yaml")
    refused = workshop.cli("run", "recipe.yaml")
    assert refused.returncode == 1
    assert "bunny.mp4: carries credentials, which provenance.sign: off strips" in refused.stderr
    assert "say provenance.strip: I understand" in refused.stderr
    workshop.write(off.replace("sign: off", "sign: off, strip: I understand"), "recipe.yaml")
    assert "NOT SIGNED" in workshop.cli("plan", "recipe.yaml").stdout
    done = workshop.cli("run", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert "absent" in done.stdout
    assert "NOT SIGNED, as the recipe asks" in done.stdout
    assert "NOT SIGNED" in (workshop.folder / "out" / "recipe.report.html").read_text()
    assert workshop.cli("verify", "out/web.mp4").returncode == 10


def test_what_a_model_made_is_not_left_unmarked_unasked(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "project")
    recipe = (
        "provenance: {sign: off}\nsteps: [generate: {prompt: a rose, frame: 16:9, length: 3s, model: sim}]\n"
        "deliver: [{preset: web, file: out/web.mp4}]\n"
    )
    workshop.write(recipe, "recipe.yaml")
    said = workshop.cli("plan", "recipe.yaml", "--sim")
    assert said.returncode == 2
    assert "recipe.yaml:3: deliver: what generate made: " in said.stderr
    assert "was made by a model, and provenance.sign: off leaves that unsaid" in said.stderr
