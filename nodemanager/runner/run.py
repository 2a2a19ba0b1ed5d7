"""One container, from the claim of Running to the report of its end.

The order is what keeps the promises of the design page: the command starts only after the API confirmed
Running with this runner's own random id, and Complete is reported only when the output is durable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodemanager.errors import ApiRefused
from nodemanager.model import NODE_VARIABLE, ContainerState
from nodemanager.mount_plan import MountPlan, RequestFaultError, plan_mounts
from nodemanager.outcome import End, EndKind, Outcome, judge, spoilt
from nodemanager.output_tree import check_output
from nodemanager.runner import mounts
from nodemanager.runner.api import Patience, RunnerApi
from nodemanager.runner.ending import end_of_stop
from nodemanager.runner.engines import EngineError
from nodemanager.runner.execute import Execution
from nodemanager.runner.heartbeat import FINAL_STATES, Heartbeat
from nodemanager.runner.logs import RunnerLog
from nodemanager.runner.process import Command, KeeperLostError
from nodemanager.runner.spec import API_STORE, RunnerSpec
from nodemanager.runner.stop import FencedError, Stop, StoppedError
from nodemanager.runner.store import ApiStore, DirectoryStore, Store, StoreError
from nodemanager.runner.tree import make_private, remove_tree

EXIT_REPORTED = 0
EXIT_NOT_RECORDED = 70
EXIT_NOT_OURS = 77

NODE_NAME = os.environ.get(NODE_VARIABLE) or os.uname().nodename
"""Told to users in `runtime_status`, beside whatever else is there."""


def run(spec: RunnerSpec, command: Command, stop: Stop) -> int:
    """Run the container of `spec`; returns the exit status of the runner."""
    log = RunnerLog()
    api = RunnerApi(spec)
    try:
        attempt = _Attempt(spec, api, command, stop, log)
        attempt.claim()
        return attempt.to_its_end()
    except (FencedError, StoppedError, _NotOursError) as error:
        log.say(f"{spec.container_uuid} is not ours: {error}")
        return EXIT_NOT_OURS
    finally:
        command.close()
        api.close()


class _NotOursError(Exception):
    """The API refused to make this the runner of the container."""


class _Attempt:
    """The one attempt that a container is."""

    def __init__(
        self, spec: RunnerSpec, api: RunnerApi, command: Command, stop: Stop, log: RunnerLog
    ) -> None:
        self._spec = spec
        self._api = api
        self._command = command
        self._stop = stop
        self._log = log
        # Three ways to repeat a call. 401 and 403 are repeated for a while once we are confirmed, but not
        # before, nor for the files of others; what comes before the command yields to a stop.
        fenced_after = spec.fenced_after
        self._yielding = Patience(stop, log.say, preparing=True)
        self._fetching = Patience(stop, log.say, fenced_after=fenced_after, preparing=True)
        self._patience = Patience(stop, log.say, fenced_after=fenced_after)
        self._root = Path(spec.scratch, spec.container_uuid)
        self._private = Path(spec.scratch, f"{spec.container_uuid}.runner")
        self._store = self._make_store()
        self._output = ""

    def claim(self) -> None:
        """Become the runner of this container, or raise `_NotOursError` or `StoppedError`.

        An unclear answer is cleared up by asking again with the same id, which is harmless.
        """
        attributes = {
            "state": ContainerState.RUNNING.value,
            "runner_id": os.urandom(16).hex(),
            "log": self._store.log_location,
            "runtime_status": {"node": NODE_NAME},
        }
        try:
            self._yielding(lambda: self._api.update(attributes))
        except ApiRefused as error:
            raise _NotOursError(str(error)) from error

    def to_its_end(self) -> int:
        """Run the container that is ours now, and report. Whatever goes wrong is an end like any other."""
        self._log.say(f"container {self._spec.container_uuid}, engine {self._spec.engine}")
        heartbeat = Heartbeat(self._spec, self._api.twin(), self._stop)
        heartbeat.start()
        try:
            outcome = self._guarded()
            self._log.say(f"ends {outcome.state.value}: {outcome.error or 'exit 0'}")
            outcome = self._finish_logs(outcome)
            status = self._report(outcome)
        finally:
            heartbeat.finish()
            self._command.close()
            self._clean_up()
        return status

    def _guarded(self) -> Outcome:
        try:
            return self._run()
        except (RequestFaultError, UnicodeError) as error:
            return Outcome(ContainerState.PERMFAIL, f"the request is at fault: {error}")
        except (EngineError, StoreError, KeeperLostError, OSError, ApiRefused) as error:
            return _infrastructure(str(error))
        except StoppedError:
            return judge(self._or_cancelled(end_of_stop(self._stop)))
        except FencedError:
            raise
        except Exception as error:
            # A fault of ours must not leave the container Running for ever.
            return _infrastructure(f"runner: {error!r}")

    def _run(self) -> Outcome:
        make_private(self._private)
        self._store.begin()
        self._log.attach(self._store.log_directory)
        record = self._fetching(self._api.container)
        if record["state"] in FINAL_STATES:
            raise FencedError(f"became {record['state']} meanwhile")
        if int(record.get("priority") or 0) == 0:
            return judge(End(EndKind.CANCELLED))
        plan = self._make_mounts(record)
        execution = Execution(self._spec, record, plan, self._root, self._store, say=self._log.say)
        end = self._or_cancelled(execution.run(self._command, self._stop))
        outcome = judge(end, frozenset(self._spec.tempfail_exits))
        self._log.say(f"the command ended: {outcome.error or 'exit 0'}")
        return self._keep_output(outcome, plan)

    def _make_store(self) -> Store:
        uuid = self._spec.container_uuid
        if self._spec.store != API_STORE:
            return DirectoryStore(Path(self._spec.store), uuid)
        logs = self._private / "log"
        return ApiStore(
            self._api,
            uuid,
            logs,
            patience=self._patience,
            reading=self._yielding,
            say=self._log.say,
        )

    def _make_mounts(self, record: Mapping[str, Any]) -> MountPlan:
        plan = plan_mounts(record, self._fetching(self._api.secret_mounts))
        make_private(self._root)
        (self._root / "tmp").mkdir()
        bind = self._spec.engine != "none"
        plan = mounts.place(plan, self._root, self._store, self._spec.input_dirs, bind=bind)
        for mount in plan.mounts:
            self._log.say(f"mount {mounts.describe(mount)}")
        return plan

    def _or_cancelled(self, end: End) -> End:
        """A signal from outside may be a scheduler's way to say that the container was cancelled."""
        if end.kind is not EndKind.SIGNALLED:
            return end
        state, priority = self._patience(self._api.state)
        if state in FINAL_STATES:
            raise FencedError(f"became {state} meanwhile")
        return End(EndKind.CANCELLED) if priority == 0 else end

    def _keep_output(self, outcome: Outcome, plan: MountPlan) -> Outcome:
        """Store what is under `output_path`, on every end; Complete depends on it."""
        directory = self._root / plan.output_path.lstrip("/")
        try:
            entries = check_output(directory, plan.output_path)
            self._store.keep_output(directory, entries, move=not self._spec.keep_scratch)
        except RequestFaultError as error:
            return spoilt(outcome, Outcome(ContainerState.PERMFAIL, str(error), exit_code=0))
        except (StoreError, OSError) as error:
            return spoilt(outcome, _infrastructure(str(error)))
        self._output = self._store.output_location
        self._log.say(f"output: {len(entries)} entries in {self._output}")
        return outcome

    def _finish_logs(self, outcome: Outcome) -> Outcome:
        try:
            self._store.finish_logs()
        except StoreError as error:
            return spoilt(outcome, _infrastructure(str(error)))
        return outcome

    def _report(self, outcome: Outcome) -> int:
        """Write the end to the API, however long that takes; the same report again is harmless."""
        attributes = outcome.as_attributes() | {"log": self._store.log_location}
        if self._output:
            attributes["output"] = self._output
        attributes["runtime_status"] = {**attributes.get("runtime_status", {}), "node": NODE_NAME}
        try:
            self._patience(lambda: self._api.update(attributes))
        except ApiRefused as error:
            return self._report_refused(str(error))
        self._log.say(f"reported {outcome.state.value}")
        return EXIT_REPORTED

    def _report_refused(self, words: str) -> int:
        state, _priority = self._patience(self._api.state)
        if state in FINAL_STATES:
            self._log.say(f"not reported, it is {state} already: {words}")
            return EXIT_REPORTED
        try:
            plain = _infrastructure(f"its report was refused: {words}").as_attributes()
            self._patience(lambda: self._api.update(plain))
        except ApiRefused as error:
            # The dispatcher sees a job that ended without a report, and says so.
            self._log.say(f"not reported: {error}")
            return EXIT_NOT_RECORDED
        return EXIT_REPORTED

    def _clean_up(self) -> None:
        """Remove what is on the node; the private directory holds nothing that anybody could want."""
        for path in (self._private,) if self._spec.keep_scratch else (self._private, self._root):
            try:
                remove_tree(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._log.say(f"scratch {path} could not be removed: {error}")


def _infrastructure(words: str) -> Outcome:
    return judge(End(EndKind.SCHEDULER_ERROR, detail=words))
