"""Who films, what is bought under which key, and what is made of a film that comes otherwise than it was sold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import pytest
from lab import film, picture_of, sound_of
from tamper import flipped
from test_simulator import simulator

import presets
from stages import buying, deliver, generate, trim
from stages.clip import Clip, Size
from stages.errors import InputError, ProvenanceError, ProviderRefused, ProviderUnavailable
from stages.filming import offer_film, promise_film
from stages.ledger import Purchase, open_ledger, purchases
from stages.market import Market, Own, open_market, read_models
from stages.provenance import read_credentials, verify
from stages.providers import VideoJob, VideoRequest
from stages.routing import Route, Wish, purchase_key, route

TODAY, BEFORE = date(2026, 11, 22), date(2026, 9, 23)
OPEN = Market(TODAY)
WITH_KEY = Market(TODAY, frozenset({"OPENAI_API_KEY"}))
WIDE = "16:9"


def who(*models: str, shop: Market = OPEN, frame: str = WIDE, length: str = "6", prompt: str = "a rose") -> Route:
    """Who films it."""
    return route(models, Wish(prompt, frame), Fraction(length), shop)


def why_not(*models: str, shop: Market = OPEN, frame: str = WIDE, length: str = "6", prompt: str = "a rose") -> str:
    """Why nobody films it."""
    with pytest.raises(InputError) as raised:
        who(*models, shop=shop, frame=frame, length=length, prompt=prompt)
    return str(raised.value)


def place(model: str, key: str) -> str:
    """Where the preset says it, such as `sim.yaml:7`."""
    found = presets.read("models", model).place(key)
    assert found.startswith(f"{model}.yaml:")
    return found


# ---------------------------------------------------------------- who films


@pytest.fixture
def pro_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if sora-2-pro had not closed."""
    changed(monkeypatch, "sora-2-pro", retires_on=None)


def changed(monkeypatch: pytest.MonkeyPatch, model: str, **news: object) -> None:
    """Another value, or another fact, in the preset of a model; of all models where `model` is empty."""
    plain = presets.read

    def read(kind: presets.Kind, name: str) -> presets.Sheet:
        sheet = plain(kind, name)
        if kind != "models" or model not in ("", name):
            return sheet
        values = {
            key: replace(each, value=news.get(key.split(".")[0], each.value)) for key, each in sheet.values.items()
        }
        return replace(sheet, values=MappingProxyType(values), facts={**sheet.facts, **news})

    monkeypatch.setattr(presets, "read", read)


def test_the_first_that_is_alive_and_legal_films(pro_lives: None) -> None:
    chosen = who("sora-2", "sora-2-pro", shop=WITH_KEY)
    assert (chosen.sheet.name, chosen.size, chosen.seconds) == ("sora-2-pro", Size(1280, 720), 8)
    assert (chosen.price, chosen.bought) == (Decimal("2.40"), None)
    then = replace(WITH_KEY, today=BEFORE)
    assert who("sora-2", "sora-2-pro", shop=then).sheet.name == "sora-2"
    assert who("sora-2-pro", "sora-2", shop=then).sheet.name == "sora-2-pro"
    assert who("sora-2", "sora-2-pro", shop=then, frame="1920x1080").sheet.name == "sora-2-pro"
    assert who("sim").price == Decimal("0.80")


@pytest.mark.parametrize(("length", "seconds"), [("1", 4), ("4", 4), ("4.001", 8), ("8", 8), ("12", 12)])
def test_the_shortest_that_is_long_enough_is_bought(length: str, seconds: int) -> None:
    assert who("sim", length=length).seconds == seconds


def test_of_the_sizes_of_one_shape_the_cheapest_is_bought() -> None:
    assert who("sim-pro", frame="9:16").size == Size(720, 1280)
    assert who("sim-pro", frame="1080x1920").price == Decimal("0.70") * 8


def test_a_closed_model_says_when_where_it_stands_and_what_to_do() -> None:
    said = why_not("sora-2")
    assert "sora-2 closed on 2026-09-24" in said
    assert place("sora-2", "retires_on") in said
    assert "models.yaml" in said
    living = said.partition("`sora-2: MODEL`, with one of ")[2].split(", ")
    assert {"sim", "sim-pro"} <= set(living)
    assert not {"sora-2", "sora-2-pro"} & set(living)
    assert "closed" in why_not("sora-2", shop=Market(date(2026, 9, 24), frozenset({"OPENAI_API_KEY"})))


