"""More of `internals`: removes old runs and keeps the events of their assets. Pinned by pyproject, watched by a test.

The public `delete_run` deletes the asset events of a run as well, so that what it loaded looks never loaded, and on
SQLite leaves the file of the run at its size. Here the run goes, with its log lines, and its asset events stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs.schema import BulkActionsTable, RunsTable, RunTagsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from sqlalchemy.engine import Connection

from refresh_pipelines.errors import InternalError

# What became of assets. A planned materialization is no such thing: it says that a run was to come.
LASTING = (
    dg.DagsterEventType.ASSET_MATERIALIZATION.value,
    dg.DagsterEventType.ASSET_OBSERVATION.value,
    dg.DagsterEventType.ASSET_FAILED_TO_MATERIALIZE.value,
    dg.DagsterEventType.FRESHNESS_STATE_CHANGE.value,
)
_CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
_RUNLESS = ""
# A question about this much takes milliseconds, and SQLite takes a limited number of values in one statement.
_AT_ONCE = 500

_EVENTS, _RUNS, _CHECKS = SqlEventLogStorageTable, RunsTable, AssetCheckExecutionsTable


@dataclass(frozen=True)
class OldRun:
    """A run that has ended; `place` is its place among all runs, `at` when anything last changed about it."""

    place: int
    run_id: str
    source: str
    at: datetime


@dataclass(frozen=True)
class Gone:
    """What was removed: rows of the event log and checks, and bytes of files and of these rows."""

    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Gone) -> Gone:
        return Gone(self.rows + other.rows, self.bytes + other.bytes)


class Remover:
    """Removes runs from one instance. Every method does a part that may be repeated, and holds no lock for long.

    Raises:
        InternalError: the history is in no SQL database.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        runs, events = instance.run_storage, instance.event_log_storage
        if not isinstance(runs, SqlRunStorage) or not isinstance(events, SqlEventLogStorage):
            raise InternalError(
                "old runs cannot be removed from this history",
                expected="Dagster's storage in SQLite or PostgreSQL",
                came=f"{type(runs).__name__} and {type(events).__name__}",
                todo="Set REFRESH_KEEP_RUNS=forever, and remove old runs by its own means.",
            )
        self._instance, self._runs, self._events = instance, runs, events
        # On SQLite each run has a file beside the index of all asset events.
        self._files = events if isinstance(events, SqliteEventLogStorage) else None
        logs = instance.compute_log_manager
        self._logs = Path(logs._base_dir) if isinstance(logs, LocalComputeLogManager) else None

    def needed(self, source: str, trigger: str) -> set[str]:
        """Return the runs that stay whatever their age.

        These are the two newest of each source and trigger, by which ticks, probes and builds go on; those of the
        newest materialization and the newest check of each asset; those of backfills under way; and the newest of all.

        Args:
            source: the name of the tag that says which source a run is of.
            trigger: the name of the tag that says why it was made.
        """
        out = {run_id for record in self._instance.get_asset_records() for run_id in _runs_of(record)}
        with self._runs.connect() as connection:
            out |= _first_column(connection, _newest_of_each(source, trigger))
            out |= _first_column(connection, db.select(_RUNS.c.run_id).order_by(_RUNS.c.id.desc()).limit(1))
            over = [status.value for status in BULK_ACTION_TERMINAL_STATUSES]
            going = db.select(BulkActionsTable.c.key).where(BulkActionsTable.c.status.not_in(over))
            out |= _first_column(connection, db.select(_RUNS.c.run_id).where(_RUNS.c.backfill_id.in_(going)))
        with self._events.index_connection() as connection:
            # SQLite gives the number of a last row that was deleted to the next one, and readers go on from numbers.
            out |= _first_column(connection, db.select(_EVENTS.c.run_id).order_by(_EVENTS.c.id.desc()).limit(1))
            newest = db.select(_CHECKS.c.run_id).where(_CHECKS.c.id.in_(_newest_checks()))
            out |= _first_column(connection, newest)
        return out - {_RUNLESS}

    def old(self, before: datetime, source: str, after: int, most: int) -> list[OldRun]:
        """Return at most so many runs that had ended before an instant, in the order they were made in."""
        tag = db.and_(RunTagsTable.c.run_id == _RUNS.c.run_id, RunTagsTable.c.key == source)
        query = (
            db.select(_RUNS.c.id, _RUNS.c.run_id, RunTagsTable.c.value, _RUNS.c.update_timestamp)
            .select_from(_RUNS.outerjoin(RunTagsTable, tag))
            .where(_RUNS.c.id > after, _RUNS.c.update_timestamp < before.astimezone(timezone.utc).replace(tzinfo=None))
            .where(_RUNS.c.status.in_([status.value for status in FINISHED_STATUSES]))
            .order_by(_RUNS.c.id)
            .limit(most)
        )
        with self._runs.connect() as connection:
            rows = connection.execute(query).all()
        return [OldRun(row[0], row[1], row[2] or "", row[3].replace(tzinfo=timezone.utc)) for row in rows]

    def oldest(self) -> datetime | None:
        """Return when the oldest run that is left was made."""
        with self._runs.connect() as connection:
            [[at]] = connection.execute(db.select(db.func.min(_RUNS.c.create_timestamp))).all()
        return at.replace(tzinfo=timezone.utc) if at else None

    def remove(self, run_ids: Sequence[str]) -> Gone:
        """Remove some runs, at most five hundred, but not what they say of assets. The row of the run goes last.

        A process that is killed meanwhile leaves runs that are removed the next time.
        """
        # The files of a run may be made again by whoever reads its log; without its row nobody does.
        gone = Gone(0, sum(self._remove_files(run_id) for run_id in run_ids))
        own = _EVENTS.c.run_id.in_(run_ids)
        with self._events.index_connection() as connection:
            gone += _delete_events(connection, db.and_(own, _passing()))
            checks = connection.execute(_CHECKS.delete().where(_CHECKS.c.run_id.in_(run_ids)))
            gone += Gone(checks.rowcount)
        with self._runs.connect() as connection:
            connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id.in_(run_ids)))
            connection.execute(_RUNS.delete().where(_RUNS.c.run_id.in_(run_ids)))
        return gone

    def remove_runless(self, before: datetime) -> Gone:
        """Remove old evaluations of checks that no run has made, but for the newest of each check."""
        at = before.astimezone(timezone.utc).replace(tzinfo=None)
        gone = Gone()
        with self._events.index_connection() as connection:
            old = db.and_(_CHECKS.c.run_id == _RUNLESS, _CHECKS.c.create_timestamp < at)
            query = db.select(_CHECKS.c.id, _CHECKS.c.evaluation_event_storage_id).where(
                old, _CHECKS.c.id.not_in(_newest_checks())
            )
            rows = connection.execute(query.limit(_AT_ONCE)).all()
            last = db.select(db.func.max(_EVENTS.c.id)).scalar_subquery()
            ids = _EVENTS.c.id.in_([row[1] for row in rows])
            gone += _delete_events(
                connection, db.and_(ids, _EVENTS.c.dagster_event_type == _CHECKED, _EVENTS.c.id < last)
            )
            connection.execute(_CHECKS.delete().where(_CHECKS.c.id.in_([row[0] for row in rows])))
        if self._files is not None and Path(self._files.path_for_shard(_RUNLESS)).exists():
            # All that counts of it is in the index too.
            with self._files.run_connection(_RUNLESS) as connection:
                oldest = db.select(_EVENTS.c.id).where(_EVENTS.c.timestamp < at).order_by(_EVENTS.c.id)
                gone += _delete_events(connection, _EVENTS.c.id.in_(oldest.limit(_AT_ONCE)))
        return gone

    def orphans(self, before: datetime) -> Iterator[str]:
        """Yield the runs that are no more and have files: somebody has deleted them, or read their log since.

        Args:
            before: files that were written later are left alone.
        """
        found = {path.stem: path for path in self._shards()}
        found |= {path.name: path for path in (self._logs.glob("*-*-*-*-*") if self._logs else ())}
        names = sorted(found)
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            with self._runs.connect() as connection:
                known = _first_column(connection, db.select(_RUNS.c.run_id).where(_RUNS.c.run_id.in_(some)))
            yield from (name for name in some if name not in known and _written(found[name]) < before.timestamp())

    def remove_files(self, run_id: str) -> Gone:
        """Remove the files of a run that is no more."""
        return Gone(0, self._remove_files(run_id))

    def _shards(self) -> Iterator[Path]:
        if self._files is not None:
            folder = Path(self._files.path_for_shard(INDEX_SHARD_NAME)).parent
            yield from (path for path in folder.glob("*-*-*-*-*.db"))

    def _remove_files(self, run_id: str) -> int:
        size = 0
        if self._files is not None:
            shard = Path(self._files.path_for_shard(run_id))
            for path in (shard, *(shard.with_name(shard.name + end) for end in ("-wal", "-shm"))):
                size += _size(path)
                path.unlink(missing_ok=True)
            # Of a file that it has made once it would not make the tables again.
            self._files._initialized_dbs.discard(run_id)
        if self._logs is None:
            self._instance.compute_log_manager.delete_logs(prefix=[run_id])
        elif (folder := self._logs / run_id).is_dir():
            size += sum(_size(path) for path in folder.rglob("*"))
            shutil.rmtree(folder, ignore_errors=True)
        return size


