"""Rows of several periods out of one payload, divided by the partition column into one staged file each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes
from refresh_pipelines.rejects import Rejects, digest_of, read_rejects, with_rejects, write_rejects
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, Staged, accept, rejects_path
from refresh_pipelines.window import Window


def divide(
    spec: SourceSpec, parts: Iterable[Part], whole: Window, windows: Sequence[Window], folder: Path, notes: Notes
) -> list[Staged]:
    """Parse and check payloads once, and return the staged rows of each window, in their order.

    Rows that count as none (`filtered`) are booked on the first window: they belong to no period.

    Raises:
        RefreshError: as `stage`; ContractViolation also for a row whose partition column is empty or cannot be read.
    """
    path = folder / "rows.arrow"
    contract, rejects = accept(spec, parts, whole, path, notes)
    refused = _rejected_by_window(spec, rejects, windows)
    out = []
    with calculator(folder / "rows.spill") as connection:
        for number, rows in enumerate(_accepted_by_window(spec, path, windows)):
            piece = folder / f"rows-{number}.arrow"
            _write(piece, rows)
            unique = measure(connection, contract.spec, contract.key, piece)
            staged = Staged(
                piece, unique.rows, rows.num_rows, 0, unique.duplicates, unique.hash, evolved=contract.drift.fields
            )
            out.append(_with_rejected(staged, refused[number]) if refused else staged)
    return [replace(out[0], filtered=contract.tally.filtered), *out[1:]]


def _write(path: Path, rows: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def _with_rejected(staged: Staged, rows: pa.Table) -> Staged:
    """Return what is staged for a window with the rows of it that were rejected."""
    if not rows.num_rows:
        return staged
    path = rejects_path(staged.path)
    write_rejects(path, rows.schema, [rows])
    return replace(
        staged,
        fetched=staged.fetched + rows.num_rows,
        content_hash=with_rejects(staged.content_hash, digest_of(rows)),
        rejected=rows.num_rows,
        rejects=path,
        unreadable=pc.sum(pc.invert(rows["_readable"])).as_py(),
    )


def _rejected_by_window(spec: SourceSpec, rejects: Rejects, windows: Sequence[Window]) -> list[pa.Table]:
    rows = read_rejects(rejects.path) if rejects.rows else None
    return [] if rows is None else list(_by_window(spec, rows, windows))


def _accepted_by_window(spec: SourceSpec, path: Path, windows: Sequence[Window]) -> Iterable[pa.Table]:
    with pa.memory_map(str(path)) as source:
        yield from _by_window(spec, pa.ipc.open_file(source).read_all(), windows)


def _by_window(spec: SourceSpec, rows: pa.Table, windows: Sequence[Window]) -> Iterable[pa.Table]:
    column = spec.partitions.column if spec.partitions else None
    if column is None:
        raise ValueError(f"{spec.name} has no partition column")
    if rows[column].null_count:
        raise ContractViolation(
            f"{rows[column].null_count} rows belong to no partition",
            expected=f"a value in {column}, by which one payload is divided into partitions",
            came="none, or none that can be read",
            todo=f"Declare {column} as nullable: false, or drop such rows with load.skip_missing.",
        )
    instants = pc.cast(pc.cast(rows[column], pa.timestamp("us")), pa.int64())
    order = pc.sort_indices(instants)  # stable: `duplicates: last` keeps the payload's order
    sorted_at = pc.take(instants, order).to_numpy()
    ends = [window.end.timestamp() * 1e6 for window in windows if window.end]
    cuts = [0, *np.searchsorted(sorted_at, ends, side="left").tolist()]
    for begin, end in pairwise(cuts):
        yield rows.take(order.slice(begin, end - begin)).combine_chunks()
