"""What a runner is told: one JSON object on its standard input.

The dispatcher builds it (`JobSpec.stdin`), the scheduler hands it over privately, and the runner reads
it before anything else. It holds the token of one container, so it must never be in an argument, in an
environment, in a readable file or in a log; `repr` leaves the token out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import Any

from nodemanager.errors import ConfigError

ENGINES = ("none", "docker", "podman", "singularity", "bwrap")
"""How a command is put into its container; `none` is a plain process."""

API_STORE = "api"
"""The value of `store` that means: logs and output are uploaded to the API server."""

_UUID = re.compile(r"[a-z0-9]{5}-dz642-[a-z0-9]{15}")
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?/?")


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """One container to run, and how. Raises `ConfigError` naming the field that cannot be used."""

    container_uuid: str
    api_url: str
    """``https://host:port``; nothing but HTTPS."""
    api_token: str = field(repr=False)
    """A token that can write this container and nothing else."""
    store: str
    """An absolute directory that is shared with whoever reads logs and outputs, or `API_STORE`."""
    scratch: str
    """An absolute directory on the node; one folder per container is made below it."""
    ca_file: str | None = None
    """Certificates to trust instead of the system's."""
    insecure: bool = False
    """Accept any certificate."""
    keep_scratch: bool = False
    """Leave the scratch directory when the container has ended."""
    engine: str = "none"
    """One of `ENGINES`."""
    tempfail_exits: tuple[int, ...] = (75, 111)
    """Exit statuses of the command that ask for another try."""
    kill_grace: float = 10.0
    """Seconds between TERM and KILL."""
    heartbeat: float = 15.0
    """Seconds between two questions whether the container is still ours."""
    fenced_after: float = 60.0
    """Seconds of nothing but 401 and 403 after which it is not."""
    input_dirs: tuple[str, ...] = ()
    """Absolute directories below which `file` mounts may take their files."""
    max_log_bytes: int = 0
    """Kept of each of stdout and stderr; 0 for all of it."""
    probe: bool = False
    """Run no container, but look whether one could run here, and report that."""

    def __post_init__(self) -> None:
        if not isinstance(self.container_uuid, str) or not _UUID.fullmatch(self.container_uuid):
            raise _wrong("container_uuid", "a container's UUID", self.container_uuid)
        if not isinstance(self.api_url, str) or not _URL.fullmatch(self.api_url):
            raise _wrong("api_url", "https://host:port", self.api_url)
        if not _is_token(self.api_token):
            # The value is a secret, however wrong.
            raise ConfigError("runner spec: api_token: expected a token, in printable ASCII")
        if self.store != API_STORE:
            _check_path("store", self.store)
        _check_path("scratch", self.scratch)
        if self.ca_file is not None:
            _check_path("ca_file", self.ca_file)
        for name in ("insecure", "keep_scratch", "probe"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, "true or false", getattr(self, name))
        if self.engine not in ENGINES:
            raise _wrong("engine", " or ".join(ENGINES), self.engine)
        for code in _checked_tuple("tempfail_exits", self.tempfail_exits):
            if not _is_int(code) or not 1 <= code <= 255:
                raise _wrong("tempfail_exits", "exit statuses from 1 to 255", code)
        for directory in _checked_tuple("input_dirs", self.input_dirs):
            _check_path("input_dirs", directory)
        for name, minimum in (("kill_grace", 0.0), ("heartbeat", 0.05), ("fenced_after", 0.0)):
            value = getattr(self, name)
            if not (_is_int(value) or isinstance(value, float)) or not minimum <= value < 1e9:
                raise _wrong(name, f"seconds, at least {minimum:g}", value)
        if not _is_int(self.max_log_bytes) or self.max_log_bytes < 0:
            raise _wrong("max_log_bytes", "a number of bytes, 0 for no limit", self.max_log_bytes)

    def to_json(self) -> bytes:
        """The form to hand to a job's standard input. Holds the token."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)}).encode()

    @classmethod
    def from_json(cls, text: str | bytes) -> RunnerSpec:
        """The inverse of `to_json`. Fields with a default may be absent; unknown ones are refused."""
        try:
            value = json.loads(text)
        except ValueError:
            # Neither the text nor the parser's message may be shown: they may hold the token.
            raise ConfigError("runner spec: expected one JSON object on standard input") from None
        if not isinstance(value, dict):
            raise ConfigError("runner spec: expected one JSON object on standard input")
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise ConfigError(f"runner spec: unknown field {unknown[0]!r}")
        for name in ("container_uuid", "api_url", "api_token", "store", "scratch"):
            if name not in value:
                raise ConfigError(f"runner spec: {name}: missing")
        for name in ("tempfail_exits", "input_dirs"):
            if isinstance(value.get(name), list):
                value[name] = tuple(value[name])
        return cls(**value)


def _wrong(name: str, expected: str, found: Any) -> ConfigError:
    return ConfigError(f"runner spec: {name}: expected {expected}, found {found!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_token(value: Any) -> bool:
    """A token goes into an HTTP header: no spaces, no control characters."""
    return isinstance(value, str) and value != "" and all("!" <= c <= "~" for c in value)


def _check_path(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise _wrong(name, "an absolute path", value)


def _checked_tuple(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise _wrong(name, "a list", value)
    return value
