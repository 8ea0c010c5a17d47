"""The embedded warehouse: one DuckDB file, one writer at a time, opened only while it is needed."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import duckdb

from refresh_pipelines.effects import Effects
from refresh_pipelines.errors import ContractViolation, InternalError, WarehouseBusy
from refresh_pipelines.limit import interruptible
from refresh_pipelines.sql import Connection, first_row, quote, told
from refresh_pipelines.warehouse.asof import Past, look_back
from refresh_pipelines.warehouse.base import AsOf, Commit, Merged
from refresh_pipelines.warehouse.host import Attached, forget
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines.warehouse.select import write_result
from refresh_pipelines.warehouse.state import ensure_state_tables
from refresh_pipelines.warehouse.store import Found, SqlWarehouse

_HELD = re.compile(
    r"Could not set lock on file|different configuration than existing connections|Unique file handle conflict"
)
_HOLDER = re.compile(r"Conflicting lock is held in (?P<holder>.*?PID \d+\)?)")
# DuckDB takes `raw.x` for a table of the catalogue that is named after the file.
_SCHEMAS = ("raw", "refresh", "history", "quarantine")
_POLL = 0.1
_PAST = "_as_of"


class DuckDBWarehouse(SqlWarehouse):
    """A warehouse in the DuckDB file `path`.

    DuckDB keeps every other process out while one writes, and a writer out while others read, so a
    file lock queues our own processes and the file is never open between calls. A stranger who
    holds the file is waited for and then named.
    """

    def __init__(self, path: Path, lock_timeout: float) -> None:
        self.path, self.lock_timeout = path, lock_timeout

    def _look(self, ask: Callable[[Connection], Found], nothing: Found) -> tuple[Found, float]:
        if not self.path.exists():
            return nothing, 0.0
        with self._open(read_only=True, own=False) as (connection, wait), told(f"the warehouse {self.path.name}"):
            return ask(connection), wait

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, float]]:
        """See `SqlWarehouse.reading`. Nothing is made where there is no file."""
        if not self.path.exists():
            raise InternalError(
                f"there is no warehouse {self.path}", todo="Refresh a source first, or correct REFRESH_WAREHOUSE."
            )
        with self._open(read_only=True) as (connection, wait), told(f"the warehouse {self.path.name}"):
            yield connection, wait

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

    def preview(self, commit: Commit, examples: int) -> tuple[Merged, Effects]:
        """See `Warehouse.preview`. Nothing is made where there is no file."""
        if self.path.exists():
            return super().preview(commit, examples)
        with tempfile.TemporaryDirectory(dir=commit.staged.path.parent) as folder:
            empty = DuckDBWarehouse(Path(folder) / "preview.duckdb", self.lock_timeout)
            empty._create()
            return empty.preview(commit, examples)

    def query_as_of(self, statement: str, at: datetime) -> AsOf:
        """See `Warehouse.query_as_of`. Views in a database of their own stand in the place of the tables."""
        with self.reading() as (connection, _):
            own = str((first_row(connection, "SELECT current_database()") or ("",))[0])
            catalog = '"' + own.replace('"', '""') + '"'
            past = look_back(connection, statement, at, f"{catalog}.raw", f"{catalog}.history")
            if re.search(rf'\b{re.escape(own)}"?\s*\.\s*"?raw\b', statement, re.IGNORECASE):
                raise past.refused(f"{own}.raw, which is the present: leave out {own}")
            with _hung_up(connection, catalog, past):
                try:
                    result = connection.execute(statement)
                    names, rows = [column[0] for column in result.description or ()], result.fetchall()
                except (duckdb.ProgrammingError, duckdb.DataError) as error:
                    raise past.refused(" ".join(str(error).split())) from error
        return AsOf(names, rows, past.notes())

    def copy_file(self, target: Path) -> None:
        """Copy the file as it is between two commits, which wait meanwhile.

        Raises:
            WarehouseBusy: somebody held it for longer than the lock's timeout.
            OSError: the copy cannot be written.
        """
        with self._open() as (connection, _), told(f"the warehouse {self.path.name}"):
            connection.execute("CHECKPOINT")  # what a killed process has left in its log beside it
            shutil.copyfile(self.path, target)

    @contextmanager
    def _writing(self, tables: Collection[str] | None) -> Iterator[tuple[Connection, float]]:  # noqa: ARG002 - one writer
        with (
            self._open(own=False) as (connection, wait),
            told(f"the warehouse {self.path.name}"),
            _unordered(connection),
            _transaction(connection),
        ):
            ensure_state_tables(connection)
            yield connection, wait

    @contextmanager
    def _open(self, *, read_only: bool = False, own: bool = True) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        """Yield a connection and the seconds waited for it, not counting the opening itself.

        Args:
            read_only: whether nothing can be written.
            own: whether to a DuckDB of its own, as statements need that a person wrote: they may change its settings.
        """
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
            opened, longer = self._connect(read_only, self.lock_timeout - wait, own=own)
            with opened as connection, interruptible(connection.interrupt):
                connection.execute("SET TimeZone = 'UTC'")
                yield connection, wait + longer

    def _create(self) -> None:
        """Make an empty warehouse beside its place, so that a kill leaves no half file there."""
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        with told(f"the new warehouse {self.path.name}"):
            duckdb.connect(str(new)).close()
        new.replace(self.path)

    def _connect(
        self, read_only: bool, patience: float, *, own: bool
    ) -> tuple[AbstractContextManager[duckdb.DuckDBPyConnection], float]:
        begun = time.monotonic()
        while True:
            waited = time.monotonic() - begun
            try:
                return self._opened(read_only, own=own), waited
            except duckdb.Error as error:
                if not _HELD.search(str(error)):
                    raise self._unusable(error) from error
                if waited >= patience:
                    raise self._busy(error) from error
            time.sleep(_POLL)

    def _opened(self, read_only: bool, *, own: bool) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        if not own:
            try:
                return Attached(self.path, read_only=read_only)
            except duckdb.Error as error:
                if _HELD.search(str(error)):
                    raise
                # What cannot be attached may be opened, or says better what is wrong with it.
                forget()
        return duckdb.connect(str(self.path), read_only=read_only)

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
def _hung_up(connection: Connection, catalog: str, past: Past) -> Iterator[None]:
    """Let statements see the tables of schema raw as they were, and those of other schemas as they are."""
    query = (
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " UNION SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = current_database()"
        " AND NOT internal ORDER BY ALL"
    )
    others = [(schema, name) for schema, name in connection.execute(query).fetchall() if schema in _SCHEMAS[1:]]
    connection.execute(f"ATTACH ':memory:' AS {_PAST} (READ_WRITE)")
    for schema in _SCHEMAS:
        connection.execute(f"CREATE SCHEMA {_PAST}.{schema}")
    for table, select in past.selects.items():
        connection.execute(f"CREATE VIEW {_PAST}.raw.{quote(table)} AS {select}")
    for schema, name in others:
        there = f"{schema}.{quote(name)}"
        connection.execute(f"CREATE VIEW {_PAST}.{there} AS SELECT * FROM {catalog}.{there}")  # noqa: S608 - quoted
    connection.execute(f"USE {_PAST}")
    try:
        yield
    finally:
        connection.execute(f"USE {catalog}; DETACH {_PAST}")


@contextmanager
def _unordered(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let rows be written in any order, by all cores; one alone keeps them in order (a million: 1.0 s and 0.6)."""
    connection.execute("SET preserve_insertion_order = false")
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # of a DuckDB that refuses all work; nobody uses that again
            connection.execute("RESET preserve_insertion_order")


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
