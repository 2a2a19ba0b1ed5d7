"""Hosts on this machine: network namespaces with names and addresses of their own, where root may make them.

Each has a bind-mounted /etc/hosts with all their names. The bridge that joins them is in a namespace as well, and
of this machine's network only one end of a virtual cable is: the kernel removes that with the last process.
"""

from __future__ import annotations

import functools
import os
import random
from contextlib import ExitStack
from pathlib import Path

from tests.clusters.processes import ClusterFailed, Daemon, call, tail, wait_until

HEAD = "head"
"""The name of this machine's own network among the hosts."""
_FIRST = 11
_LIVE = 'hostname "$0" && mount --bind "$1" /etc/hosts && ip link set lo up && exec sleep infinity'


class NamespacesMissing(Exception):
    """They cannot be made here."""


class NamespaceHosts:
    """A network of hosts, which starts with none but the head.

    Names h1 to h60 have their addresses from the beginning: a scheduler may be told of hosts before they are there.
    Raises `NamespacesMissing`, with the reason.
    """

    address: str
    """Where hosts reach this machine, and servers of the tests that listen there."""

    def __init__(self, directory: Path, log_dir: Path) -> None:
        problem = _problem()
        if problem:
            raise NamespacesMissing(f"network namespaces cannot be made here: {problem}")
        self._directory = directory
        self._log_dir = log_dir
        self._stack = ExitStack()
        self._holders: dict[str, Daemon] = {}
        self._others: dict[str, list[Daemon]] = {}
        self._net = _free_net()
        self.address = f"{self._net}.1"
        self._file = directory / "hosts"
        self._addresses = {HEAD: self.address}
        for number in range(1, 61):
            self._addresses[f"h{number}"] = f"{self._net}.{_FIRST + number - 1}"
        self._write()
        with self._stack:
            self._lay_cables()
            self._stack = self._stack.pop_all()

    def close(self) -> None:
        """All hosts, with what runs on them."""
        for name in tuple(self._others):
            self.drop(name)
        self._stack.close()

    def address_of(self, name: str) -> str:
        """The address of a host, which need not be there yet."""
        if name not in self._addresses:
            self._addresses[name] = f"{self._net}.{_FIRST + len(self._addresses) - 1}"
            self._write()
        return self._addresses[name]

    def add(self, name: str) -> None:
        """Switch a host on."""
        address = self.address_of(name)
        holder = self._unshare(name, "--net", "--uts", "--mount")
        self._others[name] = []
        switch, pid = self._holders["switch"].pid, holder.pid
        cable = f"c{pid}"
        _ip(switch, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip(switch, "link", "set", cable, "master", "switch", "up")
        _ip(pid, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip(pid, "link", "set", "eth0", "up")
        _ip(pid, "route", "add", "default", "via", self.address)

    def inside(self, name: str, *command: str) -> tuple[str, ...]:
        """A command line that runs `command` on a host, in the directory it is called in."""
        pid = self._holders[name].pid
        return ("nsenter", f"--target={pid}", "--net", "--uts", "--mount", "--wd=.", *command)

    def belongs(self, name: str, daemon: Daemon) -> None:
        """A daemon that runs on a host and dies with it."""
        self._others.setdefault(name, []).append(daemon)

    def drop(self, name: str) -> None:
        """Pull the plug of a host: its daemons and all their jobs are gone at once."""
        self._holders.pop(name).wipe_out()
        for daemon in self._others.pop(name):
            daemon.wipe_out()

    def _lay_cables(self) -> None:
        switch = self._unshare("switch", "--net").pid
        self._unshare(HEAD, "--uts", "--mount")
        _ip(switch, "link", "add", "switch", "type", "bridge")
        _ip(switch, "link", "set", "switch", "up")
        cable = f"anm{switch}"
        _ip(
            None,
            "link",
            "add",
            cable,
            "type",
            "veth",
            "peer",
            "name",
            "uplink",
            "netns",
            str(switch),
        )
        _ip(switch, "link", "set", "uplink", "master", "switch", "up")
        _ip(None, "addr", "add", f"{self.address}/24", "dev", cable)
        _ip(None, "link", "set", cable, "up")

    def _unshare(self, name: str, *kinds: str) -> Daemon:
        private = ("--propagation=private",) if "--mount" in kinds else ()
        # The head's loopback interface is up already, the switch has no name.
        live = _LIVE if "--mount" in kinds else "exec sleep infinity"
        holder = Daemon(
            ("unshare", *kinds, *private, "sh", "-c", live, name, str(self._file)),
            env=os.environ,
            directory=self._directory,
            log=self._log_dir / f"host-{name}.out",
        )
        self._stack.callback(holder.wipe_out)
        self._holders[name] = holder
        command = Path(f"/proc/{holder.pid}/comm")

        def lives() -> bool:
            if not holder.is_running():
                raise ClusterFailed(f"no host {name}: {self._logs()}")
            return command.read_text() == "sleep\n"

        wait_until(lives, 20, f"host {name} lives", self._logs)
        return holder

    def _write(self) -> None:
        # In place: it is mounted on the hosts.
        lines = "".join(f"{address} {name}\n" for name, address in self._addresses.items())
        self._file.write_text(f"127.0.0.1 localhost\n{lines}")
        self._file.chmod(0o644)

    def _logs(self) -> str:
        return tail(*sorted(self._log_dir.glob("host-*.out")))


@functools.cache
def _problem() -> str:
    if os.geteuid() != 0:
        return "only root may"
    tried = call(
        ("unshare", "--net", "--uts", "--mount", "ip", "link", "add", "try", "type", "bridge"),
        env=os.environ,
    )
    return tried.stderr.strip()


def _ip(pid: int | None, *words: str) -> None:
    inside = () if pid is None else ("nsenter", f"--target={pid}", "--net")
    done = call((*inside, "ip", *words), env=os.environ)
    if done.returncode != 0:
        raise ClusterFailed(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _free_net() -> str:
    """The first three numbers of a private network that is not in use here."""
    used = call(("ip", "-o", "-4", "addr"), env=os.environ).stdout
    while True:
        net = f"10.{random.randint(64, 250)}.{random.randint(0, 255)}"
        if f" {net}." not in used:
            return net
