"""Accepted rows on disk, outside any lock: counted, unique by merge key, and hashed.

DuckDB serves here as a calculator in memory; the warehouse is not touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.contract import Contract, staged_schema
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import first_row, quote, told
from refresh_pipelines.window import Window


@dataclass(frozen=True)
class Part:
    """One payload of a refresh, or one page of it.

    Attributes:
        names: values that only its request had, for instance {"series_id": "DGS10"}.
    """

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Staged:
    """Rows waiting to be merged.

    Attributes:
        path: Arrow IPC file with the declared columns, unique by merge key.
        rows: rows in the file.
        fetched: rows of the payload after the declared filter, `rows` + `duplicates`.
        content_hash: hash of the rows whatever their order, without volatile columns.
    """

    path: Path
    rows: int
    fetched: int
    filtered: int
    duplicates: int
    content_hash: str

    def table(self) -> pa.Table:
        """Return the rows, mapped from disk."""
        with pa.memory_map(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()


def stage(spec: SourceSpec, payloads: Iterable[Path | Part], window: Window, path: Path, notes: Notes) -> Staged:
    """Parse, check and write one refresh's payloads to `path`.

    Raises:
        RefreshError: whatever `parse` and `Contract` raise; ContractViolation when rows with one
            merge key differ (or are repeated at all under `duplicates: refuse`).
    """
    parts = [payload if isinstance(payload, Part) else Part(payload) for payload in payloads]
    contract = Contract(spec, window, notes, frozenset.intersection(*(frozenset(part.names) for part in parts)))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, staged_schema(spec)) as writer:
        for part in parts:
            for batch in contract.take(parse(spec, part.path, window, notes), part.names):
                writer.write_batch(batch)
    contract.conclude()
    key = [name for name in spec.merge_key if name not in contract.unbound]
    with _calculator(path) as connection:
        duplicates = _collapse(connection, spec, key, path)
        rows, content_hash = _hash(connection, spec)
    return Staged(path, rows, contract.tally.fetched, contract.tally.filtered, duplicates, content_hash)


def require_rows(spec: SourceSpec, staged: Staged) -> None:
    """Raise ContractViolation when a payload has fewer rows than `expect.min_rows`, or lacks `expect.present`."""
    least = spec.expect.min_rows
    if staged.fetched >= least:
        _require_values(spec, staged)
        return
    few = ContractViolation(
        "the payload holds too few rows",
        expected=f"at least {least} (expect.min_rows)",
        came=f"{staged.fetched}" + (f", and {staged.filtered} that count as no rows" if staged.filtered else ""),
        todo="Nothing was loaded. Look at the payload; set expect.min_rows: 0 if an empty answer is in order.",
    )
    few.fetched = staged.fetched
    raise few


def _require_values(spec: SourceSpec, staged: Staged) -> None:
    for name, values in spec.expect.present.items() if staged.rows else ():
        found = pc.unique(staged.table()[name]).cast(pa.string())
        absent = [value for value in values if not pc.is_in(pa.scalar(value), value_set=found).as_py()]
        if absent:
            ends = pc.min_max(found).as_py()
            lacking = ContractViolation(
                "the payload is not whole",
                expected=f"{name} to be also {', '.join(absent)} (expect.present)",
                came=f"{len(found)} different values from {ends['min']} to {ends['max']}",
                todo="Nothing was loaded. The export may have stopped half-way: look at the payload, and correct "
                "expect.present if these are gone for good.",
            )
            lacking.fetched = staged.fetched
            raise lacking


@contextmanager
def _calculator(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    # Without a folder of its own a large sort would spill into the current one.
    spill = str(path.with_suffix(".spill"))
    with (
        told("staging"),
        duckdb.connect(":memory:", config={"temp_directory": spill}) as connection,
        pa.memory_map(str(path)) as source,
    ):
        connection.register("staged", pa.ipc.open_file(source).read_all())
        yield connection


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = first_row(connection, query)
    return int(row[0]) if row else 0


def _collapse(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, key: list[str], path: Path) -> int:
    """Make the rows unique by merge key and return how many were dropped for it."""
    columns = ", ".join(quote(name) for name in key)
    rows = _scalar(connection, "SELECT count(*) FROM staged")
    if not key or rows == _scalar(connection, f"SELECT count(*) FROM (SELECT 1 FROM staged GROUP BY {columns})"):  # noqa: S608 - quoted identifiers
        return 0
    if spec.load.duplicates == "last":
        unique = _last_values(connection, spec, key, path)
    else:
        _refuse_conflicts(connection, spec, columns)
        unique = connection.sql("SELECT DISTINCT * FROM staged").to_arrow_table()
    replacement = path.with_suffix(".unique")
    with pa.OSFile(str(replacement), "wb") as sink, pa.ipc.new_file(sink, staged_schema(spec)) as writer:
        writer.write_table(unique.cast(staged_schema(spec)))
    replacement.replace(path)
    connection.register("staged", unique)
    return rows - int(unique.num_rows)


def _last_values(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, key: list[str], path: Path) -> pa.Table:
    """Return one row for each merge key: of each column the last value of the payload that is not missing."""
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
        table: pa.Table = connection.sql(query).to_arrow_table()
        connection.unregister("ordered")
    return table


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
