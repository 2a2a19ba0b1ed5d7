"""`status`: is it alive, is work flowing, why does work wait, what does it cost; in one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from nodemanager.cli.command import PROG, SUCCEEDED, Command, Flags
from nodemanager.cli.dispatchers import DispatcherRow, dispatcher_columns, read_dispatchers
from nodemanager.cli.groups import groups_of
from nodemanager.cli.management import NoManagement
from nodemanager.cli.out import Column, Out
from nodemanager.cli.queue import TIER_STYLES
from nodemanager.cli.site import Site
from nodemanager.cli.waiting import list_live
from nodemanager.cli.words import age, count
from nodemanager.model import ContainerState, format_time
from nodemanager.reason import ReasonToken, Tier
from nodemanager.reason.tokens import TABLE

FLOW_SECONDS = 3600.0
"""What ended within this time tells whether work flows."""
MOST_KINDS = 6
"""Of reasons; so many are shown."""
LONG_QUEUE = 5000
"""Of a longer one the sentences are not read: that takes seconds."""
_FINAL = tuple(state for state in ContainerState if state.is_final)


@dataclass(frozen=True, slots=True)
class Wait:
    """Containers that wait for reasons of one kind."""

    token: str
    tier: str
    count: int
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "token": self.token,
            "tier": self.tier,
            "containers": self.count,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """What the four questions are answered from."""

    dispatchers: Sequence[DispatcherRow]
    states: Mapping[str, int]
    """How many containers are Queued, Locked and Running."""
    waits: Sequence[Wait]
    """Those that need somebody first."""
    oldest_wait_seconds: float
    """For how long the oldest could have run; 0 when nothing waits that could."""
    ended: Mapping[ContainerState, int]
    """In the last hour."""
    daemon: Mapping[str, Any] | None
    """`status.json`; None when the management server cannot be asked."""
    silence: str = ""
    """Why it cannot."""


def status(site: Site, _flags: Flags, out: Out) -> int:
    """Answer the four questions."""
    look = _look(site, out.now)
    if out.as_json:
        out.document(_document(look, site, out.now))
        return SUCCEEDED
    moment = datetime.fromtimestamp(out.now).astimezone()
    out.say(f"{site.endpoint.url}, {moment:%Y-%m-%d %H:%M:%S}")
    _say_alive(look, out)
    _say_flowing(look, out)
    _say_waiting(look, out)
    _say_cost(look, out)
    return SUCCEEDED


def _look(site: Site, now: float) -> Overview:
    summary = site.call("containers", "summary")
    try:
        daemon, silence = site.management.get("/status.json"), ""
    except NoManagement as error:
        daemon, silence = None, str(error)
    return Overview(
        dispatchers=read_dispatchers(site, now),
        states=summary["states"],
        waits=_waits(site, summary, now),
        oldest_wait_seconds=summary["oldest_wait_seconds"],
        ended=_ended(site, now),
        daemon=daemon,
        silence=silence,
    )


def _waits(site: Site, summary: Mapping[str, Any], now: float) -> list[Wait]:
    """With the most frequent sentence of each kind; of a very long queue with what the kind means."""
    if sum(row["containers"] for row in summary["waiting"]) <= LONG_QUEUE:
        return [
            Wait(group.token.value, group.tier.name.lower(), group.count, group.sentence)
            for group in groups_of(list_live(site, now), most_sentences=0)
        ]
    counts: Counter[ReasonToken] = Counter()
    for row in summary["waiting"]:
        counts[ReasonToken(row["reason"])] += row["containers"]
    order = sorted(counts, key=lambda token: (token.tier.value, -counts[token]))
    return [
        Wait(token.value, token.tier.name.lower(), counts[token], TABLE[token].means)
        for token in order
    ]


def _ended(site: Site, now: float) -> dict[ContainerState, int]:
    since = format_time(now - FLOW_SECONDS)
    found = {}
    for state in _FINAL:
        filters = [["state", "=", state.value], ["finished_at", ">", since]]
        answer = site.call("containers", "list", filters=filters, limit=0, count="exact")
        found[state] = int(answer["items_available"])
    return found


def _question(out: Out, question: str, good: bool | None, words: str) -> None:
    """A question and its short answer; None: neither good nor bad."""
    style = {True: "green", False: "bold red", None: ""}[good]
    line = Text().append(f"{question:<20}", style="bold")
    line.append(words, style=style)
    out.say()
    out.say(line)


def _say_alive(look: Overview, out: Out) -> None:
    alive = [row for row in look.dispatchers if row.is_alive]
    if not alive:
        words = (
            "no dispatcher is alive: nothing is claimed or watched over. Start arvados-node-manager"
        )
        _question(out, "Is it alive?", good=False, words=words)
    else:
        late = [row for row in alive if row.is_late(out.now)]
        paused = [row for row in alive if row.paused]
        words = f"yes, {count(len(alive), 'dispatcher')}"
        if late:
            words = f"{len(late)} of {count(len(alive), 'dispatcher')} went silent"
        if paused:
            words += f"; {len(paused)} paused"
        _question(out, "Is it alive?", not late, words)
    shown = [row for row in look.dispatchers if row.is_alive or row.ended_recently(out.now)]
    columns, cells = dispatcher_columns(shown, out.now)
    out.table(columns, cells)


def _say_flowing(look: Overview, out: Out) -> None:
    running, locked, queued = (look.states[state] for state in ("Running", "Locked", "Queued"))
    ended = sum(look.ended.values())
    parts = ", ".join(f"{n:,} {state.value}" for state, n in look.ended.items() if n)
    lately = f"{ended:,} ended in the last hour{f' ({parts})' if parts else ''}"
    if not queued + locked + running:
        _question(out, "Is work flowing?", None, f"there is no work; {lately}")
        return
    flows = bool(running or ended)
    words = (
        f"{count(running, 'container')} running, {locked:,} claimed, {queued:,} queued; {lately}"
    )
    _question(out, "Is work flowing?", flows, f"{'yes' if flows else 'no'}: {words}")
    if look.oldest_wait_seconds:
        out.say(f"the oldest that waits could have run for {age(look.oldest_wait_seconds)}")


def _say_waiting(look: Overview, out: Out) -> None:
    waiting = sum(wait.count for wait in look.waits)
    if not waiting:
        _question(out, "Why does it wait?", None, "nothing waits")
        return
    _question(out, "Why does it wait?", None, f"{count(waiting, 'container')}:")
    columns = (Column("COUNT", right=True), Column("REASON"), Column(""))
    shown = look.waits[:MOST_KINDS]
    out.table(columns, [(f"{w.count:,}", _token(w), w.sentence) for w in shown])
    left = sum(wait.count for wait in look.waits[MOST_KINDS:])
    more = f"{left:,} more, and advice" if left else "advice"
    out.say(Text(f"{more}: {PROG} queue", style="dim"))


def _token(wait: Wait) -> Text:
    return Text(wait.token, style=TIER_STYLES[Tier[wait.tier.upper()]])


def _say_cost(look: Overview, out: Out) -> None:
    if look.daemon is None:
        _question(out, "What does it cost?", None, f"not known here: {look.silence}")
        return
    limits, nodes = look.daemon.get("limits"), look.daemon.get("nodes") or []
    if limits is None:
        _question(out, "What does it cost?", None, "nothing: no nodes are booted here")
        return
    phases: dict[str, int] = {}
    for node in nodes:
        phases[node["phase"]] = phases.get(node["phase"], 0) + 1
    states = ", ".join(f"{number} {phase}" for phase, number in sorted(phases.items()))
    most = limits.get("max_total_price") or 0
    words = f"{limits['price']:.2f} per hour{f' of at most {most:.2f}' if most else ''}: "
    words += f"{count(len(nodes), 'node')} of at most {limits['max_nodes']}"
    _question(out, "What does it cost?", None, f"{words}{f' ({states})' if states else ''}")
    for words in (limits.get("brake"), limits.get("stale")):
        if words:
            out.say(Text(words, style="yellow"))


def _document(look: Overview, site: Site, now: float) -> dict[str, Any]:
    daemon = look.daemon or {}
    limits = daemon.get("limits")
    return {
        "at": format_time(now),
        "api": site.endpoint.url,
        "dispatchers": [row.as_dict() for row in look.dispatchers if row.is_alive],
        "containers": {
            "queued": look.states["Queued"],
            "locked": look.states["Locked"],
            "running": look.states["Running"],
        },
        "ended_last_hour": {state.value: number for state, number in look.ended.items()},
        "oldest_wait_seconds": look.oldest_wait_seconds,
        "waiting": [wait.as_dict() for wait in look.waits],
        "cost": None
        if limits is None
        else {
            "price_per_hour": limits["price"],
            "max_total_price": limits["max_total_price"],
            "nodes": len(daemon.get("nodes") or []),
            "max_nodes": limits["max_nodes"],
        },
    }


STATUS = Command(
    "status",
    "is it alive, is work flowing, why does it wait, what does it cost",
    status,
    description="Four questions in one screen. The first three are answered by the API, for all dispatchers and "
    "also while the daemon is down; the last by the daemon of the config file.",
    examples=("status", "status --json | jq .containers"),
    keys={
        "at": "when it was asked",
        "api": "where",
        "dispatchers": "those that are alive, as in `dispatchers list`",
        "containers": "how many are queued, locked (claimed) and running",
        "ended_last_hour": "how many ended in the last hour, by final state",
        "oldest_wait_seconds": "for how long the oldest that waits could have run",
        "waiting": "an object for each kind of reason: `token`, `tier`, `containers` (how many), `sentence` (the most "
        "frequent one)",
        "cost": "`price_per_hour`, `max_total_price` (0: no limit), `nodes`, `max_nodes`; null when no nodes are "
        "booted or the management server cannot be asked",
    },
    statuses={0: "it could be asked, whatever the answers are", 1: "the API does not answer"},
)
