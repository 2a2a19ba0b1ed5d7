"""Jobs as arguments of qsub, what its answers mean, hosts as nodes, and the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import ConfigError
from nodemanager.model import NodeState, Resources
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.commands import Answer
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.script import names_in
from nodemanager.schedulers.sge.answers import HostRow, QueueRow
from nodemanager.schedulers.sge.nodes import HostFacts, as_node
from nodemanager.schedulers.sge.options import NodeOrigin, SgeOptions, expand_names
from nodemanager.schedulers.sge.places import Live, Place, job_words
from nodemanager.schedulers.sge.states import JobLetters
from nodemanager.schedulers.sge.submission import (
    Verdict,
    groups,
    host_values,
    qsub,
    refusal,
    resource_requests,
    sge_priority,
    verdict,
)

GIB = 1 << 30
JOB = JobSpec("3zzzz-dz642-000000000000000", ("run", "it's"), Resources(3, 4 * GIB), b"secret")
FILES = JobFiles(Path("/spool"))


def options(**given: str) -> SgeOptions:
    return SgeOptions.of(SchedulerContext("3zzzz", Path("/state"), {"commands": "/opt", **given}))


def words(spec: JobSpec = JOB, **given: str) -> list[str]:
    return list(qsub([spec], "", FILES, options(**given), ()).argv)


def value(option: str, said: list[str]) -> str:
    """Of an option that is there once; empty if it is not."""
    assert said.count(option) <= 1
    return said[said.index(option) + 1] if option in said else ""


class TestQsub:
    def test_a_job(self) -> None:
        assert words() == [
            *("/opt/qsub", "-terse", "-N", "A3zzzz-dz642-000000000000000", "-S", "/bin/sh"),
            *("-wd", "/", "-r", "n", "-notify", "-p", "-1023", "-j", "y", "-o", "/dev/null"),
            *("-l", f"h_vmem={4 * GIB // 3}", "-pe", "smp", "3"),
        ]

    def test_an_array(self) -> None:
        jobs = [replace(JOB, name=f"3zzzz-dz642-{n:015d}") for n in range(3)]
        call = qsub(jobs, "3zzzz-array-1", FILES, options(), ())
        said = list(call.argv)
        assert value("-N", said) == "A3zzzz-array-1"
        assert value("-t", said) == "1-3"
        assert value("-ac", said) == "nodemanager_jobs=" + ":".join(job.name for job in jobs)
        assert names_in(call.stdin.decode()) == tuple(job.name for job in jobs)

    def test_nothing_secret_is_said(self) -> None:
        call = qsub([JOB], "", FILES, options(), ())
        assert b"secret" not in call.stdin
        assert "secret" not in " ".join(call.argv)

    def test_everything_that_can_be_asked_for(self) -> None:
        job = replace(
            JOB,
            resources=Resources(2, GIB, 2 * GIB, 4),
            max_run_seconds=3600,
            exclusive=True,
            partitions=("a.q", "b.q"),
        )
        said = words(
            job,
            memory_resource="mem",
            memory_per="job",
            reserve_ram="1 GiB",
            scratch_resource="tmp",
            gpu_resource="cuda",
            exclusive_resource="excl",
            project="p1",
            pe="threads",
            log_dir="/logs",
            qsub_arguments="-A %U -l 'm=%M,x=%C'",
        )
        assert said[said.index("-l") + 1] == (f"h_rt=3600,mem={2 * GIB},tmp={GIB},cuda=4,excl=true")
        assert value("-q", said) == "a.q,b.q"
        assert value("-P", said) == "p1"
        assert value("-pe", said) == "threads"
        assert value("-o", said) == "/logs/$JOB_NAME.o$JOB_ID"
        assert said[-4:] == ["-A", JOB.name, "-l", "m=1024,x=2"]

    @given(st.integers(1, 500), st.integers(1, 1 << 50))
    def test_slots_never_want_more_than_the_job(self, cores: int, ram: int) -> None:
        job = replace(JOB, resources=Resources(cores, ram))
        (request,) = resource_requests(job, options())
        per_slot = int(request.partition("=")[2])
        assert ram - cores < per_slot * cores <= ram

    @pytest.mark.parametrize(
        ("partitions", "preemptible", "given", "queues"),
        [
            ((), False, {}, ""),
            (("b.q",), False, {}, "b.q"),
            ((), False, {"preemptible_queues": "s.q"}, "!(s.q)"),
            ((), True, {"preemptible_queues": "s.q"}, ""),
            ((), False, {"queue": "a.q b.q", "preemptible_queues": "s.q"}, "a.q,b.q"),
            ((), True, {"queue": "a.q", "preemptible_queues": "s.q"}, "a.q,s.q"),
            (
                (),
                True,
                {"queue": "a.q", "preemptible_queues": "s.q", "nodes": "dynamic"},
                "a.q|s.q",
            ),
            (("a.q", "s.q"), False, {"preemptible_queues": "s.q"}, "a.q"),
            (("a.q", "s.q"), True, {"preemptible_queues": "s.q"}, "a.q,s.q"),
        ],
    )
    def test_queues(
        self, partitions: tuple[str, ...], preemptible: bool, given: Mapping[str, str], queues: str
    ) -> None:
        job = replace(JOB, partitions=partitions, preemptible=preemptible)
        assert value("-q", words(job, **given)) == queues

    @pytest.mark.parametrize(
        ("job", "given", "said"),
        [
            (replace(JOB, exclusive=True), {}, "exclusive_resource"),
            (replace(JOB, resources=Resources(1, 1, gpus=1)), {"gpu_resource": ""}, "gpu_resource"),
            (replace(JOB, resources=Resources(1, 1, 1 << 41)), {}, "scratch"),
            (replace(JOB, partitions=("s.q",)), {"preemptible_queues": "s.q"}, "does not bear"),
            (replace(JOB, partitions=("a b",)), {}, "'a b'"),
            (replace(JOB, partitions=("*",)), {}, "'*'"),
        ],
    )
    def test_what_there_is_no_qsub_for(
        self, job: JobSpec, given: Mapping[str, str], said: str
    ) -> None:
        assert said in refusal(job, options(**given), ())
        assert not refusal(JOB, options(**given), ())

    def test_priorities_are_such_as_anybody_may_give(self) -> None:
        said = [sge_priority(priority) for priority in (0, 1, 500, 1000, 1000 << 50)]
        assert said == [-1023, -1022, -523, -23, -23]

    def test_jobs_are_grouped_unless_they_are_told_apart(self) -> None:
        jobs = [replace(JOB, name=f"3zzzz-dz642-{n:015d}") for n in range(2500)]
        assert [len(lot) for lot in groups(jobs, options())] == [1000, 1000, 500]
        assert len(groups(jobs, options(arrays="no"))) == 2500
        assert len(groups(jobs, options(qsub_arguments="-A %U"))) == 2500
        longer = [replace(job, name=job.name + "x" * 173) for job in jobs]
        assert max(len(lot) for lot in groups(longer, options())) * 201 < 128 * 1024


def answer(status: int, output: str = "", complaint: str = "") -> Answer:
    return Answer(("qsub",), status, output, complaint)


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "meaning"),
        [
            (answer(0, "12\n"), Verdict.ACCEPTED),
            (answer(0, "warning\n12\n", "hm"), Verdict.ACCEPTED),
            (answer(0, ""), Verdict.DOUBTFUL),
            (answer(0, "12.1-3:1\n"), Verdict.DOUBTFUL),
            (answer(25, "", "Unable to run job: job rejected: only 2 jobs are"), Verdict.BUSY),
            (answer(1, "", "Unable to run job: error: no suitable queues"), Verdict.UNPLACED),
            (answer(1, "", 'Unable to run job: unknown resource "x"'), Verdict.REFUSED),
            (answer(1, "", "qsub: Unknown option"), Verdict.DOUBTFUL),
            (answer(1, "", 'x requests unknown queue "q"\nUnable to run job'), Verdict.REFUSED),
            (answer(1, "", "error: commlib error: x\nUnable to run job: y"), Verdict.DOUBTFUL),
            (
                answer(1, "", "Unable to run job: unable to send message to qmaster"),
                Verdict.DOUBTFUL,
            ),
            (answer(-9), Verdict.DOUBTFUL),
            (answer(139), Verdict.DOUBTFUL),
        ],
    )
    def test_of_a_job(self, found: Answer, meaning: Verdict) -> None:
        assert verdict(found, 1, NodeOrigin.FIXED) is meaning

    def test_of_an_array(self) -> None:
        assert verdict(answer(0, "12.1-3:1"), 3, NodeOrigin.FIXED) is Verdict.ACCEPTED
        assert verdict(answer(0, "12.1-2:1"), 3, NodeOrigin.FIXED) is Verdict.DOUBTFUL
        assert verdict(answer(0, "12"), 3, NodeOrigin.FIXED) is Verdict.DOUBTFUL

    def test_a_queue_that_may_get_a_host_is_waited_for(self) -> None:
        found = answer(1, "", 'Unable to run job: x requests unknown queue "q"')
        assert verdict(found, 1, NodeOrigin.DYNAMIC) is Verdict.UNPLACED


def test_tasks_are_named_in_spans() -> None:
    def live(number: int, task: int = 0) -> Live:
        return Live(Place(number, task), JobLetters("qw"))

    lives = [live(7), live(8, 3), live(8, 1), live(8, 2), live(8, 9), live(10, 1)]
    assert job_words(lives) == ["7", "8.1-3", "8.9", "10.1"]


def host(*queues: QueueRow, load: str = "0.5", **left: float) -> HostRow:
    values = {"mem_total": "8.0G", "mem_used": "2.0G", "load_avg": load}
    return HostRow("h1", values, left, queues)


class TestNodes:
    @pytest.mark.parametrize(
        ("letters", "used", "state"),
        [
            ("", 0, NodeState.IDLE),
            ("", 1, NodeState.BUSY),
            ("d", 0, NodeState.DRAINED),
            ("dE", 1, NodeState.DRAINING),
            ("D", 0, NodeState.DRAINED),
            ("a", 0, NodeState.BUSY),
            ("S", 1, NodeState.BUSY),
            ("E", 0, NodeState.DOWN),
            ("u", 1, NodeState.DOWN),
            ("au", 0, NodeState.DOWN),
            ("adu", 0, NodeState.DOWN),
        ],
    )
    def test_states(self, letters: str, used: int, state: NodeState) -> None:
        node = as_node(host(QueueRow("q", letters, 4, used, 0)), HostFacts({}), options())
        assert node.state is state
        assert bool(node.reason) == (letters != "")

    def test_a_host_that_never_reported_is_down(self) -> None:
        node = as_node(host(QueueRow("q", "", 4, 0, 0), load="-"), HostFacts({}), options())
        assert node.state is NodeState.DOWN

    def test_one_open_queue_keeps_it_open(self) -> None:
        queues = QueueRow("a.q", "d", 4, 0, 0), QueueRow("b.q", "", 2, 1, 0)
        node = as_node(host(*queues), HostFacts({}), options())
        assert (node.state, node.total.cores, node.free.cores) == (NodeState.BUSY, 6, 1)

    def test_consumables_are_what_counts(self) -> None:
        row = host(QueueRow("q", "", 8, 3, 0), slots=1.0, h_vmem=3.0 * GIB, gpu=1.0)
        facts = HostFacts({"slots": 4.0, "h_vmem": 4.0 * GIB, "gpu": 2.0})
        node = as_node(row, facts, options(reserve_ram="1 GiB"))
        assert node.total == Resources(4, 3 * GIB, 1 << 40, 2)
        assert node.free == Resources(1, 2 * GIB, 1 << 40, 1)

    def test_without_them_it_is_what_the_host_reports(self) -> None:
        node = as_node(host(QueueRow("q", "", 4, 1, 1)), HostFacts({}), options())
        assert node.total == Resources(4, 8 * GIB, 1 << 40)
        assert node.free == Resources(2, 6 * GIB, 1 << 40)

    def test_a_host_that_somebody_has_to_himself_has_nothing_free(self) -> None:
        row = host(QueueRow("q", "", 4, 1, 0), exclusive=0.0)
        facts = HostFacts({"exclusive": 1.0})
        assert as_node(row, facts, options(exclusive_resource="exclusive")).free.cores == 0

    def test_only_the_queues_that_are_named_count(self) -> None:
        queues = QueueRow("a.q", "", 4, 0, 0), QueueRow("b.q", "", 2, 0, 0)
        node = as_node(host(*queues), HostFacts({}), options(queue="b.q"))
        assert (node.partitions, node.total.cores) == (("b.q",), 2)
        assert as_node(host(), HostFacts({}), options()).state is NodeState.DOWN

    def test_a_size_becomes_values_of_a_host(self) -> None:
        size = Resources(8, 4 * GIB, GIB, 2)
        given = options(scratch_resource="tmp", size_resource="size", exclusive_resource="x")
        assert host_values(size, "large", given) == {
            "slots": "8",
            "h_vmem": str(4 * GIB),
            "tmp": str(GIB),
            "gpu": "2",
            "x": "true",
            "size": "large",
        }


class TestOptions:
    def test_names_of_hosts(self) -> None:
        assert expand_names("n[08-10], gpu1 x[1-2].org") == (
            *("n08", "n09", "n10", "gpu1", "x1.org", "x2.org"),
        )

    @pytest.mark.parametrize("text", ["n[", "n[1-", "n[a-b]", "n[1-2", "n[1-2][3-4]", "n[5]"])
    def test_what_is_no_list_of_names(self, text: str) -> None:
        with pytest.raises(ConfigError, match="node_names"):
            expand_names(text)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("qsub_arguments", "%X"),
            ("nodes", "cloudy"),
            ("memory_per", "host"),
            ("hostgroup", "nodes"),
            ("log_dir", "/logs/$USER"),
            ("queue", "a.q,-x y;z"),
            ("qeue", "a.q"),
        ],
    )
    def test_what_is_wrong_is_named(self, name: str, text: str) -> None:
        with pytest.raises(ConfigError, match=name):
            options(**{name: text})

    def test_the_cell_may_be_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SGE_ROOT", "/sge")
        monkeypatch.setenv("SGE_CELL", "one")
        assert options().environment["SGE_CELL"] == "one"
        assert options(sge_cell="two").accounting_file == "/sge/two/common/"
        assert options(accounting_file="none").accounting_file == ""
