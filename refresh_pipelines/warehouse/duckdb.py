"""The embedded warehouse: one DuckDB file, one writer at a time, opened only while it is needed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from refresh_pipelines.errors import WarehouseBusy
from refresh_pipelines.warehouse.base import Commit, LoadState, Merged
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines.warehouse.merge import merge
from refresh_pipelines.warehouse.state import ensure_state_tables, read_states, write_state

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_POLL = 0.1


class DuckDBWarehouse:
    """A warehouse in the DuckDB file `path`.

    DuckDB keeps every other process out while one writes, and a writer out while others read, so a
    file lock queues our own processes and the file is never open between calls. A stranger who
    holds the file is waited for and then named.
    """

    def __init__(self, path: Path, lock_timeout: float) -> None:
        self.path, self.lock_timeout = path, lock_timeout

    def states(self, source: str) -> tuple[dict[str, LoadState], float]:
        """See `Warehouse.states`."""
        if not self.path.exists():
            return {}, 0.0
        with self._open(read_only=True) as (connection, wait):
            return read_states(connection, source), wait

    def commit(self, commit: Commit) -> Merged:
        """See `Warehouse.commit`."""
        with self._open() as (connection, wait), _transaction(connection):
            ensure_state_tables(connection)
            merged = merge(connection, commit, wait)
            write_state(connection, merged.state)
            commit.progress("merged")
        return merged

    def touch(self, state: LoadState) -> float:
        """See `Warehouse.touch`."""
        with self._open() as (connection, wait), _transaction(connection):
            ensure_state_tables(connection)
            write_state(connection, state)
        return wait

    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        """See `Warehouse.query`."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} does not exist yet: refresh a source first")
        with self._open(read_only=True) as (connection, _):
            result = connection.execute(statement)
            return [column[0] for column in result.description or ()], result.fetchall()

    @contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with held(
            self.path.with_name(self.path.name + ".lock"), self.lock_timeout, f"the warehouse {self.path.name}"
        ) as wait:
            begun = time.monotonic()
            with self._connect(read_only, begun + self.lock_timeout - wait) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection, wait + time.monotonic() - begun

    def _connect(self, read_only: bool, deadline: float) -> duckdb.DuckDBPyConnection:
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only)
            except duckdb.IOException as error:
                holder = _HOLDER.search(str(error))
                if not holder:
                    raise
                if time.monotonic() >= deadline:
                    raise self._busy(holder) from error
            time.sleep(_POLL)

    def _busy(self, holder: re.Match[str]) -> WarehouseBusy:
        return WarehouseBusy(
            f"the warehouse {self.path.name} is open in another program",
            expected=f"the file to be free within {self.lock_timeout:g} s (REFRESH_LOCK_TIMEOUT)",
            came=f"{holder['program']} (PID {holder['pid']}) holding it",
            todo="Close it there (DuckDB lets nobody write while anybody reads); then run this again.",
        )


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
