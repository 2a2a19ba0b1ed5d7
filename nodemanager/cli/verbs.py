"""`cancel`, `hold`, `release`, `retry-now`: what is said about containers and their requests, by UUID."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from nodemanager.api.connection import list_all
from nodemanager.cli.command import SUCCEEDED, Command, Flags, each, uuids, with_reason
from nodemanager.cli.out import Out
from nodemanager.cli.site import Site, needs_work
from nodemanager.errors import ApiRefused, NodeManagerError
from nodemanager.model import ContainerState, RequestState


def get_work(site: Site, uuid: str) -> Mapping[str, Any]:
    """The record of a container or a request; raises `NodeManagerError` in words when there is none."""
    kind = needs_work(uuid)
    try:
        return site.call(f"{kind.replace(' ', '_')}s", "get", uuid=uuid)
    except ApiRefused as error:
        if error.status == 404:
            raise NodeManagerError(
                f"{uuid}: there is no such {kind}, or none that {site.token_origin} may see"
            ) from error
        raise


def container_of(site: Site, uuid: str) -> Mapping[str, Any]:
    """The container itself, or the current one of a request."""
    record = get_work(site, uuid)
    if needs_work(uuid) == "container":
        return record
    container = record["container_uuid"]
    if not container:
        raise NodeManagerError(f"{uuid}: has no container (it is {record['state']})")
    return get_work(site, container)


def cancel(site: Site, flags: Flags, out: Out) -> int:
    """Nobody wants them any more."""

    def do(uuid: str) -> None:
        if needs_work(uuid) == "container":
            _cancel_container(site, uuid, out)
        else:
            _cancel_request(site, get_work(site, uuid), out)

    return each(flags.uuids, out, do)


def _cancel_container(site: Site, uuid: str, out: Out) -> None:
    container = get_work(site, uuid)
    if ContainerState(container["state"]).is_final:
        _already(uuid, container["state"], out)
        return
    filters = [["container_uuid", "=", uuid], ["state", "=", RequestState.COMMITTED.value]]
    fields = ("uuid", "state", "name", "container_uuid")
    wanting = site.asked(
        lambda: list(list_all(site.api.container_requests(), filters, fields)),
        "container_requests.list",
    )
    if not wanting:
        raise NodeManagerError(f"{uuid}: no request that this token may see wants it")
    for request in wanting:
        _cancel_request(site, request, out)


def _cancel_request(site: Site, request: Mapping[str, Any], out: Out) -> None:
    uuid = request["uuid"]
    if request["state"] == RequestState.FINAL:
        current = request["container_uuid"]
        state = get_work(site, current)["state"] if current else "Cancelled"
        _already(uuid, state, out)
        return
    body = {"container_request": {"priority": 0}}
    site.call("container_requests", "update", uuid=uuid, body=body)
    out.say(f"{uuid} is cancelled{_named(request)}")


def _already(uuid: str, state: str, out: Out) -> None:
    """To cancel what was cancelled is done; to cancel what has ended otherwise is too late."""
    if state != ContainerState.CANCELLED:
        raise NodeManagerError(f"{uuid}: is {state} already")
    out.say(f"{uuid} was cancelled already")


def _named(request: Mapping[str, Any]) -> str:
    return f" ({request['name']})" if request.get("name") else ""


def hold(site: Site, flags: Flags, out: Out) -> int:
    """They are not claimed until somebody releases them."""
    why = flags.reason or "an operator holds it"

    def do(uuid: str) -> None:
        container = container_of(site, uuid)
        site.call("containers", "hold", uuid=container["uuid"], reason=why)
        out.say(f"{container['uuid']} is on hold: {why}")

    return each(flags.uuids, out, do)


def release(site: Site, flags: Flags, out: Out) -> int:
    """They may be claimed again."""
    return _tell(site, flags, out, "release", "may be claimed again")


def retry_now(site: Site, flags: Flags, out: Out) -> int:
    """The next attempt does not wait any longer."""
    return _tell(site, flags, out, "retry_now", "does not wait for its backoff any more")


def _tell(site: Site, flags: Flags, out: Out, method: str, words: str) -> int:
    def do(uuid: str) -> None:
        container = container_of(site, uuid)
        site.call("containers", method, uuid=container["uuid"])
        out.say(f"{container['uuid']} {words}")

    return each(flags.uuids, out, do)


def _hold_arguments(parser: argparse.ArgumentParser) -> None:
    uuids(parser)
    with_reason(parser, "whoever waits")


_STATUSES: Mapping[int, str] = {
    SUCCEEDED: "done",
    1: "refused for one of them; the others are done",
}
_Verb = Callable[[Site, Flags, Out], int]

CANCEL = Command(
    "cancel",
    "give a request up",
    cancel,
    description="Sets its priority to 0: a job that waits is taken back, one that runs is stopped. "
    "By a container's UUID all requests for it are cancelled that the token may see. Its owner may.",
    arguments=uuids,
    examples=("cancel zzzzz-xvhdp-0123456789abcde",),
    statuses={0: "done, or it was cancelled already", 1: "too late, or refused, for one of them"},
)
HOLD = Command(
    "hold",
    "keep a waiting container from being claimed until it is released",
    hold,
    description="For containers that are Queued; of a request the current one is meant. Needs an administrator's "
    "token, as does release.",
    arguments=_hold_arguments,
    examples=("hold zzzzz-dz642-0123456789abcde --reason 'asks for the wrong genome'",),
    statuses=_STATUSES,
)
RELEASE = Command(
    "release",
    "let what is on hold be claimed again",
    release,
    arguments=uuids,
    examples=("release zzzzz-dz642-0123456789abcde",),
    statuses=_STATUSES,
)
RETRY_NOW = Command(
    "retry-now",
    "skip the backoff: the next attempt may start at once",
    retry_now,
    description="For containers that are Queued and wait after a TempFail; of a request the current one is meant. "
    "Its owner may.",
    arguments=uuids,
    examples=("retry-now zzzzz-xvhdp-0123456789abcde",),
    statuses=_STATUSES,
)
