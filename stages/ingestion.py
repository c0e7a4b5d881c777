"""Ingest: what a file says of itself is read the moment it arrives, and kept, before anything touches it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.clip import Clip, PictureFacts, Source
from stages.errors import FfmpegError, InputError, ProvenanceError
from stages.ffmpeg import contact_sheet
from stages.listening import Span, said_of, speech_in
from stages.mixing import Measured, measure
from stages.policy import Policy
from stages.provenance import Credentials, archive_ingredient

ARCHIVE, SHEET = "ingredient.c2pa", "sheet.jpg"


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was found in a file: its credentials, how loud it is where it has sound, when somebody talks in a film, and
    what else is worth a remark."""

    credentials: Credentials
    loudness: Measured | None = None
    remarks: tuple[str, ...] = ()
    speech: tuple[Span, ...] = ()


def ingest(
    file: Path,
    clip: Clip | None = None,
    *,
    anchors: Sequence[Path] = (),
    policy: Policy = Policy(),
    folder: Path,
) -> Ingested:
    """Archive the credentials of `file` in `folder`, and draw what is to be seen and heard in it.

    `clip` is what it holds, if it is a film or a sound. Raises ProvenanceError
    if it was changed after it was signed, as nothing made of it could be proved,
    and if it is not what `policy` asks for.
    """
    try:
        credentials = archive_ingredient(file, folder / ARCHIVE, anchors=anchors)
    except ProvenanceError:
        if clip is not None:
            raise
        raise InputError(f"{file.name}: is truncated or broken") from None
    draw(file, clip, folder)
    if credentials.state == "tampered" and clip is None and not (folder / SHEET).exists():
        raise InputError(f"{file.name}: is no picture, film or sound that can be read")
    remark = policy.check(file.name, credentials)
    if clip is None or clip.sound is None:
        return Ingested(credentials, remarks=(remark,) if remark else ())
    speech = speech_in(clip.sound, folder) if clip.picture else ()
    # What a model made people say is often no language.
    heard = f"{said}: mix_audio keeps it, replace_audio does not" if (said := said_of(speech)) else ""
    loudness = measure(clip.sound, folder, drawn=True)
    return Ingested(credentials, loudness, tuple(filter(None, (remark, heard))), speech)


def draw(file: Path, clip: Clip | None, folder: Path) -> None:
    """Put a contact sheet of `file` into `folder`, if there is anything to see."""
    if clip is None:
        with contextlib.suppress(FfmpegError):  # a photo; what is neither that nor a film has nothing to show
            contact_sheet(file, None, folder / SHEET)
        return
    if clip.picture and isinstance(clip.picture.stream, Source) and isinstance(clip.picture.stream.facts, PictureFacts):
        contact_sheet(file, clip.picture.stream.facts, folder / SHEET)
