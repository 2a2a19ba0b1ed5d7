"""A file in pieces, for stores that take so much at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a file."""

    offset: int
    data: bytes
    is_last: bool
    """Nothing follows: the file ended here when it was read."""


def pieces(file: IO[bytes], offset: int = 0) -> Iterator[Piece]:
    """The file from `offset` on; of an empty rest one empty piece, so that there always is a last one.

    Raises `OSError`.
    """
    file.seek(offset)
    data = file.read(PIECE_BYTES)
    while True:
        following = file.read(PIECE_BYTES) if data else b""
        yield Piece(offset, data, not following)
        if not following:
            return
        offset += len(data)
        data = following
