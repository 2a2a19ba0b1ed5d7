"""What a probe needs of the API: a token that may do next to nothing, and the report that comes back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from nodemanager.api.connection import call
from nodemanager.api.endpoint import Endpoint
from nodemanager.errors import ApiError, ApiRefused, NodeManagerError
from nodemanager.runner.report import LINK_CLASS, Report

_FEW = 10


class ProbeApi:
    """The API as seen by whoever sends a probe. `uuid` is the probe's, as if it were a container."""

    def __init__(self, endpoint: Endpoint, timeout: float, uuid: str) -> None:
        self._endpoint = endpoint
        self._api = endpoint.connect(timeout)
        self._uuid = uuid
        self._made = ""

    def token(self, until: float) -> str:
        """A token for the node, which dies at `until` (Unix seconds).

        It may ask who it is, post a report and try an upload. Only users and administrators can make one; for
        a dispatcher, whose token makes no others, it is the very token in use.
        """
        attributes = {
            "scopes": [
                "GET /arvados/v1/users/current",
                "POST /arvados/v1/links",
                f"PUT /arvados/v1/containers/{self._uuid}/",
            ],
            "expires_at": datetime.fromtimestamp(until, UTC).isoformat(),
        }
        resource = self._api.api_client_authorizations()
        try:
            made = call(resource.create(body={"api_client_authorization": attributes}))
        except ApiRefused:
            return self._endpoint.token
        self._made = str(made["uuid"])
        return f"v2/{self._made}/{made['api_token']}"

    @property
    def has_made_token(self) -> bool:
        """Whether `token` made one, so that the node gets none that may do more."""
        return bool(self._made)

    def report(self) -> Report | None:
        """What the probe has posted; None when nothing came, or nothing that can be read."""
        try:
            return next(
                (Report.from_json(link["properties"]["report"]) for link in self._links()), None
            )
        except (NodeManagerError, KeyError, TypeError):
            return None

    def clear_away(self) -> None:
        """Remove report and token; what cannot be removed is a link that nobody reads and a token that dies."""
        with contextlib.suppress(ApiError):
            for link in self._links():
                call(self._api.links().delete(uuid=link["uuid"]))
        if self._made:
            with contextlib.suppress(ApiError):
                call(self._api.api_client_authorizations().delete(uuid=self._made))
        self._api.close()

    def _links(self) -> list[dict[str, Any]]:
        filters = [["link_class", "=", LINK_CLASS], ["name", "=", self._uuid]]
        items: list[dict[str, Any]] = call(
            self._api.links().list(filters=filters, limit=_FEW, count="none")
        )["items"]
        return items
