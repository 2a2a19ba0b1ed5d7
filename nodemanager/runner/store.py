"""Where logs and outputs go: a shared directory, or the API server.

Both have one folder per container, ``<uuid>/log`` and ``<uuid>/output``. `keep_output` returns only when
the output is durable there; `StoreError` means that it is not, and that another try may fare better.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nodemanager.durable import sync_path
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.mount_plan import RequestFaultError
from nodemanager.output_tree import Entry
from nodemanager.pieces import PIECE_BYTES, pieces
from nodemanager.runner.api import Patience, RunnerApi, pauses_seconds
from nodemanager.runner.copying import copy_file
from nodemanager.runner.logs import RUNNER_LOG

_UPLOAD_AT_BYTES = 256 * 1024
_UPLOAD_AT_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_TOO_LARGE = 413


class StoreError(Exception):
    """The store could not take or give a file; the infrastructure's fault."""


class _TooLargeError(Exception):
    """The API server takes no file of this size; another try would be no different."""


class Store(Protocol):
    """What the two stores have in common."""

    log_directory: Path
    log_location: str
    output_location: str

    def begin(self) -> None:
        """Make `log_directory`, and watch it if the store has to; raises `StoreError`."""
        ...

    def keep_output(self, directory: Path, entries: Sequence[Entry], *, move: bool) -> None:
        """Store `entries` of `directory`; with `move` it need not be there afterwards."""
        ...

    def finish_logs(self) -> None:
        """Everything in `log_directory` is in the store when this returns."""
        ...

    def input_file(self, container_uuid: str, path: str, into: Path) -> Path:
        """See `nodemanager.runner.mounts.Inputs`."""
        ...


class DirectoryStore:
    """A directory that every node and every reader sees under the same path."""

    def __init__(self, directory: Path, container_uuid: str) -> None:
        self._directory = directory
        self._base = directory / container_uuid
        self.log_directory = self._base / "log"
        self.log_location = str(self.log_directory)
        self.output_location = str(self._base / "output")

    def begin(self) -> None:
        """Make the container's folder. The store itself is never made: it may just not be mounted."""
        if not self._directory.is_dir():
            raise StoreError(f"store {self._directory}: no such directory on this node; mount it")
        try:
            self.log_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store {self._directory}: {error}") from error

    def keep_output(self, directory: Path, entries: Sequence[Entry], *, move: bool) -> None:
        """Rename where it is one file system, copy otherwise; synced before it gets its name."""
        target, partial = self._base / "output", self._base / "output.partial"
        try:
            if move and directory.stat().st_dev == self._base.stat().st_dev:
                for entry in entries:
                    if entry.kind != "link":
                        sync_path(directory / entry.path)
                sync_path(directory)
                directory.rename(target)
            else:
                _copy_tree(directory, entries, partial)
                partial.rename(target)
            sync_path(self._base)
        except OSError as error:
            raise StoreError(f"output could not be stored in {target}: {error}") from error

    def finish_logs(self) -> None:
        """The logs were written in place: make them durable."""
        try:
            for entry in os.scandir(self.log_directory):
                sync_path(Path(entry.path))
            sync_path(self.log_directory)
        except OSError as error:
            raise StoreError(
                f"logs could not be stored in {self.log_directory}: {error}"
            ) from error

    def input_file(self, container_uuid: str, path: str, into: Path) -> Path:  # noqa: ARG002 (it is here already)
        """The file itself, in the store."""
        top = (self._directory / container_uuid / "output").resolve()
        real = (self._directory / container_uuid / path).resolve()
        # `path` begins with output/; a link in there was checked when it was stored.
        if not real.is_relative_to(top) or not real.is_file():
            raise RequestFaultError(f"container {container_uuid} left no file {path} in the store")
        return real


def _copy_tree(directory: Path, entries: Sequence[Entry], target: Path) -> None:
    target.mkdir()
    for entry in entries:
        source, copy = directory / entry.path, target / entry.path
        if entry.kind == "directory":
            copy.mkdir()
        elif entry.kind == "link":
            copy.symlink_to(source.readlink())
        else:
            copy_file(source, copy, durable=True)
    for entry in entries:
        if entry.kind == "directory":
            sync_path(target / entry.path)
    sync_path(target)


@dataclass(slots=True)
class _Tail:
    """How far a growing log file has been uploaded."""

    offset: int = 0
    uploaded_at: float = 0.0


