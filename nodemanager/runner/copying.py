"""Copying files: in the kernel where it can (a clone on file systems that have it), and durably."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_PIECE_BYTES = 8 * 1024 * 1024
_NOT_HERE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_file(source: Path, target: Path, *, durable: bool = False) -> None:
    """Copy a regular file to `target`, which must not exist; `durable` waits until it is on disk."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    reading = os.open(source, flags)
    try:
        mode = stat.S_IMODE(os.fstat(reading).st_mode) & 0o777
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy(reading, writing)
            os.fchmod(writing, mode)
            if durable:
                os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy(reading: int, writing: int) -> None:
    try:
        while os.copy_file_range(reading, writing, _PIECE_BYTES):
            pass
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    # Both offsets stand where the kernel stopped; some file systems also answer 0 too early.
    while piece := os.read(reading, _PIECE_BYTES):
        view = memoryview(piece)
        while view:
            view = view[os.write(writing, view) :]
