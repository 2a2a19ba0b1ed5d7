"""The scheduler modules of a configuration: one, or several by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodemanager.config import Config
from nodemanager.config.sections import NamedScheduler
from nodemanager.config.sections import Scheduler as SchedulerSection
from nodemanager.model import NodeSize
from nodemanager.rule import Rule
from nodemanager.schedulers.base import Scheduler, SchedulerContext
from nodemanager.schedulers.registry import find_scheduler


@dataclass(frozen=True, slots=True)
class SchedulerSite:
    """One scheduler as the config file has it."""

    name: str
    """As in `[Dispatch] schedulers`; empty where there is one."""
    module: str
    section: SchedulerSection
    state_dir: Path
    """A directory of its own that outlives the daemon."""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.module

    @property
    def rule(self) -> Rule:
        """Which jobs it accepts."""
        return self.section.accept if isinstance(self.section, NamedScheduler) else Rule()

    @property
    def kind(self) -> type[Scheduler]:
        """Its class; raises `ConfigError`."""
        return find_scheduler(self.module)


def scheduler_sites(config: Config) -> tuple[SchedulerSite, ...]:
    """All schedulers, in the order in which they are tried."""
    dispatch, state_dir = config.dispatch, config.daemon.state_dir
    if not dispatch.schedulers:
        return (SchedulerSite("", dispatch.scheduler, config.scheduler, state_dir / "scheduler"),)
    sections = [(name, config.schedulers[name]) for name in dispatch.schedulers]
    return tuple(
        SchedulerSite(name, section.module or name, section, state_dir / "schedulers" / name)
        for name, section in sections
    )


def elastic_site(config: Config) -> str:
    """The name of the scheduler that booted nodes join; empty where there is one."""
    return config.cloud.scheduler or next(iter(config.dispatch.schedulers), "")


def make_scheduler(
    config: Config,
    site: SchedulerSite,
    sizes: tuple[NodeSize, ...] = (),
    machines: Path | None = None,
) -> Scheduler:
    """The module of one scheduler; raises `ConfigError`.

    `sizes` are those of nodes that may be booted for it, and `machines` the directory of the machines that are
    shares of this one, if it is to use them.
    """
    options = dict(site.section.options)
    if machines is not None:
        options.setdefault("machines", str(machines))
    return site.kind(
        SchedulerContext(
            cluster_id=config.arvados.cluster_id,
            state_dir=site.state_dir,
            options=options,
            command_seconds=site.section.command_timeout,
            dispatcher=config.dispatch.name,
            section=f"Scheduler {site.name}".rstrip(),
            sizes=sizes,
            store=config.runner.store,
            input_dirs=config.runner.input_dirs,
        )
    )
