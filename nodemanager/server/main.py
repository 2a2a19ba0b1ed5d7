"""The command ``arvados-dispatch-api``: serve the API, make and revoke tokens, pause claims and let them go on.

With ``--embedded`` it is the child of a daemon: it says on standard output when it is ready, and ends
when its standard input does, which the daemon holds open for as long as it lives.
"""

# ruff: noqa: T201 -- a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from nodemanager import __version__, logs
from nodemanager.clock import SystemClock
from nodemanager.config import Config, load, parse
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.notify import take_notifier
from nodemanager.server.app import Api, create_app
from nodemanager.server.certificate import ensure_certificate
from nodemanager.server.database import Database
from nodemanager.server.errors import ServerError
from nodemanager.server.protocol import limited
from nodemanager.server.service import Service
from nodemanager.server.settings import WILDCARDS, ServerSettings, settings_from
from nodemanager.server.state import StateDirectory, read_private, write_private
from nodemanager.server.upkeep import Upkeep

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5
# For the last bytes of an answer to leave, once the answer is made.
_FAREWELL_SECONDS = 0.3
_POLL_SECONDS = 0.02
# Threads hand over to each other within so much; Python's 5 ms are long beside a call of 1 ms.
_SWITCH_SECONDS = 0.001
# Longer than clients keep a connection for their next call, so that it is they who close it.
_KEEP_ALIVE_SECONDS = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for a refusal, 2 for a usage or config error."""
    options = _parser().parse_args(arguments)
    notifier = take_notifier()
    try:
        settings, dispatcher, config = _settings(options)
        _log_as(config, to_stderr=options.embedded or options.verb is not None)
        if options.verb == "token":
            return _token(settings, options)
        if options.verb == "claims":
            return _claims(settings, options)
        upkeep = Upkeep(config, notifier)
        return _serve(settings, upkeep, dispatcher if options.embedded else None)
    except ConfigError as error:
        print(f"arvados-dispatch-api: {error}", file=sys.stderr)
        return 2
    except NodeManagerError as error:
        print(f"arvados-dispatch-api: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, default=argparse.SUPPRESS, help="the config file of the node manager"
    )
    common.add_argument(
        "--state-dir", type=Path, default=argparse.SUPPRESS, help="instead of [Daemon] state_dir"
    )
    parser = argparse.ArgumentParser(
        prog="arvados-dispatch-api", description="API server for dispatchers.", parents=[common]
    )
    parser.set_defaults(verb=None)
    parser.add_argument(
        "--embedded", action="store_true", help="as a child process: end when standard input ends"
    )
    parser.add_argument(
        "--aside",
        action="store_true",
        help="with --embedded: serve the SQLite database of --state-dir on a free port of this machine's own, "
        "whatever [Api] says",
    )
    parser.add_argument(
        "--dispatcher", default=None, help="with --embedded: name of the daemon's dispatcher"
    )
    verbs = parser.add_subparsers(title="instead of serving", metavar="token|claims ...")
    token = verbs.add_parser("token", help="make and revoke tokens", parents=[common])
    token.set_defaults(verb="token")
    actions = token.add_subparsers(required=True, dest="action")
    create = actions.add_parser("create", help="print a new token", parents=[common])
    who = create.add_mutually_exclusive_group(required=True)
    who.add_argument("--dispatcher", dest="token_dispatcher", metavar="NAME")
    who.add_argument("--user", dest="token_user", metavar="NAME")
    revoke = actions.add_parser("revoke", help="take a token back", parents=[common])
    revoke.add_argument("uuid", help="of the token: its middle part")
    claims = verbs.add_parser(
        "claims",
        help="pause all claims, let them go on, or say whether they are paused",
        description="Works on the database itself: no server need run, and those that run follow at once.",
        parents=[common],
    )
    claims.set_defaults(verb="claims")
    actions = claims.add_subparsers(required=True, dest="action")
    pause = actions.add_parser("pause", help="no dispatcher claims anything", parents=[common])
    pause.add_argument("--reason", required=True, help="why; whoever waits reads it")
    actions.add_parser("resume", help="dispatchers claim again", parents=[common])
    actions.add_parser("show", help="print why claims are paused, if they are", parents=[common])
    return parser


def _log_as(config: Config, *, to_stderr: bool) -> None:
    """Log as `[Logging]` says; what the daemon reads, or a person at a terminal, not to a file."""
    if to_stderr:
        config = replace(config, logging=replace(config.logging, file=None))
    logs.set_up(config)
    logs.log_strays()


def _settings(options: argparse.Namespace) -> tuple[ServerSettings, str, Config]:
    """The settings, the name of the daemon's dispatcher, and the config file."""
    config_path: Path | None = getattr(options, "config", None)
    state_dir: Path | None = getattr(options, "state_dir", None)
    name = options.dispatcher or socket.gethostname()
    if config_path is None:
        if state_dir is None:
            raise ConfigError("--config FILE is missing (or --state-dir DIR, with all defaults)")
        return ServerSettings(state_dir=state_dir.absolute()), name, parse("", state_dir / "none")
    config = load(config_path)
    settings = settings_from(config)
    if state_dir is not None:
        settings = replace(settings, state_dir=state_dir.absolute())
    if options.aside:
        settings = settings.aside()
    return settings, options.dispatcher or config.dispatch.name, config


