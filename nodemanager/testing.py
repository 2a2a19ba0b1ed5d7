"""A whole dispatch in memory, for tests: shipped for operators who write modules of their own.

Real actors of ours, the API server's own logic on a database in memory, the fake scheduler, and a clock that
moves only when told::

    with Harness() as world:
        request = world.submit(command=["true"])
        world.advance(30)
        assert world.container_of(request)["state"] == "Complete"

`advance` lets everything that is due happen and everything that follows settle; nothing sleeps, and the order
of events is the same each time. With ``Harness(seed=n)`` the actors' turns come in a random order drawn
from `n`, so that many seeds explore many interleavings and each can be replayed.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httplib2
import orjson
import pykka
from arvados.errors import ApiError as ClientApiError

from nodemanager.actors.driver import advance, settle
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.pool import use_pool
from nodemanager.actors.supervisor import GetGroup, Supervise, SupervisorActor
from nodemanager.actors.timer import NextDue, TimerActor
from nodemanager.api.client import ArvadosApi
from nodemanager.api.nodes import ArvadosNodes
from nodemanager.clock import ManualClock
from nodemanager.clouds.actor import CloudPace
from nodemanager.clouds.base import CloudContext
from nodemanager.clouds.fake import FakeCloud, FakeMachine, FakeSky
from nodemanager.dispatch.collector import Store, StoreDirectory
from nodemanager.dispatch.dispatcher import DispatchSettings
from nodemanager.dispatch.group import NodePlant, Plant, SchedulerPlant
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.messages import GetStatus, Status
from nodemanager.errors import ApiError
from nodemanager.model import Node, NodeSize, NodeState, Resources
from nodemanager.nodes.arbiter import ArbiterActor
from nodemanager.nodes.messages import GetNodesStatus, NodesStatus
from nodemanager.nodes.order import OrderTemplate, Ping
from nodemanager.nodes.policy import NodePolicy
from nodemanager.outcome import DEFAULT_TEMPFAIL_EXITS, End, EndKind, judge
from nodemanager.reason import Reason
from nodemanager.runner.spec import RunnerSpec
from nodemanager.schedulers.actor import Pace
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.fake import FakeCluster, FakeScheduler, Script
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.errors import ServerError
from nodemanager.server.policy import Policy
from nodemanager.server.service import METHODS_BY_ID, Request, Service

CLUSTER_ID = "zzzzz"
GIB = 1 << 30
ROOT_TOKEN = "root-token-of-the-harness"  # noqa: S105 (guards nothing outside this process)

EXIT_0 = End(EndKind.EXITED)


@dataclass
class Wire:
    """What can go wrong between a client and the API. Attributes may be changed at any time."""

    down: bool = False
    """Nobody answers."""
    lost_answers: int = 0
    """So many of the next calls are done, and their answers are lost."""
    calls: int = 0


class MemoryResource:
    """Stands where the Arvados client object stands, over a `Service` in this process.

    ``resource.containers().claim(body={...})`` gives a request whose `execute` does the call, with
    everything passed through JSON, so that the code above cannot tell the difference.
    """

    def __init__(self, service: Service, token: str, wire: Wire) -> None:
        self._service = service
        self._token = token
        self._wire = wire

    def __getattr__(self, resource: str) -> Callable[[], _MemoryMethods]:
        if resource.startswith("_"):
            raise AttributeError(resource)
        return lambda: _MemoryMethods(self._service, self._token, self._wire, resource)


class _MemoryMethods:
    def __init__(self, service: Service, token: str, wire: Wire, resource: str) -> None:
        self._around = (service, token, wire)
        self._resource = resource

    def __getattr__(self, name: str) -> Callable[..., _MemoryRequest]:
        method = METHODS_BY_ID.get(f"{self._resource}.{name}")
        if method is None:
            raise AttributeError(f"{self._resource}.{name}")

        def prepare(*, body: Any = None, **parameters: Any) -> _MemoryRequest:
            return _MemoryRequest(*self._around, self._resource, name, parameters, body or {})

        return prepare


@dataclass(frozen=True)
class _MemoryRequest:
    service: Service
    token: str
    wire: Wire
    resource: str
    name: str
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]

    @property
    def methodId(self) -> str:  # noqa: N802 (the client's name)
        return f"arvados.{self.resource}.{self.name}"

    @property
    def uri(self) -> str:
        return f"memory:{self.resource}.{self.name}"

    def execute(self, num_retries: int = 0) -> Any:  # noqa: ARG002 (the client's signature)
        self.wire.calls += 1
        if self.wire.down:
            raise ConnectionRefusedError(f"{self.uri}: the API is down")
        try:
            answer = self._call()
        except ServerError as error:
            content = json.dumps({"errors": error.messages}).encode()
            raise ClientApiError(httplib2.Response({"status": error.status}), content) from error
        if self.wire.lost_answers > 0:
            self.wire.lost_answers -= 1
            raise ConnectionResetError(f"{self.uri}: the answer is lost")
        return answer

    def _call(self) -> Any:
        parameters, body = json.loads(json.dumps([self.parameters, self.body]))
        path = {"uuid": parameters.pop("uuid")} if "uuid" in parameters else {}
        method = METHODS_BY_ID[f"{self.resource}.{self.name}"]
        answer = self.service.perform(Request([self.token], method, path, parameters, body))
        return orjson.loads(orjson.dumps(answer))


@dataclass(frozen=True, slots=True)
class Program:
    """What a container's command does, as played by the harness once its job has a node."""

    seconds: float | None = 1.0
    """None: until somebody ends it."""
    end: End = EXIT_0
    confirms: bool = True
    """The runner moves the container to Running."""
    reports: bool = True
    """The runner reports the end; otherwise the job just ends."""


