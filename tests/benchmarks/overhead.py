"""What the command line and the runner cost by themselves, against their goals.

    python tests/benchmarks/overhead.py

CPU is user and system time of the command and what it starts; memory is the
runner's own peak (VmHWM), without the processes that it starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "presets/recipes/finish.yaml"
REPEATS = 5


def ran(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and the peak of the command's own memory in megabytes."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("pipeline")), *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0.0
    while True:
        peak = max(peak, _own_peak(process.pid))
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        time.sleep(0.005)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"pipeline {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, peak


def _own_peak(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def main() -> None:
    """Measure, and print each figure beside its goal."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; medians of {REPEATS}")
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / "pyproject.toml").touch()
        shutil.copytree(ROOT / "presets" / "recipes", project / "presets" / "recipes")
        shutil.copytree(ROOT / "fixtures", project / "fixtures")
        helped = median(ran(project, "--help")[1] for _ in range(REPEATS))
        fresh = []
        for _ in range(REPEATS):
            shutil.rmtree(project / ".pipeline", ignore_errors=True)
            fresh.append(ran(project, "plan", RECIPE)[1])
        first = ran(project, "run", RECIPE)
        planned = median(ran(project, "plan", RECIPE)[1] for _ in range(REPEATS))
        again = [ran(project, "run", RECIPE) for _ in range(REPEATS)]
    print(f"pipeline --help                       {helped:6.2f} s of CPU   goal 0.35")
    print(f"pipeline plan finish.yaml, all new    {median(fresh):6.2f} s of CPU   goal 1")
    print(f"pipeline plan finish.yaml, all cached {planned:6.2f} s of CPU   goal 1")
    print(f"pipeline run finish.yaml, all cached  {median(wall for wall, _, _ in again):6.2f} s of wall  goal 3")
    print(f"pipeline run finish.yaml, all new     {first[0]:6.2f} s of wall, {first[1]:.1f} s of CPU")
    print(f"the runner's own memory, all new      {first[2]:6.0f} MB         goal 200")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
