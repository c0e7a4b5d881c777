"""The voice `piper:FILE`: a neural voice of one's own, spoken by Piper, in some forty languages.

FILE is an ONNX model (`en_US-amy-medium.onnx`) with its JSON beside it
(`en_US-amy-medium.onnx.json`), as https://huggingface.co/rhasspy/piper-voices
has them, each under a licence of its own. What it speaks is read off the JSON.

Piper is GPL, so it comes with an extra of its own and speaks in a child
process, which alone imports it. Word times are those of the model's phonemes;
by the characters where a model does not tell them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages.clip import Word
from stages.errors import InputError, ProviderUnavailable
from stages.ffmpeg import CHILD
from stages.voices import Speech, SpeechRequest, Timing, check_language, check_latin, share
from stages.voices.hibari import PUNCTUATION, Span, joined, shared_spans, trimmed
from stages.voices.models import VoiceModel
from stages.voices.sounds import voiced

SLOWEST, FASTEST = 0.5, 2.0
"""Times its own pace: the model's length scale divided by it. Ours to choose, as `heart` has it."""

ALPHABETS = ("espeak", "text")
"""Kinds of phonemes that need nothing but piper-tts; for others it wants packages, or downloads (1.8.0)."""

PATIENCE = 120.0
"""Seconds, and one more for every ten characters, after which a child that has not answered hangs. A model of
60 MB was loaded in 6 s and spoke three times faster than real time, on two cores."""


@dataclass(frozen=True, slots=True)
class Piper:
    """A model, spoken by Piper. What is registered is without one, and says what it needs."""

    model: Path | None = None
    trained = True

    def with_model(self, file: Path) -> Piper:
        """The voice in `file`."""
        return Piper(file)

    @property
    def name(self) -> str:
        """`piper:en_US-amy-medium.onnx`."""
        return f"piper:{self.model.name}" if self.model else "piper"

    @property
    def version(self) -> str:
        """`piper-tts 1.8.0`, or the name alone where it is not installed."""
        try:
            return f"piper-tts {version('piper-tts')}"
        except PackageNotFoundError:
            return "piper-tts"

    @property
    def languages(self) -> tuple[str, ...]:
        """`en-us` and `en`, as the JSON says; none where that cannot be read."""
        try:
            return _languages(self._config())
        except InputError:
            return ()

    def check(self, request: SpeechRequest) -> None:
        """Raises InputError where piper-tts is not installed, for a model or JSON that is missing or not Piper's,
        another language, nothing to say, and a speed outside 0.5 to 2."""
        if importlib.util.find_spec("piper") is None:
            raise InputError("voice piper needs piper-tts (GPL): pip install 'afterframe[piper]'", "voice")
        languages = _languages(self._config())
        check_language(self, request.language)
        if not any(letter.isalnum() for letter in request.text):
            raise InputError(f"there is nothing to speak in '{request.text}'", "text")
        if "en" in languages:
            check_latin(self, request.text)
        if not SLOWEST <= request.speed <= FASTEST:
            told = f"{SLOWEST:g} to {FASTEST:g} times its pace, not {request.speed:g}"
            raise InputError(f"voice {self.name} speaks at {told}", "speed")

    def speak(self, request: SpeechRequest) -> Speech:
        """Speak `request`, the same samples every time on one machine: the model's noise is seeded.

        Raises InputError as `check` does and for a model that cannot be run,
        ProviderUnavailable if the child hung or died.
        """
        self.check(request)
        assert self.model  # or check had raised
        asked = {
            "model": str(self.model.absolute()), "text": request.text, "speed": request.speed, "seed": request.seed
        }  # fmt: skip
        told, pcm = self._answer(asked, PATIENCE + len(request.text) / 10)
        start, end = voiced(pcm, told["rate"])
        if not end:
            raise InputError(f"voice {self.name} is silent on '{request.text[:60]}'", "voice")
        words, timing = _words(request.text, told, start, end)
        return Speech(pcm[2 * start : 2 * end], told["rate"], words, timing, f"{self.version} {self.name}")

    def _answer(self, asked: Mapping[str, object], seconds: float) -> tuple[dict[str, Any], bytes]:
        launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
        # Not -m: a child started in somebody's folder would import what lies there.
        child = [sys.executable, "-P", "-c", "from stages.voices.piper import serve; serve()"]
        try:
            done = subprocess.run(
                [*launcher, *child], input=json.dumps(asked).encode(), capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise ProviderUnavailable(f"voice {self.name} hung: no answer within {seconds:.0f} s") from None
        head, _, pcm = done.stdout.partition(b"\n")
        if done.returncode or not head:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ProviderUnavailable(f"voice {self.name} broke down: {said[-1] if said else 'it said nothing'}")
        told: dict[str, Any] = json.loads(head)
        if "error" in told:
            raise InputError(f"voice {self.name} cannot be run ({told['error']})", "voice")
        return told, pcm

    def _config(self) -> dict[str, Any]:
        """What the JSON says. Raises InputError where there is none, or no model, or none of Piper's."""
        if self.model is None:
            raise InputError("voice piper needs a model: voice: piper:FILE.onnx, its FILE.onnx.json beside it", "voice")
        if not self.model.is_file():
            raise InputError(f"voice {self.name}: {self.model}: there is no such file", "voice")
        file = VoiceModel(self.model).config
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            kind = str(config.get("phoneme_type", "espeak"))
            _ = config["espeak"]["voice"], config["phoneme_id_map"], config["audio"]["sample_rate"]
        except FileNotFoundError:
            raise InputError(f"voice {self.name} needs {file.name} beside it, and there is none", "voice") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file.name}: describes no voice of Piper's ({error!r})", "voice") from None
        if kind not in ALPHABETS:
            raise InputError(f"voice {self.name} reads by '{kind}', which needs more than piper-tts brings", "voice")
        return dict(config)


