"""Edits in time: which frames, and the sound that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

from stages.clip import (
    SAMPLE_RATE,
    Captions,
    Clip,
    Cue,
    Filter,
    Lossless,
    Picture,
    Sound,
    Stream,
    Time,
    Word,
    exactly,
    filtered,
    frame_count,
    printed_seconds,
    samples_for,
)
from stages.errors import InputError
from stages.framing import fit
from stages.geometry import Mode
from stages.looks import Looks, best_part, look, to_look_at
from stages.lowering import framed, still_of
from stages.overlays import still_source
from stages.stage import edit
from stages.subtitles import Shown, moved, shifted, shown

FADE = SAMPLE_RATE // 200
"""5 ms at a cut keep it from clicking (auto-editor PR 1272)."""

# ---------------------------------------------------------------- a part


def _looked_at(clip: Clip, *, length: Time | None = None, anchor: str = "start", **_: object) -> Picture | None:
    """The picture that a trim of these parameters must see: none where all of it is kept."""
    if anchor != "best":
        return None
    picture = to_look_at(clip)
    return picture if length is None or frame_count(length, picture.rate) < picture.frames else None


@edit(sees=_looked_at)
def trim(
    clip: Clip,
    *,
    length: Time | None = None,
    start: Time = 0,
    end: Time | None = None,
    anchor: Literal["start", "middle", "end", "best"] = "start",
    lossless: Lossless = "auto",
    looks: Looks | None = None,
) -> Clip:
    """Keep exactly the frames from `start`, for `length` or up to `end`, and the sound that belongs to them.

    `anchor` says where in the clip a `length` is taken, if not from `start`:
    `best` is the steadiest part, by motion, without cuts, and without black or
    frozen frames, as far as there is one. For that the film is looked at, once
    for all lengths: a recipe does so in a task of its own, and in Python `trim`
    does it at once, unless it is given the `looks` that `looks.look` found.
    Times are rounded to the nearest frame. A clip without a picture is cut to
    the sample. With none of the three, a generated clip is cut to the length
    that was asked for.

    `lossless`: where nothing else touches the picture and the delivery takes it
    as it is, its end is cut off without encoding it anew. `auto` does that where
    every player then shows exactly those frames: where none of them rests on a
    later one. `require` does it also where one does, by an edit list that hides
    the later one, if the delivery allows edit lists (Chromium may then hold the
    last frame for longer), and fails where it cannot be done. A cut at the start
    is always encoded.

    Raises InputError if both `length` and `end` are given, if nothing would be
    left, if the clip is shorter than asked, for a start that is to be lossless,
    and for the best part of what has no picture or is yet to be made.
    """
    if length is None and end is None and not start:
        length = _length_asked_for(clip)
    if length is not None and end is not None:
        raise InputError("give length: or end:, not both", "end")
    rate, whole = _counted(clip)
    first = frame_count(start, rate)
    if anchor != "start":
        if length is None or start:
            raise InputError("places a length:, without start: or end:", "anchor")
        spare = max(0, whole - frame_count(length, rate))
        first = spare if anchor == "end" else spare // 2
        if anchor == "best" and 0 < spare < whole:
            if lossless == "require":
                raise InputError("the best part may begin anywhere, and a cut at the start is encoded", "lossless")
            first, remark = best_part(looks or look(to_look_at(clip)), whole, whole - spare)
            clip = replace(clip, remarks=(*clip.remarks, *remark))
    last = _last(first, whole, rate, length, end)
    asked = f"{printed_seconds(first / rate)}–{printed_seconds(last / rate)} s"
    parameter = "length" if length is not None else "end" if end is not None else "start"
    if last <= first:
        raise InputError(f"{asked} leaves nothing of a {printed_seconds(whole / rate)} s clip", parameter)
    if last > whole:
        raise InputError(f"{asked} is asked of a clip that is {printed_seconds(whole / rate)} s long", parameter)
    if lossless == "require" and first and clip.picture:
        raise InputError("a cut at the start is encoded: only an end can be cut off without that", "lossless")
    if (first, last) == (0, whole):
        return clip
    begin, span = first / rate, (last - first) / rate
    return replace(
        clip,
        picture=clip.picture and _trimmed_picture(clip.picture, first, last, lossless),
        sound=clip.sound and _trimmed_sound(clip.sound, begin, span),
    )


def _length_asked_for(clip: Clip) -> Time:
    """The length that was asked of `generate`: what was bought is often longer."""
    for action in reversed(clip.history):
        if action.name in ("loop", "concat", "end_card", "speed"):
            break  # it is another length since
        if action.name == "generate" and (length := dict(action.parameters).get("length")):
            return length
    raise InputError("give length:, start: or end:", "length")


def _last(first: int, whole: int, rate: Fraction, length: Time | None, end: Time | None) -> int:
    if length is not None:
        return first + frame_count(length, rate)
    return whole if end is None else frame_count(end, rate)


def _trimmed_picture(picture: Picture, first: int, last: int, lossless: Lossless = "auto") -> Picture:
    window = {"start_frame": first, "end_frame": last} if first else {"end_frame": last}
    stream = filtered("setpts", filtered("trim", picture.stream, **window), expr="PTS-STARTPTS")
    begin, span = first / picture.rate, (last - first) / picture.rate
    captions, overlays = shifted(picture.captions, begin, span), shown(picture.overlays, begin, span)
    return replace(
        picture,
        stream=stream,
        frames=last - first,
        captions=captions,
        overlays=overlays,
        lossless=picture.lossless if lossless == "auto" else lossless,
    )


def _trimmed_sound(sound: Sound, begin: Fraction, span: Fraction) -> Sound:
    first, last = round(begin * SAMPLE_RATE), round((begin + span) * SAMPLE_RATE)
    samples = min(last, sound.samples) - first
    stream = filtered("atrim", sound.stream, start_sample=first, end_sample=last)
    softened = _softened(filtered("asetpts", stream, expr="PTS-STARTPTS"), samples, start=first > 0)
    words = Window(begin, begin + span).words(sound.words)
    return replace(sound, stream=softened, samples=max(0, samples), words=words)


def _softened(stream: Stream, samples: int, *, start: bool = True, end: bool = True) -> Stream:
    """With a short fade where it is cut."""
    if start:
        stream = filtered("afade", stream, type="in", nb_samples=FADE)
    if end and samples > 2 * FADE:
        stream = filtered("afade", stream, type="out", start_sample=samples - FADE, nb_samples=FADE)
    return stream


def _counted(clip: Clip) -> tuple[Fraction, int]:
    """Frames a second and how many there are; without a picture, samples."""
    if clip.picture:
        return clip.picture.rate, clip.picture.frames
    return Fraction(SAMPLE_RATE), clip.sound.samples if clip.sound else 0


@dataclass(frozen=True, slots=True)
class Window:
    """From `begin` to `end` of a clip, which comes to lie `at` a moment of another. In seconds."""

    begin: Fraction
    end: Fraction
    at: Fraction = Fraction(0)

    def words(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """Those that are whole in it, moved."""
        by = self.at - self.begin
        inside = (word for word in words if self.begin <= word.start and word.end <= self.end)
        return tuple(replace(word, start=word.start + by, end=word.end + by) for word in inside)

    def shown(self, them: Iterable[Shown]) -> tuple[Shown, ...]:
        """Those that show in it, cut at its edges and moved."""
        seen = shown(them, self.begin, self.end - self.begin)
        return tuple(moved(one, lambda start, end: (start + self.at, end + self.at)) for one in seen)

    def cues(self, captions: Captions | None) -> tuple[Cue, ...]:
        """The captions that show in it."""
        return self.shown(captions.cues if captions else ())


# ---------------------------------------------------------------- another rate


@edit()
def pace(clip: Clip, *, rate: Fraction) -> Clip:
    """Show the picture at `rate` frames a second: frames are repeated or left out, the length stays."""
    picture = clip.picture
    if picture is None or rate == picture.rate:
        return clip
    frames = round(picture.frames * rate / picture.rate)
    # The clone covers a last frame rounded away.
    stream = filtered("tpad", filtered("fps", picture.stream, fps=rate), stop=2, stop_mode="clone")
    stream = filtered("trim", stream, end_frame=frames)
    return replace(clip, picture=replace(picture, stream=stream, rate=rate, frames=frames))


# ---------------------------------------------------------------- a loop


@edit()
def loop(clip: Clip, *, overlap: Time = Fraction(1, 2)) -> Clip:
    """Make a seamless loop: the end fades into the beginning for `overlap`, picture and sound.

    The clip gets shorter by that and starts where the fade ends, so that its
    last frame is followed by its first. Spoken words and captions change
    over in the middle of the fade. Raises InputError if `overlap` is under
    two frames, or over half the clip.
    """
    rate, whole = _counted(clip)
    count = frame_count(overlap, rate)
    asked = f"{printed_seconds(count / rate)} s"
    if count < 2:
        raise InputError(f"{asked} is no overlap: two frames at least are blended", "overlap")
    if 2 * count > whole:
        raise InputError(f"{asked} is more than half of a {printed_seconds(whole / rate)} s clip", "overlap")
    left, middle = whole - count, Fraction(count, 2)
    windows = (
        Window(count / rate, (whole - middle) / rate),
        Window(middle / rate, count / rate, (left - middle) / rate),
    )
    return replace(
        clip,
        picture=clip.picture and _looped_picture(clip.picture, count, windows),
        sound=clip.sound and _looped_sound(clip.sound, samples_for(whole, rate), samples_for(left, rate), windows),
    )


def _looped_picture(picture: Picture, overlap: int, windows: Sequence[Window]) -> Picture:
    parts = _looped(picture.stream, picture.frames, overlap, partial(_frames, picture.rate), _blended)
    cues = tuple(cue for window in windows for cue in window.cues(picture.captions))
    captions = picture.captions and replace(picture.captions, cues=cues)
    overlays = tuple(one for window in windows for one in window.shown(picture.overlays))
    stream = _spliced(parts, picture.rate)
    frames = picture.frames - overlap
    return replace(picture, stream=stream, frames=frames, captions=captions, overlays=overlays)


def _looped_sound(sound: Sound, whole: int, left: int, windows: Sequence[Window]) -> Sound:
    overlap = min(whole - left, left)  # half of it may be half a sample more
    parts = _looped(_filled(sound.stream, left + overlap), left + overlap, overlap, _samples, _crossfaded)
    words = tuple(word for window in windows for word in window.words(sound.words))
    return replace(sound, stream=_strung(parts), samples=left, words=words)


Take = Callable[[Stream, int, int], Stream]
Meet = Callable[[Stream, Stream, int], Stream]


def _looped(stream: Stream, length: int, overlap: int, take: Take, meet: Meet) -> list[Stream]:
    fade = meet(take(stream, length - overlap, length), take(stream, 0, overlap), overlap)
    return [take(stream, overlap, length - overlap), fade] if length > 2 * overlap else [fade]


# ---------------------------------------------------------------- one after another


@edit()
def concat(clips: tuple[Clip, ...], *, crossfade: Time = 0, mode: Mode = "cover") -> Clip:
    """Show `clips` one after another, in the frame and at the frame rate of the first.

    One of another shape is brought into that frame as `fit` does by `mode`.
    With `crossfade` each fades into the next for that long, and the whole is
    so much shorter. A clip without sound is silent; the sound is exactly as
    long as the picture, however many there are. `level` counts for the whole.

    Raises InputError for fewer than two, for clips with and without a picture,
    for captions of two kinds, and for a clip too short to fade at both ends.
    """
    if len(clips) < 2:
        raise InputError(f"should be two clips or more, not {len(clips)}", "clips")
    for number, clip in enumerate(clips[1:], 2):
        if (clip.picture is None) != (clips[0].picture is None):
            has, lacks = (1, number) if clips[0].picture else (number, 1)
            raise InputError(f"clip {has} has a picture, and clip {lacks} has none", "clips")
    pictures = _matched([clip.picture for clip in clips if clip.picture], mode)
    rate = pictures[0].rate if pictures else Fraction(SAMPLE_RATE)
    lengths = [part.frames for part in pictures] or [clip.sound.samples if clip.sound else 0 for clip in clips]
    overlap = frame_count(crossfade, rate)
    _check_crossfade(overlap, lengths, rate)
    starts = [sum(lengths[:number]) - number * overlap for number in range(len(lengths))]
    places = [(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    heard = [(samples_for(begin, rate), samples_for(end, rate)) for begin, end in places]
    windows = _windows(places, overlap, rate)
    return replace(
        clips[0],
        picture=_joined_pictures(pictures, places, windows) if pictures else None,
        sound=_joined_sounds([clip.sound for clip in clips], heard, windows),
        remarks=tuple(dict.fromkeys(remark for clip in clips for remark in clip.remarks)),
    )


def _check_crossfade(overlap: int, lengths: Sequence[int], rate: Fraction) -> None:
    asked = f"{printed_seconds(overlap / rate)} s"
    if overlap == 1 or overlap < 0:
        raise InputError(f"{asked} is no crossfade: two frames at least are blended", "crossfade")
    for number, length in enumerate(lengths, 1):
        ends = 2 if 1 < number < len(lengths) else 1
        if ends * overlap > length:
            both = " at both ends" if ends == 2 else ""
            said = f"clip {number} is {printed_seconds(length / rate)} s long: too short for {asked} of crossfade{both}"
            raise InputError(said, "crossfade")


Places = Sequence[tuple[int, int]]
"""Where each part lies in the whole, in frames or samples: from its first to after its last."""


def _windows(places: Places, overlap: int, rate: Fraction) -> list[Window]:
    """What belongs to each clip: a crossfade to both, a half each."""
    found: list[Window] = []
    for number, (start, end) in enumerate(places):
        before = Fraction(overlap if number else 0, 2)
        after = Fraction(overlap if number < len(places) - 1 else 0, 2)
        found.append(Window(before / rate, (end - start - after) / rate, (start + before) / rate))
    return found


def _matched(pictures: Sequence[Picture], mode: Mode) -> list[Picture]:
    """In the first's frame and at its rate. What they all intend to become is left for later; else each is
    brought there, in one resample."""
    if not pictures:
        return []
    first, *others = pictures
    found = [first]
    for other in others:
        clip = pace(fit(Clip(other), size=first.frame, mode=mode), rate=first.rate)
        assert clip.picture is not None
        found.append(clip.picture)
    if all((one.size, one.scaler) == (first.size, first.scaler) for one in found):
        return found
    return [replace(one, stream=framed(one), size=one.frame, scaler=None) for one in found]


def _joined_pictures(pictures: Sequence[Picture], places: Places, windows: Sequence[Window]) -> Picture:
    first = pictures[0]
    parts = _joined([picture.stream for picture in pictures], places, partial(_frames, first.rate), _blended)
    captions = _joined_captions([picture.captions for picture in pictures], windows)
    pairs = zip(pictures, windows, strict=True)
    overlays = tuple(one for picture, window in pairs for one in window.shown(picture.overlays))
    stream, frames = _spliced(parts, first.rate), places[-1][1]
    return replace(first, stream=stream, frames=frames, captions=captions, overlays=overlays)


def _joined_captions(captions: Sequence[Captions | None], windows: Sequence[Window]) -> Captions | None:
    kinds = {replace(one, cues=()) for one in captions if one}
    if len(kinds) > 1:
        raise InputError("the clips are captioned in different ways (burn:, soft:, sidecar:, style:, font:)", "clips")
    cues = tuple(cue for one, window in zip(captions, windows, strict=True) for cue in window.cues(one))
    return replace(kinds.pop(), cues=cues) if kinds else None


def _joined_sounds(sounds: Sequence[Sound | None], places: Places, windows: Sequence[Window]) -> Sound | None:
    """Each in its place, to the sample; where they do not overlap, softened so that the cut does not click."""
    heard = next((sound for sound in sounds if sound), None)
    if heard is None:
        return None
    parts: list[Stream] = []
    for number, (sound, (begin, end)) in enumerate(zip(sounds, places, strict=True)):
        stream = _filled(sound.stream if sound else heard.stream, end - begin)
        if sound is None:
            # A graph begins at files, so silence is another clip's sound, turned down to nothing.
            parts.append(filtered("volume", stream, volume=0))
        elif places[0][1] > places[1][0]:
            parts.append(stream)
        else:
            parts.append(_softened(stream, end - begin, start=number > 0, end=number < len(sounds) - 1))
    words = (word for sound, window in zip(sounds, windows, strict=True) if sound for word in window.words(sound.words))
    loudness = next((sound.loudness for sound in sounds if sound and sound.loudness), None)
    return Sound(_strung(_joined(parts, places, _samples, _crossfaded)), places[-1][1], tuple(words), loudness)


def _joined(parts: Sequence[Stream], places: Places, take: Take, meet: Meet) -> list[Stream]:
    """What follows what: where two places overlap, the end of one meets the beginning of the next."""
    overlaps = [0, *(before - begin for (_, before), (begin, _) in pairwise(places)), 0]
    found: list[Stream] = []
    for number, (part, (begin, end)) in enumerate(zip(parts, places, strict=True)):
        length, before, after = end - begin, overlaps[number], overlaps[number + 1]
        if length > before + after:
            found.append(take(part, before, length - after))
        if after:
            found.append(meet(take(part, length - after, length), take(parts[number + 1], 0, after), after))
    return found


@edit(lays="image")
def end_card(clip: Clip, *, image: Path | Clip, length: Time = 2, mode: Mode = "contain") -> Clip:
    """Show a still image for `length` after the clip's end, in the clip's frame; its sound is silence.

    An image of another shape is brought into the frame by `mode`. It becomes a
    part of the picture: `fit` the clip first, or a later crop cuts the card too.
    Raises InputError for a clip without a picture, an image that cannot be
    read, and a length under one frame.
    """
    picture = clip.picture
    if picture is None:
        raise InputError("the clip has no picture")
    frames = frame_count(length, picture.rate)
    if frames < 1:
        raise InputError(f"{printed_seconds(frames / picture.rate)} s is no length: one frame at least", "length")
    one = still_of(still_source(image), picture.frame, mode)
    # fps first: by the file's own 25 a second, a last frame alone would in 5.1 last no time.
    paced = filtered("fps", one, fps=picture.rate)
    stream = _recounted(filtered("loop", paced, loop=frames - 1, size=1), picture.rate)
    whole = concat((clip, Clip(Picture(stream, picture.frame, picture.rate, frames))))
    return replace(clip, picture=whole.picture, sound=whole.sound)


# ---------------------------------------------------------------- frames that meet


def _frames(rate: Fraction, stream: Stream, first: int, last: int) -> Filter:
    """The frames from `first` to `last`, counted from 0."""
    return _recounted(filtered("trim", stream, start_frame=first, end_frame=last), rate)


def _recounted(stream: Stream, rate: Fraction) -> Filter:
    """With a clock that counts frames: by a file's own, which may be of milliseconds, overlay would pair a
    frame with another's neighbour, and concat takes a part of one frame to last no time."""
    return filtered("setpts", filtered("settb", stream, expr=1 / rate), expr="N")


