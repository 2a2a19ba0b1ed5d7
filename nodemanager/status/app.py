"""The management server's answers over HTTP: one Starlette application around one `Asker`.

`/status.json` and `/_health/ping` are those of the old node manager, paths below `/arvados/v1/dispatch` those
of Arvados' own cloud dispatcher (its lib/dispatchcloud/dispatcher.go). A page, metrics and whatever comes
later are more routes here.
"""

from __future__ import annotations

import hmac
import logging
from functools import partial
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.dispatch.messages import Status
from nodemanager.nodes.messages import Behave, Kill, NodeStanding, ReleaseBrake
from nodemanager.nodes.states import Behaviour
from nodemanager.status.asking import Asker, NoAnswer
from nodemanager.status.document import status_document
from nodemanager.status.instances import containers, find_container, find_node, instances
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.parameters import (
    instance_id_of,
    query_parameter,
    read_parameters,
    reason_of,
)
from nodemanager.status.settings import ManageSettings

log = logging.getLogger(__name__)

DISPATCH = "/arvados/v1/dispatch"


def create_app(settings: ManageSettings, asker: Asker) -> Starlette:
    """The ASGI application."""
    answers = _Answers(settings, asker)
    app = Starlette(
        routes=[
            Route("/status.json", answers.status),
            Route("/_health/ping", answers.ping),
            Route(f"{DISPATCH}/containers", answers.containers),
            Route(f"{DISPATCH}/container", answers.container),
            Route(f"{DISPATCH}/instances", answers.instances),
            *(
                Route(
                    f"{DISPATCH}/instances/{behaviour.value}",
                    partial(answers.behave, behaviour=behaviour),
                    methods=["POST"],
                )
                for behaviour in Behaviour
            ),
            Route(f"{DISPATCH}/instances/kill", answers.kill, methods=["POST"]),
            Route(f"{DISPATCH}/brake/release", answers.release_brake, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refuse, NoAnswer: _excuse, Exception: _break},
    )
    # A path that is not ours is not found, whatever its last character is.
    app.router.redirect_slashes = False
    return app


class _Answers:
    """One method for each route; runs in the event loop's thread."""

    def __init__(self, settings: ManageSettings, asker: Asker) -> None:
        self._settings = settings
        self._asker = asker
        self._shown: tuple[DaemonLook, Response] | None = None

    # For everybody.

    async def status(self, _request: Request) -> Response:
        """What the daemon is doing; made once for each look, however many read it."""
        look = await self._asker.look()
        if self._shown is None or self._shown[0] is not look:
            self._shown = look, _json(status_document(look, self._settings))
        return self._shown[1]

    async def ping(self, request: Request) -> Response:
        """Whether this server answers; nobody else is asked."""
        if not self._settings.management_token:
            raise HTTPException(404, "disabled")
        self._admit(request)
        return _json({"health": "OK"})

    # For operators.

    async def containers(self, request: Request) -> Response:
        """All containers in hand."""
        self._admit_operator(request)
        look = await self._asker.look()
        return _json({"items": containers(_dispatcher_of(look), look.taken_at)})

    async def container(self, request: Request) -> Response:
        """One of them."""
        self._admit_operator(request)
        uuid = query_parameter(request, "container_uuid")
        look = await self._asker.look()
        found = find_container(_dispatcher_of(look), uuid, look.taken_at)
        if found is None:
            raise HTTPException(404, "container not found")
        return _json(found)

    async def instances(self, request: Request) -> Response:
        """All nodes of ours."""
        self._admit_operator(request)
        return _json({"items": instances(await self._nodes())})

    async def behave(self, request: Request, *, behaviour: Behaviour) -> Response:
        """From now on a node is held, drained, or run like any other."""
        self._admit_operator(request)
        given = await read_parameters(request)
        node = await self._node(instance_id_of(given), "requested instance does not exist")
        words = f"{behaviour.value} {node.name}"
        return await self._tell(request, Behave(node.name, behaviour), node.name, words)

    async def kill(self, request: Request) -> Response:
        """A node is destroyed now, whatever runs there."""
        self._admit_operator(request)
        given = await read_parameters(request)
        why = reason_of(given) or "no reason given"
        node = await self._node(instance_id_of(given), "instance not found")
        words = f"kill {node.name}: {why}"
        return await self._tell(request, Kill(node.name, why), node.name, words)

    async def release_brake(self, request: Request) -> Response:
        """Nodes are booted again, although the last ones came to nothing."""
        self._admit_operator(request)
        if (await self._nodes()).nodes is None:
            raise HTTPException(404, "no nodes are booted here, so there is no brake")
        return await self._tell(request, ReleaseBrake(), "the brake", "release the brake")

    async def _nodes(self) -> DaemonLook:
        """A look that can tell which nodes there are, if any are booted."""
        look = await self._asker.look()
        if look.dispatcher is None and look.nodes is None:
            raise _being_started()
        return look

    async def _node(self, instance_id: str, missing: str) -> NodeStanding:
        node = find_node(await self._nodes(), instance_id)
        if node is None:
            raise HTTPException(404, missing)
        return node

    async def _tell(
        self, request: Request, message: OperatorMessage, name: str, words: str
    ) -> Response:
        address = "?" if request.client is None else request.client.host
        log.info(
            "an operator at %s says: %s",
            address,
            words,
            extra={"action": "operator", "told": name, "address": address},
        )
        await self._asker.tell(message)
        return _json({"told": name})

    # Who may.

    def _admit_operator(self, request: Request) -> None:
        """As Go's dispatcher: without a token in the config file nobody is an operator."""
        if not self._settings.management_token:
            raise HTTPException(403, "Management API authentication is not configured")
        self._admit(request)

    def _admit(self, request: Request) -> None:
        given = request.headers.get("authorization")
        if given is None:
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(401, "authorization required", headers)
        scheme, _, token = given.partition(" ")
        # Headers come decoded as Latin-1, whatever they are.
        shown, expected = token.strip().encode("latin-1"), self._settings.management_token.encode()
        if not hmac.compare_digest(shown, expected) or scheme.lower() != "bearer":
            raise HTTPException(403, "authorization error")


def _dispatcher_of(look: DaemonLook) -> Status:
    if look.dispatcher is None:
        raise _being_started()
    return look.dispatcher


def _being_started() -> NoAnswer:
    return NoAnswer("the dispatcher is being started anew; ask again in a moment")


def _json(value: Any, status: int = 200) -> Response:
    content = orjson.dumps(
        value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    )
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(content, status, headers, media_type="application/json")


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (it is registered for nothing else)
    response = _json({"errors": [error.detail]}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _excuse(_request: Request, error: Exception) -> Response:
    return _json({"errors": [str(error)]}, 503)


async def _break(_request: Request, _error: Exception) -> Response:
    """Starlette raises the error again, and uvicorn logs it."""
    return _json({"errors": ["internal error; see the log"]}, 500)