piper = Piper()


def _languages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """`language.code` and its family; of older models, which have none, espeak-ng's voice."""
    told = config.get("language")
    code = str((told.get("code") if isinstance(told, dict) else "") or config["espeak"]["voice"])
    tag = code.lower().replace("_", "-")
    return tuple(dict.fromkeys((tag, tag.partition("-")[0])))


# ---------------------------------------------------------------- word times, pure


def _words(text: str, told: Mapping[str, Any], start: int, end: int) -> tuple[tuple[Word, ...], Timing]:
    """The words as written, where samples `start` to `end` of what was said are kept."""
    written, alone, rate = text.split(), told["alone"], told["rate"]
    heard = [bool(symbols) for symbols in alone]
    spans = matched(alone, told["sounds"])
    timing: Timing = "exact" if spans else "proportional"
    if not any(heard):
        return share(written, Fraction(0), Fraction(end - start, rate)), "proportional"
    kept = trimmed(spans, start, end) if spans else shared_spans(written, heard, end - start)
    timed = joined(written, kept)
    return tuple(Word(word, Fraction(begin, rate), Fraction(stop, rate)) for word, begin, stop in timed), timing


def matched(alone: Sequence[str], sounds: Sequence[tuple[str, int, int]]) -> list[Span | None] | None:
    """Where each word sounds whose phonemes are `alone[i]` when it is spoken by itself; None where that is unclear.

    `sounds` are the phonemes of the whole, with their first sample and the one after the last. Among others a
    word may sound another way, or run into its neighbour: of the is one word to espeak-ng (`ʌvðə`).
    """
    blocks = SequenceMatcher(None, "".join(alone), "".join(symbol for symbol, _, _ in sounds), False)
    pairs = blocks.get_matching_blocks()

    def place(at: int) -> int:
        """In the whole, of the phoneme `at` in the words one by one."""
        before = [pair for pair in pairs if pair.a <= at and pair.size]
        return before[-1].b + min(at - before[-1].a, before[-1].size) if before else 0

    spans: list[Span | None] = []
    at, first = 0, 0
    for number, symbols in enumerate(alone):
        at += len(symbols)
        last = len(sounds) if not any(alone[number + 1 :]) else place(at)
        if symbols and last <= first:
            return None
        spans.append((sounds[first][1], sounds[last - 1][2]) if symbols else None)
        first = max(first, last) if symbols else first
    return spans


# ---------------------------------------------------------------- the child's half


def serve() -> None:
    """Speak the request on stdin."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not fall into the answer
    request = json.load(sys.stdin)
    try:
        told, pcm = _spoken(Path(request["model"]), request["text"], request["speed"], request["seed"])
    except Exception as error:  # ONNX Runtime's have no common parent
        lines = str(error).strip().splitlines()
        told, pcm = {"error": (lines[0] if lines else type(error).__name__)[:200]}, b""
    answers.write(json.dumps(told).encode() + b"\n" + pcm)
    answers.flush()


def _spoken(model: Path, text: str, speed: float, seed: int) -> tuple[dict[str, Any], bytes]:
    """The rate, the phonemes of each word alone and of the whole with their samples; and the samples."""
    import onnxruntime  # noqa: PLC0415 -- the child alone
    from piper import PiperVoice, SynthesisConfig  # noqa: PLC0415 -- GPL: never in the parent

    onnxruntime.set_seed(seed)  # before the model is loaded: its noise is then the same each time
    voice = PiperVoice.load(model, VoiceModel(model).config, include_alignments=True)
    pace = SynthesisConfig(length_scale=voice.config.length_scale / speed, volume=0.9)
    plain = text.replace("[[", "((")  # or what follows were read as phonemes
    sounds: list[tuple[str, int, int]] = []
    pcm, at, timed = bytearray(), 0, True
    for chunk in voice.synthesize(plain, pace, include_alignments=True):
        timed = timed and chunk.phoneme_alignments is not None
        at = len(pcm) // 2
        for one in chunk.phoneme_alignments or ():
            end = at + int(one.num_samples)
            if _is_sound(one.phoneme):
                sounds.append((one.phoneme[0], at, end))
            at = end
        pcm += chunk.audio_int16_array.astype("<i2").tobytes()
    alone = [
        "".join(one[0] for said in voice.phonemize(word) for one in said if _is_sound(one)) for word in plain.split()
    ]
    return {"rate": voice.config.sample_rate, "alone": alone, "sounds": sounds if timed else []}, bytes(pcm)


def _is_sound(phoneme: str) -> bool:
    return phoneme not in PUNCTUATION and phoneme not in ("^", "$", "_") and not phoneme.isspace()
