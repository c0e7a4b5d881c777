"""How long it takes to submit a batch, and how much memory; and what waiting renders weigh.

    python -m tests.benchmarks.batch --renders 10000 --database postgresql://user:password@host/name
    python -m tests.benchmarks.batch --renders 1000

Every render buys a film of the simulator, so each is read, planned, priced and
put into a queue. Nothing is bought. Without a database it is SQLite.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

RECIPE = """\
inputs: {prompt: ~, name: ~}
budget: $1000000
steps:
  - generate: {prompt: $prompt, frame: 16:9, length: 2s, model: sim}
  - trim: {length: 1s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/$name.mp4}]
"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=1000)
    parser.add_argument("--database", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFTERFRAME_HOME"] = f"{folder}/home"
        os.environ["AFTERFRAME_DATABASE"] = given.database
        measure(Path(folder) / "project", given.renders)


def project_of(project: Path, recipe: str, renders: int) -> Path:
    """A project with `rows.csv` for so many films of foxes; the file of its recipe."""
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "film.yaml").write_text(recipe, encoding="utf-8")
    lines = (f"a fox number {number},film{number}" for number in range(renders))
    (project / "rows.csv").write_text("\n".join(["prompt,name", *lines]), encoding="utf-8")
    return project / "film.yaml"


def measure(project: Path, renders: int) -> None:
    """Draw up, submit, look."""
    from pipeline.batch import Engine  # noqa: PLC0415 -- after the environment is set
    from pipeline.roster import draw_up, submitted  # noqa: PLC0415 -- likewise
    from pipeline.rows import read_rows  # noqa: PLC0415 -- likewise
    from pipeline.store import Store  # noqa: PLC0415 -- likewise
    from pipeline.yard import Yard  # noqa: PLC0415 -- likewise

    yard, recipe = Yard(project / ".pipeline"), project_of(project, RECIPE, renders)
    engine = Engine.of(yard.folder)
    engine.prepare()
    began = time.monotonic()
    drawn = draw_up(recipe, read_rows(str(project / "rows.csv"), recipe, RECIPE), Store(yard.folder))
    planned = time.monotonic()
    with engine.client() as desk:
        batch, fresh = submitted(drawn, desk.under_way())
        yard.shelf.keep(batch)
        desk.submit(batch, fresh)
        queued = time.monotonic()
        states = desk.states(batch)
    looked = time.monotonic()
    assert {state.word for state in states.values()} == {"waiting"}
    assert len(fresh) == renders
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{renders} renders: read, planned and priced in {planned - began:.1f} s, queued in {queued - planned:.1f} s")
    print(f"one look at all of them: {looked - queued:.1f} s; peak memory of the process: {peak:.0f} MB")


if __name__ == "__main__":
    main()
