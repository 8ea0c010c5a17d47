"""The upstream of the soak: small files that grow with time, one answer in twenty wrong, every answer written down.

What a file holds at a step follows from its name and the step alone, so that a table can be compared with it.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from refresh_pipelines_tests.upstream import answer, reset

STEP = 20.0
_WINDOW = 5
HEADER = "n,said,revised\n"
FAULTS = ("500", "429", "429 long", "cut", "html", "slow", "reset")
# One answer of so many begins a fault, one kind of which lasts for four of its source: six in a hundred are wrong.
_EVERY, _LASTS = 20, {"500": 4}


@dataclass(frozen=True)
class Source:
    """One source of the soak.

    Attributes:
        kind: `grow` adds a row at each step and revises the one before, `window` holds the newest rows only and is
            replaced, `halves` has two partitions that grow.
        minute: of the hour at which it is due; None: not while the soak lasts.
    """

    name: str
    number: int
    kind: str
    group: str
    minute: int | None

    @property
    def host(self) -> str:
        # Two of a host: trouble of three would wait for others before it is told.
        return f"h{self.number // 2}.example.org"

    @property
    def keys(self) -> tuple[str | None, ...]:
        return ("a", "b") if self.kind == "halves" else (None,)

    def rows(self, step: int, key: str | None = None) -> list[tuple[int, str, int]]:
        """Return what is served at a step; of a half the even or the odd rows."""
        first = max(0, step - _WINDOW + 1) if self.kind == "window" else 0
        wanted = [n for n in range(first, step + 1) if key is None or n % 2 == (key == "b") or n < 2]
        return [(n, f"{self.name}{f' {key}' if key else ''} {n}", int(n < step)) for n in wanted]

    def text(self, step: int, key: str | None = None) -> bytes:
        rows = "".join(f"{n},{said},{revised}\n" for n, said, revised in self.rows(step, key))
        return (HEADER + rows).encode()

    def yaml(self, idle_minute: int) -> str:
        minute = idle_minute if self.minute is None else self.minute
        path = "{half}" if self.kind == "halves" else "all"
        lines = [
            f"description: a small source of the soak, {self.kind}",
            f'request: {{url: "https://{self.host}/{self.name}/{path}.csv", timeout: 10s}}',
            "format: csv",
            f"schedule: {{cron: '{minute} * * * *', catch_up: latest}}",
            "retry: {attempts: 2, delay: 2s, max_delay: 20s}",
            "breaker: {failures: 5, probe: 1m, probe_max: 1m}",
        ]
        columns = "n: {type: int}, said: {type: text}, revised: {type: int}"
        if self.kind == "halves":
            lines += ["partitions: {static: {half: [a, b]}}", "merge_key: [half, n]"]
            columns = 'half: {type: text, from: "{half}"}, ' + columns
        else:
            lines += ["merge_key: [n]"]
        lines += ["load: {mode: replace_partition}"] if self.kind == "window" else []
        return "\n".join([*lines, f"columns: {{{columns}}}"]) + "\n"


@dataclass(frozen=True)
class Asked:
    """One request and what it was answered; `sha256` is of the whole body a good answer had, "" for any other."""

    at: datetime
    source: str
    key: str | None
    step: int
    said: str
    sha256: str = ""


class Growing:
    """The upstream as a script of one answer for `Upstream`."""

    def __init__(self, sources, seed):
        self.sources = {source.name: source for source in sources}
        self.log: list[Asked] = []
        self.faulty, self.calm = True, None
        self._faults, self._lock = random.Random(seed).sample(FAULTS, len(FAULTS)), threading.Lock()
        self._begun, self._frozen = time.monotonic(), None
        self._lasting: dict[str, list[str]] = {}

    @property
    def step(self):
        """The step that files are at; it stands still once they are frozen."""
        return self._frozen if self._frozen is not None else int((time.monotonic() - self._begun) / STEP)

    def freeze(self):
        """Let nothing grow any more."""
        with self._lock:
            self._frozen = self.step

    def calm_down(self):
        """Answer rightly from now on."""
        with self._lock:
            self.faulty, self.calm = False, datetime.now(timezone.utc)

    def __call__(self, handler):
        name, _, file = handler.path.strip("/").partition("/")[2].partition("/")
        source, key = self.sources[name], file.removesuffix(".csv")
        key = None if key == "all" else key
        with self._lock:
            step, fault = self.step, self._fault(name)
            body = source.text(step, key)
            digest = hashlib.sha256(body).hexdigest()
            tag = f'"{digest[:16]}"'
            # Every third host knows conditional requests.
            conditional = source.number // 2 % 3 == 0
            known = conditional and handler.headers.get("If-None-Match") == tag
            good = fault in ("", "slow") and not known
            said = fault or ("304" if known else "200")
            self.log.append(Asked(datetime.now(timezone.utc), name, key, step, said, digest if good else ""))
        headers = {"ETag": tag} if conditional else {}
        if fault:
            _FAULTY[fault](handler, body, headers)
        elif known:
            handler.wfile.write(answer(b"", 304, headers))
        else:
            handler.wfile.write(answer(body, headers=headers))

    def _fault(self, name):
        """Return the fault of a source's next answer, "" for none."""
        if not self.faulty:
            return ""
        lasting = self._lasting.get(name)
        if lasting:
            return lasting.pop()
        if len(self.log) % _EVERY != _EVERY // 2:
            return ""
        kind = self._faults[len(self.log) // _EVERY % len(FAULTS)]
        self._lasting[name] = [kind] * (_LASTS.get(kind, 1) - 1)
        return kind


def _slowly(handler, body, headers):
    handler.wfile.write(answer(body, headers=headers)[:-5])
    handler.wfile.flush()
    time.sleep(3)  # in a thread of the server, which nobody else waits for
    handler.wfile.write(body[-5:])


_FAULTY = {
    "500": lambda handler, body, headers: handler.wfile.write(answer(b"no", 500)),
    "429": lambda handler, body, headers: handler.wfile.write(answer(b"slow down", 429, {"Retry-After": "2"})),
    "429 long": lambda handler, body, headers: handler.wfile.write(answer(b"go", 429, {"Retry-After": "70"})),
    "cut": lambda handler, body, headers: handler.wfile.write(answer(body, headers=headers)[: -len(body) // 2]),
    "html": lambda handler, body, headers: handler.wfile.write(answer(b"<!DOCTYPE html><html>Maintenance</html>")),
    "slow": _slowly,
    "reset": lambda handler, body, headers: reset(handler),
}
