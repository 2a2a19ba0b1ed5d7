"""What a probe found on its node, and the ways in which it says so.

A probe is a runner that runs no container but looks whether one could run (`RunnerSpec.probe`). It leaves
its report where logs of its container would be, or posts it to the API, and whatever becomes of that, its
exit status names the first check that failed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nodemanager.errors import NodeManagerError

LINK_CLASS = "probe"
"""Of the link in whose properties a report is posted; its name is the UUID in the specification."""

_FILE_NAME = "probe.json"


class Check(Enum):
    """What is looked at, in this order; the exit status of a probe in which it was the first to fail.

    The statuses are none that shells, runners, sysexits.h or batch schedulers give a meaning to.
    """

    RUNNER = 81
    CERTIFICATE = 82
    API = 83
    TOKEN = 84
    CLOCK = 85
    STORE = 86
    SCRATCH = 87
    ENGINE = 88
    INPUTS = 89

    @property
    def subject(self) -> str:
        """In the words of `--check`."""
        return _SUBJECTS[self]

    @classmethod
    def of_status(cls, status: int) -> Check | None:
        """The check that failed in a probe that exited with `status`."""
        return next((check for check in cls if check.value == status), None)


_SUBJECTS = {
    Check.RUNNER: "runner",
    Check.CERTIFICATE: "certificate",
    Check.API: "API",
    Check.TOKEN: "token",
    Check.CLOCK: "clock",
    Check.STORE: "store",
    Check.SCRATCH: "scratch",
    Check.ENGINE: "container engine",
    Check.INPUTS: "input directory",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at; `problem` empty means that it is well."""

    check: Check
    detail: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that one probe found on its node."""

    node: str
    lines: tuple[Line, ...]

    @property
    def exit_status(self) -> int:
        """0 when all is well."""
        return next((line.check.value for line in self.lines if line.problem), 0)

    def is_well(self, check: Check) -> bool:
        """Whether this was looked at and is well."""
        return any(line.check is check and not line.problem for line in self.lines)

    def to_json(self) -> str:
        """The form in which it is left. It holds no secret."""
        lines = [[line.check.name, line.detail, line.problem] for line in self.lines]
        return json.dumps({"node": self.node, "lines": lines})

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of `to_json`; `NodeManagerError` for anything else."""
        try:
            value = json.loads(text)
            lines = tuple(Line(Check[name], str(a), str(b)) for name, a, b in value["lines"])
            return cls(str(value["node"]), lines)
        except (ValueError, KeyError, TypeError) as error:
            raise NodeManagerError(f"a probe left no report that can be read: {error!r}") from error


def report_path(store: Path, uuid: str) -> Path:
    """Where the report lies in a store that is a directory; the folder ``uuid`` is the probe's alone."""
    return store / uuid / "log" / _FILE_NAME