def _token(settings: ServerSettings, options: argparse.Namespace) -> int:
    with _service(settings, StateDirectory(settings.state_dir)) as service:
        if options.action == "revoke":
            try:
                service.revoke_token(options.uuid)
            except ServerError as error:
                raise NodeManagerError(f"no token {options.uuid}") from error
        elif options.token_user is not None:
            print(service.create_user_token(options.token_user).text)
        else:
            print(service.create_dispatcher_token(options.token_dispatcher).text)
    return 0


def _claims(settings: ServerSettings, options: argparse.Namespace) -> int:
    with _service(settings, StateDirectory(settings.state_dir)) as service:
        if options.action == "pause":
            try:
                print(f"claims are paused: {service.pause_claims(options.reason)}")
            except ServerError as error:
                raise NodeManagerError(f"--{error}") from error
        elif options.action == "resume":
            why = service.resume_claims()
            print(f"claims go on; they were paused: {why}" if why else "claims were not paused")
        else:
            why = service.why_paused()
            print(f"claims are paused: {why}" if why else "claims are not paused")
    return 0


def _serve(settings: ServerSettings, upkeep: Upkeep, embedded_dispatcher: str | None) -> int:
    """Serve until told to stop. `embedded_dispatcher` is the daemon's name when we are its child."""
    state = StateDirectory(settings.state_dir)
    with state.locked():
        if not settings.policy.root_token:
            settings = settings.with_root_token(state.kept_root_token())
        elif embedded_dispatcher is not None:
            write_private(state.root_token, f"{settings.policy.root_token}\n")
        if embedded_dispatcher is not None:
            # A machine that was off is no backup, and nobody is there to look.
            settings = settings.that_trusts_its_database()
        logs.mask_secrets((settings.policy.root_token,))
        sys.setswitchinterval(_SWITCH_SECONDS)
        _allow_many_connections()
        certificate, key = _certificate(settings, state)
        listening = _listen(settings, state)
        with listening, _service(settings, state) as service:
            if embedded_dispatcher is not None:
                _keep_dispatcher_token(service, state, embedded_dispatcher)
            else:
                service.distrust_an_old_database()
                _warn_of_a_pause(service)
            app = create_app(service, settings, state.files, SystemClock())
            config = uvicorn.Config(
                app,
                http=limited(settings.request_timeout),  # type: ignore[arg-type]  # makes them
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
            ready = {
                "url": _url(settings, listening.getsockname()[1]),
                "ca_file": str(certificate),
                "pid": os.getpid(),
            }
            server = _Server(
                config, app, ready, upkeep, ends_with_stdin=embedded_dispatcher is not None
            )
            server.run(sockets=[listening])
    return 0 if server.started else 1


def _warn_of_a_pause(service: Service) -> None:
    """Whoever starts a server wants work to flow: not unless somebody ends this."""
    why = service.why_paused()
    if why:
        log.warning("claims are paused: %s", why, extra={"action": "claims_paused"})


class _Server(uvicorn.Server):
    """uvicorn's server, with our way to begin and to end."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Api,
        ready: dict[str, object],
        upkeep: Upkeep,
        *,
        ends_with_stdin: bool,
    ) -> None:
        super().__init__(config)
        self._upkeep = upkeep
        self._app = app
        self._ready = ready
        self._ends_with_stdin = ends_with_stdin

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        """Nothing: uvicorn would raise the signal again at the end and hide that it was orderly."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell whoever started us."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        if self._ends_with_stdin:
            # Its log is the daemon's affair.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._upkeep.reload)
        await super().startup(sockets)
        if not self.started:
            return
        log.info(
            "arvados-dispatch-api %s serves %s",
            __version__,
            self._ready["url"],
            extra={"action": "api_serving", "version": __version__, "url": self._ready["url"]},
        )
        print(json.dumps(self._ready), flush=True)
        self._upkeep.ready(str(self._ready["url"]))
        if self._ends_with_stdin:
            threading.Thread(target=self._watch_stdin, args=(loop,), daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the held calls first: they would keep their connections open to the last second."""
        self._upkeep.stopping()
        self._app.release_held_calls()
        dropping = asyncio.create_task(self._drop_idle_connections())
        await super().shutdown(sockets)
        dropping.cancel()

    async def _drop_idle_connections(self) -> None:
        """Do not wait for the farewell of clients that keep a TLS connection for later."""
        while self.server_state.tasks:  # noqa: ASYNC110  (uvicorn announces nothing)
            await asyncio.sleep(_POLL_SECONDS)
        await asyncio.sleep(_FAREWELL_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _end(self) -> None:
        self.should_exit = True

    def _watch_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        except OSError:
            log.warning(
                "standard input cannot be read; ending",
                exc_info=True,
                extra={"action": "stdin_broken"},
            )
        try:
            loop.call_soon_threadsafe(self._end)
        except RuntimeError:  # it has ended already
            return


@contextmanager
def _service(settings: ServerSettings, state: StateDirectory) -> Iterator[Service]:
    url = settings.database or f"sqlite:///{state.database}"
    database = Database(url, SystemClock())
    try:
        if not settings.database:
            state.database.chmod(0o600)
        yield Service(database, settings.policy, settings.cluster_id)
    finally:
        database.close()


def _allow_many_connections() -> None:
    """As many open files as the system lets us have: each runner keeps a connection for a while."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _certificate(settings: ServerSettings, state: StateDirectory) -> tuple[Path, Path]:
    if settings.certificate is not None and settings.key is not None:
        return settings.certificate, settings.key
    hosts = [host for host in (settings.address, settings.advertised_host) if host]
    ensure_certificate(state.certificate, state.key, hosts, datetime.now(UTC))
    return state.certificate, state.key


def _listen(settings: ServerSettings, state: StateDirectory) -> socket.socket:
    """A listening socket; a port that was chosen is kept, because runners out there know it."""
    port = settings.port or state.kept_port()
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
    except OSError as error:
        raise ConfigError(f"[Api] address: {settings.address}: {error.strerror}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        kept = "" if settings.port else f" (chosen at the first start, kept in {state.port})"
        raise ConfigError(
            f"[Api] port: {settings.address}:{port}{kept} cannot be listened on: {error.strerror}; "
            "stop the process that has it, or choose another"
        ) from error
    if not settings.port:
        write_private(state.port, f"{listening.getsockname()[1]}\n")
    return listening


def _url(settings: ServerSettings, port: int) -> str:
    """Where this machine reaches us."""
    host = settings.address
    if host in WILDCARDS:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104 (compared with)
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _keep_dispatcher_token(service: Service, state: StateDirectory, name: str) -> None:
    """Leave a token in its file with which the daemon is the dispatcher `name`."""
    kept = read_private(state.dispatcher_token)
    if kept:
        try:
            caller = service.authenticate(kept)
        except ServerError:
            log.info(
                "the daemon's token is not known to this database; making another",
                extra={"action": "token_remade", "dispatcher_name": name},
            )
        else:
            if caller.dispatcher_name == name:
                return
    write_private(state.dispatcher_token, f"{service.create_dispatcher_token(name).text}\n")


if __name__ == "__main__":
    sys.exit(main())
