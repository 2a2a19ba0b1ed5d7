from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.fit import can_run, explain_misfit, fits, largest
from nodemanager.model import Capabilities, Container, ContainerState, Resources
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
