"""The node sizes in a config.yml of Arvados, as its own dispatcher for clouds would read them.

Only `InstanceTypes` of one cluster are read, and the two price factors of `Containers` that go with them;
whatever else the file says is somebody else's. The rules (defaults, scratch, preemptible variants, units) are
those of Arvados 3.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nodemanager.config.kinds import found
from nodemanager.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One entry of `InstanceTypes`."""

    name: str
    provider_type: str
    """The cloud's own name for it."""
    cores: int
    ram_bytes: int
    """As advertised: not scaled by `node_mem_scaling`."""
    scratch_bytes: int
    price: float
    preemptible: bool = False
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What one cluster's part of the file says about nodes."""

    types: tuple[InstanceType, ...] = ()
    max_price_factor: float | None = None
    """`Containers.MaximumPriceFactor`; None when the file does not say."""


def read(path: Path, cluster_id: str) -> ClusterConfig:
    """What the file at `path` says of the cluster `cluster_id`, or of the only one in it.

    Raises `ConfigError` with one line for each thing that is wrong: file, key, what was expected and found.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, str(path), cluster_id)


def parse(text: str, path: str, cluster_id: str) -> ClusterConfig:
    """Like `read`, for the text of a file; `path` is what errors refer to."""
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    problems: list[str] = []
    cluster = _cluster(_Entry(document, path, problems), cluster_id)
    containers = cluster.section("Containers")
    spot_factor = containers.take("PreemptiblePriceFactor", _amount, 0.0)
    max_price_factor = containers.take("MaximumPriceFactor", _factor, 0.0)
    types = [_instance_type(name, entry) for name, entry in cluster.section("InstanceTypes").all()]
    if problems:
        raise ConfigError("\n".join(problems))
    return ClusterConfig(
        types=(*types, *_preemptible_variants(types, spot_factor)),
        max_price_factor=max_price_factor or None,
    )


def byte_size(text: str) -> int:
    """The bytes that an Arvados size such as ``64GiB``, ``1.5T`` or ``12345M`` stands for.

    K, M, G, T, P and E are powers of 1000, with an i of 1024; a B after them means nothing. Raises
    `ValueError` for anything else.
    """
    match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) *(?:([KMGTPE])(i?))?B?", text, re.ASCII)
    if match is None:
        raise ValueError(f"expected a size such as 64GiB, found {found(text)}")
    number, prefix, binary = match.groups()
    power = "KMGTPE".index(prefix) + 1 if prefix else 0
    return int(Fraction(number) * (1024 if binary else 1000) ** power)


def _cluster(file: _Entry, cluster_id: str) -> _Entry:
    clusters = dict(file.section("Clusters").all())
    if cluster_id in clusters:
        return clusters[cluster_id]
    if len(clusters) == 1:
        return next(iter(clusters.values()))
    if clusters:
        names = ", ".join(clusters)
        file.complain("Clusters", f"there are {names}; set [Arvados] cluster_id to one of them")
    else:
        file.complain("Clusters", "is missing; expected the config.yml of an Arvados cluster")
    return file.section("no cluster")


def _instance_type(name: str, entry: _Entry) -> InstanceType:
    gpu, cuda = entry.section("GPU"), entry.section("CUDA")
    return InstanceType(
        name=name,
        provider_type=entry.take("ProviderType", _text, "") or name,
        cores=entry.take("VCPUs", _count),
        ram_bytes=entry.take("RAM", _bytes),
        scratch_bytes=_scratch(entry),
        price=entry.take("Price", _amount),
        preemptible=entry.take("Preemptible", _flag, default=False),
        gpus=max(gpu.take("DeviceCount", _whole, 0), cuda.take("DeviceCount", _whole, 0)),
    )


def _scratch(entry: _Entry) -> int:
    """`Scratch` is the sum of the other two; any of the three may be left out."""
    scratch, included, added = (
        entry.take(key, _bytes, 0) for key in ("Scratch", "IncludedScratch", "AddedScratch")
    )
    if scratch and included and added and scratch != included + added:
        entry.complain("Scratch", "expected the sum of IncludedScratch and AddedScratch")
    return scratch or included + added


def _preemptible_variants(types: list[InstanceType], factor: float) -> Iterator[InstanceType]:
    """`PreemptiblePriceFactor` makes one of each type, unless there is a type of that name."""
    names = {each.name for each in types}
    for each in types:
        name = f"{each.name}.preemptible"
        if factor and not each.preemptible and name not in names:
            yield replace(each, name=name, price=each.price * factor, preemptible=True)


class _Entry:
    """A mapping of the file with its place; what is wrong in it is added to the problems."""

    def __init__(self, value: Any, place: str, problems: list[str], separator: str = ": ") -> None:
        self._place = place
        self._problems = problems
        self._separator = separator
        self._values: Mapping[Any, Any] = value if isinstance(value, dict) else {}
        self._is_read = value is None or isinstance(value, dict)
        if not self._is_read:
            problems.append(f"{place}: expected keys with values, found {found(str(value))}")

    def complain(self, key: str, sentence: str) -> None:
        self._problems.append(f"{self._place}{self._separator}{key}: {sentence}")

    def section(self, key: str) -> _Entry:
        """The mapping under `key`, empty when there is none."""
        return _Entry(
            self._values.get(key), f"{self._place}{self._separator}{key}", self._problems, "."
        )

    def all(self) -> Iterator[tuple[str, _Entry]]:
        """Every mapping under any key. YAML takes a name of digits for a number."""
        for key, value in self._values.items():
            place = f"{self._place}{self._separator}{key}"
            yield str(key), _Entry(value, place, self._problems, ".")

    def take(self, key: str, read: Callable[[Any], T], default: T | None = None) -> T:
        """The value under `key` as `read` gives it; one that is missing, or null, is the default.

        After a problem the answer is of no use: the problems end the reading.
        """
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        try:
            return read(value)
        except ValueError as error:
            if self._is_read:
                self.complain(key, str(error))
            return default  # type: ignore[return-value]


def _expect(ok: bool, value: Any, expected: str) -> None:
    if not ok:
        raise ValueError(f"expected {expected}, found {found('' if value is None else str(value))}")


def _whole(value: Any) -> int:
    _expect(type(value) is int and value >= 0, value, "a whole number, 0 or more")
    return int(value)


def _count(value: Any) -> int:
    _expect(type(value) is int and value >= 1, value, "a whole number, 1 or more")
    return int(value)


def _amount(value: Any) -> float:
    fits = type(value) in (int, float) and 0 <= value < math.inf
    _expect(fits, value, "a number, 0 or more")
    return float(value)


def _factor(value: Any) -> float:
    fits = type(value) in (int, float) and 1 <= value < math.inf
    _expect(fits, value, "a number, 1 or more")
    return float(value)


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        return byte_size(value)
    _expect(type(value) is int and value >= 0, value, "a size such as 64GiB")
    return int(value)


def _flag(value: Any) -> bool:
    _expect(isinstance(value, bool), value, "true or false")
    return bool(value)


def _text(value: Any) -> str:
    _expect(isinstance(value, str | int | float) and value is not True, value, "a name")
    return str(value)
