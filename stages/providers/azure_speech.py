"""Speech by Azure: SSML goes to the endpoint of a region, a WAV comes back.

As learn.microsoft.com has it, "Text to speech REST API". When words sound it
does not say there. The text is data: it is escaped, and no SSML of the
author's gets through. What would be longer than 10 minutes is cut without a word.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from stages.errors import InputError
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.handover import Handover, Link
from stages.providers.speech import sound

FORMAT = "riff-24khz-16bit-mono-pcm"
NAMESPACE = "http://www.w3.org/2001/10/synthesis"


@dataclass(frozen=True, slots=True)
class AzureSpeech(Handover):
    """One Speech resource, in the region that AZURE_SPEECH_REGION names, unless `base_url` says where."""

    key_header = "Ocp-Apim-Subscription-Key"
    key_prefix = ""

    key_variable: str = "AZURE_SPEECH_KEY"
    name: str = "azure-speech"
    patience: float = 300.0
    settle: float = 360.0

    def address(self) -> str:
        """Raises InputError if nobody says which region."""
        region = os.environ.get("AZURE_SPEECH_REGION", "").strip().lower()
        if self.base_url or re.fullmatch(r"[a-z0-9]+", region):
            return self.base_url or f"https://{region}.tts.speech.microsoft.com/cognitiveservices"
        raise InputError("AZURE_SPEECH_REGION should name the region of the resource, such as westeurope")

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one line spoken: options `voice`, `language` and `speed`."""
        headers = {
            "Content-Type": "application/ssml+xml",
            "X-Microsoft-OutputFormat": FORMAT,
            "User-Agent": "afterframe",  # without one it is refused
        }
        answer = ask(self.service, "POST", "v1", content=ssml(request).encode(), headers=headers)
        return sound(checked(self.service, answer).body, self.name)


def ssml(request: VideoRequest) -> str:
    """The line as the service reads it. Speed is a change in percent; that counts as characters, so 1 says nothing."""
    said = dict(request.options)
    locale = re.match(r"[a-z]{2,3}-[A-Z]{2}", said["voice"])
    text, percent = escape(request.prompt), (float(said.get("speed", 1)) - 1) * 100
    if percent:
        text = f'<prosody rate="{percent:+.0f}%">{text}</prosody>'
    language = quoteattr(locale[0] if locale else said.get("language", "en"))
    voice = quoteattr(said["voice"])
    return f'<speak version="1.0" xmlns="{NAMESPACE}" xml:lang={language}><voice name={voice}>{text}</voice></speak>'
