"""Kill a run at random instants, start it again until it ends, and look at what it delivered.

    python tests/torture/run_kills.py --kills 60

Each round runs a tiny recipe in a fresh project: three films, one of them with
a copied picture. The runner is killed with SIGKILL, now alone, now with its
whole process group, and started again at once, until it ends by itself. Then
every film must decode whole and be proved, and nothing half-made may be left:
no part file, no ffmpeg.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parents[2]
FRAMES = {"web": 24, "youtube": 24, "dub": 48}
MARK = "AFTERFRAME_KILLS"
"""An environment variable by which the processes of a project are known."""

RECIPE = """\
steps:
  - trim: {clip: clip.mp4, length: 1s}
  - mix_audio: {sound: voice.wav, at: 0.2s, duck: 10 dB}
  - caption: {file: words.srt, sidecar: srt}
  - {upscale: {size: 640x360}, name: large}
  - {replace_audio: {clip: clip.mp4, sound: voice.wav}, name: dub}
deliver:
  - {preset: web, clip: $large, file: out/web.mp4}
  - {preset: youtube, clip: $large, file: out/youtube.mp4}
  - {preset: web, clip: $dub, file: out/dub.mp4}
"""


@dataclass(slots=True)
class Outcome:
    """How it went: `faults` should be empty. `phases` say how far the killed runs had come.

    `strays` are what was left in the machine's folder for temporary files, which the machine clears.
    """

    kills: int = 0
    rounds: int = 0
    longest_orphan: float = 0.0
    seconds: float = 0.0
    phases: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Project:
    """A folder with a recipe, and the runs in it."""

    folder: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def prepare(self, media: Path) -> None:
        """Put the recipe and what it reads into the folder."""
        self.folder.mkdir(parents=True)
        (self.folder / "pyproject.toml").touch()
        (self.folder / "temporary").mkdir()
        (self.folder / "film.yaml").write_text(RECIPE, encoding="utf-8")
        for file in media.iterdir():
            (self.folder / file.name).write_bytes(file.read_bytes())

    def start(self) -> subprocess.Popen[bytes]:
        """A run, in a process group of its own."""
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as errors:
            return subprocess.Popen(
                self.command("run", "film.yaml", "--json"),
                cwd=self.folder,
                env=self.environment(),
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", *arguments]

    def environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("AFTERFRAME_SIGNER")}
        home = str(self.folder / "home")
        return {
            **ours,
            MARK: self.mark,
            "TMPDIR": str(self.folder / "temporary"),
            "AFTERFRAME_HOME": home,
            "PYTHONPATH": str(ROOT),
        }

    def alive(self) -> Iterator[str]:
        """What still runs of it, by its name."""
        sought = f"{MARK}={self.mark}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if sought in (process / "environ").read_bytes().split(b"\0"):
                    yield (process / "comm").read_text(encoding="utf-8").strip()
            except OSError:  # ended meanwhile, or not ours
                continue

    def orphans_gone_after(self, patience: float = 5.0) -> float:
        """Seconds until nothing of a killed run is left; `patience` if something stays."""
        started = time.monotonic()
        while any(True for _ in self.alive()):
            if time.monotonic() - started > patience:
                return patience
            time.sleep(0.005)
        return time.monotonic() - started

    def phase(self) -> str:
        """How far a run has come, by what lies there."""
        tasks = list((self.folder / ".pipeline" / "tasks").glob("*/note.json"))
        if not (self.folder / ".pipeline").exists():
            return "before anything"
        if (self.folder / "out").exists() and any((self.folder / "out").iterdir()):
            return "delivering"
        kinds = {task.parent.name.split("-")[0] for task in tasks}
        return next((f"after a {kind}" for kind in ("delivery", "film", "sound", "ingest") if kind in kinds), "begun")

    # ------------------------------------------------------------ what must hold in the end

    def faults(self) -> Iterator[str]:
        """What is wrong with a project whose run ended by itself."""
        from stages.provenance import verify  # noqa: PLC0415 -- found once the path has the sources

        root = self.folder / ".pipeline" / "signer" / "test-root.pem"
        told = json.loads((self.folder / "stdout").read_bytes())
        files = {Path(file["path"]).stem: file for file in told["files"]}
        for name, frames in FRAMES.items():
            file = self.folder / "out" / f"{name}.mp4"
            if not file.exists():
                yield f"{name}: is missing"
                continue
            if files[name]["frames"] != frames:
                yield f"{name}: {files[name]['frames']} frames are told, not {frames}"
            yield from _broken(file, frames)
            verified = verify(file, original=self.folder / "clip.mp4", anchors=[root])
            if verified.verdict != "proved":
                yield f"{name}: {verified.sentence}"
        for beside in ("web.srt", "youtube.srt"):
            if "Hello" not in (self.folder / "out" / beside).read_text(encoding="utf-8"):
                yield f"{beside}: is not whole"
        if (said := self.ran("verify", "out/web.mp4")).returncode != 0:
            yield f"pipeline verify: {said.stdout}{said.stderr}"
        yield from (f"left over: {file}" for file in self.leftovers())
        yield from (f"still alive: {name}" for name in self.alive())
        again = json.loads(self.ran("run", "film.yaml", "--json").stdout)
        if again["encoded"] or again["copied"]:
            yield f"not finished: {again['encoded']} encoded again"

    def ran(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment(), capture_output=True, text=True
        )

    def leftovers(self) -> Iterator[str]:
        """Part files, and whatever a killed run kept for a moment."""
        half = [*self.folder.rglob(".af-*"), *(self.folder / ".pipeline" / "tmp").glob("*")]
        wanted = {f"{name}.mp4" for name in FRAMES} | {"web.srt", "youtube.srt", "film.report.html"}
        half += [file for file in (self.folder / "out").iterdir() if file.name not in wanted]
        yield from sorted({str(file.relative_to(self.folder)) for file in half})

    def strays(self) -> list[str]:
        """What killed runs left in the folder for temporary files."""
        return sorted(file.name for file in (self.folder / "temporary").iterdir())


def _broken(file: Path, frames: int) -> Iterator[str]:
    """Decode it all."""
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-xerror", "-i", str(file), "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, text=True)
    found = int(done.stderr.rpartition("frame=")[2].split()[0]) if "frame=" in done.stderr else 0
    if done.returncode != 0 or found != frames or "error" in done.stderr.lower():
        yield f"{file.name}: {found} of {frames} frames decode, exit code {done.returncode}"


def make_media(folder: Path) -> None:
    """Two seconds of a moving picture with a tone, a voice, and captions."""
    folder.mkdir(parents=True)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]
    picture = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=24:d=2", "-f", "lavfi", "-i", "sine=440:r=48000:d=2"]
    tagged = ["-vf", "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"]
    coded = ["-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([*ffmpeg, *picture, *tagged, *coded, str(folder / "clip.mp4")], check=True)
    subprocess.run([*ffmpeg, "-f", "lavfi", "-i", "sine=880:r=24000:d=0.6", str(folder / "voice.wav")], check=True)
    (folder / "words.srt").write_text("1\n00:00:00,200 --> 00:00:00,900\nHello there\n", encoding="utf-8")


def run(folder: Path, *, kills: int, seed: int = 0, seconds: float = float("inf")) -> Outcome:
    """Kill `kills` times, or for about `seconds`; let every run end in the end; look at each."""
    dice, started, outcome = random.Random(seed), time.monotonic(), Outcome()
    make_media(folder / "media")
    whole = _lasts(folder)
    while not outcome.kills or (outcome.kills < kills and time.monotonic() - started < seconds):
        project = Project(folder / f"project{outcome.rounds}")
        project.prepare(folder / "media")
        _round(project, outcome, dice, kills, whole)
        outcome.rounds += 1
    outcome.seconds = time.monotonic() - started
    return outcome


def _lasts(folder: Path) -> float:
    """How long a run takes that nobody kills."""
    project = Project(folder / "undisturbed")
    project.prepare(folder / "media")
    began = time.monotonic()
    if project.start().wait() != 0:
        raise RuntimeError((project.folder / "stderr").read_text(encoding="utf-8"))
    return time.monotonic() - began


def _round(project: Project, outcome: Outcome, dice: random.Random, kills: int, whole: float) -> None:
    killed = 0
    while True:
        process = project.start()
        # At most six kills a project, so that the end is reached, and killed in, as often as the beginning.
        patience = dice.uniform(0, whole * 1.1) if outcome.kills < kills and killed < 6 else None
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            outcome.phases[project.phase()] += 1
            if dice.random() < 0.5:
                os.kill(process.pid, signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            outcome.kills += 1
            killed += 1
            # Half of the time the next run meets the orphans of this one, if there are any.
            if dice.random() < 0.5:
                outcome.longest_orphan = max(outcome.longest_orphan, project.orphans_gone_after())
            continue
        if code != 0:
            said = (project.folder / "stderr").read_text(encoding="utf-8")
            outcome.faults.append(f"{project.folder.name}: ended with {code}: {said}")
            return
        outcome.faults += [f"{project.folder.name}: {fault}" for fault in project.faults()]
        outcome.strays += project.strays()
        return


def main() -> int:
    """Run, print, and say whether everything was whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), kills=given.kills, seed=given.seed)
    print(f"{outcome.kills} kills in {outcome.rounds} projects, {outcome.seconds:.0f} s")
    print(f"killed {', '.join(f'{count} {phase}' for phase, count in outcome.phases.most_common())}")
    print(f"the longest that a process outlived its killed runner: {outcome.longest_orphan:.3f} s")
    print(f"left in the folder for temporary files: {len(outcome.strays)}")
    print("\n".join(outcome.faults) or "every film whole and proved, nothing left over")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
