"""Why a pod does not run yet, as a reason of ours: what the scheduler says of its nodes, or a kubelet of its container.

The scheduler's sentence counts nodes by obstacle: ``0/5 nodes are available: 2 Insufficient memory, 3 node(s) were
unschedulable. preemption: ...``. Its words changed with Kubernetes' versions; those that are not known are shown as they
are. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nodemanager.reason import Knob, Reason, ReasonToken
from nodemanager.schedulers.kubernetes.waits import Trouble, trouble_of, words_of

_WAIT, _RESOURCES = ReasonToken.SCHEDULER_WAIT, ReasonToken.WAITING_FOR_RESOURCES

UNSEEN = "the scheduler has not looked at it yet"
"""In words, as long as it says nothing."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps the pod off some nodes."""

    sentence: str
    """What these nodes are or have; with `{what}` where the message names something."""
    pattern: str
    """Of the message without its number; its group `what` is what it names."""
    token: ReasonToken = _WAIT
    advice: str = ""
    """What helps; empty for what the token says."""
    whose: Knob | None = None


OBSTACLES: Mapping[str, Obstacle] = {
    "insufficient": Obstacle(
        "have too little {what} free",
        r"Insufficient (?P<what>\S+)",
        _RESOURCES,
        "it starts when pods before it end; if no node has so much at all, ask for less, or add larger nodes",
    ),
    "too many pods": Obstacle(
        "run as many pods as they may",
        r"Too many pods",
        _RESOURCES,
        "it starts when pods end; maxPods of the kubelets is the limit",
        Knob.SITE,
    ),
    "ports": Obstacle("have a port in use that it needs", r".*free ports.*", _RESOURCES),
    "not ready": Obstacle(
        "are not ready, or short of memory, disk or process ids",
        r".*taint.*node\.kubernetes\.io/(?:not-ready|unreachable|\w+-pressure|network-unavailable|out-of-service).*",
        advice="kubectl describe nodes tells what is wrong with them",
    ),
    "cordoned": Obstacle(
        "are cordoned",
        r"node\(s\) were unschedulable|.*taint.*node\.kubernetes\.io/unschedulable.*",
        advice="kubectl uncordon NODE lets them take pods again",
    ),
    "tainted": Obstacle(
        "have a taint that it does not bear ({what})",
        r".*taints?\b\s*(?:\{(?P<what>[^}]*)\})?.*",
        advice="add a toleration to [Scheduler] template, or take the taint away: kubectl taint node NODE KEY-",
    ),
    "volumes": Obstacle(
        "cannot have its volumes",
        r".*(?:volume|disk conflict|PersistentVolumeClaim|persistentvolumeclaim|free storage|no available disk).*",
        advice="kubectl describe pod and kubectl get pvc tell which volume it is",
    ),
    "not selected": Obstacle(
        "do not have the labels that it asks for",
        r".*(?:node affinity|node selector|requested labels|the requested hostname).*",
        advice="partitions, sizes and [Scheduler] template ask for labels; kubectl get nodes --show-labels shows them",
    ),
    "spread": Obstacle(
        "would break a rule of affinity or spread",
        r".*(?:affinity|topology spread).*",
        advice="look at affinity and topologySpreadConstraints in [Scheduler] template",
        whose=Knob.OPERATOR,
    ),
}
"""By the name in the facts, in the order in which patterns are tried."""

_PATTERNS = {name: re.compile(obstacle.pattern) for name, obstacle in OBSTACLES.items()}
_SUMMARY = re.compile(r"0/(?P<all>\d+) nodes are available:? ?(?P<parts>.*)", re.DOTALL)
_PART = re.compile(r"(?P<count>\d+) (?P<words>.*)", re.DOTALL)
_BETWEEN = re.compile(r", (?=\d+ )")


