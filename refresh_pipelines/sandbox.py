"""A stand-in for all upstreams on the loopback interface, fed from the samples.

`https://host/path?query` is answered at `<base>/host/path?query`, with validators and conditional
requests as good hosts have them, or with the faults that are asked for. What is served is declared
beside the samples (`sandbox_routes`); the ways to misbehave are in `sandbox_faults`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Thread
from types import TracebackType
from urllib.parse import unquote

from refresh_pipelines.clock import utc_now
from refresh_pipelines.sandbox_answers import Answer, first_values
from refresh_pipelines.sandbox_faults import Fault, FaultError, Plan
from refresh_pipelines.sandbox_kinds import Asked, send_whole
from refresh_pipelines.sandbox_routes import Place, Revision, find_answer, load_places
from refresh_pipelines.sandbox_server import HOST, SandboxPortInUse, Send, Server, listen

__all__ = ["FaultError", "Request", "Sandbox", "SandboxPortInUse"]


@dataclass(frozen=True)
class Request:
    """One request as the sandbox saw it, with the status it was answered.

    Attributes:
        path: decoded, without the query.
        query: the first value of each name, also of those without a value.
        headers: by name in any case.
        fault: the fault it met, as it was written; empty for a true answer.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int
    fault: str = ""


class Sandbox:
    """Serve the samples from a daemon thread for as long as the context lasts.

    Args:
        samples: folders with one folder for each source; the first that has a sample answers.
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
        samples: Path | Sequence[Path],
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
        self._places: list[Place] = load_places([samples] if isinstance(samples, Path) else samples)
        self._overrides: list[tuple[str, dict[str, str], Answer]] = []
        self._plan = Plan(self.sources)
        self._server: Server | None = None

    def __enter__(self) -> Sandbox:
        self._server = listen(self._port, self.answer, self._time)
        # The default half second between looks at the stop flag would be paid by every test.
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="sandbox").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        server.stop()
        if error is None and server.defects:
            raise server.defects[0]

    @property
    def base(self) -> str:
        """The base URL, for instance `http://127.0.0.1:41234`."""
        if self._server is None:
            raise RuntimeError("the sandbox is not serving; enter it with `with Sandbox(...) as sandbox:`")
        return f"http://{HOST}:{self._server.server_port}"

    @property
    def sources(self) -> list[str]:
        """Names of the sources that have samples."""
        return sorted({place.source for place in self._places})

    def override(self, path: str, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer `path` with exactly this until `clear`.

        A query in `path` limits it to requests with those values; the override with most of them
        wins, then the latest. No validators are added and no condition is looked at. A
        Content-Length among `headers` is sent as it is: one too large is a body cut short.
        """
        name, _, query = path.partition("?")
        answer = Answer(status, body, dict(headers or {}))
        self._overrides.append((name, first_values(query), answer))

    def fault(self, target: str, fault: Fault | str, times: int | None = None) -> None:
        """Misbehave until `clear`, or `times` times.

        What would have been answered, override or sample, is what the fault is done to. Of several
        that fit, the nearest is taken: path with query, path, source, `*`; then the latest.

        Args:
            target: a source, with or without its group; a path, with or without a query; or `*` for all.
            fault: a fault, or how it is written: `status:503,120` (see `sandbox_faults`).
            times: how many requests meet it; None for all.

        Raises:
            FaultError: there is no such fault, or no such source.
        """
        self._plan.add(target, Fault.parse(fault) if isinstance(fault, str) else fault, times)

    def clear(self) -> None:
        """Forget all overrides and faults."""
        self._overrides.clear()
        self._plan.clear()

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> tuple[Answer, Send]:
        """Answer and log one request, as the server does for each; return also how the answer is sent."""
        raw_path, _, raw_query = target.partition("?")
        path, query = unquote(raw_path), first_values(raw_query)
        found = find_answer(self._places, path, query, self.revision, self.clock())
        fault = self._plan.meet(path, query, found.source)
        asked = headers if fault is None or fault.kind.conditional else {}
        answer, send = self._overridden(path, query) or _validated(found.answer, asked), send_whole
        if fault:
            answer, send = fault.tamper(answer, Asked(method, target, headers, self.base, self.clock())), fault.send
        request = Request(method, path, query, headers, answer.status, fault.text if fault else "")
        self.requests.append(request)
        if self._on_request:
            self._on_request(request)
        return answer, send

    def _time(self) -> datetime:
        # Not the clock itself, which may be exchanged while serving.
        return self.clock()

    def _overridden(self, path: str, query: Mapping[str, str]) -> Answer | None:
        fitting = [o for o in self._overrides if o[0] == path and o[1].items() <= query.items()]
        # max() takes the first of equals; reversed, that is the latest.
        return max(reversed(fitting), key=lambda o: len(o[1]))[2] if fitting else None


def _validated(found: Answer, asked: Mapping[str, str]) -> Answer:
    """Add the ETag of a sample, and answer 304 where the condition says so."""
    if found.status != 200:
        return found
    etag = f'"{hashlib.sha256(found.body).hexdigest()}"'
    answer = Answer(200, found.body, {**found.headers, "ETag": etag})
    return Answer(304, b"", answer.headers) if _not_modified(asked, answer.headers) else answer


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
