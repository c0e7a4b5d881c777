"""What is for sale now: the models' presets, what `models.yaml` says of them, and what was bought before.

sora-2: vllm/wan2.2                # films what was written for sora-2: a model, or one on a server of your own
wan: {base_url: http://gpu:8091/v1, dialect: vllm-omni, model: Wan-AI/Wan2.2-T2V-A14B-Diffusers}
runway-gen4.5: {tier: 3, region: us}                  # what differs from its preset
hosts: {db.example.com: {region: eu}, cheap.example.com: {trust_host: true}}
voices: {kokoro: {base_url: http://gpu:8880/v1, voices: [af_heart]}}     # who speaks, likewise (stages/hiring.py)
"""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import presets
from stages import plugins
from stages.errors import InputError, ProviderError
from stages.ledger import Ledger, Purchase, purchases, waits
from stages.purse import Purse
from stages.stage import nearest
from stages.timing import timed
from stages.voices.sheets import voice_sheets

MODELS = "models.yaml"
"""Beside the recipe, or beside the project; or wherever AFTERFRAME_MODELS says."""

PLAIN = ("base_url", "key_variable", "trust_host", "region", "tier", "allow_hosts")
"""What `models.yaml` says of a model that its preset has no sourced value for."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a project knows of a host: in which `region` it is, and that it may be trusted with words and pictures."""

    region: str = ""
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Own:
    """What `models.yaml` says: models that film for others, models of one's own or with other values, hosts."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    sheets: Mapping[str, presets.Sheet] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    voices: Mapping[str, presets.Sheet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Market:
    """One snapshot of what can be bought and what was.

    `keys` are the environment variables that are set. `mapping` says which
    model films for one that is gone, by name; `own` are models on servers of
    the user's, and presets of which the project says something else, `voices`
    are those who speak. `hosts`
    are the providers' by name, `lost` says why one has none; `places` are
    hosts that the project knows. `simulate` says that everything is filmed by
    the simulator; `region` where everything must be. `struck` are the models
    that failed at run time, with how. `bought` are the ledger's rows by key,
    `usual` the seconds that models usually take, as the ledger saw it.
    """

    today: date
    keys: frozenset[str] = frozenset()
    mapping: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, presets.Sheet] = field(default_factory=dict)
    simulate: bool = False
    bought: Mapping[str, tuple[Purchase, ...]] = field(default_factory=dict)
    purse: Purse = field(default_factory=Purse)
    region: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    struck: Mapping[str, ProviderError] = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)
    voices: Mapping[str, presets.Sheet] = field(default_factory=dict)

    def without(self, model: str, why: ProviderError) -> Market:
        """The same, but that `model` cannot film now."""
        return replace(self, struck={**self.struck, model: why})

    def sheet(self, name: str) -> presets.Sheet:
        """What the model `name` sells. Raises InputError if there is none."""
        if name in self.own:
            return self.own[name]
        if name in presets.names("models"):
            return presets.read("models", name)
        if served := _served(name):
            return served
        known = (*presets.names("models"), *self.own)
        raise InputError(f"there is no model '{name}'{nearest(name, known)}; there are {', '.join(known)}", "model")

    def sheets(self) -> Iterator[presets.Sheet]:
        """All models by name, the project's own last."""
        yield from (self.sheet(name) for name in dict.fromkeys((*presets.names("models"), *self.own)))

    def host(self, sheet: presets.Sheet) -> str:
        """The host that a model's requests go to; empty where that is not known."""
        if own := sheet.facts.get("base_url"):
            return urllib.parse.urlsplit(str(own)).hostname or ""
        return self.hosts.get(sheet.facts["provider"], "")

    def trusts(self, host: str) -> bool:
        """Whether words and pictures may go to `host`: one's own, a known provider's, or said to be fine."""
        place = self.places.get(host)
        return bool(place and place.trusted) or bool(owner(host)) or is_near(host)

    def region_of(self, host: str, sheet: presets.Sheet | None = None) -> str:
        """Where `host`, or a model behind it, is: empty where nobody said; `here` for this machine."""
        said = sheet.facts.get("region") or sheet.get("region", "") if sheet else ""
        place = self.places.get(host)
        return str(said or (place and place.region) or ("here" if is_here(host) else ""))


