"""Asking slurmctld, through the commands that come with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.commands import Answer, Call, Commands
from nodemanager.schedulers.slurm.options import SlurmOptions
from nodemanager.schedulers.slurm.words import Complaint, sort_out

PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "sacct")


class Controller:
    """Runs Slurm's commands. A controller that does not answer is a `SchedulerError` of every method."""

    def __init__(self, options: SlurmOptions, timeout_seconds: float) -> None:
        conf = options.conf or os.environ.get("SLURM_CONF", "")
        path = os.environ.get("PATH", os.defpath)
        environment = {
            "PATH": f"{options.commands}:{path}" if options.commands else path,
            **({"SLURM_CONF": conf} if conf else {}),
        }
        self._commands = Commands(timeout_seconds, environment)
        self._config: dict[str, str] | None = None

    @property
    def commands_run(self) -> int:
        """How many so far."""
        return self._commands.count

    def ask(self, *argv: str, stdin: bytes = b"") -> Answer:
        """The answer of one command, whatever its exit status."""
        return _heard(self._commands.run(*argv, stdin=stdin))

    def order(self, *argv: str, passing: Sequence[Complaint] = ()) -> str:
        """The output of a command that has to succeed; complaints of the kinds in `passing` are none."""
        answer = self.ask(*argv)
        if answer.status != 0 and sort_out(answer.words) in passing:
            return answer.output
        return answer.or_raise()

    def ask_all(self, calls: Sequence[Call], at_once: int) -> list[Answer]:
        """The answers of several, `at_once` at a time."""
        answers = []
        for result in self._commands.run_all(calls, at_once):
            if isinstance(result, SchedulerError):
                raise result
            answers.append(_heard(result))
        return answers

    def config(self, *, afresh: bool = False) -> Mapping[str, str]:
        """What `scontrol show config` says, by key; remembered."""
        if self._config is None or afresh:
            lines = self.order("scontrol", "show", "config").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line)
            self._config = {key.strip(): value.strip() for key, _, value in pairs}
        return self._config

    def number(self, key: str, default: int) -> int:
        """The number that a key of the config begins with."""
        word = self.config().get(key, "").split(" ")[0]
        return int(word) if word.isdigit() else default


def _heard(answer: Answer) -> Answer:
    if answer.status != 0 and sort_out(answer.words) is Complaint.SILENT:
        raise SchedulerError(f"{answer.argv[0]}: {answer.words}")
    return answer
