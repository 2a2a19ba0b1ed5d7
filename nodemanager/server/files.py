"""What runners upload when `[Runner] store` is ``api``: logs and outputs, one folder per container.

Bodies are streamed between socket and disk. A file is written by repeatable pieces: each says at which
offset it belongs, and the same piece again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from nodemanager.durable import sync_directory
from nodemanager.server.answers import json_response
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.limits import pieces_of
from nodemanager.server.resources import Row
from nodemanager.server.service import Caller, Service

log = logging.getLogger(__name__)

_LONGEST_PATH = 3000
_LONGEST_NAME = 255
_MOST_PARTS = 100
_WRITE_BYTES = 1 << 20
_READ_BYTES = 256 * 1024
_LARGEST_OFFSET = 1 << 50
_WRITABLE_STATES = ("Locked", "Running")
_Result = TypeVar("_Result")


class Files:
    """The raw routes ``containers/{uuid}/files`` and ``containers/{uuid}/files/{path}``.

    `max_bytes` bounds one file; 0 means no limit. An upload may pause for `patience` seconds.
    """

    def __init__(self, service: Service, directory: Path, max_bytes: int, patience: float) -> None:
        self._service = service
        self._directory = directory
        self._max_bytes = max_bytes
        self._patience = patience

    async def answer(self, request: Request, caller: Caller, uuid: str, path: str) -> Response:
        """Serve one request; `path` is empty for the list. Raises `ServerError`."""
        method = request.method
        if method in ("GET", "HEAD"):
            folder = await _in_thread(lambda: self._readable(caller, uuid))
            if not path:
                return json_response({"items": await _in_thread(lambda: _listed(folder))})
            return await self._sent(request, folder / checked_path(path))
        if method == "PUT" and path:
            relative = checked_path(path)
            folder = await _in_thread(lambda: self._writable(caller, uuid))
            return await self._received(request, folder, relative)
        raise not_found()

    async def remove(self, containers: Sequence[str]) -> None:
        """Remove the files of containers that are no more; what cannot be removed is left, and logged."""

        def work() -> None:
            for uuid in containers:
                _remove(self._directory / uuid)

        await _in_thread(work)

    def _readable(self, caller: Caller, uuid: str) -> Path:
        """The container's folder, for who may read it: see `access.reads_files`."""
        if not self._service.reads_files(caller, uuid):
            raise not_found()
        return self._directory / uuid

    def _writable(self, caller: Caller, uuid: str) -> Path:
        """The container's folder, for its own runner and its dispatcher while it is not final."""
        record = self._record(uuid)
        own = caller.kind == "container" and caller.container_uuid == uuid
        # A dispatcher brings the logs of commands that have no runner.
        its = caller.dispatcher_uuid is not None and record["dispatcher"] == caller.dispatcher_uuid
        if not own and not its and caller.kind != "root":
            raise forbidden(f"only the token of {uuid} and its dispatcher may write its files")
        if record["state"] not in _WRITABLE_STATES:
            raise invalid(f"files cannot be modified in state {record['state']}")
        return self._directory / uuid

    def _record(self, uuid: str) -> Row:
        return self._service.look_up("containers", uuid)

    async def _received(self, request: Request, folder: Path, relative: Path) -> Response:
        offset = _offset(request.query_params.get("offset", "0"))
        complete = request.query_params.get("complete") in ("1", "true")
        target = folder / relative
        with _disk_errors(str(relative)):
            descriptor = await _in_thread(lambda: _open(target))
            try:
                size = os.fstat(descriptor).st_size
                if offset > size:
                    raise invalid(f"offset: {offset} is beyond the end of {relative}, size {size}")
                await self._write(request, descriptor, offset)
                if complete:
                    await _in_thread(lambda: _make_durable(descriptor, target, self._directory))
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        return json_response({"size": size})

    async def _write(self, request: Request, descriptor: int, offset: int) -> None:
        """Write the body as it comes, in pieces large enough to be worth a thread's while."""
        pending = bytearray()
        async for chunk in pieces_of(request, self._patience):
            pending += chunk
            if self._max_bytes and offset + len(pending) > self._max_bytes:
                raise ServerError(413, [f"file larger than {self._max_bytes} bytes"])
            if len(pending) >= _WRITE_BYTES:
                piece, pending = pending, bytearray()
                await _in_thread(partial(_write_all, descriptor, piece, offset))
                offset += len(piece)
        if pending:
            await _in_thread(partial(_write_all, descriptor, pending, offset))

    async def _sent(self, request: Request, path: Path) -> Response:
        try:
            found = await _in_thread(lambda: os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            raise not_found() from None
        if not stat.S_ISREG(found.st_mode):
            raise not_found()
        if "range" in request.headers:
            # Never a type that a browser would execute: the bytes are whatever a command wrote.
            return FileResponse(path, media_type="application/octet-stream", stat_result=found)
        # The file may be growing; what is sent is what it had when it was asked for.
        headers = {"content-length": str(found.st_size), "accept-ranges": "bytes"}
        body = _pieces(path, 0 if request.method == "HEAD" else found.st_size)
        return StreamingResponse(body, headers=headers, media_type="application/octet-stream")


def checked_path(path: str) -> Path:
    """`path` as a relative path that stays below its folder; `ServerError` 422 for any other."""
    parts = path.split("/")
    if "\0" in path or len(path.encode("utf-8", "surrogatepass")) > _LONGEST_PATH:
        raise invalid("path: contains a NUL character, or is too long")
    if len(parts) > _MOST_PARTS:
        raise invalid(f"path: more than {_MOST_PARTS} parts")
    for part in parts:
        if part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            raise invalid(
                "path: must be relative, without empty, '.' or '..' parts, each at most "
                f"{_LONGEST_NAME} bytes"
            )
    return Path(*parts)


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > _LARGEST_OFFSET:
        raise invalid("offset: must be a number of bytes, 0 or more")
    return int(text)


def _open(target: Path) -> int:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(target, flags, 0o600)


def _write_all(descriptor: int, data: bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _make_durable(descriptor: int, target: Path, top: Path) -> None:
    """The bytes, and every name that leads to them."""
    os.fsync(descriptor)
    folder = target.parent
    while True:
        sync_directory(folder)
        if folder == top:
            return
        folder = folder.parent


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s is left over: %s", folder, error, extra={"action": "files_left"})


def _listed(folder: Path) -> list[dict[str, Any]]:
    return sorted(_walk(folder, ""), key=lambda item: str(item["path"]))


def _walk(folder: Path, prefix: str) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                yield {"path": prefix + entry.name, "size": size}


async def _pieces(path: Path, size: int) -> AsyncIterator[bytes]:
    if not size:
        return
    file = await _in_thread(lambda: path.open("rb"))
    try:
        while size:
            piece = await _in_thread(partial(file.read, min(size, _READ_BYTES)))
            if not piece:
                # Nothing of ours shortens a file; ending early tells the client that it is not whole.
                return
            size -= len(piece)
            yield piece
    finally:
        file.close()


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    """A name that cannot be is the caller's fault; a disk that cannot is ours, and may pass."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise invalid(f"path: {path}: {error.strerror}") from error
    except OSError as error:
        raise ServerError(503, [f"file store: {path}: {error.strerror}"]) from error
