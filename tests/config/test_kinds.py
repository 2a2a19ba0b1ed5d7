"""Every kind of value reads back what it writes, and refuses the rest with one clear sentence."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config.composite import Command, ListOf, PathKind, TagList
from nodemanager.config.kinds import (
    Bool,
    Bytes,
    Choice,
    Float,
    Host,
    Integer,
    Kind,
    LogLevel,
    Seconds,
    Secret,
    SecretText,
)

TEN_YEARS = 3650 * 86400
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(st.booleans())
def test_bool_round_trip(value: bool) -> None:
    assert Bool().parse(Bool().show(value)) is value


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integer_round_trip(value: int) -> None:
    assert Integer().parse(Integer().show(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_round_trip(value: float) -> None:
    assert Float().parse(Float().show(value)) == value


@given(st.floats(0, TEN_YEARS) | st.integers(0, TEN_YEARS).map(float))
def test_seconds_round_trip(value: float) -> None:
    assert Seconds().parse(Seconds().show(value)) == value


@given(st.integers(0, 2**63 - 1) | st.integers(0, 2**33).map(lambda count: count * 2**20))
def test_bytes_round_trip(value: int) -> None:
    assert Bytes().parse(Bytes().show(value)) == value


@given(st.lists(st.integers(0, 255)).map(tuple))
def test_list_round_trip(value: tuple[int, ...]) -> None:
    kind = ListOf(Integer(0, 255))
    assert kind.parse(kind.show(value)) == value


PIECES = st.text(st.characters(codec="ascii", exclude_characters="=,", min_codepoint=33))


@given(st.dictionaries(PIECES.filter(bool), PIECES).map(lambda pairs: tuple(pairs.items())))
def test_tags_round_trip(value: tuple[tuple[str, str], ...]) -> None:
    assert TagList().parse(TagList().show(value)) == value


@given(st.lists(WORDS, min_size=1).map(tuple))
def test_command_round_trip(value: tuple[str, ...]) -> None:
    assert Command().parse(Command().show(value)) == value


@given(WORDS.filter(lambda text: not text.startswith("~")).map(Path))
def test_path_round_trip(value: Path) -> None:
    assert PathKind().parse(PathKind().show(value)) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15", 15.0),
        ("15 s", 15.0),
        ("15s", 15.0),
        ("10 min", 600.0),
        ("1 h", 3600.0),
        ("1.5 h", 5400.0),
        ("2 d", 172800.0),
        ("500 ms", 0.5),
        ("0", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Seconds().parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512 MiB", 512 * 2**20),
        ("4GiB", 2**32),
        ("1.5 GiB", 3 * 2**29),
        ("20 GB", 20 * 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert Bytes().parse(text) == size


def test_tags() -> None:
    text = "project = genomes, team=,\n  owner=a=b"
    assert TagList().parse(text) == (("project", "genomes"), ("team", ""), ("owner", "a=b"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yes", True),
        ("Yes", True),
        ("on", True),
        ("1", True),
        ("true", True),
        ("no", False),
        ("OFF", False),
        ("0", False),
        ("False", False),
    ],
)
def test_yes_and_no(text: str, words: bool) -> None:
    assert Bool().parse(text) is words


def test_a_choice_is_spelt_as_declared() -> None:
    assert Choice(("none", "docker")).parse("Docker") == "docker"
    assert LogLevel().parse("debug") == "DEBUG"


@pytest.mark.parametrize(
    "text", ["embedded", "api.example.org", "api.example.org:443", "10.0.0.1:8443", "[::1]:8443"]
)
def test_hosts(text: str) -> None:
    assert Host().parse(text) == text


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Bool(), "maybe", "expected yes or no, found 'maybe'"),
        (Bool(), "", "expected yes or no, found nothing"),
        (Integer(0), "ten", "expected a whole number, found 'ten'"),
        (Integer(0), "1_000", "expected a whole number, found '1_000'"),
        (Integer(0), "-1", "expected a whole number, at least 0, found '-1'"),
        (Integer(0, 65535), "65536", "expected a whole number, at most 65535, found '65536'"),
        (Float(0.0), "nan", "expected a number, found 'nan'"),
        (Float(0.0), "1e999", "expected a number, found '1e999'"),
        (Seconds(), "10 m", "expected a duration such as 15 s, 10 min or 1 h, found '10 m'"),
        (
            Seconds(60),
            "15",
            "expected a duration such as 15 s, 10 min or 1 h, at least 1 min, found '15'",
        ),
        (
            Seconds(),
            "4000 d",
            "expected a duration such as 15 s, 10 min or 1 h, at most 3650 d, found '4000 d'",
        ),
        (Bytes(), "4 G", "expected a number of bytes such as 512 MiB or 4 GiB, found '4 G'"),
        (Bytes(), "0.3", "expected a number of bytes such as 512 MiB or 4 GiB, found '0.3'"),
        (Choice(("text", "json")), "xml", "expected text or json, found 'xml'"),
        (PathKind(), "", "expected a path, found nothing"),
        (ListOf(Float(0.0), minimum=2), "5", "expected at least 2 items, found '5'"),
        (ListOf(Integer(1, 255)), "1, x", "expected a whole number, found 'x'"),
        (TagList(), "project", "expected key=value, found 'project'"),
        (TagList(), "=genomes", "expected key=value, found '=genomes'"),
        (TagList(), "a=1, a = 2", "expected each key once, found 'a' twice"),
        (Command(), "", "expected a command, found nothing"),
        (Command(), "a 'b", "expected a command: no closing quotation"),
        (
            Host(),
            "https://a.example.org",
            "expected host or host:port, without https://, found 'https://a.example.org'",
        ),
        (Host(), "a:99999", "expected a port from 1 to 65535, found 'a:99999'"),
    ],
)
def test_what_is_wrong_is_said(kind: Kind, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        kind.parse(text)


def test_a_relative_path_starts_at_the_directory_given() -> None:
    directory = Path("/etc/arvados-node-manager")
    paths = ListOf(PathKind())
    value = paths.anchor(paths.parse("../state, /srv/data"), directory)
    assert value == (Path("/etc/state"), Path("/srv/data"))


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert PathKind().parse("~/data") == Path("/home/ada/data")


def test_an_empty_path_is_none_only_where_it_may_be() -> None:
    assert PathKind(may_be_empty=True).parse("") is None
    assert PathKind(alias="api").parse("api") is None
    assert PathKind(alias="api").show(None) == "api"


def test_a_secret_can_be_used_but_does_not_show_itself() -> None:
    secret = SecretText().parse("hush")
    assert secret == "hush"
    assert str(secret) == "hush"
    assert "hush" not in repr(secret)
    assert "hush" not in repr({"token": (secret,)})
    assert isinstance(copy.deepcopy(secret), Secret)
    assert isinstance(pickle.loads(pickle.dumps(secret)), Secret)


def test_a_bad_secret_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="printable") as caught:
        SecretText().parse("hu\nsh")
    assert "hu" not in str(caught.value)
