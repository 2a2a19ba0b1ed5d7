"""What `scontrol show node` prints about the machines, and which of them could hold a job."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodemanager.errors import SchedulerError
from nodemanager.fit import fits
from nodemanager.model import Node, NodeState, Resources, format_bytes
from nodemanager.schedulers.base import JobSpec

_MIB = 1 << 20
_FIELD = re.compile(r"(?:^|\s)([A-Za-z_]+)=")
_GPUS = re.compile(r"(?:^|,)gpu(?::[A-Za-z][^:,(]*)?:(\d+)")
_REASON = re.compile(
    r"(?P<words>.*?)(?: \[[^\[\]@ ]+@[0-9T:-]+\])?(?: Comment=(?P<comment>.*?))?(?: Extra=.*)?"
)
_NONE = ("", "(null)", "N/A")

_BASES = {
    "IDLE": NodeState.IDLE,
    "MIXED": NodeState.BUSY,
    "ALLOCATED": NodeState.BUSY,
    "DOWN": NodeState.DOWN,
    "ERROR": NodeState.DOWN,
    "FUTURE": NodeState.DOWN,
    "UNKNOWN": NodeState.UNKNOWN,
}
_DYNAMIC = frozenset({"DYNAMIC_NORM", "DYNAMIC_FUTURE"})
_ABSENT = frozenset({"FUTURE", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "POWERING_UP"})
_FLAGS = {
    "COMPLETING": NodeState.BUSY,
    "BLOCKED": NodeState.BUSY,
    "RESERVED": None,
    "PLANNED": None,
    "DYNAMIC_NORM": None,
    "DYNAMIC_FUTURE": None,
    "CLOUD": None,
    # For a moment after each resume, and while the network stutters: jobs go on. Slurm itself calls a node down
    # when that has lasted for SlurmdTimeout.
    "NOT_RESPONDING": None,
    "FAIL": NodeState.DOWN,
    "INVALID_REG": NodeState.DOWN,
    "INVAL": NodeState.DOWN,
    "POWERED_DOWN": None,
    "POWERING_UP": None,
    "POWERING_DOWN": NodeState.DOWN,
    "POWER_DOWN": NodeState.DOWN,
    "POWER_DRAIN": NodeState.DRAINING,
    "REBOOT": NodeState.DOWN,
    "REBOOT_REQUESTED": None,
    "REBOOT_ISSUED": NodeState.DOWN,
    "MAINT": NodeState.DRAINED,
    "DRAIN": NodeState.DRAINED,
    "RESUME": None,
    "POWER_UP": None,
    "PERFCTRS": None,
}
"""Flags that follow the base state; None for those that say nothing about taking work."""


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """One node as Slurm lists it."""

    name: str
    words: tuple[str, ...]
    """Its state and flags, in Slurm's words."""
    total: Resources
    allocated: Resources
    partitions: tuple[str, ...]
    features: tuple[str, ...]
    weight: int
    reason: str
    """Without the stamp of who set it and when."""
    comment: str = ""

    @property
    def is_future(self) -> bool:
        """Whether it is only defined: Slurm shows it to nobody who does not ask for such."""
        return "FUTURE" in self.words

    @property
    def is_dynamic(self) -> bool:
        """Whether it was created at run time."""
        return not _DYNAMIC.isdisjoint(self.words)

    @property
    def is_present(self) -> bool:
        """Whether a machine is behind it."""
        return _ABSENT.isdisjoint(self.words)

    @property
    def is_drained(self) -> bool:
        """Whether somebody has drained it."""
        return "DRAIN" in self.words

    @property
    def state(self) -> NodeState:
        """In our words."""
        base = _BASES.get(self.words[0], NodeState.UNKNOWN)
        told = {_FLAGS.get(flag, NodeState.UNKNOWN) for flag in self.words[1:]}
        if base is NodeState.DOWN or NodeState.DOWN in told:
            return NodeState.DOWN
        busy = base is NodeState.BUSY or NodeState.BUSY in told
        if NodeState.DRAINED in told or NodeState.DRAINING in told:
            return NodeState.DRAINING if busy else NodeState.DRAINED
        if NodeState.UNKNOWN in (base, *told):
            return NodeState.UNKNOWN
        return NodeState.BUSY if busy else NodeState.IDLE

    def as_node(self, preemptible: Collection[str], mark: str, owner: str) -> Node:
        """For everybody else.

        It can be taken away if all its partitions are among `preemptible`. `mark` is how our drains end, and
        `owner` how the comment of what we had admitted begins.
        """
        return Node(
            self.name,
            self.state,
            self.total,
            _room(self.total, self.allocated),
            self.partitions,
            self.reason.removesuffix(mark),
            bool(self.partitions) and set(self.partitions) <= set(preemptible),
            admitted=self.comment.startswith(owner),
        )


