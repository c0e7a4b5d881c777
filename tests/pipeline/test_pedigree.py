"""Where a film comes from, told so that one who has never heard of C2PA can say who made it and what was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.card import card, lines
from pipeline.pedigree import Known, known_by, pedigree, story
from pipeline.report import _known
from stages.clip import Action, Clip
from stages.credentials import Credentials, tree_of
from stages.manifest import CAPTURE_SOURCES, MODEL_MADE

CAMERA = min(CAPTURE_SOURCES)
SORA = Credentials(
    "proved", title="x.mp4", generator="Sora", signer="Truepic Lens CLI in Sora", issuer="OpenAI",
    signed_at="2025-10-10T07:00:00Z", source_type=MODEL_MADE, relationship="parentOf",
    actions=(("c2pa.created", "Sora", MODEL_MADE),),
)  # fmt: skip
MUSIC = Credentials("absent", title="song.wav", relationship="componentOf")
PHOTO = Credentials(
    "untrusted", title="rose.jpg", generator="Nikon", signer="Ann", source_type=CAMERA, relationship="inputTo"
)
FILM = Credentials(
    "proved", title="web", generator="Afterframe", signer="A Studio",
    actions=(("c2pa.opened", "", ""), ("c2pa.trimmed", "Afterframe", MODEL_MADE), ("c2pa.placed", "heart", MODEL_MADE),
             ("c2pa.enhanced", "realesr", MODEL_MADE), ("c2pa.transcoded", "Afterframe", "")),
    told=("", "Cut in time", "A sound laid over its own", "Enlarged by a trained model", ""),
    ingredients=(SORA, MUSIC, PHOTO),
)  # fmt: skip
KNOWN = (Known("film.mp4", "data:,strip"), Known("song.wav"), Known("rose.jpg"))


def test_who_made_it_and_what_was_done() -> None:
    assert story(FILM, KNOWN) == [
        "The film was made from film.mp4 (made by AI: Sora; signed by Truepic Lens CLI in Sora).",
        "Laid into it: song.wav (nobody says who made it; not signed).",
        "Shown to the model that made it: rose.jpg (made with a camera: Nikon; signed by Ann).",
        "Then Afterframe did this: cut in time, a sound laid over its own (made by AI), by heart,"
        " enlarged by a trained model by AI, by realesr.",
        "So what you see or hear is, at least in part, made by AI.",
    ]


def test_a_film_that_was_made_from_nothing() -> None:
    assert story(SORA, ()) == [
        "The film was made by AI: Sora, from nothing else.",
        "Nothing else was done to it.",
        "So what you see or hear is, at least in part, made by AI.",
    ]


def test_the_tree_has_a_node_for_each_file() -> None:
    tree = pedigree(FILM, KNOWN, Known("final.mp4", "data:,final"))
    assert (tree["name"], tree["title"], tree["role"], tree["mark"]) == ("final.mp4", "web", "this file", "✓")
    assert tree["made"] == "Made with Afterframe."
    parent, music, photo = tree["ingredients"]
    assert (parent["role"], parent["sheet"], parent["done"]) == ("what it was made from", "data:,strip", ["made by AI"])
    assert parent["signed"] == "Signed by Truepic Lens CLI in Sora (OpenAI) on 2025-10-10."
    assert (music["made"], music["signed"], music["mark"]) == ("Nobody says who made it.", "Not signed.", "–")
    assert (photo["mark"], photo["role"]) == ("?", "shown to the model")


def test_the_tree_says_who_vouches_and_what_an_unknown_signer_means() -> None:
    stranger = replace(PHOTO, label="urn:ann")
    film = replace(FILM, state="untrusted", label="urn:own", ingredients=(replace(SORA, label="urn:sora"), stranger))
    tree = pedigree(film, KNOWN, Known("final.mp4"), {"urn:own": "our root", "urn:sora": "the trust list “c2pa”"})
    assert tree["says"] == "intact, but nobody here vouches for all who signed what it was made from: see ? below"
    assert tree["vouched"] == "Vouched for by our root."
    parent, photo = tree["ingredients"]
    assert (parent["says"], parent["vouched"]) == ("proved", "Vouched for by the trust list “c2pa”.")
    assert photo["says"] == "intact, but by a signer nobody here vouches for"
    assert photo["vouched"].startswith("An unknown signer: none of those whom this project trusts has checked who Ann")
    unknown = pedigree(film, KNOWN, Known("final.mp4"))
    assert unknown["says"] == "intact, but by a signer nobody here vouches for"


def test_what_the_run_knows_better_than_a_file_that_says_nothing() -> None:
    spoken = Clip(history=(Action("speak", agent="espeak 1.52"),))
    known = known_by(spoken, "speak", "")
    assert (known.name, known.by) == ("speak, a step of this recipe", "espeak 1.52")
    assert known_by(None, "ingest:clip.mp4", "") == Known("clip.mp4")
    tree = pedigree(Credentials("proved", ingredients=(MUSIC,)), (known,), Known("final.mp4"))
    assert tree["ingredients"][0]["made"] == "Made by espeak 1.52, by this recipe's record."
    learnt = known_by(Clip(history=(Action("speak", agent="heart", ai=True),)), "speak", "")
    assert learnt.by == "AI: heart"


def test_what_the_file_above_says_of_one_that_says_nothing() -> None:
    voice = replace(MUSIC, title="voice.wav", source_type=MODEL_MADE)
    film = Credentials("proved", generator="Afterframe", ingredients=(voice,))
    (node,) = pedigree(film, (), Known("final.mp4"))["ingredients"]
    assert node["made"] == "Made by AI, says the record of the file it went into."
    assert story(film, ())[-1] == "So what you see or hear is, at least in part, made by AI."


def test_each_file_says_what_is_true_of_it() -> None:
    """In a terminal and on the card too: of a film whose ancestor's signer is unknown, not that its own is."""
    stranger = replace(SORA, state="untrusted", label="urn:sora", signer="Bob")
    film = replace(FILM, state="untrusted", label="urn:own", ingredients=(stranger,))
    said = list(lines(film, {"urn:own": "our root"}, "final.mp4"))
    below = "intact, but nobody here vouches for all who signed what it was made from: see ? below"
    assert said[0] == f"? final.mp4 “web” (this file): {below}"
    assert said[2] == "  Vouched for by our root."
    assert "    ? x.mp4 (what it was made from): intact, but by a signer nobody here vouches for" in said
    page = card(film, {"urn:own": "our root"}, "final.mp4", "The file is intact, but.")
    assert page.count("see ? below") == page.count("by a signer nobody here vouches for") == 1
    assert "An unknown signer" in page


