"""What must not stand in a log: secrets, and characters by which somebody else's words would pass for ours.

Secrets are known by their value (those of the config file, tokens made at the start) or by their look (tokens of
Arvados, Authorization headers, passwords in URLs). Pure, but for what a `Mask` has been told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MASKED = "***"
SHORTEST_SECRET = 4
"""Characters. To mask a shorter one wherever it stands would leave no line readable."""

_HINTS = ("v2/", "Bearer", "OAuth2", "uthorization", "UTHORIZATION", "://", "?", "&")
"""Where none of these is, nothing looks like a secret."""
_LOOKS = (
    # v2/<uuid>/<secret>: the uuid says which token it is and opens nothing.
    (re.compile(r"(v2/[a-z0-9]{5}-gj3su-[a-z0-9]{15}/)[^\s\"'\\,;:()<>&?]+"), rf"\1{MASKED}"),
    # A header, also as a dictionary or a tuple shows it.
    (
        re.compile(
            r"(?i)(authorization[\"']?\s*[:=,]\s*(?:b(?=[\"']))?[\"']?(?:(?:bearer|oauth2|basic|token)\s+)?)"
            r"[^\s\"'\\,;()<>]{4,}"
        ),
        rf"\1{MASKED}",
    ),
    (re.compile(r"\b((?:Bearer|OAuth2)\s+)[A-Za-z0-9._~+/=-]{16,}"), rf"\1{MASKED}"),
    (re.compile(r"(://[^\s:/@\"']*:)[^\s/@\"']+@"), rf"\1{MASKED}@"),
    (
        re.compile(r"(?i)([?&][a-z_-]*(?:token|secret|password|key|signature)s?=)[^\s&#\"']+"),
        rf"\1{MASKED}",
    ),
)

_CONTROLS = re.compile(
    # Controls, line ends of other kinds, marks that turn the direction of writing, half a character.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Mask:
    """Replaces secrets in texts. May be used by any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, also as JSON, URLs and Python write them."""
        known = {form for secret in secrets for form in _forms(secret)}
        # A secret that holds another one is masked as a whole.
        self._secrets = tuple(sorted(known.union(self._secrets), key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """The text without secrets; the same object when there is none."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASKED)
        if any(hint in text for hint in _HINTS):
            for look, replacement in _LOOKS:
                text = look.sub(replacement, text)
        return text


def _forms(secret: str) -> set[str]:
    # Of a subclass that hides itself, the plain text.
    secret = str(secret).strip()
    if len(secret) < SHORTEST_SECRET:
        return set()
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def one_line(text: str) -> str:
    """The text with whatever would begin a line, or turn one around, written as an escape."""
    if text.isprintable():
        return text
    return _CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
