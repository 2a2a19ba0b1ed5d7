"""What the daemon would do with what was seen: pure.

Everything is decided by the functions that the actors ask: what each container held needs (`dispatch.steps`), how many
more are claimed and why the others are not (`dispatch.claiming`), which scheduler gets a job (`schedulers.routes`),
which nodes are booted and shut, and where everything that waits is put (`fleet`). What a daemon learns only by
trying (quotas, sizes that cannot be had, nodes that come to nothing) is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nodemanager.dispatch.claiming import Claimer, Load, claim_limit, explain_queue
from nodemanager.dispatch.steps import JobPhase, Step
from nodemanager.dry_run.fleet import (
    Fleet,
    FleetPlan,
    boots_of,
    changes_of,
    fleet_of,
    plan_fleet,
    with_boots,
)
from nodemanager.dry_run.hand import Held, in_hand, load_of
from nodemanager.dry_run.limits import limits_of
from nodemanager.dry_run.outcome import Forecast, Unclaimed
from nodemanager.dry_run.places import Patience, entries_of, wishes_of, works_of
from nodemanager.dry_run.sight import QueueSight, Sight
from nodemanager.fit import capabilities_of, capabilities_with
from nodemanager.model import Container, Node, NodeSize, Route
from nodemanager.nodes.stock import bootable_cores, offer_of
from nodemanager.nodes.why import held_by
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.routes import Line


def forecast(sight: Sight, patience: Patience = lambda: lambda: False) -> Forecast:
    """What the daemon would do."""
    fleet = None if sight.cloud is None else fleet_of(sight, sight.cloud)
    queue = sight.queue or QueueSight()
    hand = tuple(in_hand(sight, queue))
    told = _explained(sight, queue, fleet, hand)
    claimed = [container for container in queue.queued if told[container.uuid] is None]
    lines = tuple(_lines(sight, fleet))
    entries = list(entries_of(hand, claimed, lines))
    wishes = [entry for entry in entries if entry.scheduler == sight.elastic and entry.wants_node]
    made = None if fleet is None else plan_fleet(fleet, wishes_of(wishes), patience())
    before = Forecast(
        queued=len(queue.queued),
        works=tuple(works_of(sight, entries, made, patience)),
        unclaimed=tuple(_unclaimed(queue.queued, told, _held_then(sight, fleet, made))),
        running=sum(each.is_running for each in hand),
        unknown=sum(each.phase is JobPhase.UNKNOWN for each in hand),
        ending=sum(each.is_over for each in hand),
        cancelled=(
            *(each.container.uuid for each in hand if each.step is Step.CANCEL_JOB),
            *queue.finished_jobs,
        ),
    )
    done = before if fleet is None or made is None else _with_nodes(before, fleet, made)
    return replace(done, limits=tuple(limits_of(sight, fleet, load_of(hand), done)))


def _explained(
    sight: Sight, queue: QueueSight, fleet: Fleet | None, hand: Sequence[Held]
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
    load = load_of(hand)
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


def _lines(sight: Sight, fleet: Fleet | None) -> Iterator[Line]:
    """What is known of each scheduler, as the router has it."""
    for each in sight.schedulers:
        if each.error:
            yield Line(each.name, each.rule, silent=True)
            continue
        sizes = _offered(fleet) if each.name == sight.elastic else ()
        route = Route(each.name, each.rule, capabilities_of(each.nodes, sizes))
        yield Line(each.name, each.rule, route)


def _with_nodes(before: Forecast, fleet: Fleet, made: FleetPlan) -> Forecast:
    boots, changes = boots_of(made.plan), tuple(changes_of(fleet, made.plan))
    stock = fleet.stock
    gone = sum(change.price for change in changes if change.kind.removes)
    return replace(
        before,
        boots=boots,
        is_packed=made.packing.complete,
        boots_per_turn=fleet.policy.boots_per_turn,
        changes=changes,
        phases=dict(Counter(node.phase.value for node in stock.nodes)),
        price_now=stock.price,
        price_then=stock.price + sum(boot.count * boot.size.price for boot in boots) - gone,
        stale=stock.stale,
    )
