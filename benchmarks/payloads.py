"""The payloads of the measurements: CSV files of eight columns, the same bytes every time.

`initial` has `rows` rows; `delta` the same with 1 % changed and 1 % new; `later` rows that follow those, all new, and
as many from among the first that have changed. Written in slices, so that a gigabyte needs no gigabyte of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

SLICE = 100_000
# Name, type in a source's YAML, type in DuckDB and in PostgreSQL.
COLUMNS = (
    ("id", "bigint", "BIGINT", "bigint"),
    ("code", "text", "VARCHAR", "text"),
    ("name", "text", "VARCHAR", "text"),
    ("day", "date", "DATE", "date"),
    ("seen", "timestamp", "TIMESTAMP", "timestamp"),
    ("qty", "int", "BIGINT", "bigint"),
    ("price", "double", "DOUBLE", "double precision"),
    ("status", "text", "VARCHAR", "text"),
)
_DAY, _SEEN = date(2000, 1, 1), datetime(2020, 1, 1)  # noqa: DTZ001 - a time without a zone, as the column has it
_STATUS = pa.array(["open", "closed", "late"])


def initial(path: Path, rows: int) -> Path:
    """Write rows 0 … rows-1."""
    return _written(path, _slices(0, rows, changed=0))


def delta(path: Path, rows: int) -> Path:
    """Write the same with every hundredth row changed, and one more for each hundred."""
    return _written(path, _slices(0, rows + rows // 100, changed=100))


def later(path: Path, rows: int, beyond: int) -> Path:
    """Write `rows` rows for a table that holds rows 0 … beyond-1: half of them changed there, half of them new."""
    half = rows // 2

    def both() -> Iterator[pa.Table]:
        yield from _slices(beyond - half, beyond, changed=1)
        yield from _slices(beyond, beyond + rows - half, changed=0)

    return _written(path, both())


def _slices(first: int, end: int, changed: int) -> Iterator[pa.Table]:
    for start in range(first, end, SLICE):
        yield table(start, min(start + SLICE, end), changed)


def table(first: int, end: int, changed: int = 0) -> pa.Table:
    """Return the rows of some ids; of `changed` each one has another price."""
    ids = pa.array(range(first, end), pa.int64())
    text = ids.cast(pa.string())
    # Knuth's multiplicative hash: looks random, is the same everywhere.
    mixed = pc.bit_wise_and(pc.multiply(ids, 2654435761), (1 << 31) - 1)
    price = pc.divide(_modulo(mixed, 1_000_000).cast(pa.float64()), 100.0)
    if changed:
        price = pc.add(price, pc.equal(_modulo(ids, changed), 0).cast(pa.float64()))
    days = pc.add(_modulo(ids, 9000).cast(pa.int32()), pa.scalar(_DAY).cast(pa.int32()))
    seconds = pc.add(pc.multiply(ids, 7), pa.scalar(_SEEN, pa.timestamp("s")).cast(pa.int64()))
    return pa.table(
        {
            "id": ids,
            "code": pc.binary_join_element_wise("S", _modulo(ids, 5000).cast(pa.string()), ""),
            "name": pc.binary_join_element_wise("name of row", text, "of many", " "),
            "day": days.cast(pa.date32()),
            "seen": seconds.cast(pa.timestamp("s")),
            "qty": _modulo(mixed, 100_000),
            "price": price,
            "status": _STATUS.take(_modulo(ids, 3)),
        }
    )


def _modulo(values: pa.Array, by: int) -> pa.Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, by), by))


def _written(path: Path, tables: Iterator[pa.Table]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = pacsv.WriteOptions(quoting_style="needed")
    with pacsv.CSVWriter(path, table(0, 1).schema, write_options=options) as writer:
        for part in tables:
            writer.write_table(part)
    return path
