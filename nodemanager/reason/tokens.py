"""The table of reasons: for each token how bad it is, what it means, whose knob it is and what can be done.

`docs/reference/reasons.md` is made from it. The tokens are in links, in `status.json` and on metrics: a new one may come
in any version, one that is here keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Tier(Enum):
    """How bad a reason is, mildest last; of several dispatchers' reasons the mildest is shown.

    The order is Kueue's (KEP-10852): who can end the wait, and how soon.
    """

    NEVER = 1
    """The request can never fit: only its owner or a new node size ends this wait."""
    HOLD = 2
    """Somebody holds it."""
    LIMIT = 3
    """A limit (quota, budget, max_claimed) is reached."""
    WAITING = 4
    """Waiting for something named: a time, a node, a job to end."""
    UNSEEN = 5
    """Nobody has looked at it yet."""


class Knob(StrEnum):
    """Who can end the wait."""

    OWNER = "owner"
    """The owner of the container request."""
    OPERATOR = "operator"
    """The operator of the node manager."""
    SITE = "site"
    """Whoever runs the batch scheduler or the cloud."""
    NOBODY = "nobody"
    """Time ends it."""


class ReasonToken(StrEnum):
    """The fixed list of reasons why a container does not run; stable names for links and metrics."""

    NO_NODE_FITS = "no-node-fits"
    NO_PARTITION = "no-partition"
    NO_SCHEDULER = "no-scheduler"
    SCHEDULER_REFUSES = "scheduler-refuses"
    ON_HOLD = "on-hold"
    CLAIMS_PAUSED = "claims-paused"
    SCHEDULER_HOLD = "scheduler-hold"
    CLAIM_LIMIT = "claim-limit"
    SCHEDULER_LIMIT = "scheduler-limit"
    NODE_LIMIT = "node-limit"
    CLOUD_QUOTA = "cloud-quota"
    NO_CAPACITY = "no-capacity"
    BOOT_BRAKE = "boot-brake"
    RUN_AFTER = "run-after"
    BACKOFF = "backoff"
    GIVEN_BACK = "given-back"
    SUBMITTING = "submitting"
    SCHEDULER_DOWN = "scheduler-down"
    NODES_UNKNOWN = "nodes-unknown"
    WAITING_FOR_RESOURCES = "waiting-for-resources"
    SCHEDULER_WAIT = "scheduler-wait"
    NODE_BOOTING = "node-booting"
    START_TROUBLE = "start-trouble"
    STARTING = "starting"
    CANCELLING = "cancelling"
    NOT_SEEN = "not-seen"

    @property
    def tier(self) -> Tier:
        """The tier is a property of the token, so that nobody can disagree about it."""
        return TABLE[self].tier

    @property
    def knob(self) -> Knob:
        """Who can end the wait, unless the reason itself knows better."""
        return TABLE[self].knob

    @property
    def advice(self) -> str:
        """What can be done, unless the reason itself knows better; empty where only time helps."""
        return TABLE[self].advice


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a token stands for."""

    tier: Tier
    knob: Knob
    means: str
    """One sentence, for the reference."""
    advice: str = ""
    """What to do, where the reason has nothing better; empty where there is nothing to do but wait."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What its numbers are, by name; not every reason has all of them."""


_SHORT = {
    "cores, ram_bytes, scratch_bytes, gpus": "of what is short: `wanted`, and the best `available` of any node",
}
_WORDS = {"word": "the scheduler's own word", "details": "what it adds to it"}
_OBSTACLES = {
    "nodes": "for each obstacle, on how many nodes or queues",
    "all_nodes": "how many there are",
    "asked, offered": "of resources that are short there, in the scheduler's notation",
}
_COUNTS = {"nodes": "how many there are", "max_nodes": "how many the config file would allow"}

