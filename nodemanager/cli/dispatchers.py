"""`dispatchers`: who claims and runs containers; pause, resume, retire and lose them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from nodemanager.api.connection import PAGE
from nodemanager.cli.command import (
    SUCCEEDED,
    Command,
    CommandGroup,
    Flags,
    each,
    with_reason,
)
from nodemanager.cli.out import Cell, Column, Out
from nodemanager.cli.site import Site, UsageError, is_uuid
from nodemanager.cli.words import age, ago, count
from nodemanager.errors import NodeManagerError
from nodemanager.model import DispatcherState, format_time, parse_time

LATE_SECONDS = 60.0
"""A dispatcher pings every 15 s unless its config says otherwise; one that missed a few has trouble."""
RECENT_SECONDS = 86400.0
"""Dispatchers that were lost or retired within this time are shown."""

_STYLES = {
    DispatcherState.ALIVE: "green",
    DispatcherState.LOST: "bold red",
    DispatcherState.RETIRED: "dim",
}


@dataclass(frozen=True, slots=True)
class DispatcherRow:
    """One dispatcher's record, and what it holds. Times are Unix seconds."""

    uuid: str
    name: str
    scheduler: str
    state: DispatcherState
    epoch: int
    last_ping_at: float | None
    last_turn_at: float | None
    ended_at: float | None
    lease_seconds: float
    """How long it may stay silent from now on; 0 when it is not alive."""
    paused: str
    """Why it claims nothing; empty when it does."""
    locked: int
    running: int

    @property
    def is_alive(self) -> bool:
        """It counts as alive, whether it is heard of or not."""
        return self.state is DispatcherState.ALIVE

    def is_late(self, now: float) -> bool:
        """It is alive, and has not been heard of for a while."""
        return self.is_alive and now - (self.last_ping_at or 0.0) > LATE_SECONDS

    def ended_recently(self, now: float) -> bool:
        """It was lost or retired a short while ago."""
        return self.ended_at is not None and now - self.ended_at < RECENT_SECONDS

    def as_dict(self) -> dict[str, Any]:
        """The row of a JSON document."""
        return {
            "uuid": self.uuid,
            "name": self.name,
            "scheduler": self.scheduler,
            "state": self.state.value,
            "epoch": self.epoch,
            "last_ping_at": _shown(self.last_ping_at),
            "last_turn_at": _shown(self.last_turn_at),
            "ended_at": _shown(self.ended_at),
            "lease_seconds": self.lease_seconds,
            "paused": self.paused,
            "locked": self.locked,
            "running": self.running,
        }


def _shown(moment: float | None) -> str | None:
    return None if moment is None else format_time(moment)


def _time(value: Any) -> float | None:
    return parse_time(value) if value else None


def read_dispatchers(site: Site, now: float) -> list[DispatcherRow]:
    """The alive ones by name, then those that ended within a day, the latest first."""
    recent = format_time(now - RECENT_SECONDS)
    either = (["state", "=", DispatcherState.ALIVE.value], ["ended_at", ">", recent])
    records = [
        record
        for condition in either
        for record in site.call("dispatchers", "list", filters=[condition], limit=PAGE)["items"]
    ]
    rows = [_row(record) for record in records]
    return sorted(rows, key=lambda row: (not row.is_alive, -(row.ended_at or 0.0), row.name))


def _row(record: Mapping[str, Any]) -> DispatcherRow:
    running = int(record["running_containers"])
    return DispatcherRow(
        uuid=record["uuid"],
        name=record["name"],
        scheduler=record["scheduler"],
        state=DispatcherState(record["state"]),
        epoch=int(record["epoch"]),
        last_ping_at=_time(record["last_ping_at"]),
        last_turn_at=_time(record["last_turn_at"]),
        ended_at=_time(record["ended_at"]),
        lease_seconds=float(record["lease_seconds"]),
        paused=record["paused"] or "",
        locked=int(record["live_containers"]) - running,
        running=running,
    )