def _runs_of(record: dg.AssetRecord) -> Collection[str]:
    entry = record.asset_entry
    newest = entry.last_materialization_record or entry.last_observation_record
    return {run_id for run_id in (entry.last_run_id, newest.run_id if newest else None) if run_id}


def _newest_of_each(source: str, trigger: str) -> db.Select[Any]:
    own, why = RunTagsTable.alias("own"), RunTagsTable.alias("why")
    joined = _RUNS.join(own, db.and_(own.c.run_id == _RUNS.c.run_id, own.c.key == source)).join(
        why, db.and_(why.c.run_id == _RUNS.c.run_id, why.c.key == trigger)
    )
    rank = db.func.row_number().over(partition_by=(own.c.value, why.c.value), order_by=_RUNS.c.id.desc())
    ranked = db.select(_RUNS.c.run_id, rank.label("rank")).select_from(joined).subquery()
    return db.select(ranked.c.run_id).where(ranked.c.rank <= 2)


def _newest_checks() -> db.Select[Any]:
    each = (_CHECKS.c.asset_key, _CHECKS.c.check_name, _CHECKS.c.partition)
    return db.select(db.func.max(_CHECKS.c.id)).group_by(*each)


def _passing() -> db.ColumnElement[bool]:
    kind = _EVENTS.c.dagster_event_type
    return db.or_(kind.is_(None), kind.not_in(LASTING))


def _delete_events(connection: Connection, which: db.ColumnElement[bool]) -> Gone:
    [[rows, size]] = connection.execute(
        db.select(db.func.count(), db.func.sum(db.func.length(_EVENTS.c.event))).select_from(_EVENTS).where(which)
    ).all()
    if rows:
        connection.execute(_EVENTS.delete().where(which))
    return Gone(rows, int(size or 0))


def _first_column(connection: Connection, query: db.Select[Any]) -> set[str]:
    return {row[0] for row in connection.execute(query) if row[0]}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")  # it has just gone
