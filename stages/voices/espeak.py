"""The voice `espeak`: espeak-ng, robotic, in a hundred languages, with its own word times.

It is GPL, so it comes with an extra of its own and speaks in a child process:
`python -m stages.voices.espeak` reads one request as JSON and answers with a
line of JSON and PCM. espeak-ng is global state that is not safe for threads;
a process for each line (0.1 s) is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stages.clip import Word
from stages.errors import InputError, ProviderUnavailable
from stages.ffmpeg import CHILD
from stages.voices import ESPEAK_LANGUAGES, Speech, SpeechRequest, Timing, check_language, espeak_language, share

PACE = 175
"""Words a minute at speed 1, espeak-ng's own default; it takes 80 to 450."""

SLOWEST, FASTEST = 0.5, 2.5
QUIET = 100
"""Of 32768: under it a sample is silence. espeak-ng pads with zeros."""

PATIENCE = 60.0
"""Seconds for a line; measured: 150 times faster than real time."""


class Espeak:
    """espeak-ng's own voice for each language."""

    name = "espeak"
    languages = tuple(name.lower() for name in ESPEAK_LANGUAGES)
    trained = False  # rules and formants

    @property
    def version(self) -> str:
        """`espeakng-loader 0.2.4`, or the name alone where it is not installed."""
        try:
            return f"espeakng-loader {version('espeakng-loader')}"
        except PackageNotFoundError:
            return "espeakng-loader"

    def check(self, request: SpeechRequest) -> None:
        """Raises InputError for a language it lacks, nothing to say, a speed outside 0.5 to 2.5, and where
        espeakng-loader is not installed."""
        if not espeak_language(request.language):
            check_language(self, request.language)
        if not any(letter.isalnum() for letter in request.text):
            raise InputError(f"there is nothing to speak in '{request.text}'", "text")
        if not SLOWEST <= request.speed <= FASTEST:
            raise InputError(f"voice espeak speaks at {SLOWEST:g} to {FASTEST:g} times its pace", "speed")
        if importlib.util.find_spec("espeakng_loader") is None:
            raise InputError("voice espeak needs espeakng-loader (GPL): pip install 'afterframe[espeak]'", "voice")

    def speak(self, request: SpeechRequest) -> Speech:
        """Speak `request`, the same each time. Raises as `check`, and ProviderUnavailable if the child died."""
        self.check(request)
        asked = {"text": request.text, "language": espeak_language(request.language), "speed": request.speed}
        launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
        # Not -m: a child started in somebody's folder would import what lies there.
        child = [sys.executable, "-P", "-c", "from stages.voices.espeak import serve; serve()"]
        done = subprocess.run(
            [*launcher, *child], input=json.dumps(asked).encode(), capture_output=True, timeout=PATIENCE
        )
        head, _, pcm = done.stdout.partition(b"\n")
        if done.returncode or not pcm:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ProviderUnavailable(f"voice espeak broke down: {said[-1] if said else 'it said nothing'}")
        told = json.loads(head)
        words, timing = _words(request.text, told["words"], told["rate"], len(pcm) // 2)
        return Speech(pcm, told["rate"], words, timing, f"{self.version} espeak {asked['language']}")


espeak = Espeak()


def _words(text: str, heard: Sequence[Sequence[int]], rate: int, samples: int) -> tuple[tuple[Word, ...], Timing]:
    """The words as written, from what espeak-ng says of characters and samples; shared out if it missed one."""
    end, written, starts, at = Fraction(samples, rate), text.split(), [], 0
    for word in written:
        at = text.index(word, at)
        inside = [sample for position, sample in heard if at <= position - 1 < at + len(word)]
        starts.append(Fraction(max(0, min(inside)), rate) if inside else None)
        at += len(word)
    known = [start for start in starts if start is not None]
    if len(known) < len(starts) or known != sorted(known):
        return share(written, Fraction(0), end), "proportional"
    ends = [*known[1:], end]
    return tuple(Word(*each) for each in zip(written, known, ends, strict=True)), "exact"


# ---------------------------------------------------------------- the child's half


def serve() -> None:
    """Speak the request on stdin."""
    request = json.load(sys.stdin)
    rate, samples, words = _spoken(request["text"], request["language"], round(PACE * request["speed"]))
    first = next((i for i, sample in enumerate(samples) if abs(sample) > QUIET), 0)
    last = next((i for i, sample in enumerate(reversed(samples)) if abs(sample) > QUIET), 0)
    heard = [(position, at - first) for position, at in words]
    sys.stdout.buffer.write(json.dumps({"rate": rate, "words": heard}).encode() + b"\n")
    sys.stdout.buffer.write(samples[first : len(samples) - last].tobytes())


def _spoken(text: str, language: str, pace: int) -> tuple[int, array[int], list[tuple[int, int]]]:
    """The sample rate, the samples, and each word's first character (from 1) with its sample (speak_lib.h)."""
    import ctypes  # noqa: PLC0415 -- the child alone

    import espeakng_loader  # noqa: PLC0415 -- GPL: never in the parent

    class Event(ctypes.Structure):
        _fields_ = (
            ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
            ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
            ("user_data", ctypes.c_void_p), ("id", ctypes.c_char * 8),
        )  # fmt: skip

    samples: array[int] = array("h")
    words: list[tuple[int, int]] = []
    receiver = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))

    def receive(wave: Any, count: int, events: Any) -> int:
        index = 0
        while events[index].type:  # 0 ends the list, 1 is a word
            if events[index].type == 1:
                words.append((events[index].text_position, events[index].audio_position * rate // 1000))
            index += 1
        if wave and count:
            samples.extend(wave[:count])
        return 0

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    retrieval, dont_exit, utf8, rate_parameter = 1, 0x8000, 1, 1
    rate: int = library.espeak_Initialize(retrieval, 0, espeakng_loader.get_data_path().encode(), dont_exit)
    callback = receiver(receive)  # kept, or it is collected while the library calls it
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(language.encode()):
        sys.exit(f"espeak-ng has no voice for {language}")
    library.espeak_SetParameter(rate_parameter, pace, 0)
    said = text.encode()
    library.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, 0, 0, utf8, None, None)
    library.espeak_Synchronize()
    return rate, samples, words
