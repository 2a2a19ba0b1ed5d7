"""Whatever libcloud raises gets a sort, a sentence without secrets, and the time to wait."""

from __future__ import annotations

import socket
from email.utils import formatdate
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from libcloud.common.exceptions import BaseHTTPError, RateLimitReachedError
from libcloud.common.google import QuotaExceededError
from libcloud.common.types import (
    InvalidCredsError,
    LibcloudError,
    MalformedResponseError,
    ProviderError,
    ServiceUnavailableError,
)

from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.sorting import LONGEST, Rule, sort_error

NOW = 1_800_000_000.0

TABLE = (
    Rule(Gone, statuses=(404,)),
    Rule(NoCapacity, codes=("Unsupported", "ZONE_*")),
    Rule(QuotaExceeded, codes=("QUOTA_EXCEEDED",), texts=("quota",)),
)


def sorted_of(error: Exception) -> CloudError:
    return sort_error(error, TABLE, "ec2: listing nodes", NOW)


@pytest.mark.parametrize(
    ("error", "sort"),
    [
        (BaseHTTPError(404, "no such server"), Gone),
        (BaseHTTPError(400, "Unsupported: not here"), NoCapacity),
        (BaseHTTPError(400, "UnsupportedOperation: never"), CloudError),
        (BaseHTTPError(400, "ZONE_RESOURCE_POOL_EXHAUSTED"), NoCapacity),
        (BaseHTTPError(403, "Quota exceeded for cores"), QuotaExceeded),
        (BaseHTTPError(403, "Forbidden"), Denied),
        (BaseHTTPError(401, ""), Denied),
        (BaseHTTPError(429, "calm down"), RateLimited),
        (BaseHTTPError(503, "come back", {"retry-after": "3"}), RateLimited),
        (BaseHTTPError(503, "broken"), CloudError),
        (BaseHTTPError(500, "broken", {"retry-after": "3"}), CloudError),
        (BaseHTTPError(400, {"message": "quota"}), QuotaExceeded),
        (BaseHTTPError(400, {"something": {"else": 1}}), CloudError),
        (RateLimitReachedError(headers={"retry-after": "5"}), RateLimited),
        (RateLimitReachedError(), RateLimited),
        (InvalidCredsError(), Denied),
        (ProviderError("nothing there", 404), Gone),
        (QuotaExceededError({"message": "too much"}, 403, "QUOTA_EXCEEDED"), QuotaExceeded),
        (ServiceUnavailableError(), CloudError),
        (LibcloudError("the quota is reached"), QuotaExceeded),
        (MalformedResponseError("Failed to parse XML", body="<html>"), CloudError),
        (Exception("Unsupported"), NoCapacity),
        (requests.exceptions.ReadTimeout("timed out"), CloudError),
        (requests.exceptions.ConnectionError("reset"), CloudError),
        (TimeoutError("timed out"), CloudError),
        (socket.gaierror(-2, "Name or service not known"), CloudError),
        (OSError(111, "Connection refused"), CloudError),
        (KeyError("id"), CloudError),
        (AttributeError("'NoneType' object has no attribute 'text'"), CloudError),
    ],
)
def test_everything_has_a_sort(error: Exception, sort: type[CloudError]) -> None:
    found = sorted_of(error)
    assert type(found) is sort
    assert str(found).startswith("ec2: listing nodes: ")


def test_our_own_errors_pass() -> None:
    ours = Denied("no")
    assert sorted_of(ours) is ours


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (12, 12.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), None),
        ("0", None),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        (None, None),
    ],
)
def test_the_time_to_wait_is_a_number_or_a_date_or_not_there(
    value: Any, seconds: float | None
) -> None:
    error = sorted_of(BaseHTTPError(429, "slow", {"Retry-After": value}))
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_the_first_rule_decides() -> None:
    assert type(sorted_of(BaseHTTPError(404, "quota"))) is Gone


def test_a_url_is_cut_before_its_secrets() -> None:
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        requests.get("http://127.0.0.1:9/path?UserData=secret&Signature=abc", timeout=5)
    said = str(sorted_of(caught.value))
    assert "/path?..." in said
    assert "secret" not in said
    assert "Connection refused" in said


def test_a_page_is_cut_to_a_line() -> None:
    said = str(sorted_of(BaseHTTPError(502, "<html>\n" + "Bad gateway\n" * 1000)))
    assert len(said) < LONGEST + 100
    assert "\n" not in said
    assert "HTTP status 502" in said


@given(
    message=st.none() | st.text() | st.dictionaries(st.text(), st.text()),
    code=st.none() | st.integers() | st.text(),
    headers=st.none() | st.dictionaries(st.text(), st.text()) | st.just({"retry-after": "x"}),
)
def test_nothing_a_cloud_says_makes_sorting_fail(message: Any, code: Any, headers: Any) -> None:
    found = sorted_of(BaseHTTPError(code, message, headers))
    assert isinstance(found, CloudError)
    assert str(found)
