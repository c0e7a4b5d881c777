"""A server that stands for Azure's voices: `python -m stages.simulators.azure_speech --port N --state DIR`.

It reads SSML at `/cognitiveservices/v1` and hums (`stages/simulators/speech.py`).
Status codes are those of learn.microsoft.com, "Text to speech REST API". Any
key will do, any voice whose name looks like one. As the real one it cuts what
would be longer than 10 minutes, without a word.
"""

from __future__ import annotations

import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import presets
from stages.providers.azure_speech import NAMESPACE
from stages.simulators.desk import Desk
from stages.simulators.speech import RATE, Hum, coded, serve, spoken
from stages.simulators.studio import Refusal

FORMATS = {
    "riff-24khz-16bit-mono-pcm": ("wav", "audio/x-wav"),
    "raw-24khz-16bit-mono-pcm": ("pcm", "audio/basic"),
    "audio-24khz-48kbitrate-mono-mp3": ("mp3", "audio/mpeg"),
}
"""What the simulator sells, and its media types."""

LONGEST = 600
"""Seconds of sound in an answer."""


class AzureDesk(Desk):
    """One connection."""

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As the gateway before the service spells it."""
        return {"error": {"code": str(refusal.status), "message": str(refusal)}}

    def act(self) -> None:
        """Speak what the SSML says."""
        body = self.body()
        if urllib.parse.urlsplit(self.path).path != "/cognitiveservices/v1" or self.command != "POST":
            raise Refusal(404, "Resource not found")
        if not (self.headers.get("Ocp-Apim-Subscription-Key") or self.headers.get("Authorization")):
            raise Refusal(401, "Access denied due to invalid subscription key or wrong API endpoint.")
        if self.headers.get_content_type() != "application/ssml+xml":
            raise Refusal(415, "Unsupported media type")
        form = self.headers.get("X-Microsoft-OutputFormat", "")
        try:
            if form not in FORMATS or not self.headers.get("User-Agent"):
                raise ValueError("A required parameter is missing, empty, or null.")
            voice, text, speed = read(body)
        except ValueError as wrong:
            return self.send(400, str(wrong).encode(), "text/plain")
        if "[moderated]" in text or "moderated" in self.struck:
            return self.send(400, b"The text violates the content policy.", "text/plain")

        def say(line: Hum) -> None:
            whole, (kind, media_type) = cut(line), FORMATS[form]
            self.send(200, whole.wav if kind == "wav" else coded(whole, kind), media_type)

        spoken(self, "neural", text, speed, {"voice": voice, "text": text, "ssml": body.decode()}, say)
        return None


def cut(line: Hum, seconds: int = LONGEST) -> Hum:
    """No more of the line than an answer may hold."""
    return replace(line, pcm=line.pcm[: 2 * RATE * seconds])


def read(body: bytes) -> tuple[str, str, float]:
    """The voice, the text and the speed in SSML. Raises ValueError for what the service would not speak."""
    try:
        root = ET.fromstring(body)
    except ET.ParseError as error:
        raise ValueError(f"SSML parsing error: {error}") from None
    voice = root.find(f"{{{NAMESPACE}}}voice")
    if root.tag != f"{{{NAMESPACE}}}speak" or voice is None or not root.get("version"):
        raise ValueError("SSML must have speak and voice elements.")
    name, text = voice.get("name", ""), "".join(voice.itertext())
    if not any(re.fullmatch(each, name) for each in presets.read("voices", "azure")["voices"]):
        raise ValueError(f"Unsupported voice {name}.")
    if not text.split():
        raise ValueError("SSML holds no text.")
    prosody = voice.find(f"{{{NAMESPACE}}}prosody")
    rate = re.fullmatch(r"([+-]\d+(?:\.\d+)?)%", prosody.get("rate", "") if prosody is not None else "")
    return name, text, 1 + float(rate[1]) / 100 if rate else 1.0


def main(arguments: list[str] | None = None) -> None:
    """Stand for Azure AI Speech."""
    serve("Stand for Azure's text to speech.", AzureDesk, "/cognitiveservices", arguments)


if __name__ == "__main__":
    main()
