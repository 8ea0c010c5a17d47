"""The peers that are programs of their own: a load is a whole process, from start to exit. Both into PostgreSQL.

ingestr reads files of this machine and no plain HTTP, so it is spared the download; it has `merge` as we have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import Sample, peer, weighed


def ingestr(payload: Path, database: str, state: Path) -> Sample:
    """Load a file with ingestr. Raises BenchError."""
    command = [
        peer("ingestr"), "ingest", "--yes", "--progress", "log", "--pipelines-dir", state / "ingestr",
        "--source-uri", f"csv://{payload}", "--source-table", "stations",
        "--dest-uri", database, "--dest-table", "public.ingestr_stations",
        "--incremental-strategy", "merge", "--primary-key", "id",
    ]  # fmt: skip
    return weighed(command)[1]


def sling(payload: Path, database: str, state: Path) -> Sample:
    """Load a file with Sling. Raises BenchError."""
    command = [
        peer("sling"), "run", "--src-stream", f"file://{payload}", "--tgt-conn", f"{database}?sslmode=disable",
        "--tgt-object", "public.sling_stations", "--mode", "incremental", "--primary-key", "id",
    ]  # fmt: skip
    return weighed(command, _home(state))[1]


def _home(state: Path) -> Mapping[str, str]:
    # What it has downloaded is where it was; what it writes is thrown away with the rest.
    return {"SLING_STATE": str(state / "sling")}
