"""Sign, verify, and the matrix of files that must not be proved. Real c2pa, real ffmpeg, no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cattrs
import pytest
import tamper
from tamper import BAD, GOOD, Studio

from stages import provenance
from stages.clip import Action
from stages.errors import InputError, ProvenanceError
from stages.provenance import (
    Credentials,
    Signer,
    archive_ingredient,
    read_credentials,
    sdk_version,
    sign,
    verify,
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


# ---------------------------------------------------------------- the matrix


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_proved(studio: Studio, name: str) -> None:
    found = verify(GOOD[name](studio), anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("proved", ()), found.sentence


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_not_proved(studio: Studio, name: str) -> None:
    expected, make = BAD[name]
    found = verify(make(studio), anchors=studio.anchors)
    assert found.verdict == expected, (found.codes, found.sentence)
    assert found.codes or expected == "absent"
    assert found.exit_code >= 10
