"""What a provider sold, taken in: its credentials are read and archived, and what carries none gets our word.

The word rests on the ledger: a model was paid, and this came. It is a signed
copy, with the model as software agent; the paid original stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stages.clip import Action, Clip
from stages.errors import InputError, ProviderRefused
from stages.files import attempt, copy_whole, state_folder, sweep
from stages.ingestion import ARCHIVE, ingest
from stages.ledger import Ledger, Purchase, original_of
from stages.provenance import archive_ingredient, sign, signer_for
from stages.providers import Provider

ATTESTED, ROOTS = "attested", "roots.pem"


def vouched(original: Path, made: Action, folder: Path, *, clip: Clip | None = None, anchors: Sequence[Path]) -> Path:
    """The file that carries the credentials of `original`: itself, or a signed copy in `folder` if it has none.

    Either way they are archived in `folder`. `made` is what made it; `clip` what it holds, if it is a film or a sound.
    Raises as `ingest` does.
    """
    found = ingest(original, clip, anchors=anchors, folder=folder)
    if found.credentials.state != "absent":
        return original
    copy = attest(original, made, folder)
    archive_ingredient(copy, folder / ARCHIVE, anchors=anchors)
    return copy


def attest(original: Path, made: Action, folder: Path) -> Path:
    """A signed copy of `original`, which was created by `made`.

    It claims that and nothing else: what the model was shown is told where the
    copy is used, by the history.
    """
    copy = folder / f"{ATTESTED}{original.suffix}"
    created = replace(made, file=None, inputs=())
    sign(
        original,
        copy,
        history=(created,),
        signer=signer_for(state_folder(folder)),
        title=original.name,
        transcoded=False,
    )
    return copy


# ---------------------------------------------------------------- the original, and who signed it


def kept(ledger: Ledger, bought: Purchase | None) -> Path | None:
    """The paid original, where it was fetched already: then nobody need be asked."""
    return original_of(ledger, bought) if bought else None


def keep_root(provider: Provider, original: Path) -> None:
    """The root that a simulator signs with is kept beside what it sold."""
    root = getattr(provider, "root", None)
    if root is not None:
        sweep(original.parent)  # a kill may have left half of one
        with attempt(root_of(original)) as part:
            part.write_bytes(root())


def root_of(original: Path) -> Path:
    """Where that root is."""
    return original.with_suffix(".roots.pem")


def roots(original: Path, folder: Path) -> tuple[Path, ...]:
    """That root, trusted in this project alone."""
    if not root_of(original).exists():
        return ()
    copy_whole(root_of(original), folder / ROOTS)
    return (folder / ROOTS,)


@contextmanager
def as_sent(name: str, original: Path) -> Iterator[None]:
    """Whatever is wrong with the file itself is the provider's fault: ProviderRefused, where it is kept."""
    try:
        yield
    except InputError as error:
        reason = str(error).removeprefix(f"{original}: ")
        raise ProviderRefused(f"{name} sent a file that {reason}; it is kept in {original}", "lost") from None
