"""The threads that do the service's calls, which block, for the event loop, which must not.

Calls that write wait in one queue. A worker takes as many of them as the database likes to have in one
transaction (`Database.group`), so that under load one commit serves many, and a lone call waits for nobody.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nodemanager.server.service import Answer, Request, Service

_READERS = 4

_Result = TypeVar("_Result")
_Waiting = tuple[Request, "asyncio.Future[Answer]"]


class Workers:
    """Belongs to the event loop's thread, in which it must be made."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._group = service.database.group
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(_READERS, "api-read")
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writers = [
            threading.Thread(target=self._write_for_ever, name=f"api-write-{number}")
            for number in range(service.database.writers)
        ]
        for thread in self._writers:
            thread.start()

    async def read(self, work: Callable[[], _Result]) -> _Result:
        """Do `work`, which writes nothing (or is the server's own affair), in a thread."""
        return await self._loop.run_in_executor(self._readers, work)

    async def write(self, request: Request) -> Answer:
        """`Service.perform` for a method that writes."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.put((request, answer))
        return await answer

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        for _ in self._writers:
            self._queue.put(None)
        for thread in self._writers:
            thread.join()
        self._readers.shutdown()

    def _write_for_ever(self) -> None:
        while (first := self._queue.get()) is not None:
            waiting = [first]
            ends = False
            while len(waiting) < self._group and not ends:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    waiting.append(following)
            outcomes = self._outcomes([request for request, _answer in waiting])
            answers = [answer for _request, answer in waiting]
            self._loop.call_soon_threadsafe(_deliver, answers, outcomes)
            if ends:
                return

    def _outcomes(self, requests: Sequence[Request]) -> Sequence[Answer | Exception]:
        try:
            return self._service.perform_together(requests)
        except Exception as error:  # a defect of ours; whoever asked hears of it
            return [error] * len(requests)


def _deliver(
    answers: Sequence[asyncio.Future[Answer]], outcomes: Sequence[Answer | Exception]
) -> None:
    for answer, outcome in zip(answers, outcomes, strict=True):
        if answer.cancelled():
            continue
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
