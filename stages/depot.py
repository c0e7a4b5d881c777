"""The store that machines share: a bucket, or a folder that all can write, behind one small seam (the only obstore).

    AFTERFRAME_STORE=s3://bucket/project     or gs://bucket/project, az://account/container/project, /mnt/project

    objects/ab/ab12…    a file, by its SHA-256: put once, whole, and checked whenever it is read
    any other name      a small text

Nothing is ever seen half: a small object is put by one request that fails if
the name is taken, a large one in parts that become an object at the end. Who
may do what is found where the clouds' own programs look in the environment
(AWS_ACCESS_KEY_ID or the machine's role, GOOGLE_APPLICATION_CREDENTIALS,
AZURE_STORAGE_ACCOUNT_KEY, …), and AWS_ENDPOINT_URL names a server of one's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import InputError, WriteError
from stages.files import attempt

if TYPE_CHECKING:
    from obstore.store import ObjectStore

VARIABLE = "AFTERFRAME_STORE"

PART = 8 * 1024**2
"""Bytes of a part; what is larger goes in several, at most 10,000 of them on S3: 84 GB."""

PATIENCE = 30.0
"""Seconds for which a request that fails is tried again, as a database is waited for."""

SCHEMES = ("s3", "gs", "az")
"""How the address of a bucket begins."""


class Missing(Exception):
    """There is no such object."""


class Corrupt(Exception):
    """An object is not what its name says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its name, bytes, and when it was put, in seconds since 1970."""

    name: str
    size: int
    when: float


@dataclass(frozen=True, slots=True)
class Text:
    """A small object, and the tag that changes when it does."""

    text: str
    tag: str
    when: float


def object_name(digest: str) -> str:
    """Where the file with that SHA-256 lies."""
    return f"objects/{digest[:2]}/{digest}"


@dataclass(frozen=True, slots=True)
class Depot:
    """One store at `url`. Every method raises WriteError if it cannot be reached, and InputError if this machine may
    not use it."""

    url: str
    bucket: ObjectStore = field(repr=False)
    folder: Path | None = None

    # ------------------------------------------------------------ files

    def uri(self, digest: str) -> str:
        """Where a file is, in full."""
        return f"{self.url.rstrip('/')}/{object_name(digest)}"

    def holds(self, digest: str) -> bool:
        """Whether a file is there."""
        return self.find(object_name(digest)) is not None

    def keep(self, file: Path, digest: str) -> bool:
        """Put a file, unless it is there. Raises InputError if it is not, or no longer, the one with that SHA-256."""
        if self.holds(digest):
            return False
        self.put(file, object_name(digest), digest, anew=False)
        return True

    def fetch(self, digest: str, target: Path) -> None:
        """Write a file to `target`, whole and checked. Raises Missing, and Corrupt if it is another one."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        hashed = hashlib.sha256()
        with attempt(target) as part, self._translated(), part.open("wb") as out:
            for chunk in obstore.get(self.bucket, object_name(digest)).stream(min_chunk_size=PART):
                hashed.update(chunk)
                out.write(chunk)
            if hashed.hexdigest() != digest:
                raise Corrupt(f"{self.uri(digest)} is damaged: it holds {hashed.hexdigest()}")

    def put(self, file: Path, name: str, digest: str, *, anew: bool = True, kind: str = "") -> None:
        """Put a file under any name; with its media type `kind`, where it is delivered, it also says its SHA-256.

        `anew` puts it in place of what has that name. Raises InputError if the file is not the one with that SHA-256.
        """
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        attributes: Any = {"Content-Type": kind, TOLD: digest} if kind else None
        small = file.stat().st_size <= PART
        body = b"".join(_checked(file, digest)) if small else _checked(file, digest)
        how: dict[str, Any] = {"use_multipart": False, "mode": "overwrite" if anew else "create"} if small else {}
        with self._translated(f"it cannot take {name}"):
            try:
                obstore.put(self.bucket, name, body, attributes=attributes, chunk_size=PART, max_concurrency=4, **how)
            except obstore.exceptions.AlreadyExistsError:
                return  # another was faster

    def told(self, name: str) -> str | None:
        """The SHA-256 that a delivered object says it has, empty if it says none; None if there is no such object."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        with contextlib.suppress(Missing), self._translated():
            said = obstore.get(self.bucket, name, options={"head": True}).attributes
            return str(said.get(TOLD, ""))
        return None

    # ------------------------------------------------------------ texts

    def write(self, name: str, text: str, *, anew: bool = False) -> bool:
        """Put a small text; False if there was one already, which stays as it is unless it is put `anew`."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        with self._translated(f"it cannot take {name}"):
            try:
                obstore.put(
                    self.bucket, name, text.encode(), mode="overwrite" if anew else "create", use_multipart=False
                )
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def read(self, name: str, unless: str = "") -> Text | None:
        """A small text; None if it still has the tag `unless`. Raises Missing."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        with self._translated():
            try:
                found = obstore.get(self.bucket, name, options={"if_none_match": unless} if unless else None)
            except obstore.exceptions.NotModifiedError:
                return None
            meta = found.meta
            return Text(bytes(found.bytes()).decode(), meta["e_tag"] or "", meta["last_modified"].timestamp())

    # ------------------------------------------------------------ all of them

    def find(self, name: str) -> Entry | None:
        """An object, if it is there."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        with contextlib.suppress(Missing), self._translated():
            return _entry(obstore.head(self.bucket, name))
        return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """What lies under `prefix`."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        with self._translated(), contextlib.suppress(FileNotFoundError):
            for chunk in obstore.list(self.bucket, prefix or None, chunk_size=1000):
                yield from map(_entry, chunk)

    def remove(self, names: Iterable[str]) -> None:
        """Take objects away; one that is not there does not matter."""
        import obstore  # noqa: PLC0415 -- heavy, and an extra

        wanted = list(names)
        for start in range(0, len(wanted), 1000):
            some = wanted[start : start + 1000]
            try:
                with self._translated():
                    obstore.delete(self.bucket, some)
            except Missing:  # then a folder stops at the first
                for name in some:
                    with contextlib.suppress(Missing), self._translated():
                        obstore.delete(self.bucket, name)

    def sweep(self, before: float) -> None:
        """Clear away what killed processes left half-put in a folder before then, in seconds since 1970. In a bucket
        nobody can see it; there a lifecycle rule ends unfinished uploads."""
        for file in self.folder.rglob("*#*") if self.folder else ():
            with contextlib.suppress(OSError):
                if re.search(r"#\d+$", file.name) and file.stat().st_mtime < before:
                    file.unlink()

    @contextlib.contextmanager
    def _translated(self, putting: str = "") -> Iterator[None]:
        """obstore's errors as ours; while `putting`, what is not there is the bucket."""
        from obstore.exceptions import (  # noqa: PLC0415 -- heavy, and an extra
            BaseError,
            PermissionDeniedError,
            UnauthenticatedError,
        )

        try:
            yield
        except FileNotFoundError as error:
            if putting:
                raise InputError(f"{self.url}: {putting}: there is no such bucket or folder") from None
            raise Missing(str(error).partition("\n")[0]) from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise InputError(f"{self.url}: this machine may not use it: {_said(error)}") from None
        except BaseError as error:
            raise WriteError(f"the store {self.url} cannot be used now: {_said(error)}") from None


