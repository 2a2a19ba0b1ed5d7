"""Why Grid Engine does not start a job: what `qstat -j` says of each queue and host, summed up in a reason of ours.

The messages are those of Grid Engine 8.1 (sge_schedd, `schedd_job_info true`); one comes for each queue instance or
host that will not do, so there may be hundreds. What is not known is shown as it is. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nodemanager.reason import Knob, Reason, ReasonToken
from nodemanager.schedulers.sge.states import JobLetters

MOST_SHOWN = 3
"""So many messages that are not known are shown."""

_WAIT, _RESOURCES = ReasonToken.SCHEDULER_WAIT, ReasonToken.WAITING_FOR_RESOURCES
_HOLD, _LIMIT = ReasonToken.SCHEDULER_HOLD, ReasonToken.SCHEDULER_LIMIT

_ASK = "qstat -j JOB tells more, where schedd_job_info is true (qconf -msconf)"


@dataclass(frozen=True, slots=True)
class Waits:
    """Why jobs wait, as far as Grid Engine was asked."""

    own: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """What it said of each job, by its number; of those that it was not asked about, nothing."""
    general: tuple[str, ...] = ()
    """What it said of queue instances that take no job at all now."""

    def of(self, number: int) -> tuple[str, ...]:
        """All that is said of a job."""
        return self.own.get(number, ()) + self.general


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A kind of message, and what it means."""

    sentence: str
    """With `{n}` where the number of queue instances or hosts belongs."""
    pattern: str
    """Of the whole message; its group `lacks` is what is asked for, `offers` what there is."""
    token: ReasonToken = _WAIT
    advice: str = _ASK
    whose: Knob | None = None
    is_choice: bool = False
    """It only says where the job did not want to go."""


_QUEUE = r'[Qq]ueue instance ".*" dropped because it is '
OBSTACLES: Mapping[str, Obstacle] = {
    "held": Obstacle(
        "the job is held",
        r"[Jj]ob (?:is in|dropped because of) hold.*",
        _HOLD,
        "qrls JOB releases it",
    ),
    "limit": Obstacle(
        "a limit of its user, or of a resource quota set, is reached",
        r"[Jj]ob dropped because of user limitations|.*exceeds? limit.*",
        _LIMIT,
        "it goes on when jobs end; qquota and qconf -srqs show the limits, which are the site's to set",
    ),
    "lacking": Obstacle(
        "{n} hosts or queues have less free than it asks for",
        r"\(-l (?P<lacks>.*?)\) cannot run .* because .*?it offers only (?P<offers>.*)",
        _RESOURCES,
        "it starts when jobs before it end; if no host has so much at all (qhost -F), ask for less",
    ),
    "slots": Obstacle(
        "its parallel environment offers too few slots",
        r'cannot run in PE ".*" because it only offers (?P<offers>\d+) slots'
        r"|.*resources requested are not available for parallel job"
        r'|.*total slots of PE ".*" not in range of job',
        _RESOURCES,
        "it starts when jobs before it end; if no host has so many slots at all (qstat -g c), ask for fewer cores",
    ),
    "all full": Obstacle(
        "all queues are full or overloaded", r".*(?:overload|overloaded) or full.*", _RESOURCES
    ),
    "full": Obstacle("{n} queue instances are full", rf"{_QUEUE}full", _RESOURCES),
    "overloaded": Obstacle(
        "{n} queue instances are overloaded",
        rf"{_QUEUE}overloaded.*",
        _RESOURCES,
        "their load has to fall; load_thresholds of the queue (qconf -sq) is the limit",
        Knob.SITE,
    ),
    "unavailable": Obstacle(
        "{n} queue instances are not available",
        rf"{_QUEUE}temporarily not available",
        advice="qstat -f -explain aAE and qhost tell which hosts are not heard of, or in error",
    ),
    "disabled": Obstacle(
        "{n} queue instances are disabled",
        rf"{_QUEUE}disabled",
        advice="qmod -e QUEUE enables them again",
    ),
    "suspended": Obstacle(
        "{n} queue instances are suspended",
        rf"{_QUEUE}suspended",
        advice="qmod -us QUEUE ends that",
    ),
    "too long": Obstacle(
        "{n} queue instances allow no job that runs for so long",
        r".*the job runtime of .* is too long",
        advice="ask for a smaller scheduling_parameters.max_run_time, or another partition (queue)",
        whose=Knob.OWNER,
    ),
    "not allowed": Obstacle(
        "{n} queues are not open to its user, project or parallel environment",
        r"(?:Job \d+ )?has no permission for .*|cannot run because no access to PE .*",
        advice="qconf -sq QUEUE and qconf -sp PE show who may use them (user_lists, xuser_lists, projects)",
    ),
    "dependency": Obstacle(
        "a job that it depends on has not ended",
        r"[Jj]ob dropped because of job dependencies",
        advice="look at -hold_jid in [Scheduler] qsub_arguments: our jobs depend on none",
        whose=Knob.OPERATOR,
    ),
    "time": Obstacle(
        "its time to start has not come",
        r"jobs? dropped because (?:of execution time|execution time not reached).*",
        advice="",
        whose=Knob.NOBODY,
    ),
    "not in its list": Obstacle(
        "{n} other queues are not among those that it asks for",
        r".*not contained in (?:its|the(?: master)?) hard queue list.*",
        advice="ask for another partition (queue), or enable those that it asks for",
        is_choice=True,
    ),
    "not suitable": Obstacle(
        "{n} other queue instances are not for such jobs",
        r'cannot run in queue(?: instance)? ".*" because (?:PE ".*" is not in PE list|it is not of (?:type'
        r" \w+|parallel type)|the job is not parallel|queues are non requestable|it has \"0\" slots)",
        advice="qconf -sq QUEUE shows its pe_list, qtype and slots",
        is_choice=True,
    ),
}
"""By the name in the facts, those that say most first: the first that there is decides which reason it is."""

