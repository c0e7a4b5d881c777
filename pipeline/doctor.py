"""What this machine has: each part tried, not just found."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.errors import AfterframeError
from stages.ffmpeg import ffmpeg_binary, ffmpeg_version, run_ffmpeg
from stages.files import home
from stages.provenance import check_signer, read_credentials, sdk_version, signer_from_environment

FILTERS = ("ass", "scale", "ebur128", "alimiter", "amultiply", "silencedetect", "setparams", "tpad", "amix")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is fine, and what was seen."""

    what: str
    fine: bool
    text: str
    optional: bool = False


def examine() -> tuple[Finding, ...]:
    """Try everything once."""
    return (*_ffmpeg(), _c2pa(), _signer(), _voice(), _home())


def _ffmpeg() -> tuple[Finding, ...]:
    try:
        found = Finding("ffmpeg", True, f"{ffmpeg_version()} at {ffmpeg_binary()}")
        run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=320x180:d=0.2", "-c:v", "libx264", "-f", "null", "-"])
        lacking = [name for name in FILTERS if f" {name} " not in _filters()]
    except AfterframeError as error:
        return (Finding("ffmpeg", False, str(error)),)
    listed = Finding("filters", not lacking, "all there" if not lacking else f"missing: {', '.join(lacking)}")
    return found, listed


def _filters() -> str:
    import subprocess  # noqa: PLC0415 -- one call, here alone

    return subprocess.run([ffmpeg_binary(), "-hide_banner", "-filters"], capture_output=True, text=True).stdout


def _c2pa() -> Finding:
    try:
        state = read_credentials(Path(__file__)).state
    except (ImportError, OSError) as error:
        return Finding("c2pa", False, f"c2pa-python cannot be loaded: {error}")
    return Finding("c2pa", state == "absent", f"c2pa-python {sdk_version()}")


def _signer() -> Finding:
    try:
        signer = signer_from_environment()
    except AfterframeError as error:
        return Finding("signer", False, str(error))
    if signer is None:
        return Finding("signer", True, "a local test signer; AFTERFRAME_SIGNER_CERT and _KEY name a real one")
    faults = check_signer(signer)
    return Finding("signer", not faults, "; ".join(faults) or f"{signer.name}")


def _voice() -> Finding:
    try:
        return Finding("voice", True, f"heart (hibari-tts {version('hibari-tts')})")
    except PackageNotFoundError:
        return Finding("voice", False, "none; pip install 'afterframe[local]' brings heart", optional=True)


def _home() -> Finding:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("home", False, f"{folder}: {os.strerror(error.errno or 0)}; AFTERFRAME_HOME names another")
    return Finding("home", True, f"{Path(folder)}: {free / 1e9:.0f} GB free")
