"""Jobs as arguments of qsub, and what its answers mean. Free of I/O."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from nodemanager.model import NodeSize, Resources
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.batches import batches, priority_class
from nodemanager.schedulers.commands import Answer, Call
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.script import Guard, Tasks, render
from nodemanager.schedulers.sge.answers import JOBS_KEY, JOBS_SEPARATOR, submitted
from nodemanager.schedulers.sge.options import MemoryPer, NodeOrigin, SgeOptions

NAME_PREFIX = "A"
"""Before every name of ours: Grid Engine takes none that begins with a digit, as a cluster id may."""

ARRAY_LIMIT = 1000
"""Tasks in an array, at most."""
_NAMES_BYTES = 100_000
"""The names of an array's jobs are one argument, of which the kernel takes 128 KiB."""

GUARD = Guard("USR2", ignored=("USR1",), reserved=(99, 100))
"""`-notify` announces a KILL by USR2 and a suspension by USR1, as long before as the queue's `notify` says."""

TASKS = Tasks("SGE_TASK_ID", first=1)
_HOST_VARIABLE = "HOSTNAME"
"""As Grid Engine calls the host, and qhost lists it."""

_LOWEST_PRIORITY = -1023
_LIMIT_STATUS = 25
_SILENT = (
    "commlib error",
    "unable to send message to qmaster",
    "unable to contact qmaster",
    "unable to receive message from qmaster",
    "Error reading answer list from qmaster",
    "got no response from qmaster",
    "GDI",
)
_UNPLACED = "no suitable queues"
_EMPTY_QUEUE = "requests unknown queue"
"""So is a queue without hosts called."""


def sge_name(name: str) -> str:
    """What a job or array of ours is called in Grid Engine."""
    return NAME_PREFIX + name


def sge_priority(priority: int) -> int:
    """The `-p` of a priority: 0 and below, so that an ordinary user may give it."""
    return _LOWEST_PRIORITY + priority_class(priority)


