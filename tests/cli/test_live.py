"""The command line as it is typed, against one real daemon with its own API, cloud and jobs."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

from nodemanager.launcher import main
from tests.clusters.daemons import BOUND_SECONDS, REPOSITORY, Site, free_port, wait_for

pytestmark = pytest.mark.processes

PREFIX = [sys.executable, "-m", "nodemanager.launcher"]
ALIKE = """\
  output_path: /work/out
  mounts: {/work/out: {kind: tmp, capacity: 1 MiB}}
  runtime_constraints: {vcpus: 1, ram: 64 MiB}
  use_existing: false
"""


class Typist:
    """Types commands, with the config file named by the environment."""

    def __init__(self, config: Path, home: Path) -> None:
        self.environ = {
            **{name: value for name, value in os.environ.items() if "ARVADOS" not in name},
            "ARVADOS_NODE_MANAGER_CONFIG": str(config),
            "XDG_STATE_HOME": str(home),
        }
        self.requests = home / "requests.yml"

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PREFIX, *words],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str, status: int = 0) -> tuple[str, str]:
        """What came out and what was complained of; the exit status must be `status`.

        In this process: to start another one for each costs most of the time that these tests take.
        """
        raw = io.BytesIO()
        out, err = io.TextIOWrapper(raw, write_through=True), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            found = main(words)
        assert found == status, (raw.getvalue(), err.getvalue())
        return raw.getvalue().decode(), err.getvalue()

    def submit(self, script: str, name: str = "one", more: str = "") -> str:
        """The UUID of a request that runs a shell script."""
        command = json.dumps(["sh", "-c", script])
        self.requests.write_text(f"- name: {name}\n  command: {command}\n{ALIKE}{more}")
        out, _err = self.type("submit", str(self.requests))
        return out.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("live"))
    site.write(
        f"""\
