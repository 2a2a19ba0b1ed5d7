"""What is read from Slurm's commands: by example where Slurm has surprises, by property everywhere else."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, NodeState
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Knob, ReasonToken
from nodemanager.schedulers.slurm import accounting, listing
from nodemanager.schedulers.slurm.listing import Row, end_of
from nodemanager.schedulers.slurm.nodes import parse_nodes
from nodemanager.schedulers.slurm.pending import REASONS
from nodemanager.schedulers.slurm.words import STATES, Complaint, Reader, sort_out

OURS = "zzzzz-dz642-000000000000001"

anything = st.text(st.characters(exclude_categories=["Cs"]))
one_line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]))
numbers = st.integers(0, 10**9)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A job of ours, or a task."""
    number, array = draw(numbers), draw(st.one_of(st.none(), numbers))
    task = draw(numbers) if array is not None else 0
    minutes = draw(st.integers(0, 10**6))
    return Row(
        job_id=str(number) if array is None else f"{array}_{task}",
        array_id="" if array is None else str(array),
        task=task,
        state=draw(st.sampled_from(sorted(STATES))),
        exit_status=draw(st.integers(0, 0xFFFF)),
        node=draw(st.sampled_from(["", "n1", "cloud017"])),
        limit_seconds=60 * minutes,
        ram_bytes=draw(st.integers(1, 10**6)) << 20,
        reason=draw(one_line),
        name=OURS,
    )


def printed(row: Row) -> str:
    """As squeue prints it."""
    days, minutes = divmod(row.limit_seconds // 60, 24 * 60)
    limit = f"{days}-{minutes // 60:02}:{minutes % 60:02}:00" if row.limit_seconds else "UNLIMITED"
    fields = (
        row.array_id or row.job_id,
        str(row.task) if row.array_id else "N/A",
        "77" if row.array_id else row.job_id,
        row.state,
        str(row.exit_status),
        row.node,
        limit,
        f"{row.ram_bytes >> 20}M",
        row.reason,
        row.name,
    )
    return "".join(f"{field}|" for field in fields)


def listed(*lines: str) -> listing.Listing:
    return listing.parse("\n".join([listing.HEADER, *lines, ""]), "zzzzz-")


class TestListing:
    @given(st.lists(rows(), max_size=5))
    def test_jobs_come_back_as_they_were_printed(self, jobs: list[Row]) -> None:
        assert listed(*map(printed, jobs)) == listing.Listing(tuple(jobs))

    @given(rows(), st.text(st.sampled_from("|\nab z-"), max_size=20))
    def test_a_name_of_others_hides_no_job_of_ours(self, job: Row, name: str) -> None:
        """Whatever is in it, ours is read, or the listing is known not to be whole."""
        theirs = f"5|N/A|5|RUNNING|0|n1|UNLIMITED|1M|None|{name}|"
        result = listed(theirs, printed(job))
        assert job in result.rows or result.strange

    @given(anything)
    def test_an_answer_of_something_else_is_no_empty_list(self, text: str) -> None:
        with pytest.raises(SchedulerError):
            listing.parse(text, "zzzzz-")

    @given(anything)
    def test_nothing_is_passed_over_in_silence(self, text: str) -> None:
        result = listing.parse(f"{listing.HEADER}\n{text}", "")
        assert bool(result.rows or result.strange) is bool(text.strip("\n"))

    @pytest.mark.parametrize("task", ["N/A", "3"])
    def test_a_line_of_ours_that_makes_no_sense_is_noted(self, task: str) -> None:
        line = f"5|{task}|5|RUNNING|what|n1|UNLIMITED|1M|None|{OURS}|"
        assert listed(line) == listing.Listing((), (line,))

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("3:00", 180), ("1:02:03", 3723), ("2-00:00:01", 172801), ("UNLIMITED", 0)],
    )
    def test_times_are_seconds(self, text: str, seconds: int) -> None:
        assert listing.parse_duration(text) == seconds

    @pytest.mark.parametrize(
        ("text", "amount"),
        [("10M", 10 << 20), ("10", 10 << 20), ("1.50G", 3 << 29), ("4Gn", 4 << 30), ("N/A", 0)],
    )
    def test_memory_is_bytes(self, text: str, amount: int) -> None:
        assert listing.parse_memory(text) == amount


