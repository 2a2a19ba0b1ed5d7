"""One connection to an Arvados API, and what its errors mean to us.

The client is arvados-python-client, unmodified. Its own retries are switched off: a call that fails is
repeated by whoever made it, on a schedule that knows about leases and shutdowns.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httplib2
from arvados.api import api_client
from googleapiclient.errors import Error as ClientError
from googleapiclient.errors import HttpError

from nodemanager import metrics
from nodemanager.errors import ApiRefused, ApiUnavailable

PAGE = 1000
"""Records per call; the API's own limit."""

_REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 422})


def connect(
    url: str,
    token: str,
    *,
    ca_file: Path | None = None,
    insecure: bool = False,
    timeout: float = 15.0,
) -> Any:
    """The client object for the API at `url` (``https://host:port``), for one thread.

    It fetches the discovery document, so it raises `ApiUnavailable` when nobody answers there. `timeout`
    is seconds per read; calls that are held open need more than they are held.
    """
    transport = httplib2.Http(
        ca_certs=None if ca_file is None else str(ca_file),
        disable_ssl_certificate_validation=insecure,
        timeout=timeout,
    )
    # Not cached on disk: the document is small against the cost of trusting a stale one after an upgrade,
    # and there are only a handful of threads.
    discovery = f"{url.rstrip('/')}/discovery/v1/apis/arvados/v1/rest"
    try:
        return api_client("v1", discovery, token, http=transport, cache=False, num_retries=0)
    except _FAILURES as error:
        transport.close()
        raise ApiUnavailable(f"{url}: {_words(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        # The client takes any JSON for a discovery document, and trips over what is missing.
        transport.close()
        raise ApiUnavailable(f"{url}: what answers there is no Arvados API") from error


def call(request: Any) -> dict[str, Any]:
    """Execute a prepared request and return its JSON object.

    Raises `ApiRefused` when the API said no, with its words, and `ApiUnavailable` when it did not say
    anything usable: the call may or may not have happened.
    """
    method = str(request.methodId).removeprefix("arvados.")
    with metrics.timing(partial(_count, method)):
        return _execute(request)


def _count(method: str, error: BaseException | None, seconds: float) -> None:
    outcome = "refused" if isinstance(error, ApiRefused) else "unavailable" if error else "ok"
    metrics.API_CALLS.labels(method, outcome).inc()
    metrics.API_CALL_SECONDS.labels(method).observe(seconds)


def _execute(request: Any) -> dict[str, Any]:
    try:
        reply = request.execute(num_retries=0)
    except HttpError as error:
        status = int(error.resp.status)
        if status in _REFUSALS:
            raise ApiRefused(_words(error), status) from error
        raise ApiUnavailable(f"{request.uri}: {_words(error)}") from error
    except _FAILURES as error:
        raise ApiUnavailable(f"{request.uri}: {_words(error)}") from error
    if not isinstance(reply, dict):
        raise ApiUnavailable(f"{request.uri}: answered no JSON object")
    return reply


def list_all(resource: Any, filters: list[Any], fields: Sequence[str]) -> Iterator[Any]:
    """All records that pass `filters`, `fields` of them (with ``uuid``), page by page, by UUID.

    Keyset paging, so that records made or changed meanwhile shift nothing. (The client has
    `keyset_list_all`; its errors and retries are not ours.)
    """
    last = ""
    while True:
        page = call(
            resource.list(
                filters=[*filters, ["uuid", ">", last]],
                order="uuid asc",
                limit=PAGE,
                select=list(fields),
                count="none",
            )
        )["items"]
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]["uuid"]


def list_those(
    resource: Any, attribute: str, values: Sequence[str], filters: list[Any], fields: Sequence[str]
) -> Iterator[Any]:
    """`list_all` of the records whose `attribute` is among `values`, however many these are."""
    for start in range(0, len(values), PAGE):
        chosen = [attribute, "in", list(values[start : start + PAGE])]
        yield from list_all(resource, [*filters, chosen], fields)


_FAILURES = (
    OSError,
    http.client.HTTPException,
    httplib2.HttpLib2Error,
    ClientError,
    ValueError,
)
"""Refused, reset or timed out; broken TLS; an answer cut short; an answer that is no JSON."""


def _words(error: Exception) -> str:
    """The server's own messages where there are some; never the request, which may hold a token."""
    if isinstance(error, HttpError):
        return str(error._get_reason()).strip() or f"HTTP status {error.resp.status}"  # noqa: SLF001
    return str(error) or type(error).__name__