def open_market(ledger: Ledger, project: Path, simulate: bool = False, *, beside: Path | None = None) -> Market:
    """What can be bought now, for the recipes in the folder `beside`.

    Raises InputError for a `models.yaml` that cannot be read.
    """
    own = read_models(models_file(*filter(None, (beside, project))))
    shop = Market(
        date.today(),
        frozenset(name for name in os.environ if os.environ[name]),
        own.mapping,
        own.sheets,
        simulate,
        Bought(ledger),
        places=own.places,
        voices=own.voices,
    )
    hosts, lost = _hosts()
    return replace(shop, hosts=hosts, lost=lost, usual=_usual(ledger, shop))


def for_recipe(shop: Market, purse: Purse, region: str = "") -> Market:
    """The same for a recipe that may spend what is in `purse`, everything in `region`.

    Raises InputError if the ledger's own database, or the store that is shared, is not there.
    """
    shop = replace(shop, purse=purse, region=region)
    _check_region(shop)
    return shop


class Bought(Mapping[str, tuple[Purchase, ...]]):
    """The ledger's rows by key, each read when it is first asked for: a ledger may hold many thousands."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.read: dict[str, tuple[Purchase, ...]] = {}

    def __getitem__(self, key: str) -> tuple[Purchase, ...]:
        if key not in self.read:
            self.read[key] = tuple(purchases(self.ledger, key))
        if not self.read[key]:
            raise KeyError(key)
        return self.read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(row.key for row in purchases(self.ledger)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _usual(ledger: Ledger, shop: Market) -> dict[str, float]:
    """Half of a model's films took at most so many seconds."""
    bought = timed(ledger)
    names = {sheet.name: (sheet.facts["provider"], sheet["model"]) for sheet in shop.sheets()}
    found = {whose: waits(ledger, whose[1], provider=whose[0]).total.p50 for whose in bought & set(names.values())}
    return {name: found[whose] for name, whose in names.items() if found.get(whose)}


# ---------------------------------------------------------------- hosts


def owner(host: str) -> str:
    """Who is behind a host that presets know; empty if they do not."""
    known = presets.owners()
    fits = (name for name in known if host == name or (name.startswith(".") and host.endswith(name)))
    return next((str(known[name].value) for name in fits), "")


def is_here(host: str) -> bool:
    """Whether `host` is this machine."""
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or bool(address and address.is_loopback)


def is_near(host: str) -> bool:
    """Whether `host` is this machine or one of the user's own network, by its name or address."""
    address = _address(host)
    own = "." not in host or host.endswith((".local", ".internal", ".lan", ".home.arpa"))
    return is_here(host) or (not address.is_global if address else bool(host) and own)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _hosts() -> tuple[dict[str, str], dict[str, str]]:
    """Where each provider is, as the environment names it, and what is said where it names none. What they sell need
    not be read for that."""
    hosts, lost = {}, {}
    for name in plugins.names("pipeline.providers"):
        if name.startswith("sim"):
            continue  # a child of this process, if anything
        try:
            hosts[name] = urllib.parse.urlsplit(plugins.find("pipeline.providers", name)().base_url).hostname or ""
        except InputError as error:
            lost[name] = str(error)
    return hosts, lost


def _check_region(shop: Market) -> None:
    """The ledger holds prompts and a shared store pictures, so they are where the recipe's `region` says."""
    host = urllib.parse.urlsplit(os.environ.get("AFTERFRAME_DATABASE", "")).hostname
    if shop.region and host and shop.region_of(host) not in (shop.region, "here"):
        raise InputError(
            f"region: {shop.region}: the ledger is on {host}, of which nobody says where it is; "
            f"`hosts: {{{host}: {{region: {shop.region}}}}}` in {MODELS} does"
        )
    store = urllib.parse.urlsplit(os.environ.get("AFTERFRAME_STORE", "")).netloc
    if shop.region and store and shop.region_of(store) != shop.region:
        raise InputError(
            f"region: {shop.region}: what is made is put into the bucket {store}, of which nobody says where it is; "
            f"`hosts: {{{store}: {{region: {shop.region}}}}}` in {MODELS} does"
        )


# ---------------------------------------------------------------- models.yaml


def models_file(*folders: Path) -> Path:
    """Where `models.yaml` is: as AFTERFRAME_MODELS says, else in the first of `folders` that has one."""
    if named := os.environ.get("AFTERFRAME_MODELS"):
        return Path(named)
    files = [folder / MODELS for folder in folders]
    return next((file for file in files if file.exists()), files[0])


