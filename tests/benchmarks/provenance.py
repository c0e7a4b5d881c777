"""What content credentials cost, against their goals; and the sizes that are too large for a test.

    python tests/benchmarks/provenance.py [GB of the large film, 0.5 if not given; 0 to leave it out]

Seconds are of the clock; memory is the peak (VmHWM) of a process of its own
that does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "stages")]

import tamper  # noqa: E402 -- the tests' own workshop for signed files
from tamper import Studio  # noqa: E402 -- likewise

from stages.clip import Action  # noqa: E402 -- likewise
from stages.errors import InputError  # noqa: E402 -- likewise
from stages.provenance import archive_ingredient, sign, verify  # noqa: E402 -- likewise


def main() -> None:
    """Print each figure with its goal."""
    large = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder) / "studio")
        print(f"{'what':58} {'measured':>12}  goal")
        seven_megabytes(studio)
        overhead(studio)
        if large:
            half_a_gigabyte(studio, int(large * 1e9))
        hundred_hops(studio)
        thirty_three_megabytes(studio)


def row(what: str, measured: str, goal: str = "", fine: bool = True) -> None:
    print(f"{what:58} {measured:>12}  {goal}{'' if fine else '   MISSED'}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def padded(studio: Studio, size: int) -> Path:
    """A film of `size` bytes: the studio's, with noise at the end of its picture that no frame points to."""
    content = studio.film.read_bytes()
    begin, end = tamper.span(content, "mdat")
    film, missing = studio.new(), size - len(content)
    with film.open("wb") as out:
        out.write(content[:begin] + (end - begin + missing).to_bytes(4, "big") + content[begin + 4 : end])
        block = bytes(range(256)) * 4096
        for at in range(0, missing, len(block)):
            out.write(block[: missing - at])
        out.write(content[end:])
    return film


def history(studio: Studio) -> tuple[Action, ...]:
    return studio.history(studio.original)


def seven_megabytes(studio: Studio) -> None:
    film, target = padded(studio, 7_000_000), studio.new()
    anchors, made = studio.anchors, history(studio)
    sign(film, target, history=made, signer=studio.ours, anchors=anchors)  # loads the library
    signing = min(seconds(lambda: sign(film, target, history=made, signer=studio.ours, anchors=anchors)) for _ in "123")
    reading = min(seconds(lambda: verify(target, original=studio.original, anchors=anchors)) for _ in "123")
    row("7 MB: sign (and read back) + verify", f"{signing + reading:.3f} s", "< 0.5 s", signing + reading < 0.5)


def overhead(studio: Studio) -> None:
    final = studio.final()
    added = final.stat().st_size - studio.render.stat().st_size
    row("signed once, at the end, parent and voice, 6 actions", f"{added / 1000:.1f} kB", "< 20 kB", added < 20_000)


def half_a_gigabyte(studio: Studio, size: int) -> None:
    film = padded(studio, size)
    for what, target, in_chunks in (("as other tools sign", studio.new(), False), ("as we sign", studio.new(), True)):
        call = (
            f"p.LARGE = {0 if in_chunks else 1 << 62}; p.sign(Path(a[0]), Path(a[1]),"
            " history=(Action('generate', agent='a model', ai=True),), signer=p.test_signer(Path(a[2])))"
        )
        took, peak = alone(call, film, target, studio.folder / "ours")
        row(f"{size / 1e6:.0f} MB {what}: sign", f"{took:.1f} s")
        row(f"{size / 1e6:.0f} MB {what}: memory to sign", f"{peak:.0f} MB")
        took, peak = alone(
            "assert p.verify(Path(a[0]), anchors=[Path(a[1])]).exit_code == 0", target, studio.anchors[2]
        )
        row(f"{size / 1e6:.0f} MB {what}: verify", f"{took:.1f} s")
        fine = peak < 100 or not in_chunks
        row(f"{size / 1e6:.0f} MB {what}: memory to verify", f"{peak:.0f} MB", "< 100 MB" if in_chunks else "", fine)
        target.unlink()


def alone(call: str, *arguments: Path) -> tuple[float, float]:
    """Seconds that `call` takes in a process of its own, and that one's peak in megabytes."""
    code = (
        "import sys, time; from pathlib import Path; from stages.clip import Action; import stages.provenance as p;"
        "a = sys.argv[1:]; began = time.perf_counter();"
        f"{call};"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1];"
        "print(time.perf_counter() - began, int(peak) / 1000)"
    )
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    took, peak = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return float(took), float(peak)


def hundred_hops(studio: Studio) -> None:
    film = studio.original
    for _ in range(100):
        film = studio.foreign(film)
    took = seconds(lambda: expect(verify(film, original=studio.original, anchors=studio.anchors).verdict, "proved"))
    row("100 hops: verify to the first original", f"{took:.1f} s")
    rotten = studio.signed_by(studio.stranger.signer("Sora"))
    for _ in range(100):
        rotten = studio.foreign(rotten)
    expect(verify(rotten, anchors=studio.anchors).verdict, "untrusted")
    row("100 hops, the first by a stranger", "untrusted")


def thirty_three_megabytes(studio: Studio) -> None:
    described = tamper.manifest(tamper.CREATED) | {"thumbnail": {"format": "image/png", "identifier": "t.png"}}
    resources = {"t.png": bytes(33 << 20)}
    heavy = tamper.raw_sign(
        studio.film, studio.new(), studio.sora, described, anchors=studio.anchors, resources=resources
    )
    took, peak = alone("p.verify(Path(a[0]), anchors=[Path(a[1])])", heavy, studio.anchors[0])
    row("a manifest of 35 MB: verify", f"{took:.1f} s")
    row("a manifest of 35 MB: memory to verify", f"{peak:.0f} MB")
    try:
        archive_ingredient(heavy, studio.new(".c2pa"), anchors=studio.anchors)
    except InputError as error:
        row("a manifest of 35 MB: ingest", "refused", str(error).partition(": ")[2])


def expect(found: object, wanted: object) -> None:
    assert found == wanted, (found, wanted)


if __name__ == "__main__":
    main()
