"""German to an English voice is found before it is spoken; a brand's name is no German."""

from __future__ import annotations

import pytest

from stages.errors import InputError
from stages.languages import other_language
from stages.speech import promise_line


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Jetzt in drei Farben.", "de"),
        ("Unser neues Parfüm ist da, und es kostet nur zehn Euro.", "de"),
        ("Maintenant en trois couleurs pour vous.", "fr"),
        ("Ahora en tres colores para todos.", "es"),
        ("Ora in tre colori, per ogni giorno.", "it"),
        ("Agora em três cores, para você.", "pt"),
        ("Nu in drie kleuren voor iedereen.", "nl"),
        ("Nu i tre färger för alla.", "sv"),
        ("Teraz w trzech kolorach dla każdego, i to nie wszystko.", "pl"),
        ("Şimdi üç renkte, her gün için.", "tr"),
    ],
)
def test_another_language_is_found(text: str, tag: str) -> None:
    assert (other_language(text) or ("", ""))[1] == tag


@pytest.mark.parametrize(
    "text",
    [
        "Das Auto. Der Spiegel.",
        "La Roche-Posay, Le Creuset and Dolce & Gabbana.",
        "El Pollo Loco opens in Los Angeles.",
        "A café au lait and a crème de la crème dessert.",
        "Die Hard is on tonight, and so is Das Boot.",
        "Now in three colours: rose, citrus and mint.",
        "Que sera, sera.",
        "Vamos! Order now.",
        "Hasta la vista, baby.",
        "Now.",
        "Zara, Nike, Uber.",
        "Mit 20% off",
        "The birch canoe slid on the smooth planks.",
        "No man is an island; do as I do, not as I say.",
        "Me, a name I call myself.",
    ],
)
def test_english_with_foreign_names_passes(text: str) -> None:
    assert other_language(text) is None


def test_it_is_refused_in_the_plan_with_a_voice_that_speaks_it() -> None:
    with pytest.raises(
        InputError, match="heart speaks English, and this is German; use voice: espeak with language: de"
    ):
        promise_line("Jetzt in drei Farben.")
    assert promise_line("Jetzt in drei Farben.", voice="espeak", language="de").promised
