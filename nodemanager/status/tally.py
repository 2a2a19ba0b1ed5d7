"""What the daemon has counted, as far as people look at it: how much work was begun and ended.

Read off `nodemanager.metrics`, which counts for the whole process. May be called from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodemanager import metrics


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """Since the start of the process."""

    started: int = 0
    """Containers that became Running."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Containers let go, by their final state; `Abandoned`: this dispatcher had been declared lost."""

    @property
    def all_ended(self) -> int:
        """However they ended."""
        return sum(self.ended.values())


def work_counts() -> WorkCounts:
    """As of now."""
    ended: dict[str, int] = {}
    for metric in metrics.CONTAINERS_FINISHED.collect():
        for sample in metric.samples:
            state = sample.labels["state"]
            ended[state] = ended.get(state, 0) + int(sample.value)
    name = f"{metrics.PREFIX}containers_started_total"
    return WorkCounts(int(metrics.REGISTRY.get_sample_value(name) or 0), ended)
