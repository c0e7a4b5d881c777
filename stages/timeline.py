"""The edit of a clip as OpenTimelineIO, for editing programs: what lies where, read off its graph of filters
(the only opentimelineio).

Trims, joins, gaps, sounds with their places and captions are told so that Premiere, Resolve and Final Cut show
them. What has no word there (a gain, a duck, a crop, a fade) is told in the metadata, under `afterframe`. A track
with a change of time (speed, reverse, another rate) cannot be told: it is one clip of the delivered film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.clip import DUCK, SAMPLE_RATE, Clip, Cue, PictureFacts, SoundFacts, Source, Stream
from stages.errors import InputError


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a track: `length` frames or samples of `source` from `first` on, or of nothing; `done` is what was
    done to it besides, filter by filter."""

    source: Source | None
    first: int
    length: int
    done: tuple[str, ...] = ()


Track = tuple[Piece, ...]


class Unexpressed(Exception):
    """A filter that changes time, or of which nothing is known."""


SILENT = frozenset({
    "setpts", "settb", "setsar", "setparams", "format", "asetpts", "aresample", "aformat", "pan",
})  # fmt: skip
"""Filters of which an editing program need not know."""

KEPT = frozenset({"crop", "scale", "pad", "drawbox", "gblur", "cas", "overlay", "fade", "afade", "volume", DUCK})
"""Filters that change no time: told in the metadata, with their first input as what is shown."""


def tracks_of(stream: Stream) -> tuple[Track, ...]:
    """What a graph plays: one track, or as many as are mixed. Raises Unexpressed."""
    if isinstance(stream, Source):
        facts = stream.facts
        if isinstance(facts, SoundFacts):
            return ((Piece(stream, 0, round(Fraction(facts.samples * SAMPLE_RATE, facts.sample_rate))),),)
        return ((Piece(stream, 0, facts.frames),),)
    given, name = dict(stream.options), stream.name
    if name == "concat":
        return _strung([tracks_of(one) for one in stream.inputs])
    if name == "amix":
        return tuple(track for one in stream.inputs for track in tracks_of(one))
    inner = tracks_of(stream.inputs[0])
    if name in ("trim", "atrim"):
        kind = "frame" if name == "trim" else "sample"
        first, last = int(given.get(f"start_{kind}", 0)), given.get(f"end_{kind}")
        return tuple(_taken(track, first, None if last is None else int(last)) for track in inner)
    if name == "adelay":
        return tuple((Piece(None, 0, int(str(given["delays"]).rstrip("S"))), *track) for track in inner)
    if name == "apad":
        whole = int(given.get("whole_len", 0))
        return tuple(_padded(track, whole) for track in inner)
    if name == "setpts" and given["expr"] not in ("N", "PTS-STARTPTS"):
        raise Unexpressed(f"setpts {given['expr']}")
    if name in SILENT:
        return inner
    if name in KEPT:
        told = f"{name} " + " ".join(f"{key}={value}" for key, value in stream.options)
        return tuple(tuple(replace(piece, done=(*piece.done, told.strip())) for piece in track) for track in inner)
    raise Unexpressed(name)


def _taken(track: Track, first: int, last: int | None) -> Track:
    found: list[Piece] = []
    at = 0
    for piece in track:
        begin, end = max(first, at), at + piece.length if last is None else min(last, at + piece.length)
        if begin < end:
            found.append(replace(piece, first=piece.first + begin - at if piece.source else 0, length=end - begin))
        at += piece.length
    return tuple(found)


def _padded(track: Track, whole: int) -> Track:
    left = whole - sum(piece.length for piece in track)
    return (*track, Piece(None, 0, left)) if left > 0 else track


def _strung(parts: Sequence[tuple[Track, ...]]) -> tuple[Track, ...]:
    found: list[Track] = [()] * max(map(len, parts))
    for tracks in parts:
        length = max(sum(piece.length for piece in track) for track in tracks)
        more = [*tracks, *([()] * (len(found) - len(tracks)))]
        found = [(*before, *_padded(track, length)) for before, track in zip(found, more, strict=True)]
    return tuple(found)


