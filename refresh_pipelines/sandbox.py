"""A stand-in for all upstreams on the loopback interface, fed from the samples.

`https://host/path?query` is answered at `<base>/host/path?query`, with validators and conditional
requests as good hosts have them. What is served is declared beside the samples (`sandbox_routes`).
"""

from __future__ import annotations

import errno
import hashlib
import socketserver
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote

from requests.structures import CaseInsensitiveDict

from refresh_pipelines.sandbox_routes import Answer, Place, Revision, find_answer, http_date, load_places

HOST = "127.0.0.1"


class SandboxPortInUse(OSError):
    """Another program listens on the port; the message says how to take another one."""


def utc_now() -> datetime:
    """Return the time of the machine."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Request:
    """One request as the sandbox saw it, with the status it was answered.

    Attributes:
        path: decoded, without the query.
        query: the first value of each name, also of those without a value.
        headers: by name in any case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int


class Sandbox:
    """Serve the samples from a daemon thread for as long as the context lasts.

    Args:
        samples: folder with one folder for each source.
        port: 0 takes any free port.
        revision: "revised" serves what upstream published later; may be set while running.
        clock: says which year is running, and the Date of answers.
        on_request: called for each request, in the thread that answers it.

    Attributes:
        requests: everything asked since the start, in the order of answering; may be cleared.

    Raises:
        SandboxError: the samples' routes cannot be read.
        SandboxPortInUse: on entering the context.
    """

    def __init__(
        self,
        samples: Path,
        port: int = 0,
        revision: Revision = "good",
        clock: Callable[[], datetime] = utc_now,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.revision: Revision = revision
        self.clock = clock
        self.requests: list[Request] = []
        self._port = port
        self._on_request = on_request
        self._places: list[Place] = load_places(samples)
        self._overrides: list[tuple[str, dict[str, str], Answer]] = []
        self._server: _Server | None = None

    def __enter__(self) -> Sandbox:
        self._server = _listen(self, self._port)
        # The default half second between looks at the stop flag would be paid by every test.
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="sandbox").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        if error is None and server.defects:
            raise server.defects[0]

    @property
    def base(self) -> str:
        """The base URL, for instance `http://127.0.0.1:41234`."""
        if self._server is None:
            raise RuntimeError("the sandbox is not serving; enter it with `with Sandbox(...) as sandbox:`")
        return f"http://{HOST}:{self._server.server_port}"

    def override(self, path: str, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer `path` with exactly this until `clear`.

        A query in `path` limits it to requests with those values; the override with most of them
        wins, then the latest. No validators are added and no condition is looked at. A
        Content-Length among `headers` is sent as it is: one too large is a body cut short.
        """
        name, _, query = path.partition("?")
        answer = Answer(status, body, dict(headers or {}))
        self._overrides.append((name, dict(parse_qsl(query, keep_blank_values=True)), answer))

    def clear(self) -> None:
        """Forget all overrides."""
        self._overrides.clear()

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """Answer and log one request, as the server does for each."""
        raw_path, _, raw_query = target.partition("?")
        path, query = unquote(raw_path), _first_values(raw_query)
        answer = self._overridden(path, query) or self._sampled(path, query, headers)
        request = Request(method, path, query, headers, answer.status)
        self.requests.append(request)
        if self._on_request:
            self._on_request(request)
        return answer

    def _overridden(self, path: str, query: Mapping[str, str]) -> Answer | None:
        fitting = [o for o in self._overrides if o[0] == path and o[1].items() <= query.items()]
        # max() takes the first of equals; reversed, that is the latest.
        return max(reversed(fitting), key=lambda o: len(o[1]))[2] if fitting else None

    def _sampled(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        found = find_answer(self._places, path, query, self.revision, self.clock())
        if found.status != 200:
            return found
        etag = f'"{hashlib.sha256(found.body).hexdigest()}"'
        answer = Answer(200, found.body, {**found.headers, "ETag": etag})
        return Answer(304, b"", answer.headers) if _not_modified(headers, answer.headers) else answer


def _first_values(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, value)
    return values


def _not_modified(asked: Mapping[str, str], served: Mapping[str, str]) -> bool:
    if "If-None-Match" in asked:
        # RFC 9110, 13.2.2: the ETag decides alone where there is one.
        tags = {tag.strip().removeprefix("W/") for tag in asked["If-None-Match"].split(",")}
        return bool(tags & {"*", served["ETag"]})
    if "If-Modified-Since" not in asked or "Last-Modified" not in served:
        return False
    try:
        since = parsedate_to_datetime(asked["If-Modified-Since"])
    except ValueError:
        return False  # RFC 9110, 13.1.3: a date that cannot be read is as good as none
    return parsedate_to_datetime(served["Last-Modified"]) <= (
        since if since.tzinfo else since.replace(tzinfo=timezone.utc)
    )


def _listen(sandbox: Sandbox, port: int) -> _Server:
    try:
        return _Server(sandbox, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SandboxPortInUse(
            f"port {port} is in use: another program listens on {HOST}:{port}; set REFRESH_SANDBOX_PORT"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two sandboxes on one port would share the requests between them.
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self.defects: list[BaseException] = []
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for the machine's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is None or isinstance(error, ConnectionError):
            return  # the client hung up, as one does that reached its limit of bytes
        self.defects.append(error)
        super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(self.headers.items())
        answer = self.server.sandbox.answer(self.command, self.path, headers)
        length = {} if answer.status in (204, 304) else {"Content-Length": str(len(answer.body))}
        self.send_response_only(answer.status)
        # Closed after each answer: a kept connection would outlive the sandbox in its thread.
        fixed = {"Server": "refresh-sandbox", "Date": http_date(self.server.sandbox.clock()), "Connection": "close"}
        for name, value in CaseInsensitiveDict({**fixed, **length, **answer.headers}).items():
            self.send_header(name, value)
        self.end_headers()
        if length and self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing on stderr: `requests` and `on_request` are the log."""
