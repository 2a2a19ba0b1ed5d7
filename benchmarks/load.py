"""Load on an API server: processes that each send one request after the other over their own connection.

A process each, because a client in Python spends a sixth of a millisecond on a call, and the server must be
what is measured. What is sent is prepared, and what comes back is read only when the clock has stopped.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import secrets
import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

PATIENCE_SECONDS = 120.0
"""For all that is not measured: connecting, and a last call that takes long."""

# Workers are forked, so that what they send need not be pickled; nothing here has threads then.
_processes = multiprocessing.get_context("fork")


class Call(NamedTuple):
    """One request, ready to be sent."""

    method: str
    path: str
    token: str
    body: bytes | None = None


@dataclass(frozen=True)
class Target:
    """A server: its URL, and the file with the certificate to trust."""

    url: str
    ca_file: str
    pid: int

    def connect(self) -> http.client.HTTPSConnection:
        """A connection that is open, with the TLS handshake done."""
        parts = urlsplit(self.url)
        trust = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(
            str(parts.hostname), parts.port, context=trust, timeout=PATIENCE_SECONDS
        )
        connection.connect()
        return connection


@dataclass(frozen=True)
class Load:
    """What one connection sends: the calls, until they end or the time is over."""

    calls: Iterator[Call]
    seconds: float
    keep: bool = False
    """Return the answers as well."""


@dataclass
class Outcome:
    """What came of one or several loads. Times in seconds."""

    latencies: list[float] = field(default_factory=list)
    began: float = float("inf")
    ended: float = 0.0
    answers: list[Any] = field(default_factory=list)
    server_cpu: float = 0.0

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds of the server in 1,000 calls."""
        return 1000 * self.server_cpu / len(self.latencies)

    def quantile(self, percent: int) -> float:
        """Seconds within which so many in a hundred calls were answered."""
        if len(self.latencies) == 1:
            return self.latencies[0]
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


def send(connection: http.client.HTTPSConnection, call: Call) -> bytes:
    """Send one request and return what is answered; ends the program when it is refused."""
    # As the Arvados client does; without an id the server would have to make one.
    request_id = f"req-{secrets.token_hex(10)}"
    headers = {"Authorization": f"Bearer {call.token}", "X-Request-Id": request_id}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(call.method, call.path, call.body, headers)
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise SystemExit(f"{call.method} {call.path[:80]}: {reply.status} {content[:500]!r}")
    return content


def ask(target: Target, call: Call) -> Any:
    """The answer to one call on a connection of its own."""
    connection = target.connect()
    try:
        return json.loads(send(connection, call))
    finally:
        connection.close()


def run(target: Target, loads: Sequence[Load]) -> Outcome:
    """Run all loads at once, each on its own connection; what they did, put together."""
    with Running(target, loads) as running:
        return running.outcome()


class Running:
    """Loads that have begun. Leaving the context ends those that have not ended by themselves."""

    def __init__(self, target: Target, loads: Sequence[Load]) -> None:
        self._target = target
        # We wait at it as well: the server's CPU time counts from when all are connected.
        self._start = _processes.Barrier(len(loads) + 1)
        self._stop = _processes.Event()
        self._pipes: list[Connection] = []
        self._workers = []
        for load in loads:
            receiving, sending = _processes.Pipe(duplex=False)
            worker = _processes.Process(target=self._work, args=(load, sending), daemon=True)
            worker.start()
            sending.close()
            self._pipes.append(receiving)
            self._workers.append(worker)
        try:
            self._start.wait(PATIENCE_SECONDS)
        except BrokenBarrierError:
            raise SystemExit("a load process could not connect") from None
        self._cpu_before = cpu_seconds(target.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.join()

    def outcome(self) -> Outcome:
        """Wait for the end of all loads; ends the program when one of them was refused something."""
        total = Outcome()
        for pipe in self._pipes:
            try:
                part = pipe.recv()
            except EOFError:
                raise SystemExit("a load process ended early; see above") from None
            total.latencies += part.latencies
            total.began = min(total.began, part.began)
            total.ended = max(total.ended, part.ended)
            total.answers += [json.loads(answer) for answer in part.answers]
        total.server_cpu = cpu_seconds(self._target.pid) - self._cpu_before
        if not total.latencies:
            raise SystemExit("no call was made in the time given")
        return total

    def stop(self) -> None:
        """Let every load end after its present call."""
        self._stop.set()

    def _work(self, load: Load, sending: Connection) -> None:
        """In a process of its own."""
        try:
            connection = self._target.connect()
        except OSError:
            self._start.abort()
            raise
        self._start.wait(PATIENCE_SECONDS)
        part = Outcome(began=time.monotonic())
        end = part.began + load.seconds
        clock = time.monotonic
        for call in load.calls:
            before = clock()
            if before >= end or self._stop.is_set():
                break
            content = send(connection, call)
            part.latencies.append(clock() - before)
            if load.keep:
                part.answers.append(content)
        part.ended = clock()
        connection.close()
        try:
            sending.send(part)
        except BrokenPipeError:  # nobody wants to know
            return


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in all its threads."""
    # The second field is the program's name and may hold anything but a closing bracket.
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def endless(make: Callable[[], Call]) -> Iterator[Call]:
    """A fresh call each time."""
    while True:
        yield make()
