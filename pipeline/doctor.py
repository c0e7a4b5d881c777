"""What this machine has: each part tried, not just found."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.depot import Missing, shared_depot
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
    return (*_ffmpeg(), _c2pa(), _signer(), _voice(), _home(), *_store(), *_keys())


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
    faults = check_signer(signer, once=True)
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


def _store() -> tuple[Finding, ...]:
    """The store that is shared, tried with a small object, if there is one."""
    try:
        depot = shared_depot()
        if depot is None:
            return ()
        name = f"doctor/{secrets.token_hex(8)}"
        began = time.monotonic()
        depot.write(name, "anybody here?")
        depot.read(name)
        depot.remove([name])
    except (AfterframeError, Missing) as error:
        return (Finding("store", False, str(error)),)
    took = (time.monotonic() - began) / 3
    alone = "" if os.environ.get("AFTERFRAME_DATABASE") else "; without AFTERFRAME_DATABASE two may make the same"
    return (Finding("store", True, f"{depot.url}: {took * 1000:.0f} ms a request{alone}"),)


POWERFUL = (
    ("sk-admin-", "can change the whole organisation: use a project key"),
    ("sk-None-", "belongs to a user, not to a project: use a project key"),
)
"""How keys of OpenAI begin that can do more than films need, and what is wrong with that; a plain `sk-` is a user's."""

NARROW = ("sk-proj-", "sk-svcacct-")
"""How keys of OpenAI begin that belong to one project."""


def _keys() -> tuple[Finding, ...]:
    """Keys that could do more harm than they need to, if they came into the wrong hands; no key itself is shown."""
    key, base = os.environ.get("OPENAI_API_KEY", ""), os.environ.get("OPENAI_BASE_URL", "")
    if not key.startswith("sk-") or key.startswith(NARROW) or (base and "api.openai.com" not in base):
        return ()
    wrong = next((said for start, said in POWERFUL if key.startswith(start)), "looks like a user's, not a project's")
    advice = "a project key limited to the endpoints in use, with a spending cap, does less harm if it is lost"
    return (Finding("keys", False, f"OPENAI_API_KEY {wrong}; {advice}", optional=True),)
