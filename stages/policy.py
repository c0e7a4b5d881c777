"""What a recipe asks of the credentials of what goes into it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from stages.credentials import Credentials
from stages.errors import ProvenanceError

Trust: TypeAlias = Literal["require-trusted", "require-intact", "accept"]
Missing: TypeAlias = Literal["accept", "stop"]


@dataclass(frozen=True, slots=True)
class Policy:
    """`provenance: {origin: …, missing: …}` of a recipe, for every film, picture, music and voice that it reads.

    `origin` is for files that carry credentials: `require-trusted` takes only
    those that are proved; `require-intact`, the default, also those by a signer
    that no anchor vouches for or whose certificate has expired, and remarks it
    (genuine films of Sora's from 2025 read so today); `accept` takes these
    without a remark. `missing` is for files without: `accept`, the default, or
    `stop`. A bought film that came unsigned has our own word and is not missing.

    What was changed after it was signed is never taken. With `sign: off` what is
    delivered carries no credentials, which is told wherever it is; where that
    takes away those of what went in, or leaves unmarked what a model made (the
    EU AI Act, Art. 50, asks for the mark), the recipe must say `strip: I understand`.
    """

    origin: Trust = "require-intact"
    missing: Missing = "accept"
    sign: Literal["on", "off"] = "on"
    strip: Literal["", "I understand"] = ""

    @property
    def signs(self) -> bool:
        """Whether what is delivered is signed."""
        return self.sign == "on"

    def check_strip(self, name: str, *, signed: bool, ai: bool) -> None:
        """Raise ProvenanceError if a file that carries credentials, or that a model made, would lose its mark
        without that anybody said he understands."""
        if self.signs or self.strip or not (signed or ai):
            return
        why = "carries credentials, which provenance.sign: off strips" if signed else "was made by a model"
        rest = "" if signed else ", and provenance.sign: off leaves that unsaid"
        raise ProvenanceError(f"{name}: {why}{rest}; if that is meant, say provenance.strip: I understand", "absent")

    def check(self, name: str, found: Credentials) -> str:
        """What is worth a remark of the file called `name`, where there is something.

        Raises ProvenanceError, naming the file and the key, for one that may not.
        """
        codes = ", ".join(found.codes)
        self.check_strip(name, signed=found.state != "absent", ai=False)
        if found.state == "tampered":
            raise ProvenanceError(
                f"{name}: was changed after it was signed ({codes});"
                " it is not used, since nothing made of it could be proved",
                "tampered",
                found.codes,
            )
        if found.state == "proved":
            return ""
        if found.state == "absent":
            if self.missing == "stop":
                raise ProvenanceError(f"{name}: carries no credentials, and provenance.missing is stop", "absent")
            return ""  # told of each delivery, whenever it is
        what = WHY[found.state].format(signer=found.signer or "nobody named")
        if self.origin == "require-trusted":
            raise ProvenanceError(
                f"{name}: {what} ({codes}), and provenance.origin is require-trusted", found.state, found.codes
            )
        return f"intact, but {what}" if self.origin == "require-intact" else ""

    def __str__(self) -> str:
        stripped = "" if self.signs else f", sign: off, strip: {self.strip}"
        return f"origin: {self.origin}, missing: {self.missing}{stripped}"


WHY = {
    "untrusted": "nobody trusted here vouches for all who signed it and what it was made from (by {signer})",
    "expired": "the certificate behind it, or behind what it was made from, has expired (by {signer})",
}
"""Why a file that was not changed is not proved."""
