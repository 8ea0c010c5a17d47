"""Steps that a process measures itself; needs nothing but the standard library, so every environment can use it.

    SCRIPT --url BASE --state FOLDER --steps warm=small.csv:warm initial=1m.csv:main identical=1m.csv:main

Each step takes one file of the server into the database of that name below the folder; the last line printed has what
each took: wall seconds, CPU seconds of this process and its ended children, its peak resident bytes so far.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Do it, and return what it took."""
    wall, cpu = time.perf_counter(), _cpu()
    work()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return {"wall": wall, "cpu": cpu, "rss": _peak()}


def _peak() -> int:
    """Return the most bytes this process has held. `ru_maxrss` would include the program it was forked from."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu() -> float:
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def run_steps(load: Callable[[str, str, Path, str], object]) -> None:
    """Run the steps of the command line; `load` gets URL, name of the database, folder and the database's address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--database", default="", help="of a PostgreSQL server, {} for the name of the database")
    parser.add_argument("--steps", nargs="+", required=True)
    given = parser.parse_args()
    found = {}
    for step in given.steps:
        name, _, what = step.partition("=")
        file, _, into = what.partition(":")
        database = given.database.replace("{}", into)
        url = f"{given.url}/{file}"
        found[name] = measured(lambda url=url, into=into, db=database: load(url, into, given.state, db))
    print(json.dumps(found))
