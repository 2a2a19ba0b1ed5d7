"""Lists say the same on every database: which records are found, in which order, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from nodemanager.clock import ManualClock
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.errors import ServerError
from nodemanager.server.listing import list_records
from nodemanager.server.resources import RESOURCES, FieldType, format_micros
from tests.clusters.postgresql import PostgresCluster

REQUESTS = RESOURCES["container_requests"]
CONTAINERS = RESOURCES["containers"]
START = 1_700_000_000_000_000
LARGEST = 2**62
JSON_TYPES = (FieldType.JSON_OBJECT, FieldType.JSON_ARRAY)

Row = dict[str, Any]

# Few, so that filters find something: cases, wildcards of either database, bytes against code points in
# order, what a driver or JSON might take for itself.
WORDS = (
    "",
    "a",
    "A",
    "aB",
    "ab",
    "a%",
    "a_",
    "a*",
    "[a]",
    "\\a",
    "ä",
    "Ä",
    "é",
    "1",
    "true",
    "\ue000",
    "😀",
)
LETTERS = st.sampled_from([*"aAbB%_\\*?[]^-:'\"{} 1\n", "ä", "Ä", "ß", "İ", "\ue000", "😀"])
TEXTS = st.sampled_from(WORDS) | st.text(LETTERS, max_size=3)
INTEGERS = st.integers(-1, 1) | st.sampled_from([2**53, 2**53 + 1, LARGEST - 1, LARGEST, -LARGEST])
FLOATS = st.sampled_from([-0.0, 0.1, 0.1 + 0.2, 1.0, 1.5, 2.0**53, 1e15 / 3, 5e-324, 1e18])
KNOWN = st.booleans() | INTEGERS | FLOATS | TEXTS
SCALARS = st.none() | KNOWN
JSON = SCALARS | st.lists(SCALARS | st.just([1]), max_size=3) | st.dictionaries(TEXTS, SCALARS)
KEYS = st.sampled_from(["n", "n", "ä", "", "a.b", 'we"ird\\k', "<n>", "1", "😀"])
OBJECTS = st.fixed_dictionaries(
    {"n": JSON}, optional=dict.fromkeys(["ä", "", "a.b", "1"], JSON)
) | (st.dictionaries(KEYS, JSON, max_size=3))
TIMES = st.integers(-1, 1).map(lambda n: START + n)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "created_at": TIMES,
            "modified_at": TIMES,
            "name": TEXTS,
            "container_uuid": st.sampled_from(["c0", "c1"]) | st.none(),
            "output_name": TEXTS | st.none(),
            "priority": INTEGERS,
            "run_after": TIMES | st.none(),
            "use_existing": st.booleans(),
            "properties": OBJECTS,
            "command": st.lists(JSON, max_size=3),
        },
        optional={
            "description": TEXTS,
            "owner_uuid": TEXTS | st.sampled_from(["zzzzz-TPZED-0123456789abcde"]),
            "modified_by_user_uuid": TEXTS | st.none(),
            "output_ttl": INTEGERS,
            "cumulative_cost": FLOATS,
            "filters": st.lists(JSON, max_size=2) | st.none(),
        },
    ),
    min_size=3,
    max_size=8,
)
CONTAINER_ROWS = st.lists(
    st.fixed_dictionaries(
        {"exit_code": INTEGERS | st.none(), "log": TEXTS | st.none(), "runtime_status": OBJECTS}
    ),
    min_size=2,
    max_size=2,
)

STRINGS = st.sampled_from(["uuid", "owner_uuid", "name", "description", "output_name"])
NUMBERS = st.sampled_from(["priority", "output_ttl", "cumulative_cost"])
MOMENTS = st.sampled_from(["created_at", "run_after"])
MEMBERS = KEYS.map(lambda key: f"properties.{key}")
EQUALITIES = st.sampled_from(["=", "!=", "<>"])
ORDERINGS = st.sampled_from(["<", "<=", ">", ">="])
INSIDE = st.sampled_from(["in", "not in"])
PATTERNS = st.sampled_from(["like", "ilike"])
WILDCARDS = st.sampled_from(["%", "_", r"\%", r"\_", r"\\", r"\a"])
PATTERN = st.sampled_from(
    ["a%", "A_", "_", "%b", r"a\%", r"a\_", "%[%", "[a]", "%ä", "a*", "Ä"]
) | (st.lists(st.sampled_from(WORDS) | WILDCARDS, max_size=3).map("".join))
WHOLES = st.sampled_from(["properties", "command", "filters"])


def filters_on(names: st.SearchStrategy[str], operand: st.SearchStrategy[Any]) -> Any:
    """Comparisons and memberships of one kind of attribute."""
    some = st.lists(operand | st.none(), max_size=3)
    return (
        st.tuples(names, EQUALITIES, operand | st.none())
        | st.tuples(names, ORDERINGS, operand)
        | st.tuples(names, INSIDE, some)
    )


def expression(left: str, op: str, right: str) -> str:
    """Two attributes of a record compared with each other."""
    return f"({left} {op} {right})"


OF_REQUEST = st.one_of(
    filters_on(STRINGS, TEXTS),
    st.tuples(st.just("any"), st.just("="), TEXTS),
    filters_on(NUMBERS, INTEGERS | FLOATS),
    filters_on(MOMENTS, TIMES.map(format_micros)),
    st.tuples(st.just("use_existing"), EQUALITIES, st.booleans()),
    filters_on(MEMBERS, KNOWN),
    st.tuples(STRINGS | MEMBERS | st.just("any"), PATTERNS, PATTERN),
    st.tuples(MEMBERS, st.just("exists"), st.booleans()),
    st.tuples(MEMBERS, st.just("contains"), SCALARS),
    st.tuples(WHOLES, st.just("exists"), KEYS),
    st.tuples(WHOLES, st.just("contains"), TEXTS | KEYS | st.lists(TEXTS | KEYS, max_size=2)),
    st.tuples(
        st.sampled_from(["uuid", "owner_uuid"]),
        st.just("is_a"),
        st.sampled_from(["arvados#user", "arvados#containerRequest", "arvados#nothing"]),
    ),
    st.tuples(
        st.builds(
            expression,
            st.sampled_from(["priority", "output_ttl"]),
            EQUALITIES | ORDERINGS,
            st.sampled_from(["priority", "container_count"]),
        )
        | st.builds(expression, MOMENTS, EQUALITIES | ORDERINGS, MOMENTS),
        st.just("="),
        st.booleans(),
    ),
)
OF_CONTAINER = st.one_of(
    filters_on(st.just("container.exit_code"), INTEGERS),
    filters_on(st.just("container.log"), TEXTS),
    filters_on(KEYS.map(lambda key: f"container.runtime_status.{key}"), KNOWN),
)
FILTER = (OF_REQUEST | OF_CONTAINER).map(list)
FILTERS = FILTER.map(lambda one: [one]) | st.lists(FILTER, max_size=2)
# JSON has no order that databases agree on.
ORDERED = [f.name for f in REQUESTS.published if f.type not in JSON_TYPES]
ORDER = st.lists(
    st.tuples(st.sampled_from(ORDERED), st.sampled_from(["", " asc", " desc"])).map("".join),
    max_size=3,
)
PARAMS = st.fixed_dictionaries(
    {"filters": FILTERS, "order": ORDER},
    optional={"limit": st.integers(0, 4), "offset": st.integers(0, 3)},
)


@dataclass(frozen=True)
class Pair:
    """The same records on SQLite and on PostgreSQL."""

    sqlite: Database
    postgresql: Database

    def fill(self, requests: list[Row], containers: list[Row]) -> None:
        """These records and no others."""
        for database in (self.sqlite, self.postgresql):
            with database.write() as conn:
                for resource, rows in ((REQUESTS, requests), (CONTAINERS, containers)):
                    conn.execute(delete(resource.table))
                    whole = [_whole(resource, number, row) for number, row in enumerate(rows)]
                    if whole:
                        conn.execute(insert(resource.table), whole)

    def listed(self, params: Row) -> tuple[Row | str, Row | str]:
        """What either answers: the list, or the words of its refusal."""
        return _listed(self.sqlite, params), _listed(self.postgresql, params)


def _whole(resource: Any, number: int, values: Row) -> Row:
    uuid = f"zzzzz-{resource.infix}-{number:015}" if resource is REQUESTS else f"c{number}"
    known = {"uuid": uuid, "owner_uuid": "", "created_at": START, "modified_at": START}
    return {field.name: field.default for field in resource.fields} | known | values


def _listed(database: Database, params: Row) -> Row | str:
    with database.read() as conn:
        try:
            return list_records(conn, REQUESTS, params)
        except ServerError as error:
            return str(error)


@pytest.fixture(scope="module")
def pair(postgresql: PostgresCluster) -> Iterator[Pair]:
    with postgresql.lent_database() as url:
        both = Pair(Database(IN_MEMORY, ManualClock()), Database(url, ManualClock()))
        yield both
        both.sqlite.close()
        both.postgresql.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, containers=CONTAINER_ROWS, asked=st.lists(PARAMS, min_size=4, max_size=12))
def test_both_find_the_same_in_the_same_order(
    pair: Pair, rows: list[Row], containers: list[Row], asked: list[Row]
) -> None:
    pair.fill(rows, containers)
    for params in asked:
        # JSON is handed through as text, which PostgreSQL spells in its own way.
        on_sqlite, on_postgresql = pair.listed({**params, "select": ORDERED})
        assert on_sqlite == on_postgresql, params


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, select=st.lists(st.sampled_from(ORDERED), min_size=1, max_size=2), order=ORDER)
def test_both_find_the_same_distinct_rows(
    pair: Pair, rows: list[Row], select: list[str], order: list[str]
) -> None:
    pair.fill(rows, [])
    # Ordered by all that is selected, or the order is open.
    params = {"select": select, "distinct": True, "order": [*order, *select]}
    on_sqlite, on_postgresql = pair.listed(params)
    assert on_sqlite == on_postgresql
