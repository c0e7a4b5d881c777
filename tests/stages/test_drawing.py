"""Who draws, what is bought under which key, and what is made of a picture that comes otherwise than it was sold."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lab import picture_of
from PIL import Image
from test_simulator import PHOTO, simulator

import presets
from stages import buying, draw, signers
from stages.choosing import Choice
from stages.clip import Action, Clip, Size, origins
from stages.drawing import ANGLES, Sitting, choose_for, offer_picture, parse_sheet, picture_key, promise_picture
from stages.errors import InputError, ProvenanceError, ProviderRefused
from stages.ledger import Purchase, open_ledger, purchases
from stages.market import Market
from stages.provenance import read_credentials, sign, verify
from stages.providers import VideoJob, VideoRequest
from stages.references import prepare

TODAY = date(2026, 11, 26)
OPEN = Market(TODAY)
WITH_KEY = Market(TODAY, frozenset({"OPENAI_API_KEY"}))
FOX = Sitting("a red fox in a blue coat")


def who(*models: str, shop: Market = WITH_KEY, shown: int = 0, **asked: Any) -> Choice:
    """Who draws it."""
    return choose_for(replace(FOX, **asked), models, shop, shown)


def why_not(*models: str, shop: Market = WITH_KEY, shown: int = 0, **asked: Any) -> str:
    """Why nobody draws it."""
    with pytest.raises(InputError) as raised:
        who(*models, shop=shop, shown=shown, **asked)
    return str(raised.value)


# ---------------------------------------------------------------- who draws


def test_the_first_that_can_is_taken_and_the_others_are_told() -> None:
    choice = who("gpt-image-1", "gpt-image-2", "gpt-image-2.5-flare")
    assert (choice.model.name, choice.size) == ("gpt-image-2", Size(1536, 1024))
    assert choice.said("a picture", "draws 1536x1024, medium").startswith(
        "gpt-image-2 draws 1536x1024, medium, $0.05; not gpt-image-1 closed on"
    )


def test_if_none_is_named_the_cheapest_draws() -> None:
    choice = who()
    prices = [
        who(name).price for name in presets.names("images") if name not in ("gpt-image-1", "sim") and "2.6" not in name
    ]
    assert choice.price == min(prices)
    assert choice.model.name == "gpt-image-2.5-flare"
    assert who(quality="high").price < who("gpt-image-2", quality="high").price
    assert why_not(shop=OPEN).count("needs a key in OPENAI_API_KEY") == len(presets.names("images")) - 2


def test_a_model_is_gone_when_it_has_closed() -> None:
    """gpt-image-1 on 2026-10-23, its successors on 2026-12-01."""
    assert "gpt-image-1 closed on 2026-10-23 (gpt-image-1.yaml:6)" in why_not("gpt-image-1")
    assert who("gpt-image-1.5").model.name == "gpt-image-1.5"
    december = replace(WITH_KEY, today=date(2026, 12, 1))
    assert "closed on 2026-12-01" in why_not("gpt-image-1.5", shop=december)
    assert (
        who("gpt-image-1", shop=replace(december, mapping={"gpt-image-1": "gpt-image-2"})).model.name == "gpt-image-2"
    )


@pytest.mark.parametrize(
    ("asked", "words", "parameter"),
    [
        ({"size": "1280x722"}, "none of it 1280x722", "size"),
        ({"size": "21:9"}, "none of it 21:9", "size"),
        ({"quality": "max"}, "gpt-image-2 sells low, medium, high (gpt-image-2.yaml), not max", "quality"),
        ({"prompt": "x" * 32_001}, "32001 characters; gpt-image-2 takes 32000", "prompt"),
        ({"prompt": " "}, "is empty", "prompt"),
        ({"take": 0}, "should be 1 or more", "take"),
        ({"shown": 17}, "17 pictures; gpt-image-2 takes 16", "reference"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_is_told_with_its_parameter(asked: dict[str, Any], words: str, parameter: str) -> None:
    shown = asked.pop("shown", 0)
    with pytest.raises(InputError) as raised:
        choose_for(replace(FOX, **asked), ["gpt-image-2"], WITH_KEY, shown)
    assert words in str(raised.value)
    assert raised.value.parameter == parameter


def test_a_shape_is_the_cheapest_of_its_sizes() -> None:
    assert who("gpt-image-2", size="9:16").size == Size(720, 1280)
    assert who("gpt-image-1.5", size="3:2").size == Size(1536, 1024)
    assert "none of it 9:16" in why_not("gpt-image-1.5", size="9:16")


def test_the_simulator_draws_only_when_it_is_asked_for() -> None:
    assert who("sim", shop=OPEN).model.name == "sim"
    assert "only when it is named alone, or with --sim" in why_not("gpt-image-2", "sim")
    simulate = replace(OPEN, simulate=True)
    for choice in (who(shop=simulate), who("gpt-image-1", "gpt-image-2", shop=simulate)):
        assert (choice.model.name, choice.simulated) == ("sim", True)


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    assert "there is no model 'gpt-image-3' that draws (did you mean gpt-image-" in why_not("gpt-image-3")


def test_words_and_pictures_are_priced_too() -> None:
    plain, long, shown = who("gpt-image-2"), who("gpt-image-2", prompt="x" * 8000), who("gpt-image-2", shown=2)
    assert long.price - plain.price == pytest.approx(Decimal("0.01"), abs=Decimal("0.0002"))
    assert shown.price - plain.price == 2 * Decimal("0.0147")
    assert "what a reference costs is not known" in why_not("gpt-image-1.5", shown=1)


@pytest.mark.parametrize("name", presets.names("images"))
def test_every_size_has_a_price_for_every_quality_sold(name: str) -> None:
    sheet = presets.read("images", name)
    tables = [value.value for key, value in sheet.values.items() if key.startswith("price.")]
    assert tables
    for table in tables:
        assert set(table) == set(sheet["sizes"])
        assert all(Decimal(price) > 0 for price in table.values())


def test_the_prices_are_those_of_openais_calculator() -> None:
    """community.openai.com/t/1379464: 7024 and 5488 tokens at high; github.com/sanand0/blog: 439 at 2.5's medium."""
    for model, quality, size, tokens in (
        ("gpt-image-2", "high", "1024x1024", 7024), ("gpt-image-2", "high", "1536x1024", 5488),
        ("gpt-image-2.5-flare", "medium", "1024x1024", 439), ("gpt-image-2.6-sunburst", "xhigh", "1024x1024", 3122),
    ):  # fmt: skip
        price = Decimal(presets.read("images", model)[f"price.{quality}"][size])
        assert 0 <= price - tokens * Decimal("0.00003") < Decimal("0.0001")


