"""The rule of a scheduler, as an operator writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config.accept import Accept
from nodemanager.rule import ANY, Rule, Span

GIB = 2**30

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
WORDS = st.sampled_from(["long", "and", "a b", 'say "x"', "x,y", "<=", "\n", "\\", ""]) | TEXTS


def values(words: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(words, min_size=1, max_size=3).map(tuple)


SPANS = st.just(ANY) | st.tuples(st.integers(0, 99), st.none() | st.integers(0, 99)).map(
    lambda pair: Span(pair[0], None if pair[1] is None else pair[0] + pair[1])
)
RULES = st.builds(
    Rule,
    partitions=st.just(()) | values(WORDS),
    preemptible=st.sampled_from([None, True, False]),
    cores=SPANS,
    ram_bytes=SPANS,
    scratch_bytes=SPANS,
    gpus=SPANS,
    properties=st.dictionaries(WORDS.filter(bool), values(WORDS), max_size=2).map(
        lambda found: tuple(found.items())
    ),
)


@given(RULES)
def test_a_rule_reads_back_what_it_writes(rule: Rule) -> None:
    assert Accept().parse(Accept().show(rule)) == rule
    assert Rule.from_dict(rule.as_dict()) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", Rule()),
        ("cores<=16", Rule(cores=Span(0, 16))),
        ("cores >= 2 and cores <= 16", Rule(cores=Span(2, 16))),
        ("gpus = 0", Rule(gpus=Span(0, 0))),
        ("ram<=64GiB", Rule(ram_bytes=Span(0, 64 * GIB))),
        ("ram >= 1.5 GiB\nscratch <= 2 TiB", Rule(ram_bytes=Span(3 * GIB // 2), scratch_bytes=Span(0, 2048 * GIB))),
        ("partition = long, highmem and preemptible=no", Rule(("long", "highmem"), preemptible=False)),
        ("property.project = exome", Rule(properties=(("project", ("exome",)),))),
        ('property."my key" = "a b", c', Rule(properties=(("my key", ("a b", "c")),))),
    ],
)  # fmt: skip
def test_rules(text: str, rule: Rule) -> None:
    assert Accept().parse(text) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("core <= 3", "found 'core'; did you mean cores?"),
        ("partitions = a", "did you mean partition?"),
        ("projekt = a", "expected one of partition, cores, ram, scratch, gpus, preemptible"),
        ("property = a", "did you mean property.KEY?"),
        ("cores < 3", "expected <= or >= or = after cores, found '<'"),
        ("cores != 3", "found '!='"),
        ("partition >= a", "expected = after partition, found '>='"),
        ("cores <=", "expected a value after 'cores <=', found nothing"),
        ("cores", "expected <= or >= or = after cores, found nothing"),
        ("cores <= many", "expected a whole number"),
        ("ram <= 4 pints", "expected a number of bytes"),
        ("preemptible = perhaps", "expected yes or no"),
        ("partition = a b", "values with commas between them after partition =, found 'a b'"),
        ("partition = a,", "found 'a ,'"),
        ("partition = a; cores <= 2", "joined by `and`, found '; cores <= 2'"),
        ("cores <= 2 and and gpus = 0", "a condition before `and`"),
        ("and cores <= 2", "a condition before `and`"),
        ("cores <= 2 and cores <= 3", "found cores <= twice"),
        ("partition = a and partition = b", "found partition twice"),
        ("property.a = b and property.a = c", "found property.a twice"),
        ("cores >= 5 and cores <= 3", "no container has both cores >= 5 and cores <= 3"),
        ("property. = 3", "expected the key of a property"),
        ('property.a = "b', "joined by `and`"),
        ('property.a = b"c"', "text in double quotes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Accept().parse(text)
    assert words in str(caught.value)


@given(st.text(st.sampled_from('cores ram<>=and,"\\property.;\n1 GiB'), max_size=40))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = Accept().parse(text)
    except ValueError:
        return
    assert Accept().parse(Accept().show(rule)) == rule


@pytest.mark.parametrize(
    "value",
    [
        {"colour": "red"},
        {"cores": 3},
        {"cores": [1, True]},
        {"cores": [1, 2, 3]},
        {"partitions": "long"},
        {"preemptible": "yes"},
        {"properties": []},
        {"properties": {"a": "b"}},
    ],
)
def test_a_record_that_holds_no_rule(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r": (must|unknown)"):
        Rule.from_dict(value)
