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

from rich.console import Console
from rich.table import Table

from backlog import SHAPES
from measures import MEASUREMENTS, Bench, Figure, say
from serving import Refused, postgresql, server, syncs_per_second


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
    console = Console()
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
        report(console, name, benches, options, syncs)
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
    database = nullcontext("") if name == "sqlite" else postgresql(folder)
    with database as url, server(folder, url) as running:
        bench = Bench(
            running, size, options.seconds, options.connections, f"{name}, {size:,} queued"
        )
        bench.prepare(options.misfits)
        for measurement in MEASUREMENTS:
            measurement(bench)
    return bench


def report(
    console: Console, name: str, benches: Sequence[Bench], options: Options, syncs: float
) -> None:
    """Print the table of one database."""
    table = Table(
        title=f"{name}: one server process, {options.connections} connections unless said otherwise"
    )
    table.add_column("")
    for bench in benches:
        table.add_column(f"{bench.size:,} queued", justify="right")
    table.add_column("growth", justify="right")
    for bench in benches:
        table.add_column(f"CPU s/1,000 calls, {bench.size:,}", justify="right")
    first, last = benches[0], benches[-1]
    for row, figure in first.figures.items():
        growth = last.figures[row].value / figure.value
        table.add_row(
            row,
            *(shown(bench.figures[row]) for bench in benches),
            f"{growth:.2f}",
            *(shown(bench.cpu[row]) if row in bench.cpu else "" for bench in benches),
        )
    console.print(table)
    console.print(
        f"The disk makes {syncs:,.0f} single blocks durable per second. The queue: {SHAPES} requests "
        f"committed through the API, all others copied into the tables; {options.misfits:,} more that "
        "fit no node, before all of them."
    )


def shown(figure: Figure) -> str:
    """With three digits or more, and the unit."""
    digits = 0 if figure.value >= 100 else 1 if figure.value >= 10 else 2
    return f"{figure.value:,.{digits}f} {figure.unit}"


if __name__ == "__main__":
    sys.exit(main())