def dispatcher_columns(
    rows: Sequence[DispatcherRow], now: float
) -> tuple[Sequence[Column], Sequence[Sequence[Cell]]]:
    """The table of dispatchers."""
    columns = (
        Column("DISPATCHER"),
        Column("STATE"),
        Column("SCHEDULER"),
        Column("CLAIMED", right=True),
        Column("RUNNING", right=True),
        Column("PINGED", right=True),
        Column("LEASE", right=True),
        Column("NAME"),
    )
    return columns, [_cells(row, now) for row in rows]


def _cells(row: DispatcherRow, now: float) -> tuple[Cell, ...]:
    state = Text(row.state.value, style=_STYLES[row.state])
    if row.is_late(now):
        state = Text("silent", style="bold red")
    elif row.is_alive and row.paused:
        state = Text("paused", style="magenta")
    words = row.name
    if row.paused:
        words += f"\npaused: {row.paused}"
    if row.ended_at is not None:
        words += f"\n{row.state.value} {ago(row.ended_at, now)}"
    return (
        row.uuid,
        state,
        row.scheduler,
        str(row.locked),
        str(row.running),
        ago(row.last_ping_at, now),
        age(row.lease_seconds) if row.is_alive else "",
        words,
    )


def list_dispatchers(site: Site, _flags: Flags, out: Out) -> int:
    """Show them."""
    rows = read_dispatchers(site, out.now)
    if out.as_json:
        out.document({"at": format_time(out.now), "dispatchers": [row.as_dict() for row in rows]})
    elif rows:
        out.table(*dispatcher_columns(rows, out.now))
    else:
        out.say("there is no dispatcher: start arvados-node-manager")
    return SUCCEEDED


def pause(site: Site, flags: Flags, out: Out) -> int:
    """Claim nothing more; what is claimed goes on."""
    words = flags.reason or "no reason given"
    if flags.all:
        _refuse_names_with_all(flags)
        answer = site.call("dispatchers", "pause_all", reason=words)
        out.say(f"no dispatcher claims anything more; what is claimed goes on: {answer['paused']}")
        return SUCCEEDED

    def do(row: Mapping[str, Any]) -> str:
        answer = site.call("dispatchers", "pause", uuid=row["uuid"], reason=words)
        return f"claims nothing more, and goes on with what it has: {answer['paused']}"

    return _each(site, flags, out, do)


def resume(site: Site, flags: Flags, out: Out) -> int:
    """Claim again."""
    if flags.all:
        _refuse_names_with_all(flags)
        site.call("dispatchers", "resume_all")
        out.say("dispatchers claim again, but for those that are paused by themselves")
        return SUCCEEDED

    def do(row: Mapping[str, Any]) -> str:
        why = site.call("dispatchers", "resume", uuid=row["uuid"])["paused"]
        return f"would claim again, but all are paused: {why}" if why else "claims again"

    return _each(site, flags, out, do)


def retire(site: Site, flags: Flags, out: Out) -> int:
    """Take it out of service for good."""

    def do(row: Mapping[str, Any]) -> str:
        site.call("dispatchers", "retire", uuid=row["uuid"], release=flags.release)
        return "is retired, for good"

    return _each(site, flags, out, do)


def lose(site: Site, flags: Flags, out: Out) -> int:
    """Declare it dead."""

    def do(row: Mapping[str, Any]) -> str:
        question = (
            f"Declare {row['name']} ({row['uuid']}) dead? What it has claimed and runs is tried again elsewhere, "
            "even if it is alive."
        )
        if not flags.yes and not out.ask(question):
            raise UsageError(
                f"{row['name']}: nothing was done; say --yes to do it without a question"
            )
        site.call("dispatchers", "lose", uuid=row["uuid"])
        return "is lost; its containers are TempFail, and tried again"

    return _each(site, flags, out, do)


def _refuse_names_with_all(flags: Flags) -> None:
    if flags.names:
        raise UsageError("--all means every dispatcher: name none beside it")


def _each(site: Site, flags: Flags, out: Out, do: Callable[[Mapping[str, Any]], str]) -> int:
    """Do it to each that is named."""
    if not flags.names:
        raise UsageError("say which dispatcher, by name or UUID (dispatchers list shows them)")

    def say(name: str) -> None:
        record = _find(site, name)
        out.say(f"{record['name']} ({record['uuid']}) {do(record)}")

    return each(flags.names, out, say)


