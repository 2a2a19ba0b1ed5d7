"""Submitting to Slurm through slurmrestd on its unix socket: no program is started for each job.

It takes the same arguments as sbatch and says the same thing in JSON, so what a job asks for is written in one
place. An argument that has no translation here (an operator's own, say) raises `NotTranslatable`, and sbatch
does it. The daemon and slurmrestd must run as the same user: the socket's owner is whose job it is.

Version 0.0.38 of the interface (Slurm 22.05) was seen working; the later ones differ as `_Dialect` says, by their
documentation.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodemanager.errors import SchedulerError


class NotTranslatable(Exception):
    """An argument of sbatch that this interface cannot be told."""


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """What slurmrestd answered to one submission: a job id, or Slurm's own words."""

    job_id: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class RestJob:
    """One submission: sbatch's arguments, each ``--key=value`` or ``--flag``, and the script."""

    arguments: tuple[str, ...]
    script: bytes


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a version of the interface wants things said."""

    version: str
    number: Callable[[int], object]
    environment: Callable[[Mapping[str, str]], object]
    never_requeue: Mapping[str, object]


def _plain(number: int) -> object:
    return number


def _marked(number: int) -> object:
    return {"set": True, "infinite": False, "number": number}


def _as_list(environment: Mapping[str, str]) -> object:
    return [f"{name}={value}" for name, value in environment.items()]


_DIALECTS = (
    # Its "requeue" is taken and has no effect, whatever the value; this key is in no document.
    _Dialect("v0.0.38", _plain, dict, {"no_requeue": True}),
    _Dialect("v0.0.40", _marked, _as_list, {"requeue": False}),
    _Dialect("v0.0.41", _marked, _as_list, {"requeue": False}),
    _Dialect("v0.0.42", _marked, _as_list, {"requeue": False}),
)

_TEXTS = {
    "job-name": "name",
    "comment": "comment",
    "partition": "partition",
    "constraint": "constraints",
    "output": "standard_output",
    "error": "standard_error",
    "chdir": "current_working_directory",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "array": "array",
}
_ENVIRONMENT = {"NODEMANAGER_SUBMITTED": "yes"}
"""It must not be empty; nothing of the daemon's own is passed on."""
_NUMBERS = {"time": "time_limit"}
_PLAIN_NUMBERS = {
    "ntasks": "tasks",
    "cpus-per-task": "cpus_per_task",
    "tmp": "temporary_disk_per_node",
    "nice": "nice",
}
_MIB = {"mem": "memory_per_node"}


class SlurmRest:
    """A slurmrestd. May be used by several threads: every call has connections of its own."""

    def __init__(self, socket_path: Path, timeout_seconds: float) -> None:
        self._path = socket_path
        self._timeout_seconds = timeout_seconds
        self._dialect: _Dialect | None = None

    def version(self) -> str:
        """The version of the interface that it speaks; raises `SchedulerError` when there is none we know."""
        return self._known_dialect().version

    def submit_all(
        self, jobs: Sequence[RestJob], at_once: int
    ) -> list[RestAnswer | SchedulerError]:
        """Submit several over `at_once` connections; what became of each, in their order.

        Raises `NotTranslatable` before anything is submitted.
        """
        dialect = self._known_dialect()
        bodies = [_body(job, dialect) for job in jobs]
        lines = [bodies[start::at_once] for start in range(min(at_once, len(bodies)))]
        answers: list[RestAnswer | SchedulerError] = [RestAnswer()] * len(bodies)
        with ThreadPoolExecutor(at_once, thread_name_prefix="slurmrestd") as pool:
            for start, line in enumerate(
                pool.map(lambda line: self._submit_line(dialect, line), lines)
            ):
                answers[start::at_once] = line
        return answers

    # Inside.

    def _known_dialect(self) -> _Dialect:
        if self._dialect is None:
            self._dialect = self._find_dialect()
        return self._dialect

    def _find_dialect(self) -> _Dialect:
        with closing(self._connect()) as connection:
            for dialect in _DIALECTS:
                status, _ = self._call(connection, "GET", f"/slurm/{dialect.version}/ping")
                if status == http.HTTPStatus.OK:
                    return dialect
        known = ", ".join(dialect.version for dialect in _DIALECTS)
        raise SchedulerError(f"slurmrestd at {self._path} speaks none of {known}")

    def _submit_line(
        self, dialect: _Dialect, bodies: Sequence[bytes]
    ) -> list[RestAnswer | SchedulerError]:
        """One after the other over one connection."""
        answers: list[RestAnswer | SchedulerError] = []
        with closing(self._connect()) as connection:
            for body in bodies:
                try:
                    answers.append(self._submit(connection, dialect, body))
                except SchedulerError as error:
                    answers.append(error)
        return answers

    def _submit(self, connection: _Connection, dialect: _Dialect, body: bytes) -> RestAnswer:
        url = f"/slurm/{dialect.version}/job/submit"
        status, answer = self._call(connection, "POST", url, body)
        job_id = answer.get("job_id")
        # A job that was taken and cannot start yet comes with an "error" that says so.
        if status == http.HTTPStatus.OK and isinstance(job_id, int) and job_id > 0:
            return RestAnswer(job_id=str(job_id))
        return RestAnswer(words=_words(answer) or f"HTTP status {status}")

    def _connect(self) -> _Connection:
        return _Connection(self._path, self._timeout_seconds)

    def _call(
        self, connection: _Connection, method: str, url: str, body: bytes = b""
    ) -> tuple[int, Mapping[str, Any]]:
        try:
            connection.request(method, url, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            answer = json.loads(content or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise SchedulerError(f"slurmrestd at {self._path} does not answer: {error}") from error
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            # It ends the connection after an error, and does not say so.
            connection.close()
        return response.status, answer if isinstance(answer, dict) else {}


class _Connection(http.client.HTTPConnection):
    """Over a unix socket; opened anew when it was closed."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """See the base class."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _body(job: RestJob, dialect: _Dialect) -> bytes:
    """The JSON of a submission; raises `NotTranslatable`."""
    wanted: dict[str, object] = {}
    for argument in job.arguments:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            raise NotTranslatable(argument)
        if equals and key in _TEXTS:
            wanted[_TEXTS[key]] = value
        elif equals and key in _PLAIN_NUMBERS:
            wanted[_PLAIN_NUMBERS[key]] = _number(argument, value)
        elif equals and key in _NUMBERS:
            wanted[_NUMBERS[key]] = dialect.number(_number(argument, value))
        elif equals and key in _MIB:
            wanted[_MIB[key]] = dialect.number(_number(argument, value.removesuffix("M")))
        elif argument == "--no-requeue":
            wanted |= dialect.never_requeue
        elif argument in ("--export=NIL", "--export=NONE"):
            pass
        else:
            raise NotTranslatable(argument)
    wanted["environment"] = dialect.environment(_ENVIRONMENT)
    try:
        script = job.script.decode("utf-8")
    except UnicodeDecodeError:
        raise NotTranslatable("a script that is not UTF-8") from None
    return json.dumps({"script": script, "job": wanted}).encode()


def _number(argument: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise NotTranslatable(argument) from None


def _words(answer: Mapping[str, Any]) -> str:
    """Slurm's own words: the same that sbatch prints."""
    errors = answer.get("errors")
    said = [str(e.get("error") or e.get("description") or "") for e in errors or () if e]
    return "; ".join(filter(None, said))
