"""`--check --probe` as a person runs it: real API server, real scheduler, real runner."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodemanager.api.connection import call
from nodemanager.model import Resources, new_uuid
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.local import LocalScheduler
from tests.clusters.daemons import BOUND_SECONDS, Site, create, state_of, wait_for

pytestmark = pytest.mark.processes

CHANGING = """\
import json, subprocess, sys
spec = json.load(sys.stdin)
open({record!r}, "w").write(json.dumps(spec))
spec.update(json.loads({changes!r}))
command = [sys.executable, "-m", "nodemanager.runner"]
sys.exit(subprocess.run(command, input=json.dumps(spec), text=True).returncode)
"""


def node_sees(site: Site, more: str = "", **changes: Any) -> Path:
    """Let the runner find another world than the daemon does; returns where it notes what it was told."""
    program, record = site.folder / "runner.py", site.folder / "told.json"
    program.write_text(CHANGING.format(record=str(record), changes=json.dumps(changes)))
    site.write(f"command = {sys.executable} {program}\n{more}")
    return record


def probe(site: Site, *more: str) -> tuple[int, str]:
    return site.run("--check", "--probe", *more)


def lines(output: str, subject: str) -> list[str]:
    """The words after `problem SUBJECT on NODE:`."""
    found = [line for line in output.splitlines() if line.startswith(f"problem  {subject}")]
    return [line.partition(": ")[2] for line in found]


def rows(site: Site, table: str) -> list[sqlite3.Row]:
    with contextlib.closing(sqlite3.connect(site.state / "api/database.sqlite")) as database:
        return database.execute(f"select * from {table}").fetchall()


def jobs(site: Site) -> list[str]:
    """What the local scheduler still knows."""
    return [path.name for path in (site.state / "scheduler/spool").rglob("zzzzz-dz642-*")]


@pytest.fixture
def full(site: Site) -> Iterator[str]:
    """The machine is taken by a job of somebody's, whose name this is; the file `release` ends it."""
    context = SchedulerContext("zzzzz", site.state / "scheduler", {"cores": "4"})
    context.state_dir.mkdir(parents=True)
    scheduler = LocalScheduler(context)
    name = new_uuid("zzzzz", "container")
    script = f"while [ ! -e {site.folder}/release ]; do sleep 0.05; done"
    scheduler.submit([JobSpec(name, ("sh", "-c", script), Resources(4, 2**26))])
    wait_for(lambda: scheduler.poll().jobs[0].node, "it runs")
    scheduler.close()
    yield name
    (site.folder / "release").touch()
    scheduler = LocalScheduler(context)
    wait_for(lambda: scheduler.poll().jobs[0].end, "it has ended")
    scheduler.close()


class TestWell:
    def test_everything_is_looked_at_and_nothing_is_left(self, site: Site) -> None:
        status, output = probe(site)
        assert status == 0, output
        node = os.uname().nodename
        for subject in (
            "runner", "certificate", "API", "token", "clock", "store", "scratch",
            "container engine", "input directory",
        ):  # fmt: skip
            assert f"ok       {subject} on {node}: " in output
        for words in ("accepted by local as job ", f"it has ended on {node}"):
            assert f"...      probe: {words}" in output
        assert output.endswith("no problems\n")
        assert list((site.state / "store").iterdir()) == []
        assert list((site.state / "scratch").iterdir()) == []
        assert jobs(site) == []
        assert rows(site, "containers") == rows(site, "dispatchers") == rows(site, "links") == []

    def test_the_node_gets_a_token_that_may_do_next_to_nothing(self, site: Site) -> None:
        record = node_sees(site)
        status, output = probe(site)
        assert status == 0, output
        told = json.loads(record.read_text())
        kept = [
            (site.state / f"api/{who}_token").read_text().strip() for who in ("root", "dispatcher")
        ]
        assert told["api_token"] not in kept
        assert told["api_token"].startswith("v2/zzzzz-gj3su-")
        for secret in (told["api_token"], *kept):
            assert secret.rpartition("/")[2] not in output
        # And it is dead by now.
        assert told["api_token"].split("/")[1] not in [
            row[0] for row in rows(site, "api_client_authorizations")
        ]

    def test_the_daemon_works_on_the_same_state_afterwards(self, site: Site) -> None:
        assert probe(site)[0] == 0
        site.start()
        api = site.serving()
        uuid = create(api, "true")
        wait_for(lambda: state_of(api, uuid) == "Complete", "a container completes")

    def test_uploads(self, site: Site) -> None:
        site.write("store = api\n")
        status, output = probe(site)
        assert status == 0, output
        assert "store on " in output
        assert "as it should" in output


