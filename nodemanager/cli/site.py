"""Whom a command speaks to: the API, as whom, and the daemon's management server; from the config file or without one.

Variables of the environment, ARVADOS_API_HOST and ARVADOS_API_TOKEN, stand above the file, as for every
client of Arvados: so operators and users act as themselves, and need no daemon's token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from arvados.util import ca_certs_path

from nodemanager.api.connection import call
from nodemanager.api.container_logs import ContainerLogs
from nodemanager.api.endpoint import Endpoint, outer_endpoint
from nodemanager.cli.management import Management
from nodemanager.config import Config
from nodemanager.config.sections import OFF
from nodemanager.errors import ApiRefused, ApiUnavailable, ConfigError, NodeManagerError
from nodemanager.model import UUID_INFIX

CONFIG_VARIABLE = "ARVADOS_NODE_MANAGER_CONFIG"
DEFAULT_CONFIG = Path("/etc/arvados-node-manager/nodemanager.cfg")

_HOST, _TOKEN, _INSECURE = "ARVADOS_API_HOST", "ARVADOS_API_TOKEN", "ARVADOS_API_HOST_INSECURE"
_UUID = re.compile(r"[a-z0-9]{5}-([a-z0-9]{5})-[a-z0-9]{15}")
_KINDS = {infix: kind.replace("_", " ") for kind, infix in UUID_INFIX.items()}
_DEFAULT_TIMEOUT_SECONDS = 15.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with)


_Answer = TypeVar("_Answer")


class UsageError(NodeManagerError):
    """The command cannot be meant so; whoever typed it has to change it (exit status 2)."""


class NoAnswer(NodeManagerError):
    """The API does not answer; it may do so later."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API is, and as whom to speak to it."""

    endpoint: Endpoint
    token_origin: str
    """Which token that is, for errors."""
    timeout: float = _DEFAULT_TIMEOUT_SECONDS
    embedded_by: Path | None = None
    """The config file whose daemon has this API in it."""


@dataclass(frozen=True)
class Site:
    """One cluster, as a command sees it; for one thread."""

    find: Callable[[], Access]
    """Tells how the API is reached; asked only by commands that need it. May raise `NodeManagerError`."""
    management: Management
    store: Path | None = None
    """The directory of logs and outputs; None where they are at the API, or nobody said."""
    client: Any = field(default=None, repr=False)
    """The client object to use; None: it is made when it is needed."""

    @cached_property
    def access(self) -> Access:
        """How the API is reached."""
        return self.find()

    @property
    def endpoint(self) -> Endpoint:
        """Where the API is."""
        return self.access.endpoint

    @property
    def token_origin(self) -> str:
        """Which token that is, for errors."""
        return self.access.token_origin

    @cached_property
    def api(self) -> Any:
        """The client object; raises `NodeManagerError` in words for the person at the terminal."""
        if self.client is not None:
            return self.client
        try:
            return self.endpoint.connect(self.access.timeout)
        except ApiUnavailable as error:
            raise self._no_answer(error) from error

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        made = self.__dict__.get("api")
        if made is not None and made is not self.client:
            made.close()

    def logs(self) -> ContainerLogs:
        """What reads containers' logs."""
        return ContainerLogs(self.endpoint, self.store)

    def call(self, resource: str, method: str, **parameters: Any) -> dict[str, Any]:
        """One call, such as ``call("containers", "get", uuid=...)``; raises `NodeManagerError` in words for people."""
        try:
            prepared = getattr(getattr(self.api, resource)(), method)
        except AttributeError as error:
            raise NodeManagerError(
                f"the API server at {self.endpoint.url} knows no {resource}.{method}: it is older than this "
                "command, or it is not the one of this package"
            ) from error
        return self.asked(lambda: call(prepared(**parameters)), f"{resource}.{method}")

    def asked(self, ask: Callable[[], _Answer], what: str) -> _Answer:
        """The result of `ask`, whose API errors become words for people; `what` names the call."""
        try:
            return ask()
        except ApiUnavailable as error:
            raise self._no_answer(error) from error
        except ApiRefused as error:
            if error.status == 401:
                raise NodeManagerError(
                    f"the API at {self.endpoint.url} does not know {self.token_origin}: {error}"
                ) from error
            if error.status == 403:
                raise NodeManagerError(
                    f"{self.token_origin} may not do that ({what}): {error}. Verbs of operators need "
                    f"an administrator's token: set {_TOKEN}"
                ) from error
            raise

    def _no_answer(self, error: ApiUnavailable) -> NoAnswer:
        embedded_by = self.access.embedded_by
        if embedded_by is not None:
            return NoAnswer(
                f"no API answers at {self.endpoint.url} ({_words(error)}). It is part of the daemon: is that "
                f"running? (arvados-node-manager --config {embedded_by})"
            )
        return NoAnswer(f"no API answers at {self.endpoint.url} ({_words(error)})")


