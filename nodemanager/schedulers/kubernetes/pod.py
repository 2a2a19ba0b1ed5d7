"""A pod as the API gives it, reduced to what is needed here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nodemanager.model import parse_time
from nodemanager.schedulers.kubernetes.names import (
    ASKED,
    CANCELLED,
    COMMAND,
    CONTAINER,
    EXCLUSIVE,
    FINALIZER,
    HOPELESS,
    RUNS,
    Asked,
)
from nodemanager.schedulers.kubernetes.quantities import (
    GPU_RESOURCES,
    Amounts,
    in_units,
    requests_of,
)
from nodemanager.schedulers.kubernetes.waits import BACK_OFF, INITIALIZING, PULL_REASONS


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended, as its kubelet says."""

    exit_code: int
    signal: int
    reason: str
    message: str
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Disruption:
    """Somebody wants the pod's end for a reason of the cluster's own."""

    reason: str
    message: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Pod:
    """As much of a pod as is needed here: ten thousand of these are kept."""

    name: str
    uid: str
    version: str = field(compare=False)
    """Of the object; changes with every heartbeat of whoever writes to it, so it does not count as a change."""
    created_at: float
    node: str
    """Empty as long as it is bound to none."""
    phase: str
    reason: str
    """Of the pod as a whole: set when it failed as such."""
    message: str
    requests: Amounts
    exclusive: bool = False
    runs_command: bool = False
    """What it runs is the container's own command, not a runner."""
    asked: Asked = field(default_factory=Asked)
    ram_limit_bytes: int = 0
    deadline_seconds: int = 0
    # Of its container, the one that runs the command.
    waiting_reason: str = ""
    waiting_message: str = ""
    started_at: float | None = None
    ended: Ended | None = None
    others_run: bool = False
    """Another container of it runs."""
    failed_before: str = ""
    """How an init container failed, in words."""
    # On its way to a node.
    accepted_at: float | None = None
    """When the kubelet saw it first: its time limit counts from then."""
    scheduled_at: float | None = None
    unscheduled: str = ""
    """Why the scheduler has not bound it, in its words."""
    # On its way out.
    held: bool = False
    """By our finalizer: it will not vanish."""
    deleted_at: float | None = None
    """When its deletion was asked for."""
    grace_seconds: int = 0
    """Left to it after a deletion: 0 when nobody waits for it any more, as when its kubelet is done with it."""
    cancelled: str = ""
    hopeless: str = ""
    disruption: Disruption | None = None

    @property
    def runs(self) -> bool:
        """Whether the kubelet says that anything of it runs."""
        return self.others_run or (self.started_at is not None and self.ended is None)


def parse_pod(value: Mapping[str, Any], gpu_resources: Sequence[str] = GPU_RESOURCES) -> Pod:
    """Read a pod as the API gives it."""
    metadata, spec = value["metadata"], value.get("spec") or {}
    status = value.get("status") or {}
    annotations = metadata.get("annotations") or {}
    main = _main(spec.get("containers") or ())
    statuses = status.get("containerStatuses") or ()
    state = next((s.get("state") or {} for s in statuses if s.get("name") == main["name"]), {})
    others = [s.get("state") or {} for s in statuses if s.get("name") != main["name"]]
    waiting, failed_before = _waiting(state, status.get("initContainerStatuses") or ())
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    bound = scheduled.get("status") == "True"
    grace = metadata.get("deletionGracePeriodSeconds") or 0
    deleted = _time(metadata.get("deletionTimestamp"))
    started = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    limits = (main.get("resources") or {}).get("limits") or {}
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        created_at=_time(metadata.get("creationTimestamp")) or 0.0,
        node=sys.intern(spec.get("nodeName") or ""),
        phase=sys.intern(status.get("phase") or ""),
        reason=sys.intern(status.get("reason") or ""),
        message=status.get("message") or "",
        requests=requests_of(spec, gpu_resources),
        exclusive=EXCLUSIVE in annotations,
        runs_command=annotations.get(RUNS) == COMMAND,
        asked=Asked.from_annotation(annotations.get(ASKED, "")),
        ram_limit_bytes=in_units(limits.get("memory", 0)),
        deadline_seconds=int(spec.get("activeDeadlineSeconds") or 0),
        waiting_reason=sys.intern(waiting.get("reason") or ""),
        waiting_message=waiting.get("message") or "",
        started_at=_time(started),
        ended=_ended(state.get("terminated")),
        others_run=any("running" in other for other in others),
        failed_before=failed_before,
        accepted_at=_time(status.get("startTime")),
        scheduled_at=_time(scheduled.get("lastTransitionTime")) if bound else None,
        unscheduled="" if bound else scheduled.get("message") or scheduled.get("reason") or "",
        held=FINALIZER in (metadata.get("finalizers") or ()),
        # The server moves the time when it shortens the grace, so that their difference stays.
        deleted_at=None if deleted is None else deleted - grace,
        grace_seconds=grace,
        cancelled=annotations.get(CANCELLED, ""),
        hopeless=annotations.get(HOPELESS, ""),
        disruption=_disruption(conditions.get("DisruptionTarget")),
    )


def remembering(pod: Pod, before: Pod | None) -> Pod:
    """With what was wrong with the last pull of its image, which older kubelets do not repeat while they wait."""
    if pod.waiting_reason != BACK_OFF or "ErrImagePull" in pod.waiting_message:
        return pod
    if before is None or before.uid != pod.uid or before.waiting_reason not in PULL_REASONS:
        return pod
    return replace(pod, waiting_message=before.waiting_message)


# Inside.


def _main(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The container that runs the command: by its name, else the first."""
    named = [each for each in containers if each.get("name") == CONTAINER]
    return (named or list(containers) or [{"name": CONTAINER}])[0]


def _waiting(
    state: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], str]:
    """What it waits for, and how an init container failed, because of which it waits."""
    waiting = state.get("waiting") or {}
    if waiting.get("reason") != INITIALIZING:
        return waiting, ""
    for status in before:
        its = status.get("state") or {}
        code = (its.get("terminated") or {}).get("exitCode")
        if code:
            return waiting, f"its init container {status.get('name')} exited with {code}"
        if (its.get("waiting") or {}).get("reason") not in (None, INITIALIZING):
            return its["waiting"], ""
    return waiting, ""


def _ended(terminated: Mapping[str, Any] | None) -> Ended | None:
    if terminated is None:
        return None
    return Ended(
        exit_code=int(terminated.get("exitCode") or 0),
        signal=int(terminated.get("signal") or 0),
        reason=sys.intern(terminated.get("reason") or ""),
        message=terminated.get("message") or "",
        finished_at=_time(terminated.get("finishedAt")),
    )


def _disruption(condition: Mapping[str, Any] | None) -> Disruption | None:
    if condition is None or condition.get("status") != "True":
        return None
    return Disruption(
        condition.get("reason") or "",
        condition.get("message") or "",
        _time(condition.get("lastTransitionTime")),
    )


def _time(text: Any) -> float | None:
    """Kubernetes writes the beginning of time where it knows none."""
    try:
        return (parse_time(text) or None) if text else None
    except (ValueError, OverflowError):
        return None
