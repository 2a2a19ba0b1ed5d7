"""Submission: which jobs go together, what each asks for, and by which path.

Three paths lead to slurmctld: an array, which takes up to a thousand jobs that are alike in one call; slurmrestd,
where there is one; and sbatch, which always works. What Slurm answers means the same on all of them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.base import JobSpec, SchedulerContext, Submission
from nodemanager.schedulers.batches import MAX_CLASS, batches, priority_class
from nodemanager.schedulers.commands import Answer, Call
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.script import Tasks, render
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.memory import ArrayNames
from nodemanager.schedulers.slurm.options import NodeOrigin, SlurmOptions
from nodemanager.schedulers.slurm.rest import NotTranslatable, RestJob, SlurmRest
from nodemanager.schedulers.slurm.words import Complaint, plain, sort_out

log = logging.getLogger(__name__)

ARRAY_FROM = 2
"""Jobs that are alike become an array from so many on: two take one command instead of two."""
ARRAY_LIMIT = 1000
"""More would save nothing, and make scripts of more than 100 KB."""

_MIB = 1 << 20
_PART = 32
"""So many sbatch are begun before anybody looks at what became of them."""
_TASKS = Tasks("SLURM_ARRAY_TASK_ID", 0)
_NODE = "SLURMD_NODENAME"
_RETRIES = b"sleeping and retrying"
"""sbatch would do that for two minutes; we can put the time to better use."""
_ONLY_SBATCH = ("--parsable", "--export=ALL")
"""The environment is the little that commands are given here, nothing of the daemon's own. Any other value of
`--export` makes slurmd log in as the user first, and hold the job when that takes too long."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one submission is made of."""

    name: str
    """In Slurm: that of the job, or of the array."""
    specs: tuple[JobSpec, ...]
    arguments: tuple[str, ...]
    script: bytes
    is_array: bool
    queue: str
    """The partitions it is for: a limit that one of them has need not be another's."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Slurm's answer to a submission: a job id, or its words."""

    job_id: str = ""
    words: str = ""


