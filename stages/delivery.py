"""`deliver`: fit, captions, sound, encode, sign, verify, conform; and the pure plan of it.

A step's explicit value beats the preset's. Nothing touches a file after it is signed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import presets
from stages.carriers import attempt_both, is_apart, sidecar_of
from stages.clip import (
    BT709,
    Action,
    Clip,
    Frames,
    History,
    Margins,
    Picture,
    PictureFacts,
    Size,
    Source,
    origins,
    printed_seconds,
    samples_for,
    seconds,
    sources,
)
from stages.conformance import off
from stages.cutting import pace, trim
from stages.encoding import Encoder, Encoding, check_suffix, delivery_preset, encoded_by, encoding_of
from stages.enlarging import settle
from stages.errors import FfmpegError, InputError, ProvenanceError
from stages.ffmpeg import Output, Progress, command, contact_sheet, damage, lacking, run_command
from stages.files import attempt, copy_whole, fresh_folder, state_folder
from stages.framing import fit
from stages.geometry import Focus, Mode, inside
from stages.ingestion import SHEET
from stages.language_tags import Language, parse_language
from stages.lowering import hdr
from stages.media import packets_through, probe, texts_of
from stages.mixing import Measured, Track, make_sound
from stages.policy import Policy
from stages.provenance import Signer, Verdict, sign, signer_for, store_of, verify
from stages.sound import level, strip_audio
from stages.stills import frame_at
from stages.subtitles import srt, vtt
from stages.tails import end_picture, whole_of
from stages.timed_text import texts
from stages.timeline import check_export, write_timeline
from stages.traces import remember

# ---------------------------------------------------------------- the plan


Export: TypeAlias = Literal["", "otio"]
"""In what form the edit itself is written beside a film: OpenTimelineIO's."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a preset makes of a clip: the fitted clip, how it is encoded, and why it is not copied.

    `reason` is empty where the picture is copied. `notes` say where a step's
    value beat the preset's, or the preset's a wish. `language` is what the sound and
    the captions are in, a BCP 47 tag, where that was said.
    """

    preset: str
    clip: Clip
    encoding: Encoding
    track: Track | None
    reason: str
    notes: tuple[str, ...] = ()
    language: str = ""
    export: Export = ""

    @property
    def picture(self) -> Picture:
        """The fitted picture."""
        assert self.clip.picture is not None
        return self.clip.picture

    @property
    def tail(self) -> Source | None:
        """The film of which it is the beginning, if its end is cut off without encoding it."""
        return None if self.reason else whole_of(self.picture)

    @property
    def said(self) -> str:
        """Why the picture is encoded, or what is odd about how it is copied; nothing if it is copied whole."""
        return self.reason or ("its end is cut off, and the rest is copied" if self.tail else "")

    @property
    def packets(self) -> int:
        """How many of that film's packets it takes, which is read from the file; 0 where none is cut off so."""
        return packets_through(self.tail.path, self.picture.frames) if self.tail else 0

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the picture's encode decodes."""
        return sources(self.picture.stream)


def cut(
    clip: Clip,
    preset: str,
    *,
    mode: Mode = "cover",
    focus: Focus = "center",
    captions: bool = True,
    encoder: Encoder = "software",
    language: Language = "",
    export: Export = "",
    simulated: bool = False,
) -> Cut:
    """What `deliver` would do. Pure: it reads the preset and touches nothing else.

    `mode` and `focus` say how a clip of another shape goes into the preset's
    frame; `captions` false leaves out those that a step asked for; `encoder` is
    special hardware to encode with, which may be missing: see `in_software`;
    `language` (`de`) is what is spoken and captioned: it tags those tracks in MP4
    and MOV (`deu`) and names the files beside them (`film.de.srt`); `export: otio` writes the edit beside the film
    (`film.otio`), with the source files where they lie, for editing programs;
    `simulated` lets a simulated film go where it would be published. Raises
    InputError for an unknown preset, a clip without a picture, HDR that nobody
    tone-mapped, and a clip that is too short or too long for the platform.
    """
    sheet = delivery_preset(preset)
    if clip.picture is None:
        raise InputError(f"{preset}: wants a picture, and the clip has none")
    if sheet.get("public") and not simulated and is_simulated(clip.history):
        raise InputError(
            f"{preset}: is published when it is uploaded ({sheet.place('public')}), and this film is SIMULATED;"
            " --sim makes it all the same"
        )
    if refused := next(filter(None, map(hdr, sources(clip.picture.stream))), ""):
        raise InputError(refused)
    _check_length(clip, sheet)
    clip = clip if captions else _uncaptioned(clip)
    if moment := sheet.get("still"):
        assert clip.picture is not None
        clip = trim(clip, start=Frames(frame_at(clip.picture, moment)), length=Frames(1))
    if sheet.get("audio") == "none":
        clip = strip_audio(clip)
    clip, notes = _fitted(clip, sheet, mode, focus)
    clip = _paced(clip, sheet)
    clip = _kept_safe(clip, sheet)
    clip, more = _levelled(clip, sheet)
    encoding = encoded_by(encoding_of(sheet), encoder)
    assert clip.picture is not None
    refused = encoding.refuses(clip.picture)
    key = refused.split(":")[0]
    reason = f"{sheet.place(key)} {refused}" if key in sheet.values else refused
    _check_lossless(clip.picture, reason)
    if export:
        check_export()
        notes = (*notes, f"the edit is written beside the film, as .{export}")
    beyond = _without_track(clip.picture, sheet)
    return Cut(
        preset,
        clip,
        encoding,
        _track(clip, sheet),
        reason,
        (*notes, *more, *beyond),
        language and parse_language(language),
        export,
    )