TABLE: Mapping[ReasonToken, Meaning] = {
    ReasonToken.NO_NODE_FITS: Meaning(
        Tier.NEVER,
        Knob.OWNER,
        "No node that is there, and none of a size that could be booted, is large enough for it.",
        "ask for less, or add a larger node or a [Size NAME] section with more",
        _SHORT,
    ),
    ReasonToken.NO_PARTITION: Meaning(
        Tier.NEVER,
        Knob.OWNER,
        "It asks for partitions that this dispatcher does not serve.",
        "change scheduling_parameters.partitions, or serve that partition",
        {"wanted": "the partitions it asks for", "available": "those that there are"},
    ),
    ReasonToken.NO_SCHEDULER: Meaning(
        Tier.NEVER,
        Knob.OWNER,
        "None of several schedulers takes it, by its rule (`accept`) or for want of a node.",
        "change what it asks for, or a rule (accept) in [Scheduler NAME], or add a larger node",
        {"tried": "for each scheduler, why it does not take it"},
    ),
    ReasonToken.SCHEDULER_REFUSES: Meaning(
        Tier.NEVER,
        Knob.SITE,
        "The scheduler has the job and will not start it as it is: its account, its time limit or what it asks for is "
        "not allowed.",
        "ask whoever runs the scheduler, or change what the request asks for",
        _WORDS,
    ),
    ReasonToken.ON_HOLD: Meaning(
        Tier.HOLD,
        Knob.OPERATOR,
        "An operator holds this container, or somebody deleted the job of the attempt before in the scheduler.",
        "an administrator releases it: arvados-node-manager release UUID",
    ),
    ReasonToken.CLAIMS_PAUSED: Meaning(
        Tier.HOLD,
        Knob.OPERATOR,
        "Claims are paused, for this dispatcher or for the whole cluster: what runs goes on, nothing new is begun.",
        "an administrator ends the pause: arvados-node-manager dispatchers resume",
        {"paused": "who paused it, and why"},
    ),
    ReasonToken.SCHEDULER_HOLD: Meaning(
        Tier.HOLD,
        Knob.SITE,
        "Its job is held in the scheduler.",
        "whoever runs the scheduler releases the job",
        _WORDS,
    ),
    ReasonToken.CLAIM_LIMIT: Meaning(
        Tier.LIMIT,
        Knob.OPERATOR,
        "The dispatcher holds as many containers as it can use, or will with those that are more urgent.",
        "it is claimed when one that it holds starts or ends; more nodes or a larger [Dispatch] max_claimed would claim "
        "it sooner",
        {"live": "containers that are held", "waiting": "those of them whose jobs wait"},
    ),
    ReasonToken.SCHEDULER_LIMIT: Meaning(
        Tier.LIMIT,
        Knob.SITE,
        "A limit of the scheduler's site is reached: jobs in all, jobs or resources of an account, of a quality of "
        "service, of a user.",
        "it goes on when jobs end; the site's administrators set this limit",
        {**_WORDS, **_OBSTACLES},
    ),
    ReasonToken.NODE_LIMIT: Meaning(
        Tier.LIMIT,
        Knob.OPERATOR,
        "As many nodes are there, or as much is paid per hour, as the config file allows.",
        "it is booted for when other nodes have gone; [Daemon] max_nodes is the knob",
        {
            **_COUNTS,
            "price": "per hour, of all nodes",
            "max_total_price": "how much the config file would allow",
        },
    ),
    ReasonToken.CLOUD_QUOTA: Meaning(
        Tier.LIMIT,
        Knob.SITE,
        "The cloud account allows no more nodes.",
        "one more is tried now and then; a higher quota is the cloud operator's to give",
        _COUNTS,
    ),
    ReasonToken.NO_CAPACITY: Meaning(
        Tier.LIMIT,
        Knob.OPERATOR,
        "The cloud has none of the sizes that would do, or the scheduler has no place for one.",
        "it is tried again; more [Size NAME] sections, or a higher [Cloud] max_price_factor, would give it a choice",
        {"sizes": "those that would do", "unavailable": "those that cannot be had"},
    ),
    ReasonToken.BOOT_BRAKE: Meaning(
        Tier.LIMIT,
        Knob.OPERATOR,
        "Nodes came to nothing several times in a row, so that no more, or fewer, are booted.",
        "look at the nodes that failed, then release the brake",
        _COUNTS,
    ),
    ReasonToken.RUN_AFTER: Meaning(
        Tier.WAITING,
        Knob.OWNER,
        "The request asked not to be started before a time.",
        "change run_after of the request to start it sooner",
    ),
    ReasonToken.BACKOFF: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "The attempt before failed for a reason of the infrastructure; the next one waits, longer each time.",
        "it is tried again by itself; arvados-node-manager retry-now UUID skips the wait",
        {"temp_fails": "attempts in a row that failed so"},
    ),
    ReasonToken.GIVEN_BACK: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "This dispatcher handed it back before it ran, and leaves it to others for a while.",
    ),
    ReasonToken.SUBMITTING: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "It is claimed and on its way into the scheduler: a token is fetched, an earlier job ends, the job is handed over.",
    ),
    ReasonToken.SCHEDULER_DOWN: Meaning(
        Tier.WAITING,
        Knob.SITE,
        "The scheduler does not answer; it is asked again and again, and what runs there runs on.",
        "see that the scheduler answers: arvados-node-manager --check says what it hears",
    ),
    ReasonToken.NODES_UNKNOWN: Meaning(
        Tier.WAITING,
        Knob.SITE,
        "What is known of the nodes is too old to boot any.",
        "see that the cloud, the scheduler and the API answer: arvados-node-manager --check",
        _COUNTS,
    ),
    ReasonToken.WAITING_FOR_RESOURCES: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "Its job waits in the scheduler until nodes that could hold it have room, or until more urgent jobs have begun.",
        "it starts when jobs before it end; a higher priority of the request lets it pass others, more nodes give room",
        {**_SHORT, **_WORDS, **_OBSTACLES},
    ),
    ReasonToken.SCHEDULER_WAIT: Meaning(
        Tier.WAITING,
        Knob.SITE,
        "Its job waits in the scheduler, for what the scheduler's own words say.",
        "the words are the scheduler's own: whoever runs it can tell more",
        {**_WORDS, **_OBSTACLES},
    ),
    ReasonToken.NODE_BOOTING: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "A node is being ordered, or boots, or stays, for it.",
        facts={
            "size": "of the node",
            "node": "its name",
            "ordered": "for how long it has been booting",
        },
    ),
    ReasonToken.START_TROUBLE: Meaning(
        Tier.WAITING,
        Knob.OWNER,
        "It has a node that cannot start it: its image cannot be had, or a secret or volume is missing. It is given up "
        "after a while, and tried again.",
        "look at the name of the image and of what is mounted",
        _WORDS,
    ),
    ReasonToken.STARTING: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "Its job has a node: its image is fetched, its runner starts, or its end is being recorded.",
        facts=_WORDS,
    ),
    ReasonToken.CANCELLING: Meaning(
        Tier.WAITING,
        Knob.NOBODY,
        "Nobody wants it any more, or its dispatcher was declared lost: its job is being cancelled.",
    ),
    ReasonToken.NOT_SEEN: Meaning(
        Tier.UNSEEN,
        Knob.OPERATOR,
        "No dispatcher has said anything of it: it has only just been queued, very many more urgent ones are before it, "
        "or no dispatcher is alive.",
        "if that lasts, see that a dispatcher is alive (arvados-node-manager dispatchers list), and how long the queue is",
        {
            "dispatchers": "how many are alive",
            "looked_at": "how many of the most urgent ones are looked at",
        },
    ),
}
"""By token, worst tier first."""
