"""Nodes that are booted for us: how Slurm is told that one comes, and that it has gone.

Slurm wants to know a node before its slurmd speaks up. With `nodes = predefined` slurm.conf has lines for nodes
that may come, State=FUTURE or State=CLOUD, and a machine takes the place of one that suits its size; with `nodes =
dynamic` a node is created for each machine. Either way it gets a weight by its price, so that Slurm fills the cheap ones first, and the
feature `instancetype=<size>`, as the old node manager gave it.

What is set at run time Slurm forgets when it starts anew, and a FUTURE node that was up is only defined then: so
it is remembered here, a file per place, and set again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nodemanager.durable import write_private
from nodemanager.errors import SchedulerError
from nodemanager.model import NodeSize
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
        known = next((p for p in self._known().values() if p.newcomer == newcomer.host), None)
        if known is not None and known.host not in newcomer.taken:
            return known.host
        if self._origin is NodeOrigin.DYNAMIC:
            return self._create(newcomer)
        return self._take(newcomer)

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
        """`nodes` as Slurm lists them, and with them what was created and has not joined. What a restart of Slurm
        made it forget is set again; that shows in the next look."""
        listed = {node.name: node for node in nodes}
        hidden: Sequence[SlurmNode] = ()
        lost = [p for p in self._known().values() if p.has_joined and p.host not in listed]
        if lost or self._origin is NodeOrigin.DYNAMIC:
            hidden = self._defined()
        for place in list(self._known().values()):
            node = listed.get(place.host)
            if node is not None and node.is_present:
                if not place.has_joined:
                    self._remember(_joined(place))
                if (node.weight, node.features) != (place.weight, place.features):
                    self._dress(place.host, place.weight, place.features, place.comment)
        names = {place.host for place in lost}
        for node in hidden:
            if node.name in names:
                log.warning(
                    "%s was up, and Slurm has forgotten it in a restart: resumed",
                    node.name,
                    extra={"action": "resume_forgotten", "node": node.name},
                )
                place = self._known()[node.name]
                self._set(node.name, "State=RESUME")
                self._dress(node.name, place.weight, place.features, place.comment)
        waiting = [n for n in hidden if n.is_dynamic and n.comment.startswith(self.owner)]
        return [*(node for node in nodes if node.is_present), *waiting]

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
        node = suited[0]
        self._settle(node, newcomer)
        if "CLOUD" in node.words:
            self._set(node.name, "State=POWER_UP")
        return node.name

    def _create(self, newcomer: Newcomer) -> str:
        host, size = newcomer.host, newcomer.size
        if self._find(host) is None:
            asked = size.resources
            self._controller.order(
                "scontrol", "create", f"NodeName={host}", f"CPUs={asked.cores}",
                f"RealMemory={asked.ram_bytes // _MIB}", f"TmpDisk={asked.scratch_bytes // _MIB}",
                *([f"Gres=gpu:{asked.gpus}"] if asked.gpus else ()),
                f"Feature={FEATURE}{size.name}", f"Weight={_weight(size)}", "State=FUTURE",
            )  # fmt: skip
        node = self._find(host)
        if node is None:
            raise SchedulerError(f"Slurm says that it created {host}, and does not know it")
        self._settle(node, newcomer)
        return host

    def _settle(self, node: SlurmNode, newcomer: Newcomer) -> None:
        """Give the node its weight and feature; written down first, so that a crash loses nothing."""
        size, before = newcomer.size, self._known().get(node.name)
        own = tuple(f for f in node.features if not f.startswith(FEATURE) or before is None)
        features = tuple(dict.fromkeys((*own, f"{FEATURE}{size.name}")))
        place = _Place(
            host=node.name,
            newcomer=newcomer.host,
            weight=_weight(size),
            features=features,
            weight_before=node.weight if before is None else before.weight_before,
            features_before=node.features if before is None else before.features_before,
            comment=f"{self.owner}{size.name}",
        )
        self._remember(place)
        self._dress(node.name, place.weight, place.features, place.comment)

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
        """The nodes that are FUTURE; Slurm shows either these or the others."""
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


def _joined(place: _Place) -> _Place:
    return _Place(**{**asdict(place), "has_joined": True})


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
