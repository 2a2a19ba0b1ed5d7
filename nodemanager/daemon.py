"""The daemon's parts, put together from the configuration: actors, pool, watchdog.

`Daemon.start` returns at once; the caller's thread has to stay alive, since all of the pool's are daemon
threads. `Daemon.stop` leaves jobs running, to be adopted by the next start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pykka

from nodemanager import __version__
from nodemanager.actors.actor import failure_counts, tell_if_alive
from nodemanager.actors.pool import ActorPool, use_pool
from nodemanager.actors.supervisor import GetGroup, Supervise, SupervisorActor, TellGroup
from nodemanager.actors.timer import TimerActor
from nodemanager.actors.watchdog import Feed, Pulse, Watchdog
from nodemanager.api.client import ArvadosApi
from nodemanager.api.endpoint import Endpoint
from nodemanager.api.files import ContainerFiles
from nodemanager.api.story import Story
from nodemanager.clock import Clock, SystemClock
from nodemanager.clouds.actor import CloudActor
from nodemanager.clouds.make import LOOPBACK, cloud_dir
from nodemanager.clouds.messages import GetCloudCounts
from nodemanager.config import Config
from nodemanager.config import Scheduler as SchedulerSection
from nodemanager.config.nodes import ONE
from nodemanager.dispatch.collector import Store, StoreApi, StoreDirectory
from nodemanager.dispatch.dispatcher import DispatcherActor, DispatchSettings
from nodemanager.dispatch.group import Plant, SchedulerPlant
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.messages import GetStatus, Stop
from nodemanager.elastic import changed_plant, node_plant
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.model import NodeSize
from nodemanager.nodes.arbiter import ArbiterActor
from nodemanager.nodes.messages import Dissolve, GetNodesStatus
from nodemanager.runner.spec import API_STORE, RunnerSpec
from nodemanager.schedulers.actor import Pace
from nodemanager.schedulers.base import Scheduler
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.make import (
    SchedulerSite,
    elastic_site,
    make_scheduler,
    scheduler_sites,
)
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.records import DispatcherEntry, Records
from nodemanager.status.tally import work_counts

log = logging.getLogger(__name__)

GROUP = "dispatcher"
ASK_SECONDS = 5.0
"""How long an actor has to answer."""
HELD_CALL_MARGIN_SECONDS = 15.0
"""How much longer than a held-open call its connection waits for the answer."""


class Daemon:
    """The running dispatcher. One per process and per state directory."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        clock: Clock | None = None,
        feed: Feed | None = None,
    ) -> None:
        """`feed` is who has to hear from the actors as long as all of them answer."""
        self._config = config
        self._endpoint = endpoint
        self._clock = clock or SystemClock()
        self._pool = ActorPool()
        self._watchdog = Watchdog(self._clock, config.daemon.watchdog, last_resort=True, feed=feed)
        self._stopping = False
        self._plant: Plant | None = None
        self._supervisor: pykka.ActorRef[SupervisorActor] | None = None
        self._records = Records(endpoint, config.runner.store, config.arvados.timeout)

    def start(self) -> None:
        """Start all actors. What fails later is started again by the supervisor.

        Raises `ConfigError` when a directory that should be there is not.
        """
        make_directories(self._config)
        use_pool(self._pool)
        timer = TimerActor.start(self._clock)
        self._supervisor = SupervisorActor.start(timer, self._clock)
        plant = self._plant = _plant(self._config, self._endpoint, self._clock, timer)

        def start_watched(supervisor: pykka.ActorRef[Any], key: Any) -> Any:
            # As it is by then: it may have been changed since.
            actors = (self._plant or plant).start(supervisor, key)
            self._watchdog.watch(*actors)
            return actors

        self._supervisor.tell(Supervise(GROUP, start_watched))
        self._watchdog.watch(timer, self._supervisor)
        self._watchdog.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Claim no more, write what is unwritten, stop all actors; jobs run on.

        True if everything was written in time. What was not is written again by the next start, which
        finds the jobs and containers as they are.
        """
        self._stopping = True
        flushed = threading.Event()
        dispatcher = _of_kind(DispatcherActor, self._group(timeout))
        if dispatcher is not None:
            tell_if_alive(dispatcher, Stop(flushed))
            flushed.wait(timeout)
        self._watchdog.end()
        # Calls that are held open at the API would hold up an orderly end; they are left to die with
        # the process, and what they claim meanwhile is adopted by the next start.
        self._pool.close(timeout=1.0)
        return flushed.is_set()

    def reload(self, config: Config) -> None:
        """Let the actors take up what is different in `config`, which may only be what
        `nodemanager.config.reload` calls live. Belongs to the thread that called `start`.

        Raises `NodeManagerError`, and changes nothing then.
        """
        before = self._plant
        if before is None or self._supervisor is None:
            raise NodeManagerError("the daemon has not started")
        changed = self._plant = _changed(before, config, self._endpoint)
        # However busy the supervisor is: those it has started before it comes to this are told, and those that
        # it starts later have it from the plant. To be told twice does no harm.
        message = TellGroup(GROUP, partial(changed.retell, before))
        try:
            self._supervisor.tell(message)
        except pykka.ActorDeadError as error:
            self._plant = before
            raise NodeManagerError("the daemon is ending, its actors cannot be told") from error
        self._config = config
        self._watchdog.be_patient(config.daemon.watchdog)

    def look(self, timeout_seconds: float) -> DaemonLook:
        """How things stand, for people; see `nodemanager.status.look.Source`. May be called from any thread."""
        group = self._group(timeout_seconds)

        def ask(kind: type[pykka.Actor], question: Any) -> Any:
            """The answer; None when there is no such actor, or it does not answer in time."""
            actor = _of_kind(kind, group)
            if actor is None:
                return None
            try:
                return actor.ask(question, block=True, timeout=timeout_seconds)
            except (pykka.ActorDeadError, pykka.Timeout):
                return None

        return DaemonLook(
            version=__version__,
            taken_at=self._clock.wall(),
            dispatcher=ask(DispatcherActor, GetStatus()),
            nodes=ask(ArbiterActor, GetNodesStatus()),
            clouds=ask(CloudActor, GetCloudCounts()),
            failures=failure_counts(),
            stopping=self._stopping,
            work=work_counts(),
        )

    def pulse(self) -> Pulse:
        """Whether the actors answer at all, without asking them. May be called from any thread."""
        return self._watchdog.pulse()

    def tell_nodes(self, message: OperatorMessage | Dissolve) -> None:
        """Pass an operator's word on to the arbiter; raises `NodeManagerError` when there is none."""
        arbiter = _of_kind(ArbiterActor, self._group(ASK_SECONDS))
        if arbiter is None:
            raise NodeManagerError("no nodes are booted here, or the daemon is just starting anew")
        tell_if_alive(arbiter, message)

    def story(self, uuid: str) -> Story:
        """All that the API tells of a container; raises `ApiError`."""
        return self._records.story(uuid)

    def log_tail(self, uuid: str) -> bytes:
        """The ends of what a container wrote; raises `ApiError`."""
        return self._records.log_tail(uuid)

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        """Every dispatcher that the API knows; raises `ApiError`."""
        return self._records.dispatchers()

    def _group(self, timeout: float) -> Sequence[pykka.ActorRef[Any]]:
        """The actors of the dispatcher; none while they are being started anew."""
        if self._supervisor is None:
            return ()
        try:
            group: Sequence[pykka.ActorRef[Any]] = self._supervisor.ask(
                GetGroup(GROUP), block=True, timeout=timeout
            )
        except (pykka.ActorDeadError, pykka.Timeout):
            return ()
        return group


