"""The command itself: from its record to how it ended."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nodemanager.model import resources_of
from nodemanager.mount_plan import Mount, MountPlan, RequestFaultError, with_mount
from nodemanager.outcome import End
from nodemanager.runner import ending, engines, mounts
from nodemanager.runner.cgroup import read_memory
from nodemanager.runner.logs import DRAIN_SECONDS, Capture
from nodemanager.runner.process import Command, Launch, StartError, run_cleanup
from nodemanager.runner.spec import RunnerSpec
from nodemanager.runner.stop import Stop, Why
from nodemanager.runner.store import Store
from nodemanager.work import (
    TOKEN_VARIABLE,
    api_environment,
    asks_for_api,
    command_of,
    environment_of,
)

_NODE_FAULTS = (errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ENFILE, errno.EMFILE, errno.ESTALE)


class Execution:
    """One command, once. `plan` has been placed below `root`."""

    def __init__(
        self,
        spec: RunnerSpec,
        record: Mapping[str, Any],
        plan: MountPlan,
        root: Path,
        store: Store,
        *,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._record = record
        self._plan = plan
        self._root = root
        self._store = store
        self._say = say
        self._resources = resources_of(record)
        scheduling = record.get("scheduling_parameters") or {}
        self._limit_seconds = int(scheduling.get("max_run_time") or 0)

    def run(self, command: Command, stop: Stop) -> End:
        """Start it, wait for it, stop it when that is asked for or its time is over.

        Raises `RequestFaultError` or `OSError` when it cannot be started, `EngineError`,
        `KeeperLostError`, and `FencedError` when the container is no longer ours.
        """
        if stop.is_requested():
            stop.raise_if_fenced()
            return ending.end_of_stop(stop)
        executable = engines.find_engine(self._spec.engine, os.environ.get("PATH", os.defpath))
        launch = engines.launch(self._spec.engine, executable, self._job())
        before = read_memory()
        try:
            captures = self._start(command, launch)
            began = time.monotonic()
            returncode, stopped = self._wait(command, stop, launch, began)
            until = time.monotonic() + DRAIN_SECONDS
            for capture in captures:
                capture.finish(until)
            stop.raise_if_fenced()
            # A command that was done before it was told to stop has done its work.
            if stop.is_requested() and (stopped or returncode != 0):
                return ending.end_of_stop(stop, self._limit_seconds, time.monotonic() - began)
            measures = ending.Measures(before, read_memory(), self._resources.ram_bytes)
            wrapped = self._spec.engine != "none"
            end = ending.end_of_process(returncode, measures, wrapped=wrapped)
            uuid = self._spec.container_uuid
            if question := engines.end_arguments(self._spec.engine, executable, uuid):
                end = ending.end_by_engine(question, os.environ, measures.ram_bytes) or end
            return end
        finally:
            run_cleanup(launch.cleanup, os.environ)

    def _job(self) -> engines.Job:
        """What to run and with which environment; raises `RequestFaultError`."""
        command = command_of(self._record)
        private = self._spec.engine != "none"
        plan = self._plan
        wants_api = asks_for_api(self._record)
        if wants_api and private and self._spec.ca_file:
            authority = Mount(self._spec.ca_file, "file", bind_from=self._spec.ca_file)
            plan = with_mount(plan, authority)
        ids = f"{os.geteuid()}:{os.getegid()}" if os.geteuid() != 0 else ""
        return engines.Job(
            uuid=self._spec.container_uuid,
            command=command,
            environment=self._environment(wants_api=wants_api),
            token=self._spec.api_token if wants_api else "",
            image=str(self._record.get("container_image") or ""),
            plan=plan,
            root=self._root,
            scratch=Path(self._spec.scratch),
            ram_bytes=self._resources.ram_bytes,
            cores=self._resources.cores,
            user=ids,
            front=dict(os.environ),
            interactive=self._plan.stdin is not None,
        )

    def _environment(self, *, wants_api: bool) -> dict[str, str]:
        """The base, then what was asked for, then what nobody may change."""
        node_path = os.environ.get("PATH", "")
        environment = engines.base_environment(self._spec.engine, self._root, node_path)
        environment |= environment_of(self._record)
        if wants_api:
            environment |= api_environment(
                urlsplit(self._spec.api_url).netloc,
                ca_file=self._spec.ca_file or "",
                insecure=self._spec.insecure,
            )
            environment.pop(TOKEN_VARIABLE, None)
        return environment

    def _start(self, command: Command, launch: Launch) -> list[Capture]:
        """Open the three streams and start the command."""
        captures = []
        stdin = mounts.open_stdin(self._plan, self._root, self._store, self._spec.input_dirs)
        redirected: dict[str, int] = {}
        outputs = []
        for name, path in (("stdout", self._plan.stdout), ("stderr", self._plan.stderr)):
            if not path:
                file = self._store.log_directory / f"{name}.txt"
                captures.append(Capture(file, self._spec.max_log_bytes))
                outputs.append(captures[-1].descriptor)
                continue
            # Two streams into one path share one open file.
            if path not in redirected:
                redirected[path] = mounts.open_stream(path, self._root, name)
            outputs.append(redirected[path])
        try:
            pid = command.start(launch, stdin, outputs[0], outputs[1])
        except StartError as error:
            words = f"the command cannot be started: {error}"
            if error.number in _NODE_FAULTS or self._spec.engine != "none":
                raise OSError(error.number, words) from error
            raise RequestFaultError(words) from error
        for descriptor in (stdin, *redirected.values()):
            os.close(descriptor)
        for capture in captures:
            capture.started()
        self._say(f"started as process {pid}")
        return captures

    def _wait(self, command: Command, stop: Stop, launch: Launch, began: float) -> tuple[int, bool]:
        """The status of the process, and whether we stopped it."""
        deadline = began + self._limit_seconds if self._limit_seconds else None
        next_step = deadline
        terminated = killed = False
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline and not stop.is_requested():
                stop.request(Why.TIME_LIMIT, f"max_run_time of {self._limit_seconds} s is over")
            if stop.is_requested() and not terminated:
                self._say(f"stopping the command: {stop.detail}")
                command.terminate()
                terminated, next_step = True, now + self._spec.kill_grace
            elif terminated and not killed and next_step is not None and now >= next_step:
                self._say(f"killing the command: still there {self._spec.kill_grace:g} s later")
                run_cleanup(launch.cleanup, os.environ)
                command.kill()
                killed, next_step = True, None
            pause = None if next_step is None else max(0.0, next_step - time.monotonic())
            stop.wait(pause, [command.fileno()])
            if command.has_ended():
                return command.end(), terminated
