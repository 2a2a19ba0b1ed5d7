"""The measurements: what is sent to the server, and which figures come of it.

Each is a function of a `Bench`; `MEASUREMENTS` has them in their order, in which one leaves claimed
containers to the next.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from bench import MISFIT_PRIORITY, MOST_CLAIMED, PATH, Bench
from load import Call, Outcome, Running, endless, run, send
from nodemanager.api.client import CONTAINER_FIELDS

BATCH = 100
UPDATES = 50
PAGE = 100
WAKE_UPS = 20

# Containers for the updates one by one, per second of measurement and connection.
_STOCK = 300
_HOLD_SECONDS = 0.25
"""What a claim is given to reach the server and to be held there, before what it waits for comes."""

_SMALL_RAM = 2**20
"""What the wake-ups' requests ask for; everything else in the queue wants a thousand times as much."""


def each_way(bench: Bench, row: str, measure: Callable[[str, int], None]) -> None:
    """Measure on all connections, then on a single one."""
    measure(row, bench.connections)
    measure(f"{row}, 1 connection", 1)


def commits(bench: Bench) -> None:
    """New requests, which make the queue longer for a moment."""

    def measure(row: str, connections: int) -> None:
        loads = [bench.load(bench.backlog.commits()) for _ in range(connections)]
        outcome = run(bench.target, loads)
        bench.backlog.depth += len(outcome.latencies)
        bench.rate(row, outcome)

    each_way(bench, "commits of requests", measure)


def claims(bench: Bench) -> None:
    """One by one and in batches."""

    def measure(row: str, connections: int, limit: int) -> None:
        total, claimed = Outcome(began=0.0), 0
        # In rounds: a fast server would have emptied a short queue long before the time is over.
        while total.ended < bench.seconds:
            bench.refill()
            outcome = run(bench.target, bench.claims(limit, connections))
            claimed += bench.claimed(outcome)
            total.latencies += outcome.latencies
            total.server_cpu += outcome.server_cpu
            total.ended += outcome.ended - outcome.began
        bench.rate(row, total, claimed)

    each_way(bench, "claims, one by one", lambda row, n: measure(row, n, 1))
    each_way(bench, f"claims, {BATCH} in a call", lambda row, n: measure(row, n, BATCH))
    bench.refill()


def updates(bench: Bench) -> None:
    """Many reports in a call, none of which ends a container."""

    def measure(row: str, connections: int) -> None:
        mine = [bench.take_locked(UPDATES) for _ in range(connections)]
        loads = [bench.load(endless(partial(_activity, bench, uuids)), keep=True) for uuids in mine]
        outcome = run(bench.target, loads)
        done = [item["status"] for answer in outcome.answers for item in answer["items"]]
        if set(done) != {200}:
            raise SystemExit(f"an update was refused: {set(done)}")
        bench.rate(row, outcome, len(done))
        for uuids in mine:
            bench.locked += uuids

    each_way(bench, f"updates, {UPDATES} in a call", measure)


def _activity(bench: Bench, uuids: Sequence[str]) -> Call:
    text = f"at {time.monotonic()}"
    return bench.post(
        "containers/batch_update",
        updates=[
            {"uuid": uuid, "attributes": {"runtime_status": {"activity": text}}} for uuid in uuids
        ],
    )


def runners(bench: Bench) -> None:
    """What runners write one by one: that they start, that they have ended."""

    def measure(suffix: str, connections: int) -> None:
        share = int(_STOCK * bench.seconds)
        uuids = bench.take_locked(min(share * connections, int(bench.size * MOST_CLAIMED)))
        tokens = bench.tokens_of(uuids)
        started: list[str] = []
        for row, attributes, those in (
            ("runners' starts", _started, uuids),
            ("runners' ends", _ended, started),
        ):
            shares = [those[n::connections] for n in range(connections)]
            outcome = run(
                bench.target,
                [
                    bench.load(
                        (_report(uuid, tokens[uuid], attributes()) for uuid in share), keep=True
                    )
                    for share in shares
                ],
            )
            bench.rate(f"{row}{suffix}", outcome)
            started += [answer["uuid"] for answer in outcome.answers]

    measure("", bench.connections)
    measure(", 1 connection", 1)


def _started() -> dict[str, Any]:
    return {"state": "Running", "runner_id": secrets.token_hex(16)}


