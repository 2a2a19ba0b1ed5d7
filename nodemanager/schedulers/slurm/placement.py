"""Where a job may run, and whether any node there could hold it: decided here, so that Slurm need not refuse it."""

from __future__ import annotations

from collections.abc import Sequence

from nodemanager.model import Resources
from nodemanager.schedulers.base import JobSpec, Submission
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.nodes import SlurmNode, shortage
from nodemanager.schedulers.slurm.options import NodeOrigin, SlurmOptions


class Placement:
    """Knows the nodes by the last look, which it has to be told of."""

    def __init__(self, options: SlurmOptions, controller: Controller) -> None:
        self._options = options
        self._controller = controller
        self._nodes: Sequence[SlurmNode] = ()
        self._short_of: dict[tuple[Resources, tuple[str, ...]], str] = {}
        """Why none of the nodes could hold a kind of job."""
        self._defaults: tuple[str, ...] | None = None
        """Slurm's default partition."""

    def saw(self, nodes: Sequence[SlurmNode]) -> None:
        """These are the nodes now."""
        self._nodes = nodes
        self._short_of.clear()

    def partitions(self, spec: JobSpec) -> tuple[str, ...]:
        """Where a job may run; empty for Slurm's default partition."""
        spot = self._options.preemptible_partitions
        wanted = spec.partitions or self._options.partition
        if not spec.preemptible:
            return tuple(name for name in wanted if name not in spot)
        if not spot:
            return wanted
        return tuple(dict.fromkeys((*(wanted or self._default_partition()), *spot)))

    def judge(self, spec: JobSpec) -> Submission | None:
        """Why there is no use in submitting the job now, or ever; None when there is."""
        partitions = self.partitions(spec)
        if spec.partitions and not partitions:
            return Submission(
                spec.name,
                refused=f"the nodes of partition {', '.join(spec.partitions)} can be taken away, and it "
                "does not bear that (scheduling_parameters.preemptible)",
            )
        kind = (spec.resources, partitions)
        if kind not in self._short_of:
            everywhere = partitions or self._everywhere_but_spot()
            self._short_of[kind] = shortage(spec, everywhere, self._nodes)
        short = self._short_of[kind]
        if not short:
            return None
        if self._options.nodes is not NodeOrigin.FIXED:
            return Submission(spec.name, unplaced=short)
        return Submission(spec.name, refused=short)

    def _everywhere_but_spot(self) -> list[str]:
        spot = set(self._options.preemptible_partitions)
        return sorted({name for node in self._nodes for name in node.partitions} - spot)

    def _default_partition(self) -> tuple[str, ...]:
        if self._defaults is None:
            lines = self._controller.order("sinfo", "-h", "-o", "%P").splitlines()
            marked = [line.rstrip() for line in lines if line.rstrip().endswith("*")]
            self._defaults = tuple(line.removesuffix("*") for line in marked)
        return self._defaults
