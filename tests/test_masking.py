from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config import parse
from nodemanager.config.tree import secrets_of
from nodemanager.masking import MASKED, SHORTEST_SECRET, Mask, one_line

TOKEN = "v2/zzzzz-gj3su-0123456789abcde/3kg6k6lzmp9kj5cpkcoxie963cmvjahbt2fod9zru30k1jqdmi"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"token {TOKEN}.", f"token v2/zzzzz-gj3su-0123456789abcde/{MASKED}"),
        (f'{{"api_token": "{TOKEN}"}}', f'{{"api_token": "v2/zzzzz-gj3su-0123456789abcde/{MASKED}"}}'),
        ("Authorization: Bearer abcdef123", f"Authorization: Bearer {MASKED}"),
        ("{'authorization': 'OAuth2 abcdef123', 'x': 1}", f"{{'authorization': 'OAuth2 {MASKED}', 'x': 1}}"),
        ("b'AUTHORIZATION', b'Basic YWRtaW46cGFzc3dvcmQ='", f"b'AUTHORIZATION', b'Basic {MASKED}'"),
        ("sent Bearer 0123456789abcdef0123", f"sent Bearer {MASKED}"),
        ("postgresql://nm:hunter22@db/nm", f"postgresql://nm:{MASKED}@db/nm"),
        ("GET /ping?ping_secret=abc123&slot=4", f"GET /ping?ping_secret={MASKED}&slot=4"),
        ("https://s3/x?X-Amz-Signature=ab12", f"https://s3/x?X-Amz-Signature={MASKED}"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert Mask()(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "claimed 3 containers",
        "the bearer of bad news? yes & no",
        "authorization required",
        "https://127.0.0.1:8443/arvados/v1/containers?limit=5",
        "zzzzz-dz642-0123456789abcde",
    ],
)
def test_other_words_stay_and_cost_no_copy(text: str) -> None:
    assert Mask(["a secret"])(text) is text


@pytest.mark.parametrize(
    "secret", ["correct horse", 'with "quotes"\\', "gr\u00fc\u00dfe", "a/b+c=d?"]
)
def test_known_secrets_are_masked_however_they_are_written(secret: str) -> None:
    mask = Mask([secret])
    for written in (
        secret,
        json.dumps(secret),
        repr(secret),
        quote(secret, safe=""),
        f"x{secret}y",
    ):
        shown = mask(f"before {written} after")
        assert MASKED in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")
        assert secret not in shown


def test_a_secret_within_another_leaves_nothing_of_it() -> None:
    assert Mask(["horse", "correct horse battery"])("<correct horse battery>") == f"<{MASKED}>"


@given(st.lists(st.text(min_size=SHORTEST_SECRET), max_size=4), st.text(), st.text())
def test_no_known_secret_is_left(secrets: list[str], before: str, after: str) -> None:
    mask = Mask(secrets)
    for secret in (each.strip() for each in secrets):
        if len(secret) >= SHORTEST_SECRET and not set(secret) <= set(MASKED):
            shown = mask(f"{before}\n{secret}\n{after}")
            assert f"\n{secret}\n" not in shown


def test_very_short_secrets_would_mask_everything() -> None:
    assert Mask(["a", "  "])("a cat") == "a cat"


def test_a_secret_of_the_configuration_is_known_with_the_password_in_it() -> None:
    config = parse(
        "[Api]\ndatabase = postgresql://nm:p%40ssw0rd@db/nm\nroot_token = the-root-token\n"
        "[Manage]\nManagementToken = manage-me\n"
        "[Cloud Credentials]\nsecret = cloud-secret\nregion = us-east-1\n",
        "/x/nodemanager.cfg",
    )
    assert secrets_of(config) == {
        "postgresql://nm:p%40ssw0rd@db/nm", "p%40ssw0rd", "p@ssw0rd", "the-root-token", "manage-me", "cloud-secret"
    }  # fmt: skip


@given(st.text())
def test_no_text_becomes_two_lines_or_moves_the_cursor(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    shown.encode("utf-8")


def test_words_of_all_languages_stay() -> None:
    assert one_line("gr\u00fc\u00dfe \u4f60\u597d\xa0!") == "gr\u00fc\u00dfe \u4f60\u597d\xa0!"
