"""A payload into rows, by the engine's own parsers, and those into a draft of the source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.body import lookup
from refresh_pipelines.cast import cast_text
from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.scaffold.columns import Guess, guess_columns
from refresh_pipelines.scaffold.keys import KeyGuess, guess_key, judge_key
from refresh_pipelines.scaffold.recognise import Hints, recognise
from refresh_pipelines.spec import Column, Format, SourceSpec
from refresh_pipelines.window import Window

_DEPTH = 4


@dataclass(frozen=True)
class Reading:
    """What a payload was found to be.

    Attributes:
        rows: number of rows seen.
        left_out: fields that no column can name.
    """

    form: Format
    columns: tuple[Guess, ...]
    key: KeyGuess
    rows: int
    left_out: tuple[str, ...] = ()


def read_payload(path: Path, probe: SourceSpec, hints: Hints | None = None, key: Sequence[str] = ()) -> Reading:
    """Recognise a payload and guess columns and merge key from all of its rows.

    Args:
        probe: where it came from; its format and columns are not looked at.
        key: columns that somebody named, by the payload's names or ours.

    Raises:
        UpstreamRefused: it is none we read, or holds no rows, or `key` names no column of it.
        RefreshError: it is damaged, or no regular table under any reading.
    """
    first: RefreshError | None = None
    for form in recognise(path, probe.request.max_unpacked, hints):
        try:
            table, left_out = _rows(path, probe, form)
        except ContractViolation as error:
            first = first or error
            continue
        guesses = guess_columns(table)
        rows = pa.table({guess.name: _typed(table, guess) for guess in guesses})
        if form.kind == "csv" and guesses:
            rows = rows.filter(_filled(rows))
        if not rows.num_rows or not guesses:
            raise UpstreamRefused(
                "the payload holds no rows to learn from",
                expected="a header and at least one row",
                came="fields " + (", ".join(table.column_names) or "none"),
                todo="Give an address or a file with rows, or say --no-header if the first line is one.",
            )
        chosen = judge_key(rows, _named(key, guesses)) if key else guess_key(rows, guesses)
        return Reading(form, tuple(guesses), chosen, rows.num_rows, left_out)
    raise UpstreamRefused(
        "the payload is no regular table",
        came=first.came if first else "no row",
        todo="Rows of several widths need a parser (docs/add-a-source.md), or a --file that holds only the table.",
    )


def probe_with(probe: SourceSpec, form: Format, fields: Iterable[str] = ()) -> SourceSpec:
    """Return the probe with a format, and each field as a column of text."""
    columns = {f"c{i}": Column(type="text", source=field) for i, field in enumerate(fields)}
    return probe.model_copy(update={"format": form, "columns": columns or probe.columns})


def _rows(path: Path, probe: SourceSpec, form: Format) -> tuple[pa.Table, tuple[str, ...]]:
    """Return all rows as text under the fields that columns can be read from, and the other fields."""
    if form.kind == "csv":
        batches = list(parse(probe_with(probe, form), path, Window(), Notes()))
        return pa.Table.from_batches(batches), ()
    fields = list(_fields(_objects(path, probe, form)))
    usable = [field for field in fields if field and not (field.startswith("{") and field.endswith("}"))]
    batches = list(parse(probe_with(probe, form, usable), path, Window(), Notes()))
    table = pa.Table.from_batches(batches).select(usable)
    return table, tuple(field for field in fields if field not in usable)


def _objects(path: Path, probe: SourceSpec, form: Format) -> list[dict[str, Any]]:
    with open_payload(form, path, probe.request.max_unpacked) as stream:
        found = lookup(json.loads(stream.read()), form.rows)
    return [row for row in found if isinstance(row, dict)]


def _fields(rows: list[dict[str, Any]], depth: int = 1) -> Iterator[str]:
    """Yield the members of the rows, and in place of those that are always objects their own members."""
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if row.get(name) is not None]
        inner = [value for value in values if isinstance(value, dict)]
        nested = inner and len(inner) == len(values) and depth < _DEPTH and any(inner) and "." not in name and name
        below = list(_fields(inner, depth + 1)) if nested else []
        if below and all(below) and not any("." in member for value in inner for member in value):
            yield from (f"{name}.{field}" for field in below)
        else:
            yield name


def _typed(table: pa.Table, guess: Guess) -> pa.Array:
    values = cast_text(table[guess.field].combine_chunks(), guess.column)[0]
    # Warehouses take -0.0 and 0.0 for one value, Arrow does not.
    return pc.add(values, 0.0) if guess.column.type == "double" else values


def _filled(rows: pa.Table) -> pa.ChunkedArray:
    """Return which rows have any value: of a CSV the others are none."""
    masks = [pc.is_valid(column) for column in rows.columns]
    return reduce(pc.or_, masks)


def _named(key: Sequence[str], guesses: Sequence[Guess]) -> tuple[str, ...]:
    known = {guess.field: guess.name for guess in guesses} | {guess.name: guess.name for guess in guesses}
    unknown = [name for name in key if name not in known]
    if unknown:
        raise UpstreamRefused(
            f"--key names no column {', '.join(unknown)}", came=", ".join(guess.name for guess in guesses)
        )
    return tuple(dict.fromkeys(known[name] for name in key))
