"""What of the old node manager's config file has no effect: accepted and checked, so that an old file loads.

It keeps its meaning from there (release 1.4.3), and a warning says that nobody reads it.
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

from __future__ import annotations

from dataclasses import dataclass

from nodemanager.config.kinds import Integer, Pattern, Secret, SecretText
from nodemanager.config.option import option

STATUS = "not used yet: read by the management server"
GONE = "without effect: containers are the only kind of work"
REPLACED = "replaced by [Dispatch] scheduler"


@dataclass(frozen=True, kw_only=True)
class Manage:
    """The server for status and metrics."""

    address: str = option(
        Pattern(r"[A-Za-z0-9.:-]+", "an IP address or host name"),
        "127.0.0.1",
        "The address to listen on.",
        unused=STATUS,
    )
    port: int = option(
        Integer(-1, 65535), "-1", "The port to listen on; -1 switches it off.", unused=STATUS
    )
    management_token: Secret = option(
        SecretText(),
        "",
        "The token for health checks; empty switches them off.",
        name="ManagementToken",
        unused=STATUS,
    )
