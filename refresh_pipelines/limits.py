"""What a value may be once it is typed: bounds, a list of values, a pattern, a length. Whole columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines.spec import Column

# Casts texts to a column's type; null for what cannot be read.
Cast = Callable[[pa.Array, Column], pa.Array]
_MOST_SHOWN = 12


def broken(values: pa.Array, column: Column, cast: Cast) -> Iterator[pa.Array]:
    """Yield for each demand of the column which values break it; null where there is no value."""
    if column.min is not None or column.max is not None:
        yield from _out_of_range(values, column, cast)
    if column.enum:
        allowed = _texts(cast, column, column.enum)
        yield pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, value_set=allowed)))
    if column.pattern is not None:
        yield pc.invert(_matches(values, column.pattern))
    if column.max_length is not None:
        yield pc.greater(pc.utf8_length(values), column.max_length)


def _out_of_range(values: pa.Array, column: Column, cast: Cast) -> Iterator[pa.Array]:
    if column.type.startswith(("date", "timestamp")):
        ends = [None if bound is None else _texts(cast, column, (str(bound),))[0] for bound in (column.min, column.max)]
    else:
        values, ends = pc.cast(values, pa.float64(), safe=False), [column.min, column.max]
    low, high = ends
    if low is not None:
        yield pc.less(values, low)
    if high is not None:
        yield pc.greater(values, high)


@lru_cache(maxsize=256)
def _plain(kind: str, zone: str | None) -> Column:
    """Return a column whose values are written as a YAML file has them, of whatever format the payload's are."""
    if kind != "timestamptz":
        return Column(type=kind)
    return Column(type=kind, timezone=zone or "UTC", ambiguous="first", nonexistent="shift")


def _texts(cast: Cast, column: Column, texts: tuple[str, ...]) -> pa.Array:
    return cast(pa.array(texts, pa.string()), _plain(column.type, column.timezone))


def _matches(values: pa.Array, pattern: str) -> pa.Array:
    try:
        return pc.match_substring_regex(values, rf"\A(?:{pattern})\z")
    except pa.ArrowInvalid as error:
        raise SpecChanged(
            f"the pattern {pattern!r} cannot be used",
            expected="a regular expression in RE2's syntax",
            came=" ".join(str(error).split())[:300],
            todo="Nothing was loaded. Correct `pattern` in the YAML.",
        ) from error


def demand(column: Column, *, required: bool) -> str:
    """Return in words what a value of the column is."""
    parts = [column.type + (f" of format {column.format}" if column.format else "")]
    if column.timezone:
        parts[0] += f" in {column.timezone}"
    if required:
        parts.append("not empty")
    parts += _range(column)
    if column.enum:
        rest = len(column.enum) - _MOST_SHOWN
        parts.append("one of " + " ".join(column.enum[:_MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else ""))
    if column.pattern is not None:
        parts.append(f"of the pattern {column.pattern}")
    if column.max_length is not None:
        parts.append(f"of at most {column.max_length} characters")
    return ", ".join(parts)


def _range(column: Column) -> list[str]:
    low, high = (f"{bound:.15g}" if isinstance(bound, float) else bound for bound in (column.min, column.max))
    if low is not None and high is not None:
        return [f"from {low} to {high}"]
    return [f"at least {low}"] if low is not None else [f"at most {high}"] if high is not None else []
