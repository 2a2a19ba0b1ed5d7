"""Files in pieces."""

import io

from hypothesis import given
from hypothesis import strategies as st

from nodemanager import pieces as module
from nodemanager.pieces import pieces


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(1, 9))
def test_pieces_make_up_the_rest_of_the_file_and_one_is_the_last(
    content: bytes, offset: int, size: int
) -> None:
    before, module.PIECE_BYTES = module.PIECE_BYTES, size
    try:
        found = list(pieces(io.BytesIO(content), offset))
    finally:
        module.PIECE_BYTES = before
    assert b"".join(piece.data for piece in found) == content[offset:]
    assert [piece.is_last for piece in found] == [False] * (len(found) - 1) + [True]
    starts = [offset + sum(len(p.data) for p in found[:n]) for n in range(len(found))]
    assert [piece.offset for piece in found] == starts
