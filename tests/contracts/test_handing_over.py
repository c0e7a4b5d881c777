"""What every provider promises whose answer is the goods, against the simulator that stands for it, over real HTTP.

To have another one tested, add a line to `STANDS`, as in test_providers.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from test_providers import QUICK, Opened, Stand
from test_providers import opened as open_stand

from stages.clip import Size
from stages.errors import ProviderRefused, ProviderUnavailable
from stages.filetypes import HEAD, filetype_of
from stages.providers import HandsOver, VideoRequest
from stages.providers.effects import Effects, SimulatedEffects
from stages.providers.images import Images, SimulatedImages
from stages.providers.speech import SimulatedSpeech, Speech

SERVER = ("stages.simulators.openai", *QUICK)


@dataclass(frozen=True)
class Goods:
    """A stand, and what is asked of it: a request, whose prompt may make the simulator refuse; the kind that comes."""

    stand: Stand
    request: VideoRequest
    suffix: str


DRAWN = VideoRequest("a fox", "sim", Size(1024, 1024), 0, work="draw")
SPOKEN = VideoRequest("now in rose", "sim", Size(0, 0), 0, work="speak", options=(("voice", "hum"),))
FOLEY = VideoRequest("rain on a tin roof", "sim", Size(0, 0), 0, work="foley", options=(("length", "3"),))
STANDS = (
    Goods(Stand("sim-images", SERVER, lambda url: SimulatedImages(url, idempotent=True)), DRAWN, ".png"),
    Goods(
        Stand("openai-images", (*SERVER, "--ignore-keys"), lambda url: Images(url, "")),
        replace(DRAWN, model="gpt-image-2", options=(("quality", "low"),)),
        ".png",
    ),
    Goods(Stand("sim-speech", SERVER, lambda url: SimulatedSpeech(url, idempotent=True)), SPOKEN, ".wav"),
    Goods(
        Stand("openai-speech", (*SERVER, "--ignore-keys"), lambda url: Speech(url, "")),
        replace(SPOKEN, model="gpt-4o-mini-tts", options=(("voice", "marin"), ("speed", "1.25"))),
        ".wav",
    ),
    Goods(Stand("sim-sounds", SERVER, lambda url: SimulatedEffects(url, idempotent=True)), FOLEY, ".mp3"),
    Goods(
        Stand("elevenlabs-sounds", (*SERVER, "--ignore-keys"), lambda url: Effects(url, "")),
        replace(FOLEY, work="score"),
        ".mp3",
    ),
)
"""Add yours here."""


@dataclass(frozen=True)
class At:
    """Goods whose simulator runs."""

    goods: Goods
    opened: Opened

    @property
    def provider(self) -> HandsOver:
        provider = self.opened.provider
        assert isinstance(provider, HandsOver)
        return provider


@pytest.fixture(params=STANDS, ids=lambda goods: str(goods.stand.name), scope="module")
def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[At]:
    goods: Goods = request.param
    with contextlib.ExitStack() as stack:
        yield At(goods, stack.enter_context(open_stand(goods.stand, tmp_path_factory.mktemp("stand"))))


def test_it_says_who_it_is_and_how_patient_one_must_be(at: At) -> None:
    provider = at.opened.provider
    assert provider.name == at.goods.stand.name
    assert provider.account
    assert (provider.can_list, provider.typical) == (False, 0)
    assert provider.settle > 0
    with pytest.raises(ProviderUnavailable):
        provider.find(0)


def test_what_is_bought_is_here_at_once_until_it_is_cleared(at: At, tmp_path: Path) -> None:
    provider, before = at.opened.provider, at.opened.sales()
    job = provider.submit(at.goods.request, "bought")
    assert (job.state, at.opened.sales()) == ("done", before + 1)
    assert provider.check(job.id).state == "done"
    for _ in range(2):
        provider.download(job.id, tmp_path / "goods")
    kind = filetype_of((tmp_path / "goods").read_bytes()[:HEAD])
    assert kind
    assert kind.suffix == at.goods.suffix
    at.provider.clear(job.id)
    at.provider.clear(job.id)
    assert provider.check(job.id).state == "gone"
    with pytest.raises(ProviderRefused) as gone:
        provider.download(job.id, tmp_path / "goods")
    assert gone.value.failure == "expired"


def test_what_came_for_a_key_is_found_by_it_and_not_bought_again(at: At) -> None:
    provider, before = at.opened.provider, at.opened.sales()
    assert at.provider.received("a-key-1") is None
    job = provider.submit(at.goods.request, "a-key-1")
    assert provider.submit(at.goods.request, "a-key-1").id == job.id
    found = at.provider.received("a-key-1")
    assert found
    assert (found.id, found.state, at.opened.sales()) == (job.id, "done", before + 1)
    assert at.provider.received("a-key") is None
    assert at.provider.received("a-key-12") is None


def test_a_refusal_is_no_sale(at: At) -> None:
    before = at.opened.sales()
    with pytest.raises(ProviderRefused) as refused:
        at.opened.provider.submit(replace(at.goods.request, prompt="crowd [moderated]"), "refused")
    assert (refused.value.failure, at.opened.sales()) == ("moderation_input", before)
    assert refused.value.text
    assert at.provider.received("refused") is None


def test_nobodys_job_is_gone(at: At) -> None:
    assert at.opened.provider.check("ab-1-0123456789abcdef").state == "gone"
