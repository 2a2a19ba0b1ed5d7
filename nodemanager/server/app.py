"""The API over HTTP: one Starlette application around one `Service`.

Routes come from `METHODS`. Service calls block, so they run in threads (`Workers`), and a long list holds up
nobody's claim. Measured against calls made in the event loop itself: a lone GET takes 0.2 ms longer, but
beside lists of 1,000 the slowest in a hundred takes a third of the time, and a slow disk stops no health
check.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nodemanager.clock import Clock
from nodemanager.server import discovery, metrics
from nodemanager.server.answers import error_response, json_response, request_id_of
from nodemanager.server.discovery import Discovery
from nodemanager.server.errors import ServerError, forbidden, not_found
from nodemanager.server.files import Files
from nodemanager.server.holding import Bell, Bells
from nodemanager.server.limits import Turns
from nodemanager.server.methods import BASE_PATH, METHODS, PRUNE, Method
from nodemanager.server.metrics import Metrics
from nodemanager.server.payload import check_path, read_payload
from nodemanager.server.resources import RESOURCES
from nodemanager.server.scopes import allows
from nodemanager.server.service import Answer, Service
from nodemanager.server.service import Request as Call
from nodemanager.server.settings import ServerSettings
from nodemanager.server.transaction import QUEUE_TOPIC, dispatcher_topic
from nodemanager.server.workers import Workers

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60.0
"""No call is held open longer."""

_LOOK_AGAIN_SECONDS = 5.0
"""A held call looks again after so long even if nothing was announced: another process may have written."""

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_Result = TypeVar("_Result")


def create_app(
    service: Service, settings: ServerSettings, files_directory: Path, clock: Clock
) -> Api:
    """The application; `clock` is the one the service's database goes by."""
    return Api(service, settings, files_directory, clock)


