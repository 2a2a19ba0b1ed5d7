"""Kubernetes' words for how a pod came to its end, and what they mean to us: one table for each who has words for it.

The words are those of the kubelet (`status.reason` of a pod, `reason` of a container's state), of whoever had a pod
deleted (its condition DisruptionTarget, from 1.26 on), and of events, where nothing else tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodemanager.outcome import End, EndKind

POD_REASONS: Mapping[str, EndKind] = {
    # It had begun, and its node wanted to be rid of it.
    "Evicted": EndKind.NODE_LOST,
    "NodeLost": EndKind.NODE_LOST,
    "NodeShutdown": EndKind.NODE_LOST,
    "Preempted": EndKind.NODE_LOST,
    "Preempting": EndKind.NODE_LOST,
    "Shutdown": EndKind.NODE_LOST,
    "Terminated": EndKind.NODE_LOST,
    # Its node would not take it.
    "AppArmor": EndKind.SCHEDULER_ERROR,
    "NodeAffinity": EndKind.SCHEDULER_ERROR,
    "NodePorts": EndKind.SCHEDULER_ERROR,
    "PodOSNotSupported": EndKind.SCHEDULER_ERROR,
    "PodOSSelectorNodeLabelDoesNotMatch": EndKind.SCHEDULER_ERROR,
    "SysctlForbidden": EndKind.SCHEDULER_ERROR,
    "Taint": EndKind.SCHEDULER_ERROR,
    "TaintToleration": EndKind.SCHEDULER_ERROR,
    "UnexpectedAdmissionError": EndKind.SCHEDULER_ERROR,
}
"""`status.reason` of a pod that failed. ``OutOfcpu`` and its like, and any word that is not here: SCHEDULER_ERROR."""

DEADLINE = "DeadlineExceeded"
"""`status.reason` of a pod that reached its `activeDeadlineSeconds`."""

OUT_OF_MEMORY = "OOMKilled"
LOST_TRACK = "ContainerStatusUnknown"
"""The kubelet does not know what became of it: the machine was restarted, say."""
NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of containers whose command could not be started."""

DISRUPTIONS: Mapping[str, str] = {
    "DeletionByPodGC": "its node is gone",
    "DeletionByTaintManager": "its node was tainted",
    "EvictionByEvictionAPI": "it was evicted",
    "PreemptionByScheduler": "it was preempted",
    "PreemptionByKubeScheduler": "it was preempted",
    "TerminationByKubelet": "its node wanted to be rid of it",
}
"""Reasons of the condition DisruptionTarget; any other means NODE_LOST, too."""

EVENTS: Mapping[str, str] = {
    "Evicted": "it was evicted",
    "NodeControllerEviction": "its node is not ready",
    "NodeNotReady": "its node is not ready",
    "Preempted": "it was preempted",
    "TaintManagerEviction": "its node was tainted",
}
"""Reasons of events after which a deletion is not an operator's."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An event about a pod."""

    reason: str
    message: str


_COMMAND_NOT_FOUND, _COMMAND_NOT_RUN = 127, 126
_START_PHRASES: tuple[tuple[tuple[str, ...], int], ...] = (
    (("executable file", "not found"), _COMMAND_NOT_FOUND),
    (("exec:", "no such file or directory"), _COMMAND_NOT_FOUND),
    (("exec:", "permission denied"), _COMMAND_NOT_RUN),
    (("exec", "exec format error"), _COMMAND_NOT_RUN),
    (("exec:", "is a directory"), _COMMAND_NOT_RUN),
    (("chdir to cwd",), _COMMAND_NOT_RUN),
)
"""What container runtimes say of commands that cannot be started, and the code with which a shell would exit."""


def end_by_pod_reason(reason: str, message: str) -> End:
    """For a pod that failed as a whole; not for DEADLINE, which takes numbers."""
    kind = POD_REASONS.get(reason, EndKind.SCHEDULER_ERROR)
    return End(kind, detail=_words(reason, message))


def end_by_start_error(message: str) -> End:
    """A command that does not exist is the program's fault; anything else that kept it from starting is not."""
    for phrases, code in _START_PHRASES:
        if all(phrase in message for phrase in phrases):
            return End(EndKind.EXITED, code, detail=message)
    return End(EndKind.SCHEDULER_ERROR, detail=f"it could not be started: {message}")


def end_by_disruption(reason: str, message: str) -> End:
    """By the condition DisruptionTarget."""
    return End(EndKind.NODE_LOST, detail=_words(DISRUPTIONS.get(reason, reason), message))


def end_by_events(events: Iterable[Noted]) -> End | None:
    """For a pod that somebody had deleted; None if nothing tells that it was not an operator."""
    for event in events:
        words = EVENTS.get(event.reason)
        if words:
            return End(EndKind.NODE_LOST, detail=_words(words, event.message))
    return None


def mount_trouble(events: Iterable[Noted]) -> str:
    """Why a container is not created, as far as its volumes are to blame."""
    troubles = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    found = [event.message for event in events if event.reason in troubles]
    return found[-1] if found else ""


def _words(what: str, message: str) -> str:
    return f"{what}: {message}" if message else what
