"""`nodes`: the nodes that the daemon of this config file booted; hold, drain, run and kill them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text

from nodemanager.cli.command import (
    SUCCEEDED,
    Command,
    CommandGroup,
    Flags,
    each,
    with_reason,
)
from nodemanager.cli.out import Cell, Column, Out
from nodemanager.cli.site import Site, UsageError
from nodemanager.cli.words import age, count
from nodemanager.model import parse_time

_DISPATCH = "/arvados/v1/dispatch"
_STYLES = {
    "booting": "yellow",
    "asked": "yellow",
    "idle": "green",
    "busy": "cyan",
    "failed": "bold red",
    "lost": "bold red",
}


def list_nodes(site: Site, _flags: Flags, out: Out) -> int:
    """Show them, and what is wanted."""
    look = site.management.get("/status.json")
    running = _running(site)
    if out.as_json:
        out.document(_document(look, running))
        return SUCCEEDED
    if look.get("limits") is None:
        out.say(
            "no nodes are booted here: the config file names no cloud"
            if look.get("dispatcher") is not None
            else "the dispatcher is being started anew; ask again in a moment"
        )
        return SUCCEEDED
    nodes = look["nodes"]
    columns = (
        Column("NODE"),
        Column("SIZE"),
        Column("STATE"),
        Column("TOLD"),
        Column("PRICE", right=True),
        Column("UP", right=True),
        Column("IDLE", right=True),
        Column("RUNS", right=True),
        Column("REMARK"),
    )
    out.table(columns, [_row(node, look, running, out.now) for node in nodes])
    _say_totals(look, out)
    return SUCCEEDED


def _running(site: Site) -> Counter[str] | None:
    """How many containers run on each node, by its name; None when the daemon does not tell."""
    if not site.management.token:
        return None
    items = site.management.get(f"{_DISPATCH}/instances")["items"]
    return Counter({item["name"]: len(item["containers"]) for item in items})


def _row(
    node: Mapping[str, Any], look: Mapping[str, Any], running: Counter[str] | None, now: float
) -> Sequence[Cell]:
    idle = look["idle_times"].get(node["host"])
    ordered = node["ordered_at"]
    told = node["behaviour"]
    return (
        node["name"],
        node["size"] or "?",
        Text(node["phase"], style=_STYLES.get(node["phase"], "")),
        "" if told == "run" else Text(told, style="magenta"),
        f"{node['price']:.3f}",
        age(now - parse_time(ordered)) if ordered else "?",
        "" if idle is None else age(idle),
        "" if running is None else str(running[node["name"]]),
        node["leaving"] or node["not_ready"],
    )


def _say_totals(look: Mapping[str, Any], out: Out) -> None:
    limits, wishlist = look["limits"], look["wishlist"]
    price = limits["max_total_price"]
    out.say(
        Text(
            f"{count(len(look['nodes']), 'node')} of at most {limits['max_nodes']}, {limits['price']:.2f} per hour"
            f"{f' of at most {price:.2f}' if price else ''}",
            style="bold",
        )
    )
    sizes = ", ".join(f"{n} {size}" for size, n in wishlist["sizes"].items() if n)
    if sizes:
        out.say(f"wanted besides: {sizes}, for {count(wishlist['waiting'], 'waiting container')}")
    for size, seconds in limits["unavailable"].items():
        out.say(Text(f"{size} cannot be had; asked for again in {age(seconds)}", style="yellow"))
    for words in (limits["brake"], limits["stale"]):
        if words:
            out.say(Text(words, style="yellow"))


def _document(look: Mapping[str, Any], running: Counter[str] | None) -> dict[str, Any]:
    nodes = [
        {
            **node,
            "idle_seconds": look["idle_times"].get(node["host"]),
            "containers": None if running is None else running[node["name"]],
        }
        for node in look["nodes"]
    ]
    return {
        "at": look["taken_at"],
        "nodes": nodes,
        "wishlist": look["wishlist"],
        "limits": look["limits"],
    }


def _verb(verb: str, words: str) -> Callable[[Site, Flags, Out], int]:
    """What tells each named node `verb`."""

    def run(site: Site, flags: Flags, out: Out) -> int:
        def do(name: str) -> None:
            given = {"instance_id": name, "reason": flags.reason}
            site.management.post(f"{_DISPATCH}/instances/{verb}", given)
            out.say(f"{name} {words}")

        return each(flags.names, out, do)

    return run


def kill(site: Site, flags: Flags, out: Out) -> int:
    """Destroy nodes now, whatever runs there."""

    def do(name: str) -> None:
        question = f"Destroy {name} now? What runs there is lost and tried again elsewhere."
        if not flags.yes and not out.ask(question):
            raise UsageError(f"{name}: nothing was done; say --yes to do it without a question")
        given = {"instance_id": name, "reason": flags.reason or "an operator said so"}
        site.management.post(f"{_DISPATCH}/instances/kill", given)
        out.say(f"{name} is destroyed")

    return each(flags.names, out, do)


def release_brake(site: Site, _flags: Flags, out: Out) -> int:
    """Boot again."""
    site.management.post(f"{_DISPATCH}/brake/release", {})
    out.say("the brake is released: nodes are booted again")
    return SUCCEEDED


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", metavar="NODE", nargs="+", help="its name, or the cloud's identifier"
    )
    with_reason(parser, "the daemon's log")


def _kill_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument("--yes", action="store_true", help="without a question")


_DONE = {0: "the daemon was told", 1: "it was refused for one of them; the others are told"}

NODES = CommandGroup(
    "nodes",
    "the nodes that the daemon booted: list, hold, drain, run, kill, release-brake",
    (
        Command(
            "nodes list",
            "each with its state, price, age and idle time, and what is wanted besides",
            list_nodes,
            description="The same as nodes alone. All of nodes asks the management server of the config file's "
            "daemon, and needs its [Manage] ManagementToken. TOLD is what operators said.",
            examples=("nodes", "nodes list --json"),
            keys={
                "at": "when the daemon looked",
                "nodes": "an object for each, with the keys of `status.json` and `idle_seconds` (null: it is not "
                "idle) and `containers` (how many run there; null without a token)",
                "wishlist": "as in `status.json`; null when no nodes are booted",
                "limits": "as in `status.json`; null when no nodes are booted",
            },
        ),
        Command(
            "nodes hold",
            "no new work, and never shut: somebody wants to look at it",
            _verb("hold", "is held: no new work, and it is not shut"),
            arguments=_arguments,
            examples=("nodes hold node-1 --reason 'its disk is slow'",),
            statuses=_DONE,
        ),
        Command(
            "nodes drain",
            "no new work, and shut when it is idle",
            _verb("drain", "is drained: no new work, and it is shut when it is idle"),
            arguments=_arguments,
            examples=("nodes drain node-1 node-2",),
            statuses=_DONE,
        ),
        Command(
            "nodes run",
            "like any other again, after hold or drain",
            _verb("run", "runs like any other"),
            arguments=_arguments,
            examples=("nodes run node-1",),
            statuses=_DONE,
        ),
        Command(
            "nodes kill",
            "destroy it now, whatever runs there",
            kill,
            description="What runs there is lost, and tried again elsewhere. Asks first, on a terminal.",
            arguments=_kill_arguments,
            examples=("nodes kill node-1 --reason 'hangs'", "nodes kill node-1 --yes"),
            statuses=_DONE,
        ),
        Command(
            "nodes release-brake",
            "boot again, although the last nodes came to nothing",
            release_brake,
            description="So many nodes failed in a row that no more are booted for a while; why is in nodes list, and "
            "what became of each in the daemon's log.",
            examples=("nodes release-brake",),
        ),
    ),
)
