"""Small films that many tests watch, each made once; and a home of its own for every test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import buckets
import postgres
import pytest
from hypothesis import settings
from lab import LOSSLESS, TAGS, film, shipped_ffmpeg

from stages.stores import close_idle

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")


@pytest.fixture(autouse=True, scope="session")
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor do the films that are made once for many tests end up there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFTERFRAME_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the ledger or the paid originals of whoever runs it."""
    monkeypatch.setenv("AFTERFRAME_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("AFTERFRAME_DATABASE", raising=False)
    monkeypatch.delenv("AFTERFRAME_STORE", raising=False)


DEBIAN = Path("/usr/bin/ffmpeg")


@cache
def version(binary: str) -> str:
    """Such as `5.1.9-0+deb12u1`, or nothing if there is no such ffmpeg."""
    if not Path(binary).exists():
        return ""
    return subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout.split()[2]


@pytest.fixture(params=["imageio-ffmpeg", "5.1"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ffmpeg that renders."""
    if request.param == "imageio-ffmpeg":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", shipped_ffmpeg())
    elif not version(str(DEBIAN)).startswith("5.1"):
        pytest.skip("needs ffmpeg 5.1 in /usr/bin: apt-get install ffmpeg, on Debian 12")
    else:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(DEBIAN))
    return str(request.param)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a Postgres that lives as long as the session."""
    if not postgres.is_here():
        pytest.skip(postgres.LACKING)
    with postgres.server() as address:
        yield address


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 that lives as long as the session."""
    with buckets.server() as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and an environment that may use it."""
    for name, value in buckets.environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return buckets.bucket(s3_server)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a new ledger's rows go: with each test that takes this, once into either store."""
    monkeypatch.setattr("stages.stores.SYNCHRONOUS", "OFF")  # no test of this process cuts the power
    if request.param == "sqlite":
        yield ""
        return
    server = str(request.getfixturevalue("postgres_server"))
    postgres.empty(server)
    yield server
    close_idle()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the session's films."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def shot(media: Path) -> Path:
    """3 s at 24 fps, 160x90, moving, with a tone: as an honest generator sells it."""
    return film(
        media / "shot.mp4",
        *("-f", "lavfi", "-i", f"testsrc2=s=160x90:r=24:d=3,scale=out_color_matrix=bt709:out_range=tv,{TAGS}"),
        *("-f", "lavfi", "-i", "aevalsrc=0.1*sin(2*PI*300*t)|0.1*sin(2*PI*300*t):s=48000:d=3"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "48", "-c:a", "aac"),
    )


@pytest.fixture(scope="session")
def voice(media: Path) -> Path:
    """1.5 s, mono, 24 kHz: a tone from 0.1 to 0.5 s and from 0.9 to 1.4 s stands for speech."""
    spoken = "0.3*sin(2*PI*1000*t)*(between(t,0.1,0.5)+between(t,0.9,1.4))"
    return film(media / "voice.wav", "-f", "lavfi", "-i", f"aevalsrc='{spoken}':s=24000:d=1.5")


@pytest.fixture(scope="session")
def flashes(media: Path) -> Path:
    """3 s at 24 fps: a white frame and a click at 0.5, 1.5 and 2.5 s."""
    white = "if(eq(mod(N,24),12),235,16)"
    click = "0.8*sin(2*PI*2000*t)*lt(mod(t+0.5,1),0.005)"
    return film(
        media / "flashes.mov",
        *("-f", "lavfi", "-i", f"color=s=160x90:r=24:d=3,format=yuv420p,geq=lum='{white}':cb=128:cr=128,{TAGS}"),
        *("-f", "lavfi", "-i", f"aevalsrc='{click}|{click}':s=48000:d=3"),
        *(*LOSSLESS, "-c:a", "pcm_s16le"),
    )
