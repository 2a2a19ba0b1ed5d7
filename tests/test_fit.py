from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from nodemanager.fit import can_run, capabilities_of, explain_misfit, fits, largest
from nodemanager.model import (
    Capabilities,
    Container,
    ContainerState,
    Node,
    NodeSize,
    NodeState,
    Resources,
)
from nodemanager.reason import ReasonToken, Tier

GIB = 1 << 30
UUID = "zzzzz-dz642-000000000000001"

amounts = st.builds(
    Resources,
    cores=st.integers(0, 8),
    ram_bytes=st.integers(0, 8).map(lambda n: n * GIB),
    scratch_bytes=st.integers(0, 3).map(lambda n: n * GIB),
    gpus=st.integers(0, 2),
)
partitions = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True).map(tuple)


def container(resources: Resources, names: tuple[str, ...] = ()) -> Container:
    return Container(UUID, ContainerState.QUEUED, 1, resources, 0.0, partitions=names)


@given(amounts, st.lists(amounts, max_size=5), partitions, partitions)
def test_fits_and_explain_agree(
    needed: Resources,
    nodes: list[Resources],
    wanted: tuple[str, ...],
    offered: tuple[str, ...],
) -> None:
    capabilities = Capabilities(tuple(nodes), offered)
    reason = explain_misfit(container(needed, wanted), capabilities, now=0.0)
    assert can_run(container(needed, wanted), capabilities) is (reason is None)
    partition_ok = not wanted or not offered or bool(set(wanted) & set(offered))
    assert (reason is None) is (partition_ok and any(fits(needed, node) for node in nodes))
    if reason is not None:
        assert reason.tier is Tier.NEVER
        assert reason.sentence
        assert reason.advice


nodes = st.builds(
    Node,
    name=st.just("n"),
    state=st.sampled_from(NodeState),
    total=amounts,
    free=amounts,
    partitions=partitions,
    preemptible=st.booleans(),
)
sizes = st.builds(
    NodeSize,
    name=st.just("s"),
    resources=amounts,
    price=st.just(1.0),
    preemptible=st.booleans(),
    partitions=partitions,
)
containers = st.builds(
    Container,
    uuid=st.just(UUID),
    state=st.just(ContainerState.QUEUED),
    priority=st.just(1),
    resources=amounts,
    created_at=st.just(0.0),
    partitions=st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=2).map(tuple),
    preemptible=st.booleans(),
)


def could_hold(place: Node | NodeSize, wanted: Container) -> bool:
    """Whether this one alone could: what the capabilities of many must come down to."""
    if isinstance(place, Node) and place.state in (NodeState.DOWN, NodeState.UNKNOWN):
        return False
    resources = place.total if isinstance(place, Node) else place.resources
    names = set(place.partitions)
    return (
        fits(wanted.resources, resources)
        and (not names or not wanted.partitions or bool(names & set(wanted.partitions)))
        and (wanted.preemptible or not place.preemptible)
    )


@settings(max_examples=500)
@given(containers, st.lists(nodes, max_size=4), st.lists(sizes, max_size=3))
def test_it_fits_just_when_some_node_or_size_could_hold_it_in_that_partition(
    wanted: Container, there: list[Node], bootable: list[NodeSize]
) -> None:
    capabilities = capabilities_of(there, bootable)
    reason = explain_misfit(wanted, capabilities, now=0.0)
    places: list[Node | NodeSize] = [*there, *bootable]
    assert (reason is None) is any(could_hold(place, wanted) for place in places)
    kept = Capabilities.from_dict(capabilities.as_dict())
    assert kept == capabilities
    if reason is not None:
        assert reason.tier is Tier.NEVER
        assert reason.advice
        numbers = [fact for fact in reason.facts.values() if isinstance(fact, dict)]
        assert all(fact["wanted"] > fact["available"] for fact in numbers)


