"""Makes pods, and the secrets that some of them need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.mount_plan import RequestFaultError
from nodemanager.schedulers.base import JobSpec, Submission
from nodemanager.schedulers.kubernetes.client import KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.inputs import check_inputs
from nodemanager.schedulers.kubernetes.manifest import Manifests, PodParts
from nodemanager.schedulers.kubernetes.names import CLUSTER_LABEL, FINALIZER
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.schedulers.kubernetes.pod import Pod
from nodemanager.schedulers.kubernetes.view import View
from nodemanager.schedulers.kubernetes.volumes import needs_secret

_QUOTA = "exceeded quota"
_NO_RIGHT = 'User "'
"""How the refusals of RBAC begin, after the resource: ``pods is forbidden: User "..." cannot create``."""


class Submitter:
    """Every pod is made once: its name is taken then, until it is forgotten."""

    def __init__(
        self, client: KubeClient, view: View, manifests: Manifests, options: KubernetesOptions
    ) -> None:
        self._client = client
        self._view = view
        self._manifests = manifests
        self._options = options
        self._full = ""
        """In the current call: what the server said when there was room for no more."""

    def submit(self, jobs: Sequence[JobSpec]) -> list[Submission]:
        """An answer for each; raises `SchedulerError` when one got none, after all were tried."""
        self._full = ""
        fresh = {spec.name: spec for spec in jobs if self._view.pod(spec.name) is None}
        made = dict(zip(fresh, self._client.many(self._make, list(fresh.values())), strict=True))
        answers = []
        for spec in jobs:
            answer = made.get(spec.name)
            if isinstance(answer, NodeManagerError):
                raise SchedulerError(str(answer)) from answer
            pod = self._view.pod(spec.name)
            answers.append(answer or Submission(spec.name, job_id=pod.uid if pod else spec.name))
        return answers

    def release(self, pod: Pod) -> None:
        """Take our finalizer away, and the secret: nothing of the pod is needed any more."""
        value = self._client.get_pod(pod.name)
        if value["metadata"]["uid"] == pod.uid and needs_secret(value["spec"], pod.name):
            # It goes with the pod that owns it, but not where nobody got as far as saying so.
            self.drop_secret(pod.name)
        # A list is replaced as a whole; somebody else's finalizer has to stay.
        held_by = value["metadata"].get("finalizers") or ()
        others = [each for each in held_by if each != FINALIZER]
        self._client.patch_pod(
            pod.name, {"metadata": {"uid": pod.uid, "finalizers": others or None}}
        )

    def _make(self, spec: JobSpec) -> Submission:
        if self._full:
            # The others would only hear the same.
            return Submission(spec.name, busy=self._full)
        try:
            parts = self._manifests.parts(spec)
            if spec.work is not None and self._manifests.runs_commands:
                check_inputs(spec.work.plan, self._options)
        except RequestFaultError as error:
            return Submission(spec.name, refused=str(error))
        self._make_folder(spec)
        try:
            if parts.secret is not None:
                self._make_secret(spec.name, parts.secret)
            value = self._make_pod(spec.name, parts)
        except KubeRefused as error:
            if parts.secret is not None:
                # No pod, so nobody who would ever take it along.
                self.drop_secret(spec.name)
            verdict = _verdict(spec.name, error)
            self._full = self._full or verdict.busy
            return verdict
        self._view.created(value)
        if parts.secret is not None:
            self._own(parts.secret, value)
        return Submission(spec.name, job_id=value["metadata"]["uid"])

    def _make_secret(self, name: str, secret: Mapping[str, Any]) -> None:
        """One that is there is of an earlier try whose pod was not made, or was: that pod will be found."""
        try:
            self._client.create_secret(secret)
        except KubeRefused as error:
            if not error.is_there_already:
                raise
            if self._find_pod(name) is None:
                # Not changed but made anew: its token may be another by now, and it cannot be changed.
                self.drop_secret(name)
                self._client.create_secret(secret)

    def drop_secret(self, name: str) -> None:
        """Remove a container's secret, if there is one."""
        try:
            self._client.delete_secret(name)
        except KubeRefused as error:
            if not error.is_missing:
                raise

    def _make_folder(self, spec: JobSpec) -> None:
        """A kubelet would make it on the way to the output in it, for root alone: no log could be put there then.

        The store itself is never made: it may just not be mounted.
        """
        folder = self._manifests.folder(spec)
        try:
            if folder is not None:
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SchedulerError(f"[Runner] store: {folder}: {error.strerror}") from error

    def _make_pod(self, name: str, parts: PodParts) -> dict[str, Any]:
        try:
            return self._client.create_pod(parts.pod)
        except KubeRefused as error:
            found = self._find_pod(name) if error.is_there_already else None
            if found is None:
                raise
            return found

    def _find_pod(self, name: str) -> dict[str, Any] | None:
        """The pod of that name if it is of this cluster."""
        try:
            found = self._client.get_pod(name)
        except KubeRefused as error:
            if error.is_missing:
                return None
            raise
        labels = found["metadata"].get("labels") or {}
        return found if labels.get(CLUSTER_LABEL) == self._manifests.cluster_id else None

    def _own(self, secret: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
        """The secret goes with its pod."""
        metadata = pod["metadata"]
        owner = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        patch = {"metadata": {"ownerReferences": [owner]}}
        try:
            self._client.patch_secret(secret["metadata"]["name"], patch)
        except KubeRefused as error:
            # Whoever took it away already has done what this is for.
            if not error.is_missing:
                raise SchedulerError(str(error)) from error


def _verdict(name: str, error: KubeRefused) -> Submission:
    """What a refusal means for the job."""
    if error.status == HTTPStatus.FORBIDDEN and _QUOTA in error.message:
        return Submission(name, busy=error.message)
    if error.status == HTTPStatus.FORBIDDEN and _NO_RIGHT in error.message:
        raise SchedulerError(f"{error}; see etc/kubernetes for the rights that are needed")
    if error.status == HTTPStatus.NOT_FOUND:
        # The namespace, or a kind of object: nothing that the job could help.
        raise SchedulerError(str(error))
    if error.status == HTTPStatus.CONFLICT and not error.is_there_already:
        return Submission(name, busy=error.message)
    return Submission(name, refused=error.message or error.reason)
