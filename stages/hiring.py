"""Voices over the network: what a line costs is known before, and the same line is never bought twice.

A recipe names one as SELLER:VOICE, `voice: openai:marin`; the seller alone
takes the first of its voices. Who there is says `pipeline voices`; a server of
one's own is a line in `models.yaml` (`stages/voices/sheets.py`).

What comes is kept as it was paid for, and turned into speech each time it is
read: without the silence around it, with its words where the seller told them
(`stages/voices/sounds.py`), else by their shares of the characters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import presets
from stages import plugins
from stages.buying import Order, buy
from stages.clip import Size, Word
from stages.errors import InputError, ProviderRefused
from stages.files import state_folder
from stages.ledger import Purchase, open_ledger, purchases
from stages.market import Market, open_market
from stages.money import dollars
from stages.providers import VideoRequest
from stages.routing import Route, check_market
from stages.stage import Offer, nearest
from stages.voices import Speech, SpeechRequest, Timing, Voice, expected_seconds, share
from stages.voices.models import VoiceModel, voice_file
from stages.voices.sounds import sound_in, voiced

SIZELESS = Size(0, 0)
"""Sound has none."""


# ---------------------------------------------------------------- who there is


def voice_named(
    name: str,
    shop: Market | None = None,
    folder: Path | None = None,
    keys: frozenset[str] = frozenset(),
    model: VoiceModel | None = None,
) -> Voice:
    """The voice that a recipe calls `name`: one that is installed, a file of one's own, or one over the network.

    `shop` is what is for sale, by default what there is now; `folder` is one
    of the project's, `keys` are those of all that the run buys, `model` is where
    the file of `piper:FILE` lies, by default where it says. Raises InputError if there is none.
    """
    if name in plugins.names("pipeline.voices"):
        installed: Voice = plugins.find("pipeline.voices", name)
        return installed
    if file := voice_file(name):
        return _with_model(name.partition(":")[0], model.path if model else Path(file).expanduser())
    state = state_folder(folder or Path.cwd())
    shop = shop or open_market(open_ledger(), state.parent)
    seller, _, voice = name.partition(":")
    known = sellers(shop)
    if seller not in known:
        names = (*plugins.names("pipeline.voices"), *known)
        raise InputError(f"there is no voice '{name}'{nearest(seller, names)}; there are {', '.join(names)}", "voice")
    return Hired(known[seller], voice or _first(known[seller]), shop, state, keys)


def _with_model(name: str, file: Path) -> Voice:
    voice = plugins.find("pipeline.voices", name)
    if not hasattr(voice, "with_model"):
        raise InputError(f"voice {name} takes no file: say voice: {name}, not {name}:{file}", "voice")
    found: Voice = voice.with_model(file)
    return found


def sellers(shop: Market) -> dict[str, presets.Sheet]:
    """All who speak over the network by name, those of the project's own last."""
    return {**{name: presets.read("voices", name) for name in presets.names("voices")}, **shop.voices}


def _first(sheet: presets.Sheet) -> str:
    """The voice of a seller that is meant where none is named. Raises InputError if that is none in particular."""
    first = str(next(iter(sheet["voices"]), ""))
    if not re.fullmatch(r"[\w-]+", first):
        raise InputError(f"should say which voice of {sheet.name}, as {sheet.name}:NAME", "voice")
    return first


# ---------------------------------------------------------------- what is asked


