"""`deliver`: fit, captions, sound, encode, sign, verify, conform; and the pure plan of it.

A step's explicit value beats the preset's. Nothing touches a file after it is signed.
"""

from __future__ import annotations

import logging
import operator
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import presets
from stages.captions import srt, vtt
from stages.clip import (
    BT709,
    SAMPLE_RATE,
    Captions,
    Clip,
    Loudness,
    Picture,
    Size,
    Source,
    filtered,
    origins,
    printed_seconds,
    samples_for,
    seconds,
    sources,
)
from stages.errors import FfmpegError, InputError, ProvenanceError
from stages.ffmpeg import Encoding, Output, Progress, command, damage, run_command
from stages.files import attempt, copy_whole, project_folder
from stages.framing import fit, inside
from stages.media import mp4_layout, probe
from stages.provenance import Signer, Verdict, sign, signer_from_environment, test_signer, verify
from stages.sound import Measured, SoundReport, Track, make_sound
from stages.stage import nearest

log = logging.getLogger(__name__)


# ---------------------------------------------------------------- the plan of a delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a preset makes of a clip: the fitted clip, how it is encoded, and why it is not copied.

    `reason` is empty where the picture is copied. `notes` say where a step's
    value beat the preset's.
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

    @property
    def frames(self) -> int:
        """How many frames the file will hold."""
        return self.picture.frames


Mode = Literal["cover", "contain", "stretch", "blur"]