_PATTERNS = {name: re.compile(obstacle.pattern) for name, obstacle in OBSTACLES.items()}


@dataclass(slots=True)
class _Found:
    """What the messages of one job come down to."""

    counts: dict[str, int] = field(default_factory=dict)
    asked: dict[str, None] = field(default_factory=dict)
    offers: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)

    def take(self, message: str) -> None:
        for name, pattern in _PATTERNS.items():
            match = pattern.fullmatch(message)
            if match is not None:
                self.counts[name] = self.counts.get(name, 0) + 1
                groups = match.groupdict()
                if lacks := groups.get("lacks"):
                    self.asked[lacks] = None
                if offers := groups.get("offers"):
                    self.offers[offers] = None
                return
        self.unknown[message] = None


@lru_cache(maxsize=256)
def reason_of(messages: tuple[str, ...], letters: JobLetters) -> Reason:
    """Which of our reasons it is that Grid Engine has not started a job, by its messages: there may be none, as there
    are of most of ten thousand, which share one reason then."""
    if "h" in letters.letters:
        return _reason("held", [f"the job is held ({letters.letters})"], {"word": letters.letters})
    found = _Found()
    for message in messages:
        found.take(message)
    facts: dict[str, Any] = {"word": letters.letters}
    if found.counts:
        facts["nodes"] = {name: found.counts[name] for name in OBSTACLES if name in found.counts}
    if found.asked:
        facts["asked"] = list(found.asked)[:MOST_SHOWN]
    if found.offers:
        facts["offered"] = list(found.offers)[:MOST_SHOWN]
    decisive = _decisive(found)
    return _reason(decisive, _parts(found, decisive, letters), facts)


def _decisive(found: _Found) -> str:
    """The obstacle that decides which reason it is; empty when none is known."""
    names = [name for name in OBSTACLES if name in found.counts]
    real = [name for name in names if not OBSTACLES[name].is_choice]
    return (real or names or [""])[0] if not found.unknown or real else ""


def _parts(found: _Found, decisive: str, letters: JobLetters) -> list[str]:
    parts = []
    for name, obstacle in OBSTACLES.items():
        count = found.counts.get(name, 0)
        if count and (not obstacle.is_choice or name == decisive):
            words = obstacle.sentence.format(n=count)
            if name == "lacking":
                asked = ", ".join(list(found.asked)[:MOST_SHOWN])
                words += f" ({asked}; for example {next(iter(found.offers))})"
            parts.append(_singular(words, count))
    shown = list(found.unknown)
    parts += shown[:MOST_SHOWN]
    if len(shown) > MOST_SHOWN:
        parts.append(f"and {len(shown) - MOST_SHOWN} more")
    return parts or [letters.words]


def _singular(words: str, count: int) -> str:
    if count != 1:
        return words
    for many, one in (
        ("hosts or queues have", "host or queue has"),
        ("queue instances allow", "queue instance allows"),
        ("queue instances are", "queue instance is"),
        ("other queue instances are", "other queue instance is"),
        ("queues are", "queue is"),
    ):
        words = words.replace(many, one)
    return words


def _reason(name: str, parts: Sequence[str], facts: Mapping[str, Any]) -> Reason:
    obstacle = OBSTACLES.get(name)
    sentence = f"its job waits in the queue: {'; '.join(parts)}"
    if obstacle is None:
        return Reason(_WAIT, sentence, facts, _ASK)
    # The token's own advice, where the obstacle has none better.
    advice = "" if obstacle.token is _RESOURCES and obstacle.advice == _ASK else obstacle.advice
    return Reason(obstacle.token, sentence, facts, advice, whose=obstacle.whose)
