"""What the daemon would do with what was seen: pure.

Everything is decided by the functions that the actors ask: what each container held needs (`dispatch.steps`), how many
more are claimed and why the others are not (`dispatch.claiming`), which scheduler gets a job (`schedulers.routes`),
which nodes are booted and shut, and where everything that waits is put (`fleet`). What a daemon learns only by
trying (quotas, sizes that cannot be had, nodes that come to nothing) is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from nodemanager.dispatch.claiming import Claimer, Load, claim_limit, explain_queue, urgency
from nodemanager.dispatch.steps import (
    JobPhase,
    Situation,
    Step,
    job_waits,
    next_step,
    wants_node,
)
from nodemanager.dispatch.wishlist import Wish, demands_of
from nodemanager.dry_run.fleet import (
    Fleet,
    FleetPlan,
    boots_of,
    changes_of,
    fleet_of,
    plan_fleet,
    with_boots,
)
from nodemanager.dry_run.limits import limits_of
from nodemanager.dry_run.outcome import Forecast, Lot, Unclaimed, Work
from nodemanager.dry_run.sight import QueueSight, SchedulerSight, Sight
from nodemanager.fit import capabilities_of, capabilities_with
from nodemanager.model import Container, JobState, Node, NodeSize, Route
from nodemanager.nodes.demand import Offer, Packing, Shape
from nodemanager.nodes.packing import pack
from nodemanager.nodes.stock import Stock, bootable_cores, offer_of, rooms_of
from nodemanager.nodes.why import held_by
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.routes import Line, choose

_PHASES = {
    JobState.WAITING: JobPhase.WAITING,
    JobState.RUNNING: JobPhase.RUNNING,
    JobState.ENDED: JobPhase.ENDED,
    JobState.UNKNOWN: JobPhase.UNKNOWN,
}
_OVER = frozenset({Step.READ, Step.WRITE, Step.COLLECT, Step.LET_GO})


Patience: TypeAlias = Callable[[], Callable[[], bool]]
"""Called when packing begins; what it returns is asked whether that has taken long enough."""


def forecast(sight: Sight, patience: Patience = lambda: lambda: False) -> Forecast:
    """What the daemon would do."""
    fleet = None if sight.cloud is None else fleet_of(sight, sight.cloud)
    queue = sight.queue or QueueSight()
    hand = tuple(_in_hand(sight, queue))
    told = _explained(sight, queue, fleet, hand)
    claimed = [container for container in queue.queued if told[container.uuid] is None]
    lines = tuple(_lines(sight, fleet))
    entries = list(_entries(hand, claimed, lines))
    wishes = [entry for entry in entries if entry.scheduler == sight.elastic and entry.wants_node]
    made = None if fleet is None else plan_fleet(fleet, _wishes(wishes), patience())
    before = Forecast(
        queued=len(queue.queued),
        works=tuple(_works(sight, entries, made, patience)),
        unclaimed=tuple(_unclaimed(queue.queued, told, _held_then(sight, fleet, made))),
        running=sum(each.step is Step.WAIT and not each.waits for each in hand),
        unknown=sum(each.phase is JobPhase.UNKNOWN for each in hand),
        ending=sum(each.step in _OVER for each in hand),
        cancelled=(
            *(each.uuid for each in hand if each.step is Step.CANCEL_JOB),
            *queue.finished_jobs,
        ),
    )
    done = before if fleet is None or made is None else _with_nodes(before, fleet, made)
    return replace(done, limits=tuple(limits_of(sight, fleet, _load(hand), done)))


# What is in hand.


@dataclass(frozen=True, slots=True)
class _Held:
    """A container that was claimed before, with what its actor would do."""

    container: Container
    phase: JobPhase
    step: Step
    scheduler: str
    waits: bool
    wants_node: bool

    @property
    def uuid(self) -> str:
        return self.container.uuid


def _in_hand(sight: Sight, queue: QueueSight) -> Iterator[_Held]:
    jobs = {job.name: (job, each.name) for each in sight.schedulers for job in each.jobs}
    # A job that somebody who does not answer may have is not missing.
    sure = all(each.complete and not each.error for each in sight.schedulers)
    for container in queue.held:
        job, scheduler = jobs.get(container.uuid, (None, ""))
        phase = JobPhase.NONE if sure else JobPhase.UNKNOWN
        situation = Situation(
            container,
            phase if job is None else _PHASES[job.state],
            end=None if job is None else job.end,
            has_token=True,
            runner_id="" if job is None else job.runner_id,
            hopeless="" if job is None else job.hopeless,
        )
        yield _Held(
            container,
            situation.phase,
            next_step(situation),
            scheduler,
            job_waits(situation),
            wants_node(situation),
        )


def _load(hand: Sequence[_Held]) -> Load:
    return Load(len(hand), sum(each.waits for each in hand))


# What is claimed.


def _explained(
    sight: Sight, queue: QueueSight, fleet: Fleet | None, hand: Sequence[_Held]
) -> Mapping[str, Reason | None]:
    """For each queued container why it is not claimed; None when it is."""
    silent = [each for each in sight.schedulers if each.error]
    if len(silent) == len(sight.schedulers):
        # A dispatcher that does not know what could run does not even register.
        why = "; ".join(f"{each.title} does not answer" for each in silent)
        reason = Reason(ReasonToken.SCHEDULER_DOWN, f"nothing is claimed: {why}", since=sight.now)
        return dict.fromkeys((container.uuid for container in queue.queued), reason)
    offered = _offered(fleet)
    nodes = _nodes(sight)
    load = _load(hand)
    routes = [line.route for line in _lines(sight, fleet) if line.route is not None]
    claimer = Claimer(
        queue.dispatcher,
        capabilities_with(nodes, offered, routes if len(sight.schedulers) > 1 else ()),
        _room(sight, nodes, load, fleet, len(queue.queued)),
        load,
        None if fleet is None or sight.max_claimed else held_by(fleet.stock, fleet.policy),
        queue.paused,
    )
    return explain_queue(queue.queued, claimer, sight.now)


def _room(sight: Sight, nodes: Sequence[Node], load: Load, fleet: Fleet | None, most: int) -> int:
    """How many are claimed, one batch after the other."""
    cores = 0 if fleet is None else bootable_cores(fleet.stock, fleet.policy)
    room = 0
    while room < most:
        then = Load(load.live + room, load.waiting + room)
        more = claim_limit(sight.max_claimed, nodes, then, cores)
        if more == 0:
            break
        room += more
    return room


def _nodes(sight: Sight) -> tuple[Node, ...]:
    return tuple(node for each in sight.schedulers for node in each.nodes)


def _offered(fleet: Fleet | None) -> tuple[NodeSize, ...]:
    """The sizes that could be booted."""
    return () if fleet is None else offer_of(fleet.stock, fleet.policy).sizes


def _held_then(sight: Sight, fleet: Fleet | None, made: FleetPlan | None) -> Reason | None:
    """What keeps the daemon from claiming more once it has booted what it can; None when nothing does."""
    if fleet is None or made is None or sight.max_claimed:
        return None
    return held_by(with_boots(fleet.stock, made.plan), fleet.policy)


def _unclaimed(
    queue: Sequence[Container], told: Mapping[str, Reason | None], held: Reason | None
) -> list[Unclaimed]:
    groups: dict[tuple[ReasonToken, str, str], Unclaimed] = {}
    for container in queue:
        reason = told[container.uuid]
        if reason is None:
            continue
        if held is not None and reason.token is ReasonToken.CLAIM_LIMIT:
            reason = held
        key = (reason.token, reason.sentence, reason.advice)
        before = groups.get(key)
        if before is None:
            groups[key] = Unclaimed(1, reason, container.uuid)
        else:
            first = min(before.reason, reason, key=lambda each: each.next_attempt_at or 0.0)
            groups[key] = Unclaimed(before.count + 1, first, before.example)
    return sorted(groups.values(), key=lambda group: (group.reason.tier.value, -group.count))


# Where it goes.


class _Origin(Enum):
    CLAIMED = "claimed now"
    RESUBMITTED = "claimed before, without a job"
    WAITING = "claimed before, with a job that waits"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A container that needs a place."""

    container: Container
    scheduler: str
    origin: _Origin
    wants_node: bool = True
    trouble: Reason | None = None
    """Why no scheduler gets it now."""


