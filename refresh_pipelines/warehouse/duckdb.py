"""The embedded warehouse: one DuckDB file, one writer at a time, opened only while it is needed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import duckdb

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.errors import ContractViolation, InternalError, WarehouseBusy
from refresh_pipelines.limit import interruptible
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import told
from refresh_pipelines.warehouse.base import Commit, LoadState, Merged, Remains
from refresh_pipelines.warehouse.carry import carry_over, left_by, old_names
from refresh_pipelines.warehouse.ledger import read_files, write_files
from refresh_pipelines.warehouse.leftovers import find_remains, loaded_sources, remove
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines.warehouse.merge import merge
from refresh_pipelines.warehouse.select import write_result
from refresh_pipelines.warehouse.state import ensure_state_tables, read_states, write_state
from refresh_pipelines.warehouse.tables import ensure_table

_HELD = re.compile(r"Could not set lock on file|different configuration than existing connections")
_HOLDER = re.compile(r"Conflicting lock is held in (?P<holder>.*?PID \d+\)?)")
# DuckDB takes `raw.x` for a table of the catalogue that is named after the file.
_SCHEMAS = ("raw", "refresh", "history", "quarantine")
_POLL = 0.1
Found = TypeVar("Found")


class DuckDBWarehouse:
    """A warehouse in the DuckDB file `path`.

    DuckDB keeps every other process out while one writes, and a writer out while others read, so a
    file lock queues our own processes and the file is never open between calls. A stranger who
    holds the file is waited for and then named.
    """

    def __init__(self, path: Path, lock_timeout: float) -> None:
        self.path, self.lock_timeout = path, lock_timeout

    def states(self, source: str, table: str = "") -> tuple[dict[str, LoadState], float]:
        """See `Warehouse.states`."""
        if not self.path.exists():
            return {}, 0.0
        with self._open(read_only=True) as (connection, wait), told(f"the warehouse {self.path.name}"):
            return read_states(connection, source, table), wait

    def commit(self, commit: Commit) -> Merged:
        """See `Warehouse.commit`."""
        return self.commit_all([commit])[0]

    def commit_all(self, commits: Sequence[Commit]) -> list[Merged]:
        """See `Warehouse.commit_all`."""
        out = []
        tables: dict[str, str] = {}
        with self._writing() as (connection, wait):
            for commit in commits:
                spec = commit.spec
                tables[spec.source] = tables.get(spec.source) or ensure_table(connection, spec)
                merged = merge(connection, commit, wait, tables[spec.source])
                merged = replace(merged, state=replace(merged.state, table=spec.raw_table))
                out.append(merged)
                write_files(connection, commit.files)
            write_state(connection, *(merged.state for merged in out))
            for commit in commits:
                commit.progress("merged")
        return out

    def touch(self, state: LoadState) -> float:
        """See `Warehouse.touch`."""
        with self._writing() as (connection, wait):
            write_state(connection, state)
        return wait

    def files(
        self, source: str, table: str, keys: Sequence[str] = (), sha256: Sequence[str] = ()
    ) -> tuple[list[FileEntry], float]:
        """See `Warehouse.files`."""
        if not self.path.exists():
            return [], 0.0
        with self._open(read_only=True) as (connection, wait), told(f"the warehouse {self.path.name}"):
            return read_files(connection, source, table, keys, sha256), wait

    def record_files(self, entries: Sequence[FileEntry]) -> float:
        """See `Warehouse.record_files`."""
        with self._writing() as (connection, wait):
            write_files(connection, entries)
        return wait

    def adopt(self, spec: SourceSpec) -> bool:
        """See `Warehouse.adopt`."""
        names = old_names(spec)
        found: list[str] = self._look(lambda connection: left_by(connection, names), []) if names else []
        if not found:
            return False
        with self._writing() as (connection, _):
            return carry_over(connection, spec)

    def sources(self) -> set[str]:
        """See `Warehouse.sources`."""
        return self._look(loaded_sources, set())

    def remains(self, source: str) -> Remains:
        """See `Warehouse.remains`."""
        return self._look(lambda connection: find_remains(connection, source), Remains(source))

    def retire(self, source: str) -> Remains:
        """See `Warehouse.retire`."""
        if not self.path.exists():
            return Remains(source)
        with self._writing() as (connection, _):
            remains = find_remains(connection, source)
            remove(connection, remains)
        return remains

    def _look(self, ask: Callable[[duckdb.DuckDBPyConnection], Found], nothing: Found) -> Found:
        """Return an answer of the warehouse, or `nothing` where none exists yet."""
        if not self.path.exists():
            return nothing
        with self._open(read_only=True) as (connection, _), told(f"the warehouse {self.path.name}"):
            return ask(connection)

    def select(self, query: str, tables: Collection[str], path: Path) -> float:
        """See `Warehouse.select`."""
        if not self.path.exists():
            raise ContractViolation(
                "the query has nothing to read", came="no warehouse yet", todo="Refresh its inputs."
            )
        with self._open(read_only=True) as (connection, wait), told(f"the warehouse {self.path.name}"):
            write_result(connection, query, tables, path)
        return wait

    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        """See `Warehouse.query`."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} does not exist yet: refresh a source first")
        with self._open(read_only=True) as (connection, _):
            result = connection.execute(statement)
            return [column[0] for column in result.description or ()], result.fetchall()

    @contextmanager
    def _writing(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        with (
            self._open() as (connection, wait),
            told(f"the warehouse {self.path.name}"),
            _transaction(connection),
        ):
            ensure_state_tables(connection)
            yield connection, wait

    @contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        """Yield a connection and the seconds waited for it, not counting the opening itself."""
        if self.path.stem.lower() in _SCHEMAS:
            raise InternalError(
                f"the warehouse cannot be named {self.path.name}",
                expected=f"another name than that of a schema ({', '.join(_SCHEMAS)})",
                todo="Rename the file and REFRESH_WAREHOUSE, for instance to warehouse.duckdb.",
            )
        lock = self.path.with_name(self.path.name + ".lock")
        with held(lock, self.lock_timeout, f"the warehouse {self.path.name}") as wait:
            if not self.path.exists():
                self._create()
            connection, longer = self._connect(read_only, self.lock_timeout - wait)
            with connection, interruptible(connection.interrupt):
                connection.execute("SET TimeZone = 'UTC'")
                yield connection, wait + longer

    def _create(self) -> None:
        """Make an empty warehouse beside its place, so that a kill leaves no half file there."""
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        with told(f"the new warehouse {self.path.name}"):
            duckdb.connect(str(new)).close()
        new.replace(self.path)

    def _connect(self, read_only: bool, patience: float) -> tuple[duckdb.DuckDBPyConnection, float]:
        begun = time.monotonic()
        while True:
            waited = time.monotonic() - begun
            try:
                return duckdb.connect(str(self.path), read_only=read_only), waited
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                if not _HELD.search(str(error)):
                    raise self._unusable(error) from error
                if waited >= patience:
                    raise self._busy(error) from error
            time.sleep(_POLL)

    def _busy(self, error: duckdb.Error) -> WarehouseBusy:
        found = _HOLDER.search(str(error))
        return WarehouseBusy(
            f"the warehouse {self.path.name} is open in another program",
            expected=f"the file to be free within {self.lock_timeout:g} s (REFRESH_LOCK_TIMEOUT)",
            came=f"{found['holder']} holding it" if found else "a connection of this very process holding it",
            todo="Close it there (DuckDB lets nobody write while anybody reads); then run this again.",
        )

    def _unusable(self, error: duckdb.Error) -> InternalError:
        return InternalError(
            f"the warehouse {self.path} cannot be opened",
            expected="a DuckDB database file",
            came=" ".join(str(error).split())[:300],
            todo="Set REFRESH_WAREHOUSE to another file, or move this one away: a new one is then loaded from scratch.",
        )


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # closing rolls back too; the first error is the one to tell
            connection.rollback()
        raise
    connection.commit()
