"""The daemon's process, from the config file to its end: state directory, log, API server, actors, signals.

Exit status as in `launcher`.
"""

from __future__ import annotations

import logging
import platform
import signal
import threading
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from nodemanager import __version__, logs
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.api.keeper import EmbeddedKeeper
from nodemanager.api.requests import ArvadosRequests
from nodemanager.clock import SystemClock
from nodemanager.config import Config
from nodemanager.daemon import ASK_SECONDS, Daemon
from nodemanager.nodes.messages import Dissolve
from nodemanager.reach import refuse_unreachable
from nodemanager.runs.nodes import node_rows
from nodemanager.runs.record import RunRecords
from nodemanager.runs.request_file import load_requests
from nodemanager.runs.session import RunContext, run_requests
from nodemanager.runs.view import make_view
from nodemanager.statedir import StateDir
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import settings_from

log = logging.getLogger(__name__)

MANAGEMENT_STOP_SECONDS = 2.0


def versions() -> str:
    """Of ourselves and of what we stand on, for logs and bug reports."""
    parts = ", ".join(
        f"{name} {version(name)}" for name in ("pykka", "apache-libcloud", "arvados-python-client")
    )
    return f"arvados-node-manager {__version__} (Python {platform.python_version()}, {parts})"


class Signals:
    """The first SIGTERM or SIGINT asks for an orderly end, the second ends the process at once.

    So do the signals in `more`.
    """

    def __init__(self, *more: signal.Signals) -> None:
        self.stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, *more):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            # Nobody waits any longer: no cleaning up, the next start finds everything as it is.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop.set()


def serve(config: Config, run: Path | None = None, *, resume: bool = False) -> int:
    """Serve until a signal; with `run` until the requests of that file or folder are final. The exit status."""
    refuse_unreachable(config)
    signals = Signals()
    state = StateDir(config.daemon.state_dir)
    state.take()
    try:
        logs.set_up(config, _log_file(config, run))
        log.info("%s starts", versions(), extra={"action": "start"})
        server = (
            EmbeddedKeeper(EmbeddedServer(config.path, config.daemon.state_dir))
            if config.is_embedded
            else None
        )
        try:
            return _run(config, _Run(run, resume=resume), server, signals.stop)
        finally:
            if server is not None:
                server.stop()
    finally:
        state.release()


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


def _run(
    config: Config,
    run: _Run,
    server: EmbeddedKeeper | None,
    stop: threading.Event,
) -> int:
    # Bad files are told before anything is started.
    specs = () if run.path is None else load_requests(run.path)
    if run.path is not None and run.resume:
        RunRecords(config.daemon.state_dir).resume(run.path, specs)
    endpoint, submitter_token = _endpoint(config, server)
    daemon = Daemon(config, endpoint)
    management = ManagementServer(settings_from(config), daemon)
    management.start()
    try:
        daemon.start()
        if run.path is None:
            stop.wait()
            return 0
        submitter = replace(endpoint, token=submitter_token)
        api = ArvadosRequests(submitter.connect(config.arvados.timeout))
        context = RunContext(
            api=api,
            records=RunRecords(config.daemon.state_dir),
            view=make_view(),
            clock=SystemClock(),
            stop=stop,
            store=_where_things_are(config, endpoint),
            nodes=lambda: node_rows(daemon.look(ASK_SECONDS)),
            let_nodes_go=lambda: daemon.tell_nodes(Dissolve()),
        )
        return run_requests(context, run.path, specs, resume=run.resume)
    finally:
        management.stop(MANAGEMENT_STOP_SECONDS)
        log.info("stopping; jobs run on", extra={"action": "stop"})
        if not daemon.stop():
            log.warning("not everything was written in time", extra={"action": "stop"})


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
