from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import (
    CONTAINER_TRANSITIONS,
    Capabilities,
    Container,
    ContainerState,
    Resources,
    format_bytes,
    format_seconds,
    format_time,
    new_uuid,
    parse_time,
    resources_of,
)

ARCHITECTURE = Path(__file__).parents[1] / "docs/explanation/architecture.md"


def test_the_transitions_are_those_of_the_documentation() -> None:
    graph = ARCHITECTURE.read_text().partition("```states\n")[2].partition("```")[0]
    wanted: dict[str, set[str]] = {state.value: set() for state in ContainerState}
    for line in graph.strip().splitlines():
        before, _, after = line.partition("->")
        wanted[before.strip()] = {word.strip() for word in after.split(",")}
    found = {
        before.value: {s.value for s in after} for before, after in CONTAINER_TRANSITIONS.items()
    }
    assert found == wanted


def test_final_states_have_no_way_out() -> None:
    final = {state for state in ContainerState if state.is_final}
    assert final == {"Complete", "PermFail", "TempFail", "Cancelled"}


def test_uuids_have_the_cluster_and_the_kind() -> None:
    uuid = new_uuid("zzzzz", "container")
    assert uuid.startswith("zzzzz-dz642-")
    assert len(uuid) == 27


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_survive_the_round_trip(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        parse_time("2026-01-01T00:00:00")


def test_stock_times_are_read_to_the_microsecond() -> None:
    assert parse_time("1970-01-01T00:00:01.123456789Z") == pytest.approx(1.123456)


def test_capabilities_survive_the_round_trip() -> None:
    capabilities = Capabilities((Resources(1, 2, 3, 4), Resources(5, 6)), ("a", "b"))
    assert Capabilities.from_dict(capabilities.as_dict()) == capabilities


def test_scratch_is_the_sum_of_the_tmp_mounts() -> None:
    record = {
        "runtime_constraints": {"vcpus": 2, "ram": 100, "keep_cache_ram": 10},
        "mounts": {
            "/a": {"kind": "tmp", "capacity": 5},
            "/b": {"kind": "tmp", "capacity": 6},
            "/c": {"kind": "text", "content": "x"},
        },
    }
    assert resources_of(record) == Resources(2, 110, 11, 0)


def test_a_record_of_the_api_is_read() -> None:
    container = Container.from_record(
        {
            "uuid": "zzzzz-dz642-000000000000001",
            "state": "Queued",
            "priority": 3,
            "runtime_constraints": {"vcpus": 2, "ram": 100},
            "scheduling_parameters": {"partitions": ["p"], "max_run_time": 60},
            "mounts": {},
            "created_at": "1970-01-01T00:00:01Z",
            "modified_at": "1970-01-01T00:00:02Z",
            "run_after": "1970-01-01T00:00:03Z",
            "attempt": 2,
            "temp_fails": 1,
            "runtime_status": {"error": "it broke"},
        }
    )
    assert container.resources == Resources(2, 100)
    assert (container.created_at, container.modified_at, container.run_after) == (1.0, 2.0, 3.0)
    assert (container.attempt, container.temp_fails, container.error) == (2, 1, "it broke")
    assert (container.partitions, container.max_run_seconds) == (("p",), 60)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (40 << 30, "40 GiB"), (3 << 40, "3 TiB")],
)
def test_sizes_for_people(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (12.2, "12 s"), (185.0, "3 min 5 s"), (7800.0, "2 h 10 min")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
