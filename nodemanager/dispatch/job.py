"""From a claimed container to the job that runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from nodemanager.api.base import Description
from nodemanager.model import Container
from nodemanager.runner.spec import RunnerSpec
from nodemanager.schedulers.base import JobSpec
from nodemanager.work import ApiAccess, Work, work_of

RUNNER_MARGIN_SECONDS = 300
"""How much later than the runner the scheduler enforces the time limit: time to start, to stop the
command, and to store its output. The runner knows the difference between asked and used; the
scheduler's limit only catches a runner that hangs."""


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """What all jobs of a dispatcher share: the runner's command, and what it is told.

    `spec` is complete but for the container and its token.
    """

    command: tuple[str, ...]
    spec: RunnerSpec
    exclusive: bool = False
    """Every job wants a node to itself."""
    runs_commands: bool = False
    """A scheduler takes the commands themselves: each job needs its `Work`."""
    authority: bytes = b""
    """The certificates of `spec.ca_file`, for commands that run where that file is not."""

    def work(self, description: Description, token: str) -> Work:
        """What the command is; raises `RequestFaultError`."""
        spec = self.spec
        access = ApiAccess(urlsplit(spec.api_url).netloc, token, self.authority, spec.insecure)
        return work_of(description.record, description.secret_mounts, access)

    def job(self, container: Container, token: str, work: Work | None = None) -> JobSpec:
        """The job of one container. The token travels on standard input only."""
        spec = replace(self.spec, container_uuid=container.uuid, api_token=token)
        limit = container.max_run_seconds
        return JobSpec(
            name=container.uuid,
            argv=self.command,
            resources=container.resources,
            stdin=spec.to_json(),
            priority=container.priority,
            max_run_seconds=limit + RUNNER_MARGIN_SECONDS if limit else 0,
            partitions=container.partitions,
            preemptible=container.preemptible,
            exclusive=self.exclusive,
            properties=container.properties,
            work=work,
        )
