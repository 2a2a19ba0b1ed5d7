"""What `--run` does next, and how far each request is: pure decisions over what the API told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.model import ContainerState, RequestState, format_seconds, parse_time
from nodemanager.reason import Reason, Tier
from nodemanager.reason.queued import delayed
from nodemanager.runs.request_file import RequestSpec

Record = Mapping[str, Any]

TO_COME = "to come"
"""Not submitted yet: it comes after others."""
NOT_SUBMITTED = "not submitted"
"""And never will be."""
NEVER_FITS_SECONDS = 3.0
"""How long a reason of tier NEVER has to stand before --run gives up: nodes may just be joining."""


@dataclass(frozen=True)
class Standing:
    """One request of the run, as far as it is known."""

    spec: RequestSpec
    request: Record | None = None
    container: Record | None = None
    reason: Reason | None = None
    refused: str = ""
    """The API's words when it would not take the request, or why it was never submitted."""
    cancelled: str = ""
    """Why --run cancelled it."""

    @property
    def state(self) -> str:
        """The container's state, or what stands in its place."""
        if self.refused:
            return NOT_SUBMITTED
        if self.request is None:
            return TO_COME
        if self.container is None:
            return str(self.request["state"])
        return str(self.container["state"])

    @property
    def is_final(self) -> bool:
        """Nothing will happen to it any more."""
        if self.refused:
            return True
        if self.request is None or self.request["state"] != RequestState.FINAL:
            return False
        return self.container is None or ContainerState(self.container["state"]).is_final

    @property
    def is_complete(self) -> bool:
        """Final, and as it was meant to be."""
        return self.is_final and self.state == ContainerState.COMPLETE


@dataclass(frozen=True)
class Submit:
    """Submit this request now."""

    spec: RequestSpec


@dataclass(frozen=True)
class Skip:
    """Never submit this request."""

    spec: RequestSpec
    why: str


@dataclass(frozen=True)
class Cancel:
    """Set the request's priority to 0."""

    spec: RequestSpec
    request_uuid: str
    why: str


Action = Submit | Skip | Cancel


def plan(standings: Sequence[Standing], now: float) -> list[Action]:
    """What to do now, at Unix time `now`; doing it and looking again leads to the next."""
    by_name = {standing.spec.name: standing for standing in standings}
    actions: list[Action] = []
    for standing in standings:
        if standing.is_final or standing.cancelled:
            continue
        if standing.request is None:
            action = _submission(standing.spec, by_name)
        else:
            action = _cancellation(standing, standing.request, now)
        if action is not None:
            actions.append(action)
    return actions


def _submission(spec: RequestSpec, by_name: Mapping[str, Standing]) -> Action | None:
    earlier = [by_name[name] for name in spec.after]
    for standing in earlier:
        if standing.is_final and not standing.is_complete:
            return Skip(spec, f"{standing.spec.name} ended {standing.state}")
    return Submit(spec) if all(standing.is_complete for standing in earlier) else None


def _cancellation(standing: Standing, request: Record, now: float) -> Cancel | None:
    spec, container, reason = standing.spec, standing.container, standing.reason
    if container is None or request["state"] == RequestState.FINAL:
        return None
    uuid = request["uuid"]
    if spec.cancel_after is not None and container["state"] == ContainerState.RUNNING:
        started = parse_time(container["started_at"])
        if now - started >= spec.cancel_after:
            return Cancel(
                spec, uuid, f"as its file asks, after {format_seconds(spec.cancel_after)}"
            )
    if (
        reason is not None
        and reason.tier is Tier.NEVER
        and container["state"] == ContainerState.QUEUED
        and now - reason.since >= NEVER_FITS_SECONDS
    ):
        return Cancel(spec, uuid, f"it can never run: {reason.sentence}; {reason.advice}")
    return None


@dataclass(frozen=True)
class Row:
    """One request as it is shown: everything is text of one line, or a number."""

    name: str
    state: str
    attempt: int
    words: str
    """Why it waits, or how it ended."""
    node: str
    elapsed: float | None
    """Seconds since it began to run, or that it ran."""
    final: bool
    complete: bool


@dataclass(frozen=True)
class NodeRow:
    """One node as it is shown."""

    name: str
    size: str
    state: str
    running: int
    """How many containers run there."""
    detail: str
    """What is free there, or why it is as it is."""


def row(standing: Standing, now: float) -> Row:
    """How the request is shown at Unix time `now`."""
    container = standing.container or {}
    return Row(
        name=standing.spec.name,
        state=standing.state,
        attempt=int(container.get("attempt") or 0),
        words=_words(standing, now),
        node=str((container.get("runtime_status") or {}).get("node") or ""),
        elapsed=_elapsed(container, now),
        final=standing.is_final,
        complete=standing.is_complete,
    )


def _words(standing: Standing, now: float) -> str:
    if standing.refused or standing.cancelled:
        return standing.refused or standing.cancelled
    if standing.request is None:
        return f"after {', '.join(standing.spec.after)}" if standing.spec.after else ""
    container = standing.container or {}
    error = str((container.get("runtime_status") or {}).get("error") or "")
    state = standing.state
    if standing.is_complete:
        return _done_before(standing.request, container)
    if state == ContainerState.RUNNING:
        return ""
    if standing.is_final or ContainerState(container.get("state", "Queued")).is_final:
        return error
    if standing.reason is not None:
        return standing.reason.line(now)
    run_after = container.get("run_after")
    if run_after and parse_time(run_after) > now:
        fails = int(container.get("temp_fails") or 0)
        return delayed(error, fails, parse_time(run_after), now).line(now)
    # What is written as a reason is what lasts; until then the state says enough.
    return "not looked at yet" if state == ContainerState.QUEUED else "claimed, on its way"


def _done_before(request: Record, container: Record) -> str:
    """That the work was not done for this request, if so: a container that had done the same serves it."""
    made, finished = request.get("created_at"), container.get("finished_at")
    if not made or not finished or parse_time(finished) > parse_time(made):
        return ""
    return "done before by an equal request; set use_existing: false to do it again"


def _elapsed(container: Record, now: float) -> float | None:
    if not container.get("started_at"):
        return None
    finished = container.get("finished_at")
    end = parse_time(finished) if finished else now
    return max(0.0, end - parse_time(container["started_at"]))