# ---------------------------------------------------------------- the sheet


def test_a_sheet_is_asked_for_in_words() -> None:
    words = replace(FOX, sheet="3x2").words
    assert words.startswith(FOX.prompt)
    assert "a grid of 3 columns and 2 rows" in words
    assert [angle in words for angle in ANGLES] == [True] * 6 + [False] * 3
    assert FOX.words == FOX.prompt


@pytest.mark.parametrize("text", ["3", "0x2", "1x1", "3x4", "ax2", "3x2x1", ""])
def test_what_is_no_sheet(text: str) -> None:
    with pytest.raises(InputError, match="such as 3x2"):
        parse_sheet(text)


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a fox"}, {"size": "9:16"}, {"sheet": "3x2"}, {"quality": "high"}, {"reference": "photo"}, {"take": 2}],
    ids=str,
)
def test_another_request_is_another_purchase(change: dict[str, Any]) -> None:
    assert picture_key(replace(FOX, **change)) != picture_key(FOX)


def test_who_draws_it_and_our_wording_make_no_other_purchase(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"prompt": "a fox", "sheet": "3x2", "identities": {"reference": "photo"}}
    keys = {
        offer_picture(**asked, model=(name,), shop=WITH_KEY).keys for name in ("gpt-image-2", "gpt-image-2.5-flare")
    }
    keys.add(offer_picture(**asked, shop=replace(OPEN, simulate=True, today=date(2030, 1, 1))).keys)
    monkeypatch.setattr("stages.drawing.ANGLES", tuple(f"{angle}!" for angle in ANGLES))
    keys.add(offer_picture(**asked, model=("gpt-image-2",), shop=WITH_KEY).keys)
    assert len(keys) == 1