class TestProblems:
    def test_certificates_of_another_authority(self, site: Site, tmp_path: Path) -> None:
        other = tmp_path / "other.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=other", "-keyout", str(tmp_path / "key"), "-out", str(other)],
            check=True, capture_output=True,
        )  # fmt: skip
        node_sees(site, ca_file=str(other))
        status, output = probe(site)
        assert status == 1
        [words] = lines(output, "certificate on")
        assert "does not pass" in words
        assert str(other) in words
        assert output.endswith("1 problems\n")

    def test_a_token_that_is_nobodys(self, site: Site) -> None:
        node_sees(site, api_token="v2/zzzzz-gj3su-000000000000009/nobodys")
        status, output = probe(site)
        assert status == 1
        [words] = lines(output, "token on")
        assert "401" in words

    def test_an_api_that_is_not_reached_from_the_node(self, site: Site) -> None:
        node_sees(site, api_url="https://127.0.0.1:1")
        status, output = probe(site)
        assert status == 1
        assert "https://127.0.0.1:1 cannot be used from this node" in lines(output, "API on")[0]

    def test_a_store_that_is_not_mounted_on_the_node(self, site: Site, tmp_path: Path) -> None:
        node_sees(site, store=str(tmp_path / "unmounted"))
        status, output = probe(site)
        assert status == 1
        assert "no such directory on this node; mount it" in lines(output, "store on")[0]

    def test_a_store_that_cannot_be_written_on_the_node(self, site: Site) -> None:
        node_sees(site, store="/proc")
        status, output = probe(site)
        assert status == 1
        assert lines(output, "store on")

    def test_a_store_that_is_another_directory_on_the_node(
        self, site: Site, tmp_path: Path
    ) -> None:
        (tmp_path / "own").mkdir()
        node_sees(site, store=str(tmp_path / "own"))
        status, output = probe(site)
        assert status == 1
        assert "it is not the same directory" in lines(output, "store on")[0]

    def test_a_store_that_is_not_here(self, site: Site, tmp_path: Path) -> None:
        site.write(f"store = {tmp_path / 'unmounted'}\n")
        status, output = probe(site)
        assert status == 1
        assert "make it, or mount it" in lines(output, "probe")[0]

    def test_a_runner_that_is_not_on_the_node(self, site: Site) -> None:
        site.write("command = /nonexistent/runner\n")
        status, output = probe(site)
        assert status == 1
        [words] = lines(output, "probe")
        assert "[Runner] command = /nonexistent/runner" in words
        assert "No such file" in words
        assert jobs(site) == []

    def test_what_it_stands_on_is_looked_at_first(self, site: Site) -> None:
        site.write("\n[Arvados]\nhost = 127.0.0.1:1\ntoken = abc\n")
        site.config.chmod(0o600)
        status, output = probe(site)
        assert status == 1
        assert lines(output, "probe") == ["not tried: put right what is said above first"]
        assert not site.state.exists()


class TestPatience:
    def test_a_job_that_does_not_start_in_time(self, site: Site, full: str) -> None:
        status, output = probe(site, "--probe-timeout", "1.5 s")
        assert status == 1
        [words] = lines(output, "probe")
        assert words.startswith("its job did not end within 1.5 s: it waits: ")
        assert "--probe-timeout" in words
        assert jobs(site) == [full]

    def test_ctrl_c_takes_a_waiting_job_away(self, site: Site, full: str) -> None:
        process = site.start("--check", "--probe")
        assert process.stdout is not None
        output = ""
        while "it waits" not in output:
            output += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 1
        assert lines(rest, "probe") == ["interrupted; its job was cancelled"]
        assert jobs(site) == [full]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_so_do_other_signals_a_running_one(self, site: Site, number: signal.Signals) -> None:
        site.write("command = sleep 1000\n")
        process = site.start("--check", "--probe")
        assert process.stdout is not None
        output = ""
        while "it runs on" not in output:
            output += process.stdout.readline()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 1
        assert "interrupted" in lines(rest, "probe")[0]
        assert jobs(site) == []

    def test_a_terminal_that_is_gone_leaves_no_job_behind(self, site: Site, full: str) -> None:
        site.write("command = sleep 1000\n")
        terminal, its_end = pty.openpty()
        process = subprocess.Popen(
            site.command("--check", "--probe", "--probe-timeout", "3 s"),
            stdout=its_end,
            stderr=its_end,
            start_new_session=True,
        )
        os.close(its_end)
        output = b""
        while b"it waits" not in output:
            output += os.read(terminal, 4096)
        os.close(terminal)
        (site.folder / "release").touch()
        process.wait(timeout=BOUND_SECONDS)
        assert jobs(site) == [full]


