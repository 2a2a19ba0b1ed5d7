"""Slurm's words, and what they mean to us: job states, complaints, and (in `pending`) why a job waits.

One table for each; the reference page shows the same tables, and a test compares. A word that is in none is logged
once and shown as it is, and nothing is concluded from it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from nodemanager.model import JobState
from nodemanager.outcome import EndKind
from nodemanager.reason import Reason
from nodemanager.schedulers.slurm.pending import reason_of, words_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateMeaning:
    """What a job state is to us. `end` is None where the state alone does not tell how the job ended."""

    state: JobState
    end: EndKind | None = None


_WAITING = StateMeaning(JobState.WAITING)
_RUNNING = StateMeaning(JobState.RUNNING)
_NODE_LOST = StateMeaning(JobState.ENDED, EndKind.NODE_LOST)
_BROKEN = StateMeaning(JobState.ENDED, EndKind.SCHEDULER_ERROR)

STATES: Mapping[str, StateMeaning] = {
    "PENDING": _WAITING,
    "CONFIGURING": _WAITING,
    "REQUEUED": _WAITING,
    "REQUEUE_FED": _WAITING,
    "REQUEUE_HOLD": _WAITING,
    "RESV_DEL_HOLD": _WAITING,
    "SPECIAL_EXIT": _WAITING,
    "POWER_UP_NODE": _WAITING,
    "RUNNING": _RUNNING,
    "COMPLETING": _RUNNING,
    "RESIZING": _RUNNING,
    "SIGNALING": _RUNNING,
    "STAGE_OUT": _RUNNING,
    "STOPPED": _RUNNING,
    "SUSPENDED": _RUNNING,
    "UPDATE_DB": _RUNNING,
    "EXPEDITING": _RUNNING,
    "COMPLETED": StateMeaning(JobState.ENDED, EndKind.EXITED),
    "FAILED": StateMeaning(JobState.ENDED),
    "CANCELLED": StateMeaning(JobState.ENDED),
    "TIMEOUT": StateMeaning(JobState.ENDED, EndKind.TIME_LIMIT),
    "OUT_OF_MEMORY": StateMeaning(JobState.ENDED, EndKind.OUT_OF_MEMORY),
    "NODE_FAIL": _NODE_LOST,
    "PREEMPTED": _NODE_LOST,
    "BOOT_FAIL": _NODE_LOST,
    "DEADLINE": _BROKEN,
    "LAUNCH_FAILED": _BROKEN,
    "RECONFIG_FAIL": _BROKEN,
    "REVOKED": _BROKEN,
}


class Complaint(Enum):
    """What a command means by its words."""

    SILENT = "the controller did not answer"
    BUSY = "a limit of the site, or the controller is busy"
    NO_SUCH_JOB = "there is no such job, or it has ended"
    NO_SUCH_NODE = "there is no such node"
    NO_PLACE = "no node has what was asked for"
    OTHER = "something else"


_COMPLAINTS: tuple[tuple[Complaint, tuple[str, ...]], ...] = (
    (
        Complaint.SILENT,
        (
            "Unable to contact slurm controller",
            "Slurm backup controller in standby mode",
            "Socket timed out",
            "Zero Bytes were transmitted",
            "Connection refused",
            "Connection reset",
            "Connection timed out",
            "Transport endpoint",
            "Unable to establish control machine address",
            "Could not establish a configuration source",
            "Protocol authentication error",
            "Unable to open connection",
            "Munge",
        ),
    ),
    (
        Complaint.BUSY,
        (
            "sleeping and retrying",
            "temporarily disabled, retrying",
            "Resource temporarily unavailable",
            "Job violates accounting/QOS policy",
            "Invalid job array specification",
            "Rate limit exceeded",
            "Job/step already completing or completed, retrying",
        ),
    ),
    (
        Complaint.NO_SUCH_JOB,
        ("Invalid job id", "Job has already finished", "already completing or completed"),
    ),
    (Complaint.NO_SUCH_NODE, ("Invalid node name", " not found")),
    (
        Complaint.NO_PLACE,
        (
            "Requested node configuration is not available",
            "Invalid feature specification",
            "Memory specification can not be satisfied",
            "Temporary disk specification can not be satisfied",
            "CPU count specification",
        ),
    ),
)


def sort_out(words: str) -> Complaint:
    """What a command that failed means by what it said."""
    for complaint, phrases in _COMPLAINTS:
        if any(phrase in words for phrase in phrases):
            return complaint
    return Complaint.OTHER


def plain(words: str) -> str:
    """A command's complaint without the names of program and step."""
    return re.sub(r"\b(sbatch|slurmrestd): error: |Batch job submission failed: ", "", words)


_MOST_KEPT = 1000
"""Words: with the names of nodes that Slurm adds there may be many."""


class Reader:
    """Looks words up; remembers which unknown ones were logged."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._reasons: dict[str, Reason | None] = {}

    def state(self, word: str) -> StateMeaning:
        """What a job state means. squeue may add flags after a comma; sacct says by whom one was cancelled."""
        meaning = STATES.get(re.split(r"[ ,+]", word, maxsplit=1)[0])
        if meaning is not None:
            return meaning
        self._log(f"job state {word!r}")
        return StateMeaning(JobState.UNKNOWN)

    def reason(self, word: str) -> str:
        """A sentence for people: Slurm's word, and what it means."""
        words = words_of(word)
        if not words:
            self._log(f"reason {word!r}")
        return words or word

    def waits_for(self, word: str) -> Reason | None:
        """Which of our reasons it is; None for a word that is not known. Ten thousand jobs share one."""
        if word not in self._reasons:
            if len(self._reasons) >= _MOST_KEPT:
                self._reasons.clear()
            self._reasons[word] = reason_of(word)
        return self._reasons[word]

    def _log(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            log.warning(
                "Slurm uses a word that is not known here: %s",
                what,
                extra={"action": "unknown_word"},
            )
