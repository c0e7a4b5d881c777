"""What kind of file it is, by its first bytes: names and media types of servers lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD = 16
"""Bytes that are enough to tell."""


@dataclass(frozen=True, slots=True)
class FileType:
    """A kind of file: the suffix of its name and its media type."""

    suffix: str
    media_type: str


MP4 = FileType(".mp4", "video/mp4")

# ISO/IEC 14496-12, 4.3 (of brands that are no pictures); PNG 3rd ed., 5.2; JPEG, B.1.1.3; the
# WebP container specification; RIFF WAVE; ID3v2.4, 3.1 and MPEG audio, layer III; RFC 9639; RFC 3533.
MAGIC = (
    (rb"....ftyp(?!avi[fs]|hei[cfsx]|hevc|mif1|msf1)", MP4),
    (rb"\x89PNG\r\n\x1a\n", FileType(".png", "image/png")),
    (rb"\xff\xd8\xff", FileType(".jpg", "image/jpeg")),
    (rb"RIFF....WEBP", FileType(".webp", "image/webp")),
    (rb"RIFF....WAVE", FileType(".wav", "audio/wav")),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", FileType(".mp3", "audio/mpeg")),
    (rb"fLaC", FileType(".flac", "audio/flac")),
    (rb"OggS", FileType(".ogg", "audio/ogg")),
)


def filetype_of(head: bytes) -> FileType | None:
    """The kind of a film, picture or sound that begins with `head` (HEAD bytes); None for anything else."""
    return next((kind for magic, kind in MAGIC if re.match(magic, head, re.DOTALL)), None)
