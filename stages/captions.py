"""The edit that captions a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from stages.clip import Captions, CaptionStyle, Clip, Cue
from stages.errors import InputError
from stages.lettering import SHIPPED, undrawable
from stages.stage import edit
from stages.subtitles import cues_from, read_cues
from stages.timed_text import check_texts


@edit()
def caption(
    clip: Clip, *, file: Path | None = None, of: Clip | None = None, burn: bool = True,
    style: CaptionStyle = "clean", font: Path | None = None, sidecar: Literal["", "srt", "vtt", "both"] = "",
    soft: bool = False,
) -> Clip:  # fmt: skip
    """Caption the clip from `file` (SRT or WebVTT), from the words spoken in `of`, or else from its own.

    Words are laid out in two lines of 42 characters, of 16 in Chinese and Korean and 13 in Japanese, broken as
    those are. `burn` draws them into the delivered frame, after every crop: `clean`, or so that the word being said is
    picked out (`bold-word`) or the line fills with colour while it is said (`karaoke`). `font` is the file of
    another font than ours, which has Latin, Greek and Cyrillic letters. `sidecar` writes them beside the file.
    `soft` lays them into MP4 and MOV as a track of its own (`mov_text`), which viewers turn on and off; what holds
    no such track, such as a GIF, is delivered without it, and the plan says so.
    Raises InputError if there is no picture, no cue to show, a cue that starts after the clip's end, or a
    character that the font lacks, and names a font that has it.
    """
    if clip.picture is None:
        raise InputError("caption: the clip has no picture to write on")
    if clip.picture.captions:
        raise InputError(
            "caption: the clip has captions already; caption it once, with burn:, soft: and sidecar: together"
        )
    if file is not None and of is not None:
        raise InputError("give file: or of:, not both", "of")
    if not burn and (font or style != "clean"):
        raise InputError("nothing is drawn with burn: no", "font" if font else "style")
    if file is not None:
        cues = read_cues(file)
    elif of is not None:
        cues = _cues_of(of)
    elif clip.sound and clip.sound.words:
        cues = cues_from(clip.sound.words)
    else:
        raise InputError(
            "caption: no words are known of this clip's sound; give it a file: of captions (SRT, WebVTT),"
            " or of: a clip that is spoken"
        )
    late = next((cue for cue in cues if cue.start >= clip.duration), None)
    if late:
        raise InputError(
            f"caption: '{(late.text.splitlines() or [''])[0]}' starts at {float(late.start):g} s,"
            f" after the clip's end at {float(clip.duration):g} s"
        )
    if burn and (why := undrawable("".join(cue.text for cue in cues), font or SHIPPED)):
        raise InputError(f"caption: {why}")
    if soft:
        check_texts(cues)
    return replace(clip, picture=replace(clip.picture, captions=Captions(cues, burn, sidecar, style, font, soft)))


def _cues_of(clip: Clip) -> tuple[Cue, ...]:
    if clip.picture and clip.picture.captions:
        return clip.picture.captions.cues
    if clip.sound and clip.sound.words:
        return cues_from(clip.sound.words)
    raise InputError("no words are known of that clip's sound, and it has no captions", "of")
