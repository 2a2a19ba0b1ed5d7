"""Where the API is, and as whom to speak to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodemanager.api.connection import connect
from nodemanager.config import Config


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API is, and as whom to speak to it."""

    url: str
    token: str
    ca_file: Path | None
    insecure: bool = False

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def connect(self, timeout: float) -> Any:
        """The client object for one thread; see `nodemanager.api.connection.connect`."""
        return connect(
            self.url, self.token, ca_file=self.ca_file, insecure=self.insecure, timeout=timeout
        )


def outer_endpoint(config: Config) -> Endpoint:
    """The API that `[Arvados]` names, when it is not the embedded one."""
    arvados = config.arvados
    return Endpoint(f"https://{arvados.host}", arvados.token, arvados.certs_file, arvados.insecure)
