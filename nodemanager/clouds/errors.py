"""What can go wrong at a cloud, sorted by what to do about it.

A driver turns whatever its library raises into one of these, in one place per driver; nothing above the
drivers looks at texts or status codes.
"""

from __future__ import annotations

from nodemanager.errors import NodeManagerError


class CloudError(NodeManagerError):
    """The cloud did not answer, or answered something that has no sort of its own.

    The operation may have happened: look before it is tried again.
    """


class QuotaExceeded(CloudError):
    """The account may have no more nodes (or cores, addresses, disks) than it has now."""


class NoCapacity(CloudError):
    """The cloud has no machine of this size left at the moment; another size may do."""


class RateLimited(CloudError):
    """Too many calls. `retry_after` is what the cloud asked for, in seconds; None when it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Denied(CloudError):
    """Refused for good: wrong credentials, missing rights, or arguments the cloud does not accept.

    The operation did not happen; only a change of the configuration helps.
    """


class Gone(CloudError):
    """The node that the operation is about does not exist any more."""


CERTAIN = (QuotaExceeded, NoCapacity, RateLimited, Denied, Gone)
"""After these it is certain that a create has created nothing."""
