"""Commands as functions: a site on the in-memory API, and what came out."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nodemanager.api.endpoint import Endpoint
from nodemanager.cli.management import Management
from nodemanager.cli.out import Out
from nodemanager.cli.parser import parse
from nodemanager.cli.site import Access, Site
from nodemanager.model import Node, NodeState, Resources
from nodemanager.testing import Harness

GIB = 2**30


def node(name: str, cores: int = 4, ram_gib: int = 4) -> Node:
    total = Resources(cores, ram_gib * GIB, 100 * GIB)
    return Node(name, NodeState.IDLE, total, total)


def memory_site(client: Any, store: Path | None = None) -> Site:
    """A site whose API is in this process, and whose daemon has no management server."""
    access = Access(Endpoint("https://memory", "token", None), "the root token of the tests")
    return Site(
        find=lambda: access,
        management=Management(missing="there is none in tests"),
        store=store,
        client=client,
    )


@dataclass
class Shell:
    """Runs commands on one site, as typed; time passes where they wait."""

    site: Site
    harness: Harness
    out: str = ""
    err: str = ""
    after_pause: list[Callable[[], None]] = field(default_factory=list)
    """What happens while a command waits, one each time."""

    def run(self, *words: str, width: int | None = None) -> int:
        """The exit status; what was written is in `out` and `err`."""
        flags: argparse.Namespace = parse(list(words))
        file, errors = io.StringIO(), io.StringIO()
        out = Out(
            as_json=getattr(flags, "as_json", False),
            file=file,
            errors=errors,
            clock=self.harness.clock,
            width=width,
            sleep=self._pause,
        )
        try:
            status: int = flags.command.run(self.site, flags, out)
        finally:
            self.out, self.err = file.getvalue(), errors.getvalue()
        return status

    def _pause(self, seconds: float) -> None:
        if self.after_pause:
            self.after_pause.pop(0)()
        self.harness.advance(seconds)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(nodes=[node("n1")]) as harness:
        yield harness


@pytest.fixture
def shell(harness: Harness) -> Shell:
    return Shell(memory_site(harness.root), harness)
