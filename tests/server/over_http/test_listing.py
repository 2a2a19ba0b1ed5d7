"""Lists: filters, order, select, count, pages; on SQLite in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, text

from nodemanager.clock import ManualClock
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.errors import ServerError
from nodemanager.server.listing import list_records
from nodemanager.server.resources import RESOURCES, format_micros
from tests.clusters.postgresql import PostgresCluster

REQUESTS = RESOURCES["container_requests"]
SECOND = 1_000_000
START = 1_700_000_000 * SECOND

RECORDS: tuple[dict[str, Any], ...] = (
    {"name": "Alpha", "properties": {"n": 1, "t": "x", "url": {"a": 1}}, "command": ["echo"]},
    {"name": "beta", "properties": {"n": "1"}, "run_after": START},
    {"name": "Gamma_1", "properties": {"n": True}, "use_existing": False, "priority": 7},
    {"name": "gamma%1", "properties": {"n": [1, "q"]}, "cumulative_cost": 1.5},
    {"name": "d*[e", "properties": {'we"ird.k\\ey': 3, "none": None}, "container_count": 1},
    {"name": "", "properties": {}, "state": "Committed"},
)

Find = Callable[..., list[int]]


@contextmanager
def with_records(url: str) -> Iterator[Connection]:
    database = Database(url, ManualClock())
    with database.write() as conn:
        for number, values in enumerate(RECORDS):
            insert_request(conn, number, START + number * SECOND, **values)
    with database.read() as conn:
        yield conn
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def conn(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A reading transaction on a database with RECORDS."""
    if request.param == "sqlite":
        with with_records(IN_MEMORY) as conn:
            yield conn
        return
    server: PostgresCluster = request.getfixturevalue("postgresql")
    with server.lent_database() as url, with_records(url) as conn:
        yield conn


@pytest.fixture
def on_sqlite() -> Iterator[Connection]:
    """The same on SQLite only."""
    with with_records(IN_MEMORY) as conn:
        yield conn


@pytest.fixture
def find(conn: Connection) -> Find:
    """Numbers of the records that one filter finds, in order of their UUIDs."""

    def finder(*filters: Any, **params: Any) -> list[int]:
        asked = {"filters": list(filters), "order": "uuid", **params}
        items = list_records(conn, REQUESTS, asked)["items"]
        return [int(item["uuid"][-3:]) for item in items]

    return finder


def insert_request(conn: Connection, number: int, created: int, **values: Any) -> None:
    row = {field.name: field.default for field in REQUESTS.fields}
    row |= {
        "uuid": f"zzzzz-xvhdp-{number:015}",
        "owner_uuid": "zzzzz-tpzed-000000000000000",
        "created_at": created,
        "modified_at": created,
    }
    conn.execute(insert(REQUESTS.table).values(**(row | values)))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["name", "=", "beta"], [1]),
        (["name", "!=", "beta"], [0, 2, 3, 4, 5]),
        (["name", "<>", "beta"], [0, 2, 3, 4, 5]),
        (["name", ">", "b"], [1, 3, 4]),
        (["name", "in", ["Alpha", "beta", "none such"]], [0, 1]),
        (["name", "in", []], []),
        (["name", "not in", ["Alpha", "beta"]], [2, 3, 4, 5]),
        (["name", "not in", []], [0, 1, 2, 3, 4, 5]),
        (["priority", "=", 7], [2]),
        (["priority", "=", "7"], [2]),
        (["priority", ">", "7"], [0, 1, 3, 4, 5]),
        (["priority", "<=", 7], [2]),
        (["use_existing", "=", False], [2]),
        (["use_existing", "=", "false"], [2]),
        (["use_existing", "!=", True], [2]),
        (["cumulative_cost", ">=", 1.5], [3]),
        (["cumulative_cost", "<", "1"], [0, 1, 2, 4, 5]),
        (["run_after", "=", None], [0, 2, 3, 4, 5]),
        (["run_after", "!=", None], [1]),
        # As in stock Arvados, and unlike in SQL, what is unknown is different from everything.
        (["run_after", "!=", format_micros(START)], [0, 2, 3, 4, 5]),
        (["run_after", "in", [None]], [0, 2, 3, 4, 5]),
        (["run_after", "not in", [None]], [1]),
        (["run_after", "not in", [format_micros(START)]], [0, 2, 3, 4, 5]),
        (["created_at", ">", format_micros(START + 3 * SECOND)], [4, 5]),
        (["created_at", "=", format_micros(START + 3 * SECOND)], [3]),
        (["created_at", "<", "2023-11-14T22:13:21"], [0]),
        (["created_at", "<=", "2023-11-14T23:13:21+01:00"], [0, 1]),
        (["uuid", "is_a", "arvados#containerRequest"], [0, 1, 2, 3, 4, 5]),
        (["uuid", "is_a", ["arvados#container", "arvados#link"]], []),
        (["(priority < container_count)", "=", True], []),
        (["(priority>=container_count)", "=", True], [0, 1, 2, 3, 4, 5]),
        (["(created_at=modified_at)", "=", True], [0, 1, 2, 3, 4, 5]),
        ([["name", "state"], "=", "Committed"], [5]),
        (["any", "ilike", "%AMMA%"], [2, 3]),
        (["container_requests.name", "=", "beta"], [1]),
    ],
)
def test_filters_find(find: Find, condition: list[Any], expected: list[int]) -> None:
    assert find(condition) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("Gamma%", [2]),
        ("gamma%", [3]),
        ("_amma%", [2, 3]),
        (r"gamma\%1", [3]),
        (r"Gamma\_1", [2]),
        ("d*[%", [4]),
        ("d_[e", [4]),
        ("", [5]),
        ("*", []),
        ("?lpha", []),
        ("[A]lpha", []),
    ],
)
def test_like_tells_upper_from_lower_case(find: Find, pattern: str, expected: list[int]) -> None:
    assert find(["name", "like", pattern]) == expected


