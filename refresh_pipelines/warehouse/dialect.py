"""Where the SQL of the two warehouses differs; everything else is written once, in words both understand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from refresh_pipelines.arrowfile import ArrowFile
from refresh_pipelines.contract import staged_schema
from refresh_pipelines.rejects import read_rejects
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, quote
from refresh_pipelines.stage import Staged


@dataclass(frozen=True)
class Dialect:
    """How one database says it.

    Attributes:
        types: declared types as the database itself writes them, in capitals; `decimal` stands for all decimals.
        schemas: a relation with `schema_name`.
        tables: a relation with `schema_name` and `table_name`, without views.
        columns: a relation with `schema_name`, `table_name`, `column_name`, `column_index`, `data_type` and `comment`,
            of tables and views.
        table_comment: a query for the comment of a table of schema raw, or "" where setting it anew costs nothing.
        widens: whether a new column goes to the end of a table; otherwise the table is written anew to keep the load
            columns last.
        unique: whether a table has an index over its merge key, which also keeps people from doubling keys.
        stage: puts staged rows where statements find them as `staged`, until the block ends, and the keys of rejected
            ones, where there are any, as `rejects`. A column that the file has not is null.
        moves: whether a changed row is deleted and inserted anew, which costs less there than to update it in place.
        fill: appends rows to a table: its quoted name, the quoted names of columns, and the rows.
    """

    types: Mapping[str, str]
    schemas: str
    tables: str
    columns: str
    table_comment: str
    widens: bool
    unique: bool
    stage: Callable[[Connection, SourceSpec, Staged], AbstractContextManager[None]]
    fill: Callable[[Connection, str, str, pa.Table], None]
    replaces: bool = True
    moves: bool = False

    def type(self, declared: str) -> str:
        """Return the type of a declared type, as the database itself writes it."""
        kind, found, rest = declared.partition("(")
        return self.types[kind] + found + rest

    def replace(self, table: str, names: Sequence[str], key: Sequence[str], rows: int) -> str:
        """Return the statement that inserts rows, or puts them in the place of those with the same key."""
        row = f"({', '.join('?' for _ in names)})"
        values = f"{table} ({columns(tuple(names))}) VALUES {', '.join([row] * rows)}"
        if self.replaces:
            return f"INSERT OR REPLACE INTO {values}"
        rest = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in names if name not in key)
        return f"INSERT INTO {values} ON CONFLICT ({columns(tuple(key))}) DO UPDATE SET {rest}"


@contextmanager
def _registered(connection: Connection, spec: SourceSpec, staged: Staged) -> Iterator[None]:
    register, unregister = (getattr(connection, name) for name in ("register", "unregister"))
    register("staged", ArrowFile(staged.path, staged_schema(spec)))
    rejects = read_rejects(staged.rejects)
    if rejects is not None:
        register("rejects", rejects)
    try:
        yield
    finally:
        # In an aborted transaction this fails too, and would hide why it was aborted.
        with suppress(duckdb.Error):
            unregister("staged")
            unregister("rejects")


def _appended(connection: Connection, table: str, names: str, rows: pa.Table) -> None:
    register, unregister = (getattr(connection, name) for name in ("register", "unregister"))
    register("appended", rows)
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM appended")  # noqa: S608 - quoted identifiers
    unregister("appended")


DUCKDB = Dialect(
    types={
        "text": "VARCHAR",
        "int": "INTEGER",
        "bigint": "BIGINT",
        "double": "DOUBLE",
        "decimal": "DECIMAL",
        "bool": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP",
        "timestamptz": "TIMESTAMP WITH TIME ZONE",
        "json": "JSON",
    },
    schemas="(SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database())",
    tables="(SELECT * FROM duckdb_tables() WHERE database_name = current_database())",
    columns="(SELECT * FROM duckdb_columns() WHERE database_name = current_database())",
    table_comment="",
    widens=False,
    unique=False,
    stage=_registered,
    fill=_appended,
    moves=True,
)


def dialect_of(connection: Connection) -> Dialect:
    """Return how to talk to what is at the other end."""
    found = getattr(connection, "dialect", DUCKDB)
    if not isinstance(found, Dialect):
        raise TypeError(f"{type(connection).__name__} has no dialect")
    return found
