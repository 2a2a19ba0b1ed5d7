"""What Grid Engine prints, read: listings, states, records, dialects. Real answers of 8.1.9, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.sge.accounting import AccountingFile, record_of_colons, record_of_json
from nodemanager.schedulers.sge.answers import (
    JobRow,
    attribute,
    host_rows,
    job_details,
    job_rows,
    pairs,
    size,
    submitted,
)
from nodemanager.schedulers.sge.dialects import DIALECTS, Dialect, Records, dialect_of
from nodemanager.schedulers.sge.states import FAILED, JOB_LETTERS, JobLetters, Record, end_of

SGE = DIALECTS[0]

LISTING = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://example.org/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>1338</JB_job_number><JB_name>Azzzzz-array-1</JB_name><state>dr</state>
      <queue_name>all.q@vm.example.org</queue_name><slots>1</slots><tasks>2</tasks>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>1338</JB_job_number><JB_name>Azzzzz-array-1</JB_name><state>hqw</state>
      <queue_name></queue_name><slots>1</slots><tasks>1,3-6:1,10-20:5</tasks>
    </job_list>
    <job_list state="pending">
      <JB_job_number>7</JB_job_number><JB_name>caf&#233; &lt;x&gt;</JB_name><state>Eqw</state>
      <queue_name></queue_name><slots>1</slots>
    </job_list>
  </job_info>
</job_info>"""


class TestListing:
    def test_it_is_read(self) -> None:
        assert job_rows(LISTING) == [
            JobRow(1338, "Azzzzz-array-1", "dr", (2,), "vm.example.org"),
            JobRow(1338, "Azzzzz-array-1", "hqw", (1, 3, 4, 5, 6, 10, 15, 20)),
            JobRow(7, "caf\u00e9 <x>", "Eqw"),
        ]

    def test_a_stranger_s_odd_name_does_not_blind_us(self) -> None:
        odd = LISTING.replace("caf&#233;", "caf\udce9 \x01\ufffe")
        assert [row.number for row in job_rows(odd)] == [1338, 1338, 7]

    def test_a_name_space_is_seen_through(self) -> None:
        spaced = LISTING.replace("<job_info  xmlns:xsd", '<job_info xmlns="urn:x" xmlns:xsd')
        assert job_rows(spaced) == job_rows(LISTING)

    @given(st.integers(0, len(LISTING) - 1))
    def test_no_part_of_it_passes_for_the_whole(self, length: int) -> None:
        with pytest.raises(SchedulerError, match="qstat answered what cannot be read"):
            job_rows(LISTING[:length])

    @given(st.text())
    def test_garbage_is_an_error_of_the_scheduler(self, text: str) -> None:
        with pytest.raises(SchedulerError):
            job_rows(text)

    @pytest.mark.parametrize(("right", "wrong"), [(">7<", ">x<"), ("3-6:1", "3-x:1")])
    def test_a_number_that_is_none_is_an_error(self, right: str, wrong: str) -> None:
        with pytest.raises(SchedulerError, match="where a number should be"):
            job_rows(LISTING.replace(right, wrong))


class TestDetails:
    def test_names_errors_and_reasons(self) -> None:
        details = job_details(
            """<detailed_job_info><djob_info><element><JB_job_number>5</JB_job_number>
            <JB_ja_tasks><ulong_sublist><JAT_task_number>2</JAT_task_number><JAT_message_list>
            <ulong_sublist><QIM_message>can't open  file</QIM_message></ulong_sublist>
            </JAT_message_list></ulong_sublist></JB_ja_tasks>
            <JB_context><context_list><VA_variable>nodemanager_jobs</VA_variable>
            <VA_value>a:b</VA_value></context_list></JB_context></element></djob_info>
            <messages><element><SME_message_list><element><MES_job_number_list><ulong_sublist>
            <ULNG_value>5</ULNG_value></ulong_sublist></MES_job_number_list>
            <MES_message>all queues are full</MES_message></element></SME_message_list>
            <SME_global_message_list><element><MES_message>x</MES_message></element>
            </SME_global_message_list></element></messages></detailed_job_info>"""
        )
        assert [(job.number, job.names) for job in details.jobs] == [(5, ("a", "b"))]
        assert details.jobs[0].errors == ((2, "can't open file"),)
        assert details.waits == {5: ("all queues are full",)}
        assert details.general == ("x",)

    def test_jobs_that_are_not_known_any_more_are_no_error(self) -> None:
        assert job_details("<unknown_jobs ><ST_name>9</ST_name></unknown_jobs>").jobs == ()


