"""What systemd is told of the daemon, in one line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from nodemanager.herald import Herald
from nodemanager.notify import Notifier
from nodemanager.status.health import HealthLimits
from tests.status.daemon import StandIn


def test_what_another_has_told_does_not_stay_for_ever(tmp_path: Path) -> None:
    """As the error of a reload would, on a site where nothing changes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(os.fspath(tmp_path / "notify"))
        systemd.settimeout(20)
        notifier = Notifier(os.fspath(tmp_path / "notify"))
        herald = Herald(notifier, StandIn(), HealthLimits(), interruption_seconds=0)
        herald._tell()
        first = systemd.recv(4096)
        assert first.startswith(b"STATUS=")
        herald._tell()
        notifier.ready("the config file was not taken up, see the log")
        herald.interrupted()
        herald._tell()
        # Said again once, and not before somebody came in between.
        herald._tell()
        notifier.stopping("stopping")
        told = [systemd.recv(4096) for _ in range(3)]
        assert told[0].startswith(b"READY=1")
        assert told[1] == first
        assert told[2].startswith(b"STOPPING=1")
