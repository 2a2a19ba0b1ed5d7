"""Keeps the embedded API server running: a thread that starts it again when it has ended."""

from __future__ import annotations

import logging
import threading

from nodemanager.api.embedded import EmbeddedEndpoint, EmbeddedServer
from nodemanager.errors import ApiError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class EmbeddedKeeper:
    """Owns an `EmbeddedServer` from `start` to `stop`.

    A server that is started again has the address, certificate and tokens it had before, so nobody who
    waits for it needs to be told.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="api-keeper", daemon=True)

    def start(self) -> EmbeddedEndpoint:
        """Start the server; raises `ApiError` when it does not start this first time."""
        endpoint = self._server.start()
        self._thread.start()
        return endpoint

    def stop(self) -> None:
        """End the server, in order."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._server.stop()

    def _keep(self) -> None:
        pause = LOOK_SECONDS
        while not self._ending.wait(pause):
            if self._server.is_alive():
                pause = LOOK_SECONDS
                continue
            log.error(
                "the embedded API server has ended; starting it", extra={"action": "api_ended"}
            )
            try:
                self._server.start()
            except ApiError as error:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                log.warning(
                    "%s; next try in %.0f s", error, pause, extra={"action": "api_start_failed"}
                )
