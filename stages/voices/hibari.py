"""The embedded voice `heart`: hibari-tts, in a child process.

The parent half is small and loads no numpy. The child half (`serve`) reads one
JSON request a line and answers each with a JSON header line and the samples;
it loads once, serves many lines, and leaves when it has been idle for a while.
Facts and measurements: hibari 0.2.1, shared/facts/audio.md section 1.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from stages.clip import Word
from stages.errors import InputError, ProviderUnavailable
from stages.voices import Speech, SpeechRequest, check_language, check_latin, share

LONGEST_TEXT = 20_000
"""Characters in one line: about 22 minutes. More is a script, to be spoken in several lines."""

LONGEST_WORD = 200
"""Characters without a space: more is not a word but a mistake."""

SLOWEST, FASTEST = 0.5, 2.0
"""What the model takes as speed (hibari's README)."""

IDLE = 30.0
"""Seconds after which the child, 190 MB, leaves; the next line starts another."""

PATIENCE = 60.0
"""Seconds, and one more for every 20 characters, after which a child that has not answered hangs."""


# ---------------------------------------------------------------- the parent's half


class Heart:
    """hibari's own voice: American English, female, 24 kHz. One child at a time, one line at a time."""

    name = "heart"
    languages = ("en", "en-us")
    trained = True

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        # The kernel kills the child when the thread that spawned it ends
        # (prctl(2)); this one ends with the process, a caller's may end mid-word.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="voice-heart")
        atexit.register(self.close)

    @property
    def version(self) -> str:
        """`hibari-tts 0.2.1`, or `hibari-tts` alone where it is not installed."""
        return " ".join(("hibari-tts", *_installed_version()))

    def check(self, request: SpeechRequest) -> None:
        """Raises InputError for another language or script, nothing to say, too much of it, a speed
        outside 0.5 to 2, and where hibari-tts is not installed."""
        check_language(self, request.language)
        check_latin(self, request.text)
        _check_length(request.text)
        if not SLOWEST <= request.speed <= FASTEST:
            raise InputError(f"voice heart speaks at {SLOWEST:g} to {FASTEST:g} times its pace, not {request.speed:g}")
        if importlib.util.find_spec("hibari") is None:
            raise InputError("voice heart needs hibari-tts: pip install 'afterframe[local]'")

    def speak(self, request: SpeechRequest) -> Speech:
        """Speak `request`, the same samples every time.

        Text is spoken sentence by sentence, with a quarter second between
        them. `speed` is coarse: the model rounds each sound to 25 ms.
        Raises InputError as `check` does and for what cannot be pronounced,
        ProviderUnavailable if the child hung, or died twice.
        """
        self.check(request)
        return self._thread.submit(self._ask, request).result()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child:
            _end(self._child)
            self._child = None

    def _ask(self, request: SpeechRequest) -> Speech:
        for _ in range(2):  # between two lines a child may leave for idleness, or be killed for its memory
            child = self._running()
            with _watched(child, PATIENCE + len(request.text) / 20) as hung:
                speech = _exchange(child, request)
            if speech:
                return speech
            child.wait()
            if hung.is_set():
                break
        raise _death(child, hung.is_set())

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _spawn()
        return self._child


def _installed_version() -> tuple[str, ...]:
    try:
        return (importlib.metadata.version("hibari-tts"),)
    except importlib.metadata.PackageNotFoundError:
        return ()


def _check_length(text: str) -> None:
    if not any(letter.isalnum() for letter in text):
        raise InputError(f"there is nothing to speak in '{text}'")
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{len(text)} characters are too many for one line: at most {LONGEST_TEXT}")
    longest = max(text.split(), key=len)
    if len(longest) > LONGEST_WORD:
        raise InputError(f"'{longest[:20]}…' has {len(longest)} characters and no space: at most {LONGEST_WORD}")


SERVE = "from stages.voices.hibari import serve; serve()"


def _spawn() -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    starter = (sys.executable, "-IS", str(root / "stages" / "child.py"), str(os.getpid()))
    program = (
        sys.executable,
        "-P",
        "-c",
        SERVE,
    )  # -P: the working folder is the user's, not a place for code
    paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        (*starter, *program),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    return child.stdin, child.stdout, child.stderr  # type: ignore[return-value]  # asked for in _spawn


@contextlib.contextmanager
def _watched(child: subprocess.Popen[bytes], limit: float) -> Iterator[threading.Event]:
    """Kill a child that takes longer than `limit` seconds; the event says that it happened."""
    hung = threading.Event()

    def kill() -> None:
        hung.set()
        child.kill()

    timer = threading.Timer(limit, kill)
    timer.start()
    try:
        yield hung
    finally:
        timer.cancel()


def _exchange(child: subprocess.Popen[bytes], request: SpeechRequest) -> Speech | None:
    """The child's answer; None where it ended before it had answered in full."""
    asked, answers, _ = _pipes(child)
    line = json.dumps({"text": request.text, "speed": request.speed, "seed": request.seed})
    with contextlib.suppress(BrokenPipeError):
        asked.write(line.encode() + b"\n")
        asked.flush()
    header = answers.readline()
    if not header.endswith(b"\n"):
        return None
    answer = json.loads(header)
    if "error" in answer:
        raise InputError(answer["error"])
    pcm, rate = answers.read(answer["bytes"]), answer["sample_rate"]
    if len(pcm) < answer["bytes"]:
        return None
    times = answer["words"]
    words = tuple(Word(text, Fraction(start, rate), Fraction(end, rate)) for text, start, end in times)
    return Speech(pcm, rate, words, answer["timing"], answer["agent"])


def _death(child: subprocess.Popen[bytes], hung: bool) -> ProviderUnavailable:
    """Why the child ended, with its last words."""
    code = child.wait()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    words = _pipes(child)[2].read().decode(errors="replace").strip().splitlines()
    why = "".join(f": {last}" for last in words[-1:])
    return ProviderUnavailable(f"voice heart {'hung' if hung else how} before it had spoken{why}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in _pipes(child):
        with contextlib.suppress(OSError):
            pipe.close()


heart = Heart()
"""The voice that the entry point names; its child starts with the first line."""


# ---------------------------------------------------------------- text, pure

Span: TypeAlias = tuple[int, int]
"""The first sample and the one after the last."""

Timed: TypeAlias = tuple[str, int, int]
"""A word as written, and its span."""

PUNCTUATION = frozenset(';:,.!?—…"()“”')
"""Those of the model's symbols that are no sounds."""


def split(words: Sequence[str], fits: Callable[[str], bool]) -> list[Sequence[str]]:
    """`words` in pieces that fit, cut after a comma or its like if there is one, and near the middle."""
    if len(words) == 1 or fits(" ".join(words)):
        return [words]
    places = range(1, len(words))
    clauses = [place for place in places if words[place - 1][-1] in ",;:—"]
    middle = min(clauses or places, key=lambda place: abs(2 * place - len(words)))
    return [*split(words[:middle], fits), *split(words[middle:], fits)]


def group_spans(phonemes: str, edges: Sequence[int]) -> list[Span | None]:
    """Where each group of phonemes between spaces sounds; None for one that is all punctuation.

    Phoneme `i` sounds from sample `edges[i]` to `edges[i + 1]`. Punctuation
    around a group is a pause, not a part of it.
    """
    found: list[Span | None] = []
    for match in re.finditer(r"[^ ]+", phonemes):
        sounds = [at for at in range(*match.span()) if phonemes[at] not in PUNCTUATION]
        found.append((edges[sounds[0]], edges[sounds[-1] + 1]) if sounds else None)
    return found


def word_spans(counts: Sequence[int], groups: Sequence[Span | None]) -> list[Span | None] | None:
    """Where each word sounds whose phonemes are the next `counts[i]` groups; None if the numbers differ."""
    if sum(counts) != len(groups):
        return None
    rest = iter(groups)
    heard = [[group for group in islice(rest, count) if group] for count in counts]
    return [(spans[0][0], spans[-1][1]) if spans else None for spans in heard]


def trimmed(spans: Sequence[Span | None], start: int, end: int) -> list[Span | None]:
    """The spans where only samples `start` to `end` are kept.

    The first word takes whatever is heard before it: the model places words
    after a pause some 40 ms late (median of 32).
    """
    kept = [span and (max(span[0], start) - start, min(span[1], end) - start) for span in spans]
    first = next((at for at, span in enumerate(kept) if span), 0)
    return [(0, span[1]) if span and at == first else span for at, span in enumerate(kept)]


def shared_spans(words: Sequence[str], heard: Sequence[bool], length: int) -> list[Span | None]:
    """The words that are heard, laid over `length` samples by their characters."""
    texts = [word for word, sounds in zip(words, heard, strict=True) if sounds]
    laid = iter(share(texts, Fraction(0), Fraction(length)))
    return [(int((word := next(laid)).start), int(word.end)) if sounds else None for sounds in heard]


def joined(words: Sequence[str], spans: Sequence[Span | None]) -> list[Timed]:
    """Words with their spans; what makes no sound (a dash, an emoji) stays with the word before it."""
    timed: list[Timed] = []
    held = ""
    for word, span in zip(words, spans, strict=True):
        if span:
            timed.append((held + word, *span))
            held = ""
        elif timed:
            timed[-1] = (f"{timed[-1][0]} {word}", *timed[-1][1:])
        else:
            held += f"{word} "
    return timed


# ---------------------------------------------------------------- the child's half

DURATIONS = "/Clip_output_0"
"""The model's inner tensor that says how long each phoneme sounds, in units of 25 ms (hibari 0.2.1)."""

SPECTRUM = ("lh", "theta", "ln", "lr", "phi", "f0")
"""The model's outputs, in the order in which `hibari.dsp.synth` takes them."""

PIECE = 400
"""Characters, and phonemes, that the model sees at once."""

PAUSES = {"sentence": 0.25, "clause": 0.1}
"""Seconds between pieces at speed 1, from the last sound to the first."""

QUIET = 10 ** (-50 / 20)
"""Below this share of its loudest 10 ms, a piece's ends are silence; hibari's padding lies under -80 dB."""


@dataclass(frozen=True, slots=True)
class Take:
    """A spoken piece without silence around it: where its words sound, and whether the model said so."""

    pcm: bytes
    spans: list[Span | None]
    exact: bool


@dataclass(frozen=True, slots=True)
class Engine:
    """hibari, loaded, with the phonemes' durations among its outputs where the model has them."""

    tts: Any
    outputs: tuple[str, ...]
    version: str

    def phonemes(self, text: str) -> str:
        """What is said, in the model's own symbols; those that it lacks are left out."""
        try:
            said = " ".join(self.tts.phonemize(text))
        except Exception as error:  # hibari 0.2.1 fails in many ways, for instance on numbers of 60 digits
            for word in text.split() if " " in text else ():
                self.phonemes(word)  # fails as well, and names it
            raise InputError(f"voice heart cannot pronounce '{_excerpt(text)}': {error}") from None
        return "".join(symbol for symbol in said if symbol in self.tts.vocab)

    def pieces(self, text: str) -> list[tuple[Sequence[str], float]]:
        """The written words in pieces that the model takes, each with the pause after it in seconds."""
        words, found = text.split(), []
        for sentence in self.tts.split_sentences(text):  # knows Dr. and J. K. Rowling, drops closing quotes
            count = len(sentence.split())
            *firsts, last = split(words[:count], self._fits)
            found += [*((piece, PAUSES["clause"]) for piece in firsts), (last, PAUSES["sentence"])]
            words = words[count:]
        return found

    def _fits(self, text: str) -> bool:
        return len(text) <= PIECE and len(self.phonemes(text)) <= PIECE

    def say(self, words: Sequence[str], speed: float, seed: int) -> Take:
        """Speak one piece. Raises InputError for a word that would be passed over in silence."""
        import numpy as np  # noqa: PLC0415 -- in the child alone

        alone = [self.phonemes(word) for word in words]
        for word, phonemes in zip(words, alone, strict=True):
            if not phonemes and any(letter.isalnum() for letter in word):
                raise InputError(f"voice heart cannot pronounce '{_excerpt(word)}'")
        heard = [_sounds(phonemes) for phonemes in alone]
        if not any(heard):
            return Take(b"", [None] * len(words), True)
        said = self.phonemes(" ".join(words))
        wave, edges = self._wave(said, speed, seed)
        start, end = _voiced(wave)
        pcm = (np.clip(wave[start:end], -1, 1) * 32767).astype("<i2").tobytes()
        counts = [len(phonemes.split()) for phonemes in alone]
        spans = word_spans(counts, group_spans(said, edges)) if edges else None
        if spans is None:
            return Take(pcm, shared_spans(words, heard, end - start), False)
        return Take(pcm, trimmed(spans, start, end), True)

    def _wave(self, said: str, speed: float, seed: int) -> tuple[Any, list[int]]:
        """The samples, and where each phoneme begins and ends in them if the model says so."""
        import hibari  # noqa: PLC0415 -- in the child alone
        import numpy as np  # noqa: PLC0415 -- likewise

        given = {"ids": np.asarray([self.tts.ids(said)], np.int64), "speed": np.asarray([speed], np.float32)}
        made = dict(zip(self.outputs, self.tts.sess.run(list(self.outputs), given), strict=True))
        wave = hibari.dsp.synth(*(made[name][0] for name in SPECTRUM), np.random.default_rng(seed))
        if DURATIONS not in made:
            return wave, []
        ends = np.cumsum(made[DURATIONS].reshape(-1), dtype=np.float64)  # a pad, the phonemes, a pad
        return wave, np.rint(ends[:-1] * len(wave) / ends[-1]).astype(int).tolist()


@functools.cache
def engine() -> Engine:
    """Load it; about half a second, with the pronunciation rules."""
    try:
        import hibari  # noqa: PLC0415 -- in the child alone
    except ImportError as error:
        raise InputError(f"voice heart needs hibari-tts: pip install 'afterframe[local]' ({error})") from None
    from hibari.voices import voice_path  # noqa: PLC0415 -- in the child alone

    timed = Path(voice_path("heart")).read_bytes() + _output(DURATIONS)  # the one voice inside the package
    try:
        tts = hibari.Hibari(model=timed, threads=1)  # onnxruntime takes bytes for a path
    except Exception:  # another release of the model: words are then timed by characters
        return Engine(hibari.Hibari(threads=1), SPECTRUM, hibari.__version__)
    return Engine(tts, (*SPECTRUM, DURATIONS), hibari.__version__)


def _output(name: str) -> bytes:
    """Bytes that, appended to an ONNX model, make the tensor `name` an output.

    Protobuf merges a message field that comes twice: ModelProto.graph is
    field 7, GraphProto.output 12, ValueInfoProto.name 1 (onnx.proto3).
    """

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value  # one length byte: under 128

    return field(7, field(12, field(1, name.encode())))


def _voiced(wave: Any) -> tuple[int, int]:
    """Where sound begins and ends in `wave`, with a breath around it so that no consonant is clipped."""
    import numpy as np  # noqa: PLC0415 -- in the child alone

    step = 240  # 10 ms
    power = np.square(wave[: len(wave) // step * step].reshape(-1, step)).mean(1)
    loud = np.flatnonzero(power > power.max() * QUIET**2)
    if not loud.size:
        return 0, 0
    return max(0, int(loud[0]) - 1) * step, min(len(wave), (int(loud[-1]) + 4) * step)


def _sounds(phonemes: str) -> bool:
    return bool(set(phonemes) - PUNCTUATION - {" "})


def _excerpt(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def spoken(text: str, speed: float, seed: int) -> tuple[dict[str, Any], bytes]:
    """The header and samples that answer a request."""
    voice = engine()
    rate: int = voice.tts.sample_rate
    words: list[str] = []
    spans: list[Span | None] = []
    pcm, exact, pause = bytearray(), True, 0.0
    for piece, pause_after in voice.pieces(text):
        take = voice.say(piece, speed, seed)
        if take.pcm:
            pcm += bytes(2 * round(pause / speed * rate))
            pause = pause_after
        at = len(pcm) // 2
        words += piece
        spans += [span and (at + span[0], at + span[1]) for span in take.spans]
        pcm += take.pcm
        exact = exact and take.exact
    if not pcm:
        raise InputError(f"voice heart finds nothing to speak in '{_excerpt(text)}'")
    header = {
        "bytes": len(pcm),
        "sample_rate": rate,
        "words": joined(words, spans),
        "timing": "exact" if exact else "proportional",
        "agent": f"hibari-tts {voice.version} heart",
    }
    return header, bytes(pcm)


def serve() -> None:
    """Answer requests until the parent closes the line or has been silent for IDLE seconds."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not fall between the answers
    while select.select([sys.stdin.buffer], [], [], IDLE)[0]:
        request = sys.stdin.buffer.readline()
        if not request:
            return
        try:
            header, pcm = spoken(**json.loads(request))
        except InputError as error:
            header, pcm = {"error": str(error)}, b""
        answers.write(json.dumps(header).encode() + b"\n" + pcm)
        answers.flush()


if __name__ == "__main__":
    serve()
