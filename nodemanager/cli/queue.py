"""`queue`: what waits, by reason, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from nodemanager.cli.command import SUCCEEDED, Command, Flags
from nodemanager.cli.groups import Group, groups_of
from nodemanager.cli.out import Cell, Column, Out
from nodemanager.cli.site import Site
from nodemanager.cli.waiting import Listed, list_live, with_names
from nodemanager.cli.words import age, ago, count, waited
from nodemanager.model import ContainerState, format_bytes, format_time
from nodemanager.reason import ReasonToken, Tier
from nodemanager.runs.view import STATE_COLOURS

TIER_STYLES = {
    Tier.NEVER: "bold red",
    Tier.HOLD: "magenta",
    Tier.LIMIT: "yellow",
    Tier.WAITING: "",
    Tier.UNSEEN: "dim",
}


def queue(site: Site, flags: Flags, out: Out) -> int:
    """Show the queue."""
    found = list_live(site, out.now)
    if flags.token:
        found = [item for item in found if item.reason and item.reason.token in flags.token]
    if flags.all:
        found = with_names(site, found)
    if out.as_json:
        out.document(_document(found, out.now, rows=flags.all))
    elif flags.all:
        _say_rows(found, out)
    else:
        _say_groups(found, out)
    return SUCCEEDED


def _say_groups(found: Sequence[Listed], out: Out) -> None:
    groups = groups_of(found)
    running = [item for item in found if item.runs]
    if not found:
        out.say("nothing waits, nothing runs")
        return
    if groups:
        waiting = sum(group.count for group in groups)
        out.say(Text(count(waiting, "container") + " waiting", style="bold"))
        columns = (
            Column("COUNT", right=True),
            Column("REASON"),
            Column("OLDEST", right=True),
            Column("NEXT TRY", right=True),
            Column("WHY, AND WHAT HELPS"),
        )
        out.table(columns, [_cells(group, out.now) for group in groups])
    if running:
        out.say()
        out.say(Text(count(len(running), "container") + " running", style="bold"))
        out.table(
            (Column("COUNT", right=True), Column("EACH"), Column("LONGEST")),
            _alike(running, out.now),
        )
    out.say()
    out.say(Text("a row for each: queue --all; the story of one: why UUID", style="dim"))


def _cells(group: Group, now: float) -> tuple[Cell, ...]:
    token, sentence = group_cells(group)
    return (
        f"{group.count:,}",
        token,
        waited(group.oldest_since, now),
        "" if group.next_attempt_at is None else ago(group.next_attempt_at, now),
        sentence,
    )


def group_cells(group: Group) -> tuple[Text, Text]:
    """The reason's name, and what it says with what helps below it."""
    advice = f"\n-> {group.advice}" if group.advice else ""
    return Text(group.token.value, style=TIER_STYLES[group.tier]), Text(group.sentence + advice)


def _alike(running: Sequence[Listed], now: float) -> list[tuple[Cell, ...]]:
    """The running ones by what they asked for, the most frequent first."""
    kinds: dict[str, list[Listed]] = {}
    for item in running:
        kinds.setdefault(_needs(item), []).append(item)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return [
        (f"{len(items):,}", needs, age(now - min(item.since for item in items)))
        for needs, items in ordered
    ]


def _needs(item: Listed) -> str:
    needs = item.container.resources
    parts = [count(needs.cores, "core"), f"{format_bytes(needs.ram_bytes)} RAM"]
    if needs.gpus:
        parts.append(count(needs.gpus, "GPU"))
    if item.container.partitions:
        parts.append(f"partition {' or '.join(item.container.partitions)}")
    return ", ".join(parts)


def _say_rows(found: Sequence[Listed], out: Out) -> None:
    if not found:
        out.say("nothing waits, nothing runs")
        return
    columns = (
        Column("CONTAINER"),
        Column("STATE"),
        Column("TRY", right=True),
        Column("FOR", right=True),
        Column("NAME"),
        Column("NODE OR REASON"),
    )
    out.table(columns, [_row(item, out.now) for item in found])


def _row(item: Listed, now: float) -> tuple[Cell, ...]:
    state = item.container.state.value
    words = (
        item.node if item.reason is None else f"{item.reason.token.value}: {item.reason.line(now)}"
    )
    return (
        item.container.uuid,
        Text(state, style=STATE_COLOURS[state]),
        str(item.container.attempt),
        waited(item.since, now),
        item.name,
        words,
    )


def _document(found: Sequence[Listed], now: float, *, rows: bool) -> dict[str, Any]:
    states = [item.container.state for item in found]
    document: dict[str, Any] = {
        "at": format_time(now),
        "queued": states.count(ContainerState.QUEUED),
        "locked": states.count(ContainerState.LOCKED),
        "running": states.count(ContainerState.RUNNING),
        "waiting": [group.as_dict() for group in groups_of(found)],
    }
    if rows:
        document["containers"] = [item.as_dict() for item in found]
    return document


def _arguments(parser: Any) -> None:
    parser.add_argument("--all", action="store_true", help="a row for each container")
    parser.add_argument(
        "--reason",
        dest="token",
        metavar="REASON",
        action="append",
        choices=[token.value for token in ReasonToken],
        default=[],
        help="only those that wait for this reason, such as backoff; may be repeated",
    )


QUEUE = Command(
    "queue",
    "what waits, by reason, and what runs",
    queue,
    description="Containers that wait for the same thing are one line, however many they are. Reasons that need "
    "somebody to do something come first.",
    arguments=_arguments,
    examples=("queue", "queue --all --reason no-node-fits", "queue --json"),
    keys={
        "at": "when it was asked",
        "queued, locked, running": "how many there are in each state",
        "waiting": "an object for each reason: `token`, `tier`, `sentence`, `advice`, `containers` (how many), "
        "`oldest` (UUID of the one that has waited longest), `oldest_since` (since when it could run), `next_attempt_at` (the earliest; or null)",
        "containers": "with `--all`, an object for each: `uuid`, `request`, `name`, `state`, `attempt`, `priority`, "
        "`created_at`, `due_at` (since when it could run), `started_at`, `dispatcher`, `node`, `resources`, `reason` (or null)",
    },
)
