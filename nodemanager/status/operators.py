"""What operators see and say, at the paths of Arvados' own cloud dispatcher (its lib/dispatchcloud/dispatcher.go)."""

from __future__ import annotations

import logging
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.dispatch.messages import Status
from nodemanager.nodes.messages import Behave, Kill, NodeStanding, ReleaseBrake
from nodemanager.nodes.states import Behaviour
from nodemanager.status.access import address_of
from nodemanager.status.answers import json_response
from nodemanager.status.asking import NoAnswer
from nodemanager.status.instances import containers, find_container, find_node, instances
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.parameters import (
    instance_id_of,
    query_parameter,
    read_parameters,
    reason_of,
)
from nodemanager.status.parts import Parts

log = logging.getLogger(__name__)

DISPATCH = "/arvados/v1/dispatch"


def operator_routes(parts: Parts) -> list[Route]:
    """All below `DISPATCH`."""
    answers = _Answers(parts)
    return [
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
    ]


class _Answers:
    """One method for each route; runs in the event loop's thread."""

    def __init__(self, parts: Parts) -> None:
        self._access = parts.access
        self._asker = parts.asker

    async def containers(self, request: Request) -> Response:
        """All containers in hand."""
        self._access.admit_operator(request)
        look = await self._asker.look()
        return json_response({"items": containers(_dispatcher_of(look), look.taken_at)})

    async def container(self, request: Request) -> Response:
        """One of them."""
        self._access.admit_operator(request)
        uuid = query_parameter(request, "container_uuid")
        look = await self._asker.look()
        found = find_container(_dispatcher_of(look), uuid, look.taken_at)
        if found is None:
            raise HTTPException(404, "container not found")
        return json_response(found)

    async def instances(self, request: Request) -> Response:
        """All nodes of ours."""
        self._access.admit_operator(request)
        return json_response({"items": instances(await self._nodes())})

    async def behave(self, request: Request, *, behaviour: Behaviour) -> Response:
        """From now on a node is held, drained, or run like any other."""
        self._access.admit_operator(request)
        given = await read_parameters(request)
        why = reason_of(given)
        node = await self._node(instance_id_of(given), "requested instance does not exist")
        words = f"{behaviour.value} {node.name}" + (f": {why}" if why else "")
        return await self._tell(request, Behave(node.name, behaviour), node.name, words)

    async def kill(self, request: Request) -> Response:
        """A node is destroyed now, whatever runs there."""
        self._access.admit_operator(request)
        given = await read_parameters(request)
        why = reason_of(given) or "no reason given"
        node = await self._node(instance_id_of(given), "instance not found")
        words = f"kill {node.name}: {why}"
        return await self._tell(request, Kill(node.name, why), node.name, words)

    async def release_brake(self, request: Request) -> Response:
        """Nodes are booted again, although the last ones came to nothing."""
        self._access.admit_operator(request)
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
        address = address_of(request)
        log.info(
            "an operator at %s says: %s",
            address,
            words,
            extra={"action": "operator", "told": name, "address": address},
        )
        await self._asker.tell(message)
        return json_response({"told": name})


def _dispatcher_of(look: DaemonLook) -> Status:
    if look.dispatcher is None:
        raise _being_started()
    return look.dispatcher


def _being_started() -> NoAnswer:
    return NoAnswer("the dispatcher is being started anew; ask again in a moment")
