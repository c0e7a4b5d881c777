"""Who wants to be told when a batch is over is told, though workers die and his server fails."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from receiver import SECRET, receiving
from workshop import Workshop, environment

from stages.errors import RecipeError

pytest_plugins = ["desks"]

RECIPE = """\
inputs: {name: ~}
notify: {url: "https://elsewhere.example/", each: yes}
steps: [{trim: {clip: clip.mp4, length: 0.5s}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""


def test_a_message_is_sent_until_it_is_taken_and_is_always_the_same(workshop: Workshop) -> None:
    workshop.write(RECIPE.replace(", each: yes", ""))
    (workshop.folder / "rows.csv").write_text("name\na\nb\n", encoding="utf-8")
    secret = {"AFTERFRAME_NOTIFY_SECRET": SECRET}

    def start(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            workshop.command(*command), cwd=workshop.folder, env=environment(secret), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    with receiving() as receiver:
        batch = ("batch", "film.yaml", "--rows", "rows.csv", "--notify", receiver.url)
        assert "AFTERFRAME_NOTIFY_SECRET" in workshop.cli(*batch).stderr
        receiver.answers = [0, 503]
        first = start(*batch)
        receiver.wait()
        os.killpg(first.pid, signal.SIGKILL)  # in the middle of telling
        first.communicate()
        worker = start("worker", "--logs", "json")
        for _ in range(2):
            receiver.wait()
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=300)
    assert len(set(receiver.ids)) == 1
    assert all(body == receiver.bodies[0] for body in receiver.bodies)
    said = receiver.bodies[0]
    assert (said["type"], said["data"]["state"], said["data"]["counts"]) == ("batch.ended", "done", {"done": 2})
    assert "HTTP 503; again in 5 s" in log
    assert "t0ps3cret" not in log


def test_each_render_is_told_of_and_each_end(workshop: Workshop) -> None:
    rows = workshop.folder / "rows.csv"
    rows.write_text("name\na\n../out/b/\n", encoding="utf-8")  # the second cannot run
    secret = {"AFTERFRAME_NOTIFY_SECRET": SECRET}
    with receiving() as receiver:
        workshop.write(RECIPE.replace("https://elsewhere.example/", receiver.url))
        workshop.cli("batch", "film.yaml", "--rows", "rows.csv", env=secret)
        workshop.cli("resume", env=secret)  # there is nothing to do, and nothing to say
    told = sorted((body["type"], body["data"]["state"]) for body in receiver.bodies)
    assert told == [("batch.ended", "done"), ("render.ended", "done")]
    render = next(body["data"] for body in receiver.bodies if body["type"] == "render.ended")
    assert (render["row"], render["files"][0]["path"]) == (2, "out/a.mp4")


@pytest.mark.parametrize(
    ("notify", "says"),
    [
        ("notify: hook", "film.yaml:4: notify: should be a URL"),
        ("notify: {url: 'https://h/', every: yes}", "film.yaml:4: notify.every: is not known"),
        ("notify: {each: yes}", "film.yaml:4: notify.url: should be a URL"),
        ("notify: {url: 'https://h/', each: often}", "film.yaml:4: notify.each: should be"),
    ],
)
def test_what_nobody_can_be_told_by_is_a_mistake(desk: Workshop, notify: str, says: str) -> None:
    lines = ("steps:", "- trim: {clip: film.yaml, length: 1s}", "deliver: [{preset: web, file: a.mp4}]", notify)
    with pytest.raises(RecipeError) as caught:
        desk.read("\n".join(lines))
    assert any(says in mistake for mistake in caught.value.mistakes), caught.value.mistakes