def _find(site: Site, name: str) -> Mapping[str, Any]:
    """The dispatcher of that UUID, or the alive one of that name."""
    if is_uuid(name):
        return site.call("dispatchers", "get", uuid=name)
    filters = [["name", "=", name], ["state", "=", DispatcherState.ALIVE.value]]
    found = site.call("dispatchers", "list", filters=filters)["items"]
    if not found:
        raise NodeManagerError("no dispatcher of this name is alive")
    if len(found) > 1:
        raise NodeManagerError(
            f"{count(len(found), 'dispatcher')} have this name; say which by UUID"
        )
    record: Mapping[str, Any] = found[0]
    return record


def _names(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    parser.add_argument(
        "names",
        metavar="DISPATCHER",
        nargs="*" if several else "+",
        help="its name or UUID",
    )


def _pause_arguments(parser: argparse.ArgumentParser) -> None:
    _names(parser)
    parser.add_argument("--all", action="store_true", help="all of the cluster, and those to come")
    with_reason(parser, "whoever waits")


def _resume_arguments(parser: argparse.ArgumentParser) -> None:
    _names(parser)
    parser.add_argument("--all", action="store_true", help="end what pause --all began")


def _retire_arguments(parser: argparse.ArgumentParser) -> None:
    _names(parser, several=False)
    parser.add_argument(
        "--release",
        action="store_true",
        help="even if it holds containers: they become TempFail, and others take the next attempt",
    )


def _lose_arguments(parser: argparse.ArgumentParser) -> None:
    _names(parser, several=False)
    parser.add_argument("--yes", action="store_true", help="without a question")


_DONE = {0: "done", 1: "refused for one of them; the others are done"}

DISPATCHERS = CommandGroup(
    "dispatchers",
    "who claims and runs containers: list, pause, resume, retire, lose",
    (
        Command(
            "dispatchers list",
            "those that are alive, and those that ended within a day",
            list_dispatchers,
            description="The same as dispatchers alone. PINGED is when it was last heard of; LEASE is how long it "
            "may stay silent before it is lost and its containers are tried again.",
            examples=("dispatchers", "dispatchers list --json"),
            keys={
                "at": "when it was asked",
                "dispatchers": "an object for each: `uuid`, `name`, `scheduler`, `state`, `epoch`, `last_ping_at`, "
                "`last_turn_at`, `ended_at`, `lease_seconds`, `paused` (why; empty: it is not), "
                "`locked` and `running` (how many containers)",
            },
        ),
        Command(
            "dispatchers pause",
            "claim nothing more; what is claimed goes on",
            pause,
            description="Containers stay Queued, and say why. Needs an administrator's token, as all verbs here.",
            arguments=_pause_arguments,
            examples=(
                "dispatchers pause slurm-1 --reason 'new switch until noon'",
                "dispatchers pause --all --reason 'database restored from a backup'",
            ),
            statuses=_DONE,
        ),
        Command(
            "dispatchers resume",
            "claim again",
            resume,
            description="Whoever was paused by name is resumed by name, and --all ends what pause --all began.",
            arguments=_resume_arguments,
            examples=("dispatchers resume slurm-1", "dispatchers resume --all"),
            statuses=_DONE,
        ),
        Command(
            "dispatchers retire",
            "take one out of service for good",
            retire,
            description="Refused while it holds containers, unless told to release them. Stop its daemon first, "
            "or it registers anew.",
            arguments=_retire_arguments,
            examples=("dispatchers retire slurm-old",),
            statuses=_DONE,
        ),
        Command(
            "dispatchers lose",
            "declare a dead one lost without waiting for its lease to end",
            lose,
            description="For a host that is known to be gone. Its containers are tried again elsewhere; if it is "
            "alive after all, it gets rid of its jobs and registers anew. Asks first, on a terminal.",
            arguments=_lose_arguments,
            examples=("dispatchers lose slurm-1", "dispatchers lose slurm-1 --yes"),
            statuses=_DONE,
        ),
    ),
)