def in_software(made: Cut, why: str) -> Cut:
    """`made` by the processor, with a note that its hardware could not, and `why`."""
    encoding = encoded_by(made.encoding, "software")
    return replace(made, encoding=encoding, notes=(*made.notes, f"{made.encoding.hardware} is not used: {why}"))


def is_simulated(history: History) -> bool:
    """Whether a simulator filmed any of it."""
    return any(action.agent.startswith("SIMULATED") or any(map(is_simulated, action.inputs)) for action in history)


def _uncaptioned(clip: Clip) -> Clip:
    """The clip as if it had never been captioned, on record too."""
    picture = clip.picture and replace(clip.picture, captions=None)
    return Clip(picture, clip.sound, tuple(action for action in clip.history if action.name != "caption"))


def _check_lossless(picture: Picture, reason: str) -> None:
    """Raise InputError if a trim must be lossless, and is not."""
    if picture.lossless == "require" and reason:
        raise InputError(f"trim says lossless: require, and the picture must be encoded: {reason}", "lossless")


def _check_length(clip: Clip, sheet: presets.Sheet) -> None:
    for key, fails, word in (
        ("length_min", operator.lt, "at least"),
        ("length_max", operator.gt, "at most"),
    ):
        limit = sheet.get(key)
        if limit and fails(clip.duration, seconds(limit, Fraction(1))):
            raise InputError(
                f"{sheet.name}: wants {word} {limit} ({sheet.place(key)}),"
                f" and the clip is {printed_seconds(clip.duration)} s long"
            )


