"""What a batch scheduler must answer.

A module holds the commands, parsing and tables of one scheduler. Polling, batching, throttling,
timeouts and error handling live once, above all modules, in `nodemanager.schedulers.actor`; that actor
is the only caller, one call at a time, from a thread that may block. Every module passes the suite in
`nodemanager.schedulers.conformance`.

A method that cannot get an answer raises `SchedulerError`; that proves nothing about any job.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nodemanager.model import Finding, JobState, Node, NodeSize, Properties, Resources
from nodemanager.outcome import End
from nodemanager.reason import Reason
from nodemanager.work import Work


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job to submit. Nothing of it ever reaches a shell unquoted."""

    name: str
    """The container's UUID; unique for ever."""
    argv: tuple[str, ...]
    resources: Resources
    stdin: bytes = field(default=b"", repr=False)
    """Handed to the job's standard input privately; holds tokens, so never in argv or a log."""
    priority: int = 0
    """Larger is more urgent."""
    max_run_seconds: int = 0
    """A backstop above the runner's own limit; 0 for none."""
    partitions: tuple[str, ...] = ()
    preemptible: bool = False
    """It may run on a node that can be taken away (spot); without it, never."""
    exclusive: bool = False
    """It wants a node to itself (`[Cloud] containers_per_node = one`)."""
    properties: Properties = ()
    """What rules of several schedulers may look at; no scheduler does."""
    work: Work | None = field(default=None, hash=False)
    """The container's own command, for a scheduler whose jobs are commands (`Scheduler.runs_commands`): `argv` and
    `stdin` are a runner's, that such a scheduler has no use for."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as a poll found it."""

    name: str
    state: JobState
    job_id: str = ""
    """The scheduler's own number for it."""
    node: str = ""
    reason: str = ""
    """Why it waits, in the scheduler's words."""
    end: End | None = None
    """How it ended, when `state` is ENDED."""
    runner_id: str = ""
    """The job is the container's command itself, and that has started: who runs it, such as a pod's UID. The container
    becomes Running under this id, and the job's end is its own. Empty for a runner, which reports for itself."""
    hopeless: str = ""
    """Why a job that waits will never start. Its owner cancels it; its end then says what was the matter."""
    waits_for: Reason | None = None
    """What `reason` means, where the module knows: a sentence to act on, with the token that fits, numbers, advice and
    whose knob it is (`nodemanager.reason`). `since` is the reader's to fill in."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of one `JobSpec`.

    Exactly one of: accepted (`job_id` set), refused for good (`refused`: this job can never be accepted
    as it is), not now (`busy`: a site limit; keep it and try again), or not with the nodes there are
    (`unplaced`: keep it, and try again when the nodes have been looked at anew).
    """

    name: str
    job_id: str = ""
    refused: str = ""
    busy: str = ""
    unplaced: str = ""

    @property
    def outcome(self) -> str:
        """Which of these it is, as a word for the metrics."""
        if self.busy or self.unplaced or self.refused:
            return "busy" if self.busy else "unplaced" if self.unplaced else "refused"
        return "accepted"


