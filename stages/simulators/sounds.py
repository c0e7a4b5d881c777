"""Sounds, for the simulator: `/v1/sound-generation` and `/v1/music`, as ElevenLabs has them.

An effect is wind and knocks, music is a chord; both are MP3 of exactly the
length that was asked, in the answer itself, and there is no list. Every sale
is in DIR/sales.jsonl; the same Idempotency-Key gets the same sound, where keys
are honoured. `[moderated]` in a prompt is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.ffmpeg import run_ffmpeg
from stages.files import attempt
from stages.simulators.desk import Desk, Problem, object_in
from stages.simulators.studio import Refusal

EFFECT = "anoisesrc=color=pink:a=0.1:seed={seed}:r=44100:d={length}"
KNOCKS = "aevalsrc='0.6*exp(-40*mod(t,0.7))*sin(2*PI*180*t)':s=44100:d={length}"
CHORD = "aevalsrc='0.08*(sin(2*PI*220*t)+sin(2*PI*277.18*t)+sin(2*PI*329.63*t))*(0.7+0.3*sin(PI*t))':s=44100:d={length}"

PLACES = ("sound-generation", "music")
BLOCKED = {
    "detail": {"status": "content_policy_violation", "message": "The prompt was blocked by our content moderation."}
}

_selling = threading.Lock()


def serves(desk: Desk) -> bool:
    """Whether this file answers what `desk` was asked."""
    return desk.command == "POST" and _place(desk) in PLACES


def act(desk: Desk) -> None:
    """Make the sound and send it. Raises Refusal and Problem."""
    started, studio, place = time.monotonic(), desk.server.studio, _place(desk)
    fields = object_in(desk.body())
    prompt, length = asked(place, fields)
    if "[moderated]" in prompt or "moderated" in desk.struck:
        raise Problem(400, BLOCKED)
    key = desk.headers.get("Idempotency-Key", "") if studio.keys else ""
    with _selling:
        sound = sold(studio.folder / "sounds", place, fields, prompt, length, key)
    time.sleep(max(0.0, started + studio.latency - time.monotonic()))
    desk.send(200, sound.read_bytes(), "audio/mpeg")


def asked(place: str, fields: Mapping[str, Any]) -> tuple[str, float]:
    """The prompt, and the length in seconds. Raises Refusal where the real one would."""
    effect = place == "sound-generation"
    prompt = fields.get("text" if effect else "prompt")
    length = fields.get("duration_seconds", 2.0) if effect else fields.get("music_length_ms", 10_000)
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refusal(422, "Field required", "missing_required_parameter")
    if not isinstance(length, int | float) or isinstance(length, bool):
        raise Refusal(422, "Input should be a valid number", "invalid_value")
    seconds = length if effect else length / 1000
    least, most = (0.5, 30) if effect else (3, 600)
    if not least <= seconds <= most:
        raise Refusal(422, f"Should be {least:g} to {most} seconds", "invalid_value")
    return prompt, float(seconds)


def sold(folder: Path, place: str, fields: Mapping[str, Any], prompt: str, length: float, key: str) -> Path:
    """The sound, made and noted as sold; what was sold under `key` before is not sold again."""
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256((key or os.urandom(16).hex()).encode()).hexdigest()[:24]
    target = folder / f"sound_{name}.mp3"
    if target.exists():
        return target
    seed = int(name[:6], 16)
    sources = (EFFECT, KNOCKS) if place == "sound-generation" else (CHORD,)
    inputs = [part for one in sources for part in ("-f", "lavfi", "-i", one.format(seed=seed, length=f"{length:.3f}"))]
    graph = f"amix=inputs={len(sources)}:normalize=0,pan=stereo|c0=c0|c1=c0"
    with attempt(target) as part:
        run_ffmpeg([*inputs, "-filter_complex", graph, "-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3", str(part)])
    model = str(fields.get("model_id", "sim"))
    sale = {"id": target.stem, "model": model, "seconds": f"{length:g}", "size": "0x0", "at": time.time()}
    with (folder.parent / "sales.jsonl").open("a") as log:
        log.write(json.dumps(sale) + "\n")
        log.flush()
        os.fsync(log.fileno())
    return target


def _place(desk: Desk) -> str:
    path = urllib.parse.urlsplit(desk.path).path
    return path.removeprefix(f"{desk.server.path}/") if path.startswith(f"{desk.server.path}/") else ""