def read_models(file: Path) -> Own:
    """What `models.yaml` says; nothing where there is none. Raises InputError, naming the file."""
    import yaml  # noqa: PLC0415 -- only where there may be such a file

    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Own()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: should be lines such as 'sora-2: wan'")
    lines = {str(name): value for name, value in loaded.items()}
    places = _places(file, lines.pop("hosts", {}))
    voices = voice_sheets(file, lines.pop("voices", {}))
    mapping = {name: value for name, value in lines.items() if isinstance(value, str)}
    sheets = {name: _own(file, name, value) for name, value in lines.items() if not isinstance(value, str)}
    return Own(mapping, sheets, places, voices)


def _places(file: Path, said: object) -> dict[str, Place]:
    if not isinstance(said, dict) or not all(isinstance(each, dict) for each in said.values()):
        raise InputError(f"{file.name}: hosts: should be lines such as 'db.example.com: {{region: eu}}'")
    for host, each in said.items():
        for key in set(each) - {"region", "trust_host"}:
            raise InputError(f"{file.name}: hosts.{host}.{key}: is not known; there are region, trust_host")
    return {
        str(host): Place(str(each.get("region", "")), each.get("trust_host") is True) for host, each in said.items()
    }


def _own(file: Path, name: str, said: object) -> presets.Sheet:
    """A model on a server of the user's, who says what it sells; or a preset with what differs from it."""
    if not isinstance(said, dict):
        raise InputError(f"{file.name}: {name}: should name a model, or say base_url:")
    if "base_url" in said:
        kind = str(said.get("dialect", "any"))
        below = _server(kind)
        base = presets.Sheet(name, file, {"provider": kind}, below.values if below else ANY)
        base = _with(base, {"model": name}, file)
        for key in [key for key in ("seconds", "sizes") if key not in said and key not in base.values]:
            raise InputError(
                f"{file.name}: {name}: should say {key}: (a server of the kind '{kind}' may film anything)"
            )
    elif name in presets.names("models"):
        base = presets.read("models", name)
    else:
        there = nearest(name, presets.names("models"))
        raise InputError(f"{file.name}: {name}: is no model{there}; one on a server of your own says base_url:")
    for key in said:
        if key not in (*_known(), *PLAIN, "dialect"):
            raise InputError(f"{file.name}: {name}.{key}: is not known{nearest(str(key), (*_known(), *PLAIN))}")
    return _with(base, {key: value for key, value in said.items() if key != "dialect"}, file)


def _with(sheet: presets.Sheet, said: Mapping[str, Any], file: Path) -> presets.Sheet:
    """The sheet with other values; a price alone is that of every size."""
    facts = {**sheet.facts, **{key: said[key] for key in PLAIN if key in said}}
    flat = {key: value for key, value in said.items() if key not in PLAIN and key != "price"}
    price = said.get("price")
    sizes = flat.get("sizes") or sheet.get("sizes", [])
    prices = price if isinstance(price, dict) else dict.fromkeys(sizes, price) if price is not None else {}
    flat |= {f"price.{size}": each for size, each in prices.items()}
    made = {key: presets.Value(value, 1, str(file), "") for key, value in flat.items()}
    return replace(sheet, facts=facts, values={**sheet.values, **made})


ANY: Mapping[str, presets.Value] = {
    key: presets.Value(value, 1, "", "")
    for key, value in {"rate": None, "audio": "never", "typical": None, "loop": False}.items()
}
"""What is taken of a model on a server that nobody knows."""


@cache
def _known() -> frozenset[str]:
    """What a line of `models.yaml` may say: whatever presets do."""
    kinds: tuple[presets.Kind, ...] = ("models", "servers")
    sheets = [presets.read(kind, name) for kind in kinds for name in presets.names(kind)]
    return frozenset(key.partition(".")[0] for sheet in sheets for key in sheet.values)


# ---------------------------------------------------------------- servers of one's own


def _served_by(name: str) -> tuple[str, str]:
    """`vllm/wan2.2` as the kind of server and its model; empty where it is none."""
    kind, slash, model = name.partition("/")
    server = _server(kind) if slash and model else None
    return (server.name, model) if server else ("", "")


def _server(kind: str) -> presets.Sheet | None:
    sheets = (presets.read("servers", name) for name in presets.names("servers"))
    return next((sheet for sheet in sheets if kind in (sheet.name, sheet.facts.get("also"))), None)


def _served(name: str) -> presets.Sheet | None:
    """`vllm/wan2.2`: a model of a server whose address is in the environment."""
    kind, model = _served_by(name)
    server = _server(kind) if kind else None
    if server is None:
        return None
    sheet = presets.Sheet(name, server.file, {**server.facts, "name": name, "provider": kind}, server.values)
    return _with(sheet, {"model": model}, server.file)
