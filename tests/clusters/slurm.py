"""A real, private Slurm from Debian's packages: any user, free ports, nothing outside its directory.

`python -m tests.clusters.slurm` starts one for a person to play with.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tests.clusters import packages
from tests.clusters.hosts import NamespaceHosts
from tests.clusters.processes import (
    ClusterFailed,
    Daemon,
    Den,
    Ports,
    call,
    environment,
    listens,
    tail,
    until_interrupted,
    wait_until,
)
from tests.clusters.slurm_conf import (
    SLURM_PATH,
    NodeKind,
    SlurmNode,
    SlurmPartition,
    SlurmSettings,
    node_size,
    version,
    write_conf,
)

__all__ = [
    "NodeKind",
    "SlurmCluster",
    "SlurmMissing",
    "SlurmNode",
    "SlurmPartition",
    "SlurmSettings",
]

_PACKAGES = ("slurm-wlm", "slurmrestd", "munge")
_PROGRAMS = ("slurmctld", "slurmd", "slurmrestd", "munged", "sbatch", "squeue", "scontrol", "sinfo")


class SlurmMissing(Exception):
    """It is not installed, and cannot be."""


class SlurmCluster:
    """A running Slurm while its `with` block lasts.

    Raises `SlurmMissing`, with what to do about it, and `NamespacesMissing`.
    """

    conf: Path
    """slurm.conf; the variable SLURM_CONF is all that a client needs."""
    env: Mapping[str, str]
    """For clients and for the daemon under test: the process's own with SLURM_CONF and a PATH."""
    directory: Path
    log_dir: Path
    restd_socket: Path
    hosts: NamespaceHosts | None = None
    """The machines that are not this one."""

    def __init__(self, settings: SlurmSettings | None = None) -> None:
        self.settings = settings or SlurmSettings()
        self._stack = ExitStack()
        self._controllers: list[Daemon] = []
        self._nodes: dict[str, list[Daemon]] = {}

    def __enter__(self) -> Self:
        packages.ensure(_PACKAGES, _installed, SlurmMissing)
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, *argv: str, stdin: str = "", seconds: float = 60.0) -> str:
        """What a client says on its standard output; a failure is an error."""
        done = call(argv, env=self.env, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            raise ClusterFailed(
                f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}\n{self._logs()}"
            )
        return done.stdout.strip()

    def start_node(self, name: str, *, booted: bool = True) -> None:
        """Its slurmd; `booted`: after a boot, without which a node powering up is not accepted."""
        self._spool(name)
        flags = ("-b",) if booted else ()
        daemon = self._daemon(("slurmd", "-D", "-N", name, *flags), f"slurmd-{name}.out")
        self._nodes.setdefault(name, []).append(daemon)

    def stop_node(self, name: str) -> None:
        """End its slurmd in order; jobs go on."""
        for daemon in self._nodes[name]:
            daemon.stop()

    def kill_node(self, name: str, *, jobs: bool = True) -> None:
        """End its slurmd as a crash would; with `jobs` its jobs too: the machine dies."""
        for daemon in self._nodes[name]:
            if jobs:
                daemon.wipe_out()
            else:
                daemon.kill()

    def add_host(self, node: SlurmNode) -> None:
        """Switch a machine on that joins as a dynamic node, not named in slurm.conf; only with `namespaces`."""
        assert self.hosts is not None
        self._spool(node.name)
        self.hosts.add(node.name)
        command = ("slurmd", "-D", "-b", "-Z", "-N", node.name, "--conf", node_size(node))
        daemon = self._daemon(self.hosts.inside(node.name, *command), f"slurmd-{node.name}.out")
        self.hosts.belongs(node.name, daemon)
        self._nodes.setdefault(node.name, []).append(daemon)

    def drop_host(self, name: str) -> None:
        """Pull the plug of a machine; Slurm is not told."""
        assert self.hosts is not None
        self.hosts.drop(name)

    def node_pid(self, name: str) -> int:
        """The process of the slurmd started last."""
        return self._nodes[name][-1].pid

    def start_controller(self) -> None:
        """And wait until it answers."""
        self._controllers.append(self._daemon(("slurmctld", "-D", "-i"), "slurmctld.out"))
        self.wait_until(self._answers, 30, "slurmctld answers")

    def stop_controller(self) -> None:
        """End it in order: it knows all its jobs again afterwards."""
        for daemon in self._controllers:
            daemon.stop()

    def kill_controller(self) -> None:
        """End it as a crash would: jobs of the last second may be lost."""
        for daemon in self._controllers:
            daemon.kill()

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Raises `ClusterFailed`, with the last lines of the logs."""
        wait_until(condition, seconds, what, self._logs)

    def node_states(self) -> dict[str, str]:
        """Of all nodes that are to be seen, in sinfo's words: idle, mixed, down*, ..."""
        rows = self.run("sinfo", "-h", "-N", "-o", "%N|%T").splitlines()
        return dict(tuple(row.split("|", 1)) for row in rows)  # type: ignore[misc]

    def wait_for_nodes(self, state: str, count: int, *, seconds: float = 30.0) -> None:
        """Until so many nodes are in a state (sinfo's word)."""
        self.wait_until(
            lambda: list(self.node_states().values()).count(state) >= count,
            seconds,
            f"{count} nodes are {state}",
        )

    def _start(self) -> None:
        den = Den("slurm-")
        self._stack.callback(den.close)
        ports = Ports()
        self._stack.callback(ports.close)
        self.directory = den.path
        self.log_dir = den.path / "log"
        self.restd_socket = den.path / "restd.sock"
        self.conf = den.path / "etc" / "slurm.conf"
        self.env = MappingProxyType(
            {**environment("SLURM", "SBATCH"), "SLURM_CONF": str(self.conf), "PATH": SLURM_PATH}
        )
        for name in ("etc", "log", "run", "state", "spool"):
            (den.path / name).mkdir()
        if self.settings.namespaces:
            self.hosts = NamespaceHosts(self.directory, self.log_dir)
            self._stack.callback(self.hosts.close)
        self._port = ports.take()
        address = self.hosts.address if self.hosts else "127.0.0.1"
        write_conf(self.settings, self.directory, address=address, port=self._port, ports=ports)
        if self.settings.munge:
            self._start_munged()
        self.start_controller()
        started = [node.name for node in self.settings.nodes if node.kind is NodeKind.NORMAL]
        for name in started:
            self.start_node(name, booted=False)
        if self.settings.restd:
            self._start_restd()
        self.wait_for_nodes("idle", len(started))

    def _start_munged(self) -> None:
        etc, run = self.conf.parent, self.directory / "run"
        key = etc / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        # --force: never mind who may write to the directories above.
        command = (
            "munged", "-F", "--force", f"--key-file={key}", f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid", f"--seed-file={run}/munge.seed",
            f"--log-file={self.log_dir}/munged.log", "--num-threads=2",
        )  # fmt: skip
        self._daemon(command, "munged.out")
        self._wait_for_socket(run / "munge.sock")

    def _start_restd(self) -> None:
        plugin = _RESTD_PLUGINS.get(version()[:2], "openapi/slurmctld")
        # It refuses SlurmUser and root, and in a container it may not unshare.
        security = "disable_user_check,disable_unshare_sysv,disable_unshare_files"
        self._daemon(
            ("slurmrestd", "-a", "rest_auth/local", "-s", plugin, "-t", "8",
             f"unix:{self.restd_socket}"),
            "slurmrestd.log",
            SLURMRESTD_SECURITY=security,
        )  # fmt: skip
        self._wait_for_socket(self.restd_socket)

    def _wait_for_socket(self, path: Path) -> None:
        self.wait_until(
            lambda: path.exists() and stat.S_ISSOCK(path.stat().st_mode),
            30,
            f"{path.name} is there",
        )

    def _daemon(self, command: tuple[str, ...], log: str, **more: str) -> Daemon:
        daemon = Daemon(
            command,
            env={**self.env, **more},
            directory=self.directory,
            log=self.log_dir / log,
        )
        self._stack.callback(daemon.wipe_out)
        return daemon

    def _spool(self, name: str) -> None:
        (self.directory / "spool" / name).mkdir(exist_ok=True)

    def _answers(self) -> bool:
        if not self._controllers[-1].is_running():
            raise ClusterFailed(f"slurmctld has ended\n{self._logs()}")
        # Knocking first: a client that finds nobody looks again after a second.
        return listens(self._port) and call(("sinfo", "-h"), env=self.env).returncode == 0

    def _logs(self) -> str:
        return tail(*sorted(self.log_dir.iterdir()))


_RESTD_PLUGINS: dict[tuple[int, ...], str] = {
    (22, 5): "openapi/v0.0.38",
    (23, 2): "openapi/v0.0.39",
}


def _installed() -> bool:
    return all(shutil.which(program, path=SLURM_PATH) for program in _PROGRAMS)


def main() -> None:
    """For a person: a cluster of three nodes until Ctrl-C."""
    with SlurmCluster() as cluster:
        until_interrupted(
            f"""\
export SLURM_CONF={cluster.conf}

In another terminal, after that line: sinfo; sbatch --mem=100 --wrap='hostname; sleep 60'; squeue
Logs are in {cluster.log_dir}. Ctrl-C ends the cluster and removes {cluster.directory}."""
        )


if __name__ == "__main__":
    main()
