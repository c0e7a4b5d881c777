"""How a picture is encoded, as a preset wants it, and which streams are so already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import presets
from stages.clip import BT709, Colour, Picture, PictureFacts, Source, seconds
from stages.errors import InputError
from stages.stage import nearest
from stages.tails import ends_clean, whole_of


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a file held against what is wanted; `key` is the preset's word for it."""

    key: str
    found: str
    wanted: str
    fine: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.found}, not {self.wanted}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is encoded. `gop` is the longest distance between key frames, in seconds; `crf` is quality
    on the encoder's own scale.

    `b_frames_max` and `closed_gop` are what a platform asks of a stream that is
    to be copied; what is encoded here has `b_frames`, and always closed GOPs.
    """

    codec: str = "libx264"
    preset: str = "veryfast"
    crf: int | None = 18
    profile: str = "high"
    gop: Fraction = Fraction(2)
    b_frames: int = 2
    pixel_format: str = "yuv420p"
    max_rate: int = 0
    edit_lists: bool = True
    b_frames_max: int | None = None
    closed_gop: bool = False
    container: str = "mp4"

    @property
    def format(self) -> str:
        """What the encoder makes, by the name that a probe gives it."""
        software = next((name for name, encoder in ENCODERS.items() if encoder == self.codec), "")
        return software or self.codec.partition("_")[0]

    @property
    def hardware(self) -> str:
        """The special hardware that encodes: `nvenc`, `qsv`, `vaapi`, `videotoolbox`; empty where none does."""
        return self.codec.partition("_")[2] if self.codec not in ENCODERS.values() else ""

    @property
    def file(self) -> str:
        """The name of what is made, in a folder of its own."""
        return f"film.{self.container}"

    @property
    def merges(self) -> bool:
        """Whether the encoder makes one longer frame of equal ones, so that only the length is kept."""
        return self.format == "webp"

    @property
    def is_film(self) -> bool:
        """Whether it is a film in MP4, MOV, WebM or Matroska, not a picture or an animated one."""
        return self.boxed or self.apart

    @property
    def boxed(self) -> bool:
        """Whether it is MP4 or MOV, which have an index that may come first, and edit lists."""
        return self.container in ("mp4", "mov")

    @property
    def apart(self) -> bool:
        """Whether it cannot hold credentials, which then lie beside it."""
        return self.container in ("webm", "mkv")

    def refuses(self, picture: Picture) -> str:
        """Why `picture`'s stream cannot be copied into such a file; nothing if it can."""
        drawn = picture.overlays or (picture.captions and picture.captions.burn)
        source = picture.stream if isinstance(picture.stream, Source) else whole_of(picture)
        if source is None or picture.scaler or drawn:
            return "its picture is edited"
        facts = source.facts
        assert isinstance(facts, PictureFacts)
        off = next((str(row) for row in self.rows(facts) if not row.fine), "")
        return off or (self._refuses_a_tail(picture, facts) if source is not picture.stream else "")

    def _refuses_a_tail(self, picture: Picture, facts: PictureFacts) -> str:
        """Why the end of a film is not cut off without encoding it."""
        if not self.boxed or picture.lossless == "never":
            return "its end is cut off"
        if ends_clean(facts, picture.frames):
            return ""
        rests = f"its end is cut off after frame {picture.frames}, which rests on a later one"
        if not self.edit_lists:
            return f"edit_lists: {rests}, and only an edit list could hide that"
        if picture.lossless == "auto":
            return f"{rests}, and browsers may take that for a longer film"
        return ""

    def rows(self, facts: PictureFacts) -> tuple[Row, ...]:
        """Each number of a video stream against how this encoding makes it."""
        longest, most = max(1, round(self.gop * facts.rate)), self.b_frames_max
        tags, shape = facts.colour, _shape(facts)
        named = Colour(tags.matrix, tags.primaries, tags.transfer, "tv")
        codec = Row("codec", facts.codec, self.format, facts.codec == self.format)
        if not self.is_film:
            return (codec,)
        return (
            codec,
            *self._profile_rows(facts),
            Row("pixel_format", facts.pixel_format, self.pixel_format, facts.pixel_format == self.pixel_format),
            Row("gop", f"{facts.keyframes} frames between key frames", f"at most {longest}",
                facts.keyframes <= longest),
            Row("closed_gop", "closed" if facts.closed_gop else "open", "closed" if self.closed_gop else "either",
                facts.closed_gop or not self.closed_gop),
            Row("b_frames_max", f"{facts.b_frames} in a row", "any" if most is None else f"at most {most}",
                most is None or facts.b_frames <= most),
            Row("max_rate", f"{facts.bit_rate} bit/s", f"at most {self.max_rate}" if self.max_rate else "any",
                not self.max_rate or facts.bit_rate <= self.max_rate),
            Row("pixels", shape, "square, upright, even", not shape.startswith(("not", "turned", "odd", "inter"))),
            Row("rate", "constant" if facts.constant_rate else "varies", "constant", facts.constant_rate),
            Row("colour", f"{tags.matrix}, {tags.primaries}, {tags.transfer}", "bt709, or not tagged",
                named in (BT709, Colour(range="tv"))),
            Row("range", tags.range, "tv, or not tagged", tags.range in ("tv", "unknown")),
            Row("start", f"{float(facts.start):g} s", "0 s", facts.start == 0),
        )  # fmt: skip

    def _profile_rows(self, facts: PictureFacts) -> tuple[Row, ...]:
        if not self.profile:
            return ()
        known = PROFILES.get(self.profile, (self.profile,))
        wanted = self.profile if len(known) == 1 else f"{self.profile} or simpler"
        return (Row("profile", facts.profile, wanted, facts.profile.lower() in known),)


