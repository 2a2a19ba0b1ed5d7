"""Nodes that are booted for us: how Slurm is told that one comes, and that it has gone.

With `nodes = predefined` slurm.conf has lines for nodes that may come, State=FUTURE or State=CLOUD, and a machine
takes the place of one that suits its size. With `nodes = dynamic` a machine joins under its own name, and Slurm makes
a node of it then. One that is created before (`scontrol create`) would not do: it keeps its name for an address, which
slurmctld may not be able to resolve, and the size that was promised, of which the system takes its share. Either way
the node gets a weight by its price, so that Slurm fills the cheap ones first, and the feature
`instancetype=<size>`, as the old node manager gave it.

What is set at run time Slurm forgets when it starts anew, and a FUTURE node that was up is only defined then: so
it is remembered here, a file per place, and set again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nodemanager.durable import write_private
from nodemanager.errors import SchedulerError
from nodemanager.model import NodeSize, format_bytes
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.nodes import SlurmNode, parse_nodes
from nodemanager.schedulers.slurm.options import NodeOrigin
from nodemanager.schedulers.slurm.words import Complaint, sort_out

log = logging.getLogger(__name__)

FEATURE = "instancetype="
"""With a size's name behind it: what a job's `--constraint` can ask for."""

_GONE = "node manager: its machine is gone"
_MIB = 1 << 20
_RAM_SHARE = 0.8
"""A place may have so much less RAM than the size promises: what a system takes for itself."""
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class _Place:
    """What is known of one admitted node."""

    host: str
    newcomer: str
    """The name that was proposed for it."""
    weight: int
    features: tuple[str, ...]
    weight_before: int
    features_before: tuple[str, ...]
    comment: str
    scratch_bytes: int = 0
    """What its size promises."""
    has_joined: bool = False


class Elastic:
    """Admits nodes and removes them."""

    def __init__(
        self, cluster_id: str, origin: NodeOrigin, controller: Controller, directory: Path
    ) -> None:
        self.owner = f"arvados {cluster_id} "
        """How the comment of an admitted node begins."""
        self._origin = origin
        self._controller = controller
        self._directory = directory
        self._places: dict[str, _Place] | None = None

    def admit(self, newcomer: Newcomer) -> str:
        """See `Scheduler.admit`."""
        if self._origin is NodeOrigin.DYNAMIC:
            return self._expect(newcomer)
        known = next((p for p in self._known().values() if p.newcomer == newcomer.host), None)
        if known is None or known.host in newcomer.taken:
            return self._take(newcomer)
        node = self._find(known.host)
        if node is not None and _is_free(node):
            # Asked before, it may have got only half way.
            self._occupy(node, newcomer)
        return known.host

    def remove(self, host: str) -> None:
        """See `Scheduler.remove`."""
        node = self._find(host)
        place = self._known().get(host)
        if node is not None and node.is_dynamic:
            if not node.is_future:
                self._set(host, "State=DOWN", f"Reason={_GONE}")
            # Refused while jobs are being cleaned up there; asked again until it is done.
            self._controller.order("scontrol", "delete", f"NodeName={host}")
        elif node is not None:
            if "CLOUD" in node.words:
                if "POWERED_DOWN" not in node.words:
                    self._set(host, "State=POWER_DOWN_FORCE", f"Reason={_GONE}")
            elif not node.is_future:
                # In one step it is refused.
                self._set(host, "State=DOWN", f"Reason={_GONE}")
                self._set(host, "State=FUTURE")
            if place is not None:
                self._dress(host, place.weight_before, place.features_before, "")
        if place is not None:
            del self._known()[host]
            self._file(host).unlink(missing_ok=True)

    def keep(self, nodes: Sequence[SlurmNode]) -> Sequence[SlurmNode]:
        """Those of `nodes`, as Slurm lists them, that have a machine. Who has just come is given weight and feature,
        and what a restart of Slurm made it forget is set again; a node it resumes shows in the next look."""
        listed = {node.name for node in nodes}
        lost = [p for p in self._known().values() if p.has_joined and p.host not in listed]
        if lost and self._origin is NodeOrigin.PREDEFINED:
            self._resume(lost)
        return [self._settled(node) for node in nodes if node.is_present]

    # Inside.

    def _take(self, newcomer: Newcomer) -> str:
        """Of the nodes that slurm.conf defines, the one that suits the size best."""
        size = newcomer.size
        nodes = {node.name: node for node in (*self._defined(), *parse_nodes(self._show()))}
        free = [n for n in nodes.values() if _is_free(n) and n.name not in newcomer.taken]
        suited = sorted((node for node in free if _suits(node, size)), key=lambda n: _rank(n, size))
        if not suited:
            raise SchedulerError(
                f"slurm.conf has no free node for size {size.name}: one with State=FUTURE or CLOUD and "
                f"Feature={FEATURE}{size.name}, or with {size.resources.cores} CPUs and enough memory; "
                f"{len(free)} of other sizes are free"
            )
        self._occupy(suited[0], newcomer)
        return suited[0].name

    def _occupy(self, node: SlurmNode, newcomer: Newcomer) -> None:
        """Give the place of this node to the machine. Written down first, so that a crash loses nothing."""
        before = self._known().get(node.name)
        weight, features = node.weight, node.features
        if before is not None:
            weight, features = before.weight_before, before.features_before
        own = (f"{FEATURE}{newcomer.size.name}",)
        place = self._place(newcomer, node.name, _joint(features, own), weight, features)
        self._remember(place)
        self._dress(node.name, place.weight, place.features, place.comment)
        if "CLOUD" in node.words:
            self._set(node.name, "State=POWER_UP")

    def _expect(self, newcomer: Newcomer) -> str:
        """Slurm hears of the machine when it joins."""
        features = (f"{FEATURE}{newcomer.size.name}",)
        self._remember(self._place(newcomer, newcomer.host, features, weight_before=1))
        return newcomer.host

    def _place(
        self,
        newcomer: Newcomer,
        host: str,
        features: tuple[str, ...],
        weight_before: int,
        features_before: tuple[str, ...] = (),
    ) -> _Place:
        return _Place(
            host=host,
            newcomer=newcomer.host,
            weight=_weight(newcomer.size),
            features=features,
            weight_before=weight_before,
            features_before=features_before,
            comment=f"{self.owner}{newcomer.size.name}",
            scratch_bytes=newcomer.size.resources.scratch_bytes,
        )

    def _settled(self, node: SlurmNode) -> SlurmNode:
        """The node with the weight and the features that it has to have, if it is one of ours."""
        place = self._known().get(node.name)
        if place is None:
            return node
        if not place.has_joined:
            place = replace(place, has_joined=True)
            if node.is_dynamic:
                # It may bring features of its own.
                place = replace(place, features=_joint(node.features, place.features))
                _compare_scratch(node, place)
            self._remember(place)
        if (node.weight, node.features) == (place.weight, place.features):
            return node
        self._dress(place.host, place.weight, place.features, place.comment)
        return replace(node, weight=place.weight, features=place.features, comment=place.comment)

    def _resume(self, lost: Iterable[_Place]) -> None:
        """Nodes that were up, and that a restart of Slurm made it take for such that may come."""
        defined = {node.name for node in self._defined()}
        for place in lost:
            if place.host in defined:
                log.warning(
                    "%s was up, and Slurm has forgotten it in a restart: resumed",
                    place.host,
                    extra={"action": "resume_forgotten", "node": place.host},
                )
                self._set(place.host, "State=RESUME")
                self._dress(place.host, place.weight, place.features, place.comment)

    def _dress(self, host: str, weight: int, features: Iterable[str], comment: str) -> None:
        words = ",".join(features)
        self._set(
            host, f"Weight={weight}", f"ActiveFeatures={words}", f"AvailableFeatures={words}",
            f"Comment={comment}",
        )  # fmt: skip

    def _set(self, host: str, *changes: str) -> None:
        self._controller.order("scontrol", "update", f"NodeName={host}", *changes)

    def _show(self, *names: str) -> str:
        return self._controller.order("scontrol", "-a", "show", "node", "-o", *names)

    def _defined(self) -> list[SlurmNode]:
        """The nodes that are FUTURE. After a restart the state of one with jobs tells only of these; and some nodes
        that are present are shown as well."""
        return parse_nodes(self._controller.order("scontrol", "-F", "show", "node", "-o"))

    def _find(self, host: str) -> SlurmNode | None:
        for flag in ("-a", "-F"):
            answer = self._controller.ask("scontrol", flag, "show", "node", "-o", host)
            if answer.status == 0 and answer.output.strip():
                return parse_nodes(answer.output)[0]
            if answer.status != 0 and sort_out(answer.words) is not Complaint.NO_SUCH_NODE:
                answer.or_raise()
        return None

    # What is remembered.

    def _known(self) -> dict[str, _Place]:
        if self._places is None:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                files = [path.read_text("utf-8") for path in self._directory.glob("*.json")]
            except OSError as error:
                raise SchedulerError(f"cannot read {self._directory}: {error}") from error
            self._places = {place.host: place for place in map(_read, files)}
        return self._places

    def _remember(self, place: _Place) -> None:
        self._known()[place.host] = place
        try:
            write_private(self._file(place.host), json.dumps(asdict(place)))
        except OSError as error:
            raise SchedulerError(f"cannot write to {self._directory}: {error}") from error

    def _file(self, host: str) -> Path:
        return self._directory / f"{host}.json"


def _read(text: str) -> _Place:
    try:
        fields = json.loads(text)
        lists = {key: tuple(fields[key]) for key in ("features", "features_before")}
        return _Place(**{**fields, **lists})
    except (ValueError, TypeError, KeyError) as error:
        raise SchedulerError(
            f"what is remembered of a node makes no sense: {text[:100]!r}"
        ) from error


def _compare_scratch(node: SlurmNode, place: _Place) -> None:
    """A slurmd finds out everything about its machine but this."""
    has = node.total.scratch_bytes
    if has < place.scratch_bytes:
        log.warning(
            "%s has joined with %s of scratch space, and its size promises %s: start its slurmd with --conf TmpDisk=%d",
            node.name, format_bytes(has), format_bytes(place.scratch_bytes), place.scratch_bytes // _MIB,
            extra={"action": "less_scratch", "node": node.name},
        )  # fmt: skip


def _joint(some: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))


def _weight(size: NodeSize) -> int:
    """The old node manager's: a thousandth of the currency per hour."""
    return max(1, int(size.price * 1000))


