"""Daemons at work on a history, as far as this machine's list of processes shows them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class FoundDaemon:
    """A Dagster daemon; `command` is how it was called."""

    pid: int
    command: str


def daemons_at(home: Path) -> list[FoundDaemon]:
    """Return the daemons of this machine whose DAGSTER_HOME is `home`, of those we may look at."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if _is_daemon(words) and _home_of(process) == home.resolve():
                found.append(FoundDaemon(process.pid, " ".join(words)[:120]))
        except (psutil.Error, OSError):
            continue  # somebody else's, or it has just ended
    return found


def _is_daemon(words: list[str]) -> bool:
    names = [Path(word).name for word in words]
    return "run" in names and ("dagster._daemon" in names or "dagster-daemon" in names)


def _home_of(process: psutil.Process) -> Path:
    given = process.environ().get("DAGSTER_HOME")
    return (Path(given).expanduser() if given else Path(os.sep, process.cwd())).resolve()
