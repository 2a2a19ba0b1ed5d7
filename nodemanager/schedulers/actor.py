"""The one actor that talks to a batch scheduler: batching, polling, throttling, patience.

Everything asked of it goes into a `JobBook`; a *turn* then makes at most one call of each kind to the
module, however many jobs are concerned; of submissions it makes as many as the budget has commands for. A turn
follows at once when something was asked, and every `poll_seconds` otherwise; a scheduler that does not answer
is asked again more and more slowly, and nothing is concluded from its silence. Calls block, so the actor has
a thread of its own.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.actors.budget import Budget
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.poll import PollPace, PollPlan, after_answer, after_error, sooner
from nodemanager.actors.timer import Schedule
from nodemanager.clock import Clock
from nodemanager.errors import SchedulerError
from nodemanager.model import Node
from nodemanager.schedulers.base import JobSpec, Newcomer, Scheduler
from nodemanager.schedulers.jobs import JobBook, JobReport, PollResult
from nodemanager.schedulers.messages import (
    Admit,
    Admitted,
    Cancel,
    Dismiss,
    Drain,
    Forget,
    Look,
    NodeSet,
    NotAdmitted,
    Prioritise,
    Ref,
    Remove,
    Resume,
    SchedulerSilent,
    SchedulerView,
    Seek,
    Submit,
    Subscribe,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much: the common options of `[Scheduler]`."""

    poll_seconds: float = 5.0
    max_poll_seconds: float = 60.0
    """Between two tries while the scheduler does not answer."""
    commands_per_second: float = 50.0
    """Commands of a module that runs commands; short bursts may be twice as fast."""
    submit_batch: int = 1000


@dataclass(frozen=True, slots=True)
class _Turn:
    """To itself: do what has to be done now. `poll` asks for a poll even if none is due."""

    poll: bool = False


