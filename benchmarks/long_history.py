"""A history of many runs in SQLite, made from one true run: what years of refreshes leave behind, in a minute.

Every source gets the rows that the first source's run has left, with its own names, ids and times: those that all runs
share a file for. The files that each run has to itself are not made; of their events only the number is counted.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchError

# Between two runs of a source.
APART = timedelta(hours=6)
_TIMES = ("timestamp", "event_timestamp", "evaluation_event_timestamp", "create_timestamp", "update_timestamp")
_Row = dict[str, Any]


def lengthen(history: Path, names: Sequence[str], events: int) -> int:
    """Have each source look back at runs like the newest of the first one; return how many runs there are then.

    Args:
        history: Dagster's folder of that name, in which the first source has a run that went well.
        names: the sources, all of them of the same length.
        events: how many rows the event log is to have, in all of its files.

    Raises:
        BenchError: there is no such run.
    """
    with closing(_opened(history / "runs.db")) as runs, closing(_opened(history / "runs" / "index.db")) as index:
        found = _rows(runs, "SELECT * FROM runs WHERE status = 'SUCCESS' ORDER BY id DESC LIMIT 1")
        if not found:
            raise BenchError(f"{history}: no run went well")
        template = _Template(found[0], runs, index)
        with closing(_opened(history / "runs" / f"{template.run_id}.db")) as own:
            per_run = int(own.execute("SELECT count(*) FROM event_logs").fetchone()[0])
        rounds = max(1, events // per_run // len(names))
        for number in range(rounds):
            # The oldest first, as ids are given.
            at = datetime.now(timezone.utc) - (rounds - number) * APART
            for place, name in enumerate(names):
                template.copy(name, at + place * APART / len(names))
            template.write(runs, index)
        for database in (runs, index):
            database.execute("ANALYZE")
    return rounds * len(names)


class _Template:
    """The rows of one run, and the copies that are not written yet."""

    def __init__(self, run: _Row, runs: sqlite3.Connection, index: sqlite3.Connection) -> None:
        self.run_id, self.begun = run["run_id"], run["start_time"]
        (source,) = _rows(runs, "SELECT value FROM run_tags WHERE run_id = ? AND key = 'refresh/source'", self.run_id)
        self.source = source["value"]
        events = _rows(index, "SELECT * FROM event_logs WHERE run_id = ? ORDER BY id", self.run_id)
        ids = [row["id"] for row in events]
        self.first, self.next, self.row = ids[0], _last(index, "event_logs") + 1, _last(runs, "runs") + 1
        (asset,) = _rows(index, "SELECT * FROM asset_keys WHERE last_run_id = ?", self.run_id)
        marks = ",".join("?" * len(ids))
        self.tables: dict[str, list[_Row]] = {
            "runs": [run],
            "run_tags": _rows(runs, "SELECT * FROM run_tags WHERE run_id = ?", self.run_id),
            "event_logs": events,
            "asset_event_tags": _rows(index, f"SELECT * FROM asset_event_tags WHERE event_id IN ({marks})", *ids),
            "asset_check_executions": _rows(
                index, "SELECT * FROM asset_check_executions WHERE run_id = ?", self.run_id
            ),
            "asset_keys": [asset],
        }
        self.copies: dict[str, list[_Row]] = {name: [] for name in self.tables}

    def copy(self, source: str, at: datetime) -> None:
        """Make the rows of a run of `source` that began at `at`."""
        run_id, later = str(uuid.uuid4()), at.timestamp() - self.begun
        for table, rows in self.tables.items():
            self.copies[table] += [self._row(table, row, source, run_id, later) for row in rows]
        self.next += len(self.tables["event_logs"])
        self.row += 1

    def _row(self, table: str, row: _Row, source: str, run_id: str, later: float) -> _Row:
        def told(value: Any) -> Any:
            return value.replace(self.run_id, run_id).replace(self.source, source) if isinstance(value, str) else value

        new = {name: told(value) for name, value in row.items()}
        for name in (name for name in ("event", "evaluation_event", "last_materialization") if new.get(name)):
            new[name] = _later(new[name], later)
        for name in (name for name in _TIMES if new.get(name)):
            new[name] = str(datetime.fromisoformat(new[name]) + timedelta(seconds=later))
        for name in (name for name in ("start_time", "end_time") if new.get(name)):
            new[name] += later
        numbered = {name for name in new if name == "event_id" or name.endswith("_storage_id")}
        for name in numbered | ({"id"} if table == "event_logs" else set()):
            new[name] += self.next - self.first
        if table == "runs":
            new["id"] = self.row
        elif table != "event_logs":
            del new["id"]
        return new

    def write(self, runs: sqlite3.Connection, index: sqlite3.Connection) -> None:
        for table, rows in self.copies.items():
            database = runs if table in ("runs", "run_tags") else index
            names = list(rows[0])
            marks = ",".join(f":{name}" for name in names)
            database.executemany(f"INSERT OR REPLACE INTO {table} ({','.join(names)}) VALUES ({marks})", rows)
            rows.clear()
        runs.commit()
        index.commit()


def _later(event: str, seconds: float) -> str:
    """Move an event's own times; those in its metadata stay."""
    entry = json.loads(event)
    for one in _entries(entry):
        one["timestamp"] += seconds
    return json.dumps(entry)


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "timestamp" in value and isinstance(value["timestamp"], float):
            yield value
        for part in value.values():
            yield from _entries(part)


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    return database


def _rows(database: sqlite3.Connection, statement: str, *values: object) -> list[_Row]:
    return [dict(row) for row in database.execute(statement, values)]


def _last(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f"SELECT max(id) FROM {table}").fetchone()[0])
