"""`deliver`: fit, captions, sound, encode, sign, verify, conform; and the pure plan of it.

A step's explicit value beats the preset's. Nothing touches a file after it is signed.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import presets
from stages.clip import (
    BT709,
    SAMPLE_RATE,
    Captions,
    Clip,
    History,
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
from stages.cutting import pace
from stages.encoding import Encoding
from stages.errors import FfmpegError, InputError, ProvenanceError
from stages.ffmpeg import Output, Progress, command, contact_sheet, damage, run_command
from stages.files import attempt, fresh_folder, state_folder
from stages.framing import fit
from stages.geometry import Focus, Mode, inside
from stages.ingestion import SHEET
from stages.media import mp4_layout, probe
from stages.mixing import SOUND, Measured, Track, make_sound
from stages.provenance import Signer, Verdict, sign, signer_for, verify
from stages.sound import level
from stages.stage import nearest
from stages.subtitles import srt, vtt

# ---------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class Cut:
    """What a preset makes of a clip: the fitted clip, how it is encoded, and why it is not copied.

    `reason` is empty where the picture is copied. `notes` say where a step's
    value beat the preset's, or the preset's a wish.
    """

    preset: str
    clip: Clip
    encoding: Encoding
    track: Track | None
    reason: str
    notes: tuple[str, ...] = ()

    @property
    def picture(self) -> Picture:
        """The fitted picture."""
        assert self.clip.picture is not None
        return self.clip.picture

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
    simulated: bool = False,
) -> Cut:
    """What `deliver` would do. Pure: it reads the preset and touches nothing else.

    `mode` and `focus` say how a clip of another shape goes into the preset's
    frame; `captions` false leaves out those that a step asked for; `simulated`
    lets a simulated film go where it would be published. Raises InputError for
    an unknown preset, a clip without a picture, and a clip that is too short
    or too long for the platform.
    """
    sheet = delivery_preset(preset)
    if clip.picture is None:
        raise InputError(f"{preset}: wants a picture, and the clip has none")
    if sheet.get("public") and not simulated and is_simulated(clip.history):
        raise InputError(
            f"{preset}: is published when it is uploaded ({sheet.place('public')}), and this film is SIMULATED;"
            " --sim makes it all the same"
        )
    _check_length(clip, sheet)
    clip = clip if captions else _uncaptioned(clip)
    clip, notes = _fitted(clip, sheet, mode, focus)
    clip = _paced(clip, sheet)
    clip, more = _levelled(clip, sheet)
    encoding = encoding_of(sheet)
    assert clip.picture is not None
    refused = encoding.refuses(clip.picture)
    key = refused.split(":")[0]
    reason = f"{sheet.place(key)} {refused}" if key in sheet.values else refused
    return Cut(preset, clip, encoding, _track(clip, sheet), reason, (*notes, *more))


def is_simulated(history: History) -> bool:
    """Whether a simulator filmed any of it."""
    return any(action.agent.startswith("SIMULATED") or any(map(is_simulated, action.inputs)) for action in history)


def _uncaptioned(clip: Clip) -> Clip:
    """The clip as if it had never been captioned, on record too."""
    picture = clip.picture and replace(clip.picture, captions=None)
    return Clip(picture, clip.sound, tuple(action for action in clip.history if action.name != "caption"))


def delivery_preset(name: str) -> presets.Sheet:
    """The delivery preset `name`. Raises InputError with the nearest name if there is none."""
    try:
        return presets.read("delivery", name)
    except KeyError:
        known = presets.names("delivery")
        raise InputError(f"there is no preset '{name}'{nearest(name, known)}; there are {', '.join(known)}") from None


CODECS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}


def encoding_of(sheet: presets.Sheet) -> Encoding:
    """How the preset wants its picture encoded."""
    return Encoding(
        codec=CODECS[sheet["codec"]],
        preset=sheet["effort"],
        crf=sheet["crf"],
        profile=sheet.get("profile", ""),
        gop=seconds(sheet["gop"], Fraction(1)),
        b_frames=sheet["b_frames"],
        pixel_format=sheet["pixel_format"],
        max_rate=sheet.get("max_rate", 0),
        edit_lists=sheet["edit_lists"] == "allow",
    )


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
    rate = min(max(clip.picture.rate, Fraction(sheet["rate_min"])), Fraction(sheet["rate_max"]))
    return pace(clip, rate=rate)


def _levelled(clip: Clip, sheet: presets.Sheet) -> tuple[Clip, tuple[str, ...]]:
    if clip.sound is None:
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
    return Track(clip.sound, samples, sheet["audio_rate"], sheet["edit_lists"] == "allow")


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


@dataclass(frozen=True, slots=True)
class Shot:
    """One film of a shared encode: what to make, the sound to lay in, and the folder that gets `film.mp4`,
    with a contact sheet if `sheet`."""

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
            f"film{number}.mp4", f"sheet{number}.jpg" if shot.sheet else "",
        )
        for number, shot in enumerate(shots)
    ]  # fmt: skip
    with fresh_folder(shots[0].folder) as work:
        said = run_command(command(outputs), work, on_progress)
        for output, shot in zip(outputs, shots, strict=True):
            facts = check(work / output.name, shot.cut, damage(said))
            (work / output.name).replace(shot.folder / FILM)
            if shot.sheet and (work / output.sheet).exists():
                (work / output.sheet).replace(shot.folder / SHEET)
            elif shot.sheet:
                contact_sheet(shot.folder / FILM, facts, shot.folder / SHEET)
    return tuple(_filmed(shot.cut, damage(said)) for shot in shots)


def _filmed(made: Cut, complaints: tuple[str, ...]) -> Filmed:
    picture = made.picture
    return Filmed(picture.frame, picture.frames, picture.rate, not made.reason, complaints)


def check(film: Path, asked: Cut, signs: Sequence[str] = ()) -> PictureFacts:
    """What the file holds. Raises FfmpegError unless that is exactly what was described: frames, rate, size,
    tags, samples; `signs` of a damaged source, where there were any, tell why it is not.
    """
    try:
        picture, sound = probe(film)
    except InputError as error:
        raise FfmpegError(f"ffmpeg made no film: {str(error).removeprefix(f'{film}: ')}") from None
    wanted = asked.picture
    found: list[str] = []
    if picture is None:
        found.append("no picture")
    else:
        pairs: list[tuple[str, object, object]] = [
            ("frames", picture.frames, wanted.frames),
            ("rate", picture.rate, wanted.rate),
            ("size", picture.size, wanted.frame),
        ]
        if asked.reason:
            pairs += [("colour", picture.colour, BT709), ("sample aspect", picture.sample_aspect, 1)]
        found += [f"{name} {got} instead of {want}" for name, got, want in pairs if got != want]
    if asked.track and (sound is None or abs(sound.samples - asked.track.samples) > 1):
        found.append(f"{sound.samples if sound else 0} samples of sound instead of {asked.track.samples}")
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
    target, picture = Path(target), clip.picture
    samples = samples_for(picture.frames, picture.rate)
    track = Track(clip.sound, samples, edit_lists=encoding.edit_lists) if clip.sound else None
    wanted = Cut("", clip, encoding, track, encoding.refuses(picture))
    with attempt(target) as part, fresh_folder(target.parent) as work:
        if track:
            make_sound(track, folder=work)
        make_films([Shot(wanted, work / SOUND if track else None, work)])
        (work / FILM).replace(part)


# ---------------------------------------------------------------- deliveries


@dataclass(frozen=True, slots=True)
class Delivered:
    """A finished file: where it lies, what was measured on it, and how far its history is proved."""

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


def finish(
    film: Path,
    target: Path,
    made: Cut,
    *,
    signer: Signer,
    loudness: Measured | None = None,
    anchors: Sequence[Path] = (),
    archives: Mapping[Path, Path] | None = None,
) -> Delivered:
    """Hold `film` against its preset, sign it, verify it; only then does `target` appear, with its sidecars.

    Raises InputError if it is not what the platform takes, and ProvenanceError
    if its history is not whole.
    """
    if off := conform(film, made.preset):
        raise InputError(f"{target.name}: {'; '.join(off)}")
    history = made.clip.history
    original = next((o.file for o in origins(history) if o.relationship == "parentOf"), None)
    original = original if original and original.exists() else None
    with attempt(target) as part:
        sign(
            film, part, history=history, signer=signer, archives=archives or {},
            anchors=anchors, title=made.preset, transcoded=bool(made.reason),
        )  # fmt: skip
        verdict = verify(part, original=original, anchors=anchors, signer=signer, history=history)
        if verdict.verdict in ("absent", "tampered", "broken"):
            raise ProvenanceError(f"{target.name}: {verdict.sentence}", verdict.verdict, verdict.codes)
    picture, beside = made.picture, sidecars(made.picture.captions, target)
    return Delivered(
        target, made.preset, picture.frame, picture.frames, picture.rate, not made.reason, loudness, verdict, beside
    )


def sidecars(captions: Captions | None, target: Path) -> tuple[Path, ...]:
    """Write the captions beside `target` as their intention says."""
    if captions is None or not captions.sidecar:
        return ()
    file = target.with_suffix(f".{captions.sidecar}")
    with attempt(file) as part:
        part.write_text((srt if captions.sidecar == "srt" else vtt)(captions.cues), encoding="utf-8")
    return (file,)


def deliver(
    clip: Clip,
    preset: str,
    file: Path | str,
    *,
    mode: Mode = "cover",
    focus: Focus = "center",
    captions: bool = True,
    simulated: bool = False,
    signer: Signer | None = None,
    anchors: Sequence[Path] = (),
    on_progress: Progress | None = None,
) -> Delivered:
    """Finish `clip` as `preset` asks and write it to `file`, signed and verified.

    The signer is `AFTERFRAME_SIGNER_CERT` and `_KEY` where set, else a local
    test signer in the project's `.pipeline/`. `anchors` are PEM files of the
    roots that may have signed the originals. Raises InputError, FfmpegError
    or ProvenanceError; then `file` is as it was before.
    """
    file, made = Path(file), cut(clip, preset, mode=mode, focus=focus, captions=captions, simulated=simulated)
    signer = signer or signer_for(state_folder(Path.cwd()))
    with fresh_folder(file.parent) as work:
        report = make_sound(made.track, folder=work) if made.track else None
        make_films([Shot(made, work / SOUND if report else None, work)], on_progress)
        loudness = report.after if report else None
        return finish(work / FILM, file, made, signer=signer, loudness=loudness, anchors=anchors)


# ---------------------------------------------------------------- conform


def conform(file: Path, preset: str) -> tuple[str, ...]:
    """What is off about `file` for `preset`, a sentence each; nothing if all is well."""
    sheet = delivery_preset(preset)
    picture, sound = probe(file)
    if picture is None:
        return ("there is no picture",)
    layout, size = mp4_layout(file), file.stat().st_size
    off = list(encoding_of(sheet).mismatches(picture))
    for fine, key, found in (
        (picture.size == _exact(sheet, picture.size), "frame", str(picture.size)),
        (sheet["rate_min"] <= picture.rate <= sheet["rate_max"], "rate_max", f"{float(picture.rate):g} a second"),
        (not layout.edit_lists or sheet["edit_lists"] == "allow", "edit_lists", "has edit lists"),
        (size <= sheet.get("size_max", size), "size_max", f"{size} bytes"),
        (layout.moov_first, "moov", "its index comes after the pictures"),
        (not sound or (sound.codec, sound.sample_rate) == ("aac", SAMPLE_RATE), "sound", "is not AAC at 48 kHz"),
    ):
        if not fine:
            off.append((key, found))
    return tuple(_off(sheet, key, found) for key, found in off)


def _exact(sheet: presets.Sheet, size: Size) -> Size:
    return Size.parse(sheet["frame"]) if "frame" in sheet.values else size


def _off(sheet: presets.Sheet, key: str, found: str) -> str:
    if key not in sheet.values:
        return f"{key}: {found}"
    return f"{sheet.place(key)} {key}: {found}, and {sheet.name} wants {sheet[key]}"
