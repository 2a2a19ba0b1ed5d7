"""What a container request may say; each refusal names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.container_request import (
    ATTRIBUTES,
    content_address,
    defaults,
    problems,
    with_defaults,
)

GOOD: dict[str, Any] = {
    "name": "gc-1",
    "command": ["python3", "gc.py", ""],
    "runtime_constraints": {"vcpus": 2, "ram": 2**30, "gpu": {"device_count": 1, "stack": "cuda"}},
    "mounts": {
        "/work/out": {"kind": "tmp", "capacity": 2**20},
        "/work/in.json": {"kind": "json", "content": {"a": [1, 2.5, None]}},
        "/work/gc.py": {"kind": "text", "content": "print()"},
        "stdin": {"kind": "file", "path": "/data/in"},
        "stdout": {"kind": "file", "path": "/work/out/log.txt"},
    },
    "output_path": "/work/out/",
    "environment": {"LANG": "C", "EMPTY": ""},
    "scheduling_parameters": {"max_run_time": 60, "partitions": ["long"], "preemptible": False},
    "priority": 1000,
    "run_after": "2026-01-31T12:00:00.5Z",
    "cwd": "/work",
}


def test_a_good_request_has_no_problems() -> None:
    assert problems(GOOD, committing=True) == []
    assert problems(with_defaults(GOOD), committing=True) == []


def test_defaults_alone_are_no_problem_until_committed() -> None:
    assert problems(defaults(), committing=False) == []
    assert [str(p) for p in problems({}, committing=True)] == [
        "command: is empty: there is nothing to run",
        "runtime_constraints.vcpus: missing: must be a positive integer",
        "runtime_constraints.ram: missing: must be a positive integer",
        "output_path: is empty: a mount of kind tmp, or a folder of one, is needed",
    ]


@pytest.mark.parametrize(
    ("field", "value", "where", "words"),
    [
        ("comand", ["x"], "comand", "unknown field"),
        ("command", "true", "command", "must be an array of strings, not a string"),
        ("command", [1], "command.0", "must be a string, not a number"),
        ("command", [""], "command.0", "must name a program"),
        ("command", ["a\0b"], "command.0", "contains a NUL character"),
        ("command", ["\ud800"], "command.0", "lone surrogate"),
        ("command", [], "command", "is empty"),
        ("command", None, "command", "is empty"),
        ("runtime_constraints", {"ram": -1, "vcpus": 1}, "runtime_constraints.ram", "not -1"),
        ("runtime_constraints", {"ram": "1", "vcpus": 1}, "runtime_constraints.ram", "a string"),
        ("runtime_constraints", {"ram": 1.5, "vcpus": 1}, "runtime_constraints.ram", "a number"),
        ("runtime_constraints", {"ram": 1, "vcpus": True}, "runtime_constraints.vcpus", "boolean"),
        ("runtime_constraints", {"ram": 1, "vcpus": 0}, "runtime_constraints.vcpus", "positive"),
        ("runtime_constraints", {"ram": 2**62 + 1}, "runtime_constraints.ram", "too large"),
        ("runtime_constraints", {"vcpu": 1}, "runtime_constraints.vcpu", "unexpected key"),
        ("runtime_constraints", {"gpu": {"x": 1}}, "runtime_constraints.gpu.x", "unexpected key"),
        (
            "runtime_constraints",
            {"gpu": {"stack": "metal"}},
            "runtime_constraints.gpu.stack",
            "cuda",
        ),
        ("runtime_constraints", [], "runtime_constraints", "must be an object, not an array"),
        ("runtime_constraints", {"API": 1}, "runtime_constraints.API", "true or false"),
        ("priority", 1001, "priority", "must be from 0 to 1000, not 1001"),
        ("priority", -1, "priority", "must be from 0 to 1000"),
        ("priority", "5", "priority", "must be an integer, not a string"),
        ("priority", 0, "priority", "which cancels"),
        ("container_count_max", 0, "container_count_max", "at least 1"),
        ("use_existing", "yes", "use_existing", "true or false, not a string"),
        ("state", "Done", "state", "must be one of Uncommitted"),
        ("cwd", "work", "cwd", "absolute path"),
        ("cwd", "/a/../b", "cwd", "absolute path"),
        ("environment", {"A=B": "x"}, "environment", "is not a name"),
        ("environment", {"": "x"}, "environment", "is not a name"),
        ("environment", {"A": 1}, "environment.A", "must be a string"),
        ("environment", {"A\0": "1"}, "environment key", "NUL"),
        ("run_after", "tomorrow", "run_after", "not a time"),
        ("run_after", "2026-01-01T00:00:00", "run_after", "with a zone"),
        ("run_after", 5, "run_after", "not a number"),
        ("run_after", "9999-12-31T23:59:59-01:00", "run_after", "not a time"),
        ("expires_at", "0001-01-01T00:00:00+01:00", "expires_at", "not a time"),
        (
            "scheduling_parameters",
            {"max_run_time": -1},
            "scheduling_parameters.max_run_time",
            "at least 0",
        ),
        ("scheduling_parameters", {"partitions": "a"}, "scheduling_parameters.partitions", "array"),
        ("scheduling_parameters", {"x": 1}, "scheduling_parameters.x", "unexpected key"),
        ("mounts", {"rel": {"kind": "tmp"}}, "mounts.rel", "absolute path, or stdin"),
        ("mounts", {"/": {"kind": "tmp"}}, "mounts./", "absolute path, or stdin"),
        ("mounts", {"/a/../b": {"kind": "tmp"}}, "mounts./a/../b", "absolute path"),
        ("mounts", {"/a": {"kind": "disk"}}, "mounts./a.kind", "must be one of tmp"),
        ("mounts", {"/a": {"kind": ["tmp"]}}, "mounts./a.kind", "must be one of tmp"),
        ("mounts", {"/a": {"kind": "tmp", "capacity": "1"}}, "mounts./a.capacity", "a string"),
        ("mounts", {"/a": {"kind": "tmp", "size": 1}}, "mounts./a.size", "unexpected key"),
        ("mounts", {"/a": {"kind": "text"}}, "mounts./a.content", "missing"),
        ("mounts", {"/a": {"kind": "file"}}, "mounts./a.path", "missing"),
        ("mounts", {"/a": {"kind": "file", "path": None}}, "mounts./a.path", "missing"),
        ("mounts", {"/a": {"kind": "file", "path": "store:u"}}, "mounts./a.path", "store:<cont"),
        ("mounts", {"/a": {"kind": "file", "path": "store:u/log/x"}}, "mounts./a.path", "store:<"),
        ("mounts", {"/a": "tmp"}, "mounts./a", "must be an object, not a string"),
        ("mounts", {"stdout": {"kind": "tmp"}}, "mounts.stdout.kind", "only go to"),
        ("mounts", {"stdin": {"kind": "tmp"}}, "mounts.stdin.kind", "only come from"),
        ("secret_mounts", {"/a": {"kind": "tmp"}}, "secret_mounts./a.kind", "text, json"),
        ("output_path", "out", "output_path", "absolute path"),
        ("output_path", "/elsewhere", "output_path", "mount target"),
        ("output_path", "", "output_path", "is empty"),
        ("properties", {"a": float("nan")}, "properties.a", "not a number that can be stored"),
        ("properties", {1: 2}, "properties", "a key that is not a string"),
        ("properties", {"a": {1, 2}}, "properties.a", "not a JSON value: set"),
        ("name", 5, "name", "must be a string"),
        ("name", True, "name", "not a boolean"),
    ],
)
def test_a_bad_value_is_named(field: str, value: Any, where: str, words: str) -> None:
    found = problems({**GOOD, field: value}, committing=True)
    assert [p.field for p in found][:1] == [where], found
    assert words in found[0].message


def test_deep_nesting_is_refused() -> None:
    deep: Any = 0
    for _ in range(10_000):
        deep = [deep]
    (found,) = problems({"properties": {"a": deep}}, committing=False)
    assert "levels deep" in found.message


def test_a_redirected_stream_ends_in_the_output() -> None:
    stream = {"stdout": {"kind": "file", "path": "/tmp/x"}}
    (found,) = problems({**GOOD, "mounts": {**GOOD["mounts"], **stream}}, committing=True)
    assert str(found) == "mounts.stdout.path: must lie below output_path"


def test_a_secret_does_not_hide_a_mount() -> None:
    secret = {"/work/gc.py": {"kind": "text", "content": "x"}}
    (found,) = problems({**GOOD, "secret_mounts": secret}, committing=True)
    assert found.field == "secret_mounts./work/gc.py"


def test_all_problems_are_told_at_once() -> None:
    found = problems({"command": 5, "priority": "x", "nmae": 1}, committing=False)
    assert [p.field for p in found] == ["command", "priority", "nmae"]


def test_defaults_are_fresh_each_time() -> None:
    defaults()["mounts"]["/x"] = 1
    assert defaults()["mounts"] == {}


def test_the_content_address_is_of_the_work_alone() -> None:
    address = content_address(GOOD)
    assert address == content_address({**GOOD, "priority": 1, "name": "x", "run_after": None})
    assert address == content_address(with_defaults(GOOD))
    assert address != content_address({**GOOD, "command": ["python3"]})
    assert address != content_address({**GOOD, "environment": {}})
    assert address != content_address(GOOD, salt="s")
    assert len(address) == 64


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(ATTRIBUTES)) | st.text(max_size=5), JSON))
def test_whatever_comes_is_judged_and_what_passes_can_be_stored(given_: dict[str, Any]) -> None:
    for committing in (False, True):
        if not problems(given_, committing=committing):
            json.dumps(with_defaults(given_), allow_nan=False).encode()
            content_address(given_)
