"""A cloud that is this machine: what it creates are shares of the machine's cores and RAM.

With the `local` scheduler, which reads the same files (`nodemanager.schedulers.shares`), they are nodes on which jobs
really run. For any other there is the option `start`: each machine is a process then, such as a slurmd
(`nodemanager.clouds.loopback_process`). Machines outlive the daemon, as in any cloud. What can go wrong in a cloud goes
wrong here when the options say so, and in the same way each time: a machine's fate is drawn from the seed and its name.

Here a cloud only ever says that its machine runs. That one boots, never joins or has broken down is seen by who
waits for it, as is most often so elsewhere.
"""

from __future__ import annotations

import logging
import random
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodemanager.clock import Clock, SystemClock
from nodemanager.clouds import loopback_process
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
from nodemanager.clouds.loopback_options import LoopbackOptions
from nodemanager.model import Finding, Resources, format_bytes
from nodemanager.schedulers.machine import node_name, this_machine
from nodemanager.schedulers.shares import NAME, Share, Shares
from nodemanager.schedulers.slots import shortage

log = logging.getLogger(__name__)


_seen_dead: set[str] = set()
"""Cloud ids of machines whose end was seen to, or told of, by whichever of a daemon's driver objects."""


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
        found = [Finding("loopback", f"{words} to give to nodes, in {directory}", problem)]
        if self._options.start:
            command = shlex.join(self._options.start)
            try:
                loopback_process.find_program(self._options.start)
            except CloudError as error:
                found.append(Finding("loopback start", command, str(error)))
            else:
                found.append(Finding("loopback start", command))
        return tuple(found)

    def sizes(self) -> Sequence[CloudSize]:
        """None: what share a machine gets is for `[Size NAME]` to say."""
        return ()

    def list(self) -> Sequence[CloudNode]:
        """All of this cluster, booting, broken or well. What is to break by now does so."""
        loopback_process.reap()
        with self._files():
            ours = [share for share in self._shares.read() if self._is_ours(share)]
            for share in ours:
                if share.process is not None and share.cloud_id not in _seen_dead:
                    self._attend(share)
            return [_as_node(share) for share in ours]

    def observe(self) -> Sequence[CloudNode]:
        """As they stand in their files; a directory that was never made has no machines."""
        try:
            shares = self._shares.read() if self._shares.directory.exists() else ()
        except (OSError, ValueError) as error:
            raise CloudError(f"loopback: {error}") from error
        return [_as_node(share) for share in shares if self._is_ours(share)]

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
            if self._options.start and share.joins_at is not None:
                self._start(share)
            return _as_node(share)

    def destroy(self, node: CloudNode) -> None:
        """Take the share away, and with it what runs there."""
        with self._files(), self._shares.changing():
            share = self._find(node)
            if share is not None:
                if self._options.start or share.process is not None:
                    loopback_process.end(share)
                self._shares.remove(share.name)

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """See the base class."""
        with self._files(), self._shares.changing():
            share = self._find(node)
            if share is None:
                raise Gone(f"loopback: there is no machine {node.name} ({node.cloud_id}) any more")
            self._shares.write(_tagged(share, {**share.tags, **tags}))

    # Inside.

    def _start(self, share: Share) -> None:
        """Start its process. If we are killed before that is written down, its mark is enough to find it by."""
        output = self._shares.output(share.name)
        try:
            process = loopback_process.start(
                self._options.start, share, output, self._options.boot_time
            )
        except (OSError, CloudError):
            self._shares.remove(share.name)
            raise
        self._shares.write(replace(share, process=process))

    def _attend(self, share: Share) -> None:
        """Break it if its time has come; say so if it has ended by itself."""
        if share.is_broken(self._clock.wall()):
            loopback_process.end(share)
        elif loopback_process.is_there(share):
            return
        else:
            log.warning(
                "the command of %s has ended: %s",
                share.name,
                _last_line(self._shares.output(share.name)),
                extra={"action": "loopback_ended", "node": share.name},
            )
        _seen_dead.add(share.cloud_id)

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


def _last_line(output: Path) -> str:
    """What it said last; a driver's words have to fit a line."""
    try:
        lines = output.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        return str(error)
    return lines[-1][:200] if lines else "it printed nothing"


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