def parse_nodes(output: str) -> list[SlurmNode]:
    """The answer of `scontrol show node -o`; `SchedulerError` when a line makes no sense."""
    return [_node(line) for line in _lines(output)]


def _lines(output: str) -> Iterator[str]:
    for line in output.splitlines():
        if line.strip() and line.strip() != "No nodes in the system":
            yield line


def _node(line: str) -> SlurmNode:
    fields = _fields(line)
    try:
        name = fields["NodeName"]
        words = tuple(fields["State"].upper().replace("*", "+NOT_RESPONDING").split("+"))
        gpus = _gpus(fields.get("Gres", ""))
        return SlurmNode(
            name,
            words,
            Resources(
                int(fields.get("CPUEfctv") or fields["CPUTot"]),
                (int(fields["RealMemory"]) - int(fields.get("MemSpecLimit", 0))) * _MIB,
                int(fields.get("TmpDisk", 0)) * _MIB,
                gpus,
            ),
            Resources(
                int(fields["CPUAlloc"]),
                int(fields["AllocMem"]) * _MIB,
                0,
                _allocated_gpus(fields.get("AllocTRES", "")),
            ),
            _list(fields.get("Partitions", "")),
            _list(fields.get("AvailableFeatures", "")),
            int(fields.get("Weight", 1)),
            fields.get("Reason", ""),
            fields.get("Comment", ""),
        )
    except (KeyError, ValueError) as error:
        raise SchedulerError(
            f"scontrol show node printed what is not understood ({error!r}): {line[:200]}"
        ) from error


def _fields(line: str) -> dict[str, str]:
    """`Key=value` pairs whose values may contain blanks; reason and comment come last and are anybody's words."""
    line, mark, rest = line.partition(" Reason=")
    marks = list(_FIELD.finditer(line))
    starts = [match.start() for match in marks[1:]]
    fields = {
        match[1]: line[match.end() : end].strip()
        for match, end in zip(marks, [*starts, None], strict=False)
    }
    found = _REASON.fullmatch(rest.strip()) if mark else None
    if found is not None:
        fields |= {"Reason": found["words"], "Comment": found["comment"] or ""}
    return fields


def _gpus(gres: str) -> int:
    return sum(int(count) for count in _GPUS.findall(gres))


def _allocated_gpus(tres: str) -> int:
    pairs = (pair.partition("=") for pair in tres.split(","))
    return sum(int(count) for key, _, count in pairs if key == "gres/gpu" and count.isdigit())


def _list(text: str) -> tuple[str, ...]:
    return () if text in _NONE else tuple(text.split(","))


def _room(total: Resources, allocated: Resources) -> Resources:
    left = total - allocated
    return Resources(
        max(0, left.cores), max(0, left.ram_bytes), max(0, left.scratch_bytes), max(0, left.gpus)
    )


def shortage(spec: JobSpec, partitions: Collection[str], nodes: Sequence[SlurmNode]) -> str:
    """Why none of these nodes could ever hold a job; empty when one could. `partitions`: all it may run in."""
    asked = spec.resources
    needed = Resources(
        max(1, asked.cores), max(_MIB, asked.ram_bytes), asked.scratch_bytes, asked.gpus
    )
    open_to_it = [node for node in nodes if not partitions or _shares(partitions, node.partitions)]
    if any(fits(needed, node.total) for node in open_to_it):
        return ""
    where = f" in partition {', '.join(partitions)}" if partitions else ""
    if not open_to_it:
        return f"there is no node{where}"
    best = max((node.total for node in open_to_it), key=lambda t: (t.cores, t.ram_bytes))
    return f"no node{where} holds {_show(needed)}; the largest has {_show(best)}"


def _shares(wanted: Collection[str], offered: Iterable[str]) -> bool:
    return not set(wanted).isdisjoint(offered)


def _show(resources: Resources) -> str:
    parts = [f"{resources.cores} cores", f"{format_bytes(resources.ram_bytes)} of RAM"]
    if resources.scratch_bytes:
        parts.append(f"{format_bytes(resources.scratch_bytes)} of scratch space")
    if resources.gpus:
        parts.append(f"{resources.gpus} GPUs")
    return ", ".join(parts)
