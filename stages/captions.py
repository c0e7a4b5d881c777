"""The edit that captions a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from stages.clip import Captions, Clip
from stages.errors import InputError
from stages.stage import edit
from stages.subtitles import cues_from, read_srt


@edit()
def caption(
    clip: Clip, *, file: Path | None = None, burn: bool = True, sidecar: Literal["", "srt", "vtt"] = ""
) -> Clip:
    """Caption the clip from `file` (SRT), or else from the words that are spoken in it.

    `burn` draws them into the delivered frame; `sidecar` writes them beside the file.
    Raises InputError if there is no picture, no cue to show, or a cue that starts after the clip's end.
    """
    if clip.picture is None:
        raise InputError("caption: the clip has no picture to write on")
    if clip.picture.captions:
        raise InputError("caption: the clip has captions already; caption it once, with burn: and sidecar: together")
    if file is not None:
        cues = read_srt(file)
    elif clip.sound and clip.sound.words:
        cues = cues_from(clip.sound.words)
    else:
        raise InputError("caption: no words are known of this clip's sound; give it a file: of captions (SRT)")
    late = next((cue for cue in cues if cue.start >= clip.duration), None)
    if late:
        raise InputError(
            f"caption: '{(late.text.splitlines() or [''])[0]}' starts at {float(late.start):g} s,"
            f" after the clip's end at {float(clip.duration):g} s"
        )
    return replace(clip, picture=replace(clip.picture, captions=Captions(cues, burn, sidecar)))
