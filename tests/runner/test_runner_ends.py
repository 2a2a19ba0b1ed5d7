"""How containers end: the table of failures, with real processes."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.runner.conftest import Lab

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("script", "state", "code", "words"),
    [
        ("exit 0", "Complete", 0, ""),
        ("exit 3", "PermFail", 3, "exited with 3"),
        ("exit 75", "TempFail", 75, "asks for another try"),
        ("exit 111", "TempFail", 111, "asks for another try"),
        ("kill -SEGV $$", "PermFail", 128 + signal.SIGSEGV, "SIGSEGV"),
        ("kill -ABRT $$", "PermFail", 128 + signal.SIGABRT, "SIGABRT"),
        ("kill -KILL $$", "TempFail", 128 + signal.SIGKILL, "SIGKILL"),
        ("kill -TERM $$", "TempFail", 128 + signal.SIGTERM, "SIGTERM"),
    ],
)
def test_the_table(lab: Lab, script: str, state: str, code: int, words: str) -> None:
    lab.shell(f"ulimit -c 0; echo kept > out/result; {script}")
    lab.run()
    assert (lab.record["state"], lab.record["exit_code"]) == (state, code)
    assert words in lab.error()
    assert lab.record["output"] == str(lab.store / lab.uuid / "output")
    assert lab.output("result").read_text() == "kept\n"
    assert lab.record["log"] == str(lab.store / lab.uuid / "log")
    assert not any(lab.scratch.iterdir())


def test_the_exits_that_ask_for_another_try_are_configurable(lab: Lab) -> None:
    lab.shell("exit 75")
    lab.run(tempfail_exits=(99,))
    assert lab.record["state"] == "PermFail"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["./does-not-exist"], "No such file"),
        (["/etc/passwd"], "Permission denied"),
        ([], "command: expected"),
        (["echo", 1], "command: expected"),
        (["echo", "a\0b"], "command: expected"),
        (["echo", "\ud800"], "surrogates"),
    ],
)
def test_a_command_that_cannot_be_started_is_the_requests_fault(
    lab: Lab, command: list[str], words: str
) -> None:
    lab.record["command"] = command
    lab.run()
    assert lab.record["state"] == "PermFail"
    assert words in lab.error()


def test_max_run_time_ends_it_with_numbers(lab: Lab) -> None:
    lab.shell("trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    lab.record["scheduling_parameters"] = {"max_run_time": 1}
    lab.run()
    assert lab.record["state"] == "PermFail"
    assert "asked 1.0 s, limit 1.0 s" in lab.error()
    assert lab.record["runtime_status"]["facts"] == {"run_seconds": {"asked": 1, "limit": 1}}
    assert lab.log("stdout.txt") == "up\ntold\n"


def test_what_does_not_heed_term_is_killed_with_its_children(lab: Lab) -> None:
    lab.shell("trap '' TERM; (trap '' TERM; sleep 60) & echo $! > out/child; sleep 60")
    lab.record["scheduling_parameters"] = {"max_run_time": 1}
    lab.run(kill_grace=0.2)
    assert lab.record["state"] == "PermFail"
    child = int(lab.output("child").read_text())
    assert not is_alive(child)
    assert "killing the command" in lab.log("runner.txt")


def test_sigterm_at_priority_0_is_cancelled(lab: Lab) -> None:
    lab.shell("echo up; sleep 60")
    runner = lab.start(heartbeat=60)
    lab.until(lambda: lab.log("stdout.txt"))
    lab.record["priority"] = 0
    runner.send_signal(signal.SIGTERM)
    lab.finish(runner)
    assert lab.record["state"] == "Cancelled"


def test_sigterm_otherwise_is_a_failure_of_the_infrastructure(lab: Lab) -> None:
    lab.shell("echo up; sleep 60")
    runner = lab.start()
    lab.until(lambda: lab.log("stdout.txt"))
    runner.send_signal(signal.SIGTERM)
    lab.finish(runner)
    assert lab.record["state"] == "TempFail"
    assert "SIGTERM (the runner was told to stop)" in lab.error()


def test_a_command_killed_by_its_scheduler_at_priority_0_is_cancelled(lab: Lab) -> None:
    lab.shell("echo $$; exec sleep 60")
    runner = lab.start(heartbeat=60)
    lab.until(lambda: lab.log("stdout.txt"))
    lab.record["priority"] = 0
    os.kill(int(lab.log("stdout.txt")), signal.SIGTERM)
    lab.finish(runner)
    assert lab.record["state"] == "Cancelled"


def test_priority_0_stops_it(lab: Lab) -> None:
    lab.shell("echo up; sleep 60")
    runner = lab.start()
    lab.until(lambda: lab.log("stdout.txt"))
    lab.record["priority"] = 0
    lab.finish(runner)
    assert lab.record["state"] == "Cancelled"


def test_priority_0_before_the_start_runs_nothing(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.record["priority"] = 0
    lab.run()
    assert (lab.record["state"], lab.ran()) == ("Cancelled", "")


def test_the_command_dies_with_a_killed_runner(lab: Lab) -> None:
    lab.shell("trap '' TERM HUP; (trap '' TERM; sleep 60) & echo $$ $!; wait; sleep 60")
    runner = lab.start()
    lab.until(lambda: lab.log("stdout.txt").endswith("\n"))
    pids = [int(pid) for pid in lab.log("stdout.txt").split()]
    assert all(is_alive(pid) for pid in pids)
    runner.kill()
    lab.until(lambda: not any(is_alive(pid) for pid in pids))
    assert lab.record["state"] == "Running"


def test_children_left_behind_end_with_the_command(lab: Lab) -> None:
    lab.shell("sleep 60 & echo $!; (set -m; sleep 60 & echo $!)")
    lab.run()
    assert lab.record["state"] == "Complete"
    assert not any(is_alive(int(pid)) for pid in lab.log("stdout.txt").split())


def test_the_report_holds_plain_json(lab: Lab) -> None:
    lab.shell("exit 3")
    lab.run()
    assert json.loads(json.dumps(lab.record)) == lab.record


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
