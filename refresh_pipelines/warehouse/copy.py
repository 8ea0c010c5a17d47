"""A whole warehouse into another one, of either kind: tables, load states and file ledger, in one transaction.

What arrived is read back and compared with what left before the transaction ends.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa

from refresh_pipelines.errors import InternalError
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import LoadState
from refresh_pipelines.warehouse.dialect import DUCKDB, dialect_of
from refresh_pipelines.warehouse.evolved import copy_evolved
from refresh_pipelines.warehouse.history import copy_histories, follow, hide, past_of, past_tables
from refresh_pipelines.warehouse.ledger import all_files, ensure_ledger, write_files
from refresh_pipelines.warehouse.leftovers import loaded_sources
from refresh_pipelines.warehouse.postgres_link import Link
from refresh_pipelines.warehouse.postgres_sql import csv_blocks, duckdb_type, fetch_table, postgres_type
from refresh_pipelines.warehouse.rejects import quarantine_tables
from refresh_pipelines.warehouse.state import columns_of, exists, made_tables, read_states, write_state
from refresh_pipelines.warehouse.store import SqlWarehouse
from refresh_pipelines.warehouse.tables import create_table, literal


class TargetNotEmpty(ValueError):
    """The warehouse to copy into holds something already."""


@dataclass(frozen=True)
class Copied:
    """One table that was copied; `hash` is of its rows in any order, the same on both sides."""

    table: str
    rows: int
    hash: str


@dataclass
class _Sum:
    """Count and hash of rows, whatever their order and wherever they lie."""

    calculator: duckdb.DuckDBPyConnection
    json_columns: Sequence[str]
    rows: int = 0
    hashes: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch in."""
        table = pa.Table.from_batches([batch])
        for name in self.json_columns:
            plain = pa.array([_plain(text) for text in table[name].to_pylist()], pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, plain)
        self.calculator.register("batch", table)
        names = columns(tuple(table.schema.names))
        query = f"SELECT sum(hash({names})::HUGEINT), sum(hash({names}, 1)::HUGEINT) FROM batch"  # noqa: S608 - quoted
        found = first_row(self.calculator, query) or ()
        self.rows += table.num_rows
        self.hashes = [one + int(more or 0) for one, more in zip(self.hashes, found, strict=True)]

    @property
    def text(self) -> str:
        """The hash."""
        return "".join(f"{number % 2**64:016x}" for number in self.hashes)


def _plain(text: str | None) -> str | None:
    """Return a JSON document in one layout: PostgreSQL keeps neither spaces nor the order of members."""
    if text is None:
        return None
    document = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return json.dumps(document, sort_keys=True, default=lambda number: f"{number.normalize():f}")


def copy_warehouse(
    source: SqlWarehouse, target: SqlWarehouse, folder: Path, *, replace: bool, step: Callable[[str], None]
) -> list[Copied]:
    """Copy everything refreshes have made; all of it or nothing.

    Args:
        folder: where rows lie for the time.
        replace: remove first what refreshes have made in the target.
        step: told the name of each table when it begins.

    Raises:
        TargetNotEmpty: it holds sources, and `replace` is false.
        InternalError: what arrived is not what left; nothing was copied.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        source.reading() as (old, _),
        target.writing_alone() as (new, _),
    ):
        ensure_ledger(new)
        if loaded_sources(new) or made_tables(new) or all_files(new):
            if not replace:
                raise TargetNotEmpty("the warehouse to copy into holds loaded sources already")
            _empty(new)
        done = []
        with closing(duckdb.connect(str(Path(place) / "scratch.duckdb"))) as scratch:
            scratch.execute("SET TimeZone = 'UTC'; CREATE SCHEMA raw; CREATE SCHEMA history; CREATE SCHEMA quarantine")
            copying = _Copying(old, new, scratch, Path(place))
            for table in made_tables(old) if exists(old, "refresh", "tables") else []:
                step(table)
                done.append(copying.raw(table))
            copying.beside()
        _copy_states(old, new)
    return done


def _empty(new: Connection) -> None:
    for table in past_tables(new):
        hide(new, table)
        new.execute(f"DROP TABLE {past_of(table)}")
    for table in made_tables(new):
        new.execute(f"DROP TABLE raw.{quote(table)}")
    for table in quarantine_tables(new):
        new.execute(f"DROP TABLE quarantine.{quote(table)}")
    for table in ("load_state", "tables", "file_ledger", "histories", "evolved_columns"):
        new.execute(f"DELETE FROM refresh.{table}")  # noqa: S608 - own table names


@dataclass(frozen=True)
class _Name:
    """A table with its schema, which has the same name on both sides."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.table)}"

    def kinds(self, connection: Connection) -> dict[str, str]:
        """Return its columns and their types."""
        return {name: kind for name, kind, _ in columns_of(connection, self.schema, self.table)}


