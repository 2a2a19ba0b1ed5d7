"""The two actors through which everything else goes to the API, in batches.

A call costs more than a millisecond whatever it carries, so what is asked while a call is under way goes
out together in the next one. Nothing that was handed over is dropped: while the API does not answer it is
kept and tried again, and every write may be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import tell_if_alive
from nodemanager.api.actor import BatchingActor
from nodemanager.api.base import Annotation, Api, Identity, UpdateResult
from nodemanager.api.messages import (
    Annotate,
    Describe,
    Described,
    Flush,
    Flushed,
    GetToken,
    Held,
    ListHeld,
    ListWaiting,
    Read,
    Records,
    Ref,
    Token,
    Waiting,
    Write,
    Written,
)
from nodemanager.clock import Clock
from nodemanager.errors import ApiRefused

log = logging.getLogger(__name__)

BATCH = 500
"""Items per call: large enough to cost nothing per item, small enough to answer within a second."""

DESCRIBED = 50
"""Whole records per call."""


class ReaderActor(BatchingActor[Api]):
    """Answers `Read`, `ListHeld`, `ListWaiting` and `Describe`."""

    def __init__(self, connect: Callable[[], Api], timer: Ref, clock: Clock) -> None:
        super().__init__(connect, timer, clock)
        self._reads: list[Read] = []
        self._lists: list[ListHeld | ListWaiting] = []
        self._wishes: list[Describe] = []

    def on_receive(self, message: Any) -> None:
        """Gather."""
        match message:
            case Read():
                self._reads.append(message)
                self._gathered()
            case ListHeld() | ListWaiting():
                self._lists.append(message)
                self._gathered()
            case Describe():
                self._wishes.append(message)
                self._gathered()
            case _:
                super().on_receive(message)

    def _send(self) -> None:
        while self._reads:
            batch = self._reads[:BATCH]
            uuids = list(dict.fromkeys(uuid for read in batch for uuid in read.uuids))
            found = {container.uuid: container for container in self._api().containers(uuids)}
            del self._reads[: len(batch)]
            for read in batch:
                records = tuple(found[uuid] for uuid in read.uuids if uuid in found)
                tell_if_alive(read.reply_to, Records(records))
        while self._lists:
            asked = self._lists[0]
            match asked:
                case ListHeld(me, reply_to):
                    tell_if_alive(reply_to, Held(me, tuple(self._api().held(me))))
                case ListWaiting(limit, reply_to):
                    asked_at = self._clock.wall()
                    tell_if_alive(reply_to, Waiting(tuple(self._api().waiting(limit))))
                    metrics.LAST_POLL.labels("queue", "").set(asked_at)
            del self._lists[0]
        while self._wishes:
            self._send_wishes()

    def _send_wishes(self) -> None:
        me = self._wishes[0].me
        # Whole records, with texts to mount: so many that one answer stays of a size.
        batch = _same(me, self._wishes[:DESCRIBED])
        try:
            found = self._api().describe(me, [wish.uuid for wish in batch])
        except ApiRefused as error:
            log.warning(
                "the API refuses to describe %d containers: %s",
                len(batch),
                error,
                extra={
                    "action": "describe_refused",
                    "dispatcher": me.dispatcher,
                    "containers": [wish.uuid for wish in batch],
                },
            )
            found = {}
        del self._wishes[: len(batch)]
        for wish in batch:
            tell_if_alive(wish.reply_to, Described(wish.uuid, found.get(wish.uuid)))


class WriterActor(BatchingActor[Api]):
    """Answers `Write` and `GetToken`, and sends `Annotate`."""

    def __init__(self, connect: Callable[[], Api], timer: Ref, clock: Clock) -> None:
        super().__init__(connect, timer, clock)
        self._writes: list[Write] = []
        self._token_wishes: list[GetToken] = []
        self._annotations: dict[str, tuple[Identity, Annotation]] = {}
        self._flushes: list[Flush] = []

    def on_receive(self, message: Any) -> None:
        """Gather; of several annotations for one container only the last is sent."""
        match message:
            case Write():
                self._writes.append(message)
                self._gathered()
            case GetToken():
                self._token_wishes.append(message)
                self._gathered()
            case Annotate(me, annotations):
                for annotation in annotations:
                    self._annotations[annotation.uuid] = (me, annotation)
                self._gathered()
            case Flush():
                self._flushes.append(message)
                self._gathered()
            case _:
                super().on_receive(message)

    def _send(self) -> None:
        while self._token_wishes:
            self._send_token_wishes()
        while self._writes:
            self._send_writes()
        while self._annotations:
            self._send_annotations()
        for flush in self._flushes:
            tell_if_alive(flush.reply_to, Flushed())
        self._flushes.clear()

    def _send_token_wishes(self) -> None:
        me = self._token_wishes[0].me
        batch = _same(me, self._token_wishes)
        try:
            tokens = self._api().tokens(me, [wish.uuid for wish in batch])
        except ApiRefused as error:
            log.warning(
                "the API refuses tokens for %d containers: %s",
                len(batch),
                error,
                extra={
                    "action": "tokens_refused",
                    "dispatcher": me.dispatcher,
                    "containers": [wish.uuid for wish in batch],
                },
            )
            tokens = {}
        del self._token_wishes[: len(batch)]
        for wish in batch:
            tell_if_alive(wish.reply_to, Token(wish.uuid, tokens.get(wish.uuid)))

    def _send_writes(self) -> None:
        me = self._writes[0].me
        batch = _same(me, self._writes)
        try:
            results = self._api().update(me, [write.update for write in batch])
        except ApiRefused as error:
            results = [UpdateResult(write.update.uuid, error.status, str(error)) for write in batch]
        del self._writes[: len(batch)]
        for write, result in zip(batch, results, strict=True):
            tell_if_alive(write.reply_to, Written(result))

    def _send_annotations(self) -> None:
        me = next(iter(self._annotations.values()))[0]
        uuids = [uuid for uuid, (writer, _) in self._annotations.items() if writer == me][:BATCH]
        try:
            self._api().annotate(me, [self._annotations[uuid][1] for uuid in uuids])
        except ApiRefused as error:
            log.warning(
                "the API refuses why %d containers wait: %s",
                len(uuids),
                error,
                extra={
                    "action": "reasons_refused",
                    "dispatcher": me.dispatcher,
                    "containers": uuids,
                },
            )
        for uuid in uuids:
            del self._annotations[uuid]


def _same(me: Identity, asked: list[Any]) -> list[Any]:
    """The head of `asked` that was asked as `me`, at most a batch."""
    batch = []
    for item in asked[:BATCH]:
        if item.me != me:
            break
        batch.append(item)
    return batch