def test_the_key_is_for_ever() -> None:
    """Whoever changes it makes every user pay again for every picture."""
    assert picture_key(FOX) == "ee2c65d96a5fa5257dbb845f835e95cd097b3815f47d62e068c709901adba385"
    every = Sitting("a fox", "9:16", "3x2", "high", "photo", 2)
    assert picture_key(every) == "3f1049f2d05995bfb10f4f3b682d110e02ae1fb2bb94c7ee704b8e0bea648486"


# ---------------------------------------------------------------- the offer

ROW = Purchase(
    "key", 1, 3, "DONE", "openai-images", "api.openai.com", "gpt-image-2", FOX.prompt, 0, "1536x1024", Decimal("0.04")
)


def test_an_offer_says_who_gets_what_and_for_how_much() -> None:
    shop = replace(WITH_KEY, hosts={"openai-images": "api.openai.com"})
    offer = offer_picture(FOX.prompt, model=("gpt-image-2",), shop=shop, identities={})
    assert (offer.prices, offer.simulated, offer.keys) == ((Decimal("0.0413"),), False, (picture_key(FOX),))
    assert offer.hosts == (("api.openai.com", "the prompt"),)
    assert offer.asks == {"size": "1536x1024", "format": "png"}
    shown = offer_picture(FOX.prompt, reference=PHOTO, model=("gpt-image-2",), shop=shop, identities={"reference": "x"})
    assert shown.hosts == (("api.openai.com", "the prompt and a picture"),)


@pytest.mark.parametrize(
    ("state", "used"),
    [("INTENT", False), ("SENDING", True), ("ACCEPTED", True), ("DONE", True), ("REJECTED", False), ("FAILED", False)],
)
def test_what_is_bought_already_costs_nothing_even_if_its_model_is_gone(state: Any, used: bool) -> None:
    shop = replace(OPEN, today=date(2030, 1, 1), bought={picture_key(FOX): (replace(ROW, state=state),)})
    if not used:
        assert "needs a key" in why_not("gpt-image-2", shop=shop)
        return
    for models in ((), ("gpt-image-2",)):
        offer = offer_picture(FOX.prompt, model=models, shop=shop, identities={})
        assert (offer.prices, offer.hosts) == ((), ())
    assert "bought" not in why_not("gpt-image-2.5-flare", shop=shop)


def test_a_simulated_picture_answers_for_no_real_one() -> None:
    shop = replace(WITH_KEY, bought={picture_key(FOX): (replace(ROW, provider="sim-images", model="sim"),)})
    assert who("gpt-image-2", shop=shop).bought is None
    assert who(shop=shop).bought is None
    assert who("sim", shop=shop).bought


# ---------------------------------------------------------------- pictures that come otherwise


@dataclass
class Painter:
    """A provider in memory that hands over `picture`, whatever was asked."""

    picture: bytes
    name: str = "sim-images"
    account: str = "sim"
    idempotent: bool = True
    can_list: bool = True
    settle: float = 0.0
    poll: float = 0.0
    typical: float = 0.0
    sold: list[VideoRequest] = field(default_factory=list)

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        self.sold.append(request)
        return VideoJob(f"picture_{len(self.sold)}", "done")

    def check(self, job_id: str) -> VideoJob:
        return VideoJob(job_id, "done")

    def download(self, job_id: str, target: Path) -> None:
        target.write_bytes(self.picture)

    def find(self, since: float) -> list[VideoJob]:
        return []

    def root(self) -> bytes:
        return b""


