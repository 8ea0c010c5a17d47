"""Rows on their way to disk, in an Arrow file that takes more columns while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of a schema, in its order; those it lacks are null, others go."""
    if batch.schema == schema:
        return batch
    have = set(batch.schema.names)
    arrays = [
        batch.column(field.name) if field.name in have else pa.nulls(batch.num_rows, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class RowFile:
    """The Arrow file at `path`. Its batches stay those that were written, in their order and number."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self._sink: pa.OSFile | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    @contextmanager
    def writing(self) -> Iterator[RowFile]:
        """Let `write` be used; behind it the file is whole."""
        self._open(self.path)
        try:
            yield self
        finally:
            self._close()

    def require(self, schema: pa.Schema) -> None:
        """Add the columns that the file has not, null in all rows: a field may come with batches of no rows."""
        if self.schema != schema:
            self.write(pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema))

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. Columns the file has not are added to it, null in all rows before."""
        new = [field for field in batch.schema if self.schema.get_field_index(field.name) < 0]
        if new:
            self._widen(pa.schema([*self.schema, *new]))
        if self._writer is None:
            raise ValueError(f"{self.path.name} is not open")
        self._writer.write_batch(fitted(batch, self.schema))

    def _widen(self, schema: pa.Schema) -> None:
        """Write the file anew. A payload has all its fields in the first batch, or nearly always."""
        self._close()
        before = self.path.with_suffix(".narrow")
        self.path.replace(before)
        self.schema = schema
        self._open(self.path)
        with pa.memory_map(str(before)) as source, pa.ipc.open_file(source) as reader:
            for place in range(reader.num_record_batches):
                self.write(reader.get_batch(place))
        before.unlink()

    def _open(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self.schema)

    def _close(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None
