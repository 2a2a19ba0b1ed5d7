"""Slurm's words, and what they mean to us: job states, pending reasons, complaints.

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

REASONS: Mapping[str, str] = {
    "None": "the scheduler has not looked at it yet",
    "WaitingForScheduling": "the scheduler has not looked at it yet",
    "Priority": "more urgent jobs are before it",
    "Resources": "waiting for cores, memory or other resources of a node to become free",
    "Dependency": "waiting for a job that it depends on",
    "DependencyNeverSatisfied": "a job that it depends on has failed; cancel it",
    "BeginTime": "its earliest start time has not come; after a requeue that is about two minutes",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows, or those are down",
    "PartitionTimeLimit": "its time limit is above that of the partition (MaxTime)",
    "PartitionDown": "its partition is down; an administrator has to set State=UP",
    "PartitionInactive": "its partition is inactive; an administrator has to set State=UP",
    "PartitionConfig": "it asks for what its partition does not offer",
    "JobHeldAdmin": "held by an administrator: scontrol release",
    "JobHeldUser": "held by its user: scontrol release",
    "JobHoldMaxRequeue": "held after too many requeues (MaxBatchRequeue): scontrol release",
    "JobArrayTaskLimit": "as many tasks of its array run as may run at once",
    "AssociationJobLimit": "the account has as many jobs as it may have",
    "AssociationResourceLimit": "the account has reached a limit of its resources",
    "AssociationTimeLimit": "the account has used the time it may use",
    "QOSJobLimit": "the quality of service has as many jobs as it may have",
    "QOSResourceLimit": "the quality of service has reached a limit of its resources",
    "QOSTimeLimit": "the quality of service has used the time it may use",
    "QOSUsageThreshold": "the quality of service's usage threshold has been breached",
    "QOSNotAllowed": "the quality of service may not be used in this partition or account",
    "AccountNotAllowed": "the account may not use this partition (AllowAccounts)",
    "AccountingPolicy": "a limit of the accounting keeps it back",
    "InvalidAccount": "its account is not valid any more",
    "InvalidQOS": "its quality of service is not valid any more",
    "Licenses": "waiting for a license",
    "Reservation": "waiting for its reservation to begin",
    "ReservationDeleted": "its reservation was deleted",
    "ReqNodeNotAvail": "a node that it could use is down, drained, reserved or not responding",
    "NodeDown": "a node that it needs is down",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "no node that it could use takes work now"
    ),
    "FrontEndDown": "no front end node is available",
    "BadConstraints": "no node has what it asks for; held until one has",
    "SystemFailure": "a failure of Slurm, a file system or the network",
    "JobLaunchFailure": "it could not be launched",
    "NonZeroExitCode": "it ended with an exit code other than 0",
    "Prolog": "its prolog is running",
    "Cleaning": "it is requeued, and what is left of it is being cleaned up",
    "TimeLimit": "it has used the time it may use",
    "InactiveLimit": "it reached the system's InactiveLimit",
    "OutOfMemory": "it ran out of memory",
    "MaxMemPerLimit": "it asks for more memory than a job may have (MaxMemPerNode, MaxMemPerCPU)",
    "SchedDefer": "the scheduler is told to put submissions off (defer)",
    "DeadLine": "it cannot end before its deadline",
    "FedJobLock": "another cluster of the federation is deciding about it",
    "BurstBufferResources": "waiting for room in the burst buffer",
    "BurstBufferStageIn": "its files are being copied to the burst buffer",
    "BurstBufferOperation": "the burst buffer has failed",
    "PowerNotAvail": "waiting for power to be available",
    "PowerReserved": "the power is kept for a reservation",
    "BlockMaxError": "a block of nodes has failed",
    "BlockFreeAction": "a block of nodes is being freed",
    "launch failed requeued held": "it could not be launched and is held: scontrol release",
    "job requeued in held state": "requeued and held by somebody: scontrol release",
    "job requeued in special exit state": "requeued after a special exit: scontrol release",
}

_HOLDERS = {"Assoc": "the account", "QOS": "the quality of service", "": "the account"}
_FAMILY = re.compile(
    r"(Assoc|QOS|)(Grp|Max|Min)([A-Z][A-Za-z]*?)"
    r"(RunMinutes|Minutes)?(PerJob|PerNode|PerUser|PerAccount|)(?:Limit|NotSatisfied)?"
)
FAMILIES = (
    "AssocGrp", "AssocMax", "QOSGrp", "QOSMax", "QOSMin", "Max",
)  # fmt: skip
"""How the reasons begin that name a limit of the accounting."""


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


class Reader:
    """Looks words up; remembers which unknown ones were logged."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def state(self, word: str) -> StateMeaning:
        """What a job state means. squeue may add flags after a comma; sacct says by whom one was cancelled."""
        meaning = STATES.get(re.split(r"[ ,+]", word, maxsplit=1)[0])
        if meaning is not None:
            return meaning
        self._log(f"job state {word!r}")
        return StateMeaning(JobState.UNKNOWN)

    def reason(self, word: str) -> str:
        """A sentence for people: Slurm's word, and what it means."""
        base, _, more = (word, "", "") if word in REASONS else word.partition(",")
        sentence = REASONS.get(base) or _limit_sentence(base)
        if not sentence:
            self._log(f"reason {word!r}")
            return word
        if base == "None":
            return sentence
        return f"{base}: {sentence}{f' ({more.strip()})' if more.strip() else ''}"

    def _log(self, what: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            log.warning(
                "Slurm uses a word that is not known here: %s",
                what,
                extra={"action": "unknown_word"},
            )


def _limit_sentence(word: str) -> str:
    """Of the many reasons that name a limit of the accounting."""
    match = _FAMILY.fullmatch(word)
    if match is None:
        return ""
    owner, scope, resource, minutes, per = match.groups()
    of = _HOLDERS[owner]
    unit = " minutes" if minutes else ""
    what = f"{resource}{unit}{_spaced(per or '')}"
    if scope == "Min":
        return f"it asks for less than {of} demands: {what}"
    whole = "all jobs together have" if scope == "Grp" else "it has, or would have,"
    return f"a limit of {of} is reached: {whole} as much as allowed of {what} (sacctmgr show)"


def _spaced(per: str) -> str:
    return f" per {per.removeprefix('Per').lower()}" if per else ""
