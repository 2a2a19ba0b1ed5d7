"""The script that a batch scheduler keeps and starts for us: of one job, or of an array of them.

Everything in it is quoted for the shell or is a name that was checked, and nothing in it is secret: a
scheduler shows scripts to operators and keeps them in databases. Which task of an array is which job is written
in the script itself, so that a daemon that has forgotten finds out by asking the scheduler for it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nodemanager.model import NODE_VARIABLE
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.jobfiles import JobFiles

JOB_VARIABLE = "NODEMANAGER_JOB"
"""In a job's environment: its name."""

_MARK = "# arvados-node-manager jobs: "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Tasks:
    """How a scheduler numbers the tasks of an array."""

    variable: str
    """In a task's environment: its number."""
    first: int
    """The number of the first task."""


@dataclass(frozen=True, slots=True)
class Guard:
    """How a shell has to stand between a scheduler and the job, where `exec` will not do."""

    warning: str
    """The signal that means: KILL comes soon. The job gets TERM instead; whatever its exit status is then, the
    shell dies of KILL, so that the scheduler knows an end that was ordered from one that was not."""
    ignored: tuple[str, ...] = ()
    """Other signals that the scheduler sends and the job shall not die of."""
    reserved: tuple[int, ...] = ()
    """Exit statuses that are orders to the scheduler: they become `NOT_RESERVED`."""


NOT_RESERVED = 1


def refusal(spec: JobSpec, prefix: str) -> str:
    """Why a job can be in no script; empty when it can."""
    if not spec.name.startswith(prefix) or not _NAME.fullmatch(spec.name):
        return f"a job's name is {prefix} and letters, digits, dots, dashes"
    if not spec.argv or not spec.argv[0] or any("\0" in word for word in spec.argv):
        return "its command is empty or contains a NUL"
    return ""


def render(
    specs: Sequence[JobSpec],
    files: JobFiles,
    tasks: Tasks | None = None,
    guard: Guard | None = None,
    node_variable: str = "",
) -> bytes:
    """The script of one job, or, with `tasks`, of an array whose jobs are equal but for name and input.

    `refusal` has nothing against any of them. `node_variable` is where the scheduler says which node it is, if
    that need not be the machine's own name. Without a `guard` the job takes the shell's place.
    """
    names = [spec.name for spec in specs]
    argv = shlex.join(specs[0].argv)
    directory = shlex.quote(str(files.directory))
    suffix = files.path("").name
    lines = ["#!/bin/sh", _MARK + " ".join(names), "umask 077"]
    if tasks is None:
        lines.append(f"set -- {names[0]}")
    else:
        lines.append(f"set -- {' '.join(names)}")
        lines.append(f'shift "$(({tasks.variable} - {tasks.first}))"')
    command = f'exec {argv} < {directory}/"$1"{suffix}'
    lines += [
        f"PATH=${{PATH:-{_DEFAULT_PATH}}}",
        f"{JOB_VARIABLE}=$1",
        f"export PATH {JOB_VARIABLE}",
        *([f"export {NODE_VARIABLE}=${node_variable}"] if node_variable else []),
        *([command] if guard is None else _guarded(command, guard)),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def names_in(script: str) -> tuple[str, ...]:
    """The names of the jobs of a script of ours, in the order of their tasks; none if it is not ours."""
    for line in script.splitlines():
        if line.startswith(_MARK):
            names = tuple(line.removeprefix(_MARK).split())
            return names if all(_NAME.fullmatch(name) for name in names) else ()
    return ()


def _guarded(command: str, guard: Guard) -> list[str]:
    """Run `command` as a child of the shell, in the same process group: a signal to the group reaches both."""
    ignored = " ".join((guard.warning, *guard.ignored))
    cases = "|".join(map(str, guard.reserved))
    return [
        # The child inherits that it ignores these; the shell takes the warning up again.
        f"trap '' {ignored}",
        f"( {command} ) &",
        "child=$!",
        "warned=",
        f"trap 'warned=1; kill -TERM \"$child\" 2> /dev/null' {guard.warning}",
        # A signal ends `wait` early.
        'while wait "$child"; status=$?; kill -0 "$child" 2> /dev/null; do :; done',
        '[ -z "$warned" ] || kill -KILL $$',
        *([f"case $status in {cases}) status={NOT_RESERVED} ;; esac"] if cases else []),
        "exit $status",
    ]
