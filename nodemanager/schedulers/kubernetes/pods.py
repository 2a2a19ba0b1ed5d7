"""What a pod of ours is to us and how it ended, from its JSON alone.

Every answer is taken from one look at the pod, as somebody who was started just now would have to give it. A pod has
ended when its phase is final, or when it is deleted and nothing of it runs any more; then it is judged by the deletion,
unless its command had ended before that.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from enum import Enum

from nodemanager.model import JobState, format_seconds
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Reason
from nodemanager.schedulers.base import Job
from nodemanager.schedulers.kubernetes.ends import (
    DEADLINE,
    LOST_TRACK,
    NOT_STARTED,
    OUT_OF_MEMORY,
    Noted,
    end_by_disruption,
    end_by_events,
    end_by_pod_reason,
    end_by_start_error,
)
from nodemanager.schedulers.kubernetes.pending import (
    UNSEEN,
    reason_deleted,
    reason_on_node,
    reason_unscheduled,
)
from nodemanager.schedulers.kubernetes.pod import Ended, Pod, parse_pod
from nodemanager.schedulers.kubernetes.waits import Patience, gave_up, trouble_of, words_of

__all__ = [
    "FINAL_PHASES",
    "Host",
    "Noted",
    "Patience",
    "Pod",
    "end_of",
    "hopeless",
    "is_finished",
    "job_of",
    "parse_pod",
    "waiting_words",
]

FINAL_PHASES = frozenset({"Succeeded", "Failed"})

_WHOLE_SECONDS = 180.0
_START_SECONDS = 60.0
"""A start that takes longer is not counted as the command's own time."""
_KILLED = frozenset({137, 143})
"""Exit codes that the kubelet causes; why it did, it says when all containers have ended."""


class Host(Enum):
    """What is known of the node that a pod is bound to."""

    WELL = "ready"
    CORDONED = "cordoned"
    DOWN = "not ready"
    GONE = "gone"
    """There is no such node."""
    UNKNOWN = "not known"


def job_of(
    pod: Pod, host: Host = Host.UNKNOWN, events: Iterable[Noted] = (), now: float | None = None
) -> Job:
    """The pod as a job."""
    end = end_of(pod, host, events, now)
    has_started = pod.started_at is not None
    # One that could not be started has ended as a command, too.
    runner = pod.uid if pod.runs_command and (has_started or pod.ended is not None) else ""
    if end is not None:
        state = JobState.ENDED
    else:
        state = JobState.RUNNING if has_started else JobState.WAITING
    if state is not JobState.WAITING:
        return Job(pod.name, state, pod.uid, pod.node, end=end, runner_id=runner)
    known = waits_for(pod)
    return Job(pod.name, state, pod.uid, pod.node, waiting_words(pod), end, runner, waits_for=known)


def waiting_words(pod: Pod, trouble: str = "") -> str:
    """Why it has not started. `trouble` is what events say of its volumes."""
    if pod.deleted_at is not None:
        return "it is being deleted"
    if not pod.node:
        return pod.unscheduled or UNSEEN
    if not pod.waiting_reason:
        return f"waiting for the kubelet of {pod.node}"
    return words_of(pod.waiting_reason, pod.waiting_message or trouble)


def waits_for(pod: Pod, trouble: str = "") -> Reason:
    """Which of our reasons that is."""
    if pod.deleted_at is not None:
        return reason_deleted()
    if not pod.node:
        return reason_unscheduled(pod.unscheduled)
    return reason_on_node(pod.node, pod.waiting_reason, pod.waiting_message or trouble)


def hopeless(
    pod: Pod, now: float, patience: Patience | None = None, trouble: str = ""
) -> End | None:
    """How a pod has to end that will never start and has been waited for long enough at Unix time `now`."""
    if pod.started_at is not None or pod.ended is not None or pod.phase in FINAL_PHASES:
        return None
    message = pod.waiting_message or trouble
    kind = trouble_of(pod.waiting_reason, message)
    waited = now - (pod.scheduled_at or pod.created_at)
    if kind is None or waited < (patience or Patience()).of(kind):
        return None
    return End(EndKind.SCHEDULER_ERROR, detail=gave_up(pod.waiting_reason, message, waited))


def is_finished(pod: Pod, host: Host = Host.UNKNOWN, now: float | None = None) -> bool:
    """Whether nothing of it runs any more, nor ever will; `now` is Unix time."""
    if pod.phase in FINAL_PHASES:
        return True
    if pod.deleted_at is None:
        # What else is in it may run on; but of a container that was killed we hear why only with the pod's end.
        ended = pod.ended
        return ended is not None and (
            ended.reason == OUT_OF_MEMORY
            or ended.exit_code not in _KILLED
            or _was_long_ago(ended.finished_at, now)
        )
    if not pod.node:
        return True
    if host in (Host.GONE, Host.DOWN):
        # Without its kubelet nobody will ever say that its containers have ended. Whoever asked for the deletion has
        # given it up; so do we, as it cannot report anything any more.
        return True
    return pod.grace_seconds == 0 and not pod.runs


