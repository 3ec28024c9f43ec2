"""A TCP forwarder that resets its connections, as a server does that is killed before it has read a request."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator


class Forwarder:
    """Forwards connections to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.resets_next_request = False
        """Whether the next bytes of a client are answered by a reset of its connection."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the thread that waits for one, too
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=_receive, args=(client, server), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), server:
            while data := client.recv(65536):
                if self.resets_next_request:
                    self.resets_next_request = False
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)


def _receive(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forwarding(target: int) -> Iterator[Forwarder]:
    """A forwarder that takes connections until the block ends."""
    forwarder = Forwarder(target)
    try:
        yield forwarder
    finally:
        forwarder.close()