def image(size: tuple[int, int] = (1536, 1024), format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, format)
    return file.getvalue()


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Painter:
    """The provider of whatever is bought in this test; it signs nothing."""
    (tmp_path / "pyproject.toml").touch()
    own = Painter(image())
    monkeypatch.setattr(buying, "provider_of", lambda model, state: own)
    monkeypatch.setattr(Painter, "root", None)
    return own


def sit(folder: Path, **more: Any) -> Clip:
    """Buy it, as a library's user does."""
    return draw(FOX.prompt, model=("sim",), folder=folder / "work", **more)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_an_unsigned_picture_is_attested_whatever_its_format(painter: Painter, tmp_path: Path, format: str) -> None:
    painter.picture = image(format=format)
    clip = sit(tmp_path)
    assert clip.file.parent == tmp_path / "work"
    assert clip.file.stem == "attested"
    with Image.open(clip.file) as kept:
        assert (kept.format, kept.size) == (format, (1536, 1024))
    roots = [tmp_path / ".pipeline" / "signer" / "test-root.pem"]
    found = read_credentials(clip.file, anchors=roots)
    assert (found.state, found.ai, found.ingredients) == ("proved", True, ())
    assert found.source_type.endswith("/trainedAlgorithmicMedia")
    assert found.actions[0][:2] == ("c2pa.created", "SIMULATED sim")
    assert verify(clip.file, anchors=roots).verdict == "proved"
    assert (tmp_path / "work" / "ingredient.c2pa").exists()
    assert FOX.prompt.encode() not in clip.file.read_bytes(), "the prompt is the author's own"


def test_of_what_it_was_shown_the_history_tells_and_the_attestation_does_not(painter: Painter, tmp_path: Path) -> None:
    clip = sit(tmp_path, reference=PHOTO)
    (made,) = clip.history
    assert [one.relationship for one in origins(clip.history)] == ["parentOf", "inputTo"]
    assert origins(clip.history)[1].file == PHOTO
    assert made.bought == (purchases(open_ledger())[0].key,)
    roots = [tmp_path / ".pipeline" / "signer" / "test-root.pem"]
    assert read_credentials(clip.file, anchors=roots).ingredients == ()
    assert painter.sold[0].references == (PHOTO,)


def test_several_pictures_may_be_shown(painter: Painter, tmp_path: Path) -> None:
    second = tmp_path / "second.jpg"
    second.write_bytes(image((64, 64), "JPEG"))
    sit(tmp_path, reference=(PHOTO, second))
    sit(tmp_path, reference=(PHOTO, second))
    sit(tmp_path, reference=(second, PHOTO))
    assert [len(request.references) for request in painter.sold] == [2, 2]
    assert (painter.sold[0].work, painter.sold[0].seconds, painter.sold[0].options) == (
        "draw",
        0,
        (("quality", "medium"),),
    )


def test_what_was_drawn_becomes_a_first_frame(painter: Painter, tmp_path: Path) -> None:
    clip = sit(tmp_path)
    frame = prepare(clip.file, size="1280x720", folder=tmp_path / "frame", inputs={"image": clip})
    assert picture_of(frame).size == Size(1280, 720)
    assert [action.name for action in frame.history] == ["draw", "prepare"]
    (origin,) = origins(frame.history)
    assert (origin.file, origin.ai) == (clip.file, True)


def test_a_picture_of_another_shape_is_told_and_kept(painter: Painter, tmp_path: Path) -> None:
    painter.picture = image((1024, 1024))
    for _ in range(2):
        with pytest.raises(ProviderRefused, match=r"paid for 1536x1024 and sent 1024x1024; it is kept in .*\.png"):
            sit(tmp_path)
    assert len(painter.sold) == 1


