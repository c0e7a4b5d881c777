"""OpenAI's own SDK, unchanged, draws and moderates against our simulator."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_openai_sdk import picture, sales, simulator

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    with simulator(state) as url:
        yield url


def opened(encoded: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded or "")))


@pytest.mark.parametrize(
    "model", ["gpt-image-1.5", "gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst", "sim"]
)
def test_the_sdk_draws(url: str, state: Path, model: str) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        answer = client.images.generate(model=model, prompt="a red fox", size="1536x1024", quality="high")
        again = client.images.generate(model=model, prompt="a red fox", output_format="jpeg")
    assert answer.data
    drawn = opened(answer.data[0].b64_json)
    assert (drawn.format, drawn.size) == ("PNG", (1536, 1024))
    assert (answer.size, answer.quality, answer.output_format, answer.background) == (
        "1536x1024", "high", "png", "opaque"
    )  # fmt: skip
    assert again.data
    assert opened(again.data[0].b64_json).format == "JPEG"
    assert [sale["model"] for sale in state_sales(state)[-2:]] == [model, model]


def state_sales(state: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (state / "sales.jsonl").read_text().splitlines()]


def test_the_sdk_edits_from_one_picture_and_from_several(url: str, state: Path, tmp_path: Path) -> None:
    before, one, two = sales(state), picture(tmp_path / "one.png"), picture(tmp_path / "two.png", "512x512")
    with openai.OpenAI(base_url=url, api_key="none") as client, one.open("rb") as first, two.open("rb") as second:
        for shown in (one, [first, second]):
            answer = client.images.edit(model="gpt-image-2", image=shown, prompt="the same fox", size="1024x1024")
            assert answer.data
            assert opened(answer.data[0].b64_json).size == (1024, 1024)
    assert sales(state) == before + 2


def test_the_sdk_understands_what_is_wrong(url: str, state: Path) -> None:
    before = sales(state)
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(model="gpt-image-2", prompt="a crowd [moderated]")
        assert (refused.value.code, refused.value.type) == ("moderation_blocked", "image_generation_user_error")
        for wrong in ({"size": "1000x1000"}, {"quality": "max"}, {"model": "dall-e-3"}):
            with pytest.raises(openai.BadRequestError) as refused:
                client.images.generate(**{"model": "gpt-image-2", "prompt": "a fox", **wrong})
            assert (refused.value.code, refused.value.param) == ("invalid_value", next(iter(wrong)))
        with pytest.raises(openai.InternalServerError):
            client.images.generate(model="gpt-image-2", prompt="x", extra_headers={"X-Sim-Fault": "500"})
    assert sales(state) == before


def test_the_sdk_moderates(url: str) -> None:
    data = "data:image/png;base64,iVBORw0KGgo="
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        (fine,) = client.moderations.create(model="omni-moderation-latest", input="a red fox").results
        assert not fine.flagged
        assert fine.category_applied_input_types.violence == ["text", "image"]
        assert fine.category_applied_input_types.sexual_minors == ["text"]
        each = client.moderations.create(input=["a fox", "a crowd [moderated]"]).results
        assert [result.flagged for result in each] == [False, True]
        (flagged,) = client.moderations.create(
            model="omni-moderation-latest",
            input=[
                {"type": "text", "text": "a crowd [moderated]"},
                {"type": "image_url", "image_url": {"url": data}},
            ],
        ).results
        assert (flagged.flagged, flagged.categories.violence, flagged.categories.hate) == (True, True, False)
        assert flagged.category_scores.violence > 0.9
        with pytest.raises(openai.BadRequestError, match="exceeds maximum of 1") as refused:
            client.moderations.create(input=[{"type": "image_url", "image_url": {"url": data}}] * 2)
        assert refused.value.code == "too_many_images"
