"""Speech by ElevenLabs: `/v1/text-to-speech/{voice}/with-timestamps`, whose answer says when each character sounds.

As elevenlabs 2.78.0 speaks it (text_to_speech/raw_client.py). Kept is a WAV
that holds the words (`stages/voices/sounds.py`). `voice_settings` are only
sent for another speed: they override those that are stored with the voice.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.clip import Word
from stages.errors import ProviderUnavailable
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.handover import Handover, Link
from stages.voices.sounds import wav_of

RATE = 24_000
"""Hertz; `pcm_44100` needs a dearer plan (facts/audio.md 2)."""


@dataclass(frozen=True, slots=True)
class ElevenLabs(Handover):
    """One account at ElevenLabs."""

    usual_url = "https://api.elevenlabs.io/v1"
    key_header = "xi-api-key"
    key_prefix = ""

    key_variable: str = "ELEVENLABS_API_KEY"
    name: str = "elevenlabs"
    patience: float = 300.0
    settle: float = 360.0

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one line spoken: options `voice` and `speed`."""
        said = dict(request.options)
        fields: dict[str, Any] = {"text": request.prompt, "model_id": request.model}
        if float(said.get("speed", 1)) != 1:
            fields["voice_settings"] = {"speed": float(said["speed"])}
        path = f"text-to-speech/{urllib.parse.quote(said['voice'], safe='')}/with-timestamps"
        answer = ask(self.service, "POST", path, query={"output_format": f"pcm_{RATE}"}, data=fields)
        return told(checked(self.service, answer).data(), request.prompt)


def told(answer: Mapping[str, Any], text: str) -> bytes:
    """The sound in an answer, as a WAV with the words that it tells; without them if it does not tell those of `text`.

    Raises ProviderUnavailable if there is no sound: it may have been paid all the same.
    """
    pcm = decoded(answer.get("audio_base64"), "elevenlabs")
    alignment: Any = answer.get("alignment")
    try:
        words = words_in(
            alignment["characters"],
            alignment["character_start_times_seconds"],
            alignment["character_end_times_seconds"],
        )
    except (TypeError, KeyError, ValueError):
        words = ()
    return wav_of(pcm, RATE, words if [word.text for word in words] == text.split() else ())


def decoded(encoded: object, name: str) -> bytes:
    """The bytes in base64. Raises ProviderUnavailable if there are none: they may have been paid all the same."""
    try:
        found = base64.b64decode(str(encoded or ""), validate=True)
    except ValueError:
        found = b""
    if not found:
        raise ProviderUnavailable(f"{name} answered without a sound", "transient", "no_sound")
    return found


def words_in(characters: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> tuple[Word, ...]:
    """What stands between spaces, from the start of its first character to the end of its last; whole milliseconds."""
    text = "".join(characters)
    if not len(text) == len(characters) == len(starts) == len(ends):
        raise ValueError("a character each")
    return tuple(
        Word(
            word[0], _seconds(starts[word.start()]), max(_seconds(starts[word.start()]), _seconds(ends[word.end() - 1]))
        )
        for word in re.finditer(r"\S+", text)
    )


def _seconds(said: float) -> Fraction:
    return Fraction(max(0, round(float(said) * 1000)), 1000)
