"""How PostgreSQL says it, and how rows get in and out: as CSV, which Arrow, DuckDB and COPY all write and read fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as pacsv

from refresh_pipelines.rejects import read_rejects
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, quote
from refresh_pipelines.stage import Staged
from refresh_pipelines.warehouse.dialect import DUCKDB, Dialect
from refresh_pipelines.warehouse.postgres_binary import binary_blocks
from refresh_pipelines.warehouse.postgres_link import Link

_COLUMNS = """(
    SELECT n.nspname AS schema_name, c.relname AS table_name, a.attname AS column_name, a.attnum AS column_index,
        upper(format_type(a.atttypid, a.atttypmod)) AS data_type, col_description(c.oid, a.attnum) AS comment
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'm', 'f', 'p'))"""
# Below this many rows the planner's guess is good enough.
_WORTH_COUNTING = 500
# All that is not null is quoted, so that an empty text stays one.
_CSV = pacsv.WriteOptions(include_header=False, quoting_style="all_valid")


def csv_blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    """Write batches as blocks of CSV for COPY."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        pacsv.write_csv(batch, sink, _CSV)
        yield sink.getvalue().to_pybytes()


@contextmanager
def _copied(connection: Connection, spec: SourceSpec, staged: Staged) -> Iterator[None]:
    """Copy staged rows into a temporary table, which is never logged and goes with the transaction."""
    link = _link(connection)
    declared = {name: POSTGRES.type(column.type) for name, column in spec.columns.items()}
    with pa.memory_map(str(staged.path)) as source:
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        _copy_into(link, "staged", declared, reader.schema.names, batches)
    if staged.rows >= _WORTH_COUNTING:
        connection.execute("ANALYZE pg_temp.staged")
    rejects = read_rejects(staged.rejects)
    if rejects is not None:
        keys = {name: declared[name] for name in spec.merge_key}
        _copy_into(link, "rejects", keys, list(keys), iter(rejects.select(list(keys)).to_batches()))
    try:
        yield
    finally:
        # In an aborted transaction this fails too, and would hide why it was aborted.
        with suppress(psycopg.Error):
            connection.execute("DROP TABLE pg_temp.staged")
            if rejects is not None:
                connection.execute("DROP TABLE pg_temp.rejects")


def _link(connection: Connection) -> Link:
    if not isinstance(connection, Link):
        raise TypeError(f"{type(connection).__name__} is no connection to PostgreSQL")
    return connection


def _copy_into(
    link: Link, table: str, kinds: Mapping[str, str], names: Sequence[str], batches: Iterator[pa.RecordBatch]
) -> None:
    """Make a temporary table and fill those of its columns that are named."""
    declared = ", ".join(f"{quote(name)} {kind}" for name, kind in kinds.items())
    link.execute(f"CREATE TEMPORARY TABLE {quote(table)} ({declared}) ON COMMIT DROP")
    statement = f"COPY pg_temp.{quote(table)} ({columns(tuple(names))}) FROM STDIN (FORMAT binary)"
    json = frozenset(name for name in names if kinds[name] == POSTGRES.type("json"))
    link.copy_in(statement, binary_blocks(batches, json))


def _appended(connection: Connection, table: str, names: str, rows: pa.Table) -> None:
    _link(connection).copy_in(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)", csv_blocks(iter(rows.to_batches())))


POSTGRES = Dialect(
    types={
        "text": "TEXT",
        "int": "INTEGER",
        "bigint": "BIGINT",
        "double": "DOUBLE PRECISION",
        "decimal": "NUMERIC",
        "bool": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP WITHOUT TIME ZONE",
        "timestamptz": "TIMESTAMP WITH TIME ZONE",
        "json": "JSONB",
    },
    schemas="(SELECT nspname AS schema_name FROM pg_namespace)",
    tables="(SELECT schemaname AS schema_name, tablename AS table_name FROM pg_tables)",
    columns=_COLUMNS,
    table_comment="SELECT obj_description(format('raw.%I', ?)::regclass, 'pg_class')",
    widens=True,
    unique=True,
    stage=_copied,
    fill=_appended,
    replaces=False,
)


def duckdb_type(kind: str) -> str:
    """Return DuckDB's type for one of PostgreSQL's; what no refresh makes becomes text."""
    name, found, rest = kind.partition("(")
    known = {own: declared for declared, own in POSTGRES.types.items()}
    return DUCKDB.type(known[name] + found + rest) if name in known else "VARCHAR"


def postgres_type(kind: str) -> str:
    """Return PostgreSQL's type for one of DuckDB's; what no refresh makes becomes text."""
    name, found, rest = kind.partition("(")
    known = {own: declared for declared, own in DUCKDB.types.items()}
    return POSTGRES.type(known[name] + found + rest) if name in known else "TEXT"


def fetch_table(
    link: Link, target: duckdb.DuckDBPyConnection, table: str, kinds: Sequence[tuple[str, str]], folder: Path
) -> None:
    """Fill a table of DuckDB, named with its schema, from the one of the same name in PostgreSQL.

    Args:
        table: quoted, with its schema.
        kinds: the columns, with the types they have in PostgreSQL.
        folder: where the rows lie for the time.
    """
    names = [name for name, _ in kinds]
    path = folder / "copied.csv"
    with path.open("wb") as file:
        link.copy_out(
            f"COPY (SELECT {columns(tuple(names))} FROM {table}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",  # noqa: S608
            file.write,
        )
    texts = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names)
    casts = ", ".join(
        f"CAST({quote(name)} AS {'VARCHAR' if duckdb_type(kind) == 'JSON' else duckdb_type(kind)})"
        for name, kind in kinds
    )
    target.execute(
        f"INSERT INTO {table} ({columns(tuple(names))}) SELECT {casts} FROM read_csv(?, header = false,"  # noqa: S608
        f" auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false,"
        f" parallel = false, max_line_size = {_LONGEST_LINE}, columns = {{{texts}}})",
        [str(path)],
    )
    path.unlink()


_LONGEST_LINE = 64 * 1024 * 1024


def _literal(name: str) -> str:
    quote(name)  # refuses what is no plain name
    return f"'{name}'"
