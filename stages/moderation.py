"""Is this fit to be asked for? A free check before money is spent: OpenAI's moderation, or a server like it.

Nothing is sent unless somebody calls `ask_moderation`; `host` says who would
get it. From developers.openai.com/api/docs/guides/moderation: the model takes
text and pictures, is free of charge, and says nothing of sound.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.errors import ProviderRefused, ProviderUnavailable
from stages.http import Service, ask, checked, data_url

URL, USUAL_URL = "AFTERFRAME_MODERATION_URL", "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"
MODEL = "omni-moderation-latest"

WORDS: Mapping[str, str] = {
    "harassment": "harassment",
    "harassment/threatening": "threats",
    "hate": "hate",
    "hate/threatening": "hateful threats",
    "illicit": "instructions for wrongdoing",
    "illicit/violent": "instructions for violent wrongdoing",
    "self-harm": "self-harm",
    "self-harm/instructions": "instructions for self-harm",
    "self-harm/intent": "the wish to harm oneself",
    "sexual": "sexual content",
    "sexual/minors": "sexual content with minors",
    "violence": "violence",
    "violence/graphic": "graphic violence",
}
"""The categories of openai-python 3.57, types/moderation.py, in plain words."""


def ask_moderation(prompt: str, pictures: Sequence[Path] = ()) -> None:
    """Return if `prompt` and `pictures` may be asked for; they are sent to `host()`.

    Raises ProviderRefused with `moderation_input`, saying what was found, if
    they may not; ProviderUnavailable if that cannot be learnt now, Later if the
    server asks to be left alone for a while, and InputError for a picture that
    cannot be read.
    """
    found = dict.fromkeys(category for part in _parts(prompt, pictures) for category in _flagged(part))
    if found:
        words = ", ".join(WORDS.get(category, category.replace("/", ", ")) for category in found)
        sentence = f"the moderation at {host()} found {words}: nothing was ordered; change the prompt or the picture"
        raise ProviderRefused(sentence, "moderation_input", ", ".join(found), words)


def host() -> str:
    """Who gets what `ask_moderation` is given."""
    return urllib.parse.urlsplit(_service().base_url).netloc


def _service() -> Service:
    own = os.environ.get(URL, "")
    key = "" if own and not os.environ.get(KEY) else KEY  # a server of one's own may take none
    return Service("the moderation", own or USUAL_URL, key)


def _parts(prompt: str, pictures: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    """What is asked in one request each: more than one picture is refused (`too_many_images`, seen in
    github.com/antiwork/gumroad/pull/4709)."""
    text = [{"type": "text", "text": prompt}] if prompt.strip() else []
    shown = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
    for number, picture in enumerate(shown):
        yield [*text, picture] if number == 0 else [picture]
    if text and not shown:
        yield text


def _flagged(part: list[dict[str, Any]]) -> list[str]:
    service = _service()
    answer = checked(service, ask(service, "POST", "moderations", data={"model": MODEL, "input": part})).data()
    listed = answer.get("results")
    results = [result for result in listed if isinstance(result, Mapping)] if isinstance(listed, list) else []
    if not results:
        raise ProviderUnavailable("the moderation answered without a result", "transient", "no_result")
    found: list[str] = []
    for result in results:
        categories = result.get("categories")
        named = [name for name, is_so in categories.items() if is_so] if isinstance(categories, Mapping) else []
        found += named or (["something"] if result.get("flagged") else [])
    return found
