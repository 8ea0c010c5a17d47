"""A scripted upstream on loopback for what the sandbox is too well-behaved to do: hang, drip, reset, redirect.

Each request takes the next answer of the script; the last one is repeated. An answer is bytes put on
the wire as they are, or a function that is given the handler and does as it likes.
"""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.settings import Settings
from refresh_pipelines.window import Window

Act = Callable[["Handler"], None]
START = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        self.server.upstream.seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        self.close_connection = True
        act = self.server.upstream.next()
        if isinstance(act, bytes):
            self.wfile.write(act)
        else:
            act(self)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    upstream: Upstream

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up is what some of the scripts are about


class Upstream:
    """The server as a context; `base` is for `Settings.upstream`, `seen` is what was asked."""

    def __init__(self, *script: bytes | Act) -> None:
        self.script = list(script)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.released = Event()

    def next(self) -> bytes | Act:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def __enter__(self) -> Upstream:
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.upstream = self
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def hang(self, handler: Handler) -> None:
        """Say nothing until the test is over."""
        self.released.wait(30)

    def drip(self, handler: Handler) -> None:
        """Send a little of a long body, and no more until the test is over."""
        handler.wfile.write(answer(b"", headers={"Content-Length": "1000"}) + b"a")
        handler.wfile.flush()
        self.released.wait(30)


def answer(body: bytes = b"a,b\n1,2\n", status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one answer; a Content-Length among the headers may lie, None leaves it out."""
    fields = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body


def redirect(target: str, status: int = 302) -> bytes:
    return answer(b"", status, {"Location": target})


def gzipped(body: bytes, keep: int | None = None) -> bytes:
    return answer(gzip.compress(body, mtime=0)[:keep], headers={"Content-Encoding": "gzip"})


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = answer(b"", headers={"Content-Length": None, "Transfer-Encoding": "chunked"})
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def reset(handler: Handler) -> None:
    """Break the connection off as a crashing host does."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


class Clock:
    """Time that only passes by sleeping, or by `step` at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.at, self.step, self.slept = 0.0, step, []

    def __call__(self) -> float:
        self.at += self.step
        return self.at

    def now(self) -> datetime:
        """What a clock on the wall shows meanwhile."""
        return START + timedelta(seconds=self.at)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def settings(folder: Path, upstream: str | None, sandbox: bool = False, **environ: str) -> Settings:
    return Settings(folder, folder, (), "duckdb:///x", upstream=upstream, sandbox=sandbox, environ=environ)


def fetch(spec, served, folder, *, window=None, url=None, known=None, clock=None, session=None, now=None, **environ):
    """Fetch from a scripted upstream with a clock that nobody waits for."""
    clock = clock or Clock()
    base = served if isinstance(served, str) else served and served.base
    now = now or clock.now
    fetcher = Fetcher(settings(folder, base, **environ), session, clock=clock, sleep=clock.sleep, now=now)
    return fetcher.fetch(spec, window or Window(), url or spec.request.candidates[0], folder, known)
