"""Which class `[Dispatch] scheduler` means."""

from __future__ import annotations

from nodemanager.plugins import Plugins
from nodemanager.schedulers.base import Scheduler

SCHEDULERS: Plugins[Scheduler] = Plugins(
    base=Scheduler,  # type: ignore[type-abstract]
    option="[Dispatch] scheduler",
    noun="scheduler",
    group="arvados_node_manager.schedulers",
    built_in={
        "local": "nodemanager.schedulers.local:LocalScheduler",
        "fake": "nodemanager.schedulers.fake:FakeScheduler",
        "slurm": "nodemanager.schedulers.slurm.scheduler:SlurmScheduler",
        "kubernetes": "nodemanager.schedulers.kubernetes.scheduler:KubernetesScheduler",
        "sge": "nodemanager.schedulers.sge.scheduler:GridEngineScheduler",
    },
)


def find_scheduler(word: str) -> type[Scheduler]:
    """The scheduler class that `word` names; `ConfigError` if there is none."""
    return SCHEDULERS.find(word)


def known_schedulers() -> tuple[str, ...]:
    """Every name that `find_scheduler` would look for, built in or offered by an installed package."""
    return SCHEDULERS.known()
