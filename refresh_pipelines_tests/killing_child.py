"""Refreshes once for each line it is told, in a process that is killed at a stage of it.

python -m refresh_pipelines_tests.killing_child

A line names the folder, the upstream's address, the database ("duckdb" or an URL) and the stage. The answer is the
signal that ended the process, 0 where the stage was not reached. Each is forked from one that has imported everything
and opened nothing: as many interpreters would spend their time on imports.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from refresh_pipelines.refresh import refresh
from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines.warehouse.postgres import PostgresWarehouse
from refresh_pipelines.window import Window
from refresh_pipelines_tests.workbench import Bench, csv_spec, say

SPEC = csv_spec(load={"mode": "replace_partition", "history": True})


def die(folder: str, base: str, database: str, stage: str) -> None:
    bench = Bench(Path(folder), base, lock_timeout=30)
    bench.now += timedelta(minutes=30)  # between the refreshes of the test
    warehouse = DuckDBWarehouse(bench.file, 30) if database == "duckdb" else PostgresWarehouse(database, 30)

    def progress(reached: str) -> None:
        if reached == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    refresh(SPEC, Window(), replace(bench.tools(), warehouse=warehouse, progress=progress), run_id="killed-run")


if __name__ == "__main__":
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            die(*line.split())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