class TestWords:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("1.5G", 1.5 * 2**30), ("2k", 2000), ("4.000000", 4), ("TRUE", 1), ("1e3", 1000)],
    )
    def test_sizes(self, text: str, value: float) -> None:
        assert size(text) == value

    @pytest.mark.parametrize("text", ["", "-", "lx-amd64", "1.5X", "SCC"])
    def test_what_is_no_size(self, text: str) -> None:
        assert size(text) is None

    def test_the_number_of_a_job(self) -> None:
        assert submitted("warning: hm\n12\n") == (12, 0)
        assert submitted("12.1-30:1") == (12, 30)
        assert submitted("Your job 12 has been submitted") is None

    def test_attributes_that_go_on_in_the_next_line(self) -> None:
        text = "hostname  h1\ncomplex_values  a=1, \\\n    b=2G\nslots 4"
        assert pairs(attribute(text, "complex_values")) == {"a": "1", "b": "2G"}
        assert pairs(attribute("complex_values NONE", "complex_values")) == {}
        assert attribute(text, "nothing") == ""

    def test_hosts_of_a_cell_without_any(self) -> None:
        assert host_rows("<qhost><host name='global'></host></qhost>") == []


class TestStates:
    @pytest.mark.parametrize(
        ("state", "letters"),
        [
            (JobState.WAITING, "qw hqw Rq hRwq Eqw EhRqw dqw"),
            (JobState.RUNNING, "r t hr Rr Rt s ts S tS T tT Rs dr dt dRr ds dS dT P"),
            (JobState.UNKNOWN, "x rx d E z"),
        ],
    )
    def test_letters(self, state: JobState, letters: str) -> None:
        assert {JobLetters(word).state for word in letters.split()} == {state}
        assert JobLetters("").state is JobState.UNKNOWN

    @given(st.text(alphabet="".join(JOB_LETTERS)))
    def test_letters_are_always_explained(self, letters: str) -> None:
        assert "?" not in JobLetters(letters).words

    def test_only_a_job_that_waits_is_in_error(self) -> None:
        assert JobLetters("Eqw").is_in_error
        assert not JobLetters("qw").is_in_error


TAIL = "0.1:0.2:4532:0:0:0:0:300:0:0:0:8:0:0:0:5:0:NONE:dept"


def line(failed: object = 0, code: int = 0, **more: object) -> bytes:
    """A record as the file has it: a job of 2 slots that ran for 10 seconds."""
    values = {"task": 0, "asked": "-l h_rt=10,h_vmem=1M -pe smp 2", "peak": 0, "tail": TAIL}
    values |= {"started": 100, "pe_task": "NONE", "name": "Azzzzz-1"} | more
    return (
        (
            "all.q:h1:g:u:{name}:12:sge:0:99:{started}:110:{failed}:{code}:9:{tail}:"
            "smp:2:{task}:0.1:0.2:0.3:{asked}:0.0:{pe_task}:{peak}:0:0"
        )
        .format(failed=failed, code=code, **values)
        .encode()
    )


def record(failed: int = 0, code: int = 0, **more: object) -> Record:
    found = record_of_colons(line(failed, code, **more), SGE)
    assert found is not None
    return found


class TestRecords:
    def test_what_matters_is_read(self) -> None:
        assert record(code=3, task=7, peak="3M") == Record(
            "Azzzzz-1", "h1", 12, 7, 0, 3, 110.0, 10.0, 10, 2 << 20, 3 << 20
        )

    @pytest.mark.parametrize(
        "text", [b"# comment", b"", b"a:b", line(code=0, pe_task="1.h1"), line("x")]
    )
    def test_what_is_no_record_of_a_job(self, text: bytes) -> None:
        assert record_of_colons(text, SGE) is None

    @pytest.mark.parametrize(
        ("found", "end"),
        [
            (record(0, 7), End(EndKind.EXITED, 7)),
            (record(15, 7), End(EndKind.EXITED, 7)),
            (record(26, 0), EndKind.SCHEDULER_ERROR),
            (record(4711, 0), EndKind.SCHEDULER_ERROR),
            (record(19, 0), EndKind.NODE_LOST),
            (record(37, 137), EndKind.TIME_LIMIT),
            (record(37, 0, asked="-l h_rt=60,h_vmem=1M", peak="5M"), EndKind.OUT_OF_MEMORY),
            (record(37, 137, asked="NONE"), EndKind.SIGNALLED),
            (record(100, 137), EndKind.TIME_LIMIT),
            (record(100, 137, asked="NONE"), EndKind.OPERATOR_DELETED),
            (record(100, 137, asked="-l h_vmem=1M", peak="2M"), EndKind.OUT_OF_MEMORY),
            (record(100, 139, asked="NONE"), EndKind.SIGNALLED),
            (
                record(0, 0, tail="0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:NONE:d"),
                EndKind.OPERATOR_DELETED,
            ),
        ],
    )
    def test_how_it_ended(self, found: Record, end: End | EndKind) -> None:
        judged = end_of(found)
        assert judged == end if isinstance(end, End) else judged.kind is end

    def test_limits_are_told_in_numbers(self) -> None:
        timed, greedy = (
            end_of(record(37, 0)),
            end_of(record(100, 137, asked="-l h_vmem=1M", peak="9M")),
        )
        assert (timed.asked, timed.limit) == (10, 10)
        assert (greedy.asked, greedy.limit) == (2 << 20, 2 << 20)

    def test_a_job_that_goes_back_to_the_queue_has_not_ended(self) -> None:
        assert [code for code in FAILED if not record(code).is_end] == [24, 25]