def _refuse(request: Request, error: Exception) -> Response:
    """What no route takes (a path with a line end in it, say) gets the stock error body as well."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    words = "Path not found" if status == HTTPStatus.NOT_FOUND else HTTPStatus(status).phrase
    return error_response(status, [words], request_id_of(request))


class Api:
    """The ASGI application, and the handle by which the process ends it."""

    def __init__(
        self, service: Service, settings: ServerSettings, files_directory: Path, clock: Clock
    ) -> None:
        self._service = service
        self._settings = settings
        self._clock = clock
        self._bells = Bells()
        self._workers: Workers | None = None
        self._turns = Turns(settings.max_concurrent_requests)
        self._files = Files(
            service, files_directory, settings.max_file_size, settings.request_timeout
        )
        self._metrics = Metrics(service)
        self._discovery = Discovery(settings.cluster_id, settings.max_request_size)
        self._starlette = Starlette(
            routes=[
                Route(discovery.PATH, self._serve_discovery),
                Route("/_health/ping", self._serve_health),
                Route("/metrics", self._serve_metrics),
                Route("/{path:path}", _Endpoint(self._serve_api)),
            ],
            exception_handlers={HTTPException: _refuse},
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's event, as ASGI wants it."""
        await self._starlette(scope, receive, send)

    def release_held_calls(self) -> None:
        """Answer every held call at once; called in the loop's thread when the server begins to end."""
        self._bells.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._bells.attach(asyncio.get_running_loop())
        self._workers = Workers(self._service)
        unsubscribe = self._service.subscribe(self._bells.announce)
        deafen = self._service.database.listen(self._service.heard)
        sweeper = asyncio.create_task(self._sweep_for_ever())
        try:
            yield
        finally:
            unsubscribe()
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper
            deafen()
            self._workers.close()

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                self._metrics.swept(await self._read(self._service.sweep))
            except Exception:
                # The next sweep does what this one could not.
                log.exception("the sweep failed", extra={"action": "sweep_failed"})
            await asyncio.sleep(self._settings.policy.sweep_interval)

    async def _read(self, work: Callable[[], _Result]) -> _Result:
        assert self._workers is not None  # noqa: S101  (the lifespan comes before every request)
        return await self._workers.read(work)

    async def _perform(self, call: Call) -> Answer:
        assert self._workers is not None  # noqa: S101
        # A held call has its turn only while it looks.
        async with self._turns.one():
            if call.method.writes:
                return await self._workers.write(call)
            return await self._workers.read(lambda: self._service.perform(call))

    async def _serve_discovery(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            return error_response(422, ["Host: not a host name"], request_id_of(request))
        headers = {
            "Cache-Control": f"max-age={discovery.MAX_AGE_SECONDS}, public",
            "ETag": f'"{self._discovery.revision}"',
            "Vary": "Host",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        response = json_response(self._discovery.document(f"{request.url.scheme}://{host}/"))
        response.headers.update(headers)
        return response

    async def _serve_health(self, request: Request) -> Response:
        return self._refuse_stranger(request) or json_response({"health": "OK"})

    async def _serve_metrics(self, request: Request) -> Response:
        refusal = self._refuse_stranger(request)
        if refusal is not None:
            return refusal
        try:
            text = await self._read(self._metrics.text)
        except DBAPIError as error:
            return json_response(
                {"errors": [f"the database did not do its part: {error.orig}"]}, 503
            )
        return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})

    def _refuse_stranger(self, request: Request) -> Response | None:
        """The answer to whoever does not show the management token; as in the old node manager."""
        token = self._settings.management_token
        if not token:
            return json_response({"errors": ["disabled"]}, 404)
        given = request.headers.get("authorization", "")
        if not given:
            return json_response({"errors": ["authorization required"]}, 401)
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return json_response({"errors": ["authorization error"]}, 403)
        return None

    async def _serve_api(self, request: Request) -> Response:
        request_id = request_id_of(request)
        began = time.perf_counter()
        try:
            response = await self._answer(request)
        except ServerError as error:
            response = error_response(error.status, error.messages, request_id)
            if error.status == HTTPStatus.REQUEST_TIMEOUT:
                response.headers["Connection"] = "close"  # the rest of the body may come for ever
        except DBAPIError as error:
            log.exception(
                "%s %s: database",
                request.method,
                request.url.path,
                extra={"action": "database_failed", "request_id": request_id},
            )
            words = f"the database did not do its part: {error.orig}"
            response = error_response(503, [words], request_id)
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception(
                "%s %s broke",
                request.method,
                request.url.path,
                extra={"action": "call_failed", "request_id": request_id},
            )
            response = error_response(500, ["internal error, see the server's log"], request_id)
        response.headers["X-Request-Id"] = request_id
        method: Method | None = getattr(request.state, "method", None)
        self._metrics.answered(
            "none" if method is None else method.id,
            response.status_code,
            None if method is not None and method.wait else time.perf_counter() - began,
        )
        return response

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if not path.startswith(BASE_PATH):
            raise not_found()
        check_path(path)
        path = path.removeprefix(BASE_PATH)
        parts = path.split("/", 3)
        if len(parts) >= 3 and parts[0] == "containers" and parts[2] == "files":
            return await self._answer_files(request, parts)
        payload = await read_payload(
            request, self._settings.max_request_size, self._settings.request_timeout
        )
        route = _find_route(payload.http_method(request), path)
        tokens = payload.tokens(request)
        if route is None:
            await self._read(lambda: self._service.authenticate(*tokens))
            raise not_found()
        method = route.method
        request.state.method = method
        query, body = payload.arguments(method, RESOURCES[method.resource].singular)
        address = request.client.host if request.client else ""
        call = Call(tokens, method, route.path, query, body, address)
        if method.wait:
            return json_response(await self._held(request, call))
        if method.writes:
            reply = await self._perform(call)
            if method is PRUNE:
                await self._files.remove(reply["container_uuids"])
            return json_response(reply)
        # Made in the thread as well: the text of a long list takes milliseconds.
        async with self._turns.one():
            return await self._read(lambda: json_response(self._service.perform(call)))

    async def _answer_files(self, request: Request, parts: list[str]) -> Response:
        tokens = _header_tokens(request)
        caller = await self._read(lambda: self._service.authenticate(*tokens))
        if not allows(caller.scopes, request.method, request.scope["path"]):
            raise forbidden("Forbidden")
        return await self._files.answer(request, caller, parts[1], "".join(parts[3:]))

    async def _held(self, request: Request, call: Call) -> Answer:
        """Call until there is something to answer or the caller's patience is over.

        Raises `ClientDisconnect` when the client goes away while it waits: claiming for nobody would
        leave a container to its next call with the same claim_id, which may never come. Who waits for a claim
        hears at once that claims were paused meanwhile; who knows that waits on.
        """
        arguments = {**call.body, **call.query}
        is_claim = call.method.name == "claim"
        topic = QUEUE_TOPIC if is_claim else dispatcher_topic(str(arguments.get("dispatcher")))
        loop = asyncio.get_running_loop()
        began = loop.time()
        with self._bells.listening(topic) as bell:
            reply = await self._perform(call)
            # An empty cursor asks where the changes begin, which is answered at once.
            if reply["items"] or not (is_claim or arguments.get("cursor")):
                return reply
            paused = reply.get("paused")
            give_up_at = began + _patience(arguments.get("wait"))
            gone = asyncio.create_task(_disconnection(request, bell))
            self._metrics.holding(1)
            try:
                while self._is_vain(reply, paused):
                    left = give_up_at - loop.time()
                    if left <= 0:
                        break
                    await bell.heard(min(left, await self._next_look(is_claim=is_claim)))
                    if gone.done():
                        raise ClientDisconnect
                    reply = await self._perform(call)
            finally:
                self._metrics.holding(-1)
                gone.cancel()
        return reply

    def _is_vain(self, reply: Answer, paused: str | None) -> bool:
        """Whether a held call has nothing to answer that its caller does not know."""
        return not reply["items"] and reply.get("paused") == paused and not self._bells.closing

    async def _next_look(self, *, is_claim: bool) -> float:
        """Seconds until a held call has a reason of its own to look again."""
        if not is_claim:
            return _LOOK_AGAIN_SECONDS
        due = await self._read(self._service.next_due)
        if due is None:
            return _LOOK_AGAIN_SECONDS
        # A little late rather than a little early, which would mean looking in vain.
        return min(max(due - self._clock.wall(), 0.0) + 0.001, _LOOK_AGAIN_SECONDS)


@dataclass(frozen=True)
class _Found:
    method: Method
    path: dict[str, str]


_ROUTES: dict[tuple[str, str], Method] = {(m.http, m.path): m for m in METHODS}


def _find_route(http: str, path: str) -> _Found | None:
    """The method for `path` (below the base path). Fixed paths go before those with a UUID."""
    path = path.removesuffix("/")
    method = _ROUTES.get((http, path))
    if method is not None:
        return _Found(method, {})
    parts = path.split("/")
    if len(parts) < 2 or not parts[1]:
        return None
    pattern = "/".join([parts[0], "{uuid}", *parts[2:]])
    method = _ROUTES.get((http, pattern))
    return None if method is None else _Found(method, {"uuid": parts[1]})


class _Endpoint:
    """A class instance, as Starlette restricts a function to GET; ours takes every method."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _header_tokens(request: Request) -> list[str]:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return [token.strip()] if scheme.lower() in ("bearer", "oauth2") else []


def _patience(wait: Any) -> float:
    """Seconds; the service has checked that it is a number, perhaps as a text."""
    return 0.0 if wait is None else min(max(float(wait), 0.0), MAX_WAIT_SECONDS)


async def _disconnection(request: Request, bell: Bell) -> None:
    """Ring when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    bell.ring()
