from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager.notify import MAX_STATUS, Notifier, take_notifier


class Manager:
    """Stands where systemd stands: a datagram socket that is read when we like."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def next(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    if request.param == "file":
        name = shown = str(tmp_path / "notify")
    else:
        shown = f"@nodemanager-test-{os.getpid()}"
        name = f"\0{shown[1:]}"
    manager = Manager(name)
    yield manager, shown
    manager.socket.close()


def test_every_message(systemd: tuple[Manager, str]) -> None:
    manager, address = systemd
    notifier = Notifier(address)
    notifier.ready("3 running")
    assert manager.next() == ["READY=1", "STATUS=3 running"]
    notifier.status("two\nlines\tare one")
    assert manager.next() == ["STATUS=two lines are one"]
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    notifier.reloading()
    first, second, third = manager.next()
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) / 1e6 + 1e-6 <= time.clock_gettime(time.CLOCK_MONOTONIC) + 1
    assert third.startswith("STATUS=")
    notifier.stopping("jobs run on")
    assert manager.next() == ["STOPPING=1", "STATUS=jobs run on"]
    notifier.alive()
    assert manager.next() == ["WATCHDOG=1"]
    notifier.status("x" * 10_000)
    assert manager.next() == [f"STATUS={'x' * MAX_STATUS}"]


def test_the_environment_is_taken_and_not_left_to_children() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    assert take_notifier(environ) == Notifier("/run/systemd/notify", 30.0)
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_only_fed_by_whom_it_waits_for(
    more: dict[str, str], seconds: float
) -> None:
    environ = {"NOTIFY_SOCKET": "@x", **more}
    assert take_notifier(environ).watchdog_seconds == seconds


@pytest.mark.parametrize(
    "address", ["", "relative/path", "vsock:2:1234", "/nowhere/at/all", "/x\0y"]
)
def test_nobody_listens(address: str) -> None:
    """Nothing is told, and nothing is wrong."""
    take_notifier({"NOTIFY_SOCKET": address}).ready("x")
    Notifier(address).alive()


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    for _ in range(1000):
        notifier.status("x" * MAX_STATUS)
    manager.socket.close()
