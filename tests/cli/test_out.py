"""Tables on terminals of any width, and in pipes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from nodemanager.cli.out import Column, Out, table_lines

UUID = "zzzzz-dz642-0123456789abcde"
COLUMNS = (Column("UUID"), Column("COUNT", right=True), Column("WHY"))


def written(width: int | None = None, *, rows: list[tuple[str | Text, ...]]) -> list[str]:
    file = io.StringIO()
    Out(file=file, width=width).table(COLUMNS, rows)
    return file.getvalue().splitlines()


def test_in_a_pipe_a_row_is_a_line() -> None:
    rows: list[tuple[str | Text, ...]] = [(UUID, "1", "word " * 100), (UUID, "12", "one\ntwo")]
    heading, first, second = written(rows=rows)
    assert heading == "UUID" + " " * 23 + "  COUNT  WHY"
    assert first == f"{UUID}      1  {'word ' * 100}".rstrip()
    assert second == f"{UUID}     12  one; two"


def test_on_a_terminal_sentences_are_broken_below_their_column() -> None:
    lines = written(
        60, rows=[(UUID, "1", "alpha beta gamma delta epsilon zeta eta theta\n-> iota")]
    )
    assert lines[1:] == [
        f"{UUID}      1  alpha beta gamma delta",
        " " * 36 + "epsilon zeta eta theta",
        " " * 36 + "-> iota",
    ]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
def test_no_uuid_is_ever_cut(width: int) -> None:
    lines = written(width, rows=[(UUID, "1", f"because of {UUID}, which is there")])
    assert "\n".join(lines).count(UUID) == 2


def test_no_rows_no_table() -> None:
    assert written(rows=[]) == []


def test_control_characters_of_strangers_reach_no_terminal() -> None:
    text = "\n".join(written(rows=[("\x1b[31m", "1", "name\x07\r\nx\x9b2J")]))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "?[31m" in text


@given(
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=5), st.text(max_size=200))),
    st.one_of(st.none(), st.integers(1, 120)),
)
def test_every_word_is_in_the_table(rows: list[tuple[str, str, str]], width: int | None) -> None:
    lines = [line.plain for line in table_lines(COLUMNS, rows, width)]
    shown = "".join("".join(lines).split())
    if width is None:
        assert len(lines) == (len(rows) + 1 if rows else 0)
    for row in rows:
        for word in row[2].split():
            if word.isprintable() and len(word) <= 20:
                assert word in shown


def test_a_log_can_do_nothing_to_a_terminal() -> None:
    file = io.StringIO()
    Out(file=file, width=80).raw(b"red \x1b[31m\ttab\nbell\x07 \xff\n")
    assert file.getvalue() == "red ?[31m\ttab\nbell? \ufffd\n"


def test_a_log_in_a_pipe_is_what_was_written() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw)
    out = Out(file=file)
    out.say("before")
    out.raw(b"\x1b\xff\r\n")
    out.flush()
    assert raw.getvalue() == b"before\n\x1b\xff\r\n"
    file.detach()


def test_nobody_at_a_terminal_says_yes() -> None:
    assert not Out(file=io.StringIO()).ask("really?")
