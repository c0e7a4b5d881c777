"""How a picture is encoded, and which streams are so already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from stages.clip import BT709, Colour, Filter, Picture, PictureFacts


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is encoded. `gop` is the longest distance between key frames, in seconds."""

    codec: str = "libx264"
    preset: str = "veryfast"
    crf: int = 18
    profile: str = "high"
    gop: Fraction = Fraction(2)
    b_frames: int = 2
    pixel_format: str = "yuv420p"
    max_rate: int = 0
    edit_lists: bool = True

    def refuses(self, picture: Picture) -> str:
        """Why `picture`'s stream cannot be copied into such a file; nothing if it can."""
        if isinstance(picture.stream, Filter) or picture.scaler or (picture.captions and picture.captions.burn):
            return "its picture is edited"
        facts = picture.stream.facts
        assert isinstance(facts, PictureFacts)
        return next((f"{key}: {found}" for key, found in self.mismatches(facts)), "")

    def mismatches(self, facts: PictureFacts) -> Iterator[tuple[str, str]]:
        """What about a video stream is not as this encoding makes it: which value, and what was found."""
        codec = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}.get(self.codec, self.codec)
        longest = round(self.gop * facts.rate)
        for wrong, key, found in (
            (facts.codec != codec, "codec", facts.codec),
            (bool(self.profile) and facts.profile.lower() not in PROFILES[self.profile], "profile", facts.profile),
            (facts.pixel_format != self.pixel_format, "pixel_format", facts.pixel_format),
            (facts.keyframes > longest, "gop", f"{facts.keyframes} frames between key frames, not {longest}"),
            (bool(self.max_rate) and facts.bit_rate > self.max_rate, "max_rate", f"{facts.bit_rate} bit/s"),
            (facts.sample_aspect != 1, "pixels", f"not square: {facts.sample_aspect}"),
            (facts.rotation != 0, "pixels", f"turned by {facts.rotation} degrees"),
            (facts.size != facts.coded, "pixels", f"an odd number: {facts.coded}"),
            (not facts.constant_rate, "rate", "not constant"),
            (facts.colour not in (BT709, Colour()), "colour", f"{facts.colour.matrix}, {facts.colour.range}"),
            (facts.start != 0, "start", f"at {float(facts.start):g} s"),
        ):
            if wrong:
                yield key, found


PROFILES = {"high": ("high", "main", "baseline", "constrained baseline")}
"""Profiles of H.264 that a decoder of the key's plays (ITU-T H.264 annex A)."""
