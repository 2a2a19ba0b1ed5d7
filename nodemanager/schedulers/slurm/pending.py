"""Why Slurm does not start a job: its word, what that means, which of our reasons it is, and what helps.

The reference page shows the same table, and a test compares. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodemanager.reason import Knob, Reason, ReasonToken

_WAIT, _RESOURCES = ReasonToken.SCHEDULER_WAIT, ReasonToken.WAITING_FOR_RESOURCES
_HOLD, _LIMIT = ReasonToken.SCHEDULER_HOLD, ReasonToken.SCHEDULER_LIMIT
_REFUSES = ReasonToken.SCHEDULER_REFUSES

_RELEASE = "whoever may looks why it was held, then: scontrol release JOB"
_NODES = "sinfo -R tells which nodes are down or drained, and why"
_OFFERED = (
    "sinfo -N -o '%N %P %c %m %d %f %T' shows what its partition's nodes have, and how they are"
)
_ACCOUNT = "look at --account and --qos in [Scheduler] sbatch_arguments; sacctmgr show shows what may be used"


@dataclass(frozen=True, slots=True)
class Pending:
    """What a word of Slurm's means."""

    sentence: str
    token: ReasonToken = _WAIT
    advice: str = ""
    """What helps; empty for what the token says."""
    whose: Knob | None = None
    """Who can end it, where that is not who the token says."""


def _passes(sentence: str) -> Pending:
    """It goes on by itself."""
    return Pending(sentence, whose=Knob.NOBODY)


REASONS: Mapping[str, Pending] = {
    "None": _passes("the scheduler has not looked at it yet"),
    "WaitingForScheduling": _passes("the scheduler has not looked at it yet"),
    "Priority": Pending("more urgent jobs are before it", _RESOURCES),
    "Resources": Pending(
        "waiting for cores, memory or other resources of a node to become free", _RESOURCES
    ),
    "Dependency": Pending(
        "waiting for a job that it depends on",
        advice="look at --dependency in [Scheduler] sbatch_arguments: our jobs have none of themselves",
        whose=Knob.OPERATOR,
    ),
    "DependencyNeverSatisfied": Pending(
        "a job that it depends on has failed",
        _REFUSES,
        "cancel it; look at --dependency in [Scheduler] sbatch_arguments",
        Knob.OPERATOR,
    ),
    "BeginTime": _passes(
        "its earliest start time has not come; after a requeue that is about two minutes"
    ),
    "PartitionNodeLimit": Pending(
        "it asks for more nodes than its partition allows, or those are down", advice=_NODES
    ),
    "PartitionTimeLimit": Pending(
        "its time limit is above that of the partition (MaxTime)",
        _REFUSES,
        "ask for a smaller scheduling_parameters.max_run_time, or another partition",
        Knob.OWNER,
    ),
    "PartitionDown": Pending(
        "its partition is down", _HOLD, "scontrol update PartitionName=NAME State=UP"
    ),
    "PartitionInactive": Pending(
        "its partition is inactive", _HOLD, "scontrol update PartitionName=NAME State=UP"
    ),
    "PartitionConfig": Pending("it asks for what its partition does not offer", advice=_OFFERED),
    "JobHeldAdmin": Pending("held by an administrator", _HOLD, _RELEASE),
    "JobHeldUser": Pending("held by its user", _HOLD, _RELEASE),
    "JobHoldMaxRequeue": Pending("held after too many requeues (MaxBatchRequeue)", _HOLD, _RELEASE),
    "JobArrayTaskLimit": Pending("as many tasks of its array run as may run at once", _LIMIT),
    "AssociationJobLimit": Pending("the account has as many jobs as it may have", _LIMIT),
    "AssociationResourceLimit": Pending("the account has reached a limit of its resources", _LIMIT),
    "AssociationTimeLimit": Pending("the account has used the time it may use", _LIMIT),
    "QOSJobLimit": Pending("the quality of service has as many jobs as it may have", _LIMIT),
    "QOSResourceLimit": Pending(
        "the quality of service has reached a limit of its resources", _LIMIT
    ),
    "QOSTimeLimit": Pending("the quality of service has used the time it may use", _LIMIT),
    "QOSUsageThreshold": Pending(
        "the quality of service's usage threshold has been breached", _LIMIT
    ),
    "QOSNotAllowed": Pending(
        "the quality of service may not be used in this partition or account",
        _REFUSES,
        _ACCOUNT,
        Knob.OPERATOR,
    ),
    "AccountNotAllowed": Pending(
        "the account may not use this partition (AllowAccounts)", _REFUSES, _ACCOUNT, Knob.OPERATOR
    ),
    "AccountingPolicy": Pending("a limit of the accounting keeps it back", _LIMIT),
    "InvalidAccount": Pending(
        "its account is not valid any more", _REFUSES, _ACCOUNT, Knob.OPERATOR
    ),
    "InvalidQOS": Pending(
        "its quality of service is not valid any more", _REFUSES, _ACCOUNT, Knob.OPERATOR
    ),
    "Licenses": Pending(
        "waiting for a license", advice="scontrol show licenses tells who has them"
    ),
    "Reservation": _passes("waiting for its reservation to begin"),
    "ReservationDeleted": Pending("its reservation was deleted", _HOLD, _RELEASE),
    "ReqNodeNotAvail": Pending(
        "a node that it could use is down, drained, reserved or not responding", advice=_NODES
    ),
    "NodeDown": Pending("a node that it needs is down", advice=_NODES),
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        Pending("no node that it could use takes work now", advice=_NODES)
    ),
    "FrontEndDown": Pending("no front end node is available", advice=_NODES),
    "BadConstraints": Pending("no node has what it asks for; held until one has", advice=_OFFERED),
    "SystemFailure": Pending("a failure of Slurm, a file system or the network"),
    "JobLaunchFailure": Pending("it could not be launched"),
    "NonZeroExitCode": Pending("it ended with an exit code other than 0"),
    "Prolog": Pending("its prolog is running", ReasonToken.STARTING),
    "Cleaning": _passes("it is requeued, and what is left of it is being cleaned up"),
    "TimeLimit": Pending("it has used the time it may use"),
    "InactiveLimit": Pending("it reached the system's InactiveLimit"),
    "OutOfMemory": Pending("it ran out of memory"),
    "MaxMemPerLimit": Pending(
        "it asks for more memory than a job may have (MaxMemPerNode, MaxMemPerCPU)",
        _REFUSES,
        "ask for less RAM, or for more cores where the limit is per core",
        Knob.OWNER,
    ),
    "SchedDefer": _passes("the scheduler is told to put submissions off (defer)"),
    "DeadLine": Pending("it cannot end before its deadline", _REFUSES),
    "FedJobLock": _passes("another cluster of the federation is deciding about it"),
    "BurstBufferResources": Pending("waiting for room in the burst buffer"),
    "BurstBufferStageIn": _passes("its files are being copied to the burst buffer"),
    "BurstBufferOperation": Pending("the burst buffer has failed"),
    "PowerNotAvail": Pending("waiting for power to be available"),
    "PowerReserved": Pending("the power is kept for a reservation"),
    "BlockMaxError": Pending("a block of nodes has failed"),
    "BlockFreeAction": _passes("a block of nodes is being freed"),
    "launch failed requeued held": Pending(
        "it could not be launched and is held",
        _HOLD,
        "the log of slurmd on its last node tells why; then: scontrol release JOB",
    ),
    "job requeued in held state": Pending("requeued and held by somebody", _HOLD, _RELEASE),
    "job requeued in special exit state": Pending("requeued after a special exit", _HOLD, _RELEASE),
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


