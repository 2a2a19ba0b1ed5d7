"""The command as a person runs it: real daemon, real API server, real jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.clusters.daemons import (
    BOUND_SECONDS,
    REPOSITORY,
    Site,
    children,
    create,
    state_of,
    wait_for,
)


def requests(folder: Path, *names_and_scripts: tuple[str, str]) -> Path:
    """A file of requests that run shell scripts."""
    path = folder / "requests.yml"
    items = [
        {
            "name": name,
            "command": ["sh", "-c", script],
            "output_path": "/work/out",
            "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
            "runtime_constraints": {"vcpus": 1, "ram": 1 << 26},
            "use_existing": False,
        }
        for name, script in names_and_scripts
    ]
    path.write_text(json.dumps(items))
    return path


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--resume"], "--resume goes with --run"),
            (["--check", "--run", "x"], "exclude each other"),
            (["--probe"], "--probe goes with --check"),
            (["--check", "--probe", "--probe-timeout", "soon"], "expected a duration"),
            (["--unknown"], "unrecognized arguments"),
        ],
    )
    def test_wrong_usage(self, site: Site, arguments: list[str], words: str) -> None:
        status, output = site.run(*arguments)
        assert (status, words in output) == (2, True), output

    def test_no_config(self) -> None:
        found = subprocess.run(
            [sys.executable, "-m", "nodemanager.launcher"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 2
        assert "--config" in found.stderr

    def test_a_config_file_that_is_not_there(self, site: Site) -> None:
        site.config.unlink()
        status, output = site.run()
        assert status == 2
        assert str(site.config) in output
        assert "Traceback" not in output

    def test_a_misspelt_option_is_named_with_the_nearest(self, site: Site) -> None:
        site.write("[Dispatch2]\n")
        status, output = site.run("--check")
        assert status == 2
        assert "Dispatch" in output
        assert "Traceback" not in output

    def test_bad_request_files_submit_nothing(self, site: Site, tmp_path: Path) -> None:
        path = tmp_path / "bad.yml"
        path.write_text("- name: a\n  command: []\n  priority: many\n")
        status, output = site.run("--run", str(path))
        assert status == 2
        assert f"{path}:3: priority" in output
        assert not (site.state / "api").exists()

    def test_version(self, site: Site) -> None:
        status, output = site.run("--version")
        assert status == 0
        assert "pykka" in output


class TestCheck:
    def test_all_is_well(self, site: Site) -> None:
        status, output = site.run("--check")
        assert status == 0, output
        assert "no problems" in output
        assert not site.state.exists(), "--check changes nothing"

    def test_what_does_not_work_is_named(self, site: Site) -> None:
        site.write("command = /nonexistent/runner\ncontainer_engine = podman\n")
        status, output = site.run("--check")
        assert status == 1
        assert "/nonexistent/runner is not installed" in output

    def test_an_api_that_does_not_answer(self, site: Site) -> None:
        site.write(
            "[Arvados]\nhost = 127.0.0.1:1\ntoken_file = token\n[Dispatch]\n".replace(
                "[Dispatch]\n", ""
            )
        )
        token = site.folder / "token"
        token.write_text("secret-of-the-test")
        token.chmod(0o600)
        status, output = site.run("--check")
        assert status == 1
        assert "problem" in output
        assert "secret-of-the-test" not in output


@pytest.mark.processes
class TestRun:
    def test_the_examples_complete(self, site: Site) -> None:
        status, output = site.run("--run", str(REPOSITORY / "etc/examples"))
        assert status == 0, output
        assert "8 Complete" in output
        assert "\x1b" not in output
        [report] = [path.read_text() for path in (site.state / "store").glob("*/output/report.tsv")]
        assert [line.split("\t")[0] for line in report.splitlines()] == [
            "genome", "alpha", "beta", "gamma"
        ]  # fmt: skip

    def test_logs_and_outputs_can_be_kept_by_the_api(self, site: Site) -> None:
        site.write("store = api\n")
        status, output = site.run("--run", str(REPOSITORY / "etc/examples"))
        assert status == 0, output
        assert "/arvados/v1/containers/UUID/files" in output
        assert not (site.state / "store").exists()
        [report] = (site.state / "api/files").glob("*/output/report.tsv")
        assert report.read_text().startswith("genome\t")

    def test_the_failures_end_as_described(self, site: Site) -> None:
        status, output = site.run("--run", str(REPOSITORY / "etc/examples/failures"))
        assert status == 1, output
        last = output[output.rindex("\nthird-time-lucky") :]
        ends = dict(re.findall(r"^([a-z-]+) +([A-Z][A-Za-z]+)", last, re.MULTILINE))
        assert ends == {
            "third-time-lucky": "Complete",
            "wrong": "PermFail",
            "too-large": "Cancelled",
            "later": "Complete",
            "cancelled": "Cancelled",
        }
        assert "attempt 3" in last
        assert "wants 900 TiB" in last
        lucky = [row for row in site.containers() if row["attempt"] > 1]
        assert [row["attempt"] for row in lucky] == [2, 3]
        for row in lucky:
            assert row["run_after"] is not None
            assert row["started_at"] >= row["run_after"], "there is a backoff between attempts"

    @pytest.mark.parametrize("moment", [0, 1, 3])
    def test_kill_and_resume(self, site: Site, tmp_path: Path, moment: int) -> None:
        """kill -9 of the daemon in the middle: all end, and nothing runs twice within an attempt."""
        ledger = tmp_path / "ledger"
        script = f'echo "$ARVADOS_CONTAINER_UUID" >> {ledger}; sleep 0.7'
        source = requests(tmp_path, *((f"job-{n}", script) for n in range(12)))
        first = site.start("--run", str(source))
        wait_for(
            lambda: ledger.exists() and len(ledger.read_text().splitlines()) > moment * 3,
            "jobs are running",
        )
        first.kill()
        first.wait()
        status, output = site.run("--run", str(source), "--resume")
        assert status == 0, output
        assert "12 Complete" in output
        rows = site.containers()
        assert len(rows) == 12, "no twins"
        assert {row["state"] for row in rows} == {"Complete"}
        started = Counter(ledger.read_text().split())
        assert set(started) == {row["uuid"] for row in rows}
        assert set(started.values()) == {1}

    def test_resume_without_an_unfinished_run(self, site: Site, tmp_path: Path) -> None:
        source = requests(tmp_path, ("a", "true"))
        status, output = site.run("--run", str(source), "--resume")
        assert status == 2
        assert "is unfinished" in output

    def test_ctrl_c_says_how_to_go_on(self, site: Site, tmp_path: Path) -> None:
        started = tmp_path / "started"
        source = requests(tmp_path, ("a", f"touch {started}; sleep 3"))
        process = site.start("--run", str(source))
        wait_for(started.exists, "the command runs")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 130
        assert "--resume" in output
        status, output = site.run("--run", str(source), "--resume")
        assert (status, "1 Complete" in output) == (0, True), output


@pytest.mark.processes
class TestDaemon:
    def test_sigterm_leaves_jobs_running_for_the_next_start(
        self, site: Site, tmp_path: Path
    ) -> None:
        go, ledger = tmp_path / "go", tmp_path / "ledger"
        script = f"echo x >> {ledger}; while [ ! -e {go} ]; do sleep 0.1; done; echo done"
        daemon = site.start()
        api = site.serving()
        uuid = create(api, script)
        wait_for(ledger.exists, "the command runs")
        daemon.terminate()
        assert daemon.wait(timeout=BOUND_SECONDS) == 0
        again = site.start()
        api = site.serving()
        assert state_of(api, uuid) == "Running"
        go.touch()
        wait_for(lambda: state_of(api, uuid) == "Complete", "the adopted container completes")
        assert ledger.read_text() == "x\n"
        assert (site.state / f"store/{uuid}/log/stdout.txt").read_text() == "done\n"
        again.terminate()
        assert again.wait(timeout=BOUND_SECONDS) == 0

    def test_a_second_daemon_on_the_same_state_directory_is_refused(self, site: Site) -> None:
        first = site.start()
        site.serving()
        status, output = site.run()
        assert status == 1
        assert f"process {first.pid}" in output

    def test_the_embedded_server_is_started_again(self, site: Site) -> None:
        site.start()
        api = site.serving()
        uuid = create(api, "true")
        wait_for(lambda: state_of(api, uuid) == "Complete", "the first container completes")
        [pid] = children(site.processes[0].pid, "nodemanager.server")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: children(site.processes[0].pid, "nodemanager.server") not in ([], [pid]), "a new server")  # fmt: skip
        api = site.serving()
        uuid = create(api, "true")
        wait_for(lambda: state_of(api, uuid) == "Complete", "the next container completes")

    def test_no_token_is_in_sight(self, site: Site, tmp_path: Path) -> None:
        """Not in any argument, environment, log or readable file of a job."""
        proof = tmp_path / "proof"
        script = f"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ > {proof} 2>/dev/null; true"
        site.start()
        api = site.serving()
        uuid = create(api, script)
        wait_for(lambda: state_of(api, uuid) == "Complete", "the container completes")
        root = (site.state / "api/root_token").read_text().strip()
        seen = proof.read_text(errors="replace")
        assert root not in seen
        assert "v2/zzzzz-gj3su" not in seen
        logs = "".join(p.read_text(errors="replace") for p in (site.state / "store").rglob("*.txt"))
        assert "v2/zzzzz-gj3su" not in logs
        readable = [
            str(path)
            for path in site.state.rglob("*")
            if path.is_file()
            and path.stat().st_mode & 0o077
            and b"v2/zzzzz-gj3su" in path.read_bytes()
        ]
        assert readable == []