def test_all_reasons_are_told_at_once(pro_lives: None) -> None:
    said = why_not("sora-2", "sora-2-pro", length="21", shop=WITH_KEY)
    assert "sora-2 closed on" in said
    assert "sora-2-pro sells at most 20 s" in said


def test_a_mapping_films_with_another_model() -> None:
    assert who("sora-2", shop=replace(OPEN, mapping={"sora-2": "sim"})).sheet.name == "sim"
    said = why_not("sora-2", shop=replace(OPEN, mapping={"sora-2": "simm"}))
    assert "there is no model 'simm' (did you mean sim?)" in said


def test_a_mapping_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    assert read_models(file) == Own()
    file.write_text("sora-2: sim\n")
    assert read_models(file) == Own({"sora-2": "sim"})
    assert open_market(open_ledger(tmp_path / "home"), tmp_path).mapping == {"sora-2": "sim"}
    for wrong in ("- sora-2", "sora-2: [sim]", "sora-2: 'sim", "4: 5"):
        file.write_text(wrong)
        with pytest.raises(InputError, match=r"models\.yaml: "):
            read_models(file)


def test_a_missing_key_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, "sora-2", key_variable="OPENAI_API_KEY")
    assert "sora-2 needs a key in OPENAI_API_KEY, which is not set" in why_not("sora-2", shop=Market(BEFORE))
    assert who("sora-2", "sora-2-pro", shop=replace(WITH_KEY, today=BEFORE)).sheet.name == "sora-2"


def test_what_no_model_sells() -> None:
    assert why_not("sim", frame="1:1") == f"sim sells 720x1280, 1280x720 ({place('sim', 'sizes')}), none of it 1:1"
    assert "none of it 1920x1080" in why_not("sim", frame="1920x1080")
    assert why_not("sim", length="13") == f"sim sells at most 12 s ({place('sim', 'seconds')}), not 13 s"
    limit = place("sim", "prompt_limit")
    assert why_not("sim", prompt="x" * 32_001) == f"32001 characters; sim takes 32000 ({limit})"
    assert who("sim", prompt="x" * 32_000).sheet.name == "sim"
    assert "there is no model 'sin' (did you mean sim?)" in why_not("sin")
    for wrong in ("wide", "0:9", "16:9:4", "x"):
        assert "should be a " in why_not("sim", frame=wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": "12f"}, "should be in seconds, such as 6s, not '12f'"),
        ({"length": "0s"}, "should be in seconds"),
        ({"prompt": " "}, "is empty"),
        ({"take": 0}, "should be 1 or more"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_not_bought(change: dict[str, object], words: str) -> None:
    """12 frames were once bought as 12 seconds."""
    with pytest.raises(InputError, match=words) as raised:
        offer_film(**{**ASKED, "shop": OPEN, "identities": {}, **change})  # type: ignore[arg-type]  # as the plan does
    assert raised.value.parameter in change


@pytest.mark.parametrize("parameter", ["frame", "length", "prompt"])
def test_what_is_wrong_names_its_parameter(parameter: str) -> None:
    asked = {"frame": WIDE, "length": "6", "prompt": "a rose"} | {
        parameter: {"frame": "1:1", "length": "13"}.get(parameter, "x" * 40_000)
    }
    with pytest.raises(InputError) as raised:
        route(["sim"], Wish(asked["prompt"], asked["frame"]), Fraction(asked["length"]), OPEN)
    assert raised.value.parameter == parameter


def test_sim_films_only_when_it_is_asked_for() -> None:
    simulated = replace(OPEN, simulate=True)
    assert who("sora-2", shop=simulated).sheet.name == "sim"
    assert who("sora-2", shop=simulated, frame="1920x1080").sheet.name == "sim-pro"
    assert "closed" in why_not("sora-2", "sora-2-pro")
    assert "only when it is named alone, or with --sim" in why_not("sora-2", "sim")
    assert "only when it is named alone" in why_not(
        "sora-2", "sora-2-pro", shop=replace(OPEN, mapping={"sora-2": "sim"})
    )


# ---------------------------------------------------------------- what was bought before

ROW = Purchase("key", 1, 3, "DONE", "openai", "api.openai.com", "sora-2-pro", "a rose", 8, "1280x720", Decimal("2.40"))


def bought(*models: str, length: str = "6", row: Purchase = ROW, shop: Market = OPEN) -> Purchase | None:
    """The earlier purchase that answers for the request, if one does."""
    return route(models, Wish("a rose", WIDE), Fraction(length), shop, (row,)).bought


def test_a_film_that_another_listed_model_made_is_used() -> None:
    then = replace(WITH_KEY, today=BEFORE)
    assert bought("sora-2", "sora-2-pro", shop=then) == ROW
    assert bought("sora-2", shop=then) is None
    assert bought("sora-2", shop=replace(then, mapping={"sora-2": "sora-2-pro"})) == ROW
    assert bought("sora-2-pro", length="8", shop=then) == ROW
    assert bought("sora-2-pro", length="8.1", shop=then) is None
    assert bought("sora-2", shop=replace(then, simulate=True)) is None


@pytest.mark.parametrize(
    ("state", "used"),
    [("INTENT", False), ("SENDING", True), ("ACCEPTED", True), ("DONE", True), ("REJECTED", False), ("FAILED", False)],
)
def test_what_may_be_paid_already_is_used(state: str, used: bool) -> None:
    row, then = replace(ROW, state=state), replace(WITH_KEY, today=BEFORE)  # type: ignore[arg-type]  # a State
    assert (bought("sora-2-pro", row=row, shop=then) is not None) == used


def test_a_closed_models_film_is_used_and_costs_nothing() -> None:
    assert bought("sora-2-pro") == ROW
    shop = replace(OPEN, bought={purchase_key(Wish("a rose", WIDE)): (ROW,)})
    assert not offer_film("a rose", frame=WIDE, length="6s", model=("sora-2-pro",), shop=shop, identities={}).prices


# ---------------------------------------------------------------- the key

ASKED: dict[str, object] = {"prompt": "a rose", "frame": WIDE, "length": "6s", "model": ("sim",)}


def key(**changes: object) -> str:
    """Under which it would be bought."""
    asked = {**ASKED, "shop": OPEN, "identities": {"reference": "photo"}, **changes}
    if "seed" in changes:  # which the simulator refuses
        return purchase_key(Wish.of(**asked, reference="photo"))
    offered = offer_film(**asked)  # type: ignore[arg-type]  # as the plan calls it
    return offered.keys[0]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "two roses"}, {"frame": "9:16"}, {"identities": {}}, {"identities": {"reference": "x"}}, {"seed": 1},
     {"take": 2}],
    ids=str,
)  # fmt: skip
def test_another_request_is_another_purchase(change: dict[str, object]) -> None:
    assert key(**change) != key()


