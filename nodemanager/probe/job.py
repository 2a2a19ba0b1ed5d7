"""The one job of a probe, from its submission until nothing of it is left at the scheduler.

The same bookkeeping as the daemon's (`JobBook`) decides what silence and missing jobs mean; there is no
actor, because nobody else is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nodemanager.clock import Clock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End
from nodemanager.schedulers.base import JobSpec, Scheduler
from nodemanager.schedulers.jobs import JobBook, JobReport


class ProbeJob:
    """What is known of the job; `turn` does one round of what the scheduler actor does.

    `say` is told in words whenever something has changed.
    """

    def __init__(
        self, scheduler: Scheduler, spec: JobSpec, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self.name = spec.name
        self.node = ""
        """Where it runs or ran, as soon as that is known."""
        self.standing = "it was not submitted yet"
        """How it stands, in words."""
        self._scheduler = scheduler
        self._clock = clock
        self._say = say
        self._last: JobReport | None = None
        self._book: JobBook[None] = JobBook()
        self._note(self._book.want(spec, None, (), clock.elapsed()))

    @property
    def end(self) -> End | None:
        """How it ended, once it has."""
        return None if self._last is None else self._last.end

    @property
    def is_over(self) -> bool:
        """It has ended, or there is certainly no such job."""
        return self._last is not None and self._last.state in (JobState.ENDED, None)

    def turn(self) -> None:
        """Submit or cancel it if that is due, and see how it is. A scheduler that does not answer is no end."""
        try:
            self._turn()
        except SchedulerError as error:
            self._stands(f"the scheduler does not answer: {error}")

    def cancel(self) -> None:
        """It has to end; the turns that follow see to it."""
        self._note(self._book.cancel(self.name))

    def forget(self) -> None:
        """Nothing about the ended job is needed any more; raises `SchedulerError`."""
        self._book.forget((self.name,))
        self._scheduler.forget((self.name,))

    def _turn(self) -> None:
        book = self._book
        if cancels := book.to_cancel(self._clock.elapsed()):
            self._scheduler.cancel(cancels)
        if specs := book.to_submit(1):
            self._submit(specs)
        began = self._clock.elapsed()
        result = book.polled(self._scheduler.poll(), began)
        self._note(result.reports)
        if result.missing:
            ends = self._scheduler.look_up(result.missing)
            self._note(book.looked_up(result.missing, ends))

    def _submit(self, specs: list[JobSpec]) -> None:
        try:
            answers = self._scheduler.submit(specs)
        except SchedulerError as error:
            failed = self._book.submission_failed(specs, str(error), self._clock.elapsed())
            self._note(failed)
            raise
        for answer in answers:
            if answer.job_id:
                self._stands(f"accepted by {self._scheduler.name} as job {answer.job_id}")
        self._note(self._book.submitted(answers, self._clock.elapsed()))

    def _note(self, reports: Iterable[tuple[None, JobReport]]) -> None:
        for _, report in reports:
            self._last = report
            self.node = report.node or self.node
            if words := _words(report):
                self._stands(words)

    def _stands(self, words: str) -> None:
        if words != self.standing:
            self.standing = words
            self._say(words)


def _words(report: JobReport) -> str:
    """Empty where there is nothing new to say."""
    if report.trouble is not None:
        return report.trouble.sentence
    where = f" on {report.node}" if report.node else ""
    match report.state:
        case JobState.WAITING:
            return f"it waits: {report.words}" if report.words else ""
        case JobState.RUNNING:
            return f"it runs{where}"
        case JobState.ENDED:
            return f"it has ended{where}"
        case JobState.UNKNOWN:
            return f"the scheduler says {report.words or 'a word that is not known'}"
        case _:
            return ""