def _of_kind(
    kind: type[pykka.Actor], group: Sequence[pykka.ActorRef[Any]]
) -> pykka.ActorRef[Any] | None:
    return next((actor for actor in group if issubclass(actor.actor_class, kind)), None)


def make_site_scheduler(
    config: Config, site: SchedulerSite, sizes: tuple[NodeSize, ...] = ()
) -> Scheduler:
    """The module of one of the configured schedulers; raises `ConfigError`.

    `sizes` are those of nodes that may be booted. The local scheduler uses the machines of the loopback cloud.
    """
    is_elastic = site.name == elastic_site(config)
    shares = issubclass(site.kind, LocalScheduler) and config.cloud.provider == LOOPBACK
    machines = cloud_dir(config) if shares and is_elastic else None
    return make_scheduler(config, site, sizes if is_elastic else (), machines)


def store_of(config: Config) -> str:
    """`[Runner] store` as the runner understands it: an absolute directory, or ``api``."""
    return API_STORE if config.runner.store is None else str(config.runner.store)


def make_directories(config: Config) -> None:
    """Make the scheduler module's directory, and the store if it is ours to make.

    A store outside the state directory is a shared file system: making its directory while it is not
    mounted would scatter logs and outputs over the disks of the nodes.
    """
    for site in scheduler_sites(config):
        site.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    cloud_dir(config).mkdir(mode=0o700, parents=True, exist_ok=True)
    store = config.runner.store
    if store is None:
        return
    if store.is_relative_to(config.daemon.state_dir):
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not store.is_dir():
        raise ConfigError(
            f"{config.path}: [Runner] store: {store} is no directory; make it, or mount it"
        )


