"""Which of several schedulers gets a job: the first that takes it, in the order of `[Dispatch] schedulers`. Pure.

A scheduler takes a job if its rule accepts it and one of its nodes, or of those that may be booted for it, could
ever hold it. One that does not answer is passed over as long as another takes the job: when Slurm is down for
an hour, what Kubernetes takes as well goes there; what only Slurm takes waits for it. One that was not
heard of yet, right after the start, is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodemanager.fit import explain_refusal, explain_route, listed, no_route
from nodemanager.model import Route, Wanted
from nodemanager.reason import Reason, ReasonToken
from nodemanager.rule import Rule


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of one scheduler."""

    name: str
    rule: Rule
    route: Route | None = None
    """What could run there by its last answer; None before the first."""
    silent: bool = False
    """It does not answer."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with a job: hand it to `scheduler`, or let it wait because of `trouble`."""

    scheduler: str = ""
    trouble: Reason | None = None
    tried: Mapping[str, str] = field(default_factory=dict)
    """Schedulers that come first and do not take it, and why."""

    @property
    def words(self) -> str:
        """Which were tried before, as part of a sentence; empty if none was."""
        return f"not for {listed(self.tried)}" if self.tried else ""


def choose(wanted: Wanted, lines: Iterable[Line]) -> Choice:
    """Where a job goes."""
    tried: dict[str, str] = {}
    silent: dict[str, str] = {}
    for line in lines:
        refusal = explain_refusal(wanted, line.rule)
        if refusal:
            tried[line.name] = refusal
        elif line.silent:
            silent[line.name] = tried[line.name] = "it does not answer"
        elif line.route is None:
            return Choice(trouble=_unheard(line.name), tried=tried)
        elif why := explain_route(wanted, line.route):
            tried[line.name] = why
        else:
            return Choice(line.name, tried=tried)
    if silent:
        sentence = f"no scheduler that answers takes it: tried {listed(tried)}"
        return Choice(trouble=Reason(ReasonToken.SCHEDULER_DOWN, sentence), tried=tried)
    return Choice(trouble=no_route(tried, now=0.0), tried=tried)


def _unheard(name: str) -> Reason:
    return Reason(ReasonToken.SUBMITTING, f"scheduler {name} was not heard of yet")
