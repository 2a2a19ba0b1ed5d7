"""What we tell systemd about this process, and it asks of us: the protocol of sd_notify(3).

Without a NOTIFY_SOCKET nothing is told. Messages are datagrams to a socket that systemd reads when it has time:
telling never blocks and never fails, as a service manager that does not listen is no reason not to work.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

MAX_STATUS = 400
"""Characters; more would not be seen anyway."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """One per process; may be used by any thread. `take_notifier` makes it."""

    address: str = ""
    """Of the socket; empty: nobody listens."""
    watchdog_seconds: float = 0.0
    """So often at least `alive` has to be called; 0: nobody waits for it."""

    def ready(self, status: str) -> None:
        """It has started, or taken up a changed configuration."""
        self._tell(f"READY=1\n{_status(status)}")

    def status(self, status: str) -> None:
        """One line for people: what it is doing."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        # systemd wants the clock that stands still in suspend, to know which reload is meant.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now}\n{_status('reading the config file again')}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._tell(f"STOPPING=1\n{_status(status)}")

    def alive(self) -> None:
        """It is not stuck."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self.address:
            return
        # "@" stands for the zero byte of a name that is not in the file system.
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, flags) as out:
                out.sendto(message.encode("utf-8", "replace"), name)
        except (OSError, ValueError):
            return


def take_notifier(environ: MutableMapping[str, str] = os.environ) -> Notifier:
    """What the environment says about who listens; it is taken out of there, as it is not meant for our children."""
    address = environ.pop("NOTIFY_SOCKET", "")
    limit = environ.pop("WATCHDOG_USEC", "")
    whose = environ.pop("WATCHDOG_PID", "")
    if not address.startswith(("/", "@")):
        return Notifier()
    is_ours = whose in ("", str(os.getpid()))
    return Notifier(address, int(limit) / 1e6 if is_ours and limit.isdecimal() else 0.0)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:MAX_STATUS]}"
