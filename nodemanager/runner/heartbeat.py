"""Is the container still ours? Asked again and again from a thread of its own."""

from __future__ import annotations

import threading
import time

from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import ContainerState
from nodemanager.runner.api import NOT_OURS, Fence, RunnerApi
from nodemanager.runner.spec import RunnerSpec
from nodemanager.runner.stop import Stop, Why

FINAL_STATES = frozenset(state.value for state in ContainerState if state.is_final)


class Heartbeat:
    """Turns what the API says of the container into requests to stop.

    A final state, or 401, 403 and 404 for `fenced_after` seconds from a server that otherwise answers:
    it is no longer ours. Priority 0: cancelled. No answer or 5xx proves nothing: go on computing.
    """

    def __init__(self, spec: RunnerSpec, api: RunnerApi, stop: Stop) -> None:
        self._spec = spec
        self._api = api
        self._stop = stop
        self._fence = Fence(spec.fenced_after)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Begin, one interval from now."""
        self._thread.start()

    def finish(self) -> None:
        """Ask no more; a question under way is not waited for."""
        self._done.set()

    def _beat(self) -> None:
        while not self._done.wait(self._spec.heartbeat):
            try:
                state, priority = self._api.state()
            except ApiUnavailable:
                self._fence.clear()
            except ApiRefused as error:
                if error.status not in (*NOT_OURS, 404):
                    self._fence.clear()
                elif self._fence.refused(time.monotonic()):
                    self._stop.request(Why.FENCED, f"no longer ours: {error}")
            else:
                self._fence.clear()
                if self._done.is_set():
                    return
                if state in FINAL_STATES:
                    self._stop.request(Why.FENCED, f"became {state} meanwhile")
                elif priority == 0:
                    self._stop.request(Why.CANCELLED, "priority became 0")
