"""Machines that are processes: started, found again, and ended with all they have started."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodemanager.clock import SystemClock
from nodemanager.clouds.base import CLUSTER_TAG, HOST_TAG, CloudContext, CloudNode, NodeOrder
from nodemanager.clouds.errors import CloudError, Denied
from nodemanager.clouds.loopback import Loopback
from nodemanager.clouds.loopback_process import MARK
from nodemanager.errors import ConfigError
from nodemanager.model import NodeSize, Resources
from nodemanager.schedulers.shares import Shares

pytestmark = pytest.mark.processes

GIB = 1 << 30
SMALL = NodeSize("small", Resources(2, 3 * GIB // 2), 0.1)
BOUND_SECONDS = 20.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < until, f"not within {BOUND_SECONDS} s: {what}"
        time.sleep(0.01)


class Yard:
    """A directory of machines. `said` is where their commands can write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shares = Shares(path / "cloud")
        self.said = path / "said"
        self.said.mkdir()
        self.made: list[CloudNode] = []

    def cloud(self, start: str, **options: str) -> Loopback:
        """A new driver object, as a daemon makes when it starts."""
        given = {"cores": "100", "ram": "100 GiB", "boot_time": "0 s", "start": start, **options}
        return Loopback(CloudContext("zzzzz", self.shares.directory, create_options=given))

    def shell(self, script: str, **options: str) -> Loopback:
        """Machines that run a script, in which `$host` is the machine's name and `$said` the place to write to."""
        said = shlex.quote(str(self.said))
        quoted = shlex.quote(f"said={said} host=$0; {script}")
        return self.cloud(f"sh -c {quoted} %h", **options)

    def create(self, cloud: Loopback, name: str = "m1") -> CloudNode:
        node = cloud.create(NodeOrder(name, SMALL, {CLUSTER_TAG: "zzzzz", HOST_TAG: f"h-{name}"}))
        self.made.append(node)
        return node

    def heard(self, name: str = "h-m1") -> str:
        """What a machine has written to the file of its name; waits for a whole line."""
        path = self.said / name
        wait_for(
            lambda: path.exists() and path.read_text().endswith("\n"), f"{name} says something"
        )
        return path.read_text()

    def leader(self) -> int:
        """The first process of the one machine there is."""
        [share] = self.shares.read()
        assert share.process is not None
        return share.process.leader

    def processes(self, node: CloudNode) -> list[int]:
        return marked(node.cloud_id)


def marked(cloud_id: str) -> list[int]:
    """The living processes with the mark in their environment, but for zombies."""
    found = []
    for pid in everybody():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{MARK}={cloud_id}".encode() in environment:
            found.append(pid)
    return found


