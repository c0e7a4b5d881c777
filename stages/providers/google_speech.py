"""Speech by Google Cloud: `v1beta1/text:synthesize`, with a mark before each word whose time comes back.

As cloud.google.com has it, "Method: text.synthesize". Kept is a WAV that
holds the words (`stages/voices/sounds.py`). No marks are made for the voices
that know none (Chirp 3), nor where they would make the request too long.
The text is data: it is escaped, and no SSML of the author's gets through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from xml.sax.saxutils import escape

from stages.clip import Word
from stages.http import ask, checked
from stages.providers import VideoRequest
from stages.providers.elevenlabs import decoded
from stages.providers.handover import Handover, Link
from stages.voices.sounds import pcm_of, voiced, wav_of

LONGEST = 5000
"""Bytes of a request's input. Source: docs.cloud.google.com/text-to-speech/quotas, content limits."""

UNMARKED = re.compile("Chirp|Studio|Journey")
"""Voices that read no `<mark>`. Source: docs.cloud.google.com/text-to-speech, notes to the types of voices."""


@dataclass(frozen=True, slots=True)
class GoogleSpeech(Handover):
    """One project at Google Cloud, by an API key."""

    usual_url = "https://texttospeech.googleapis.com/v1beta1"
    key_header = "x-goog-api-key"
    key_prefix = ""

    key_variable: str = "GOOGLE_API_KEY"
    name: str = "google-speech"
    patience: float = 300.0
    settle: float = 360.0

    def order(self, request: VideoRequest, key: str) -> bytes | Link:
        """Have one line spoken: options `voice`, `language` and `speed`."""
        answer = ask(
            self.service, "POST", "/text:synthesize", data=fields(request)
        )  # without a slash `text:` is a scheme
        return told(checked(self.service, answer).data(), request.prompt)


def fields(request: VideoRequest) -> dict[str, Any]:
    """The body of a request."""
    said, marked = dict(request.options), ssml(request.prompt)
    locale = re.match(r"[a-z]{2,3}-[A-Z]{2}", said["voice"])
    sound: dict[str, Any] = {"audioEncoding": "LINEAR16"}
    if float(said.get("speed", 1)) != 1:
        sound["speakingRate"] = float(said["speed"])
    body: dict[str, Any] = {
        "input": {"text": request.prompt},
        "voice": {"languageCode": locale[0] if locale else said.get("language", "en"), "name": said["voice"]},
        "audioConfig": sound,
    }
    if len(marked.encode()) <= LONGEST and not UNMARKED.search(said["voice"]):
        body |= {"input": {"ssml": marked}, "enableTimePointing": ["SSML_MARK"]}
    return body


def ssml(text: str) -> str:
    """The line with a mark before each word."""
    words = (f'<mark name="{number}"/>{escape(word)}' for number, word in enumerate(text.split()))
    return f"<speak>{' '.join(words)}</speak>"


def told(answer: Mapping[str, Any], text: str) -> bytes:
    """The sound in an answer, with the words of `text` if all their marks are told.

    Raises ProviderUnavailable if there is no sound: it may have been paid all the same.
    """
    content = decoded(answer.get("audioContent"), "google-speech")
    if (found := pcm_of(content)) is None:
        return content  # whatever it is, it was paid
    pcm, rate = found
    try:
        starts = {int(point["markName"]): float(point["timeSeconds"]) for point in answer.get("timepoints", ())}
    except (TypeError, KeyError, ValueError):
        starts = {}
    return wav_of(pcm, rate, _words(text.split(), starts, Fraction(voiced(pcm, rate)[1], rate)))


def _words(texts: Sequence[str], starts: Mapping[int, float], end: Fraction) -> tuple[Word, ...]:
    """Each from its mark to the next; the last to the `end`. None if a mark is missing or out of order."""
    if sorted(starts) != list(range(len(texts))):
        return ()
    edges = [Fraction(max(0, round(starts[number] * 1000)), 1000) for number in range(len(texts))]
    edges.append(max(end, edges[-1]))
    if edges != sorted(edges):
        return ()
    return tuple(Word(text, edges[number], edges[number + 1]) for number, text in enumerate(texts))