# ---------------------------------------------------------------- the file


def check_export() -> None:
    """Raise InputError unless OpenTimelineIO is installed."""
    if find_spec("opentimelineio") is None:
        raise InputError("export: otio wants the extra: pip install 'afterframe[otio]'", "export")


def write_timeline(clip: Clip, film: Path, target: Path) -> None:
    """Write the edit of `clip`, which was delivered as `film`, to `target` as OTIO's JSON.

    Of the adapters, the package itself has none but its own formats: EDL and FCP XML are plugins of their own.
    """
    check_export()
    import opentimelineio as otio  # noqa: PLC0415 -- of an extra

    timeline = otio.schema.Timeline(film.stem)
    halves = [("Video", clip.picture.stream, clip.picture.rate)] if clip.picture else []
    halves += [("Audio", clip.sound.stream, Fraction(SAMPLE_RATE))] if clip.sound else []
    for kind, stream, rate in halves:
        length = clip.picture.frames if kind == "Video" and clip.picture else clip.sound.samples if clip.sound else 0
        try:
            tracks, lost = tracks_of(stream), ""
        except Unexpressed as unknown:
            tracks, lost = ((Piece(None, 0, length),),), str(unknown)
        for number, pieces in enumerate(tracks, 1):
            track = otio.schema.Track(f"{kind} {number}", kind=kind)
            track.extend([_item(otio, piece, rate, film if lost else None, lost) for piece in pieces])
            timeline.tracks.append(track)
    picture = clip.picture
    if picture and picture.captions:
        timeline.tracks.markers.extend([_marker(otio, cue, picture.rate) for cue in picture.captions.cues])
    if picture:
        timeline.metadata["afterframe"] = {
            "frame": str(picture.frame),
            "overlays": [one.text or str(one.image and one.image.path.name) for one in picture.overlays],
            "loudness": clip.sound.loudness.target if clip.sound and clip.sound.loudness else None,
        }
    otio.adapters.write_to_file(timeline, str(target), adapter_name="otio_json")


LOUDER = "volume volume="


def _item(otio: Any, piece: Piece, rate: Fraction, film: Path | None, lost: str) -> Any:
    def span(first: int, length: int) -> Any:
        count = otio.opentime.RationalTime
        return otio.opentime.TimeRange(count(first, float(rate)), count(length, float(rate)))

    if film:
        media = otio.schema.ExternalReference(film.name, span(0, piece.length))
        return otio.schema.Clip(film.name, media, span(0, piece.length), {"afterframe": {"unexpressed": lost}})
    if piece.source is None:
        return otio.schema.Gap(source_range=span(0, piece.length))
    facts, path = piece.source.facts, piece.source.path
    whole = facts.frames if isinstance(facts, PictureFacts) else round(facts.samples * SAMPLE_RATE / facts.sample_rate)
    media = otio.schema.ExternalReference(path.absolute().as_uri(), span(0, whole))
    gains = [done.removeprefix(LOUDER) for done in piece.done if done.startswith(LOUDER)]
    told: dict[str, object] = {"done": list(piece.done)} | ({"gain": " ".join(gains)} if gains else {})
    metadata = {"afterframe": told} if piece.done else {}
    return otio.schema.Clip(path.name, media, span(piece.first, piece.length), metadata)


def _marker(otio: Any, cue: Cue, rate: Fraction) -> Any:
    count = otio.opentime.RationalTime
    start, length = (round(time * rate) for time in (cue.start, cue.end - cue.start))
    span = otio.opentime.TimeRange(count(start, float(rate)), count(length, float(rate)))
    exact = {"afterframe": {"start": str(cue.start), "end": str(cue.end)}}
    return otio.schema.Marker(name=cue.text, marked_range=span, metadata=exact)