@lru_cache(maxsize=256)
def reason_unscheduled(message: str) -> Reason:
    """Of a pod that has no node, by what the scheduler says; ten thousand pods that are alike share one reason."""
    if not message:
        return Reason(_WAIT, _waits(UNSEEN), whose=Knob.NOBODY)
    summary = _SUMMARY.fullmatch(message)
    if summary is None:
        return _single(message)
    parts = list(_parts(summary["parts"]))
    if not parts:
        return _single(message)
    names = [name for _, name, _ in parts]
    facts: dict[str, Any] = {"word": message, "all_nodes": int(summary["all"]), "nodes": {}}
    for count, name, words in parts:
        key = name if name and OBSTACLES[name].token is not _RESOURCES else words
        facts["nodes"][key] = facts["nodes"].get(key, 0) + count
    told = ", ".join(f"{count} {_told(name, words)}" for count, name, words in parts)
    sentence = _waits(f"of {summary['all']} nodes {told}")
    decisive = _decisive(names)
    if decisive is None:
        return Reason(_WAIT, sentence, facts)
    return Reason(decisive.token, sentence, facts, decisive.advice, whose=decisive.whose)


def reason_on_node(node: str, waiting_reason: str, message: str) -> Reason:
    """Of a pod that has a node and has not started, by what its kubelet says of its container."""
    if not waiting_reason:
        return Reason(
            ReasonToken.STARTING, f"its pod has node {node}, whose kubelet has not begun yet"
        )
    facts = {"word": waiting_reason}
    words = words_of(waiting_reason, message)
    trouble = trouble_of(waiting_reason, message)
    if trouble is None:
        return Reason(ReasonToken.STARTING, f"its pod has node {node}: {words}", facts)
    advice, whose = _TROUBLES[trouble]
    sentence = f"its pod has node {node}, which cannot start it: {words}"
    return Reason(ReasonToken.START_TROUBLE, sentence, facts, advice, whose=whose)


def reason_deleted() -> Reason:
    """Of a pod that was deleted before it started."""
    return Reason(ReasonToken.CANCELLING, "its pod is being deleted")


_TROUBLES = {
    Trouble.IMAGE: (
        "look at container_image: its name and tag, and imagePullSecrets in [Scheduler] template",
        Knob.OWNER,
    ),
    Trouble.REGISTRY: (
        "it is pulled again by itself; see whether the registry answers from that node",
        Knob.SITE,
    ),
    Trouble.CONFIG: (
        "what it mounts must be there in its namespace, and the node able to mount it: kubectl describe pod",
        Knob.OPERATOR,
    ),
}


def _waits(words: str) -> str:
    return f"its job waits in the queue: {words}"


def _single(message: str) -> Reason:
    """A sentence that counts no nodes."""
    name = _name(message)
    obstacle = OBSTACLES.get(name) if name == "volumes" else None
    advice, whose = ("", None) if obstacle is None else (obstacle.advice, obstacle.whose)
    return Reason(_WAIT, _waits(message), {"word": message}, advice, whose=whose)


def _parts(text: str) -> Iterator[tuple[int, str, str]]:
    """Number of nodes, name of the obstacle (empty: not known), and the words."""
    # What preemption would bring is said in the same way, after it.
    said = re.split(r"\.? preemption: ", text, maxsplit=1)[0].strip()
    for part in _BETWEEN.split(said.removesuffix(".")):
        match = _PART.fullmatch(part.strip())
        if match is not None:
            yield int(match["count"]), _name(match["words"]), match["words"]


def _name(words: str) -> str:
    return next((name for name, pattern in _PATTERNS.items() if pattern.fullmatch(words)), "")


def _told(name: str, words: str) -> str:
    if not name:
        return words
    match = _PATTERNS[name].fullmatch(words)
    what = (match.groupdict().get("what") if match is not None else "") or ""
    return OBSTACLES[name].sentence.format(what=what.removesuffix(": ").strip() or words)


def _decisive(names: list[str]) -> Obstacle | None:
    """What the wait hangs on: room, where some nodes lack nothing else, for it comes by itself; else the first."""
    known = [OBSTACLES[name] for name in names if name]
    if not known:
        return None
    return next((each for each in known if each.token is _RESOURCES), known[0])