class TestFile:
    def opened(self, path: Path) -> AccountingFile:
        return AccountingFile(path, "Azzzzz-", SGE)

    def test_it_is_read_as_it_grows(self, tmp_path: Path) -> None:
        path = tmp_path / "accounting"
        file = self.opened(path)
        file.refresh()
        assert file.find("Azzzzz-1", 0) is None
        whole = line(code=3) + b"\n"
        with path.open("ab", buffering=0) as writer:
            writer.write(b"# comment\n" + line(name="other") + b"\n" + whole[:50])
            file.refresh()
            assert file.find("Azzzzz-1", 0) is None
            writer.write(whole[50:])
        file.refresh()
        found = file.find("Azzzzz-1", 0)
        assert found is not None
        assert found.exit_status == 3
        assert file.find("other", 0) is None
        file.close()

    def test_it_is_followed_when_it_is_rotated_away(self, tmp_path: Path) -> None:
        path = tmp_path / "accounting"
        path.write_bytes(line(name="Azzzzz-a") + b"\n")
        file = self.opened(path)
        file.refresh()
        with path.open("ab") as writer:
            writer.write(line(name="Azzzzz-b") + b"\n")
        path.rename(tmp_path / "accounting.1")
        file.refresh()
        path.write_bytes(b"# comment\n" * 1000 + line(name="Azzzzz-c") + b"\n")
        file.refresh()
        assert all(file.find(f"Azzzzz-{name}", 0) for name in "abc")
        file.close()

    def test_it_may_be_emptied(self, tmp_path: Path) -> None:
        path = tmp_path / "accounting"
        path.write_bytes(b"# comment\n" * 1000)
        file = self.opened(path)
        file.refresh()
        path.write_bytes(line() + b"\n")
        file.refresh()
        assert file.find("Azzzzz-1", 0)
        file.forget("Azzzzz-1", 0)
        assert file.find("Azzzzz-1", 0) is None
        file.close()

    def test_one_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "accounting").mkdir()
        with pytest.raises(SchedulerError, match="cannot read the accounting file"):
            self.opened(tmp_path / "accounting").refresh()

    def test_records_of_requeued_jobs_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "accounting"
        path.write_bytes(line(0, 4) + b"\n" + line(25, 99) + b"\n")
        file = self.opened(path)
        file.refresh()
        found = file.find("Azzzzz-1", 0)
        assert found is not None
        assert found.exit_status == 4
        file.close()


class TestDialects:
    @pytest.mark.parametrize(
        ("banner", "name"),
        [
            ("SGE 8.1.9", "Son of Grid Engine"),
            ("GE 6.2u5", "Grid Engine 6.2"),
            ("OGS/GE 2011.11p1", "Open Grid Scheduler"),
            ("UGE 8.6.18", "Univa Grid Engine"),
            ("AGE 2023.1.1", "Altair Grid Engine"),
            ("OCS 9.0.5", "Open Cluster Scheduler"),
        ],
    )
    def test_they_say_who_they_are(self, banner: str, name: str) -> None:
        found = dialect_of(banner)
        assert found is not None
        assert found.name == name

    def test_a_stranger_is_none_of_them(self) -> None:
        assert dialect_of("Slurm 22.05") is None

    def test_only_one_was_run(self) -> None:
        assert [dialect.name for dialect in DIALECTS if dialect.ran] == ["Son of Grid Engine"]

    def test_times_may_be_in_smaller_units(self) -> None:
        milliseconds = next(d for d in DIALECTS if d.ticks_per_second == 1000)
        found = record_of_colons(line(started=100_000).replace(b":110:", b":110000:"), milliseconds)
        assert found is not None
        assert found.ended_at == 110.0

    def test_records_may_be_json(self) -> None:
        ocs = next(dialect for dialect in DIALECTS if dialect.records is Records.JSON)
        text = (
            b'{"job_number":9,"task_number":2,"job_name":"Azzzzz-1","hostname":"h1",'
            b'"start_time":100000000,"end_time":110000000,"failed":0,"exit_status":5,"slots":2,'
            b'"category":"-l h_vmem=1M","usage":{"rusage":{"ru_wallclock":10,"ru_maxrss":5},'
            b'"usage":{"maxvmem":7.0}}}'
        )
        assert record_of_json(text, ocs) == Record(
            "Azzzzz-1", "h1", 9, 2, 0, 5, 110.0, 10.0, 0, 2 << 20, 7
        )
        assert record_of_json(b"[]", ocs) is None
        assert record_of_json(b"{", ocs) is None

    def test_each_has_a_name_of_its_own(self) -> None:
        assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)
        assert all(isinstance(dialect, Dialect) for dialect in DIALECTS)
