"""A real, private Slurm from Debian's packages: any user, free ports, nothing outside its directory.

`python -m tests.clusters.slurm` starts one for a person to play with.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
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

_PACKAGES = ("slurm-wlm", "slurmrestd", "munge")
_PROGRAMS = ("slurmctld", "slurmd", "slurmrestd", "munged", "sbatch", "squeue", "scontrol", "sinfo")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class SlurmMissing(Exception):
    """It is not installed, and cannot be."""


class NodeKind(Enum):
    """How slurm.conf presents a node."""

    NORMAL = "UNKNOWN"
    """Started with the cluster."""
    FUTURE = "FUTURE"
    """Not to be seen before `start_node`."""
    CLOUD = "CLOUD"
    """Powered down before `start_node`; needs `scontrol update state=power_up` to be used."""


@dataclass(frozen=True)
class SlurmNode:
    """A line NodeName of slurm.conf; all numbers are invented, and believed."""

    name: str
    cpus: int = 4
    memory_mb: int = 4000
    features: tuple[str, ...] = ()
    weight: int = 1
    """Slurm fills nodes of small weight first."""
    tmp_mb: int = 0
    gpus: int = 0
    kind: NodeKind = NodeKind.NORMAL


@dataclass(frozen=True)
class SlurmPartition:
    """A line PartitionName of slurm.conf."""

    name: str
    nodes: tuple[str, ...] = ("ALL",)
    default: bool = False
    options: str = ""
    """Added as it is, for instance `PriorityTier=2`."""


@dataclass(frozen=True)
class SlurmSettings:
    """What a cluster is to be."""

    nodes: tuple[SlurmNode, ...] = (SlurmNode("n1"), SlurmNode("n2"), SlurmNode("n3"))
    partitions: tuple[SlurmPartition, ...] = (SlurmPartition("main", default=True),)
    extra: tuple[str, ...] = ()
    """Lines for slurm.conf; they come last, so they replace ours."""
    completion_log: bool = True
    """A line per job that ended (jobcomp/filetxt), read back by `sacct -c`."""
    min_job_age_seconds: int = 600
    """The controller remembers jobs that ended for so long, and up to 15 s more."""
    munge: bool = False
    """Users are authenticated by a munged; otherwise everybody is believed."""
    restd: bool = False
    """A slurmrestd listens on `SlurmCluster.restd_socket`."""
    namespaces: bool = False
    """There may be nodes in network namespaces (see `SlurmCluster.add_host`)."""


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
        command = ("slurmd", "-D", "-b", "-Z", "-N", node.name, "--conf", _size(node))
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
            {**environment("SLURM", "SBATCH"), "SLURM_CONF": str(self.conf), "PATH": _PATH}
        )
        for name in ("etc", "log", "run", "state", "spool"):
            (den.path / name).mkdir()
        if self.settings.namespaces:
            self.hosts = NamespaceHosts(self.directory, self.log_dir)
            self._stack.callback(self.hosts.close)
        self._write(ports)
        if self.settings.munge:
            self._start_munged()
        self.start_controller()
        started = [node.name for node in self.settings.nodes if node.kind is NodeKind.NORMAL]
        for name in started:
            self.start_node(name, booted=False)
        if self.settings.restd:
            self._start_restd()
        self.wait_for_nodes("idle", len(started))

    def _write(self, ports: Ports) -> None:
        self._port = ports.take()
        lines = [
            *_FIXED,
            *_paths(self.directory),
            *_authentication(self.directory, munge=self.settings.munge),
            f"ClusterName={re.sub('[^a-z0-9]', '', self.directory.name)}",
            f"SlurmctldHost=localhost({self.hosts.address if self.hosts else '127.0.0.1'})",
            f"SlurmctldPort={self._port}",
            f"SlurmdPort={ports.take()}",
            f"SlurmUser={getpass.getuser()}",
            f"SlurmdUser={getpass.getuser()}",
            *(("MaxNodeCount=100",) if version() >= (22, 5) else ()),  # of dynamic nodes too
            f"MinJobAge={self.settings.min_job_age_seconds}",
        ]
        if self.settings.completion_log:
            lines += ["JobCompType=jobcomp/filetxt", f"JobCompLoc={self.log_dir}/jobcomp.txt"]
        nodes = self.settings.nodes
        if any(node.kind is NodeKind.CLOUD for node in nodes):
            lines += _POWER
        if any(node.gpus for node in nodes):
            lines.append("GresTypes=gpu")
            gres = (_gres_line(node, self.directory) for node in nodes if node.gpus)
            (self.conf.parent / "gres.conf").write_text("\n".join(gres) + "\n")
        lines += [_node_line(node, ports.take()) for node in nodes]
        lines += [_partition_line(partition) for partition in self.settings.partitions]
        self.conf.write_text("\n".join((*lines, *self.settings.extra)) + "\n")
        # Or slurmd looks for cgroup v2 and systemd, and dies for want of them. This one does nothing until used.
        plugin = "cgroup/v1" if version() < (24, 5) else "disabled"
        (self.conf.parent / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")

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


_FIXED = (
    "SlurmctldDebug=verbose",
    "SlurmdDebug=verbose",
    "MailProg=/bin/true",
    "ProctrackType=proctrack/linuxproc",
    "TaskPlugin=task/none",
    "SwitchType=switch/none",
    "MpiDefault=none",
    "JobAcctGatherType=jobacct_gather/none",
    "AccountingStorageType=accounting_storage/none",
    "SelectType=select/cons_tres",
    "SelectTypeParameters=CR_CPU_Memory",
    # Believe NodeName rather than the machine.
    "SlurmdParameters=config_overrides",
    "SchedulerType=sched/backfill",
    "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=1",
    # With all weights 0 every job has priority 1, and nice does nothing.
    "PriorityType=priority/multifactor",
    "PriorityWeightPartition=1000000",
    "ReturnToService=2",
    "InactiveLimit=0",
    "KillWait=2",
    "CompleteWait=0",
    "MaxJobCount=50000",
    "MaxArraySize=10001",
    "SlurmctldTimeout=10",
    "SlurmdTimeout=10",
    "MessageTimeout=10",
    "UnkillableStepTimeout=60",
    "TreeWidth=65533",
    "RebootProgram=/bin/true",
    "DebugFlags=NO_CONF_HASH",
)

_POWER = (
    # Whoever plays the cloud starts the nodes by itself.
    "ResumeProgram=/bin/true",
    "SuspendProgram=/bin/true",
    "SuspendTime=100000",
    "SuspendTimeout=2",
    "ResumeTimeout=60",
    "PrivateData=cloud",
    "SlurmctldParameters=power_save_interval=1,power_save_min_interval=0,idle_on_node_suspend",
)


_RESTD_PLUGINS: dict[tuple[int, ...], str] = {
    (22, 5): "openapi/v0.0.38",
    (23, 2): "openapi/v0.0.39",
}


@functools.cache
def version() -> tuple[int, ...]:
    """Of the Slurm that is installed, for instance (22, 5, 8)."""
    said = call(("slurmctld", "-V"), env={"PATH": _PATH}).stdout
    return tuple(int(part) for part in re.findall(r"[0-9]+", said)[:3])


def _installed() -> bool:
    return all(shutil.which(program, path=_PATH) for program in _PROGRAMS)


def _paths(directory: Path) -> tuple[str, ...]:
    return (
        f"StateSaveLocation={directory}/state",
        f"SlurmdSpoolDir={directory}/spool/%n",
        f"SlurmctldPidFile={directory}/run/slurmctld.pid",
        f"SlurmdPidFile={directory}/run/slurmd-%n.pid",
        f"SlurmctldLogFile={directory}/log/slurmctld.log",
        f"SlurmdLogFile={directory}/log/slurmd-%n.log",
    )


def _authentication(directory: Path, *, munge: bool) -> tuple[str, ...]:
    if munge:
        return (
            "AuthType=auth/munge",
            f"AuthInfo=socket={directory}/run/munge.sock",
            "CredType=cred/munge",
        )
    return "AuthType=auth/none", "CredType=cred/none"


def _node_line(node: SlurmNode, port: int) -> str:
    place = f"NodeName={node.name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
    return f"{place} {_size(node)} State={node.kind.value}"


def _size(node: SlurmNode) -> str:
    words = [f"CPUs={node.cpus} RealMemory={node.memory_mb} TmpDisk={node.tmp_mb}"]
    words.append(f"Weight={node.weight}")
    if node.features:
        words.append(f"Feature={','.join(node.features)}")
    if node.gpus:
        words.append(f"Gres=gpu:{node.gpus}")
    return " ".join(words)


def _gres_line(node: SlurmNode, directory: Path) -> str:
    folder = directory / "gpus"
    folder.mkdir(exist_ok=True)
    for number in range(node.gpus):
        (folder / f"gpu{number}").symlink_to("/dev/null")
    last = node.gpus - 1
    files = f"{folder}/gpu[0-{last}]" if last else f"{folder}/gpu0"
    return f"NodeName={node.name} Name=gpu File={files}"


def _partition_line(partition: SlurmPartition) -> str:
    default = "YES" if partition.default else "NO"
    line = f"PartitionName={partition.name} Nodes={','.join(partition.nodes)} Default={default}"
    return f"{line} MaxTime=INFINITE State=UP {partition.options}".rstrip()


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