class Submitter:
    """Hands jobs to Slurm that it does not know yet and that it can be handed."""

    def __init__(
        self,
        context: SchedulerContext,
        options: SlurmOptions,
        controller: Controller,
        files: JobFiles,
        arrays: ArrayNames,
    ) -> None:
        self._context = context
        self._options = options
        self._controller = controller
        self._files = files
        self._arrays = arrays
        self._rest = self._fresh_rest()
        self._rest_failed = False
        self._array_limit = ARRAY_LIMIT
        """Halved when the site's limits have no room for an array, doubled when they have."""

    def cost(self, specs: Sequence[JobSpec]) -> int:
        """How many commands `submit` would run."""
        if self._rest is not None and not self._rest_failed:
            return 1
        return sum(
            1 if self._is_array(group) else len(group) for group in batches(specs, ARRAY_LIMIT)
        )

    def refusal(self, spec: JobSpec) -> str:
        """Why these arguments can never be made for a job; empty when they can."""
        return self._options.arguments.refusal(spec, self._context.sizes)

    def submit(
        self, specs: Sequence[JobSpec], partitions: Callable[[JobSpec], tuple[str, ...]]
    ) -> dict[str, Submission]:
        """Submit the most urgent first; what became of each. `partitions`: where a job may run."""
        ordered = sorted(specs, key=lambda spec: -spec.priority)
        self._files.write(ordered)
        made = [batch for group in self._groups(ordered) for batch in self._make(group, partitions)]
        for batch in made:
            if batch.is_array:
                self._arrays.remember(batch.name, [spec.name for spec in batch.specs])
        answers: dict[str, Submission] = {}
        for batch, outcome in zip(made, self._hand_over(made), strict=True):
            answers |= self._answers(batch, outcome)
        rejected = [name for name, answer in answers.items() if not answer.job_id]
        self._files.remove(rejected)
        self._arrays.forget(rejected)
        return answers

    # Inside.

    def _groups(self, specs: Sequence[JobSpec]) -> list[list[JobSpec]]:
        if not self._takes_arrays:
            return [[spec] for spec in specs]
        # The highest index is one less than MaxArraySize.
        limit = min(self._array_limit, self._controller.number("MaxArraySize", 0))
        return batches(specs, max(1, limit))

    def _is_array(self, group: Sequence[JobSpec]) -> bool:
        return self._takes_arrays and len(group) >= ARRAY_FROM

    @property
    def _takes_arrays(self) -> bool:
        options = self._options
        return options.arrays and not (
            options.arguments.names_job or options.gpu_arguments.names_job
        )

    def _make(
        self, group: Sequence[JobSpec], partitions: Callable[[JobSpec], tuple[str, ...]]
    ) -> list[_Batch]:
        queue = partitions(group[0])
        if not self._is_array(group):
            return [
                _Batch(
                    spec.name,
                    (spec,),
                    self._arguments(spec, spec.name, queue, 0),
                    render([spec], self._files, node_variable=_NODE),
                    is_array=False,
                    queue=",".join(queue),
                )
                for spec in group
            ]
        name = array_name(f"{self._context.cluster_id}-", secrets.token_hex(8))
        return [
            _Batch(
                name,
                tuple(group),
                self._arguments(group[0], name, queue, len(group)),
                render(group, self._files, _TASKS, node_variable=_NODE),
                is_array=True,
                queue=",".join(queue),
            )
        ]

    def _arguments(
        self, spec: JobSpec, name: str, partitions: tuple[str, ...], tasks: int
    ) -> tuple[str, ...]:
        """Of sbatch: the operator's first, so that in case of doubt ours are valid."""
        options, sizes = self._options, self._context.sizes
        asked = spec.resources
        # 0 would be all the memory that a node has.
        ram_bytes = max(_MIB, asked.ram_bytes + options.reserve_ram)
        wanted = replace(spec, partitions=partitions, resources=replace(asked, ram_bytes=ram_bytes))
        output = f"{options.log_dir}/%x{'-%a' if tasks else ''}.out" if options.log_dir else ""
        return (
            *options.arguments.expand(wanted, sizes),
            *(options.gpu_arguments.expand(wanted, sizes) if asked.gpus else ()),
            *([f"--constraint={options.constraint}"] if options.constraint else ()),
            *(["--exclusive"] if spec.exclusive else ()),
            *([f"--array=0-{tasks - 1}"] if tasks else ()),
            f"--job-name={name}",
            f"--comment={self._context.cluster_id} {self._context.dispatcher}".rstrip(),
            f"--nice={nice(spec.priority, options.priority_spread)}",
            "--no-requeue",
            f"--output={output or '/dev/null'}",
            "--chdir=/",
        )

    def _hand_over(self, made: Sequence[_Batch]) -> list[_Outcome]:
        """By slurmrestd where there is one that can be told everything, else by sbatch."""
        if self._rest is not None:
            try:
                return self._by_rest(self._rest, made)
            except NotTranslatable as error:
                log.debug("sbatch is used for %s", error, extra={"action": "sbatch_used"})
        return self._by_sbatch(made)

    def _by_rest(self, rest: SlurmRest, made: Sequence[_Batch]) -> list[_Outcome]:
        try:
            rest.version()
        except SchedulerError as error:
            if not self._rest_failed:
                log.warning("sbatch is used instead: %s", error, extra={"action": "rest_unusable"})
            self._rest_failed = True
            return self._by_sbatch(made)
        self._rest_failed = False
        jobs = [RestJob(batch.arguments, batch.script) for batch in made]
        outcomes = []
        for answer in rest.submit_all(jobs, self._options.submit_at_once):
            if isinstance(answer, SchedulerError):
                self._rest = self._fresh_rest()
                raise answer
            outcomes.append(_Outcome(answer.job_id, answer.words))
        return outcomes

    def _fresh_rest(self) -> SlurmRest | None:
        socket = self._options.rest_socket
        return SlurmRest(socket, self._context.command_seconds) if socket else None

    def _by_sbatch(self, made: Sequence[_Batch]) -> list[_Outcome]:
        """A few at a time. Behind a limit of the site, few more are tried of those it is for."""
        outcomes: list[_Outcome] = []
        limited: dict[str, str] = {}
        at_once = self._options.submit_at_once
        for start in range(0, len(made), _PART):
            part = made[start : start + _PART]
            tried = [batch for batch in part if batch.queue not in limited]
            calls = [
                Call(("sbatch", *batch.arguments, *_ONLY_SBATCH), batch.script, _RETRIES)
                for batch in tried
            ]
            answers = dict(
                zip(map(id, tried), self._controller.ask_all(calls, at_once), strict=True)
            )
            for batch in part:
                answer = answers.get(id(batch))
                outcome = _outcome(answer) if answer else _Outcome(words=limited[batch.queue])
                if not outcome.job_id and sort_out(outcome.words) is Complaint.BUSY:
                    limited[batch.queue] = outcome.words
                outcomes.append(outcome)
        return outcomes

    def _answers(self, batch: _Batch, outcome: _Outcome) -> dict[str, Submission]:
        if not outcome.job_id:
            if batch.is_array and sort_out(outcome.words) is Complaint.BUSY:
                self._array_limit = max(1, len(batch.specs) // 2)
                # It may be MaxArraySize that was changed.
                self._controller.config(afresh=True)
            return {spec.name: self._no(spec.name, outcome.words) for spec in batch.specs}
        if not batch.is_array:
            return {batch.name: Submission(batch.name, outcome.job_id)}
        self._array_limit = min(ARRAY_LIMIT, self._array_limit * 2)
        return {
            spec.name: Submission(spec.name, f"{outcome.job_id}_{index}")
            for index, spec in enumerate(batch.specs)
        }

    def _no(self, name: str, words: str) -> Submission:
        match sort_out(words):
            case Complaint.BUSY:
                return Submission(name, busy=plain(words))
            case Complaint.SILENT:
                raise SchedulerError(f"Slurm: {words}")
            case Complaint.NO_PLACE if self._options.nodes is not NodeOrigin.FIXED:
                return Submission(name, unplaced=plain(words))
            case _:
                return Submission(name, refused=plain(words))


def array_name(prefix: str, tail: str) -> str:
    """What an array of the cluster with that prefix is called; no job of its own ever is."""
    return f"{prefix}array-{tail}"


def nice(priority: int, spread: int) -> int:
    """The less urgent the nicer; never below 0, which only operators may set."""
    return (MAX_CLASS - priority_class(priority)) * spread


def _outcome(answer: Answer) -> _Outcome:
    """What `sbatch --parsable` says: a job id, perhaps with a cluster's name behind it."""
    if answer.status != 0:
        return _Outcome(words=answer.words)
    job_id = answer.output.strip().partition(";")[0]
    if not job_id.isdigit():
        raise SchedulerError(f"sbatch says neither a job id nor an error: {answer.words}")
    return _Outcome(job_id)
