"""Lists: the parameters every `list` method takes, and the page of records they select.

Parameters, defaults and error texts are those of stock Arvados (lib/load_param.rb).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    func,
    select,
    true,
)

from nodemanager.server.errors import invalid
from nodemanager.server.filters import Filters
from nodemanager.server.resources import MADE_FROM, Projection, Resource, as_read
from nodemanager.server.schema import COMMON_FIELDS

DEFAULT_LIMIT = 100
MOST_ITEMS = 1000
"""Items in one answer, whatever the limit asked for."""

_DEFAULT_ORDER = ("modified_at desc", "uuid desc")
_LARGEST = 2**62
# Who sweeps is no user.
_ALWAYS_KNOWN = frozenset(field.name for field in COMMON_FIELDS) - {"modified_by_user_uuid"}


def list_records(
    conn: Connection,
    resource: Resource,
    params: Mapping[str, Any],
    restrict: ColumnElement[bool] | None = None,
) -> dict[str, Any]:
    """One page of `resource`, as the answer of its `list` method.

    `params` are the stock list parameters, as JSON values or as texts of a query string; `restrict` is
    what the caller may see (None: everything). Raises `ServerError` 422.
    """
    limit = min(_count_of("limit", params.get("limit"), DEFAULT_LIMIT), MOST_ITEMS)
    offset = _count_of("offset", params.get("offset"), 0)
    wants_count = _wants_count(params.get("count"))
    distinct = _flag("distinct", params.get("distinct"))
    chosen = selected(resource, params.get("select"))
    condition = _condition(conn, resource, params, restrict)

    shown = Projection(resource, chosen)
    query = select(*shown.columns).where(condition)
    if distinct:
        query = query.distinct()
    items: list[dict[str, Any]] = []
    if limit:
        order = _order(resource, params.get("order"), chosen if distinct else None)
        page = query.order_by(*order).limit(limit).offset(offset)
        items = [shown.record(row) for row in conn.execute(page).all()]
    reply: dict[str, Any] = {
        "kind": f"{resource.kind}List",
        "etag": "",
        "self_link": "",
        "offset": offset,
        "limit": limit,
        "items": items,
    }
    if wants_count:
        counted = query.subquery() if distinct else None
        reply["items_available"] = conn.execute(
            select(func.count()).select_from(resource.table).where(condition)
            if counted is None
            else select(func.count()).select_from(counted)
        ).scalar_one()
    return reply


def _condition(
    conn: Connection,
    resource: Resource,
    params: Mapping[str, Any],
    restrict: ColumnElement[bool] | None,
) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [true() if restrict is None else restrict]
    translate = Filters(conn, resource)
    filters = _json("filters", params.get("filters"), list, "an array")
    if filters is not None:
        conditions.append(translate.condition(filters))
    where = _json("where", params.get("where"), dict, "an object")
    if where is not None:
        conditions.append(translate.where(where))
    return and_(*conditions)


def _order(resource: Resource, given: Any, only: list[str] | None) -> list[ColumnElement[Any]]:
    """The order asked for, or the default one, made unique; unknown attributes are ignored.

    What makes it unique is the UUID, in the direction of the last term: unlike the whole default order,
    which stock Arvados appends, that is how the indexes continue. `only` (for distinct rows) names the
    attributes that can be ordered by at all.
    """
    allowed = [
        f.name
        for f in resource.published
        if f.name not in resource.computed and (only is None or f.name in only)
    ]
    terms = _parsed_order(resource, _order_terms(given), allowed)
    if not terms:
        terms = _parsed_order(resource, _DEFAULT_ORDER, allowed)
    if "uuid" in allowed and terms:
        terms.setdefault("uuid", terms[list(terms)[-1]])
    return [_ordered(resource, name, direction) for name, direction in terms.items()]


def _parsed_order(
    resource: Resource, given: Sequence[str], allowed: Collection[str]
) -> dict[str, str]:
    """Attribute to direction, up to the UUID; after it nothing is left to order."""
    terms: dict[str, str] = {}
    for term in given:
        words = term.split()
        name = words[0].removeprefix(f"{resource.plural}.") if words else ""
        direction = words[1].lower() if len(words) == 2 else "asc"
        if name in allowed and len(words) <= 2 and direction in ("asc", "desc"):
            terms.setdefault(name, direction)
        if "uuid" in terms:
            break
    return terms


def _ordered(resource: Resource, name: str, direction: str) -> ColumnElement[Any]:
    field = resource.field(name)
    assert field is not None  # noqa: S101  (`allowed` was made from the fields)
    column = as_read(resource, field)
    if not resource.table.c[name].nullable or name in _ALWAYS_KNOWN:
        return column.asc() if direction == "asc" else column.desc()
    # As in PostgreSQL: what is not known counts as the largest.
    return column.asc().nulls_last() if direction == "asc" else column.desc().nulls_first()


def _order_terms(given: Any) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str) and not given.lstrip().startswith("["):
        return given.split(",")
    terms = _json("order", given, list, "an array")
    if not all(isinstance(term, str) for term in terms):
        raise invalid('Could not parse "order" param as an array')
    return [part for term in terms for part in term.split(",")]


def selected(resource: Resource, given: Any) -> list[str] | None:
    """The attributes that the parameter `select` names, each once; None: all. `ServerError` 422."""
    names = _json("select", given, list, "an array")
    if names is None:
        return None
    for name in names:
        field = resource.field(name) if isinstance(name, str) else None
        made = isinstance(name, str) and (name == "kind" or name in MADE_FROM)
        if not made and (field is None or not field.published):
            shown = ascii(name)[:100].strip("'")
            raise invalid(f"Invalid attribute '{shown}' of {resource.schema} in select parameter")
    return list(dict.fromkeys(names))


def _json(name: str, given: Any, wanted: type[Any], words: str) -> Any:
    """The JSON value `given` is, or is the text of; None when it is not given."""
    value = given
    if isinstance(given, str):
        if not given:
            return None
        try:
            value = json.loads(given)
        except (ValueError, RecursionError):
            value = given
    if value is not None and not isinstance(value, wanted):
        raise invalid(f'Could not parse "{name}" param as {words}')
    return value


def _count_of(name: str, given: Any, default: int) -> int:
    if given is None or given == "":
        return default
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 20:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _LARGEST:
        raise invalid(f"Invalid value for {name} parameter")
    return given


def _wants_count(given: Any) -> bool:
    if given not in (None, "", "exact", "none"):
        raise invalid("count parameter must be 'exact' or 'none'")
    return bool(given != "none")


def _flag(name: str, given: Any) -> bool:
    if given in (None, "", False, "false", "0", 0):
        return False
    if given in (True, "true", "1"):
        return True
    raise invalid(f"{name} parameter must be true or false")
