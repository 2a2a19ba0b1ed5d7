"""A cloud that is this machine: what it creates are shares of the machine's cores and RAM.

With the `local` scheduler, which reads the same files (`nodemanager.schedulers.shares`), they are nodes on which jobs
really run. Machines outlive the daemon, as in any cloud. What can go wrong in a cloud goes wrong here
when the options say so, and in the same way each time: a machine's fate is drawn from the seed and its name.

Here a cloud only ever says that its machine runs. That one boots, never joins or has broken down is seen by who
waits for it, as is most often so elsewhere.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nodemanager.clock import Clock, SystemClock
from nodemanager.clouds.base import (
    CLUSTER_TAG,
    HOST_TAG,
    Cloud,
    CloudContext,
    CloudNode,
    CloudSize,
    CloudState,
    NodeOrder,
)
from nodemanager.clouds.errors import CloudError, Denied, Gone, NoCapacity, QuotaExceeded
from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Bytes, Float, Integer, Kind, Seconds
from nodemanager.config.module_options import read_options
from nodemanager.model import Finding, Resources, format_bytes
from nodemanager.schedulers.machine import node_name, this_machine
from nodemanager.schedulers.shares import NAME, Share, Shares
from nodemanager.schedulers.slots import shortage

_SHARE = Float(0.0, 1.0)

OPTIONS: Mapping[str, Kind] = {
    "cores": Integer(1),
    "ram": Bytes(1),
    "boot_time": Seconds(0),
    "fail_create": _SHARE,
    "never_join": _SHARE,
    "break_after": Seconds(0),
    "break_share": _SHARE,
    "quota": Integer(0),
    "no_capacity": ListOf(),
    "seed": Kind(),
}


@dataclass(frozen=True, slots=True)
class LoopbackOptions:
    """The `[Cloud Create]` options of this driver."""

    cores: int | None
    """How many there are to give to machines; default: those this process may run on."""
    ram: int | None
    """Bytes; default: what the local scheduler takes by default."""
    boot_time: float
    """Seconds from the creation of a machine until it joins the scheduler. Default 2 s."""
    fail_create: float
    """The share of creates that fail, and create nothing. Default 0."""
    never_join: float
    """The share of machines that never join. Default 0."""
    break_after: float | None
    """Seconds after joining at which a machine goes down for good. Default: none does."""
    break_share: float
    """The share of machines that do. Default 1."""
    quota: int | None
    """The most machines at a time. Default: as many as the machine has room for."""
    no_capacity: tuple[str, ...]
    """Names of sizes that cannot be had."""
    seed: str
    """From which, with its name, the fate of each machine is drawn."""

    @classmethod
    def of(cls, context: CloudContext) -> LoopbackOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        owner = "the loopback cloud"
        read_options("Cloud Credentials", owner, context.credentials, {})
        read_options("Cloud List", owner, context.list_options, {})
        values = read_options("Cloud Create", owner, context.create_options, OPTIONS)
        return cls(
            cores=values.get("cores"),
            ram=values.get("ram"),
            boot_time=values.get("boot_time", 2.0),
            fail_create=values.get("fail_create", 0.0),
            never_join=values.get("never_join", 0.0),
            break_after=values.get("break_after"),
            break_share=values.get("break_share", 1.0),
            quota=values.get("quota"),
            no_capacity=values.get("no_capacity", ()),
            seed=values.get("seed", ""),
        )


class Loopback(Cloud):
    """See the module's docstring, and `LoopbackOptions` for the options."""

    name = "loopback"
    pings = False
    in_process = True

    def __init__(self, context: CloudContext, clock: Clock | None = None) -> None:
        super().__init__(context)
        self._options = LoopbackOptions.of(context)
        self._clock = clock or SystemClock()
        self._shares = Shares(context.state_dir)
        self._is_open = False

    def check(self) -> Sequence[Finding]:
        """Say what there is to give; look at the directory."""
        whole = self._whole()
        words = f"{node_name()}: {whole.cores} cores and {format_bytes(whole.ram_bytes)} of RAM"
        directory = self._shares.directory
        problem = ""
        try:
            if directory.exists():
                self._shares.read()
        except (OSError, ValueError) as error:
            problem = str(error)
        return (Finding("loopback", f"{words} to give to nodes, in {directory}", problem),)

    def sizes(self) -> Sequence[CloudSize]:
        """None: what share a machine gets is for `[Size NAME]` to say."""
        return ()

    def list(self) -> Sequence[CloudNode]:
        """All of this cluster, booting, broken or well."""
        with self._files():
            return [_as_node(share) for share in self._shares.read() if self._is_ours(share)]

    def create(self, order: NodeOrder) -> CloudNode:
        """Give a machine its share. One of that name that is there is the answer."""
        if not NAME.fullmatch(order.name):
            raise Denied(f"loopback: a name is 1 to 63 letters, digits and dashes: {order.name!r}")
        with self._files(), self._shares.changing():
            present = self._shares.read()
            known = next((share for share in present if share.name == order.name), None)
            if known is not None:
                return self._known(known)
            self._refuse(order, present)
            share = self._made(order)
            self._shares.write(share)
            return _as_node(share)

    def destroy(self, node: CloudNode) -> None:
        """Take the share away, and with it what runs there."""
        with self._files(), self._shares.changing():
            share = self._find(node)
            if share is not None:
                self._shares.remove(share.name)

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """See the base class."""
        with self._files(), self._shares.changing():
            share = self._find(node)
            if share is None:
                raise Gone(f"loopback: there is no machine {node.name} ({node.cloud_id}) any more")
            self._shares.write(_tagged(share, {**share.tags, **tags}))

    # Inside.

    @contextmanager
    def _files(self) -> Iterator[None]:
        """What cannot be read or written proves nothing about any machine."""
        try:
            if not self._is_open:
                # Once: a directory that goes away later is not one without machines.
                self._shares.make_directory()
                self._is_open = True
            yield
        except (OSError, ValueError) as error:
            raise CloudError(f"loopback: {error}") from error

    def _is_ours(self, share: Share) -> bool:
        return share.tags.get(CLUSTER_TAG) == self.context.cluster_id

    def _known(self, share: Share) -> CloudNode:
        if not self._is_ours(share):
            raise Denied(f"loopback: {share.name} is a machine of another cluster")
        return _as_node(share)

    def _find(self, node: CloudNode) -> Share | None:
        """The machine that is meant; another one that got its name is not."""
        for share in self._shares.read():
            if share.cloud_id == node.cloud_id:
                self._known(share)
                return share
        return None

    def _whole(self) -> Resources:
        """What there is to give."""
        machine = this_machine(self._shares.directory)
        return replace(
            machine,
            cores=self._options.cores or machine.cores,
            ram_bytes=self._options.ram or machine.ram_bytes,
        )

    def _refuse(self, order: NodeOrder, present: Sequence[Share]) -> None:
        """Raise what stands against this machine, if anything does."""
        size, options = order.size, self._options
        if not {size.name, size.cloud_name}.isdisjoint(options.no_capacity):
            raise NoCapacity(
                f"loopback: no machine of size {size.name} is left: no_capacity says so"
            )
        whole = self._whole()
        words = shortage(size.resources, whole)
        if words:
            raise NoCapacity(f"loopback: size {size.name} is larger than this machine: {words}")
        if options.quota is not None and len(present) >= options.quota:
            raise QuotaExceeded(
                f"loopback: at most {options.quota} machines, {len(present)} are there"
            )
        cores = sum(share.resources.cores for share in present)
        if cores + size.resources.cores > whole.cores:
            raise QuotaExceeded(
                f"loopback: this machine has {whole.cores} cores, {cores} are given to nodes"
            )
        ram = sum(share.resources.ram_bytes for share in present)
        if ram + size.resources.ram_bytes > whole.ram_bytes:
            raise QuotaExceeded(
                f"loopback: this machine has {format_bytes(whole.ram_bytes)} of RAM to give, "
                f"{format_bytes(ram)} is given to nodes"
            )
        if self._fate(order.name).is_refused:
            raise CloudError(f"loopback: creating {order.name} fails, as fail_create wants it")

    def _fate(self, name: str) -> _Fate:
        options = self._options
        draws = random.Random(f"{options.seed} {name}")  # noqa: S311 (nothing is kept secret by it)
        return _Fate(
            is_refused=draws.random() < options.fail_create,
            joins=draws.random() >= options.never_join,
            breaks=draws.random() < options.break_share,
        )

    def _made(self, order: NodeOrder) -> Share:
        options, now, fate = self._options, self._clock.wall(), self._fate(order.name)
        joins_at = now + options.boot_time if fate.joins else None
        breaks_at = None
        if joins_at is not None and options.break_after is not None and fate.breaks:
            breaks_at = joins_at + options.break_after
        share = Share(
            name=order.name,
            cloud_id=f"share-{secrets.token_hex(6)}",
            host="",
            instance_type=order.size.cloud_name,
            resources=order.size.resources,
            partitions=order.size.partitions,
            preemptible=order.size.preemptible,
            created_at=now,
            joins_at=joins_at,
            breaks_at=breaks_at,
        )
        return _tagged(share, order.tags)


@dataclass(frozen=True, slots=True)
class _Fate:
    """What happens to a machine of that name, each time there is one."""

    is_refused: bool
    joins: bool
    breaks: bool


def _tagged(share: Share, tags: Mapping[str, str]) -> Share:
    return replace(share, tags=dict(tags), host=tags.get(HOST_TAG) or share.name)


def _as_node(share: Share) -> CloudNode:
    return CloudNode(
        cloud_id=share.cloud_id,
        name=share.name,
        instance_type=share.instance_type,
        state=CloudState.RUNNING,
        tags=share.tags,
        created_at=share.created_at,
        addresses=("127.0.0.1",),
    )