def test_ilike_does_not(find: Find) -> None:
    assert find(["name", "ilike", "GAMMA%"]) == [2, 3]
    assert find(["name", "ilike", r"gamma\_1"]) == [2]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["properties.n", "=", 1], [0]),
        (["properties.n", "=", "1"], [1]),
        (["properties.n", "=", True], [2]),
        (["properties.n", "!=", 1], [1, 2, 3, 4, 5]),
        (["properties.n", "in", [1, True]], [0, 2]),
        (["properties.n", "not in", [1, True]], [1, 3, 4, 5]),
        (["properties.n", ">", 0], [0]),
        (["properties.n", "<=", "2"], [1]),
        (["properties.n", "contains", 1], [0, 3]),
        (["properties.n", "contains", "q"], [3]),
        (["properties.n", "exists", True], [0, 1, 2, 3]),
        (["properties.n", "exists", False], [4, 5]),
        (["properties.t", "like", "X"], []),
        (["properties.t", "ilike", "X"], [0]),
        (["properties.none", "=", None], [4]),
        (['properties.we"ird.k\\ey', "=", 3], [4]),
        (["properties.<n>", "=", 1], [0]),
        (["properties", "exists", "url"], [0]),
        (["properties", "contains", ["n", "t"]], [0]),
        (["properties", "contains", "n"], [0, 1, 2, 3]),
        (["command", "contains", "echo"], [0]),
        (["command", "exists", "false"], []),
        (["container_requests.properties.n", "=", 1], [0]),
    ],
)
def test_filters_reach_into_json(find: Find, condition: list[Any], expected: list[int]) -> None:
    assert find(condition) == expected


def test_filters_are_joined_by_and(find: Find) -> None:
    assert find(["name", "ilike", "gamma%"], ["priority", "=", 7]) == [2]


def test_filters_may_be_the_text_of_json(find: Find) -> None:
    assert find(filters='[["name", "=", "beta"]]') == [1]