def groups(specs: Sequence[JobSpec], options: SgeOptions) -> list[list[JobSpec]]:
    """The jobs, each group of which is one qsub."""
    if not options.arrays or options.arguments.names_job:
        return batches(specs, 1)
    longest = max((len(spec.name) + 1 for spec in specs), default=1)
    return batches(specs, min(ARRAY_LIMIT, _NAMES_BYTES // longest))


def refusal(spec: JobSpec, options: SgeOptions, sizes: Sequence[NodeSize]) -> str:
    """Why there can be no qsub for the job; empty when there can."""
    if spec.exclusive and not options.exclusive_resource:
        return (
            "it wants a node to itself: [Scheduler] exclusive_resource names no resource for that"
        )
    if spec.resources.gpus and not options.gpu_resource:
        return "it wants GPUs: [Scheduler] gpu_resource names no resource for that"
    if spec.resources.scratch_bytes > options.scratch and not options.scratch_resource:
        return "it wants more scratch space than nodes are taken to have ([Scheduler] scratch)"
    if spec.partitions and not _queues(spec, options):
        return "all of its partitions are preemptible, and it does not bear that"
    for name in spec.partitions:
        if not all(character.isalnum() or character in "._-@" for character in name):
            return f"its partition {name!r} cannot be the name of a queue"
    return options.arguments.refusal(spec, sizes)


def qsub(
    specs: Sequence[JobSpec],
    array: str,
    files: JobFiles,
    options: SgeOptions,
    sizes: Sequence[NodeSize],
) -> Call:
    """The command that submits one job, or with several the array of that name."""
    spec = specs[0]
    name = sge_name(array if len(specs) > 1 else spec.name)
    words = [options.command("qsub"), "-terse", "-N", name, "-S", "/bin/sh", "-wd", "/"]
    # Grid Engine itself must not start a job twice: each attempt is a job of its own.
    words += ["-r", "n", "-notify", "-p", str(sge_priority(spec.priority)), "-j", "y"]
    words += ["-o", f"{options.log_dir}/$JOB_NAME.o$JOB_ID" if options.log_dir else "/dev/null"]
    if len(specs) > 1:
        names = JOBS_SEPARATOR.join(spec.name for spec in specs)
        words += ["-t", f"1-{len(specs)}", "-ac", f"{JOBS_KEY}={names}"]
    if options.project:
        words += ["-P", options.project]
    requests = resource_requests(spec, options)
    if requests:
        words += ["-l", ",".join(requests)]
    if spec.resources.cores > 1:
        words += ["-pe", options.pe, str(spec.resources.cores)]
    queues = _queues(spec, options)
    if queues:
        words += ["-q", queues]
    words += options.arguments.expand(spec, sizes)
    tasks = TASKS if len(specs) > 1 else None
    script = render(specs, files, tasks, GUARD, node_variable=_HOST_VARIABLE)
    return Call(tuple(words), script)


def resource_requests(spec: JobSpec, options: SgeOptions) -> list[str]:
    """What a job asks for with `-l`."""
    slots = max(spec.resources.cores, 1)
    asked = []
    if spec.max_run_seconds:
        asked.append(f"h_rt={spec.max_run_seconds}")
    if options.memory_resource and spec.resources.ram_bytes:
        ram = spec.resources.ram_bytes + options.reserve_ram
        parts = slots if options.memory_per is MemoryPer.SLOT else 1
        # In bytes, rounded down: the slots together must not want more than a job that fills a host.
        asked.append(f"{options.memory_resource}={ram // parts}")
    if options.scratch_resource and spec.resources.scratch_bytes:
        asked.append(f"{options.scratch_resource}={spec.resources.scratch_bytes // slots}")
    if spec.resources.gpus:
        # Per job (a consumable that is defined as JOB): GPUs cannot be divided among slots.
        asked.append(f"{options.gpu_resource}={spec.resources.gpus}")
    if spec.exclusive and options.exclusive_resource:
        asked.append(f"{options.exclusive_resource}=true")
    return asked


class Verdict(Enum):
    """What an answer of qsub means."""

    ACCEPTED = "there is a job"
    REFUSED = "there is none, and will not be for the same words"
    BUSY = "not now: a limit of the site"
    UNPLACED = "not with the hosts there are"
    DOUBTFUL = "there may be one"


def verdict(answer: Answer, tasks: int, nodes: NodeOrigin) -> Verdict:
    """Read the answer to a qsub of so many tasks."""
    said = f"{answer.output}\n{answer.complaint}"
    if answer.status == 0:
        found = submitted(answer.output)
        good = found is not None and found[1] == (tasks if tasks > 1 else 0)
        return Verdict.ACCEPTED if good else Verdict.DOUBTFUL
    if any(words in said for words in _SILENT):
        return Verdict.DOUBTFUL
    if answer.status == _LIMIT_STATUS:
        return Verdict.BUSY
    if _UNPLACED in said or (_EMPTY_QUEUE in said and nodes is NodeOrigin.DYNAMIC):
        return Verdict.UNPLACED
    # Nothing but these words is known to mean that there is no job.
    refuses = answer.status == 1 and "Unable to run job" in said
    return Verdict.REFUSED if refuses else Verdict.DOUBTFUL


def host_values(size: Resources, size_name: str, options: SgeOptions) -> dict[str, str]:
    """The `complex_values` of a host of that size."""
    values = {"slots": str(size.cores)}
    if options.memory_resource:
        values[options.memory_resource] = str(size.ram_bytes + options.reserve_ram)
    if options.scratch_resource:
        values[options.scratch_resource] = str(size.scratch_bytes)
    if options.gpu_resource and size.gpus:
        values[options.gpu_resource] = str(size.gpus)
    if options.exclusive_resource:
        values[options.exclusive_resource] = "true"
    if options.size_resource:
        values[options.size_resource] = size_name
    return values


def _queues(spec: JobSpec, options: SgeOptions) -> str:
    """The value of `-q`; empty when any queue will do."""
    wanted = spec.partitions or (
        (*options.queues, *options.preemptible_queues) if options.queues else ()
    )
    if not spec.preemptible:
        wanted = tuple(name for name in wanted if name not in options.preemptible_queues)
    if len(wanted) > 1 and options.nodes is NodeOrigin.DYNAMIC:
        # In a list each must have a host; one of an expression is enough.
        return "|".join(wanted)
    if wanted:
        return ",".join(wanted)
    if spec.preemptible or not options.preemptible_queues:
        return ""
    return "" if spec.partitions else f"!({'|'.join(options.preemptible_queues)})"
