"""All subcommands, in the order in which `--help` and the reference page show them."""

from __future__ import annotations

from nodemanager.cli.command import Command, CommandGroup
from nodemanager.cli.dispatchers import DISPATCHERS
from nodemanager.cli.logs import LOGS
from nodemanager.cli.nodes import NODES
from nodemanager.cli.prune import PRUNE
from nodemanager.cli.queue import QUEUE
from nodemanager.cli.status import STATUS
from nodemanager.cli.submit import SUBMIT
from nodemanager.cli.verbs import CANCEL, HOLD, RELEASE, RETRY_NOW
from nodemanager.cli.watch import WATCH
from nodemanager.cli.why import WHY

COMMANDS: tuple[Command | CommandGroup, ...] = (
    STATUS,
    QUEUE,
    WHY,
    SUBMIT,
    WATCH,
    LOGS,
    CANCEL,
    HOLD,
    RELEASE,
    RETRY_NOW,
    NODES,
    DISPATCHERS,
    PRUNE,
)
