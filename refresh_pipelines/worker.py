"""Which processes are at work on runs: each holds a lock of its run and says beside it what it does.

The lock is the kernel's, so it is free the moment the process dies, however that happens, and stays held while it
is suspended. Whoever finds a lock free whose file is still there has found a run whose process was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from refresh_pipelines.whole import write_whole

# A process ends itself when its time is over, and a cancelled one soon after; what takes longer does not react.
GRACE = timedelta(seconds=30)


@dataclass(frozen=True)
class Task:
    """One refresh that a process is at.

    Attributes:
        source: `group/source`.
        keys: its partitions; one None without partitions, several where one request serves them.
        stage: as `limit.STAGES` names it.
        seconds: how long it may take.
        until: when that is over, by the clock that all processes of the machine share (`time.monotonic`).
        started_at: ISO text.
    """

    source: str
    keys: tuple[str | None, ...]
    stage: str
    seconds: float
    until: float
    started_at: str


@dataclass(frozen=True)
class Found:
    """A run with a lock's file.

    Attributes:
        alive: whether its process lives, as far as can be said from here.
        here: whether `pid` names it here too, and not in another container or on another machine.
        tasks: what it is at; several where sources share the run, the one with the least time first.
        untold: whether the process itself has said that it could not write how the run ended.
    """

    run_id: str
    alive: bool
    here: bool
    pid: int
    tasks: tuple[Task, ...]
    untold: bool = False

    @property
    def task(self) -> Task | None:
        """The refresh whose time is over first; None where none goes on."""
        return self.tasks[0] if self.tasks else None

    def overdue(self, now: float) -> bool:
        """Whether a refresh of its ought to have ended some time ago, at an instant of the clock of `Task.until`."""
        return self.task is not None and now > self.task.until + GRACE.total_seconds()

    def lost(self, now: float) -> bool:
        """Whether nobody need wait for the run: its process is dead, or does not end."""
        return not self.alive or self.overdue(now)


class Worker:
    """This process, at work on one run.

    Attributes:
        users: how often it is at work on it at once.
        untold: whether Dagster's history could not be told how the run ended.
    """

    def __init__(self, path: Path | None = None, descriptor: int = -1) -> None:
        self._path, self._descriptor, self.untold, self.users = path, descriptor, False, 0
        self._tasks: dict[int, Task] = {}
        self._speechless = 0
        self._lock = threading.Lock()

    def does(self, task: Task | None) -> None:
        """Say what this thread does now; None between two refreshes. A full disk keeps nobody from working."""
        if self._path is None:
            return
        with self._lock, suppress(OSError):
            self._tasks.pop(threading.get_ident(), None)
            if task is not None:
                self._tasks[threading.get_ident()] = task
            _write(self._path, self._tasks.values())

    def cannot_tell(self) -> None:
        """Say that Dagster's history could not be told how the run ended: somebody else is to do it later."""
        self.untold, self._speechless = True, threading.get_ident()
        if self._path is not None:
            with self._lock, suppress(OSError):
                _write(self._path, (), untold=True)

    def tries_again(self) -> None:
        """Take back that nobody was told, where this thread had to say so."""
        if self.untold and self._speechless == threading.get_ident():
            self.untold = False

    def leave(self) -> None:
        """Take the files away and let go, in this order: a free lock with a file means a death.

        Where nobody was told, the files stay: for others it is as if the process had died at work.
        """
        if self._path is not None:
            if not self.untold:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
                    _beside(self._path).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._path = None


_ours: dict[Path, Worker] = {}
_changing = threading.Lock()


@contextmanager
def at_work(data_dir: Path, run_id: str, *, to_the_end: bool = False) -> Iterator[Worker]:
    """Hold the lock of a run until the last who does in this process ends; where no file can be made, go on without.

    Args:
        to_the_end: whether a run that could not be told is held until the process ends, which may try it again.
    """
    path = _folder(data_dir) / f"{run_id}.lock"
    with _changing:
        worker = _ours.get(path)
        if worker is None:
            worker = _ours[path] = _begun(path)
        worker.tries_again()
        worker.users += 1
    try:
        yield worker
    finally:
        with _changing:
            worker.users -= 1
            if not worker.users and not (worker.untold and to_the_end):
                del _ours[path]
                worker.leave()


def _begun(path: Path) -> Worker:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, ())
        return Worker(path, _locked(path))
    return Worker()


def workers(data_dir: Path) -> list[Found]:
    """Return the runs that other processes are at work on, or were when they died."""
    return [found for path in sorted(_folder(data_dir).glob("*.lock")) if (found := _look(path))]


def worker_of(data_dir: Path, run_id: str) -> Found | None:
    """Return who is at work on a run; None for this process, and where nobody says so."""
    return _look(_folder(data_dir) / f"{run_id}.lock")


def has_worker(data_dir: Path, run_id: str) -> bool:
    """Whether somebody is at work on a run, this process included, or was when it died."""
    path = _folder(data_dir) / f"{run_id}.lock"
    return path in _ours or path.exists()


@contextmanager
def burying(data_dir: Path, run_id: str) -> Iterator[bool]:
    """Yield whether the process of a run is dead and this one alone looks after what it left; then take its files away.

    They stay when the body raises, so that somebody comes back to it.
    """
    path = _folder(data_dir) / f"{run_id}.lock"
    descriptor = _taken(path)
    if descriptor is None:
        yield False
        return
    try:
        yield True
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _folder(data_dir: Path) -> Path:
    return data_dir / "locks" / "runs"


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _locked(path: Path) -> int:
    """Make the file of a lock and hold it; where it stands, it is locked already."""
    new = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.replace(path)
    except OSError:
        os.close(descriptor)
        new.unlink(missing_ok=True)
        raise
    return descriptor


def _taken(path: Path) -> int | None:
    """Take the lock of a dead process; None if it lives, or has ended well, or somebody else has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return None


def _look(path: Path) -> Found | None:
    if path in _ours:
        return None
    try:
        free, about = _is_free(path), json.loads(_beside(path).read_text())
        tasks = [Task(**{**task, "keys": tuple(task["keys"])}) for task in about["tasks"]]
        place = about["place"]
    except FileNotFoundError:
        return None  # it has ended well
    except (OSError, ValueError, KeyError, TypeError):
        return None
    boot, host, _ = place
    # Of a lock that a process on another machine holds, a shared folder may say nothing.
    known = boot == _place()[0] or host == _place()[1]
    untold = bool(about.get("untold"))
    ordered = tuple(sorted(tasks, key=lambda task: task.until))
    return Found(path.stem, not (free and known), place == _place(), int(about["pid"]), ordered, untold)


def _is_free(path: Path) -> bool:
    descriptor = _taken(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _write(path: Path, tasks: Iterable[Task], *, untold: bool = False) -> None:
    about = {"pid": os.getpid(), "place": _place(), "tasks": [asdict(task) for task in tasks], "untold": untold}
    write_whole(_beside(path), json.dumps(about))


@lru_cache(maxsize=1)
def _place() -> list[str]:
    """Return the kernel's start, the machine, and the numbering of processes that a pid belongs to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        import psutil  # noqa: PLC0415 - loaded by definitions, and needed elsewhere only

        boot, space = f"{psutil.boot_time():.0f}", ""
    return [boot, socket.gethostname(), space]