_NUMBERS = re.compile(r"\[(Errno \S+|req-\w+)\] *")
"""What is in system errors, and what the Arvados client adds; nobody at a terminal has a use for them."""


def _words(error: Exception) -> str:
    return _NUMBERS.sub("", str(error).rpartition(": ")[2] or str(error))


def site_of(config: Config | None, environ: Mapping[str, str] = os.environ) -> Site:
    """The site that `config` and the environment name; None: there is no config file."""
    if config is None:
        management = Management(missing="no config file says where it is")
        return Site(lambda: _access(None, environ), management)
    return Site(
        find=lambda: _access(config, environ),
        management=_management(config),
        store=config.runner.store,
    )


def _access(config: Config | None, environ: Mapping[str, str]) -> Access:
    """Raises `ConfigError` when nobody says where the API is, or as whom to speak to it."""
    host, token = environ.get(_HOST, ""), environ.get(_TOKEN, "")
    by_environment = f"the token in {_TOKEN}"
    if host:
        if not token:
            raise ConfigError(
                f"{_HOST} is set and {_TOKEN} is not; set both, or neither to use those of the config file"
            )
        insecure = environ.get(_INSECURE, "").lower() in ("1", "true", "yes")
        endpoint = Endpoint(f"https://{host}", token, Path(ca_certs_path()), insecure)
        return Access(endpoint, by_environment)
    if config is None:
        raise ConfigError(
            f"no config file: say which with --config FILE or {CONFIG_VARIABLE} (there is none at "
            f"{DEFAULT_CONFIG}), or set {_HOST} and {_TOKEN}"
        )
    if config.is_embedded:
        access = _embedded(config, token)
    else:
        access = Access(
            outer_endpoint(config),
            f"the token of [Arvados] in {config.path}",
            config.arvados.timeout,
        )
    if token:
        access = replace(
            access, endpoint=replace(access.endpoint, token=token), token_origin=by_environment
        )
    return access


def _embedded(config: Config, token: str) -> Access:
    """The daemon's own API, which leaves port, certificate and root token in the state directory."""
    folder = config.daemon.state_dir / "api"
    port = str(config.api.port or _kept(folder / "port", config))
    address = _WILDCARDS.get(config.api.address, config.api.address)
    host = f"[{address}]" if ":" in address else address
    authorities = config.api.certificate or folder / "certificate.pem"
    token = token or config.api.root_token or _kept(folder / "root_token", config)
    return Access(
        Endpoint(f"https://{host}:{port}", token, authorities),
        f"the root token of {config.path}",
        config.arvados.timeout,
        embedded_by=config.path,
    )


def _kept(path: Path, config: Config) -> str:
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise NodeManagerError(
            f"{path} is not there: no daemon has run with {config.path} yet. Start it: "
            f"arvados-node-manager --config {config.path}"
        ) from error
    except PermissionError as error:
        raise NodeManagerError(
            f"{path}: only its owner may read it. Run this as the user that the daemon runs as, or set {_HOST} and "
            f"{_TOKEN}"
        ) from error
    except OSError as error:
        raise NodeManagerError(f"{path}: cannot be read: {error.strerror}") from error


def _management(config: Config) -> Management:
    manage = config.manage
    if manage.port == OFF:
        return Management(missing=f"it is switched off: set [Manage] port in {config.path}")
    if not manage.port:
        return Management(
            missing=f"[Manage] port is 0 in {config.path}: only the daemon's log tells which was chosen"
        )
    address = _WILDCARDS.get(manage.address, manage.address)
    host = f"[{address}]" if ":" in address else address
    return Management(f"http://{host}:{manage.port}", manage.management_token)


def is_uuid(text: str) -> bool:
    """Whether it has the form of one."""
    return _UUID.fullmatch(text) is not None


def kind_of(uuid: str) -> str:
    """What a UUID is of, such as ``container request``; raises `UsageError` for what is none."""
    found = _UUID.fullmatch(uuid)
    if found is None:
        raise UsageError(
            f"{uuid} is no UUID; that of a container request looks like zzzzz-{UUID_INFIX['container_request']}-"
            "0123456789abcde"
        )
    return _KINDS.get(found[1], f"record of another kind ({found[1]})")


def needs_work(uuid: str) -> str:
    """The kind of `uuid`, a container or a container request; raises `UsageError` for any other."""
    kind = kind_of(uuid)
    if kind not in ("container", "container request"):
        article = "an" if kind[0] in "aeiou" else "a"
        raise UsageError(
            f"{uuid} is {article} {kind}; the UUID of a container request ({UUID_INFIX['container_request']}) or of "
            f"a container ({UUID_INFIX['container']}) is needed"
        )
    return kind