@dataclass(frozen=True)
class _Copying:
    """Tables on their way; rows of PostgreSQL go through `scratch` and `folder`."""

    old: Connection
    new: Connection
    scratch: duckdb.DuckDBPyConnection
    folder: Path

    def raw(self, table: str) -> Copied:
        """Copy a raw table."""
        name = _Name("raw", table)
        key = (first_row(self.old, 'SELECT merge_key FROM refresh.tables WHERE "table" = ?', [table]) or ([],))[0]
        create_table(self.new, table, self._kinds(name), list(key))
        return self._fill(name)

    def beside(self) -> None:
        """Copy past versions and rejected rows, and what is remembered of both."""
        others = [_Name("history", f"_past_{table}") for table in past_tables(self.old)]
        others += [_Name("quarantine", table) for table in quarantine_tables(self.old)]
        for name in others:
            self.new.execute(f"CREATE SCHEMA IF NOT EXISTS {name.schema}")
            parts = ", ".join(f"{quote(column)} {kind}" for column, kind in self._kinds(name).items())
            self.new.execute(f"CREATE TABLE {name} ({parts})")
            self._fill(name)
        for table in set(past_tables(self.new)) & set(made_tables(self.new)):
            follow(self.new, table)
        copy_histories(self.old, self.new)
        copy_evolved(self.old, self.new)

    def _kinds(self, name: _Name) -> dict[str, str]:
        translate = _translation(self.old, self.new)
        return {column: translate(kind) for column, kind in name.kinds(self.old).items()}

    def _fill(self, name: _Name) -> Copied:
        old, new, scratch, folder = self.old, self.new, self.scratch, self.folder
        for column, _, comment in columns_of(old, name.schema, name.table):
            if comment:
                new.execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(comment)}")
        left, arrived = _sum(scratch, old, name), _sum(scratch, new, name)
        _put(new, name, list(name.kinds(old)), _counted(_batches(old, name, scratch, folder), left))
        for batch in _batches(new, name, scratch, folder):
            arrived.add(batch)
        if (left.rows, left.text) != (arrived.rows, arrived.text):
            raise InternalError(
                f"{name.schema}.{name.table} did not arrive as it left",
                expected=f"{left.rows} rows, hash {left.text}",
                came=f"{arrived.rows} rows, hash {arrived.text}",
                todo="Nothing was copied; please report it.",
            )
        return Copied(name.table, left.rows, left.text)


def _translation(old: Connection, new: Connection) -> Callable[[str], str]:
    before, after = (dialect_of(connection) for connection in (old, new))
    if before is after:
        return str
    return duckdb_type if after is DUCKDB else postgres_type


def _sum(scratch: duckdb.DuckDBPyConnection, side: Connection, name: _Name) -> _Sum:
    documents = [column for column, kind in name.kinds(side).items() if kind in ("JSON", "JSONB")]
    return _Sum(scratch.cursor(), documents)


def _counted(batches: Iterator[pa.RecordBatch], total: _Sum) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        total.add(batch)
        yield batch


def _batches(
    connection: Connection, name: _Name, scratch: duckdb.DuckDBPyConnection, folder: Path
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table; of one in PostgreSQL by way of DuckDB, so that both sides have the same types."""
    kinds = name.kinds(connection)
    if isinstance(connection, Link):
        kinds = {column: duckdb_type(kind) for column, kind in kinds.items()}
        declared = ", ".join(f"{quote(column)} {kind}" for column, kind in kinds.items())
        scratch.execute(f"CREATE OR REPLACE TABLE {name} ({declared})")
        fetch_table(connection, scratch, str(name), list(name.kinds(connection).items()), folder)
        connection = scratch
    known = {kind.partition("(")[0] for kind in DUCKDB.types.values()} - {"JSON"}
    parts = ", ".join(
        quote(column) if kind.partition("(")[0] in known else f"CAST({quote(column)} AS VARCHAR) AS {quote(column)}"
        for column, kind in kinds.items()
    )
    yield from pa.RecordBatchReader.from_stream(_duckdb(connection).sql(f"SELECT {parts} FROM {name}"))  # noqa: S608
    if connection is scratch:
        scratch.execute(f"DROP TABLE {name}")


def _put(connection: Connection, name: _Name, names: Sequence[str], batches: Iterator[pa.RecordBatch]) -> None:
    listed = columns(tuple(names))
    if isinstance(connection, Link):
        connection.copy_in(f"COPY {name} ({listed}) FROM STDIN (FORMAT csv)", csv_blocks(batches))
        return
    target = _duckdb(connection)
    for batch in batches:
        target.register("incoming", pa.Table.from_batches([batch]))
        target.execute(f"INSERT INTO {name} ({listed}) SELECT {listed} FROM incoming")  # noqa: S608 - quoted
        target.unregister("incoming")


def _duckdb(connection: Connection) -> duckdb.DuckDBPyConnection:
    if not isinstance(connection, duckdb.DuckDBPyConnection):
        raise TypeError(f"{type(connection).__name__} is no connection to DuckDB")
    return connection


def _copy_states(old: Connection, new: Connection) -> None:
    states = _states(old)
    write_state(new, *states)
    write_files(new, all_files(old))
    if _states(new) != states or all_files(new) != all_files(old):
        raise InternalError("the load states did not arrive as they left", todo="Nothing was copied; please report it.")


def _states(connection: Connection) -> list[LoadState]:
    """Return all load states in the order of their keys: a database gives them in any."""
    found = (state for source in loaded_sources(connection) for state in read_states(connection, source).values())
    return sorted(found, key=lambda state: (state.source, state.partition))