def _ended() -> dict[str, Any]:
    return {"state": "Complete", "exit_code": 0, "output": "/store/output", "log": "/store/log"}


def _report(uuid: str, token: str, attributes: dict[str, Any]) -> Call:
    body = json.dumps({"container": attributes}).encode()
    return Call("PUT", f"{PATH}containers/{uuid}", token, body)


def reads(bench: Bench) -> None:
    """One record, and lists while nothing else happens."""
    uuids = bench.take_locked(PAGE)
    bench.locked += uuids
    calls = [bench.get(f"containers/{uuid}") for uuid in uuids]

    def measure(row: str, connections: int) -> None:
        bench.rate(row, run(bench.target, [bench.load(cycle(calls)) for _ in range(connections)]))

    each_way(bench, "get", measure)
    for row, call in _lists(bench).items():
        outcome = run(bench.target, [bench.load(cycle([call]))])
        bench.latency(row, outcome, alone=True)


def reads_beside_claims(bench: Bench) -> None:
    """The same lists while half of the connections claim one by one, as fast as they can."""
    for row, call in _lists(bench).items():
        bench.refill()
        others = bench.claims(1, max(1, bench.connections // 2))
        with Running(bench.target, others) as claiming:
            outcome = run(bench.target, [bench.load(cycle([call]))])
            claiming.stop()
            bench.claimed(claiming.outcome())
        bench.latency(f"{row}, beside claims", outcome, alone=False)
    bench.refill()


def _lists(bench: Bench) -> dict[str, Call]:
    waiting = {"filters": [["state", "=", "Queued"], ["priority", ">", 0]], "limit": PAGE}
    urgent_first = {"order": "priority desc, created_at asc", "count": "none"}
    return {
        f"list of {PAGE} whole": bench.get("containers", **waiting, **urgent_first),
        f"list of {PAGE}, the daemon's fields": bench.get(
            "containers", **waiting, **urgent_first, select=list(CONTAINER_FIELDS)
        ),
        f"list of {PAGE}, 4 fields": bench.get(
            "containers",
            **waiting,
            **urgent_first,
            select=["uuid", "state", "priority", "created_at"],
        ),
        "count, no items": bench.get(
            "containers", filters=waiting["filters"], limit=0, count="exact"
        ),
    }


def wake_ups(bench: Bench) -> None:
    """From sending a commit to the answer of the claim that was held open for it.

    The claim is that of a dispatcher so small that it fits nothing else in the queue, which it has to
    look through in vain each time.
    """
    token = bench.server.new_token("--dispatcher", "small")
    node = {"cores": 1, "ram_bytes": _SMALL_RAM, "scratch_bytes": 2**42, "gpus": 0}
    me = bench.register("small", token, node)
    in_vain = bench.post("containers/claim", token, **me, claim_id="in-vain", limit=1, wait=0)
    row = "claim that finds nothing that fits"
    bench.latency(row, run(bench.target, [bench.load(cycle([in_vain]))]), alone=True)
    waiting, committing = bench.target.connect(), bench.target.connect()
    outcome = Outcome(began=time.monotonic())
    for number in range(WAKE_UPS):
        body = {**me, "claim_id": secrets.token_hex(16), "limit": 1, "wait": 30}
        claim = bench.post("containers/claim", token, **body)
        answered: list[float] = []

        def hold(claim: Call = claim, answered: list[float] = answered) -> None:
            reply = json.loads(send(waiting, claim))
            if len(reply["items"]) == 1:
                answered.append(time.monotonic())

        holder = threading.Thread(target=hold)
        holder.start()
        time.sleep(_HOLD_SECONDS)
        commit = bench.backlog.commit(number, MISFIT_PRIORITY + 10, vcpus=1, ram=_SMALL_RAM)
        began = time.monotonic()
        send(committing, commit)
        holder.join()
        if not answered:
            raise SystemExit("a held claim came back without the container it waited for")
        outcome.latencies.append(answered[0] - began)
    waiting.close()
    committing.close()
    bench.latency("commit to a held claim's answer", outcome, alone=False)


MEASUREMENTS: tuple[Callable[[Bench], None], ...] = (
    commits,
    claims,
    updates,
    runners,
    reads,
    reads_beside_claims,
    wake_ups,
)
