"""Who is told nothing is just who is claimed: the dispatcher's reasons against the claim of the API server itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from nodemanager.api.base import Identity
from nodemanager.api.client import ArvadosApi
from nodemanager.dispatch.claiming import Claimer, Load, explain_queue
from nodemanager.fit import capabilities_of
from nodemanager.model import Node, NodeState, Resources, format_time
from nodemanager.testing import MemoryResource, Wire
from tests.server.conftest import ROOT_TOKEN, Cluster

GIB = 1 << 30
PARTITIONS = st.sampled_from([(), (), ("a",), ("b",), ("a", "b"), ("c",)])


@dataclass(frozen=True)
class Ask:
    """What one request asks for."""

    cores: int
    priority: int
    partitions: tuple[str, ...]
    preemptible: bool
    delay: float | None
    hold: bool
    given_back: bool


asks = st.lists(
    st.builds(
        Ask,
        cores=st.sampled_from((1, 2, 4, 9)),
        priority=st.sampled_from((1, 500)),
        partitions=PARTITIONS,
        preemptible=st.booleans(),
        delay=st.sampled_from((None, None, 60.0)),
        hold=st.sampled_from((False, False, True)),
        given_back=st.sampled_from((False, False, True)),
    ),
    min_size=3,
    max_size=9,
)
nodes = st.lists(
    st.builds(
        Node,
        name=st.just("n"),
        state=st.sampled_from((NodeState.IDLE, NodeState.DRAINED, NodeState.DOWN)),
        total=st.sampled_from((8, 4, 2)).map(lambda cores: Resources(cores, 64 * GIB, GIB)),
        free=st.just(Resources(0, 0)),
        partitions=PARTITIONS,
        preemptible=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


def submit(cluster: Cluster, ask: Ask) -> None:
    delayed = ask.delay is not None and not ask.given_back
    run_after = format_time(cluster.clock.wall() + ask.delay) if delayed and ask.delay else None
    request = cluster.request(
        priority=ask.priority,
        runtime_constraints={"vcpus": ask.cores, "ram": GIB},
        scheduling_parameters={
            "partitions": list(ask.partitions),
            "preemptible": ask.preemptible,
        },
        run_after=run_after,
    )
    if ask.hold and not ask.given_back:
        body = {"container": {"hold": True}}
        cluster.call("containers.update", body, token=ROOT_TOKEN, uuid=request["container_uuid"])


@settings(max_examples=100, deadline=None)
@given(asks, nodes, st.integers(0, 4))
def test_what_is_not_explained_is_just_what_a_claim_gives_out(
    wanted: Sequence[Ask], there: list[Node], limit: int
) -> None:
    cluster = Cluster()
    try:
        everything = {"largest": [Resources(9, 64 * GIB, GIB).as_dict()]}
        me = cluster.dispatcher(capabilities={**everything, "preemptible": everything["largest"]})
        for ask in (ask for ask in wanted if ask.given_back):
            submit(cluster, ask)
        for record in cluster.claim(me, limit=100):
            cluster.report(me, record["uuid"], state="TempFail", given_back=True)
        for ask in (ask for ask in wanted if not ask.given_back):
            submit(cluster, ask)
        capabilities = capabilities_of(there)
        cluster.ping(me, capabilities=capabilities.as_dict())
        api = ArvadosApi(MemoryResource(cluster.service, me.token, Wire()))
        queue = api.waiting(1000)
        assert len(queue) == len(wanted)

        claimer = Claimer(me.uuid, capabilities, limit, Load(0, 0))
        told = explain_queue(queue, claimer, cluster.clock.wall())
        unexplained = [uuid for uuid, reason in told.items() if reason is None]
        claimed: list[str] = []
        if limit:
            found = api.claim(Identity(me.uuid, me.epoch), "claim", limit, 0.0)
            claimed = [container.uuid for container in found.containers]
        assert unexplained == claimed
    finally:
        cluster.close()