@given(containers, st.lists(nodes, max_size=4))
def test_what_the_advice_asks_for_would_fit(wanted: Container, there: list[Node]) -> None:
    capabilities = capabilities_of(there)
    reason = explain_misfit(wanted, capabilities, now=0.0)
    if reason is None or not all(name in Resources.__slots__ for name in reason.facts):
        return
    less = replace(
        wanted.resources, **{name: fact["available"] for name, fact in reason.facts.items()}
    )
    again = explain_misfit(replace(wanted, resources=less), capabilities, now=0.0)
    # One step may not do where each resource is to be had, but not together; it never leads away.
    if again is not None and again.facts:
        assert fits(less, wanted.resources)
        assert less != wanted.resources


def test_a_partition_with_smaller_nodes_is_no_help() -> None:
    there = [
        Node("a", NodeState.IDLE, Resources(4, GIB), Resources(4, GIB), ("short",)),
        Node("b", NodeState.IDLE, Resources(64, GIB), Resources(64, GIB), ("gpu",)),
    ]
    wanted = container(Resources(32, GIB), ("short",))
    reason = explain_misfit(wanted, capabilities_of(there), now=0.0)
    assert reason is not None
    assert reason.sentence == "cores: wants 32, the largest node has 4 in partition short"
    assert reason.advice.startswith("ask for at most 4 cores; or add a larger node")
    assert can_run(replace(wanted, partitions=("short", "gpu")), capabilities_of(there))


@given(st.lists(amounts, max_size=8), amounts)
def test_largest_keeps_whatever_any_node_fits(nodes: list[Resources], needed: Resources) -> None:
    kept = largest(nodes)
    assert any(fits(needed, n) for n in nodes) is any(fits(needed, n) for n in kept)
    assert not any(fits(a, b) for a in kept for b in kept if a != b)


def test_the_numbers_are_named() -> None:
    capabilities = Capabilities((Resources(8, 32 * GIB),))
    reason = explain_misfit(container(Resources(2, 40 * GIB)), capabilities, now=5.0)
    assert reason is not None
    assert reason.token is ReasonToken.NO_NODE_FITS
    assert reason.sentence == "RAM: wants 40 GiB, the largest node has 32 GiB"
    assert reason.facts == {"ram_bytes": {"wanted": 40 * GIB, "available": 32 * GIB}}
    assert "at most 32 GiB of RAM" in reason.advice


def test_resources_that_no_single_node_has_together() -> None:
    capabilities = Capabilities((Resources(32, 8 * GIB), Resources(2, 64 * GIB)))
    reason = explain_misfit(container(Resources(16, 32 * GIB)), capabilities, now=0.0)
    assert reason is not None
    assert "the nearest node" in reason.sentence


def test_no_node_at_all() -> None:
    reason = explain_misfit(container(Resources(1, GIB)), Capabilities(()), now=0.0)
    assert reason is not None
    assert "no node at all" in reason.sentence


def test_a_partition_nobody_serves() -> None:
    capabilities = Capabilities((Resources(8, GIB),), ("gpu", "long"))
    reason = explain_misfit(container(Resources(1, 1), ("short",)), capabilities, now=0.0)
    assert reason is not None
    assert reason.token is ReasonToken.NO_PARTITION
    assert "short" in reason.sentence


def test_nodes_that_can_be_taken_away_are_for_those_who_bear_that() -> None:
    spot = Capabilities(largest=(), preemptible=(Resources(4, 8 * GIB),))
    both = Capabilities(largest=(Resources(2, 2 * GIB),), preemptible=(Resources(4, 8 * GIB),))
    wanted = container(Resources(4, GIB))
    for capabilities in (spot, both):
        assert can_run(replace(wanted, preemptible=True), capabilities)
        reason = explain_misfit(wanted, capabilities, now=0)
        assert reason is not None
        assert reason.token is ReasonToken.NO_NODE_FITS
        assert "preemptible" in reason.sentence
    assert can_run(container(Resources(2, GIB)), both)
    assert not can_run(replace(container(Resources(5, GIB)), preemptible=True), both)
