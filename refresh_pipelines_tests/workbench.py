"""What the tests of the engine work with: specs from a few lines, tools on a sandbox, looks into the warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from refresh_pipelines.catalogue import Catalogue, load_catalogue
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.outcome import Counts
from refresh_pipelines.parse import Notes
from refresh_pipelines.refresh import Tools, refresh
from refresh_pipelines.settings import BUILTIN_CATALOG, Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import stage
from refresh_pipelines.warehouse import Commit, DuckDBWarehouse, LoadState
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.attached import Attached, AttachedWarehouse
from refresh_pipelines_tests.upstream import Clock

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FRED = "/api.stlouisfed.org/fred/series/observations"
BSEE = "/www.data.bsee.gov/Production/Files"
HOST = "/example.org/data.csv"


@lru_cache
def _builtin_catalogue() -> Catalogue:
    return load_catalogue([BUILTIN_CATALOG])


def builtin(source: str) -> SourceSpec:
    return _builtin_catalogue().find(source)


def spec_of(source: str = "mini", **changes) -> SourceSpec:
    """A JSON source of three columns and key `k`, with whatever `changes` says."""
    values = {
        "description": "a test",
        "request": {"url": "https://example.org/data.csv"},
        "format": "json",
        "columns": {"k": {"type": "text", "nullable": False}, "n": {"type": "int"}, "t": {"type": "text"}},
        "merge_key": ["k"],
        "schedule": {"frequency": "daily"},
        "expect": {"min_rows": 0},
    }
    return SourceSpec.model_validate({**values, **changes, "group": "benin", "source": source, "file": "mini.yaml"})


def csv_spec(source: str = "mini", **changes) -> SourceSpec:
    return spec_of(source, **{"format": "csv", "expect": {"min_rows": 1}, **changes})


def staged(spec: SourceSpec, rows: list[dict], folder: Path, partition: str | None = None):
    """Rows through the real parser, contract and stage."""
    payload = folder / "payload.json"
    # Not json's own escapes: a parser may be asked to read the characters themselves.
    payload.write_text(json.dumps(rows, ensure_ascii=False))
    return stage(spec, [payload], Window(partition), folder / "rows.arrow", Notes())


def state_of(spec: SourceSpec, partition: str | None, run_id: str = "run", at: datetime = NOW, **changes) -> LoadState:
    state = LoadState(
        source=spec.source, partition=partition or "", spec_hash=spec.spec_hash, run_id=run_id, outcome="loaded",
        counts=Counts(), raw_sha256="raw", content_hash="", data_version="", bytes=1, committed_at=at, changed_at=at,
    )  # fmt: skip
    return replace(state, **changes)


def commit_of(spec: SourceSpec, rows: list[dict], folder: Path, partition: str | None = None, **state) -> Commit:
    folder.mkdir(parents=True, exist_ok=True)
    ready = staged(spec, rows, folder, partition)
    state = {"content_hash": ready.content_hash, **state}
    return Commit(spec, partition, ready, state_of(spec, partition, **state))


def rows_of(warehouse: DuckDBWarehouse, statement: str) -> list[tuple]:
    return warehouse.query(statement)[1]


def table_of(path: Path, table: str) -> list[tuple]:
    """Every row with all columns, as a person with DuckDB sees it."""
    with Attached(path, read_only=True) as connection:
        return connection.execute(f'SELECT * FROM raw."{table}" ORDER BY ALL').fetchall()


def start(module: str, *args: object) -> subprocess.Popen:
    """A child process running a module of the tests; say something to it or close its input to let it go on."""
    return subprocess.Popen(
        [sys.executable, "-m", f"refresh_pipelines_tests.{module}", *map(str, args)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def say(*words: object) -> None:
    """What a child process answers its test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Bench:
    """Refreshes against a sandbox with a clock that stands still until it is moved."""

    def __init__(self, folder: Path, base: str, lock_timeout: float = 10) -> None:
        self.folder, self.now, self.stages, self.recovered, self.waits = folder, NOW, [], [], Clock()
        self.file = folder / "data" / "warehouse.duckdb"
        self.settings = Settings(
            root=folder, data_dir=folder / "data", catalog=(BUILTIN_CATALOG,), warehouse=f"duckdb://{self.file}",
            upstream=base, sandbox=True, lock_timeout=timedelta(seconds=lock_timeout),
        )  # fmt: skip
        self.warehouse = AttachedWarehouse(self.file, lock_timeout)
        self._runs = 0

    def tools(self) -> Tools:
        return Tools(
            self.settings,
            self.warehouse,
            Fetcher(self.settings, sleep=self.waits.sleep, clock=self.waits, now=self.waits.now),
            clock=lambda: self.now,
            progress=self.stages.append,
            recover=self.recovered.append,
        )

    @property
    def slept(self) -> list[float]:
        """Seconds of each pause, none of which took any time."""
        return self.waits.slept

    def refresh(self, spec: SourceSpec, key: str | None = None, **kwargs):
        self._runs += 1
        return refresh(spec, window_of(spec, key), self.tools(), **{"run_id": f"run-{self._runs:04}", **kwargs})

    def rows(self, table: str) -> list[tuple]:
        return table_of(self.file, table)

    def staging(self) -> list[Path]:
        return list((self.folder / "data" / "staging").glob("**/*"))
