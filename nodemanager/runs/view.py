"""How a run looks: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nodemanager.model import format_seconds
from nodemanager.runs.plan import TO_COME, NodeRow, Row
from nodemanager.runs.session import Ending, View

STATE_COLOURS = {
    "Complete": "green",
    "Running": "cyan",
    "Queued": "yellow",
    "Locked": "yellow",
    "PermFail": "red",
    "TempFail": "magenta",
    "Cancelled": "red",
}
NODE_COLOURS = {
    "booting": "yellow",
    "idle": "green",
    "busy": "cyan",
    "failed": "red",
    "lost": "red",
}
MOST_ROWS = 40
MOST_NODES = 8
SPARE_LINES = 10
"""Lines of the terminal left for heading, bar and the summary of what is not shown."""


def make_view(console: Console | None = None) -> View:
    """A live table if `console` (standard output) is a terminal that can show one, else plain lines."""
    console = console or Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console)
    return PlainView(console)


def printable(text: str) -> str:
    """One line without control characters: names and errors come from anybody."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class PlainView:
    """One line for each change, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[str, int, str]] = {}
        self._nodes: dict[str, str] = {}
        """The state of each node."""

    def begin(self, title: str) -> None:
        """See `View.begin`."""
        self.say(title)

    def show(self, rows: Sequence[Row], nodes: Sequence[NodeRow] = ()) -> None:
        """A line for each request whose state, attempt or kind of reason is new, and each node whose state is."""
        self._show_nodes(nodes)
        for row in rows:
            if row.state == TO_COME:
                continue
            # A reason that only counts down is the same reason.
            mark = (row.state, row.attempt, row.words.partition(" (in ")[0])
            if self._seen.get(row.name) == mark:
                continue
            self._seen[row.name] = mark
            attempt = f" attempt {row.attempt}" if row.attempt else ""
            node = f" on {row.node}" if row.node else ""
            words = f": {row.words}" if row.words else ""
            self.say(f"{row.name} {row.state}{attempt}{node}{words}")

    def _show_nodes(self, nodes: Sequence[NodeRow]) -> None:
        for node in nodes:
            if self._nodes.get(node.name) != node.state:
                detail = f": {node.detail}" if node.detail else ""
                self.say(f"node {node.name} ({node.size}) is {node.state}{detail}")
        for name in self._nodes.keys() - {node.name for node in nodes}:
            self.say(f"node {name} is gone")
        self._nodes = {node.name: node.state for node in nodes}

    def say(self, message: str) -> None:
        """See `View.say`."""
        _print(self._console, f"{datetime.now().astimezone():%H:%M:%S} {message}")

    def end(self, ending: Ending) -> None:
        """See `View.end`."""
        print_ending(self._console, ending)

    def close(self) -> None:
        """Nothing to clear away."""


class LiveView:
    """A table that changes in place, and a bar over all."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("final"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("containers", total=None)
        self._live = Live(Text("starting"), console=console, refresh_per_second=4, transient=True)

    def begin(self, title: str) -> None:
        """See `View.begin`."""
        self.say(title)
        self._live.start()

    def show(self, rows: Sequence[Row], nodes: Sequence[NodeRow] = ()) -> None:
        """See `View.show`."""
        final = sum(row.final for row in rows)
        self._bar.update(self._task, completed=final, total=len(rows))
        lines = min(len(nodes), MOST_NODES + 1)
        # With a heading and a line between.
        spare = SPARE_LINES + (lines + 2 if lines else 0)
        room = max(5, min(MOST_ROWS, self._console.size.height - spare))
        containers = picture(rows, room)
        if nodes:
            containers = Group(containers, Text(), node_picture(nodes, MOST_NODES))
        self._live.update(Group(containers, self._bar))

    def say(self, message: str) -> None:
        """See `View.say`; the line stays above the table."""
        _print(self._live.console, message)

    def end(self, ending: Ending) -> None:
        """See `View.end`."""
        self._live.stop()
        print_ending(self._console, ending)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def picture(rows: Sequence[Row], room: int) -> Group:
    """A table of at most `room` rows, those under way first, and one line for the rest."""
    shown = Table(box=None, pad_edge=False, expand=True)
    shown.add_column("container", no_wrap=True, ratio=3)
    shown.add_column("state", no_wrap=True, width=13)
    shown.add_column("attempt", justify="right", no_wrap=True, width=7)
    shown.add_column("node", no_wrap=True, ratio=3)
    shown.add_column("elapsed", justify="right", no_wrap=True, width=12)
    shown.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=8)
    first = list(rows) if len(rows) <= room else sorted(rows, key=lambda row: row.final)[:room]
    for row in first:
        shown.add_row(*_cells(row))
    return _with_rest(shown, (row.state for row in rows), (row.state for row in first))