def line_key(voice: str, request: SpeechRequest) -> str:
    """What is bought, as a hash of what was asked for: not of the model, the price or anything else of the seller's,
    nor of how what was written is read aloud.

    What was left as it is by default is left out, so that a new kind of wish changes no older key.
    """
    usual = SpeechRequest("")
    said = {name: getattr(request, name) for name in ("language", "speed", "take")}
    asked = {name: value for name, value in said.items() if value != getattr(usual, name)}
    asked["text"] = request.written or request.text
    return hashlib.sha256(json.dumps(["speech", voice, asked], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Hired:
    """A voice that is paid for each line: `voice` of the seller that `sheet` describes.

    Calling `speak` buys the line, once and for all; called again it gives what was bought.
    """

    sheet: presets.Sheet
    voice: str
    shop: Market
    state: Path
    keys: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def name(self) -> str:
        """As recipes name it, in full."""
        return f"{self.sheet.name}:{self.voice}"

    @property
    def seller(self) -> presets.Sheet:
        """Who speaks now: the simulator, where everything is simulated."""
        return presets.read("voices", "sim") if self.shop.simulate else self.sheet

    @property
    def simulated(self) -> bool:
        """Whether nobody is paid."""
        return bool(self.seller.facts.get("simulated"))

    @property
    def version(self) -> str:
        """The model."""
        return f"SIMULATED {self.seller.name}" if self.simulated else str(self.seller["model"])

    @property
    def trained(self) -> bool:
        """All that are sold are."""
        return True

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of the voice, if its name says so (`en-US-JennyNeural`), else the seller's."""
        if match := re.match(r"([a-z]{2,3})-([A-Z]{2})-", self.voice):
            return f"{match[1]}-{match[2]}".lower(), match[1]
        return tuple(str(language).lower() for language in self.sheet["languages"])

    @property
    def speeds(self) -> tuple[float, float]:
        """The slowest and the fastest that it speaks."""
        slowest, fastest = self.sheet["speed"]
        return float(slowest), float(fastest)

    def check(self, request: SpeechRequest) -> None:
        """Raises InputError for what its preset says that it cannot do, and if it cannot be had now."""
        if not any(letter.isalnum() for letter in request.text):
            raise InputError(f"there is nothing to speak in '{request.text}'", "text")
        if request.take < 1:
            raise InputError(f"should be 1 or more, not {request.take}", "take")
        self._check_limits(request)
        if not self.bought(request):
            try:
                check_market(self.seller, self.seller.name, self.shop)
            except InputError as error:
                raise InputError(str(error), "voice") from error.__cause__

    def _check_limits(self, request: SpeechRequest) -> None:
        sheet, tag = self.sheet, request.language.lower().replace("_", "-")
        voices, (slowest, fastest) = [str(each) for each in sheet["voices"]], self.speeds
        if not any(re.fullmatch(each, self.voice) for each in voices):
            there = f"{nearest(self.voice, voices)}; there are {', '.join(voices)} ({sheet.place('voices')})"
            raise InputError(f"{sheet.name} has no voice '{self.voice}'{there}", "voice")
        if self.languages and not {tag, tag.partition("-")[0]} & set(self.languages):
            spoken = ", ".join(self.languages)
            raise InputError(f"voice {self.name} speaks {spoken}, not '{request.language}'", "language")
        most, length = sheet["characters"], measure(sheet, request.text)
        if most is not None and length > most:
            what = f"{sheet.name} takes {most} at once ({sheet.place('characters')})"
            raise InputError(f"{length} {sheet.get('counted', 'characters')} are too many: {what}", "text")
        if not slowest <= request.speed <= fastest:
            what = f"{slowest:g} to {fastest:g} times its pace ({sheet.place('speed')})"
            raise InputError(f"{sheet.name} speaks at {what}, not {request.speed:g}", "speed")

    def key(self, request: SpeechRequest) -> str:
        """The ledger's, of that line."""
        return line_key(self.name, request)

    def bought(self, request: SpeechRequest) -> Purchase | None:
        """The purchase that answers for the line already, if there is one."""
        rows = (row for row in self.shop.bought.get(self.key(request), ()) if self._accepts(row))
        return next((row for row in rows if row.state in ("SENDING", "ACCEPTED", "DONE")), None)

    def may_come(self, request: SpeechRequest) -> bool:
        """Whether an order for the line is on its way, so that it may be paid for yet."""
        rows = purchases(open_ledger(), self.key(request))
        return any(row.state in ("SENDING", "ACCEPTED") for row in rows)

    def _accepts(self, row: Purchase) -> bool:
        """Whichever of its models spoke."""
        return row.provider == str(self.seller.facts["provider"])

    def price(self, request: SpeechRequest) -> Decimal:
        """US dollars for that line; of what is sold by the minute, for as long as it should take."""
        sheet = self.seller
        seconds = expected_seconds(request.text) / Fraction(request.speed)
        minute = Decimal(sheet.get("price_minute", "0")) / 60 * seconds.numerator / seconds.denominator
        price = self._price_of_characters(sheet) * measure(sheet, request.text) / 1000 + minute
        return price.quantize(Decimal("0.000001"), "ROUND_UP")

    def _price_of_characters(self, sheet: presets.Sheet) -> Decimal:
        kinds = {key.removeprefix("price."): key for key in sheet.values if key.startswith("price.")}
        kind = next((key for name, key in kinds.items() if f"-{name}-" in self.voice), "price")
        return Decimal(sheet[kind])

    def speak(self, request: SpeechRequest) -> Speech:
        """Speak `request`, the same samples every time, since it is bought once.

        Raises InputError as `check` does, Later if it must be called again, and
        what buying raises: ProviderRefused, ProviderUnavailable,
        BudgetExceeded, and SubmissionUnknown if a human must look before money is spent.
        """
        self.check(request)
        asked = (("voice", self.voice), ("language", request.language), ("speed", f"{request.speed:g}"))
        order = Order(
            Route(self.seller, SIZELESS, 0, self.price(request), bought=self.bought(request)),
            VideoRequest(request.text, self.seller["model"], SIZELESS, 0, work="speak", options=asked),
            self.key(request),
            self._accepts,
        )
        (got,) = buy(open_ledger(), [order], self.shop, self.state, self.keys)
        assert got.original
        return speech_in(got.original, request.text, f"{self.version} {self.name}")


def measure(sheet: presets.Sheet, text: str) -> int:
    """How long a line is, as its seller counts."""
    return len(text.encode()) if sheet.get("counted") == "bytes" else len(text)


# ---------------------------------------------------------------- what came


def speech_in(file: Path, text: str, agent: str) -> Speech:
    """The speech of `text` in a file that was bought. Raises ProviderRefused with `lost` if it holds none."""
    pcm, rate, told = sound_in(file)
    start, end = voiced(pcm, rate)
    if not end:
        raise ProviderRefused(f"{agent} was paid and is silent; it is kept in {file}", "lost")
    texts, length = text.split(), Fraction(end - start, rate)
    timing: Timing = "exact" if [word.text for word in told] == texts else "proportional"
    words = _within(told, Fraction(start, rate), length) if timing == "exact" else share(texts, Fraction(0), length)
    return Speech(pcm[2 * start : 2 * end], rate, words, timing, agent)


def _within(told: Sequence[Word], start: Fraction, length: Fraction) -> tuple[Word, ...]:
    """The words, counted from `start`, one after the other and none outside."""
    words, at = [], Fraction(0)
    for word in told:
        begin = min(max(word.start - start, at), length)
        at = min(max(word.end - start, begin), length)
        words.append(Word(word.text, begin, at))
    return tuple(words)


# ---------------------------------------------------------------- offered


def offer_lines(voice: Voice, requests: Sequence[SpeechRequest], shop: Market) -> Offer:
    """What it costs to have `voice` speak these, under which keys, and who gets the words. Nothing is sent.

    An installed voice costs nothing and tells nobody.
    """
    if not isinstance(voice, Hired):
        return Offer((), {}, {})
    for request in requests:
        voice.check(request)
    unpaid = [request for request in requests if not voice.bought(request)]
    prices = tuple(price for price in map(voice.price, unpaid) if price)
    host, length = shop.host(voice.seller), sum(len(request.text) for request in unpaid)
    by = voice.seller.name if voice.simulated else voice.name
    said = f"{by} speaks {length} characters" + (f", {dollars(sum(prices, Decimal(0)))}" if prices else "")
    return Offer(
        prices,
        {"shop": shop},
        {},
        said if unpaid else f"what {by} said is bought already",
        simulated=voice.simulated,
        keys=tuple(map(voice.key, requests)),
        hosts=((host, "the words"),) if host and unpaid else (),
    )
