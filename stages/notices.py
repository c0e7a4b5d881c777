"""Whom to tell that something is finished, as the author of a recipe wrote it; `telling.py` tells them."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field

from stages.errors import InputError

SECRET = "AFTERFRAME_NOTIFY_SECRET"
"""The variable with the key that messages are signed with; several, parted by spaces, while one takes over from
another."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Whom to tell that a batch is over, and whether of each of its renders too. The URL may hold a secret."""

    url: str = field(repr=False)
    each: bool = False

    @classmethod
    def parse(cls, url: str, each: bool = False) -> Notify:
        """As the author wrote it. Raises InputError if it is no address, or has a password in it."""
        wanted = "should be a URL such as https://example.com/hook"
        try:
            parts = urllib.parse.urlsplit(url)
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            raise InputError(wanted) from None
        if not fine:
            raise InputError(wanted)
        if "@" in parts.netloc:
            raise InputError(f"should be without a password: what is sent is signed with {SECRET}")
        return cls(url, each)

    @property
    def host(self) -> str:
        """What of the address may be shown."""
        return host_of(self.url)


def host_of(url: str) -> str:
    """The host and port of an address, without its path."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
