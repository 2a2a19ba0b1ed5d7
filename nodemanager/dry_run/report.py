"""The forecast as lines for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from nodemanager.config import Config
from nodemanager.dry_run.outcome import Change, ChangeKind, Forecast, Lot, Unclaimed, Work
from nodemanager.dry_run.sight import Sight
from nodemanager.dry_run.words import amounts, counted, price, shape_words
from nodemanager.model import Finding, format_seconds

MOST_GROUPS = 30
"""So many groups of containers, and nodes, are shown; the others are summed up."""
_MOST_NAMES = 6
_NARROWEST = 40
_HANGING = 4


def report(
    config: Config, sight: Sight, told: Iterable[Finding], made: Forecast, width: int
) -> Iterator[Text]:
    """Line by line, broken at `width` columns; 0: not at all."""
    room = max(_NARROWEST, width) if width else 0
    for depth, text in _parts(config, sight, tuple(told), made):
        if not depth:
            text.stylize("bold")
        yield from _broken(text, "  " * depth, room)


_Part = tuple[int, Text]
"""A line, and how deep it stands below others."""


def _parts(
    config: Config, sight: Sight, told: Sequence[Finding], made: Forecast
) -> Iterator[_Part]:
    yield 0, Text(f"What the daemon of {config.path} would do now. Nothing of it is done.")
    for finding in told:
        yield 1, _finding(finding)
    if sight.queue is not None:
        yield from _claims(sight, made)
        yield from _left(sight, made)
    yield from _held(made)
    if sight.cloud is not None:
        yield from _nodes(sight, made)
    if made.limits:
        yield from _limits(made)


def _finding(finding: Finding) -> Text:
    if finding.problem:
        return Text.assemble(("problem", "red"), f"  {finding.subject}: {finding.problem}")
    return Text.assemble(("ok", "green"), f"       {finding.subject}: {finding.detail}")


# Containers.


def _claims(sight: Sight, made: Forecast) -> Iterator[_Part]:
    queued = counted(made.queued, "queued container")
    if made.claimed:
        yield from _heading(f"Claim {made.claimed:,} of {queued}, and submit them")
    else:
        yield from _heading(f"Claim none of {queued}" if made.queued else "No container is queued")
    advised: set[str] = set()
    for work in made.works[:MOST_GROUPS]:
        lots = [_lot(lot, sight.now, advised) for lot in work.lots]
        if len(lots) == 1:
            yield 1, Text(f"{_work(work)}: {lots[0]}")
            continue
        yield 1, Text(f"{_work(work)}:")
        for lot, words in zip(work.lots, lots, strict=True):
            yield 3, Text(f"{lot.count:,} x {words}")
    more = made.works[MOST_GROUPS:]
    if more:
        count = sum(work.claimed + work.resubmitted + work.waiting for work in more)
        yield 1, Text(f"and {count:,} of {counted(len(more), 'other shape')}")


def _work(work: Work) -> str:
    kinds = (
        (work.claimed, "claimed now"),
        (work.resubmitted, "claimed before and not submitted"),
        (work.waiting, "submitted before"),
    )
    count = work.claimed + work.resubmitted + work.waiting
    where = f"to {work.scheduler}" if work.scheduler else "to no scheduler yet"
    said = f"{count:,} x {shape_words(work.shape)} {where}"
    if count > work.claimed:
        told = [
            (f"{number:,} " if number < count else "") + words for number, words in kinds if number
        ]
        said += f" ({', '.join(told)})"
    return f"{said}, {_example(count, work.example)}"


def _example(count: int, uuid: str) -> str:
    return uuid if count == 1 else f"such as {uuid}"


def _lot(lot: Lot, now: float, advised: set[str]) -> str:
    """The same advice is given once."""
    where = f": {_names(lot.nodes)}" if lot.nodes else ""
    advice = lot.reason.advice
    said = "" if not advice or advice in advised else f"; {advice}"
    advised.add(advice)
    return f"{lot.reason.line(now)}{where}{said}"


def _left(sight: Sight, made: Forecast) -> Iterator[_Part]:
    if not made.unclaimed:
        return
    left = sum(group.count for group in made.unclaimed)
    yield from _heading(f"Leave {counted(left, 'container')} in the queue")
    for group in made.unclaimed[:MOST_GROUPS]:
        yield 1, Text(_group(group, sight.now))
    more = made.unclaimed[MOST_GROUPS:]
    if more:
        count = sum(group.count for group in more)
        yield 1, Text(f"and {count:,} for {counted(len(more), 'other reason')}")


def _group(group: Unclaimed, now: float) -> str:
    reason = group.reason
    when = (
        ""
        if reason.next_attempt_at is None
        else f", the first in {format_seconds(reason.next_attempt_at - now)}"
    )
    if group.count == 1:
        when = when.replace("the first ", "")
    advice = f"; {reason.advice}" if reason.advice else ""
    return f"{group.count:,} x {reason.token}, {_example(group.count, group.example)}: {reason.sentence}{when}{advice}"


def _held(made: Forecast) -> Iterator[_Part]:
    counts = (
        (made.running, "running"),
        (made.ending, "over, which is written down"),
        (made.unknown, "of whose jobs nobody knows now, left as they are"),
    )
    said = [f"{count:,} {words}" for count, words in counts if count]
    if said:
        yield from _heading(f"Claimed before: {', '.join(said)}")
    if made.cancelled:
        yield from _heading(
            f"Cancel {counted(len(made.cancelled), 'job')} that nobody wants any more"
        )
        yield 1, Text(_names(made.cancelled))


# Nodes.


def _nodes(sight: Sight, made: Forecast) -> Iterator[_Part]:
    here = ", ".join(f"{count} {phase}" for phase, count in made.phases.items()) or "none"
    yield from _heading(f"Nodes: {here}; {price(made.price_now)}")
    if made.stale:
        yield 1, Text(f"nothing is booted or shut: {made.stale}")
        return
    if not made.is_packed:
        yield (
            1,
            Text("not all that waits was put on nodes in time: this is a part of the plan", "red"),
        )
    for boot in made.boots:
        each = f"{amounts(boot.size.resources)}, {price(boot.size.price)} each"
        yield 1, Text(f"boot {boot.count:,} x {boot.size.name} ({each})")
    if sum(boot.count for boot in made.boots) > made.boots_per_turn:
        yield 1, Text(f"not all at once: {made.boots_per_turn} in a turn")
    for change in made.changes[:MOST_GROUPS]:
        yield 1, Text(_change(change, sight))
    if len(made.changes) > MOST_GROUPS:
        yield 1, Text(f"and the like with {len(made.changes) - MOST_GROUPS:,} more")
    if made.boots or made.changes:
        yield 1, Text(f"{price(made.price_then)} when that is done")
    else:
        yield 1, Text("none is booted or shut")


def _change(change: Change, sight: Sight) -> str:
    when = ""
    if change.kind is ChangeKind.SHUT and sight.cloud is not None:
        idle = sight.cloud.policy.idle_time
        when = f" when it has been idle for {format_seconds(idle)}" if idle else ""
    return f"{change.kind} {change.node}{when}: {change.why}"


def _limits(made: Forecast) -> Iterator[_Part]:
    yield from _heading("Limits")
    for limit in made.limits:
        yield 1, Text(f"{limit.words}{' <- reached' if limit.binds else ''}")


# Lines.


def _heading(words: str) -> Iterator[_Part]:
    yield 0, Text()
    yield 0, Text(words)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else shown


def _broken(text: Text, indent: str, room: int) -> Iterator[Text]:
    """The line without control characters, which names and errors may have, and in pieces if it is too long."""
    words = "".join(c if c.isprintable() else "?" for c in text.plain)
    if not room or len(indent) + len(words) <= room:
        clean = text if words == text.plain else Text(words)
        yield Text(indent).append_text(clean)
        return
    hanging = indent + " " * _HANGING
    lines = textwrap.wrap(
        words, room, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False
    )
    for line in lines:
        yield Text(line, style=text.style)
