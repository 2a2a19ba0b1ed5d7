"""The table of reasons says something of each token, and the page about it says what the table does."""

import re
from pathlib import Path

import pytest

from nodemanager.reason import Knob, ReasonToken, Tier
from nodemanager.reason.reference import page
from nodemanager.reason.tokens import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reasons.md"


def test_every_token_is_in_the_table_worst_first() -> None:
    assert list(TABLE) == list(ReasonToken)
    tiers = [token.tier.value for token in TABLE]
    assert tiers == sorted(tiers)
    assert {token.tier for token in TABLE} == set(Tier)


@pytest.mark.parametrize("token", ReasonToken)
def test_a_token_says_what_it_means_and_who_can_do_what(token: ReasonToken) -> None:
    meaning = TABLE[token]
    assert re.fullmatch(r"[A-Z].*\.", meaning.means)
    assert meaning.advice or meaning.knob is Knob.NOBODY
    assert not meaning.advice.endswith(".")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make docs"
