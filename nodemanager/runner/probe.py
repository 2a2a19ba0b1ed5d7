"""The runner that runs nothing: whether a container could run on this node, and a report about it.

Every check is made, whatever the others found, as long as it does not stand on one that failed. Each
tries once what the runner of a container would do in the same way, and leaves nothing behind but the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from nodemanager import __version__
from nodemanager.durable import sync_path
from nodemanager.errors import ApiError, ApiRefused, ApiUnavailable, ConfigError
from nodemanager.model import format_bytes
from nodemanager.runner.api import NOT_OURS, RunnerApi
from nodemanager.runner.engines import EngineError, find_engine
from nodemanager.runner.logs import RunnerLog
from nodemanager.runner.report import LINK_CLASS, Check, Line, Report, report_path
from nodemanager.runner.run import NODE_NAME
from nodemanager.runner.spec import API_STORE, RunnerSpec
from nodemanager.runner.stop import STOP_SIGNALS
from nodemanager.runner.store import DirectoryStore, StoreError
from nodemanager.runner.tree import make_private, remove_tree

CLOCK_SECONDS = 5.0
"""The API's clock is read to a second, and some servers look at it once a second only."""

_SAMPLE_BYTES = 64 * 1024


def probe(spec: RunnerSpec) -> int:
    """Look at everything and report; returns the exit status (see `Check`)."""
    # There is no command to stop in order: a signal ends us at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    log = RunnerLog()
    api = _ProbeApi.of(spec)
    try:
        report = Report(NODE_NAME, tuple(_look(spec, api)))
        for line in report.lines:
            log.say(f"{line.check.subject}: {line.problem or line.detail}")
        _leave(report, spec, api, log)
    finally:
        if isinstance(api, _ProbeApi):
            api.close()
    return report.exit_status


class _ProbeApi(RunnerApi):
    """The calls of a probe, which has no container."""

    @classmethod
    def of(cls, spec: RunnerSpec) -> _ProbeApi | ConfigError:
        """The error when the certificates to trust cannot be read here."""
        try:
            return cls(spec)
        except ConfigError as error:
            return error

    def ask_who(self) -> tuple[str, float | None]:
        """Who the token is, and by how many seconds this node's clock is ahead of the API's, if it tells."""
        before = time.time()
        response = self._request("GET", "/arvados/v1/users/current", None, "")
        after = time.time()
        user = json.loads(response.read())
        date = response.getheader("Date")
        with contextlib.suppress(TypeError, ValueError):
            told = parsedate_to_datetime(date or "").timestamp()
            return str(user["uuid"]), (before + after) / 2 - told
        return str(user["uuid"]), None

    def post(self, report: Report, uuid: str) -> None:
        """Put the report into a link of the token's owner."""
        properties = {"report": report.to_json()}
        link = {"link_class": LINK_CLASS, "name": uuid, "properties": properties}
        body = json.dumps({"link": link}).encode()
        self._json("POST", "/arvados/v1/links", body, "application/json")


def _look(spec: RunnerSpec, api: _ProbeApi | ConfigError) -> Iterator[Line]:
    yield Line(Check.RUNNER, f"arvados-node-manager {__version__}, as user {_user()}")
    lines = list(_look_at_api(spec, api))
    yield from lines
    if spec.store != API_STORE:
        yield _tried(Check.STORE, lambda: _use_store(spec))
    elif isinstance(api, _ProbeApi) and not any(line.problem for line in lines):
        yield _tried(Check.STORE, lambda: _upload(spec, api))
    yield _tried(Check.SCRATCH, lambda: _use_scratch(spec))
    yield _tried(Check.ENGINE, lambda: _engine(spec))
    for directory in spec.input_dirs:
        yield _tried(Check.INPUTS, partial(_readable, directory))


def _tried(check: Check, attempt: Callable[[], str]) -> Line:
    """The detail that `attempt` returns, or the words of its error."""
    try:
        return Line(check, attempt())
    except (OSError, StoreError, EngineError, ApiError) as error:
        return Line(check, problem=str(error))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# The API.