class TestEnds:
    @given(rows(), st.booleans())
    def test_a_job_has_an_end_exactly_when_its_state_is_one(
        self, job: Row, cancelled: bool
    ) -> None:
        state = Reader().state(job.state).state
        end = end_of(job, Reader(), cancelled=cancelled)
        assert (end is not None) is (state is JobState.ENDED)

    @given(rows(), st.text(min_size=1).filter(lambda word: not set(word) & set(" ,+")))
    def test_nothing_is_concluded_from_a_word_that_is_not_known(self, job: Row, word: str) -> None:
        reader = Reader()
        if word not in STATES:
            assert reader.state(word).state is JobState.UNKNOWN

    @given(st.integers(1, 255))
    def test_an_exit_status_is_the_jobs_own(self, code: int) -> None:
        assert self.failed(code << 8, "NonZeroExitCode") == End(EndKind.EXITED, code)

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
    def test_a_signal_is_one_whatever_slurm_calls_it(self, number: int) -> None:
        assert self.failed(number, "JobLaunchFailure") == End(EndKind.SIGNALLED, number)
        assert self.failed(number | 0x80, "None") == End(EndKind.SIGNALLED, number)

    def test_a_signal_that_does_not_exist_is_slurms_own_failure(self) -> None:
        end = self.failed(53, "JobLaunchFailure")
        assert end is not None
        assert (end.kind, end.detail) == (
            EndKind.SCHEDULER_ERROR,
            "Slurm: FAILED, JobLaunchFailure on n1",
        )

    @pytest.mark.parametrize("state", ["CANCELLED", "CANCELLED by 0"])
    @pytest.mark.parametrize(
        ("cancelled", "kind"), [(True, EndKind.CANCELLED), (False, EndKind.OPERATOR_DELETED)]
    )
    def test_who_cancelled_a_job_is_ours_to_know(
        self, state: str, cancelled: bool, kind: EndKind
    ) -> None:
        row = Row("5", "", 0, state, 15, "n1", 0, 1, "None", OURS)
        end = end_of(row, Reader(), cancelled=cancelled)
        assert end is not None
        assert end.kind is kind

    def failed(self, status: int, reason: str) -> End | None:
        row = Row("5", "", 0, "FAILED", status, "n1", 0, 1, reason, OURS)
        return end_of(row, Reader(), cancelled=True)


class TestReasons:
    @given(one_line)
    def test_every_reason_is_shown(self, word: str) -> None:
        assert word == "None" or word.partition(",")[0] in Reader().reason(word)

    @pytest.mark.parametrize("word", sorted(REASONS))
    def test_what_is_known_is_explained(self, word: str) -> None:
        assert REASONS[word].sentence in Reader().reason(word)
        reason = Reader().waits_for(word)
        assert reason is not None
        assert reason.sentence == f"its job waits in the queue: {Reader().reason(word)}"
        assert reason.token is REASONS[word].token
        assert reason.facts == {"word": word}
        assert reason.advice or reason.knob is Knob.NOBODY

    def test_which_nodes_are_meant_is_told(self) -> None:
        words = Reader().reason("ReqNodeNotAvail, UnavailableNodes:n[1-2]")
        assert words.startswith("ReqNodeNotAvail: a node")
        assert words.endswith("(UnavailableNodes:n[1-2])")
        reason = Reader().waits_for("ReqNodeNotAvail, UnavailableNodes:n[1-2]")
        assert reason is not None
        assert reason.facts == {"word": "ReqNodeNotAvail", "details": "UnavailableNodes:n[1-2]"}
        assert "sinfo -R" in reason.advice

    @pytest.mark.parametrize(
        ("word", "parts"),
        [
            ("QOSGrpCPUMinutesLimit", ("quality of service", "together", "CPU minutes")),
            ("QOSMaxJobsPerUserLimit", ("quality of service", "Jobs per user")),
            ("AssocGrpMemRunMinutes", ("the account", "together", "Mem minutes")),
            ("AssocMaxSubmitJobLimit", ("the account", "SubmitJob")),
            ("MaxGRESPerAccount", ("GRES per account",)),
            ("QOSMinCpuNotSatisfied", ("less than the quality of service demands", "Cpu")),
        ],
    )
    def test_a_limit_of_the_accounting_is_taken_apart(
        self, word: str, parts: tuple[str, ...]
    ) -> None:
        sentence = Reader().reason(word)
        for part in parts:
            assert part in sentence

    @pytest.mark.parametrize(
        ("word", "token", "knob"),
        [
            ("QOSGrpCPUMinutesLimit", ReasonToken.SCHEDULER_LIMIT, Knob.SITE),
            ("QOSMaxJobsPerUserLimit", ReasonToken.SCHEDULER_LIMIT, Knob.SITE),
            ("QOSMaxCpuPerJobLimit", ReasonToken.SCHEDULER_REFUSES, Knob.OWNER),
            ("QOSMinCpuNotSatisfied", ReasonToken.SCHEDULER_REFUSES, Knob.OWNER),
        ],
    )
    def test_a_limit_that_jobs_reach_together_is_another_than_one_that_a_job_is_above(
        self, word: str, token: ReasonToken, knob: Knob
    ) -> None:
        reason = Reader().waits_for(word)
        assert reason is not None
        assert (reason.token, reason.knob) == (token, knob)

    def test_of_an_unknown_word_nothing_is_made(self) -> None:
        assert Reader().waits_for("NeverHeardOf") is None

    def test_not_all_words_are_kept_for_ever(self) -> None:
        reader = Reader()
        for n in range(3000):
            assert reader.waits_for(f"ReqNodeNotAvail, UnavailableNodes:n{n}") is not None
        assert len(reader._reasons) <= 1000

    def test_an_unknown_word_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        reader = Reader()
        assert reader.reason("NeverHeardOf") == reader.reason("NeverHeardOf") == "NeverHeardOf"
        assert [record.args for record in caplog.records] == [("reason 'NeverHeardOf'",)]