def planned(clip: Clip, preset: str, *, mode: Mode = "cover", focus: str = "center", captions: bool = True) -> Delivery:
    """What `deliver` would do. Pure: it reads the preset and touches nothing else.

    Raises InputError for an unknown preset, a clip without a picture, and a
    clip that is too short or too long for the platform.
    """
    sheet = delivery_preset(preset)
    if clip.picture is None:
        raise InputError(f"{preset}: wants a picture, and the clip has none")
    _check_length(clip, sheet)
    fitted, notes = _fitted(clip, sheet, mode, focus)
    fitted = _paced(fitted, sheet)
    if not captions and fitted.picture:
        fitted = replace(fitted, picture=replace(fitted.picture, captions=None))
    fitted, more = _levelled(fitted, sheet)
    assert fitted.picture is not None
    encoding = encoding_of(sheet)
    refused = encoding.refuses(fitted.picture)
    place = sheet.place(refused.split(":")[0])
    reason = f"{place} {refused}" if refused and ":" in refused else refused
    return Delivery(preset, fitted, encoding, _track(fitted, sheet), reason, (*notes, *more))


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
    limit = Size.parse(sheet["max_frame"])
    if frame.height > frame.width:
        limit = Size(limit.height, limit.width)
    if frame.width <= limit.width and frame.height <= limit.height:
        odd = Size(frame.width // 2 * 2, frame.height // 2 * 2)
        return (clip if odd == frame else fit(clip, size=odd, mode="cover")), ()
    return fit(clip, size=inside(frame, limit), mode="cover"), (f"made smaller for {sheet.place('max_frame')}",)


def _paced(clip: Clip, sheet: presets.Sheet) -> Clip:
    """At a rate that the preset allows."""
    picture = clip.picture
    assert picture is not None
    rate = min(max(picture.rate, Fraction(sheet["rate_min"])), Fraction(sheet["rate_max"]))
    if rate == picture.rate:
        return clip
    frames = round(picture.frames * rate / picture.rate)
    stream = filtered("tpad", filtered("fps", picture.stream, fps=rate), stop=2, stop_mode="clone")
    return replace(
        clip,
        picture=replace(picture, stream=filtered("trim", stream, end_frame=frames), rate=rate, frames=frames),
    )


def _levelled(clip: Clip, sheet: presets.Sheet) -> tuple[Clip, tuple[str, ...]]:
    if clip.sound is None:
        return clip, ()
    wanted = Loudness(float(sheet["loudness"]), float(sheet["true_peak"]))
    own = clip.sound.loudness
    if own is None:
        return replace(clip, sound=replace(clip.sound, loudness=wanted)), ()
    if own == wanted:
        return clip, ()
    return clip, (f"level's {own.target:g} LUFS beats {sheet.place('loudness')}: {wanted.target:g} LUFS",)


def _track(clip: Clip, sheet: presets.Sheet) -> Track | None:
    if clip.sound is None or clip.picture is None:
        return None
    samples = samples_for(clip.picture.frames, clip.picture.rate)
    return Track(clip.sound, samples, sheet["audio_rate"], sheet["edit_lists"] == "allow")


# ---------------------------------------------------------------- making the files


@dataclass(frozen=True, slots=True)
class Shot:
    """One file of a shared encode: what to make, the encoded sound to lay in, and where it goes."""

    delivery: Delivery
    sound: Path | None
    target: Path


def make_pictures(shots: Sequence[Shot], on_progress: Progress | None = None) -> tuple[str, ...]:
    """Encode or copy all `shots` in one ffmpeg process that decodes each source once.

    Each file is checked to be exactly what was described. Returns what ffmpeg
    complained of in the sources (signs of damage). Raises FfmpegError.
    """
    outputs = [
        Output(
            shot.delivery.picture,
            shot.delivery.encoding,
            shot.sound and shot.sound.absolute(),
            f"out{index}.mp4",
        )
        for index, shot in enumerate(shots)
    ]
    with tempfile.TemporaryDirectory(prefix=".encode-", dir=shots[0].target.parent) as name:
        folder = Path(name)
        said = run_command(command(outputs), folder, on_progress)
        for output, shot in zip(outputs, shots, strict=True):
            made = folder / output.name
            check(made, shot.delivery, damage(said))
            made.replace(shot.target)
    return damage(said)


def check(made: Path, delivery: Delivery, signs: Sequence[str] = ()) -> None:
    """Raise FfmpegError unless the file is exactly what was described: frames, rate, size, tags, samples.

    `signs` of a damaged source, where there were any, tell why it is not.
    """
    try:
        picture, sound = probe(made)
    except InputError as error:
        raise FfmpegError(f"ffmpeg made no film: {str(error).removeprefix(f'{made}: ')}") from None
    wanted = delivery.picture
    found: list[str] = []
    if picture is None:
        found.append("no picture")
    else:
        pairs = [
            ("frames", picture.frames, wanted.frames),
            ("rate", picture.rate, wanted.rate),
            ("size", picture.size, wanted.frame),
        ]
        if delivery.reason:
            pairs += [("colour", picture.colour, BT709), ("sample aspect", picture.sample_aspect, 1)]
        found += [f"{name} {got} instead of {want}" for name, got, want in pairs if got != want]
    if delivery.track and (sound is None or abs(sound.samples - delivery.track.samples) > 1):
        found.append(f"{sound.samples if sound else 0} samples of sound instead of {delivery.track.samples}")
    if found:
        why = f"; a source is damaged: {signs[0]}" if signs else ""
        raise FfmpegError(f"ffmpeg made another file than was described: {', '.join(found)}{why}")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A finished file: where it lies, what was measured on it, and how far its history is proved."""

    file: Path
    preset: str
    size: Size
    frames: int
    rate: Fraction
    duration: Fraction
    copied: bool
    loudness: Measured | None
    verdict: Verdict
    findings: tuple[str, ...] = ()
    sidecars: tuple[Path, ...] = ()


def finish(
    unsigned: Path,
    target: Path,
    delivery: Delivery,
    *,
    signer: Signer,
    anchors: Sequence[Path] = (),
    archives: Mapping[Path, Path] | None = None,
    sound: SoundReport | None = None,
) -> Delivered:
    """Sign what was encoded, verify it, hold it against its preset; only then does `target` appear.

    Raises ProvenanceError if it was tampered with or its chain is broken, and
    FfmpegError if the file is not what its preset asks for.
    """
    findings = conform(unsigned, delivery.preset)
    if findings:
        raise FfmpegError(f"{delivery.preset}: {'; '.join(findings)}")
    with attempt(target) as part:
        sign(
            unsigned, part, history=delivery.clip.history, signer=signer, archives=archives or {},
            anchors=anchors, title=delivery.preset, transcoded=bool(delivery.reason),
        )  # fmt: skip
        original = next((o.file for o in origins(delivery.clip.history) if o.relationship == "parentOf"), None)
        original = original if original and original.exists() else None
        verdict = verify(part, original=original, anchors=anchors, signer=signer, history=delivery.clip.history)
        if verdict.verdict in ("absent", "tampered", "broken"):
            raise ProvenanceError(f"{target.name}: {verdict.sentence}", verdict.verdict, verdict.codes)
    picture = delivery.picture
    return Delivered(
        target, delivery.preset, picture.frame, picture.frames, picture.rate, picture.duration,
        not delivery.reason, sound.after if sound else None, verdict, (), sidecars(picture.captions, target),
    )  # fmt: skip


def sidecars(captions: Captions | None, target: Path) -> tuple[Path, ...]:
    """Write the captions beside `target` as their intention says."""
    if captions is None or not captions.sidecar:
        return ()
    file = target.with_suffix(f".{captions.sidecar}")
    with attempt(file) as part:
        part.write_text((srt if captions.sidecar == "srt" else vtt)(captions.cues), encoding="utf-8")
    return (file,)


# ---------------------------------------------------------------- in one call


def deliver(
    clip: Clip,
    preset: str,
    file: Path | str,
    *,
    mode: Mode = "cover",
    focus: str = "center",
    captions: bool = True,
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
    file = Path(file)
    delivery = planned(clip, preset, mode=mode, focus=focus, captions=captions)
    signer = signer or signer_from_environment() or test_signer(project_folder(Path.cwd()) / ".pipeline" / "signer")
    with attempt(file) as part, tempfile.TemporaryDirectory(prefix=".deliver-", dir=file.parent) as name:
        folder = Path(name)
        report = make_sound(delivery.track, folder / "sound.m4a") if delivery.track else None
        sound = folder / "sound.m4a" if report else None
        make_pictures([Shot(delivery, sound, folder / "unsigned.mp4")], on_progress)
        made = finish(
            folder / "unsigned.mp4",
            folder / file.name,
            delivery,
            signer=signer,
            anchors=anchors,
            sound=report,
        )
        copy_whole(made.file, part)
        beside = tuple(file.with_suffix(extra.suffix) for extra in made.sidecars)
        for extra, final in zip(made.sidecars, beside, strict=True):
            copy_whole(extra, final)
    return replace(made, file=file, sidecars=beside)


def render(clip: Clip, target: Path | str, encoding: Encoding = Encoding()) -> None:
    """Write `clip` to `target` (MP4) as it is described: no preset, no signature.

    Raises InputError if there is no picture, FfmpegError if ffmpeg fails.
    """
    if clip.picture is None:
        raise InputError("render: the clip has no picture")
    target, picture = Path(target), clip.picture
    samples = samples_for(picture.frames, picture.rate)
    track = Track(clip.sound, samples, edit_lists=encoding.edit_lists) if clip.sound else None
    delivery = Delivery("", clip, encoding, track, encoding.refuses(picture))
    with attempt(target) as part, tempfile.TemporaryDirectory(prefix=".render-", dir=target.parent) as name:
        sound = Path(name) / "sound.m4a"
        if track:
            make_sound(track, sound)
        make_pictures([Shot(delivery, sound if track else None, part)])


# ---------------------------------------------------------------- conform


def conform(file: Path, preset: str) -> tuple[str, ...]:
    """What is off about `file` for `preset`, a sentence each; nothing if all is well."""
    sheet = delivery_preset(preset)
    picture, sound = probe(file)
    if picture is None:
        return ("there is no picture",)
    layout = mp4_layout(file)
    longest = round(seconds(sheet["gop"], picture.rate) * picture.rate)
    size = file.stat().st_size
    rate_fits = sheet["rate_min"] <= picture.rate <= sheet["rate_max"]
    rules: list[tuple[bool, str, str]] = [
        (picture.codec == sheet["codec"], "codec", picture.codec),
        (picture.profile.lower().startswith(str(sheet.get("profile", ""))), "profile", picture.profile),
        (picture.pixel_format == sheet["pixel_format"], "pixel_format", picture.pixel_format),
        (rate_fits, "rate_max", f"{float(picture.rate):g} frames a second"),
        (picture.keyframes <= longest, "gop", f"{picture.keyframes} frames between key frames"),
        (not layout.edit_lists or sheet["edit_lists"] == "allow", "edit_lists", "has edit lists"),
        (size <= sheet.get("size_max", size), "size_max", f"{size} bytes"),
    ]
    if frame := sheet.get("frame"):
        rules.append((picture.size == Size.parse(frame), "frame", str(picture.size)))
    off = [f"{sheet.place(key)} {key} {sheet.get(key)}: {got}" for fine, key, got in rules if not fine]
    if not layout.moov_first:
        off.append("its index (moov) comes after the pictures")
    if sound and (sound.codec, sound.sample_rate) != ("aac", SAMPLE_RATE):
        off.append(f"sound is {sound.codec} at {sound.sample_rate} Hz, not AAC at {SAMPLE_RATE} Hz")
    return tuple(off)
