"""What is known of each job: the bookkeeping between those who want jobs and the scheduler.

Free of I/O and of clocks. The scheduler actor feeds it what was asked and what the scheduler answered,
and takes from it what to submit, cancel and look up, and the reports to send. The rules it keeps were
learnt by others (design page, section 6):

- a submission that raised may have been accepted: the name is doubtful until a complete poll that began
  afterwards shows it or does not;
- a job is gone only when it is missing from a complete poll that began after it was accepted, and then
  its exit is looked up before it is judged;
- an attempt is submitted only when no job of an earlier attempt is left.

Times are seconds of `Clock.elapsed`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import Generic, TypeVar

from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.base import Job, JobSpec, Poll, Submission

CANCEL_AGAIN_SECONDS = 60.0
"""A job that is still there this long after its cancellation is cancelled again."""

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class JobReport:
    """What is known of one job now, sent to its owner whenever that changes.

    `state` None means that there is certainly no such job. `trouble` says why a submission could not be
    made yet (its `since` is the reader's to fill in); `words` is the scheduler's own reason for a waiting job.
    """

    name: str
    state: JobState | None
    node: str = ""
    words: str = ""
    end: End | None = None
    trouble: Reason | None = None
    scheduler: str = ""
    """Which of several schedulers has it; empty where there is one, and as long as none has."""
    runner_id: str = ""
    """See `Job.runner_id`."""
    hopeless: str = ""
    """See `Job.hopeless`."""
    waits_for: Reason | None = None
    """See `Job.waits_for`."""


class _Stage(Enum):
    PENDING = "to be submitted"
    SUBMITTED = "handed to the scheduler just now"
    DOUBTFUL = "submitted, and the answer was lost"
    ACCEPTED = "known to the scheduler"
    SOUGHT = "adopted; perhaps known to the scheduler"


@dataclass(slots=True)
class _Entry(Generic[Owner]):
    owner: Owner
    stage: _Stage
    spec: JobSpec | None = None
    earlier: tuple[str, ...] = ()
    since: float = 0.0
    """When the entry entered its stage."""
    cancelled_at: float | None = None
    last: JobReport | None = None


@dataclass(slots=True)
class PollResult(Generic[Owner]):
    """What a poll told: reports for owners, names whose exit to look up, jobs nobody here asked for."""

    reports: list[tuple[Owner, JobReport]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    strangers: list[Job] = field(default_factory=list)


class JobBook(Generic[Owner]):
    """Every job somebody here cares about, by name. `Owner` is whom to tell; it is never looked into."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[Owner]] = {}
        self._pending: list[tuple[int, int, str]] = []
        self._order = count()
        self._parked: list[str] = []
        """Those that no node could hold when the nodes were last looked at."""
        self._cancels: dict[str, None] = {}
        self._unsettled: set[str] = set()
        self._live: frozenset[str] = frozenset()
        self._complete_began = float("-inf")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    # What owners ask.

    def want(
        self, spec: JobSpec, owner: Owner, earlier: tuple[str, ...], now: float
    ) -> list[tuple[Owner, JobReport]]:
        """`spec` is to be submitted once no job named in `earlier` is left.

        A job that is known already is not submitted again: its owner is told what is known.
        """
        entry = self._entries.get(spec.name)
        if entry is not None and entry.stage is not _Stage.PENDING and not _is_absent(entry):
            entry.owner = owner
            return [(owner, entry.last)] if entry.last is not None else []
        self._entries[spec.name] = _Entry(owner, _Stage.PENDING, spec, earlier, now)
        self._settle(spec.name, not earlier)
        heapq.heappush(self._pending, (-spec.priority, next(self._order), spec.name))
        for name in earlier:
            if name in self._live:
                self._cancels[name] = None
        if not earlier:
            return []
        trouble = Reason(
            ReasonToken.SUBMITTING,
            "it is submitted when no job of the attempt before is left in the scheduler",
        )
        report = JobReport(spec.name, JobState.UNKNOWN, trouble=trouble)
        return self._tell(spec.name, self._entries[spec.name], report)

    def seek(self, name: str, owner: Owner, now: float) -> list[tuple[Owner, JobReport]]:
        """Find out whether the job exists; the answer comes with the next complete poll."""
        entry = self._entries.get(name)
        if entry is None:
            self._entries[name] = _Entry(owner, _Stage.SOUGHT, since=now)
            self._settle(name, False)
            return []
        entry.owner = owner
        return [(owner, entry.last)] if entry.last is not None else []

    def cancel(self, name: str) -> list[tuple[Owner, JobReport]]:
        """The job has to end. One that was not submitted yet ends at once, unseen by the scheduler."""
        entry = self._entries.get(name)
        if entry is None:
            return []
        if entry.stage is _Stage.PENDING:
            return self._tell(name, entry, JobReport(name, None))
        if entry.last is None or entry.last.state is not JobState.ENDED:
            self._cancels[name] = None
        return []

    def cancel_stranger(self, name: str) -> None:
        """Cancel a job of this cluster that nobody here asked for."""
        self._cancels[name] = None

    def forget(self, names: Iterable[str]) -> None:
        """Nobody asks about these any more."""
        for name in names:
            # A stranger that is to be cancelled stays so: its name was never an entry.
            if self._entries.pop(name, None) is not None:
                self._cancels.pop(name, None)
                self._unsettled.discard(name)

    def reprioritise(self, name: str, priority: int) -> bool:
        """Note a new priority; True when the scheduler has to be told because it has the job."""
        entry = self._entries.get(name)
        if entry is None or entry.stage is not _Stage.PENDING or entry.spec is None:
            return entry is not None and entry.stage is _Stage.ACCEPTED
        entry.spec = replace(entry.spec, priority=priority)
        heapq.heappush(self._pending, (-priority, next(self._order), name))
        return False

    # What to ask the scheduler.

    def to_submit(self, limit: int) -> list[JobSpec]:
        """Up to `limit` specs, most urgent first, none of whose earlier attempts may still have a job."""
        specs: list[JobSpec] = []
        later: list[tuple[int, int, str]] = []
        while self._pending and len(specs) < limit:
            item = heapq.heappop(self._pending)
            entry = self._entries.get(item[2])
            if entry is None or entry.stage is not _Stage.PENDING or entry.spec is None:
                continue
            if entry.last is not None and entry.last.state is None:
                continue
            if entry.earlier and not self._are_gone(entry.earlier, entry.since):
                later.append(item)
                continue
            entry.earlier = ()
            entry.stage = _Stage.SUBMITTED
            self._settle(entry.spec.name, True)
            specs.append(entry.spec)
        for item in later:
            heapq.heappush(self._pending, item)
        return specs

    def not_yet(self, specs: Iterable[JobSpec]) -> None:
        """Of those that `to_submit` gave, these were not handed to the scheduler."""
        for spec in specs:
            entry = self._entries.get(spec.name)
            if entry is not None:
                entry.stage = _Stage.PENDING
                heapq.heappush(self._pending, (-spec.priority, next(self._order), spec.name))

    def waits_for_poll(self) -> bool:
        """Whether something cannot go on before a complete poll."""
        return bool(self._unsettled)

    def to_cancel(self, now: float) -> list[str]:
        """Names to cancel now."""
        names = []
        for name in self._cancels:
            entry = self._entries.get(name)
            if entry is None:
                names.append(name)
            elif entry.cancelled_at is None or now - entry.cancelled_at >= CANCEL_AGAIN_SECONDS:
                entry.cancelled_at = now
                names.append(name)
        for name in names:
            if name not in self._entries:
                del self._cancels[name]
        return names

    # What the scheduler answered.

    def submitted(
        self, answers: Sequence[Submission], ended: float
    ) -> list[tuple[Owner, JobReport]]:
        """The scheduler answered for each of a batch, at `ended`."""
        reports: list[tuple[Owner, JobReport]] = []
        for answer in answers:
            entry = self._entries.get(answer.name)
            if entry is None:
                continue
            if answer.busy:
                reports += self._put_back(answer.name, entry, _limit(answer.busy))
            elif answer.unplaced:
                entry.stage = _Stage.PENDING
                self._parked.append(answer.name)
                trouble = _unplaced(answer.unplaced)
                report = JobReport(answer.name, JobState.UNKNOWN, trouble=trouble)
                reports += self._tell(answer.name, entry, report)
            elif answer.refused:
                end = End(EndKind.SCHEDULER_ERROR, detail=f"refused: {answer.refused}")
                entry.stage = _Stage.ACCEPTED
                reports += self._tell(
                    answer.name, entry, JobReport(answer.name, JobState.ENDED, end=end)
                )
            else:
                entry.stage, entry.since, entry.spec = _Stage.ACCEPTED, ended, None
                reports += self._tell(answer.name, entry, JobReport(answer.name, JobState.WAITING))
        return reports

    def submission_failed(
        self, specs: Sequence[JobSpec], error: str, ended: float
    ) -> list[tuple[Owner, JobReport]]:
        """The call raised: each of `specs` may or may not have been accepted."""
        reports: list[tuple[Owner, JobReport]] = []
        trouble = unanswered(error)
        for spec in specs:
            entry = self._entries.get(spec.name)
            if entry is not None:
                entry.stage, entry.since = _Stage.DOUBTFUL, ended
                self._settle(spec.name, False)
                report = JobReport(spec.name, JobState.UNKNOWN, trouble=trouble)
                reports += self._tell(spec.name, entry, report)
        return reports

    def polled(self, poll: Poll, began: float) -> PollResult[Owner]:
        """A listing that began at `began` came back."""
        result: PollResult[Owner] = PollResult()
        self._unpark()
        seen = set()
        live = []
        for job in poll.jobs:
            seen.add(job.name)
            if job.state is not JobState.ENDED:
                live.append(job.name)
            entry = self._entries.get(job.name)
            if entry is None:
                result.strangers.append(job)
            elif job.state is not JobState.UNKNOWN:
                entry.stage, entry.spec = _Stage.ACCEPTED, None
                self._settle(job.name, True)
                result.reports += self._tell(job.name, entry, _report(job))
        if poll.complete:
            self._live = frozenset(live)
            self._complete_began = began
            for name, entry in self._entries.items():
                if name not in seen and entry.since <= began:
                    self._missing(name, entry, result)
            for name in [n for n in self._cancels if n in seen and n not in self._live]:
                del self._cancels[name]
        return result

    def looked_up(
        self, names: Iterable[str], ends: Mapping[str, End]
    ) -> list[tuple[Owner, JobReport]]:
        """The exits of jobs that left the listing, as far as anything is known."""
        reports: list[tuple[Owner, JobReport]] = []
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                continue
            end = ends.get(name)
            if end is None and entry.stage is _Stage.SOUGHT:
                reports += self._tell(name, entry, JobReport(name, None))
            else:
                end = end or End(EndKind.VANISHED)
                reports += self._tell(name, entry, JobReport(name, JobState.ENDED, end=end))
        return reports

    # Inside.

    def _missing(self, name: str, entry: _Entry[Owner], result: PollResult[Owner]) -> None:
        if entry.last is not None and entry.last.state in (JobState.ENDED, None):
            return
        if entry.stage in (_Stage.ACCEPTED, _Stage.SOUGHT):
            result.missing.append(name)
        elif entry.stage is _Stage.DOUBTFUL and entry.spec is not None:
            self._settle(name, True)
            if name in self._cancels:
                del self._cancels[name]
                entry.stage = _Stage.PENDING
                result.reports += self._tell(name, entry, JobReport(name, None))
            else:
                entry.stage = _Stage.PENDING
                heapq.heappush(self._pending, (-entry.spec.priority, next(self._order), name))

    def _unpark(self) -> None:
        """The nodes are looked at anew: what none could hold may find a place now."""
        parked, self._parked = self._parked, []
        for name in parked:
            entry = self._entries.get(name)
            if entry is not None and entry.stage is _Stage.PENDING and entry.spec is not None:
                heapq.heappush(self._pending, (-entry.spec.priority, next(self._order), name))

    def _put_back(
        self, name: str, entry: _Entry[Owner], trouble: Reason
    ) -> list[tuple[Owner, JobReport]]:
        entry.stage = _Stage.PENDING
        if entry.spec is not None:
            heapq.heappush(self._pending, (-entry.spec.priority, next(self._order), name))
        return self._tell(name, entry, JobReport(name, JobState.UNKNOWN, trouble=trouble))

    def _settle(self, name: str, settled: bool) -> None:
        """Keep count of those that only a complete poll can help."""
        if settled:
            self._unsettled.discard(name)
        else:
            self._unsettled.add(name)

    def _are_gone(self, names: tuple[str, ...], since: float) -> bool:
        return self._complete_began >= since and not any(name in self._live for name in names)

    def _tell(
        self, name: str, entry: _Entry[Owner], report: JobReport
    ) -> list[tuple[Owner, JobReport]]:
        if report.state is JobState.ENDED or report.state is None:
            self._cancels.pop(name, None)
            self._settle(name, True)
        if report == entry.last:
            return []
        entry.last = report
        return [(entry.owner, report)]


def _is_absent(entry: _Entry[Owner]) -> bool:
    return entry.last is not None and entry.last.state is None


def _report(job: Job) -> JobReport:
    end = job.end
    if job.state is JobState.ENDED and end is None:
        end = End(EndKind.VANISHED, detail="the scheduler does not say how it ended")
    return JobReport(
        job.name,
        job.state,
        job.node,
        job.reason,
        end,
        runner_id=job.runner_id,
        hopeless=job.hopeless,
        waits_for=job.waits_for,
    )


def unanswered(error: str) -> Reason:
    """The scheduler does not answer; what runs there runs on."""
    return Reason(ReasonToken.SCHEDULER_DOWN, f"the scheduler does not answer: {error}")


def _limit(words: str) -> Reason:
    sentence = f"a limit of the scheduler is reached: {words}"
    return Reason(ReasonToken.SCHEDULER_LIMIT, sentence, {"word": words})


def _unplaced(words: str) -> Reason:
    """Nobody has its job yet: it is handed over again when the nodes have been looked at anew."""
    return Reason(
        ReasonToken.SCHEDULER_WAIT,
        words,
        {"word": words},
        "it is submitted when a node that could hold it joins, or is not down or drained any more",
    )
