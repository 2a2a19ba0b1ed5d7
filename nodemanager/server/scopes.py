"""What a token may be used for: ``["all"]``, or a list like ``["GET /arvados/v1/containers/"]``.

The rules are those of stock Arvados (api_client_authorization.rb, `scopes_allow?`). Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

EVERYTHING = "all"
"""The scope that allows any call."""

MOST_SCOPES = 100
"""Of one token: every call goes through them."""

_SCOPE = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE) /[!-~]{0,500}")


def allows(scopes: Collection[str], http_method: str, path: str) -> bool:
    """Whether a token with `scopes` may make a call.

    A scope names a method and a path; the path must be the very same, or begin with the scope's when
    that ends in a slash. Whoever may GET may as well ask for the HEAD alone. `path` is the whole path of
    the URL, such as ``/arvados/v1/containers``, without the query.
    """
    methods = ("HEAD", "GET") if http_method == "HEAD" else (http_method,)
    return any(_covered(scopes, f"{method} {path}") for method in methods)


def covers(scopes: Collection[str], wanted: Collection[str]) -> bool:
    """Whether a token with `scopes` may do all that one with the scopes `wanted` may.

    So nobody makes a strong token with a weak one.
    """
    return all(_covered(scopes, each) for each in wanted)


def scope_problems(value: Any) -> Iterator[str]:
    """What is wrong with the scopes of a token that is to be made, in words; nothing when they will do."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        yield "scopes: must be an array of strings"
        return
    if len(value) > MOST_SCOPES:
        yield f"scopes: {len(value)} are too many, at most {MOST_SCOPES}"
    for each in value[:MOST_SCOPES]:
        if each != EVERYTHING and not _SCOPE.fullmatch(each):
            shown = ascii(each)[1:-1][:100]
            yield f"scopes: '{shown}' is neither 'all' nor like 'GET /arvados/v1/containers/'"


def _covered(scopes: Collection[str], wanted: str) -> bool:
    return any(
        scope in (EVERYTHING, wanted) or (scope.endswith("/") and wanted.startswith(scope))
        for scope in scopes
    )
