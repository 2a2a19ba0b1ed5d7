"""The pooled actor against pykka's ThreadingActor: memory, start, tell, ask, stop.

    python benchmarks/actors.py --sizes 1000            seconds
    python benchmarks/actors.py                         1,000, 10,000 and 100,000: under three minutes

Every column is measured in a fresh process. ThreadingActor is measured up to 10,000 only: it has a thread
per actor, and near 20,000 the system gives no more. Memory is what the process has resident; the kernel's
part of a thread (some 20 KiB of stack and tables more) is not in it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pykka

from nodemanager.actors.actor import PooledActor
from nodemanager.actors.pool import ActorPool, use_pool

MOST_THREADS = 10_000
OUTSTANDING = 1000
LONGEST_COLUMN_SECONDS = 60

Ref = pykka.ActorRef[Any]


class Pooled(PooledActor):
    """Answers what it is sent."""

    def on_receive(self, message: Any) -> Any:
        """Do nothing else."""
        return message


class Threaded(pykka.ThreadingActor):
    """The same, on a thread of its own."""

    def on_receive(self, message: Any) -> Any:
        """Do nothing else."""
        return message


KINDS: dict[str, type[Pooled | Threaded]] = {"PooledActor": Pooled, "ThreadingActor": Threaded}

ROWS = {
    "memory": "memory per actor, KiB",
    "start": "start, us per actor",
    "tell_one": "tell, one receiver, per s",
    "tell_spread": "tell, spread over all, per s",
    "ask_one": "ask, one at a time, per s",
    "ask_many": f"ask, {OUTSTANDING} outstanding, per s",
    "stop": "stop_all(block=False), us per actor",
    "stop_one": "stop, one at a time, us per actor",
    "threads": "threads",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or (as a child) measure one column."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--column", nargs=2, metavar=("KIND", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.column:
        kind, size = options.column
        sys.stdout.write(json.dumps(measure(KINDS[kind], int(size))))
        # A process with thousands of threads need not end in good order.
        sys.stdout.flush()
        os._exit(0)
    columns = [
        (kind, size)
        for size in options.sizes
        for kind in KINDS
        if kind != "ThreadingActor" or size <= MOST_THREADS
    ]
    show(columns, [in_child(kind, size) for kind, size in columns])
    return 0


def in_child(kind: str, size: int) -> dict[str, float]:
    """Measure one column in a process of its own; empty if it fails."""
    command = [sys.executable, __file__, "--column", kind, str(size)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_COLUMN_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        sys.stderr.write(f"{kind} with {size:,} actors: {error}\n")
        return {}
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def show(columns: Sequence[tuple[str, int]], results: Sequence[dict[str, float]]) -> None:
    """Print one row for each thing that was measured."""
    heads = [f"{kind} {size:,}" for kind, size in columns]
    first = max(len(row) for row in ROWS.values())
    print(" " * first, *heads, sep="  ")
    for key, row in ROWS.items():
        cells = [
            "failed" if key not in result else f"{result[key]:,.{int(result[key] < 100)}f}"
            for result in results
        ]
        padded = [cell.rjust(len(head)) for cell, head in zip(cells, heads, strict=True)]
        print(row.ljust(first), *padded, sep="  ")
    if any(size > MOST_THREADS for _, size in columns):
        print(f"ThreadingActor is not measured above {MOST_THREADS:,}: one thread per actor.")


def measure(kind: type[Pooled | Threaded], size: int) -> dict[str, float]:
    """All rows for `size` actors of `kind`."""
    logging.getLogger("pykka").setLevel(logging.ERROR)
    use_pool(ActorPool())
    kind.start().ask(0)
    before = resident_bytes()
    started, refs = timed(lambda: start_all(kind, size))
    result = {
        "start": 1e6 * started / size,
        "memory": (resident_bytes() - before) / size / 1024,
        "threads": thread_count(),
    }
    few = kind is Threaded
    tells, asks = (20_000, 10_000) if few else (200_000, 50_000)
    result["tell_one"] = tells / timed(lambda: tell_one(refs[0], tells))[0]
    result["tell_spread"] = max(tells, size) / timed(lambda: tell_spread(refs, max(tells, size)))[0]
    result["ask_one"] = asks / 10 / timed(lambda: ask_one(refs, asks // 10))[0]
    result["ask_many"] = asks / timed(lambda: ask_many(refs, asks))[0]
    some = refs[:: max(1, size // 500)]
    result["stop_one"] = 1e6 * timed(lambda: [ref.stop() for ref in some])[0] / len(some)
    result["stop"] = 1e6 * timed(stop_all)[0] / (size - len(some))
    return result


def start_all(kind: type[Pooled | Threaded], size: int) -> list[Ref]:
    """Started, and each has run its `on_start`."""
    refs: list[Ref] = [kind.start() for _ in range(size)]
    refs[-1].ask(0)
    return refs


def tell_one(ref: Ref, messages: int) -> None:
    """All to one actor; over when it has handled the last."""
    for number in range(messages):
        ref.tell(number)
    ref.ask(0)


def tell_spread(refs: Sequence[Ref], messages: int) -> None:
    """To each in turn; over when all have handled all."""
    size = len(refs)
    for number in range(messages - size):
        refs[number % size].tell(number)
    # The last round are asks, so that all are waited for.
    pykka.get_all([ref.ask(0, block=False) for ref in refs])


def ask_one(refs: Sequence[Ref], messages: int) -> None:
    """The next when the last is answered."""
    for number in range(messages):
        refs[number % len(refs)].ask(number)


def ask_many(refs: Sequence[Ref], messages: int) -> None:
    """A thousand questions at a time."""
    for begin in range(0, messages, OUTSTANDING):
        numbers = range(begin, begin + OUTSTANDING)
        pykka.get_all([refs[n % len(refs)].ask(n, block=False) for n in numbers])


def stop_all() -> None:
    """Over when all have stopped."""
    pykka.get_all(pykka.ActorRegistry.stop_all(block=False))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds it took, and what it returned."""
    began = time.perf_counter()
    value = function()
    return time.perf_counter() - began, value


def resident_bytes() -> int:
    """What this process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def thread_count() -> int:
    """Threads of this process, as the kernel counts them."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    sys.exit(main())
