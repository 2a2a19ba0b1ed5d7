"""A probe from its first step to its last: lock, API, token, job, report, and everything taken away again.

What the daemon would use is used: the scheduler module with its directory, the embedded API server, the
runner's command and specification. So no daemon can work in the state directory meanwhile, and none is
disturbed. No container and no dispatcher is recorded.
"""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.clock import Clock, SystemClock
from nodemanager.config import Config
from nodemanager.daemon import job_template, make_directories, make_site_scheduler
from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.model import Finding, Resources, format_seconds, new_uuid
from nodemanager.outcome import EndKind
from nodemanager.probe import PROBE_SECONDS
from nodemanager.probe.api import ProbeApi
from nodemanager.probe.findings import Return, Told, findings
from nodemanager.probe.job import ProbeJob
from nodemanager.runner.report import Check, Report, report_path
from nodemanager.schedulers.base import JobSpec, Scheduler
from nodemanager.schedulers.make import SchedulerSite, scheduler_sites
from nodemanager.statedir import StateDir, StateDirInUse

RUN_SECONDS = 300
"""The job's own time limit: an API that swallows connections costs a probe some 30 s a call."""

CANCEL_SECONDS = 60.0
"""How long a cancelled job may take to go; the grace of schedulers between TERM and KILL is 30 s."""

APPEAR_SECONDS = 5.0
"""How much later a file of another machine may appear here, by NFS."""

_RESOURCES = Resources(cores=1, ram_bytes=256 * 2**20)
_PRIORITY = 1000
"""As the most urgent request of a user: somebody waits at the terminal."""

_SLICE_SECONDS = 0.2
_IN_PROCESS_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Visit:
    """How a probe is waited for."""

    stop: threading.Event
    """Set when nobody wants to know any more."""
    say: Callable[[str], None]
    """Told in words how the job stands, whenever that changes."""
    timeout_seconds: float = PROBE_SECONDS
    clock: Clock = SystemClock()  # noqa: RUF009 (has no state)
    sleep: Callable[[float], object] = time.sleep

    def wait(self, seconds: float, *, to_the_end: bool = False) -> None:
        """Let `seconds` pass, or less when `stop` is set; with `to_the_end` that is passed over."""
        until = self.clock.elapsed() + seconds
        while (left := until - self.clock.elapsed()) > 0:
            if self.stop.is_set() and not to_the_end:
                return
            self.sleep(min(left, _SLICE_SECONDS))


def probe_site(config: Config, visit: Visit) -> list[Finding]:
    """Send one probe, take it away again, and say what it found. Whatever goes wrong is a finding."""
    state = StateDir(config.daemon.state_dir)
    try:
        state.take()
    except StateDirInUse as error:
        words = f"not tried: {error}. A daemon may be stopped for a while: its jobs run on"
        return [Finding("probe", problem=words)]
    except NodeManagerError as error:
        return [Finding("probe", problem=str(error))]
    try:
        with _endpoint(config) as endpoint:
            return [
                finding
                for site in scheduler_sites(config)
                for finding in _probe_one(config, site, endpoint, visit)
            ]
    except NodeManagerError as error:
        return [Finding("probe", problem=str(error))]
    finally:
        state.release()


@contextmanager
def _endpoint(config: Config) -> Iterator[Endpoint]:
    """The API; an embedded one runs until the end of the context."""
    if not config.is_embedded:
        yield outer_endpoint(config)
        return
    server = EmbeddedServer(config.path, config.daemon.state_dir)
    try:
        started = server.start()
        # An administrator can make a token for the node that may do next to nothing.
        yield Endpoint(url=started.url, token=started.root_token, ca_file=started.ca_file)
    finally:
        server.stop()


def _probe_one(
    config: Config, site: SchedulerSite, endpoint: Endpoint, visit: Visit
) -> list[Finding]:
    """What one of the schedulers has to say; of several each is tried, whatever its rule."""
    if visit.stop.is_set():
        return []
    make_directories(config)
    scheduler = make_site_scheduler(config, site)
    try:
        if site.name:
            visit.say(f"scheduler {site.name}")
        return _probe(config, endpoint, scheduler, visit)
    finally:
        scheduler.close()


