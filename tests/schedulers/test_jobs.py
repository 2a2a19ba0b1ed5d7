"""What the job book concludes, and what it refuses to conclude."""

import pytest

from nodemanager.model import JobState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken
from nodemanager.schedulers.base import Job, JobSpec, Poll, Submission
from nodemanager.schedulers.jobs import CANCEL_AGAIN_SECONDS, JobBook, JobReport

NAME = "zzzzz-dz642-000000000000001"
OTHER = "zzzzz-dz642-000000000000002"


def spec(name: str = NAME, priority: int = 0) -> JobSpec:
    return JobSpec(name, ("true",), Resources(1, 1), priority=priority)


def running(name: str = NAME) -> Job:
    return Job(name, JobState.RUNNING, "1", "node1")


@pytest.fixture
def book() -> JobBook[str]:
    return JobBook()


def accepted(book: JobBook[str], name: str = NAME, at: float = 1.0) -> None:
    book.want(spec(name), "owner", (), at)
    assert [s.name for s in book.to_submit(10)] == [name]
    book.submitted([Submission(name, job_id="1")], at)


def only(reports: list[tuple[str, JobReport]]) -> JobReport:
    [(owner, report)] = reports
    assert owner == "owner"
    return report


def test_the_most_urgent_are_submitted_first(book: JobBook[str]) -> None:
    book.want(spec(NAME, 1), "owner", (), 0)
    book.want(spec(OTHER, 2), "owner", (), 0)
    assert [s.name for s in book.to_submit(1)] == [OTHER]
    assert [s.name for s in book.to_submit(9)] == [NAME]
    assert book.to_submit(9) == []


def test_a_new_priority_counts_before_submission(book: JobBook[str]) -> None:
    book.want(spec(NAME, 1), "owner", (), 0)
    book.want(spec(OTHER, 2), "owner", (), 0)
    assert book.reprioritise(NAME, 3) is False
    specs = book.to_submit(9)
    assert [(s.name, s.priority) for s in specs] == [(NAME, 3), (OTHER, 2)]


def test_a_known_job_is_not_submitted_again(book: JobBook[str]) -> None:
    accepted(book)
    report = only(book.want(spec(), "owner", (), 2.0))
    assert report.state is JobState.WAITING
    assert book.to_submit(9) == []


def test_reports_come_only_when_something_changed(book: JobBook[str]) -> None:
    accepted(book)
    first = book.polled(Poll((running(),)), 2.0).reports
    assert only(first).node == "node1"
    assert book.polled(Poll((running(),)), 3.0).reports == []


class TestGone:
    def test_missing_from_a_complete_poll_is_looked_up(self, book: JobBook[str]) -> None:
        accepted(book, at=1.0)
        assert book.polled(Poll(()), 2.0).missing == [NAME]
        report = only(book.looked_up([NAME], {NAME: End(EndKind.EXITED, 3)}))
        assert report.end == End(EndKind.EXITED, 3)

    def test_without_a_trace_it_vanished(self, book: JobBook[str]) -> None:
        accepted(book, at=1.0)
        book.polled(Poll(()), 2.0)
        end = only(book.looked_up([NAME], {})).end
        assert end is not None
        assert end.kind is EndKind.VANISHED

    def test_an_incomplete_poll_proves_nothing(self, book: JobBook[str]) -> None:
        accepted(book, at=1.0)
        assert book.polled(Poll((), complete=False), 2.0).missing == []

    def test_a_poll_that_began_before_the_acceptance_proves_nothing(
        self, book: JobBook[str]
    ) -> None:
        accepted(book, at=2.0)
        assert book.polled(Poll(()), 1.0).missing == []

    def test_a_state_without_translation_proves_nothing(self, book: JobBook[str]) -> None:
        accepted(book, at=1.0)
        result = book.polled(Poll((Job(NAME, JobState.UNKNOWN),)), 2.0)
        assert (result.reports, result.missing) == ([], [])


class TestDoubt:
    def failed(self, book: JobBook[str]) -> None:
        book.want(spec(), "owner", (), 0.0)
        specs = book.to_submit(9)
        report = only(book.submission_failed(specs, "timed out", 1.0))
        assert report.trouble is not None
        assert report.trouble.token is ReasonToken.SCHEDULER_DOWN
        assert book.to_submit(9) == []
        assert book.waits_for_poll()

    def test_accepted_after_all(self, book: JobBook[str]) -> None:
        self.failed(book)
        assert only(book.polled(Poll((running(),)), 2.0).reports).state is JobState.RUNNING
        assert book.to_submit(9) == []
        assert not book.waits_for_poll()

    def test_not_accepted(self, book: JobBook[str]) -> None:
        self.failed(book)
        book.polled(Poll(()), 2.0)
        assert [s.name for s in book.to_submit(9)] == [NAME]

    @pytest.mark.parametrize("poll", [(Poll((), complete=False), 2.0), (Poll(()), 0.5)])
    def test_still_in_doubt(self, book: JobBook[str], poll: tuple[Poll, float]) -> None:
        self.failed(book)
        book.polled(*poll)
        assert book.to_submit(9) == []

    def test_cancelled_meanwhile_it_is_not_submitted_again(self, book: JobBook[str]) -> None:
        self.failed(book)
        book.cancel(NAME)
        report = only(book.polled(Poll(()), 2.0).reports)
        assert report.state is None
        assert book.to_submit(9) == []