def meaning_of(word: str) -> tuple[str, Pending, str] | None:
    """The word itself, what it means, and what Slurm adds to it; None for one that is not known."""
    base, _, more = (word, "", "") if word in REASONS else word.partition(",")
    pending = REASONS.get(base) or _limit(base)
    return None if pending is None else (base, pending, more.strip())


def words_of(word: str) -> str:
    """For people: Slurm's word, and what it means; empty for one that is not known."""
    found = meaning_of(word)
    if found is None:
        return ""
    base, pending, more = found
    if base == "None":
        return pending.sentence
    return f"{base}: {pending.sentence}{f' ({more})' if more else ''}"


def reason_of(word: str) -> Reason | None:
    """Which of our reasons it is; None for a word that is not known."""
    found = meaning_of(word)
    if found is None:
        return None
    base, pending, more = found
    facts: dict[str, Any] = {"word": base}
    if more:
        facts["details"] = more
    return Reason(
        pending.token,
        f"its job waits in the queue: {words_of(word)}",
        facts,
        pending.advice,
        whose=pending.whose,
    )


def _limit(word: str) -> Pending | None:
    """Of the many reasons that name a limit of the accounting."""
    match = _FAMILY.fullmatch(word)
    if match is None:
        return None
    owner, scope, resource, minutes, per = match.groups()
    of = _HOLDERS[owner]
    unit = " minutes" if minutes else ""
    what = f"{resource}{unit}{_spaced(per or '')}"
    if scope == "Min":
        words = f"it asks for less than {of} demands: {what}"
        return Pending(words, _REFUSES, f"ask for more {resource}", Knob.OWNER)
    if per in ("PerJob", "PerNode"):
        words = f"it asks for more than {of} allows of {what}"
        return Pending(words, _REFUSES, f"ask for less {resource}", Knob.OWNER)
    whole = "all jobs together have" if scope == "Grp" else "it has, or would have,"
    return Pending(
        f"a limit of {of} is reached: {whole} as much as allowed of {what}",
        _LIMIT,
        "it goes on when jobs end; sacctmgr show shows the limits, which are the site's to set",
    )


def _spaced(per: str) -> str:
    return f" per {per.removeprefix('Per').lower()}" if per else ""