def test_where_is_the_older_form(conn: Connection) -> None:
    params = {"where": {"name": ["Alpha", "beta"], "run_after": None}}
    assert [item["name"] for item in list_records(conn, REQUESTS, params)["items"]] == ["Alpha"]
    params = {"where": {"any": ["contains", "lph"]}}
    assert [item["name"] for item in list_records(conn, REQUESTS, params)["items"]] == ["Alpha"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"filters": "no"}, 'Could not parse "filters" param as an array'),
        ({"filters": {"a": 1}}, 'Could not parse "filters" param as an array'),
        ({"filters": ["x"]}, "Invalid element in filters array: x is not an array"),
        ({"filters": [["a", "="]]}, "must have three elements"),
        ({"filters": [["name", 3, "x"]]}, "Invalid operator '3' (int) in filter"),
        ({"filters": [["name", "~", "x"]]}, "Invalid operator '~'"),
        ({"filters": [["name", "@@", "x"]]}, "Full text search operator is no longer supported"),
        ({"filters": [["nome", "=", "x"]]}, "Invalid attribute 'nome' in filter"),
        ({"filters": [["runtime_token", "=", "x"]]}, "Invalid attribute 'runtime_token' in filter"),
        ({"filters": [["name.x", "=", "x"]]}, "Invalid attribute 'name.x' in filter"),
        ({"filters": [[1, "=", "x"]]}, "Invalid attribute '1' in filter"),
        ({"filters": [[[], "=", "x"]]}, "Invalid attribute '[]' in filter"),
        (
            {"filters": [["priority", "=", "high"]]},
            "Invalid operand 'high' for integer attribute 'priority'",
        ),
        ({"filters": [["priority", "=", 2**70]]}, "for integer attribute 'priority'"),
        ({"filters": [["created_at", ">", "noon"]]}, "Invalid operand 'noon' for datetime"),
        ({"filters": [["name", "in", "x"]]}, "Invalid operand type 'str' for 'in' operator"),
        ({"filters": [["name", "=", ["x"]]]}, "Invalid operand type 'list' for '=' operator"),
        (
            {"filters": [["priority", "<", None]]},
            "Invalid operand type 'NoneType' for '<' operator",
        ),
        ({"filters": [["priority", "like", "1%"]]}, "Invalid attribute 'priority' for operator"),
        ({"filters": [["name", "like", "x\\"]]}, "ends with a backslash"),
        (
            {"filters": [["properties", "=", "x"]]},
            "Invalid operator '=' for attribute 'properties'",
        ),
        ({"filters": [["properties.a", "~", 1]]}, "Invalid operator for subproperty search '~'"),
        ({"filters": [["properties.a", "exists", "?"]]}, "must be true or false"),
        ({"filters": [["name", "=", "x"]] * 201}, "201 filters are too many"),
        ({"filters": [["name", "in", ["x"] * 10_001]]}, "operands in filters are too many"),
        ({"filters": [["name", "=", "\ud800"]]}, "for string attribute 'name'"),
        ({"filters": '[["name", "in", ["\\ud800"]]]'}, "for string attribute 'name'"),
        ({"filters": [["any", "ilike", "%\udfff"]]}, "no usable pattern"),
        ({"filters": [["properties.\ud800", "exists", True]]}, "Invalid attribute"),
        ({"filters": [["properties", "exists", "\ud800"]]}, "Invalid operand type"),
        ({"filters": [["properties.a", "=", "\ud800"]]}, "for '=' operator in filters"),
        ({"filters": [["properties.a", "in", [float("nan")]]]}, "Invalid operand 'nan' for 'in'"),
        ({"filters": '[["properties.a", "<", -Infinity]]'}, "for '<' operator in filters"),
        ({"filters": [["properties.a", "=", 2**63]]}, "for '=' operator in filters"),
        ({"where": "[]"}, 'Could not parse "where" param as an object'),
        ({"limit": "-1"}, "Invalid value for limit parameter"),
        ({"limit": "many"}, "Invalid value for limit parameter"),
        ({"offset": 1.5}, "Invalid value for offset parameter"),
        ({"offset": 2**63}, "Invalid value for offset parameter"),
        ({"order": 3}, 'Could not parse "order" param as an array'),
        ({"order": [3]}, 'Could not parse "order" param as an array'),
        ({"count": "maybe"}, "count parameter must be 'exact' or 'none'"),
        ({"select": "uuid"}, 'Could not parse "select" param as an array'),
        (
            {"select": ["uuid", "nome"]},
            "Invalid attribute 'nome' of ContainerRequest in select parameter",
        ),
        (
            {"select": [["uuid"]]},
            "Invalid attribute '['uuid']' of ContainerRequest in select parameter",
        ),
        ({"select": ["secret_mounts"]}, "Invalid attribute 'secret_mounts' of ContainerRequest"),
        ({"distinct": "perhaps"}, "distinct parameter must be true or false"),
    ],
)
def test_what_cannot_be_understood_is_named(
    conn: Connection, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ServerError) as caught:
        list_records(conn, REQUESTS, params)
    assert caught.value.status == 422
    assert message in str(caught.value)


def test_the_newest_come_first_unless_told_otherwise(find: Find) -> None:
    assert find(order=None) == [5, 4, 3, 2, 1, 0]
    assert find(order="created_at") == [0, 1, 2, 3, 4, 5]
    assert find(order=["priority desc", "created_at asc"]) == [0, 1, 3, 4, 5, 2]
    assert find(order="priority,created_at desc") == [2, 5, 4, 3, 1, 0]
    assert find(order='["priority", "no_such_thing desc", "uuid desc"]') == [2, 5, 4, 3, 1, 0]


