"""The container actors of a dispatcher: which there are, what they are doing, and which crashed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nodemanager.actors.actor import tell_if_alive
from nodemanager.api.messages import Ref
from nodemanager.dispatch.claiming import Load
from nodemanager.dispatch.container import ContainerActor, Surroundings
from nodemanager.dispatch.messages import ContainerIs, HeldContainer, Standing
from nodemanager.model import Container
from nodemanager.reason import Reason

LONGEST_RESTART_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Child:
    """One container actor, as its dispatcher knows it."""

    actor: Ref
    container: Container
    waits: bool
    """Its job has not started."""
    node: str = ""
    wants_node: bool = False
    """A node may be booted for it."""
    reason: Reason | None = None
    """Why it waits, in its own actor's words."""
    scheduler: str = ""
    """Which of several schedulers has its job."""
    _shown: HeldContainer | None = None

    def shown(self, reason: Reason | None) -> HeldContainer:
        """How it stands, for people; `reason` is why it waits. The same value again while nothing changes: 100,000
        new ones for each look would keep the garbage collector busy."""
        last = self._shown
        if (
            last is None
            or last.container is not self.container
            or last.reason is not reason
            or last.node != self.node
            or last.scheduler != self.scheduler
        ):
            last = HeldContainer(self.container, reason, self.node, self.scheduler)
            self._shown = last
        return last


class Children:
    """The container actors by UUID, with the counts that a claim needs at hand."""

    def __init__(self, dispatcher: Ref) -> None:
        self._dispatcher = dispatcher
        self._children: dict[str, Child] = {}
        self._waiting = 0
        self._crashes: dict[str, int] = {}

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._children

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    def get(self, uuid: str) -> Child | None:
        """The child of that container, if there is one."""
        return self._children.get(uuid)

    def all(self) -> Iterator[Child]:
        """Every child."""
        return iter(self._children.values())

    @property
    def load(self) -> Load:
        """What the dispatcher has in hand."""
        return Load(live=len(self._children), waiting=self._waiting)

    def start(self, around: Surroundings, container: Container, *, fresh: bool) -> None:
        """Start an actor for `container`, if it has none. `fresh`: claimed just now."""
        uuid = container.uuid
        if uuid in self._children:
            return
        actor = ContainerActor.start_under(self._dispatcher, uuid, around, container, fresh=fresh)
        self._children[uuid] = Child(actor, container, waits=True)
        self._waiting += 1

    def show(self, container: Container) -> None:
        """Tell the container's actor, if it has one, how its record is now."""
        child = self._children.get(container.uuid)
        if child is not None:
            child.container = container
            tell_if_alive(child.actor, ContainerIs(container))

    def note(self, standing: Standing) -> bool:
        """Take down what an actor says of itself; False when it is none of ours any more."""
        child = self._children.get(standing.uuid)
        if child is None:
            return False
        self._waiting += int(standing.job_waits) - int(child.waits)
        child.waits, child.node = standing.job_waits, standing.node
        child.wants_node, child.reason = standing.wants_node, standing.reason
        child.scheduler = standing.scheduler
        return True

    def finished(self, uuid: str) -> bool:
        """The actor has nothing left to do; False when it was none of ours."""
        self._crashes.pop(uuid, None)
        return self._drop(uuid)

    def crashed(self, uuid: str) -> float | None:
        """The actor is no more; seconds to wait before another is started, None if it was not ours.

        Doubles with each crash of the same container's actor.
        """
        if not self._drop(uuid):
            return None
        crashes = self._crashes[uuid] = self._crashes.get(uuid, 0) + 1
        return min(2.0 ** min(crashes - 1, 10), LONGEST_RESTART_PAUSE_SECONDS)

    def tell(self, message: Any) -> None:
        """Tell all of them."""
        for child in self._children.values():
            tell_if_alive(child.actor, message)

    def stop(self) -> None:
        """Stop all of them; containers and jobs stay as they are."""
        for child in self._children.values():
            child.actor.stop(block=False)

    def _drop(self, uuid: str) -> bool:
        child = self._children.pop(uuid, None)
        if child is None:
            return False
        self._waiting -= int(child.waits)
        return True
