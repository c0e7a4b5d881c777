"""The texts of `pipeline/deploy/` say what there is: commands, flags, variables, ports."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from workshop import ROOT

from pipeline.cli import app

DEPLOY = ROOT / "pipeline" / "deploy"
TEXTS = sorted(file for file in DEPLOY.iterdir() if file.is_file())
SOURCES = "".join(
    file.read_text(encoding="utf-8") for room in ("stages", "pipeline") for file in (ROOT / room).rglob("*.py")
)
OURS = re.compile(r"AFTERFRAME_[A-Z_]+")


def check(words: list[str]) -> None:
    """`pipeline` with these words is a command, with options that it has and as many values as they take."""
    group: Any = typer.main.get_command(app)
    name = words[0]
    command = group.commands[name]
    if hasattr(command, "commands"):
        words = words[1:]
        command = command.commands[words[0]]
    command.make_context(name, list(words[1:]), resilient_parsing=False)


def commands(text: str) -> list[list[str]]:
    """What it calls `pipeline` with."""
    found = re.findall(r"(?:^|[\s/`])pipeline ((?:worker|batch|status|schedule|export|resume|gc)\b[^`\n#|&]*)", text)
    return [shlex.split(words.replace("…", "")) for words in found]


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.name))
def test_what_a_text_names_is_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for variable in set(OURS.findall(text)):
        assert variable in SOURCES, variable
    for words in commands(text):
        if len(words) > 1:  # else it is only named
            check(words)


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = (DEPLOY / "afterframe-worker.service").read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=(\S+) (.*)$", unit, re.MULTILINE)
    check(start[1].split())
    if shutil.which("systemd-analyze"):
        program = tmp_path / "pipeline"
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
        file = tmp_path / "afterframe-worker.service"
        file.write_text(unit.replace(start[0], str(program)), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_container_installs_extras_that_there_are_and_runs_a_command_that_there_is() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"/src\[(.*?)\]", text)
    there = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(there)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    (words,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    assert yaml.safe_load(entry) == ["pipeline"]
    check(yaml.safe_load(words))


def test_the_manifest_runs_commands_that_there_are_at_ports_that_it_opens() -> None:
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
    assert [each["kind"] for each in found] == ["Deployment", "Service", "Deployment"]
    container = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    for deployment in (each for each in found if each["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (worker,) = pod["containers"]
        check(worker["args"])
        opened = {port["name"]: port["containerPort"] for port in worker["ports"]}
        listened = {int(word.rpartition(":")[2]) for word in worker["args"] if ":" in word}
        assert set(opened.values()) == listened
        assert all(f" {port}" in container for port in listened)
        for probe in ("startupProbe", "livenessProbe"):
            assert (worker[probe]["httpGet"]["path"], worker[probe]["httpGet"]["port"]) == ("/health", "metrics")
        assert f"USER {pod['securityContext']['runAsUser']}:" in container
        assert f"VOLUME {worker['volumeMounts'][0]['mountPath']}" in container
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
    (service,) = (each for each in found if each["kind"] == "Service")
    assert service["spec"]["selector"] == {"app": "afterframe", "role": "buy"}
