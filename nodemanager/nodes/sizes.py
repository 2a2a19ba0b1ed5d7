"""Which sizes of node can be booted: `[Size NAME]` sections over Arvados' InstanceTypes and the cloud's list.

Pure. A section may say everything itself. What it does not say comes from the InstanceType of its name if
there is one, and otherwise from the size in the cloud's list whose id or name is its `instance_type`. An
InstanceType without a section is a size as it is; a size of the cloud's list without a section is none: a cloud
has hundreds, and booting the cheapest of them would be a guess.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nodemanager.clouds.base import CloudSize
from nodemanager.config import Size
from nodemanager.config.sources import Problem
from nodemanager.errors import ConfigError
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.cluster_config import InstanceType

T = TypeVar("T")

MIB = 2**20
MB = 10**6
MB_PER_GB = 1000


def needs_cloud_list(sections: Mapping[str, Size], types: Iterable[InstanceType]) -> bool:
    """Whether `node_sizes` has to know the cloud's list."""
    names = {each.name for each in types}
    return any(name not in names and not _says_all(section) for name, section in sections.items())


def node_sizes(
    sections: Mapping[str, Size],
    types: Sequence[InstanceType],
    cloud_sizes: Sequence[CloudSize],
    *,
    mem_scaling: float,
    path: str,
) -> tuple[NodeSize, ...]:
    """Every size that can be booted, cheapest first, then by name.

    RAM that a cloud or Arvados advertises is multiplied by `mem_scaling`, since a part of it is never seen
    by containers (old manager, ticket 11139); RAM that a section gives is not. `cloud_sizes` may be empty
    unless `needs_cloud_list`. Raises `ConfigError`, with a line for each thing that is wrong in the config
    file at `path`.
    """
    if not sections and not types:
        raise ConfigError(
            f"{path}: no valid node sizes are configured; write a [Size NAME] section for each kind of"
            " node, NAME being the cloud's own name for it, or set [Cloud] cluster_config"
        )
    by_type = {each.name: _of_type(each, mem_scaling) for each in types}
    by_word = {each.name: each for each in reversed(cloud_sizes)}
    by_word |= {each.id: each for each in reversed(cloud_sizes)}
    problems: list[Problem] = []
    sizes: list[NodeSize] = []
    for name in dict.fromkeys((*by_type, *sections)):
        section = sections.get(name, Size())
        known = by_type.get(name)
        if known is None and not _says_all(section):
            listed = by_word.get(section.instance_type or name)
            known = _of_cloud(listed, mem_scaling) if listed else None
        figures = _over(section, known or _Figures())
        size = figures.node_size(name, section.partitions)
        if size is not None:
            sizes.append(size)
        elif known is None:
            sentence = _unknown(section.instance_type or name, by_word, figures.lacking())
            problems.append(Problem(path, sentence, f"Size {name}", "instance_type"))
        else:
            sentence = "is missing, and the cloud does not tell it"
            problems += [Problem(path, sentence, f"Size {name}", o) for o in figures.lacking()]
    if problems:
        raise ConfigError("\n".join(str(problem) for problem in problems))
    return tuple(sorted(sizes, key=lambda size: (size.price, size.name)))


@dataclass(frozen=True, slots=True)
class _Figures:
    """What is known of a size so far."""

    cores: int | None = None
    ram_bytes: int | None = None
    """What containers can have."""
    price: float | None = None
    scratch_bytes: int = 0
    gpus: int = 0
    preemptible: bool = False
    instance_type: str = ""

    def lacking(self) -> list[str]:
        """The options without which there is no size."""
        figures = (("cores", self.cores), ("ram", self.ram_bytes), ("price", self.price))
        return [option for option, figure in figures if figure is None]

    def node_size(self, name: str, partitions: tuple[str, ...]) -> NodeSize | None:
        """The size, unless something is lacking."""
        if self.cores is None or self.ram_bytes is None or self.price is None:
            return None
        return NodeSize(
            name=name,
            resources=Resources(self.cores, self.ram_bytes, self.scratch_bytes, self.gpus),
            price=self.price,
            instance_type=self.instance_type or name,
            preemptible=self.preemptible,
            partitions=partitions,
        )


def _of_type(each: InstanceType, mem_scaling: float) -> _Figures:
    return _Figures(
        cores=each.cores,
        ram_bytes=int(each.ram_bytes * mem_scaling),
        price=each.price,
        scratch_bytes=each.scratch_bytes,
        gpus=each.gpus,
        preemptible=each.preemptible,
        instance_type=each.provider_type,
    )


def _of_cloud(listed: CloudSize, mem_scaling: float) -> _Figures:
    """A cloud's library says 0 where it does not know."""
    return _Figures(
        cores=listed.cores or None,
        ram_bytes=int(listed.ram_bytes * mem_scaling) or None,
        price=listed.price,
        scratch_bytes=listed.disk_bytes,
        gpus=listed.gpus,
    )


def _over(section: Size, known: _Figures) -> _Figures:
    """`known`, with everything replaced that the section says."""
    ram_bytes = None if section.ram is None else section.ram * MIB
    return _Figures(
        cores=_either(section.cores, known.cores),
        ram_bytes=_either(ram_bytes, known.ram_bytes),
        price=_either(section.price, known.price),
        scratch_bytes=_either(_scratch(section), known.scratch_bytes),
        gpus=_either(section.gpus, known.gpus),
        preemptible=_either(section.preemptible, known.preemptible),
        instance_type=_either(section.instance_type, known.instance_type),
    )


def _either(said: T | None, known: T) -> T:
    return known if said is None else said


def _scratch(section: Size) -> int | None:
    """Scratch in bytes as the section says it, or as follows from its disk."""
    if section.scratch is not None:
        return section.scratch * MB
    return None if section.disk is None else section.disk * MB_PER_GB * MB


def _says_all(section: Size) -> bool:
    """Nothing of such a size has to be looked up, whatever other sections need."""
    return None not in (section.cores, section.ram, section.price, _scratch(section))


def _unknown(word: str, known: Iterable[str], lacking: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.7)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"the cloud knows no size {word!r}{hint}; or else give {', '.join(lacking)} here"
