"""Rows that broke the contract, on their way to quarantine: an Arrow file beside that of the accepted rows.

Only such rows are looked at one by one. A row's key is kept as far as it can be read, so that what is
known of it in the table is not taken for gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.cast import arrow_type
from refresh_pipelines.spec import SourceSpec

# For each bad row of a batch the columns whose demands it breaks, each with what is wrong.
Why = Mapping[int, Sequence[tuple[str, str]]]
# Of a payload that is refused anyway these are enough to see what is wrong with it.
MOST_REFUSED = 1_000
LONGEST_VALUE = 100_000
_DIGESTS = 2**128
_OWN = {
    "_part": pa.string(), "_row": pa.int64(), "_columns": pa.string(), "_reason": pa.string(), "_raw": pa.string(),
    "_readable": pa.bool_(),
}  # fmt: skip


@dataclass(frozen=True)
class Reject:
    """One rejected row.

    Attributes:
        part: values that only its payload had, for instance `series_id=DGS10`; "" where there was one payload.
        row: its number in that payload, from 1.
        columns: names of the columns whose demands it breaks.
        reason: each of them in words.
        raw: the payload's fields as a JSON object of texts.
    """

    part: str
    row: int
    columns: str
    reason: str
    raw: str


def rejects_schema(spec: SourceSpec) -> pa.Schema:
    """Return the columns of the file: the merge key and the partition column as read, and what `Reject` has."""
    names = dict.fromkeys(spec.merge_key)
    if spec.partitions and spec.partitions.column:
        names[spec.partitions.column] = None
    return pa.schema([*((name, arrow_type(spec.columns[name].type)) for name in names), *_OWN.items()])


class Rejects:
    """The file at `path`, which is made with its first row; what an earlier pass has left there is removed.

    Attributes:
        rows: how many were added, which of a source that allows none are not all written.
        unreadable: how many have no key that can be read.
        digest: hash of what they are and why, whatever their order.
    """

    def __init__(self, path: Path, spec: SourceSpec) -> None:
        self.path, self.schema = path, rejects_schema(spec)
        self.rows = self.unreadable = self.digest = 0
        self._key = spec.merge_key
        self._most = MOST_REFUSED if not spec.load.reject_share else None
        self._sink: pa.OSFile | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        path.unlink(missing_ok=True)

    @property
    def room(self) -> int | None:
        """How many more rows are written; None for all there are."""
        return None if self._most is None else max(0, self._most - self.rows)

    def add(
        self,
        batch: pa.RecordBatch,
        typed: Mapping[str, pa.Array],
        bad: pa.Array,
        why: Why,
        part: str,
        before: int,
    ) -> None:
        """Write the rows of a batch that are `bad`.

        Args:
            batch: the payload's fields.
            typed: columns as far as they could be cast.
            part: values that only this payload has.
            before: rows of this payload in earlier batches.
        """
        places = pc.indices_nonzero(bad).cast(pa.int64())
        room = len(places) if self.room is None else self.room
        self.rows += len(places)
        places = places.slice(0, room)
        if not len(places):
            return
        known = {name: typed[name].take(places) for name in self.schema.names if name not in _OWN}
        readable = pa.repeat(pa.scalar(True), len(places))
        for name in self._key:
            readable = pc.and_(readable, pc.is_valid(known[name]))
        self.unreadable += len(places) - (pc.sum(readable).as_py() or 0)
        rows = places.to_pylist()
        columns = [", ".join(name for name, _ in why[row]) for row in rows]
        reasons = ["; ".join(text for _, text in why[row]) for row in rows]
        raw = [_as_json(row) for row in batch.take(places).to_pylist()]
        own = [[part] * len(rows), [before + row + 1 for row in rows], columns, reasons, raw, readable]
        arrays = [pa.array(values, kind) for values, kind in zip(own, _OWN.values(), strict=True)]
        table = pa.RecordBatch.from_arrays([*known.values(), *arrays], schema=self.schema)
        self.digest = (self.digest + digest_of(table)) % _DIGESTS
        self._write(table)

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._sink = pa.OSFile(str(self.path), "wb")
            self._writer = pa.ipc.new_file(self._sink, self.schema)
        self._writer.write_batch(batch)

    def __enter__(self) -> Rejects:
        """Let rows be added; behind the block the file is whole."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the file, if there is one."""
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None


def read_rejects(path: Path | None) -> pa.Table | None:
    """Return the rows of a file of rejects, mapped from disk; None where nothing was rejected."""
    if path is None or not path.exists():
        return None
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def write_rejects(path: Path, schema: pa.Schema, tables: Sequence[pa.Table]) -> None:
    """Write rows of other files of rejects to one file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)


def each_reject(path: Path | None, most: int | None = None) -> Iterator[Reject]:
    """Yield what is in a file of rejects, from the beginning."""
    table = read_rejects(path)
    if table is not None:
        names = ["_part", "_row", "_columns", "_reason", "_raw"]
        for row in table.select(names).slice(0, most).to_pylist():
            yield Reject(*(row[name] for name in names))


def digest_of(rows: pa.Table | pa.RecordBatch) -> int:
    """Return a number for rejected rows and why they were, whatever their order; 0 for none."""
    total = 0
    for texts in zip(*(rows.column(name).to_pylist() for name in ("_part", "_reason", "_raw")), strict=True):
        total += int.from_bytes(hashlib.blake2b("\n".join(texts).encode(), digest_size=16).digest(), "big")
    return total % _DIGESTS


def with_rejects(content_hash: str, digest: int) -> str:
    """Return the hash of accepted and rejected rows together; that of the accepted ones where none was rejected."""
    return hashlib.sha256(f"{content_hash} {digest:x}".encode()).hexdigest() if digest else content_hash


def _as_json(row: Mapping[str, str | None]) -> str:
    # PostgreSQL can store no NUL; one rule for every warehouse.
    plain = {name.replace("\0", "\ufffd"): value and _short(value) for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False)


def _short(value: str) -> str:
    return (value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + " …").replace("\0", "\ufffd")
