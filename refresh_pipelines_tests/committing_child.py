"""Commits a source's rows into PostgreSQL several times: `committing_child URL SOURCE TABLE FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from refresh_pipelines.warehouse.postgres import PostgresWarehouse
from refresh_pipelines_tests.workbench import commit_of, say, spec_of

if __name__ == "__main__":
    url, source, table, folder = sys.argv[1:]
    warehouse = PostgresWarehouse(url, 30)
    commits = [
        commit_of(
            spec_of(source, table=table),
            [{"k": f"{source} {row}", "n": str(turn), "t": None} for row in range(50)],
            Path(folder) / str(turn),
        )
        for turn in range(5)
    ]
    say("ready")
    sys.stdin.readline()
    for commit in commits:
        counts = warehouse.commit(commit).state.counts
        say(counts.added, counts.updated)
