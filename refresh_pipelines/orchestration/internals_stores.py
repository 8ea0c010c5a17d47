"""More of `internals`: where the databases of Dagster's history are, for backup and restore. Watched by a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage

INDEX = f"{INDEX_SHARD_NAME}.db"


@dataclass(frozen=True)
class Files:
    """A history in SQLite: ticks, runs, and a folder with the event log's index and a file for each run."""

    schedules: Path
    runs: Path
    events: Path


def files_of(instance: dg.DagsterInstance) -> Files | None:
    """Return the files of a history; None for one that is not in SQLite altogether."""
    schedules, runs, events = instance.schedule_storage, instance.run_storage, instance.event_log_storage
    if (
        isinstance(schedules, SqliteScheduleStorage)
        and isinstance(runs, SqliteRunStorage)
        and isinstance(events, SqliteEventLogStorage)
    ):
        folder = Path(events.path_for_shard(INDEX_SHARD_NAME)).parent
        return Files(_path(schedules._conn_string), _path(runs._conn_string), folder)
    return None


def printed_by_runs(instance: dg.DagsterInstance) -> Path | None:
    """Return the folder with what runs have printed; None where it is kept elsewhere than in files."""
    logs = instance.compute_log_manager
    return Path(logs._base_dir) if isinstance(logs, LocalComputeLogManager) else None


def tables_of_history() -> Sequence[str]:
    """Return the names of all tables that Dagster makes in a database."""
    made = (SqlEventLogStorageMetadata, RunStorageSqlMetadata, ScheduleStorageSqlMetadata)
    return sorted({name for metadata in made for name in metadata.tables} | {"alembic_version"})


def _path(address: str) -> Path:
    return Path(address.removeprefix("sqlite:///").partition("?")[0])
