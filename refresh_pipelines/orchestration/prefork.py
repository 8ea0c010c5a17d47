"""The launcher's side of a template: when one is started, when it is out of date, and how it is asked for a run.

Every process that launches runs has a template of its own; in a service that is the daemon alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import refresh_pipelines
from refresh_pipelines.settings import Settings

PREFORK, DEFAULT = "prefork", "default"
SETTING = "REFRESH_LAUNCHER"
# Memory that forks have made the template copy is given back by a new one.
MOST_RUNS = 500
# Loading a thousand sources takes ten seconds on a busy machine; answering takes a millisecond.
_LOADING, _ANSWERING = 120.0, 30.0
# A template that could not be started is tried again when something it is made from has changed, or after so long.
_PATIENCE = 60.0
_PACKAGE = Path(refresh_pipelines.__file__).parent


class NoTemplate(Exception):
    """No run can be forked now; the text says why, for people. No process of the run has begun."""


class Template:
    """A template process and the line to it."""

    def __init__(self, origin: str, instance: str, warehouse: str, interpreter: str) -> None:
        """Start it and wait until it has loaded. Raises NoTemplate."""
        self.line, theirs = socket.socketpair()
        self.runs, self.files = 0, tuple[str, ...]()
        environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        words = (interpreter, "-m", "refresh_pipelines.orchestration.template", str(theirs.fileno()))
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - this package, by the interpreter of the code location
                words, pass_fds=[theirs.fileno()], env=environ, stdin=subprocess.DEVNULL, start_new_session=True
            )
        answer = self._ask({"origin": origin, "instance": instance, "warehouse": warehouse}, _LOADING)
        if "ready" not in answer:
            self.kill()
            raise NoTemplate(str(answer.get("error", answer)))
        self.files = tuple(answer["files"])

    def fork(self, run_id: str, instance: str, seconds: float = _ANSWERING) -> int:
        """Have a run begin in a fork, and return the number of its process. Raises NoTemplate: it has not begun."""
        self.runs += 1
        begin, told = os.pipe()
        try:
            answer = self._ask({"run": run_id, "instance": instance}, seconds, begin)
            if answer.get("run") != run_id:
                raise NoTemplate(str(answer.get("unfit", answer)))
            os.write(told, b"!")
        except BrokenPipeError as error:
            raise NoTemplate("the fork has ended before it was told to begin") from error
        finally:
            # Without the byte this is the end of what the fork waits for.
            os.close(told)
        return int(answer["pid"])

    def leave(self) -> None:
        """Ask it for nothing more: it ends when its last run has."""
        self.line.close()

    def kill(self) -> None:
        """End it at once; runs that it has forked go on."""
        self.process.kill()
        self.process.wait()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def _ask(self, question: dict[str, str], seconds: float, begin: int | None = None) -> dict[str, Any]:
        """Return the answer. A template that gives none is of no more use, and ended.

        Args:
            begin: a descriptor that goes with the question, and is closed here.
        """
        deadline, rest = time.monotonic() + seconds, b""
        try:
            socket.send_fds(self.line, [json.dumps(question).encode() + b"\n"], [] if begin is None else [begin])
            while not rest.endswith(b"\n"):
                self.line.settimeout(max(0.01, deadline - time.monotonic()))
                more = self.line.recv(65536)
                if not more:
                    break
                rest += more
        except OSError as error:
            self.kill()
            raise NoTemplate(f"the template does not answer: {error}") from error
        finally:
            if begin is not None:
                os.close(begin)
        if not rest.endswith(b"\n"):
            self.kill()
            raise NoTemplate("the template has ended")
        return dict(json.loads(rest))


class Templates:
    """The template of this process, made anew when what it was made from has changed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.template: Template | None = None
        self._key, self._failed, self._why = "", ("", 0.0), ""

    def fork(self, settings: Settings, origin: str, instance: str, interpreter: str, run_id: str) -> int:
        """Have a run begin, in a template that is up to date. Raises NoTemplate: it has not begun."""
        with self._lock:
            return self._fit(settings, origin, instance, interpreter).fork(run_id, instance)

    def leave(self) -> None:
        """Ask the template for nothing more, if there is one."""
        with self._lock:
            if self.template:
                self.template.leave()
            self.template = None

    def _fit(self, settings: Settings, origin: str, instance: str, interpreter: str) -> Template:
        warehouse = settings.warehouse.partition("://")[0]
        # Before anything is loaded: what changes meanwhile is a change.
        base, template = fingerprint(settings, (origin, instance, warehouse, interpreter)), self.template
        if template and template.alive and template.runs < MOST_RUNS and self._key == with_files(base, template.files):
            return template
        if template:
            template.leave()
            self.template = None
        now = time.monotonic()
        if self._failed[0] == base and now - self._failed[1] < _PATIENCE:
            raise NoTemplate(self._why)
        try:
            self.template = template = Template(origin, instance, warehouse, interpreter)
        except NoTemplate as error:
            self._failed, self._why = (base, now), str(error)
            raise
        self._key = with_files(base, template.files)
        return template


def fingerprint(settings: Settings, words: Iterable[str]) -> str:
    """Return a hash of all that a template is made from: catalogue, package, `.env`, `dagster.yaml` and further words.

    By name, size, time and inode of each file, not by content: a file that is written anew is a change.
    """
    found = hashlib.sha256("\n".join((sys.version, *words)).encode())
    for folder in settings.catalog:
        _add(found, _below(folder, (".yaml", ".yml")))
    _add(found, _below(_PACKAGE, (".py",)))
    _add(found, [settings.root / ".env", settings.root / "dagster.yaml"])
    return found.hexdigest()


def with_files(base: str, files: Iterable[str]) -> str:
    """Return the hash with further files: modules that are no installed package's, known once they are loaded."""
    found = hashlib.sha256(base.encode())
    _add(found, map(Path, files))
    return found.hexdigest()


def _below(folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        yield from (Path(path, name) for name in names if name.endswith(endings))


def _add(found: hashlib._Hash, paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        try:
            stat = path.stat()
            said = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            said = "-"
        found.update(f"{path} {said}\n".encode())
