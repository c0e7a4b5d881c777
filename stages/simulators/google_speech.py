"""A server that stands for Google's voices: `python -m stages.simulators.google_speech --port N --state DIR`.

It speaks `text:synthesize` of v1 and v1beta1, as google-cloud-texttospeech
2.38.0 does over REST, and hums (`stages/simulators/speech.py`). Any key will
do, any voice whose name looks like one. Only v1beta1 tells when a mark came,
and only voices that know marks.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

import presets
from stages.providers.google_speech import LONGEST, UNMARKED
from stages.simulators.desk import Desk, object_in
from stages.simulators.speech import Hum, coded, serve, spoken
from stages.simulators.studio import Refusal

WORDS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
ENCODINGS = {"LINEAR16": "wav", "1": "wav", "MP3": "mp3", "2": "mp3"}
"""What the simulator sells, by name and by the number that protobuf has for it."""


class GoogleDesk(Desk):
    """One connection."""

    def error(self, refusal: Refusal) -> Mapping[str, Any]:
        """As Google's front door spells it."""
        word = WORDS.get(refusal.status, "INTERNAL")
        return {"error": {"code": refusal.status, "message": str(refusal), "status": word}}

    def act(self) -> None:
        """Speak."""
        address, body = urllib.parse.urlsplit(self.path), self.body()
        version = re.fullmatch(r"/(v1|v1beta1)/text:synthesize", address.path)
        if not version or self.command != "POST":
            raise Refusal(404, f"Method not found: {self.command} {address.path}")
        shown = self.headers.get("x-goog-api-key") or self.headers.get("Authorization")
        if not shown and "key" not in dict(urllib.parse.parse_qsl(address.query)):
            raise Refusal(403, "The request is missing a valid API key.")
        asked = object_in(body)
        marked, encoding, speed, voice = ordered(asked)
        text = " ".join(word for word, _ in marked)
        if "[moderated]" in text or "moderated" in self.struck:
            raise Refusal(400, "The input text violates the content policy.")
        wanted = {str(each) for each in asked.get("enableTimePointing", ())} & {"SSML_MARK", "1"}

        def say(line: Hum) -> None:
            content = line.wav if encoding == "wav" else coded(line, encoding)
            said: dict[str, Any] = {"audioContent": base64.b64encode(content).decode()}
            if version[1] == "v1beta1":
                heard = zip(line.words, marked, strict=True)
                marks = [{"markName": m, "timeSeconds": round(float(w.start), 3)} for w, (_, ms) in heard for m in ms]
                said |= {"audioConfig": asked["audioConfig"]}
                said |= {"timepoints": marks} if wanted and not UNMARKED.search(voice) else {}
            self.say(200, said)

        spoken(self, "text-to-speech", text, speed, asked, say)


Marked = list[tuple[str, tuple[str, ...]]]
"""Words, each with the marks right before it."""


def ordered(asked: Mapping[str, Any]) -> tuple[Marked, str, float, str]:
    """Marked words, encoding, speed and voice. Raises Refusal where the real one would."""
    given, voice, sound = (asked.get(name) or {} for name in ("input", "voice", "audioConfig"))
    text, ssml = str(given.get("text", "")), str(given.get("ssml", ""))
    if bool(text) == bool(ssml):
        raise Refusal(400, "Either `input.text` or `input.ssml` should be set.")
    if len((text or ssml).encode()) > LONGEST:
        raise Refusal(400, f"Either `input.text` or `input.ssml` is longer than the limit of {LONGEST} bytes.")
    if not voice.get("languageCode"):
        raise Refusal(400, "`voice.languageCode` is required.")
    name = str(voice.get("name") or "en-US-Neural2-F")
    if not any(re.fullmatch(each, name) for each in presets.read("voices", "google")["voices"]):
        raise Refusal(400, f"Voice '{name}' does not exist. Is it misspelled?")
    if not name.startswith(voice["languageCode"]):
        raise Refusal(
            400, f"Requested language code '{voice['languageCode']}' doesn't match the voice '{name}'s language code."
        )
    encoding, speed = str(sound.get("audioEncoding", "")), sound.get("speakingRate") or 1.0
    if encoding not in ENCODINGS:
        raise Refusal(400, "Request contains an invalid argument.")
    if not isinstance(speed, int | float) or not 0.25 <= speed <= 2:
        raise Refusal(400, "`audio_config.speaking_rate` must be in [0.25, 2.0].")
    try:
        marked: Marked = list(_marked(ET.fromstring(ssml))) if ssml else [(word, ()) for word in text.split()]
    except ET.ParseError:
        raise Refusal(400, "Invalid SSML. Newer voices like Neural2 require valid SSML.") from None
    if not marked:
        raise Refusal(400, "Request contains an invalid argument.")
    return marked, ENCODINGS[encoding], float(speed), name


def _marked(root: ET.Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    marks: tuple[str, ...] = ()
    for element in root.iter():
        marks += (element.get("name", ""),) if element.tag == "mark" else ()
        for word in f"{element.text or ''} {element.tail or ''}".split():
            yield word, marks
            marks = ()


def main(arguments: list[str] | None = None) -> None:
    """Stand for Google Cloud Text-to-Speech."""
    serve("Stand for Google's text to speech.", GoogleDesk, "/v1beta1", arguments)


if __name__ == "__main__":
    main()
