"""One account at a provider: what all protocols have in common, whatever they say."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.errors import ProviderRefused
from stages.http import Answer, Service, fetch
from stages.providers import FILMS, Work


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a server that films. A protocol says where it is usually found, and how its key is shown.

    `base_url` includes the version; not given, it is the first of `url_variables`
    in the environment, or `usual_url`. `key_variable` names the environment
    variable of the key. `account` tells accounts apart in the ledger and
    defaults to the server's host. Films may also come from `file_hosts`;
    `headers` go with every request. Times are as in `Provider`.
    """

    url_variables: ClassVar[tuple[str, ...]] = ()
    usual_url: ClassVar[str] = ""
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "

    base_url: str = ""
    key_variable: str = ""
    name: str = ""
    account: str = ""
    idempotent: bool = False
    can_list: bool = False
    settle: float = 180.0
    poll: float = 5.0
    typical: float = 60.0
    send_within: float = 45.0
    patience: float = 60.0
    file_hosts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.address())
        object.__setattr__(self, "account", self.account or urllib.parse.urlsplit(self.base_url).netloc)

    def address(self) -> str:
        """The base URL: as given, or of the environment, or the usual one."""
        named = (os.environ.get(variable) for variable in self.url_variables)
        return self.base_url or next(filter(None, named), self.usual_url)

    @property
    def works(self) -> frozenset[Work]:
        """The kinds of work that can be asked for."""
        return FILMS

    @property
    def service(self) -> Service:
        """The server, for stages/http.py."""
        return Service(
            self.name,
            self.base_url,
            self.key_variable,
            self.send_within,
            self.patience,
            self.key_header,
            self.key_prefix,
            self.headers,
            self.file_hosts,
        )

    def take(self, address: Callable[[], str], target: Path) -> None:
        """Write the film at the address that `address()` asks for to `target`; once more if that has expired.

        Storage says 403 to a signed address that is too old, and means 410.
        """
        for last in (False, True):
            url = address()
            try:
                fetch(self.service, url, target)
                return
            except ProviderRefused as error:
                if error.failure not in ("expired", "unauthorized") and error.code != "400":
                    raise
                if last:
                    sentence = f"{self.name} no longer hands out the film"
                    raise ProviderRefused(sentence, "expired", error.code or "403", error.text) from None


def known(service: Service, job_id: str, answer: Answer) -> Answer:
    """`answer`, unless it says that there is no such job: then there is no film, or no longer."""
    if answer.status in (404, 410):
        raise ProviderRefused(f"{service.name} does not know job {job_id}", "expired", str(answer.status))
    return answer
