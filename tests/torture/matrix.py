"""Print the tamper matrix: every good and every bad file, what `verify` says of it, and whether that is right.

python tests/torture/matrix.py

The files are those of tests/stages/tamper.py, which tests/stages/test_provenance.py holds to their verdicts one by
one. "Trusted by a reader" says of which the library alone, with all anchors, reports `Trusted`: what a tool lets
through that looks no further.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import c2pa

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "stages")]

import tamper  # noqa: E402 -- the tests' own workshop for signed files

from stages.provenance import verify  # noqa: E402 -- likewise


def main() -> None:
    """Print both lists; the exit code is 1 if a bad file is proved, a good one is not, or a verdict is another."""
    with tempfile.TemporaryDirectory() as folder:
        studio = tamper.Studio(Path(folder) / "studio")
        good = [tell(studio, name, "proved", make) for name, make in tamper.GOOD.items()]
        print(f"good: {sum(good)} of {len(good)} are proved\n", flush=True)
        bad = [tell(studio, name, expected, make) for name, (expected, make) in tamper.BAD.items()]
        print(f"bad: {sum(bad)} of {len(bad)} have the verdict they must have; none of those is proved")
    sys.exit(0 if all((*good, *bad)) else 1)


def tell(studio: tamper.Studio, name: str, expected: str, make: tamper.Maker) -> bool:
    """Print a line on one file; whether it is right."""
    file = make(studio)
    found = verify(file, anchors=studio.anchors)
    right = found.verdict == expected
    state = "" if right else f"   WRONG: should be {expected}"
    alone = "   trusted by a reader" if expected != "proved" and naive(studio, file) == "Trusted" else ""
    print(f"  {found.verdict:9}  {name:58} {', '.join(found.codes)}{alone}{state}", flush=True)
    return right


def naive(studio: tamper.Studio, file: Path) -> str:
    """What the library says of it, given all anchors."""
    try:
        with tamper.reader(file, studio.anchors) as reader:
            return str(json.loads(reader.json())["validation_state"])
    except c2pa.C2paError:
        return ""


if __name__ == "__main__":
    main()
