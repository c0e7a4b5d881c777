"""`generate`: from a sentence, and a picture if there is one, to a bought film. What it costs is known before.

That the same film is never bought twice is the ledger's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import presets
from stages import plugins
from stages.clip import BT709, SAMPLE_RATE, Action, Clip, History, PictureFacts, SoundFacts, Time, printed_seconds
from stages.errors import InputError, Later, ProviderRefused
from stages.files import attempt, copy_whole, sha256, state_folder, sweep
from stages.ingestion import ARCHIVE, ingest
from stages.ledger import Ledger, Limits, Purchase, collect, open_ledger, submit_once
from stages.media import clip_from, probe
from stages.provenance import archive_ingredient, sign, signer_for
from stages.providers import Provider, VideoRequest
from stages.routing import (
    USUAL_RATE,
    Frame,
    Market,
    Route,
    Wish,
    accepted,
    market,
    named,
    purchase_key,
    route,
    seconds_of,
)
from stages.stage import Offer, job

ATTESTED, ROOTS = "attested.mp4", "roots.pem"


PICTURES = ("reference", "last_frame")
"""What a model may be shown."""


def promise_film(
    prompt: str,
    *,
    length: Time,
    model: Sequence[str],
    shop: Market,
    key: str,
    identities: Mapping[str, str] | None = None,
    **said: Any,
) -> Clip:
    """The film that `generate` will buy, as its model's preset describes it."""
    wish = Wish.of(prompt=prompt, **{**said, **_shown(identities)})
    chosen = route(model, wish, seconds_of(length), shop, shop.bought.get(key, ()))
    rate = Fraction(str(chosen.sheet["rate"] or USUAL_RATE))
    frames = round(chosen.seconds * rate)
    picture = PictureFacts(chosen.size, chosen.size, rate, frames, "h264", "High", colour=BT709)
    sound = SoundFacts("aac", "LC", SAMPLE_RATE, 2, "stereo", chosen.seconds * SAMPLE_RATE)
    has_sound = chosen.sheet.get("audio", "never") != "never"
    clip = clip_from(Path("film.mp4"), picture, sound if has_sound else None, promised=True)
    return Clip(clip.picture, clip.sound, (_action(chosen, prompt, length, None, ()),))


def offer_film(
    prompt: str, *, length: Time, model: Sequence[str], shop: Market, identities: Mapping[str, str], **said: Any
) -> Offer:
    """Who would film it and for how much, under which key; what it wants of its reference. Nothing is sent."""
    wish = Wish.of(prompt=prompt, **{**said, **_shown(identities)})
    key, wanted = purchase_key(wish), seconds_of(length)
    chosen = route(model, wish, wanted, shop, shop.bought.get(key, ()))
    formats = chosen.sheet.get("reference", ["image/png"])
    asks = {"size": str(chosen.size), "format": "png" if "image/png" in formats else "jpeg"}
    price = Decimal(0) if chosen.bought else chosen.price
    return Offer(
        price,
        {"shop": shop, "key": key, "identities": identities},
        asks,
        chosen.said(wanted),
        owned=bool(chosen.bought),
        simulated=bool(chosen.sheet.facts.get("simulated")),
    )


def _shown(identities: Mapping[str, str] | None) -> dict[str, str]:
    return {name: (identities or {}).get(name, "") for name in PICTURES}