[Manage]
port = {free_port()}
ManagementToken = management-token
[Cloud]
provider = loopback
shutdown_windows = 0, 999999
[Size small]
cores = 2
ram = 1536
scratch = 4000
price = 0.10
"""
    )
    site.config.write_text(
        site.config.read_text().replace("[Daemon]", "[Daemon]\nmax_nodes = 2\npoll_time = 1 s")
    )
    site.config.chmod(0o600)
    yield site
    site.end()


@pytest.fixture(scope="module")
def typist(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Typist:
    """With the daemon running."""
    typist = Typist(site.config, tmp_path_factory.mktemp("home"))
    _out, err = typist.type("status", status=1)
    assert f"no daemon has run with {site.config} yet" in err
    site.start()
    site.serving()
    return typist


def test_a_request_from_submission_to_its_log(typist: Typist, site: Site) -> None:
    uuid = typist.submit("echo to-out; echo to-err >&2", "exome")
    out, _err = typist.type("watch", uuid)
    assert re.search(rf"{uuid} exome Complete", out)
    out, _err = typist.type("why", uuid)
    assert out.startswith(f"exome\n  request    {uuid}, Final, priority 500\n")
    assert f"Its output is in {site.state}/store/" in out
    out, _err = typist.type("logs", uuid)
    assert "==> stdout.txt <==\nto-out\n\n==> stderr.txt <==\nto-err\n" in out
    assert typist.type("logs", uuid, "--name", "stdout.txt") == ("to-out\n", "")
    out, _err = typist.type("logs", uuid, "--list")
    assert re.search(r"^ +7  stdout\.txt$", out, re.MULTILINE)
    _out, err = typist.type("logs", uuid, "--name", "other.txt", status=1)
    assert "has no log other.txt; there are runner.txt, stdout.txt, stderr.txt" in err


def test_a_log_is_followed_while_it_grows(typist: Typist, tmp_path: Path) -> None:
    go = tmp_path / "go"
    uuid = typist.submit(f"echo early; while [ ! -e {go} ]; do sleep 0.1; done; echo late; exit 3")
    follower = typist.start("logs", "-f", uuid, "--name", "stdout.txt")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "early\n"
    go.touch()
    out, err = follower.communicate(timeout=BOUND_SECONDS)
    assert (out, follower.returncode) == ("late\n", 1)
    assert "is PermFail" in err


def test_each_of_the_failures_gets_an_answer(typist: Typist, tmp_path: Path) -> None:
    text = (REPOSITORY / "etc/examples/failures/failures.yml").read_text()
    text = text.replace("cancel_after: 5", "").replace("run_after: +8 s", "run_after: +1 h")
    path = tmp_path / "failures.yml"
    path.write_text(text)
    out, _err = typist.type("submit", str(path), "--json")
    uuids = {item["name"]: item["uuid"] for item in json.loads(out)["submitted"]}
    wait_for(
        lambda: (
            "PermFail" in typist.type("why", uuids["wrong"])[0]
            and "no-node-fits" in typist.type("why", uuids["too-large"])[0]
            and "TempFail" in typist.type("why", uuids["third-time-lucky"])[0]
        ),
        "their fate is known",
    )
    out, _err = typist.type("why", uuids["too-large"])
    assert "900 TiB" in out
    assert out.endswith(f"    arvados-node-manager cancel {uuids['too-large']}\n")
    out, _err = typist.type("why", uuids["wrong"])
    assert "exited with 3" in out
    assert out.endswith(f"    arvados-node-manager logs {uuids['wrong']}\n")
    out, _err = typist.type("why", uuids["later"])
    assert "Why: run-after" in out
    out, _err = typist.type("queue")
    assert "no-node-fits" in out
    assert "run-after" in out
    typist.type("cancel", *(uuids[name] for name in ("too-large", "later", "cancelled")))
    assert "1 Complete" in typist.type("watch", uuids["third-time-lucky"])[0]


def test_nodes_are_listed_held_and_killed(typist: Typist, tmp_path: Path) -> None:
    go = tmp_path / "go"
    uuid = typist.submit(f"while [ ! -e {go} ]; do sleep 0.1; done")

    def running() -> str:
        nodes = json.loads(typist.type("nodes", "--json")[0])["nodes"]
        return next((str(n["name"]) for n in nodes if n["containers"]), "")

    name = wait_for(running, "a node runs it")
    typist.type("nodes", "hold", name)
    wait_for(lambda: re.search(rf"{name} .* hold ", typist.type("nodes")[0]), "it is held")
    out, _err = typist.type("status")
    assert "What does it cost?  0.10 per hour: 1 node of at most 2" in out
    _out, err = typist.type("nodes", "kill", name, status=2)
    assert "say --yes" in err
    go.touch()
    typist.type("watch", uuid)
    typist.type("nodes", "kill", name, "--yes", "--reason", "the test is over")
    wait_for(lambda: name not in typist.type("nodes")[0], "it is gone")
    _out, err = typist.type("nodes", "drain", "nobody", status=1)
    assert "nobody: the management server" in err
    assert "requested instance does not exist" in err


def test_a_file_whose_requests_come_after_others_is_followed(
    typist: Typist, tmp_path: Path
) -> None:
    path = tmp_path / "two.yml"
    path.write_text(
        f"- name: first\n  command: [sh, -c, 'echo x > made']\n  cwd: /work/out\n{ALIKE}"
        f"- name: second\n  command: [cat, in]\n{ALIKE}".replace(
            "command: [cat, in]\n  output_path: /work/out\n  mounts: {",
            "command: [cat, in]\n  output_path: /work/out\n"
            "  mounts: {/work/in: {kind: file, output_of: first, path: made}, ",
        )
    )
    out, _err = typist.type("submit", str(path), "--watch")
    assert "2 Complete" in out
    out, _err = typist.type("submit", str(path), "--watch", "--resume", status=2)
    assert "is unfinished" in _err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started can be interrupted, though whoever started the tests (nohup, a shell's background) had that
    ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_whoever_stops_watching_stops_nothing(typist: Typist, tmp_path: Path) -> None:
    go = tmp_path / "go"
    uuid = typist.submit(f"while [ ! -e {go} ]; do sleep 0.1; done")
    watcher = typist.start("watch", uuid)
    assert watcher.stdout is not None
    assert uuid in watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    _out, err = watcher.communicate(timeout=BOUND_SECONDS)
    assert (watcher.returncode, err) == (130, "")
    go.touch()
    assert "1 Complete" in typist.type("watch", uuid)[0]


def test_nobody_reads_the_output(typist: Typist) -> None:
    typist.submit("true", more="  run_after: +1 h\n")
    process = typist.start("queue", "--all")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(BOUND_SECONDS) == 141


def test_somebody_elses_token_is_told_what_it_lacks(typist: Typist, site: Site) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "nodemanager.server.main", "--config", str(site.config),
         "token", "create", "--user", "ada"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ada = Typist(site.config, typist.requests.parent)
    ada.environ["ARVADOS_API_TOKEN"] = made.stdout.strip()
    assert ada.type("queue")[0] == "nothing waits, nothing runs\n"
    out, _err = typist.type("dispatchers", "--json")
    [dispatcher] = json.loads(out)["dispatchers"]
    _out, err = ada.type("dispatchers", "pause", dispatcher["name"], status=1)
    assert "the token in ARVADOS_API_TOKEN may not do that" in err
    assert "Verbs of operators need an administrator's token" in err
    ada.environ["ARVADOS_API_TOKEN"] = "v2/zzzzz-gj3su-000000000000000/wrong"
    _out, err = ada.type("queue", status=1)
    assert "does not know the token in ARVADOS_API_TOKEN" in err


def test_the_plan_of_a_daemon_that_would_start(typist: Typist, site: Site) -> None:
    out, _err = typist.type("--config", str(site.config), "--dry-run", "--json")
    assert isinstance(json.loads(out), dict)


def test_the_daemon_is_down(typist: Typist, site: Site) -> None:
    site.kill(site.processes[0])
    expected = {
        "why zzzzz-xvhdp-0123456789abcde": "no API answers at https://127.0.0.1:",
        "nodes": "does not answer at http://127.0.0.1:",
    }
    # As processes of their own: the client leaves a socket behind for each refused connection.
    started = {words: typist.start(*words.split()) for words in expected}
    for words, process in started.items():
        out, err = process.communicate(timeout=BOUND_SECONDS)
        assert (out, process.returncode) == ("", 1)
        assert expected[words] in err
        assert f"is {'that' if words != 'nodes' else 'the daemon'} running?".lower() in err.lower()
        assert "Traceback" not in err
