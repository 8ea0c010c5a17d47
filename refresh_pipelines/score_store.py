"""What scores are worked out from, kept for the next process: tallies of the event log in `status.sqlite`.

Like everything in that file it may be deleted: the event log is read once more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

from refresh_pipelines.ops import ops_store
from refresh_pipelines.score_parts import WINDOW
from refresh_pipelines.tally import Tally, added

Answer = TypeVar("Answer")
_KEPT = WINDOW + timedelta(days=10)
_TABLES = """
CREATE TABLE IF NOT EXISTS tallies (
    asset TEXT NOT NULL, run_id TEXT NOT NULL, period TEXT NOT NULL, place INTEGER NOT NULL, ok INTEGER NOT NULL,
    bad INTEGER NOT NULL, contract INTEGER NOT NULL, quarantined INTEGER NOT NULL, fit INTEGER NOT NULL, ok_at REAL,
    bad_at REAL, later INTEGER NOT NULL, fields TEXT, PRIMARY KEY (asset, run_id, period));
CREATE INDEX IF NOT EXISTS tallies_by_place ON tallies (asset, place);
CREATE TABLE IF NOT EXISTS tallied (kind TEXT PRIMARY KEY, place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS scores (source TEXT PRIMARY KEY, basis TEXT NOT NULL, total REAL);
"""
_COLUMNS = "run_id, period, place, ok, bad, contract, quarantined, fit, ok_at, bad_at, later, fields"
# Names of fields hold anything but this.
_BETWEEN = "\x1f"
_AT_ONCE = 500


def with_store(data_dir: Path, work: Callable[[ScoreStore], Answer]) -> Answer:
    """Do something with the store; where its file cannot be used, with an empty one that is forgotten afterwards."""
    try:
        with ops_store(data_dir / "status.sqlite", _TABLES) as connection:
            return work(ScoreStore(connection))
    except (OSError, sqlite3.Error):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(_TABLES)
            return work(ScoreStore(connection))


class ScoreStore:
    """Tallies by asset, how far the event log has been tallied, and the scores that followed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def place(self, kind: str) -> int:
        """Return how far events of a kind have been tallied, 0 in the beginning."""
        [row] = self._db.execute("SELECT max(place) FROM tallied WHERE kind = ?", [kind]).fetchall()
        return row[0] or 0

    def take(self, kind: str, before: int, after: int, new: Mapping[str, Sequence[Tally]]) -> bool:
        """Add tallies by asset, and go on from `before` to `after`; False if another process has done it meanwhile."""
        self._db.commit()
        self._db.execute("BEGIN IMMEDIATE")
        if self.place(kind) != before:
            self._db.rollback()
            return False
        self._db.execute("INSERT OR REPLACE INTO tallied (kind, place) VALUES (?, ?)", [kind, after])
        for asset, tallies in new.items():
            self._add(asset, tallies)
        self._db.commit()
        return True

    def forget(self) -> None:
        """Begin again: the event log is another one, or somebody has deleted runs from it."""
        for table in ("tallies", "tallied", "scores"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
        self._db.commit()

    def prune(self, now: datetime) -> None:
        """Drop what is too old to count."""
        oldest = (now - _KEPT).timestamp()
        self._db.execute("DELETE FROM tallies WHERE max(ifnull(ok_at, 0), ifnull(bad_at, 0)) < ?", [oldest])
        self._db.commit()

    def newest(self) -> dict[str, tuple[int, datetime]]:
        """Return by asset how far the log has been tallied for it, and when its newest refresh ended."""
        rows = self._db.execute(
            "SELECT asset, max(place), max(max(ifnull(ok_at, 0), ifnull(bad_at, 0))) FROM tallies GROUP BY asset"
        )
        return {asset: (place, _at(at)) for asset, place, at in rows}

    def tallies(self, assets: Iterable[str]) -> list[Tally]:
        """Return all tallies of some assets."""
        out = []
        for asset in assets:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM tallies WHERE asset = ?", [asset])  # noqa: S608
            out += [_tally(row) for row in rows]
        return out

    def totals(self) -> dict[str, tuple[str, float | None]]:
        """Return what the score of each source was, and from what it followed."""
        rows = self._db.execute("SELECT source, basis, total FROM scores")
        return {source: (basis, total) for source, basis, total in rows}

    def keep(self, totals: Mapping[str, tuple[str, float | None]]) -> None:
        """Keep scores, each with that from which it followed."""
        self._db.executemany(
            "INSERT OR REPLACE INTO scores (source, basis, total) VALUES (?, ?, ?)",
            [(source, *one) for source, one in totals.items()],
        )
        self._db.commit()

    def _add(self, asset: str, tallies: Sequence[Tally]) -> None:
        runs = list({tally.run_id for tally in tallies})
        known: list[Tally] = []
        for first in range(0, len(runs), _AT_ONCE):
            some = runs[first : first + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            query = f"SELECT {_COLUMNS} FROM tallies WHERE asset = ? AND run_id IN ({marks})"  # noqa: S608
            known += map(_tally, self._db.execute(query, [asset, *some]))
        wanted = {(tally.run_id, tally.period) for tally in tallies}
        both = added([*(one for one in known if (one.run_id, one.period) in wanted), *tallies])
        self._db.executemany(
            f"INSERT OR REPLACE INTO tallies (asset, {_COLUMNS}) VALUES ({', '.join('?' * 13)})",  # noqa: S608
            [(asset, *_row(tally)) for tally in both.values()],
        )


def _row(one: Tally) -> tuple[object, ...]:
    return (
        one.run_id,
        one.period,
        one.order,
        one.ok,
        one.bad,
        one.contract,
        one.quarantined,
        one.fit,
        one.ok_at and one.ok_at.timestamp(),
        one.bad_at and one.bad_at.timestamp(),
        int(one.later),
        None if one.fields is None else _BETWEEN.join(sorted(one.fields)),
    )


def _tally(row: tuple[str, str, int, int, int, int, int, int, float | None, float | None, int, str | None]) -> Tally:
    run_id, period, place, ok, bad, contract, quarantined, fit, ok_at, bad_at, later, fields = row
    return Tally(
        run_id,
        period,
        place,
        ok,
        bad,
        contract,
        quarantined,
        fit,
        None if ok_at is None else _at(ok_at),
        None if bad_at is None else _at(bad_at),
        bool(later),
        None if fields is None else frozenset(filter(None, fields.split(_BETWEEN))),
    )


def _at(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
