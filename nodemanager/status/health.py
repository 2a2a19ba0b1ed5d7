"""Is the daemon alive, is it ready, and what is it doing: the answers for monitors and for systemd.

*Alive*: its actors answer, so that to start it again would help nothing. *Ready*: it can do its work now; that an API
or a scheduler is away is no reason to start the daemon again, but one to look.

Pure: a look and a pulse go in, sentences come out, each with a time since when it is so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from nodemanager.actors.watchdog import Pulse
from nodemanager.config import Config
from nodemanager.dispatch.messages import Status
from nodemanager.model import ContainerState, format_seconds
from nodemanager.nodes.messages import NodesStatus
from nodemanager.nodes.states import NodePhase
from nodemanager.reason import Reason
from nodemanager.reason.queued import EXPLAINED
from nodemanager.status.look import DaemonLook

MISSED_ROUNDS = 3
"""So many rounds in a row that the watchdog does not make mean that the process is stuck."""
MISSED_TIMES = 4
"""So many pings, or polls at their slowest, may fail until whoever does not answer is away."""
SHORTEST_SECONDS = 60.0
"""Nobody is away for less."""


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """How old news may be, in seconds. The defaults follow from those of the config file."""

    api_seconds: float = 60.0
    scheduler_seconds: float = 240.0


def limits_from(config: Config) -> HealthLimits:
    """As the config file's intervals have it."""
    sections = (config.scheduler, *config.schedulers.values())
    slowest = max(max(section.poll_time, section.max_poll_time) for section in sections)
    return HealthLimits(
        api_seconds=max(SHORTEST_SECONDS, MISSED_TIMES * config.dispatch.ping_interval),
        scheduler_seconds=max(SHORTEST_SECONDS, MISSED_TIMES * slowest),
    )


def why_not_alive(pulse: Pulse, now: float) -> tuple[str, ...]:
    """What is stuck; nothing when the daemon is alive. `now` is wall clock."""
    found = []
    if pulse.round_age_seconds > MISSED_ROUNDS * pulse.round_seconds:
        found.append(f"the watchdog has not looked {_since(pulse.round_age_seconds, now)}")
    found += [
        f"{silence.actor.actor_class.__name__} has not answered {_since(silence.seconds, now)}:"
        f" it is {silence.doing}"
        for silence in pulse.silent
    ]
    return tuple(found)


def why_not_ready(look: DaemonLook, pulse: Pulse, limits: HealthLimits) -> tuple[str, ...]:
    """What keeps the daemon from its work; nothing when it is ready."""
    return tuple(_obstacles(look, pulse, limits))


def _obstacles(look: DaemonLook, pulse: Pulse, limits: HealthLimits) -> Iterator[str]:
    now, status = look.taken_at, look.dispatcher
    yield from why_not_alive(pulse, now)
    if look.stopping or (status is not None and status.news.stopping):
        yield "the daemon is stopping"
    if status is None:
        yield "the dispatcher does not answer: its actors are being started, or started anew"
        return
    yield from _scheduler_away(status, limits.scheduler_seconds, now)
    yield from _api_away(status, limits.api_seconds, now)
    if look.nodes is not None and look.nodes.stale:
        yield f"no node is booted or shut: {look.nodes.stale}"


def _scheduler_away(status: Status, limit: float, now: float) -> Iterator[str]:
    # Not why: that may hold what is nobody else's business, and the log has it.
    age = status.news.scheduler_age_seconds
    if age is None:
        yield "the scheduler has not answered yet"
    elif age > limit:
        yield f"the scheduler has not answered {_since(age, now)}"


def _api_away(status: Status, limit: float, now: float) -> Iterator[str]:
    age = status.news.api_age_seconds
    if status.me is None:
        when = "yet" if age is None else _since(age, now)
        yield f"not registered at the API {when}"
    elif status.lease_seconds <= 0:
        yield f"the lease has been over {_since(-status.lease_seconds, now)}: the API does not answer"
    elif age is not None and age > limit:
        yield f"the API has not answered {_since(age, now)}"
    elif not status.news.adopted:
        yield "the containers of the last start are not taken up yet"


def _since(seconds: float, now: float) -> str:
    try:
        at = f" (since {datetime.fromtimestamp(now - seconds, UTC):%Y-%m-%dT%H:%M:%SZ})"
    except (ValueError, OverflowError, OSError):
        at = ""
    return f"for {format_seconds(seconds)}{at}"


def one_line_status(look: DaemonLook, obstacles: tuple[str, ...]) -> str:
    """What it is doing, for `systemctl status`: ``3 running, 12 waiting (most: node limit), 2 nodes``."""
    status = look.dispatcher
    if status is None or obstacles:
        return obstacles[0] if obstacles else "starting"
    running = sum(held.container.state is ContainerState.RUNNING for held in status.containers)
    locked = ContainerState.LOCKED
    reasons = [held.reason for held in status.containers if held.container.state is locked]
    reasons += [queued.reason for queued in status.queued]
    # Of the queue it only sees the most urgent ones.
    more = "+" if len(status.queued) >= EXPLAINED else ""
    parts = [f"{running} running", f"{len(reasons)}{more} waiting{_most(reasons)}"]
    if look.nodes is not None:
        parts.append(_nodes(look.nodes))
    return ", ".join(parts)


def _most(reasons: list[Reason | None]) -> str:
    """The reason that most of them wait for, in brackets; empty when none is known."""
    counts = Counter(reason.token for reason in reasons if reason is not None)
    if not counts:
        return ""
    [(token, _count)] = counts.most_common(1)
    return f" (most: {token.value.replace('-', ' ')})"


def _nodes(nodes: NodesStatus) -> str:
    coming = sum(node.phase in (NodePhase.ASKED, NodePhase.BOOTING) for node in nodes.nodes)
    here = len(nodes.nodes) - coming
    booting = f" and {coming} booting" if coming else ""
    return f"{here} {'node' if here == 1 else 'nodes'}{booting}"
