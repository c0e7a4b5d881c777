"""The job that speaks a script: each sentence is a file of its own, and the whole is composed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal, TypeAlias

from stages import plugins
from stages.clip import SAMPLE_RATE, Action, Clip, Sound, Stream, Word, exactly, filtered, printed_seconds
from stages.errors import InputError, ProviderError
from stages.hiring import Hired, voice_named
from stages.market import Market
from stages.scripts import Line, read_script, sentences
from stages.speech import promise_line, speak_line
from stages.stage import InParts, job, stage_of
from stages.voices.models import cast, named, voice_file

Fit: TypeAlias = Literal["speed", "flow", "extend", "error"]

SENTENCE_GAP, LINE_GAP, BREATH = Fraction(1, 4), Fraction(1, 2), Fraction(1, 10)
"""Seconds of silence between two sentences, between two lines without times, and at least before a line that
has one. Ours to choose; the first is also what `heart` leaves between sentences."""

FASTEST = Fraction(5, 4)
"""How much faster than its own pace a line is spoken to fit: a rule of thumb. Of 464 words in 60 Harvard sentences by
`heart`, which is quick by itself (240 words a minute), Whisper base misheard 15 at 1x and 20 at 1.25x
(tests/benchmarks/intelligibility.py, normalised, 2026-11-27)."""

Asked: TypeAlias = Mapping[str, object]
"""The arguments of `speak_line` for one sentence."""

Make: TypeAlias = Callable[[Mapping[str, Asked]], tuple[Clip, ...]]
"""Speaks sentences, each by the name of its part: `3.1` is the first of line 3. All of them, or it raises."""


def narrate(
    text: tuple[Line, ...] | str = (),
    *,
    script: Path | None = None,
    voice: tuple[str, ...] | str = "heart",
    voices: Mapping[str, tuple[str, ...] | str] | None = None,
    language: str = "en",
    speed: float = 1.0,
    fit: Fit = "flow",
    take: int = 1,
    folder: Path | None = None,
    shop: Market | None = None,
    make: Make,
    **_: Any,
) -> Clip:
    """What `speak` comes to, with `make` to speak the sentences. Pure, but for reading `script`, and where there
    is no `shop` what is for sale in the project of `folder`."""
    cast = {name.casefold(): _names(given) for name, given in (voices or {}).items()}
    lines = [
        replace(
            line,
            voice=_names(line.voice) or cast.get(line.speaker.casefold()) or _names(voice),
            language=line.language or language,
            speed=line.speed or float(speed),
            take=line.take + take - 1,
        )
        for line in _lines(text, script, tuple(voices or ()))
    ]
    for voices_of_line in dict.fromkeys(_names(line.voice) for line in lines):
        _check_names(voices_of_line, shop, folder)
    telling = _Telling(make, fit, alone=len(lines) == 1)
    runs = telling.all(lines)
    return _whole(runs, telling.starts, tuple(dict.fromkeys(telling.remarks)))


def promise_narration(*given: Any, **more: Any) -> Clip:
    """The clip that `speak` will make, its times estimated from the characters; raises as it does."""
    shop: Market | None = more.get("shop")
    return narrate(*given, **more, make=lambda asked: tuple(promise_line(**one, shop=shop) for one in asked.values()))  # type: ignore[arg-type]  # as narrate wrote them


@job(promise_narration, parts=InParts(stage_of(speak_line), narrate))
def speak(
    text: tuple[Line, ...] | str = (),
    *,
    script: Path | None = None,
    voice: tuple[str, ...] | str = "heart",
    voices: dict[str, tuple[str, ...]] | None = None,
    language: str = "en",
    speed: float = 1.0,
    fit: Fit = "flow",
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    keys: frozenset[str] = frozenset(),
) -> Clip:
    """Speak a text, a list of lines, or a `script` file, into `folder`; the clip's words know when they sound.

    Lines are `[{at: 1s, speaker: anna, text: …}, …]`, each with a `voice:`, `language:`, `speed:` and
    `until:` of its own where it wants; `voices: {anna: heart, ben: espeak}` says who speaks for whom. A
    script is Markdown, a line a paragraph, or SubRip (SRT), a line a cue:

        ## 0:05 The product                      a heading is not spoken; its time is the next line's
        **Anna:** Now in *three* colours.        a speaker, in bold
        [0:09-0:12] **Ben:** And a fourth.       a time to start, and one to have ended by

    A voice is one that is installed (`heart`, `espeak`), a model of your own for Piper with its JSON beside it
    (`piper:voices/en_US-amy-medium.onnx`, a path from the recipe), or one over the network as SELLER:VOICE
    (`openai:marin`), which is paid for; `pipeline voices` lists them. Each sentence is spoken and cached for
    itself, and of a paid voice each line is bought, once, and kept: changing one line speaks one line anew.
    `take` 2, which `--retake` asks for, is another try at all of it, a line's own `take: 2` at that line.
    Sentences are a quarter second apart, lines without times half a second. All are equally loud.
    `voice: [openai:marin, heart]` names one that stands in, which is told, where the first cannot be had,
    cannot speak this, or breaks down; run again, the first is asked again. `speed` 1 is the voice's own pace,
    and of 1.25 a line is exactly as long as that divided by 1.25; a voice over the network keeps it as its
    seller does. `language` is a tag such as `en` or `fr-CH`.

    A line has until the moment before the next one, or its own `until`. If it needs longer, `fit` says how far
    to go: `error` not at all; `speed` up to 1.25 times its pace, by time-stretching (of that less is misheard than
    of a voice that hurries; words keep their times); `flow` (the default) and then on into the gap before the next
    line; `extend` and then later lines are put off, and by how long the picture must be held is told. No word is
    ever cut and no two lines overlap: what still does not fit is an error.

    Raises InputError for that, and for what a voice cannot speak, naming one that can; ProviderUnavailable if
    the voices broke down: another try may do. What is bought raises as `draw` does, too.
    """
    return narrate(
        text, script=script, voice=voice, voices=voices, language=language, speed=speed, fit=fit, take=take,
        folder=folder, shop=shop, make=partial(_speak_into, folder, shop, keys),
    )  # fmt: skip


def _speak_into(
    folder: Path, shop: Market | None, keys: frozenset[str], asked: Mapping[str, Asked]
) -> tuple[Clip, ...]:
    return tuple(speak_line(**one, folder=folder / part, shop=shop, keys=keys) for part, one in asked.items())  # type: ignore[arg-type]  # as narrate wrote them


def _check_names(voices: tuple[str, ...], shop: Market | None, folder: Path | None) -> None:
    """A name that nobody has is a slip, and no reason to ask the next; nor is a test voice one to stand in."""
    for voice in [voice_named(name, shop, folder) for name in voices]:
        if len(voices) > 1 and isinstance(voice, Hired) and voice.simulated and not voice.shop.simulate:
            raise InputError("a simulator speaks only when it is named alone, or with --sim", "voice")


def _lines(text: tuple[Line, ...] | str, script: Path | None, speakers: Sequence[str]) -> tuple[Line, ...]:
    if bool(text) == bool(script):
        raise InputError("should be a text or a script" + (", not both" if text else ""), "text")
    if script:
        return read_script(script, speakers)
    return (Line(text),) if isinstance(text, str) else text


def _names(given: tuple[str, ...] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


# ---------------------------------------------------------------- a line, spoken


@dataclass(frozen=True, slots=True)
class _Run:
    """Sentences one after another, in samples; `clips` are those they were spoken as."""

    stream: Stream
    samples: int
    words: tuple[Word, ...]
    clips: tuple[Clip, ...]

    @property
    def promised(self) -> bool:
        return any(clip.promised for clip in self.clips)

    def squeezed(self, samples: int) -> _Run:
        """Played faster at the same pitch, to end after `samples`."""
        # rubberband is exact to the sample where atempo is off by 12 ms, and is in every build that has libass.
        faster = filtered("rubberband", self.stream, tempo=f"{self.samples / samples:.6f}")
        share = Fraction(samples, self.samples)
        words = tuple(word.stretched(share) for word in self.words)
        return _Run(exactly(faster, samples), samples, words, self.clips)


def _strung(clips: tuple[Clip, ...], gap: int) -> _Run:
    sounds = [clip.sound for clip in clips if clip.sound]
    starts = [sum(sound.samples + gap for sound in sounds[:number]) for number in range(len(sounds))]
    stream, words = _timeline(sounds, starts)
    return _Run(stream, starts[-1] + sounds[-1].samples, words, clips)


def _timeline(sounds: Sequence[Sound | _Run], starts: Sequence[int]) -> tuple[Stream, tuple[Word, ...]]:
    """Sounds at their places, in samples, silence between them: a graph of filters that grows with each."""
    *_, last = ends = [*starts[1:], starts[-1] + sounds[-1].samples]
    parts: list[Stream] = []
    for sound, start, end in zip(sounds, starts, ends, strict=True):
        whole = sound.samples == end - start
        parts.append(sound.stream if whole else exactly(sound.stream, end - start))
    stream = parts[0] if len(parts) == 1 else filtered("concat", *parts, n=len(parts), v=0, a=1)
    if starts[0]:
        stream = exactly(filtered("adelay", stream, delays=f"{starts[0]}S", all=1), last)
    words = tuple(
        Word(word.text, word.start + Fraction(start, SAMPLE_RATE), word.end + Fraction(start, SAMPLE_RATE))
        for sound, start in zip(sounds, starts, strict=True)
        for word in sound.words
    )
    return stream, words


# ---------------------------------------------------------------- lines in their slots


class _Telling:
    """One script being told: where the last line ended, and what there was to say of it."""

    def __init__(self, make: Make, fit: Fit, alone: bool) -> None:
        self.make, self.fit, self.alone = make, fit, alone
        self.starts: list[int] = []
        self.remarks: list[str] = []
        self.end = 0

    def all(self, lines: Sequence[Line]) -> list[_Run]:
        """The lines, spoken so that they fit, each from its place in `starts`."""
        runs: list[_Run] = []
        late = latest = 0
        promised = False
        for number, line in enumerate(lines, 1):
            after = lines[number].start if number < len(lines) else None
            _check_times(number, line, after)
            run = self.spoken(number, line)
            start = self.start_of(line)
            late = late if line.start is None else start - _samples(line.start)
            latest = max(late, latest)
            run = self.fitted(number, line, run, start, after)
            promised = promised or run.promised
            runs.append(run)
            self.starts.append(start)
            self.end = start + run.samples
        last = lines[-1].end
        held = self.end - _samples(last) if last is not None else late
        about = "about " if promised else ""
        if latest > 0:
            self.remarks.append(f"lines start up to {about}{_printed(latest)} s later than their times")
        if held > 0 and self.fit == "extend":
            self.remarks.append(
                f"the narration runs {about}{_printed(held)} s longer than its times:"
                f" hold the picture until {about}{_printed(self.end)} s"
            )
        return runs

    def start_of(self, line: Line) -> int:
        earliest = self.end + _samples(BREATH) if self.starts else 0
        if line.start is None:
            return self.end + _samples(LINE_GAP) if self.starts else 0
        # A line that was put off puts off the next; without `extend`, that was an error before.
        return max(_samples(line.start), earliest)

    def spoken(self, number: int, line: Line) -> _Run:
        """The line by the first of its voices that can speak it; who stood in for whom is remarked."""
        refused: list[tuple[str, InputError]] = []
        for name in line.voice:
            try:
                clips = self.make(self.asked(number, line, name))
            except InputError as error:
                refused.append((name, error))
                continue
            # Planned, done or read back from the cache: a voice that stood in is told every time.
            self.remarks += [f"{said}; {named(name)} speaks instead" for _, said in refused]
            return _strung(clips, _samples(SENTENCE_GAP / Fraction(line.speed)))
        first = refused[0][1]
        if isinstance(first.__cause__, ProviderError):  # it broke down, and nobody stands in
            raise first.__cause__
        where = "" if self.alone else f"line {number}: "
        raise InputError(f"{where}{first}", first.parameter if self.alone else "") from None

    def asked(self, number: int, line: Line, name: str) -> dict[str, Asked]:
        texts = sentences(line.text) if _is_installed(name) else [" ".join(line.text.split())]
        asked: dict[str, Asked] = {}
        for count, text in enumerate(texts or [line.text], 1):
            place = [str(number)] if not self.alone else []
            place += [str(count)] if len(texts) > 1 else []
            one: dict[str, object] = {"text": text, **cast(name)}
            if line.language != "en":
                one["language"] = line.language
            if line.speed != 1:
                one["speed"] = line.speed
            if line.take != 1:
                one["take"] = line.take
            asked[".".join(place)] = one
        return asked

    def fitted(self, number: int, line: Line, natural: _Run, start: int, after: Fraction | None) -> _Run:
        """The line within its slot, or as near to it as `fit` allows. Raises InputError where that is too far."""
        following = None if after is None else _samples(after - BREATH)
        closes = following if line.end is None else _samples(line.end)
        if closes is None:
            return natural
        slot, run = closes - start, natural
        if run.samples > slot and self.fit != "error":
            run = run.squeezed(max(slot, ceil(run.samples / FASTEST)))
        if run.samples <= slot:
            return run
        room = slot if following is None else following - start
        if natural.promised:
            self.remarks.append(
                f"line {number} is about {_printed(natural.samples)} s, and its slot is {_printed(max(slot, 0))} s:"
                " it may not fit"
            )
        elif self.fit in ("error", "speed"):
            faster = " even at 1.25 times its pace" if self.fit == "speed" else ""
            raise InputError(f"{self.over(number, run, slot)}{faster}: shorten it, or let it run on with fit: flow")
        elif self.fit == "flow" and following is not None and run.samples > room:
            raise InputError(
                f"{self.over(number, run, room)} before the next line, even at 1.25 times its pace:"
                " shorten it, or put off what follows with fit: extend"
            )
        return run

    def over(self, number: int, run: _Run, slot: int) -> str:
        return f"line {number} is {_printed(run.samples)} s and has {_printed(max(slot, 0))} s"


def _check_times(number: int, line: Line, after: Fraction | None) -> None:
    start, end = line.start, line.end
    if end is not None and (start is None or end <= start):
        raise InputError(f"line {number} has until: {printed_seconds(end)} s, and no at: before it")
    if after is not None and max(start or 0, end or 0) > after:
        late = printed_seconds(Fraction(max(start or 0, end or 0)))
        raise InputError(f"line {number + 1} is at {printed_seconds(after)} s, and line {number} has until {late} s")


def _is_installed(voice: str) -> bool:
    """Whether it speaks here: a voice over the network is asked once for each line, whatever its sentences."""
    return bool(voice_file(voice)) or voice in plugins.names("pipeline.voices")


def _samples(time: Fraction) -> int:
    return round(time * SAMPLE_RATE)


def _printed(samples: int) -> str:
    return printed_seconds(Fraction(samples, SAMPLE_RATE))


# ---------------------------------------------------------------- the whole


def _whole(runs: Sequence[_Run], starts: Sequence[int], remarks: tuple[str, ...]) -> Clip:
    clips = list(dict.fromkeys(clip for run in runs for clip in run.clips))
    if len(clips) == 1 and not starts[0] and runs[0].stream is (clips[0].sound and clips[0].sound.stream):
        return replace(clips[0], remarks=remarks)
    stream, words = _timeline(runs, starts)
    first, *others = clips
    history = first.history
    if others:
        said = (("lines", str(len(runs))),)
        history = (*history, Action("speak", said, inputs=tuple(other.history for other in others)))
    return Clip(sound=Sound(stream, starts[-1] + runs[-1].samples, words), history=history, remarks=remarks)
