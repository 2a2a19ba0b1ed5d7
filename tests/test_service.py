"""The daemon as systemd sees it: a real process, and a real socket that stands where systemd's is."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.daemons import (
    BOUND_SECONDS,
    REPOSITORY,
    Site,
    children,
    create,
    free_port,
    state_of,
    wait_for,
)

pytestmark = pytest.mark.processes


@dataclass
class Systemd:
    """Reads what processes say to their NOTIFY_SOCKET."""

    address: str
    said: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.address[1:]}")
        self._socket.settimeout(0.2)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                message = self._socket.recv(65536).decode()
            except TimeoutError:
                continue
            lines = (line.partition("=") for line in message.split("\n"))
            self.said.append({name: value for name, _, value in lines})

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def start(self, command: list[str], watchdog_seconds: float = 0.0) -> subprocess.Popen[str]:
        """Start a process, without the shell in between that would be the wrong WATCHDOG_PID."""
        environment = {**os.environ, "NOTIFY_SOCKET": self.address}
        if watchdog_seconds:
            environment["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def count(self, name: str) -> int:
        return sum(name in message for message in self.said)

    def heard(self, name: str, times: int = 1) -> None:
        wait_for(lambda: self.count(name) >= times, f"{name}, {times} times")

    def status(self) -> str:
        return next((m["STATUS"] for m in reversed(self.said) if "STATUS" in m), "")

    def shows(self, words: str) -> None:
        wait_for(lambda: words in self.status(), f"a status with {words!r}")


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    made = Systemd(f"@nodemanager-test-{os.getpid()}")
    yield made
    made.close()


def start(systemd: Systemd, site: Site, watchdog_seconds: float = 0.0) -> subprocess.Popen[str]:
    daemon = systemd.start(site.command(), watchdog_seconds)
    site.processes.append(daemon)
    return daemon


def test_from_the_start_to_the_end(systemd: Systemd, site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    daemon = start(systemd, site, watchdog_seconds=2)
    systemd.heard("READY")
    assert systemd.said[0] == {"STATUS": "starting the API server"}, "READY comes later"
    systemd.shows("0 running, 0 waiting")
    api = site.serving()
    uuid = create(api, f"while [ ! -e {go} ]; do sleep 0.1; done")
    systemd.shows("1 running, 0 waiting")
    systemd.heard("WATCHDOG", systemd.count("WATCHDOG") + 3)

    daemon.terminate()
    output, _ = daemon.communicate(timeout=BOUND_SECONDS)
    assert daemon.returncode == 0, output
    stopping = next(n for n, message in enumerate(systemd.said) if "STOPPING" in message)
    assert systemd.said[stopping] == {"STOPPING": "1", "STATUS": "stopping; jobs run on"}
    assert all("READY" not in message for message in systemd.said[stopping:])

    again = start(systemd, site)
    systemd.heard("READY", 2)
    api = site.serving()
    assert state_of(api, uuid) == "Running"
    systemd.shows("1 running")
    go.touch()
    wait_for(lambda: state_of(api, uuid) == "Complete", "the adopted container completes")
    again.terminate()
    assert again.wait(timeout=BOUND_SECONDS) == 0


def test_an_api_that_is_away_delays_no_start(systemd: Systemd, site: Site) -> None:
    """Or systemd would end the daemon after TimeoutStartSec, over and over, for a fault that is not its own."""
    token = site.folder / "token"
    token.write_text("v2/zzzzz-gj3su-000000000000000/some-secret-of-no-use")
    token.chmod(0o600)
    text = site.config.read_text()
    site.config.write_text(f"[Arvados]\nhost = 127.0.0.1:1\ntoken_file = {token}\n{text}")
    daemon = start(systemd, site)
    systemd.heard("READY")
    systemd.shows("not registered at the API yet")
    daemon.terminate()
    output, _ = daemon.communicate(timeout=BOUND_SECONDS)
    assert "some-secret-of-no-use" not in output


HANGING = """
import threading
from pathlib import Path
from typing import Any
from nodemanager.schedulers.local import LocalScheduler

class Hanging(LocalScheduler):
    name = "hanging"

    def poll(self):
        if Path(__file__).with_name("hang").exists():
            threading.Event().wait()
        return super().poll()
