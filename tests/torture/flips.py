"""Flip bits of a signed film, one at a time, all over it: none that one sees, hears or reads may be proved after.

python tests/torture/flips.py [how many in the manifest, 3000 if not given] [how many elsewhere, 1000]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "stages")]

import tamper  # noqa: E402 -- the tests' own workshop for signed files

from stages.credentials import Credentials  # noqa: E402 -- likewise
from stages.provenance import verify  # noqa: E402 -- likewise


def main() -> None:
    """Print what became of them, and each that should not have been proved."""
    inside, outside = (int(sys.argv[n]) if len(sys.argv) > n else most for n, most in ((1, 3000), (2, 1000)))
    with tempfile.TemporaryDirectory() as folder:
        studio = tamper.Studio(Path(folder) / "studio")
        content = studio.delivered.read_bytes()
        begin, end = tamper.span(content, "uuid")
        within = random.Random(1).sample(range(8 * begin, 8 * end), min(inside, 8 * (end - begin)))
        rest = [at for at in range(8 * len(content)) if not 8 * begin <= at < 8 * end]
        for name, places in (("manifest", within), ("elsewhere", random.Random(2).sample(rest, outside))):
            found = Counter(flip(studio, content, place) for place in places)
            print(f"{len(places)} bits of the {name}: {dict(found)}", flush=True)
            assert not found["PROVED, AND NOT THE SAME"]


def flip(studio: tamper.Studio, content: bytes, place: int) -> str:
    """The verdict on the film with that bit flipped."""
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    file = studio.folder / "flipped.mp4"
    file.write_bytes(changed)
    found = verify(file, anchors=studio.anchors)
    if found.verdict != "proved":
        return found.verdict
    good = studio.delivered
    same = said(found.credentials) == said(verify(good, anchors=studio.anchors).credentials) and seen(file) == seen(
        good
    )
    if not same:
        print(f"bit {place % 8} of byte {place // 8}: proved, and not the same")
    return "harmless" if same else "PROVED, AND NOT THE SAME"


def said(one: Credentials) -> tuple[object, ...]:
    return (one.generator, one.signer, one.title, one.actions, one.source_type, *map(said, one.ingredients))


def seen(file: Path) -> list[bytes]:
    with av.open(str(file)) as film:
        return [plane for frame in film.decode() for plane in map(bytes, getattr(frame, "planes", ()))]


if __name__ == "__main__":
    main()
