"""`python -m nodemanager.server.reference`: print the page about the API, made from its methods and fields."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nodemanager.server.methods import METHODS, Method
from nodemanager.server.resources import RESOURCES, Resource

_INTRODUCTION = """\
# The API

Made by `make docs` from `nodemanager/server/methods.py` and `schema.py`; what a client needs is in the discovery document
as well (`/discovery/v1/apis/arvados/v1/rest`), from which the Arvados Python client makes its calls:

    import arvados
    api = arvados.api("v1", host="127.0.0.1:8443", token="v2/...")
    api.container_requests().list(filters=[["state", "=", "Committed"]]).execute()

Names, list parameters, error bodies and status codes are those of Arvados. What is added: container states `PermFail` and
`TempFail`, the resource `dispatchers`, claims, `run_after`, and reasons.

## In general

- Paths are below `/arvados/v1/`. A body is `{"container_request": {...}}`, the bare record, or a form; a long query may be sent as
  POST with `X-Http-Method-Override: GET`.
- Tokens: `Authorization: Bearer v2/<uuid>/<secret>` (or `OAuth2`, or the secret alone, or the parameter `api_token`).
- Times are `2026-01-31T12:00:00.123456000Z`, by the database's clock.
- Success is 200. An error is `{"errors": ["what is wrong (req-...)"], "error_token": "..."}`:

| status | means |
|---|---|
| 400, 431 | no HTTP, or a head above 64 KiB; the connection is ended |
| 401 | no token, an unknown one, or one that has died |
| 403 | the token may not do this: another's container, a lost dispatcher, a scope |
| 404 | no such record, or none that this token may see |
| 408 | the request did not come in time; nothing was done, repeat it |
| 413 | the body is too large |
| 422 | the call makes no sense, or no sense any more: a wrong value, a lost claim, a state that cannot follow |
| 503 | the database is away, or too many calls at once: repeat it |

Every write may be repeated: one's own claim, one's own identical report, again, is 200.

## Lists

`filters` is an array of `[attribute, operator, operand]`, joined by AND; an array of attributes is joined by OR. Operators: `=`, `!=`, `<`,
`<=`, `>`, `>=`, `like`, `ilike`, `in`, `not in`, `is_a`, `exists`, `contains`; `any` for all texts; `properties.key` for what is in a JSON
object; `container.attribute` on requests; `["(a <= b)", "=", true]` for two numbers of one record. `order`, `limit` (100; at most 1000), `offset`,
`select`, `distinct`, and `count` (`exact`, or `none`, which is faster) as in Arvados. To go through everything, page by `created_at` and
`uuid`, as `arvados.util.keyset_list_all` does.

## Who may do what

| token of | sees | does |
|---|---|---|
| an administrator (or the root token) | everything | everything but write to another's claimed container |
| a user | own requests; their containers, reasons and logs; nodes of the last hour | own requests, links, logs, tokens |
| a dispatcher | requests, containers, dispatchers, nodes, reasons, logs | claims, reports, reasons as its own dispatcher; nodes |
| a container | itself, and the requests it made | reports on itself, until it is final; makes requests |
"""


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([_INTRODUCTION, *_resources()])


def _resources() -> Iterator[str]:
    for resource in RESOURCES.values():
        yield f"## {resource.plural}\n"
        yield "| method | call | does |\n|---|---|---|"
        methods = [method for method in METHODS if method.resource == resource.plural]
        yield "\n".join(_row(method) for method in methods)
        yield f"\nUUIDs have the infix `{resource.infix}`.\n"
        yield "| field | type | |\n|---|---|---|"
        yield _fields(resource)
        yield ""


def _row(method: Method) -> str:
    taken = [p.name for p in method.parameters if p.location != "path"]
    parameters = "" if not taken else f" ({', '.join(f'`{name}`' for name in taken)})"
    if method.name == "list":
        parameters = ""
    return f"| `{method.name}` | {method.http} `{method.path}`{parameters} | {method.doc} |"


def _fields(resource: Resource) -> str:
    return "\n".join(f"| `{f.name}` | {f.type} | {f.doc} |" for f in resource.published)


if __name__ == "__main__":
    sys.stdout.write(page())
