"""The API server's logic without HTTP: who calls, one transaction per call, and whom to wake afterwards.

The HTTP side turns what it receives into `Request`; the tests and `nodemanager.testing` make them directly, on
a database in memory.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import random
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nodemanager.server import (
    access,
    authorizations,
    changes,
    family,
    heartbeat,
    pauses,
    queue,
    sweep,
    tokens,
    users,
)
from nodemanager.server.access import find
from nodemanager.server.database import Database
from nodemanager.server.errors import ServerError, forbidden
from nodemanager.server.handlers import HANDLERS
from nodemanager.server.methods import BASE_PATH, METHODS, Method
from nodemanager.server.notes import checked_reason
from nodemanager.server.policy import Policy
from nodemanager.server.resources import RESOURCES, Row
from nodemanager.server.scopes import allows
from nodemanager.server.sweep import SweepReport
from nodemanager.server.tokens import Identity, NewToken
from nodemanager.server.transaction import (
    Call,
    Caller,
    Transaction,
    arguments_of,
)

__all__ = ["Answer", "Caller", "Policy", "Request", "Service", "SweepReport"]

log = logging.getLogger(__name__)

_TRIES = 5
"""Of one transaction, before whoever collides with it for ever is told to try again."""

_COMMAND = "arvados-dispatch-api"
"""Who acts when an operator uses the command on the database itself."""

Answer = dict[str, Any]
"""JSON, except that it may hold `orjson.Fragment`: JSON that is ready as it is."""


@dataclass(frozen=True)
class Request:
    """One call as it came, before anybody knows who calls.

    `tokens` are those it shows, in the order in which they count; `query` holds the parameters (texts or
    JSON values), `body` the JSON object of the request. `address` is the caller's, empty if not known.
    """

    tokens: Sequence[str]
    method: Method
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    address: str = ""


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
        self._known_beats = 0
        self._callbacks: list[Callable[[str], None]] = []
        self._callbacks_lock = threading.Lock()
        with database.write() as conn:
            database.lock_graph(conn)  # other servers may start at the same moment
            users.ensure_root_user(conn, cluster_id, database.now(conn))

    def authenticate(self, *shown: str) -> Caller:
        """Who acts with the first token that is somebody's; `ServerError` 401 when nobody does."""
        with self.database.read() as conn:
            return self._identify(conn, shown).caller

    def perform(self, request: Request) -> Answer:
        """Do one call in one transaction; `ServerError` changes nothing. Never waits for work."""
        (outcome,) = self.perform_together([request])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def perform_together(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """Do calls that write in as few transactions as the database likes, each whole or not at all.

        What is answered is durable. The answers are in order, a refusal or failure in its place.
        """
        if len(requests) > 1:
            try:
                return self._commit(requests)
            except DBAPIError:
                log.warning(
                    "%d calls together failed; each goes alone",
                    len(requests),
                    exc_info=True,
                    extra={"action": "batch_failed", "calls": len(requests)},
                )
        return [self._alone(request) for request in requests]

    def _alone(self, request: Request) -> Answer | Exception:
        try:
            if request.method.writes:
                return self._commit([request])[0]
            with self.database.read() as conn:
                return self._answer(conn, request, set())
        except (ServerError, DBAPIError) as error:
            return error

    def _commit(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """All of `requests` in one transaction, which is tried anew when others got into its way."""
        topics: set[str] = set()
        for attempt in itertools.count(1):
            topics.clear()
            is_done = False
            try:
                with self.database.write() as conn:
                    answers = self._answers(conn, requests, topics)
                    if topics:
                        self.database.announce(conn, topics)
                    is_done = True
                break
            except DBAPIError as error:
                # When the commit itself fails, nobody knows whether it was done.
                if is_done or attempt == _TRIES or not self.database.may_pass(error):
                    raise
                log.info(
                    "beginning a transaction anew: %s",
                    error.orig,
                    extra={"action": "transaction_repeated"},
                )
        self._tell(topics)
        return answers

    def _answers(
        self, conn: Connection, requests: Sequence[Request], topics: set[str]
    ) -> list[Answer | Exception]:
        if len(requests) == 1:
            return [self._answer(conn, requests[0], topics)]
        answers: list[Answer | Exception] = []
        for request in requests:
            conn.exec_driver_sql("SAVEPOINT one_call")
            try:
                told: set[str] = set()
                answers.append(self._answer(conn, request, told))
                topics |= told
            except DBAPIError:
                raise
            except Exception as error:
                conn.exec_driver_sql("ROLLBACK TO SAVEPOINT one_call")
                answers.append(error)
            conn.exec_driver_sql("RELEASE SAVEPOINT one_call")
        return answers

    def _answer(self, conn: Connection, request: Request, topics: set[str]) -> Answer:
        """Find out who calls, and do the call within `conn`'s transaction."""
        method = request.method
        identity = self._stranger(conn) if method.open else self._identify(conn, request.tokens)
        _check_scopes(identity.caller, request)
        is_list = method.name == "list"
        query, body = request.query, request.body
        call = Call(
            method=method,
            uuid=request.path.get("uuid", ""),
            arguments={**query, **body} if is_list else arguments_of(method, query, body),
            body=body,
            singular=RESOURCES[method.resource].singular,
            address=request.address,
        )
        tx = self._transaction(conn, identity, writes=method.writes)
        answer = HANDLERS[method.handler](tx, call)
        _finish(tx)
        topics |= tx.topics
        return answer

    def _identify(self, conn: Connection, shown: Sequence[str]) -> Identity:
        return tokens.identify(conn, shown, self.policy.root_token, self.cluster_id)

    def _stranger(self, conn: Connection) -> Identity:
        """Whoever needs no token; what it writes is written by the system user."""
        caller = Caller("anonymous", user_uuid=tokens.root_user_uuid(self.cluster_id))
        return Identity(caller, self.database.now(conn))

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

    def look_up(self, plural: str, uuid: str) -> Row:
        """The record as it is stored, for the server itself; `ServerError` 404."""
        with self.database.read() as conn:
            tx = self._transaction(conn, Identity(Caller("root"), 0), writes=False)
            return find(tx, RESOURCES[plural], uuid)

    def reads_files(self, caller: Caller, container_uuid: str) -> bool:
        """Whether `caller` may read the files of a container; false also when there is no such container."""
        with self.database.read() as conn:
            tx = self._transaction(conn, Identity(caller, 0), writes=False)
            return access.reads_files(tx, container_uuid)

    def next_due(self) -> float | None:
        """Unix time of the next moment at which a waiting container becomes claimable by itself."""
        with self.database.read() as conn:
            due = queue.next_due(conn, self.database.now(conn))
        return None if due is None else due / 1_000_000

    def sweep(self) -> SweepReport:
        """Look after the leases: find lost dispatchers, end what they held, in small transactions.

        Does nothing when another server of the database is doing so just now.
        """
        may_lose = self.database.elapsed() - self._started >= self.policy.ping_timeout
        with self.database.sweeper() as is_mine:
            if not is_mine:
                return SweepReport()
            report = sweep.sweep(self._own, may_lose=may_lose)
        if self.policy.pause_claims_after:
            self._known_beats = report.beats
        if report.distrust:
            log.error("claims are paused: %s", report.distrust, extra={"action": "claims_paused"})
        return report

    def distrust_an_old_database(self) -> str:
        """Pause claims if the database may be a backup; why, empty if not. Before this server sweeps."""
        with self._own() as tx:
            return heartbeat.distrust_what_is_old(tx)

    def pause_claims(self, reason: str) -> str:
        """Nobody claims anything until `resume_claims`; the words that are shown. `ServerError` for no reason."""
        with self._own() as tx:
            return pauses.begin(tx, checked_reason(reason), _COMMAND)

    def resume_claims(self) -> str:
        """End the pause of all dispatchers; returns why it was, empty if it was not."""
        with self._own() as tx:
            return pauses.finish(tx, _COMMAND)

    def why_paused(self) -> str:
        """Why no dispatcher may claim anything; empty when that is not so."""
        with self.database.read() as conn:
            return pauses.of_all(conn)

    def create_dispatcher_token(self, name: str) -> NewToken:
        """A token that may make and be the dispatcher `name`."""
        with self.database.write() as conn:
            now = self.database.now(conn)
            return authorizations.create_dispatcher_token(conn, self.cluster_id, name, now)

    def create_user_token(self, name: str) -> NewToken:
        """A token for the user `name`, who is made when missing."""
        with self.database.write() as conn:
            return authorizations.create_user_token(
                conn, self.cluster_id, name, self.database.now(conn)
            )

    def revoke_token(self, uuid: str) -> None:
        """Take the token back; `ServerError` 404 when there is none."""
        with self.database.write() as conn:
            authorizations.revoke_token(conn, uuid)

    @contextmanager
    def _own(self) -> Iterator[Transaction]:
        """A transaction of the server's own."""
        with self.database.write() as conn:
            tx = self._transaction(conn, Identity(Caller("root"), self.database.now(conn)))
            tx.lock_graph()
            yield tx
            _finish(tx)
            if tx.topics:
                self.database.announce(conn, tx.topics)
        self._tell(tx.topics)

    def _tell(self, topics: Collection[str]) -> None:
        """Wake who waits for what a transaction has brought, here and at the other servers."""
        if topics:
            self.heard(topics)
            self.database.announced(topics)

    def heard(self, topics: Iterable[str]) -> None:
        """Wake who waits here; for news of other servers as well."""
        with self._callbacks_lock:
            callbacks = list(self._callbacks)
        for topic in sorted(topics):
            for callback in callbacks:
                callback(topic)

    def _transaction(
        self, conn: Connection, identity: Identity, *, writes: bool = True
    ) -> Transaction:
        return Transaction(
            self.database,
            conn,
            identity.now,
            identity.caller,
            self.policy,
            self.cluster_id,
            writes=writes,
            jitter=self._jitter,
            known_beats=self._known_beats,
        )


def _check_scopes(caller: Caller, request: Request) -> None:
    """`ServerError` 403 for a call that the token's scopes do not allow."""
    method = request.method
    path = BASE_PATH + method.path.replace("{uuid}", request.path.get("uuid", ""))
    if method.id != "api_client_authorizations.current" and not allows(
        caller.scopes, method.http, path
    ):
        raise forbidden("Forbidden")


def _finish(tx: Transaction) -> None:
    """What a transaction does last: carry its changes down the family, number them for dispatchers."""
    family.settle(tx)
    changes.flush(tx)


METHODS_BY_ID: Mapping[str, Method] = {method.id: method for method in METHODS}
"""For callers without routes, such as tests: ``METHODS_BY_ID["containers.claim"]``."""