@pytest.mark.parametrize(
    "change",
    [{"model": ("sim-pro",)}, {"length": "3s"}, {"length": "12s"},
     {"shop": replace(OPEN, today=date(2030, 1, 1))}, {"shop": replace(OPEN, simulate=True)}, {"take": 1},
     {"seed": None}],
    ids=str,
)  # fmt: skip
def test_how_it_is_bought_makes_no_other_purchase(change: dict[str, object]) -> None:
    assert key(**change) == key()


def test_the_key_is_for_ever() -> None:
    """Whoever changes it makes every user pay again for every film."""
    asked = Wish("a rose", WIDE, reference="photo", seed=7, take=2)
    assert purchase_key(asked) == "8fc625cf0b5d0c19bed8ecdddaaae27897893dc1edfefac3f43a28a09dbbe27e"


def test_what_it_costs_makes_no_other_purchase(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    changed(monkeypatch, "", price="9.99")
    assert who("sim").price == Decimal("79.92")
    assert key() == before


# ---------------------------------------------------------------- films that come otherwise


@dataclass
class Camera:
    """A provider in memory that hands over `film`, whatever was asked."""

    film: Path
    name: str = "sim"
    account: str = "sim"
    idempotent: bool = True
    can_list: bool = True
    settle: float = 0.0
    poll: float = 0.0
    typical: float = 0.0
    sold: list[VideoRequest] = field(default_factory=list)
    downloads: int = 0

    def submit(self, request: VideoRequest, key: str) -> VideoJob:
        self.sold.append(request)
        return VideoJob(f"video_{len(self.sold)}", "queued")

    def check(self, job_id: str) -> VideoJob:
        return VideoJob(job_id, "done")

    def download(self, job_id: str, target: Path) -> None:
        self.downloads += 1
        shutil.copyfile(self.film, target)

    def find(self, since: float) -> list[VideoJob]:
        return []


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Camera:
    """The provider of whatever is bought in this test."""
    (tmp_path / "pyproject.toml").touch()
    own = Camera(tmp_path / "sold.mp4")
    monkeypatch.setattr(buying, "provider_of", lambda sheet, state: own)
    return own


def bring(camera: Camera, source: str = "testsrc2=s=320x180:r=24:d=4", *more: str) -> Path:
    """What the camera will hand over."""
    return film(camera.film, "-f", "lavfi", "-i", source, *more, "-c:v", "libx264", "-preset", "ultrafast")


def shoot(folder: Path, length: str = "3s", **more: object) -> Clip:
    """Buy it, as a library's user does."""
    return generate("a rose", frame=WIDE, length=length, model=("sim",), folder=folder / "work", **more)  # type: ignore[arg-type]  # of generate's own


def kept() -> list[Path]:
    """The paid originals."""
    return sorted((open_ledger().home / "originals").glob("*.mp4"))


def test_a_film_that_comes_short_is_told_kept_and_used_where_it_will_do(camera: Camera, tmp_path: Path) -> None:
    bring(camera, "testsrc2=s=320x180:r=24:d=2.5")
    for _ in range(2):
        with pytest.raises(ProviderRefused) as raised:
            shoot(tmp_path)
        assert "sim was paid for 4 s and sent 2.5 s, less than the 3 s that are needed" in str(raised.value)
        assert str(kept()[0]) in str(raised.value)
    assert picture_of(shoot(tmp_path, "2.5s")).frames == 60
    assert (len(camera.sold), camera.downloads, len(kept())) == (1, 1, 1)


@pytest.mark.parametrize("frames", [71, 72, 73])
def test_a_frame_more_or_less_is_adapted_to(camera: Camera, tmp_path: Path, frames: int) -> None:
    bring(camera, "testsrc2=s=320x180:r=24:d=4", "-frames:v", str(frames))
    assert picture_of(shoot(tmp_path)).frames == frames


def test_a_film_of_another_shape_is_told_and_kept(camera: Camera, tmp_path: Path) -> None:
    bring(camera, "testsrc2=s=180x320:r=24:d=4")
    with pytest.raises(ProviderRefused, match=r"paid for 1280x720 and sent 180x320; it is kept in .*\.mp4"):
        shoot(tmp_path)
    assert (len(camera.sold), len(kept())) == (1, 1)


def test_a_film_without_a_picture_is_told_and_kept(camera: Camera, tmp_path: Path) -> None:
    film(camera.film, "-f", "lavfi", "-i", "sine=440:d=4", "-c:a", "aac")
    with pytest.raises(ProviderRefused, match="sent a file without a picture; it is kept in"):
        shoot(tmp_path)
    assert len(kept()) == 1


def test_what_is_no_mp4_is_fetched_again_not_bought_again(camera: Camera, tmp_path: Path) -> None:
    camera.film.write_text("<html>Bad gateway</html>")
    with pytest.raises(ProviderUnavailable, match=r"sim sent something that is no MP4 for job video_1"):
        shoot(tmp_path)
    assert kept() == []
    bring(camera)
    assert picture_of(shoot(tmp_path)).frames == 96
    assert (len(camera.sold), camera.downloads) == (1, 2)


def test_an_mp4_that_cannot_be_read_is_the_providers_fault_and_kept(camera: Camera, tmp_path: Path) -> None:
    whole = bring(camera).read_bytes()
    camera.film.write_bytes(whole[: len(whole) // 2])  # its index is at the end
    with pytest.raises(ProviderRefused, match=r"sim sent a file that is not a video.*; it is kept in .*\.mp4"):
        shoot(tmp_path)
    assert (len(camera.sold), len(kept())) == (1, 1)


def test_a_lost_original_is_fetched_again(camera: Camera, tmp_path: Path) -> None:
    bring(camera)
    shoot(tmp_path)
    kept()[0].unlink()
    assert shoot(tmp_path).picture
    assert (len(camera.sold), camera.downloads, len(kept())) == (1, 2, 1)


def test_another_take_is_another_purchase(camera: Camera, tmp_path: Path) -> None:
    bring(camera)
    shoot(tmp_path)
    shoot(tmp_path, take=2)
    shoot(tmp_path, take=1)
    assert len(camera.sold) == 2
    assert {row.price for row in purchases(open_ledger())} == {Decimal("0.40")}


# ---------------------------------------------------------------- who attests


@dataclass(frozen=True)
class Shoot:
    """A film that a simulator made and `generate` took in, in a project of its own."""

    clip: Clip
    promised: Clip
    folder: Path
    original: Path


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shoot]:
    """A real film, signed by the simulator."""
    yield from taken(tmp_path_factory.mktemp("filmed"))


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shoot]:
    """A film without credentials, as self-hosted models make them."""
    yield from taken(tmp_path_factory.mktemp("unsigned"), "--no-film")


def taken(folder: Path, *options: str) -> Iterator[Shoot]:
    (folder / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch, simulator(folder / "sim", "--latency", "0", *options) as url:
        patch.setenv("AFTERFRAME_HOME", str(folder / "home"))
        patch.setenv("AFTERFRAME_SIM_URL", url)
        clip = generate("slow dolly", frame=WIDE, length="3s", model=("sim",), folder=folder / "work")
        promised = promise_film("slow dolly", frame=WIDE, length="3s", model=("sim",), shop=OPEN, key="")
        (original,) = kept()
    yield Shoot(clip, promised, folder, original)


@pytest.mark.parametrize("which", ["filmed", "unsigned"])
def test_what_comes_is_what_was_promised(which: str, request: pytest.FixtureRequest) -> None:
    shot: Shoot = request.getfixturevalue(which)
    promised, came = picture_of(shot.promised), picture_of(shot.clip)
    assert (came.size, came.rate, came.frames) == (promised.size, promised.rate, promised.frames)
    assert abs(sound_of(shot.clip).samples - sound_of(shot.promised).samples) <= 2048
    (action,), (foretold,) = shot.clip.history, shot.promised.history
    assert (action.name, action.parameters, action.agent, action.ai) == (
        foretold.name,
        foretold.parameters,
        "SIMULATED sim",
        True,
    )


def test_the_simulators_film_says_so_in_its_credentials(filmed: Shoot) -> None:
    assert filmed.clip.file == filmed.original
    found = read_credentials(filmed.original, anchors=[filmed.folder / "work" / "roots.pem"])
    assert (found.state, found.ai) == ("proved", True)
    assert "SIMULATED" in found.generator
    done = deliver(
        trim(filmed.clip, length="0.5s"), "web", filmed.folder / "out.mp4", anchors=[filmed.folder / "work/roots.pem"]
    )
    assert done.verdict.verdict == "proved"
    parent = done.verdict.credentials.parent
    assert parent
    assert "SIMULATED" in parent.generator


def test_an_unsigned_film_is_attested(unsigned: Shoot) -> None:
    attested, project = unsigned.folder / "work" / "attested.mp4", unsigned.folder / ".pipeline"
    assert unsigned.clip.file == attested
    assert read_credentials(unsigned.original).state == "absent"
    roots = [project / "signer" / "test-root.pem"]
    found = read_credentials(attested, anchors=roots)
    assert (found.state, found.ai, found.ingredients) == ("proved", True, ())
    assert found.actions[0][:2] == ("c2pa.created", "SIMULATED sim")
    assert verify(attested, anchors=roots).verdict == "proved"


def test_of_an_unsigned_film_the_tree_says_who_attests(unsigned: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unsigned.folder)
    done = deliver(trim(unsigned.clip, length="0.5s"), "web", unsigned.folder / "out.mp4")
    assert done.verdict.verdict == "proved", done.verdict
    parent = done.verdict.credentials.parent
    assert parent
    assert parent.ai
    assert parent.signer == "Afterframe test signer"
    assert parent.generator.startswith("Afterframe")
    assert parent.actions[0][:2] == ("c2pa.created", "SIMULATED sim")


def test_a_film_that_was_changed_after_it_was_signed_stops_it(filmed: Shoot, camera: Camera, tmp_path: Path) -> None:
    whole = filmed.original.read_bytes()
    camera.film.write_bytes(flipped(whole, whole.rindex(b"mdat") + 5000))
    with pytest.raises(ProvenanceError, match="was changed after it was signed"):
        shoot(tmp_path)
    assert (len(camera.sold), len(kept())) == (1, 1)


def test_a_kill_between_film_and_root_loses_no_proof(
    filmed: Shoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film is noted as fetched, and the root that proves it is not there yet."""
    shutil.copytree(filmed.folder / "home", tmp_path / "home")
    (root,) = (tmp_path / "home" / "originals").glob("*.roots.pem")
    root.unlink()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("AFTERFRAME_HOME", str(tmp_path / "home"))
    with simulator(filmed.folder / "sim") as url:
        monkeypatch.setenv("AFTERFRAME_SIM_URL", url)
        clip = generate("slow dolly", frame=WIDE, length="3s", model=("sim",), folder=tmp_path / "work")
    assert read_credentials(clip.file, anchors=[tmp_path / "work" / "roots.pem"]).state == "proved"
    assert len(purchases(open_ledger())) == 1
