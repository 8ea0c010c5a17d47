"""The sockets of the sandbox: a server on the loopback interface that ends its threads when it is stopped."""

from __future__ import annotations

import errno
import socket
import socketserver
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

from requests.structures import CaseInsensitiveDict

from refresh_pipelines.sandbox_answers import Answer, http_date
from refresh_pipelines.sandbox_kinds import Wire

HOST = "127.0.0.1"
Send = Callable[[Wire, Answer], None]
Answering = Callable[[str, str, Mapping[str, str]], tuple[Answer, Send]]


class SandboxPortInUse(OSError):
    """Another program listens on the port; the message says how to take another one."""


class _Stopped(ConnectionError):
    """The sandbox was stopped while an answer was being sent."""


def listen(port: int, answering: Answering, clock: Callable[[], datetime]) -> Server:
    """Return a server that listens but does not serve yet.

    Args:
        port: 0 takes any free port.
        answering: from method, target and headers to the answer and how it is sent.
        clock: says the Date of answers.

    Raises:
        SandboxPortInUse: somebody else listens there.
    """
    try:
        return Server(port, answering, clock)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SandboxPortInUse(
            f"port {port} is in use: another program listens on {HOST}:{port}; set REFRESH_SANDBOX_PORT"
        ) from error


class Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own.

    Attributes:
        defects: what went wrong in the threads and was no client's doing.
    """

    daemon_threads = True
    # Two sandboxes on one port would share the requests between them.
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(self, port: int, answering: Answering, clock: Callable[[], datetime]) -> None:
        self.answering, self.clock = answering, clock
        self.defects: list[BaseException] = []
        self.stopping = Event()
        self._open: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)

    def stop(self) -> None:
        """Stop serving; answers that are still under way break off."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in self._open.copy():
            # Wakes a thread that waits for a client who neither reads nor speaks.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:  # noqa: D102 - socketserver's
        # HTTPServer asks the resolver for the machine's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: D102 - socketserver's
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: D102 - socketserver's
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: D102 - socketserver's
        error = sys.exc_info()[1]
        if error is None or isinstance(error, ConnectionError):
            return  # the client hung up, as one does that reached its limit of bytes
        self.defects.append(error)
        super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection; a `Wire` for the faults."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(self.headers.items())
        answer, send = self.server.answering(self.command, self.path, headers)
        self.close_connection = True
        send(self, answer)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def head(self, answer: Answer, *, length: bool = True) -> None:
        self._bodiless = self.command == "HEAD" or answer.status in (204, 304)
        said = {"Content-Length": str(len(answer.body))} if length and answer.status not in (204, 304) else {}
        self.send_response_only(answer.status)
        # Closed after each answer: a kept connection would outlive the sandbox in its thread.
        fixed = {"Server": "refresh-sandbox", "Date": http_date(self.server.clock()), "Connection": "close"}
        for name, value in CaseInsensitiveDict({**fixed, **said, **answer.headers}).items():
            self.send_header(name, value)
        self.end_headers()

    def write(self, data: bytes) -> None:
        if self.server.stopping.is_set():
            raise _Stopped
        if not self._bodiless:
            self.wfile.write(data)

    def wait(self, seconds: float | None) -> None:
        if self.server.stopping.wait(seconds):
            raise _Stopped

    def reset(self) -> None:
        # Closed with a lingering time of zero; what the kernel still holds is thrown away.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    _bodiless = False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing on stderr: the sandbox has its own log."""
