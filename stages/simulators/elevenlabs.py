"""A server that stands for ElevenLabs: `python -m stages.simulators.elevenlabs --port N --state DIR`.

It speaks `/v1/text-to-speech/{voice}`, also `/with-timestamps`, as elevenlabs
2.78.0 does, and hums (`stages/simulators/speech.py`). Any key will do, any
voice whose id looks like one; `[moderated]` in a line is refused. Errors are
those of help.elevenlabs.io, "API - Error Code 400 or 401".
"""

from __future__ import annotations

import base64
import re
import secrets
import urllib.parse
from collections.abc import Mapping
from typing import Any

import presets
from stages.simulators.desk import Desk, object_in
from stages.simulators.speech import Hum, coded, serve, spoken
from stages.simulators.studio import Refusal

MODELS = {
    presets.read("voices", name)["model"]: presets.read("voices", name) for name in ("elevenlabs", "elevenlabs-flash")
}
FORMATS = {"mp3_44100_128": "mp3", "pcm_24000": "pcm", "wav_24000": "wav"}
"""What the simulator sells."""

DEARER = ("pcm_44100", "mp3_44100_192")
"""What needs another plan than it pretends to have."""


class ElevenLabsDesk(Desk):
    """One connection."""

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """`{"detail": {"status", "message"}}`"""
        code = "too_many_concurrent_requests" if refusal.status == 429 else refusal.body["code"]
        return {"detail": {"status": code or "invalid_request", "message": str(refusal)}}

    def act(self) -> None:
        """Speak a line, as sound or as JSON with the time of each character."""
        address = urllib.parse.urlsplit(self.path)
        found = re.fullmatch(r"/v1/text-to-speech/([^/]+)(/with-timestamps)?", address.path)
        asked = object_in(self.body()) if self.command == "POST" else {}
        if not self.headers.get("xi-api-key"):
            raise Refusal(401, "Invalid API key", "invalid_api_key")
        if not found or self.command != "POST":
            raise Refusal(404, "Not Found", "not_found")
        voice, form = urllib.parse.unquote(found[1]), dict(urllib.parse.parse_qsl(address.query)).get("output_format")
        model, text, speed, form = ordered(voice, asked, form or "mp3_44100_128")
        headers = {"request_id": secrets.token_hex(10), "character_cost": str(len(text))}
        if "[moderated]" in text or "moderated" in self.struck:
            message = "Our classifier flagged this text as violating our terms of use (content policy)."
            raise Refusal(400, message, "content_against_policy")

        def say(line: Hum) -> None:
            content = coded(line, FORMATS[form])
            if not found[2]:
                return self.send(200, content, "audio/mpeg" if form.startswith("mp3") else "audio/pcm", **headers)
            characters, starts, ends = line.characters(text)
            times = {"character_start_times_seconds": starts, "character_end_times_seconds": ends}
            alignment = {"characters": characters, **times}
            body = {"audio_base64": base64.b64encode(content).decode(), "alignment": alignment}
            return self.say(200, {**body, "normalized_alignment": alignment}, **headers)

        spoken(self, model, text, speed, {"voice": voice, **asked}, say)


def ordered(voice: str, asked: Mapping[str, Any], form: str) -> tuple[str, str, float, str]:
    """Model, text, speed and format. Raises Refusal where the real one would."""
    model, text = str(asked.get("model_id", "eleven_multilingual_v2")), asked.get("text")
    speed = (asked.get("voice_settings") or {}).get("speed") or 1.0
    if not isinstance(text, str):
        raise Refusal(422, "Field required: text", "missing")
    if not re.fullmatch(r"\w{20}", voice):
        raise Refusal(404, f"A voice with the voice_id {voice} was not found.", "voice_not_found")
    if model not in MODELS:
        raise Refusal(400, f"A model with model ID {model} does not exist ...", "model_not_found")
    if not text.split():
        raise Refusal(400, "Text must not be empty.", "empty_text")
    most = MODELS[model]["characters"]
    if len(text) > most:
        message = (
            f"This request's text has {len(text)} characters and exceeds the character limit of {most} characters."
        )
        raise Refusal(400, message, "max_character_limit_exceeded")
    if not isinstance(speed, int | float) or not 0.7 <= speed <= 1.2:
        raise Refusal(400, "Invalid setting for speed received, expected 0.7 to 1.2.", "invalid_voice_settings")
    if form in DEARER:
        raise Refusal(403, f"Output format {form} is not in your subscription.", "output_format_not_allowed")
    if form not in FORMATS:
        raise Refusal(400, f"The simulator sells {', '.join(FORMATS)}, not {form}.", "invalid_output_format")
    return model, text, float(speed), form


def main(arguments: list[str] | None = None) -> None:
    """Stand for ElevenLabs."""
    serve("Stand for ElevenLabs' text to speech.", ElevenLabsDesk, "/v1", arguments)


if __name__ == "__main__":
    main()
