"""What a kubelet of 1.20 says of a pod, as records of a real one have it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

Object = dict[str, Any]


class Phase(Enum):
    """Of a pod's life."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started yet, and why."""

    reason: str = "ContainerCreating"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Started at that time (seconds since the epoch)."""

    started: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """Has been; `started` is 0 for what could not be started."""

    exit_code: int
    reason: str
    started: float | None
    finished: float | None
    message: str = ""


State = Waiting | Running | Terminated


LOST = Terminated(
    137,
    "ContainerStatusUnknown",
    None,
    None,
    "The container could not be located when the pod was terminated",
)
"""Of a container that nobody knows how it ended."""


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A pod of one container on our node."""

    pod: Object
    started: float
    """When we first saw it."""
    state: State = field(default_factory=Waiting)
    verdict: tuple[str, str] | None = None
    """Reason and message of the kubelet's own decision to end the pod, which then says nothing of conditions."""
    bare: bool = False
    """Not even of containers: an eviction."""

    def now(self, state: State) -> PodStatus:
        """The container is in another state."""
        return replace(self, state=state)

    @property
    def phase(self) -> Phase:
        """What the container's state makes of the pod."""
        if self.verdict:
            return Phase.FAILED
        match self.state:
            case Waiting():
                return Phase.PENDING
            case Running():
                return Phase.RUNNING
            case Terminated(exit_code=0):
                return Phase.SUCCEEDED
            case _:
                return Phase.FAILED

    def patch(self, address: str, changed: float) -> Object:
        """All that there is to say, with None for what is no more; `changed`: since when."""
        status: Object = {
            "phase": self.phase.value,
            "startTime": stamp(self.started),
            "reason": self.verdict[0] if self.verdict else None,
            "message": self.verdict[1] if self.verdict else None,
            "conditions": None if self.verdict else self._conditions(changed),
            "containerStatuses": None if self.bare else [self._container()],
            "hostIP": None if self.verdict else address,
            "podIP": None if self.bare else address,
            "podIPs": None if self.bare else [{"ip": address}],
        }
        if self.bare:
            status["qosClass"] = None
        return {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status}

    def _container(self) -> Object:
        container = self.pod["spec"]["containers"][0]
        known = not isinstance(self.state, Waiting)
        identity = hashlib.sha256(self.pod["metadata"]["uid"].encode()).hexdigest()
        status: Object = {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"sha256:{hashlib.sha256(container['image'].encode()).hexdigest()}"
            if known
            else "",
            "lastState": {},
            "ready": isinstance(self.state, Running) and not self.verdict,
            "restartCount": 0,
            "state": self._state(f"containerd://{identity}"),
        }
        if known:
            status["containerID"] = f"containerd://{identity}"
        if not self.verdict:
            status["started"] = isinstance(self.state, Running)
        return status

    def _state(self, identity: str) -> Object:
        match self.state:
            case Waiting(reason, message):
                return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
            case Running(started):
                return {"running": {"startedAt": stamp(started)}}
            case Terminated():
                return {"terminated": self._terminated(self.state, identity)}

    @staticmethod
    def _terminated(state: Terminated, identity: str) -> Object:
        terminated: Object = {
            "exitCode": state.exit_code,
            "reason": state.reason,
            "startedAt": None if state.started is None else stamp(state.started),
            "finishedAt": None if state.finished is None else stamp(state.finished),
        }
        if state.message:
            terminated["message"] = state.message
        if state is not LOST:
            terminated["containerID"] = identity
        return terminated

    def _conditions(self, changed: float) -> list[Object]:
        name = self.pod["spec"]["containers"][0]["name"]
        words: Object = {}
        if self.phase is Phase.SUCCEEDED:
            words = {"reason": "PodCompleted"}
        elif self.phase is not Phase.RUNNING:
            words = {
                "reason": "ContainersNotReady",
                "message": f"containers with unready status: [{name}]",
            }
        ready = "True" if self.phase is Phase.RUNNING else "False"
        done = words if self.phase is Phase.SUCCEEDED else {}
        return [
            _condition("Initialized", "True", self.started, done),
            _condition("Ready", ready, changed, words),
            _condition("ContainersReady", ready, changed, words),
            _condition("PodScheduled", "True", self.started, {}),
        ]


def stamp(seconds: float) -> str:
    """As the API writes times, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _condition(kind: str, status: str, since: float, words: Object) -> Object:
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": stamp(since),
        **words,
    }
