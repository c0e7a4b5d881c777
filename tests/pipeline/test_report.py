"""The report opens in a browser, stands alone, and says what was delivered and how far it is proved."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workshop import FILM, Workshop, chromium

pytest_plugins = ["desks"]

pytestmark = pytest.mark.skipif(not chromium(), reason="needs chromium-headless-shell, Debian's package of that name")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, small_media: Path) -> Path:
    """The report of a first run of FILM, with names that a careless page would trip over."""
    workshop = Workshop(tmp_path_factory.mktemp("report") / "project")
    shutil.copytree(small_media, workshop.folder, dirs_exist_ok=True)
    (workshop.folder / "clip.mp4").rename(workshop.folder / "a <b> & 'c'.mp4")
    workshop.write(FILM.replace("clip: clip.mp4", "clip: \"a <b> & 'c'.mp4\""))
    done = workshop.cli("run", "film.yaml")
    assert done.returncode == 0, done.stderr
    return workshop.folder / "out" / "film.report.html"


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open the page in a browser that may not touch the network."""
    return subprocess.run(
        [
            chromium(), "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr", f"--user-data-dir={page.parent.parent / 'browser'}", *options, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_the_page_opens_without_a_complaint(report: Path) -> None:
    done = browse(report, "--dump-dom")
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr, done.stderr
    text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", done.stdout, flags=re.DOTALL))
    for said in ("out/web.mp4", "out/youtube.mp4", "proved", "LUFS", "320x180", "24 at 24 a second", "a <b> & 'c'.mp4"):
        assert said in text, said
    assert done.stdout.count('class="proved">proved') == 2 or text.count(" proved ") >= 2
    told = " ".join(text.split())
    assert "The film was made from a <b> & 'c'.mp4 (nobody says who made it; not signed)." in told
    assert "Laid into it: voice.wav (nobody says who made it; not signed)." in told
    assert "Then Afterframe did this: cut in time, a sound laid over its own, sound levelled, captions" in told
    assert not re.search(r"\b(None|nan|Fraction|PosixPath|Traceback|Undefined)\b", text)


def test_the_page_stands_alone(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"""\b(src|href|action)\s*=\s*(?!["']?(data:|#))""", text)
    assert not re.search(r"url\((?!['\"]?data:)|@import|<script|<link|<iframe", text)
    assert "file://" not in text
    assert str(report.parent.parent) not in text, "says whose machine it was"


def test_every_picture_is_seen(report: Path) -> None:
    """An image that does not decode has no width of its own."""
    probe = report.with_name("probe.html")
    script = (
        "<script>onload=()=>{document.title='images '+[...document.images].map(i=>i.naturalWidth+'x'+i.alt.length)"
        "+' wide '+document.documentElement.scrollWidth}</script>"
    )
    probe.write_text(report.read_text(encoding="utf-8") + script, encoding="utf-8")
    for width in (1280, 400):
        seen = browse(probe, "--dump-dom", f"--window-size={width},900").stdout
        probed = re.search(r"<title>images (\S+) wide (\d+)</title>", seen)
        assert probed, seen[:200]
        images = [tuple(map(int, one.split("x"))) for one in probed[1].split(",")]
        assert len(images) >= 4
        assert all(natural > 0 and alt > 0 for natural, alt in images), images
        assert int(probed[2]) <= width, f"at {width} px one must scroll sideways to {probed[2]} px"


def test_a_picture_of_the_page_can_be_taken(report: Path, tmp_path: Path) -> None:
    shot = tmp_path / "report.png"
    browse(report, f"--screenshot={shot}", "--window-size=1280,2400")
    assert shot.stat().st_size > 10_000
