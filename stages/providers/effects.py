"""ElevenLabs' sounds: `/v1/sound-generation` for effects, `/v1/music` for music; the answer is the sound.

The fields are those of elevenlabs 2.78.0 (PyPI), text_to_sound_effects/raw_client.py
and music/raw_client.py. MP3 is asked for, which every plan may have and which
alone music is signed in (`sign_with_c2pa`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from stages.errors import InputError
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.handover import Handover, Link
from stages.providers.speech import sound

LENGTH = "length"
"""The option of a request that says how long the sound shall be, in seconds; its `seconds` are 0, as a film's
are not."""


@dataclass(frozen=True, slots=True)
class Effects(Handover):
    """One account at ElevenLabs, or at what ELEVENLABS_BASE_URL or `base_url` name. Its API keeps no list and
    promises nothing of keys."""

    url_variables: ClassVar[tuple[str, ...]] = ("ELEVENLABS_BASE_URL",)
    usual_url: ClassVar[str] = "https://api.elevenlabs.io/v1"
    key_header: ClassVar[str] = "xi-api-key"
    key_prefix: ClassVar[str] = ""

    key_variable: str = "ELEVENLABS_API_KEY"
    name: str = "elevenlabs-sounds"
    patience: float = 240.0
    settle: float = 300.0

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one sound made. Raises InputError before anything is sent for what is neither foley nor score."""
        place, fields = said(request)
        headers = {"Idempotency-Key": key}
        answer = ask(self.service, "POST", place, data=fields, headers=headers)
        return sound(checked(self.service, answer).body, self.name)


def said(request: VideoRequest) -> tuple[str, dict[str, Any]]:
    """Where to send a request for a sound, and its fields."""
    length = Fraction(dict(request.options)[LENGTH])
    if request.work == "foley":
        told: dict[str, Any] = {"text": request.prompt, "duration_seconds": round(float(length), 1)}
        return "sound-generation?output_format=mp3_44100_128", {**told, "model_id": request.model}
    if request.work == "score":
        told = {"prompt": request.prompt, "music_length_ms": round(length * 1000), "force_instrumental": True}
        signed = {"sign_with_c2pa": True}
        return "music?output_format=mp3_44100_128", {**told, "model_id": request.model, **signed}
    raise InputError(f"makes sounds, and cannot {request.work}", "model")


@dataclass(frozen=True, slots=True)
class SimulatedEffects(Effects):
    """The simulator's sounds: no key, no money, and its ledger account is `sim` whatever port it has."""

    key_variable: str = ""
    name: str = "sim-sounds"
    account: str = "sim"
    send_within: float = 2.5
    patience: float = 30.0
    settle: float = 33.0
    poll: float = 0.25
