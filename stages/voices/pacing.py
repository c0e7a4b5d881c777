"""A pace reached exactly, by time-stretching."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from stages.ffmpeg import run_ffmpeg
from stages.files import fresh_folder, home
from stages.voices import Speech, SpeechRequest, Voice
from stages.voices.sounds import pcm_of, wav_of


def paced(voice: Voice, request: SpeechRequest) -> Speech:
    """What `voice` makes of `request`, at its own pace and time-stretched to `request.speed` of it, to the sample.

    A voice's own speed is coarse (of 1.25, `heart` makes 1.12), and the more of the way it goes, the more is misheard:
    of 464 words at 1.25x, Whisper base 23 where `heart` began and stretching did the rest, 20 where that did it all;
    Whisper tiny.en 34 and 30 (tests/benchmarks/intelligibility.py, normalised, 2026-11-27).
    """
    voice.check(request)
    own = voice.speak(replace(request, speed=1.0))
    return stretched(own, round(own.samples / Fraction(request.speed)))


def stretched(speech: Speech, samples: int) -> Speech:
    """`speech` at the same pitch in `samples`, its words with it. Raises FfmpegError."""
    if samples == speech.samples:
        return speech
    share = Fraction(samples, speech.samples)
    exact = f"rubberband=tempo={float(1 / share):.9f},apad=whole_len={samples},atrim=end_sample={samples}"
    with fresh_folder(home()) as folder:
        given, made = (folder / name for name in ("given.wav", "made.wav"))
        given.write_bytes(wav_of(speech.pcm, speech.sample_rate))
        run_ffmpeg(["-i", str(given.resolve()), "-af", exact, "-c:a", "pcm_s16le", str(made.resolve())])
        found = pcm_of(made.read_bytes())
    assert found  # ffmpeg was asked for that
    words = tuple(word.stretched(share) for word in speech.words)
    return replace(speech, pcm=found[0], words=words)
