"""The local scheduler as its files show it to somebody who does not own them: jobs, and nodes with what is free.

No lock is taken, not even a job's, which would pass for its supervisor. So a job counts as running from its record
`start` to its record `end`; one whose supervisor was killed meanwhile is seen as running until its daemon notes the end.
"""

from __future__ import annotations

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, Observation, Poll
from nodemanager.schedulers.leftovers import boot_id
from nodemanager.schedulers.localnodes import LocalNodes, OneNode, ShareNodes, in_queue
from nodemanager.schedulers.machine import LocalOptions, node_name
from nodemanager.schedulers.shares import Shares
from nodemanager.schedulers.spool import Spool, StoredJob


def observe(options: LocalOptions, spool: Spool, prefix: str, now: float) -> Observation:
    """The jobs whose names begin with `prefix`, and the nodes at Unix time `now`.

    Raises `OSError`, `ValueError` or `SchedulerError` when a file cannot be read.
    """
    nodes = _nodes(options, spool)
    fates = [(each, *_fate(spool, each)) for each in _load(spool, prefix)]
    for stored, state, _ in fates:
        if state is JobState.RUNNING:
            nodes.of(stored.node, stored.node_name).jobs[stored.name] = stored.need
    if options.machines is None or options.machines.exists():
        nodes.look(now)
    jobs = (_job(stored, state, end, nodes) for stored, state, end in fates)
    return Observation(Poll(tuple(jobs)), tuple(node.as_node() for node in nodes.listed()))


def _nodes(options: LocalOptions, spool: Spool) -> LocalNodes:
    if options.machines is None:
        return OneNode(spool, node_name(), options.total())
    return ShareNodes(spool, Shares(options.machines))


def _load(spool: Spool, prefix: str) -> list[StoredJob]:
    try:
        return spool.load(prefix)
    except SchedulerError:
        # One that has just been removed by the daemon; twice in a row is no accident.
        return spool.load(prefix)


def _fate(spool: Spool, stored: StoredJob) -> tuple[JobState, End | None]:
    if stored.end is not None:
        return JobState.ENDED, stored.end
    start = spool.start(stored.name)
    if start is None:
        return JobState.WAITING, None
    if start.boot_id != boot_id():
        return JobState.ENDED, End(
            EndKind.NODE_LOST, detail="the machine was restarted while it ran"
        )
    return JobState.RUNNING, None


def _job(stored: StoredJob, state: JobState, end: End | None, nodes: LocalNodes) -> Job:
    number = str(stored.number)
    if state is JobState.WAITING:
        why = nodes.why_waiting(stored.need)
        return Job(stored.name, state, number, reason=why.sentence, waits_for=in_queue(why))
    node = stored.node_name
    if state is JobState.RUNNING and not node:
        node = nodes.of(stored.node).name
    return Job(stored.name, state, number, node, end=end)
