import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.processes import ClusterFailed, Daemon, Den, Ports, listens, wait_until

# A daemon with a job that goes its own way: a session of its own, no parent, an empty environment.
ESCAPING = "setsid env -i sh -c 'sleep 3000 & echo $! > escaped' & wait; sleep 3000"


@pytest.fixture
def den() -> Iterator[Path]:
    den = Den("den-")
    yield den.path
    den.close()
    assert not den.path.exists()


def daemon(den: Path, script: str) -> Daemon:
    return Daemon(("sh", "-c", script), env=os.environ, directory=den, log=den / "log")


def escaped(den: Path) -> int:
    file = den / "escaped"
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"), 10, "a job", str)
    return int(file.read_text())


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_daemon_that_is_killed_leaves_its_jobs(den: Path) -> None:
    begun = daemon(den, ESCAPING)
    job = escaped(den)
    begun.kill()
    assert not begun.is_running()
    assert runs(job)
    begun.wipe_out()
    assert not runs(job)


def test_a_daemon_is_asked_before_it_ends(den: Path) -> None:
    begun = daemon(
        den, "trap 'echo asked > said; exit' TERM; touch ready; while :; do sleep 0.01; done"
    )
    wait_until((den / "ready").exists, 10, "it is ready", str)
    assert begun.is_running()
    begun.stop()
    assert (den / "said").read_text() == "asked\n"
    begun.wipe_out()


def test_ends_can_be_repeated(den: Path) -> None:
    begun = daemon(den, "exit 3")
    wait_until(lambda: not begun.is_running(), 10, "it ends", str)
    for _ in range(2):
        begun.stop()
        begun.kill()
        begun.wipe_out()


def test_a_program_that_is_not_there_is_named(den: Path) -> None:
    with pytest.raises(ClusterFailed, match="no-such-program"):
        Daemon(("no-such-program",), env=os.environ, directory=den, log=den / "log")


def test_a_directory_may_go_before_its_den(den: Path) -> None:
    shutil.rmtree(den)


def test_no_port_is_lent_twice() -> None:
    one, other = Ports(), Ports()
    taken = [ports.take() for ports in (one, other) for _ in range(20)]
    assert len(set(taken)) == 40
    assert not any(listens(port) for port in taken)
    one.close()
    other.close()


def test_a_wait_shows_the_logs() -> None:
    with pytest.raises(ClusterFailed, match="pigs fly\nno wings"):
        wait_until(lambda: False, 0.02, "pigs fly", lambda: "no wings")
