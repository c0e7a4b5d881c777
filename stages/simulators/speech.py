"""Speech, for the simulators that stand for those who sell it; here OpenAI's, `/v1/audio/speech`.

Nobody takes it for a voice: it hums, a tone for each word, as long as its
characters at an even pace, with the silence before and after that real ones
leave. So the same line sounds the same, and where each word sounds is known.
The file's comment says SIMULATED. As with the real ones the sound comes in the
answer and there is no list. Every sale is in DIR/sales.jsonl. `[moderated]` in
a line is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import secrets
import sqlite3
import struct
import tempfile
import threading
import time
import urllib.parse
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import presets
from stages.clip import Word
from stages.ffmpeg import run_ffmpeg
from stages.files import fresh_folder
from stages.simulators import faults
from stages.simulators.desk import Desk, Problem, Server, object_in, opened, options, run
from stages.simulators.studio import AGENT, Refusal, Studio
from stages.voices.sounds import wav_of

PACE = 15
"""Characters a second at speed 1, a space between two words included."""

RATE = 24_000
LEAD, TRAIL = Fraction(32, 100), Fraction(1, 2)
"""Seconds of silence around what is heard, as from hibari (facts/audio.md 1)."""

LOUD = 9000
TONES = (220, 247, 262, 294, 330, 349, 392)
"""Hertz; a word always has the same."""

FORMATS = {
    "mp3": ("audio/mpeg", ("-c:a", "libmp3lame", "-f", "mp3")),
    "opus": ("audio/ogg", ("-c:a", "libopus", "-f", "ogg")),
    "aac": ("audio/aac", ("-c:a", "aac", "-f", "adts")),
    "flac": ("audio/flac", ("-f", "flac")),
    "wav": ("audio/wav", ()),
    "pcm": ("audio/pcm", ()),
}
"""By name the media type, and how ffmpeg makes it of a WAV."""

STREAMED = 0xFFFFFFFF
"""The length that OpenAI's WAV gives of itself: it is sent while it is made."""


# ---------------------------------------------------------------- the hum


@dataclass(frozen=True, slots=True)
class Hum:
    """A line that was hummed: signed 16-bit mono at RATE, and its words."""

    pcm: bytes
    words: tuple[Word, ...]

    @property
    def wav(self) -> bytes:
        """As a file, without the words."""
        return wav_of(self.pcm, RATE, comment=AGENT)

    def characters(self, text: str) -> tuple[list[str], list[float], list[float]]:
        """The characters of the line, with the seconds at which each begins and ends, as ElevenLabs tells them."""
        starts: list[Fraction] = []
        at, number = LEAD, 0
        for space, word in re.findall(r"(\s*)(\S+)", text):
            heard = self.words[number]
            starts += [at + (heard.start - at) * n / len(space) for n in range(len(space))]
            starts += [heard.start + (heard.end - heard.start) * n / len(word) for n in range(len(word))]
            at, number = heard.end, number + 1
        starts += [at] * (len(text) - len(starts))
        ends = [*starts[1:], self.words[-1].end]
        return list(text), [round(float(each), 3) for each in starts], [round(float(each), 3) for each in ends]


def hum(text: str, speed: float = 1.0) -> Hum:
    """A tone for each word of `text`, the same each time."""
    at, words = LEAD, []
    for word in text.split():
        end = at + Fraction(len(word), PACE) / Fraction(speed)
        words.append(Word(word, at, end))
        at = end + Fraction(1, PACE) / Fraction(speed)
    samples = array("h", bytes(2 * round((words[-1].end + TRAIL) * RATE)))
    for heard in words:
        first, count = round(heard.start * RATE), round((heard.end - heard.start) * RATE)
        pitch = TONES[hashlib.sha256(heard.text.encode()).digest()[0] % len(TONES)]
        for n in range(count):
            swell = math.sqrt(math.sin(math.pi * (n + 0.5) / count))
            samples[first + n] = int(LOUD * swell * math.sin(2 * math.pi * pitch * n / RATE))
    return Hum(struct.pack(f"<{len(samples)}h", *samples), tuple(words))


# ---------------------------------------------------------------- the till


class Booth:
    """What was sold, in DIR/speech.sqlite3 and DIR/sales.jsonl, and who has which by the key that was sent."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            studio.folder / "speech.sqlite3", check_same_thread=False, isolation_level=None
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS line (id TEXT, key TEXT UNIQUE, asked TEXT, model TEXT, at REAL)"
        )

    def sell(self, model: str, asked: Mapping[str, Any], key: str = "") -> str:
        """Land the sale; the same key is one sale, where keys are honoured. The id of the line."""
        wanted, key = json.dumps(asked, sort_keys=True), key if self.studio.keys else ""
        with self._lock:
            known = self._database.execute("SELECT id, asked FROM line WHERE key = ?", (key or None,)).fetchone()
            if known:
                if known[1] != wanted:
                    raise Refusal(400, "Idempotency-Key was used for another request", "idempotency_key_reused")
                return str(known[0])
            sold = f"line_{secrets.token_hex(12)}"
            values = (sold, key or None, wanted, model, time.time())
            self._database.execute("INSERT INTO line VALUES (?, ?, ?, ?, ?)", values)
            sale = {"id": sold, "model": model, "seconds": "0", "size": "", "at": values[-1], "asked": asked}
            with (self.studio.folder / "sales.jsonl").open("a") as log:
                log.write(json.dumps(sale) + "\n")
                log.flush()
                os.fsync(log.fileno())
        return sold


_booths: dict[Studio, Booth] = {}
_opening = threading.Lock()


def booth(studio: Studio) -> Booth:
    """The studio's; opened by whoever asks first."""
    with _opening:
        if studio not in _booths:
            _booths[studio] = Booth(studio)
        return _booths[studio]


