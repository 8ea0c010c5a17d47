"""PostgreSQL as warehouse: one transaction for each commit, and an advisory lock for each table.

Nothing is queued by files, so refreshes on several machines may share one warehouse, and refreshes of different
tables commit at the same time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import duckdb
import psycopg
from psycopg import errors

from refresh_pipelines.errors import ContractViolation, InternalError
from refresh_pipelines.sql import Connection, quote, told
from refresh_pipelines.warehouse.asof import Past, look_back
from refresh_pipelines.warehouse.base import AsOf
from refresh_pipelines.warehouse.ledger import ensure_ledger
from refresh_pipelines.warehouse.postgres_link import Link, Server, holder_of, lock_key
from refresh_pipelines.warehouse.postgres_sql import POSTGRES, duckdb_type, fetch_table
from refresh_pipelines.warehouse.select import tables_of, write_result
from refresh_pipelines.warehouse.state import columns_of, ensure_state_tables, is_current
from refresh_pipelines.warehouse.store import Found, SqlWarehouse

# Held by every writer together, and alone by those that write more than one table of their own.
_ALL = lock_key("warehouse")
_OF_THE_STATEMENT = (
    *(psycopg.ProgrammingError, psycopg.DataError, psycopg.InternalError),
    errors.ObjectNotInPrerequisiteState,  # to write into a view
)
_PRESENT = "_raw_of_now"
_READING = "ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresWarehouse(SqlWarehouse):
    """A warehouse in the PostgreSQL database of a URL, schemas `raw` and `refresh`.

    A server that cannot be reached is waited for as long as for a lock.
    """

    def __init__(self, url: str, lock_timeout: float) -> None:
        self.server = Server(url, lock_timeout, POSTGRES)

    def _look(self, ask: Callable[[Connection], Found], nothing: Found) -> tuple[Found, float]:  # noqa: ARG002
        with self.reading() as (link, wait):
            return ask(link), wait

    def select(self, query: str, tables: Collection[str], path: Path) -> float:
        """See `Warehouse.select`. The query is DuckDB's SQL here too: the tables it reads are copied for it."""
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as folder,
            duckdb.connect(str(Path(folder) / "inputs.duckdb")) as inputs,
            told("the copy of the tables the query reads"),
        ):
            inputs.execute("SET TimeZone = 'UTC'; CREATE SCHEMA raw")
            with self.reading() as (link, wait):
                for table in _read_by(inputs, query) & set(tables):
                    _copy_table(link, inputs, table, Path(folder))
            write_result(inputs, query, tables, path)
        return wait

    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        """See `Warehouse.query`. Does not wait for a server that cannot be reached: a person is asking."""
        with self.reading(patience=0) as (link, _):
            try:
                # Prepared, which PostgreSQL does with one statement only: none can end the transaction before another.
                result = psycopg.Cursor(link.connection).execute(statement, prepare=True)
                return [column[0] for column in result.description or ()], result.fetchall()
            except psycopg.ProgrammingError as error:
                raise ContractViolation(
                    "the statement cannot be run",
                    expected="one statement in PostgreSQL's SQL that reads",
                    came=" ".join(str(error).split()),
                ) from error
            except psycopg.InternalError as error:
                raise ContractViolation("the statement cannot be run", came=" ".join(str(error).split())) from error

    def query_as_of(self, statement: str, at: datetime) -> AsOf:
        """See `Warehouse.query_as_of`.

        In a transaction that is rolled back the schema raw is another one, with views in the place of the tables.
        Nobody else sees that, or waits for it, but who asks the same.
        """
        with (
            self.server.open(patience=0) as (link, _),
            self.server.told(link.connection),
            _set_back(link, statement, at) as past,
        ):
            try:
                result = psycopg.Cursor(link.connection).execute(statement, prepare=True)
                names, rows = [column[0] for column in result.description or ()], result.fetchall()
            except _OF_THE_STATEMENT as error:
                raise past.refused(" ".join(str(error).split())) from error
        return AsOf(names, rows, past.notes())

    @contextmanager
    def reading(self, patience: float | None = None) -> Iterator[tuple[Link, float]]:
        """Yield a link that sees one moment of the database and cannot change it, and the seconds waited."""
        with self.server.open(patience) as (link, wait), self.server.told(link.connection):
            try:
                with _transaction(link, _READING):
                    yield link, wait
            except errors.LockNotAvailable as error:
                raise self.server.busy(holder_of(link, [], alone=True)) from error

    @contextmanager
    def _writing(self, tables: Collection[str] | None) -> Iterator[tuple[Link, float]]:
        keys = [_ALL] if tables is None else sorted(lock_key(f"raw.{table}") for table in tables)
        with self.server.open() as (link, wait), self.server.told(link.connection):
            try:
                if not is_current(link):
                    with _transaction(link):
                        _lock(link, [_ALL], alone=True)
                        ensure_state_tables(link)
                        ensure_ledger(link)
                begun = time.monotonic()
                with _transaction(link):
                    _lock(link, keys, alone=tables is None)
                    yield link, wait + time.monotonic() - begun
            except errors.LockNotAvailable as error:
                held = holder_of(link, [_ALL, *keys], alone=tables is None)
                raise self.server.busy(held) from error


@contextmanager
def _transaction(link: Link, how: str = "") -> Iterator[None]:
    link.execute(f"BEGIN {how}")
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):  # closing rolls back too; the first error is the one to tell
            link.execute("ROLLBACK")
        raise
    if link.connection.info.transaction_status is psycopg.pq.TransactionStatus.INERROR:
        link.execute("ROLLBACK")
        raise InternalError("the transaction was aborted and nobody said so", todo="Please report it.")
    link.execute("COMMIT")


@contextmanager
def _set_back(link: Link, statement: str, at: datetime) -> Iterator[Past]:
    """Let statements of a transaction see the raw tables as they were; roll it back at the end."""
    link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        link.execute(f"SELECT pg_advisory_xact_lock({lock_key('as of')})").fetchall()
        past = look_back(link, statement, at, _PRESENT, "history")
        link.execute(f"ALTER SCHEMA raw RENAME TO {_PRESENT}; CREATE SCHEMA raw")
        for table, select in past.selects.items():
            link.execute(f"CREATE VIEW raw.{quote(table)} AS {select}")
        link.execute("SET TRANSACTION READ ONLY")
        yield past
    finally:
        with suppress(psycopg.Error):  # closing rolls back too; the first error is the one to tell
            link.execute("ROLLBACK")


def _lock(link: Link, keys: Sequence[int], *, alone: bool) -> None:
    """Take the locks; the first statement of a transaction, so that all later ones see what others have committed."""
    shared = [] if alone else [f"pg_advisory_xact_lock_shared({_ALL})"]
    link.execute(f"SELECT {', '.join([*shared, *(f'pg_advisory_xact_lock({key})' for key in keys)])}").fetchall()


def _read_by(inputs: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    try:
        return {name.removeprefix("raw.") for name in tables_of(inputs, query)}
    except (duckdb.Error, ContractViolation):
        return set()  # it is told when the query is to be run


def _copy_table(link: Link, inputs: duckdb.DuckDBPyConnection, table: str, folder: Path) -> None:
    kinds = [(name, kind) for name, kind, _ in columns_of(link, "raw", table)]
    if not kinds:
        return
    name = f"raw.{quote(table)}"
    declared = ", ".join(f"{quote(column)} {duckdb_type(kind)}" for column, kind in kinds)
    inputs.execute(f"CREATE TABLE {name} ({declared})")
    fetch_table(link, inputs, name, kinds, folder)