def _lines(sight: Sight, fleet: Fleet | None) -> Iterator[Line]:
    """What is known of each scheduler, as the router has it."""
    for each in sight.schedulers:
        if each.error:
            yield Line(each.name, each.rule, silent=True)
            continue
        sizes = _offered(fleet) if each.name == sight.elastic else ()
        route = Route(each.name, each.rule, capabilities_of(each.nodes, sizes))
        yield Line(each.name, each.rule, route)


def _entries(
    hand: Iterable[_Held], claimed: Iterable[Container], lines: Sequence[Line]
) -> Iterator[_Entry]:
    for each in hand:
        if each.step is Step.SUBMIT:
            yield _entry(each.container, lines, _Origin.RESUBMITTED)
        elif each.step is Step.WAIT and each.phase is JobPhase.WAITING:
            yield _Entry(each.container, each.scheduler, _Origin.WAITING, each.wants_node)
    for container in claimed:
        yield _entry(container, lines, _Origin.CLAIMED)


def _entry(container: Container, lines: Sequence[Line], origin: _Origin) -> _Entry:
    if len(lines) == 1:
        return _Entry(container, lines[0].name, origin)
    choice = choose(container, lines)
    return _Entry(container, choice.scheduler, origin, not choice.trouble, choice.trouble)


