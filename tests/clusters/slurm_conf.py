"""slurm.conf and its neighbours for a private Slurm."""

from __future__ import annotations

import functools
import getpass
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.clusters.processes import Ports, call

SLURM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


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


def write_conf(
    settings: SlurmSettings, directory: Path, *, address: str, port: int, ports: Ports
) -> None:
    """Write slurm.conf and the others into `etc`; the controller is at `address` and `port`."""
    etc = directory / "etc"
    lines = [
        *_FIXED,
        *_paths(directory),
        *_authentication(directory, munge=settings.munge),
        f"ClusterName={re.sub('[^a-z0-9]', '', directory.name)}",
        f"SlurmctldHost=localhost({address})",
        f"SlurmctldPort={port}",
        f"SlurmdPort={ports.take()}",
        f"SlurmUser={getpass.getuser()}",
        f"SlurmdUser={getpass.getuser()}",
        *(("MaxNodeCount=100",) if version() >= (22, 5) else ()),  # of dynamic nodes too
        f"MinJobAge={settings.min_job_age_seconds}",
    ]
    if settings.completion_log:
        lines += ["JobCompType=jobcomp/filetxt", f"JobCompLoc={directory / 'log'}/jobcomp.txt"]
    nodes = settings.nodes
    if any(node.kind is NodeKind.CLOUD for node in nodes):
        lines += _POWER
    if any(node.gpus for node in nodes):
        lines.append("GresTypes=gpu")
        gres = (_gres_line(node, directory) for node in nodes if node.gpus)
        (etc / "gres.conf").write_text("\n".join(gres) + "\n")
    lines += [_node_line(node, ports.take()) for node in nodes]
    lines += [_partition_line(partition) for partition in settings.partitions]
    (etc / "slurm.conf").write_text("\n".join((*lines, *settings.extra)) + "\n")
    # Or slurmd looks for cgroup v2 and systemd, and dies for want of them. This one does nothing until used.
    plugin = "cgroup/v1" if version() < (24, 5) else "disabled"
    (etc / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")


def node_size(node: SlurmNode) -> str:
    """As slurm.conf and `slurmd --conf` have it."""
    words = [f"CPUs={node.cpus} RealMemory={node.memory_mb} TmpDisk={node.tmp_mb}"]
    words.append(f"Weight={node.weight}")
    if node.features:
        words.append(f"Feature={','.join(node.features)}")
    if node.gpus:
        words.append(f"Gres=gpu:{node.gpus}")
    return " ".join(words)


@functools.cache
def version() -> tuple[int, ...]:
    """Of the Slurm that is installed, for instance (22, 5, 8)."""
    said = call(("slurmctld", "-V"), env={"PATH": SLURM_PATH}).stdout
    return tuple(int(part) for part in re.findall(r"[0-9]+", said)[:3])


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
    return f"{place} {node_size(node)} State={node.kind.value}"


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
