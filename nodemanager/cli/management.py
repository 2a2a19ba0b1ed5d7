"""What is asked of the daemon's management server: its nodes, and what only it knows."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httplib2

from nodemanager.errors import NodeManagerError

TIMEOUT_SECONDS = 15.0


class NoManagement(NodeManagerError):
    """The management server cannot be asked: it is off, or does not answer."""


@dataclass(frozen=True)
class Management:
    """Where it is; every method raises `NodeManagerError` in words for the person at the terminal."""

    url: str = ""
    token: str = field(default="", repr=False)
    missing: str = ""
    """Why it cannot be asked at all; empty when it can."""

    def get(self, path: str) -> dict[str, Any]:
        """What a GET answers."""
        return self._ask("GET", path, {})

    def post(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What a POST of a form answers."""
        return self._ask("POST", path, parameters)

    def _ask(self, method: str, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        if self.missing:
            raise NoManagement(f"the daemon's management server cannot be asked: {self.missing}")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        transport = httplib2.Http(timeout=TIMEOUT_SECONDS)
        try:
            response, body = transport.request(
                self.url + path, method, body=urlencode(parameters) or None, headers=headers
            )
            answer: Any = json.loads(body)
        except (OSError, http.client.HTTPException, httplib2.HttpLib2Error, ValueError) as error:
            raise NoManagement(
                f"the daemon's management server does not answer at {self.url}: {error}. Is the daemon running?"
            ) from error
        finally:
            transport.close()
        if response.status < 300 and isinstance(answer, dict):
            return answer
        raise NodeManagerError(self._refusal(int(response.status), answer))

    def _refusal(self, status: int, answer: Any) -> str:
        words = "; ".join(answer.get("errors") or ()) if isinstance(answer, dict) else ""
        if status in (401, 403):
            return (
                f"the management server at {self.url} refuses it: {words}. It needs [Manage] ManagementToken, the "
                "same in this config file as in the daemon's"
            )
        return f"the management server at {self.url} says: {words or f'HTTP status {status}'}"
