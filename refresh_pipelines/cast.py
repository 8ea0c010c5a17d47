"""Text columns into typed ones, whole columns at a time; bad values become null and are marked."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines import limits
from refresh_pipelines.bytewise import Bytes, bytes_of, shortest_longest, trimmed
from refresh_pipelines.spec import Column
from refresh_pipelines.zone import instants

# What ends in Z or an offset; of a day alone, 2024-01-01, -01 is none.
_WITH_OFFSET = r"[T ][0-9:.]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
# Python and PostgreSQL know no year 0.
_FIRST = datetime(1, 1, 1)  # noqa: DTZ001 - compared with times of every kind
# What stands for itself, a set of characters, or the bracket that begins a group without a name.
_BRACKETS = re.compile(r"\\.|\[\^?\]?[^\]]*\]|\((?!\?)", re.DOTALL)
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
# Characters; a decimal has at most 38 digits, and Arrow miscounts from 77 on.
_LONGEST_NUMBER = 76


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a declared type; json travels as text."""
    found = re.fullmatch(r"decimal\((\d+),(\d+)\)", name)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _TYPES[name]


def cast_text(text: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    """Return the typed values and a mask of those that are bad: unreadable, or not what the column demands.

    Empty text and the declared missing codes are null, which is not bad.
    """
    text = _without_missing(text, column)
    values = _typed(text, column)
    bad = pc.and_(pc.is_valid(text), pc.is_null(values))
    for broken in limits.broken(values, column, _typed):
        bad = pc.or_(bad, broken.fill_null(False))
    return values, bad


def extracted(text: pa.Array, expression: str) -> pa.Array:
    """Return what the one group of a regular expression finds in each text; null where it finds nothing."""
    # Arrow wants the group to have a name.
    named = _BRACKETS.sub(lambda found: "(?P<found>" if found[0] == "(" else found[0], expression)
    return pc.struct_field(pc.extract_regex(text, named), [0]).cast(pa.string())


def time_trouble(text: str, column: Column) -> str:
    """Return why a local time is refused that can be read: what the clocks of its zone do then; "" for others."""
    if column.timezone is None:
        return ""
    for key, rule, what in (("ambiguous", "first", "comes twice"), ("nonexistent", "shift", "is skipped")):
        if getattr(column, key) == "refuse" and _reads(text, column.model_copy(update={key: rule})):
            return f"a time that {what} when clocks are set"
    return ""


def _reads(text: str, column: Column) -> bool:
    return bool(_typed(_without_missing(pa.array([text], pa.string()), column), column)[0].is_valid)


def _without_missing(text: pa.Array, column: Column) -> pa.Array:
    if column.strip:
        text = trimmed(text, bytes_of(text))
    codes = {"", *column.missing}
    if codes == {""} and shortest_longest(text)[0]:
        return text
    missing = pc.is_in(text, value_set=pa.array(sorted(codes), pa.string()))
    return _where(pc.invert(missing), text) if pc.any(missing).as_py() else text


def _typed(text: pa.Array, column: Column) -> pa.Array:
    seen = bytes_of(text)
    if column.type == "text":
        return _without_nul(text, seen)
    if column.type == "json":
        return _valid_json(text)
    kind = arrow_type(column.type)
    if column.timezone:
        return _local(text, column, kind)
    if column.format:
        return _strptime(text, column.format, kind)
    if column.type in ("int", "bigint"):
        return _integers(text, kind, seen)
    if pa.types.is_decimal(kind) and shortest_longest(text)[1] > _LONGEST_NUMBER:
        # Arrow reads too many digits as some other number, and says nothing.
        text = _where(pc.less_equal(pc.utf8_length(text), _LONGEST_NUMBER), text)
    if column.type in ("date", "timestamp", "timestamptz"):
        text = _after_year_0(text)
    values = _cast(text, kind)
    return _kept(pc.is_finite(values), values) if column.type == "double" else values


def _integers(text: pa.Array, kind: pa.DataType, seen: Bytes) -> pa.Array:
    if seen.of_integers:
        with suppress(pa.ArrowInvalid):
            return pc.cast(text, kind)
    # Arrow would also read 0x1f, and no plus sign.
    text = _where(pc.match_substring_regex(text, r"^[+-]?[0-9]+$"), pc.replace_substring_regex(text, r"^\+", ""))
    return _cast(text, kind)


def _after_year_0(text: pa.Array) -> pa.Array:
    # Checked on the text, before anything turns the value into a Python one.
    return _kept(pc.invert(pc.starts_with(text, "0000")), text)


def _local(text: pa.Array, column: Column, kind: pa.DataType) -> pa.Array:
    """Read times of a zone; those that bring an offset of their own are what it says."""
    naive = pa.timestamp("us")
    if column.format:
        local, exact = _strptime(text, column.format, naive), pa.nulls(len(text), kind)
    else:
        text = _after_year_0(text)
        with_offset = pc.match_substring_regex(text, _WITH_OFFSET).fill_null(False)
        local = _cast(_where(pc.invert(with_offset), text), naive)
        exact = _cast(_where(with_offset, text), kind) if pc.any(with_offset).as_py() else pa.nulls(len(text), kind)
    return pc.coalesce(exact, instants(local, str(column.timezone), column.ambiguous, column.nonexistent))


def _kept(condition: pa.Array, values: pa.Array) -> pa.Array:
    """Return the values without those that break a condition, which is null where they are; mostly there are none."""
    return values if pc.all(condition).as_py() else _where(condition, values)


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


def _strptime(text: pa.Array, pattern: str, kind: pa.DataType) -> pa.Array:
    """Parse by format, and refuse what only parses by accident: 2023-02-31, or text left over."""
    # In whole seconds, as strptime reads them: strftime would write fractions of finer units.
    moment = pc.strptime(text, format=pattern, unit="s", error_is_null=True)
    again = pc.strftime(moment, format=pattern)
    same = pc.and_(pc.equal(_plain(again), _plain(text)), pc.greater_equal(moment, pa.scalar(_FIRST, moment.type)))
    return _where(same, moment).cast(kind)


def _plain(text: pa.Array) -> pa.Array:
    """Lower case, without leading zeros of numbers: 02/05 and 2/5 are one date."""
    return pc.replace_substring_regex(pc.utf8_lower(text), r"(^|[^0-9])0+([0-9])", r"\1\2")


def _without_nul(text: pa.Array, seen: Bytes) -> pa.Array:
    # PostgreSQL cannot store NUL; one rule for every warehouse.
    return text if seen.least else _where(pc.invert(pc.match_substring(text, "\0")), text)


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
