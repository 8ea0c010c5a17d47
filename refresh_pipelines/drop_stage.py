"""Dropped files as one set of rows: each read and judged by itself, then the last word for each key.

Within one file the source's rule for duplicates holds. Of several files the one that arrived last
speaks, in the same run as in different ones, so that it does not matter how files fall into runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from refresh_pipelines.contract import staged_schema
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.errors import InternalError, Interrupted, RefreshError, UpstreamRefused
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import columns
from refresh_pipelines.stage import Part, Staged, naming, require_rows, stage
from refresh_pipelines.window import Window

_FILE = "_file"
_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class _Read:
    """One file that was read: its place among the parts, and what `stage` says of it."""

    place: int
    staged: Staged


def stage_files(
    spec: SourceSpec, answer: Delivery, window: Window, rows: Path, notes: Notes
) -> tuple[Staged, Delivery]:
    """Read the parts of a drop's delivery; return the rows, and the delivery with what became of each file.

    A file that will not do is refused and joins `missing`.

    Raises:
        Interrupted, InternalError: at once; neither is the file's doing.
    """
    every = rows.with_suffix(".every")
    schema = staged_schema(spec).append(pa.field(_FILE, pa.int32()))
    read: list[_Read] = []
    bad: dict[str, RefreshError] = {}
    with pa.OSFile(str(every), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for place, part in enumerate(answer.parts):
            try:
                staged = _stage_one(spec, part, window, rows.with_suffix(".one"), notes)
            except (Interrupted, InternalError):
                raise
            except RefreshError as error:
                bad[part.names["file"]] = _final(error)
                continue
            finally:
                part.path.unlink()  # read once; a thousand files need not lie here together
            for batch in _marked(staged, place, schema):
                writer.write_batch(batch)
            read.append(_Read(place, staged))
    staged, loaded = _unite(spec, every, rows, read)
    counts = {answer.parts[one.place].names["file"]: (one.staged, loaded.get(one.place, 0)) for one in read}
    return staged, _with_verdicts(answer, bad, counts)


def _stage_one(spec: SourceSpec, part: Part, window: Window, path: Path, notes: Notes) -> Staged:
    with naming(part.names):
        staged = stage(spec, [part], window, path, notes)
        require_rows(spec, staged)
    return staged


def _final(error: RefreshError) -> RefreshError:
    """Return an error that nobody tries again at once: a file that lies there whole is not cut short on the way."""
    error.todo = error.todo.replace("Nothing was loaded.", "Nothing of this file was loaded.")
    if not error.retryable:
        return error
    again = "Drop it again once it is whole: a changed file is read by itself."
    return UpstreamRefused(error.problem, expected=error.expected, came=error.came, todo=again)


def _marked(staged: Staged, place: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows with its place."""
    with pa.memory_map(str(staged.path)) as source:
        file = pa.ipc.open_file(source)
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            places = pa.repeat(pa.scalar(place, pa.int32()), batch.num_rows)
            yield pa.RecordBatch.from_arrays([*batch.columns, places], schema=schema)


def _unite(spec: SourceSpec, every: Path, rows: Path, read: list[_Read]) -> tuple[Staged, dict[int, int]]:
    """Write one row for each key to `rows`; return them, and how many each file has brought."""
    with calculator(rows.with_suffix(".spill")) as connection:
        with pa.memory_map(str(every)) as source:
            connection.register("every_file", pa.ipc.open_file(source).read_all())
            try:
                loaded = _write_last(connection, spec, rows)
            finally:
                connection.unregister("every_file")
        every.unlink()
        unique = measure(connection, spec, spec.merge_key, rows)
    before = sum(one.staged.rows for one in read)
    staged = Staged(
        path=rows,
        rows=unique.rows,
        fetched=sum(one.staged.fetched for one in read),
        filtered=sum(one.staged.filtered for one in read),
        duplicates=sum(one.staged.duplicates for one in read) + before - unique.rows,
        content_hash=unique.hash,
    )
    return staged, loaded


def _write_last(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, rows: Path) -> dict[int, int]:
    last = (
        f"SELECT * FROM every_file QUALIFY row_number() OVER"  # noqa: S608 - quoted identifiers
        f" (PARTITION BY {columns(spec.merge_key)} ORDER BY {_FILE} DESC) = 1"
    )
    schema = staged_schema(spec)
    counts: dict[int, int] = {}
    reader = connection.sql(last).to_arrow_reader(_ROWS_AT_ONCE)
    with pa.OSFile(str(rows), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in reader:
            for found in batch.column(_FILE).value_counts().to_pylist():
                counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
            writer.write_batch(batch.drop_columns([_FILE]).cast(schema))
    return counts


def _with_verdicts(answer: Delivery, bad: dict[str, RefreshError], counts: dict[str, tuple[Staged, int]]) -> Delivery:
    """Return the delivery without the parts that were refused, and with an entry for each file."""
    entries = []
    for entry in answer.files:
        if error := bad.get(entry.key):
            entry = replace(  # noqa: PLW2901
                entry, status="refused", rows_in=error.fetched, rows_rejected=error.rejected, reason=str(error)
            )
        elif entry.key in counts:
            staged, loaded = counts[entry.key]
            entry = replace(entry, rows_in=staged.fetched, rows_loaded=loaded)  # noqa: PLW2901
        entries.append(entry)
    return replace(
        answer,
        parts=tuple(part for part in answer.parts if part.names["file"] not in bad),
        missing=(*answer.missing, *bad.items()),
        files=tuple(entries),
    )
