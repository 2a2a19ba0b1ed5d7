"""A proxy that knows nothing of what passes through it, and can let it stand still, or cut it off."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BYTES = 1 << 16


class TcpProxy:
    """Listens on `port` of this machine, or where it is told to, and passes on to another of this machine's ports."""

    def __init__(self, backend: int, listener: socket.socket | None = None) -> None:
        self._backend = backend
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._frozen = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def accepted(self) -> int:
        """How many connections have been made so far."""
        return len(self._pairs)

    def freeze(self) -> None:
        """Nothing passes any more, also not through connections yet to be made; nobody is told."""
        with self._lock:
            self._frozen = True
        self.hold()

    def hold(self) -> None:
        """Nothing passes any more through the connections that there are."""
        with self._lock:
            for pair in self._pairs:
                pair.flows.clear()

    def thaw(self) -> None:
        """Everything passes again, also what was held up."""
        with self._lock:
            self._frozen = False
            for pair in self._pairs:
                pair.flows.set()

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            for pair in self._pairs:
                pair.close()

    def close(self) -> None:
        self.thaw()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    pair = _Pair(client, self._backend)
                    if not self._frozen:
                        pair.flows.set()
                    self._pairs.append(pair)
                threading.Thread(target=pair.run, daemon=True).start()


class _Pair:
    """A connection, and the one that it is passed on to."""

    def __init__(self, client: socket.socket, backend: int) -> None:
        self.flows = threading.Event()
        self._client = client
        self._backend = backend
        self._server: socket.socket | None = None

    def run(self) -> None:
        with suppress(OSError, ValueError):
            self._server = socket.create_connection(("127.0.0.1", self._backend))
            self._pump(self._client, self._server)
        self.close()

    def close(self) -> None:
        for end in (self._client, self._server):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    content = key.fileobj.recv(_BYTES)
                    if not content:
                        return
                    self.flows.wait()
                    key.data.sendall(content)


@contextmanager
def tcp_proxy(backend: int) -> Iterator[TcpProxy]:
    """A proxy that is closed afterwards."""
    proxy = TcpProxy(backend)
    try:
        yield proxy
    finally:
        proxy.close()
