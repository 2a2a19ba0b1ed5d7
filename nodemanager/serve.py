"""The daemon's process, from the config file to its end: state directory, log, API server, actors, signals.

Exit status as in `launcher`.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import queue
import signal
import threading
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from nodemanager import __version__, logs
from nodemanager.actors.watchdog import Feed
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.api.keeper import EmbeddedKeeper
from nodemanager.api.requests import ArvadosRequests
from nodemanager.clock import SystemClock
from nodemanager.config import Config
from nodemanager.daemon import ASK_SECONDS, Daemon
from nodemanager.herald import Herald
from nodemanager.nodes.messages import Dissolve
from nodemanager.notify import Notifier, take_notifier
from nodemanager.reach import refuse_unreachable
from nodemanager.reload import MANAGEMENT_STOP_SECONDS, Reloader
from nodemanager.runs.nodes import node_rows
from nodemanager.runs.record import RunRecords
from nodemanager.runs.request_file import load_requests
from nodemanager.runs.session import RunContext, run_requests
from nodemanager.runs.view import make_view
from nodemanager.schedulers.make import scheduler_sites
from nodemanager.statedir import StateDir
from nodemanager.status.health import limits_from

log = logging.getLogger(__name__)


def versions() -> str:
    """Of ourselves and of what we stand on, for logs and bug reports."""
    parts = ", ".join(
        f"{name} {version(name)}" for name in ("pykka", "apache-libcloud", "arvados-python-client")
    )
    return f"arvados-node-manager {__version__} (Python {platform.python_version()}, {parts})"


class Signals:
    """The first SIGTERM or SIGINT asks for an orderly end, the second ends the process at once.

    So do the signals in `more`. With `reloads`, SIGHUP asks for the config file to be read again.
    """

    def __init__(self, *more: signal.Signals, reloads: bool = False) -> None:
        self.stop = threading.Event()
        # Unlike an event's `set`, its `put` may come in the middle of whatever this thread is doing.
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT, *more):
            signal.signal(number, self._handle)
        if reloads:
            signal.signal(signal.SIGHUP, lambda number, _frame: self._came.put(number))

    def next(self) -> int:
        """Wait for the next signal; its number. Belongs to the main thread."""
        return self._came.get()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            # Nobody waits any longer: no cleaning up, the next start finds everything as it is.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop.set()
        self._came.put(number)


def serve(config: Config, run: Path | None = None, *, resume: bool = False) -> int:
    """Serve until a signal; with `run` until the requests of that file or folder are final. The exit status."""
    refuse_unreachable(config)
    notifier = take_notifier()
    signals = Signals(reloads=run is None)
    # If systemd's watchdog ends us, by SIGABRT, it leaves what every thread was doing.
    faulthandler.enable()
    state = StateDir(config.daemon.state_dir)
    state.take()
    try:
        logs.set_up(config, _log_file(config, run))
        logs.log_strays()
        schedulers = [site.title for site in scheduler_sites(config)]
        log.info(
            "%s starts, with %s; process %d, config file %s",
            versions(),
            f"{_listed(schedulers)} and {config.cloud.provider or 'no cloud'}",
            os.getpid(),
            config.path,
            extra={"action": "start", "version": __version__, "schedulers": schedulers},
        )
        for warning in config.warnings:
            log.warning("%s", warning, extra={"action": "config_warning"})
        server = (
            EmbeddedKeeper(EmbeddedServer(config.path, config.daemon.state_dir))
            if config.is_embedded
            else None
        )
        try:
            return _run(config, _Run(run, resume=resume), server, _Around(signals, notifier))
        finally:
            if server is not None:
                server.stop()
    finally:
        state.release()


def _listed(words: list[str]) -> str:
    return f"scheduler {words[0]}" if len(words) == 1 else f"schedulers {', '.join(words)}"


def _log_file(config: Config, run: Path | None) -> Path | None:
    """Log lines would tear the live table of --run: they go to a file unless the config names one."""
    if run is not None and config.logging.file is None:
        return config.daemon.state_dir / "node-manager.log"
    return None


@dataclass(frozen=True, slots=True)
class _Run:
    """What `--run` asks for."""

    path: Path | None
    """None: nothing, the daemon serves."""
    resume: bool


@dataclass(frozen=True, slots=True)
class _Around:
    """Who tells us what to do, and whom we tell what we do."""

    signals: Signals
    notifier: Notifier


def _run(config: Config, run: _Run, server: EmbeddedKeeper | None, around: _Around) -> int:
    # Bad files are told before anything is started.
    specs = () if run.path is None else load_requests(run.path)
    if run.path is not None and run.resume:
        RunRecords(config.daemon.state_dir).resume(run.path, specs)
    notifier = around.notifier
    notifier.status("starting the API server" if server else "starting")
    endpoint, submitter_token = _endpoint(config, server)
    logs.mask_secrets((endpoint.token, submitter_token))
    seconds = notifier.watchdog_seconds
    daemon = Daemon(config, endpoint, feed=Feed(notifier.alive, seconds) if seconds else None)
    herald = Herald(notifier, daemon, limits_from(config))
    reloader = Reloader(config, daemon, herald)
    reloader.management.start()
    try:
        daemon.start()
        # Not only once it is registered: an API that is away for a day must not look like a start that
        # failed, and be answered by starting again.
        notifier.ready("started; not registered at the API yet")
        herald.start()
        if run.path is None:
            return _serve(around, reloader, herald)
        submitter = replace(endpoint, token=submitter_token)
        api = ArvadosRequests(submitter.connect(config.arvados.timeout))
        context = RunContext(
            api=api,
            records=RunRecords(config.daemon.state_dir),
            view=make_view(),
            clock=SystemClock(),
            stop=around.signals.stop,
            store=_where_things_are(config, endpoint),
            nodes=lambda: node_rows(daemon.look(ASK_SECONDS)),
            let_nodes_go=lambda: daemon.tell_nodes(Dissolve()),
        )
        return run_requests(context, run.path, specs, resume=run.resume)
    finally:
        herald.stop()
        notifier.stopping("stopping; jobs run on")
        log.info("stopping; jobs run on", extra={"action": "stop"})
        # Until the last it can be asked, and says that it is stopping.
        if not daemon.stop():
            log.warning("not everything was written in time", extra={"action": "stop_unwritten"})
        reloader.management.stop(MANAGEMENT_STOP_SECONDS)


def _serve(around: _Around, reloader: Reloader, herald: Herald) -> int:
    while around.signals.next() == signal.SIGHUP:
        around.notifier.reloading()
        problem = reloader.reload()
        around.notifier.ready(problem or herald.words or "started")
        herald.interrupted()
    return 0


def _where_things_are(config: Config, endpoint: Endpoint) -> str:
    """Where a person finds logs and outputs."""
    if config.runner.store is None:
        return f"at the API, {endpoint.url}/arvados/v1/containers/UUID/files"
    return str(config.runner.store)


def _endpoint(config: Config, server: EmbeddedKeeper | None) -> tuple[Endpoint, str]:
    """Where the API is, as the dispatcher and with the token of one who submits."""
    if server is None:
        endpoint = outer_endpoint(config)
        return endpoint, endpoint.token
    started = server.start()
    endpoint = Endpoint(url=started.url, token=started.dispatcher_token, ca_file=started.ca_file)
    return endpoint, started.root_token
