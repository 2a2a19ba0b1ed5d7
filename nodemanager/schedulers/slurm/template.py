"""Arguments of sbatch that an operator writes with letters for what a job asks for.

The letters and rules are those of crunch-dispatch-slurm 3.2 (SbatchArgumentsList), so that a site's list can
be taken over as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.errors import ConfigError
from nodemanager.model import NodeSize

LETTERS: Mapping[str, str] = {
    "C": "cores",
    "G": "GPUs",
    "I": "the cloud's name of the cheapest node size that holds the job",
    "M": "RAM in MiB, rounded up, with `reserve_ram`",
    "P": "partitions, joined by commas",
    "T": "scratch space in MiB, rounded up",
    "U": "the job's name: a container's UUID, or an array's name",
    "W": "the time limit in minutes, rounded up",
}

_PLACE = re.compile(r"%(.?)", re.DOTALL)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job asks for, in Slurm's units."""

    name: str
    cores: int
    ram_bytes: int
    scratch_bytes: int = 0
    gpus: int = 0
    partitions: tuple[str, ...] = ()
    seconds: int = 0
    """0 for no limit."""
    size: NodeSize | None = None

    @property
    def ram_mib(self) -> int:
        """Never 0, which to Slurm means all that a node has."""
        return max(1, _up(self.ram_bytes, _MIB))

    @property
    def minutes(self) -> int:
        """0 for no limit."""
        return _up(self.seconds, 60)

    def value(self, letter: str) -> str:
        """What stands for the letter."""
        match letter:
            case "C":
                return str(max(1, self.cores))
            case "G":
                return str(self.gpus)
            case "I":
                return self.size.cloud_name if self.size is not None else ""
            case "M":
                return str(self.ram_mib)
            case "P":
                return ",".join(self.partitions)
            case "T":
                return str(_up(self.scratch_bytes, _MIB))
            case "U":
                return self.name
            case "W":
                return str(self.minutes)
            case _:
                return letter


@dataclass(frozen=True, slots=True)
class ArgumentTemplate:
    """A list of arguments with letters in them."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, option: str, text: str) -> ArgumentTemplate:
        """Read an option; quotes are as in a shell. `ConfigError` for a letter that is not known."""
        where = f"[Scheduler] {option}"
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigError(f"{where}: {error}; quotes are as in a shell") from error
        for word in words:
            for letter in _PLACE.findall(word):
                if letter not in LETTERS and letter != "%":
                    raise ConfigError(
                        f"{where}: unknown letter %{letter} in {word}; known are "
                        f"{', '.join('%' + known for known in LETTERS)} and %%"
                    )
        return cls(words)

    def asks_for(self, letter: str) -> bool:
        """Whether the letter is in one of the arguments."""
        return any(letter in _PLACE.findall(word) for word in self.words)

    def arguments(self, wanted: Wanted) -> list[str]:
        """The arguments for a job; those that would name no partition or no time limit are left out."""
        kept = []
        for word in self.words:
            letters = _PLACE.findall(word)
            if ("W" in letters and not wanted.minutes) or (
                "P" in letters and not wanted.partitions
            ):
                continue
            kept.append(_PLACE.sub(lambda place: wanted.value(place[1]), word))
        return kept


def _up(amount: int, unit: int) -> int:
    return -(-amount // unit)