def test_a_smaller_picture_of_that_shape_is_taken(painter: Painter, tmp_path: Path) -> None:
    painter.picture = image((768, 512))
    assert picture_of(sit(tmp_path)).size == Size(768, 512)


def test_a_broken_picture_is_the_providers_fault_and_kept(painter: Painter, tmp_path: Path) -> None:
    painter.picture = image()[:3000]
    with pytest.raises(ProviderRefused, match=r"sim sent a file that is truncated or broken.*; it is kept in"):
        sit(tmp_path)
    assert len(painter.sold) == 1


def test_another_take_is_another_purchase(painter: Painter, tmp_path: Path) -> None:
    for take in (1, 2, 1):
        sit(tmp_path, take=take)
    assert len(painter.sold) == 2


def test_a_picture_that_was_changed_after_it_was_signed_stops_it(painter: Painter, tmp_path: Path) -> None:
    made = Action("draw", agent="a model", ai=True)
    (tmp_path / "plain.png").write_bytes(image())
    signer = signers.test_signer(tmp_path / "signer")
    sign(tmp_path / "plain.png", tmp_path / "signed.png", history=(made,), signer=signer)
    whole, text = (tmp_path / "signed.png").read_bytes(), b"tEXtTitle\0by hand"
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    end = whole.rindex(b"IEND") - 4
    painter.picture = whole[:end] + chunk + whole[end:]
    with pytest.raises(ProvenanceError, match="was changed after it was signed"):
        sit(tmp_path)
    assert len(painter.sold) == 1


# ---------------------------------------------------------------- the simulator's


@dataclass(frozen=True)
class Studio:
    """A picture that the simulator drew and `draw` took in, in a project of its own."""

    clip: Clip
    folder: Path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch, simulator(folder / "sim", "--latency", "0", "--settle", "0") as url:
        patch.setenv("AFTERFRAME_HOME", str(folder / "home"))
        patch.setenv("AFTERFRAME_SIM_URL", url)
        clip = draw(FOX.prompt, size="16:9", model=("sim",), folder=folder / "work")
    return Studio(clip, folder)


def test_what_comes_is_what_was_promised(drawn: Studio) -> None:
    promised = promise_picture(FOX.prompt, size="16:9", model=("sim",), shop=OPEN)
    came, foretold = picture_of(drawn.clip), picture_of(promised)
    assert (came.size, came.rate, came.frames) == (foretold.size, foretold.rate, foretold.frames)
    (action,), (told,) = drawn.clip.history, promised.history
    assert (action.name, action.parameters, action.agent, action.ai) == (
        told.name,
        told.parameters,
        "SIMULATED sim",
        True,
    )
    assert promised.promised
    assert not drawn.clip.promised


def test_a_signed_picture_is_used_as_it_came_and_says_simulated(drawn: Studio) -> None:
    assert drawn.clip.file.parent == drawn.folder / "home" / "originals"
    assert not list((drawn.folder / "work").glob("attested*"))
    found = read_credentials(drawn.clip.file, anchors=[drawn.folder / "work" / "roots.pem"])
    assert (found.state, found.ai) == ("proved", True)
    assert "SIMULATED" in found.generator
    assert (drawn.folder / "work" / "sheet.jpg").exists(), "the report shows it"


def test_it_is_bought_once_though_the_simulator_is_gone(
    drawn: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERFRAME_SIM_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("AFTERFRAME_HOME", str(tmp_path / "home"))
    shutil.copytree(drawn.folder / "home", tmp_path / "home")
    (tmp_path / "pyproject.toml").touch()
    again = draw(FOX.prompt, size="16:9", model=("sim",), folder=tmp_path / "work")
    assert again.file.name == drawn.clip.file.name
