"""One worker with all its roles: it buys, is called, encodes, answers for its health, and logs."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from receiver import SECRET
from shoot import Shoot, server
from standardwebhooks.webhooks import Webhook
from workshop import environment, frames_of

from stages.ledger import open_ledger, purchases

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: $2
steps: [{generate: {prompt: $prompt, frame: 16:9, length: 4s, model: own}}, {trim: 1s}, {upscale: {size: 320x180}}]
deliver: [{preset: web, file: out/$name.mp4}]
"""

OWN = "own: {base_url: 'URL', dialect: any, model: sim, seconds: [4], sizes: [1280x720], price: 0.1, typical: 3600}\n"
"""A model that takes an hour, as far as we know: until then only a call makes us look."""


def test_a_call_wakes_who_waits_and_the_film_is_made_in_the_same_process(tmp_path: Path) -> None:
    with server(tmp_path / "server") as sells:
        shoot = Shoot(tmp_path, sells)
        workshop = shoot.workshop
        workshop.write(RECIPE)
        workshop.write(OWN.replace("URL", sells.url), "models.yaml")
        (workshop.folder / "rows.csv").write_text("prompt,name\na fox,fox\n", encoding="utf-8")
        env = {**shoot.env, "OPENAI_WEBHOOK_SECRET": SECRET}
        done = workshop.cli("batch", "film.yaml", "--rows", "rows.csv", "--detach", env=env)
        assert done.returncode == 0, done.stderr
        roles = ("--encode", "4", "--buy", "--webhooks", ":0", "--metrics", ":0", "--logs", "json")
        worker = subprocess.Popen(
            workshop.command("worker", *roles),
            cwd=workshop.folder,
            env=environment(env),
            stderr=subprocess.PIPE,
            text=True,
        )
        log: list[dict[str, Any]] = []

        def read() -> None:
            assert worker.stderr
            log.extend(json.loads(line) for line in worker.stderr)

        reader = threading.Thread(target=read)
        reader.start()

        def logged(pattern: str) -> re.Match[str]:
            """The first line that says so."""
            while worker.poll() is None:
                for line in log:
                    if found := re.search(pattern, line["says"]):
                        return found
                time.sleep(0.05)
            raise AssertionError(log)

        try:
            calls, metrics = logged(r"webhooks at (.*/openai)$")[1], logged(r"metrics at (.*)$")[1]
            with shoot.here():
                while not (rows := [row for row in purchases(open_ledger()) if row.job_id]):
                    time.sleep(0.1)
            while "afterframe_waiting 1\n" not in httpx.get(metrics).text:
                time.sleep(0.2)
            assert httpx.get(metrics.replace("/metrics", "/health")).text == "ok\n"
            body = json.dumps({"type": "video.completed", "data": {"id": rows[0].job_id}})
            now = datetime.now(UTC)
            signed = {
                "webhook-id": "wh_1", "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(SECRET).sign("wh_1", now, body),
            }  # fmt: skip
            assert httpx.post(calls, content=body, headers=signed).status_code == 204
            logged("^done$")
        finally:
            worker.terminate()
            worker.wait(300)
            reader.join()
            assert worker.stderr
            worker.stderr.close()
    assert frames_of(workshop.folder / "out/fox.mp4") == 24
    (ended,) = (line for line in log if line["says"] == "done")
    roster = json.loads(next((workshop.folder / ".pipeline/batches").glob("*.json")).read_text(encoding="utf-8"))
    assert (ended["batch"], ended["render"]) == (roster["id"], roster["renders"][0]["id"])
    assert {"time", "level", "says"} <= set(ended)
    assert worker.returncode == 130