def end_of(
    pod: Pod, host: Host = Host.UNKNOWN, events: Iterable[Noted] = (), now: float | None = None
) -> End | None:
    """How it ended; None as long as it has not.

    Where it says OPERATOR_DELETED without `events`, these may tell another story.
    """
    if not is_finished(pod, host, now):
        return None
    if pod.phase == "Failed" and pod.reason:
        return _end_by_reason(pod)
    if pod.deleted_at is not None and not _ended_before(pod, pod.deleted_at):
        return _end_of_deletion(pod, pod.deleted_at, host, events)
    disruption = pod.disruption
    if disruption is not None and not _ended_before(pod, disruption.since):
        return end_by_disruption(disruption.reason, disruption.message)
    if pod.ended is not None:
        return _end_of_command(pod, pod.ended)
    return End(EndKind.SCHEDULER_ERROR, detail=_not_started(pod))


# Inside.


def _was_long_ago(finished_at: float | None, now: float | None) -> bool:
    """Whether a pod that its kubelet ends would have ended as a whole since: it is its others that run on."""
    return finished_at is not None and now is not None and now - finished_at > _WHOLE_SECONDS


def _end_by_reason(pod: Pod) -> End:
    if pod.reason != DEADLINE:
        return end_by_pod_reason(pod.reason, pod.message)
    ended = pod.ended
    if ended is not None and _is_within_limit(pod, ended):
        return _end_of_command(pod, ended)
    if pod.started_at is None:
        detail = f"was not started within its time limit: {_not_started(pod)}"
        return End(EndKind.SCHEDULER_ERROR, detail=detail)
    asked = pod.asked.run_seconds or pod.deadline_seconds
    waited = pod.started_at - pod.accepted_at if pod.accepted_at is not None else 0.0
    if waited > _START_SECONDS:
        # The limit counts from when the kubelet took it. It is the node's image that took the time, not the command.
        words = f"was stopped after {format_seconds(asked - waited)}, as its start took {format_seconds(waited)}"
        return End(EndKind.SCHEDULER_ERROR, detail=words)
    return End(EndKind.TIME_LIMIT, asked=asked, limit=pod.deadline_seconds)


def _end_of_deletion(pod: Pod, asked_at: float, host: Host, events: Iterable[Noted]) -> End:
    if pod.cancelled:
        if pod.hopeless:
            return End(EndKind.SCHEDULER_ERROR, detail=pod.hopeless)
        return hopeless(pod, asked_at) or End(EndKind.CANCELLED, detail=pod.cancelled)
    if pod.disruption is not None:
        return end_by_disruption(pod.disruption.reason, pod.disruption.message)
    if host in (Host.GONE, Host.DOWN, Host.CORDONED):
        return End(EndKind.NODE_LOST, detail=f"node {pod.node} is {host.value}")
    told = end_by_events(events)
    when = "before it started" if pod.started_at is None else "while it ran"
    return told or End(EndKind.OPERATOR_DELETED, detail=when)


def _end_of_command(pod: Pod, ended: Ended) -> End:
    if ended.reason == LOST_TRACK:
        return End(EndKind.NODE_LOST, detail=ended.message)
    if ended.exit_code == 0:
        # Something in it may have been killed; the command itself has coped with that.
        return End(EndKind.EXITED, 0)
    if ended.reason == OUT_OF_MEMORY:
        asked = pod.asked.ram_bytes or pod.ram_limit_bytes
        return End(EndKind.OUT_OF_MEMORY, asked=asked, limit=pod.ram_limit_bytes)
    if ended.reason in NOT_STARTED:
        return end_by_start_error(ended.message)
    # Runtimes tell a death by signal as shells do, and seldom which signal it was.
    number = ended.signal or ended.exit_code - 128
    if 0 < number < signal.NSIG:
        return End(EndKind.SIGNALLED, number, detail=ended.message)
    return End(EndKind.EXITED, ended.exit_code, detail=ended.message)


def _ended_before(pod: Pod, moment: float | None) -> bool:
    """Whether its command ended by itself, not because somebody wanted its end from that moment on."""
    ended = pod.ended
    if ended is None or ended.reason == LOST_TRACK:
        return False
    if ended.finished_at is None or moment is None:
        return False
    # In whole seconds; of a command that ends well when it is told to nobody knows whether it had done its work.
    return ended.finished_at < moment


def _is_within_limit(pod: Pod, ended: Ended) -> bool:
    """Whether it ended before the time limit that the pod reached, because others in it ran on."""
    if ended.finished_at is None or pod.accepted_at is None:
        return False
    return ended.finished_at < pod.accepted_at + pod.deadline_seconds


def _not_started(pod: Pod) -> str:
    return pod.failed_before or pod.message or waiting_words(pod)
