"""What libcloud raises, sorted by what to do about it.

libcloud raises its own exceptions, bare `Exception`, those of requests, and whatever its parsers stumble over.
`sort_error` makes one of `nodemanager.clouds.errors` of each; what a cloud's words mean is in one table per
driver, and what every cloud means by them is in `COMMON`. Nothing else looks at codes and texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from nodemanager.clouds.errors import CloudError, Denied, RateLimited

LONGEST = 500
"""Characters of a cloud's words that go into an error; a whole page of HTML helps nobody."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An error that matches any of these is of this sort."""

    sort: type[CloudError]
    codes: tuple[str, ...] = ()
    """Whole words of the text, upper and lower case as here; a star at the end stands for anything."""
    texts: tuple[str, ...] = ()
    """Parts of the text, in lower case; in the text either case will do."""
    statuses: tuple[int, ...] = ()
    """HTTP status codes."""

    def matches(self, said: Said) -> bool:
        """Whether `said` is of this sort."""
        return (
            said.status in self.statuses
            or any(_is_word(code, said.words) for code in self.codes)
            or any(text in said.text.lower() for text in self.texts)
        )


@dataclass(frozen=True, slots=True)
class Said:
    """What an exception tells of the cloud's answer."""

    text: str
    """In the cloud's or the library's words, on one line, without the URL (it may hold secrets)."""
    status: int | None = None
    """The HTTP status, if there was an answer and the library kept it."""
    retry_after: float | None = None
    """Seconds the cloud wants to be left alone; None when it did not say."""

    @property
    def words(self) -> frozenset[str]:
        """The words of the text, such as error codes."""
        return frozenset(word.strip(".") for word in re.findall(r"[A-Za-z0-9_.]+", self.text))


COMMON = (
    Rule(RateLimited, statuses=(429,)),
    Rule(Denied, codes=("InvalidCredsError",), statuses=(401, 403)),
)
"""Tried after a driver's own table."""


def sort_error(error: Exception, table: Sequence[Rule], doing: str, now: float) -> CloudError:
    """What became of an operation that raised `error`.

    `table` is the driver's; its first rule that matches decides. `doing` says what was tried, for the message:
    ``ec2: creating x``. `now` is Unix time, for a Retry-After that is a date. What no rule knows is a plain
    `CloudError`: it may have happened.
    """
    if isinstance(error, CloudError):
        return error
    said = said_by(error, now)
    sort = next((rule.sort for rule in (*table, *COMMON) if rule.matches(said)), CloudError)
    if sort is CloudError and said.status == 503 and said.retry_after is not None:
        sort = RateLimited
    status = f" (HTTP status {said.status})" if said.status else ""
    message = f"{doing}: {said.text}{status}"
    if issubclass(sort, RateLimited):
        return sort(message, said.retry_after)
    return sort(message)


def said_by(error: Exception, now: float) -> Said:
    """What `error` tells, whatever kind of exception it is."""
    status = getattr(error, "http_code", None) or getattr(error, "code", None)
    headers = getattr(error, "headers", None) or {}
    return Said(
        text=_text(error),
        status=status if isinstance(status, int) else None,
        retry_after=_retry_after(error, headers, now),
    )


def _text(error: Exception) -> str:
    """The words of `error`, with the exception's kind when that is not one that only carries words."""
    # BaseHTTPError keeps the words in `message`, LibcloudError in `value`; either may be what was parsed
    # of the answer instead of a text, and then str() of the exception fails.
    words: Any = next(
        (getattr(error, name) for name in ("message", "value") if getattr(error, name, None)), None
    )
    if isinstance(words, Mapping):
        words = words.get("message") or dict(words)
    try:
        text = str(error if words is None else words)
    except Exception:
        text = ""
    kind = type(error).__name__
    code = getattr(error, "code", None)
    for word in (code if isinstance(code, str) else "", "" if kind in _CARRIERS else kind):
        if word and word not in text:
            text = f"{word}: {text}" if text else word
    line = re.sub(r"(/[^\s?]*)\?\S*", r"\1?...", " ".join(text.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


_CARRIERS = frozenset({"Exception", "BaseHTTPError", "LibcloudError", "ProviderError"})


def _retry_after(error: Exception, headers: Mapping[str, Any], now: float) -> float | None:
    """A number or a date, of the exception or of the headers; libcloud says 0 for none."""
    value = getattr(error, "retry_after", None) or next(
        (found for name, found in headers.items() if str(name).lower() == "retry-after"), None
    )
    if value is None:
        return None
    date = parsedate_tz(str(value))
    try:
        seconds = float(value) if date is None else mktime_tz(date) - now
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _is_word(code: str, words: frozenset[str]) -> bool:
    if code.endswith("*"):
        return any(word.startswith(code[:-1]) for word in words)
    return code in words
