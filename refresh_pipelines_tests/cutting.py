"""A wire to PostgreSQL that is cut at a chosen moment, as networks are."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wire:
    """Listens on a port of its own and passes bytes on, until the client says `word` and the server has answered."""

    def __init__(self, port: int, word: bytes) -> None:
        self.server, self.word, self.cut = port, word, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.server))
                threading.Thread(target=self._forth, args=(client, far), daemon=True).start()
                threading.Thread(target=self._back, args=(client, far), daemon=True).start()

    def _forth(self, client: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self.cut = self.cut or self.word in data
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                if self.cut:  # the server has done it, and the client never learns so
                    break
                client.sendall(data)
        for end in (client, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the thread that reads here
            end.close()