def test_unknown_times_count_as_the_latest(find: Find) -> None:
    assert find(order=["run_after asc", "uuid"]) == [1, 0, 2, 3, 4, 5]
    assert find(order=["run_after desc", "uuid"]) == [0, 2, 3, 4, 5, 1]


def test_pages(conn: Connection, find: Find) -> None:
    assert find(limit=2) == [0, 1]
    assert find(limit="2", offset="3") == [3, 4]
    reply = list_records(conn, REQUESTS, {"limit": 0})
    assert reply["items"] == []
    assert reply["items_available"] == 6
    assert reply["kind"] == "arvados#containerRequestList"
    assert list_records(conn, REQUESTS, {"limit": 10**9})["limit"] == 1000
    assert "items_available" not in list_records(conn, REQUESTS, {"count": "none"})
    found = list_records(conn, REQUESTS, {"filters": [["priority", "=", 7]]})
    assert found["items_available"] == 1


def test_only_what_is_selected(conn: Connection) -> None:
    for nothing in ([], ["kind"]):
        reply = list_records(conn, REQUESTS, {"select": nothing, "limit": 1})
        assert reply["items"] == [{"kind": "arvados#containerRequest"}]
    params = {"select": ["uuid", "etag"], "limit": 1}
    (item,) = list_records(conn, REQUESTS, params)["items"]
    assert set(item) == {"kind", "uuid", "etag"}
    for nothing in ([], ["kind"]):
        (item,) = list_records(conn, REQUESTS, {"select": nothing, "limit": 1})["items"]
        assert item == {"kind": "arvados#containerRequest"}
    (item,) = list_records(conn, REQUESTS, {"limit": 1})["items"]
    assert "secret_mounts" not in item
    assert item["created_at"] == format_micros(START + 5 * SECOND)


def test_distinct_rows(conn: Connection) -> None:
    reply = list_records(conn, REQUESTS, {"select": ["state"], "distinct": True})
    assert sorted(item["state"] for item in reply["items"]) == ["Committed", "Uncommitted"]
    assert reply["items_available"] == 2


def test_a_restriction_cannot_be_filtered_away(conn: Connection) -> None:
    restrict = REQUESTS.table.c.priority == 7
    params = {"filters": [[["name", "state"], "!=", "none"]]}
    reply = list_records(conn, REQUESTS, params, restrict)
    assert [item["name"] for item in reply["items"]] == ["Gamma_1"]
    assert reply["items_available"] == 1


def test_the_list_of_waiting_containers_needs_no_sorting(on_sqlite: Connection) -> None:
    """What dispatchers ask for at every turn, however long the queue is."""
    statements: list[str] = []
    params = {
        "filters": [["state", "=", "Queued"], ["priority", ">", 0]],
        "order": "priority desc, created_at asc",
        "count": "none",
    }
    raw = on_sqlite.connection.driver_connection
    assert raw is not None
    raw.set_trace_callback(statements.append)
    list_records(on_sqlite, RESOURCES["containers"], params)
    raw.set_trace_callback(None)
    plan = on_sqlite.execute(text("EXPLAIN QUERY PLAN " + statements[-1].replace(":", r"\:"))).all()
    assert "INDEX" in str(plan)
    assert "B-TREE" not in str(plan)


# Halves of surrogate pairs included: JSON can spell them.
ANY_CHARACTER = st.characters(exclude_categories=[])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY_CHARACTER, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(ANY_CHARACTER, max_size=4), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*(f.name for f in REQUESTS.fields), "properties.n", "mounts.", "any", "."])
OPERATORS = st.sampled_from(
    "= != <> < <= > >= like ilike in|not in|is_a|exists|contains|@@".replace(" ", "|").split("|")
) | st.sampled_from(["not in"])


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    filters=st.lists(
        st.tuples(NAMES | ANYTHING, OPERATORS | ANYTHING, ANYTHING).map(list), max_size=3
    )
    | ANYTHING,
    others=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("order", "select", "limit", "offset", "where", "count"), ANYTHING),
    ),
)
def test_any_parameters_are_answered_or_refused(
    conn: Connection, filters: Any, others: dict[str, Any]
) -> None:
    try:
        reply = list_records(conn, REQUESTS, {"filters": filters, **others})
    except ServerError as error:
        assert error.status == 422  # noqa: PT017
    else:
        assert reply["kind"] == "arvados#containerRequestList"
