"""The one actor through which everything goes to a cloud: a desk that queues, paces and never blocks.

The calls themselves are made by a few `CloudHand`s. Lists come first, then destroys, then creates. A budget of
operations per second holds for all of them together; when the cloud says that it is asked too often, all
wait as long as it says, or longer and longer while it says nothing.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.actors.budget import Budget
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.poll import PollPace, PollPlan, after_answer, after_error, sooner
from nodemanager.actors.timer import Schedule
from nodemanager.clock import Clock
from nodemanager.clouds.errors import CloudError, Denied, Gone, RateLimited
from nodemanager.clouds.hand import Do, Done, ListNodes, Task
from nodemanager.clouds.messages import (
    CloudCounts,
    CloudSilent,
    CloudView,
    Created,
    CreateFailed,
    CreateNode,
    Destroyed,
    DestroyFailed,
    DestroyNode,
    FollowCloud,
    Forgo,
    Forgone,
    GetCloudCounts,
    Ref,
    TagNode,
)

log = logging.getLogger(__name__)

LONGEST_RATE_PAUSE_SECONDS = 180.0
"""When the cloud does not say how long; as the old node manager's max_retry_wait."""
LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""A Retry-After beyond this is taken for a mistake of the cloud."""
LOOK_AGAIN_SECONDS = 5.0
"""How soon after something was created or destroyed the machines are listed, however slow the beat is."""
LOOK_AGAIN_UNPACED_SECONDS = 0.5
"""The same at a cloud that costs nothing to ask."""
TAG_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CloudPace:
    """How often and how much."""

    list_seconds: float = 60.0
    max_list_seconds: float = 300.0
    operations_per_second: float = 2.0


@dataclass(frozen=True, slots=True)
class Hands:
    """To the desk: who makes its calls."""

    refs: Sequence[Ref]


@dataclass(frozen=True, slots=True)
class _Go:
    """To itself: give out what can be given out now."""


@dataclass(frozen=True, slots=True)
class _TagAgain:
    """To itself: the tags were not accepted; once more, if they are still the latest."""

    task: TagNode


class CloudActor(Actor):
    """See the module's docstring. It has to be told its `Hands`, and begins at `FollowCloud`.

    Nothing is created or destroyed unless `ActUntil` says that the dispatcher may act.
    """

    def __init__(
        self,
        pace: CloudPace,
        timer: Ref,
        clock: Clock,
        *,
        unpaced: bool = False,
        draws: random.Random | None = None,
    ) -> None:
        """`unpaced` is for clouds whose calls go nowhere."""
        super().__init__()
        self._timer = timer
        self._clock = clock
        self._draws = draws or random.Random()  # noqa: S311 (jitter is no secret)
        self._idle: deque[Ref] = deque()
        self._subscriber: Ref | None = None
        self._creates: deque[CreateNode] = deque()
        self._others: deque[DestroyNode | TagNode] = deque()
        self._listing = False
        self._list_pace = PollPace(pace.list_seconds, pace.max_list_seconds)
        self._plan = PollPlan(clock.elapsed(), pace.list_seconds)
        self._list_asked_at = clock.elapsed()
        self._silent_since: float | None = None
        self._budget = None if unpaced else Budget(pace.operations_per_second, clock.elapsed())
        self._tagging: dict[str, TagNode] = {}
        """By cloud id, tags that the cloud has not accepted yet: only the latest are worth a try."""
        self._act_until = float("-inf")
        self._paused_until = float("-inf")
        self._rate_pause = 1.0
        self._counts: Counter[str] = Counter()

    def on_receive(self, message: Any) -> CloudCounts | None:
        """Queue what is asked, take in what came of it, and give out what can be."""
        match message:
            case Hands(refs):
                self._idle.extend(refs)
            case CloudPace():
                self._keep(message)
            case FollowCloud(subscriber):
                self._subscriber = subscriber
                metrics.LAST_POLL.labels("cloud", "").set(self._clock.wall())
            case CreateNode():
                self._creates.append(message)
            case DestroyNode():
                self._others.append(message)
            case TagNode():
                self._tag(message)
            case Forgo(name):
                self._forgo(name)
            case ActUntil(lease_until):
                self._act_until = lease_until
            case Done(hand, task, result, error):
                self._idle.append(hand)
                self._conclude(task, result, error)
            case _TagAgain(task):
                if self._tagging.get(task.node.cloud_id) is task:
                    self._others.append(task)
            case _Go():
                pass
            case GetCloudCounts():
                return CloudCounts(**self._counts)
            case _:
                super().on_receive(message)
        self._give_out()
        return None

    def _keep(self, pace: CloudPace) -> None:
        """Another pace from now on."""
        now = self._clock.elapsed()
        self._list_pace = PollPace(pace.list_seconds, pace.max_list_seconds)
        self._plan = sooner(self._plan, self._list_pace, now)
        if self._budget is not None:
            self._budget.pace(pace.operations_per_second, now)

    # Giving out.

    def _give_out(self) -> None:
        """Start as many tasks as there are hands and budget for; come back when there may be more."""
        while self._idle:
            now = self._clock.elapsed()
            wait = self._paused_until - now
            if self._budget is not None:
                wait = max(wait, self._budget.wait(now))
            task = self._next_task(now)
            if task is None:
                self._come_back(self._plan.due if not self._listing else None)
                return
            if wait > 0:
                self._come_back(now + wait)
                return
            self._take(task, now)

    def _next_task(self, now: float) -> Task | None:
        """What comes next, left where it is."""
        if self._subscriber is not None and not self._listing and now >= self._plan.due:
            return ListNodes()
        if now >= self._act_until:
            return None
        if self._others:
            return self._others[0]
        return self._creates[0] if self._creates else None

    def _take(self, task: Task, now: float) -> None:
        match task:
            case ListNodes():
                self._listing, self._list_asked_at = True, now
            case CreateNode():
                self._creates.popleft()
            case _:
                self._others.popleft()
        if self._budget is not None:
            self._budget.spend(now)
        self._idle.popleft().tell(Do(task))

    def _come_back(self, at: float | None) -> None:
        if at is not None and self._subscriber is not None:
            self._timer.tell(Schedule(at, self.actor_ref, _Go(), self.actor_ref.actor_urn))

    def _forgo(self, name: str) -> None:
        for asked in self._creates:
            if asked.order.name == name:
                self._creates.remove(asked)
                tell_if_alive(asked.reply_to, Forgone(name))
                return

    def _tag(self, task: TagNode) -> None:
        before = self._tagging.get(task.node.cloud_id)
        if before is not None:
            task = TagNode(task.node, {**before.tags, **task.tags})
        self._tagging[task.node.cloud_id] = task
        self._others.append(task)

    # What came of it.

    def _conclude(self, task: Task, result: tuple[Any, ...], error: CloudError | None) -> None:
        self._count(task, error)
        if isinstance(error, RateLimited):
            self._slow_down(task, error)
            return
        if error is None:
            self._rate_pause = 1.0
        match task:
            case ListNodes():
                self._listed(result, error)
            case CreateNode(order, reply_to):
                self._look_soon()
                answer = CreateFailed(order.name, error) if error else Created(result[0])
                tell_if_alive(reply_to, answer)
            case DestroyNode(node, reply_to):
                self._look_soon()
                failed = error is not None and not isinstance(error, Gone)
                tell_if_alive(
                    reply_to,
                    DestroyFailed(node.cloud_id, error)
                    if failed and error is not None
                    else Destroyed(node.cloud_id),
                )
            case TagNode():
                self._tagged(task, error)

    def _tagged(self, task: TagNode, error: CloudError | None) -> None:
        cloud_id = task.node.cloud_id
        if self._tagging.get(cloud_id) is not task:
            # Later ones, which have these too, are under way.
            return
        if error is None or isinstance(error, Gone | Denied):
            del self._tagging[cloud_id]
        else:
            at = self._clock.elapsed() + TAG_PAUSE_SECONDS
            self._timer.tell(Schedule(at, self.actor_ref, _TagAgain(task)))
        if error is not None:
            log.warning(
                "cannot tag %s: %s",
                task.node.name,
                error,
                extra={"action": "tag_failed", "node": task.node.name},
            )

    def _listed(self, nodes: tuple[Any, ...], error: CloudError | None) -> None:
        self._listing = False
        now = self._clock.elapsed()
        if error is None:
            if self._silent_since is not None:
                log.warning("the cloud answers again", extra={"action": "cloud_back"})
            self._silent_since = None
            asked_at = self._clock.wall() - (now - self._list_asked_at)
            metrics.LAST_POLL.labels("cloud", "").set(asked_at)
            self._plan = after_answer(self._plan, self._list_pace, now)
            self._tell(CloudView(nodes, self._list_asked_at))
            return
        if self._silent_since is None:
            self._silent_since = now
        self._plan = after_error(self._plan, self._list_pace, now)
        log.warning(
            "the cloud does not list its machines: %s; asked again in %.0f s",
            error,
            self._plan.due - now,
            extra={"action": "cloud_silent"},
        )
        self._tell(CloudSilent(error, self._silent_since))

    def _slow_down(self, task: Task, error: RateLimited) -> None:
        """Nothing is asked for a while; then the same again, before everything of its kind."""
        metrics.CLOUD_THROTTLES.inc()
        now = self._clock.elapsed()
        pause = error.retry_after
        if pause is None:
            pause = self._rate_pause * (0.8 + 0.4 * self._draws.random())
            self._rate_pause = min(2 * self._rate_pause, LONGEST_RATE_PAUSE_SECONDS)
        pause = min(max(pause, 1.0), LONGEST_RETRY_AFTER_SECONDS)
        self._paused_until = max(self._paused_until, now + pause)
        log.warning(
            "the cloud is asked too often (%s): waiting %.0f s",
            error,
            self._paused_until - now,
            extra={"action": "cloud_throttled", "seconds": self._paused_until - now},
        )
        match task:
            case ListNodes():
                self._listing = False
            case CreateNode():
                self._creates.appendleft(task)
            case _:
                self._others.appendleft(task)

    def _look_soon(self) -> None:
        wait = LOOK_AGAIN_UNPACED_SECONDS if self._budget is None else LOOK_AGAIN_SECONDS
        due = min(self._plan.due, self._clock.elapsed() + wait)
        self._plan = PollPlan(due, self._plan.pause_seconds)

    def _count(self, task: Task, error: CloudError | None) -> None:
        match task:
            case ListNodes():
                kind = "list"
            case CreateNode():
                kind = "create"
            case DestroyNode():
                kind = "destroy"
            case _:
                return
        self._counts[f"{kind}_calls"] += 1
        self._counts[f"{kind}_errors"] += error is not None

    def _tell(self, message: CloudView | CloudSilent) -> None:
        if self._subscriber is not None:
            tell_if_alive(self._subscriber, message)