@job(promise_film, offer=offer_film)
def generate(
    prompt: str,
    *,
    reference: Path | None = None,
    last_frame: Path | None = None,
    frame: Frame,
    length: Time,
    model: tuple[str, ...],
    audio: bool = True,
    negative: str = "",
    loop: bool = False,
    seed: int | None = None,
    take: int = 1,
    folder: Path,
    shop: Market | None = None,
    key: str = "",
    identities: Mapping[str, str] | None = None,
    inputs: Mapping[str, Clip] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Clip:
    """Buy a film of `prompt`, at least `length` long, from the first of `model` that can make it.

    `reference` becomes the first frame, `last_frame` the last: pictures of
    exactly the frame that the model sells (`prepare` makes one). `audio` false
    asks for a silent film, `negative` says what should not be seen, `loop` asks
    for a seamless loop; a model that cannot is refused before anything is sent. In a recipe `frame` may be left open
    where the deliveries agree on one. `take` 2 buys another film of the same
    request. Interrupted and called again, it takes up where it stood and pays
    once. The paid original stays in AFTERFRAME_HOME.

    Raises InputError if no model can film it, ProviderRefused if the provider
    will not (policy is told from breakage), ProviderUnavailable if it cannot
    now, SubmissionUnknown if a human must look before money is spent, and
    ProvenanceError if what came was changed after it was signed.
    """
    ledger = open_ledger()
    state = state_folder(folder)
    shop = shop or market(ledger, state.parent)
    pictures = {name: file for name, file in (("reference", reference), ("last_frame", last_frame)) if file}
    shown = identities or {name: sha256(file) for name, file in pictures.items()}
    wish = Wish(prompt, frame, seed=seed, audio=audio, negative=negative, loop=loop, take=take, **_shown(shown))
    key, wanted = key or purchase_key(wish), seconds_of(length)
    chosen = route(model, wish, wanted, shop, shop.bought.get(key, ()))
    original = _kept(ledger, chosen.bought)
    if original is None or (chosen.sheet.facts.get("simulated") and not _root_of(original).exists()):
        provider = provider_of(chosen.sheet, state)
        request = VideoRequest(
            prompt, chosen.sheet["model"], chosen.size, chosen.seconds, reference, seed,
            last_frame, audio, negative, loop,
        )  # fmt: skip
        sheets = [sheet for _, sheet in named(model, shop)]
        original = _bought(ledger, provider, request, key, chosen, lambda p: accepted(p, sheets, wanted), on_progress)
    seen = tuple(_history(inputs, name) or (Action("open", file=file),) for name, file in pictures.items())
    history = (_action(chosen, prompt, length, original, seen),)
    return _taken_in(original, chosen, wanted, history, folder)


def _bought(
    ledger: Ledger,
    provider: Provider,
    request: VideoRequest,
    key: str,
    chosen: Route,
    accepts: Callable[[Purchase], bool],
    on_progress: Callable[[float], None],
) -> Path:
    """Send it if that was not done, and fetch it if it is done. Raises Later while it is filmed."""
    sheet = chosen.sheet
    limits = Limits(_lowest(sheet.get("rpm")), _lowest(sheet.get("in_flight")), per_day=_lowest(sheet.get("daily")))
    try:
        submit_once(ledger, provider, request, key, price=chosen.price, limits=limits, accepts=accepts)
        original = collect(ledger, provider, key, accepts=accepts)
    except Later as later:
        if later.progress is not None:
            on_progress(later.progress)
        raise
    _keep_root(provider, original)
    return original


def _lowest(limit: Mapping[int, int] | int | None) -> int | None:
    """What an account may do: where that depends on its tier, what the lowest may."""
    return int(min(limit.values())) if isinstance(limit, Mapping) else limit


def _kept(ledger: Ledger, bought: Purchase | None) -> Path | None:
    """The paid original, where it was fetched already: then nobody need be asked."""
    if bought is None or bought.state != "DONE" or not (ledger.home / bought.original).is_file():
        return None
    return ledger.home / bought.original


def _history(inputs: Mapping[str, Clip] | None, name: str) -> History:
    return inputs[name].history if inputs and name in inputs else ()


def provider_of(sheet: presets.Sheet, state: Path) -> Provider:
    """The provider that a model's preset names; the simulator is started if it does not run."""
    make = plugins.find("pipeline.providers", sheet.facts["provider"])
    if sheet.facts["provider"] == "sim":
        simulator: Provider = make(state)
        return simulator
    own = {"base_url", "key_variable"} & set(sheet.facts) if "base_url" in sheet.facts else set()
    provider: Provider = make(typical=sheet["typical"], **{key: sheet.facts[key] for key in own})
    return provider


def _action(chosen: Route, prompt: str, length: Time, file: Path | None, pictures: tuple[History, ...]) -> Action:
    said = {"prompt": prompt, "length": str(length), "seconds": str(chosen.seconds), "size": str(chosen.size)}
    simulated = "SIMULATED " if chosen.sheet.facts.get("simulated") else ""
    return Action("generate", tuple(said.items()), f"{simulated}{chosen.sheet.name}", file, ai=True, inputs=pictures)


def _taken_in(original: Path, chosen: Route, wanted: Fraction, history: History, folder: Path) -> Clip:
    """Check what came, read its credentials before anything touches it, and archive them."""
    try:
        picture, sound = probe(original)
    except InputError as error:
        reason = str(error).removeprefix(f"{original}: ")
        sentence = f"{chosen.sheet.name} sent a file that {reason}; it is kept in {original}"
        raise ProviderRefused(sentence, "lost") from None
    _check_film(picture, chosen, wanted, original)
    clip, roots = clip_from(original, picture, sound), _roots(original, folder)
    found = ingest(original, clip, anchors=roots, folder=folder)
    if found.credentials.state == "absent":
        (made,) = history
        attested = _attested(original, replace(made, file=None), folder)
        archive_ingredient(attested, folder / ARCHIVE, anchors=roots)
        clip, history = clip_from(attested, picture, sound), (replace(made, file=attested),)
    return replace(clip, history=history)


def _check_film(picture: PictureFacts | None, chosen: Route, wanted: Fraction, original: Path) -> None:
    """A frame more or less is adapted to; too short, or of another shape, is the provider's fault."""
    if picture is None:
        raise ProviderRefused(f"{chosen.sheet.name} sent a file without a picture; it is kept in {original}", "lost")
    length = picture.frames / picture.rate
    if length < wanted - 1 / picture.rate:
        raise ProviderRefused(
            f"{chosen.sheet.name} was paid for {chosen.seconds} s and sent {printed_seconds(length)} s,"
            f" less than the {printed_seconds(wanted)} s that are needed; it is kept in {original},"
            " and --retake asks for another",
            "lost",
        )
    if abs(picture.size.aspect / chosen.size.aspect - 1) > Fraction(2, 100):
        raise ProviderRefused(
            f"{chosen.sheet.name} was paid for {chosen.size} and sent {picture.size}; it is kept in {original}", "lost"
        )


def _attested(original: Path, made: Action, folder: Path) -> Path:
    """A signed copy of an unsigned film: our word, resting on the ledger, that a model made it."""
    signer = signer_for(state_folder(folder))
    sign(original, folder / ATTESTED, history=(made,), signer=signer, title=original.name, transcoded=False)
    return folder / ATTESTED


def _keep_root(provider: Provider, original: Path) -> None:
    """The root that a simulator signs with is kept beside its film."""
    root = getattr(provider, "root", None)
    if root is not None:
        sweep(original.parent)  # a kill may have left half of one
        with attempt(_root_of(original)) as part:
            part.write_bytes(root())


def _root_of(original: Path) -> Path:
    return original.with_suffix(".roots.pem")


def _roots(original: Path, folder: Path) -> tuple[Path, ...]:
    """That root, trusted in this project alone."""
    kept = _root_of(original)
    if not kept.exists():
        return ()
    copy_whole(kept, folder / ROOTS)
    return (folder / ROOTS,)
