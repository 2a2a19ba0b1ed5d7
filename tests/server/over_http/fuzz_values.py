"""Values for made-up calls: right, wrong, extreme, and such as name what exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.server.over_http.fuzz_world import NODE, Known, work

Strategy = st.SearchStrategy[Any]

_INTEGERS = [0, 1, -1, 2**31, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400]
_FLOATS = [0.5, -0.0, 1e308, -1e300, 5e-324, float("nan"), float("inf"), 1e15]
TEXTS = [
    "", " ", "\0", "a\0b", "\ud800", "\udfff!", "\ufeff", "\u2028", "ä☃💥", "e\u0301", "\r\n", "\x7f\x1b[31m",
    "%00", "%s%n", "'; DROP TABLE containers; --", "../../etc/passwd", "\\", "\\u0000", "{", "[[", "null",
    "true", "1e999", "-1", "0x10", "\uff11\uff12", "1_000", "NaN", "x" * 300, "x" * 70_000, "é" * 2000,
    "2026-01-31T12:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+14:00",
    "2026-01-31", "v2/zzzzz-gj3su-000000000000000/x", "a.b", "container.state", "properties.", "any", "*",
]  # fmt: skip
_DEEP = ([None], 20), ([None], 40), ([None], 150), ({"a": None}, 33), ({"a": None}, 120)


def _nested(shape: Any, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if isinstance(shape, list) else {"a": value}
    return value


KNOWN = st.builds(
    Known,
    st.sampled_from(["xvhdp", "dz642", "bmxii", "o0j2j", "57u5n", "gj3su", "tpzed", ""]),
    st.integers(0, 6),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_INTEGERS),
    st.sampled_from(_FLOATS),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
    KNOWN,
)
JUNK = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(TEXTS[:30]) | st.text(max_size=4), SCALARS, max_size=3),
    st.sampled_from(_DEEP).map(lambda shape: _nested(*shape)),
)
TIMES = st.sampled_from(
    ["2026-01-31T12:00:00Z", "2999-01-31T12:00:00.123456789Z", "1970-01-01T00:00:00+00:00", None]
)
OF_TYPE: Mapping[str, Strategy] = {
    "string": st.sampled_from(TEXTS[9:]) | KNOWN,
    "text": st.sampled_from(TEXTS[9:]),
    "integer": st.integers(-2, 1000) | st.sampled_from(_INTEGERS),
    "float": st.floats(-1e6, 1e6),
    "number": st.integers(0, 9),
    "boolean": st.booleans(),
    "datetime": TIMES,
    "Hash": st.dictionaries(st.text(max_size=4), SCALARS, max_size=3),
    "object": st.dictionaries(st.text(max_size=4), SCALARS, max_size=3),
    "Array": st.lists(SCALARS, max_size=3),
    "array": st.lists(SCALARS, max_size=3),
}
# Nobody is to be held for long.
WAITS: Strategy = st.sampled_from([0, "0", 0.01, -1, "nan", "-inf", "", None, [], {}, "x", True])

STATES = st.sampled_from(
    ["Queued", "Locked", "Running", "Complete", "TempFail", "PermFail", "Cancelled", "Committed"]
)
_REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "state": STATES,
        "runner_id": st.sampled_from(["r1", "r2"]),
        "exit_code": st.integers(0, 3),
        "runtime_status": st.fixed_dictionaries({"error": st.sampled_from(["it broke", "", 3])}),
        "given_back": st.booleans(),
        "hold": st.booleans(),
        "progress": st.floats(0, 1),
        "scheduler_job": JUNK,
    },
)
RECORDS: Mapping[str, Strategy] = {
    "container_request": st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(0, 3),
            "use_existing": st.booleans(),
            "container_count_max": st.integers(1, 3),
            "expires_at": TIMES,
            "run_after": TIMES,
        },
    ).map(lambda more: work(**more)),
    "container": _REPORTS | st.builds(lambda u: {"dispatcher": u}, st.builds(Known, st.just("bmxii"), st.just(0))),
    "dispatcher": st.fixed_dictionaries(
        {
            "name": st.sampled_from(["elm", "elm", "oak", "ash"]),
            "scheduler": st.just("fake"),
            "capabilities": st.just({"largest": [NODE], "partitions": ["p"]}),
        }
    ),
}  # fmt: skip
_CONTAINER = st.builds(Known, st.just("dz642"), st.integers(0, 9))
_REASONS = st.fixed_dictionaries(
    {"token": st.sampled_from(["no-node-fits", "backoff"]), "tier": st.just("never"), "sentence": st.just("s")}
)  # fmt: skip
_ODD_REASONS = st.fixed_dictionaries(
    {"token": st.sampled_from(["no-node-fits", "backoff", "none"])},
    optional={
        "sentence": JUNK,
        "facts": JUNK,
        "advice": JUNK,
        "since": JUNK | TIMES,
        "next_attempt_at": JUNK | TIMES,
        "tier": JUNK,
    },
)


def _batches(uuids: Strategy, reports: Strategy, reasons: Strategy) -> Strategy:
    """What calls about many containers carry: each finds its own array, and no harm in the others."""
    pair = st.fixed_dictionaries
    return st.fixed_dictionaries(
        {
            "updates": st.lists(pair({"uuid": uuids, "attributes": reports}), max_size=3),
            "uuids": st.lists(uuids, max_size=3),
            "annotations": st.lists(pair({"uuid": uuids, "reason": reasons}), max_size=3),
        }
    )


BATCHES = _batches(_CONTAINER, _REPORTS, _REASONS | st.none())
ODD_BATCHES = st.one_of(
    _batches(_CONTAINER | JUNK, _REPORTS | JUNK, _ODD_REASONS | _REASONS),
    st.fixed_dictionaries(
        {},
        optional={
            "updates": JUNK,
            "uuids": JUNK,
            "annotations": JUNK,
            "capabilities": JUNK
            | st.fixed_dictionaries({"largest": st.lists(JUNK, max_size=2) | JUNK}),
        },
    ),
)
OPERATORS = st.sampled_from(
    ["=", "!=", "<>", "<", "<=", ">", ">=", "in", "not in", "like", "ilike", "is_a", "exists",
     "contains", "any", "@@", "", "IN", None]
)  # fmt: skip
