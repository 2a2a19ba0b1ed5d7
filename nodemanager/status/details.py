"""What the page asks for piece by piece: rows of a group, a container's story and log, dispatchers, plots, events."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.status.answers import json_response
from nodemanager.status.history import COARSE_SECONDS, FINE_SECONDS, columns
from nodemanager.status.look import shown_time
from nodemanager.status.parameters import number_parameter, query_parameter
from nodemanager.status.parts import Parts
from nodemanager.status.records import TAIL_BYTES, DispatcherEntry
from nodemanager.status.sharing import Shared

STORY_SECONDS = 2.0
"""So long a story, or a log, is good for everybody who looks at it."""
DISPATCHERS_SECONDS = 5.0
"""So long the list of dispatchers is."""


def detail_routes(parts: Parts) -> list[Route]:
    """All of them; reading is all that they are for."""
    answers = _Answers(parts)
    return [
        Route("/containers.json", answers.containers),
        Route("/story.json", answers.story),
        Route("/log.json", answers.log),
        Route("/dispatchers.json", answers.dispatchers),
        Route("/history.json", answers.history),
        Route("/events", answers.events),
    ]


class _Answers:
    """One method for each route; runs in the event loop's thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stories = Shared[Response](parts.clock, STORY_SECONDS)
        self._logs = Shared[Response](parts.clock, STORY_SECONDS)
        self._dispatchers = Shared[Response](parts.clock, DISPATCHERS_SECONDS)

    async def containers(self, request: Request) -> Response:
        """Some containers of one group."""
        self._parts.access.admit_reader(request)
        group = query_parameter(request, "group")
        offset = number_parameter(request, "offset", 0)
        limit = number_parameter(request, "limit", 50)
        look = await self._parts.asker.look()
        return json_response(await self._parts.board.rows(look, group, offset, limit))

    async def story(self, request: Request) -> Response:
        """Everything that the API tells of one container."""
        self._parts.access.admit_reader(request)
        uuid = query_parameter(request, "uuid")
        return await self._stories.get(uuid, lambda: self._story(uuid))

    async def log(self, request: Request) -> Response:
        """The end of what it wrote."""
        self._parts.access.admit_reader(request)
        uuid = query_parameter(request, "uuid")
        return await self._logs.get(uuid, lambda: self._log(uuid))

    async def dispatchers(self, request: Request) -> Response:
        """Every dispatcher that the API knows."""
        self._parts.access.admit_reader(request)
        return await self._dispatchers.get(None, self._dispatcher_list)

    async def history(self, request: Request) -> Response:
        """The samples of the last hour, or of the last day."""
        self._parts.access.admit_reader(request)
        span = query_parameter(request, "span")
        recorder, clock = self._parts.recorder, self._parts.clock
        match span:
            case "hour":
                samples, step = recorder.history.fine, FINE_SECONDS
            case "day":
                samples, step = recorder.history.coarse, COARSE_SECONDS
            case _:
                raise HTTPException(400, "span: hour or day is expected")
        return json_response(
            {
                "taken_at": shown_time(clock.wall()),
                "began_at": shown_time(recorder.began_at),
                "step_seconds": step,
                "columns": columns(samples, clock.elapsed(), clock.wall()),
            }
        )

    async def events(self, request: Request) -> Response:
        """A word whenever there is something new."""
        access = self._parts.access
        access.admit_reader(request)
        return self._parts.events.stream(lambda: access.may_read(request))

    async def _story(self, uuid: str) -> Response:
        story = await self._parts.asker.read(lambda source: source.story(uuid))
        return json_response({**self._taken_at(), **story.as_dict()})

    async def _log(self, uuid: str) -> Response:
        tail = await self._parts.asker.read(lambda source: source.log_tail(uuid))
        text = tail.decode("utf-8", "replace")
        return json_response({"uuid": uuid, "text": text, "limit_bytes": TAIL_BYTES})

    async def _dispatcher_list(self) -> Response:
        entries = await self._parts.asker.read(lambda source: source.dispatchers())
        return json_response({**self._taken_at(), "items": [_dispatcher(each) for each in entries]})

    def _taken_at(self) -> dict[str, Any]:
        return {"taken_at": shown_time(self._parts.clock.wall())}


def _dispatcher(entry: DispatcherEntry) -> dict[str, Any]:
    return {
        "uuid": entry.uuid,
        "name": entry.name,
        "scheduler": entry.scheduler,
        "state": entry.state,
        "epoch": entry.epoch,
        "last_ping_at": None if entry.last_ping_at is None else shown_time(entry.last_ping_at),
        "last_turn_at": None if entry.last_turn_at is None else shown_time(entry.last_turn_at),
        "paused": entry.paused,
    }
