"""Where the containers go that are claimed: to which scheduler, and there to which node, or what they wait for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from nodemanager.dispatch.claiming import urgency
from nodemanager.dispatch.steps import JobPhase, Step
from nodemanager.dispatch.wishlist import Wish, demands_of
from nodemanager.dry_run.fleet import FleetPlan
from nodemanager.dry_run.hand import Held
from nodemanager.dry_run.outcome import Lot, Work
from nodemanager.dry_run.sight import SchedulerSight, Sight
from nodemanager.model import Container
from nodemanager.nodes.demand import Offer, Packing, Shape
from nodemanager.nodes.packing import pack
from nodemanager.nodes.stock import Stock, rooms_of
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.routes import Line, choose

Patience: TypeAlias = Callable[[], Callable[[], bool]]
"""Called when packing begins; what it returns is asked whether that has taken long enough."""


class Origin(Enum):
    """How a container comes to need a place."""

    CLAIMED = "claimed now"
    RESUBMITTED = "claimed before, without a job"
    WAITING = "claimed before, with a job that waits"


@dataclass(frozen=True, slots=True)
class Entry:
    """A container that needs a place."""

    container: Container
    scheduler: str
    origin: Origin
    wants_node: bool = True
    trouble: Reason | None = None
    """Why no scheduler gets it now."""


def entries_of(
    hand: Iterable[Held], claimed: Iterable[Container], lines: Sequence[Line]
) -> Iterator[Entry]:
    """Everything that needs a place, with the scheduler that has it or gets it."""
    for each in hand:
        if each.step is Step.SUBMIT:
            yield _entry(each.container, lines, Origin.RESUBMITTED)
        elif each.step is Step.WAIT and each.phase is JobPhase.WAITING:
            yield Entry(each.container, each.scheduler, Origin.WAITING, each.wants_node)
    for container in claimed:
        yield _entry(container, lines, Origin.CLAIMED)


def _entry(container: Container, lines: Sequence[Line], origin: Origin) -> Entry:
    if len(lines) == 1:
        return Entry(container, lines[0].name, origin)
    choice = choose(container, lines)
    return Entry(container, choice.scheduler, origin, not choice.trouble, choice.trouble)


def wishes_of(entries: Iterable[Entry]) -> Iterator[Wish]:
    """As the wishlist has them."""
    for entry in entries:
        yield Wish(Shape.of(entry.container), entry.container.priority)


def works_of(
    sight: Sight, entries: Sequence[Entry], made: FleetPlan | None, patience: Patience
) -> Iterator[Work]:
    """The entries by shape and scheduler, the most urgent first, with where each will run; `made` is what is done about
    nodes where some may be booted."""
    groups: dict[tuple[str, Shape, str], list[Entry]] = {}
    for entry in entries:
        sentence = "" if entry.trouble is None else entry.trouble.sentence
        key = (entry.scheduler, Shape.of(entry.container), sentence)
        groups.setdefault(key, []).append(entry)
    places = {
        each.name: _places_at(each, sight, entries, made, patience) for each in sight.schedulers
    }
    titles = {each.name: each.title for each in sight.schedulers}
    for (scheduler, shape, trouble), group in sorted(groups.items(), key=_urgency):
        if trouble and group[0].trouble is not None:
            lots: tuple[Lot, ...] = (Lot(len(group), group[0].trouble),)
        else:
            lots = places[scheduler].get(shape, ())
        yield Work(
            shape,
            "" if trouble else titles[scheduler],
            claimed=sum(entry.origin is Origin.CLAIMED for entry in group),
            resubmitted=sum(entry.origin is Origin.RESUBMITTED for entry in group),
            waiting=sum(entry.origin is Origin.WAITING for entry in group),
            example=_first(group).uuid,
            lots=lots,
        )


def _first(group: Iterable[Entry]) -> Container:
    return min((entry.container for entry in group), key=urgency)


def _urgency(item: tuple[tuple[str, Shape, str], list[Entry]]) -> tuple[float, float, str]:
    return urgency(_first(item[1]))


def _places_at(
    scheduler: SchedulerSight,
    sight: Sight,
    entries: Iterable[Entry],
    made: FleetPlan | None,
    patience: Patience,
) -> Mapping[Shape, tuple[Lot, ...]]:
    """By shape, where the containers of one scheduler have room, and what the others wait for."""
    if made is not None and scheduler.name == sight.elastic:
        return _lots_with_nodes(made)
    ours = [e for e in entries if e.scheduler == scheduler.name and e.wants_node]
    demands = demands_of(wishes_of(ours))
    stock = Stock(sight.now, 0.0, 0.0, (), others=scheduler.nodes)
    packing = pack(demands, rooms_of(stock), Offer(()), patience())
    rooms = _rooms(packing, [demand.shape for demand in demands])
    wanted: Counter[Shape] = Counter()
    for demand in demands:
        wanted[demand.shape] += demand.count
    return {
        shape: _lots_without(rooms.get(shape, {}), count, sight) for shape, count in wanted.items()
    }


def _lots_without(room: Mapping[str, int], count: int, sight: Sight) -> tuple[Lot, ...]:
    """Where no nodes are booted: some have room now, the others wait in the scheduler."""
    here = sum(room.values())
    lots = []
    if here:
        reason = Reason(ReasonToken.SCHEDULER_WAIT, "there is room for it", since=sight.now)
        lots.append(Lot(here, reason, tuple(room)))
    if count > here:
        reason = Reason(
            ReasonToken.SCHEDULER_WAIT, "it waits in the scheduler for a free node", since=sight.now
        )
        lots.append(Lot(count - here, reason))
    return tuple(lots)


def _lots_with_nodes(made: FleetPlan) -> Mapping[Shape, tuple[Lot, ...]]:
    rooms = _rooms(made.packing, made.demands)
    found: dict[Shape, tuple[Lot, ...]] = {}
    for shape, line in made.plan.reasons.items():
        lots: list[Lot] = []
        for count, reason in line:
            at = next((n for n, lot in enumerate(lots) if lot.reason.same_as(reason)), None)
            if at is None:
                here = reason.token is ReasonToken.SCHEDULER_WAIT
                lots.append(Lot(count, reason, tuple(rooms.get(shape, ())) if here else ()))
            else:
                lots[at] = replace(lots[at], count=lots[at].count + count)
        found[shape] = tuple(lots)
    return found


def _rooms(packing: Packing, shapes: Sequence[Shape]) -> Mapping[Shape, Mapping[str, int]]:
    """By shape, how many go to which node that is there."""
    found: dict[Shape, dict[str, int]] = {}
    for host, load in packing.rooms.items():
        for index, count in load.counts.items():
            by_host = found.setdefault(shapes[index], {})
            by_host[host] = by_host.get(host, 0) + count
    return found
