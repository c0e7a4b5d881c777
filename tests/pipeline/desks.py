"""Projects to run recipes in. A plugin, not a conftest: mypy wants one module of that name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workshop import Workshop, make_media


@pytest.fixture(scope="session")
def small_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small media, to copy from."""
    folder = tmp_path_factory.mktemp("small")
    make_media(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty project; the machine's own signer stays out of it."""
    for name in ("AFTERFRAME_SIGNER_CERT", "AFTERFRAME_SIGNER_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Workshop(tmp_path / "project")


@pytest.fixture
def workshop(desk: Workshop, small_media: Path) -> Workshop:
    """A project with the media in it."""
    for file in small_media.iterdir():
        shutil.copy2(file, desk.folder)
    return desk
