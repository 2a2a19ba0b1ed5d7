"""Our pods, the nodes, and what others keep of them: one picture, always at hand, kept up by three watches.

Looking at it costs no request, but for one thing: the events of a pod that somebody had deleted while nothing else
tells why, or whose container is not being created.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any

from nodemanager.clock import Clock
from nodemanager.model import JobState, Node
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import Job
from nodemanager.schedulers.kubernetes.client import KubeClient
from nodemanager.schedulers.kubernetes.ends import mount_trouble
from nodemanager.schedulers.kubernetes.names import not_ours, ours
from nodemanager.schedulers.kubernetes.pending import reason_deleted
from nodemanager.schedulers.kubernetes.picture import Picture, PodPicture
from nodemanager.schedulers.kubernetes.pod import Pod, parse_pod
from nodemanager.schedulers.kubernetes.podevents import PodEvents
from nodemanager.schedulers.kubernetes.podnodes import (
    EMPTY,
    KubeNode,
    Load,
    NodeRules,
    Tenant,
    parse_node,
    parse_tenant,
)
from nodemanager.schedulers.kubernetes.pods import (
    FINAL_PHASES,
    Host,
    hopeless,
    job_of,
    waiting_words,
    waits_for,
)
from nodemanager.schedulers.kubernetes.quantities import GPU_RESOURCES
from nodemanager.schedulers.kubernetes.reflector import Pace, Reflector
from nodemanager.schedulers.kubernetes.waits import CREATING, Patience

log = logging.getLogger(__name__)

_UNFINISHED = ",".join(f"status.phase!={phase}" for phase in sorted(FINAL_PHASES))
_SLOW_SECONDS = 60.0
"""A container that takes longer to be created may wait for a volume that does not come."""
_ASK_AT_MOST = 50
"""About so many slow ones events are asked for at a time."""


@dataclass(frozen=True, slots=True)
class ViewRules:
    """What the operator has to say about what is seen."""

    nodes: NodeRules = field(default_factory=NodeRules)
    gpu_resources: tuple[str, ...] = GPU_RESOURCES
    patience: Patience = field(default_factory=Patience)
    pace: Pace = field(default_factory=Pace)


class View:
    """See the module's docstring.

    `on_change` is called, by a thread that must not be kept, when one of our pods or a node is not as it was before.
    """

    def __init__(
        self,
        client: KubeClient,
        cluster_id: str,
        *,
        clock: Clock,
        rules: ViewRules | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        rules = rules or ViewRules()
        self._prefix = f"{cluster_id}-"
        self._clock = clock
        self._rules = rules
        self._events = PodEvents(client, clock)
        self._told: dict[str, Job] = {}
        """Ended jobs by the pods' unique ids, as they were told first: what is heard later changes nothing."""
        self._said_partial = False
        self._pods = PodPicture(on_change)
        self._nodes: Picture[KubeNode] = Picture(on_change)
        self._tenants: Picture[Tenant] = Picture(lambda: None)
        gpus = rules.gpu_resources
        self._parse_pod = partial(parse_pod, gpu_resources=gpus)
        others = client.all_pods(not_ours(cluster_id), f"spec.nodeName!=,{_UNFINISHED}")
        reflect = partial(Reflector, client, clock=clock, pace=rules.pace)
        self._pod_reflector = reflect(client.pods(ours(cluster_id)), self._parse_pod, self._pods)
        self._node_reflector = reflect(
            client.nodes(), partial(parse_node, gpu_resources=gpus), self._nodes
        )
        self._tenant_reflector = reflect(
            others, partial(parse_tenant, gpu_resources=gpus), self._tenants
        )

    # Life.

    def start(self) -> None:
        """Begin to look."""
        for reflector in self._reflectors():
            reflector.start()

    def close(self) -> None:
        """End it; what was seen stays."""
        for reflector in self._reflectors():
            reflector.close()

    @property
    def is_current(self) -> bool:
        """Whether the picture is that of now, as far as anybody can tell; what is missing in it proves nothing else."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Why it is not current, in words."""
        for reflector in (self._pod_reflector, self._node_reflector):
            if reflector.why_not:
                return reflector.why_not
        return "" if self.room_is_partial else self._tenant_reflector.why_not

    @property
    def room_is_partial(self) -> bool:
        """We have no right to see the pods of other namespaces: what these keep looks free."""
        refused = self._tenant_reflector.refused
        partial_now = refused is not None and refused.status == HTTPStatus.FORBIDDEN
        if partial_now and not self._said_partial:
            self._said_partial = True
            log.warning(
                "what pods of others keep of the nodes looks free, as they may not be seen: %s",
                refused,
                extra={"action": "pods_hidden"},
            )
        return partial_now

    def wait_current(self, seconds: float) -> bool:
        """Wait until `is_current`; False when that takes longer."""
        until = self._clock.elapsed() + seconds
        for reflector in self._reflectors():
            left = max(0.0, until - self._clock.elapsed())
            reflector.wait_until(partial(self._is_settled, reflector), left)
        return self.is_current

    # What is seen.

    def jobs(self) -> Sequence[Job]:
        """Our pods as jobs. May ask for events; for one thread at a time."""
        pods = [pod for pod in self._pods.all() if pod.name.startswith(self._prefix)]
        self._events.keep({pod.uid for pod in pods})
        jobs = self._judge(pods)
        self._told = {job.job_id: job for job in jobs if job.state is JobState.ENDED}
        return jobs

    def jobs_of(self, names: Iterable[str]) -> Mapping[str, Job]:
        """Those of them that there are, by name; the rest is not looked at. Otherwise like `jobs`."""
        found = [self._pods.get(name) for name in names if name.startswith(self._prefix)]
        jobs = self._judge([pod for pod in found if pod is not None])
        self._told.update({job.job_id: job for job in jobs if job.state is JobState.ENDED})
        return {job.name: job for job in jobs}

    def pod(self, name: str) -> Pod | None:
        """Our pod of that name."""
        return self._pods.get(name)

    def pods(self) -> Sequence[Pod]:
        """All our pods."""
        return self._pods.all()

    def nodes(self) -> Sequence[Node]:
        """The nodes that our pods may use, with what is free there."""
        loads = self._loads()
        found = [
            node.as_node(loads.get(node.name, EMPTY), self._rules.nodes)
            for node in self._nodes.all()
        ]
        return [node for node in found if node is not None]

    def kube_nodes(self) -> Sequence[KubeNode]:
        """All nodes, those that are not ours to use included."""
        return self._nodes.all()

    # What is known before it is seen.

    def created(self, value: Mapping[str, Any]) -> None:
        """What the server answered when it made a pod: that is in the picture from now on."""
        self._pods.created(self._parse_pod(value), self._clock.elapsed())

    def changed_node(self, value: Mapping[str, Any]) -> None:
        """What the server answered when it changed a node."""
        self._nodes.upsert(parse_node(value, self._rules.gpu_resources))

    def forgotten(self, name: str, uid: str) -> None:
        """Nothing holds the pod any more, and its deletion was asked for: it is not in the picture any more."""
        self._pods.forgotten(name, uid, self._clock.elapsed())

    # Inside.

    def _reflectors(self) -> Sequence[Reflector[Any]]:
        return (self._pod_reflector, self._node_reflector, self._tenant_reflector)

    def _is_settled(self, reflector: Reflector[Any]) -> bool:
        """Whether it is current, or need not be."""
        needless = reflector is self._tenant_reflector and self.room_is_partial
        return needless or reflector.is_current

    def _hosts(self) -> Mapping[str, Host] | None:
        """How the nodes are; None when that is not known for sure."""
        if not self._node_reflector.is_current:
            return None
        return {node.name: _host(node) for node in self._nodes.all()}

    def _loads(self) -> Mapping[str, Load]:
        loads: dict[str, Load] = {}
        for pod in self._pods.all():
            # Kubernetes' scheduler, too, counts a pod until its phase is final or its object gone.
            if pod.node and pod.phase not in FINAL_PHASES:
                load = loads.get(pod.node, EMPTY)
                loads[pod.node] = load.with_ours(pod.requests, exclusive=pod.exclusive)
        for tenant in self._tenants.all():
            loads[tenant.node] = loads.get(tenant.node, EMPTY).with_tenant(tenant)
        return loads

    def _judge(self, pods: Sequence[Pod]) -> list[Job]:
        hosts = self._hosts()
        now = self._clock.wall()
        judged = [
            (pod, self._told.get(pod.uid) or job_of(pod, _host_of(pod, hosts), now=now))
            for pod in pods
        ]
        self._ask_events(judged, now)
        return [self._with_events(pod, job, hosts, now) for pod, job in judged]

    def _ask_events(self, judged: Sequence[tuple[Pod, Job]], now: float) -> None:
        doubtful = [
            pod.uid for pod, job in judged if pod.uid not in self._told and _is_doubtful(job)
        ]
        slow = [pod.uid for pod, job in judged if _is_slow(pod, job, now)]
        self._events.ask([*doubtful, *slow[:_ASK_AT_MOST]])

    def _with_events(self, pod: Pod, job: Job, hosts: Mapping[str, Host] | None, now: float) -> Job:
        """What events change about it, and whether there is any hope."""
        if pod.uid in self._told:
            return job
        events = self._events.of(pod.uid)
        if _is_doubtful(job):
            if events is None:
                # Not before it is known why; the events will be asked for again.
                state = JobState.WAITING if pod.started_at is None else JobState.RUNNING
                return replace(
                    job, state=state, end=None, reason="it was deleted", waits_for=reason_deleted()
                )
            return job_of(pod, _host_of(pod, hosts), events, now)
        if job.state is not JobState.WAITING:
            return job
        trouble = mount_trouble(events or ()) if pod.waiting_reason == CREATING else ""
        end = None if pod.deleted_at else hopeless(pod, now, self._rules.patience, trouble)
        return replace(
            job,
            reason=waiting_words(pod, trouble),
            waits_for=waits_for(pod, trouble),
            hopeless=end.detail if end else "",
        )


def _host_of(pod: Pod, hosts: Mapping[str, Host] | None) -> Host:
    if hosts is None or not pod.node:
        return Host.UNKNOWN
    return hosts.get(pod.node, Host.GONE)


def _host(node: KubeNode) -> Host:
    if node.ready is None:
        return Host.UNKNOWN
    if not node.ready:
        return Host.DOWN
    return Host.CORDONED if node.unschedulable else Host.WELL


def _is_doubtful(job: Job) -> bool:
    return job.end is not None and job.end.kind is EndKind.OPERATOR_DELETED


def _is_slow(pod: Pod, job: Job, now: float) -> bool:
    if job.state is not JobState.WAITING or pod.waiting_reason != CREATING:
        return False
    return now - (pod.scheduled_at or pod.created_at) > _SLOW_SECONDS
