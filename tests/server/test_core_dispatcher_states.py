"""What a dispatcher can become is what the page of states says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from nodemanager.model import DispatcherState
from nodemanager.server.errors import ServerError
from nodemanager.server.policy import Policy
from tests.docs.pages import blocks, graph
from tests.server.conftest import ROOT_TOKEN

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me

TIMEOUT = 60.0


def lose(cluster: Cluster, me: Me) -> None:
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)


def retire(cluster: Cluster, me: Me) -> None:
    cluster.call("dispatchers.retire", token=cluster.root_token, uuid=me.uuid)


def ping(cluster: Cluster, me: Me) -> None:
    cluster.ping(me)


def nothing(cluster: Cluster, me: Me) -> None:
    pass


MADE = {"alive": nothing, "lost": lose, "retired": retire}
EVENTS = (lose, retire, ping, nothing)


def test_the_graph_is_what_comes_of_everything_that_can_happen(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(Policy(ping_timeout=TIMEOUT, root_token=ROOT_TOKEN))
    found: dict[str, set[str]] = {}

    def look(before: str, me: Me) -> None:
        record = cluster.call("dispatchers.get", token=cluster.root_token, uuid=me.uuid)
        if record["state"] != before:
            found.setdefault(before, set()).add(record["state"])

    silent: dict[str, Me] = {}
    for before, make in MADE.items():
        for event in EVENTS:
            me = cluster.dispatcher(f"{before}-{event.__name__}")
            make(cluster, me)
            # Whoever is gone already is refused.
            with suppress(*(() if before == "alive" else (ServerError,))):
                event(cluster, me)
            look(before, me)
        silent[before] = me
    for _ in range(int(TIMEOUT / 5) + 2):
        cluster.clock.advance(5)
        cluster.service.sweep()
    for before, me in silent.items():
        look(before, me)
    (block,) = blocks("states dispatchers")
    assert graph(block) == found
    assert set(MADE) == set(DispatcherState)
