"""Grid Engine's letters and codes in our words: of jobs, of queues, and of how a job ended.

Sources: qstat(1), accounting(5) and sge_status(5) of Son of Grid Engine 8.1.9. Free of I/O.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind

JOB_LETTERS = {
    "q": "queued",
    "w": "waiting",
    "h": "held",
    "R": "started anew",
    "t": "about to start",
    "r": "running",
    "s": "suspended",
    "S": "suspended with its queue",
    "T": "suspended for a threshold",
    "P": "preempted",
    "N": "suspended for a more urgent job",
    "d": "being deleted",
    "E": "in error",
}
"""P and N are of Univa and its successors."""

_WAITING = frozenset("qw")
_ON_A_NODE = frozenset("rtsSTPN")

QUEUE_LETTERS = {
    "a": "its load is too high",
    "A": "its suspend threshold is exceeded",
    "u": "its host is not heard of",
    "d": "disabled",
    "D": "disabled by a calendar",
    "E": "in error: a job could not be started there (qstat -explain E, qmod -c)",
    "C": "suspended by a calendar",
    "s": "suspended",
    "S": "suspended by another queue",
    "c": "its configuration is ambiguous",
    "o": "no longer configured",
    "P": "preempted",
    "N": "not heard of",
}


@dataclass(frozen=True, slots=True)
class JobLetters:
    """The state of a job as qstat writes it, such as ``hqw``, ``dr`` or ``Eqw``."""

    letters: str

    @property
    def state(self) -> JobState:
        """UNKNOWN for any letter that is not in `JOB_LETTERS`."""
        letters = set(self.letters)
        if not letters or not letters <= JOB_LETTERS.keys():
            return JobState.UNKNOWN
        if letters & _WAITING:
            return JobState.WAITING
        return JobState.RUNNING if letters & _ON_A_NODE else JobState.UNKNOWN

    @property
    def is_in_error(self) -> bool:
        """It was tried to be started, and will not be again before somebody clears that."""
        return "E" in self.letters and self.state is JobState.WAITING

    @property
    def words(self) -> str:
        """For people."""
        said = [JOB_LETTERS.get(letter, "?") for letter in self.letters]
        return f"{', '.join(said)} ({self.letters})"


class Failed(Enum):
    """What an accounting record's `failed` is about."""

    NOT = "it ran and ended"
    START = "it could not be started"
    AFTER = "it ran, and something failed afterwards"
    AGAIN = "it goes back to the queue: not an end"
    NODE = "its host failed"
    LIMIT = "a limit was exceeded"
    KILLED = "it died of a signal"


FAILED = {
    0: (Failed.NOT, "no failure"),
    1: (Failed.START, "assumedly before job"),
    3: (Failed.START, "before writing config"),
    4: (Failed.START, "before writing PID"),
    6: (Failed.START, "setting processor set"),
    7: (Failed.START, "before prolog"),
    8: (Failed.START, "in prolog"),
    9: (Failed.START, "before pestart"),
    10: (Failed.START, "in pestart"),
    11: (Failed.START, "before job"),
    12: (Failed.AFTER, "before pestop"),
    13: (Failed.AFTER, "in pestop"),
    14: (Failed.AFTER, "before epilog"),
    15: (Failed.AFTER, "in epilog"),
    16: (Failed.AFTER, "releasing processor set"),
    17: (Failed.KILLED, "through signal"),
    18: (Failed.START, "shepherd returned error"),
    19: (Failed.NODE, "before writing exit status: the host or its execd failed"),
    20: (Failed.NODE, "unexpected error file"),
    21: (Failed.NODE, "in recognizing job: its execd does not know it any more"),
    24: (Failed.AGAIN, "migrating"),
    25: (Failed.AGAIN, "rescheduling"),
    26: (Failed.START, "opening output file"),
    27: (Failed.START, "searching requested shell"),
    28: (Failed.START, "changing to working directory"),
    29: (Failed.START, "AFS setup"),
    30: (Failed.START, "rescheduling on application error: exit status 100"),
    31: (Failed.START, "accessing sgepasswd file"),
    32: (Failed.START, "entry is missing in password file"),
    33: (Failed.START, "wrong password"),
    34: (Failed.START, "communicating with Grid Engine Helper Service"),
    35: (Failed.START, "before job in Grid Engine Helper Service"),
    36: (Failed.START, "checking configured daemons"),
    37: (Failed.LIMIT, "qmaster enforced h_rt, h_cpu, or h_vmem limit"),
    38: (Failed.START, "adding supplementary group"),
    100: (Failed.KILLED, "assumedly after job: it died of a signal"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """What of an accounting record matters here."""

    job_name: str
    host: str
    job_number: int
    task: int
    """0 for a job that is no array."""
    failed: int
    exit_status: int
    """128 and more: the number of a signal."""
    ended_at: float
    """Unix seconds; 0 if it never started."""
    wall_seconds: float
    h_rt_seconds: int
    """0 if it asked for no limit."""
    memory_bytes: int
    """The limit by h_vmem for the whole job; 0 if there was none."""
    peak_bytes: int
    """The largest virtual size it was seen to have."""
    is_made_up: bool = False
    """Written by `qdel -f`, which asks no host: it says exit status 0, of a process that used nothing."""

    @property
    def is_end(self) -> bool:
        """Not one of a job that was put back into the queue."""
        return FAILED.get(self.failed, (Failed.NOT, ""))[0] is not Failed.AGAIN


def end_of(record: Record) -> End:
    """How the job of a final record ended, if nobody here cancelled it."""
    if record.is_made_up:
        return End(EndKind.OPERATOR_DELETED, detail="qdel -f")
    kind, words = FAILED.get(record.failed, (Failed.START, "a code that is not known"))
    detail = f"failed {record.failed}: {words}"
    match kind:
        case Failed.NOT | Failed.AFTER:
            return End(EndKind.EXITED, record.exit_status)
        case Failed.NODE:
            return End(EndKind.NODE_LOST, detail=detail)
        case Failed.LIMIT | Failed.KILLED:
            return _killed(record, kind, detail)
        case _:
            return End(EndKind.SCHEDULER_ERROR, detail=detail)


def _killed(record: Record, kind: Failed, detail: str) -> End:
    """Whose KILL was it? The script dies of one only when Grid Engine sent it: the kernel kills the job, not
    the shell around it."""
    over = record.h_rt_seconds and record.wall_seconds >= record.h_rt_seconds
    greedy = record.memory_bytes and record.peak_bytes >= record.memory_bytes
    number = max(record.exit_status - 128, 0)
    if over or (kind is Failed.LIMIT and record.h_rt_seconds and not greedy):
        limit = record.h_rt_seconds
        return End(EndKind.TIME_LIMIT, asked=limit, limit=limit, detail=detail)
    if greedy:
        limit = record.memory_bytes
        return End(EndKind.OUT_OF_MEMORY, asked=limit, limit=limit, detail=detail)
    if kind is Failed.LIMIT:
        return End(EndKind.SIGNALLED, number or signal.SIGKILL, detail=detail)
    if number == signal.SIGKILL:
        return End(EndKind.OPERATOR_DELETED, detail="qdel")
    return End(EndKind.SIGNALLED, number or signal.SIGKILL, detail=detail)