def _wishes(entries: Iterable[_Entry]) -> Iterator[Wish]:
    for entry in entries:
        yield Wish(Shape.of(entry.container), entry.container.priority)


def _works(
    sight: Sight, entries: Sequence[_Entry], made: FleetPlan | None, patience: Patience
) -> Iterator[Work]:
    groups: dict[tuple[str, Shape, str], list[_Entry]] = {}
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
            claimed=sum(entry.origin is _Origin.CLAIMED for entry in group),
            resubmitted=sum(entry.origin is _Origin.RESUBMITTED for entry in group),
            waiting=sum(entry.origin is _Origin.WAITING for entry in group),
            example=_first(group).uuid,
            lots=lots,
        )


def _first(group: Iterable[_Entry]) -> Container:
    return min((entry.container for entry in group), key=urgency)


def _urgency(item: tuple[tuple[str, Shape, str], list[_Entry]]) -> tuple[float, float, str]:
    return urgency(_first(item[1]))


def _places_at(
    scheduler: SchedulerSight,
    sight: Sight,
    entries: Iterable[_Entry],
    made: FleetPlan | None,
    patience: Patience,
) -> Mapping[Shape, tuple[Lot, ...]]:
    """By shape, where the containers of one scheduler have room, and what the others wait for."""
    if made is not None and scheduler.name == sight.elastic:
        return _lots_with_nodes(made)
    ours = [e for e in entries if e.scheduler == scheduler.name and e.wants_node]
    demands = demands_of(_wishes(ours))
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


# Nodes.


def _with_nodes(before: Forecast, fleet: Fleet, made: FleetPlan) -> Forecast:
    boots, changes = boots_of(made.plan), tuple(changes_of(fleet, made.plan))
    stock = fleet.stock
    gone = sum(change.price for change in changes if change.kind.removes)
    return replace(
        before,
        boots=boots,
        boots_per_turn=fleet.policy.boots_per_turn,
        changes=changes,
        phases=dict(Counter(node.phase.value for node in stock.nodes)),
        price_now=stock.price,
        price_then=stock.price + sum(boot.count * boot.size.price for boot in boots) - gone,
        stale=stock.stale,
    )
