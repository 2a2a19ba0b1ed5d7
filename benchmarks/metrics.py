"""What the metrics cost: a dispatch with and without them, and a scrape of a dispatcher that holds very many containers.

    python benchmarks/metrics.py [--containers 50] [--pairs 40] [--held 100000]

Two tables:

- CPU time of a whole dispatch in memory (actors, scheduler and API of `nodemanager.testing`), with everything that
  counts and times switched on and off in turn, so that both meet the same machine;
- a scrape over HTTP of a real dispatcher with real actors, one for each container that it holds: how long it takes, how
  many bytes it is, and how much of it the dispatcher itself is kept from its work.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import statistics
import time
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import prometheus_client
import pykka
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nodemanager import metrics
from nodemanager.actors import mailbox
from nodemanager.actors.actor import Actor
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.pool import use_pool
from nodemanager.api.base import Identity
from nodemanager.api.messages import Following, Held, Registered
from nodemanager.clock import SystemClock
from nodemanager.dispatch.container import ContainerActor
from nodemanager.dispatch.dispatcher import DispatcherActor, DispatchSettings, Peers
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.messages import GetStatus
from nodemanager.model import Container, ContainerState, Resources
from nodemanager.runner.spec import RunnerSpec
from nodemanager.status.look import DaemonLook
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings
from nodemanager.testing import Harness, Program

ME = Identity("zzzzz-bmxii-000000000000000", 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--containers", type=int, default=50, help="in one dispatch (50)")
    parser.add_argument("--pairs", type=int, default=40, help="dispatches with and without (40)")
    parser.add_argument("--held", type=int, default=100_000, help="containers to scrape (100000)")
    asked = parser.parse_args()
    logging.disable()
    console = Console()
    report_dispatch(console, asked.containers, asked.pairs)
    report_scrapes(console, asked.held)


# With and without.


def report_dispatch(console: Console, containers: int, pairs: int) -> None:
    """Print the first table."""
    dispatch(containers)  # the first one pays for what is made once
    with_them: list[float] = []
    without: list[float] = []
    for number in track(range(pairs), "dispatches", console=console, transient=True):
        # Now the one first, now the other.
        for counts in (True, False) if number % 2 else (False, True):
            with contextlib.nullcontext() if counts else nothing_counted():
                (with_them if counts else without).append(dispatch(containers))
    table = Table(title=f"CPU time per container, {pairs} dispatches of {containers}, microseconds")
    for heading in ("", "p50", "min", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, seconds in (("with metrics", with_them), ("without", without)):
        each = [1e6 * one / containers for one in seconds]
        table.add_row(name, *(f"{f(each):.0f}" for f in (statistics.median, min, max)))
    ratios = [one / other - 1 for one, other in zip(with_them, without, strict=True)]
    console.print(table)
    console.print(
        f"metrics add {100 * (sum(with_them) / sum(without) - 1):.1f} % in all, "
        f"{100 * statistics.median(ratios):.1f} % by the median of the pairs\n"
    )


def dispatch(containers: int) -> float:
    """CPU seconds of a dispatch of so many that are in the queue, to the last end."""
    with Harness(
        max_claimed=containers, program=lambda _: Program(seconds=1.0), scheduler_poll_seconds=1.0
    ) as world:
        world.advance(5)
        for _ in range(containers):
            world.submit()
        gc.collect()
        began = time.process_time()
        world.advance_until(
            lambda: len(world.ledger) == containers and not world.status().containers
        )
        return time.process_time() - began


def nothing(*_: object) -> None:
    """In place of whatever counts: a mock would cost more than what it stands for."""


@contextlib.contextmanager
def nothing_counted() -> Iterator[None]:
    """Everything that counts and times does nothing."""
    idle = SimpleNamespace(monotonic=lambda: 0.0)
    base = prometheus_client.metrics.MetricWrapperBase
    with (
        mock.patch.object(base, "labels", lambda self, *_: self),
        mock.patch.object(prometheus_client.Counter, "inc", nothing),
        mock.patch.object(prometheus_client.Gauge, "set", nothing),
        mock.patch.object(prometheus_client.Histogram, "observe", nothing),
        mock.patch.object(metrics, "timing", contextlib.nullcontext),
        mock.patch.object(ContainerActor, "_note_stage", nothing),
        mock.patch.object(mailbox, "time", idle),
    ):
        yield


# A scrape.


class Sink(Actor):
    """Hears everything, and does nothing."""

    def on_receive(self, message: Any) -> None:
        """Nothing."""


class Source:
    """What the management server looks at: one dispatcher."""

    def __init__(self, dispatcher: pykka.ActorRef[Any]) -> None:
        self._dispatcher = dispatcher
        self.seconds: list[float] = []
        """How long the dispatcher took to say how it is."""

    def look(self, timeout_seconds: float) -> DaemonLook:
        """See `nodemanager.status.look.Source`."""
        began = time.perf_counter()
        status = self._dispatcher.ask(GetStatus(), block=True, timeout=timeout_seconds)
        self.seconds.append(time.perf_counter() - began)
        return DaemonLook("bench", time.time(), status)


def report_scrapes(console: Console, number: int) -> None:
    """Print the second table."""
    with use_pool(InlinePool(max_steps=10**9)) as pool:
        dispatcher = dispatcher_with(number)
        assert isinstance(pool, InlinePool)
        pool.run_until_idle()
        source = Source(dispatcher)
        # A scrape needs no more of a source than this one has.
        server = ManagementServer(ManageSettings(port=0), cast("Any", source))
        server.start()
        seconds, size = [], 0
        for _ in track(range(5), "scrapes", console=console, transient=True):
            time.sleep(1.1)  # a look is good for a second
            began = time.perf_counter()
            with urllib.request.urlopen(f"{server.url}/metrics") as answer:
                text = answer.read()
            seconds.append(time.perf_counter() - began)
            size = len(text)
        if f'containers{{state="Locked"}} {float(number)}'.encode() not in text:
            raise SystemExit(f"the scrape does not tell of {number} containers")
        server.stop()
    table = Table(title=f"a scrape of a dispatcher that holds {number:,} containers")
    table.add_column("")
    table.add_column("p50", justify="right")
    table.add_column("max", justify="right")
    for name, values in (("scrape, ms", seconds), ("of this the dispatcher, ms", source.seconds)):
        table.add_row(name, *(f"{1000 * f(values):.0f}" for f in (statistics.median, max)))
    table.add_row("answer, KiB", f"{size / 1024:.0f}", "")
    console.print(table)


def dispatcher_with(number: int) -> pykka.ActorRef[Any]:
    """A dispatcher that has adopted so many containers, each with its actor; all others are deaf."""
    sink = Sink.start()
    spec = RunnerSpec(
        container_uuid=f"zzzzz-dz642-{'0' * 15}",
        api_url="https://localhost:1",
        api_token="none",
        store="/nonexistent",
        scratch="/nonexistent",
    )
    settings = DispatchSettings(max_claimed=number, turn_seconds=1e6, relist_seconds=1e6)
    dispatcher = DispatcherActor.start(settings, JobTemplate(("runner",), spec), SystemClock())
    dispatcher.tell(Peers(sink, sink, sink, sink, sink, sink, sink))
    now = time.time()
    held = tuple(
        Container(
            uuid=f"zzzzz-dz642-{count:015d}",
            state=ContainerState.LOCKED,
            priority=1,
            resources=Resources(1, 1 << 30),
            created_at=now - count % 3600,
            dispatcher=ME.dispatcher,
        )
        for count in range(number)
    )
    for message in (Registered(ME, 1e18), Following(ME), Held(ME, held)):
        dispatcher.tell(message)
    return dispatcher


if __name__ == "__main__":
    main()
