"""A bought film as it comes in: checked against what was sold, its credentials read and archived before anything
touches it, and attested where it brings none."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from stages.attesting import as_sent, roots, vouched
from stages.clip import Action, Clip, PictureFacts, printed_seconds
from stages.errors import ProviderRefused
from stages.judging import judge
from stages.listening import said_of, speech_in
from stages.media import clip_from, probe
from stages.routing import Route


def take_in(
    original: Path, chosen: Route, wanted: Fraction, made: Action, folder: Path, reference: Path | None = None
) -> Clip:
    """The clip in a bought film of at least `wanted` seconds, which `made` has brought about.

    That its first frame is not its `reference`, that somebody talks in it, or that it lacks credentials which its
    model promises, is remarked. A frame more or less is adapted to. Raises ProviderRefused if it is too
    short, of another shape or no film, and ProvenanceError if it was changed
    after it was signed; the original is kept all the same.
    """
    name = chosen.sheet.name
    with as_sent(name, original):
        picture, sound = probe(original)
    _check(picture, chosen, wanted, original)
    remarks: list[str] = []
    if reference and judge(original, reference).ignored:
        remarks.append(f"{name} ignored the reference: the first frame shows something else; --retake asks again")
    clip = clip_from(original, picture, sound)
    if clip.sound and (said := said_of(speech_in(clip.sound))):
        remarks.append(f"{said}: mix_audio keeps it, replace_audio does not")
    file = vouched(original, made, folder, clip=clip, anchors=roots(original, folder))
    if file != original and chosen.sheet.get("credentials") == "always":
        remarks.append(f"{name} says that it signs its films, and this one carries no credentials")
    return replace(clip_from(file, picture, sound), history=(replace(made, file=file),), remarks=tuple(remarks))


def _check(picture: PictureFacts | None, chosen: Route, wanted: Fraction, original: Path) -> None:
    """Too short, or of another shape, is the provider's fault."""
    name = chosen.sheet.name
    if picture is None:
        raise ProviderRefused(f"{name} sent a file without a picture; it is kept in {original}", "lost")
    length = picture.frames / picture.rate
    if length < wanted - 1 / picture.rate:
        raise ProviderRefused(
            f"{name} was paid for {chosen.seconds} s and sent {printed_seconds(length)} s,"
            f" less than the {printed_seconds(wanted)} s that are needed; it is kept in {original},"
            " and --retake asks for another",
            "lost",
        )
    if abs(picture.size.aspect / chosen.size.aspect - 1) > Fraction(2, 100):
        raise ProviderRefused(
            f"{name} was paid for {chosen.size} and sent {picture.size}; it is kept in {original}", "lost"
        )
