"""`watch`: containers and requests until all are final; a table that lives on a terminal, else a line per change."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from nodemanager.api.connection import list_those
from nodemanager.api.requests import ArvadosRequests
from nodemanager.cli.command import FAILED, SUCCEEDED, Command, Flags, uuids
from nodemanager.cli.out import Cell, Column, Out, table_lines
from nodemanager.cli.site import NoAnswer, Site, needs_work
from nodemanager.cli.verbs import get_work
from nodemanager.cli.words import age
from nodemanager.model import ContainerState, format_time, parse_time
from nodemanager.runs.plan import Row, Standing, row
from nodemanager.runs.request_file import RequestSpec
from nodemanager.runs.view import STATE_COLOURS

LOOK_SECONDS = 1.0
MANY = 500
"""Of more than so many the API is asked less often."""
LOOK_AT_MANY_SECONDS = 5.0
FEWEST_ROWS = 5
_SPARE_LINES = 4
_REQUEST_FIELDS = ("uuid", "name", "state", "created_at", "container_uuid", "properties")


@dataclass(frozen=True, slots=True)
class Watched:
    """One of those that are watched, as it stands."""

    uuid: str
    name: str
    container: str
    """UUID of its current attempt; empty before there is one."""
    row: Row
    output: str
    log: str
    finished_at: str | None

    def as_dict(self) -> dict[str, Any]:
        """The object of a JSON document."""
        return {
            "uuid": self.uuid,
            "name": self.name,
            "container": self.container,
            "state": self.row.state,
            "attempt": self.row.attempt,
            "words": self.row.words,
            "node": self.row.node,
            "elapsed_seconds": self.row.elapsed,
            "finished_at": None
            if self.finished_at is None
            else format_time(parse_time(self.finished_at)),
            "output": self.output,
            "log": self.log,
        }


def watch(site: Site, flags: Flags, out: Out) -> int:
    """Follow them to their end."""
    wanted = list(dict.fromkeys(flags.uuids))
    for uuid in wanted:
        # What is not there now never will be.
        get_work(site, uuid)
    with _view(out) as view:
        for found in _looks(site, wanted, out, view):
            view.show(found)
    if out.as_json:
        out.document({"at": format_time(out.now), "watched": [item.as_dict() for item in found]})
    else:
        _say_ending(found, out)
    return SUCCEEDED if all(item.row.complete for item in found) else FAILED


def _looks(site: Site, wanted: Sequence[str], out: Out, view: _View) -> Iterator[list[Watched]]:
    """Look after look; the last when all are final. While the API is away they are awaited."""
    away = False
    while True:
        try:
            found = look(site, wanted, out.now)
        except NoAnswer as error:
            if not away:
                view.say(f"{error}; waiting for it")
            away = True
        else:
            if away:
                view.say("the API answers again")
            away = False
            yield found
            if all(item.row.final for item in found):
                return
        out.pause(LOOK_SECONDS if len(wanted) <= MANY else LOOK_AT_MANY_SECONDS)


def look(site: Site, wanted: Sequence[str], now: float) -> list[Watched]:
    """How each of `wanted` stands; what was removed meanwhile counts as final."""
    looked: list[Watched] = site.asked(lambda: _look(site.api, wanted, now), "reading their state")
    return looked


def _look(api: Any, wanted: Sequence[str], now: float) -> list[Watched]:
    calls = ArvadosRequests(api)
    asked = [uuid for uuid in wanted if needs_work(uuid) == "container request"]
    requests = {
        record["uuid"]: record
        for record in list_those(api.container_requests(), "uuid", asked, [], _REQUEST_FIELDS)
    }
    of_request = {uuid: str(r["container_uuid"] or "") for uuid, r in requests.items()}
    current = {uuid: of_request.get(uuid, uuid if uuid not in asked else "") for uuid in wanted}
    containers = calls.containers(sorted(set(filter(None, current.values()))))
    waiting = {u: r for u, r in containers.items() if r["state"] in ("Queued", "Locked")}
    reasons = calls.reasons(waiting) if waiting else {}
    found = []
    for uuid in wanted:
        request = requests.get(uuid) if uuid in asked else _as_request(containers.get(uuid))
        container = containers.get(current[uuid])
        standing = Standing(
            spec=_spec((request or {}).get("name") or ""),
            request=request,
            container=container,
            reason=reasons.get(current[uuid]),
            refused="" if request is not None else "it was removed",
        )
        found.append(_watched(uuid, standing, current[uuid], now))
    return found


def _as_request(container: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A container that is watched by itself is like a request that has this attempt and no other."""
    if container is None:
        return None
    final = ContainerState(container["state"]).is_final
    return {"uuid": container["uuid"], "state": "Final" if final else "Committed"}


def _spec(name: str) -> RequestSpec:
    return RequestSpec(file="", index=0, line=0, name=name, attributes={})


