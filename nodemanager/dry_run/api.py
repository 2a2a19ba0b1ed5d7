"""Where a dry run reads the queue: at the API that serves; else, of an embedded one, in a copy of its database.

An API server that is started does things: it brings its tables up to date, stamps its heartbeat, sweeps. So that of a
daemon that does not run is not started where its state is, but on a copy that is thrown away afterwards.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.config import Config
from nodemanager.errors import ApiError, NodeManagerError

_DATABASE = "database.sqlite"
_COPIED = (_DATABASE, f"{_DATABASE}-wal", "root_token", "dispatcher_token")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with)


@dataclass(frozen=True, slots=True)
class Reached:
    """How the API is read."""

    words: str
    """What it is, for people."""
    endpoint: Endpoint | None
    """None: it has never had anything in it."""


@contextmanager
def reach_api(config: Config) -> Iterator[Reached]:
    """The API to read from, for as long as the context lasts; raises `NodeManagerError` when there is none."""
    if not config.is_embedded:
        endpoint = outer_endpoint(config)
        yield Reached(endpoint.url, endpoint)
        return
    directory = config.daemon.state_dir / "api"
    with _server_kept_away(directory / "lock") as is_served:
        copy = None if is_served or str(config.api.database) else _copy(directory)
    if is_served:
        endpoint = _embedded(config, directory)
        yield Reached(f"{endpoint.url}, of the daemon that runs here", endpoint)
    elif str(config.api.database):
        raise ApiError(
            "the embedded API server does not run, and its database is not a file that could be copied: start the "
            "daemon, and ask again"
        )
    elif copy is None:
        yield Reached("embedded, and never started: its queue is empty", None)
    else:
        with copy as folder, _serving(config, Path(folder)) as endpoint:
            yield Reached("embedded, does not run: read from a copy of its database", endpoint)


@contextmanager
def _serving(config: Config, folder: Path) -> Iterator[Endpoint]:
    server = EmbeddedServer(config.path, folder, "--aside")
    try:
        started = server.start()
        yield Endpoint(started.url, started.dispatcher_token, started.ca_file)
    finally:
        server.stop()


@contextmanager
def _server_kept_away(lock: Path) -> Iterator[bool]:
    """Whether a server uses the directory; if none does, none begins to meanwhile (it waits some seconds)."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise NodeManagerError(_unreadable(lock, error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield True
        else:
            yield False
    finally:
        os.close(descriptor)


def _copy(directory: Path) -> tempfile.TemporaryDirectory[str] | None:
    """A state directory with a copy of the database; None when there is no database yet."""
    if not (directory / _DATABASE).exists():
        return None
    folder = tempfile.TemporaryDirectory(prefix="arvados-node-manager-dry-run-")
    try:
        copy = Path(folder.name) / "api"
        copy.mkdir(mode=0o700)
        for name in _COPIED:
            if (directory / name).exists():
                shutil.copyfile(directory / name, copy / name)
                (copy / name).chmod(0o600)
    except OSError as error:
        folder.cleanup()
        raise NodeManagerError(
            f"{directory} cannot be copied to {folder.name}: {error.strerror}; run this as the user that the daemon "
            "runs as, with TMPDIR set to where there is room"
        ) from error
    return folder


def _embedded(config: Config, directory: Path) -> Endpoint:
    """That of the daemon, which leaves port, certificate and token in the state directory."""
    try:
        port = config.api.port or int((directory / "port").read_text("ascii"))
        token = (directory / "dispatcher_token").read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise NodeManagerError(_unreadable(directory, error)) from error
    address = _WILDCARDS.get(config.api.address, config.api.address)
    host = f"[{address}]" if ":" in address else address
    authorities = config.api.certificate or directory / "certificate.pem"
    return Endpoint(f"https://{host}:{port}", token, authorities)


def _unreadable(path: Path, error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else str(error)
    return f"{path} cannot be read: {words}; run this as the user that the daemon runs as"
