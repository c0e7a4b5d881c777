"""Telling somebody's server that something is finished: a POST with a signed body, as Standard Webhooks has it.

A message may come more than once, and then with the same `webhook-id`: by that
the receiver knows it again. Redirects are not followed, so nobody is told whom
the author did not name.
"""

from __future__ import annotations

import base64
import os

from stages.errors import InputError, ProviderRefused, ProviderUnavailable
from stages.http import Service, ask
from stages.notices import SECRET, host_of
from stages.webhooks import signatures

LEAST = 24
"""Bytes of a key, as Standard Webhooks asks for."""

WITHIN = 15.0
"""Seconds that a receiver may take; Standard Webhooks advises 15 to 30."""


def secrets() -> list[bytes]:
    """The keys to sign with. Raises InputError if there is none, or one that is none."""
    said = os.environ.get(SECRET, "").split()
    if not said:
        raise InputError(f"set {SECRET}, which messages are signed with: whsec_ and `openssl rand -base64 32`")
    found: list[bytes] = []
    for each in said:
        try:
            key = base64.b64decode(each.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if len(key) < LEAST:
            raise InputError(f"{SECRET} should be whsec_ and at least {LEAST} bytes in base64")
        found.append(key)
    return found


def send(url: str, id: str, body: str) -> None:
    """Send a message, once.

    Raises InputError if it cannot be signed, ProviderRefused if the receiver
    wants no more (410), and ProviderUnavailable if it may be sent again.
    """
    headers = {"Content-Type": "application/json", **signatures(secrets(), id, body)}
    receiver = Service(host_of(url), url, send_within=WITHIN, patience=WITHIN)
    status = ask(receiver, "POST", url, content=body.encode(), headers=headers).status
    if status == 410:
        raise ProviderRefused(f"{receiver.name} wants no more messages (HTTP 410)", "invalid_request", "410")
    if not 200 <= status < 300:
        raise ProviderUnavailable(f"{receiver.name}: HTTP {status}", "transient", str(status))
