"""The command ``arvados-container-runner``: reads one `RunnerSpec` from standard input and runs it.

Exit status: 0 the end of the container was reported, whatever it was; 64 wrong usage, or a specification
that cannot be used; 70 the API refused to record the end; 77 the container is not, or no longer, ours.
A probe ends with 0 or as `nodemanager.runner.report.Check` says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from nodemanager.errors import ConfigError
from nodemanager.runner.process import Command
from nodemanager.runner.run import run
from nodemanager.runner.spec import RunnerSpec
from nodemanager.runner.stop import Stop

EXIT_USAGE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one container; returns the exit status."""
    if sys.argv[1:] if arguments is None else arguments:
        sys.stderr.write(
            "usage: arvados-container-runner < specification\n"
            "Takes no arguments: standard input is one JSON object that the dispatcher makes.\n"
        )
        return EXIT_USAGE
    stop = Stop()
    stop.listen_to_signals()
    try:
        spec = RunnerSpec.from_json(sys.stdin.buffer.read())
        # Nobody reads the specification again, least of all the command.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        if spec.probe:
            # Every container's job pays for what is imported at the start, and few are probes.
            from nodemanager.runner.probe import probe  # noqa: PLC0415

            return probe(spec)
        return run(spec, Command(), stop)
    except ConfigError as error:
        sys.stderr.write(f"arvados-container-runner: {error}\n")
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
