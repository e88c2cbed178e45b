"""A TCP proxy on loopback that can fall silent: it accepts and keeps connections and forwards nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url


class StallingProxy:
    """Forwards to one port of this host. Bytes that come while it is silent are forwarded afterwards."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._held = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def in_front_of(self, url: str) -> str:
        """A database's URL that leads through here."""
        return make_url(url).set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def stall(self) -> None:
        self._held.clear()
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def wait_until_holding(self, patience_s: float) -> bool:
        """Whether somebody has sent something since it fell silent."""
        return self._held.wait(patience_s)

    def close(self) -> None:
        self._open.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._sockets.append(near)
        try:
            self._wait()
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._sockets.append(far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        if not self._open.is_set():
            self._held.set()
            self._open.wait()


@contextmanager
def stalling_proxy(url: str) -> Iterator[StallingProxy]:
    """A proxy before a database."""
    proxy = StallingProxy(make_url(url).port or 5432)
    try:
        yield proxy
    finally:
        proxy.close()
