"""Lines as loud as each other, whoever speaks them."""

from __future__ import annotations

import operator
import sys
from array import array
from dataclasses import replace

from stages.voices import Speech

LEVEL = -23.0
"""dBFS: the power of a line's voiced tenths of a second. Ours to choose, so that peaks have room."""

CEILING = -1.0
"""dBFS: no peak is raised above it, so that nothing clips."""

GATE = 100
"""A tenth of a second with less than this part of the loudest one's power (-20 dB) is a pause, and not counted."""


def levelled(speech: Speech) -> Speech:
    """`speech` brought to LEVEL. Silence is left alone.

    Not by BS.1770, whose gate needs 0.4 s of sound: a line may be a word.
    """
    samples = array("h", speech.pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    step = max(1, speech.sample_rate // 10)
    blocks = [samples[start : start + step] for start in range(0, len(samples), step)]
    powers = [sum(map(operator.mul, block, block)) / len(block) for block in blocks]
    loudest = max(powers, default=0.0)
    if not loudest:
        return speech
    voiced = [power for power in powers if power * GATE >= loudest]
    level = (sum(voiced) / len(voiced)) ** 0.5 / 32768
    peak = max(max(samples), -min(samples)) / 32768
    gain = min(10 ** (LEVEL / 20) / level, 10 ** (CEILING / 20) / peak)
    scaled = array("h", (round(sample * gain) for sample in samples))
    if sys.byteorder == "big":
        scaled.byteswap()
    return replace(speech, pcm=scaled.tobytes())