class TestComplaints:
    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ("Unable to contact slurm controller (connect failure)", Complaint.SILENT),
            ("Slurm temporarily unable to accept job, sleeping and retrying", Complaint.BUSY),
            ("Job violates accounting/QOS policy (job submit limit, ...)", Complaint.BUSY),
            ("Invalid job id specified for job 999", Complaint.NO_SUCH_JOB),
            ("Invalid partition name specified", Complaint.OTHER),
            ("Requested node configuration is not available", Complaint.NO_PLACE),
            ("Memory specification can not be satisfied", Complaint.NO_PLACE),
        ],
    )
    def test_what_slurm_says_is_sorted_out(self, words: str, complaint: Complaint) -> None:
        assert sort_out(words) is complaint


def node_line(state: str = "IDLE", more: str = "") -> str:
    return (
        f"NodeName=n1 Arch=x86_64 CPUAlloc=1 CPUEfctv=4 CPUTot=4 CPULoad=0.82 AvailableFeatures=a,b "
        f"ActiveFeatures=a,b Gres=gpu:tesla:2(S:0),gpu:1 NodeAddr=127.0.0.1 OS=Linux 6.1 #1 SMP x=y "
        f"RealMemory=4000 AllocMem=100 MemSpecLimit=500 State={state} TmpDisk=1000 Weight=3 "
        f"Partitions=main,large AllocTRES=cpu=1,mem=100M,gres/gpu=2{more}"
    )


class TestNodes:
    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("IDLE", NodeState.IDLE),
            ("MIXED", NodeState.BUSY),
            ("IDLE+CLOUD+POWERED_DOWN", NodeState.IDLE),
            ("IDLE+DRAIN", NodeState.DRAINED),
            ("MIXED+DRAIN", NodeState.DRAINING),
            ("IDLE+COMPLETING+DRAIN", NodeState.DRAINING),
            ("DOWN", NodeState.DOWN),
            ("DOWN+DRAIN", NodeState.DOWN),
            ("DOWN*", NodeState.DOWN),
            ("UNKNOWN", NodeState.UNKNOWN),
            ("IDLE+SOMETHING_NEW", NodeState.UNKNOWN),
        ],
    )
    def test_states_are_told_in_our_words(self, word: str, state: NodeState) -> None:
        [node] = parse_nodes(node_line(word))
        assert node.state is state

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("IDLE+NOT_RESPONDING", NodeState.IDLE),
            ("MIXED*", NodeState.BUSY),
            ("IDLE+DRAIN+NOT_RESPONDING", NodeState.DRAINED),
            ("DOWN+NOT_RESPONDING", NodeState.DOWN),
        ],
    )
    def test_a_node_that_does_not_answer_is_down_when_slurm_says_so(
        self, word: str, state: NodeState
    ) -> None:
        """Each resumed node is such for a moment; whoever took it for lost would destroy its machine."""
        [node] = parse_nodes(node_line(word))
        assert node.state is state

    def test_room_is_what_jobs_can_have(self) -> None:
        [found] = parse_nodes(node_line())
        node = found.as_node((), "", "arvados ")
        assert (node.total.cores, node.total.ram_bytes >> 20, node.total.gpus) == (4, 3500, 3)
        assert (node.free.cores, node.free.ram_bytes >> 20, node.free.gpus) == (3, 3400, 1)
        assert (node.partitions, node.preemptible) == (("main", "large"), False)
        assert found.as_node(("large", "main"), "", "arvados ").preemptible

    @given(one_line.map(str.strip).filter(bool))
    def test_a_reason_may_be_anybodys_words(self, reason: str) -> None:
        taken_apart = (" Comment=", " Extra=", " Reason=")
        if any(mark in f" {reason}" for mark in taken_apart):
            return
        [node] = parse_nodes(node_line(more=f" Reason={reason} [root@2026-01-31T12:00:00]"))
        assert (node.name, node.reason, node.state) == ("n1", reason, NodeState.IDLE)

    @given(anything.filter(str.strip))
    def test_what_makes_no_sense_is_an_error_or_a_node(self, text: str) -> None:
        try:
            found = parse_nodes(text)
        except SchedulerError:
            return
        assert len(found) <= len(text.splitlines())


