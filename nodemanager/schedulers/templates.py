"""What an operator adds to the submission of every job: arguments with letters that stand for its properties.

The letters are those of Arvados' dispatcher for Slurm, so that its argument lists can be taken over. The
text is split into words as a shell would; nothing of a job is split again or read by a shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.config.kinds import Kind
from nodemanager.fit import fits, shares_partition
from nodemanager.model import NodeSize
from nodemanager.schedulers.base import JobSpec

_MIB = 1 << 20
_LETTER = re.compile(r"%(.?)", re.DOTALL)
_MEANINGS = {
    "%": "a percent sign",
    "C": "cores",
    "G": "GPUs",
    "I": "the name of the cheapest size that could hold the job",
    "M": "RAM in MiB, rounded up",
    "P": "partitions, with commas between",
    "T": "scratch space in MiB, rounded up",
    "U": "the container's UUID",
    "W": "the time limit in minutes, rounded up",
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words of a template. `ArgumentsKind` makes them of an operator's text."""

    words: tuple[str, ...] = ()

    @property
    def names_job(self) -> bool:
        """They differ from job to job (%U): no two jobs can share a submission."""
        return self._uses("U")

    def refusal(self, spec: JobSpec, sizes: Sequence[NodeSize]) -> str:
        """Why they cannot be made for this job; empty when they can."""
        if sizes and self._uses("I") and cheapest(spec, sizes) is None:
            return f"no size is large enough: there are {', '.join(size.name for size in sizes)}"
        return ""

    def expand(self, spec: JobSpec, sizes: Sequence[NodeSize]) -> tuple[str, ...]:
        """The words for this job, which `refusal` has nothing against.

        A word with a property that the job does not have (no partition, no time limit, no size) is left out,
        and so is the option before it whose value it would have been. `sizes` are cheapest first.
        """
        values = _values(spec, sizes)
        made: list[str] = []
        for word in self.words:
            letters = _LETTER.findall(word)
            if all(values[letter] for letter in letters):
                made.append(_LETTER.sub(lambda match: values[match[1]], word))
            elif not word.startswith("-") and made and made[-1].startswith("-"):
                made.pop()
        return tuple(made)

    def _uses(self, letter: str) -> bool:
        return any(letter in _LETTER.findall(word) for word in self.words)


@dataclass(frozen=True)
class ArgumentsKind(Kind):
    """Arguments of a submission as an operator writes them in the config file."""

    @property
    def word(self) -> str:
        """For the reference page."""
        return "arguments"

    def parse(self, text: str) -> Arguments:
        """Split into words; `ValueError` for quotes that do not end and letters that mean nothing."""
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"expected words as for a shell: {error}") from error
        for word in words:
            for letter in _LETTER.findall(word):
                if letter not in _MEANINGS:
                    raise ValueError(f"%{letter} means nothing in {word!r}; {_known()}")
        return Arguments(words)

    def show(self, value: Any) -> str:
        """The text that `parse` would make the same of."""
        return shlex.join(value.words)


def cheapest(spec: JobSpec, sizes: Sequence[NodeSize]) -> NodeSize | None:
    """The first of `sizes`, which are cheapest first, that could hold the job; None if none could."""
    for size in sizes:
        if (
            fits(spec.resources, size.resources)
            and shares_partition(spec.partitions, size.partitions)
            and (spec.preemptible or not size.preemptible)
        ):
            return size
    return None


def in_mib(amount_bytes: int) -> int:
    """Whole MiB that hold so many bytes."""
    return -(-amount_bytes // _MIB)


def in_minutes(seconds: int) -> int:
    """Whole minutes that hold so many seconds."""
    return -(-seconds // 60)


def _values(spec: JobSpec, sizes: Sequence[NodeSize]) -> dict[str, str]:
    """What each letter stands for; empty where the job has no such thing."""
    size = cheapest(spec, sizes)
    resources = spec.resources
    return {
        "%": "%",
        "C": str(max(resources.cores, 1)),
        "G": str(resources.gpus),
        "I": "" if size is None else size.name,
        "M": str(in_mib(resources.ram_bytes)),
        "P": ",".join(spec.partitions),
        "T": str(in_mib(resources.scratch_bytes)),
        "U": spec.name,
        "W": str(in_minutes(spec.max_run_seconds)) if spec.max_run_seconds else "",
    }


def _known() -> str:
    return "known are " + "; ".join(f"%{letter} {words}" for letter, words in _MEANINGS.items())
