"""Rows of an Arrow file for DuckDB, read batch by batch in each scan.

A mapped file is memory of the process as soon as it is read: a payload of 1 GB took 0.8 GB of it, and takes none this
way. DuckDB asks an object with these methods (Arrow's PyCapsule interface) for a new stream in every scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from refresh_pipelines.rowfile import fitted


@dataclass(frozen=True)
class ArrowFile:
    """An Arrow file as a relation.

    Attributes:
        path: the file, which must stay while it is scanned.
        schema: the columns to show; those the file has not are null.
    """

    path: Path
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they lie in the file."""
        with pa.OSFile(str(self.path)) as source, pa.ipc.open_file(source) as reader:
            for place in range(reader.num_record_batches):
                yield fitted(reader.get_batch(place), self.schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a stream of all rows."""
        stream = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return stream.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """Return the columns without a look at the rows."""
        return self.schema.__arrow_c_schema__()
