"""File locks that say who holds them.

The lock itself is the kernel's, so it is free the moment its holder dies, however that happens. The
side file only names the holder in messages; a stale one misleads nobody, since it is read only
while the lock is taken.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from refresh_pipelines import log
from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import LogLevel

POLL = 0.02
# Seconds of waiting that are worth a line in the log.
NOTABLE = 1.0


@contextmanager
def held(path: Path, timeout: float, what: str) -> Iterator[float]:
    """Hold the lock at `path`; yield the seconds waited for it. Raises WarehouseBusy."""
    begun, before = time.monotonic(), owner(path)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout, poll_interval=POLL)
    except Timeout as error:
        _log_wait(path, time.monotonic() - begun, before, "warning")
        raise WarehouseBusy(
            f"{what} is in use",
            expected=f"the lock within {timeout:g} s (REFRESH_LOCK_TIMEOUT)",
            came=f"held by {owner(path)}",
            todo="Wait until that process has finished, or stop it; then run this again.",
        ) from error
    except OSError as error:
        raise InternalError(
            f"the lock {path.name} cannot be made",
            expected=f"a folder {path.parent} that can be written",
            came=str(error),
            todo="Check REFRESH_DATA_DIR and REFRESH_WAREHOUSE, their rights and the disk.",
        ) from error
    waited = time.monotonic() - begun
    if waited >= NOTABLE:
        _log_wait(path, waited, before, "info")
    try:
        _sign(path)
        yield waited
    finally:
        with suppress(OSError):
            _owner_file(path).unlink(missing_ok=True)
        lock.release()


def owner(path: Path) -> str:
    """Say in words who holds the lock at `path`, as far as the side file knows."""
    with suppress(OSError, ValueError):
        known = json.loads(_owner_file(path).read_text())
        return f"PID {known['pid']} ({known['program']}) since {known['since']}"
    return "another process"


def _log_wait(path: Path, seconds: float, before: str, level: LogLevel) -> None:
    log.event("warehouse.waited", level=level, lock=path.name, owner=before, seconds=seconds)


def _owner_file(path: Path) -> Path:
    return path.with_name(path.name + ".owner")


def _sign(path: Path) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    program = redact(" ".join(psutil.Process().cmdline()))[:200]
    with suppress(OSError):  # on a full disk the name is missing in a message, nothing else
        _owner_file(path).write_text(json.dumps({"pid": os.getpid(), "since": since, "program": program}))
