"""Who may read, and who may change something: whoever shows the management token, or has shown it in a browser.

Without a token in the config file everybody may read and nobody may change anything. With one, both need it: as
`Authorization: Bearer`, or as the cookie that a login gives. A change that comes with a cookie has to show
besides that a page of ours asks for it, since a browser sends cookies whoever made it call.
"""

from __future__ import annotations

import hmac
import logging
import math
from typing import NoReturn
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nodemanager.clock import Clock
from nodemanager.status.sessions import SESSION_SECONDS, Sessions, Tries
from nodemanager.status.settings import ManageSettings

log = logging.getLogger(__name__)

NOT_CONFIGURED = "Management API authentication is not configured"
"""The words of Go's dispatcher."""

_READS = frozenset({"GET", "HEAD"})


class Access:
    """Decides about requests. Belongs to the event loop's thread."""

    def __init__(self, settings: ManageSettings, clock: Clock) -> None:
        self._token = settings.management_token.encode()
        self._cookie = f"nodemanager-{settings.port}"
        """With the port: browsers keep the cookies of a host's ports in one place."""
        self._sessions = Sessions(clock)
        self._tries = Tries(clock)

    @property
    def has_token(self) -> bool:
        """Whether there is one in the config file."""
        return bool(self._token)

    def admit_reader(self, request: Request) -> None:
        """Raises 401 or 403 unless whoever asks may read."""
        if self._token:
            self.admit(request)

    def admit_operator(self, request: Request) -> None:
        """Raises 401 or 403 unless whoever asks may change things, and see what only operators do."""
        if not self._token:
            raise HTTPException(403, NOT_CONFIGURED)
        self.admit(request)

    def admit(self, request: Request) -> None:
        """Raises 401 or 403 unless there is a token and it was shown, now or at a login."""
        given = request.headers.get("authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            # Headers come decoded as Latin-1, whatever they are.
            if not self._is_token(token.strip().encode("latin-1")) or scheme.lower() != "bearer":
                self._note_wrong_bearer(address_of(request))
                raise HTTPException(403, "authorization error")
            return
        if not self._sessions.holds(request.cookies.get(self._cookie, "")):
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(401, "authorization required", headers)
        if request.method not in _READS:
            _check_origin(request)

    def may_read(self, request: Request) -> bool:
        """Whether `admit_reader` lets it pass."""
        try:
            self.admit_reader(request)
        except HTTPException:
            return False
        return True

    def log_in(self, request: Request, token: str, response: Response) -> None:
        """Give the browser its cookie with `response`; raises 403 or 429 when the token is not the right one."""
        if not self._token:
            raise HTTPException(403, NOT_CONFIGURED)
        _check_origin(request)
        address = address_of(request)
        # The right one is let in whatever came before: behind a proxy all have one address, and one who guesses
        # must not lock out the others.
        if not self._is_token(token.encode()):
            self._refuse(address)
        self._tries.succeeded(address)
        response.set_cookie(
            self._cookie,
            self._sessions.open(),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            # We speak no TLS ourselves; a proxy in front that does says so.
            secure=request.headers.get("x-forwarded-proto", "").lower() == "https",
        )

    def log_out(self, request: Request, response: Response) -> None:
        """End the session, if there is one."""
        _check_origin(request)
        self._sessions.close(request.cookies.get(self._cookie, ""))
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")

    def _refuse(self, address: str) -> NoReturn:
        pause = self._tries.pause_seconds(address)
        if pause > 0:
            seconds = math.ceil(pause)
            words = f"too many wrong tokens; try again in {seconds} s"
            raise HTTPException(429, words, {"Retry-After": str(seconds)})
        self._tries.failed(address)
        raise HTTPException(403, "this is not the management token")

    def _note_wrong_bearer(self, address: str) -> None:
        """Count it, and log it; those that come in a pause are one with the last before."""
        if self._tries.pause_seconds(address) > 0:
            return
        self._tries.failed(address)
        log.warning(
            "somebody at %s called with a wrong management token",
            address,
            extra={"action": "wrong_token", "address": address},
        )

    def _is_token(self, shown: bytes) -> bool:
        return hmac.compare_digest(shown, self._token)


def address_of(request: Request) -> str:
    """Where whoever asks is, as far as the connection tells."""
    return "?" if request.client is None else request.client.host


def _check_origin(request: Request) -> None:
    """Every browser says with a POST where it comes from, one way or the other."""
    headers = request.headers
    site = headers.get("sec-fetch-site")
    if site is None:
        # Told only where there is TLS, or on this machine.
        origin = urlsplit(headers.get("origin", "")).netloc.lower()
        is_ours = bool(origin) and origin == headers.get("host", "").lower()
    else:
        is_ours = site == "same-origin"
    if not is_ours:
        raise HTTPException(403, "this has to be asked for by the page itself, not by another site")