def _blended(tail: Stream, head: Stream, frames: int) -> Filter:
    """`tail` fading into `head`, frame by frame, each of `frames` frames."""
    # Not xfade: it makes a frame too many in 5.1, and every frame 4:4:4. Not blend: 0.13 s a frame in 1080p.
    above = filtered("format", head, pix_fmts="yuva420p")
    return filtered("overlay", tail, filtered("fade", above, type="in", start_frame=0, nb_frames=frames, alpha=1))


def _spliced(parts: Sequence[Stream], rate: Fraction) -> Filter:
    """Pictures one after another; concat wants pixels of one shape, and takes an unknown one for another."""
    square = [filtered("setsar", part, sar=1) for part in parts]
    return _recounted(filtered("concat", *square, n=len(square)), rate)


# ---------------------------------------------------------------- samples that meet


def _timed(stream: Stream) -> Filter:
    """With a clock that counts samples: what pads a sound that ended before its cut has no time, which concat
    takes for damage, and concat itself counts a part's length in microseconds."""
    return filtered("asetpts", stream, expr="N/SR/TB")


def _filled(stream: Stream, samples: int) -> Filter:
    """Exactly so many samples."""
    return _timed(exactly(stream, samples))


def _samples(stream: Stream, first: int, last: int) -> Filter:
    """The samples from `first` to `last`, counted from 0."""
    return _timed(filtered("atrim", stream, start_sample=first, end_sample=last))


def _crossfaded(tail: Stream, head: Stream, samples: int) -> Filter:
    """`tail` fading into `head`, each of so many samples, with equal power: what meets is another moment.

    Of eight sounds, linear fades made the level drop by 1.9 dB on average, these by none.
    """
    # Not acrossfade, nor duration=first: in 5.1 they lose samples where one ends before the other is read.
    out = filtered("afade", tail, type="out", start_sample=0, nb_samples=samples, curve="qsin")
    into = filtered("afade", head, type="in", nb_samples=samples, curve="qsin")
    return _timed(filtered("amix", out, into, inputs=2, normalize=0, duration="longest", dropout_transition=0))


def _strung(parts: Sequence[Stream]) -> Filter:
    """Sounds one after another."""
    return _timed(filtered("concat", *parts, n=len(parts), v=0, a=1))
