"""Formats: each kind of file is signed, read and proved, and not once a bit of what one sees or hears is changed.

WebM, Matroska and Ogg have no place for a manifest: theirs lies beside them.
"""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import tamper
from tamper import Studio

from stages import deliver, open_clip
from stages.carriers import mime_of, sidecar_of
from stages.clip import Action
from stages.errors import InputError
from stages.provenance import archive_ingredient, read_credentials, sign, verify

MADE = (Action("generate", agent="a model", ai=True),)
TONE = ("-f", "lavfi", "-i", "sine=220:d=0.3")
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=96x64:d=0.25:r=12")
ONE = ("-frames:v", "1")
FORMATS: dict[str, tuple[str, ...]] = {
    "h264.mp4": (*PICTURE, *TONE, "-c:v", "libx264", "-preset", "ultrafast"),
    "moov-first.mp4": (*PICTURE, *TONE, "-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart"),
    "hevc.mp4": (*PICTURE, "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params", "log-level=0"),
    "av1.mp4": (*PICTURE, "-c:v", "libsvtav1", "-preset", "13"),
    "prores.mov": (*PICTURE, *TONE, "-c:v", "prores_ks"),
    "sound.m4a": (*TONE, "-c:a", "aac"),
    "sound.wav": TONE,
    "sound.mp3": TONE,
    "sound.flac": TONE,
    "photo.png": (*PICTURE, *ONE),
    "photo.jpg": (*PICTURE, *ONE),
    "photo.webp": (*PICTURE, *ONE),
    "moving.webp": PICTURE,
    "moving.gif": PICTURE,
    "film.avi": (*PICTURE, *TONE),
}
APART: dict[str, tuple[str, ...]] = {
    "film.webm": (*PICTURE, *TONE, "-c:v", "libvpx", "-c:a", "libopus"),
    "film.mkv": (*PICTURE, *TONE, "-c:v", "libx264", "-preset", "ultrafast"),
    "sound.ogg": (*TONE, "-c:a", "libopus"),
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


def made(folder: Path, name: str) -> Path:
    """A tiny file of the kind, unsigned."""
    tamper.ffmpeg(*(FORMATS | APART)[name], folder / name)
    return folder / name


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_signed_and_proved_and_a_changed_bit_is_found(studio: Studio, tmp_path: Path, name: str) -> None:
    plain = made(tmp_path, name)
    signed, content = plain.with_stem("signed"), plain.read_bytes()
    sign(plain, signed, history=MADE, signer=studio.ours)
    found = verify(signed, anchors=studio.anchors, signer=studio.ours, history=MADE)
    assert (found.verdict, found.codes) == ("proved", ())
    after = signed.read_bytes()
    for place in (len(content) * part // 8 for part in range(3, 8)):
        essence = content[place : place + 16]
        at = after.find(essence)  # what is seen and heard lies there as it was, somewhere else
        if after.count(essence) == 1:
            signed.write_bytes(tamper.flipped(after, at + 8))
            assert verify(signed, anchors=studio.anchors).verdict == "tampered", place
    signed.write_bytes(after)
    final = studio.final(signed)
    assert verify(final, original=signed, anchors=studio.anchors).verdict == "proved"
    assert not sidecar_of(signed).exists()


@pytest.mark.parametrize("name", APART)
def test_what_cannot_hold_credentials_has_them_beside_it(studio: Studio, tmp_path: Path, name: str) -> None:
    plain = made(tmp_path, name)
    signed, beside = plain.with_stem("signed"), tmp_path / "signed.c2pa"
    sign(plain, signed, history=MADE, signer=studio.ours)
    assert signed.read_bytes() == plain.read_bytes()
    whole, store = signed.read_bytes(), beside.read_bytes()
    found = verify(signed, anchors=studio.anchors, signer=studio.ours, history=MADE)
    assert (found.verdict, found.codes) == ("proved", ())
    signed.write_bytes(tamper.flipped(whole, len(whole) // 2))
    assert verify(signed, anchors=studio.anchors).codes == ("assertion.dataHash.mismatch",)
    signed.write_bytes(whole)
    for damaged in (b"", b"garbage", store[:500], tamper.flipped(store, store.rindex(b"c2pa.signature") + 700)):
        beside.write_bytes(damaged)
        assert verify(signed, anchors=studio.anchors).verdict == "tampered"
    beside.unlink()
    assert verify(signed, anchors=studio.anchors).verdict == "absent"


def test_credentials_beside_a_film_are_carried_on(studio: Studio, tmp_path: Path) -> None:
    film = made(tmp_path, "film.webm")
    sign(film, film, history=MADE, signer=studio.ours)
    archive = tmp_path / "ingredient.c2pa"
    assert archive_ingredient(film, archive, anchors=studio.anchors).state == "proved"
    for archives in ({}, {film: archive}):
        final = studio.final(film, archives=archives)
        found = verify(final, original=film, anchors=studio.anchors, signer=studio.ours)
        assert (found.verdict, found.codes) == ("proved", ())
        assert found.origin
        assert (found.origin.signer, found.origin.title) == (studio.ours.name, "film.webm")
    sidecar_of(film).unlink()
    assert verify(final, original=film, anchors=studio.anchors).verdict == "broken"


def test_a_changed_film_beside_its_credentials_is_not_used(studio: Studio, tmp_path: Path) -> None:
    film = made(tmp_path, "film.webm")
    sign(film, film, history=MADE, signer=studio.ours)
    film.write_bytes(tamper.flipped(whole := film.read_bytes(), len(whole) // 2))
    assert read_credentials(film, anchors=studio.anchors).state == "tampered"
    assert verify(studio.final(film), anchors=studio.anchors).verdict == "tampered"


def test_a_failed_signing_leaves_no_sidecar(studio: Studio, tmp_path: Path) -> None:
    film = made(tmp_path, "film.webm")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="AuthorityKeyIdentifier"):
        sign(film, tmp_path / "final.webm", history=MADE, signer=studio.pipeline.signer("Bad", key_id=False))
    assert sorted(tmp_path.iterdir()) == before


def test_a_kind_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    lying = made(tmp_path, "photo.png").rename(tmp_path / "film.mp4")
    assert mime_of(lying) == "image/png"


def test_an_archive_keeps_every_frame(studio: Studio, tmp_path: Path) -> None:
    """FFV1 in Matroska: decoded, the picture is what went in; the credentials lie beside it."""
    film, kept = tmp_path / "film.mp4", tmp_path / "kept.mkv"
    tags = (
        "-vf",
        "scale=out_color_matrix=bt709,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709",
    )
    tamper.ffmpeg(*PICTURE, *tags, "-c:v", "libx264", "-pix_fmt", "yuv420p", film)
    anchors = [studio.generator.root]
    delivered = deliver(open_clip(film), "archive", kept, signer=studio.ours, anchors=anchors)
    assert (delivered.verdict.verdict, delivered.credentials_apart) == ("proved", tmp_path / "kept.c2pa")
    with av.open(str(film)) as one, av.open(str(kept)) as other:
        frames = [[frame.to_ndarray().tobytes() for frame in each.decode(video=0)] for each in (one, other)]
        assert other.streams.video[0].codec_context.name == "ffv1"
    assert frames[0] == frames[1]
    kept.write_bytes(tamper.flipped(whole := kept.read_bytes(), len(whole) // 2))
    assert verify(kept, anchors=studio.anchors).verdict == "tampered"
