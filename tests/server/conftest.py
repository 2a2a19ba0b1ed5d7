"""A small cluster for the tests of the server's logic: one service on a database in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from nodemanager.clock import ManualClock
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.errors import ServerError
from nodemanager.server.service import METHODS_BY_ID, Policy, Request, Service
from tests.clusters.postgresql import DatabaseClock, PostgresCluster

ROOT_TOKEN = "root-token-of-the-tests"
GIB = 2**30
SMALL_NODES = {"largest": [{"cores": 8, "ram_bytes": 16 * GIB, "scratch_bytes": 100 * GIB}]}


@dataclass(frozen=True)
class Me:
    """A dispatcher's process: its token, record and epoch."""

    token: str
    uuid: str
    epoch: int

    @property
    def by(self) -> dict[str, Any]:
        return {"dispatcher": self.uuid, "epoch": self.epoch}


class Cluster:
    """A service and the calls that tests make most."""

    root_token = ROOT_TOKEN

    def __init__(
        self,
        policy: Policy | None = None,
        url: str = IN_MEMORY,
        clock: ManualClock | None = None,
        **more: Any,
    ) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.database = Database(url, self.clock)
        self.service = Service(
            self.database, policy or Policy(root_token=ROOT_TOKEN), "zzzzz", **more
        )
        self.user_token = self.service.create_user_token("ada").text
        self.topics: list[str] = []
        self.service.subscribe(self.topics.append)

    def close(self) -> None:
        self.database.close()

    def call(
        self,
        method: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        uuid: str = "",
        **query: Any,
    ) -> dict[str, Any]:
        """One call with `token` (the user's by default)."""
        tokens = [self.user_token if token is None else token]
        request = Request(tokens, METHODS_BY_ID[method], {"uuid": uuid}, query, body or {})
        answer: dict[str, Any] = orjson.loads(orjson.dumps(self.service.perform(request)))
        return answer

    def refused(self, status: int, method: str, *args: Any, **more: Any) -> str:
        """The text with which a call is refused; it must be refused with `status`."""
        with pytest.raises(ServerError) as caught:
            self.call(method, *args, **more)
        assert caught.value.status == status, caught.value
        return str(caught.value)

    @staticmethod
    def work(**attributes: Any) -> dict[str, Any]:
        """Attributes of a committed request that asks for little."""
        return {
            "state": "Committed",
            "command": ["true"],
            "mounts": {"/out": {"kind": "tmp"}},
            "output_path": "/out",
            "runtime_constraints": {"vcpus": 1, "ram": GIB},
            # Many tests want several of the same.
            "use_existing": False,
            **attributes,
        }

    def refused_token(self, token: str) -> None:
        """This token is nobody's."""
        with pytest.raises(ServerError) as caught:
            self.service.authenticate(token)
        assert caught.value.status == 401

    def request(self, **attributes: Any) -> dict[str, Any]:
        """A committed container request of the user's, younger than those before."""
        self.clock.advance(0.001)
        return self.call(
            "container_requests.create", {"container_request": self.work(**attributes)}
        )

    def get_request(self, uuid: str) -> dict[str, Any]:
        return self.call("container_requests.get", uuid=uuid)

    def update_request(self, uuid: str, /, **attributes: Any) -> dict[str, Any]:
        return self.call("container_requests.update", {"container_request": attributes}, uuid=uuid)

    def container(self, uuid: str) -> dict[str, Any]:
        return self.call("containers.get", token=ROOT_TOKEN, uuid=uuid)

    def attempts(self, request_uuid: str) -> list[dict[str, Any]]:
        found = self.call("container_requests.attempts", uuid=request_uuid)["items"]
        assert isinstance(found, list)
        return found

    def dispatcher(
        self, name: str = "d1", capabilities: Any = None, token: str | None = None
    ) -> Me:
        """A registered dispatcher; with `token` its next process."""
        capabilities = SMALL_NODES if capabilities is None else capabilities
        token = token or self.service.create_dispatcher_token(name).text
        body = {"name": name, "scheduler": "fake", "capabilities": capabilities}
        record = self.call("dispatchers.create", {"dispatcher": body}, token=token)
        return Me(token, record["uuid"], record["epoch"])

    def ping(self, me: Me, **more: Any) -> dict[str, Any]:
        return self.call("dispatchers.ping", {**me.by, **more}, token=me.token, uuid=me.uuid)

    def claim(self, me: Me, limit: int = 1, claim_id: str = "") -> list[dict[str, Any]]:
        body = {**me.by, "limit": limit, "claim_id": claim_id}
        found = self.call("containers.claim", body, token=me.token)["items"]
        assert isinstance(found, list)
        return found

    def batch(self, me: Me, *updates: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        items = [{"uuid": uuid, "attributes": attributes} for uuid, attributes in updates]
        body = {**me.by, "updates": items}
        found = self.call("containers.batch_update", body, token=me.token)["items"]
        assert isinstance(found, list)
        return found

    def report(self, me: Me, uuid: str, /, **attributes: Any) -> dict[str, Any]:
        """One update by the dispatcher; it must be taken."""
        (answer,) = self.batch(me, (uuid, attributes))
        assert answer["status"] == 200, answer
        return self.container(uuid)

    def runner_token(self, me: Me, uuid: str) -> str:
        body = {**me.by, "uuids": [uuid]}
        (item,) = self.call("containers.auth_many", body, token=me.token)["items"]
        return str(item["api_token"])

    def write(self, token: str, uuid: str, /, **attributes: Any) -> dict[str, Any]:
        """A runner's update."""
        return self.call("containers.update", {"container": attributes}, token=token, uuid=uuid)

    def running(self, me: Me, **attributes: Any) -> tuple[dict[str, Any], str, str]:
        """A request whose container runs: the request, the container's uuid, its runner's token."""
        request = self.request(**attributes)
        (container,) = self.claim(me)
        assert container["uuid"] == request["container_uuid"]
        token = self.runner_token(me, container["uuid"])
        self.write(token, container["uuid"], state="Running", runner_id="r1")
        return request, container["uuid"], token

    def changes(self, me: Me, cursor: str) -> tuple[list[dict[str, Any]], str]:
        reply = self.call("containers.changes", token=me.token, cursor=cursor, **me.by)
        return reply["items"], reply["cursor"]


@pytest.fixture(params=["sqlite", "postgresql"])
def make_cluster(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters with a policy of one's own: on SQLite, in memory or `in_file`, and on PostgreSQL."""
    with ExitStack() as made:

        def make(policy: Policy | None = None, *, in_file: bool = False, **more: Any) -> Cluster:
            if request.param == "sqlite" and in_file:
                more["url"] = f"sqlite:///{tmp_path}/api.sqlite"
            if request.param == "postgresql":
                server: PostgresCluster = request.getfixturevalue("postgresql")
                url = made.enter_context(server.lent_database())
                clock = DatabaseClock(url)
                made.callback(clock.close)
                more |= {"url": url, "clock": clock}
            cluster = Cluster(policy, **more)
            made.callback(cluster.close)
            return cluster

        yield make


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster with the default policy."""
    return make_cluster()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives URLs of fresh databases."""
    if request.param == "postgresql":
        server: PostgresCluster = request.getfixturevalue("postgresql")
        return server.fresh_database
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.sqlite"