def _shape(facts: PictureFacts) -> str:
    if facts.sample_aspect != 1:
        return f"not square: {facts.sample_aspect}"
    if facts.rotation:
        return f"turned by {facts.rotation} degrees"
    if facts.interlaced:
        return "interlaced"
    return "square" if facts.size == facts.coded else f"odd: {facts.coded}"


PROFILES = {"high": ("high", "main", "baseline", "constrained baseline")}
"""Profiles of H.264 that a decoder of the key's plays (ITU-T H.264 annex A)."""

ENCODERS = {
    "h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "prores": "prores_ks",
    "ffv1": "ffv1",
    "gif": "gif", "webp": "libwebp_anim", "mjpeg": "mjpeg", "png": "png",
}  # fmt: skip
"""What encodes each codec, without special hardware."""


Encoder: TypeAlias = Literal["software", "nvenc", "qsv", "vaapi", "videotoolbox"]
"""What encodes: the processor, or NVIDIA's, Intel's, Linux's or Apple's way to special hardware."""

HARDWARE = {"h264": ("nvenc", "qsv", "vaapi", "videotoolbox"), "hevc": ("nvenc", "qsv", "vaapi", "videotoolbox"),
            "av1": ("nvenc", "qsv", "vaapi")}  # fmt: skip
"""Which codecs ffmpeg encodes in special hardware."""


def encoded_by(encoding: Encoding, encoder: str) -> Encoding:
    """`encoding`, done by `encoder`. Raises InputError if it never does that codec."""
    if encoder == "software":
        return replace(encoding, codec=ENCODERS[encoding.format])
    known = HARDWARE.get(encoding.format, ())
    if encoder not in known:
        can = f"; {', '.join(known)} do" if known else ""
        raise InputError(f"encoder: {encoder} does not make {encoding.format}{can}", "encoder")
    return replace(encoding, codec=f"{encoding.format}_{encoder}")


def delivery_preset(name: str) -> presets.Sheet:
    """The delivery preset `name`. Raises InputError with the nearest name if there is none."""
    try:
        return presets.read("delivery", name)
    except KeyError:
        raise InputError(no_preset(name)) from None


def no_preset(name: str) -> str:
    """What is said of a delivery preset that there is not: the nearest, or else all there are."""
    known = presets.names("delivery")
    return f"there is no preset '{name}'" + (nearest(name, known) or f"; there are {', '.join(known)}")


def check_suffix(preset: str, file: Path) -> None:
    """Raise InputError unless `file` is called as what `preset` makes."""
    wanted = delivery_preset(preset).get("container", "mp4")
    if file.suffix.lower() != f".{wanted}":
        raise InputError(f"{file}: should end in .{wanted}, which {preset} is")


def encoding_of(sheet: presets.Sheet) -> Encoding:
    """How the preset wants its picture encoded."""
    return Encoding(
        codec=ENCODERS[sheet["codec"]],
        preset=str(sheet.get("effort", "")),
        crf=sheet.get("crf"),
        profile=sheet.get("profile", ""),
        gop=seconds(sheet.get("gop", "1s"), Fraction(1)),
        b_frames=sheet.get("b_frames", 0),
        pixel_format=sheet["pixel_format"],
        max_rate=sheet.get("max_rate", 0),
        edit_lists=sheet.get("edit_lists", "allow") == "allow",
        b_frames_max=sheet.get("b_frames_max"),
        closed_gop=sheet.get("closed_gop", False),
        container=sheet.get("container", "mp4"),
    )
