"""Why containers wait, in the words of one dispatcher: those of the queue that it does not claim, and those it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nodemanager.api.base import Annotation
from nodemanager.dispatch.children import Children
from nodemanager.dispatch.claiming import Claimer, explain_queue, urgency
from nodemanager.dispatch.foresight import foresee, waits_for_room
from nodemanager.dispatch.messages import QueuedContainer
from nodemanager.dispatch.reasons import ReasonBook
from nodemanager.model import Container
from nodemanager.nodes.messages import Outlook
from nodemanager.reason import Reason
from nodemanager.reason.queued import EXPLAINED, outrun
from nodemanager.schedulers.jobs import unanswered
from nodemanager.schedulers.messages import SchedulerSilent

SILENCE_SECONDS = 60.0
"""A scheduler that has not answered for so long is why jobs wait."""


class Explainer:
    """Belongs to a dispatcher, and looks at its `children`. The reasons are in `book`."""

    def __init__(self, children: Children) -> None:
        self.book = ReasonBook()
        self.looks_at = EXPLAINED
        """So many of the queue's most urgent containers are to be shown to it."""
        self._children = children
        self._unclaimed: dict[str, Container] = {}
        self._silent: SchedulerSilent | None = None
        """The scheduler has not answered since."""
        self._told_silence = False

    def silent(self, silence: SchedulerSilent | None) -> None:
        """Since when the scheduler does not answer; None: it does."""
        self._silent = silence

    def claimed(self, uuid: str) -> None:
        """It is in the queue no more."""
        self._unclaimed.pop(uuid, None)

    def queued(self) -> Iterator[QueuedContainer]:
        """What of the queue was looked at last, most urgent first."""
        return (QueuedContainer(c, self.book.get(uuid)) for uuid, c in self._unclaimed.items())

    def explain(
        self,
        queue: Sequence[Container],
        claimer: Claimer,
        outlook: Outlook | None,
        *,
        wall: float,
        elapsed: float,
    ) -> tuple[Annotation, ...]:
        """Note why each container waits, of the `queue` (its most urgent part) and of the children; what has changed.

        `wall` and `elapsed` say what time it is, by the two clocks.
        """
        unclaimed = [c for c in queue if c.uuid not in self._children]
        for uuid, reason in explain_queue(unclaimed, claimer, wall).items():
            self.book.note(uuid, reason)
        self._see_off(queue, wall)
        self._unclaimed = {c.uuid: c for c in unclaimed}
        self._explain_held(outlook, self._words_of_silence(wall, elapsed))
        return tuple(self.book.due())

    def _explain_held(self, outlook: Outlook | None, silence: Reason | None) -> None:
        """Of what is claimed, its actors say why it waits; what nodes it will have, and that the scheduler does not
        answer, we know better."""
        if outlook is None and silence is None and not self._told_silence:
            return
        self._told_silence = silence is not None
        waiting = [child for child in self._children.all() if child.waits]
        lines = {} if outlook is None else outlook.reasons
        foreseen = foresee((child for child in waiting if child.wants_node), lines)
        for child in waiting:
            uuid = child.container.uuid
            reason = foreseen.get(uuid, child.reason)
            told = silence if silence is not None and waits_for_room(reason) else reason
            self.book.note(uuid, told)

    def _words_of_silence(self, wall: float, elapsed: float) -> Reason | None:
        """That the scheduler has not answered for a while; one poll that failed is no news."""
        if self._silent is None or elapsed - self._silent.since < SILENCE_SECONDS:
            return None
        return replace(unanswered(self._silent.error), since=wall)

    def _see_off(self, queue: Sequence[Container], now: float) -> None:
        """What of the queue is not looked at any more is another's to explain, and the API removes our words when it
        starts; or it has too many before it now, and our old words would stay as if they were of today."""
        seen = {container.uuid for container in queue}
        last = queue[-1] if len(queue) == self.looks_at else None
        for uuid, container in self._unclaimed.items():
            if uuid in seen or uuid in self._children:
                continue
            if last is not None and urgency(container) > urgency(last):
                self.book.say_last(uuid, outrun(now))
            else:
                self.book.drop(uuid)
