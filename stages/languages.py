"""Whether a text in Latin letters is English, told by the little words that no sentence does without."""

from __future__ import annotations

import re

LITTLE_WORDS = {
    "de": ("German", """der das und ist nicht ein eine einen einem mit für auf dem den von zu im wir sie ich es sich
        auch wie bei nach aus über jetzt noch nur oder wenn kein keine mehr zum zur sind haben wird unser unsere ihr
        drei zwei heute jeder alle"""),
    "fr": ("French", """le la les des et est une un dans pour pas que qui sur avec vous nous ne au aux du ce cette ces
        il elle sont plus par mais ou où votre notre maintenant trois très tout c'est d'un d'une l'on j'ai"""),
    "es": ("Spanish", """el la los las y es una un en por para con que no del al su sus se lo más pero como este esta
        muy ya hay nuestro nuestra ahora tres todos está son"""),
    "it": ("Italian", """il lo la gli le e è un una di che non per con del della dei delle nel nella sono si più ma
        come questo questa anche ora tre ogni nostro nostra"""),
    "pt": ("Portuguese", """o os as e é um uma em do da dos das no na nos nas por para com que não se mais mas como
        este esta muito já agora três nosso nossa são você"""),
    "nl": ("Dutch", """de het een en is niet van in voor met op dat die ook maar zijn wij je naar bij uit nu nog
        drie onze alle heeft wordt"""),
    "sv": ("Swedish", """och är det en ett som på för med att av inte den till har vi du jag men nu tre alla våra
        från"""),
    "da": ("Danish", """og er det en et som på for med at af ikke den til har vi du jeg men nu tre alle vores fra"""),
    "pl": ("Polish", """i w na z do nie się jest to że dla po od jak ale już teraz trzy są nasz nasze który przez"""),
    "tr": ("Turkish", """ve bir bu için ile da de değil çok daha şimdi üç olarak var yok her"""),
}  # fmt: skip
"""Of each language its most frequent function words, and some of advertising's, those of English left out below."""

ENGLISH = frozenset(
    """
    a about after all also an and any are as at be been but by can come could day do does for from get go had has
    have he her here him his how i if in into is it its just like me more most my new no not now of off on one only
    or our out over she so some than that the their them then there these they this three time to up us was we well
    were what when where which who will with would you your die den per man war am bad rat hat hot ate son sin
    it's don't you're we're i'm that's let's
    """.split()  # noqa: SIM905 -- a list of a hundred quoted words is unreadable
)

KNOWN = {tag: frozenset(words.split()) - ENGLISH for tag, (_, words) in LITTLE_WORDS.items()}

SHARE = 4
"""One word in four must be another language's: an English sentence may name `Das Auto` or `La Roche-Posay`."""


def other_language(text: str) -> tuple[str, str] | None:
    """The language that a text is in if it is clearly not English: its name and tag, as `("German", "de")`.

    It takes two different little words of that language, more than there are of English, and a quarter of all
    words. A name in capitals counts for nothing: `El Pollo Loco`, `Le Creuset` and `Dolce & Gabbana` pass.
    """
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text)
    plain = [word.lower().replace("’", "'") for at, word in enumerate(words) if at == 0 or word.islower()]
    english = sum(word in ENGLISH for word in plain)
    found = {tag: [word for word in plain if word in known] for tag, known in KNOWN.items()}
    tag = max(found, key=lambda each: (len(set(found[each])), len(found[each])))
    hits = found[tag]
    if len(set(hits)) < 2 or len(hits) <= english or len(hits) * SHARE < len(words):
        return None
    return LITTLE_WORDS[tag][0], tag
