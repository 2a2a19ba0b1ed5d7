"""What has been seen of pods and other objects, put together: one look at it shows one moment.

What a reflector shows comes a little late. So a pod that was just made is in the picture at once, and stays there until
the reflector has shown it, or a list that was begun later has not; and one that was forgotten is not in it any more,
though the reflector may still show it for a moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from nodemanager.schedulers.kubernetes.pod import Pod, remembering


class Object(Protocol):
    """What is known by a unique id, which nothing else ever has."""

    @property
    def uid(self) -> str:
        """The id."""


Seen = TypeVar("Seen", bound=Object)


class Picture(Generic[Seen]):
    """Objects by their unique ids, as a reflector's sink. `changed` is called when one is not as it was before."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, Seen] = {}

    def all(self) -> Sequence[Seen]:
        """All there are."""
        with self._lock:
            return list(self._objects.values())

    def replace(self, items: Sequence[Seen], began: float) -> None:  # noqa: ARG002 (a sink's)
        """See `Sink`."""
        objects = {item.uid: item for item in items}
        with self._lock:
            differs = objects != self._objects
            self._objects = objects
        if differs:
            self._changed()

    def upsert(self, item: Seen) -> None:
        """See `Sink`."""
        with self._lock:
            differs = self._objects.get(item.uid) != item
            self._objects[item.uid] = item
        if differs:
            self._changed()

    def remove(self, item: Seen) -> None:
        """See `Sink`."""
        with self._lock:
            known = self._objects.pop(item.uid, None) is not None
        if known:
            self._changed()


class PodPicture:
    """Our pods by name, as a reflector's sink. `changed` is called when one is not as it was before."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._awaited: dict[str, float] = {}
        """Unique ids of pods that the reflector has not shown yet, and when they had been made, in elapsed seconds."""
        self._forgotten: dict[str, float] = {}
        """Unique ids of pods that it may show still, and when they were forgotten."""

    def all(self) -> Sequence[Pod]:
        """All there are."""
        with self._lock:
            return list(self._pods.values())

    def get(self, name: str) -> Pod | None:
        """The pod of that name."""
        with self._lock:
            return self._pods.get(name)

    def created(self, pod: Pod, now: float) -> None:
        """It has just been made; at elapsed seconds `now` that was known."""
        with self._lock:
            known = self._pods.get(pod.name)
            # The reflector may have been faster.
            if known is None or known.uid != pod.uid:
                self._pods[pod.name] = pod
                self._awaited[pod.uid] = now

    def forgotten(self, name: str, uid: str, now: float) -> None:
        """Nobody wants to see it any more, from elapsed seconds `now` on."""
        with self._lock:
            self._awaited.pop(uid, None)
            known = self._pods.get(name)
            # The reflector may have been faster.
            if known is not None and known.uid == uid:
                del self._pods[name]
                self._forgotten[uid] = now

    def replace(self, items: Sequence[Pod], began: float) -> None:
        """See `Sink`."""
        listed = {pod.uid for pod in items}
        with self._lock:
            before = self._pods
            self._forgotten = {
                uid: since
                for uid, since in self._forgotten.items()
                if uid in listed or since >= began
            }
            self._awaited = {
                uid: since
                for uid, since in self._awaited.items()
                if uid not in listed and since >= began
            }
            pods = {pod.name: pod for pod in before.values() if pod.uid in self._awaited}
            for pod in items:
                if pod.uid not in self._forgotten:
                    pods.setdefault(pod.name, remembering(pod, before.get(pod.name)))
            self._pods = pods
            differs = pods != before
        if differs:
            self._changed()

    def upsert(self, item: Pod) -> None:
        """See `Sink`."""
        with self._lock:
            if item.uid in self._forgotten:
                return
            self._awaited.pop(item.uid, None)
            before = self._pods.get(item.name)
            pod = remembering(item, before)
            # What was made after one of the same name had gone is not undone by what is heard of that one.
            if before is None or before.uid == pod.uid or before.uid not in self._awaited:
                self._pods[pod.name] = pod
        if pod != before:
            self._changed()

    def remove(self, item: Pod) -> None:
        """See `Sink`."""
        with self._lock:
            self._forgotten.pop(item.uid, None)
            self._awaited.pop(item.uid, None)
            known = self._pods.get(item.name)
            gone = known is not None and known.uid == item.uid
            if gone:
                del self._pods[item.name]
        if gone:
            self._changed()