def _ping_script(_host: str, _size: NodeSize, ping: Ping | None) -> str:
    return "" if ping is None else f"{ping.record_uuid} {ping.secret}"


@dataclass
class Site:
    """One dispatcher with a scheduler of its own; several can share the harness's API."""

    name: str
    cluster: FakeCluster
    scheduler: FakeScheduler
    token: str
    wire: Wire
    plant: Plant
    sky: FakeSky | None = None
    """Its cloud account, if it boots nodes."""
    supervisor: pykka.ActorRef[Any] | None = None


@dataclass
class Harness:
    """See the module's docstring. `ledger` lists (container uuid, runner id) of every command started."""

    seed: int | None = None
    nodes: Sequence[Node] = (
        Node(
            "node1",
            NodeState.IDLE,
            Resources(4, 8 * GIB, 100 * GIB),
            Resources(4, 8 * GIB, 100 * GIB),
        ),
    )
    policy: Policy = field(default_factory=lambda: Policy(root_token=ROOT_TOKEN))
    max_claimed: int = 0
    claim_poll_seconds: float = 1.0
    scheduler_poll_seconds: float = 5.0
    ping_seconds: float = 15.0
    sizes: Sequence[NodeSize] = ()
    """With sizes, each site has a cloud of its own (`Site.sky`) and boots nodes; cheapest first."""
    node_policy: NodePolicy = field(default_factory=NodePolicy)
    node_records: bool = False
    """Machines have records at the API, ping there when they come up, and join under their host names."""
    cloud_poll_seconds: float = 10.0
    store: Path | None = None
    """With a directory, jobs are the containers' commands themselves, and this is where logs and outputs are kept."""
    program: Callable[[Mapping[str, Any]], Program] = lambda _record: Program()
    """What each container's command does; it is given the container's record."""

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.pool = InlinePool(self.seed)
        self.ledger: list[tuple[str, str]] = []
        self._runners: dict[str, MemoryResource] = {}
        self._machine_numbers = count(1)
        # Without a seed too: the same test takes the same course each time.
        self._random = random.Random(self.seed or 0)  # noqa: S311 (no secret)
        self._using = use_pool(self.pool)
        database = Database(IN_MEMORY, self.clock)
        self.service = Service(database, self.policy, CLUSTER_ID, self._random.random)
        self.wire = Wire()
        self.root = MemoryResource(self.service, self.policy.root_token, self.wire)
        self.timer = TimerActor.start(self.clock)
        self.sites: dict[str, Site] = {}
        self._next_sweep = self.clock.elapsed() + self.policy.sweep_interval
        self.add_site("site1")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every actor."""
        for site in self.sites.values():
            self.kill(site)
        self.timer.stop(block=False)
        settle(self.pool)
        self.service.database.close()
        self._using.__exit__()

    # Dispatchers.

    @property
    def site(self) -> Site:
        """The first dispatcher."""
        return self.sites["site1"]

    def add_site(self, name: str, nodes: Sequence[Node] | None = None) -> Site:
        """Another dispatcher on the same API, with a scheduler of its own, started at once."""
        cluster = FakeCluster(self.clock, self.nodes if nodes is None else nodes)
        sky = self._sky(cluster) if self.sizes else None
        context = SchedulerContext(CLUSTER_ID, Path("/nonexistent"))
        scheduler = FakeScheduler(context, cluster)
        token = self.service.create_dispatcher_token(name).text
        wire = Wire()
        plant = self._plant(name, scheduler, token, wire, sky)
        site = Site(name, cluster, scheduler, token, wire, plant, sky)
        cluster.script = self._script
        cluster.runs_commands = self.store is not None
        if self.store is None:
            cluster.on_start = lambda job, stdin: self._runner_starts(site, job, stdin)
            cluster.on_end = self._runner_ends
        else:
            cluster.on_start = self._command_starts
        self.sites[name] = site
        self.start(site)
        return site

    def start(self, site: Site) -> None:
        """Start the dispatcher's actors, as a start of the daemon does."""
        site.supervisor = SupervisorActor.start(self.timer, self.clock, draws=self._random)
        site.supervisor.tell(Supervise(site.name, site.plant.start))
        settle(self.pool)

    def kill(self, site: Site) -> None:
        """End the dispatcher's actors where they stand, as kill -9 of the daemon does: jobs run on."""
        if site.supervisor is None:
            return
        for actor in (*self._group(site), site.supervisor):
            actor.stop(block=False)
        site.supervisor = None
        settle(self.pool)

    def restart(self, site: Site) -> None:
        """`kill`, then `start`."""
        self.kill(site)
        self.start(site)

    def change(self, plant: Plant, site: Site | None = None) -> None:
        """Let the dispatcher's actors take up what is different in `plant`, as a reload of the daemon does."""
        changed = site or self.site
        before, changed.plant = changed.plant, plant
        plant.retell(before, self._group(changed))
        settle(self.pool)

    def status(self, site: Site | None = None) -> Status:
        """What the dispatcher says it has in hand."""
        dispatcher = self._group(site or self.site)[0]
        status: Status = dispatcher.ask(GetStatus(), block=True)
        return status

    def nodes_status(self, site: Site | None = None) -> NodesStatus:
        """What the site's arbiter says of its nodes."""
        status: NodesStatus = self.arbiter(site).ask(GetNodesStatus(), block=True)
        return status

    def arbiter(self, site: Site | None = None) -> pykka.ActorRef[Any]:
        """The site's node-size arbiter, for an operator's messages."""
        for actor in self._group(site or self.site):
            if issubclass(actor.actor_class, ArbiterActor):
                return actor
        raise ApiError("this site boots no nodes")

    # Time.

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        settle(self.pool)
        for site in self.sites.values():
            if site.sky is not None:
                site.sky.run_due()
            site.cluster.run_due()
        settle(self.pool)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and everything that is due happen in its order."""
        end = self.clock.elapsed() + seconds
        self.settle()
        while (now := self.clock.elapsed()) < end:
            events = [site.cluster.next_event_at() for site in self.sites.values()]
            events += [s.sky.next_event_at() for s in self.sites.values() if s.sky is not None]
            events.append(self.timer.ask(NextDue(), block=True))
            due = [at for at in events if at is not None]
            step = max(now, min([end, self._next_sweep, *due]))
            advance(self.clock, self.timer, self.pool, step - now)
            if step >= self._next_sweep:
                self._next_sweep = step + self.policy.sweep_interval
                self.service.sweep()
            self.settle()

    def advance_until(self, condition: Callable[[], bool], limit_seconds: float = 3600.0) -> None:
        """Let time pass second by second until `condition`; raises `AssertionError` at the limit."""
        end = self.clock.elapsed() + limit_seconds
        self.settle()
        while not condition():
            if self.clock.elapsed() >= end:
                raise AssertionError(f"not within {limit_seconds} s")
            self.advance(1.0)

    # Users.

    def submit(self, **attributes: Any) -> str:
        """Commit a container request; its UUID. What is not given has a small default.

        Takes a millisecond, so that of equally urgent requests the first comes first.
        """
        self.clock.advance(0.001)
        request = {
            "command": ["true"],
            "container_image": "none",
            "cwd": "/work",
            "output_path": "/work/out",
            "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
            "runtime_constraints": {"vcpus": 1, "ram": 1 << 28},
            "priority": 500,
            "use_existing": False,
            "state": "Committed",
            **attributes,
        }
        answer = self.call("container_requests", "create", body={"container_request": request})
        return str(answer["uuid"])

    def call(self, resource: str, method: str, **parameters: Any) -> Any:
        """One call of the API as root, such as ``call("containers", "get", uuid=...)``."""
        return getattr(getattr(self.root, resource)(), method)(**parameters).execute()

    def request(self, uuid: str) -> dict[str, Any]:
        """A container request's record."""
        record: dict[str, Any] = self.call("container_requests", "get", uuid=uuid)
        return record

    def container_of(self, request_uuid: str) -> dict[str, Any]:
        """The record of the request's current container."""
        uuid = self.request(request_uuid)["container_uuid"]
        record: dict[str, Any] = self.call("containers", "get", uuid=uuid)
        return record

    def attempts(self, request_uuid: str) -> list[dict[str, Any]]:
        """The request's attempts, oldest first."""
        answer = self.call("container_requests", "attempts", uuid=request_uuid)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def cancel(self, request_uuid: str) -> None:
        """The user wants it no more."""
        self.set_priority(request_uuid, 0)

    def set_priority(self, request_uuid: str, priority: int) -> None:
        """The user changes the request's priority."""
        body = {"container_request": {"priority": priority}}
        self.call("container_requests", "update", uuid=request_uuid, body=body)

    def reasons(self, request_uuid: str) -> list[Reason]:
        """Why the request's container waits, by each dispatcher that says so."""
        container = self.request(request_uuid)["container_uuid"]
        filters = [["link_class", "=", "dispatch"], ["head_uuid", "=", container]]
        links = self.call("links", "list", filters=filters)["items"]
        return [Reason.from_dict(link["properties"]) for link in links]

    # The runner, played.

    def _script(self, spec: JobSpec) -> Script:
        record = self.call("containers", "get", uuid=spec.name)
        program = self.program(record)
        return Script(seconds=program.seconds, end=program.end)

    def _runner_starts(self, site: Site, job: str, stdin: bytes) -> None:
        record = self.call("containers", "get", uuid=job)
        if not self.program(record).confirms:
            return
        token = RunnerSpec.from_json(stdin).api_token
        api = self._runners[job] = MemoryResource(self.service, token, Wire())
        runner_id = secrets.token_hex(8)
        attributes = {"state": "Running", "runner_id": runner_id}
        try:
            api.containers().update(uuid=job, body={"container": attributes}).execute()
        except ClientApiError:
            # Not ours to run: another runner has it, or it is final. A real runner exits at once.
            site.cluster.finish(job, End(EndKind.EXITED, 1))
            return
        self.ledger.append((job, runner_id))

    def _command_starts(self, job: str, _stdin: bytes) -> None:
        """A scheduler whose jobs are commands makes the containers' folders in the store."""
        if self.store is not None:
            (self.store / job).mkdir(exist_ok=True)
        self.ledger.append((job, "itself"))

    def _runner_ends(self, job: str, end: End) -> None:
        if end.kind not in (EndKind.EXITED, EndKind.SIGNALLED, EndKind.CANCELLED):
            return
        record = self.call("containers", "get", uuid=job)
        if record["state"] != "Running" or not self.program(record).reports:
            return
        if end.kind is EndKind.CANCELLED and record["priority"] > 0:
            end = End(EndKind.SIGNALLED, 15)
        attributes = judge(end, DEFAULT_TEMPFAIL_EXITS).as_attributes()
        with contextlib.suppress(ClientApiError):
            # Refused when the container became final meanwhile; then there is nothing to say.
            api = self._runners[job]
            api.containers().update(uuid=job, body={"container": attributes}).execute()

    # Inside.

    def _group(self, site: Site) -> tuple[pykka.ActorRef[Any], ...]:
        if site.supervisor is None:
            raise ApiError(f"the dispatcher of {site.name} was killed")
        group: tuple[pykka.ActorRef[Any], ...] = site.supervisor.ask(
            GetGroup(site.name), block=True
        )
        return group

    def _sky(self, cluster: FakeCluster) -> FakeSky:
        """A cloud account whose machines join `cluster`."""
        # A job that fits no node that is here waits for one that can be booted.
        cluster.refuses_too_big = False
        return FakeSky(
            self.clock,
            join=cluster.add_node,
            leave=cluster.remove_node,
            fail=cluster.fail_node,
            hang=cluster.hang_node,
            boot=self._machine_comes_up,
        )

    def _machine_comes_up(self, machine: FakeMachine) -> None:
        """What the boot script does: say so at the API."""
        if not self.node_records:
            return
        uuid, _, secret = machine.user_data.partition(" ")
        nobody = MemoryResource(self.service, "", Wire())
        nobody.nodes().ping(
            uuid=uuid, ping_secret=secret, instance_id=machine.node.cloud_id
        ).execute()

    def _node_plant(self, name: str, sky: FakeSky, token: str, wire: Wire) -> NodePlant:
        context = CloudContext(CLUSTER_ID, Path("/nonexistent"))
        return NodePlant(
            connect=lambda: FakeCloud(context, sky),
            sizes=tuple(self.sizes),
            policy=self.node_policy,
            template=OrderTemplate(
                CLUSTER_ID,
                name,
                script=_ping_script,
                # The same names each time: among nodes that are alike the name decides which goes first.
                new_tail=lambda: f"{next(self._machine_numbers):08d}",
            ),
            pace=CloudPace(list_seconds=self.cloud_poll_seconds),
            hands=2,
            call_seconds=60.0,
            in_process=True,
            connect_records=(
                (lambda: ArvadosNodes(MemoryResource(self.service, token, wire), name))
                if self.node_records
                else None
            ),
        )

    def _plant(
        self, name: str, scheduler: FakeScheduler, token: str, wire: Wire, sky: FakeSky | None
    ) -> Plant:
        return Plant(
            name=name,
            connect=lambda: ArvadosApi(MemoryResource(self.service, token, wire)),
            schedulers=(
                SchedulerPlant(lambda: scheduler, Pace(poll_seconds=self.scheduler_poll_seconds)),
            ),
            template=JobTemplate(
                command=("runner",),
                spec=RunnerSpec(
                    container_uuid=f"{CLUSTER_ID}-dz642-{'0' * 15}",
                    api_url="https://localhost:1",
                    api_token="filled-in-per-job",  # noqa: S106 (a placeholder)
                    store="/nonexistent/store",
                    scratch="/nonexistent/scratch",
                ),
                exclusive=sky is not None and self.node_policy.one_per_node,
            ),
            settings=DispatchSettings(
                max_claimed=self.max_claimed,
                turn_seconds=self.claim_poll_seconds,
                relist_seconds=600.0,
            ),
            ping_seconds=self.ping_seconds,
            claim_wait_seconds=0.0,
            clock=self.clock,
            timer=self.timer,
            nodes=None if sky is None else self._node_plant(name, sky, token, wire),
            make_store=self._make_store,
        )

    def _make_store(self) -> Store:
        if self.store is None:
            raise ApiError("this harness has no store")
        return StoreDirectory(self.store)
