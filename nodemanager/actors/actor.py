"""The actors of this package: pykka's contract, without a thread each.

`PooledActor` is a `pykka.Actor` and nothing else. `Actor` adds what all of ours have in common: an unknown
message is an error, a failure is counted, logged and told to the parent.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import pykka

from nodemanager.actors.fatal import end_process, is_fatal
from nodemanager.actors.future import PooledFuture
from nodemanager.actors.mailbox import Mailbox
from nodemanager.actors.pool import current_pool
from nodemanager.actors.registry import speed_up
from nodemanager.errors import NodeManagerError

log = logging.getLogger(__name__)

speed_up()


class UnknownMessage(NodeManagerError):
    """An actor was sent something it has no handler for: a mistake of the sender."""


@dataclass(frozen=True, slots=True)
class ChildFailed:
    """To a parent: the actor it started under `key` has failed, and is no more."""

    key: Hashable
    error: BaseException
    actor: pykka.ActorRef[Any]


class PooledActor(pykka.Actor):
    """A pykka actor that occupies a thread only while it has a message to handle.

    `kind` says which: ``workers`` shares the pool's few threads; ``io`` may block for long and has one of
    its own, always the same, made when the first message comes.
    """

    kind: ClassVar[Literal["workers", "io"]] = "workers"

    actor_inbox: Mailbox

    @property
    def answers_within(self) -> float:
        """Seconds that one message may legally take, where that is more than the watchdog's patience."""
        return 0.0

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> PooledFuture:
        return PooledFuture()

    def _start_actor_loop(self) -> None:
        pool = current_pool()
        try:
            runner = pool.runner(io=self.kind == "io", name=str(self))
        except NodeManagerError:
            self.actor_inbox.abandon(self)
            raise
        self.actor_inbox.attach(self, pool, runner)

    def _actor_loop_teardown(self) -> None:
        # Closed first: what is put from now on is answered by `put`, and none falls between the two.
        self.actor_inbox.close()
        super()._actor_loop_teardown()


class Actor(PooledActor):
    """The base of all our actors. Subclasses `match` messages (frozen dataclasses) in `on_receive`, with
    ``case _: super().on_receive(message)`` at the end.
    """

    parent: pykka.ActorRef[Any] | None = None
    """Who is told `ChildFailed`; set by `start_under`."""
    key: Hashable = None
    """How the parent calls this actor."""
    _failed: bool = False

    @classmethod
    def start_under(
        cls, parent: pykka.ActorRef[Any], key: Hashable, /, *args: Any, **kwargs: Any
    ) -> pykka.ActorRef[Self]:
        """Like `start`, and `parent` is told `ChildFailed` with `key` if the actor fails, also in
        `on_start`."""
        actor = cls(*args, **kwargs)
        actor.parent, actor.key = parent, key
        pykka.ActorRegistry.register(actor.actor_ref)
        actor._start_actor_loop()
        return actor.actor_ref

    def on_receive(self, message: Any) -> Any:
        """Refuse `message`: no handler took it."""
        raise UnknownMessage(f"{self} has no handler for {type(message).__qualname__}")

    def _handle_receive(self, message: Any) -> Any:
        try:
            return super()._handle_receive(message)
        except Exception as error:
            # Also for an ask, whose exception pykka hands to the asker only.
            if is_fatal(error):
                end_process(f"{self} ran out of memory or threads", error)
            raise

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002 (pykka's signature)
        exception_value: BaseException | None,
        traceback: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """Pykka calls this for every failure, also of `on_start` and `on_stop`; `on_failure` only for
        those of a message. Runs in the actor's turn."""
        error = exception_value or RuntimeError("failed without an exception")
        _count(type(self).__name__)
        log.error(
            "%s failed: %s",
            self,
            error,
            exc_info=error,
            extra={"action": "actor_failed", "actor": type(self).__name__, "key": str(self.key)},
        )
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        if is_fatal(error):
            end_process(f"{self} ran out of memory or threads", error)
        if self.parent is not None and not self._failed:
            self._failed = True
            try:
                self.parent.tell(ChildFailed(self.key, error, self.actor_ref))
            except pykka.ActorDeadError:
                log.info(
                    "nobody is left to hear that %s failed",
                    self,
                    extra={"action": "failure_unheard", "actor": type(self).__name__},
                )


_failures: collections.Counter[str] = collections.Counter()
_failures_lock = threading.Lock()


def failure_counts() -> Mapping[str, int]:
    """Failures of actors since the process started, by the name of the class."""
    with _failures_lock:
        return dict(_failures)


def _count(name: str) -> None:
    with _failures_lock:
        _failures[name] += 1


def tell_if_alive(ref: pykka.ActorRef[Any], message: Any) -> None:
    """Tell `message`, or nothing if the actor is gone: for answers that nobody may be left to hear."""
    with contextlib.suppress(pykka.ActorDeadError):
        ref.tell(message)
