"""The upstream of the measurements: a process that serves the files of a folder on loopback.

    python -m benchmarks.serving FOLDER

`/plain/NAME` comes without validators, `/etag/NAME` with an ETag and is answered by 304 to whom it is shown; whatever
follows a name is ignored, so that one address of an upstream can stand for several files. It prints its port, and
ends when its input does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from benchmarks.harness import ROOT


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder from a process of its own; answers the base URL."""
    command = [sys.executable, "-m", "benchmarks.serving", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate()


class _Files(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        kind, _, rest = self.path.lstrip("/").partition("/")
        tagged, name = kind == "etag", rest.partition("/")[0].partition("?")[0]
        path = self.folder / name
        if kind not in ("plain", "etag") or name in ("", "..") or not path.is_file():
            self.send_error(404)
            return
        about = path.stat()
        etag = f'"{about.st_size:x}-{about.st_mtime_ns:x}"'
        same = tagged and self.headers.get("If-None-Match") == etag
        self.send_response(304 if same else 200)
        if tagged:
            self.send_header("ETag", etag)
        if not same:
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(about.st_size))
        self.end_headers()
        if body and not same:
            with path.open("rb") as file:
                # The kernel copies: what is measured has two cores, and the server takes as little of them as it can.
                self.wfile.flush()
                self.connection.sendfile(file)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until the input ends."""
    _Files.folder = Path(sys.argv[1]).resolve()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
