"""Dropped files as one set of rows: each read and judged by itself, then the last word for each key.

Within one file the source's rule for duplicates holds. Of several files the one that arrived last
speaks, in the same run as in different ones, so that it does not matter how files fall into runs.

All files share one Arrow file and one calculator: a thousand small ones would otherwise spend their
time on opening and closing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from refresh_pipelines.contract import Contract
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drift import Drift, widened
from refresh_pipelines.drop.shelf import FILE, Shelf, shelf_schema, write_rows
from refresh_pipelines.errors import InternalError, Interrupted, RefreshError, UpstreamRefused
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.rejects import Rejects, read_rejects, rejects_schema, with_rejects, write_rejects
from refresh_pipelines.rowfile import fitted
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import columns, first_row
from refresh_pipelines.stage import Part, Staged, naming, rejects_path, require_number, require_rows
from refresh_pipelines.window import Window

_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class _Read:
    """One file that will do: its place among the parts, what was counted, and the shelf its rows lie on."""

    place: int
    part: Part
    fetched: int
    filtered: int
    shelf: Shelf
    rejects: Rejects
    fields: Mapping[str, str]
    duplicates: int = 0

    @property
    def rows(self) -> int:
        return self.fetched - self.rejects.rows - self.duplicates


def stage_files(
    spec: SourceSpec, answer: Delivery, window: Window, rows: Path, notes: Notes
) -> tuple[Staged, Delivery]:
    """Read the parts of a drop's delivery; return the rows, and the delivery with what became of each file.

    A file that will not do is refused and joins `missing`.

    Raises:
        Interrupted, InternalError: at once; neither is the file's doing.
    """
    bad: dict[str, RefreshError] = {}
    every, again = Shelf(rows.with_suffix(".every"), spec), Shelf(rows.with_suffix(".again"), spec)
    read = _read_all(spec, answer.parts, window, notes, every, bad)
    evolved = {name: field for one in read for name, field in one.fields.items()}
    declared, spec = spec, widened(spec, evolved)
    with calculator(rows.with_suffix(".spill")) as connection:
        keys = _count_keys(connection, spec, read)
        if keys < sum(one.rows for one in read) or spec.expect.present:
            read = _look_closer(connection, spec, read, again, bad)
            keys = _count_keys(connection, spec, read)
        loaded = _write_last(connection, spec, read, keys, rows)
        every.remove()
        again.remove()
        unique = measure(connection, spec, (), rows)  # which are unique by now
    counts = {one.part.names["file"]: (one.fetched, loaded.get(one.place, 0), one.rejects.rows) for one in read}
    fetched, rejected = sum(one.fetched for one in read), sum(one.rejects.rows for one in read)
    filtered = sum(one.filtered for one in read)
    staged = Staged(rows, unique.rows, fetched, filtered, fetched - rejected - unique.rows, unique.hash)
    return _with_rejected(declared, replace(staged, evolved=evolved), read), _with_verdicts(answer, bad, counts)


def _with_rejected(spec: SourceSpec, staged: Staged, read: Sequence[_Read]) -> Staged:
    """Put the rejected rows of all files into one file beside the accepted ones."""
    tables = [table for one in read if one.rejects.rows and (table := read_rejects(one.rejects.path)) is not None]
    if not tables:
        return staged
    path = rejects_path(staged.path)
    write_rejects(path, rejects_schema(spec), tables)
    for one in read:
        one.rejects.path.unlink(missing_ok=True)
    return replace(
        staged,
        content_hash=with_rejects(staged.content_hash, sum(one.rejects.digest for one in read)),
        rejected=sum(one.rejects.rows for one in read),
        rejects=path,
        unreadable=sum(one.rejects.unreadable for one in read),
    )


def _read_all(
    spec: SourceSpec, parts: Sequence[Part], window: Window, notes: Notes, shelf: Shelf, bad: dict[str, RefreshError]
) -> list[_Read]:
    read = []
    drift = Drift(spec)
    with shelf.writing():
        for place, part in enumerate(parts):
            with _refusing(part, bad):
                read.append(_read(spec, part, place, window, notes, shelf, drift))
            part.path.unlink()  # read once; a thousand files need not lie here together
    return read


def _read(spec: SourceSpec, part: Part, place: int, window: Window, notes: Notes, shelf: Shelf, drift: Drift) -> _Read:
    """Put the rows of one file on the shelf. What a bad file leaves there is never looked at."""
    rejects = Rejects(shelf.path.with_suffix(f".rejects-{place}"), spec)
    contract = Contract(spec, window, notes, part.names.keys(), rejects, drift)
    tally, here = contract.tally, replace(window, names={**window.names, **part.names})
    try:
        with rejects:
            shelf.put(place, contract.take(parse(spec, part.path, here, notes), part.names))
        contract.conclude()
        require_number(spec, tally.fetched - tally.rejected, tally.filtered)
    except RefreshError:
        rejects.path.unlink(missing_ok=True)
        raise
    return _Read(place, part, tally.fetched, tally.filtered, shelf, rejects, contract.fields)


@contextmanager
def _refusing(part: Part, bad: dict[str, RefreshError]) -> Iterator[None]:
    """Write down what is wrong with a file, and go on behind it."""
    try:
        with naming(part.names):
            yield
    except (Interrupted, InternalError):
        raise
    except RefreshError as error:
        bad[part.names["file"]] = _final(error)


def _final(error: RefreshError) -> RefreshError:
    """Return an error that nobody tries again at once: a file that lies there whole is not cut short on the way."""
    error.todo = error.todo.replace("Nothing was loaded.", "Nothing of this file was loaded.")
    if not error.retryable:
        return error
    again = "Drop it again once it is whole: a changed file is read by itself."
    return UpstreamRefused(error.problem, expected=error.expected, came=error.came, todo=again)


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, read: Sequence[_Read]) -> Iterator[None]:
    """Let queries see the rows of these files as `every_file`."""
    schema = shelf_schema(spec)
    connection.register("every_file", pa.Table.from_batches((fitted(one, schema) for one in _batches(read)), schema))
    try:
        yield
    finally:
        connection.unregister("every_file")


def _count_keys(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, read: Sequence[_Read]) -> int:
    query = f"SELECT count(*) FROM (SELECT 1 FROM every_file GROUP BY {columns(spec.merge_key)})"  # noqa: S608 - quoted identifiers
    with _registered(connection, spec, read):
        return int((first_row(connection, query) or (0,))[0])


def _look_closer(
    connection: duckdb.DuckDBPyConnection,
    spec: SourceSpec,
    read: Sequence[_Read],
    again: Shelf,
    bad: dict[str, RefreshError],
) -> list[_Read]:
    """Judge one by one the files that hold a key twice; return those that will do, with their unique rows."""
    with _registered(connection, spec, read):
        keys = dict(connection.execute(
            f"SELECT {FILE}, count(*) FROM (SELECT {FILE} FROM every_file GROUP BY {FILE}, {columns(spec.merge_key)})"  # noqa: S608
            " GROUP BY ALL"
        ).fetchall())  # fmt: skip
    out = []
    with again.writing():
        for one in read:
            if keys.get(one.place, 0) == one.rows and not spec.expect.present:
                out.append(one)
                continue
            with _refusing(one.part, bad):
                out.append(_unique(connection, spec, one, again))
    return out


def _unique(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, one: _Read, again: Shelf) -> _Read:
    path = again.path.with_suffix(".one")
    try:
        write_rows(path, spec, one.shelf.batches(one.place))
        unique = measure(connection, spec, spec.merge_key, path)
        fetched = one.fetched - one.rejects.rows
        staged = Staged(path, unique.rows, fetched, one.filtered, unique.duplicates, unique.hash)
        require_rows(spec, staged)
        again.put(one.place, staged.table().to_batches())
    finally:
        path.unlink(missing_ok=True)
    return replace(one, shelf=again, duplicates=unique.duplicates)


def _write_last(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, read: Sequence[_Read], keys: int, rows: Path
) -> dict[int, int]:
    """Write one row for each key to `rows`; return how many each file has brought, by its place.

    Args:
        keys: different keys in these files.
    """
    if keys == sum(one.rows for one in read):
        write_rows(rows, spec, _batches(read))
        return {one.place: one.rows for one in read}
    names, counts = columns(spec.merge_key), Counter[int]()
    # Only the keys are held in memory; a window over whole rows takes four times as long.
    last = (
        f"SELECT {columns(tuple(spec.columns), 'e.')}, e.{FILE} FROM every_file e"  # noqa: S608 - quoted identifiers
        f" JOIN (SELECT {names}, max({FILE}) AS {FILE} FROM every_file GROUP BY {names}) l USING ({names}, {FILE})"
    )

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in connection.sql(last).to_arrow_reader(_ROWS_AT_ONCE):
            counts.update({found["values"]: found["counts"] for found in batch.column(FILE).value_counts().to_pylist()})
            yield batch

    with _registered(connection, spec, read):
        write_rows(rows, spec, counted())
    return counts


def _batches(read: Sequence[_Read]) -> Iterator[pa.RecordBatch]:
    return (batch for one in read for batch in one.shelf.batches(one.place))


def _with_verdicts(answer: Delivery, bad: dict[str, RefreshError], counts: dict[str, tuple[int, int, int]]) -> Delivery:
    """Return the delivery without the parts that were refused, and with an entry for each file."""
    entries = []
    for entry in answer.files:
        if error := bad.get(entry.key):
            entry = replace(  # noqa: PLW2901
                entry, status="refused", rows_in=error.fetched, rows_rejected=error.rejected, reason=str(error)
            )
        elif entry.key in counts:
            fetched, loaded, rejected = counts[entry.key]
            entry = replace(entry, rows_in=fetched, rows_loaded=loaded, rows_rejected=rejected)  # noqa: PLW2901
        entries.append(entry)
    return replace(
        answer,
        parts=tuple(part for part in answer.parts if part.names["file"] not in bad),
        missing=(*answer.missing, *bad.items()),
        files=tuple(entries),
    )