def everybody() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def commandline(pid: int) -> str:
    """Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    for node in yard.made:
        for pid in marked(node.cloud_id):
            os.kill(pid, signal.SIGKILL)


SLEEP = "exec sleep 1000"


# What it starts.


def test_a_machine_runs_its_command_with_what_is_known_of_it(yard: Yard) -> None:
    script = 'echo "$0 $1 $2 $3 $4" > "$5/$0"; exec sleep 1000'
    said = shlex.quote(str(yard.said))
    cloud = yard.cloud(f"sh -c {shlex.quote(script)} %h %c %m 'x %%h' cpus=%c,%m {said}")
    yard.create(cloud)
    assert yard.heard() == "h-m1 2 1536 x %h cpus=2,1536\n"


def test_it_has_a_session_of_its_own_and_nothing_of_ours(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARVADOS_API_TOKEN", "a-secret")
    monkeypatch.setenv("SLURM_CONF", "/etc/of/this/site.conf")
    with (yard.path / "inherited").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        node = yard.create(yard.shell("env > $said/$host.env; echo > $said/$host; exec sleep 1000"))
        yard.heard()
        [pid] = [pid for pid in yard.processes(node) if commandline(pid) == "sleep 1000"]
        assert {os.getsid(pid) for pid in yard.processes(node)} == {yard.leader()}
        open_files = {path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()}
        assert open_files == {Path("/dev/null"), yard.shares.output("m1")}
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    environment = (yard.said / "h-m1.env").read_text()
    assert "a-secret" not in environment
    assert "SLURM_CONF=/etc/of/this/site.conf\n" in environment
    assert "/usr/sbin" in environment, "where daemons are"


def test_what_it_prints_is_kept_beside_its_file_for_its_owner_only(yard: Yard) -> None:
    node = yard.create(yard.shell("echo out; echo err >&2; echo > $said/$host; exec sleep 1000"))
    yard.heard()
    output = yard.shares.output("m1")
    assert output.read_text() == "out\nerr\n"
    assert output.stat().st_mode & 0o777 == 0o600
    cloud = yard.shell(SLEEP)
    cloud.destroy(node)
    assert not output.exists()


def test_it_starts_once_booted(yard: Yard) -> None:
    began = time.monotonic()
    yard.create(yard.shell("echo > $said/$host; exec sleep 1000", boot_time="700 ms"))
    yard.heard()
    assert time.monotonic() - began >= 0.7


def test_one_that_never_joins_starts_nothing(yard: Yard) -> None:
    cloud = yard.shell(SLEEP, never_join="1")
    node = yard.create(cloud)
    assert yard.processes(node) == []
    assert cloud.list() == [node]
    cloud.destroy(node)
    assert cloud.list() == []


def test_a_name_is_started_once(yard: Yard) -> None:
    cloud = yard.shell(SLEEP)
    node = yard.create(cloud)
    before = yard.leader()
    assert yard.create(cloud) == node
    assert yard.leader() == before
    assert {os.getsid(pid) for pid in yard.processes(node)} == {before}


# What it ends.


def test_destroying_ends_all_it_has_started_in_whatever_session(yard: Yard) -> None:
    """As a slurmd's jobs may, one leaves the session, one forgets its environment too, and one loses its parent
    besides."""
    script = (
        "b=$said/b-$host c=$said/c-$host; export b c; setsid sleep 1001 & a=$!; "
        "setsid sh -c 'env -i sleep 1002 & echo $! > $b; wait' & "
        "(setsid env -i sleep 1003 & echo $! > $c); "
        "while ! [ -s $b ]; do sleep 0.01; done; echo $a $(cat $b $c) > $said/$host; wait"
    )
    cloud = yard.shell(script)
    node = yard.create(cloud)
    other = yard.create(cloud, "m2")
    yard.heard("h-m2")
    pids = [int(word) for word in yard.heard().split()]
    assert len(pids) == 3
    assert all(map(is_alive, pids))
    cloud.destroy(node)
    assert not any(map(is_alive, pids))
    assert yard.processes(node) == []
    assert yard.processes(other), "another machine"
    cloud.destroy(other)


def test_what_starts_processes_without_end_does_not_get_away(yard: Yard) -> None:
    seconds = f"5.{os.getpid()}"
    script = f"while true; do setsid sleep {seconds} & sleep 0.001; done"
    cloud = yard.shell(f'echo > $said/$host; exec env -i "PATH=$PATH" sh -c {shlex.quote(script)}')
    node = yard.create(cloud)
    yard.heard()

    def sleepers() -> list[int]:
        return [pid for pid in everybody() if commandline(pid) == f"sleep {seconds}"]

    wait_for(lambda: len(sleepers()) > 10, "there are many")
    cloud.destroy(node)
    assert sleepers() == []


def test_destroying_one_that_is_still_booting(yard: Yard) -> None:
    cloud = yard.shell("echo > $said/$host", boot_time="1 h")
    node = yard.create(cloud)
    assert yard.processes(node)
    cloud.destroy(node)
    assert yard.processes(node) == []
    assert not any(yard.said.iterdir())


def test_its_end_leaves_no_zombie(yard: Yard) -> None:
    cloud = yard.shell(SLEEP)
    node = yard.create(cloud)
    pid = yard.leader()
    cloud.destroy(node)
    assert not Path(f"/proc/{pid}").exists()
    yard.create(yard.shell("exit 3"), "m2")
    pid = yard.leader()
    wait_for(lambda: not is_alive(pid), "it has ended")
    cloud.list()
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_breaks_is_killed_by_whoever_looks(yard: Yard) -> None:
    cloud = yard.shell(SLEEP, break_after="200 ms")
    node = yard.create(cloud)
    assert yard.processes(node)
    until = SystemClock().wall() + 0.3
    wait_for(lambda: SystemClock().wall() > until, "its time has come")
    assert cloud.list() == [node], "the cloud does not know"
    assert yard.processes(node) == []


# What goes wrong.


def test_a_program_that_is_not_there_is_denied_and_makes_nothing(yard: Yard) -> None:
    cloud = yard.cloud("no-such-daemon -N %h")
    with pytest.raises(Denied, match=r"start: there is no program 'no-such-daemon' here"):
        yard.create(cloud)
    assert cloud.list() == []
    assert "no-such-daemon" in cloud.check()[1].problem
    assert not yard.shell(SLEEP).check()[1].problem


def test_a_command_that_ends_at_once_leaves_a_machine_and_says_why(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = yard.shell("echo first; echo cannot find my configuration >&2; exit 1")
    node = yard.create(cloud)
    wait_for(lambda: not yard.processes(node), "it has ended")
    # A daemon has several driver objects.
    for driver in (cloud, cloud, yard.shell(SLEEP)):
        assert driver.list() == [node]
    [record] = [r for r in caplog.records if "has ended" in r.message]
    assert record.message == "the command of m1 has ended: cannot find my configuration"
    cloud.destroy(node)
    assert cloud.list() == []


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("slurmd -N %n", r"\[Cloud Create\] start: expected none but %h .*, found '%n'"),
        ("slurmd -N %", r"start: expected none but %h .*, found '%'"),
        ("slurmd 'x", "start: expected a command: no closing quotation"),
        ("", "start: expected a command, found nothing"),
    ],
)
def test_a_command_that_makes_no_sense_is_named(yard: Yard, start: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        yard.cloud(start)


# A daemon that is killed.

_KILLED = """
import os, signal, sys
from pathlib import Path
from nodemanager.clouds import loopback_process
from nodemanager.clouds.base import CLUSTER_TAG, CloudContext, NodeOrder
from nodemanager.clouds.loopback import Loopback
from nodemanager.model import NodeSize, Resources

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before it is written down":
    loopback_process.stat_fields = killed
