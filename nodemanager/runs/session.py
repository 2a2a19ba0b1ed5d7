"""`--run`: submits requests, follows them until every one is final, and says how they ended.

Each request carries in its properties the run, its file and its place in it, so whoever looks can tell which
were submitted already: a run that is resumed submits what is missing and no more. Nothing else is kept:
every turn reads what the API says and does what `plan` says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nodemanager.api.requests import Record, RequestsApi
from nodemanager.clock import Clock
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import ContainerState, format_time
from nodemanager.runs.plan import Cancel, NodeRow, Row, Skip, Standing, Submit, plan, row
from nodemanager.runs.record import RunRecord, RunRecords
from nodemanager.runs.request_file import RequestSpec, ready_attributes

log = logging.getLogger(__name__)

TURN_SECONDS = 0.5
NODES_GO_SECONDS = 120.0
"""How long a run that is over waits for its nodes to go."""

SUCCEEDED = 0
FAILED = 1
INTERRUPTED = 130
"""As a shell reports the death of a program by Ctrl-C."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, for the last words."""

    rows: Sequence[Row]
    places: Sequence[tuple[str, str, str]]
    """Name, where its log is, where its output is."""
    store: str
    seconds: float


class View(Protocol):
    """Where the run is shown."""

    def begin(self, title: str) -> None:
        """The run starts, or goes on."""
        ...

    def show(self, rows: Sequence[Row], nodes: Sequence[NodeRow] = ()) -> None:
        """How all requests stand now, and which nodes there are, as far as that is known."""
        ...

    def say(self, message: str) -> None:
        """Something that is no request's affair."""
        ...

    def end(self, ending: Ending) -> None:
        """Every request is final."""
        ...

    def close(self) -> None:
        """Nothing more will be shown, whatever the reason."""
        ...


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class RunContext:
    """What a run needs besides its requests."""

    api: RequestsApi
    records: RunRecords
    view: View
    clock: Clock
    stop: threading.Event
    """Set when somebody wants the process to end."""
    store: str
    """Where logs and outputs are, for people."""
    nodes: Callable[[], Sequence[NodeRow]] = tuple
    """The nodes there are now; none are shown where nobody knows."""
    let_nodes_go: Callable[[], None] = _nothing
    """Called when nothing is left to run, before the nodes that were booted for it would be left alone."""


def run_requests(
    context: RunContext, source: Path, specs: Sequence[RequestSpec], *, resume: bool
) -> int:
    """Submit and follow `specs`; returns the exit status.

    `SUCCEEDED` when all are Complete, `FAILED` when any is not, `INTERRUPTED` when `context.stop` was set
    before the end: then containers go on, and `--resume` takes the run up again.
    """
    view, now = context.view, context.clock.wall()
    if resume:
        record = context.records.resume(source, specs)
        view.begin(f"{record.id} goes on: {len(specs)} requests of {source}")
    else:
        before = context.records.unfinished(source)
        record = context.records.begin(source, specs, now)
        view.begin(f"{record.id}: {len(specs)} requests of {source}")
        if before is not None:
            view.say(
                f"{before.id} of the same files is unfinished; --resume would follow it instead"
            )
    try:
        return _Run(context, record, specs).follow()
    finally:
        view.close()


