"""A proxy and an HTTPS host on loopback, with a certificate authority made for the test.

The authority is made with the program `openssl`: it comes with Linux and macOS, while a Python
package that can sign would be a dependency for these tests alone.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

HOST = "data.example.org"
_CONFIG = f"""\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[host]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{HOST}, DNS:hooks.example.org
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", "openssl.cnf")


@dataclass(frozen=True)
class Authority:
    """Files of a certificate authority and of the one host it has signed."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    (folder / "openssl.cnf").write_text(_CONFIG)
    openssl(
        *("req", "-x509", *_KEY, "-extensions", "authority", "-subj", "/CN=authority of a test", "-days", "2"),
        *("-keyout", "ca.key", "-out", "ca.pem"),
    )
    openssl("req", *_KEY, "-subj", f"/CN={HOST}", "-keyout", "host.key", "-out", "host.csr")
    openssl(
        *("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "2"),
        *("-extfile", "openssl.cnf", "-extensions", "host", "-out", "host.pem"),
    )
    return Authority(folder / "ca.pem", folder / "host.pem", folder / "host.key")


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _serving(handler: type[_Quiet], context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that does not believe the certificate hangs up
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def tls_host(authority: Authority, body: bytes = b"day,value\n2026-01-01,1\n") -> Iterator[int]:
    """Serve `body` to any GET and take any POST, over TLS; yield the port."""

    class Handler(_Quiet):
        def do_GET(self):
            self.answer(200, body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    with _serving(Handler, context) as port:
        yield port


class Proxy:
    """A proxy that takes every tunnel to one port of this machine, and answers plain requests itself.

    Attributes:
        seen: method, target and decoded user:password of each request.
        user: what it wants as user:password, None for nothing.
        refuse: status it answers to everything, None to serve.
    """

    def __init__(self, target: int = 0) -> None:
        self.target, self.user, self.refuse = target, None, None
        self.seen: list[tuple[str, str, str]] = []

    @contextmanager
    def serving(self) -> Iterator[Proxy]:
        proxy = self

        class Handler(_Quiet):
            def admitted(self) -> bool:
                given = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
                user = base64.b64decode(given).decode()
                proxy.seen.append((self.command, self.path, user))
                status = proxy.refuse or (407 if proxy.user not in (None, user) else None)
                if status:
                    self.answer(status)
                return not status

            def do_GET(self):
                if self.admitted():
                    self.answer(200, b"day,value\n2026-01-01,1\n")

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.admitted():
                    self.answer(200)

            def do_CONNECT(self):
                if not self.admitted():
                    return
                with socket.create_connection(("127.0.0.1", proxy.target)) as upstream:
                    self.connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                    _pump(self.connection, upstream)

        with _serving(Handler) as self.port:
            yield self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_of(self, user: str) -> str:
        return f"http://{user}@127.0.0.1:{self.port}"


def _pump(one: socket.socket, other: socket.socket) -> None:
    ends = {one: other, other: one}
    while True:
        for ready in select.select([*ends], [], [], 30)[0]:
            piece = ready.recv(1 << 16)
            if not piece:
                return
            ends[ready].sendall(piece)
