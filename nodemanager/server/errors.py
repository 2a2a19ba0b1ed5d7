"""What the API server refuses, and with which status: one class, one function per kind of refusal.

The texts and codes are those of stock Arvados, whose clients know them: a lost claim is 422 and a foreign
write 403, never 409 or 423, which the Python client takes for an invitation to repeat the call.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodemanager.errors import NodeManagerError


class ServerError(NodeManagerError):
    """A refused call: `status` is the HTTP status, `messages` are what ``{"errors": [...]}`` holds."""

    def __init__(self, status: int, messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.status = status
        self.messages = list(messages)


def not_logged_in() -> ServerError:
    """No token, an unknown one, or one that has died."""
    return ServerError(401, ["Not logged in"])


def forbidden(message: str) -> ServerError:
    """The caller is known, and the thing is not theirs to do."""
    return ServerError(403, [message])


def not_found() -> ServerError:
    """There is no such record, or the caller may not know that there is."""
    return ServerError(404, ["Path not found"])


def invalid(*messages: str) -> ServerError:
    """The call makes no sense, or no sense any more (a lost claim, a state that cannot follow)."""
    return ServerError(422, messages)
