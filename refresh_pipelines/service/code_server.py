"""Dagster's code server, which ends when the server inside it is gone; otherwise as `python -m dagster`.

`dagster code-server start` starts a second process, which holds the definitions and starts the processes of runs, and
passes on to it what it is asked. When that one is killed (it is the largest, and the kernel's first choice when memory
runs out) Dagster goes on passing to nobody: no tick is looked at and no run begins, while the process that a
supervisor looks after lives on. Here it ends, so that both are started anew.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable
from threading import Thread

import psutil

LOOK = 2.0
GONE = 1


def watch_inner(servers: Callable[[], int], sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once there was a server inside and is none any more, in two looks.

    One that never came up is no reason: its error is shown in the UI, and the next reload tries again.
    """
    seen, missed = False, 0
    while missed < 2:
        sleep(LOOK)
        there = servers() > 0
        seen, missed = seen or there, missed + 1 if seen and not there else 0


def count_inner(process: psutil.Process) -> int:
    """Return how many servers a process has started that live."""
    found = 0
    for child in process.children():
        try:
            found += child.status() != psutil.STATUS_ZOMBIE and "grpc" in child.cmdline()
        except psutil.NoSuchProcess:
            continue
    return found


def _end_with_inner() -> None:
    own = psutil.Process()
    watch_inner(lambda: count_inner(own))
    sys.stderr.write("The server inside the code server is gone: this one ends, to be started anew.\n")
    sys.stderr.flush()
    # At once: Dagster's own way to end asks the server that is gone, and waits for it.
    os._exit(GONE)


def main() -> None:
    """Be `python -m dagster` with the arguments of the command line."""
    Thread(target=_end_with_inner, name="refresh-inner-server", daemon=True).start()
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