class _Run:
    """One run under way."""

    def __init__(
        self, context: RunContext, record: RunRecord, specs: Sequence[RequestSpec]
    ) -> None:
        self._context = context
        self._record = record
        self._standings = [Standing(spec) for spec in specs]
        self._refused: dict[str, str] = {}
        self._cancelled: dict[str, str] = {}
        self._began = context.clock.elapsed()
        self._away = False

    def follow(self) -> int:
        """Turn after turn until all are final or somebody wants to stop."""
        context = self._context
        while not context.stop.is_set():
            changed = self._turn()
            context.view.show(self._rows(), context.nodes())
            if all(standing.is_final for standing in self._standings):
                self._see_nodes_off()
                return self._end()
            if not changed:
                context.stop.wait(TURN_SECONDS)
        context.view.say(
            f"stopped; its containers go on with the next start. Follow them with --resume ({self._record.id})"
        )
        return INTERRUPTED

    def _see_nodes_off(self) -> None:
        """Wait until the nodes that were booted have gone: nobody will look after them, and they cost."""
        context = self._context
        if not context.nodes():
            return
        context.let_nodes_go()
        until = context.clock.elapsed() + NODES_GO_SECONDS
        while nodes := context.nodes():
            context.view.show(self._rows(), nodes)
            if context.stop.is_set() or context.clock.elapsed() >= until:
                names = ", ".join(node.name for node in nodes)
                context.view.say(f"nodes that are left to the next start: {names}")
                return
            context.stop.wait(TURN_SECONDS)

    def _turn(self) -> bool:
        """Look, and do what is to be done; whether anything was done."""
        try:
            self._look()
            actions = plan(self._standings, self._context.clock.wall())
            for action in actions:
                match action:
                    case Submit(spec):
                        self._submit(spec)
                    case Cancel(spec, request_uuid, why):
                        self._cancel(spec, request_uuid, why)
                    case Skip(spec, why):
                        self._refused[spec.name] = why
        except ApiUnavailable as error:
            if not self._away:
                self._context.view.say(f"the API does not answer, waiting for it: {error}")
            self._away = True
            return False
        if self._away:
            self._context.view.say("the API answers again")
        self._away = False
        return bool(actions)

    def _look(self) -> None:
        api = self._context.api
        requests = {_place(record): record for record in api.list_run(self._record.id)}
        uuids = {r["container_uuid"] for r in requests.values() if r["container_uuid"]}
        # A final container never changes.
        containers = {
            standing.container["uuid"]: standing.container
            for standing in self._standings
            if standing.container is not None
            and ContainerState(standing.container["state"]).is_final
        }
        containers |= api.containers(sorted(uuids - set(containers)))
        waiting = {
            uuid: record
            for uuid, record in containers.items()
            if record["state"] in (ContainerState.QUEUED, ContainerState.LOCKED)
        }
        reasons = api.reasons(waiting) if waiting else {}
        self._standings = [
            self._standing(standing.spec, requests, containers, reasons)
            for standing in self._standings
        ]

    def _standing(
        self,
        spec: RequestSpec,
        requests: dict[tuple[Any, Any], Record],
        containers: dict[str, Record],
        reasons: dict[str, Any],
    ) -> Standing:
        request = requests.get((spec.file, spec.index))
        uuid = None if request is None else request["container_uuid"]
        return Standing(
            spec=spec,
            request=request,
            container=containers.get(uuid) if uuid else None,
            reason=reasons.get(uuid) if uuid else None,
            refused=self._refused.get(spec.name, ""),
            cancelled=self._cancelled.get(spec.name, ""),
        )

    def _submit(self, spec: RequestSpec) -> None:
        # It is submitted only once these are Complete, so their containers are known.
        outputs = set(spec.outputs_of.values())
        containers = {
            standing.spec.name: standing.container["uuid"]
            for standing in (self._standings if outputs else ())
            if standing.spec.name in outputs and standing.container is not None
        }
        now = self._context.clock.wall()
        run_after = None if spec.delay is None else format_time(now + spec.delay)
        stamp = {"run": self._record.id, "file": spec.file, "index": spec.index}
        try:
            self._context.api.create(ready_attributes(spec, containers, run_after, stamp))
        except ApiRefused as error:
            self._refused[spec.name] = f"the API refuses it: {error}"

    def _cancel(self, spec: RequestSpec, request_uuid: str, why: str) -> None:
        self._context.api.set_priority(request_uuid, 0)
        self._cancelled[spec.name] = why
        self._context.view.say(f"{spec.name} is cancelled: {why}")

    def _rows(self) -> list[Row]:
        now = self._context.clock.wall()
        return [row(standing, now) for standing in self._standings]

    def _end(self) -> int:
        context = self._context
        context.records.finish(self._record, context.clock.wall())
        places = [
            (s.spec.name, str(s.container.get("log") or ""), str(s.container.get("output") or ""))
            for s in self._standings
            if s.container is not None
        ]
        seconds = context.clock.elapsed() - self._began
        context.view.end(Ending(self._rows(), places, context.store, seconds))
        return SUCCEEDED if all(s.is_complete for s in self._standings) else FAILED


def _place(record: Record) -> tuple[Any, Any]:
    properties = record["properties"]
    return properties.get("file"), properties.get("index")
