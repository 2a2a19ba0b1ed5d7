"""Hosts that come and go: what makes a machine an exec host of the cell, and what is left of it taken away.

A host becomes an admin host (its execd may talk to the master), an exec host with what its size has as its
`complex_values`, a member of the host group that marks those that are ours, and one of its queues, with its own number of slots and
a sequence number by its price. Grid Engine has no weight by price: where the cell's `queue_sort_method` is `seqno` the
cheapest host is filled first, and otherwise the number decides between hosts of equal load.

Everything may be done twice. Needs a manager of the cell.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nodemanager.errors import SchedulerError
from nodemanager.model import NodeSize
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.commands import Answer, Commands
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.sge.answers import attribute, host_rows, job_rows, names_listed
from nodemanager.schedulers.sge.nodes import is_unheard
from nodemanager.schedulers.sge.options import SgeOptions
from nodemanager.schedulers.sge.submission import host_values

log = logging.getLogger(__name__)

_DEFAULT_QUEUE = "all.q"
_EMPTY_LISTS = (
    "load_scaling",
    "user_lists",
    "xuser_lists",
    "projects",
    "xprojects",
    "usage_scaling",
    "report_variables",
)
_SEQUENCE_STEP = 10
_GONE = (
    "does not exist",
    "not found",
    "not exist",
    "can't resolve",
    "unable to resolve",
    "denied: no",
)


class ElasticHosts:
    """See the module's docstring."""

    def __init__(
        self,
        commands: Commands,
        options: SgeOptions,
        notes: Notes,
        sizes: Sequence[NodeSize],
        scratch: Path,
    ) -> None:
        """`scratch` is a directory for the files that qconf reads."""
        self._commands = commands
        self._options = options
        self._notes = notes
        self._sizes = sizes
        self._scratch = scratch

    def admitted(self) -> frozenset[str]:
        """The hosts that are ours, by the host group."""
        answer = self._qconf("-shgrp_resolved", self._options.hostgroup)
        return frozenset(names_listed(answer.output)) if answer.status == 0 else frozenset()

    def admit(self, newcomer: Newcomer) -> str:
        """Let the cell accept the machine; the name under which it has to join."""
        host = self._name_for(newcomer)
        # The mark comes first: a host without it is not ours, and is never removed.
        self._mark(host)
        self._must("-ah", host, accept="already exists")
        self._define_host(host, newcomer.size)
        cores = newcomer.size.resources.cores
        for queue in self._queues_of(newcomer.size):
            self._must("-aattr", "queue", "slots", f"[{host}={cores}]", queue)
            self._must("-aattr", "queue", "seq_no", f"[{host}={self._rank(newcomer.size)}]", queue)
            self._must("-aattr", "queue", "hostlist", host, queue, accept="already exists")
        return host

    def remove(self, host: str) -> None:
        """Leave nothing of the host in the way. Jobs that are still there are lost with it."""
        if host not in self.admitted() and self._notes.get(NoteKind.REMOVAL, host) is None:
            return
        self._commands.run(self._options.command("qmod"), "-d", f"*@{host}")
        self._delete_jobs(host)
        # Not -ke: an order to end that reaches no execd is kept, for the next machine of that name.
        for queue in self._queues_with(host):
            for name in ("slots", "seq_no"):
                self._qconf("-purge", "queue", name, f"{queue}@{host}")
            self._must("-dattr", "queue", "hostlist", host, queue, accept="does not exist")
        # An exec host cannot be deleted while it bears the mark.
        self._notes.write(NoteKind.REMOVAL, host, "")
        self._must("-dattr", "hostgroup", "hostlist", host, self._options.hostgroup, accept=_GONE)
        self._must("-de", host, accept=_GONE)
        self._must("-dh", host, accept=_GONE)
        self._qconf("-ds", host)
        self._notes.remove(NoteKind.REMOVAL, host)

    # Inside.

    def _name_for(self, newcomer: Newcomer) -> str:
        names = self._options.node_names
        if not names or newcomer.host in names:
            return newcomer.host
        there = self.admitted()
        for name in names:
            if name not in newcomer.taken and name not in there:
                return name
        raise SchedulerError(
            f"sge: all {len(names)} names of [Scheduler] node_names are taken; add more of them"
        )

    def _queues_of(self, size: NodeSize) -> tuple[str, ...]:
        if size.partitions:
            return size.partitions
        if size.preemptible and self._options.preemptible_queues:
            return self._options.preemptible_queues
        return self._options.queues or (_DEFAULT_QUEUE,)

    def _rank(self, size: NodeSize) -> int:
        prices = sorted({other.price for other in (*self._sizes, size)})
        return _SEQUENCE_STEP * (prices.index(size.price) + 1)

    def _define_host(self, host: str, size: NodeSize) -> None:
        values = host_values(size.resources, size.name, self._options)
        lines = [
            f"hostname {host}",
            f"complex_values {','.join(f'{name}={value}' for name, value in values.items())}",
            *(f"{name} NONE" for name in _EMPTY_LISTS),
        ]
        exists = self._qconf("-se", host).status == 0
        self._must_define("-Me" if exists else "-Ae", lines)

    def _mark(self, host: str) -> None:
        group = self._options.hostgroup
        if self._qconf("-shgrp", group).status != 0:
            self._must_define("-Ahgrp", [f"group_name {group}", "hostlist NONE"])
        self._must("-aattr", "hostgroup", "hostlist", host, group, accept="already exists")

    def _must_define(self, option: str, lines: Sequence[str]) -> None:
        try:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._scratch, suffix=".qconf") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                self._must(option, file.name, accept="already exists")
        except OSError as error:
            raise SchedulerError(f"sge: cannot write what qconf has to read: {error}") from error

    def _queues_with(self, host: str) -> list[str]:
        """The queues that name the host itself."""
        queues = names_listed(self._qconf("-sql").or_raise())
        with_host = []
        for queue in queues:
            text = self._qconf("-sq", queue).or_raise()
            mentions = names_listed(attribute(text, "hostlist")), attribute(text, "slots")
            if host in mentions[0] or f"[{host}=" in mentions[1]:
                with_host.append(queue)
        return with_host

    def _delete_jobs(self, host: str) -> None:
        """Those on the host, whoever's they are: an exec host with jobs cannot be deleted.

        Not before the master knows that nobody is there: it may crash when it is told to delete by force a job of
        an execd that it takes for alive (8.1.9: "got NULL element for JB_type").
        """
        command = self._options.command
        listing = self._commands.run(command("qstat"), "-xml", "-u", "*", "-s", "rs")
        ids = []
        for row in job_rows(listing.or_raise()):
            if row.host == host:
                ids += [f"{row.number}.{task}" for task in row.tasks] or [str(row.number)]
        if ids and not self._is_unheard(host):
            raise SchedulerError(
                f"sge: {host} is gone, but Grid Engine has not noticed yet and has {len(ids)} jobs there"
            )
        if ids:
            log.warning(
                "%s goes, and with it jobs %s",
                host,
                ids[:10],
                extra={"action": "jobs_removed", "node": host},
            )
            self._commands.run(command("qdel"), "-f", *ids)

    def _is_unheard(self, host: str) -> bool:
        answer = self._commands.run(self._options.command("qhost"), "-xml", "-q", "-h", host)
        rows = host_rows(answer.or_raise())
        return all(is_unheard(row) for row in rows if row.name == host)

    def _must(self, *words: str, accept: str | Sequence[str] = ()) -> None:
        """Run qconf; a failure that says one of the words to accept is none."""
        answer = self._qconf(*words)
        accepted = (accept,) if isinstance(accept, str) else tuple(accept)
        said = f"{answer.output} {answer.complaint}"
        if answer.status != 0 and not any(part in said for part in accepted):
            hint = ""
            if "resolve" in said:
                hint = "; Grid Engine takes only hosts whose names can be resolved: see node_names"
            raise SchedulerError(f"sge: qconf {' '.join(words)}: {answer.words}{hint}")

    def _qconf(self, *words: str) -> Answer:
        return self._commands.run(self._options.command("qconf"), *words)
