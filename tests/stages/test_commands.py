"""What ffmpeg is told, as text that one can read in review. No ffmpeg is needed here.

GOLDEN_UPDATE=1 rewrites the files in tests/goldens.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import described, picture_of, sound_of

import stages.mixing
from stages import (
    Clip,
    Cue,
    Encoding,
    concat,
    end_card,
    fit,
    interpolate,
    label,
    level,
    loop,
    mix_audio,
    music,
    open_clip,
    overlay,
    replace_audio,
    reverse,
    speed,
    strip_audio,
    tonemap,
    trim,
    upscale,
)
from stages.clip import Captions, Colour, PictureFacts, Size, SoundFacts, Source, Stream, filtered
from stages.delivery import cut
from stages.encoding import encoded_by
from stages.errors import InputError
from stages.escape import ffmpeg
from stages.ffmpeg import Command, Output, command, linked_graph, sound_command, still_command
from stages.media import clip_from
from stages.mixing import enveloped
from stages.plugins import find

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "goldens"


def readable(made: Command) -> str:
    """A command with one filter a line and its text files below it."""
    lines: list[str] = []
    for argument in made.arguments:
        if re.match("-[a-z]", argument):
            lines.append(argument)
        else:
            lines[-1] += " " + (argument if "]" in argument else shlex.quote(argument))
    text = "\n".join(lines).replace(";", "\n  ").replace("-filter_complex ", "-filter_complex\n  ")
    files = "".join(f"\n\n--- {name}\n{content.rstrip()}" for name, content in made.files.items())
    files += "".join(f"\n\n--- {name}\n{still.file} {still.mode} {still.size}" for name, still in made.stills.items())
    return (text + files).replace(str(ROOT), "") + "\n"


def check_golden(name: str, *commands: Command) -> None:
    text, file = "\n".join(map(readable, commands)), GOLDENS / f"{name}.txt"
    if os.environ.get("GOLDEN_UPDATE"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{file}: GOLDEN_UPDATE=1 accepts the change"


def commands_of(clip: Clip, folder: Path) -> tuple[Command, ...]:
    """What makes the picture and, before loudness is settled, the sound."""
    picture = (command([Output(clip.picture)]),) if clip.picture else ()
    sound = (sound_command(enveloped(clip.sound.stream, folder), "mix.wav", acodec="pcm_f32le"),) if clip.sound else ()
    return *picture, *sound


# ---------------------------------------------------------------- each edit alone

TALK = replace(described(seconds=1, name="/media/talk.wav"), picture=None)
OTHER = described("90x160", seconds=2, rate="25", name="/media/other.mp4")
CAPTIONS = Captions((Cue("Hello {there}\nagain", Fraction(1, 2), Fraction(1)),))

LOGO = Clip(
    clip_from(Path("/media/logo.png"), PictureFacts(Size(60, 30), Size(60, 30), Fraction(1), 1, "png"), None).picture
)

EDITS: dict[str, Callable[[Clip], Clip]] = {
    "open": lambda clip: clip,
    "trim": lambda clip: trim(clip, start="1s", length="1s"),
    "trim-of-trim": lambda clip: trim(trim(clip, start="0.5s"), length="1s"),
    "loop": lambda clip: loop(clip, overlap="0.5s"),
    "loop-all-fade": lambda clip: loop(clip, overlap="1.5s"),
    "concat": lambda clip: concat((clip, trim(clip, length="1f"), strip_audio(clip))),
    "concat-unlike": lambda clip: concat((clip, OTHER), mode="contain"),
    "concat-crossfade": lambda clip: concat((clip, strip_audio(clip), clip), crossfade="0.5s"),
    "concat-of-upscaled": lambda clip: concat((upscale(clip, size="2x"), upscale(clip, size="2x"))),
    "end_card": lambda clip: end_card(clip, image=LOGO, length="1s"),
    "end_card-of-upscaled": lambda clip: end_card(upscale(strip_audio(clip), size="2x"), image=LOGO, mode="blur"),
    "interpolate": lambda clip: interpolate(clip, rate=60),
    "interpolate-repeat": lambda clip: interpolate(clip, rate="59.94", engine="repeat"),
    "reverse": lambda clip: reverse(clip),
    "speed": lambda clip: speed(clip, factor="1.5x"),
    "ffmpeg": lambda clip: fit(ffmpeg(clip, filters="hflip,eq=contrast=1.1:saturation='1'"), size="90x160"),
    "fit-cover": lambda clip: fit(clip, size="90x160", focus="0.2x0.5"),
    "fit-contain": lambda clip: fit(clip, size="90x160", mode="contain"),
    "fit-stretch": lambda clip: fit(clip, size="90x160", mode="stretch"),
    "fit-blur": lambda clip: fit(clip, size="90x160", mode="blur"),
    "upscale": lambda clip: upscale(clip, size="2x"),
    "upscale-sharp": lambda clip: fit(upscale(clip, size="2x", engine="lanczos-sharp"), size="180x320", mode="blur"),
    "strip_audio": strip_audio,
    "replace_audio": lambda clip: replace_audio(clip, sound=TALK, at="0.5s", gain="-3 dB"),
    "mix_audio": lambda clip: mix_audio(clip, sound=TALK, at="0.5s"),
    "mix_audio-duck": lambda clip: mix_audio(clip, sound=TALK, at="0.5s", duck="10 dB"),
    "music": lambda clip: music(clip, sound=TALK, duck="6 dB", fade_in="0.5s"),
    "level": level,
    "overlay-image": lambda clip: overlay(clip, image=LOGO, start="12f", end="24f"),
    "overlay-text": lambda clip: overlay(clip, text="50% {off}", corner="bottom-left"),
    "label": lambda clip: fit(label(clip), size="90x160"),
    "caption": lambda clip: replace(clip, picture=replace(picture_of(clip), captions=CAPTIONS)),
}


@pytest.mark.parametrize("name", EDITS)
def test_the_command_of_an_edit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.mixing, "heard", lambda *_: ((24_000, 72_000),))
    monkeypatch.setattr(
        stages.mixing, "_stretched", lambda node, *_: filtered("STRETCHED", *node.inputs, **dict(node.options))
    )
    check_golden(name, *commands_of(EDITS[name](described()), tmp_path))


def test_the_command_of_a_still() -> None:
    clip = fit(trim(described(), start="1s"), size="90x160")
    check_golden("still", still_command(picture_of(clip), 47, "still.png"))
    captioned = replace(described(), picture=replace(picture_of(described()), captions=CAPTIONS))
    check_golden("still-captioned", still_command(picture_of(captioned), 0, "still.png"))


HEADS: dict[str, dict[str, Any]] = {
    "untagged": {"colour": Colour()},
    "full-range": {"colour": Colour("bt470bg", "bt709", "bt709", "pc"), "pixel_format": "yuvj420p"},
    "rgb": {"pixel_format": "gbrp"},
    "anamorphic": {"sample_aspect": Fraction(64, 45), "constant_rate": True},
    "variable-rate": {"constant_rate": False},
    "odd": {"coded": Size(161, 91)},
    "late": {"start": Fraction(1, 2)},
    "interlaced": {"interlaced": True},
    "wide": {"colour": Colour("bt2020nc", "bt2020", "bt2020-10", "tv"), "pixel_format": "yuv420p10le"},
    "hdr": {"colour": Colour("bt2020nc", "bt2020", "smpte2084", "tv"), "pixel_format": "yuv420p10le"},
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_an_unusual_source(name: str) -> None:
    stream = picture_of(described()).stream
    assert isinstance(stream, Source)
    assert isinstance(stream.facts, PictureFacts)
    clip = clip_from(stream.path, replace(stream.facts, **HEADS[name]), None)
    check_golden(f"source-{name}", command([Output(picture_of(tonemap(trim(clip, length="1s"))))]))


# ---------------------------------------------------------------- the finish recipe


def finished() -> Clip:
    """The clip that the steps of presets/recipes/finish.yaml describe."""
    recipe = yaml.safe_load((ROOT / "presets/recipes/finish.yaml").read_text(encoding="utf-8"))
    folder = ROOT / "presets/recipes"
    files = {f"${name}": (folder / file).resolve() for name, file in recipe["inputs"].items()}
    clip = open_clip(files["$clip"])
    for step in recipe["steps"]:
        ((name, given),) = step.items()
        given = {key: files.get(value, value) for key, value in given.items() if key != "clip"}
        if "sound" in given:
            given["sound"] = open_clip(given["sound"])
        clip = find("pipeline.stages", name)(clip, **given)
    return clip


def web() -> Command:
    delivery = cut(finished(), "web")
    return command([Output(delivery.picture, delivery.encoding, Path("sound.m4a"))])


def test_the_web_delivery_of_the_finish_recipe() -> None:
    check_golden("finish-web", web())


def test_the_web_delivery_is_the_best_graph_written_by_hand() -> None:
    """Node for node: one decode, frames dropped before anything is spent on them, one resample, captions
    drawn at the delivered size so that they are sharp, one encode, and the finished sound copied in."""
    by_hand = [
        "trim=end_frame=144",  # by frame, and first: nothing below sees the last two seconds
        "setpts=expr=PTS-STARTPTS",  # free; a trim that starts at 0 needs none, any other does
        "scale=flags=lanczos+accurate_rnd+full_chroma_int:h=1080:w=1920",  # the only resample
        "setsar=sar=1",  # free: metadata
        "ass=filename=captions0.ass:fontsdir=fonts",
        "format=pix_fmts=yuv420p",  # free here: it already is; refuses anything else
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv",  # free: metadata
    ]
    arguments = web().arguments
    graph = arguments[arguments.index("-filter_complex") + 1]
    assert re.sub(r"\[[^]]*\]", "", graph).split(";") == by_hand
    assert arguments.count("-i") == 2
    options = shlex.join(arguments)
    assert "-c:a copy" in options
    assert "-t " not in options
    assert "-shortest" not in options


# ---------------------------------------------------------------- what holds for every command


def test_stripping_sound_copies_the_picture() -> None:
    made = command([Output(picture_of(strip_audio(described())))])
    assert "-c:v copy" in shlex.join(made.arguments)
    assert not {"-t", "-filter_complex", "-shortest"} & set(made.arguments)
    assert not made.files


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        (Encoding(), ""),
        (Encoding(codec="libx265"), "codec: h264, not hevc"),
        (Encoding(gop=Fraction(1)), "gop: 48 frames between key frames, not at most 24"),
        (Encoding(pixel_format="yuv444p"), "pixel_format: yuv420p, not yuv444p"),
    ],
)
def test_a_copy_is_refused_for_the_reason_told(encoding: Encoding, reason: str) -> None:
    assert encoding.refuses(picture_of(described())) == reason


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("nvenc", "-c:v h264_nvenc -preset p5 -rc vbr -cq 18 -b:v 0"),
        ("qsv", "-c:v h264_qsv -preset medium -global_quality 18"),
        ("vaapi", "-c:v h264_vaapi -qp 18"),
        ("videotoolbox", "-c:v h264_videotoolbox -q:v 64"),
    ],
)
def test_special_hardware_is_told_in_its_own_words(encoder: str, options: str) -> None:
    encoding = encoded_by(Encoding(), encoder)
    said = shlex.join(command([Output(picture_of(trim(described(), length="1s")), encoding)]).arguments)
    # ffmpeg-python puts options in the order of their names.
    assert set(options.split()) <= set(said.split())
    assert not {"-crf", "libx264"} & set(said.split())
    assert ("hwupload" in said) == ("-init_hw_device vaapi=gpu" in said) == (encoder == "vaapi")
    assert encoding.refuses(picture_of(described())) == ""  # what is right already is copied all the same
    assert (encoding.format, encoded_by(encoding, "software")) == ("h264", Encoding())


def test_hardware_that_never_does_a_codec_is_refused() -> None:
    with pytest.raises(InputError, match="encoder: videotoolbox does not make av1; nvenc, qsv, vaapi do"):
        encoded_by(Encoding(codec="libsvtav1"), "videotoolbox")
    with pytest.raises(InputError, match=r"encoder: nvenc does not make gif$"):
        cut(described(), "preview-gif", encoder="nvenc")


def test_four_outputs_decode_once_and_draw_equal_captions_once() -> None:
    clip = replace(described(), picture=replace(picture_of(described()), captions=CAPTIONS))
    pictures = [picture_of(one) for one in (clip, trim(clip, length="1s"), fit(clip, size="90x160"), clip)]
    made = command([Output(one, name=f"out{index}.mp4") for index, one in enumerate(pictures)])
    assert made.arguments.count("-i") == 1
    assert sorted(made.files) == ["captions0.ass", "captions1.ass"]


def test_a_graph_grows_with_steps_and_not_with_reads() -> None:
    stream: Stream = picture_of(described()).stream
    for _ in range(40):
        stream = filtered("overlay", stream, stream)
    picture = replace(picture_of(described()), stream=stream)
    graph = command([Output(picture)]).arguments[3]
    assert graph.count("overlay") == 40
    assert graph.count("split=2") == 39


@pytest.mark.parametrize("path", ["/media/it's a [first]; take: 2, 50%.mp4", "/media/-i.mp4", "/media/a\\b.mp4"])
def test_a_path_is_one_argument_whatever_is_in_it(path: str) -> None:
    made = command([Output(picture_of(trim(described(name=path), length="1s")))])
    assert made.arguments[:2] == ("-i", path)
    assert path not in made.arguments[3]


def test_sound_and_picture_of_one_file_are_split_by_their_own_filters() -> None:
    source = Source(Path("/media/shot.mp4"), SoundFacts("aac", "LC", 48_000, 2, "stereo", 48_000))
    louder = filtered("volume", source, volume="3dB")
    (linked,) = linked_graph([filtered("amix", louder, louder, inputs=2)])
    assert linked is not None
    assert "asplit=2" in sound_command(filtered("amix", louder, louder, inputs=2), "x.wav").arguments[3]


def test_no_filter_takes_a_number_that_is_no_number_to_ffmpeg() -> None:
    """`13/2` is refused by -t, -ss and fade: options hold integers, words, and rates."""
    clip = mix_audio(trim(described(rate="24000/1001"), start="7f", length="48f"), sound=TALK, at="0.5s")
    for made in (command([Output(picture_of(clip))]), sound_command(sound_of(clip).stream, "mix.wav")):
        assert "/" not in re.sub(r"\[[^]]*\]", "", made.arguments[made.arguments.index("-filter_complex") + 1])
