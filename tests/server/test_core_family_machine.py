"""Users and containers that share containers, ask for others, change their minds and fail, in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from nodemanager.model import ContainerState
from nodemanager.server import schema
from nodemanager.server.wants import Want, priority_of

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

WORK = st.sampled_from(["a", "b", "c"])
ENDS = st.sampled_from([s.value for s in ContainerState if s.is_final])
Row = Mapping[str, Any]


class Family(RuleBasedStateMachine):
    """Drives a service; what must hold is read from its database."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.me = cluster.dispatcher()
        self.users = [cluster.user_token, cluster.service.create_user_token("bob").text]
        self.runners: dict[str, str] = {}
        """The tokens of the containers that run."""

    def teardown(self) -> None:
        self.cluster.close()

    # --- what may happen --------------------------------------------------------------------------

    @rule(user=st.integers(0, 1), work=WORK, priority=st.integers(1, 3), most=st.integers(1, 2))
    def a_user_asks(self, user: int, work: str, priority: int, most: int) -> None:
        self._ask(self.users[user], work, priority, most)

    @precondition(lambda self: self.runners)
    @rule(data=st.data(), work=WORK, most=st.integers(1, 2))
    def a_container_asks(self, data: st.DataObject, work: str, most: int) -> None:
        uuid = data.draw(st.sampled_from(list(self.runners)))
        self._ask(self.runners[uuid], work, 1, most)

    def _ask(self, token: str, work: str, priority: int, most: int) -> None:
        self.cluster.clock.advance(0.001)
        attributes = self.cluster.work(
            command=[work], priority=priority, container_count_max=most, use_existing=True
        )
        body = {"container_request": attributes}
        self.cluster.call("container_requests.create", body, token=token)

    @rule(data=st.data(), priority=st.integers(0, 3))
    def somebody_changes_a_priority(self, data: st.DataObject, priority: int) -> None:
        if request := self._one_of(data, self._requests("Committed")):
            body = {"container_request": {"priority": priority}}
            self.cluster.call(
                "container_requests.update", body, token=self.cluster.root_token, uuid=request
            )

    @rule(data=st.data())
    def somebody_deletes_a_request(self, data: st.DataObject) -> None:
        if request := self._one_of(data, self._requests("Committed", "Final")):
            self.cluster.call(
                "container_requests.delete", token=self.cluster.root_token, uuid=request
            )

    @rule()
    def the_dispatcher_starts_what_waits(self) -> None:
        self.cluster.clock.advance(4000)
        self.cluster.ping(self.me)
        for container in self.cluster.claim(self.me, limit=2):
            uuid = container["uuid"]
            self.runners[uuid] = self.cluster.runner_token(self.me, uuid)
            self.cluster.write(self.runners[uuid], uuid, state="Running", runner_id="r")

    @precondition(lambda self: self.runners)
    @rule(data=st.data(), end=ENDS)
    def a_container_ends(self, data: st.DataObject, end: str) -> None:
        uuid = data.draw(st.sampled_from(list(self.runners)))
        self.cluster.write(self.runners.pop(uuid), uuid, state=end)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def a_request_is_as_its_container_is(self) -> None:
        containers = self._containers()
        for request in self._rows(schema.container_requests):
            state = ContainerState(containers[request["container_uuid"]]["state"])
            assert state.is_final == (request["state"] == "Final"), (request["uuid"], state)
            assert request["container_count"] <= request["container_count_max"]
            attempts = self.cluster.call(
                "container_requests.attempts", token=self.cluster.root_token, uuid=request["uuid"]
            )["items"]
            assert [a["attempt"] for a in attempts] == list(range(1, len(attempts) + 1))
            assert attempts[-1]["container_uuid"] == request["container_uuid"]

    @invariant()
    def a_container_is_as_urgent_as_it_is_wanted(self) -> None:
        containers = self._containers()
        wanted: dict[str, list[Want]] = {uuid: [] for uuid in containers}
        for request in self._rows(schema.container_requests):
            if request["state"] == "Committed":
                wanted[request["container_uuid"]].append(self._want(request, containers))
        for uuid, row in containers.items():
            state = ContainerState(row["state"])
            if not state.is_final:
                assert row["priority"] == priority_of(wanted[uuid]), uuid
                assert row["priority"] > 0 or state.is_live

    @staticmethod
    def _want(request: Row, containers: Mapping[str, Row]) -> Want:
        parent = containers.get(request["requesting_container_uuid"])
        urgency = None
        if parent is not None:
            is_live = ContainerState(parent["state"]).is_live
            assert is_live or request["priority"] == 0, "asked for by one that is over"
            urgency = parent["priority"] if is_live else 0
        return Want(request["priority"], request["created_at"], urgency)

    @invariant()
    def nobody_waits_for_itself(self) -> None:
        waits_for: dict[str, set[str]] = {}
        for request in self._rows(schema.container_requests):
            if request["state"] == "Committed" and request["requesting_container_uuid"]:
                waits_for.setdefault(request["requesting_container_uuid"], set()).add(
                    request["container_uuid"]
                )
        while leaves := {w for group in waits_for.values() for w in group} - waits_for.keys():
            waits_for = {u: group - leaves for u, group in waits_for.items() if group - leaves}
        assert not waits_for

    def _one_of(self, data: st.DataObject, uuids: list[str]) -> str | None:
        return data.draw(st.sampled_from(uuids)) if uuids else None

    def _requests(self, *states: str) -> list[str]:
        rows = self._rows(schema.container_requests)
        return [row["uuid"] for row in rows if row["state"] in states]

    def _containers(self) -> dict[str, Row]:
        return {row["uuid"]: row for row in self._rows(schema.containers)}

    def _rows(self, table: Any) -> list[Row]:
        with self.cluster.database.read() as conn:
            found = conn.execute(select(table).order_by(table.c.created_at)).mappings().all()
        return [dict(row) for row in found]


def test_families_stay_in_order(make_cluster: Callable[..., Cluster]) -> None:
    run_state_machine_as_test(
        lambda: Family(make_cluster(jitter=lambda: 0.5)),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
