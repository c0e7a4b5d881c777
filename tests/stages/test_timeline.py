"""The edit as an editing program reads it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import opentimelineio as otio
import pytest
from lab import picture_of

from stages import Clip, Cue, concat, mix_audio, open_clip, reverse, trim
from stages.clip import Captions
from stages.timeline import write_timeline


def written(clip: Clip, folder: Path) -> Any:
    write_timeline(clip, folder / "film.mp4", folder / "film.otio")
    return otio.adapters.read_from_file(str(folder / "film.otio"))


def spans(track: Any) -> list[tuple[str, float, float]]:
    """Of each item the file, where it starts there and how long it is."""
    return [(one.name, one.source_range.start_time.value, one.source_range.duration.value) for one in track]


def test_trims_and_joins_are_ranges_of_the_source_files(shot: Path, tmp_path: Path) -> None:
    clip = open_clip(shot)
    cue = Cue("{x} & <i>", Fraction(1, 2), Fraction(1))
    clip = concat((trim(clip, start="1s", end="2s"), trim(clip, length="0.5s")))
    clip = replace(clip, picture=replace(picture_of(clip), captions=Captions((cue,))))
    told = written(clip, tmp_path)
    picture, sound = told.tracks
    assert (picture.kind, sound.kind) == ("Video", "Audio")
    assert spans(picture) == [("shot.mp4", 24, 24), ("shot.mp4", 0, 12)]
    assert spans(sound) == [("shot.mp4", 48000, 48000), ("shot.mp4", 0, 24000)]
    assert picture[0].media_reference.target_url == shot.absolute().as_uri()
    assert picture.duration().to_seconds() == sound.duration().to_seconds() == 1.5
    (marker,) = told.tracks.markers
    assert (marker.name, marker.marked_range.start_time.value, marker.marked_range.duration.value) == (
        "{x} & <i>",
        12,
        12,
    )


def test_a_voice_lies_in_a_track_of_its_own_at_its_place_with_its_gain(shot: Path, voice: Path, tmp_path: Path) -> None:
    clip = mix_audio(open_clip(shot), sound=open_clip(voice), at="0.5s", gain="-3 dB", duck="10 dB")
    _, bed, spoken = written(clip, tmp_path).tracks
    assert spans(bed) == [("shot.mp4", 0, 144000)]
    assert [word.split()[0] for word in bed[0].metadata["afterframe"]["done"]] == ["duck"]
    gap, said, rest = spoken
    assert isinstance(gap, otio.schema.Gap)
    assert gap.source_range.duration.value == 24000
    assert spans([said]) == [("voice.wav", 0, 72000)]
    assert said.metadata["afterframe"]["gain"] == "-3dB"
    assert isinstance(rest, otio.schema.Gap)
    assert spoken.duration().to_seconds() == 3


def test_what_changes_time_is_one_clip_of_the_film_and_says_so(shot: Path, tmp_path: Path) -> None:
    picture, _ = written(reverse(open_clip(shot)), tmp_path).tracks
    assert spans(picture) == [("film.mp4", 0, 72)]
    assert picture[0].metadata["afterframe"]["unexpressed"] == "reverse"


def test_the_package_brings_no_other_format() -> None:
    """No round trip to EDL or FCP XML can be tried with it."""
    assert set(otio.adapters.available_adapter_names()) == {"otio_json", "otioz", "otiod"}


@pytest.mark.parametrize("crossfade", ["0.25s"])
def test_a_crossfade_keeps_the_length_and_is_told(shot: Path, tmp_path: Path, crossfade: str) -> None:
    clip = trim(open_clip(shot), length="1s")
    picture = written(concat((clip, clip), crossfade=crossfade), tmp_path).tracks[0]
    assert spans(picture) == [("shot.mp4", 0, 18), ("shot.mp4", 18, 6), ("shot.mp4", 6, 18)]
    assert picture[1].metadata["afterframe"]["done"][0].startswith("overlay")
