"""One pod on a podlet's node, from being bound to being gone; every step of it in one thread at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.clusters.podlet_api import Api, ApiFailed, Object
from tests.clusters.podlet_images import trouble
from tests.clusters.podlet_process import Command, Exited, Process, Processes, StartRefused
from tests.clusters.podlet_status import (
    LOST,
    Phase,
    PodStatus,
    Running,
    State,
    Terminated,
)
from tests.clusters.podlet_volumes import Home, NotYet, prepare

ADDRESS = "127.0.0.1"

_LEAST_GRACE_SECONDS = 2.0
"""However short a deletion's grace is, the kubelet gives so much."""
_RETRY_SECONDS = 0.2
_DEADLINE = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
)


@dataclass(frozen=True, slots=True)
class Changed:
    """The API server has another version of the pod."""

    pod: Object


@dataclass(frozen=True, slots=True)
class Vanished:
    """The API server has it no more."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """The node wants it to go at once."""

    message: str


@dataclass(frozen=True, slots=True)
class MachineDead:
    """The processes are to die, and nothing more is to be said."""


Message = Changed | Vanished | Evicted | MachineDead | Exited


class PodWorker:
    """Runs one pod. A thread of its own works only while there is something to wait for."""

    def __init__(
        self, api: Api, processes: Processes, home: Home, pod: Object, dead: threading.Event
    ) -> None:
        self.pod = pod
        self.home = home
        self._api = api
        self._processes = processes
        self._dead = dead
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._status = PodStatus(pod, time.time())
        self._said: PodStatus | None = None
        self._process: Process | None = None
        self._attempts = 0
        self._attempt_at = 0.0
        self._grace_given: float | None = None
        self._kill_at: float | None = None
        self._deadline_at: float | None = None
        self._gone = False
        """The API server has it no more."""
        self._over = False
        """Nothing is to be done for it any more."""
        phase = Phase(pod["status"].get("phase", "Pending"))
        self._settled_before = phase in (Phase.SUCCEEDED, Phase.FAILED)
        if phase is Phase.RUNNING:
            # The node has been away: what ran here does not run any more, and never will again.
            self._status = self._status.now(LOST)
        limit = pod["spec"].get("activeDeadlineSeconds")
        if limit is not None:
            self._deadline_at = time.monotonic() + limit

    @property
    def state(self) -> State:
        """Of its container."""
        return self._status.state

    @property
    def is_over(self) -> bool:
        """Whether it can be forgotten, once the API server has."""
        return self._over and self._gone and self._process is None

    def tell(self, message: Message) -> None:
        """Any thread."""
        with self._lock:
            if self._dead.is_set() and not isinstance(message, MachineDead):
                return
            self._inbox.put(message)
            if self._thread is None:
                name = f"podlet-{self.pod['metadata']['name']}"
                self._thread = threading.Thread(target=self._run, name=name)
                self._thread.start()

    def join(self) -> None:
        """Wait until it has nothing to do, after `MachineDead`."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._act()
            with self._lock:
                if self._idle() and self._inbox.empty():
                    self._thread = None
                    return
            try:
                message = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                continue
            self._take(message)

    def _idle(self) -> bool:
        return self._over or (self._finished() and self._process is None)

    def _finished(self) -> bool:
        return self._settled_before or self._status.phase in (Phase.SUCCEEDED, Phase.FAILED)

    def _patience(self) -> float | None:
        if self._over:
            return None
        times = [at for at in (self._kill_at,) if at is not None]
        if not self._finished():
            times += [at for at in (self._deadline_at,) if at is not None]
            if self._process is None:
                times.append(self._attempt_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _take(self, message: Message) -> None:
        match message:
            case Changed(pod):
                self.pod = pod
                self._status = replace(self._status, pod=pod)
            case Vanished():
                self._gone = True
                self._end_in(self._grace())
                self._vanish()
            case Evicted(text):
                if not self._finished():
                    self._status = replace(self._status, verdict=("Evicted", text), bare=True)
                    self._say()
                    self._end_in(0.0)
            case MachineDead():
                self._over = True
                if self._process:
                    self._process.kill()
            case Exited():
                self._exited(message)

    def _act(self) -> None:
        """Whatever is to be done by now."""
        now = time.monotonic()
        if self._over:
            return
        if self._deadline_at and now >= self._deadline_at and not self._finished():
            self._status = replace(self._status, verdict=_DEADLINE)
            self._say()
            self._end_in(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        leaving = "deletionTimestamp" in self.pod["metadata"]
        if self._process is None and leaving:
            self._leave()
        elif self._process and leaving:
            self._end_in(self._grace())
        elif self._process is None and not self._finished() and now >= self._attempt_at:
            self._attempt()
        elif self._said is None and not self._settled_before:
            self._say()  # what was lost before we came
        if self._process and self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._process.kill()

    def _attempt(self) -> None:
        """Start the container if that is possible now."""
        if self._attempts == 0:
            self._say()
        try:
            command = self._prepare()
        except (NotYet, ApiFailed) as error:
            self._attempts += 1
            self._attempt_at = time.monotonic() + _RETRY_SECONDS
            if isinstance(error, NotYet) and self.state != error.waiting:
                self._status = self._status.now(error.waiting)
                self._say()
            return
        started = self._processes.start(command, self.tell)
        if isinstance(started, StartRefused):
            end = Terminated(128, "StartError", 0.0, time.time(), started.message)
            self._status = self._status.now(end)
        else:
            self._process = started
            self._status = self._status.now(Running(time.time()))
        self._say()

    def _prepare(self) -> Command:
        image = self.pod["spec"]["containers"][0]["image"]
        waiting = trouble(image, self._attempts)
        if waiting:
            raise NotYet(waiting)
        return prepare(self._api, self.pod, self.home)

    def _end_in(self, seconds: float) -> None:
        """Ask it to end, and see to it after so long."""
        if self._process and (self._grace_given is None or seconds < self._grace_given):
            if self._grace_given is None and seconds:
                self._process.terminate()
            self._grace_given = seconds
            self._kill_at = time.monotonic() + seconds

    def _exited(self, end: Exited) -> None:
        self._process = None
        self._kill_at = None
        if self._gone:
            self._vanish()
            return
        if self._status.verdict or not isinstance(self.state, Running):
            return  # it has been judged, and this kubelet does not come back to it
        reason = "Completed" if end.code == 0 else "Error"
        if end.out_of_memory:
            reason = "OOMKilled"
        self._status = self._status.now(
            Terminated(end.code, reason, self.state.started, time.time())
        )
        self._say()

    def _vanish(self) -> None:
        """As if it had never been here, when nothing of it runs any more."""
        if self._process is None:
            self._over = True
            self.home.remove()

    def _leave(self) -> None:
        """Being deleted, and nothing runs any more."""
        if isinstance(self.state, Running):
            self._status = self._status.now(LOST)
            self._say()
        metadata = self.pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        self._insist(lambda: self._api.delete(self._path(), options))
        self._over = True

    def _grace(self) -> float:
        seconds = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if seconds is None:
            seconds = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        return max(float(seconds), _LEAST_GRACE_SECONDS)

    def _say(self) -> None:
        """Write the status."""
        patch = self._status.patch(ADDRESS, time.time())
        self._said = self._status
        self._insist(lambda: self._api.patch(f"{self._path()}/status", patch))

    def _insist(self, request: Callable[[], Object]) -> None:
        """Again, until the server has taken it, has no such pod, or our machine is dead."""
        while not self._dead.is_set():
            try:
                request()
            except ApiFailed as error:
                if 400 <= error.status < 500 and error.status != 429:
                    return
                self._dead.wait(_RETRY_SECONDS)
            else:
                return

    def _path(self) -> str:
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