def _probe(config: Config, endpoint: Endpoint, scheduler: Scheduler, visit: Visit) -> list[Finding]:
    if config.cloud.provider and not scheduler.nodes():
        words = (
            "not tried: there is no node yet, and a probe boots none; let the daemon boot one (for a"
            " container, or by [Daemon] min_nodes), stop it, which leaves nodes as they are, and try again"
        )
        return [Finding("probe", problem=words)]
    uuid = new_uuid(config.arvados.cluster_id, "container")
    api = ProbeApi(endpoint, config.arvados.timeout, uuid)
    try:
        until = visit.clock.wall() + visit.timeout_seconds + RUN_SECONDS
        spec = _job_spec(config, endpoint, uuid, api.token(until))
        if not api.has_made_token:
            visit.say("the token in use may make no others, so that the node gets this one")
        job = ProbeJob(scheduler, spec, visit.clock, visit.say)
        try:
            _follow(job, _poll_seconds(config, scheduler), visit)
            found = _result(config, job, api, visit)
        finally:
            left = _take_away(scheduler, job, visit)
        return [*found, *left]
    finally:
        api.clear_away()
        if config.runner.store is not None:
            shutil.rmtree(config.runner.store / uuid, ignore_errors=True)


def _job_spec(config: Config, endpoint: Endpoint, uuid: str, token: str) -> JobSpec:
    """The job of a container as the dispatcher would submit it, but for the one word `probe`."""
    template = job_template(config, endpoint)
    spec = replace(template.spec, container_uuid=uuid, api_token=token, probe=True)
    return JobSpec(
        name=uuid,
        argv=template.command,
        resources=_RESOURCES,
        stdin=spec.to_json(),
        priority=_PRIORITY,
        max_run_seconds=RUN_SECONDS,
    )


def _poll_seconds(config: Config, scheduler: Scheduler) -> float:
    return _IN_PROCESS_POLL_SECONDS if scheduler.in_process else config.scheduler.poll_time


def _follow(job: ProbeJob, poll_seconds: float, visit: Visit) -> None:
    """Until it is over, or the time is, or nobody wants to know any more."""
    until = visit.clock.elapsed() + visit.timeout_seconds
    while not visit.stop.is_set():
        job.turn()
        left = until - visit.clock.elapsed()
        if job.is_over or left <= 0:
            return
        visit.wait(min(poll_seconds, left))


def _result(config: Config, job: ProbeJob, api: ProbeApi, visit: Visit) -> list[Finding]:
    if job.end is not None:
        posted = api.report()
        stored = _stored(config, job, posted, visit)
        back = Return(node=job.node, end=job.end, posted=posted, stored=stored)
        return list(findings(back, _told(config)))
    if visit.stop.is_set():
        return [Finding("probe", problem="interrupted; its job was cancelled")]
    nodes = "; a probe boots no nodes" if config.cloud.provider else ""
    words = (
        f"its job did not end within {format_seconds(visit.timeout_seconds)}: {job.standing}{nodes}; look at"
        " the scheduler's queue, or wait longer with --probe-timeout"
    )
    return [Finding("probe", problem=words)]


def _told(config: Config) -> Told:
    store = "" if config.runner.store is None else str(config.runner.store)
    return Told(command=shlex.join(config.runner.command), store=store)


def _stored(config: Config, job: ProbeJob, posted: Report | None, visit: Visit) -> Report | None:
    """The report in the store. If the node could leave one, it is waited for a little."""
    if config.runner.store is None:
        return None
    path = report_path(config.runner.store, job.name)
    until = visit.clock.elapsed() + (APPEAR_SECONDS if _has_stored(job, posted) else 0.0)
    while True:
        try:
            return Report.from_json(path.read_text("utf-8"))
        except (OSError, NodeManagerError):
            if visit.clock.elapsed() >= until or visit.stop.is_set():
                return None
        visit.wait(_SLICE_SECONDS)


def _has_stored(job: ProbeJob, posted: Report | None) -> bool:
    """Whether the node says that it could write to the store."""
    if posted is not None:
        return posted.is_well(Check.STORE)
    if job.end is None or job.end.kind is not EndKind.EXITED:
        return False
    return job.end.code == 0 or Check.of_status(job.end.code) not in (None, Check.STORE)


def _take_away(scheduler: Scheduler, job: ProbeJob, visit: Visit) -> list[Finding]:
    """Cancel what is not over, wait until it is, and let the scheduler forget it; what could not be done."""
    until = visit.clock.elapsed() + CANCEL_SECONDS
    if not job.is_over:
        job.cancel()
    while not job.is_over and visit.clock.elapsed() < until:
        job.turn()
        if not job.is_over:
            visit.wait(1.0 if not scheduler.in_process else _SLICE_SECONDS, to_the_end=True)
    problem = "" if job.is_over else job.standing
    try:
        job.forget()
    except SchedulerError as error:
        problem = str(error)
    if not problem:
        return []
    return [Finding("probe", problem=f"its job {job.name} could not be taken away: {problem}")]
