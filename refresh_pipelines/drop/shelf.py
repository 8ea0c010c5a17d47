"""Rows of many dropped files in one Arrow file, each file's found by its place among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from refresh_pipelines.contract import staged_schema
from refresh_pipelines.errors import InternalError
from refresh_pipelines.rowfile import RowFile, fitted
from refresh_pipelines.spec import SourceSpec

FILE = "_file"
# Batches of a few rows, as small files bring them, are joined up to this size: each costs every later reader.
_ROWS_AT_ONCE = 20_000


def shelf_schema(spec: SourceSpec) -> pa.Schema:
    """Return the declared columns, and `_file`."""
    return staged_schema(spec).append(pa.field(FILE, pa.int32()))


class Shelf:
    """The Arrow file at `path`: the declared columns, the place of the file as column `_file`, and undeclared fields.

    It is written once, then read from where it lies on disk.
    """

    def __init__(self, path: Path, spec: SourceSpec) -> None:
        self.path, self._start = path, shelf_schema(spec)
        self._places: dict[int, range] = {}
        self._written = 0
        self._writer: RowFile | None = None
        self._reader: pa.ipc.RecordBatchFileReader | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let `put` be used; what was put can be read behind it."""
        with RowFile(self.path, self._start).writing() as self._writer:
            yield
        self._writer = None

    def put(self, place: int, batches: Iterable[pa.RecordBatch]) -> None:
        """Write the rows of one file. Where `batches` raises, what was written so far is found by nobody."""
        if self._writer is None:
            raise InternalError(f"the shelf {self.path.name} is not open")
        begin = self._written
        for batch in batches:
            places = pa.repeat(pa.scalar(place, pa.int32()), batch.num_rows)
            schema = batch.schema.append(pa.field(FILE, places.type))
            self._writer.write(pa.RecordBatch.from_arrays([*batch.columns, places], schema=schema))
            self._written += 1
        self._places[place] = range(begin, self._written)

    def batches(self, place: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one file, mapped from disk."""
        if self._reader is None:
            self._reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        for number in self._places[place]:
            yield self._reader.get_batch(number)

    def remove(self) -> None:
        """Give the disk space back. Rows that somebody still holds stay readable."""
        self._reader = None
        self.path.unlink(missing_ok=True)


def write_rows(path: Path, spec: SourceSpec, batches: Iterable[pa.RecordBatch]) -> None:
    """Write rows from shelves to an Arrow file of the declared columns."""
    schema = staged_schema(spec)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for table in _joined(batches):
            for batch in table.combine_chunks().to_batches():
                writer.write_batch(fitted(batch, schema))


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    some: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        some.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(some)
            some, rows = [], 0
    if some:
        yield pa.Table.from_batches(some)
