"""What containers wrote: their logs, in a store directory that is here, or at the API.

A container has a few log files, `stdout.txt`, `stderr.txt` and the runner's own words in `runner.txt`, which
grow while it runs. For `logs`, and for the page of one container.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from nodemanager.api.endpoint import Endpoint
from nodemanager.api.raw import RawCall, RawConnection
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import UUID_INFIX

FOLDER = "log"
LAST = ("runner.txt", "stdout.txt", "stderr.txt")
"""These come after all others, in this order: what went wrong is most often in the last."""

_UUID = re.compile(rf"[a-z0-9]{{5}}-{UUID_INFIX['container']}-[a-z0-9]{{15}}")
_NOT_YOURS = 403
_NO_SUCH_FILE = 404
_BEYOND_THE_END = 416


class ContainerLogs:
    """Reads logs as the token of `endpoint`; of a `store` that is here, as this process.

    One connection, for one thread. Every method raises `ApiRefused` (404: no such container, or none that this
    token may see; 403) and `ApiUnavailable`.
    """

    def __init__(self, endpoint: Endpoint, store: Path | None) -> None:
        """`store` is the directory of `[Runner] store`; None when logs are uploaded to the API."""
        self._api = _AtTheApi(RawConnection(endpoint))
        self._store = store

    def names(self, uuid: str) -> list[str]:
        """Its log files; empty when it has none (yet)."""
        return list(self.sizes(uuid))

    def sizes(self, uuid: str) -> dict[str, int]:
        """Its log files, and how many bytes each has now."""
        found = self._place(uuid).sizes(uuid)
        others = sorted(found.keys() - set(LAST))
        return {name: found[name] for name in (*others, *LAST) if name in found}

    def read(self, uuid: str, name: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of one log from `offset` on; empty at its end."""
        if limit <= 0:
            return b""
        return self._place(uuid).read(uuid, _checked(name), offset, limit)

    def tail(self, uuid: str, limit_bytes: int) -> bytes:
        """The ends of all its logs that are not empty, each below a line with its name; whole lines.

        `limit_bytes` bounds what is read of all together.
        """
        sizes = {name: size for name, size in self.sizes(uuid).items() if size}
        shares = _shares(sizes, limit_bytes)
        parts = []
        for name, size in sizes.items():
            start = max(0, size - shares[name])
            text = self.read(uuid, name, start, shares[name])
            if start:
                # What begins in the middle of a line is no use, unless it is all there is.
                text = text[text.find(b"\n") + 1 :] or text
            parts.append(b"==> %s <==\n%s" % (name.encode(), text))
        return b"\n".join(part if part.endswith(b"\n") else part + b"\n" for part in parts)

    def close(self) -> None:
        """Let go of the connection."""
        self._api.close()

    def _place(self, uuid: str) -> _Place:
        """Where this container's logs are: one of another dispatcher may be kept elsewhere."""
        if not _UUID.fullmatch(uuid):
            raise ApiRefused(f"{uuid}: is no UUID of a container", 404)
        if self._store is not None and (self._store / uuid).exists():
            return _InTheStore(self._store)
        return self._api


class _Place(Protocol):
    """What both places have in common."""

    def sizes(self, uuid: str) -> dict[str, int]: ...

    def read(self, uuid: str, name: str, offset: int, limit: int) -> bytes: ...


class _InTheStore:
    """A directory that nodes share with this machine."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def sizes(self, uuid: str) -> dict[str, int]:
        folder = self._store / uuid / FOLDER
        found = {}
        with _disk_errors(folder), suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                # A command can put a link here; where it leads is nobody's log.
                if entry.is_file(follow_symlinks=False):
                    found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return found

    def read(self, uuid: str, name: str, offset: int, limit: int) -> bytes:
        path = self._store / uuid / FOLDER / name
        # Not even a moment after it was looked at shall a link lead anywhere.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with _disk_errors(path):
            if not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
                raise _no_such_log(uuid, name)
            descriptor = os.open(path, flags)
            try:
                return b"".join(_pieces(descriptor, offset, limit))
            finally:
                os.close(descriptor)


class _AtTheApi:
    """The files that runners upload."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection

    def sizes(self, uuid: str) -> dict[str, int]:
        answer = self._connection.make(RawCall("GET", _place_of(uuid)))
        found = {}
        for item in json.loads(answer.body)["items"]:
            folder, _, name = item["path"].partition("/")
            if folder == FOLDER and "/" not in name:
                found[name] = int(item["size"])
        return found

    def read(self, uuid: str, name: str, offset: int, limit: int) -> bytes:
        place = f"{_place_of(uuid)}/{FOLDER}/{quote(name)}"
        headers = {"Range": f"bytes={offset}-{offset + limit - 1}"}
        try:
            answer = self._connection.make(RawCall("GET", place, headers), _BEYOND_THE_END)
        except ApiRefused as error:
            if error.status == _NO_SUCH_FILE:
                raise _no_such_log(uuid, name) from error
            raise
        return b"" if answer.status == _BEYOND_THE_END else answer.body

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """What this process may not read is refused; what cannot be read now may be later."""
    try:
        yield
    except PermissionError as error:
        raise ApiRefused(f"{path}: only its owner may read it", _NOT_YOURS) from error
    except OSError as error:
        raise ApiUnavailable(f"{path}: {error.strerror}") from error


def _place_of(uuid: str) -> str:
    return f"/arvados/v1/containers/{uuid}/files"


def _checked(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ApiRefused(f"{name!r}: is no name of a log", _NO_SUCH_FILE)
    return name


def _no_such_log(uuid: str, name: str) -> ApiRefused:
    return ApiRefused(f"{uuid}: has no log {name}", _NO_SUCH_FILE)


def _pieces(descriptor: int, offset: int, limit: int) -> Iterator[bytes]:
    while limit and (piece := os.pread(descriptor, limit, offset)):
        yield piece
        offset, limit = offset + len(piece), limit - len(piece)


def _shares(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """How many bytes to read of each: the small ones whole, the large ones alike."""
    shares = {}
    left = limit
    for count, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        shares[name] = min(sizes[name], left // (len(sizes) - count))
        left -= shares[name]
    return shares
