"""The files of the local scheduler: what is on disk, and the order in which it gets there.

    <spool>/owner          locked by the daemon that uses the spool
    <spool>/supervise.pyc  the supervisor, compiled for the Python that runs the daemon
    <spool>/drain          why this machine takes no new jobs, when it is the one node; absent when it does
    <spool>/drains/<node>  the same for a node that is a share of it
    <spool>/new/<name>/    a job that is being written; swept away at the next start
    <spool>/jobs/<name>/   a job that was accepted
        job                one line of JSON (what the scheduler keeps of it), one line of numbers, the arguments
        stdin              what the job reads, with tokens; gone once the job has started
        lock               locked while a supervisor is alive; its process id
        priority           the priority, if it was changed
        node               the node it was started on last, and what that is called, if it is a share of this machine
        cancel             exists when somebody wants it to end
        start              boot id, supervisor, leader, leader's start time, when: the job has started
        end                kind, code, asked, limit, detail: the job is over
        job.out            what the job printed
        supervisor.err     what went wrong in the supervisor
    <spool>/gone/<name>/   a job that is being removed

Directories are 0700, files 0600. `start` and `end` are written by writing, fsync, rename, fsync.

The protocol, so that a crash (of the daemon, a supervisor, the machine) between any two steps neither loses
a job nor starts it twice:

1. Submit: the job is written to `new`, synced, and renamed into `jobs`; the rename, synced, is the acceptance. A
   crash before it leaves nothing that counts.
2. Start: the daemon notes the `node`, locks `lock` and starts a supervisor that inherits that lock. A crash before the supervisor
   exists frees the lock: the job is as it was. Since the lock is held from before the supervisor's birth to its
   death, "is anybody in charge of this job" is a test of the lock and never a guess from a process id.
3. The supervisor forks the job's leader, which waits. Then it records `start`, and only then lets the leader go. A
   crash before `start` is there kills the leader before its first instruction: the job is as it was. Once
   `start` is there the job is never started again.
4. End: the supervisor sees every process of the job out (it inherits orphans), records `end`, and dies.
5. A free lock with `start` and without `end` means that the supervisor was killed: its leader got KILL from the kernel.
   The daemon, holding the lock, kills what else is left of the job, and records `end`. After a reboot (the boot
   id differs) nothing can be left.
6. Cancel: `cancel` is created, then the supervisor is told by a signal. It was born with that signal blocked, and looks
   for `cancel` after it wrote its process id and before it starts the job, so neither order loses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodemanager.durable import sync_directory, try_lock, unlock, write_private
from nodemanager.errors import SchedulerError
from nodemanager.model import Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.slots import Need

_LOWEST_LOCK_FD = 10
"""Above the descriptor under which the supervisor inherits the lock."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """What the scheduler keeps in memory of a job it finds in the spool."""

    name: str
    number: int
    need: Need
    priority: int
    end: End | None
    cancelled: bool
    node: str = ""
    """The key of the node it was started on last; empty: this machine as a whole, or none."""
    node_name: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """The record `start`."""

    boot_id: str
    leader: int
    leader_born: int
    """Clock ticks since boot, as in /proc/PID/stat: with the process id, it names a process for ever."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the supervisor enforces beside the job's own time limit."""

    ram_allowance: int
    """Bytes above what the job asked for."""
    kill_grace: float
    """Seconds between TERM and KILL."""