def node_picture(nodes: Sequence[NodeRow], room: int) -> Group:
    """A table of at most `room` nodes, those that change or work first, and one line for the rest."""
    shown = Table(box=None, pad_edge=False, expand=True)
    shown.add_column("node", no_wrap=True, ratio=3)
    shown.add_column("size", no_wrap=True, ratio=2)
    shown.add_column("state", no_wrap=True, width=13)
    shown.add_column("containers", justify="right", no_wrap=True, width=10)
    shown.add_column("", no_wrap=True, overflow="ellipsis", ratio=9)
    first = list(nodes)
    if len(nodes) > room:
        first = sorted(nodes, key=lambda node: node.state == "idle")[:room]
    for node in first:
        shown.add_row(
            Text(printable(node.name)),
            Text(printable(node.size)),
            Text(node.state, style=NODE_COLOURS.get(node.state, "")),
            Text(str(node.running)),
            Text(printable(node.detail)),
        )
    return _with_rest(shown, (node.state for node in nodes), (node.state for node in first))


def _with_rest(table: Table, states: Iterable[str], shown: Iterable[str]) -> Group:
    """The table, and below it how many of each state are not in it."""
    left = Counter(states) - Counter(shown)
    if not left:
        return Group(table)
    words = ", ".join(f"{count} {state}" for state, count in sorted(left.items()))
    return Group(table, Text(f"and {words}", style="dim"))


def _cells(row: Row) -> list[Text]:
    return [
        Text(printable(row.name)),
        Text(row.state, style=STATE_COLOURS.get(row.state, "")),
        Text(str(row.attempt) if row.attempt else ""),
        Text(printable(row.node)),
        Text("" if row.elapsed is None else format_seconds(row.elapsed)),
        Text(printable(row.words)),
    ]


def print_ending(console: Console, ending: Ending) -> None:
    """The last words: how each request ended, where its log and output are, and the totals.

    Of many requests only those that are not Complete are named.
    """
    console.print()
    many = len(ending.rows) > MOST_ROWS
    named = [row for row in ending.rows if not (many and row.complete)]
    width = max((len(printable(row.name)) for row in named), default=0)
    logs = {name: (log, output) for name, log, output in ending.places}
    for row in named:
        took = "" if row.elapsed is None else f"in {format_seconds(row.elapsed)}"
        tries = f"attempt {row.attempt}" if row.attempt > 1 else ""
        facts = ", ".join(filter(None, (took, tries)))
        words = ": ".join(filter(None, (facts, row.words)))
        state = Text(f"{row.state:<13}", style=STATE_COLOURS.get(row.state, ""))
        line = Text(f"{printable(row.name):<{width}}  ")
        line.append_text(state)
        line.append(printable(words))
        console.print(line, soft_wrap=True)
        log, output = logs.get(row.name, ("", ""))
        for label, place in (("log", log), ("output", output)):
            if place:
                _print(console, f"{'':<{width}}    {label}: {place}")
    counts = Counter(row.state for row in ending.rows)
    words = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    _print(console, "")
    _print(console, f"{words}; {format_seconds(ending.seconds)}; logs and outputs: {ending.store}")


def _print(console: Console, text: str) -> None:
    """Text as it is: no markup, no wrapping, no control characters."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    console.print(Text(clean), soft_wrap=True)
