"""What was seen of dropped files, in the operational store.

It may be lost: the file ledger in the warehouse still knows what was loaded, and the next run of the
source writes it back here. What was seen and not yet loaded then counts as arrived anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.drop.stability import Sighting
from refresh_pipelines.errors import InternalError
from refresh_pipelines.ops import instant_text, ops_file, ops_store

_TABLES = """
CREATE TABLE IF NOT EXISTS drop_sightings (
    source TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL, modified_at TEXT,
    first_seen_at TEXT NOT NULL, last_seen_at TEXT NOT NULL, since TEXT NOT NULL, stable_at TEXT, day TEXT NOT NULL,
    settled TEXT, settled_spec TEXT, requests INTEGER NOT NULL, requested_at TEXT,
    PRIMARY KEY (source, key, version));
"""
_NAMES = [field.name for field in fields(Sighting)]
_VALUES = attrgetter(*_NAMES)
_SEEN = ("size", "modified_at", "last_seen_at", "since", "stable_at")
_REMEMBERED = ("first_seen_at", "day", "settled", "settled_spec", "requests", "requested_at")
_LATER = "excluded.first_seen_at > drop_sightings.first_seen_at"
_INSTANTS = {"modified_at", "first_seen_at", "last_seen_at", "since", "stable_at", "requested_at"}


class Sightings:
    """The sightings of one source."""

    def __init__(self, data_dir: Path, source: str) -> None:
        self.path, self.source = ops_file(data_dir), source

    def read(self) -> list[Sighting]:
        """Return everything that was seen.

        Raises:
            InternalError: the store cannot be used.
        """
        with self._open() as connection:
            query = f"SELECT {', '.join(_NAMES)} FROM drop_sightings WHERE source = ?"  # noqa: S608 - own column names
            return [_sighting(row) for row in connection.execute(query, (self.source,))]

    def write(self, sightings: Iterable[Sighting]) -> None:
        """Remember what a look saw, beside what runs and the sensor have remembered meanwhile. Raises as `read`."""
        rows = [(self.source, *map(_text, _VALUES(sighting))) for sighting in sightings]
        if not rows:
            return
        marks, names = ", ".join("?" * (len(_NAMES) + 1)), ", ".join(_NAMES)
        seen = ", ".join(f"{name} = excluded.{name}" for name in _SEEN)
        # A version that came back after another one begins anew.
        anew = ", ".join(f"{name} = iif({_LATER}, excluded.{name}, drop_sightings.{name})" for name in _REMEMBERED)
        with self._open() as connection:
            connection.executemany(
                f"INSERT INTO drop_sightings (source, {names}) VALUES ({marks})"  # noqa: S608 - own column names
                f" ON CONFLICT (source, key, version) DO UPDATE SET {seen}, {anew}",
                rows,
            )

    def requested(self, files: Iterable[Sighting], at: datetime) -> None:
        """Remember that a run was requested for files. Raises as `read`."""
        rows = [(instant_text(at), self.source, file.key, file.version) for file in files]
        with self._open() as connection:
            connection.executemany(
                "UPDATE drop_sightings SET requests = requests + 1, requested_at = ?"
                " WHERE source = ? AND key = ? AND version = ?",
                rows,
            )

    def settle(self, entries: Sequence[FileEntry]) -> None:
        """Remember what the ledger says of files, so that no look asks for them again. Raises as `read`."""
        rows = [(e.status, e.spec_hash, e.partition, self.source, e.key, e.version) for e in entries]
        if not rows:
            return
        with self._open() as connection:
            connection.executemany(
                "UPDATE drop_sightings SET settled = ?, settled_spec = ?, day = ?"
                " WHERE source = ? AND key = ? AND version = ?",
                rows,
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with ops_store(self.path, _TABLES) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise InternalError(
                f"the operational store {self.path} cannot be used",
                came=str(error),
                todo="Check the disk and the rights; if the file is damaged, move it away: a new one is then made.",
            ) from error


def _text(value: object) -> object:
    return instant_text(value) if isinstance(value, datetime) else value


def _sighting(row: Sequence[object]) -> Sighting:
    values = dict(zip(_NAMES, row, strict=True))
    for name in _INSTANTS:
        if values[name] is not None:
            values[name] = datetime.fromisoformat(str(values[name]))
    return Sighting(**values)  # type: ignore[arg-type]
