"""The hosts as Grid Engine lists them, and what we do to them: draining, resuming."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from nodemanager.clock import Clock
from nodemanager.errors import SchedulerError
from nodemanager.model import Node
from nodemanager.schedulers.commands import Call, Commands
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.sge.answers import HostRow, attribute, host_rows, pairs, size
from nodemanager.schedulers.sge.elastic import ElasticHosts
from nodemanager.schedulers.sge.nodes import HostFacts, as_node, is_unheard
from nodemanager.schedulers.sge.options import NodeOrigin, SgeOptions

log = logging.getLogger(__name__)

_DEFINED_FOR_SECONDS = 600.0
"""What a host is defined to have is asked again after so long."""
_ASKED_AT_ONCE = 50
"""So many hosts are asked about in one turn, once all are known."""
_AT_A_TIME = 4


class Hosts:
    """See the module's docstring."""

    def __init__(
        self,
        commands: Commands,
        options: SgeOptions,
        notes: Notes,
        elastic: ElasticHosts,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._options = options
        self._notes = notes
        self._elastic = elastic
        self._clock = clock
        self._defined: dict[str, tuple[float, Mapping[str, float]]] = {}
        """By host: when it was asked for, and its `complex_values`."""
        self._silent_since: dict[str, float] = {}

    def nodes(self) -> Sequence[Node]:
        """All hosts as nodes."""
        rows = self._rows()
        self._note_silent(rows)
        self._learn([row.name for row in rows])
        is_dynamic = self._options.nodes is NodeOrigin.DYNAMIC
        ours = self._elastic.admitted() if is_dynamic else frozenset()
        return tuple(
            as_node(
                row,
                HostFacts(
                    self._defined[row.name][1],
                    self._drain_reason(row.name),
                    row.name in ours,
                ),
                self._options,
            )
            for row in rows
            if row.name in self._defined
        )

    def silent_for(self) -> Mapping[str, float]:
        """For how many seconds hosts have not been heard of, as of the last listing."""
        now = self._clock.elapsed()
        return {host: now - since for host, since in self._silent_since.items()}

    def drain(self, node: str, reason: str) -> None:
        """Disable those of its queues that are not disabled yet, and keep which these were."""
        row = self._row(node)
        open_queues = [q.queue for q in row.queues if not {"d", "D"} & set(q.letters)]
        before = self._notes.get(NoteKind.DRAIN, node)
        ours = before.splitlines()[1:] if before is not None else []
        if not open_queues and before is None:
            # Somebody else has drained it, and may end that.
            return
        words = " ".join(reason.split())
        text = "\n".join([words, *dict.fromkeys((*ours, *open_queues))])
        # Noted first: if the answer is lost, they may be disabled.
        self._notes.write(NoteKind.DRAIN, node, text)
        refused = self._qmod("-d", [f"{queue}@{node}" for queue in open_queues])
        if refused:
            if before is None:
                self._notes.remove(NoteKind.DRAIN, node)
            raise SchedulerError(refused)

    def resume(self, node: str) -> None:
        """Enable the queues that we have disabled."""
        text = self._notes.get(NoteKind.DRAIN, node)
        if text is None:
            return
        refused = self._qmod("-e", [f"{queue}@{node}" for queue in text.splitlines()[1:]])
        if refused:
            raise SchedulerError(refused)
        self._notes.remove(NoteKind.DRAIN, node)

    def forget(self, node: str) -> None:
        """The host is no more."""
        self._notes.remove(NoteKind.DRAIN, node)
        self._defined.pop(node, None)
        self._silent_since.pop(node, None)

    # Inside.

    def _rows(self) -> list[HostRow]:
        resources = ",".join(self._options.named_resources())
        answer = self._commands.run(self._options.command("qhost"), "-xml", "-q", "-F", resources)
        return host_rows(answer.or_raise())

    def _row(self, node: str) -> HostRow:
        for row in self._rows():
            if row.name == node:
                return row
        raise SchedulerError(f"sge: there is no exec host {node!r}")

    def _note_silent(self, rows: Sequence[HostRow]) -> None:
        now = self._clock.elapsed()
        silent = {row.name for row in rows if is_unheard(row)}
        self._silent_since = {host: self._silent_since.get(host, now) for host in silent}

    def _learn(self, hosts: Sequence[str]) -> None:
        """Ask what hosts are defined to have: those that are new, and some that were asked about long ago."""
        now = self._clock.elapsed()
        for host in self._defined.keys() - set(hosts):
            del self._defined[host]
        new = [host for host in hosts if host not in self._defined]
        old = [
            h for h in hosts if h not in new and now - self._defined[h][0] > _DEFINED_FOR_SECONDS
        ]
        asked = [*new, *old[:_ASKED_AT_ONCE]]
        calls = [Call((self._options.command("qconf"), "-se", host)) for host in asked]
        answers = self._commands.run_all(calls, _AT_A_TIME) if calls else []
        for host, answer in zip(asked, answers, strict=True):
            if isinstance(answer, SchedulerError):
                raise answer
            if answer.status == 0:
                values = pairs(attribute(answer.output, "complex_values"))
                amounts = {name: size(value) for name, value in values.items()}
                known = {name: amount for name, amount in amounts.items() if amount is not None}
                self._defined[host] = now, known

    def _drain_reason(self, node: str) -> str | None:
        text = self._notes.get(NoteKind.DRAIN, node)
        return None if text is None else text.partition("\n")[0]

    def _qmod(self, option: str, queues: Sequence[str]) -> str:
        """Why Grid Engine refused; empty when it did not."""
        if not queues:
            return ""
        answer = self._commands.run(self._options.command("qmod"), option, *queues)
        said = f"{answer.output}\n{answer.complaint}"
        if answer.status == 0 or "already" in said:
            return ""
        return (
            f"sge: qmod {option} {' '.join(queues)}: {answer.words}; it needs an operator or "
            "manager of the cell"
        )
