"""A real, private Grid Engine from Debian's packages: any user, free ports, nothing outside its directory.

`python -m tests.clusters.gridengine` starts one for a person to play with.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tests.clusters import packages
from tests.clusters.gridengine_conf import (
    H_VMEM_CONSUMABLE,
    GridEngineSettings,
    GridQueue,
    changed,
    complexes_text,
    configuration_text,
    host_text,
    queue_text,
    scheduler_text,
)
from tests.clusters.hosts import HEAD, NamespaceHosts
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

__all__ = [
    "H_VMEM_CONSUMABLE",
    "GridEngineCell",
    "GridEngineMissing",
    "GridEngineSettings",
    "GridQueue",
]

_PACKAGES = (
    "gridengine-master",
    "gridengine-exec",
    "gridengine-client",
    "gridengine-drmaa1.0",
)
PROGRAMS = Path("/usr/lib/gridengine")
"""Where the programs are. What Debian has in /usr/bin are scripts around them that cost 60 ms and more a call."""
_SHARE = Path("/usr/share/gridengine")
_DRMAA = Path("/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0")
_ADMIN = "sgeadmin"


class GridEngineMissing(Exception):
    """It is not installed, and cannot be."""


class GridEngineCell:
    """A running Grid Engine while its `with` block lasts; there is a parallel environment `smp`.

    This machine is master and exec host, or with `hosts` master only. Raises `GridEngineMissing`, with what to do
    about it, and `NamespacesMissing`.
    """

    env: Mapping[str, str]
    """For clients and for the daemon under test: the process's own with SGE_ROOT, PATH and others."""
    directory: Path
    log_dir: Path
    host: str
    """The name of the master's host."""
    hosts: NamespaceHosts | None = None
    """The exec hosts, if this machine is not the one."""

    def __init__(self, settings: GridEngineSettings | None = None) -> None:
        self.settings = settings or GridEngineSettings()
        self._stack = ExitStack()
        self._masters: list[Daemon] = []
        self._execds: dict[str, list[Daemon]] = {}

    def __enter__(self) -> Self:
        packages.ensure(_PACKAGES, _installed, GridEngineMissing, prepare=_own_name)
        _own_name()
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
            said = f"{done.stdout}\n{done.stderr}".strip()
            raise ClusterFailed(f"{' '.join(argv)} ended with {done.returncode}: {said}")
        return done.stdout.strip()

    def start_master(self) -> None:
        """And wait until it answers."""
        self._masters.append(self._daemon("sge_qmaster", self.host))
        self.wait_until(self._answers, 30, "sge_qmaster answers")

    def stop_master(self) -> None:
        """End it in order, in some 6 seconds; jobs go on, and it knows them afterwards."""
        for daemon in self._masters:
            daemon.stop()

    def kill_master(self) -> None:
        """End it as a crash would."""
        for daemon in self._masters:
            daemon.kill()

    def start_execd(self, host: str = "") -> None:
        """The exec daemon of a host, of the only one by default."""
        host = host or self.host
        self._execds.setdefault(host, []).append(self._daemon("sge_execd", host))

    def kill_execd(self, host: str = "", *, jobs: bool = True) -> None:
        """End it as a crash would; with `jobs` its jobs too: the machine dies."""
        for daemon in self._execds[host or self.host]:
            if jobs:
                daemon.wipe_out()
            else:
                daemon.kill()

    def add_host(self, name: str, *, admit: bool = True) -> None:
        """Switch a machine on that runs an exec daemon; only with `hosts`.

        With `admit` the cell is told of it first, as its administrator would. Names h1 to h60 can be told to the cell
        before the machine is there.
        """
        assert self.hosts is not None
        if admit:
            self.admit_host(name)
        self.hosts.add(name)
        self.start_execd(name)

    def admit_host(self, name: str) -> None:
        """Tell the cell of a machine that is still off, as its administrator would."""
        self.run("qconf", "-ah", name)
        self.run("qconf", "-as", name)
        self._add_exec_host(name)

    def prepare_host(self, name: str) -> Path:
        """A machine that is off, and the command that switches it on and is its life: killed, it is off again.

        For a cloud that runs a command for each machine, in any process. The cell is not told of the machine; its
        network stays until `drop_host`.
        """
        assert self.hosts is not None
        self.hosts.add(name)
        ours = {key: value for key, value in self.env.items() if key.startswith("SGE_")}
        words = [f"{key}={value}" for key, value in {**ours, "SGE_ND": "1"}.items()]
        words += [f"LD_LIBRARY_PATH={PROGRAMS}", str(PROGRAMS / "sge_execd")]
        return self._script(f"boot-{name}", self.hosts.inside(name, "env", *words))

    def drop_host(self, name: str) -> None:
        """Pull the plug of a machine; the cell is not told."""
        assert self.hosts is not None
        self.hosts.drop(name)

    def queue_states(self) -> dict[str, str]:
        """The letters of each queue instance, none for a good one: {"all.q@h1": "au"}."""
        answer = ET.fromstring(self.run("qstat", "-f", "-xml"))
        return {
            row.findtext("name", ""): row.findtext("state", "") for row in answer.iter("Queue-List")
        }

    def job_states(self) -> dict[str, str]:
        """The letters of each job that is not over, of all users: {"1": "r", "2.3": "qw"}."""
        answer = ET.fromstring(self.run("qstat", "-u", "*", "-g", "d", "-xml"))
        states = {}
        for row in answer.iter("job_list"):
            number, task = row.findtext("JB_job_number", ""), row.findtext("tasks", "")
            states[f"{number}.{task}" if task else number] = row.findtext("state", "")
        return states

    def wait_for_queues(self, count: int, *, seconds: float = 30.0) -> None:
        """Until so many queue instances are open for jobs."""
        self.wait_until(
            lambda: list(self.queue_states().values()).count("") >= count,
            seconds,
            f"{count} queue instances are open",
        )

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Raises `ClusterFailed`, with the last lines of the logs."""
        wait_until(condition, seconds, what, self._logs)

    def _start(self) -> None:
        den = Den("sge-")
        self._stack.callback(den.close)
        ports = Ports()
        self._stack.callback(ports.close)
        self.directory = den.path
        self.log_dir = den.path / "log"
        self.log_dir.mkdir()
        if self.settings.hosts is None:
            self.host = socket.gethostname()
        else:
            self.host = HEAD
            self.hosts = NamespaceHosts(self.directory, self.log_dir)
            self._stack.callback(self.hosts.close)
        self._port = ports.take()
        self._lay_out()
        self.env = MappingProxyType(self._environment(ports.take()))
        self._spool()
        self.start_master()
        self._configure()
        if self.settings.hosts is None:
            self._add_exec_host(self.host)
            self.start_execd()
            self.wait_for_queues(len(self.settings.queues))
        for name in self.settings.hosts or ():
            self.add_host(name)
        self.wait_until(lambda: not any(self.queue_states().values()), 30, "all queues are open")

    @property
    def _common(self) -> Path:
        return self.directory / "root" / "cell" / "common"

    def _environment(self, execd_port: int) -> dict[str, str]:
        programs = PROGRAMS if self.hosts is None else self.directory / "bin"
        return {
            **environment("SGE_", "DRMAA_"),
            "SGE_ROOT": str(self.directory / "root"),
            "SGE_CELL": "cell",
            "SGE_QMASTER_PORT": str(self._port),
            "SGE_EXECD_PORT": str(execd_port),
            "SGE_CLUSTER_NAME": f"p{self._port}",
            "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": str(PROGRAMS),
            "DRMAA_LIBRARY_PATH": str(_DRMAA),
            # The library needs more room for its threads than glibc keeps for late comers.
            "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384",
        }

    def _lay_out(self) -> None:
        root = self.directory / "root"
        for name in ("spool/qmaster/job_scripts", "spool/execd", "tmp", "bin"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "tmp").chmod(0o1777)
        self._common.mkdir(parents=True)
        architecture = call((str(_SHARE / "util/arch"),), env=os.environ).stdout.strip()
        for name in ("bin", "utilbin", "lib"):
            (root / name).mkdir()
            (root / name / architecture).symlink_to(PROGRAMS)
        (root / "util").symlink_to(_SHARE / "util")
        (self._common / "act_qmaster").write_text(f"{self.host}\n")
        if self.hosts is None:
            # Where /etc/hosts gives 127.0.0.1 both names, the way back from the address finds the wrong one.
            (self._common / "host_aliases").write_text(f"{self.host} localhost\n")
        else:
            self._wrap_programs(self.hosts)
        bootstrap = {
            "admin_user": _administrator(),
            "default_domain": "none",
            "ignore_fqdn": "true",
            "spooling_method": "classic",
            "spooling_lib": "libspoolc",
            "spooling_params": self._spooling,
            "binary_path": str(PROGRAMS),
            "qmaster_spool_dir": f"{self.directory}/spool/qmaster",
            "security_mode": "none",
            "listener_threads": "2",
            "worker_threads": "2",
            "scheduler_threads": "1",
        }
        (self._common / "bootstrap").write_text(changed("", bootstrap.items()))

    def _wrap_programs(self, hosts: NamespaceHosts) -> None:
        """Clients have to be where the hosts' names are known."""
        for program in PROGRAMS.iterdir():
            self._script(program.name, hosts.inside(HEAD, str(program)))

    def _script(self, name: str, command: Sequence[str]) -> Path:
        script = self.directory / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)
        return script

    @property
    def _spooling(self) -> str:
        return f"{self._common};{self.directory}/spool/qmaster"

    def _spool(self) -> None:
        """What the master reads at its first start, written as the user who owns it."""
        configuration = self.directory / "configuration"
        default = (_SHARE / "default-configuration").read_text()
        execd_spool = self.directory / "spool" / "execd"
        configuration.write_text(configuration_text(self.settings, default, execd_spool))
        owner: tuple[str, ...] = ()
        if _administrator() != getpass.getuser():
            owner = ("setpriv", f"--reuid={_ADMIN}", f"--regid={_ADMIN}", "--clear-groups")
            # -h: the links lead to the machine's own files.
            places = (self.directory / "spool", self.directory / "root", configuration)
            subprocess.run(["chown", "-hR", _ADMIN, *places], check=True)
        users = dict.fromkeys((getpass.getuser(), _administrator(), *self.settings.managers))
        for words in (
            ("spoolinit", "classic", "libspoolc", self._spooling, "init"),
            ("spooldefaults.bin", "configuration", str(configuration)),
            ("spooldefaults.bin", "complexes", f"{_SHARE}/util/resources/centry"),
            ("spooldefaults.bin", "usersets", f"{_SHARE}/util/resources/usersets"),
            ("spooldefaults.bin", "managers", *users),
        ):
            command = (*owner, str(PROGRAMS / words[0]), *words[1:])
            self.run(*(command if self.hosts is None else self.hosts.inside(HEAD, *command)))

    def _configure(self) -> None:
        self.run("qconf", "-as", self.host)
        self._define("-Msconf", scheduler_text(self.settings, self.run("qconf", "-ssconf")))
        self._define("-Mc", complexes_text(self.settings, self.run("qconf", "-sc")))
        self.run("qconf", "-Ap", f"{_SHARE}/util/resources/pe/smp")
        self._define("-Ahgrp", "group_name @allhosts\nhostlist NONE\n")
        template = self.run("qconf", "-sq")
        for queue in self.settings.queues:
            self._define("-Aq", queue_text(queue, template, self.directory / "tmp"))

    def _add_exec_host(self, name: str) -> None:
        self._define("-Ae", host_text(self.settings, name))
        self.run("qconf", "-aattr", "hostgroup", "hostlist", name, "@allhosts")

    def _define(self, option: str, text: str) -> None:
        file = self.directory / "object"
        file.write_text(text)
        self.run("qconf", option, str(file))

    def _daemon(self, program: str, host: str) -> Daemon:
        command = (str(PROGRAMS / program),)
        daemon = Daemon(
            command if self.hosts is None else self.hosts.inside(host, *command),
            env={**self.env, "SGE_ND": "1"},  # stay in the foreground
            directory=self.directory,
            log=self.log_dir / f"{program}-{host}.out",
        )
        if self.hosts is not None:
            self.hosts.belongs(host, daemon)
        self._stack.callback(daemon.wipe_out)
        return daemon

    def _answers(self) -> bool:
        if not self._masters[-1].is_running():
            raise ClusterFailed(f"sge_qmaster has ended\n{self._logs()}")
        return listens(self._port) and call(("qconf", "-sh"), env=self.env).returncode == 0

    def _logs(self) -> str:
        spool = self.directory / "spool"
        messages = (spool / "qmaster/messages", *sorted(spool.glob("execd/*/messages")))
        return tail(*sorted(self.log_dir.iterdir()), *messages)


def _administrator() -> str:
    """Who owns the cell's files: not root, whom the daemons do not trust on shared discs."""
    return _ADMIN if os.geteuid() == 0 else getpass.getuser()


def _installed() -> bool:
    programs = ("sge_qmaster", "sge_execd", "qsub", "qconf", "qstat", "spoolinit")
    return _DRMAA.exists() and all((PROGRAMS / program).exists() for program in programs)


def _own_name() -> None:
    name = socket.gethostname()
    try:
        socket.gethostbyname(name)
    except OSError as error:
        raise GridEngineMissing(
            f"Grid Engine cannot be installed, nor run, where the machine's own name has no address:"
            f" add {name} to /etc/hosts"
        ) from error


def main() -> None:
    """For a person: a cell of one host until Ctrl-C."""
    with GridEngineCell() as cell:
        ours = {name: value for name, value in cell.env.items() if os.environ.get(name) != value}
        exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in ours.items())
        until_interrupted(
            f"""\
{exports}

In another terminal, after these lines: qhost; echo 'hostname; sleep 60' | qsub -N try; qstat
Logs are in {cell.log_dir}. Ctrl-C ends the cell and removes {cell.directory}."""
        )


if __name__ == "__main__":
    main()
