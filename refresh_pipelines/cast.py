"""Text columns into typed ones, whole columns at a time; bad values become null and are marked."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.spec import Column

# Python and PostgreSQL know no year 0.
_FIRST = datetime(1, 1, 1)  # noqa: DTZ001 - compared with times of every kind
_TYPES = {
    "text": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "json": pa.string(),
}


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a declared type; json travels as text."""
    found = re.fullmatch(r"decimal\((\d+),(\d+)\)", name)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _TYPES[name]


def cast_text(text: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    """Return the typed values and a mask of those that are bad (unreadable or out of range).

    Empty text and the declared missing codes are null, which is not bad.
    """
    text = _without_missing(text, column)
    values = _typed(text, column)
    bad = pc.and_(pc.is_valid(text), pc.is_null(values))
    out_of_range = _out_of_range(values, column)
    if out_of_range is not None:
        bad = pc.or_(bad, out_of_range.fill_null(False))
    return values, bad


def _without_missing(text: pa.Array, column: Column) -> pa.Array:
    if column.strip:
        text = pc.utf8_trim_whitespace(text)
    codes = pa.array(["", *column.missing], pa.string())
    return pc.if_else(pc.is_in(text, value_set=codes), pa.scalar(None, pa.string()), text)


def _typed(text: pa.Array, column: Column) -> pa.Array:
    if column.type == "text":
        return _without_nul(text)
    if column.type == "json":
        return _valid_json(text)
    if column.format:
        return _strptime(text, column)
    kind = arrow_type(column.type)
    if column.type in ("int", "bigint"):
        # Arrow would also read 0x1f.
        text = _where(pc.match_substring_regex(text, r"^[+-]?[0-9]+$"), pc.replace_substring_regex(text, r"^\+", ""))
    if column.type in ("date", "timestamp", "timestamptz"):
        # Checked on the text, before anything turns the value into a Python one.
        text = _where(pc.invert(pc.starts_with(text, "0000")), text)
    values = _cast(text, kind)
    return _where(pc.is_finite(values), values) if column.type == "double" else values


def _where(condition: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(condition.fill_null(False), values, pa.scalar(None, values.type))


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return pc.cast(text, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _cast_each(text, kind)


def _cast_each(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast distinct values one by one: the way to find the bad ones."""
    encoded = text.dictionary_encode()
    values = []
    for value in encoded.dictionary:
        try:
            values.append(pc.cast(value, kind).as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values.append(None)
    return pa.array(values, kind).take(encoded.indices)


def _strptime(text: pa.Array, column: Column) -> pa.Array:
    """Parse by format, and refuse what only parses by accident: 2023-02-31, or text left over."""
    # In whole seconds, as strptime reads them: strftime would write fractions of finer units.
    moment = pc.strptime(text, format=column.format, unit="s", error_is_null=True)
    again = pc.strftime(moment, format=column.format)
    same = pc.and_(pc.equal(_plain(again), _plain(text)), pc.greater_equal(moment, pa.scalar(_FIRST, moment.type)))
    return _where(same, moment).cast(arrow_type(column.type))


def _plain(text: pa.Array) -> pa.Array:
    """Lower case, without leading zeros of numbers: 02/05 and 2/5 are one date."""
    return pc.replace_substring_regex(pc.utf8_lower(text), r"(^|[^0-9])0+([0-9])", r"\1\2")


def _without_nul(text: pa.Array) -> pa.Array:
    # PostgreSQL cannot store NUL; one rule for every warehouse.
    return _where(pc.invert(pc.match_substring(text, "\0")), text)


def _valid_json(text: pa.Array) -> pa.Array:
    return _where(pa.array([_is_json(value or "null") for value in text.to_pylist()], pa.bool_()), text)


def _is_json(text: str) -> bool:
    """Whether every warehouse takes it: no NaN, no NUL and no half of a surrogate pair, which Python all accepts."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
        plain = json.dumps(document, ensure_ascii=False)
        plain.encode()
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in plain.replace("\\\\", "")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _out_of_range(values: pa.Array, column: Column) -> pa.Array | None:
    if column.min is None and column.max is None:
        return None
    numbers = pc.cast(values, pa.float64(), safe=False)
    low = pc.less(numbers, column.min) if column.min is not None else None
    high = pc.greater(numbers, column.max) if column.max is not None else None
    return pc.or_kleene(low, high) if low is not None and high is not None else (low if low is not None else high)