class TestAccounting:
    @pytest.mark.parametrize(
        ("line", "row"),
        [
            (
                f"5|CANCELLED by 1000|0:15|n1|00:03:00|10M|{OURS}",
                Row("5", "", 0, "CANCELLED by 1000", 15, "n1", 180, 10 << 20, "", OURS),
            ),
            (
                "7_3|FAILED|3:0|None assigned|UNLIMITED|1Gn|zzzzz-array-1",
                Row("7_3", "7", 3, "FAILED", 3 << 8, "", 0, 1 << 30, "", "zzzzz-array-1"),
            ),
            (
                f"5|COMPLETED|0:0|n1|||{OURS}",
                Row("5", "", 0, "COMPLETED", 0, "n1", 0, 0, "", OURS),
            ),
        ],
    )
    def test_a_record_of_sacct_is_read(self, line: str, row: Row) -> None:
        assert list(accounting.parse_accounting(line)) == [row]

    def test_the_records_of_a_real_one_are_read(self) -> None:
        """Printed by sacct 22.05: without a limit, cancelled while it waited, and of arrays."""
        output = f"""\
3|FAILED|5:0|n1|365-00:00:00|10M|{OURS}
8|CANCELLED by 0|0:0|None assigned|00:10:00|10M|{OURS}
7_2|CANCELLED by 0|0:0|n1|00:05:00|10M|zzzzz-array-1
7_3|NODE_FAIL|0:0|n1|UNLIMITED|10M|zzzzz-array-1
"""
        rows = list(accounting.parse_accounting(output))
        assert [(row.job_id, row.array_id, row.task) for row in rows] == [
            ("3", "", 0),
            ("8", "", 0),
            ("7_2", "7", 2),
            ("7_3", "7", 3),
        ]
        ends = [end_of(row, Reader(), cancelled=False) for row in rows]
        assert [end.kind for end in ends if end is not None] == [
            EndKind.EXITED,
            EndKind.OPERATOR_DELETED,
            EndKind.OPERATOR_DELETED,
            EndKind.NODE_LOST,
        ]
        assert [row.limit_seconds for row in rows] == [365 * 86400, 600, 300, 0]

    def test_tasks_that_never_ran_are_nobodys(self) -> None:
        """They are told as one, by a range."""
        line = "7_[4-9]|CANCELLED by 0|0:0|None assigned|UNLIMITED|1G|zzzzz-array-1"
        [row] = accounting.parse_accounting(line)
        assert row.array_id == ""

    @given(anything.filter(str.strip))
    def test_what_makes_no_sense_is_an_error_or_a_record(self, text: str) -> None:
        try:
            found = list(accounting.parse_accounting(text))
        except SchedulerError:
            return
        assert len(found) <= len(text.splitlines())

    @given(anything)
    def test_odd_lines_of_the_completion_log_hide_no_others(self, text: str) -> None:
        line = (
            f"JobId=5 UserId=root(0) Name={OURS} JobState=TIMEOUT TimeLimit=3 NodeList=n1 "
            "Tres=cpu=1,mem=10M ExitCode=0:15"
        )
        row = Row("5", "", 0, "TIMEOUT", 15, "n1", 180, 10 << 20, "", OURS)
        assert row in list(accounting.parse_log(f"{text}\n{line}\n{text}"))
