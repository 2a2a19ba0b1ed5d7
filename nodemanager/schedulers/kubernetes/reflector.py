"""Follows what the API server has of one kind: listed once, then watched.

One thread for each. A list is taken from the store itself and shows one moment; the watch goes on from there, and
takes up again where it was when the server ended it in order, as it does every few minutes. When it broke it is taken
up once more; if that does not work either, or the server does not remember so far back (410 Gone), the list is taken
anew. So it is after every `relist_seconds`, as no server is without faults.

What was known stays shown all the while, and nothing is ever taken for gone because a watch broke: as long as it is
not known whether the picture is that of now, `is_current` says so.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from nodemanager.clock import Clock
from nodemanager.errors import NodeManagerError
from nodemanager.schedulers.kubernetes.client import (
    KubeClient,
    KubeRefused,
    Listing,
    Silence,
    Watch,
)

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)

_WATCH_SECONDS = 300.0
"""The server ends a watch after about so long; then it may be another server that goes on."""
_CLOSE_SECONDS = 5.0


class Sink(Protocol[Item_contra]):
    """What becomes of what is seen; called by the reflector's thread."""

    def replace(self, items: Sequence[Item_contra], began: float) -> None:
        """These are all there are, seen at some moment after `began`, in elapsed seconds."""

    def upsert(self, item: Item_contra) -> None:
        """It is new, or has changed."""

    def remove(self, item: Item_contra) -> None:
        """It is gone; so it was at last."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, and for how long."""

    relist_seconds: float = 600.0
    silence_seconds: float = 90.0
    """After so long without a word a watch is begun anew, as it may be dead: bookmarks come every minute."""
    first_pause_seconds: float = 0.5
    """After a failure; doubled with each further one."""
    longest_pause_seconds: float = 30.0


class Reflector(Generic[Item]):
    """See the module's docstring. `parse` reduces an object to what is kept of it."""

    def __init__(
        self,
        client: KubeClient,
        listing: Listing,
        parse: Callable[[Mapping[str, Any]], Item],
        sink: Sink[Item],
        *,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._listing = listing
        self._parse = parse
        self._sink = sink
        self._clock = clock
        self._pace = pace or Pace()
        self._why_not = "it has not been listed yet"
        self._refused: KubeRefused | None = None
        self._version = ""
        """Up to where everything has been shown; empty to list anew."""
        self._relist_at = 0.0
        self._heard = False
        """Whether the last watch has brought anything."""
        self._failures = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="reflector", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def close(self) -> None:
        """End it, from any thread; returns when its thread has ended, or does not answer for some seconds."""
        self._closing.set()
        with self._changed:
            if self._watch is not None:
                self._watch.close()
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    @property
    def is_current(self) -> bool:
        """Whether what was shown is all there is, as far as anybody can tell."""
        return not self._why_not

    @property
    def why_not(self) -> str:
        """Why it is not current, in words."""
        return self._why_not

    @property
    def refused(self) -> KubeRefused | None:
        """What the server said when it refused to list or watch; None once it did."""
        return self._refused

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds, which is asked whenever `is_current` or `refused` has changed."""
        with self._changed:
            return self._changed.wait_for(lambda: condition() or self._closing.is_set(), seconds)

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if not self._version or self._clock.elapsed() >= self._relist_at:
                    self._list()
                self._follow()
            except Silence:
                # Whatever was said meanwhile is heard when it goes on from where it was, if the server is there.
                self._heard = False
            except NodeManagerError as error:
                self._failed(error)
            except Exception as error:
                # Whatever the sink or the server's JSON did: a thread that died would never tell.
                log.exception(
                    "reading %s failed", self._listing.path, extra={"action": "watch_failed"}
                )
                self._heard = False
                self._failed(error)

    def _list(self) -> None:
        began = self._clock.elapsed()
        items: list[Item] = []
        version = ""
        for page in self._client.pages(self._listing):
            items += [self._parse(item) for item in page.items]
            version = page.version
        self._sink.replace(items, began)
        self._version = version
        self._relist_at = began + self._pace.relist_seconds * random.uniform(0.9, 1.1)  # noqa: S311
        self._heard = True

    def _follow(self) -> None:
        """Watch until the server ends that."""
        watch = self._client.watch(
            self._listing,
            self._version,
            server_seconds=min(_WATCH_SECONDS, self._relist_at - self._clock.elapsed()),
            silence_seconds=self._pace.silence_seconds,
        )
        with self._changed:
            self._watch = watch
            if self._closing.is_set():
                watch.close()
        self._tell("")
        self._heard = False
        for event in watch:
            if event.type in ("ADDED", "MODIFIED"):
                self._sink.upsert(self._parse(event.object))
            elif event.type == "DELETED":
                self._sink.remove(self._parse(event.object))
            self._version = event.object["metadata"]["resourceVersion"]
            self._heard, self._failures = True, 0

    def _failed(self, error: Exception) -> None:
        """Note it, decide whether to list anew, and wait a while."""
        if self._closing.is_set():
            return
        outdated = isinstance(error, KubeRefused) and error.is_outdated
        # A watch that brought something and broke is likely to go on; any other may never have been alive.
        goes_on = self._heard and self.is_current and not outdated
        if not goes_on:
            self._version = ""
        self._heard = False
        words = str(error) if isinstance(error, NodeManagerError) else repr(error)
        self._tell(words, error if isinstance(error, KubeRefused) else None)
        self._failures += 1
        if self._failures == 1 and (goes_on or outdated):
            return
        pause = self._pace.first_pause_seconds * 2 ** min(self._failures - 1, 10)
        self._closing.wait(min(pause, self._pace.longest_pause_seconds) * random.uniform(0.5, 1.0))  # noqa: S311

    def _tell(self, why_not: str, refused: KubeRefused | None = None) -> None:
        with self._changed:
            if why_not and not self._why_not:
                log.info("%s: %s", self._listing.path, why_not, extra={"action": "watch_broken"})
            self._why_not, self._refused = why_not, refused
            self._changed.notify_all()
