"""The processes under supervisor: one supervisor per data folder, in the background, and questions to it.

`python -m refresh_pipelines.service.supervised` is that supervisor. It holds a lock as long as it lives, which is the
kernel's: free the moment it dies, however that happens.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import psutil

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.service.config import config_text, own_log
from refresh_pipelines.service.processes import MARKER, log_folder, processes, run_folder, supervisor_socket
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.whole import write_whole

ALREADY = 3
# Between a probe of the lock and letting go of it nobody is refused who starts at that moment.
_PROBED = 2.0


@dataclass(frozen=True)
class Running:
    """The supervisor of a data folder. Ports are those it was started with."""

    pid: int
    since: str
    ports: dict[str, int]


@dataclass(frozen=True)
class State:
    """What the supervisor says of one process; `up` is whether it runs, `why` what it says of one that does not."""

    name: str
    state: str
    up: bool
    pid: int | None
    since: datetime | None
    why: str = ""


def running(settings: Settings) -> Running | None:
    """Return who looks after the processes of this data folder, None for nobody."""
    try:
        descriptor = os.open(_lock_file(settings), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = json.loads(file.read() or "{}")
            return Running(int(said.get("pid", 0)), str(said.get("since", "")), dict(said.get("ports", {})))
    return None


def was_started(settings: Settings) -> bool:
    """Whether somebody has started the processes and not stopped them; their supervisor may have died since."""
    return _mark(settings).exists()


def forget(settings: Settings) -> None:
    """Take away what a supervisor that is gone has left, and that it was ever started; nothing if there is one."""
    if not was_started(settings):
        return
    descriptor = _take(settings)
    if descriptor is not None:
        _sweep(settings)
        _mark(settings).unlink(missing_ok=True)
        os.close(descriptor)


def begin(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own, away from the terminal; it starts the processes."""
    write_whole(_config_file(settings), config_text(settings))
    log_folder(settings).mkdir(parents=True, exist_ok=True)
    with own_log(settings).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "refresh_pipelines.service.supervised"],
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def states(settings: Settings) -> list[State]:
    """Return the processes as the supervisor has them, in the order they are started in.

    Raises:
        InternalError: it does not answer.
    """
    with _asking(settings) as supervisor:
        answer: Any = supervisor.supervisor.getAllProcessInfo()
    found: dict[str, dict[str, object]] = {str(one["name"]): one for one in answer}
    order = [process.name for process in processes(settings)]
    names = sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [_state(name, found[name]) for name in names]


def switch(settings: Settings, name: str, *, on: bool) -> None:
    """Start or stop one process, and return when that is done. One that is so already stays so.

    Raises:
        InternalError: the supervisor does not answer.
    """
    with suppress(RpcError), _asking(settings) as supervisor:
        if on:
            supervisor.supervisor.startProcess(name)
        else:
            supervisor.supervisor.stopProcess(name)


def orphans(settings: Settings) -> list[psutil.Process]:
    """Return the processes that a supervisor has started and has left when it was killed."""
    found, mine = [], str(run_folder(settings))
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == mine and process.pid != os.getpid():
                found.append(process)
    return found


def end(pid: int, patience: float) -> list[int]:
    """End the supervisor and the processes below it; return the numbers of those that had to be killed."""
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        family = [*supervisor.children(recursive=True), supervisor]
        supervisor.send_signal(signal.SIGTERM)
        return _wait_or_kill(family, patience)
    return []


def end_orphans(processes: Sequence[psutil.Process], patience: float) -> list[int]:
    """Do as `end` does with processes that have no supervisor any more."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    return _wait_or_kill(processes, patience)


def _wait_or_kill(family: Sequence[psutil.Process], patience: float) -> list[int]:
    _, alive = psutil.wait_procs(family, timeout=patience)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)
    return [process.pid for process in alive]


def _state(name: str, said: dict[str, object]) -> State:
    state = str(said["statename"]).lower()
    up = state in ("running", "starting")
    since = int(str(said["start"] if up else said["stop"]))
    at = datetime.fromtimestamp(since, timezone.utc) if since else None
    why = "" if up else str(said["spawnerr"] or said["description"])
    return State(name, state, state == "running", int(str(said["pid"])) or None, at, why)


@contextmanager
def _asking(settings: Settings) -> Iterator[ServerProxy]:
    from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415 - only where there is something to ask

    address = f"unix://{supervisor_socket(settings)}"
    transport = SupervisorTransport(None, None, serverurl=address)
    try:
        with ServerProxy("http://127.0.0.1", transport=transport) as supervisor:
            yield supervisor
    except (OSError, HTTPException) as error:
        raise InternalError(
            "the supervisor of the processes does not answer",
            expected=f"an answer at {address}",
            came=str(error),
            todo="It may be starting or stopping: try again. `refresh logs supervisor` has what it says.",
        ) from error


def _lock_file(settings: Settings) -> Path:
    return run_folder(settings) / "supervisor.lock"


def _config_file(settings: Settings) -> Path:
    return run_folder(settings) / "supervisord.conf"


def _mark(settings: Settings) -> Path:
    return run_folder(settings) / "started"


def _take(settings: Settings) -> int | None:
    """Take the lock; return its descriptor, None if somebody holds it. The file stays, or two could hold one each."""
    descriptor = os.open(_lock_file(settings), os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + _PROBED
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            return descriptor


def _sweep(settings: Settings) -> None:
    for name in ("supervisor.sock", "supervisord.pid", "code.sock"):
        (run_folder(settings) / name).unlink(missing_ok=True)


def _held(settings: Settings) -> bool:
    """Take the lock for as long as this process lives; return whether it was free."""
    # Never closed. Supervisor closes what a process inherits before it starts one, so no child keeps the lock.
    descriptor = _take(settings)
    if descriptor is None:
        return False
    _sweep(settings)
    _mark(settings).touch()
    ports = {process.name: process.port for process in processes(settings) if process.port is not None}
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since, "ports": ports}).encode(), 0)
    return True


def main(arguments: Sequence[str] = ()) -> None:
    """Be the supervisor until it is told to end; exit code 3 where there is one already."""
    from supervisor import supervisord  # noqa: PLC0415

    try:
        settings = Settings.load()
        if not _held(settings):
            sys.exit(ALREADY)
    except (RefreshError, SettingsError) as error:
        sys.exit(str(error))
    os.environ[MARKER] = str(run_folder(settings))
    supervisord.main(["-c", str(_config_file(settings)), *arguments])


if __name__ == "__main__":
    main()
