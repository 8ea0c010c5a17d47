"""Parquet into batches of text: every value as it would be written, of whatever type the file stores it.

A column that is int32 in one file and int64, double or text in the next gives the same text. Instants are
written in UTC with a Z, times without a zone without one, nested values as JSON.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.spec import SourceSpec

BATCH = 20_000


def read_parquet(file: IO[bytes], spec: SourceSpec) -> Iterator[pa.RecordBatch]:
    """Yield the rows, a piece of a row group at a time; columns are the file's and declared dotted paths.

    Raises:
        UpstreamUnavailable: the file has no end, or a part of it cannot be unpacked.
        UpstreamRefused: it would unpack to more than `request.max_unpacked`.
        ContractViolation: a type that has no text.
    """
    try:
        # Legacy int96 instants are nanoseconds by default, which end in 2262: later ones would come out wrong.
        opened = parquet.ParquetFile(file, coerce_int96_timestamp_unit="us", pre_buffer=False)
        _require_room(opened.metadata, spec.request.max_unpacked)
        instants = _instants(opened, spec)
        for batch in opened.iter_batches(BATCH):
            yield _batch(batch, spec, instants)
        if not opened.metadata.num_rows:
            yield _batch(pa.RecordBatch.from_pylist([], opened.schema_arrow), spec, instants)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UpstreamUnavailable(
            "the Parquet file is truncated or damaged",
            expected="a complete Parquet file, which ends with PAR1",
            came=" ".join(str(error).split())[:300],
            todo="It may still be being written, or was cut: a later try may pass.",
        ) from error


def _require_room(metadata: Any, limit: int) -> None:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > limit:
        raise UpstreamRefused(
            "the Parquet file unpacks to more than request.max_unpacked",
            expected=f"at most {limit} bytes",
            came=f"{size} bytes in {metadata.num_rows} rows",
            todo="Look at the file by hand; raise request.max_unpacked if it is in order.",
        )


def _instants(opened: Any, spec: SourceSpec) -> set[str]:
    """Return the legacy int96 columns that a timestamptz reads: their writers mean UTC, and cannot say so."""
    columns = (opened.schema.column(i) for i in range(len(opened.schema)))
    legacy = {column.path for column in columns if column.physical_type == "INT96"}
    wanted = (column.fields(name) for name, column in spec.columns.items() if column.type == "timestamptz")
    return legacy & {field for fields in wanted for field in fields}


def _batch(batch: pa.RecordBatch, spec: SourceSpec, instants: set[str]) -> pa.RecordBatch:
    names = list(batch.schema.names)
    if len(set(names)) < len(names):
        raise ContractViolation(
            "the Parquet file names a column twice", expected="different names", came=", ".join(names)
        )
    columns = {name: text_of(batch.column(i), name) for i, name in enumerate(names)}
    columns |= {name: pc.binary_join_element_wise(columns[name], "Z", "") for name in instants & set(columns)}
    for column, declared in spec.columns.items():
        for path in declared.fields(column):
            inner = _inner(batch, path) if "." in path and path not in columns else None
            if inner is not None:
                columns[path] = text_of(inner, path)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _inner(batch: pa.RecordBatch, path: str) -> pa.Array | None:
    """Return what a dotted path leads to inside structs; None where it leads nowhere."""
    first, *rest = path.split(".")
    if first not in batch.schema.names:
        return None
    found = batch.column(batch.schema.get_field_index(first))
    for part in rest:
        if not pa.types.is_struct(found.type) or found.type.get_field_index(part) < 0:
            return None
        found = pc.struct_field(found, part)
    return found


def text_of(values: pa.Array, name: str) -> pa.Array:
    """Return an array of any type as text. Raises ContractViolation for a type or bytes that have none."""
    if isinstance(values, pa.ExtensionArray):
        if "uuid" in values.type.extension_name:
            return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in values.storage.to_pylist()])
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_nested(kind):
        return pa.array([None if value is None else _json(value) for value in values.to_pylist()], pa.string())
    try:
        return _plain(values, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractViolation(
            f"column {name!r} of the Parquet file has no text",
            expected="numbers, texts in UTF-8, times, bools, or lists and structs of them",
            came=f"{kind}: {' '.join(str(error).split())[:200]}",
            todo="Write the column as text where the file is made, or leave it out.",
        ) from error


def _plain(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        # Without its zone an instant is the same one in UTC.
        text = _without_zeros(pc.cast(pc.cast(values, pa.timestamp(kind.unit)), pa.string()))
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz else text
    if pa.types.is_time(kind):
        return _without_zeros(pc.cast(values, pa.string()))
    if pa.types.is_duration(kind):
        values = pc.cast(values, pa.int64())
    if pa.types.is_date64(kind):
        values = pc.cast(values, pa.date32())
    if pa.types.is_float16(kind):
        values = pc.cast(values, pa.float32())
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else f"{value:f}" for value in values.to_pylist()], pa.string())
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Texts are not checked to be UTF-8 when they are read, bytes are when they become texts.
        values = pc.cast(values, pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
    return pc.cast(values, pa.string())


def _without_zeros(text: pa.Array) -> pa.Array:
    """Drop zeros after the last digit of a fraction: nanoseconds that say nothing would be too fine for a column."""
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1"), r"\.$", "")


def _json(value: Any) -> str:
    return json.dumps(_writable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _writable(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    """Return a nested value in what JSON knows: maps as objects, decimals and times as texts."""
    if isinstance(value, dict):
        return {str(key): _writable(part) for key, part in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(part, tuple) and len(part) == 2 for part in value):
            return {str(key): _writable(part) for key, part in value}  # a map
        return [_writable(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        text = value.isoformat()
        return re.sub(r"\+00:00$", "Z", text)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
