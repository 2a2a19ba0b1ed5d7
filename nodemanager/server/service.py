"""The API server's logic without HTTP: who calls, one transaction per call, and whom to wake afterwards.

The HTTP side turns requests into `Service.call`; the tests and `nodemanager.testing` call it directly on a
database in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import random
from typing import Any

from nodemanager.server import (
    containers,
    dispatchers,
    queue,
    records,
    requests,
    sweep,
    tokens,
)
from nodemanager.server.annotations import annotate
from nodemanager.server.database import Database
from nodemanager.server.methods import METHODS, Method
from nodemanager.server.policy import Policy
from nodemanager.server.resources import RESOURCES
from nodemanager.server.sweep import SweepReport
from nodemanager.server.tokens import NewToken
from nodemanager.server.transaction import (
    Call,
    Caller,
    Handler,
    Transaction,
    arguments_of,
)

__all__ = ["Caller", "Policy", "Service", "SweepReport"]

HANDLERS: Mapping[str, Handler] = {
    "list": records.list_,
    "container_requests.get": records.get,
    "container_requests.create": requests.create,
    "container_requests.update": requests.update,
    "container_requests.attempts": requests.attempts,
    "containers.get": records.get,
    "containers.update": containers.update,
    "containers.batch_update": containers.batch_update,
    "containers.claim": queue.claim,
    "containers.changes": queue.changes,
    "containers.auth": containers.auth,
    "containers.auth_many": containers.auth_many,
    "containers.current": containers.current,
    "containers.secret_mounts": containers.secret_mounts,
    "containers.annotate": annotate,
    "dispatchers.get": records.get,
    "dispatchers.create": dispatchers.create,
    "dispatchers.ping": dispatchers.ping,
    "dispatchers.retire": dispatchers.retire,
    "dispatchers.lose": dispatchers.lose,
    "links.get": records.get,
    "links.create": records.create,
    "links.delete": records.delete,
    "logs.get": records.get,
    "logs.create": records.create,
    "logs.delete": records.delete,
    "users.get": records.get,
    "users.current": tokens.current_user,
    "api_client_authorizations.current": tokens.current_authorization,
}
"""The function behind each `Method.handler`."""


class Service:
    """One API server's logic over one database. Any thread may call it.

    A lost dispatcher is declared so only a full `policy.ping_timeout` after this was made, since before
    nobody could have pinged it. `jitter` gives numbers in [0, 1) for the wait between attempts.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        cluster_id: str,
        jitter: Callable[[], float] = random,
    ) -> None:
        self.database = database
        self.policy = policy
        self.cluster_id = cluster_id
        self._jitter = jitter
        self._started = database.elapsed()
        self._callbacks: list[Callable[[str], None]] = []
        self._callbacks_lock = threading.Lock()
        with database.write() as conn:
            tokens.ensure_root_user(conn, cluster_id, database.now(conn))

    def authenticate(self, token: str | None) -> Caller:
        """Who acts with `token`; `ServerError` 401 when nobody does."""
        with self.database.read() as conn:
            now = self.database.now(conn)
            return tokens.identify(conn, token, self.policy.root_token, self.cluster_id, now)

    def call(
        self,
        caller: Caller,
        method: Method,
        path: Mapping[str, str],
        query: Mapping[str, Any],
        body: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Do one call in one transaction and answer with its JSON; `ServerError` changes nothing.

        `query` holds the parameters (texts or JSON values), `body` the JSON object of the request. Never
        waits: `Method.wait` is the HTTP side's affair.
        """
        is_list = method.handler == "list"
        call = Call(
            method=method,
            uuid=path.get("uuid", ""),
            arguments={**query, **body} if is_list else arguments_of(method, query, body),
            body=body,
            singular=RESOURCES[method.resource].singular,
        )
        handler = HANDLERS[method.handler]
        if not method.writes:
            with self.database.read() as conn:
                return handler(self._transaction(conn, caller), call)
        with self._writing(caller) as tx:
            return handler(tx, call)

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback` with a topic after each commit that concerns one; returns the way out.

        Topics: ``queue`` (something became claimable, or will at a new time) and ``dispatcher:<uuid>``
        (one of its containers was changed by somebody else). It runs in the thread that committed, and
        must neither block nor raise.
        """
        with self._callbacks_lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._callbacks_lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def next_due(self) -> float | None:
        """Unix time of the next moment at which a waiting container becomes claimable by itself."""
        with self.database.read() as conn:
            due = queue.next_due(conn, self.database.now(conn))
        return None if due is None else due / 1_000_000

    def sweep(self) -> SweepReport:
        """Look after the leases: find lost dispatchers, end what they held, in small transactions."""
        may_lose = self.database.elapsed() - self._started >= self.policy.ping_timeout
        return sweep.sweep(lambda: self._writing(Caller("root")), may_lose=may_lose)

    def create_dispatcher_token(self, name: str) -> NewToken:
        """A token that may make and be the dispatcher `name`."""
        with self.database.write() as conn:
            now = self.database.now(conn)
            return tokens.create_dispatcher_token(conn, self.cluster_id, name, now)

    def create_user_token(self, name: str) -> NewToken:
        """A token for the user `name`, who is made when missing."""
        with self.database.write() as conn:
            return tokens.create_user_token(conn, self.cluster_id, name, self.database.now(conn))

    def revoke_token(self, uuid: str) -> None:
        """Take the token back; `ServerError` 404 when there is none."""
        with self.database.write() as conn:
            tokens.revoke_token(conn, uuid)

    @contextmanager
    def _writing(self, caller: Caller) -> Iterator[Transaction]:
        """A transaction that changes things; who waits for its topics is told after the commit."""
        with self.database.write() as conn:
            tx = self._transaction(conn, caller)
            yield tx
        if tx.topics:
            with self._callbacks_lock:
                callbacks = list(self._callbacks)
            for topic in sorted(tx.topics):
                for callback in callbacks:
                    callback(topic)

    def _transaction(self, conn: Any, caller: Caller) -> Transaction:
        now = self.database.now(conn)
        return Transaction(conn, now, caller, self.policy, self.cluster_id, self._jitter)


METHODS_BY_ID: Mapping[str, Method] = {method.id: method for method in METHODS}
"""For callers without routes, such as tests: ``METHODS_BY_ID["containers.claim"]``."""
