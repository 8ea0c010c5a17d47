"""Rows made unique by merge key, and hashed. DuckDB serves as a calculator in memory; the warehouse is not touched."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.arrowfile import ArrowFile
from refresh_pipelines.contract import staged_schema
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import first_row, quote, told

# What does not fit spills to disk. Few threads, since each needs tens of megabytes before it can spill.
_LIMITS = {"memory_limit": "128MB", "threads": "2"}
_ROWS_AT_ONCE = 50_000
# Threads share the database, each with a connection of its own.
_opening = threading.Lock()


@dataclass(frozen=True)
class Unique:
    """What became of a file of rows.

    Attributes:
        rows: rows left in the file; `duplicates` are those dropped.
        hash: of the rows whatever their order, without volatile columns.
    """

    rows: int
    duplicates: int
    hash: str


@contextmanager
def calculator(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a database of bounded memory that spills into `spill`, and not into the current folder."""
    with told("staging"), _connection(spill) as connection:
        yield connection


def _connection(spill: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection of its own to this process's database, or to a new one while that has spilled elsewhere."""
    try:
        with _opening:
            database = _database()
            database.execute("SET temp_directory = '" + str(spill).replace("'", "''") + "'")
            database.execute(f"SET memory_limit = '{_LIMITS['memory_limit']}'")
            return database.cursor()
    except duckdb.Error:
        return duckdb.connect(":memory:", config={"temp_directory": str(spill), **_LIMITS})


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """Open the one database of this process: opening costs more than all the work on a small payload."""
    return duckdb.connect(":memory:", config=dict(_LIMITS))


def _leave_to_the_parent() -> None:
    """In a forked child: open a new database when one is needed, and never close the one that was inherited.

    Its threads stayed with the parent, and closing it would wait for them, at the latest when the child
    ends. One reference too many keeps Python from ever doing so.
    """
    if _database.cache_info().currsize:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_database()))
        _database.cache_clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


def measure(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, key: Sequence[str], path: Path) -> Unique:
    """Make the Arrow file at `path` unique by `key`, and hash it.

    Raises:
        ContractViolation: rows with one key differ, or are repeated at all under `duplicates: refuse`.
    """
    connection.register("staged", ArrowFile(path, staged_schema(spec)))
    try:
        duplicates = _collapse(connection, spec, key, path)
        rows, content_hash = _hash(connection, spec)
    finally:
        connection.unregister("staged")
    return Unique(rows, duplicates, content_hash)


def _collapse(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, key: Sequence[str], path: Path) -> int:
    """Make the rows unique by merge key and return how many were dropped for it."""
    if _ascends(path, key):
        return 0
    columns = ", ".join(quote(name) for name in key)
    counted = f"SELECT count(*), coalesce(sum(rows), 0) FROM (SELECT count(*) AS rows FROM staged GROUP BY {columns})"  # noqa: S608 - quoted identifiers
    keys, rows = (first_row(connection, counted) or (0, 0)) if key else (0, 0)
    if keys == rows:
        return 0
    if spec.load.duplicates == "last":
        unique = _last_values(connection, spec, key, path)
    else:
        _refuse_conflicts(connection, spec, columns)
        unique = connection.sql("SELECT DISTINCT * FROM staged").to_arrow_reader(_ROWS_AT_ONCE)
    replacement = path.with_suffix(".unique")
    schema = staged_schema(spec)
    with pa.OSFile(str(replacement), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in unique:
            writer.write_batch(batch.cast(schema))
    replacement.replace(path)
    return int(rows) - int(keys)


def _ascends(path: Path, key: Sequence[str]) -> bool:
    """Whether each row's key is greater than that of the row before, as in most exports: then no key comes twice."""
    if not key:
        return False
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        last: pa.RecordBatch | None = None
        for place in range(reader.num_record_batches):
            batch = reader.get_batch(place).select(list(key))
            if not batch.num_rows:
                continue
            pairs = [(batch.slice(0, batch.num_rows - 1), batch.slice(1))]
            pairs += [(last, batch.slice(0, 1))] if last is not None else []
            if not all(_less(one, other) for one, other in pairs):
                return False
            last = batch.slice(batch.num_rows - 1)
    return True


def _less(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    """Whether each row of one batch comes before that of the other, column by column; a null comes nowhere."""
    before = pa.repeat(pa.scalar(False), one.num_rows)
    for left, right in zip(reversed(one.columns), reversed(other.columns), strict=True):
        before = pc.or_(pc.less(left, right), pc.and_(pc.equal(left, right), before))
    return bool(pc.all(before, skip_nulls=False).as_py())


def _last_values(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, key: Sequence[str], path: Path
) -> list[pa.RecordBatch]:
    """Return one row for each merge key: of each column the last value of the payload that is not missing."""
    connection.execute("RESET memory_limit")  # DuckDB cannot spill what arg_max holds
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_file(source).read_all()
        connection.register("ordered", rows.append_column("_position", pa.array(range(rows.num_rows), pa.int64())))
        # arg_max passes over nulls, which is the rule.
        values = [
            quote(name) if name in key else f"arg_max({quote(name)}, _position) AS {quote(name)}"
            for name in spec.columns
        ]
        grouped = ", ".join(quote(name) for name in key)
        query = f"SELECT {', '.join(values)} FROM ordered GROUP BY {grouped} ORDER BY min(_position)"  # noqa: S608 - quoted identifiers
        batches: list[pa.RecordBatch] = connection.sql(query).to_arrow_table().to_batches()
        connection.unregister("ordered")
    return batches


def _refuse_conflicts(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, columns: str) -> None:
    rows = "staged" if spec.load.duplicates == "refuse" else "(SELECT DISTINCT * FROM staged)"
    query = (
        f"SELECT {columns}, count(*), count(*) OVER () FROM {rows} GROUP BY {columns} HAVING count(*) > 1"  # noqa: S608 - quoted identifiers
        " ORDER BY ALL LIMIT 3"
    )
    conflicts = connection.execute(query).fetchall()
    if not conflicts:
        return
    examples = "; ".join(f"({', '.join(map(str, row[:-2]))}) {row[-2]} times" for row in conflicts)
    number = conflicts[0][-1]
    raise ContractViolation(
        f"{number} merge keys stand for several rows" if number > 1 else "a merge key stands for several rows",
        expected=f"one row for each ({', '.join(spec.merge_key)})"
        + ("" if spec.load.duplicates == "refuse" else ", or rows identical in every column"),
        came=examples,
        todo="Nothing was loaded. If the upstream has added a dimension, add its column to merge_key.",
    )


def _hash(connection: duckdb.DuckDBPyConnection, spec: SourceSpec) -> tuple[int, str]:
    """Return row count and a hash that does not depend on the rows' order.

    It is the sum of row hashes. Should a new DuckDB hash differently, the next refresh merges once,
    finds no difference and is `unchanged` all the same.
    """
    names = [name for name in spec.columns if name not in spec.load.volatile]
    columns = ", ".join(quote(name) for name in names)
    query = f"SELECT count(*), sum(hash({columns})::HUGEINT), sum(hash({columns}, 1)::HUGEINT) FROM staged"  # noqa: S608 - quoted identifiers
    count, first, second = first_row(connection, query) or (0, 0, 0)
    types = [spec.columns[name].type for name in names]
    text = json.dumps([names, types, count, str(first), str(second)])
    return int(count), hashlib.sha256(text.encode()).hexdigest()