def spoken(
    desk: Desk, model: str, text: str, speed: float, asked: Mapping[str, Any], say: Callable[[Hum], None]
) -> str:
    """Sell a line and hum it; `say` answers. Takes as long as the server was told to. The id of the line."""
    started, studio = time.monotonic(), desk.server.studio
    time.sleep(random.uniform(0, studio.settle / 3))
    sold = booth(studio).sell(model, asked, desk.headers.get("Idempotency-Key", ""))
    line = hum(text, speed)
    time.sleep(max(0.0, started + studio.latency - time.monotonic()))
    say(line)
    return sold


# ---------------------------------------------------------------- as OpenAI


def serves(desk: Desk) -> bool:
    """Whether this file answers what `desk` was asked."""
    path = urllib.parse.urlsplit(desk.path).path
    return desk.command == "POST" and path.removeprefix(f"{desk.server.path}/") == "audio/speech"


BLOCKED = {
    "message": "Your request was rejected as a result of our safety system.",
    "type": "invalid_request_error",
    "param": None,
    "code": "content_policy_violation",
}


def act(desk: Desk) -> None:
    """Answer. Raises Refusal and Problem."""
    asked = object_in(desk.body())
    model, text, speed, form = ordered(asked)
    if "[moderated]" in text or "moderated" in desk.struck:
        raise Problem(400, {"error": BLOCKED})

    spoken(desk, model, text, speed, asked, lambda line: desk.send(200, coded(line, form), FORMATS[form][0]))


def coded(line: Hum, form: str) -> bytes:
    """The line in one of FORMATS."""
    wav = line.wav
    if form == "pcm":
        return line.pcm
    if form == "wav":  # as OpenAI's
        return wav[:4] + struct.pack("<I", STREAMED) + wav[8:40] + struct.pack("<I", STREAMED) + line.pcm
    with fresh_folder(Path(tempfile.gettempdir())) as folder:
        (folder / "line.wav").write_bytes(wav)
        run_ffmpeg(["-i", "line.wav", *FORMATS[form][1], "coded"], folder=folder)
        return (folder / "coded").read_bytes()


def ordered(asked: Mapping[str, Any]) -> tuple[str, str, float, str]:
    """Model, text, speed and format of a request. Raises Refusal where the real one would."""
    known = [presets.read("voices", name) for name in presets.names("voices")]
    models = {sheet["model"]: sheet for sheet in known if sheet.facts["provider"] in ("openai-speech", "sim-speech")}
    for name in ("model", "input", "voice"):
        if not isinstance(asked.get(name), str):
            raise Refusal(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    model, text, voice = asked["model"], asked["input"], asked["voice"]
    if model not in models:
        raise Refusal(404, f"The model `{model}` does not exist or you do not have access to it.", "model_not_found")
    sheet = models[model]
    if not text.split():
        raise Refusal(400, "Invalid 'input': string too short.", "string_below_min_length", "input")
    if len(text) > sheet["characters"]:
        message = f"Invalid 'input': string too long. Expected a string with maximum length {sheet['characters']}"
        raise Refusal(400, message, "string_above_max_length", "input")
    if model != "sim" and voice not in sheet["voices"]:
        raise Refusal(
            400, f"Invalid value: '{voice}'. Supported: {', '.join(sheet['voices'])}.", "invalid_value", "voice"
        )
    speed, form = asked.get("speed", 1.0), asked.get("response_format", "mp3")
    if not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
        raise Refusal(400, "Invalid 'speed': expected a value between 0.25 and 4.0.", "invalid_value", "speed")
    if form not in FORMATS:
        message = f"Invalid value: '{form}'. Supported values are: {', '.join(FORMATS)}."
        raise Refusal(400, message, "invalid_value", "response_format")
    return model, text, float(speed), form


# ---------------------------------------------------------------- as others (elevenlabs.py, azure_speech.py, ...)


def serve(description: str, desk: type[Desk], path: str, arguments: list[str] | None) -> None:
    """Serve `desk` below `path`. None of these sellers honours a key, so `--ignore-keys` changes nothing."""
    parser = options(description)
    parser.add_argument("--ignore-keys", action="store_true", help="do not honour Idempotency-Key (it never does)")
    given = parser.parse_args(arguments)
    trouble = faults.given(given.fault)
    run(Server(given.port, opened(given, trouble, keys=False), desk, path, trouble))
