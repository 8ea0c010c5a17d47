"""A process of its own for tests: holds a file or a lock, says "ready", and lets go when its input ends.

python -m refresh_pipelines_tests.holding_child read|write|lock PATH [until-asked-for]
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import duckdb

from refresh_pipelines.warehouse.lock import held
from refresh_pipelines_tests.workbench import say


def main() -> None:
    how, path, *rest = sys.argv[1:]
    holding = held(Path(path), 0, "a test") if how == "lock" else duckdb.connect(path, read_only=how == "read")
    with holding:
        say("ready")
        if rest:
            wait_until_locked(Path(path + ".lock"))
        else:
            sys.stdin.read()


def wait_until_locked(path: Path) -> None:
    with path.open("rb+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(file, fcntl.LOCK_UN)


if __name__ == "__main__":
    main()
