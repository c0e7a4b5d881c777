"""How many times faster than real time the embedded voice speaks, once it is loaded; the goal is 10.

python -m tests.benchmarks.speech
"""

from __future__ import annotations

import time

from stages.voices import Speech, SpeechRequest
from stages.voices.hibari import heart

TEXT = """
The old lighthouse has guarded the harbour for more than a hundred years. Every evening, just before the sun goes
down, its keeper climbs two hundred and twelve steps. Free shipping on orders over $50! It was built in 1896, rebuilt
after the storm of 1953, and painted once a year since then; nobody remembers who chose the colour.
"""


def spoken(text: str) -> tuple[Speech, float]:
    """The speech, and the seconds that it took."""
    started = time.perf_counter()
    return heart.speak(SpeechRequest(text)), time.perf_counter() - started


def main() -> None:
    """Load, then speak one sentence and a paragraph, each five times; the median counts."""
    _, loading = spoken("Ready.")
    print(f"{heart.version} {heart.name}: {loading:.2f} s from nothing to the first word")
    for text in ("Now in three colours.", TEXT):
        takes = [spoken(text) for _ in range(5)]
        speech, took = sorted(takes, key=lambda take: take[1])[2]
        length = float(speech.duration)
        print(f"{length:6.2f} s of speech in {took * 1000:4.0f} ms: {length / took:3.0f} times faster than real time")


if __name__ == "__main__":
    main()
