"""Arrow batches as blocks of PostgreSQL's binary COPY, whole columns at a time.

The format (https://www.postgresql.org/docs/current/sql-copy.html, Binary Format): a header; for each row the number of
its fields, and for each field its length, -1 for null, and its bytes as the type's receive function wants them, in
network order. The server reads it in half the time it takes for CSV.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_NULL = pa.scalar(b"\xff\xff\xff\xff", pa.large_binary())
_NOTHING = pa.scalar(b"", pa.large_binary())
# Few enough that a block is small, enough that the work on each counts for nothing.
_ROWS = 16_384
# PostgreSQL's dates and times begin in 2000, Arrow's in 1970.
_DAYS = (date(2000, 1, 1) - date(1970, 1, 1)).days
_MICROSECONDS = (datetime(2000, 1, 1) - datetime(1970, 1, 1)).days * 86_400_000_000  # noqa: DTZ001 - both without a zone
_GROUP = 4  # decimal digits in one digit of a NUMERIC, whose base is 10,000


def binary_blocks(batches: Iterator[pa.RecordBatch], json: frozenset[str]) -> Iterator[bytes]:
    """Write batches of the types of `cast.arrow_type` for COPY … (FORMAT binary).

    Args:
        batches: the rows.
        json: names of text columns that go into columns of type jsonb.
    """
    yield _HEADER
    for batch in batches:
        for first in range(0, batch.num_rows, _ROWS):
            yield _block(batch.slice(first, _ROWS), json)
    yield _END


def _block(rows: pa.RecordBatch, json: frozenset[str]) -> bytes:
    pieces: list[pa.Array | pa.Scalar] = [pa.scalar(rows.num_columns.to_bytes(2, "big"), pa.large_binary())]
    for name, values in zip(rows.schema.names, rows.columns, strict=True):
        pieces += _texts(values, json=name in json) if pa.types.is_string(values.type) else [_fixed(values)]
    joined = pc.binary_join_element_wise(*pieces, _NOTHING)
    _, offsets, data = joined.buffers()
    ends = pa.Array.from_buffers(pa.int64(), len(joined) + 1, [None, offsets], offset=joined.offset)
    first, last = ends[0].as_py(), ends[len(joined)].as_py()
    return bytes(data.slice(first, last - first).to_pybytes())


def _texts(values: pa.Array, *, json: bool) -> list[pa.Array]:
    """Return the lengths of texts and the texts; a jsonb begins with the number of its format."""
    lengths = pc.add(pc.binary_length(values), 1 if json else 0).fill_null(-1)
    texts = values.cast(pa.large_binary())
    if json:
        texts = pc.binary_join_element_wise(pa.scalar(b"\1", pa.large_binary()), texts, _NOTHING)
    return [_as_binary(lengths.to_numpy(zero_copy_only=False).astype(">i4")), texts.fill_null(b"")]


def _fixed(values: pa.Array) -> pa.Array:
    """Return lengths and values of a type whose values are all equally long."""
    nought = pa.Array.from_buffers(values.type, 1, [None, pa.py_buffer(bytes(16))])[0]  # no bit is set in any type
    known = values.fill_null(nought)
    fields = _number(known) if not pa.types.is_decimal(values.type) else _numeric(known)
    packed = np.empty(len(values), [("length", ">i4"), *((f"part{n}", part.dtype) for n, part in enumerate(fields))])
    packed["length"] = packed.dtype.itemsize - 4
    for number, part in enumerate(fields):
        packed[f"part{number}"] = part
    whole = _as_binary(packed)
    return whole if not values.null_count else pc.if_else(pc.is_valid(values), whole, _NULL)


def _number(values: pa.Array) -> list[np.ndarray]:
    kind = values.type
    if pa.types.is_date32(kind):
        return [(values.cast(pa.int32()).to_numpy() - _DAYS).astype(">i4")]
    if pa.types.is_timestamp(kind):
        return [(values.cast(pa.int64()).to_numpy() - _MICROSECONDS).astype(">i8")]
    if pa.types.is_boolean(kind):
        return [values.to_numpy(zero_copy_only=False).astype("u1")]
    written = values.to_numpy()
    return [written.astype(written.dtype.newbyteorder(">"))]


def _numeric(values: pa.Array) -> list[np.ndarray]:
    """Return the parts of NUMERIC: how many digits, the weight of the first, sign, decimals, and the digits."""
    kind = values.type
    whole, decimals = (-(-digits // _GROUP) for digits in (kind.precision - kind.scale, kind.scale))
    plain = pa.decimal128(38, 0)  # the same 128 bits, read without the decimal point
    unscaled = pa.Array.from_buffers(plain, len(values), values.buffers(), offset=values.offset)
    digits = pc.binary_join_element_wise(pc.abs(unscaled).cast(pa.string()), "0" * (decimals * _GROUP - kind.scale), "")
    digits = pc.utf8_lpad(digits, (whole + decimals) * _GROUP, "0")
    negative = pc.less(unscaled, pa.scalar(0).cast(plain)).to_numpy(zero_copy_only=False)
    rows = len(values)
    parts = [
        np.full(rows, whole + decimals, ">i2"), np.full(rows, whole - 1, ">i2"),
        np.where(negative, 0x4000, 0).astype(">u2"), np.full(rows, kind.scale, ">i2"),
    ]  # fmt: skip
    for place in range(whole + decimals):
        group = pc.utf8_slice_codeunits(digits, place * _GROUP, (place + 1) * _GROUP)
        parts.append(group.cast(pa.int16()).to_numpy().astype(">i2"))
    return parts


def _as_binary(values: np.ndarray) -> pa.Array:
    """Return the bytes of each value."""
    size = values.dtype.itemsize
    offsets = np.arange(0, (len(values) + 1) * size, size, dtype=np.int64)
    return pa.Array.from_buffers(
        pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(values.tobytes())]
    )
