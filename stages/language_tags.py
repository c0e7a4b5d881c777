"""Languages by their BCP 47 tags: read, and written as MP4 and MOV have them (the only langcodes)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from stages.clip import Unit
from stages.errors import InputError


def parse_language(text: str) -> str:
    """A BCP 47 tag in its canonical form: `de`, `pt-BR`; what is written `ger` or `DE_de` is put right.

    Raises InputError for what is no tag, or of no language that is registered.
    """
    import langcodes.tag_parser  # noqa: PLC0415 -- reads its registry

    try:
        tag = langcodes.Language.get(text.strip())
    except langcodes.tag_parser.LanguageTagError:
        tag = langcodes.Language.make()
    if not tag.language or not tag.is_valid():
        raise InputError(f"should be a language such as de, en or pt-BR (BCP 47), not '{text}'")
    return str(tag)


Language: TypeAlias = Annotated[str, Unit(parse_language, "de")]
"""A language as text: a BCP 47 tag."""


def container_code(tag: str, container: str) -> str:
    """What a track's head says for `tag`: its ISO 639-2/T code, `deu` for German (ISO/IEC 14496-12, 8.4.2).

    A MOV counts languages by a list of QuickTime's, which ffmpeg knows by other codes for some: `ger`. What
    is not on that list, such as Swahili's `swa` is and Zulu's `zul` is not, it leaves untagged.
    """
    import langcodes  # noqa: PLC0415 -- reads its registry

    language = langcodes.Language.get(tag)
    code = str(language.to_alpha3())
    return str(language.to_alpha3(variant="B")) if container == "mov" and code in QUICKTIME else code


QUICKTIME = frozenset({
    "bod", "cym", "deu", "ell", "eus", "hye", "isl", "kat", "mkd", "msa", "mya", "nld", "sqi", "zho",
})  # fmt: skip
"""Languages that ffmpeg knows by their bibliographic codes in a MOV (its libavformat/isom.c)."""