def _look_at_api(spec: RunnerSpec, api: _ProbeApi | ConfigError) -> Iterator[Line]:
    """The certificate, the API, the token and the clock, as far as one gets."""
    trusted = spec.ca_file or "the system's authorities"
    if isinstance(api, ConfigError):
        yield Line(
            Check.CERTIFICATE,
            problem=f"{trusted} cannot be read on this node ({api.__cause__}); it has to be there under the"
            " same path",
        )
        return
    ahead: float | None = None
    try:
        user, ahead = api.ask_who()
        token = Line(Check.TOKEN, f"accepted, as {user}")
    except ApiRefused as error:
        if error.status not in NOT_OURS:
            yield Line(
                Check.API, problem=f"what answers at {spec.api_url} is no Arvados API: {error}"
            )
            return
        token = Line(Check.TOKEN, problem=f"refused: {error}")
    except (ApiUnavailable, ValueError, KeyError, TypeError) as error:
        yield _unusable(spec, error, trusted)
        return
    checked = "not checked ([Arvados] insecure)" if spec.insecure else f"checked against {trusted}"
    yield Line(Check.CERTIFICATE, checked)
    yield Line(Check.API, f"{spec.api_url} answers")
    yield token
    if ahead is not None:
        yield _clock(ahead)


def _unusable(spec: RunnerSpec, error: Exception, trusted: str) -> Line:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Line(
            Check.CERTIFICATE,
            problem=f"that of {spec.api_url} does not pass ({cause.verify_message}), checked against"
            f" {trusted}",
        )
    return Line(
        Check.API,
        problem=f"{spec.api_url} cannot be used from this node: {cause or error}; look at name, address,"
        " port, firewall and, of an embedded server, [Api] address and advertise_url",
    )


def _clock(ahead: float) -> Line:
    if abs(ahead) <= CLOCK_SECONDS:
        return Line(Check.CLOCK, f"within {CLOCK_SECONDS:g} s of the API's")
    way = "ahead of" if ahead > 0 else "behind"
    return Line(
        Check.CLOCK,
        problem=f"this node's is {abs(ahead):.0f} s {way} the API's; keep both right by NTP",
    )


# The node.


def _use_store(spec: RunnerSpec) -> str:
    store = DirectoryStore(Path(spec.store), spec.container_uuid)
    store.begin()
    _write_and_read(store.log_directory / "sample")
    return f"{spec.store}: a file was written, synced, read and removed"


def _upload(spec: RunnerSpec, api: RunnerApi) -> str:
    """Files belong to containers, and a probe has none: that the API says so is all that can be seen."""
    try:
        api.write_file("log/sample", 0, os.urandom(_SAMPLE_BYTES), complete=True)
    except ApiRefused as error:
        if error.status not in (*NOT_OURS, 404):
            raise
        return "an upload reached the API, which refused it for lack of a container, as it should"
    return f"{spec.api_url} takes uploads"


def _use_scratch(spec: RunnerSpec) -> str:
    directory = Path(spec.scratch, f"{spec.container_uuid}.probe")
    try:
        make_private(directory)
        _write_and_read(directory / "sample")
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise StoreError(f"{spec.scratch} cannot be used on this node: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            remove_tree(directory)
    return f"{spec.scratch}: {format_bytes(free)} free"


def _write_and_read(path: Path) -> None:
    sample = os.urandom(_SAMPLE_BYTES)
    with path.open("xb") as file:
        file.write(sample)
        file.flush()
        os.fsync(file.fileno())
    sync_path(path.parent)
    found = path.read_bytes()
    path.unlink()
    if found != sample:
        raise StoreError(f"{path}: what was read is not what was written")


def _engine(spec: RunnerSpec) -> str:
    executable = find_engine(spec.engine, os.environ.get("PATH", os.defpath))
    return executable or "none: commands run as plain processes"


def _readable(path: str) -> str:
    # As a container's mount would find it: with its error when there is none.
    os.scandir(path).close()
    return path


# The report.


def _leave(report: Report, spec: RunnerSpec, api: _ProbeApi | ConfigError, log: RunnerLog) -> None:
    """Leave it in every place that works; the exit status is for when none does."""
    if spec.store != API_STORE and report.is_well(Check.STORE):
        path = report_path(Path(spec.store), spec.container_uuid)
        unfinished = path.with_suffix(".partial")
        try:
            unfinished.write_text(report.to_json(), "utf-8")
            sync_path(unfinished)
            unfinished.rename(path)
            sync_path(path.parent)
        except OSError as error:
            log.say(f"the report could not be left in {path}: {error}")
    if isinstance(api, _ProbeApi) and report.is_well(Check.TOKEN):
        try:
            api.post(report, spec.container_uuid)
        except ApiError as error:
            # The token of a dispatcher may do no more than its work.
            log.say(f"the report could not be posted: {error}")