class ApiStore:
    """Uploads to the API server: logs while they grow, the output at the end.

    It has no links and no empty directories: a link to a file is stored as a copy, a link to a
    directory is refused.
    """

    def __init__(
        self,
        api: RunnerApi,
        container_uuid: str,
        log_directory: Path,
        *,
        patience: Patience,
        reading: Patience,
        say: Callable[[str], None],
    ) -> None:
        """`patience` is for writing; `reading`, for other containers' files, takes no 403 for a fence."""
        self._say = say
        self._api = api
        self._patience = patience
        self._reading = reading
        self.log_directory = log_directory
        self.log_location = f"api:{container_uuid}/log"
        self.output_location = f"api:{container_uuid}/output"
        self._tails: dict[str, _Tail] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(api.twin(),), daemon=True)

    def begin(self) -> None:
        """Make the log directory, on the node, and follow it."""
        self.log_directory.mkdir()
        self._thread.start()

    def keep_output(self, directory: Path, entries: Sequence[Entry], *, move: bool) -> None:  # noqa: ARG002 (uploading leaves it there)
        """Upload every file."""
        for entry in entries:
            path = directory / entry.path
            if entry.kind == "directory":
                continue
            if entry.kind == "link" and not path.is_file():
                raise RequestFaultError(
                    f"output {entry.path}: a link that leads to no file cannot be kept in the API store"
                )
            try:
                self._upload_rest(path, f"output/{entry.path}", _Tail())
            except _TooLargeError as error:
                raise RequestFaultError(f"output {entry.path}: too large: {error}") from error
            except OSError as error:
                raise StoreError(f"output {entry.path} could not be read: {error}") from error

    def finish_logs(self) -> None:
        """Upload what the thread has not."""
        if self._thread.is_alive():
            self._done.set()
            self._thread.join()
        try:
            # The runner's own log last, because it says what became of the others.
            for path in sorted(self.log_directory.iterdir(), key=lambda p: p.name == RUNNER_LOG):
                tail = self._tails.setdefault(path.name, _Tail())
                try:
                    self._upload_rest(path, f"log/{path.name}", tail)
                except _TooLargeError as error:
                    self._say(f"log {path.name} is kept up to byte {tail.offset}: {error}")
        except OSError as error:
            raise StoreError(f"logs could not be read: {error}") from error

    def input_file(self, container_uuid: str, path: str, into: Path) -> Path:
        """Download it to `into`."""
        try:
            self._reading(lambda: self._download(container_uuid, path, into))
        except ApiRefused as error:
            raise RequestFaultError(f"container {container_uuid}: file {path}: {error}") from error
        return into

    def _download(self, container_uuid: str, path: str, into: Path) -> None:
        with into.open("wb") as file:
            for piece in self._api.read_file(container_uuid, path):
                file.write(piece)

    def _upload_rest(self, path: Path, name: str, tail: _Tail) -> None:
        """Upload from `tail` on; the file is durable at the server afterwards."""
        with path.open("rb", buffering=0) as file:
            for piece in pieces(file, tail.offset):
                self._write(name, piece.offset, piece.data, complete=piece.is_last)
                tail.offset = piece.offset + len(piece.data)

    def _write(self, name: str, offset: int, piece: bytes, *, complete: bool) -> None:
        try:
            self._patience(lambda: self._api.write_file(name, offset, piece, complete=complete))
        except ApiRefused as error:
            if error.status == _TOO_LARGE:
                raise _TooLargeError(str(error)) from error
            raise StoreError(f"{name} could not be stored: {error}") from error

    def _follow(self, api: RunnerApi) -> None:
        """The thread: upload what grew, every second or every 256 KiB."""
        pauses = pauses_seconds()
        pause = _LOOK_SECONDS
        while not self._done.wait(pause):
            try:
                self._upload_due(api)
            except (ApiUnavailable, ApiRefused, OSError):
                # Kept on the disk; `finish_logs` has the last word, the heartbeat about 401 and 403.
                pause = next(pauses)
            else:
                pauses, pause = pauses_seconds(), _LOOK_SECONDS
        api.close()

    def _upload_due(self, api: RunnerApi) -> None:
        for entry in os.scandir(self.log_directory):
            tail = self._tails.setdefault(entry.name, _Tail())
            grown = entry.stat().st_size - tail.offset
            now = time.monotonic()
            if grown <= 0:
                continue
            if grown < _UPLOAD_AT_BYTES and now - tail.uploaded_at < _UPLOAD_AT_SECONDS:
                continue
            with Path(entry.path).open("rb", buffering=0) as file:
                file.seek(tail.offset)
                while not self._done.is_set() and (piece := file.read(PIECE_BYTES)):
                    api.write_file(f"log/{entry.name}", tail.offset, piece)
                    tail.offset += len(piece)
                    tail.uploaded_at = now