def _watched(uuid: str, standing: Standing, container: str, now: float) -> Watched:
    record = standing.container or {}
    return Watched(
        uuid=uuid,
        name=standing.spec.name,
        container=container,
        row=row(standing, now),
        output=str(record.get("output") or ""),
        log=str(record.get("log") or ""),
        finished_at=record.get("finished_at"),
    )


# How it looks.


class _View:
    """Shows nothing: for a JSON document at the end."""

    def __init__(self, out: Out) -> None:
        self._out = out

    def show(self, found: Sequence[Watched]) -> None:
        """How they stand now."""

    def say(self, words: str) -> None:
        """Something that is no container's affair."""
        self._out.note(words)


class _Lines(_View):
    """A line for each change."""

    def __init__(self, out: Out) -> None:
        super().__init__(out)
        self._seen: dict[str, tuple[str, int, str]] = {}

    def show(self, found: Sequence[Watched]) -> None:
        """A line for each whose state, attempt or reason is new."""
        for item in found:
            # A reason that only counts down is the same reason.
            mark = (item.row.state, item.row.attempt, item.row.words.partition(" (in ")[0])
            if self._seen.get(item.uuid) == mark:
                continue
            self._seen[item.uuid] = mark
            parts = [
                f"{datetime.fromtimestamp(self._out.now).astimezone():%H:%M:%S}",
                item.uuid,
                item.name,
                item.row.state,
            ]
            if item.row.attempt > 1:
                parts.append(f"attempt {item.row.attempt}")
            if item.row.node:
                parts.append(f"on {item.row.node}")
            words = f": {item.row.words}" if item.row.words else ""
            self._out.say(" ".join(filter(None, parts)) + words)
        self._out.flush()


class _Table(_View):
    """A table that changes in place."""

    def __init__(self, out: Out) -> None:
        super().__init__(out)
        self.live = Live(Text("looking"), console=out.console, refresh_per_second=4, transient=True)

    def show(self, found: Sequence[Watched]) -> None:
        """As many as there is room for, those under way first."""
        console = self._out.console
        room = max(FEWEST_ROWS, console.size.height - _SPARE_LINES)
        shown = sorted(found, key=lambda item: item.row.final)[:room]
        table = list(table_lines(_COLUMNS, [_cells(item) for item in shown], console.width))
        self.live.update(Group(*table[: room + 1], Text(_totals(found), style="bold")))

    def say(self, words: str) -> None:
        """A line above the table."""
        self._out.say(words)


_COLUMNS = (
    Column("UUID"),
    Column("NAME"),
    Column("STATE"),
    Column("TRY", right=True),
    Column("RUNS", right=True),
    Column("NODE OR REASON"),
)


def _cells(item: Watched) -> tuple[Cell, ...]:
    row = item.row
    return (
        item.uuid,
        item.name,
        Text(row.state, style=STATE_COLOURS.get(row.state, "")),
        str(row.attempt) if row.attempt else "",
        "" if row.elapsed is None else age(row.elapsed),
        ": ".join(filter(None, (row.node, row.words))),
    )


@contextlib.contextmanager
def _view(out: Out) -> Iterator[_View]:
    if out.as_json:
        yield _View(out)
    elif out.is_terminal and not out.console.is_dumb_terminal:
        table = _Table(out)
        with table.live:
            yield table
    else:
        yield _Lines(out)


def _say_ending(found: Sequence[Watched], out: Out) -> None:
    """On a terminal the table is gone: how each ended, and where its output is."""
    if out.is_terminal:
        out.table(_COLUMNS, [_cells(item) for item in found])
    out.say(Text(_totals(found), style="bold"))
    failed = [item.uuid for item in found if not item.row.complete]
    if failed:
        out.say(f"what went wrong: arvados-node-manager why {failed[0]}")


def _totals(found: Sequence[Watched]) -> str:
    states = Counter(item.row.state for item in found)
    return ", ".join(f"{n:,} {state}" for state, n in sorted(states.items()))


WATCH = Command(
    "watch",
    "follow containers or requests until all are final",
    watch,
    description="On a terminal a table that changes in place; anywhere else a line for each change. A request is "
    "followed through all its attempts, a container only until it is final itself. Ctrl-C ends the watching and "
    "nothing else.",
    arguments=uuids,
    examples=(
        "watch zzzzz-xvhdp-0123456789abcde",
        "watch $(arvados-node-manager submit genomes.yml)",
    ),
    keys={
        "at": "when the last one was final",
        "watched": "an object for each, in the order asked: `uuid`, `name`, `container` (the last attempt's UUID), "
        "`state`, `attempt`, `words` (how it ended), `node`, `elapsed_seconds`, `finished_at`, `output`, `log`",
    },
    statuses={0: "all are Complete", 1: "one is not"},
)
