"""Quantities, what pods keep of nodes, and what nodes are to us."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import SchedulerError
from nodemanager.model import NodeState, Resources
from nodemanager.schedulers.kubernetes.names import DRAINED
from nodemanager.schedulers.kubernetes.podnodes import (
    EMPTY,
    Load,
    NodeRules,
    Taint,
    Tenant,
    Toleration,
    parse_node,
    parse_tenant,
)
from nodemanager.schedulers.kubernetes.quantities import (
    GPU_RESOURCES,
    Amounts,
    in_thousandths,
    in_units,
    requests_of,
)
from tests.schedulers.kubernetes_objects import GIB, node_json

SAMPLES = Path(__file__).parent / "kubernetes_samples"
ANY = NodeRules()

# Quantities.


@pytest.mark.parametrize(
    ("text", "units", "thousandths"),
    [
        ("100m", 1, 100),
        ("1Gi", 1 << 30, 1000 << 30),
        ("64Mi", 64 << 20, 64000 << 20),
        ("1e3", 1000, 1_000_000),
        ("1E3", 1000, 1_000_000),
        ("1E", 10**18, 10**21),
        ("128974848", 128974848, 128974848000),
        ("0.5", 1, 500),
        (".5Ki", 512, 512_000),
        ("1k", 1000, 1_000_000),
        ("1u", 1, 1),
        ("0", 0, 0),
        ("12e-1", 2, 1200),
    ],
)
def test_a_quantity_is_rounded_up(text: str, units: int, thousandths: int) -> None:
    assert in_units(text) == units
    assert in_thousandths(text) == thousandths


SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(1 << 10),
    "Mi": Fraction(1 << 20),
    "Gi": Fraction(1 << 30),
    "Ti": Fraction(1 << 40),
    "Pi": Fraction(1 << 50),
    "Ei": Fraction(1 << 60),
    "e3": Fraction(1000),
    "E-2": Fraction(1, 100),
}


@given(
    st.decimals(min_value=0, max_value=10**9, places=3, allow_nan=False),
    st.sampled_from(sorted(SUFFIXES)),
)
def test_every_suffix_is_known(number: Decimal, suffix: str) -> None:
    exact = Fraction(number) * SUFFIXES[suffix]
    assert in_units(f"{number}{suffix}") == math.ceil(exact)
    assert in_thousandths(f"{number}{suffix}") == math.ceil(exact * 1000)


@pytest.mark.parametrize("text", ["", "Gi", "1ki", "one", "1Gib", "NaN", "inf", "1e"])
def test_what_is_no_quantity_is_an_error(text: str) -> None:
    with pytest.raises(SchedulerError, match="quantity"):
        in_units(text)


# What pods keep.


def container(cpu: str, memory: str = "0", **fields: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **fields}


def test_containers_run_together() -> None:
    spec = {"containers": [container("500m", "1Gi"), container("1", "2Gi"), {}]}
    assert requests_of(spec, GPU_RESOURCES) == Amounts(1500, 3 * GIB, pods=1)


def test_init_containers_run_before_one_after_the_other() -> None:
    first = {"initContainers": [container("3"), container("2", "5Gi")]}
    spec = {"containers": [container("1", "1Gi")], **first}
    assert requests_of(spec, ()) == Amounts(3000, 5 * GIB, pods=1)


def test_sidecars_run_beside_all_that_come_after_them() -> None:
    sidecar = container("1", restartPolicy="Always")
    inits = [container("3"), sidecar, container("4")]
    spec = {"containers": [container("2")], "initContainers": inits}
    assert requests_of(spec, ()).milli_cores == 5000
    spec["containers"] = [container("6")]
    assert requests_of(spec, ()).milli_cores == 7000


def test_an_overhead_is_added() -> None:
    spec = {"containers": [container("1")], "overhead": {"cpu": "250m", "memory": "1Mi"}}
    assert requests_of(spec, ()) == Amounts(1250, 1 << 20, pods=1)


def test_the_operator_names_what_counts_as_a_gpu() -> None:
    requests = {"nvidia.com/gpu": "2", "amd.com/gpu": "1", "ephemeral-storage": "1Ki"}
    spec = {"containers": [{"resources": {"requests": requests}}]}
    assert requests_of(spec, GPU_RESOURCES) == Amounts(0, 0, 1024, 2, 1)
    assert requests_of(spec, ("amd.com/gpu", "nvidia.com/gpu")).gpus == 3


AMOUNTS = st.builds(Amounts, *[st.integers(0, 10**6)] * 5)


@given(st.lists(st.integers(0, 5000)), st.lists(st.tuples(st.integers(0, 5000), st.booleans())))
def test_a_pod_keeps_as_much_as_it_needs_at_any_time(
    together: list[int], before: list[tuple[int, bool]]
) -> None:
    inits = [
        container(f"{cpu}m", **({"restartPolicy": "Always"} if stays else {}))
        for cpu, stays in before
    ]
    spec = {"containers": [container(f"{cpu}m") for cpu in together], "initContainers": inits}
    at_a_time = []
    beside = 0
    for cpu, stays in before:
        at_a_time.append(beside + cpu)
        beside += cpu if stays else 0
    at_a_time.append(beside + sum(together))
    assert requests_of(spec, ()).milli_cores == max(at_a_time)


@given(AMOUNTS, AMOUNTS)
def test_amounts_add_up(one: Amounts, other: Amounts) -> None:
    assert one + other - other == one
    assert one.at_least(other) == other.at_least(one)
    assert one.at_least(other).at_least(one) == one.at_least(other)


# Nodes.


def state(value: dict[str, Any], load: Load = EMPTY, rules: NodeRules = ANY) -> NodeState | None:
    node = parse_node(value).as_node(load, rules)
    return None if node is None else node.state


BUSY = EMPTY.with_ours(Amounts(1000, GIB, pods=1), exclusive=False)


def test_a_real_node_is_read() -> None:
    value = json.loads((SAMPLES / "node.json").read_text())
    node = parse_node(value).as_node(BUSY, ANY)
    assert node is not None
    assert node.state is NodeState.BUSY
    assert node.total == Resources(2, 24683656 << 10, 264212084 << 10)
    assert node.free == Resources(1, (24683656 << 10) - GIB, 264212084 << 10)
    assert (node.partitions, node.reason, node.preemptible) == ((), "", False)


def test_a_real_node_whose_kubelet_is_silent_is_down() -> None:
    value = json.loads((SAMPLES / "node-lost.json").read_text())
    node = parse_node(value).as_node(BUSY, ANY)
    assert node is not None
    assert node.state is NodeState.DOWN
    assert node.reason == "Kubelet stopped posting node status."


def test_a_node_is_busy_with_our_pods_alone() -> None:
    assert state(node_json("n")) is NodeState.IDLE
    tenant = Tenant("u", "n", Amounts(3500, pods=1), fixed=False)
    node = parse_node(node_json("n")).as_node(EMPTY.with_tenant(tenant), ANY)
    assert node is not None
    assert (node.state, node.total.cores, node.free.cores) == (NodeState.IDLE, 4, 0)


def test_what_belongs_to_a_node_is_nobody_elses() -> None:
    tenant = Tenant("u", "n", Amounts(100, GIB, pods=1), fixed=True)
    node = parse_node(node_json("n")).as_node(EMPTY.with_tenant(tenant), ANY)
    assert node is not None
    assert node.total == node.free == Resources(3, 15 * GIB, 100 * GIB)


def test_a_pod_that_has_its_node_to_itself_leaves_nothing() -> None:
    load = EMPTY.with_ours(Amounts(1000, pods=1), exclusive=True)
    node = parse_node(node_json("n")).as_node(load.with_ours(Amounts(), exclusive=False), ANY)
    assert node is not None
    assert (node.total.cores, node.free) == (4, Resources(0, 0))


def test_a_node_with_as_many_pods_as_it_may_have_has_no_room() -> None:
    value = node_json("n")
    value["status"]["allocatable"]["pods"] = "1"
    assert parse_node(value).as_node(BUSY, ANY).free == Resources(0, 0)  # type: ignore[union-attr]


def test_a_cordoned_node_is_drained_when_ours_have_left() -> None:
    value = node_json("n")
    value["spec"]["unschedulable"] = True
    assert state(value, BUSY) is NodeState.DRAINING
    assert state(value) is NodeState.DRAINED
    node = parse_node(value).as_node(EMPTY, ANY)
    assert node is not None
    assert node.reason == "cordoned"
    value["metadata"]["annotations"] = {DRAINED: "node manager: shutting down"}
    node = parse_node(value).as_node(EMPTY, ANY)
    assert node is not None
    assert node.reason == "node manager: shutting down"


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_is_not_ready_is_down(ready: str) -> None:
    value = node_json("n")
    value["status"]["conditions"] = [
        {"type": "Ready", "status": ready, "reason": "KubeletNotReady"}
    ]
    assert state(value) is NodeState.DOWN
    assert parse_node(value).as_node(EMPTY, ANY).reason == "KubeletNotReady"  # type: ignore[union-attr]


def test_a_node_that_has_never_said_how_it_is_is_unknown() -> None:
    value = node_json("n")
    value["status"] = {}
    node = parse_node(value).as_node(EMPTY, ANY)
    assert node is not None
    assert (node.state, node.total, node.free) == (
        NodeState.UNKNOWN,
        Resources(0, 0),
        Resources(0, 0),
    )


def tainted(key: str, effect: str = "NoSchedule", value: str = "") -> dict[str, Any]:
    node = node_json("n")
    node["spec"]["taints"] = [{"key": key, "effect": effect, "value": value}]
    return node


@pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
def test_a_node_for_others_is_not_ours(effect: str) -> None:
    assert state(tainted("team", effect, "theirs")) is None
    rules = NodeRules(tolerations=(Toleration("team", "Equal", "theirs"),))
    assert state(tainted("team", effect, "theirs"), EMPTY, rules) is NodeState.IDLE


def test_a_taint_that_is_a_wish_repels_nobody() -> None:
    assert state(tainted("team", "PreferNoSchedule")) is NodeState.IDLE


@pytest.mark.parametrize(
    "key",
    ["node.kubernetes.io/memory-pressure", "node.cloudprovider.kubernetes.io/uninitialized"],
)
def test_a_taint_that_says_how_a_node_is_closes_it_for_a_while(key: str) -> None:
    assert state(tainted(key)) is NodeState.DRAINED
    assert state(tainted(key), BUSY) is NodeState.DRAINING
    assert parse_node(tainted(key)).as_node(EMPTY, ANY).reason == f"tainted: {key}"  # type: ignore[union-attr]
    tolerant = NodeRules(tolerations=(Toleration(operator="Exists"),))
    assert state(tainted(key), EMPTY, tolerant) is NodeState.IDLE


def test_a_selector_leaves_nodes_out() -> None:
    rules = NodeRules(node_selector={"pool": "arvados"})
    assert state(node_json("n"), EMPTY, rules) is None
    assert state(node_json("n", pool="other"), EMPTY, rules) is None
    assert state(node_json("n", pool="arvados"), EMPTY, rules) is NodeState.IDLE


def test_labels_tell_partitions_and_what_can_be_taken_away() -> None:
    rules = NodeRules(partition_label="part", preemptible_label="life=spot")
    spot = parse_node(node_json("n", part="large", life="spot")).as_node(EMPTY, rules)
    assert spot is not None
    assert (spot.partitions, spot.preemptible) == (("large",), True)
    other = parse_node(node_json("n", life="long")).as_node(EMPTY, rules)
    assert other is not None
    assert (other.partitions, other.preemptible) == ((), False)
    by_key = NodeRules(preemptible_label="life")
    assert parse_node(node_json("n", life="long")).as_node(EMPTY, by_key).preemptible  # type: ignore[union-attr]


def test_a_heartbeat_is_no_change() -> None:
    one, other = node_json("n"), node_json("n")
    one["metadata"]["resourceVersion"], other["metadata"]["resourceVersion"] = "1", "2"
    other["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-25T09:03:00Z"
    assert parse_node(one) == parse_node(other)


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        (Toleration("k", "Equal", "v"), Taint("k", "v", "NoSchedule"), True),
        (Toleration("k", "Equal", "v"), Taint("k", "w", "NoSchedule"), False),
        (Toleration("k", "Exists"), Taint("k", "w", "NoExecute"), True),
        (Toleration("k", "Exists", effect="NoSchedule"), Taint("k", "", "NoExecute"), False),
        (Toleration("", "Exists"), Taint("k", "w", "NoExecute"), True),
        (Toleration("", "Equal"), Taint("k", "", "NoExecute"), False),
        (Toleration("l", "Exists"), Taint("k", "", "NoExecute"), False),
        (Toleration.from_dict({"key": "k"}), Taint("k", "", "NoSchedule"), True),
    ],
)
def test_tolerations_match_as_kubernetes_says(
    toleration: Toleration, taint: Taint, tolerated: bool
) -> None:
    assert toleration.tolerates(taint) is tolerated


def test_a_pod_of_a_daemon_set_belongs_to_its_node() -> None:
    value: dict[str, Any] = {
        "metadata": {"uid": "u"},
        "spec": {"nodeName": "n", "containers": [container("100m")]},
    }
    assert parse_tenant(value) == Tenant("u", "n", Amounts(100, pods=1), fixed=False)
    for kind, fixed in (("DaemonSet", True), ("Node", True), ("ReplicaSet", False)):
        value["metadata"]["ownerReferences"] = [{"kind": kind}]
        assert parse_tenant(value).fixed is fixed


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 4 * GIB), st.booleans())),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 4 * GIB), st.booleans())),
)
def test_what_is_free_is_never_more_than_there_is(
    ours: list[tuple[int, int, bool]], others: list[tuple[int, int, bool]]
) -> None:
    load = EMPTY
    for cpu, ram, exclusive in ours:
        load = load.with_ours(Amounts(cpu, ram, pods=1), exclusive=exclusive)
    for cpu, ram, fixed in others:
        load = load.with_tenant(Tenant("u", "n", Amounts(cpu, ram, pods=1), fixed))
    node = parse_node(node_json("n")).as_node(load, ANY)
    assert node is not None
    assert (node.state is NodeState.BUSY) == bool(ours)
    for free, total in (
        (node.free.cores, node.total.cores),
        (node.free.ram_bytes, node.total.ram_bytes),
    ):
        assert 0 <= free <= total
    if any(exclusive for _, _, exclusive in ours):
        assert node.free.cores == 0
    else:
        used = sum(cpu for cpu, _, _ in [*ours, *others])
        assert node.free.cores == max(0, (4000 - used) // 1000)