options = {"cores": "100", "ram": "100 GiB", "boot_time": "0 s", "start": "sleep 1000"}
cloud = Loopback(CloudContext("zzzzz", Path(sys.argv[1]), create_options=options))
cloud.create(NodeOrder("m1", NodeSize("small", Resources(1, 1 << 30), 0.1), {CLUSTER_TAG: "zzzzz"}))
killed()
"""


@pytest.mark.parametrize("when", ["afterwards", "before it is written down"])
def test_machines_outlive_a_daemon_that_is_killed_and_the_next_one_ends_them(
    yard: Yard, when: str
) -> None:
    command = [sys.executable, "-c", _KILLED, str(yard.shares.directory), when]
    done = subprocess.run(command, check=False)
    assert done.returncode == -signal.SIGKILL
    cloud = yard.shell(SLEEP)
    [node] = cloud.list()
    yard.made.append(node)
    assert yard.processes(node)
    [share] = yard.shares.read()
    assert (share.process is not None) == (when == "afterwards")
    cloud.destroy(node)
    assert not yard.processes(node)
    assert cloud.list() == []


def test_a_process_number_that_was_used_again_is_not_ended(yard: Yard) -> None:
    cloud = yard.shell(SLEEP)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        # Two that were started in the same hundredth of a second could not be told apart.
        later = time.monotonic() + 0.03
        wait_for(lambda: time.monotonic() > later, "another tick")
        node = yard.create(cloud)
        path, ours = yard.shares.directory / "m1.json", f'"leader": {yard.leader()}'
        path.write_text(path.read_text().replace(ours, f'"leader": {bystander.pid}'))
        cloud.destroy(node)
        assert bystander.poll() is None
        assert yard.processes(node) == []
        bystander.kill()


def test_a_machine_that_cannot_be_written_down_is_not_started(yard: Yard) -> None:
    cloud = yard.shell("echo > $said/$host; exec sleep 1000")
    cloud.list()
    yard.shares.output("m1").mkdir()
    with pytest.raises(CloudError):
        yard.create(cloud)
    yard.shares.output("m1").rmdir()
    assert cloud.list() == []
