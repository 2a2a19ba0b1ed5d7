"""One API server process under load: calls per second, latencies, and how they grow with the queue.

    python benchmarks/api.py --sizes 1000 --databases sqlite      half a minute
    python benchmarks/api.py                                      10,000 and 100,000 queued: some minutes

For each database and each length of the queue a server is started as an operator would (HTTPS, its own
certificate), the queue is filled, and processes with one connection each send calls for a few seconds.
Between two measurements the queue is filled up again. A call is measured from its first byte to the last
one of its answer; "growth" compares the longest queue with the shortest, better when it is near 1. The CPU
time is the server's alone, without the load processes and without PostgreSQL's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from backlog import SHAPES
from bench import Bench, Figure, say
from measures import MEASUREMENTS
from serving import Refused, postgresql, server, syncs_per_second

_FIRST_COLUMN = 50
_OTHER_COLUMNS = 12


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    sizes: Sequence[int]
    databases: Sequence[str]
    seconds: float
    connections: int
    misfits: int
    directory: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table for each database; 1 when a server refused its database."""
    options = _options(arguments)
    status = 0
    for name in options.databases:
        benches: list[Bench] = []
        syncs = 0.0
        try:
            for size in options.sizes:
                with tempfile.TemporaryDirectory(prefix="bench-api-", dir=options.directory) as f:
                    syncs = syncs_per_second(Path(f))
                    benches.append(measure(name, size, Path(f), options))
        except Refused as error:
            say(f"{name}: not measured: the server does not start:\n{error}")
            status = 1
            continue
        report(name, benches, options, syncs)
    return status


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 100_000], help="containers in the queue"
    )
    parser.add_argument(
        "--databases",
        nargs="+",
        choices=("sqlite", "postgresql"),
        default=["sqlite", "postgresql"],
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--connections", type=int, default=8, help="that send at the same time")
    parser.add_argument(
        "--misfits",
        type=int,
        default=0,
        help="containers that are more urgent than the queue and fit no node",
    )
    parser.add_argument(
        "--directory", type=Path, help="where the databases are put, to measure another disk"
    )
    return Options(**vars(parser.parse_args(arguments)))


def measure(name: str, size: int, folder: Path, options: Options) -> Bench:
    """All figures for one database and one length of the queue."""
    database = nullcontext("") if name == "sqlite" else postgresql()
    with database as url, server(folder, url) as running:
        bench = Bench(
            running, size, options.seconds, options.connections, f"{name}, {size:,} queued"
        )
        bench.prepare(options.misfits)
        for measurement in MEASUREMENTS:
            measurement(bench)
    return bench


def report(name: str, benches: Sequence[Bench], options: Options, syncs: float) -> None:
    """Print the table of one database."""
    first, last = benches[0], benches[-1]
    heads = [f"{bench.size:,}" for bench in benches]
    print(
        f"\n{name}: one server process, {options.connections} connections where not said otherwise"
    )
    print_row("containers queued", *heads, "growth", *(f"CPU, {head}" for head in heads))
    for row, figure in first.figures.items():
        print_row(
            row,
            *(shown(bench.figures[row]) for bench in benches),
            f"{last.figures[row].value / figure.value:.2f}",
            *(shown(bench.cpu[row]) if row in bench.cpu else "" for bench in benches),
        )
    print(
        "CPU: seconds of the server for 1,000 calls. growth: the last queue's figure by the first's."
    )
    print(
        f"The queue: {SHAPES} requests committed through the API, the others copied in the tables; "
        f"before them {options.misfits:,} that fit no node."
    )
    print(f"The disk: {syncs:,.0f} blocks of 4 KiB made durable per second, one after the other.")


def print_row(first: str, *others: str) -> None:
    """One line of the table."""
    print(first.ljust(_FIRST_COLUMN), *(cell.rjust(_OTHER_COLUMNS) for cell in others))


def shown(figure: Figure) -> str:
    """With three digits or more, and the unit."""
    digits = 0 if figure.value >= 100 else 1 if figure.value >= 10 else 2
    return f"{figure.value:,.{digits}f} {figure.unit}"


if __name__ == "__main__":
    sys.exit(main())
