"""Two dispatchers, their runners, users, losses, crashes and time in any order: what must always hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from nodemanager.model import CONTAINER_TRANSITIONS, ContainerState
from nodemanager.server.errors import ServerError
from nodemanager.server.resources import parse_micros
from nodemanager.server.wants import Want, priority_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tests.server.conftest import Cluster, Me

FINAL = [s.value for s in ContainerState if s.is_final]
NAMES = ("one", "two")
USERS = ("ada", "bob")


class CutOffError(Exception):
    """The server is killed at this moment."""


class Machine(RuleBasedStateMachine):
    """Drives a service and remembers who was told what."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.tokens = {n: cluster.service.create_dispatcher_token(n).text for n in NAMES}
        self.users = {n: cluster.service.create_user_token(n).text for n in USERS}
        self.processes: list[Me] = []
        self.claimed_by: dict[str, str] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.started: dict[str, str] = {}
        self.requests: list[str] = []
        self.jobs: list[tuple[str, str, str]] = []
        self.cursors: dict[Me, str] = {}
        self.seen: dict[Me, dict[str, tuple[str, int]]] = {}
        for name in NAMES:
            self._start(name)
        for most in (1, 2, 2):
            self._ask(1, most, 1)

    def teardown(self) -> None:
        self.cluster.close()

    # --- what may happen --------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def a_dispatcher_starts(self, name: str) -> None:
        """After a crash, or beside its predecessor: the older process is fenced off."""
        self._start(name)

    def _start(self, name: str) -> None:
        me = self.cluster.dispatcher(name, token=self.tokens[name])
        items, self.cursors[me] = self.cluster.changes(me, "")
        assert items == []
        held = [u for u, d in self.claimed_by.items() if d == me.uuid]
        self.seen[me] = {uuid: _essence(self.cluster.container(uuid)) for uuid in held}
        self.processes.append(me)

    @rule(
        priority=st.integers(1, 3),
        most=st.integers(1, 2),
        cores=st.sampled_from([1, 1, 99]),
        user=st.sampled_from(USERS),
        shared=st.sampled_from(["", "x", "y"]),
    )
    def a_user_asks(self, priority: int, most: int, cores: int, user: str, shared: str) -> None:
        self._ask(priority, most, cores, self.users[user], shared)

    def _ask(
        self, priority: int, most: int, cores: int, token: str = "", shared: str = ""
    ) -> dict[str, Any]:
        """What is `shared` may be served by a container that does the same for somebody else."""
        self.cluster.clock.advance(0.001)
        work = self.cluster.work(
            priority=priority,
            container_count_max=most,
            runtime_constraints={"vcpus": cores, "ram": 1},
            command=[shared or "alone"],
            use_existing=bool(shared),
        )
        token = token or self.users["ada"]
        body = {"container_request": work}
        request = self.cluster.call("container_requests.create", body, token=token)
        self.requests.append(request["uuid"])
        return request

    @rule(data=st.data(), shared=st.sampled_from(["", "x"]))
    def a_running_container_asks(self, data: st.DataObject, shared: str) -> None:
        job = self._job(data)
        if job is None:
            return
        self._confirm(*job)
        uuid, token, _runner_id = job
        status, request = _try(lambda: self._ask(1, 1, 1, token, shared))
        assert status == (401 if self._state(uuid) in FINAL else 200)
        if request is not None:
            assert request["requesting_container_uuid"] == uuid
            assert request["container_uuid"] != uuid

    @rule(data=st.data(), priority=st.integers(0, 3))
    def a_user_changes_the_priority(self, data: st.DataObject, priority: int) -> None:
        if self.requests:
            uuid = data.draw(st.sampled_from(self.requests))
            before = self._request(uuid)
            body = {"container_request": {"priority": priority}}
            token = self.cluster.root_token
            status, _after = _try(
                lambda: self.cluster.call("container_requests.update", body, token=token, uuid=uuid)
            )
            over = before["state"] == "Final" and before["priority"] != priority
            assert status == (422 if over else 200)

    def _request(self, uuid: str) -> dict[str, Any]:
        token = self.cluster.root_token
        return self.cluster.call("container_requests.get", token=token, uuid=uuid)

    @rule(data=st.data(), limit=st.integers(1, 4))
    def claim(self, data: st.DataObject, limit: int) -> None:
        self._claim(self._process(data), limit)

    def _claim(self, me: Me, limit: int) -> None:
        for container in self._may_be_over(me, lambda: self.cluster.claim(me, limit)) or ():
            assert container["uuid"] not in self.claimed_by
            assert container["state"] == "Locked"
            assert container["runtime_constraints"]["vcpus"] == 1
            assert container["priority"] > 0
            self.claimed_by[container["uuid"]] = me.uuid
            self.seen[me][container["uuid"]] = _essence(container)

    def _job(self, data: st.DataObject) -> tuple[str, str, str] | None:
        """A job that runs for a container, often a new one: container, token, runner's id.

        For half of the containers a second one comes up: schedulers requeue.
        """
        if not self.jobs or data.draw(st.booleans()):
            self._submit(self._process(data))
        return data.draw(st.sampled_from(self.jobs[-3:])) if self.jobs else None

    def _submit(self, me: Me) -> None:
        self._claim(me, 1)
        known = {uuid for uuid, _token, _name in self.jobs}
        mine = [u for u, owner in self.claimed_by.items() if owner == me.uuid and u not in known]
        locked = [u for u in mine if self._state(u) == "Locked"]
        if locked:
            token = self._may_be_over(me, lambda: self.cluster.runner_token(me, locked[0]))
            names = ("a", "b") if len(self.jobs) % 2 == 0 else ("a",)
            self.jobs += [(locked[0], token, name) for name in names if token]

    def _state(self, uuid: str) -> str:
        return str(self.cluster.container(uuid)["state"])

    @rule(data=st.data())
    def a_runner_confirms_itself(self, data: st.DataObject) -> None:
        job = self._job(data)
        if job is not None:
            self._confirm(*job)

    def _confirm(self, uuid: str, token: str, runner_id: str) -> None:
        status, _after = _try(
            lambda: self.cluster.write(token, uuid, state="Running", runner_id=runner_id)
        )
        now = self.cluster.container(uuid)
        if status == 200:
            assert now["state"] == "Running"
            assert self.started.setdefault(uuid, runner_id) == runner_id
        elif now["state"] in FINAL:
            assert status == 401
        else:
            assert (status, now["state"]) == (422, "Running")
            assert now["runner_id"] != runner_id

    @rule(
        data=st.data(),
        state=st.sampled_from(["Complete", "PermFail", "TempFail", "Cancelled"]),
        confirmed=st.booleans(),
    )
    def a_runner_reports(self, data: st.DataObject, state: str, confirmed: bool) -> None:
        job = self._job(data)
        if job is None:
            return
        uuid, token, _runner_id = job
        if confirmed:
            self._confirm(*job)
        before = self._state(uuid)
        status, after = _try(lambda: self.cluster.write(token, uuid, state=state))
        if before in FINAL:
            assert status == 401
        elif state == "Complete" and before == "Locked":
            assert status == 422
        else:
            assert (status, after["state"]) == (200, state)
            self.cluster.refused_token(token)

    @rule(data=st.data(), state=st.sampled_from([*FINAL, "Running", "given back"]))
    def a_dispatcher_reports(self, data: st.DataObject, state: str) -> None:
        if not self.last:
            return
        me = self._process(data)
        # In an order that is the same when hypothesis replays a run: uuids are random.
        waiting = [self._request(uuid)["container_uuid"] for uuid in self.requests]
        uuid = data.draw(st.sampled_from([*self.claimed_by, *waiting]))
        before = self.cluster.container(uuid)
        report: dict[str, Any] = {"state": state}
        if state == "given back":
            report = {"state": "TempFail", "given_back": True}
        answers = self._may_be_over(me, lambda: self.cluster.batch(me, (uuid, report)))
        now = self.cluster.container(uuid)
        if answers is None or answers[0]["status"] != 200:
            assert now == before
        if answers is not None:
            is_mine = self.claimed_by.get(uuid) == me.uuid
            assert answers[0]["status"] in ((200, 422) if is_mine else (403,))
            if answers[0]["status"] == 200:
                assert now["state"] == report["state"]
                assert before["state"] == "Locked" or before == now or state != "given back"
                self.seen[me][uuid] = _essence(now)

    @rule(data=st.data(), doing=st.sampled_from(["claim", "ask", "end", "sweep"]))
    def the_server_is_killed(self, data: st.DataObject, doing: str) -> None:
        """Before a commit: then nothing of the call has happened."""
        me = self._process(data)
        held = [u for u, owner in self.claimed_by.items() if owner == me.uuid]
        acts: dict[str, Callable[[], Any]] = {
            "claim": lambda: self.cluster.claim(me, 2),
            "ask": lambda: self._ask(1, 1, 1),
            "end": lambda: self.cluster.batch(me, *((u, {"state": "TempFail"}) for u in held)),
            "sweep": self.cluster.service.sweep,
        }
        before = self._everything()
        with self._cut_off(), suppress(CutOffError, ServerError):
            acts[doing]()
        assert self._everything() == before

    @contextmanager
    def _cut_off(self) -> Iterator[None]:
        backend = self.cluster.database._backend
        write = backend.write

        @contextmanager
        def cut_off() -> Iterator[Connection]:
            with write() as conn:
                yield conn
                raise CutOffError

        backend.write = cut_off  # type: ignore[method-assign]
        try:
            yield
        finally:
            backend.write = write  # type: ignore[method-assign]

    def _everything(self) -> list[Any]:
        token = self.cluster.root_token
        lists = [
            self.cluster.call(f"{plural}.list", token=token, order="uuid", limit=1000)["items"]
            for plural in ("container_requests", "containers", "dispatchers", "links", "logs")
        ]
        for dispatcher in lists[2]:
            del dispatcher["lease_seconds"]  # it goes by without anybody's doing
        return lists

    @rule(data=st.data(), every=st.booleans())
    def an_operator_pauses_claims_for_a_while(self, data: st.DataObject, every: bool) -> None:
        me = self._process(data)
        token, uuid = self.cluster.root_token, "" if every else me.uuid
        suffix = "_all" if every else ""
        body = {"reason": "to look at something"}
        status, _ = _try(
            lambda: self.cluster.call(f"dispatchers.pause{suffix}", body, token=token, uuid=uuid)
        )
        if status == 200:
            assert not self._may_be_over(me, lambda: self.cluster.claim(me, 4))
            self.cluster.call(f"dispatchers.resume{suffix}", token=token, uuid=uuid)

    @rule(seconds=st.sampled_from([-5000.0, -3.0, 700.0, 90_000.0]))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        """That is no silence of anybody's."""
        alive = self._alive()
        self.cluster.clock.jump(seconds)
        self.cluster.service.sweep()
        assert self._alive() == alive

    def _alive(self) -> list[str]:
        listed = self.cluster.call(
            "dispatchers.list", token=self.cluster.root_token, filters=[["state", "=", "alive"]]
        )
        return sorted(d["uuid"] for d in listed["items"])

    @rule(data=st.data())
    def ping(self, data: st.DataObject) -> None:
        me = self._process(data)
        self._may_be_over(me, lambda: self.cluster.ping(me))

    @rule(data=st.data())
    def a_dispatcher_hears_of_changes(self, data: st.DataObject) -> None:
        """Then it knows the present state of all it ever claimed."""
        me = self._process(data)
        reply = self._may_be_over(me, lambda: self.cluster.changes(me, self.cursors[me]))
        if reply is not None:
            items, self.cursors[me] = reply
            self.seen[me].update({c["uuid"]: _essence(c) for c in items})
            for uuid, known in self.seen[me].items():
                assert _essence(self.cluster.container(uuid)) == known

    @rule(seconds=st.sampled_from([1, 30, 400]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(max(1, seconds // 10)):
            self.cluster.clock.advance(min(10, seconds))
            self.cluster.service.sweep()

    @rule(data=st.data(), sure=st.sampled_from([False, False, True]))
    def an_operator_declares_it_dead(self, data: st.DataObject, sure: bool) -> None:
        if sure:
            uuid = self._process(data).uuid
            self.cluster.call("dispatchers.lose", token=self.cluster.root_token, uuid=uuid)

    def _process(self, data: st.DataObject) -> Me:
        """Mostly the last process of a dispatcher, now and then any that ever was."""
        if data.draw(st.integers(0, 4)) == 1:
            return data.draw(st.sampled_from(self.processes))
        name = data.draw(st.sampled_from(NAMES))
        return next(me for me in reversed(self.processes) if me.token == self.tokens[name])

    def _may_be_over(self, me: Me, act: Any) -> Any:
        """What `act` returns; None when `me` is lost or has a successor, which must be so then."""
        record = self.cluster.call("dispatchers.get", token=self.cluster.root_token, uuid=me.uuid)
        status, result = _try(act)
        is_over = record["state"] != "alive" or record["epoch"] != me.epoch
        assert status == (403 if is_over else 200)
        return result

    # --- what must always hold --------------------------------------------------------------------

    @invariant()
    def the_contract_holds(self) -> None:
        self._states_follow_the_table_and_final_is_final()
        self._every_request_is_served_or_over()

    def _states_follow_the_table_and_final_is_final(self) -> None:
        listed = self.cluster.call("containers.list", token=self.cluster.root_token, limit=1000)
        assert listed["items_available"] == len(listed["items"])
        for now in listed["items"]:
            before = self.last.get(now["uuid"])
            self.last[now["uuid"]] = now
            assert now["dispatcher"] == self.claimed_by.get(now["uuid"])
            if before is None or before == now:
                continue
            assert before["state"] not in FINAL, (before, now)
            assert before["dispatcher"] in (None, now["dispatcher"])
            assert before["runner_id"] in (None, now["runner_id"])
            old, new = ContainerState(before["state"]), ContainerState(now["state"])
            assert old is new or _reachable(old, new)

    def _every_request_is_served_or_over(self) -> None:
        containers = self.last
        token = self.cluster.root_token
        listed = self.cluster.call("container_requests.list", token=token, limit=1000)
        requests = {r["uuid"]: r for r in listed["items"]}
        assert sorted(requests) == sorted(self.requests)
        wanted: dict[str, list[Want]] = {}
        for uuid, request in requests.items():
            attempts = self.cluster.call("container_requests.attempts", token=token, uuid=uuid)
            states = [containers[a["container_uuid"]]["state"] for a in attempts["items"]]
            assert request["container_uuid"] == attempts["items"][-1]["container_uuid"]
            # Each attempt but the last has failed, and only PermFail is counted.
            assert set(states[:-1]) <= {"TempFail", "PermFail"}
            assert request["container_count"] == 1 + states[:-1].count("PermFail")
            if request["state"] == "Committed":
                assert states[-1] in ("Queued", "Locked", "Running")
                wanted.setdefault(request["container_uuid"], []).append(self._want(request))
            else:
                assert request["state"] == "Final"
                assert states[-1] in ("Complete", "PermFail", "Cancelled")
        for uuid, container in containers.items():
            if container["state"] not in FINAL:
                assert container["priority"] == priority_of(wanted.get(uuid, []))
                assert container["state"] != "Queued" or container["priority"] > 0

    def _want(self, request: dict[str, Any]) -> Want:
        parent = self.last.get(request["requesting_container_uuid"])
        inherited = None
        if parent is not None:
            inherited = 0 if parent["state"] in FINAL else parent["priority"]
        return Want(request["priority"], parse_micros(request["created_at"]), inherited)


def _try(act: Callable[[], Any]) -> tuple[int, Any]:
    """The status of a call, and its answer if it was taken."""
    try:
        return 200, act()
    except ServerError as error:
        return error.status, None


def _essence(container: dict[str, Any]) -> tuple[str, int]:
    """What a dispatcher acts on."""
    return container["state"], container["priority"]


def _reachable(old: ContainerState, new: ContainerState) -> bool:
    """In one rule a container may take several steps."""
    following = CONTAINER_TRANSITIONS[old]
    return new in following or any(_reachable(step, new) for step in following)


def test_whatever_happens_the_contract_holds(
    make_cluster: Callable[..., Cluster], request: pytest.FixtureRequest
) -> None:
    on_postgresql = request.node.callspec.params["make_cluster"] == "postgresql"
    run_state_machine_as_test(
        lambda: Machine(make_cluster(jitter=lambda: 0.5)),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=5 if on_postgresql else 50,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
