"""The errors of this package: one root, and one class per party that can act on it."""

from __future__ import annotations


class NodeManagerError(Exception):
    """Root of every error this package raises on purpose.

    The message says what was wrong, where (file, section, option, uuid) and what to do.
    """


class ConfigError(NodeManagerError):
    """The configuration cannot be used; the operator has to change it (exit status 2)."""


class RequestError(NodeManagerError):
    """A container request is invalid; whoever wrote it has to change it.

    `field` is the dotted path of the field at fault, such as ``runtime_constraints.ram``.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ApiError(NodeManagerError):
    """A call to the Arvados API did not do what it was asked."""


class ApiUnavailable(ApiError):
    """No usable answer: connection refused, timeout, 5xx. The call may or may not have happened."""


class ApiRefused(ApiError):
    """The API understood and said no; asking again the same way is useless.

    `status` is the HTTP status: 401 (no such token), 403 (not yours), 404, 422 (invalid or lost).
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SchedulerError(NodeManagerError):
    """A batch scheduler did not answer, or answered something we cannot read.

    It proves nothing about any job: unknown is not gone.
    """