def _plant(config: Config, endpoint: Endpoint, clock: Clock, timer: pykka.ActorRef[Any]) -> Plant:
    wait = config.dispatch.claim_wait
    nodes = node_plant(config, endpoint)
    sizes = () if nodes is None else nodes.sizes
    timeout = max(config.arvados.timeout, wait + HELD_CALL_MARGIN_SECONDS)
    return Plant(
        name=config.dispatch.name,
        connect=lambda: ArvadosApi(endpoint.connect(timeout)),
        schedulers=tuple(_scheduler_plant(config, site, sizes) for site in scheduler_sites(config)),
        template=job_template(config, endpoint),
        settings=_settings(config),
        ping_seconds=config.dispatch.ping_interval,
        claim_wait_seconds=wait,
        clock=clock,
        timer=timer,
        nodes=nodes,
        elastic=elastic_site(config),
        make_store=lambda: _store(config, endpoint),
    )


def _changed(plant: Plant, config: Config, endpoint: Endpoint) -> Plant:
    """The plant with all that may change while its actors run; neither scheduler nor cloud is asked."""
    paces = [_pace(site.section) for site in scheduler_sites(config)]
    return replace(
        plant,
        schedulers=tuple(
            replace(each, pace=pace) for each, pace in zip(plant.schedulers, paces, strict=True)
        ),
        template=job_template(config, endpoint),
        settings=_settings(config),
        ping_seconds=config.dispatch.ping_interval,
        nodes=changed_plant(plant.nodes, config),
    )


def _settings(config: Config) -> DispatchSettings:
    return DispatchSettings(
        max_claimed=config.dispatch.max_claimed,
        turn_seconds=config.dispatch.poll_time,
        relist_seconds=config.dispatch.full_list_interval,
    )


def _pace(section: SchedulerSection) -> Pace:
    return Pace(
        poll_seconds=section.poll_time,
        max_poll_seconds=section.max_poll_time,
        commands_per_second=section.commands_per_second,
        submit_batch=section.submit_batch,
    )


def _store(config: Config, endpoint: Endpoint) -> Store:
    if config.runner.store is None:
        return StoreApi(ContainerFiles(endpoint).put)
    return StoreDirectory(config.runner.store)


def _scheduler_plant(
    config: Config, site: SchedulerSite, sizes: tuple[NodeSize, ...]
) -> SchedulerPlant:
    return SchedulerPlant(
        make=lambda: make_site_scheduler(config, site, sizes),
        pace=_pace(site.section),
        name=site.name,
        rule=site.rule,
    )


def job_template(config: Config, endpoint: Endpoint) -> JobTemplate:
    """What every job is told; container and token are filled in for each."""
    runner = config.runner
    return JobTemplate(
        command=runner.command,
        exclusive=bool(config.cloud.provider) and config.cloud.containers_per_node == ONE,
        authority=b"" if endpoint.ca_file is None else endpoint.ca_file.read_bytes(),
        spec=RunnerSpec(
            container_uuid=f"{config.arvados.cluster_id}-dz642-{'0' * 15}",
            api_url=config.api.advertise_url or endpoint.url,
            api_token="filled-in-per-job",  # noqa: S106 (a placeholder)
            store=store_of(config),
            scratch=str(runner.scratch),
            ca_file=None if endpoint.ca_file is None else str(endpoint.ca_file),
            insecure=endpoint.insecure,
            keep_scratch=runner.keep_scratch,
            engine=runner.container_engine,
            tempfail_exits=runner.tempfail_exits,
            kill_grace=runner.kill_grace,
            heartbeat=runner.heartbeat,
            fenced_after=runner.fenced_after,
            input_dirs=tuple(str(path) for path in runner.input_dirs),
            max_log_bytes=runner.max_log_bytes,
        ),
    )
