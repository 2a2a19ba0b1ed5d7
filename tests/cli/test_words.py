import pytest

from nodemanager.cli.words import age, ago, amount, count, resource_name


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "1 min"),
        (5999, "99 min"),
        (6000, "1 h 40 min"),
        (7200, "2 h"),
        (2 * 86400, "2 d"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_a_span_has_at_most_two_units(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_a_time_is_said_from_now() -> None:
    assert ago(None, 100.0) == ""
    assert ago(40.0, 100.0) == "60 s ago"
    assert ago(130.0, 100.0) == "in 30 s"


def test_amounts_are_said_in_their_unit() -> None:
    assert amount("ram_bytes", 4 * 2**30) == "4 GiB"
    assert amount("wait_seconds", 120) == "2 min"
    assert amount("cores", 12000) == "12,000"
    assert amount("partition", "long") == "long"
    assert resource_name("ram_bytes") == "RAM"
    assert resource_name("temp_fails") == "temp fails"


def test_several_amounts_are_said_in_a_row() -> None:
    assert amount("nodes", {"cordoned": 1, "full": 200}) == "cordoned: 1, full: 200"
    assert amount("offered", ["16G", "8G"]) == "16G, 8G"
    assert amount("wanted", {"ram_bytes": 1 << 30}) == "ram_bytes: 1 GiB"


def test_one_is_not_many() -> None:
    assert count(1, "node") == "1 node"
    assert count(1200, "node") == "1,200 nodes"