def test_a_name_that_is_a_trap_is_text() -> None:
    """Who signs writes what he likes; on a terminal and on a page it is shown, and does nothing."""
    written = "x\x1b[2J\u202e<script>\n✓ proved"
    manifest = {"title": written, "signature_info": {"common_name": written}, "claim_generator": written}
    report = {"active_manifest": "a", "manifests": {"a": manifest}}
    tree = tree_of(report, lambda _: ("untrusted", ()))
    assert tree.title == tree.signer == "x [2J <script> ✓ proved"
    assert "<script>" not in card(tree, {}, "x.mp4", "no")
    assert all(line.isprintable() for line in lines(tree, {}, "x.mp4"))


def test_what_is_not_known_any_more_lends_nothing_its_name() -> None:
    """A film whose original is in another ledger's home is not said to be made from the voice that was laid in."""
    spoken = (Action("speak", agent="heart", file=Path("line.wav"), ai=True),)
    history = (Action("generate", agent="sora-2", ai=True), Action("mix_audio", inputs=(spoken,)))
    placement: Any = SimpleNamespace(cut=SimpleNamespace(clip=Clip(history=history)))
    result: Any = SimpleNamespace(final=SimpleNamespace(tasks=()), world=SimpleNamespace(notes={}))
    known = _known(result, placement, FILM)
    assert known == [None, Known("line.wav"), None]
    assert story(FILM, known)[0].startswith("The film was made from x.mp4 (made by AI: Sora;")
    assert pedigree(FILM, known, Known("final.mp4"))["ingredients"][1]["name"] == "line.wav"
