"""The command `arvados-node-manager`: reads flags and config, starts the daemon, handles signals.

Exit status: 0 when it ended as asked (with --run: all requests Complete); 1 when a request ended otherwise or
something failed; 2 for wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from nodemanager import __version__, logs
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.api.keeper import EmbeddedKeeper
from nodemanager.api.requests import ArvadosRequests
from nodemanager.check import check
from nodemanager.clock import SystemClock
from nodemanager.config import Config, load
from nodemanager.config.kinds import Seconds
from nodemanager.daemon import ASK_SECONDS, Daemon
from nodemanager.errors import ConfigError, NodeManagerError, RequestError
from nodemanager.nodes.messages import Dissolve
from nodemanager.probe import PROBE_SECONDS, Visit, probe_site
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

USAGE_ERROR = 2
MANAGEMENT_STOP_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    flags = _parse(arguments)
    try:
        config = load(flags.config)
        for warning in config.warnings:
            _say(f"warning: {warning}")
        if flags.check:
            return _check(config, flags)
        return _serve(config, flags)
    except (ConfigError, RequestError) as error:
        _say(str(error))
        return USAGE_ERROR
    except NodeManagerError as error:
        _say(str(error))
        return 1


def _check(config: Config, flags: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if not flags.probe:
        return check(config, console)

    def say(words: str) -> None:
        # A terminal that is gone is no reason to leave the job where it is.
        with contextlib.suppress(OSError):
            console.print(Text(f"...      probe: {words}"), soft_wrap=True)

    visit = Visit(_Signals(signal.SIGHUP).stop, say, flags.probe_timeout)
    return check(config, console, lambda: probe_site(config, visit))


def _say(message: str) -> None:
    sys.stderr.write(f"arvados-node-manager: {message}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="arvados-node-manager",
        description="Takes queued containers from an Arvados API and runs them on a batch scheduler. "
        "Without --run or --check it serves until SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=_versions())
    parser.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="the config file"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="validate the file and everything it names, print what is in effect, change nothing",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="with --check: submit one real job, which looks whether runner, certificate, token, store and "
        "so on work on a node; the daemon must not be running",
    )
    parser.add_argument(
        "--probe-timeout",
        metavar="TIME",
        type=_seconds,
        default=PROBE_SECONDS,
        help="with --probe: how long the job may take to start and end, such as 90 s or 2 h; "
        f"{Seconds().show(PROBE_SECONDS)} by default",
    )
    parser.add_argument(
        "--run",
        metavar="PATH",
        type=Path,
        help="submit the container requests of a YAML file or of all those in a folder, follow them "
        "until every one is final, and exit",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with --run: go on with the last run of PATH that did not end, submitting nothing twice",
    )
    flags = parser.parse_args(arguments)
    if flags.resume and flags.run is None:
        parser.error("--resume goes with --run")
    if flags.probe and not flags.check:
        parser.error("--probe goes with --check")
    if flags.check and flags.run is not None:
        parser.error("--check and --run exclude each other")
    return flags


def _seconds(text: str) -> float:
    try:
        return float(Seconds(1).parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _versions() -> str:
    parts = ", ".join(
        f"{name} {version(name)}" for name in ("pykka", "apache-libcloud", "arvados-python-client")
    )
    return f"arvados-node-manager {__version__} (Python {platform.python_version()}, {parts})"


class _Signals:
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


def _serve(config: Config, flags: argparse.Namespace) -> int:
    refuse_unreachable(config)
    signals = _Signals()
    state = StateDir(config.daemon.state_dir)
    state.take()
    try:
        logs.set_up(config, _log_file(config, flags))
        log.info("%s starts", _versions(), extra={"action": "start"})
        server = (
            EmbeddedKeeper(EmbeddedServer(config.path, config.daemon.state_dir))
            if config.is_embedded
            else None
        )
        try:
            return _run(config, flags, server, signals.stop)
        finally:
            if server is not None:
                server.stop()
    finally:
        state.release()


def _log_file(config: Config, flags: argparse.Namespace) -> Path | None:
    """Log lines would tear the live table of --run: they go to a file unless the config names one."""
    if flags.run is not None and config.logging.file is None:
        return config.daemon.state_dir / "node-manager.log"
    return None


def _run(
    config: Config,
    flags: argparse.Namespace,
    server: EmbeddedKeeper | None,
    stop: threading.Event,
) -> int:
    # Bad files are told before anything is started.
    specs = () if flags.run is None else load_requests(flags.run)
    if flags.resume:
        RunRecords(config.daemon.state_dir).resume(flags.run, specs)
    endpoint, submitter_token = _endpoint(config, server)
    daemon = Daemon(config, endpoint)
    management = ManagementServer(settings_from(config), daemon)
    management.start()
    try:
        daemon.start()
        if flags.run is None:
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
        return run_requests(context, flags.run, specs, resume=flags.resume)
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


if __name__ == "__main__":
    sys.exit(main())