@dataclass(frozen=True, slots=True)
class Poll:
    """Every job of this cluster that the scheduler still knows.

    `complete` is False when the listing may lack jobs: then a missing job proves nothing. When it is
    True, a job that was accepted before the poll began and is missing is gone.
    """

    jobs: tuple[Job, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Observation:
    """What somebody sees who only looks."""

    poll: Poll
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class SchedulerContext:
    """What a module is given at construction.

    `options` are the `[Scheduler]` options of the config file that belong to the module, as text;
    `state_dir` is a directory of its own that outlives the daemon.
    """

    cluster_id: str
    state_dir: Path
    options: Mapping[str, str] = field(default_factory=dict)
    command_seconds: float = 60.0
    """`[Scheduler] command_timeout`: a command that takes longer has not answered."""
    dispatcher: str = ""
    """`[Dispatch] name`."""
    section: str = "Scheduler"
    """The section of the options, for error messages."""
    sizes: tuple[NodeSize, ...] = ()
    """The sizes of nodes that may be booted, cheapest first; none when no nodes are."""
    store: Path | None = None
    """`[Runner] store`: where logs and outputs are kept; None for the API."""
    input_dirs: tuple[Path, ...] = ()
    """`[Runner] input_dirs`: below these, mounts of kind file may take their files."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A node that is going to be booted."""

    host: str
    """The name it would join under if the scheduler has nothing against that."""
    size: NodeSize
    taken: frozenset[str] = frozenset()
    """The names of all nodes whose machines exist or are being made, and of those that were given out and not
    removed yet, in this turn too."""


class Scheduler(abc.ABC):
    """One batch scheduler. Only jobs whose name begins with the cluster id are ours; others are never
    listed, changed or cancelled."""

    name: ClassVar[str]
    """The word in `[Dispatch] scheduler`."""

    in_process: ClassVar[bool] = False
    """True when a call costs no command of a foreign program, and so is not throttled."""

    watches: ClassVar[bool] = False
    """True when `poll` and `nodes` cost no command: what they tell is always at hand. The actor does not wait for its
    budget with them then."""

    on_this_machine: ClassVar[bool] = False
    """True when all jobs run on the daemon's own machine, and so reach what listens on its loopback."""

    def __init__(self, context: SchedulerContext) -> None:
        self.context = context

    @property
    def runs_commands(self) -> bool:
        """Whether jobs are the containers' commands themselves, for which `JobSpec.work` is needed."""
        return False

    @property
    def commands_run(self) -> int:
        """How many commands of a foreign program it has run so far."""
        return 0

    @abc.abstractmethod
    def check(self) -> Sequence[Finding]:
        """Look at commands, versions, directories and limits; change nothing."""

    def version(self) -> str:
        """What the scheduler calls itself, such as ``Slurm 22.05.8``; empty where there is nothing to tell.

        Asked once, after the first poll that was answered.
        """
        return ""

    @abc.abstractmethod
    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """Submit all of `jobs`, answering for each, in order.

        A name the scheduler already knows is not submitted again: its job id is the answer. If
        `SchedulerError` is raised, any of them may or may not have been accepted.
        """

    def cost(self, jobs: Sequence[JobSpec]) -> int:  # noqa: ARG002 (one command for all of them)
        """How many commands `submit` would run for these: the actor keeps within its budget by that."""
        return 1

    @abc.abstractmethod
    def poll(self) -> Poll:
        """All our jobs that the scheduler knows, whoever submitted them, in one listing."""

    @abc.abstractmethod
    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """How jobs that left the listing ended, from accounting or a completion log.

        A name without a trace is absent from the answer.
        """

    @abc.abstractmethod
    def cancel(self, names: Sequence[str]) -> None:
        """Ask that these end: TERM, then time, then KILL, by the scheduler's own means.

        Names that are not known or have ended are passed over. The end shows in a later poll, as
        `EndKind.CANCELLED` for a job that had not ended by itself.
        """

    @abc.abstractmethod
    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """Change the priorities of waiting jobs; names that are not waiting are passed over."""

    def forget(self, names: Sequence[str]) -> None:  # noqa: B027 (most schedulers forget by themselves)
        """The container's end is recorded: whatever is kept about these ended jobs may go."""

    @abc.abstractmethod
    def nodes(self) -> Sequence[Node]:
        """The machines there are, with what is free on each."""

    def observe(self) -> Observation:
        """What `poll` and `nodes` would tell, for somebody who only looks (`--dry-run`).

        Nothing is changed by it, neither in the scheduler nor in a directory, and a daemon may be using both
        meanwhile. To be overridden where `poll` or `nodes` do more than look.
        """
        return Observation(self.poll(), tuple(self.nodes()))

    @abc.abstractmethod
    def drain(self, node: str, reason: str) -> None:
        """Let the node finish its jobs and take no new ones."""

    @abc.abstractmethod
    def resume(self, node: str) -> None:
        """End a drain of ours; a node that somebody else drained is left alone."""

    @property
    def admits(self) -> bool:
        """Whether a node that is going to be booted has to be announced by `admit`."""
        return False

    def admit(self, newcomer: Newcomer) -> str:
        """A machine is going to be ordered: let the scheduler accept it as a node, with the weight of its
        price and the features of its size.

        Answers with the name under which it has to join: the proposed one, or one of those that the site
        has defined. Raises `SchedulerError` when there is none left for it. Asked again for a host that was
        admitted already, it answers the same.
        """
        return newcomer.host

    def remove(self, host: str) -> None:  # noqa: B027 (most forget by themselves)
        """The machine of an admitted node is gone, or never came: nothing of it may be in the way.

        One that the scheduler does not know (any more) is no error.
        """

    def fetch_log(self, name: str, write: Callable[[bytes], object]) -> None:  # noqa: ARG002 (runners keep logs)
        """Hand what the job printed to `write`, piece by piece. For ended jobs that are commands, before `forget`.

        Called from another thread than everything else, several at a time. Raises `LookupError` when there is nothing
        (any more) to be had, and `SchedulerError` when another try may fare better; `write` may have got a part then.
        """
        raise LookupError("this scheduler keeps no logs")

    def listen(self, changed: Callable[[], None]) -> None:  # noqa: B027 (polled ones have nothing to tell)
        """Call `changed`, from any thread, whenever a poll would show something new."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of threads and files; jobs stay."""