class TestSeek:
    def test_found(self, book: JobBook[str]) -> None:
        assert book.seek(NAME, "owner", 0.0) == []
        assert only(book.polled(Poll((running(),)), 1.0).reports).state is JobState.RUNNING

    def test_ended_and_left_the_listing(self, book: JobBook[str]) -> None:
        book.seek(NAME, "owner", 0.0)
        assert book.polled(Poll(()), 1.0).missing == [NAME]
        report = only(book.looked_up([NAME], {NAME: End(EndKind.NODE_LOST)}))
        assert report.state is JobState.ENDED

    def test_never_there(self, book: JobBook[str]) -> None:
        book.seek(NAME, "owner", 0.0)
        book.polled(Poll(()), 1.0)
        assert only(book.looked_up([NAME], {})).state is None
        book.want(spec(), "owner", (), 2.0)
        assert [s.name for s in book.to_submit(9)] == [NAME]


class TestEarlierAttempts:
    def test_waits_until_a_complete_poll_shows_none_left(self, book: JobBook[str]) -> None:
        book.want(spec(), "owner", (OTHER,), 0.0)
        assert book.to_submit(9) == []
        book.polled(Poll((running(OTHER),)), 1.0)
        assert book.to_submit(9) == []
        book.polled(Poll(()), 2.0)
        assert [s.name for s in book.to_submit(9)] == [NAME]

    def test_an_earlier_job_is_cancelled(self, book: JobBook[str]) -> None:
        book.polled(Poll((running(OTHER),)), 0.0)
        book.want(spec(), "owner", (OTHER,), 1.0)
        assert book.to_cancel(1.0) == [OTHER]


class TestCancel:
    def test_before_it_was_submitted_nothing_reaches_the_scheduler(
        self, book: JobBook[str]
    ) -> None:
        book.want(spec(), "owner", (), 0.0)
        assert only(book.cancel(NAME)).state is None
        assert (book.to_submit(9), book.to_cancel(0.0)) == ([], [])

    def test_is_asked_once_and_again_only_after_a_while(self, book: JobBook[str]) -> None:
        accepted(book)
        book.cancel(NAME)
        assert book.to_cancel(2.0) == [NAME]
        assert book.to_cancel(3.0) == []
        assert book.to_cancel(2.0 + CANCEL_AGAIN_SECONDS) == [NAME]

    def test_an_ended_job_is_left_alone(self, book: JobBook[str]) -> None:
        accepted(book)
        book.polled(Poll((Job(NAME, JobState.ENDED, end=End(EndKind.EXITED)),)), 2.0)
        book.cancel(NAME)
        assert book.to_cancel(3.0) == []


def test_busy_keeps_the_job_and_says_why(book: JobBook[str]) -> None:
    book.want(spec(), "owner", (), 0.0)
    book.to_submit(9)
    report = only(book.submitted([Submission(NAME, busy="MaxJobCount")], 1.0))
    assert report.trouble is not None
    assert report.trouble.token is ReasonToken.SCHEDULER_LIMIT
    assert "MaxJobCount" in report.trouble.sentence
    assert [s.name for s in book.to_submit(9)] == [NAME]


def test_refused_for_good_is_an_end(book: JobBook[str]) -> None:
    book.want(spec(), "owner", (), 0.0)
    book.to_submit(9)
    report = only(book.submitted([Submission(NAME, refused="too large")], 1.0))
    assert report.end is not None
    assert "too large" in report.end.detail


def test_jobs_nobody_asked_for_are_strangers(book: JobBook[str]) -> None:
    assert book.polled(Poll((running(OTHER),)), 1.0).strangers == [running(OTHER)]


def test_a_stranger_is_cancelled_even_if_it_is_forgotten_in_the_same_breath(
    book: JobBook[str],
) -> None:
    book.cancel_stranger(OTHER)
    book.forget([OTHER])
    assert book.to_cancel(1.0) == [OTHER]
    assert book.to_cancel(2.0) == []


def test_a_forgotten_job_is_a_stranger_again(book: JobBook[str]) -> None:
    accepted(book)
    book.forget([NAME])
    assert NAME not in book
    assert book.polled(Poll((running(),)), 2.0).strangers == [running()]


class TestUnplaced:
    def test_it_waits_for_another_look_at_the_nodes(self, book: JobBook[str]) -> None:
        book.want(spec(NAME, 9), "owner", (), 0)
        book.want(spec(OTHER, 1), "owner", (), 0)
        assert [s.name for s in book.to_submit(1)] == [NAME]
        report = only(book.submitted([Submission(NAME, unplaced="no node is large enough")], 1))
        assert report.state is JobState.UNKNOWN
        assert report.trouble is not None
        assert report.trouble.token is ReasonToken.SCHEDULER_WAIT
        assert [s.name for s in book.to_submit(9)] == [OTHER], "it holds up nobody"
        assert not book.waits_for_poll()
        book.polled(Poll(()), 2.0)
        assert [s.name for s in book.to_submit(9)] == [NAME]

    def test_it_can_be_cancelled_and_forgotten_meanwhile(self, book: JobBook[str]) -> None:
        book.want(spec(), "owner", (), 0)
        book.submitted([Submission(s.name, unplaced="none") for s in book.to_submit(9)], 1)
        assert only(book.cancel(NAME)).state is None
        book.forget([NAME])
        book.polled(Poll(()), 2.0)
        assert book.to_submit(9) == []

    def test_a_new_priority_reaches_it(self, book: JobBook[str]) -> None:
        book.want(spec(NAME, 1), "owner", (), 0)
        book.submitted([Submission(s.name, unplaced="none") for s in book.to_submit(9)], 1)
        book.reprioritise(NAME, 5)
        book.polled(Poll(()), 2.0)
        assert [(s.name, s.priority) for s in book.to_submit(9)] == [(NAME, 5)]
