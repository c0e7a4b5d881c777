"""Speech over the OpenAI protocol: `/v1/audio/speech`, whose answer is the sound.

Spoken by OpenAI and by many servers of one's own (Kokoro-FastAPI, fastkokoro,
LocalAI, vLLM-Omni). The fields are those of openai-python 3.x,
types/audio/speech_create_params.py. A WAV is asked for, since it says its own
rate; whatever sound comes is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.errors import ProviderUnavailable
from stages.filetypes import HEAD, filetype_of
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.handover import Handover, Link


@dataclass(frozen=True, slots=True)
class Speech(Handover):
    """One account at a server that speaks the protocol; OpenAI's, unless OPENAI_BASE_URL or `base_url` say otherwise.

    `patience`: tts-1 took 46 s for 4096 characters (github.com/sanand0/blog, openai-tts-cost.md).
    """

    url_variables = ("OPENAI_BASE_URL",)
    usual_url = "https://api.openai.com/v1"

    key_variable: str = "OPENAI_API_KEY"
    name: str = "openai-speech"
    patience: float = 300.0
    settle: float = 360.0

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one line spoken: options `voice` and `speed`. `speed` 1 is not sent: some servers know none."""
        said = dict(request.options)
        fields: dict[str, Any] = {"model": request.model, "input": request.prompt, "voice": said["voice"]}
        if float(said.get("speed", 1)) != 1:
            fields["speed"] = float(said["speed"])
        fields["response_format"] = "wav"
        answer = ask(self.service, "POST", "audio/speech", data=fields, headers={"Idempotency-Key": key})
        return sound(checked(self.service, answer).body, self.name)


def sound(body: bytes, name: str) -> bytes:
    """`body`, if it is a file of sound. Raises ProviderUnavailable if not: it may have been paid all the same."""
    kind = filetype_of(body[:HEAD])
    if kind is None or not kind.media_type.startswith("audio/"):
        raise ProviderUnavailable(f"{name} answered without a sound", "transient", "no_sound")
    return body


@dataclass(frozen=True, slots=True)
class SimulatedSpeech(Speech):
    """The simulator's voice: no key, no money, and its ledger account is `sim` whatever port it has."""

    key_variable: str = ""
    name: str = "sim-speech"
    account: str = "sim"
    send_within: float = 5.0
    patience: float = 30.0
    settle: float = 36.0
    poll: float = 0.25
