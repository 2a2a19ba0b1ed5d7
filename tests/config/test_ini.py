"""The text of an INI file: configparser's rules, with line numbers and every flaw."""

from __future__ import annotations

import configparser

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config import ini

NAMES = st.sampled_from(["a", "b", "A", "long_name", "dotted.name", "with-dash"])
VALUES = st.sampled_from(["", "x", "x y", "a=b", "c:d", "#no", "e#f", "1, 2", "[x]", "100%"])
COMMENTS = st.sampled_from(["", " # said", "\t; said", "   #"])
LINES = st.one_of(
    st.sampled_from(["", "[One]", "[Two]", "[Three four]", "[One] # said", "  [Two]"]),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", " ", "  "]),
        NAMES,
        st.sampled_from(["=", " = ", ": ", ":"]),
        VALUES,
        COMMENTS,
    ),
    # Not "#no": after a comment inside a value configparser, as set up here, ends the value.
    st.builds("    {}{}".format, VALUES.filter(lambda text: text[:1] not in ("", "#")), COMMENTS),
)


@given(st.lists(LINES, max_size=12))
def test_what_we_accept_configparser_reads_alike(lines: list[str]) -> None:
    text = "\n".join(lines)
    document = ini.parse(text)
    if document.flaws:
        return
    oracle = configparser.RawConfigParser(
        inline_comment_prefixes=("#", ";"), empty_lines_in_values=False, default_section="none"
    )
    oracle.read_string(text)
    expected = {
        (name, key): oracle[name][key].strip() for name in oracle.sections() for key in oracle[name]
    }
    assert {(e.section, e.option): e.value for e in document.entries} == expected
    assert [h.section for h in document.headers] == oracle.sections()


@given(st.text() | st.text("[]=:#; \t\r\nab"))
def test_no_text_breaks_the_reader(text: str) -> None:
    document = ini.parse(text)
    count = len(text) + 1
    assert all(1 <= flaw.line <= count for flaw in document.flaws)
    assert all(1 <= entry.line <= count for entry in document.entries)


def test_entries_know_their_lines() -> None:
    document = ini.parse("; top\n[A]\n\nx = 1\nY: 2 # two\nz = a\n   b\n# c\n   d\n\n[B b]\r\nx=")
    assert document.flaws == ()
    assert document.headers == (ini.Header("A", 2), ini.Header("B b", 11))
    assert document.entries == (
        ini.Entry("A", "x", "1", 4),
        ini.Entry("A", "y", "2", 5),
        ini.Entry("A", "z", "a\nb\nd", 6),
        ini.Entry("B b", "x", "", 12),
    )


def flaws(text: str) -> list[tuple[int, str]]:
    return [(flaw.line, flaw.sentence) for flaw in ini.parse(text).flaws]


def test_all_flaws_are_found() -> None:
    text = "[A]\nx = 1\nnonsense\nx = 2\n[B\ny = 1\n[A]\nz = 1\n[C]\nname with space = 1\n"
    assert [line for line, _ in flaws(text)] == [3, 4, 5, 7, 10]


def test_options_before_the_first_section_are_one_flaw() -> None:
    assert flaws("x = 1\ny = 2\n[A]\n") == [(1, "there is an option before the first [Section]")]


def test_control_characters_are_a_flaw() -> None:
    assert flaws("[A]\nx = a\0b\n") == [(2, "there are control characters in this line")]


def test_a_line_that_cannot_be_read_is_not_repeated() -> None:
    text = "[Arvados]\ntoken\n   half=of-a-secret\nv2/zzzzz-gj3su/hush\n"
    document = ini.parse(text)
    assert [flaw.line for flaw in document.flaws] == [2, 4]
    assert document.entries == ()
    assert "hush" not in str(document)
    assert "half" not in str(document)


def test_values_do_not_show_in_a_repr() -> None:
    assert "hush" not in repr(ini.parse("[Arvados]\ntoken = hush\n"))
