"""What the measurements work with: one server, its queue, who drives it, and what was found so far."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from backlog import LARGEST_NODE, MOST_URGENT, Backlog
from load import Call, Load, Outcome, ask
from serving import Server

MOST_CLAIMED = 0.3
"""A measurement takes no more than this part of the queue, so that it stays as long as it is said to be."""

MISFIT_PRIORITY = MOST_URGENT + 50
PATH = "/arvados/v1/"

_LARGE_CLAIM = 1000


@dataclass(frozen=True)
class Figure:
    """One number of the table: per second, milliseconds, or CPU seconds of 1,000 calls."""

    value: float
    unit: str


def say(line: str) -> None:
    """Progress, beside the tables on standard output."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Bench:
    """One server with its queue, who drives it, and what was found so far."""

    def __init__(
        self, server: Server, size: int, seconds: float, connections: int, title: str
    ) -> None:
        self.server = server
        self.target = server.target
        self.backlog = Backlog(server)
        self.size = size
        self.seconds = seconds
        self.connections = connections
        self.title = title
        self.figures: dict[str, Figure] = {}
        """By the text of the row."""
        self.cpu: dict[str, Figure] = {}
        """The server's CPU time, by the same text."""
        self.locked: list[str] = []
        """UUIDs of containers that were claimed and not written to since."""
        self.token = server.new_token("--dispatcher", "bench")
        self.me = self.register("bench", self.token, LARGEST_NODE)

    def register(self, name: str, token: str, node: dict[str, int]) -> dict[str, Any]:
        """Make a dispatcher; returns what says in a call who it is."""
        attributes = {
            "name": name,
            "scheduler": "bench",
            "capabilities": {"largest": [node], "partitions": []},
        }
        body = json.dumps({"dispatcher": attributes}).encode()
        made = ask(self.target, Call("POST", f"{PATH}dispatchers", token, body))
        return {"dispatcher": made["uuid"], "epoch": made["epoch"]}

    def prepare(self, misfits: int) -> None:
        """Fill the queue, and put so many containers before it that fit no node."""
        began = time.monotonic()
        self.refill()
        self.backlog.add_misfits(misfits, MISFIT_PRIORITY)
        found, expected = self.backlog.queued(), self.size + misfits
        if found != expected:
            raise SystemExit(f"{self.title}: {found:,} containers are queued, not {expected:,}")
        say(f"{self.title}: filled in {time.monotonic() - began:.0f} s")

    def refill(self) -> None:
        """Make the queue as long again as it is to be."""
        self.backlog.fill(
            self.size,
            lambda depth: say(f"{self.title}: {depth:,} are in the queue"),
        )

    def post(self, method: str, token: str | None = None, **body: Any) -> Call:
        """A call of the dispatcher's, or with `token`."""
        content = json.dumps({**({} if token else self.me), **body}).encode()
        return Call("POST", f"{PATH}{method}", token or self.token, content)

    def get(self, path: str, **parameters: Any) -> Call:
        """A GET of the dispatcher's."""
        query = urlencode(
            {k: v if isinstance(v, str) else json.dumps(v) for k, v in parameters.items()}
        )
        return Call("GET", f"{PATH}{path}?{query}", self.token)

    def claim(self, limit: int) -> Call:
        """A claim with a fresh id, as the daemon makes it."""
        return self.post("containers/claim", claim_id=secrets.token_hex(16), limit=limit, wait=0)

    def claims(self, limit: int, connections: int) -> list[Load]:
        """Claims on so many connections that together leave most of the queue."""
        most = max(1, int(self.size * MOST_CLAIMED / limit / connections))
        return [
            self.load((self.claim(limit) for _ in range(most)), keep=True)
            for _ in range(connections)
        ]

    def load(self, calls: Iterator[Call], *, keep: bool = False) -> Load:
        """One connection's calls, for the time that the command line gives."""
        return Load(calls, self.seconds, keep)

    def claimed(self, outcome: Outcome) -> int:
        """Note what was claimed; returns how many."""
        uuids = [item["uuid"] for answer in outcome.answers for item in answer["items"]]
        if len(uuids) != len(set(uuids)):
            raise SystemExit("a container was claimed twice")
        self.locked += uuids
        self.backlog.depth -= len(uuids)
        return len(uuids)

    def take_locked(self, number: int) -> list[str]:
        """So many claimed containers, none of which is given out twice."""
        while len(self.locked) < number:
            missing = min(number - len(self.locked), _LARGE_CLAIM, self.size)
            answer = ask(self.target, self.claim(missing))
            self.claimed(Outcome(answers=[answer]))
            self.refill()
        taken, self.locked = self.locked[:number], self.locked[number:]
        return taken

    def tokens_of(self, uuids: Sequence[str]) -> dict[str, str]:
        """The runners' tokens, by container."""
        made: dict[str, str] = {}
        for begin in range(0, len(uuids), _LARGE_CLAIM):
            some = list(uuids[begin : begin + _LARGE_CLAIM])
            answer = ask(self.target, self.post("containers/auth_many", uuids=some))
            made |= {item["container_uuid"]: item["api_token"] for item in answer["items"]}
        return made

    def rate(self, row: str, outcome: Outcome, things: int | None = None) -> None:
        """Note `things` (the calls, when not given) per second, and the CPU time of the calls."""
        number = len(outcome.latencies) if things is None else things
        self._note(row, Figure(number / (outcome.ended - outcome.began), "/s"))
        self.cpu[row] = Figure(outcome.cpu_per_thousand, "s")

    def latency(self, row: str, outcome: Outcome, *, alone: bool) -> None:
        """Note how long calls take; also their CPU time, if they were `alone`."""
        for percent in (50, 99):
            self._note(f"{row}, p{percent}", Figure(1000 * outcome.quantile(percent), "ms"))
        if alone:
            self.cpu[f"{row}, p50"] = Figure(outcome.cpu_per_thousand, "s")

    def _note(self, row: str, figure: Figure) -> None:
        self.figures[row] = figure
        say(f"{self.title}: {row}: {figure.value:,.1f} {figure.unit}")