class SchedulerActor(Actor):
    """See the module's docstring. It begins when somebody tells it `Subscribe`."""

    kind = "io"

    def __init__(
        self, scheduler: Scheduler, pace: Pace, timer: Ref, clock: Clock, name: str = ""
    ) -> None:
        """`name` is which of several schedulers it is; it stands in all that it tells."""
        super().__init__()
        self._name = name
        self._scheduler = scheduler
        self._pace = pace
        self._subscribers: list[Ref] = []
        self._timer = timer
        self._clock = clock
        self._book: JobBook[Ref] = JobBook()
        self._act_until = float("-inf")
        self._priorities: dict[str, int] = {}
        self._forgotten: dict[str, None] = {}
        self._node_orders: dict[str, Drain | Resume | Admit | Remove] = {}
        self._admitted: set[str] = set()
        """Names given out and not taken back: several nodes may ask in one turn, none knowing of the others."""
        self._turn_told = False
        self._poll_wanted = True
        self._poll_pace = PollPace(pace.poll_seconds, pace.max_poll_seconds)
        self._plan = PollPlan(clock.elapsed(), pace.poll_seconds)
        self._silent_since: float | None = None
        self._has_answered = False
        self._budget = Budget(pace.commands_per_second, clock.elapsed())
        self._is_short = False
        """Jobs were left to a later turn, for want of commands in the budget."""
        metrics.LAST_POLL.labels("scheduler", self._title).set(clock.wall())
        # From now on they count 0: a counter that begins with 1 shows no increase.
        metrics.JOBS_SUBMITTED.labels(self._title, "accepted")
        metrics.JOBS_CANCELLED.labels(self._title)

    def on_stop(self) -> None:
        """Let go of the module; jobs stay."""
        self._scheduler.close()

    def on_receive(self, message: Any) -> None:
        """Note what is asked; the turn that follows does it together with all else."""
        now = self._clock.elapsed()
        match message:
            case _Turn(poll):
                self._poll_wanted = self._poll_wanted or poll
                self._turn(now)
                return
            case Subscribe(subscriber):
                self._begin(subscriber)
            case Submit(spec, owner, earlier):
                self._report(self._book.want(spec, owner, earlier, now))
            case Seek(name, owner):
                self._report(self._book.seek(name, owner, now))
            case Cancel(name):
                self._report(self._book.cancel(name))
            case Prioritise(name, priority):
                if self._book.reprioritise(name, priority):
                    self._priorities[name] = priority
            case Forget(name):
                self._book.forget((name,))
                self._priorities.pop(name, None)
                self._forgotten[name] = None
            case Dismiss(name):
                self._book.cancel_stranger(name)
            case Drain(node) | Resume(node):
                self._node_orders[node] = message
            case Admit(newcomer):
                self._node_orders[newcomer.host] = message
            case Remove(host):
                self._node_orders[host] = message
                # Until that is done, whoever gets the name would be removed.
                self._admitted.add(host)
            case Look():
                self._poll_wanted = True
            case ActUntil(lease_until):
                self._act_until = lease_until
            case Pace():
                self._keep(message, now)
            case _:
                super().on_receive(message)
        self._tell_turn()

    # A turn.

    def _begin(self, subscriber: Ref) -> None:
        """Poll at once, and whenever the module says that something changed."""
        if not self._subscribers:
            ref = self.actor_ref
            self._scheduler.listen(lambda: _wake(ref))
        self._subscribers.append(subscriber)
        self._poll_wanted = True

    def _keep(self, pace: Pace, now: float) -> None:
        """Another pace from now on; the next poll comes no later than it would have, had it been so before."""
        self._pace = pace
        self._poll_pace = PollPace(pace.poll_seconds, pace.max_poll_seconds)
        self._plan = sooner(self._plan, self._poll_pace, now)
        self._budget.pace(pace.commands_per_second, now)

    def _tell_subscribers(self, message: SchedulerView | SchedulerSilent) -> None:
        for subscriber in self._subscribers:
            tell_if_alive(subscriber, message)

    def _tell_turn(self) -> None:
        """One turn for everything that is in the inbox now: it comes after all of it."""
        if not self._turn_told:
            self._turn_told = True
            self.actor_ref.tell(_Turn())

    def _turn(self, now: float) -> None:
        self._turn_told = False
        wait = self._budget.wait(now)
        is_broke = wait > 0 and not self._scheduler.in_process
        if is_broke and not self._scheduler.watches:
            self._later(now + wait)
            return
        may_act = now < self._act_until and not is_broke
        try:
            if may_act:
                self._act(now)
            unsettled = self._book.waits_for_poll()
            if unsettled or self._poll_wanted or now >= self._plan.due:
                self._poll(now)
            if unsettled and may_act:
                self._act(now)
        except SchedulerError as error:
            self._is_silent(str(error))
        else:
            is_short = self._is_short or is_broke
            waits_for_budget = now + self._budget.wait(now) if is_short else math.inf
            self._later(min(self._plan.due, waits_for_budget))

    def _act(self, now: float) -> None:
        """Everything that changes something, one call of each kind."""
        cancels = self._book.to_cancel(now)
        if cancels:
            self._spend()
            with self._timing("cancel"):
                self._scheduler.cancel(cancels)
            metrics.JOBS_CANCELLED.labels(self._title).inc(len(cancels))
            self._poll_wanted = True
        if self._forgotten:
            names, self._forgotten = list(self._forgotten), {}
            with self._timing("forget"):
                self._scheduler.forget(names)
        if self._priorities:
            priorities, self._priorities = self._priorities, {}
            self._spend()
            with self._timing("prioritise"):
                self._scheduler.prioritise(priorities)
        self._set_nodes()
        self._submit(now)

    def _submit(self, now: float) -> None:
        """The most urgent first, as many as the budget has commands for; the rest in a later turn."""
        # What is first in line is not held up by a turn that had much else to do.
        room = max(1, self._budget.room(now))
        self._is_short = False
        while specs := self._affordable(room):
            cost = self._cost(specs)
            room -= cost
            self._budget.spend(now, cost)
            try:
                with self._timing("submit"):
                    answers = self._scheduler.submit(specs)
            except SchedulerError as error:
                metrics.JOBS_SUBMITTED.labels(self._title, "unknown").inc(len(specs))
                self._report(self._book.submission_failed(specs, str(error), self._clock.elapsed()))
                raise
            outcomes = Counter(answer.outcome for answer in answers)
            for outcome, count in outcomes.items():
                metrics.JOBS_SUBMITTED.labels(self._title, outcome).inc(count)
            accepted = outcomes["accepted"]
            if accepted:
                log.info(
                    "submitted %d jobs",
                    accepted,
                    extra={
                        "action": "jobs_submitted",
                        "scheduler": self._title,
                        "jobs": accepted,
                    },
                )
            self._report(self._book.submitted(answers, self._clock.elapsed()))
            if any(answer.busy for answer in answers):
                break

    def _affordable(self, room: int) -> list[JobSpec]:
        """The jobs to submit next, which cost no more than `room` commands."""
        specs = self._book.to_submit(self._pace.submit_batch)
        counts = range(1, len(specs) + 1)
        count = bisect_right(counts, room, key=lambda count: self._cost(specs[:count]))
        # One that costs more than there ever is comes in its turn all the same.
        count = max(count, 1) if specs and room > 0 else count
        self._is_short = count < len(specs)
        self._book.not_yet(specs[count:])
        return specs[:count]

    def _cost(self, specs: list[JobSpec]) -> int:
        return 0 if self._scheduler.in_process else self._scheduler.cost(specs)

    def _set_nodes(self) -> None:
        """What was ordered for nodes; one that the scheduler does not know (any more) holds up nothing else."""
        orders, self._node_orders = self._node_orders, {}
        for node, order in orders.items():
            self._spend()
            try:
                with self._timing(type(order).__name__.lower()):
                    self._set_node(node, order)
            except SchedulerError as error:
                self._note_unset(node, order, str(error))
            self._poll_wanted = True

    def _set_node(self, node: str, order: Drain | Resume | Admit | Remove) -> None:
        match order:
            case Drain(_, reason, reply_to):
                self._scheduler.drain(node, reason)
                tell_if_alive(reply_to, NodeSet(node, True, self._clock.elapsed()))
            case Resume(_, reply_to):
                self._scheduler.resume(node)
                tell_if_alive(reply_to, NodeSet(node, False, self._clock.elapsed()))
            case Admit(newcomer, reply_to):
                tell_if_alive(reply_to, Admitted(self._admit(newcomer)))
            case Remove():
                self._scheduler.remove(node)
                self._admitted.discard(node)

    def _admit(self, newcomer: Newcomer) -> str:
        taken = newcomer.taken | self._admitted - {newcomer.host}
        host = self._scheduler.admit(replace(newcomer, taken=taken))
        self._admitted.add(host)
        return host

    def _note_unset(self, node: str, order: Drain | Resume | Admit | Remove, error: str) -> None:
        if isinstance(order, Admit):
            # Who asked says so.
            tell_if_alive(order.reply_to, NotAdmitted(error))
            return
        log.warning(
            "%s: %s",
            node,
            error,
            extra={"action": "node_order_failed", "node": node, "scheduler": self._title},
        )
        match order:
            case Remove():
                # Nobody else would remember it; the next turn tries again.
                self._node_orders.setdefault(node, order)
            case _:
                # Whoever asked looks at the next view and asks again if it is still wanted.
                pass

    def _poll(self, now: float) -> None:
        self._spend_on_look()
        self._poll_wanted = False
        asked_at = self._clock.wall()
        with self._timing("poll"):
            listing = self._scheduler.poll()
        result: PollResult[Ref] = self._book.polled(listing, now)
        try:
            if result.missing:
                self._spend()
                with self._timing("look_up"):
                    ends = self._scheduler.look_up(result.missing)
                result.reports += self._book.looked_up(result.missing, ends)
            nodes = self._nodes()
            # The room that is left goes out before the news that jobs have taken it: else the
            # subscriber would count that room as free once more.
            self._tell_subscribers(SchedulerView(nodes, tuple(result.strangers), now, self._name))
        finally:
            self._report(result.reports)
        metrics.LAST_POLL.labels("scheduler", self._title).set(asked_at)
        self._is_heard()

    def _nodes(self) -> tuple[Node, ...]:
        self._spend_on_look()
        with self._timing("nodes"):
            return tuple(self._scheduler.nodes())

    # Patience.

    def _is_heard(self) -> None:
        if not self._has_answered:
            self._has_answered = True
            self._log_version()
        elif self._silent_since is not None:
            log.warning(
                "the scheduler answers again",
                extra={"action": "scheduler_back", "scheduler": self._title},
            )
        self._silent_since = None
        self._plan = after_answer(self._plan, self._poll_pace, self._clock.elapsed())

    def _log_version(self) -> None:
        try:
            version = self._scheduler.version()
        except SchedulerError as error:
            version = f"of unknown version: {error}"
        log.info(
            "the scheduler answers: %s%s",
            self._title,
            f" ({version})" if version else "",
            extra={"action": "scheduler_found", "scheduler": self._title, "version": version},
        )

    def _is_silent(self, error: str) -> None:
        now = self._clock.elapsed()
        if self._silent_since is None:
            self._silent_since = now
        self._plan = after_error(self._plan, self._poll_pace, now)
        log.warning(
            "the scheduler does not answer: %s; asked again in %.0f s",
            error,
            self._plan.due - now,
            extra={"action": "scheduler_silent", "scheduler": self._title},
        )
        self._tell_subscribers(SchedulerSilent(error, self._silent_since, self._name))
        self._later(self._plan.due)

    def _later(self, at: float) -> None:
        self._timer.tell(Schedule(at, self.actor_ref, _Turn(), self.actor_ref.actor_urn))

    def _spend(self) -> None:
        self._budget.spend(self._clock.elapsed())

    def _spend_on_look(self) -> None:
        if not self._scheduler.watches:
            self._spend()

    @property
    def _title(self) -> str:
        """What the metrics call the scheduler."""
        return self._name or self._scheduler.name

    def _timing(self, call: str) -> AbstractContextManager[None]:
        """Around a call of the module."""

        def note(error: BaseException | None, seconds: float) -> None:
            outcome = "failed" if error else "ok"
            metrics.SCHEDULER_CALL_SECONDS.labels(self._title, call, outcome).observe(seconds)

        return metrics.timing(note)

    def _report(self, reports: Iterable[tuple[Ref, JobReport]]) -> None:
        for owner, report in reports:
            told = replace(report, scheduler=self._name) if self._name else report
            tell_if_alive(owner, told)


def _wake(ref: Ref) -> None:
    """The module has news; it may call from any thread, also while the actor stops."""
    tell_if_alive(ref, _Turn(poll=True))
