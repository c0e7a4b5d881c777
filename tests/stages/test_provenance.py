"""Sign, verify, and the matrix of files that must not be proved. Real c2pa, real ffmpeg, no network."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cattrs
import pytest
import tamper
from hypothesis import HealthCheck, example, given, settings
from hypothesis.strategies import floats, integers
from tamper import BAD, GOOD, Studio

from stages import provenance
from stages.clip import Action, History
from stages.credentials import Reading
from stages.errors import InputError, ProvenanceError
from stages.manifest import MODEL_MADE, PARTLY_MODEL_MADE
from stages.provenance import EXIT_CODES, Credentials, archive_ingredient, read_credentials, sign, verify
from stages.verdict import Original, judge


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"))


# ---------------------------------------------------------------- the matrix


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_proved(studio: Studio, name: str) -> None:
    found = verify(GOOD[name](studio), anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("proved", ()), found.sentence


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_not_proved(studio: Studio, name: str) -> None:
    expected, make = BAD[name]
    found = verify(make(studio), anchors=studio.anchors)
    assert found.verdict == expected, (found.codes, found.sentence)
    assert found.codes or expected == "absent"
    assert found.exit_code >= 10


def test_no_flipped_bit_of_the_manifest_changes_what_a_proved_file_says(studio: Studio) -> None:
    good = studio.final()
    content, said = good.read_bytes(), verify(good, anchors=studio.anchors).credentials
    begin, end = tamper.span(content, "uuid")
    for place in random.Random(7).sample(range(begin + 24, end), 120):
        found = verify(studio.file(tamper.flipped(content, place)), anchors=studio.anchors)
        # Some bits are padding or name a box: those may stay proved, if every word is the same.
        assert found.verdict != "proved" or _words(found.credentials) == _words(said), place


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=floats(0, 1, exclude_max=True), bit=integers(0, 7))
@example(share=0.0, bit=0)
def test_no_flipped_bit_of_a_proved_file_changes_what_a_viewer_sees_or_reads(
    studio: Studio, share: float, bit: int
) -> None:
    good = studio.delivered
    content = bytearray(good.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    file = studio.folder / "flipped.mp4"
    file.write_bytes(content)
    found = verify(file, anchors=studio.anchors)
    if found.verdict == "proved":
        assert _words(found.credentials) == _words(verify(good, anchors=studio.anchors).credentials)
        assert _seen(file) == _seen(good)


def _seen(file: Path) -> list[bytes]:
    """Each frame of picture and sound, decoded."""
    with av.open(str(file)) as film:
        return [plane for frame in film.decode() for plane in map(bytes, getattr(frame, "planes", ()))]


def _words(credentials: Credentials) -> tuple[Any, ...]:
    inner = tuple(_words(one) for one in credentials.ingredients)
    return (credentials.generator, credentials.signer, credentials.actions, credentials.source_type, inner)


# ---------------------------------------------------------------- verify: what was asked


def test_the_original_is_carried_byte_for_byte(studio: Studio) -> None:
    final = studio.final()
    assert verify(final, original=studio.original, anchors=studio.anchors).verdict == "proved"
    store = tamper.box_of(studio.original)[-2000:].rstrip(b"\0")
    assert store in final.read_bytes()


def test_an_originals_credentials_that_are_carried_otherwise_break_the_chain(studio: Studio) -> None:
    """Of the same label, and not byte for byte the same."""
    with tamper.reader(studio.delivered, studio.anchors) as reader:
        report = json.loads(reader.json())
    ingredients = report["manifests"][report["active_manifest"]]["ingredients"]
    label = next(one["active_manifest"] for one in ingredients if one["relationship"] == "parentOf")
    for carried, codes in ((True, ()), (False, ("afterframe.original.notCarried",))):
        assert judge(Reading(report, {}), original=Original("", label, (), carried)).codes == codes


def test_a_grandparent_is_an_original_too(studio: Studio) -> None:
    assert verify(GOOD["two deliveries in a row"](studio), original=studio.original, anchors=studio.anchors).codes == ()


@pytest.mark.parametrize("other", ["render", "stripped", "tampered_original", "another"])
def test_another_original_breaks_the_chain(studio: Studio, other: str) -> None:
    originals = {
        "render": lambda: studio.render,
        "stripped": lambda: tamper.stripped(studio),
        "tampered_original": lambda: tamper.tampered_original(studio),
        "another": lambda: studio.signed_by(studio.sora),
    }
    found = verify(studio.final(), original=originals[other](), anchors=studio.anchors)
    assert found.verdict == "broken", found


def test_an_unsigned_original_is_known_by_its_content(studio: Studio) -> None:
    final = studio.final(studio.film)
    found = verify(final, original=studio.film, anchors=studio.anchors)
    assert found.verdict == "proved"
    assert found.origin
    assert found.origin.state == "absent"
    assert "carries no credentials" in found.sentence
    assert verify(final, original=studio.render, anchors=studio.anchors).verdict == "broken"
    assert verify(final, original=studio.original, anchors=studio.anchors).verdict == "broken"


def test_nobody_else_may_have_signed(studio: Studio) -> None:
    assert verify(studio.final(), anchors=studio.anchors, signer=studio.ours).verdict == "proved"
    foreign = verify(studio.foreign(studio.original), anchors=studio.anchors, signer=studio.ours)
    assert (foreign.verdict, foreign.codes) == ("untrusted", ("afterframe.signer.other",))


def test_our_signer_signs_for_no_other_program(studio: Studio) -> None:
    """Whoever has the key may sign with any: what was not made by our rules is not proved to be."""
    found = verify(studio.foreign(studio.original, signer=studio.ours), anchors=studio.anchors, signer=studio.ours)
    assert (found.verdict, found.codes) == ("broken", ("afterframe.generator.other",))


def test_each_verdict_ends_with_a_code_of_its_own() -> None:
    assert EXIT_CODES == {"proved": 0, "absent": 10, "tampered": 11, "broken": 12, "untrusted": 13, "expired": 14}


@pytest.mark.parametrize(
    ("left_out", "codes"),
    [
        ("assertion.bmffHash.match", ("afterframe.mediaHash.missing",)),
        ("claimSignature.validated", ("claimSignature.missing",)),
        ("claimSignature.insideValidity", ("claimSignature.missing",)),
        ("signingCredential.trusted", ("signingCredential.untrusted",)),
        ("", ("afterframe.state.notTrusted",)),
    ],
)
def test_what_the_reader_does_not_say_is_not_taken_for_granted(studio: Studio, left_out: str, codes: Any) -> None:
    """A claim that binds no picture, a signature that nobody checked: no failure is told of either."""
    with tamper.reader(studio.original, studio.anchors) as reader:
        report = json.loads(reader.json())
    assert judge(Reading(report, {})).verdict == "proved"
    said = report["validation_results"]["activeManifest"]
    said["success"] = [one for one in said["success"] if one["code"] != left_out]
    report["validation_state"] = report["validation_state"] if left_out else "Valid"
    assert judge(Reading(report, {})).codes == codes


def test_what_others_recorded_does_nothing_to_a_terminal(studio: Studio) -> None:
    with tamper.reader(studio.delivered, studio.anchors) as reader:
        report = json.loads(reader.json())
    ingredient = next(one for each in report["manifests"].values() for one in each.get("ingredients", ()))
    ingredient["validation_results"] = {"activeManifest": {"failure": [{"code": "x\x1b[2J\nproved"}]}}
    found = judge(Reading(report, {}))
    assert (found.verdict, found.codes) == ("tampered", ("x [2J proved",))


def test_nobody_who_copies_the_signers_name_and_number_may_have_signed(studio: Studio) -> None:
    number = int(studio.ours.serial)
    double = studio.pipeline.signer(studio.ours.name, serial=number)
    assert (double.name, double.serial) == (studio.ours.name, studio.ours.serial)
    forged = studio.foreign(studio.original, signer=double)
    assert verify(forged, anchors=studio.anchors).verdict == "proved"  # its authority is trusted, too
    found = verify(forged, anchors=studio.anchors, signer=studio.ours)
    assert (found.verdict, found.codes) == ("untrusted", ("afterframe.signer.other",))


def test_a_test_signer_brings_its_own_root(studio: Studio) -> None:
    final = studio.final()
    assert verify(final, anchors=[studio.generator.root], signer=studio.ours).signer == "test"
    assert verify(final, anchors=[studio.generator.root]).verdict == "untrusted"
    assert verify(final, anchors=[studio.ours.root or Path()]).verdict == "untrusted"  # who vouches for Sora?
    assert verify(final).verdict == "untrusted"


def test_the_actions_must_be_those_that_were_done(studio: Studio) -> None:
    final, history = studio.final(), studio.history(studio.original)
    assert verify(final, anchors=studio.anchors, history=history).verdict == "proved"
    fewer = verify(final, anchors=studio.anchors, history=history[:-1])
    assert (fewer.verdict, fewer.codes) == ("broken", ("afterframe.actions.differ",))


def test_a_missing_file_or_a_bad_anchor_is_the_callers_mistake(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        verify(tmp_path / "nowhere.mp4")
    bad = tmp_path / "anchors.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(InputError, match=r"anchors\.pem"):
        verify(studio.original, anchors=[bad])
    with pytest.raises(InputError, match=r"missing\.pem"):
        read_credentials(studio.original, anchors=[tmp_path / "missing.pem"])


# ---------------------------------------------------------------- reading


def test_credentials_say_who_made_what_from_what(studio: Studio) -> None:
    found = read_credentials(studio.final(), anchors=studio.anchors)
    assert (found.state, found.generator, found.signer) == ("proved", "Afterframe", "Afterframe test signer")
    assert [one.relationship for one in found.ingredients] == ["parentOf", "componentOf"]
    assert found.parent
    assert (found.parent.generator, found.parent.signer, found.parent.issuer) == ("Sora", "Sora", "OpenAI")
    assert found.parent.source_type == MODEL_MADE
    assert found.ai
    assert cattrs.structure(json.loads(json.dumps(cattrs.unstructure(found))), Credentials) == found


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda s: s.film, "absent"),
        (lambda s: s.file(b"\x1a\x45\xdf\xa3" + bytes(99)), "absent"),  # Matroska carries none
        (lambda s: s.file(b""), "tampered"),
        (tamper.tampered_original, "tampered"),
        (tamper.swapped, "tampered"),
        (tamper.two_boxes, "tampered"),
        (lambda s: s.signed_by(s.stranger.signer("Sora")), "untrusted"),
        (tamper.aged(lambda s: s.aged), "expired"),
        (tamper.aged(lambda s: s.aged_forgery), "untrusted"),
        (lambda s: s.foreign(tamper.stripped(s)), "proved"),  # what others opened is theirs to say
    ],
)
def test_a_file_is_read_without_raising(studio: Studio, make: tamper.Maker, state: str) -> None:
    found = read_credentials(make(studio), anchors=studio.anchors)
    assert found.state == state
    assert bool(found.codes) == (state not in ("proved", "absent")) or state == "absent"


def test_a_file_is_known_by_its_content_not_its_name(studio: Studio, tmp_path: Path) -> None:
    shutil.copyfile(studio.original, tmp_path / "film.webm")
    assert read_credentials(tmp_path / "film.webm", anchors=studio.anchors).state == "proved"


def test_nothing_is_fetched(studio: Studio) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/film.c2pa"
        described = tamper.manifest(tamper.CREATED)
        film = tamper.raw_sign(studio.film, studio.new(), studio.sora, described, url=url)
        found = verify(film, anchors=studio.anchors)
        assert (found.verdict, found.codes) == ("absent", ("manifest.inaccessible",))
        with pytest.raises(TimeoutError):
            server.accept()


BESIDE = (folder / "shared" / "media" for folder in Path(__file__).parents)
MEDIA = next((folder for folder in BESIDE if folder.exists()), Path())

if Path() != MEDIA:  # beside a checkout where one has it, never in the repository

    def test_another_tools_film_is_read_and_carried(studio: Studio) -> None:
        film, roots = MEDIA / "signed-by-another-tool.mp4", [MEDIA / "signed-by-another-tool.roots.pem"]
        found = read_credentials(film, anchors=roots)
        assert (found.state, found.signer, found.generator) == ("untrusted", "C2PA Signer", "TestApp c2patool")
        assert found.parent
        assert (found.parent.state, found.parent.signer) == ("untrusted", "Bob")
        final = studio.final(film, anchors=roots)
        carried = verify(final, original=film, anchors=roots, signer=studio.ours)
        assert (carried.verdict, carried.codes) == ("untrusted", ("signingCredential.untrusted",))
        assert carried.sentence.endswith("made from (by Bob).")


# ---------------------------------------------------------------- signing


def actions(file: Path) -> list[tuple[str, str, str]]:
    return list(read_credentials(file).actions)


def test_actions_are_read_off_the_history(studio: Studio) -> None:
    assert [name for name, _, _ in actions(studio.final())] == [
        "c2pa.opened", "c2pa.trimmed", "c2pa.trimmed", "c2pa.placed",
        "c2pa.edited", "c2pa.resized.proportional", "c2pa.transcoded",
    ]  # fmt: skip


def signed(studio: Studio, *edits: Action, original: Path | None = None, **more: Any) -> Path:
    target = studio.new()
    history: History = (Action("open", file=original or studio.original), *edits)
    sign(studio.render, target, history=history, signer=studio.ours, anchors=studio.anchors, **more)
    return target


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Action("fit", (("size", "90x160"),)), [("c2pa.cropped", MODEL_MADE), ("c2pa.resized.proportional", "")]),
        (Action("fit", (("mode", "contain"),)), [("c2pa.resized.proportional", "")]),
        (Action("fit", (("mode", "stretch"),)), [("c2pa.resized", MODEL_MADE)]),
        (Action("caption"), [("c2pa.addedText", PARTLY_MODEL_MADE)]),
        (Action("caption", (("burn", "False"),)), []),
        (Action("strip_audio"), [("c2pa.edited", MODEL_MADE)]),
        (Action("sepia"), [("c2pa.edited", MODEL_MADE)]),
        (
            Action("upscale", agent="realesr", ai=True),
            [("c2pa.enhanced", PARTLY_MODEL_MADE), ("c2pa.resized.proportional", "")],
        ),
    ],
)
def test_each_edit_has_its_name(studio: Studio, edit: Action, expected: list[tuple[str, str]]) -> None:
    file = signed(studio, edit)
    assert [(name, source) for name, _, source in actions(file)[1:-1]] == expected
    assert verify(file, anchors=studio.anchors).verdict == "proved"


def test_a_voice_by_a_model_is_said_to_be_one(studio: Studio) -> None:
    voice = (Action("speak", agent="hibari", file=studio.voice, ai=True),)
    file = signed(studio, Action("replace_audio", inputs=(voice,)), original=studio.film)
    assert actions(file)[1] == ("c2pa.dubbed", "Afterframe", MODEL_MADE)
    song = signed(studio, Action("mix_audio", inputs=((Action("open", file=studio.voice),),)))
    assert actions(song)[1] == ("c2pa.placed", "Afterframe", "")


def test_a_clip_joined_to_itself_is_one_ingredient(studio: Studio) -> None:
    again = (Action("open", file=studio.original),)
    other = (Action("open", file=studio.film),)
    file = signed(studio, Action("concat", inputs=(again,)), Action("concat", inputs=(other, again)))
    found = verify(file, anchors=studio.anchors)
    assert found.verdict == "proved"
    assert [one.relationship for one in found.credentials.ingredients] == ["parentOf", "componentOf"]


def test_what_a_model_was_shown_is_an_input(studio: Studio) -> None:
    shown = ((Action("open", file=studio.film),),)
    target = studio.new()
    history = (Action("generate", agent="sora-2", file=studio.original, ai=True, inputs=shown),)
    sign(studio.render, target, history=history, signer=studio.ours, anchors=studio.anchors)
    found = verify(target, anchors=studio.anchors)
    assert found.verdict == "proved"
    assert [one.relationship for one in found.credentials.ingredients] == ["parentOf", "inputTo"]


def test_parameters_are_recorded_but_no_prompt_and_no_folder(studio: Studio) -> None:
    file = signed(studio, Action("caption", (("file", "/home/ann/secret/lines.srt"), ("prompt", "a dog"))))
    content = file.read_bytes()
    assert b"org.afterframe.caption" in content
    assert b"lines.srt" in content
    assert b"secret" not in content
    assert b"a dog" not in content


def test_copied_streams_are_repackaged(studio: Studio) -> None:
    assert actions(signed(studio, transcoded=False))[-1][0] == "c2pa.repackaged"


def test_what_was_computed_is_not_said_to_be_filmed_or_learnt(studio: Studio) -> None:
    file = tamper.created(studio, (Action("colour_bars"),))
    found = verify(file, anchors=studio.anchors)
    assert found.verdict == "proved"
    assert found.credentials.source_type.endswith("/algorithmicMedia")
    assert not found.credentials.ai


def test_a_file_of_which_nothing_is_known_is_not_signed(studio: Studio) -> None:
    with pytest.raises(InputError, match="history is empty"):
        tamper.created(studio, ())


def test_credentials_are_not_dropped_by_signing_over_them(studio: Studio) -> None:
    for file in (studio.original, studio.final()):
        with pytest.raises(InputError, match="carries content credentials already"):
            sign(file, studio.new(), history=(Action("generate", ai=True),), signer=studio.ours)
    copied = studio.new()
    sign(studio.original, copied, history=(Action("open", file=studio.original),), signer=studio.ours)
    assert verify(copied, original=studio.original, anchors=studio.anchors).verdict == "proved"


def test_a_missing_original_is_named(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4: the original is missing"):
        signed(studio, original=tmp_path / "gone.mp4")


def test_a_wrong_archive_is_named(studio: Studio) -> None:
    with pytest.raises(InputError, match="is not an archive"):
        signed(studio, archives={studio.original: studio.film})


def test_an_archive_records_what_was_found(studio: Studio, tmp_path: Path) -> None:
    archive = tmp_path / "a.c2pa"
    assert archive_ingredient(tamper.tampered_original(studio), archive, anchors=studio.anchors).state == "tampered"
    found = verify(signed(studio, archives={studio.original: archive}), anchors=studio.anchors)
    assert (found.verdict, found.codes) == ("tampered", ("assertion.bmffHash.mismatch",))
    assert [file.name for file in tmp_path.iterdir()] == ["a.c2pa"]


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"uses": ("1.3.6.1.5.5.7.3.1",)}, "ExtendedKeyUsage has 1.3.6.1.5.5.7.3.1"),
        ({"key_id": False}, "AuthorityKeyIdentifier"),
        ({"end": tamper.PAST}, "expired on"),
    ],
)
def test_a_failed_signing_leaves_nothing(studio: Studio, tmp_path: Path, faults: dict[str, Any], sentence: str) -> None:
    target = tmp_path / "final.mp4"
    target.write_bytes(b"what stood here before")
    with pytest.raises(InputError, match=sentence):
        sign(studio.film, target, history=(Action("bars"),), signer=studio.pipeline.signer("Bad", **faults))
    assert target.read_bytes() == b"what stood here before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_kind_of_file_that_credentials_say_nothing_of_is_refused(studio: Studio, tmp_path: Path) -> None:
    text = tmp_path / "words.srt"
    text.write_text("1\n00:00:00,200 --> 00:00:00,900\nHello\n")
    with pytest.raises(InputError, match=r"words\.srt: this kind of file cannot carry"):
        sign(text, tmp_path / "final.srt", history=(Action("bars"),), signer=studio.ours)
    assert list(tmp_path.iterdir()) == [text]


def test_a_damaged_file_is_not_signed(studio: Studio, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"not a film at all, whatever its name says")
    with pytest.raises(ProvenanceError, match=r"film\.mp4"):
        sign(film, tmp_path / "final.mp4", history=(Action("bars"),), signer=studio.ours)
    assert list(tmp_path.iterdir()) == [film]


# ---------------------------------------------------------------- form


def test_importing_loads_nothing_heavy() -> None:
    heavy = "[m for m in ('c2pa', 'cryptography') if m in sys.modules]"
    code = f"import sys, stages.provenance as p; p.sdk_version(); sys.exit(str({heavy} or ''))"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr == b"\n"


def test_the_fixture_is_proved() -> None:
    fixtures = Path(__file__).parents[2] / "fixtures"
    found = verify(fixtures / "bunny.mp4", anchors=[fixtures / "fixture-root.pem"])
    assert (found.verdict, found.credentials.generator) == ("proved", "Sora")
    assert provenance.EXIT_CODES[found.verdict] == 0
