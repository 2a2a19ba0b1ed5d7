"""The actor through which machines get their records at the API, and lose them.

While the API does not answer, everything that was asked is kept, in order, and tried again. What it refuses
is told, or logged where nobody waits for an answer.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from nodemanager.actors.actor import tell_if_alive
from nodemanager.api.actor import BatchingActor
from nodemanager.api.messages import Ref
from nodemanager.api.nodes import NodeRecord, NodesApi, spare
from nodemanager.clock import Clock
from nodemanager.errors import ApiRefused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MakeRecord:
    """A record for the machine of this order, in the place of a stale one if there is one.

    Answered by `RecordMade` or `RecordRefused`.
    """

    order_name: str
    size_name: str
    price: float
    reply_to: Ref
    in_use: frozenset[str] = frozenset()
    """UUIDs of records that machines have; these are not stale, however silent."""


@dataclass(frozen=True, slots=True)
class RecordMade:
    """Answer to `MakeRecord`."""

    order_name: str
    record: NodeRecord


@dataclass(frozen=True, slots=True)
class RecordRefused:
    """Answer to `MakeRecord`: the API said no, such as ``No available node slots``."""

    order_name: str
    error: str


@dataclass(frozen=True, slots=True)
class CleanRecord:
    """The record's machine is gone; `why` is kept in it for people. Not answered."""

    uuid: str
    why: str


@dataclass(frozen=True, slots=True)
class NameRecord:
    """The record's machine joins the scheduler under another name than the API gave it. Not answered."""

    uuid: str
    hostname: str


@dataclass(frozen=True, slots=True)
class ListRecords:
    """Every record there is; answered by `RecordList`."""

    reply_to: Ref


@dataclass(frozen=True, slots=True)
class RecordList:
    """Answer to `ListRecords`."""

    records: tuple[NodeRecord, ...]


_Asked: TypeAlias = MakeRecord | CleanRecord | NameRecord | ListRecords


class RecordActor(BatchingActor[NodesApi]):
    """Answers `MakeRecord` and `ListRecords`, and does `CleanRecord` and `NameRecord`."""

    def __init__(
        self,
        connect: Callable[[], NodesApi],
        timer: Ref,
        clock: Clock,
        *,
        dispatcher: str,
        stale_after_seconds: float,
    ) -> None:
        super().__init__(connect, timer, clock)
        self._dispatcher = dispatcher
        self._stale_after_seconds = stale_after_seconds
        self._asked: collections.deque[_Asked] = collections.deque()

    def on_receive(self, message: Any) -> None:
        """Gather; whoever asks for a list again before it has one gets one."""
        match message:
            case ListRecords() if message in self._asked:
                pass
            case MakeRecord() | CleanRecord() | NameRecord() | ListRecords():
                self._asked.append(message)
                self._gathered()
            case _:
                super().on_receive(message)

    def _send(self) -> None:
        while self._asked:
            match self._asked[0]:
                case MakeRecord() as asked:
                    self._answer_make(asked)
                case CleanRecord(uuid, why):
                    self._change(uuid, lambda api: api.clean_node_record(uuid, why))
                case NameRecord(uuid, hostname):
                    self._change(uuid, lambda api: api.name_node_record(uuid, hostname))
                case ListRecords(reply_to):
                    self._answer_list(reply_to)
            self._asked.popleft()

    def _answer_make(self, asked: MakeRecord) -> None:
        try:
            record = self._make(asked)
        except ApiRefused as error:
            tell_if_alive(asked.reply_to, RecordRefused(asked.order_name, str(error)))
            return
        tell_if_alive(asked.reply_to, RecordMade(asked.order_name, record))

    def _make(self, asked: MakeRecord) -> NodeRecord:
        """The old manager wrote a stale record over. A record is removed and another made instead: of two
        daemons only one can remove it, nothing that was said to its old machine holds for the new one, and
        only who makes a record is told its secret."""
        records = self._api().node_records()
        for record in records:
            if (record.dispatcher, record.order) == (self._dispatcher, asked.order_name):
                # Made by an earlier try, whose answer, with the secret, was lost.
                self._remove(record)
        stale = spare(
            records,
            self._dispatcher,
            in_use=asked.in_use,
            now=self._clock.wall(),
            stale_after_seconds=self._stale_after_seconds,
        )
        if stale is not None:
            log.info(
                "the record %s (slot %s) stands for no machine any more: removed",
                stale.uuid,
                stale.slot,
                extra={"action": "node_record_removed", "node_record": stale.uuid},
            )
            self._remove(stale)
        return self._api().make_node_record(asked.order_name, asked.size_name, asked.price)

    def _remove(self, record: NodeRecord) -> None:
        try:
            self._api().remove_node_record(record.uuid)
        except ApiRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def _change(self, uuid: str, change: Callable[[NodesApi], None]) -> None:
        try:
            change(self._api())
        except ApiRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                log.warning(
                    "the API refuses to change the record %s: %s",
                    uuid,
                    error,
                    extra={"action": "node_record_refused", "node_record": uuid},
                )

    def _answer_list(self, reply_to: Ref) -> None:
        try:
            records = self._api().node_records()
        except ApiRefused as error:
            log.warning(
                "the API refuses the list of nodes: %s",
                error,
                extra={"action": "node_list_refused"},
            )
            return
        tell_if_alive(reply_to, RecordList(tuple(records)))