def _is_free(node: SlurmNode) -> bool:
    powered_down = "CLOUD" in node.words and "POWERED_DOWN" in node.words
    return (node.is_future or powered_down) and not node.is_dynamic


def _suits(node: SlurmNode, size: NodeSize) -> bool:
    """Whether a machine of that size can be this node: by a feature that names sizes, else by what it has."""
    named = {f.removeprefix(FEATURE) for f in node.features if f.startswith(FEATURE)}
    if named:
        return not named.isdisjoint({size.name, size.cloud_name})
    has, promised = node.total, size.resources
    return (
        (has.cores, has.gpus) == (promised.cores, promised.gpus)
        and has.ram_bytes >= _RAM_SHARE * promised.ram_bytes
        and (not size.partitions or not set(size.partitions).isdisjoint(node.partitions))
    )


def _rank(node: SlurmNode, size: NodeSize) -> tuple[object, ...]:
    """The nearest in RAM first, and of equals the first by name: node2 before node10."""
    has, promised = node.total, size.resources
    lacks_scratch = has.scratch_bytes < promised.scratch_bytes
    name = tuple(int(part) if part.isdigit() else part for part in _NUMBERS.split(node.name))
    return (lacks_scratch, abs(has.ram_bytes - promised.ram_bytes), name)
