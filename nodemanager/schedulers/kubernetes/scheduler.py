"""Kubernetes, through its API server: a container is a bare pod of its name.

Not a Job: whose pod is deleted or drained, that makes another, and the command would start a second time. A pod has
`restartPolicy: Never` and a finalizer of ours, so that it stays to be read until its end is recorded, whoever deleted
it. What there is is known by watches (`view`), so that a poll costs no request; how pods are made is in `manifest`, how
their ends are told in `pods`, and what nodes that come and go need in `elastic`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from nodemanager.clock import SystemClock
from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.model import Finding, JobState, Node, format_time
from nodemanager.outcome import End
from nodemanager.schedulers.base import (
    JobSpec,
    Newcomer,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.kubernetes.bell import Bell
from nodemanager.schedulers.kubernetes.check import findings
from nodemanager.schedulers.kubernetes.client import Access, KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.elastic import Elastic
from nodemanager.schedulers.kubernetes.manifest import Manifests
from nodemanager.schedulers.kubernetes.names import CANCELLED, CONTAINER, HOPELESS
from nodemanager.schedulers.kubernetes.options import KubernetesOptions, NodeOrigin
from nodemanager.schedulers.kubernetes.pod import Pod
from nodemanager.schedulers.kubernetes.pods import FINAL_PHASES
from nodemanager.schedulers.kubernetes.submit import Submitter
from nodemanager.schedulers.kubernetes.template import read_template
from nodemanager.schedulers.kubernetes.view import View
from nodemanager.schedulers.kubernetes.waits import Patience

_SETTLE_SECONDS = 2.0
"""A watch that broke is mended within so long, if nothing else is the matter."""


class KubernetesScheduler(Scheduler):
    """See the module's docstring, and `KubernetesOptions` for the options."""

    name = "kubernetes"
    watches = True

    def __init__(self, context: SchedulerContext, *, patience: Patience | None = None) -> None:
        """`patience`: that of the options if None."""
        super().__init__(context)
        options = KubernetesOptions.of(context)
        self._options = options
        self._prefix = f"{context.cluster_id}-"
        access = Access(
            kubeconfig=options.kubeconfig,
            context=options.context,
            read_seconds=context.command_seconds,
            concurrency=options.concurrency,
        )
        self._client = KubeClient(access, options.namespace)
        self._bell = Bell()
        self._clock = SystemClock()
        template = read_template(options.template) if options.template else {}
        self._manifests = Manifests(options, context, template)
        rules = options.view_rules(self._manifests.node_rules)
        self._view = View(
            self._client,
            context.cluster_id,
            clock=self._clock,
            rules=rules if patience is None else replace(rules, patience=patience),
            on_change=self._bell.ring,
        )
        self._watching = False
        self._submitter = Submitter(self._client, self._view, self._manifests, options)
        self._elastic = Elastic(self._client, self._view, context.cluster_id)
        self._blind_until = 0.0
        """Until then it is no use to wait for the view."""
        self._hopeless: Mapping[str, str] = {}
        """Of waiting pods, as the last poll saw them."""

    @property
    def runs_commands(self) -> bool:
        """Unless pods are runners."""
        return self._manifests.runs_commands

    @property
    def commands_run(self) -> int:
        """How many requests were made."""
        return self._client.requests_made

    # Jobs.

    def check(self) -> Sequence[Finding]:
        """Look at the server, our rights, and what the options name."""
        return findings(self._client, self._options)

    def version(self) -> str:
        """As the API server says."""
        return f"Kubernetes {self._client.version()}"

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """A pod for each, several at a time; a name that is taken is ours already."""
        self._look()
        return self._submitter.submit(jobs)

    def cost(self, jobs: Sequence[JobSpec]) -> int:
        """One request for a pod, and two more where it has a secret."""
        return sum(self._manifests.requests_for(spec) for spec in jobs)

    def poll(self) -> Poll:
        """From what the watches have seen. Raises `SchedulerError` when they do not know how things are now."""
        began = time.monotonic()
        self._look()
        jobs = self._view.jobs()
        self._hopeless = {job.name: job.hopeless for job in jobs if job.hopeless}
        self._bell.took(time.monotonic() - began)
        return Poll(tuple(jobs))

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """Ended pods stay until they are forgotten: whatever is not there any more left no trace."""
        self._look()
        jobs = self._view.jobs_of(names)
        return {name: job.end for name, job in jobs.items() if job.end is not None}

    def cancel(self, names: Sequence[str]) -> None:
        """That it was us is noted on the pod, then it is deleted: TERM, and KILL after its grace."""
        self._look()
        jobs = self._view.jobs_of(names)
        live = [name for name, job in jobs.items() if job.state is not JobState.ENDED]
        found = [self._view.pod(name) for name in live]
        # Those that are being deleted are told again, in a way that their kubelets notice: one may have overlooked it.
        _raise_first(self._client.many(self._cancel, [pod for pod in found if pod is not None]))

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """A pod's priority is fixed when it is made: there is nothing to be done."""

    def forget(self, names: Sequence[str]) -> None:
        """The pods that have ended, and their secrets, are let go of."""
        jobs = self._view.jobs_of(names)
        ended = [name for name, job in jobs.items() if job.state is JobState.ENDED]
        found = [self._view.pod(name) for name in ended]
        _raise_first(self._client.many(self._forget, [pod for pod in found if pod is not None]))
        # Of a pod that was never made a secret may have been.
        strays = [name for name in names if name not in jobs and name.startswith(self._prefix)]
        _raise_first(self._client.many(self._submitter.drop_secret, strays))

    def fetch_log(self, name: str, write: Callable[[bytes], object]) -> None:
        """What the container printed, from its node, by way of the API server."""
        if self._view.is_current and not self._has_node(name):
            # The API server would ask there, and wait.
            raise LookupError("its node is gone, and the log with it")
        try:
            with closing(self._client.pod_log(name, CONTAINER)) as pieces:
                for piece in pieces:
                    write(piece)
        except KubeRefused as error:
            raise LookupError(str(error)) from error
        except SchedulerError as error:
            if self._view.is_current and not self._has_node(name):
                raise LookupError(f"its node is gone, and the log with it: {error}") from error
            raise

    # Nodes.

    def nodes(self) -> Sequence[Node]:
        """Those that our pods may use, with what is free there beside the pods of everybody."""
        self._look()
        self._elastic.go_on()
        return self._view.nodes()

    def drain(self, node: str, reason: str) -> None:
        """Cordon it, and have the pods of others evicted; our own finish."""
        self._look()
        self._elastic.drain(node, reason)

    def resume(self, node: str) -> None:
        """Only what we cordoned."""
        self._look()
        self._elastic.resume(node)

    @property
    def admits(self) -> bool:
        """When nodes are booted for us: what is left of earlier ones of the name must be out of the way."""
        return self._options.nodes is NodeOrigin.JOINING

    def admit(self, newcomer: Newcomer) -> str:
        """Its kubelet makes the node by itself."""
        self._look()
        return self._elastic.admit(newcomer)

    def remove(self, host: str) -> None:
        """The node's object goes, and with it Kubernetes' hope that its pods come back."""
        self._look()
        self._elastic.remove(host)

    # Changes.

    def listen(self, changed: Callable[[], None]) -> None:
        """At most as often as the last look allows."""
        self._bell.listen(changed)

    def close(self) -> None:
        """Let go of watches and connections; pods stay."""
        self._bell.close()
        if self._watching:
            self._view.close()
        self._client.close()

    # Inside.

    def _look(self) -> None:
        """Make sure that the view is that of now; raises `SchedulerError` if nobody can tell."""
        patience = _SETTLE_SECONDS
        if not self._watching:
            # Not before somebody asks: a check needs no watch.
            self._view.start()
            self._watching = True
            patience = self.context.command_seconds
        if time.monotonic() < self._blind_until:
            # Whoever asks many things in a row does not wait for each of them.
            patience = 0.0
        if not self._view.wait_current(patience):
            self._blind_until = time.monotonic() + _SETTLE_SECONDS
            raise SchedulerError(f"kubernetes: {self._view.why_not}")

    def _has_node(self, name: str) -> bool:
        """Whether somebody could answer for the pod's node."""
        pod = self._view.pod(name)
        nodes = self._view.kube_nodes()
        return pod is not None and any(node.name == pod.node and node.ready for node in nodes)

    def _cancel(self, pod: Pod) -> None:
        who = self.context.dispatcher or self.context.cluster_id
        notes = {CANCELLED: f"by {who} at {format_time(self._clock.wall())}"}
        if hopeless := self._hopeless.get(pod.name):
            notes[HOPELESS] = hopeless
        try:
            self._client.patch_pod(pod.name, {"metadata": {"uid": pod.uid, "annotations": notes}})
            self._client.delete_pod(pod.name, uid=pod.uid)
        except KubeRefused as error:
            if not error.is_gone:
                raise SchedulerError(str(error)) from error

    def _forget(self, pod: Pod) -> None:
        """Its deletion first: without finalizer and undeleted it would stay for ever, if we came no further."""
        try:
            if pod.deleted_at is None:
                # A pod of which something runs on is given its time.
                grace = 0 if pod.phase in FINAL_PHASES else None
                self._client.delete_pod(pod.name, uid=pod.uid, grace_seconds=grace)
            if pod.held:
                self._submitter.release(pod)
        except KubeRefused as error:
            if not error.is_missing:
                raise SchedulerError(str(error)) from error
        self._view.forgotten(pod.name, pod.uid)


def _raise_first(results: Sequence[NodeManagerError | None]) -> None:
    for result in results:
        if isinstance(result, NodeManagerError):
            raise SchedulerError(str(result)) from result