def _fitted(clip: Clip, sheet: presets.Sheet, mode: Mode, focus: str) -> tuple[Clip, tuple[str, ...]]:
    """Brought into the preset's exact frame, or under its largest; a smaller clip is not enlarged unasked."""
    assert clip.picture is not None
    frame = clip.picture.frame
    if exact := sheet.get("frame"):
        return fit(clip, size=Size.parse(exact), mode=mode, focus=focus), ()
    unused = (mode, focus) != ("cover", "center")
    notes = (f"{sheet.name} keeps the picture's shape: mode and focus change nothing",) if unused else ()
    limit = Size.parse(sheet["max_frame"])
    if frame.height > frame.width:
        limit = Size(limit.height, limit.width)
    if frame.width <= limit.width and frame.height <= limit.height:
        even = Size(frame.width // 2 * 2, frame.height // 2 * 2)
        return (clip if even == frame else fit(clip, size=even)), notes
    return fit(clip, size=inside(frame, limit)), (*notes, f"made smaller for {sheet.place('max_frame')}")


def _paced(clip: Clip, sheet: presets.Sheet) -> Clip:
    """At a rate that the preset allows."""
    assert clip.picture is not None
    if "rate_min" not in sheet.values:
        return clip
    rate = min(max(clip.picture.rate, Fraction(sheet["rate_min"])), Fraction(sheet["rate_max"]))
    return pace(clip, rate=rate)


def _kept_safe(clip: Clip, sheet: presets.Sheet) -> Clip:
    """Told how far the platform's buttons reach into its frame, where the preset says so."""
    assert clip.picture is not None
    area = sheet.get("safe_area")
    return replace(clip, picture=replace(clip.picture, safe=Margins.parse(area))) if area else clip


def _without_track(picture: Picture, sheet: presets.Sheet) -> tuple[str, ...]:
    """That captions are left out which the file has no track for."""
    if not texts(picture.captions) or encoding_of(sheet).boxed:
        return ()
    return (f"{sheet.place('container')} {sheet['container']} has no text track: the soft captions are left out",)


def _levelled(clip: Clip, sheet: presets.Sheet) -> tuple[Clip, tuple[str, ...]]:
    if clip.sound is None or "loudness" not in sheet.values:
        return clip, ()
    own, wanted = clip.sound.loudness, float(sheet["loudness"])
    if own is None:
        return level(clip, loudness=wanted, true_peak=float(sheet["true_peak"])), ()
    if own.target == wanted:
        return clip, ()
    return clip, (f"level's {own.target:g} LUFS beats {sheet.place('loudness')}: {wanted:g} LUFS",)


def _track(clip: Clip, sheet: presets.Sheet) -> Track | None:
    if clip.sound is None or clip.picture is None:
        return None
    samples = samples_for(clip.picture.frames, clip.picture.rate)
    codec, allowed = sheet.get("audio", "aac"), sheet["edit_lists"] == "allow"
    return Track(clip.sound, samples, sheet.get("audio_rate", 0), allowed, codec)


# ---------------------------------------------------------------- films

FILM = "film.mp4"


@dataclass(frozen=True, slots=True)
class Filmed:
    """An encoded film that is not signed yet; `damage` is what ffmpeg complained of in its sources."""

    size: Size
    frames: int
    rate: Fraction
    copied: bool
    damage: tuple[str, ...] = ()
    file: str = FILM


@dataclass(frozen=True, slots=True)
class Shot:
    """One film of a shared encode: what to make, the sound to lay in, and the folder that gets the
    encoding's `file`, with a contact sheet if `sheet`."""

    cut: Cut
    sound: Path | None
    folder: Path
    sheet: bool = False


def make_films(shots: Sequence[Shot], on_progress: Progress | None = None) -> tuple[Filmed, ...]:
    """Encode or copy all `shots` in one ffmpeg process that decodes each source once.

    Each film is checked to be exactly what was described. Raises FfmpegError.
    """
    outputs = [
        Output(
            shot.cut.picture, shot.cut.encoding, shot.sound and shot.sound.absolute(),
            f"film{number}.{shot.cut.encoding.container}", f"sheet{number}.jpg" if shot.sheet else "",
            shot.cut.packets, shot.cut.language,
        )
        for number, shot in enumerate(shots)
    ]  # fmt: skip
    with fresh_folder(shots[0].folder) as work:
        said = run_command(command(outputs), work, on_progress)
        for output, shot in zip(outputs, shots, strict=True):
            if output.packets > output.picture.frames:
                end_picture(work / output.name, output.picture.duration)
            facts = check(work / output.name, shot.cut, damage(said))
            film = shot.folder / shot.cut.encoding.file
            (work / output.name).replace(film)
            if shot.sheet and (work / output.sheet).exists():
                (work / output.sheet).replace(shot.folder / SHEET)
            elif shot.sheet:
                contact_sheet(film, facts, shot.folder / SHEET)
    return tuple(_filmed(shot.cut, damage(said)) for shot in shots)


def _filmed(made: Cut, complaints: tuple[str, ...]) -> Filmed:
    picture = made.picture
    copied, file = not made.reason, made.encoding.file
    return Filmed(picture.frame, picture.frames, picture.rate, copied, complaints, file)


OPUS_PACKET = 960
"""Samples: 20 ms at 48 kHz, libopus's default (RFC 6716, 2.1.4)."""


def check(film: Path, asked: Cut, signs: Sequence[str] = ()) -> PictureFacts:
    """What the file holds. Raises FfmpegError unless that is exactly what was described: frames, rate, size,
    tags, samples; `signs` of a damaged source, where there were any, tell why it is not.
    """
    try:
        picture, sound = probe(film, pictures=not asked.encoding.is_film)
    except InputError as error:
        raise FfmpegError(f"ffmpeg made no film: {str(error).removeprefix(f'{film}: ')}") from None
    wanted = asked.picture
    found: list[str] = []
    if picture is None:
        found.append("no picture")
    else:
        pairs: list[tuple[str, object, object]] = []
        if asked.encoding.merges:
            pairs.append(("length", picture.frames / picture.rate, wanted.frames / wanted.rate))
        else:
            pairs.append(("frames", picture.frames, wanted.frames))
            if asked.encoding.is_film or wanted.frames > 1:  # a still picture has none
                pairs.append(("rate", picture.rate, wanted.rate))
        pairs.append(("size", picture.size, wanted.frame))
        if asked.reason and asked.encoding.is_film:
            pairs += [("colour", picture.colour, BT709), ("sample aspect", picture.sample_aspect, 1)]
        found += [f"{name} {got} instead of {want}" for name, got, want in pairs if got != want]
    # Matroska's clock is of milliseconds, and how much is heard of the last packet, only decoding it tells.
    near = 1 if not asked.encoding.apart else OPUS_PACKET
    if asked.track and (sound is None or abs(sound.samples - asked.track.samples) > near):
        found.append(f"{sound.samples if sound else 0} samples of sound instead of {asked.track.samples}")
    if asked.encoding.boxed and texts_of(film) != (told := texts(wanted.captions)):
        found.append(f"another text track than the {len(told)} captions")
    if found:
        why = f"; a source is damaged: {signs[0]}" if signs else ""
        raise FfmpegError(f"ffmpeg made another film than was described: {', '.join(found)}{why}")
    assert picture is not None
    return picture


def render(clip: Clip, target: Path | str, encoding: Encoding = Encoding()) -> None:
    """Write `clip` to `target` (MP4) as it is described: no preset, no signature.

    Raises InputError if there is no picture, FfmpegError if ffmpeg fails.
    """
    if clip.picture is None:
        raise InputError("render: the clip has no picture")
    target = Path(target)
    with attempt(target) as part, fresh_folder(target.parent) as work:
        clip = settle(clip, work)
        assert clip.picture is not None
        samples = samples_for(clip.picture.frames, clip.picture.rate)
        track = Track(clip.sound, samples, edit_lists=encoding.edit_lists) if clip.sound else None
        wanted = Cut("", clip, encoding, track, encoding.refuses(clip.picture))
        _check_lossless(clip.picture, wanted.reason)
        if track:
            make_sound(track, folder=work)
        make_films([Shot(wanted, work / track.file if track else None, work)])
        (work / encoding.file).replace(part)


# ---------------------------------------------------------------- deliveries


@dataclass(frozen=True, slots=True)
class Delivered:
    """A finished file: where it lies, what was measured on it, and how far its history is proved.

    `sidecars` lie beside it: captions, and first its credentials if it cannot hold them.
    """

    file: Path
    preset: str
    size: Size
    frames: int
    rate: Fraction
    copied: bool
    loudness: Measured | None
    verdict: Verdict
    sidecars: tuple[Path, ...] = ()

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return self.frames / self.rate

    @property
    def credentials_apart(self) -> Path | None:
        """The file with its credentials, if it cannot hold them itself."""
        return next((file for file in self.sidecars if file == sidecar_of(self.file)), None)


def finish(
    film: Path,
    target: Path,
    made: Cut,
    *,
    signer: Signer,
    loudness: Measured | None = None,
    anchors: Sequence[Path] = (),
    archives: Mapping[Path, Path] | None = None,
    name: str = "",
    policy: Policy = Policy(),
) -> Delivered:
    """Hold `film` against its preset, sign it, verify it; only then does `target` appear, with its sidecars.

    `name` is what it is delivered as, if not the target's own.

    Raises InputError if it is not what the platform takes, and ProvenanceError
    if its history is not whole, or what it was made from not what `policy` asks for.
    """
    if wrong := off(film, made.preset):
        raise InputError(f"{target.name}: {'; '.join(wrong)}")
    history = made.clip.history
    with attempt_both(target) as part:
        if policy.signs:
            verdict = _proved(film, part, target.name, made, signer, anchors, archives or {}, policy)
            remember(part, film.parent / SHEET, store_of(part), name=name or target.name, preset=made.preset)
        else:
            for one in origins(history):
                policy.check_strip(one.file.name, signed=False, ai=one.ai)
            copy_whole(film, part)
            verdict = UNSIGNED
    picture, files = made.picture, sidecars(made, target, name)
    if policy.signs and is_apart(target):
        files = (sidecar_of(target), *files)
    return Delivered(
        target, made.preset, picture.frame, picture.frames, picture.rate, not made.reason, loudness, verdict, files
    )


UNSIGNED = Verdict("absent", "NOT SIGNED, as the recipe asks: nothing in the file says who made it.")
"""The verdict on what was delivered with `provenance: {sign: off}`."""


def _proved(
    film: Path,
    part: Path,
    name: str,
    made: Cut,
    signer: Signer,
    anchors: Sequence[Path],
    archives: Mapping[Path, Path],
    policy: Policy,
) -> Verdict:
    """Sign `film` into `part`, which will be called `name`, and verify that."""
    history = made.clip.history
    original = next((o.file for o in origins(history) if o.relationship == "parentOf"), None)
    original = original if original and original.exists() else None
    sign(
        film, part, history=history, signer=signer, archives=archives,
        anchors=anchors, title=made.preset, transcoded=bool(made.reason),
    )  # fmt: skip
    verdict = verify(part, original=original, anchors=anchors, signer=signer, history=history)
    if verdict.verdict in ("absent", "tampered", "broken"):
        raise ProvenanceError(f"{name}: {verdict.sentence}", verdict.verdict, verdict.codes)
    for one in verdict.credentials.ingredients:
        if one.state != "absent" or one.title in unsigned(history, verdict):
            policy.check(one.title, one)
    return verdict


def unsigned(history: History, verdict: Verdict) -> tuple[str, ...]:
    """The names of the files without credentials that were brought in; what a model of ours spoke is none of them."""
    brought = {action.file.name for action in _walked(history) if action.name == "open" and action.file}
    absent = (one.title for one in verdict.credentials.ingredients if one.state == "absent")
    return tuple(dict.fromkeys(title for title in absent if title in brought))


def _walked(history: History) -> Iterator[Action]:
    for action in history:
        yield action
        for inner in action.inputs:
            yield from _walked(inner)


def beside(made: Cut, target: Path) -> tuple[Path, ...]:
    """The files with captions and the edit that belong beside `target`: `film.srt`, or `film.de.srt` where the
    language is known; `film.otio`."""
    captions, language = made.picture.captions, f".{made.language}" if made.language else ""
    told = tuple(target.with_suffix(f"{language}.{kind}") for kind in (captions.formats if captions else ()))
    return (*told, target.with_suffix(f".{made.export}")) if made.export else told


def sidecars(made: Cut, target: Path, name: str = "") -> tuple[Path, ...]:
    """Write the captions and the edit beside `target`, which is delivered as `name`, as their intention says."""
    files, captions = beside(made, target), made.picture.captions
    for file in files:
        with attempt(file) as part:
            if file.suffix == ".otio":
                write_timeline(made.clip, Path(name or target.name), part)
                continue
            assert captions
            part.write_text((srt if file.suffix == ".srt" else vtt)(captions.cues), encoding="utf-8")
    return files


def deliver(
    clip: Clip,
    preset: str,
    file: Path | str,
    *,
    mode: Mode = "cover",
    focus: Focus = "center",
    captions: bool = True,
    encoder: Encoder = "software",
    language: Language = "",
    export: Export = "",
    simulated: bool = False,
    signer: Signer | None = None,
    anchors: Sequence[Path] = (),
    policy: Policy = Policy(),
    on_progress: Progress | None = None,
) -> Delivered:
    """Finish `clip` as `preset` asks and write it to `file`, signed and verified.

    The signer is `AFTERFRAME_SIGNER_CERT` and `_KEY` where set, else a local
    test signer in the project's `.pipeline/`. `anchors` are PEM files of the
    roots that may have signed the originals, `policy` what is asked of these.
    Where `encoder` is missing, the processor encodes. Raises InputError,
    FfmpegError or ProvenanceError; then `file` is as it was before.
    """
    file = Path(file)
    check_suffix(preset, file)

    def planned(clip: Clip) -> Cut:
        made = cut(
            clip, preset, mode=mode, focus=focus, captions=captions, encoder=encoder, language=language,
            export=export, simulated=simulated,
        )  # fmt: skip
        why = lacking(made.encoding) if made.encoding.hardware and made.reason else ""
        return in_software(made, why) if why else made

    made = planned(clip)
    signer = signer or signer_for(state_folder(Path.cwd()))
    with fresh_folder(file.parent) as work:
        if (enlarged := settle(clip, work)) is not clip:
            made = planned(enlarged)
        report = make_sound(made.track, folder=work) if made.track else None
        make_films([Shot(made, work / report.file if report else None, work, sheet=True)], on_progress)
        loudness = report.after if report else None
        film = work / made.encoding.file
        return finish(film, file, made, signer=signer, loudness=loudness, anchors=anchors, policy=policy)
