"""What the command of a container is and what it finds: read from its record.

The runner reads it on the node; a scheduler whose jobs are the commands themselves is given it as `Work`. Whatever
is refused here is the request's fault: another try would be no different.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.mount_plan import MountPlan, RequestFaultError, plan_mounts

TOKEN_VARIABLE = "ARVADOS_API_TOKEN"  # noqa: S105 (a variable's name)


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """How a command that asked for the API reaches it."""

    host: str
    """``host:port``."""
    token: str = field(repr=False)
    """Of its container, and nothing else."""
    authority: bytes = b""
    """Certificates to trust instead of the system's, in PEM."""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """The command itself."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Complete, but for what reaching the API needs."""
    plan: MountPlan
    max_run_seconds: int = 0
    """Of the command; 0 for no limit."""
    api: ApiAccess | None = None
    """None for a command that did not ask for it: then nothing of the token may come near it."""


def work_of(
    record: Mapping[str, Any], secret_mounts: Mapping[str, Any], api: ApiAccess | None
) -> Work:
    """The work of one container. `api` is left out unless the container asks for it.

    Raises `RequestFaultError`.
    """
    scheduling = record.get("scheduling_parameters") or {}
    return Work(
        image=str(record.get("container_image") or ""),
        command=command_of(record),
        environment=environment_of(record),
        plan=plan_mounts(record, secret_mounts),
        max_run_seconds=int(scheduling.get("max_run_time") or 0),
        api=api if asks_for_api(record) else None,
    )


def command_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Program and arguments; raises `RequestFaultError`."""
    command = record.get("command")
    if not isinstance(command, list) or not command or not all(_is_text(a) for a in command):
        raise RequestFaultError("command: expected a list of strings")
    return tuple(command)


def environment_of(record: Mapping[str, Any]) -> dict[str, str]:
    """What was asked for, and what nobody may change; raises `RequestFaultError`."""
    asked = record.get("environment") or {}
    for name, value in asked.items():
        if not _is_text(name) or not name or "=" in name or not _is_text(value):
            raise RequestFaultError(f"environment: {name!r}: expected a name and a string")
    return {
        **asked,
        "ARVADOS_CONTAINER_UUID": str(record["uuid"]),
        "CONTAINER_ATTEMPT": str(int(record.get("attempt") or 1)),
    }


def api_environment(host: str, *, ca_file: str, insecure: bool) -> dict[str, str]:
    """Where a command finds the API, but for the token. `ca_file` is a path in the container."""
    environment = {"ARVADOS_API_HOST": host}
    if ca_file:
        environment["SSL_CERT_FILE"] = ca_file
    if insecure:
        environment["ARVADOS_API_HOST_INSECURE"] = "1"
    return environment


def asks_for_api(record: Mapping[str, Any]) -> bool:
    """Whether the command wants to talk to the API."""
    return bool((record.get("runtime_constraints") or {}).get("API"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value