TOLD = "sha256"
"""The name under which a delivered object says what it is."""


def _checked(file: Path, digest: str) -> Iterator[bytes]:
    """The file in parts. It ends in an error, and so the upload in nothing, if the file is another one."""
    hashed = hashlib.sha256()
    with file.open("rb") as read:
        while chunk := read.read(PART):
            hashed.update(chunk)
            yield chunk
    if hashed.hexdigest() != digest:
        raise InputError(f"{file.name}: was changed while it was put into the store; run it again")


def _entry(meta: Any) -> Entry:
    return Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _said(error: Exception) -> str:
    """Its first line, without the many in which obstore shows its own insides."""
    first = str(error).partition("\n")[0]
    return re.sub(r"^Generic \w+ error: ", "", first).strip()[:300]


# ---------------------------------------------------------------- which one


def shared_depot() -> Depot | None:
    """The store that AFTERFRAME_STORE names; None if it names none. Raises InputError for what is no address."""
    named = os.environ.get(VARIABLE, "")
    return depot_at(named) if named else None


@cache
def depot_at(url: str) -> Depot:
    """The store at `url`: a bucket or a folder. Raises InputError."""
    scheme, colon, _ = url.partition("://")
    if colon and scheme not in (*SCHEMES, "memory"):
        raise InputError(f"{url}: should be {', '.join(f'{each}://…' for each in SCHEMES)} or a folder")
    try:
        import obstore.store  # noqa: PLC0415 -- heavy, and an extra
    except ImportError:
        raise InputError(
            f"{url}: a shared store needs the extra `cluster`: pip install 'afterframe[cluster]'"
        ) from None
    try:
        if scheme == "memory":
            return Depot(url, obstore.store.MemoryStore())
        if not colon:
            folder = Path(url).expanduser().absolute()
            return Depot(url, obstore.store.LocalStore(folder, mkdir=True), folder)
        plain = any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)
        bucket = obstore.store.from_url(
            url,
            client_options={"timeout": "120s", "connect_timeout": "5s", "allow_http": plain},
            retry_config={"max_retries": 8, "retry_timeout": timedelta(seconds=PATIENCE)},
        )
    except (obstore.exceptions.BaseError, ValueError, OSError) as error:
        raise InputError(f"{url}: is no store that can be opened: {_said(error)}") from None
    return Depot(url, bucket)


ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
"""What names a server of one's own, which may have no certificate."""


def keep_all(depot: Depot, files: Sequence[tuple[Path, str]]) -> None:
    """Put many files, each with its SHA-256, several at a time."""
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda one: depot.keep(*one), files):
            pass
