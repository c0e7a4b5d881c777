"""Packages that somebody installed, as far as entry points go: of interpolators none is ours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from stages import plugins
from stages.clip import Size


def plugged(folder: Path, group: str, **entries: str) -> Path:
    """A package in `folder` that registers each of `entries`, such as `fader="plugs:Fader"`."""
    metadata = folder / "afterframe_plugs-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: afterframe-plugs\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return folder


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, **entries: str) -> None:
    """The package, found by this process for the length of a test."""
    monkeypatch.syspath_prepend(str(plugged(folder, group, **entries)))
    monkeypatch.setattr(plugins, "_registered", plugins._registered.__wrapped__)  # without what it remembers


class Fader:
    """An interpolator that fades; it has no model, and says it has one so that this can be followed."""

    version = "fader 1.0 with nothing"
    trained = True

    def probe(self) -> str:
        return ""

    def between(self, before: bytes, after: bytes, size: Size, share: Fraction) -> bytes:
        one, other = (np.frombuffer(frame, np.uint8).astype(float) for frame in (before, after))
        mixed: bytes = np.rint(one + (other - one) * float(share)).astype(np.uint8).tobytes()
        return mixed


class Missing(Fader):
    """One that cannot work here."""

    def probe(self) -> str:
        return "its model is not there: pip install 'fader[model]'"


class Blackout(Fader):
    """One that draws nothing of what it is shown."""

    def between(self, before: bytes, after: bytes, size: Size, share: Fraction) -> bytes:
        return bytes(len(before))


class Cropper(Fader):
    """One that draws frames of another size."""

    def between(self, before: bytes, after: bytes, size: Size, share: Fraction) -> bytes:
        return before[:-3]
