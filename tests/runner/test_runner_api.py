"""The runner and its API: claims, outages, fences, secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.runner.api import Fence, pauses_seconds

if TYPE_CHECKING:
    from tests.runner.conftest import Lab

pytestmark = pytest.mark.processes

WAIT = "echo up; while [ ! -e out/go ]; do sleep 0.02; done"


def go(lab: Lab) -> None:
    (lab.scratch / lab.uuid / "out" / "go").touch()


def test_a_second_runner_runs_nothing(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}; {WAIT}")
    first = lab.start()
    lab.until(lambda: lab.log("stdout.txt"))
    said = lab.run(status=77)
    assert "422" in said
    go(lab)
    lab.finish(first)
    assert (lab.record["state"], lab.ran()) == ("Complete", "ran\n")
    assert "422" in lab.run(status=77)
    assert lab.ran() == "ran\n"


@pytest.mark.parametrize(
    ("environment", "node"),
    [({}, os.uname().nodename), ({"NODEMANAGER_NODE": "node-1"}, "node-1")],
)
def test_the_user_is_told_the_node(lab: Lab, environment: dict[str, str], node: str) -> None:
    lab.shell("env | grep -c NODEMANAGER_NODE || true")
    lab.run(environment=environment)
    assert lab.record["runtime_status"]["node"] == node
    assert lab.log("stdout.txt") == "0\n"


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_who_is_refused_runs_nothing(lab: Lab, status: int) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.api.refuse = status
    said = lab.run(status=77)
    assert f"{status}: refused for a test" in said
    assert lab.ran() == ""
    assert not lab.scratch.exists()


def test_lost_answers_are_asked_for_again(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.api.lose_answers = 3
    lab.run()
    assert (lab.record["state"], lab.ran()) == ("Complete", "ran\n")


def test_an_api_that_fails_at_first_is_waited_for(lab: Lab) -> None:
    lab.api.refuse = 503
    runner = lab.start()
    lab.until(lambda: len(lab.api.calls) >= 2)
    lab.api.refuse = 0
    lab.finish(runner)
    assert lab.record["state"] == "Complete"


def test_who_is_told_to_stop_before_the_claim_is_gone_at_once(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")
    lab.api.refuse = 503
    runner = lab.start()
    lab.until(lambda: lab.api.calls)
    runner.send_signal(signal.SIGTERM)
    assert "told to stop" in lab.finish(runner, status=77)
    assert (lab.record["state"], lab.ran()) == ("Locked", "")


def test_who_is_told_to_stop_while_preparing_reports_it(lab: Lab) -> None:
    lab.shell(f"echo ran >> {lab.ledger}")

    def then_fail(attributes: dict[str, Any]) -> int:
        lab.api.refuse = 503
        return 0

    lab.api.before_write = then_fail
    runner = lab.start(heartbeat=60)
    lab.until(lambda: any(call.startswith("GET") for call in lab.api.calls))
    lab.api.before_write = lambda attributes: 0
    runner.send_signal(signal.SIGTERM)
    lab.api.refuse = 0
    lab.finish(runner)
    assert (lab.record["state"], lab.ran()) == ("TempFail", "")


@pytest.mark.parametrize("store", ["", "api"])
def test_an_outage_in_the_middle_disturbs_nothing(lab: Lab, store: str) -> None:
    lab.shell(f"{WAIT}; echo more; echo kept > out/kept")
    runner = lab.start(store=store or str(lab.store), heartbeat=0.05)
    lab.until((lab.scratch / lab.uuid / "out").exists)
    lab.until(lambda: lab.log("stdout.txt") or "log/stdout.txt" in lab.api.files)
    lab.api.stop()
    go(lab)
    lab.until(lambda: not (lab.scratch / lab.uuid / "out" / "go").exists() or store)
    assert runner.poll() is None
    lab.api.start()
    lab.finish(runner)
    assert lab.record["state"] == "Complete"
    if store:
        assert lab.api.files["log/stdout.txt"] == b"up\nmore\n"
        assert lab.api.files["output/kept"] == b"kept\n"


@pytest.mark.parametrize("answer", ["unavailable", "lost"])
def test_the_final_report_is_repeated(lab: Lab, answer: str) -> None:
    reports: list[dict[str, Any]] = []

    def spoil(attributes: dict[str, Any]) -> int:
        if attributes["state"] == "Complete":
            reports.append(attributes)
            if answer == "lost" and len(reports) == 1:
                lab.api.lose_answers = 1
            elif answer == "unavailable" and len(reports) < 3:
                return 502
        return 0

    lab.api.before_write = spoil
    lab.run()
    assert lab.record["state"] == "Complete"
    assert reports[0] == reports[-1]
    assert len(reports) == (2 if answer == "lost" else 3)


def test_a_report_on_what_is_final_already_is_given_up(lab: Lab) -> None:
    def overtake(attributes: dict[str, Any]) -> int:
        if attributes["state"] == "Complete":
            lab.record["state"] = "TempFail"
        return 0

    lab.api.before_write = overtake
    assert "it is TempFail already" in lab.run()
    assert lab.record["state"] == "TempFail"


def test_a_report_that_is_refused_becomes_a_plain_one(lab: Lab) -> None:
    lab.api.before_write = lambda attributes: 422 if "output" in attributes else 0
    lab.run()
    assert lab.record["state"] == "TempFail"
    assert "its report was refused" in lab.error()


def test_a_report_that_is_refused_in_any_form_is_an_error(lab: Lab) -> None:
    lab.api.before_write = lambda attributes: 0 if attributes["state"] == "Running" else 422
    assert "not reported" in lab.run(status=70)
    assert lab.record["state"] == "Running"


@pytest.mark.parametrize("how", ["fenced", "final"])
def test_what_is_no_longer_ours_is_stopped_without_a_report(lab: Lab, how: str) -> None:
    lab.shell("trap 'echo told; exit' TERM; echo up; while :; do sleep 0.02; done")
    runner = lab.start()
    lab.until(lambda: lab.log("stdout.txt"))
    if how == "fenced":
        lab.api.refuse = 401
    else:
        lab.record["state"] = "TempFail"
    lab.finish(runner, status=77)
    assert lab.log("stdout.txt") == "up\ntold\n"
    assert lab.record["state"] == ("Running" if how == "fenced" else "TempFail")
    assert not any(lab.scratch.iterdir())


def test_a_short_refusal_fences_nobody(lab: Lab) -> None:
    lab.shell(WAIT)
    runner = lab.start(fenced_after=20.0)
    lab.until(lambda: lab.log("stdout.txt"))
    before = len(lab.api.calls)
    lab.api.refuse = 403
    lab.until(lambda: len(lab.api.calls) > before + 2)
    go(lab)
    lab.until(lambda: not (lab.scratch / lab.uuid / "out").exists())
    lab.api.refuse = 0
    lab.finish(runner)
    assert lab.record["state"] == "Complete"


def test_a_fence_needs_refusals_and_nothing_else() -> None:
    fence = Fence(60.0)
    assert [fence.refused(t) for t in (0.0, 59.0, 60.0)] == [False, False, True]
    fence.clear()
    assert [fence.refused(t) for t in (100.0, 160.0)] == [False, True]


def test_pauses_grow_and_stay_bounded() -> None:
    pauses = pauses_seconds()
    drawn = [next(pauses) for _ in range(40)]
    assert 0.05 <= drawn[0] <= 0.1
    assert all(15.0 <= pause <= 30.0 for pause in drawn[20:])


def test_the_token_shows_nowhere(lab: Lab, tmp_path: Path) -> None:
    lab.api.secret_mounts = {"/secret": {"kind": "text", "content": "hushhush"}}
    lab.shell(f"env; cat /proc/self/cmdline; {WAIT}; exit 3")
    runner = lab.start()
    lab.until(lambda: "up" in lab.log("stdout.txt"))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    assert b"veryverysecret" not in (entry / name).read_bytes()
                except OSError:
                    continue
    go(lab)
    said = lab.finish(runner)
    assert "veryverysecret" not in said + json.dumps(lab.record)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"veryverysecret" not in path.read_bytes(), path
            assert b"hushhush" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["--help"], b"", "usage: arvados-container-runner"),
        ([], b"{}", "runner spec: container_uuid: missing"),
        ([], b"", "expected one JSON object on standard input"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], text: bytes, words: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "nodemanager.runner", *arguments],
        input=text,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert process.returncode == 64
    assert words in process.stderr.decode()


def test_a_certificate_of_somebody_else_is_not_trusted(lab: Lab) -> None:
    runner = lab.start(ca_file=None)
    assert runner.stderr is not None
    lines = iter(runner.stderr.readline, b"")
    assert any(b"CERTIFICATE_VERIFY_FAILED" in line for line in lines)
    runner.kill()
    assert lab.record["state"] == "Locked"


def test_insecure_takes_any_certificate(lab: Lab) -> None:
    lab.run(ca_file=None, insecure=True)
    assert lab.record["state"] == "Complete"


def test_it_imports_only_what_it_may() -> None:
    code = "import sys, nodemanager.runner.__main__; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=30, text=True
    ).stdout.split()
    ours = {name.split(".")[1] for name in listed if name.startswith("nodemanager.")}
    below = {"errors", "rule", "model", "outcome", "clock", "fit", "durable"}
    assert ours <= {"runner", *below, "mount_plan", "output_tree", "pieces", "work"}
    assert {"asyncio", "logging", "urllib.request", "ctypes", "shutil"}.isdisjoint(listed)