class TestTheDaemon:
    def test_one_that_runs_is_not_disturbed(self, site: Site) -> None:
        daemon = site.start()
        api = site.serving()
        status, output = probe(site)
        assert status == 1
        [words] = lines(output, "probe")
        assert f"process {daemon.pid}" in words
        assert "its jobs run on" in words
        uuid = create(api, "true")
        wait_for(lambda: state_of(api, uuid) == "Complete", "a container completes")

    def test_nodes_that_do_not_exist_yet_are_not_waited_for(self, site: Site) -> None:
        site.write("\n[Cloud]\nprovider = loopback\n[Size small]\ncores = 1\nram = 512\n")
        status, output = probe(site)
        assert status == 1
        assert "a probe boots none" in lines(output, "probe")[0]


class TestAnApiElsewhere:
    @pytest.fixture
    def elsewhere(self, site: Site, tmp_path: Path) -> Iterator[Site]:
        """A site whose API is the server of another one's daemon."""
        site.start()
        site.serving()
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        other = Site(folder)
        yield other
        other.end()

    def write(self, site: Site, other: Site, who: str, more: str = "") -> str:
        """Use the token of `who`, which is the answer."""
        api = site.state / "api"
        token = (api / f"{who}_token").read_text().strip()
        file = other.folder / "token"
        file.write_text(token)
        file.chmod(0o600)
        port = (api / "port").read_text().strip()
        other.write(
            f"{more}\n[Arvados]\nhost = 127.0.0.1:{port}\ntoken_file = {file}\n"
            f"certs_file = {api / 'certificate.pem'}\n"
        )
        return token

    def test_an_administrators_token_is_not_sent(self, site: Site, elsewhere: Site) -> None:
        self.write(site, elsewhere, "root")
        status, output = probe(elsewhere)
        assert status == 0, output
        assert "may make no others" not in output
        assert [row for row in rows(site, "links") if "probe" in row] == []

    def test_a_dispatchers_token_is_all_there_is(self, site: Site, elsewhere: Site) -> None:
        token = self.write(site, elsewhere, "dispatcher")
        status, output = probe(elsewhere)
        assert status == 0, output
        assert "the token in use may make no others" in output
        assert "ok       store on " in output
        assert token.rpartition("/")[2] not in output

    def test_with_uploads_it_leaves_the_exit_status(self, site: Site, elsewhere: Site) -> None:
        self.write(site, elsewhere, "dispatcher", "store = api")
        status, output = probe(elsewhere)
        assert status == 0, output
        assert "found no problem" in output

    def test_its_dispatcher_goes_on_undisturbed(self, site: Site, elsewhere: Site) -> None:
        api = site.serving()
        before = wait_for(lambda: call(api.dispatchers().list())["items"], "it has registered")
        self.write(site, elsewhere, "dispatcher")
        assert probe(elsewhere)[0] == 0
        after = call(api.dispatchers().list())["items"]
        assert [(d["uuid"], d["epoch"], d["state"]) for d in after] == [
            (d["uuid"], d["epoch"], d["state"]) for d in before
        ]

    def test_a_token_that_was_revoked(self, site: Site, elsewhere: Site) -> None:
        api = site.serving()
        made = call(api.api_client_authorizations().create(body={"api_client_authorization": {}}))
        self.write(site, elsewhere, "root")
        file = elsewhere.folder / "token"
        file.write_text(f"v2/{made['uuid']}/{made['api_token']}")
        call(api.api_client_authorizations().delete(uuid=made["uuid"]))
        status, output = probe(elsewhere)
        assert status == 1
        assert lines(output, "API")
        assert "not tried" in lines(output, "probe")[0]


def test_nobody_listens_afterwards(site: Site) -> None:
    assert probe(site)[0] == 0
    port = int((site.state / "api/port").read_text())
    with socket.socket() as knocking:
        assert knocking.connect_ex(("127.0.0.1", port)) != 0