"""


def test_a_ring_of_actors_that_hangs_is_not_fed(systemd: Systemd, site: Site) -> None:
    """Every thread of the daemon but one works; systemd would start it again."""
    (site.folder / "hanging.py").write_text(HANGING)
    text = site.config.read_text()
    text = text.replace("[Dispatch]\n", "[Dispatch]\nscheduler = hanging:Hanging\n")
    text = text.replace("[Scheduler]\n", "[Scheduler]\npoll_time = 0.2 s\n")
    site.config.write_text(text)
    command = ["env", f"PYTHONPATH={site.folder}", *site.command()]
    daemon = systemd.start(command, watchdog_seconds=2)
    site.processes.append(daemon)
    systemd.shows("0 running, 0 waiting")
    systemd.heard("WATCHDOG", systemd.count("WATCHDOG") + 2)
    (site.folder / "hang").touch()

    def is_starved() -> bool:
        before = systemd.count("WATCHDOG")
        # So long is what systemd waits.
        threading.Event().wait(2.2)
        return systemd.count("WATCHDOG") == before and daemon.poll() is None

    wait_for(is_starved, "no feeding")
    # Told by a reload to be less patient, the daemon's own watchdog finds it, and who it is.
    site.config.write_text(text.replace("[Daemon]\n", "[Daemon]\nwatchdog = 1 s\n"))
    daemon.send_signal(signal.SIGHUP)
    output, _ = daemon.communicate(timeout=BOUND_SECONDS)
    assert daemon.returncode == 70, output
    assert re.search(r"CRITICAL .*SchedulerActor .*has not answered for \d+ s", output)
    assert re.search(r"thread .*: .*hanging.py:\d+ poll: threading.Event", output)


def reload(systemd: Systemd, site: Site, daemon: subprocess.Popen[str], text: str) -> None:
    """Write the config file and let the daemon read it, to the end."""
    site.config.write_text(text)
    before = systemd.count("RELOADING"), systemd.count("READY")
    daemon.send_signal(signal.SIGHUP)
    systemd.heard("RELOADING", before[0] + 1)
    systemd.heard("READY", before[1] + 1)


def ping(port: int, token: str) -> int:
    """The status of a health check."""
    headers = {"Authorization": f"Bearer {token}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/_health/ping", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def reload_events(log: Path) -> list[dict[str, Any]]:
    """What a JSON log says of reloads."""
    entries: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    return [each for each in entries if each["logger"] == "nodemanager.reload"]


def test_sighup_takes_up_what_can_be(systemd: Systemd, site: Site, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    text, log = site.config.read_text(), tmp_path / "log" / "daemon.log"
    manage = "[Manage]\nport = {}\nManagementToken = {}\n"
    site.config.write_text(text + manage.format(first, "the-first-token"))
    site.config.chmod(0o600)
    daemon = start(systemd, site)
    systemd.shows("0 running, 0 waiting")
    assert ping(first, "the-first-token") == 200

    logging = f"[Logging]\nfile = {log}\nformat = json\nlevel = DEBUG\nuvicorn.error = ERROR\n"
    changed = text.replace("[Dispatch]\n", "[Dispatch]\nmax_claimed = 3\nname = another\n")
    changed += manage.format(second, "the-second-token") + logging
    reload(systemd, site, daemon, changed)
    assert ping(second, "the-second-token") == 200
    assert ping(second, "the-first-token") == 403
    with pytest.raises(urllib.error.URLError):
        ping(first, "the-first-token")
    lines = reload_events(log)
    told = {
        line["option"]: line["taken_up"] for line in lines if line.get("action") == "option_changed"
    }
    assert told == {
        **dict.fromkeys(
            ("max_claimed", "file", "format", "level", "port", "ManagementToken"), True
        ),
        "uvicorn.error": True,
        "name": False,
    }
    assert (lines[-1]["action"], lines[-1]["taken"], lines[-1]["left"]) == ("reloaded", 7, 1)

    reload(systemd, site, daemon, f"{changed}[Daemn]\n")
    assert systemd.status() == "the config file was not taken up, see the log"
    assert ping(second, "the-second-token") == 200
    # What only a restart brings is said again each time.
    reload(systemd, site, daemon, changed)
    *_, left, end = reload_events(log)
    assert (left["action"], left["option"]) == ("option_changed", "name")
    assert (end["taken"], end["left"]) == (0, 1)

    # A port that somebody has: the server goes on where it was.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reload(systemd, site, daemon, changed.replace(f"port = {second}", f"port = {port}"))
        assert ping(second, "the-second-token") == 200
    daemon.terminate()
    output, _ = daemon.communicate(timeout=BOUND_SECONDS)
    assert daemon.returncode == 0
    everything = output + log.read_text()
    assert "cannot be listened on" in everything
    assert "did you mean" in everything
    assert "-token" not in everything


def test_a_second_signal_ends_at_once(systemd: Systemd, site: Site) -> None:
    """Whatever the first one waits for: here for the API server, which is stopped."""
    daemon = start(systemd, site)
    systemd.shows("0 running, 0 waiting")
    [pid] = children(daemon.pid, "nodemanager.server")
    os.kill(pid, signal.SIGSTOP)
    try:
        daemon.terminate()
        systemd.heard("STOPPING")
        daemon.terminate()
        assert daemon.wait(timeout=5) == -signal.SIGTERM
    finally:
        os.kill(pid, signal.SIGKILL)


def test_the_api_server_on_its_own(systemd: Systemd, site: Site) -> None:
    command = [str(REPOSITORY / ".venv/bin/arvados-dispatch-api"), "--config", str(site.config)]
    server = systemd.start(command, watchdog_seconds=2)
    site.processes.append(server)
    systemd.heard("READY")
    assert systemd.status().startswith("serving https://127.0.0.1:")
    systemd.heard("WATCHDOG", 3)
    log = site.folder / "api.log"
    changed = site.config.read_text().replace("[Api]\n", "[Api]\nsweep_interval = 9 s\n")
    reload(systemd, site, server, f"{changed}[Logging]\nfile = {log}\nformat = json\n")
    left, end = (json.loads(line) for line in log.read_text().splitlines())
    assert (left["action"], left["option"]) == ("option_changed", "sweep_interval")
    assert end["action"] == "reloaded"
    server.terminate()
    output, _ = server.communicate(timeout=BOUND_SECONDS)
    assert server.returncode == 0, output
    assert "action=api_serving" in output
    systemd.heard("STOPPING")