class Spool:
    """The spool directory. Only one may be open at a time, in all processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._jobs = root / "jobs"
        self._new = root / "new"
        self._gone = root / "gone"
        self._drains = root / "drains"
        self._owner = -1

    def open(self) -> None:
        """Make the directories, take possession, and sweep up. Raises `SchedulerError`."""
        try:
            for directory in (self.root, self._jobs, self._new, self._gone, self._drains):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = os.open(self.root / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SchedulerError(f"local: cannot use the spool {self.root}: {error}") from error
        if not try_lock(owner):
            os.close(owner)
            raise SchedulerError(
                f"local: the spool {self.root} is in use by another daemon; give each its own state_dir"
            )
        self._owner = owner
        for leftover in (*self._new.iterdir(), *self._gone.iterdir()):
            shutil.rmtree(leftover, ignore_errors=True)

    def close(self) -> None:
        """Let another daemon have it."""
        if self._owner >= 0:
            unlock(self._owner)
            os.close(self._owner)
            self._owner = -1

    def directory(self, name: str) -> Path:
        """The directory of an accepted job."""
        return self._jobs / name

    # Accepting and removing jobs.

    def store(self, jobs: Sequence[tuple[JobSpec, int]], limits: Limits) -> None:
        """Accept jobs that are not in the spool, each with its number, durably. Raises `SchedulerError`."""
        try:
            written: list[int] = []
            try:
                for spec, number in jobs:
                    written += self._write(spec, number, limits)
                # All are written before the first is synced: one turn of the disk serves many.
                for descriptor in written:
                    os.fsync(descriptor)
            finally:
                for descriptor in written:
                    os.close(descriptor)
            # Left by a failed call whose undoing failed too; nothing that this daemon knows of.
            self.remove(spec.name for spec, _ in jobs if self.directory(spec.name).exists())
            for spec, _ in jobs:
                (self._new / spec.name).rename(self._jobs / spec.name)
            sync_directory(self._jobs)
        except OSError as error:
            raise SchedulerError(
                f"local: cannot write to the spool {self.root}: {error}"
            ) from error

    def _write(self, spec: JobSpec, number: int, limits: Limits) -> list[int]:
        directory = self._new / spec.name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        header = {
            "name": spec.name,
            "number": number,
            "priority": spec.priority,
            "max_run_seconds": spec.max_run_seconds,
            "resources": spec.resources.as_dict(),
            "partitions": spec.partitions,
            "preemptible": spec.preemptible,
            "exclusive": spec.exclusive,
        }
        ram = spec.resources.ram_bytes
        limit = ram + limits.ram_allowance if ram else 0
        numbers = f"{ram} {limit} {spec.max_run_seconds} {limits.kill_grace}"
        text = f"{json.dumps(header)}\n{numbers}\n".encode()
        text += b"\0".join(os.fsencode(argument) for argument in spec.argv)
        _create(directory / "lock", b"", close=True)
        return [
            _create(directory / "job", text),
            _create(directory / "stdin", spec.stdin),
            os.open(directory, os.O_RDONLY | os.O_CLOEXEC),
        ]

    def remove(self, names: Iterable[str]) -> None:
        """Remove ended jobs, each at once as far as the next start is concerned."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self._jobs / name).rename(self._gone / name)
            shutil.rmtree(self._gone / name, ignore_errors=True)

    def load(self, prefix: str) -> list[StoredJob]:
        """Every accepted job whose name begins with `prefix`, in the order of submission; none in a spool that
        was never opened."""
        paths = self._jobs.iterdir() if self._jobs.exists() else ()
        jobs = [self._load_one(path.name) for path in paths if path.name.startswith(prefix)]
        return sorted(jobs, key=lambda job: job.number)

    def _load_one(self, name: str) -> StoredJob:
        directory = self._jobs / name
        try:
            with (directory / "job").open("rb") as file:
                header = json.loads(file.readline())
            priority = _read_text(directory / "priority")
            node, _, node_name = _read_text(directory / "node").partition("\n")
            return StoredJob(
                name=name,
                number=int(header["number"]),
                need=Need(
                    Resources.from_dict(header["resources"]),
                    # Spools from before there were several nodes do not have these.
                    tuple(header.get("partitions", ())),
                    bool(header.get("preemptible")),
                    bool(header.get("exclusive")),
                ),
                priority=int(priority) if priority else int(header["priority"]),
                end=self.end(name),
                cancelled=self.is_cancelled(name),
                node=node,
                node_name=node_name,
            )
        except (OSError, ValueError, KeyError) as error:
            raise SchedulerError(
                f"local: cannot read {directory / 'job'}: {error!r}; repair it or remove its directory"
            ) from error

    # The records of one job.

    def lock(self, name: str) -> int | None:
        """The locked descriptor of a job nobody is in charge of; None while a supervisor is alive."""
        descriptor = os.open(
            self._jobs / name / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST_LOCK_FD)
        os.close(descriptor)
        if try_lock(high):
            return high
        os.close(high)
        return None

    def supervisor(self, name: str) -> int:
        """The process id its supervisor has written; 0 if none has yet. Valid only while `lock` is held."""
        return int(_read_text(self._jobs / name / "lock") or 0)

    def start(self, name: str) -> Start | None:
        """The record of the start, or None: the job has not begun."""
        lines = _read_text(self._jobs / name / "start").splitlines()
        return Start(lines[0], int(lines[2]), int(lines[3])) if lines else None

    def end(self, name: str) -> End | None:
        """The record of the end, or None: the job is not over."""
        lines = _read_text(self._jobs / name / "end").split("\n")
        if len(lines) < 5:
            return None
        kind, code, asked, limit, detail = lines[:5]
        return End(EndKind(kind), int(code), int(asked), int(limit), detail)

    def record_end(self, name: str, end: End) -> None:
        """Record the end of a job that has no supervisor; the caller holds its lock."""
        directory = self._jobs / name
        detail = " ".join(end.detail.split())
        text = f"{end.kind.value}\n{end.code}\n{end.asked}\n{end.limit}\n{detail}\n"
        write_private(directory / "end", text, durable=True)
        self.consume_stdin(name)

    def consume_stdin(self, name: str) -> None:
        """Its tokens are not kept longer than needed, also when a supervisor could not do that any more."""
        (self._jobs / name / "stdin").unlink(missing_ok=True)

    def is_cancelled(self, name: str) -> bool:
        """Whether somebody wants it to end."""
        return (self._jobs / name / "cancel").exists()

    def record_cancel(self, name: str) -> None:
        """Note that somebody wants it to end."""
        _create(self._jobs / name / "cancel", b"", close=True)

    def record_priority(self, name: str, priority: int) -> None:
        """Note a new priority; the daemon's death does not lose it, a power cut may."""
        write_private(self._jobs / name / "priority", str(priority), durable=False)

    def record_node(self, name: str, node: str, node_name: str) -> None:
        """Note on which node it is about to be started; a power cut ends what runs there anyway."""
        write_private(self._jobs / name / "node", f"{node}\n{node_name}", durable=False)

    def supervisor_error(self, name: str) -> str:
        """The last line a supervisor wrote about its own trouble."""
        lines = _read_text(self._jobs / name / "supervisor.err").splitlines()
        return lines[-1] if lines else ""

    # The nodes.

    def drains(self) -> dict[str, str]:
        """Why nodes take no new jobs, by their keys; the key of this machine as the one node is empty."""
        found = self._drains.iterdir() if self._drains.exists() else ()
        paths = {path.name: path for path in found if path.suffix != ".tmp"}
        if (self.root / "drain").exists():
            paths[""] = self.root / "drain"
        return {node: path.read_text("utf-8") for node, path in paths.items()}

    def record_drain(self, node: str, reason: str | None) -> None:
        """Note the drain of a node, or with None its end."""
        path = self._drains / node if node else self.root / "drain"
        if reason is None:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        else:
            write_private(path, reason, durable=True)


def _create(path: Path, content: bytes, *, close: bool = False) -> int:
    """Write a private file; its descriptor, to be synced and closed, unless it is closed here."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except OSError:
        os.close(descriptor)
        raise
    if close:
        os.close(descriptor)
    return descriptor


def _read_text(path: Path) -> str:
    """The content of a record; empty when it does not exist."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
