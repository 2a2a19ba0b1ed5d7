"""What a job leaves that was the container's command itself: its log and its output, brought to where they are kept.

A runner does this on the node. Without one the log is fetched from the scheduler, and the output has to be in the
store already, because the job's file system had the store in it. Fetching may take long and happens in a few actors
with a thread each; nothing is given up as long as another try may fare better.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.actors.timer import Schedule
from nodemanager.api.files import PutFile
from nodemanager.api.messages import Ref
from nodemanager.clock import Clock
from nodemanager.dispatch.messages import Collect, Collected
from nodemanager.durable import sync_path
from nodemanager.errors import ApiRefused, ApiUnavailable, SchedulerError
from nodemanager.model import ContainerState
from nodemanager.mount_plan import RequestFaultError
from nodemanager.outcome import Outcome
from nodemanager.output_tree import Entry, check_output
from nodemanager.pieces import pieces

log = logging.getLogger(__name__)

LOG_NAME = "combined.txt"
"""A scheduler keeps what a command writes to standard output and standard error in one."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LOG_PATIENCE_SECONDS = 1800.0
"""A container is not kept from its end for longer by a scheduler that does not give its log."""

Write = Callable[[bytes], object]
FetchLog = Callable[[str, Write], None]
"""`Scheduler.fetch_log`."""


class Store(Protocol):
    """Where logs and outputs are kept. Raises `OSError` or `ApiUnavailable` where another try may fare better."""

    def keep_log(self, uuid: str, fetch: Callable[[Write], None]) -> str:
        """Keep what `fetch` writes; answers where, when it is durable there. What `fetch` raises passes through."""
        ...

    def find_output(self, uuid: str) -> str:
        """Where the output is, once it is durable; empty when there is none.

        Raises `RequestFaultError` for one that cannot be kept.
        """
        ...


class StoreDirectory:
    """A directory that jobs have in their file system, one folder per container."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep_log(self, uuid: str, fetch: Callable[[Write], None]) -> str:
        """See `Store`."""
        folder = self._folder(uuid) / "log"
        folder.mkdir(exist_ok=True)
        draft = folder / f"{LOG_NAME}.partial"
        with draft.open("wb") as file:
            fetch(file.write)
        sync_path(draft)
        draft.rename(folder / LOG_NAME)
        sync_path(folder)
        return str(folder)

    def find_output(self, uuid: str) -> str:
        """See `Store`."""
        folder = self._folder(uuid) / "output"
        if not folder.is_dir():
            return ""
        for entry in check_output(folder, str(folder)):
            _make_durable(folder, entry)
        sync_path(folder)
        return str(folder)

    def _folder(self, uuid: str) -> Path:
        """The container's own, which was made before its job: where it is not, the store is just not mounted."""
        folder = self._directory / uuid
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no {folder}: the store may not be mounted here")
        return folder


class StoreApi:
    """The API server. It gets the logs; an output in a job's file system is out of its reach."""

    def __init__(self, put: PutFile) -> None:
        self._put = put

    def keep_log(self, uuid: str, fetch: Callable[[Write], None]) -> str:
        """See `Store`."""
        with tempfile.TemporaryFile() as file:
            fetch(file.write)
            for piece in pieces(file):
                self._put(uuid, f"log/{LOG_NAME}", piece.offset, piece.data, piece.is_last)
        return f"api:{uuid}/log"

    def find_output(self, uuid: str) -> str:  # noqa: ARG002 (see the class)
        """There is none."""
        return ""


class CollectorActor(Actor):
    """Answers `Collect`. See the module's docstring; `fetchers` has one per scheduler."""

    kind = "io"

    def __init__(
        self,
        make_store: Callable[[], Store],
        fetchers: Mapping[str, FetchLog],
        timer: Ref,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._make_store = make_store
        self._fetchers = fetchers
        self._timer = timer
        self._clock = clock
        self._store: Store | None = None
        self._tries: dict[str, int] = {}
        self._began: dict[str, float] = {}
        """When it was first tried, in elapsed seconds."""

    def on_receive(self, message: Any) -> None:
        """Collect, or try again later."""
        match message:
            case Collect(uuid, _, reply_to):
                try:
                    collected = self._collect(message)
                except (SchedulerError, ApiUnavailable, OSError) as error:
                    self._try_later(message, error)
                else:
                    self._tries.pop(uuid, None)
                    self._began.pop(uuid, None)
                    tell_if_alive(reply_to, collected)
            case _:
                super().on_receive(message)

    def _collect(self, asked: Collect) -> Collected:
        if self._store is None:
            self._store = self._make_store()
        where, warning = self._keep_log(self._store, asked)
        try:
            output = self._store.find_output(asked.uuid)
        except RequestFaultError as error:
            spoils = Outcome(ContainerState.PERMFAIL, str(error), exit_code=0)
            return Collected(where, warning=warning, spoils=spoils)
        if not output:
            lost = "its output was not kept: the job's file system has no part of the store in it"
            warning = f"{warning}; {lost}" if warning else lost
        return Collected(where, output, warning)

    def _keep_log(self, store: Store, asked: Collect) -> tuple[str, str]:
        """Where it is kept, and what is to be said about it."""
        fetch = self._fetchers[asked.scheduler]
        now = self._clock.elapsed()
        began = self._began.setdefault(asked.uuid, now)
        try:
            return store.keep_log(asked.uuid, lambda write: fetch(asked.uuid, write)), ""
        except (LookupError, ApiRefused) as error:
            return "", f"its log was not kept: {error}"
        except SchedulerError as error:
            if now - began < LOG_PATIENCE_SECONDS:
                raise
            return "", f"its log was not kept: {error}"

    def _try_later(self, asked: Collect, error: Exception) -> None:
        tries = self._tries[asked.uuid] = self._tries.get(asked.uuid, 0) + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 10), LONGEST_PAUSE_SECONDS)
        log.warning(
            "%s: what it left cannot be collected yet: %s; tried again in %.0f s",
            asked.uuid,
            error,
            pause,
            extra={"action": "collect_failed", "container": asked.uuid},
        )
        self._timer.tell(Schedule(self._clock.elapsed() + pause, self.actor_ref, asked))


def _make_durable(folder: Path, entry: Entry) -> None:
    if entry.kind != "link":
        sync_path(folder / entry.path)
